//! Members that were lost: when, how, and together with which others. Decisions rest on it, so it is
//! written down with the drives and outlives the daemon.

use std::collections::BTreeMap;

use super::super::Machine;
use super::super::io::{Loss, LossKind, SeenDrive};
use crate::facts::DeviceFacts;
use crate::id::{DriveId, LunId, Mono, Wall};
use crate::model::{Lun, Role};

/// Losses of one drive that are remembered.
const KEPT: usize = 8;

/// A member that is seen unlisted in one reading and gone in the next one within this time was unplugged:
/// devices and arrays are not read in the same moment.
const SAME_EVENT_MS: u64 = 5_000;

/// Losses no further apart than this happened together.
pub(super) const TOGETHER_MS: u64 = 10_000;

/// How long what was lost behind one controller is given, at least, once another one behind it is back: disks of
/// a dock are found one after the other.
pub(super) const FOLLOW_MS: u64 = 10_000;

/// So many losses within [`FLAP_MS`] make a drive one that is not relied on.
pub(super) const FLAPS: usize = 3;

/// See [`FLAPS`].
pub(super) const FLAP_MS: u64 = 24 * 3_600_000;

/// Where a member in sync was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    name: String,
    disk: String,
    controller: Option<String>,
    /// It was in sync when the last daemon looked: nobody has seen what befell it since.
    unseen: bool,
}

/// A member that was lost and is not in sync again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) lun: LunId,
    pub(super) name: String,
    pub(super) at: Mono,
    pub(super) wall: Wall,
    pub(super) kind: LossKind,
    pub(super) disk: String,
    pub(super) controller: Option<String>,
    /// Its device is there again, since then.
    pub(super) back: Option<Mono>,
    /// When one that was lost behind the same controller came back, last: this one may follow.
    pub(super) heralded: Option<Mono>,
}

/// What is remembered of members.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Members in sync, as last seen.
    seats: BTreeMap<LunId, BTreeMap<DriveId, Seat>>,
    /// Those that were lost.
    pub(super) lost: BTreeMap<DriveId, Lost>,
}

impl Losses {
    /// A drive is back: what was lost with it behind the same controller may follow. What was lost at another
    /// time does not wait for it, or one that comes and goes would keep a spare away for ever.
    fn herald(&mut self, back: DriveId, now: Mono) {
        let Some(one) = self.lost.get(&back) else {
            return;
        };
        let (controller, at) = (one.controller.clone(), one.at);
        let others = self.lost.iter_mut().filter(|(id, _)| **id != back);
        for (_, lost) in others {
            let same = lost.controller.is_some() && lost.controller == controller;
            if same && lost.at.0.abs_diff(at.0) <= TOGETHER_MS {
                lost.heralded = Some(now);
            }
        }
    }

    /// Lost together with this one, through the same parent, and not back.
    pub(super) fn together(&self, id: DriveId, others_work: impl Fn(&str) -> bool) -> Vec<&Lost> {
        let Some(one) = self.lost.get(&id) else {
            return Vec::new();
        };
        let Some(controller) = one.controller.as_deref() else {
            return Vec::new();
        };
        let apart = |a: Mono, b: Mono| a.0.abs_diff(b.0);
        // A controller that still carries other members is not to blame for errors of single drives.
        let counts = |lost: &Lost| match lost.kind {
            LossKind::Vanished => true,
            LossKind::Failed => !others_work(controller),
            LossKind::TakenOut | LossKind::Unseen => false,
        };
        let same = |lost: &&Lost| {
            lost.controller.as_deref() == Some(controller)
                && lost.back.is_none()
                && apart(lost.at, one.at) <= TOGETHER_MS
                && counts(lost)
        };
        let all: Vec<&Lost> = self.lost.values().filter(same).collect();
        let several = all.iter().any(|lost| lost.disk != one.disk);
        if several && one.back.is_none() && counts(one) {
            all
        } else {
            Vec::new()
        }
    }
}

/// When a drive that was lost so often may be relied on again; [`None`]: it may.
pub(super) fn flapping(seen: &SeenDrive, now: Wall) -> Option<Wall> {
    let within = |loss: &&Loss| now.0.saturating_sub(loss.at.0) < FLAP_MS;
    let counted: Vec<&Loss> = seen.lost.iter().filter(within).collect();
    let first = counted.len().checked_sub(FLAPS)?;
    counted
        .get(first)
        .map(|loss| Wall(loss.at.0.saturating_add(FLAP_MS)))
}

