//! Readings of single arrays beside scans of everything. Which of two looks that overlap is the newer one nobody
//! knows, and what is shown of the older one is a state that has passed: then the array is read once more.

use super::{Effect, Machine};
use crate::Error;
use crate::facts::{ArrayFacts, Inventory};

/// Shortest time between two readings of one array.
const READ_PAUSE_MS: u64 = 200;

/// An array that is being read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// It became dirty again meanwhile.
    again: bool,
    /// A scan ended meanwhile.
    overtaken: bool,
}

impl Machine {
    pub(super) fn on_dirty_array(&mut self, name: String) {
        if let Some(reading) = self.reading.get_mut(&name) {
            reading.again = true;
            return;
        }
        let now = self.now.mono;
        if let Some(at) = self.read_at.get(&name)
            && now.since(*at) < READ_PAUSE_MS
        {
            // The first event is followed at once, those of a burst together.
            let next = at.after(READ_PAUSE_MS);
            self.read_later.insert(name, next);
            return;
        }
        self.read_at.insert(name.clone(), now);
        self.reading.insert(name.clone(), Reading::default());
        self.out.push(Effect::ReadArray { name });
    }

    pub(super) fn on_array_read(
        &mut self,
        name: &str,
        result: Result<Option<Box<ArrayFacts>>, Error>,
    ) {
        let reading = self.reading.remove(name).unwrap_or_default();
        if reading.again || reading.overtaken {
            self.on_dirty_array(name.to_owned());
        }
        if reading.overtaken && matches!(result, Ok(Some(_))) {
            return;
        }
        let known = self
            .inventory
            .arrays
            .get(name)
            .map(|array| self.identity(array));
        match result {
            Ok(Some(facts))
                if known == Some(self.identity(&facts))
                    && knows_members(&self.inventory, &facts) =>
            {
                if self.scan.in_flight {
                    self.overlapped.insert(name.to_owned());
                }
                self.inventory.arrays.insert(name.to_owned(), *facts);
                if let Some(id) = known {
                    self.reproject(id, name);
                }
                self.note_losses(false);
                self.adopt();
            }
            // A new array, another identity, a member never seen, or gone: the whole picture.
            Ok(_) => self.scan.wanted = true,
            Err(error) => {
                self.notify(None, known, None, format!("{name} cannot be read: {error}"));
                self.scan.wanted = true;
            }
        }
    }

    /// A scan has ended: the arrays that were read while it was under way are read once more.
    pub(super) fn read_the_overlapped(&mut self) {
        for reading in self.reading.values_mut() {
            reading.overtaken = true;
        }
        for name in std::mem::take(&mut self.overlapped) {
            self.on_dirty_array(name);
        }
    }
}

fn knows_members(inventory: &Inventory, facts: &ArrayFacts) -> bool {
    facts.members.iter().all(|member| {
        member
            .dev
            .known()
            .is_none_or(|dev| inventory.devices.contains_key(dev))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Input, Machine};
    use super::*;
    use crate::facts::Level;
    use crate::id::{Mono, Now, Wall};
    use crate::model::Health;
    use crate::plan::testkit::{MD0, World};
    use crate::policy::Policy;

    struct Rig {
        machine: Machine,
        now: u64,
    }

    impl Rig {
        fn new(inventory: &Inventory) -> Self {
            let machine = Machine::new(Policy::default().by_hand());
            let mut rig = Self {
                machine,
                now: 1_000,
            };
            rig.give(Input::Start(Box::default()));
            rig.scanned(inventory);
            rig
        }

        fn give(&mut self, input: Input) -> Vec<Effect> {
            self.now += 1_000;
            let now = Now {
                mono: Mono(self.now),
                wall: Wall(self.now),
            };
            self.machine.step(now, input)
        }

        fn scanned(&mut self, inventory: &Inventory) -> Vec<Effect> {
            self.give(Input::Scanned(Ok(Box::new(inventory.clone()))))
        }

        fn read(&mut self, facts: &ArrayFacts) -> Vec<Effect> {
            let (name, result) = (MD0.to_owned(), Ok(Some(Box::new(facts.clone()))));
            self.give(Input::ArrayRead { name, result })
        }

        fn dirty(&mut self) -> Vec<Effect> {
            self.give(Input::DirtyArray(MD0.to_owned()))
        }

        fn health(&self) -> Health {
            self.machine.snapshot().luns[0].health
        }
    }

    fn worlds() -> (Inventory, Inventory) {
        let healthy = World::new(Level::Raid1, 2);
        let mut degraded = World::new(Level::Raid1, 2);
        degraded.fail("d1");
        (healthy.inventory, degraded.inventory)
    }

    fn reads(effects: &[Effect]) -> bool {
        let of_md0 = |effect: &Effect| matches!(effect, Effect::ReadArray { name } if name == MD0);
        effects.iter().any(of_md0)
    }

    #[test]
    fn what_was_read_beside_a_scan_is_read_once_more() {
        let (healthy, degraded) = worlds();
        let mut rig = Rig::new(&healthy);
        rig.give(Input::DirtyAll);
        assert!(reads(&rig.dirty()));
        rig.read(&degraded.arrays[MD0]);
        assert_eq!(rig.health(), Health::FailedRedundancy);
        // It may have come to this array before the reading did, or after.
        let effects = rig.scanned(&healthy);
        assert!(reads(&effects));
        rig.read(&degraded.arrays[MD0]);
        assert_eq!(rig.health(), Health::FailedRedundancy);
        // Once is enough.
        rig.give(Input::DirtyAll);
        assert!(!reads(&rig.scanned(&degraded)));
    }

    #[test]
    fn a_reading_that_a_scan_overtook_is_done_again() {
        let (healthy, degraded) = worlds();
        let mut rig = Rig::new(&healthy);
        rig.dirty();
        rig.give(Input::DirtyAll);
        rig.scanned(&degraded);
        let effects = rig.read(&healthy.arrays[MD0]);
        assert_eq!(rig.health(), Health::FailedRedundancy);
        assert!(reads(&effects));
    }
}
