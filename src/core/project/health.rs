//! Status and health of a LUN: the first row that matches, in the order of the code. The rules
//! that tie status and health together are those of the `VDS_HEALTH` page.

use super::slots::{
    good_slots, is_degraded, is_delayed, is_dirty, is_failing, is_good, is_running, syncing,
};
use crate::facts::{ArrayFacts, ArrayState, Fact, Level, Slot, SyncAction};
use crate::model::{Health, Lun, LunStatus, Transition};
use crate::raid;

/// What the rows look at.
pub(super) struct View<'a> {
    pub(super) array: &'a ArrayFacts,
    pub(super) last_known: Option<&'a Lun>,
    /// Good slots, where known.
    pub(super) good: Option<Vec<bool>>,
    /// The level has redundancy, where known.
    pub(super) fault_tolerant: Option<bool>,
    /// Losses that can still be survived, where known.
    pub(super) survivable: Option<u32>,
}

impl<'a> View<'a> {
    pub(super) fn new(array: &'a ArrayFacts, last_known: Option<&'a Lun>) -> Self {
        let good = good_slots(array);
        let level = array.level.known();
        let layout = layout(array);
        let survivable = level
            .zip(good.as_ref())
            .and_then(|(level, slots)| raid::losses_survivable(level, layout?, slots));
        let fault_tolerant = level
            .zip(array.raid_disks.known())
            .and_then(|(level, disks)| raid::is_fault_tolerant(level, layout?, *disks));
        Self {
            array,
            last_known,
            good,
            fault_tolerant,
            survivable,
        }
    }

    /// Slots of which the next loss is fatal; empty when that is not known.
    pub(super) fn fatal_next(&self) -> Vec<u32> {
        self.array
            .level
            .known()
            .zip(self.good.as_ref())
            .and_then(|(level, slots)| raid::fatal_next(level, layout(self.array)?, slots))
            .map(|slots| slots.into_iter().collect())
            .unwrap_or_default()
    }

    /// Status and health of the LUN.
    pub(super) fn judge(&self) -> (LunStatus, Health) {
        // Ahead of "unreadable": what proves a failure needs no other fact.
        if self.has_failed() {
            return (LunStatus::Failed, Health::Failed);
        }
        if is_running(self.array) == Some(false) {
            return (LunStatus::Offline, self.health_at_rest());
        }
        if self.is_unreadable() {
            return self.last_judgement();
        }
        let status = if self.is_not_ready() {
            LunStatus::NotReady
        } else {
            LunStatus::Online
        };
        (status, self.health())
    }

    /// Lost for good, until it is stopped and assembled anew.
    fn has_failed(&self) -> bool {
        if is_broken(self.array) {
            return true;
        }
        let (Some(level), Some(layout)) = (self.array.level.known(), layout(self.array)) else {
            return false;
        };
        if is_running(self.array) == Some(false) {
            return self.lacks_members(level, layout);
        }
        self.good
            .as_ref()
            .and_then(|slots| raid::failed(level, layout, slots))
            == Some(true)
    }

    /// Inactive with fewer members than could ever run. Members of an inactive array show no
    /// slot, so they are only counted; an array without any member was stopped by choice.
    fn lacks_members(&self, level: &Level, layout: u32) -> bool {
        let alive = self
            .array
            .members
            .iter()
            .filter(|member| {
                !member
                    .state
                    .is_known_and(|state| state.faulty || state.journal)
            })
            .count();
        let least = self
            .array
            .raid_disks
            .known()
            .and_then(|disks| raid::least_members(level, layout, *disks))
            .and_then(|least| usize::try_from(least).ok());
        alive > 0 && least.is_some_and(|least| alive < least)
    }

    /// A fact without which no health can be told is not known.
    fn is_unreadable(&self) -> bool {
        let Some(level) = self.array.level.known() else {
            return true;
        };
        let counted = matches!(level, Level::Container | Level::Other(_))
            || (self.good.is_some() && layout(self.array).is_some());
        let action = self
            .array
            .sync
            .as_ref()
            .is_none_or(|sync| sync.action.known().is_some());
        self.array.state.known().is_none() || !counted || !action
    }