impl Machine {
    /// What an earlier daemon has seen to be lost.
    pub(in super::super) fn remember_losses(&mut self) {
        let now = self.now;
        for seen in self.seen_drives.values() {
            let Some(loss) = seen.lost.last().filter(|loss| !loss.regained) else {
                continue;
            };
            let lost = Lost {
                lun: loss.lun,
                name: seen.device.trim_start_matches("/dev/").to_owned(),
                at: now.mono,
                wall: loss.at,
                kind: loss.kind,
                disk: loss.disk.clone(),
                controller: loss.controller.clone(),
                back: None,
                heralded: None,
            };
            self.auto.losses.lost.insert(seen.id, lost);
        }
    }

    /// A LUN comes in sight: who was in sync in it when the last daemon looked?
    pub(in super::super) fn seat_the_remembered(&mut self, id: LunId) {
        let remembered = self
            .seen_drives
            .values()
            .filter(|seen| seen.lun == Some(id) && seen.role == Role::InSync && !seen.gone);
        let seats = remembered.map(|seen| {
            let device = self.device_of(seen.id);
            let name = seen.device.trim_start_matches("/dev/").to_owned();
            let seat = Seat {
                disk: device.map_or_else(|| name.clone(), |device| device.whole_disk.clone()),
                controller: device.and_then(|device| device.controller.clone()),
                name,
                unseen: true,
            };
            (seen.id, seat)
        });
        let seats = seats.collect();
        self.auto.losses.seats.insert(id, seats);
    }

    /// A LUN is gone: its members are not lost by that.
    pub(in super::super) fn forget_seats(&mut self, id: LunId) {
        self.auto.losses.seats.remove(&id);
    }

    /// Compares who is in sync with who was. `whole`: the devices were read as well, so that it can be told
    /// whether a member was unplugged or taken out.
    pub(in super::super) fn note_losses(&mut self, whole: bool) {
        let ids: Vec<LunId> = self.luns.keys().copied().collect();
        for id in ids {
            // What does not run says nothing of its members.
            let runs = self.array_of(id).is_some_and(|array| array.sync.is_some());
            let clear = self
                .luns
                .get(&id)
                .is_some_and(|entry| entry.contradiction.is_none());
            if runs && clear {
                self.note_losses_of(id, whole);
            }
        }
        if whole {
            self.note_returns();
        }
    }

    fn note_losses_of(&mut self, id: LunId, whole: bool) {
        let Some(entry) = self.luns.get(&id) else {
            return;
        };
        let roles: BTreeMap<DriveId, Role> = roles(&entry.lun);
        let mut seats = self.auto.losses.seats.remove(&id).unwrap_or_default();
        let mut gone = Vec::new();
        seats.retain(|drive, seat| match roles.get(drive) {
            Some(Role::InSync | Role::Unknown) => true,
            None if !whole => true,
            role => {
                gone.push((*drive, seat.clone(), role.copied()));
                false
            }
        });
        for (drive, role) in &roles {
            if *role != Role::InSync {
                continue;
            }
            if let Some(device) = self.device_of(*drive) {
                seats.insert(*drive, seat(device));
            }
            self.regained(*drive, id);
        }
        self.auto.losses.seats.insert(id, seats);
        for (drive, seat, role) in gone {
            // It is being filled or idle: it was taken in again before anybody looked.
            let kind = match role {
                Some(Role::Faulty) => LossKind::Failed,
                Some(_) => continue,
                None if self.device_of(drive).is_none() => LossKind::Vanished,
                None if seat.unseen => LossKind::Unseen,
                None => LossKind::TakenOut,
            };
            self.lose(drive, id, seat, kind);
        }
    }

