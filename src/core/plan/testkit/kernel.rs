//! What the kernel and `mdadm` make of each action, as far as plans can tell; it panics where
//! the kernel, or a sane person, would refuse.

use super::{MD0, World, blank, in_sync, spare};
use crate::action::{Action, SyncWord};
use crate::facts::{ArrayState, Fact, Level, MemberFacts, Position, Slot, SyncAction, SyncFacts};
use crate::id::DriveId;
use crate::plan::view::Part;

impl World {
    /// Does what the action does, and panics where the kernel or a sane person would refuse.
    pub(crate) fn apply(&mut self, action: &Action) {
        let name = action
            .drive()
            .map(|drive| drive.name.clone())
            .unwrap_or_default();
        match action {
            Action::SetSync { word, .. } => self.word(*word),
            Action::ClearResyncStart { .. } => {
                let frozen = |sync: &SyncFacts| sync.action == Fact::Known(SyncAction::Frozen);
                assert!(self.array().sync.as_ref().is_some_and(frozen), "EBUSY");
                self.array_mut().resync_start = Fact::Known(Position::Done);
            }
            Action::WholeRange { .. } => {
                if let Some(sync) = self.array_mut().sync.as_mut() {
                    sync.sync_min = Fact::Known(0);
                    sync.sync_max = Fact::Known(None);
                }
            }
            Action::MakeReadWrite { .. } => {
                self.array_mut().state = Fact::Known(ArrayState::Clean);
                self.look(SyncAction::Idle);
            }
            Action::AddSpare { drive, .. } => self.add(&name, drive.id, None),
            Action::ReAdd { drive, .. } => {
                assert_eq!(
                    self.array().bitmap,
                    Fact::Known(true),
                    "re-add without a bitmap"
                );
                let md = self.probe_mut(&name).md.known().cloned().flatten().unwrap();
                self.add(&name, drive.id, Some(md.role.unwrap()));
            }
            Action::RemoveMember { .. } => {
                let state = *self.state_mut(&name);
                assert!(state.faulty && !state.in_sync, "{name} removed: {state:?}");
                self.unlist(&name);
            }
            Action::DropVanished { member, .. } => {
                let gone = |m: &&MemberFacts| m.name == *member;
                let facts = self.array().members.iter().find(gone).unwrap();
                assert!(
                    facts.dev.known().is_none(),
                    "{member} dropped, and is there"
                );
                assert!(!facts.state.is_known_and(|s| s.in_sync && !s.faulty));
                let member = member.clone();
                self.unlist(&member);
            }
            Action::WantReplacement { .. } => {
                assert!(self.state_mut(&name).in_sync);
                self.state_mut(&name).want_replacement = true;
                self.look(SyncAction::Idle);
            }
            Action::SetSlot { slot, .. } => self.set_slot(&name, *slot),
            Action::Wipe { drive, .. } => {
                assert!(
                    self.array().members.iter().all(|m| m.name != name),
                    "{name} wiped"
                );
                let probe = self.probe_mut(&name);
                assert_eq!(
                    probe.exclusive,
                    Fact::Known(true),
                    "{name} wiped while open"
                );
                *probe = blank();
                self.added.insert(drive.id);
            }
            other => panic!("not for a plan of md: {other}"),
        }
        self.counted();
    }

    fn word(&mut self, word: SyncWord) {
        if word == SyncWord::Frozen {
            return self.show(SyncAction::Frozen, false);
        }
        assert!(!self.runs(), "EBUSY: {word:?}");
        self.show(SyncAction::Idle, false);
        if self.array().state == Fact::Known(ArrayState::ReadAuto) {
            self.array_mut().state = Fact::Known(ArrayState::Clean);
        }
        self.look(match word {
            SyncWord::Check => SyncAction::Check,
            SyncWord::Repair => SyncAction::Repair,
            _ => SyncAction::Idle,
        });
    }

    fn add(&mut self, name: &str, id: DriveId, role: Option<u32>) {
        let dev = self.dev(name);
        assert!(
            role.is_some() || *self.probe_mut(name) == blank(),
            "{name} is not blank"
        );
        assert_eq!(self.inventory.devices[&dev].id, id);
        self.bind(MD0, dev, Slot::None, spare());
        if let Some(role) = role {
            self.saved.insert(dev, role);
        }
        self.added.insert(id);
        self.look(SyncAction::Idle);
    }

