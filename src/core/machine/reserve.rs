//! Spares that are kept for a LUN (`reserve` of `[[lun]]`).

use super::Machine;
use crate::id::LunId;
use crate::plan::{self, Reservation};

impl Machine {
    /// Finds out anew what a LUN has to leave to others. Before each plan: what another operation has claimed
    /// since the last one is nobody's reserve.
    pub(super) fn note_reservations(&mut self, id: LunId) {
        let found = self.reservations(id);
        if found.is_empty() {
            self.reserved.remove(&id);
        } else {
            self.reserved.insert(id, found);
        }
    }

    /// What a LUN has to leave to others.
    pub(super) fn reservations(&self, id: LunId) -> Vec<Reservation> {
        let rules = &self.policy.lun_rules;
        if rules.iter().all(|rule| rule.reserve != Some(true)) {
            return Vec::new();
        }
        let own = self.settings_of(id);
        let others = self.luns.keys().filter(|other| **other != id);
        others
            .filter(|other| own.yields_to(&self.settings_of(**other)))
            .filter_map(|other| self.reservation_of(*other, id))
            .collect()
    }

    /// What is kept for one LUN against another.
    fn reservation_of(&self, id: LunId, against: LunId) -> Option<Reservation> {
        let aside = self.relied_on_by_others(id, against);
        let mut context = self.context(id, None).ok()?;
        context.aside = Some(&aside);
        context.reserved = &[];
        plan::reservation(&context)
    }
}