    fn lose(&mut self, drive: DriveId, lun: LunId, seat: Seat, kind: LossKind) {
        let now = self.now;
        self.auto.dirty = true;
        let lost = Lost {
            lun,
            name: seat.name,
            at: now.mono,
            wall: now.wall,
            kind,
            disk: seat.disk.clone(),
            controller: seat.controller.clone(),
            back: None,
            heralded: None,
        };
        self.auto.losses.lost.insert(drive, lost);
        let loss = Loss {
            at: now.wall,
            lun,
            kind,
            disk: seat.disk,
            controller: seat.controller,
            regained: false,
        };
        self.change_losses(drive, |all| {
            all.push(loss);
            let surplus = all.len().saturating_sub(KEPT);
            all.drain(..surplus);
        });
    }

    fn regained(&mut self, drive: DriveId, lun: LunId) {
        let here = self
            .auto
            .losses
            .lost
            .get(&drive)
            .is_some_and(|lost| lost.lun == lun);
        if here {
            // Somebody else may have taken it back before it was seen to be there.
            self.auto.losses.herald(drive, self.now.mono);
            self.auto.losses.lost.remove(&drive);
            self.auto.dirty = true;
            self.change_losses(drive, |all| {
                if let Some(last) = all.last_mut() {
                    last.regained = true;
                }
            });
        }
    }

    /// What became of those that are lost: unplugged, taken out, back.
    fn note_returns(&mut self) {
        let now = self.now.mono;
        let mut changes = Vec::new();
        for (drive, lost) in &self.auto.losses.lost {
            let present = self.device_of(*drive).is_some();
            let listed = self
                .luns
                .get(&lost.lun)
                .is_some_and(|entry| roles(&entry.lun).contains_key(drive));
            let runs = self
                .array_of(lost.lun)
                .is_some_and(|array| array.sync.is_some());
            let fresh = now.since(lost.at) < SAME_EVENT_MS;
            let kind = match lost.kind {
                LossKind::Failed | LossKind::Unseen if !present => LossKind::Vanished,
                LossKind::TakenOut if !present && fresh => LossKind::Vanished,
                LossKind::Failed if present && runs && !listed => LossKind::TakenOut,
                same => same,
            };
            let was_absent = lost.kind == LossKind::Vanished && kind == lost.kind;
            let back = match (present, lost.back) {
                (false, _) => None,
                (true, Some(at)) => Some(at),
                (true, None) if was_absent => Some(now),
                (true, None) => None,
            };
            if kind != lost.kind || back != lost.back {
                changes.push((*drive, kind, back));
            }
        }
        for (drive, kind, back) in changes {
            self.auto.dirty = true;
            let Some(lost) = self.auto.losses.lost.get_mut(&drive) else {
                continue;
            };
            let came_back = back.is_some() && lost.back.is_none();
            lost.back = back;
            if came_back {
                self.auto.losses.herald(drive, now);
            }
            let Some(lost) = self.auto.losses.lost.get_mut(&drive) else {
                continue;
            };
            if std::mem::replace(&mut lost.kind, kind) != kind {
                self.change_losses(drive, |all| {
                    if let Some(last) = all.last_mut() {
                        last.kind = kind;
                    }
                });
            }
        }
    }

    fn change_losses(&mut self, drive: DriveId, change: impl FnOnce(&mut Vec<Loss>)) {
        let Some(seen) = self.seen_drives.get_mut(&drive) else {
            return;
        };
        change(&mut seen.lost);
        // Written down with what else the scan tells of the drive.
        self.auto.unsaved.insert(drive);
    }

    /// Some member in sync lies behind this controller.
    pub(super) fn carries_members(&self, controller: &str) -> bool {
        let behind = |device: &DeviceFacts| device.controller.as_deref() == Some(controller);
        let members = self.luns.values().flat_map(|entry| &entry.lun.drives);
        members
            .filter(|drive| drive.role == Role::InSync)
            .filter_map(|drive| self.inventory.devices.get(&drive.dev?))
            .any(behind)
    }
}

fn seat(device: &DeviceFacts) -> Seat {
    Seat {
        name: device.name.clone(),
        disk: device.whole_disk.clone(),
        controller: device.controller.clone(),
        unseen: false,
    }
}

fn roles(lun: &Lun) -> BTreeMap<DriveId, Role> {
    let listed = lun
        .drives
        .iter()
        .filter(|drive| drive.role != Role::Missing);
    listed
        .filter_map(|drive| Some((drive.id?, drive.role)))
        .collect()
}
