//! What must never be true, whatever lund does.

use lun_core::facts::{Level, Slot};
use lun_core::id::DevNo;

use crate::attach::bears_content_of;
use crate::world::World;

impl World {
    /// Records that something was done that must never be done.
    pub(crate) fn violate(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Notes a violation when the drive bears what nobody may overwrite.
    pub(crate) fn guard_overwrite(&mut self, dev: DevNo, verb: &str) {
        let Some(device) = self.devices.get(&dev) else {
            return;
        };
        let name = device.name.clone();
        let mut wrong = Vec::new();
        if device.precious {
            wrong.push(format!("{name} was {verb} although nobody had allowed it"));
        }
        if !device.used_by.is_empty() || !device.holders.is_empty() {
            wrong.push(format!("{name} was {verb} while in use"));
        }
        // A failed array may still be put together again from what its former members hold.
        for array in self.arrays.values().chain(self.stopped.values()) {
            if !array.enough() && bears_content_of(self, dev, array) {
                wrong.push(format!(
                    "{name} was {verb} although {} may need it",
                    array.name
                ));
            }
        }
        self.violations.extend(wrong);
    }

    /// Checks that no member said to be in sync holds old data, that no slot has two owners, and
    /// that no action destroyed anything.
    ///
    /// # Errors
    /// Every violation, one a line.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut wrong = self.violations.clone();
        for array in self.arrays.values() {
            for member in array.members.iter().filter(|m| m.good()) {
                let held = self.devices.get(&member.dev).and_then(|d| d.content);
                if held != Some((array.uuid, array.generation)) {
                    wrong.push(format!(
                        "{}: {} is in sync but stale",
                        array.name, member.name
                    ));
                }
            }
            for slot in 0..array.raid_disks {
                let owners = array
                    .members
                    .iter()
                    .filter(|m| m.slot == Slot::At(slot) && !m.replacement && !m.faulty)
                    .count();
                if owners > 1 {
                    wrong.push(format!("{}: slot {slot} has {owners} owners", array.name));
                }
            }
            let mirror = matches!(array.level, Level::Raid1 | Level::Raid10);
            if mirror && array.resync_start.is_none() && array.really_dirty {
                wrong.push(format!("{}: out of step, but said to be clean", array.name));
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }
}
