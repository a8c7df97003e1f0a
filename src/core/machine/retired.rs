//! Drives that are out of use: marked when they fail or are replaced, remembered in the ledger, shown,
//! and taken by nothing until their owner says so or they are members in sync again.

use super::{Machine, Record, SeenDrive};
use crate::Error;
use crate::action::Action;
use crate::id::{DriveId, LunId, OpId};
use crate::model::{DriveStatus, NotificationEvent, Retired, RetiredDrive, RetiredWhy, Role};

/// Numbers of the C library (`asm-generic/errno-base.h`).
const EPERM: i32 = 1;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

impl Machine {
    /// Marks what a LUN lists as faulty, and takes the mark off what is in sync again. A drive that is
    /// not there has not failed by itself: it may only have been unplugged.
    pub(super) fn note_failures(&mut self, lun: LunId) {
        let Some(entry) = self.luns.get(&lun) else {
            return;
        };
        let mut failed = Vec::new();
        let mut sound = Vec::new();
        for drive in &entry.lun.drives {
            let Some(id) = drive.id else { continue };
            match drive.role {
                Role::Faulty
                    if drive.status != DriveStatus::Removed && !self.gives_back(lun, id) =>
                {
                    failed.push(id);
                }
                Role::InSync if self.retired.contains_key(&id) => sound.push(id),
                _ => {}
            }
        }
        for id in failed {
            self.retire(id, lun, RetiredWhy::Failed);
        }
        for id in sound {
            self.unretire(id);
        }
    }

    /// A cancel is giving the drive back, and fails it for that.
    fn gives_back(&self, lun: LunId, id: DriveId) -> bool {
        self.ops.values().any(|op| {
            op.lun == lun
                && !op.state.is_finished()
                && op.work.release_spare
                && op.added.contains(&id)
        })
    }

    /// Marks the members in whose place an operation that went well has put others.
    pub(super) fn retire_replaced(&mut self, op: OpId) {
        let Some(op) = self.ops.get(&op) else { return };
        let lun = op.lun;
        let replaced: Vec<DriveId> = op.retiring.iter().copied().collect();
        let in_sync = |machine: &Self, id: DriveId| {
            let entry = machine.luns.get(&lun);
            entry.is_none_or(|entry| {
                let mut drives = entry.lun.drives.iter();
                drives.any(|drive| drive.id == Some(id) && drive.role == Role::InSync)
            })
        };
        for id in replaced {
            if !in_sync(self, id) {
                self.retire(id, lun, RetiredWhy::Replaced);
            }
        }
    }

    /// Marks a drive that failed when it was to take over. One that is gone was perhaps only unplugged.
    pub(super) fn retire_on_use(&mut self, id: DriveId, lun: LunId) {
        if self.device_of(id).is_some() {
            self.retire(id, lun, RetiredWhy::FailedOnUse);
        }
    }

    fn retire(&mut self, id: DriveId, lun: LunId, why: RetiredWhy) {
        // That it failed is said already; that it was given up for good says more.
        let known = self.retired.get(&id);
        if known.is_some_and(|known| known.lun == lun && (known.why >= why)) {
            return;
        }
        let lun_name = self
            .luns
            .get(&lun)
            .map_or_else(|| lun.to_string(), |entry| entry.array.clone());
        let at = known
            .filter(|known| known.lun == lun)
            .map_or(self.now.wall, |known| known.at);
        let retired = Retired {
            lun,
            lun_name,
            at,
            why,
        };
        let text = format!(
            "{} {} and is not used again unasked",
            self.name_of(id),
            retired.text()
        );
        self.retired.insert(id, retired);
        self.record_retired(id);
        self.notify(Some(NotificationEvent::DriveModify), Some(lun), None, text);
    }

    /// The drive may be used again.
    pub(super) fn unretire(&mut self, id: DriveId) {
        if let Some(retired) = self.retired.remove(&id) {
            let text = format!(
                "{}, which {}, is in use again",
                self.name_of(id),
                retired.text()
            );
            self.record_retired(id);
            self.notify(
                Some(NotificationEvent::DriveModify),
                Some(retired.lun),
                None,
                text,
            );
        }
    }

