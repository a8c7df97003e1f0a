//! What the ledger is told of LUNs and drives that were seen, so that after a restart it can be said
//! what is gone, and what happened while nobody looked.

use std::collections::BTreeMap;

use super::words::describe;
use super::{Entry, Machine, Record, SeenDrive, SeenLun};
use crate::id::{DriveId, LunId, Wall};
use crate::model::{Health, Lun, NotificationEvent, Role};

/// The moment at which a LUN was last seen is written down at least so often, milliseconds.
const RENEW_MS: u64 = 15 * 60_000;

/// Drives that are gone and still remembered, at most.
const GONE_KEPT: usize = 1_000;

impl Machine {
    /// A healthy LUN was seen healthy now.
    pub(super) fn note_health(&mut self, id: LunId) {
        let now = self.now.wall;
        if let Some(entry) = self.luns.get_mut(&id)
            && entry.lun.health == Health::Healthy
        {
            entry.healthy_at = Some(now);
        }
    }

    /// Says once whether a LUN was found worse than it was left.
    pub(super) fn tell_if_worse(&mut self, id: LunId) {
        let now = self.now.wall;
        let Some(entry) = self.luns.get_mut(&id) else {
            return;
        };
        // While it is put together nothing is known of it.
        if entry.lun.health == Health::Unknown {
            return;
        }
        let left = entry.left.take();
        if let Some(text) = left.and_then(|left| worse_than_left(&left, &entry.lun, now)) {
            let event = Some(NotificationEvent::LunModify);
            self.notify(event, Some(id), None, text);
        }
    }

    /// Tells the ledger of a LUN as it is now.
    pub(super) fn record_lun(&mut self, id: LunId, gone: bool) {
        let now = self.now.wall;
        let Some(entry) = self.luns.get_mut(&id) else {
            return;
        };
        entry.recorded_at = now;
        let record = seen(entry, now, gone);
        self.persist(Record::Lun(record));
    }

    /// Tells the ledger of LUNs of which it has heard nothing for long.
    pub(super) fn renew_records(&mut self) {
        let now = self.now.wall;
        let old = |entry: &Entry| now.0.saturating_sub(entry.recorded_at.0) >= RENEW_MS;
        let due: Vec<LunId> = self
            .luns
            .iter()
            .filter(|(_, entry)| old(entry))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.record_lun(id, false);
        }
    }

    /// The daemon ends: when everything was last seen is written down.
    pub(super) fn farewell(&mut self) {
        let ids: Vec<LunId> = self.luns.keys().copied().collect();
        for id in ids {
            self.record_lun(id, false);
        }
    }

    /// Tells the ledger of drives that came, went or changed their part.
    pub(super) fn note_drives(&mut self) {
        let present = self.present_drives();
        let gone: Vec<DriveId> = self
            .seen_drives
            .values()
            .filter(|seen| !seen.gone && !present.contains_key(&seen.id))
            .map(|seen| seen.id)
            .collect();
        let mut records = Vec::new();
        for id in gone {
            if let Some(seen) = self.seen_drives.get_mut(&id) {
                seen.gone = true;
                self.auto.unsaved.remove(&id);
                records.push(seen.clone());
            }
        }
        for (id, mut drive) in present {
            let known = self.seen_drives.get(&id);
            drive.lost = known.map_or_else(Vec::new, |known| known.lost.clone());
            let same = known.is_some_and(|known| {
                SeenDrive {
                    last_seen: known.last_seen,
                    ..drive.clone()
                } == *known
            });
            if self.auto.unsaved.remove(&id) || !same {
                records.push(drive.clone());
                self.seen_drives.insert(id, drive);
            }
        }
        for id in std::mem::take(&mut self.auto.unsaved) {
            records.extend(self.seen_drives.get(&id).cloned());
        }
        for record in records {
            self.persist(Record::Drive(record));
        }
        self.forget_drives();
    }

    fn present_drives(&self) -> BTreeMap<DriveId, SeenDrive> {
        let now = self.now.wall;
        let members = self.luns.values().flat_map(|entry| &entry.lun.drives);
        let members = members.filter(|drive| drive.role != Role::Missing);
        let pool = self.pool.iter().map(|entry| SeenDrive {
            id: entry.id,
            stable_name: entry.stable_name.clone(),
            device: self
                .device_of(entry.id)
                .map_or_else(String::new, |device| format!("/dev/{}", device.name)),
            lun: None,
            slot: None,
            role: Role::Pool,
            last_seen: now,
            gone: false,
            lost: Vec::new(),
            retired: self.retired.get(&entry.id).cloned(),
        });
        let members = members.filter_map(|drive| {
            Some(SeenDrive {
                id: drive.id?,
                stable_name: drive.stable_name.clone(),
                device: drive.device.clone(),
                lun: drive.lun,
                slot: drive.slot,
                role: drive.role,
                last_seen: now,
                gone: false,
                lost: Vec::new(),
                retired: self.retired.get(&drive.id?).cloned(),
            })
        });
        // What is a member is told as a member, whether or not it is registered too.
        pool.chain(members).map(|seen| (seen.id, seen)).collect()
    }

    /// Keeps only so many drives that are gone, those out of use the longest; the ledger has its own bound.
    fn forget_drives(&mut self) {
        let mut gone: Vec<(bool, Wall, DriveId)> = self
            .seen_drives
            .values()
            .filter(|seen| seen.gone)
            .map(|seen| (seen.retired.is_some(), seen.last_seen, seen.id))
            .collect();
        let surplus = gone.len().saturating_sub(GONE_KEPT);
        gone.sort_unstable();
        for (_, _, id) in gone.into_iter().take(surplus) {
            self.seen_drives.remove(&id);
            self.retired.remove(&id);
        }
    }
}

pub(super) fn seen(entry: &Entry, at: Wall, gone: bool) -> SeenLun {
    let lun = &entry.lun;
    SeenLun {
        id: lun.id,
        name: lun.name.clone(),
        links: lun.links.clone(),
        level: lun.level.clone(),
        last_seen: at,
        gone,
        health: Some(lun.health),
        healthy_at: entry.healthy_at,
        unproven: entry.unproven,
        recreate: lun.recreate.clone(),
        hints: entry.hints,
    }
}

/// That a LUN was found worse than it was left, in words: nobody has seen it happen.
fn worse_than_left(left: &SeenLun, lun: &Lun, now: Wall) -> Option<String> {
    if left.health != Some(Health::Healthy) || lun.health == Health::Healthy {
        return None;
    }
    let at = left.healthy_at.unwrap_or(left.last_seen);
    let ago = span(now.0.saturating_sub(at.0));
    Some(format!(
        "{} was found {}: it was last seen healthy {ago} ago, and it happened while the service was \
         not running",
        lun.name,
        describe(lun)
    ))
}

/// A length of time in words, to the minute.
fn span(ms: u64) -> String {
    let minutes = ms / 60_000;
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, 0) => format!("{} s", ms / 1000),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_are_told_to_the_minute() {
        let minute = 60_000;
        for (ms, text) in [
            (0, "0 s"),
            (59_999, "59 s"),
            (minute, "1 min"),
            (61 * minute, "1 h 1 min"),
            (1440 * minute, "1 d 0 h"),
            ((2 * 1440 + 179) * minute, "2 d 2 h"),
        ] {
            assert_eq!(span(ms), text, "{ms}");
        }
    }
}