    /// What was seen last; a failed array does not come back to life by being unreadable.
    fn last_judgement(&self) -> (LunStatus, Health) {
        match self.last_known.map(|lun| lun.status) {
            Some(LunStatus::Failed) => (LunStatus::Failed, Health::Failed),
            Some(LunStatus::Unknown) | None => (LunStatus::Online, Health::Unknown),
            Some(status) => (status, Health::Unknown),
        }
    }

    /// Health of a stopped array: what was known of its faults, but never that all was well.
    fn health_at_rest(&self) -> Health {
        match self.last_known.map(|lun| lun.health) {
            Some(
                health @ (Health::Failing
                | Health::FailingRedundancy
                | Health::FailedRedundancy
                | Health::FailedRedundancyFailing),
            ) => health,
            _ => Health::Unknown,
        }
    }

    /// Suspended, or waiting for its metadata to be written.
    fn is_not_ready(&self) -> bool {
        let waits = matches!(
            self.array.state.known(),
            Some(ArrayState::Suspended | ArrayState::WritePending)
        );
        // An idle or dropped member's block is of no concern to the array.
        let blocked = self.array.members.iter().any(|member| {
            member.state.is_known_and(|state| state.blocked)
                && member.slot.is_known_and(|slot| matches!(slot, Slot::At(_)))
        });
        waits || blocked
    }

    fn health(&self) -> Health {
        let rebuilding = matches!(
            syncing(self.array),
            Some(SyncAction::Recover | SyncAction::Resync | SyncAction::Repair)
        );
        if rebuilding && !is_delayed(self.array) {
            return Health::Rebuilding;
        }
        let failing = self.survivors_failing();
        if is_degraded(self.array) {
            return if failing && self.survivable == Some(0) {
                Health::FailedRedundancyFailing
            } else {
                Health::FailedRedundancy
            };
        }
        if self.fault_tolerant != Some(true) {
            return self.health_without_redundancy(failing);
        }
        match is_dirty(self.array) {
            _ if failing => Health::FailingRedundancy,
            Some(true) => Health::FailingRedundancy,
            Some(false) => Health::Healthy,
            None => Health::Unknown,
        }
    }

    fn health_without_redundancy(&self, failing: bool) -> Health {
        let level = self.array.level.known();
        if failing {
            Health::Failing
        } else if self.good.is_some() && !matches!(level, Some(Level::Container | Level::Other(_)))
        {
            Health::Healthy
        } else {
            Health::Unknown
        }
    }

    /// Whether a member that carries valid data shows signs of failing.
    fn survivors_failing(&self) -> bool {
        self.array
            .members
            .iter()
            .any(|member| member.state.is_known_and(is_good) && is_failing(member))
    }

    /// Configuration change in flight. The facts tell that there is one, not which way it goes.
    pub(super) fn transition(&self) -> Transition {
        let reshapes = self
            .array
            .sync
            .as_ref()
            .is_some_and(|sync| sync.action == Fact::Known(SyncAction::Reshape));
        match self.array.reshaping {
            Fact::Known(true) => Transition::Restriping,
            _ if reshapes => Transition::Restriping,
            Fact::Known(false) => Transition::Stable,
            Fact::Unknown(_) => Transition::Unknown,
        }
    }
}

/// The layout where the level's arithmetic needs one; 0 elsewhere.
fn layout(array: &ArrayFacts) -> Option<u32> {
    match array.level.known()? {
        Level::Raid10 => array.layout.known().copied(),
        _ => Some(0),
    }
}

/// The kernel says that writes are lost for good (`MD_BROKEN`).
fn is_broken(array: &ArrayFacts) -> bool {
    array.state == Fact::Known(ArrayState::Broken)
        || array.mdstat.as_ref().is_some_and(|mdstat| mdstat.broken)
}