    /// Tells the ledger at once: a drive is marked before anything else is decided about it.
    fn record_retired(&mut self, id: DriveId) {
        let retired = self.retired.get(&id).cloned();
        let fresh = retired.as_ref().map(|retired| SeenDrive {
            id,
            stable_name: self
                .device_of(id)
                .map_or_else(|| id.to_string(), |d| d.stable_name.clone()),
            device: self.name_of(id),
            lun: Some(retired.lun),
            slot: None,
            role: Role::Faulty,
            last_seen: self.now.wall,
            gone: true,
            retired: None,
            lost: Vec::new(),
        });
        let seen = match (self.seen_drives.get_mut(&id), fresh) {
            (Some(seen), _) => seen,
            (None, Some(fresh)) => self.seen_drives.entry(id).or_insert(fresh),
            (None, None) => return,
        };
        seen.retired = retired;
        let record = seen.clone();
        self.persist(Record::Drive(record));
        self.changed = true;
    }

    /// Drives that are out of use, for clients.
    pub(super) fn retired_drives(&self) -> Vec<RetiredDrive> {
        let of = |(id, retired): (&DriveId, &Retired)| {
            let seen = self.seen_drives.get(id);
            RetiredDrive {
                id: *id,
                device: self
                    .device_of(*id)
                    .map(|device| format!("/dev/{}", device.name)),
                stable_name: seen.map_or_else(|| id.to_string(), |seen| seen.stable_name.clone()),
                reason: retired.text(),
                retired: retired.clone(),
            }
        };
        self.retired.iter().map(of).collect()
    }

    /// Node of a drive, or its lasting name when it is not there.
    pub(super) fn name_of(&self, id: DriveId) -> String {
        let seen = || {
            self.seen_drives
                .get(&id)
                .map(|seen| seen.stable_name.clone())
        };
        self.device_of(id)
            .map(|device| format!("/dev/{}", device.name))
            .or_else(seen)
            .unwrap_or_else(|| id.to_string())
    }
}

/// Whether a step writes something on a drive, or hands it to an array.
pub(super) const fn takes_in(action: &Action) -> bool {
    matches!(
        action,
        Action::AddSpare { .. } | Action::Wipe { .. } | Action::ReplaceLeg { .. }
    )
}

/// Whether a step that failed tells that the drive has. What the port refuses is in use, or another drive by now;
/// the kernel may be short of something, or somebody else may have the drive open; and a table that it does not
/// take is refused for what the set is.
pub(super) const fn tells_of_a_failure(action: &Action, error: &Error) -> bool {
    let loads = matches!(action, Action::ReplaceLeg { .. });
    let of_the_drive = match error {
        Error::DriveRefused { .. } => false,
        Error::Kernel { errno, .. } => match *errno {
            EPERM | EINTR | EAGAIN | ENOMEM | EBUSY | ENFILE | EMFILE => false,
            EINVAL => !loads,
            _ => true,
        },
        _ => true,
    };
    takes_in(action) && of_the_drive
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Target;
    use crate::error::Unfit;
    use crate::id::DevNo;
    use crate::plan::testkit::drive_id;

    #[test]
    fn a_drive_is_blamed_for_what_it_does_and_for_nothing_else() {
        let array = "md0".to_owned();
        let drive = Target {
            dev: DevNo { major: 7, minor: 1 },
            name: "loop1".to_owned(),
            id: drive_id("loop1"),
        };
        let add = Action::AddSpare {
            array: array.clone(),
            drive: drive.clone(),
        };
        let replace = Action::ReplaceLeg {
            array,
            slot: 1,
            drive: drive.clone(),
        };
        let kernel = |errno| Error::Kernel {
            action: "add it to".to_owned(),
            object: "md0".to_owned(),
            errno,
            detail: String::new(),
        };
        const EIO: i32 = 5;
        let cases = [
            (&add, kernel(EIO), true),
            (&add, kernel(EINVAL), true),
            (&add, kernel(EBUSY), false),
            (&add, kernel(ENOMEM), false),
            (&replace, kernel(EIO), true),
            (&replace, kernel(EINVAL), false),
            (&replace, kernel(EBUSY), false),
            (
                &add,
                Error::DriveRefused {
                    drive: "loop1".to_owned(),
                    unfit: Unfit::NotPresent,
                },
                false,
            ),
        ];
        for (action, error, blamed) in cases {
            assert_eq!(
                tells_of_a_failure(action, &error),
                blamed,
                "{action:?} {error}"
            );
        }
    }
}