    fn set_slot(&mut self, name: &str, slot: u32) {
        assert!(self.action() == SyncAction::Frozen && !self.runs());
        assert!(
            self.parts(|p| p == Part::Rebuilding(slot)).is_empty(),
            "EEXIST"
        );
        let wanting = self.parts(|p| p == Part::InSync(slot));
        let replacement = match wanting.first() {
            Some(old) => {
                assert!(
                    self.state_mut(old).want_replacement,
                    "EEXIST: {old} keeps its slot"
                );
                true
            }
            None => false,
        };
        assert_eq!(
            self.parts(|p| p == Part::Spare)
                .iter()
                .filter(|n| *n == name)
                .count(),
            1
        );
        self.facts_mut(name).slot = Fact::Known(Slot::At(slot));
        self.state_mut(name).replacement = replacement;
    }

    /// The md thread looks for work, like a kernel of 6.1 (replacements before later holes).
    fn look(&mut self, wish: SyncAction) {
        let asleep = self.array().state == Fact::Known(ArrayState::ReadAuto);
        if self.action() == SyncAction::Frozen || self.runs() || asleep {
            return;
        }
        for name in self.parts(|p| matches!(p, Part::Faulty(_))) {
            self.facts_mut(&name).slot = Fact::Known(Slot::None);
        }
        let dirty = self.array().resync_start != Fact::Known(Position::Done);
        if !(dirty && self.array().level == Fact::Known(Level::Raid10)) {
            for name in self.parts(|p| p == Part::Spare) {
                self.seat(&name);
            }
        }
        let filling = self.parts(|p| matches!(p, Part::Rebuilding(_) | Part::Replacing(_)));
        if !filling.is_empty() {
            self.show(SyncAction::Recover, true);
        } else if dirty {
            self.show(SyncAction::Resync, true);
        } else {
            self.show(wish, wish != SyncAction::Idle);
        }
    }

    fn seat(&mut self, name: &str) {
        let slots = *self.array().raid_disks.known().unwrap();
        let free = |world: &Self, slot: u32| {
            world
                .parts(|p| p.slot() == Some(slot) && !matches!(p, Part::Faulty(_)))
                .is_empty()
        };
        let dev = self.dev(name);
        let saved = self
            .saved
            .get(&dev)
            .copied()
            .filter(|slot| free(self, *slot));
        for slot in saved.into_iter().chain(0..slots) {
            let occupants = self.parts(|p| p.slot() == Some(slot) && !matches!(p, Part::Faulty(_)));
            let replaces = match occupants.as_slice() {
                [] => false,
                [old] if self.state_mut(old).want_replacement => true,
                _ => continue,
            };
            self.facts_mut(name).slot = Fact::Known(Slot::At(slot));
            self.state_mut(name).replacement = replaces;
            return;
        }
    }

    /// What runs comes to its end.
    pub(crate) fn finish(&mut self) {
        assert!(self.runs());
        match self.action() {
            SyncAction::Recover => {
                for name in self.parts(|p| matches!(p, Part::Replacing(_) | Part::Rebuilding(_))) {
                    let slot = self.facts_mut(&name).slot.known().copied().unwrap();
                    let Slot::At(slot) = slot else { continue };
                    for old in self.parts(|p| p == Part::InSync(slot)) {
                        let state = self.state_mut(&old);
                        (state.in_sync, state.faulty) = (false, true);
                        self.facts_mut(&old).slot = Fact::Known(Slot::None);
                    }
                    *self.state_mut(&name) = in_sync();
                    self.facts_mut(&name).recovery_start = Fact::Known(Position::Done);
                }
            }
            SyncAction::Resync | SyncAction::Repair => {
                self.array_mut().resync_start = Fact::Known(Position::Done);
            }
            _ => {}
        }
        self.show(SyncAction::Idle, false);
        self.look(SyncAction::Idle);
        self.counted();
    }
}
