//! Spares that are kept for a LUN (`reserve` of `[[lun]]`), and those that another array can spare
//! (`spare-group` of `mdadm.conf`).

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::auto::names;
use super::exec::frozen;
use super::task::Stage;
use super::{Entry, Machine, Record};
use crate::action::{Action, Target};
use crate::id::{DriveId, LunId, OpId};
use crate::model::{NotificationEvent, Role};
use crate::plan::{self, Loan, PoolEntry, Reservation};
use crate::policy::Recovery;
use crate::project;

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
        self.promised = self.promises();
        let found = self.loans_for(id);
        if found.is_empty() {
            self.loans.remove(&id);
        } else {
            self.loans.insert(id, found);
        }
    }

    /// Idle spares of the same spare group that are meant for nobody else, of arrays that can do without: whole, at
    /// rest, written to by nobody, not held, and not reserving against this one.
    fn loans_for(&self, id: LunId) -> Vec<Loan> {
        let is_md = |id: LunId| self.array_of(id).is_some_and(|array| array.dm().is_none());
        if self.policy.spare_groups.is_empty() || !is_md(id) {
            return Vec::new();
        }
        let Some(group) = self.group_of(id) else {
            return Vec::new();
        };
        let own = self.settings_of(id);
        let gives = |other: LunId, entry: &Entry| {
            let Some(array) = self.inventory.arrays.get(&entry.array) else {
                return false;
            };
            let lun = &entry.lun;
            let writable = array.sync.is_some() && !lun.read_only && !lun.auto_read_only;
            writable
                && other != id
                && is_md(other)
                && self.group_of(other) == Some(group)
                && lun.unsupported.is_none()
                && !lun.held
                && entry.contradiction.is_none()
                && project::syncing(array).is_none()
                && !frozen(array)
                && project::good_slots(array).is_some_and(|good| !good.contains(&false))
                && self.busy_with(other).is_none()
                && !self.is_written_to(other)
                && !own.yields_to(&self.settings_of(other))
        };
        let promises = self.promises();
        let promised = |drive: DriveId| {
            let op = promises.get(&drive).and_then(|op| self.ops.get(op));
            op.is_some_and(|op| op.lun != id)
        };
        let donors = self
            .luns
            .iter()
            .filter(|(other, entry)| gives(**other, entry));
        let spares = donors.flat_map(|(_, entry)| {
            let idle = entry
                .lun
                .drives
                .iter()
                .filter(|one| one.role == Role::Spare);
            idle.filter_map(move |one| Some((entry, one.id?)))
        });
        let free = spares.filter(|(_, drive)| !promised(*drive));
        free.map(|(entry, drive)| Loan {
            array: entry.array.clone(),
            drive,
        })
        .collect()
    }

    /// Spares that an unfinished operation has taken out of other arrays, or was about to: nobody else takes them.
    fn promises(&self) -> BTreeMap<DriveId, OpId> {
        let mut found = BTreeMap::new();
        let at_work = self.ops.values().filter(|op| !op.state.is_finished());
        for (op, drive) in at_work.flat_map(|op| op.moved.iter().map(|drive| (op.id, *drive))) {
            found.entry(drive).or_insert(op);
        }
        found
    }

    /// While lost members are waited for, other arrays give only what is meant for this one already.
    pub(super) fn keep_loans_of(&mut self, id: LunId, targets: &[Target]) {
        if let Some(loans) = self.loans.get_mut(&id) {
            loans.retain(|loan| targets.iter().any(|target| target.id == loan.drive));
        }
    }

    /// The other LUN that an operation's action is for: one that gives a spare.
    pub(super) fn other_acted_on(&self, op: OpId) -> Option<LunId> {
        let (Stage::Acting { action, .. } | Stage::Due { action }) = &self.tasks.get(&op)?.stage
        else {
            return None;
        };
        let own = self.ops.get(&op)?.lun;
        let mut luns = self.luns.iter();
        let of_it = |(_, entry): &(&LunId, &Entry)| Some(entry.array.as_str()) == action.array();
        let (id, _) = luns.find(of_it)?;
        (*id != own).then_some(*id)
    }

    /// Sends what has been written down, when nothing else is done to the arrays that it is for.
    pub(super) fn send_due(&mut self, id: OpId, action: Action) {
        // A hold that is being kept or lifted comes first: one action at a time.
        let own = self.ops.get(&id).map(|op| op.lun);
        let mut luns = own.into_iter().chain(self.other_acted_on(id));
        if luns.any(|lun| self.is_written_to(lun)) {
            return;
        }
        match self.still_gives(id) {
            true => self.send(id, action),
            false => self.look_again(id, None),
        }
    }

    /// Whether the array that an operation's next action takes a spare from can still spare it.
    pub(super) fn still_gives(&self, op: OpId) -> bool {
        if self.other_acted_on(op).is_none() {
            return true;
        }
        let own = self.ops.get(&op).map(|op| op.lun);
        let stage = self.tasks.get(&op).map(|task| &task.stage);
        let (Some(own), Some(Stage::Due { action })) = (own, stage) else {
            return false;
        };
        let mut loans = self.loans_for(own).into_iter();
        loans.any(|loan| action.drive().is_some_and(|drive| drive.id == loan.drive))
    }

    fn group_of(&self, id: LunId) -> Option<&str> {
        let entry = self.luns.get(&id)?;
        self.policy.group_of(id, &names(&entry.lun))
    }

    /// Spares that an operation has taken out of other arrays and that are attached to none: they are not lost, and
    /// join the pool.
    pub(super) fn keep_moved(&mut self, id: OpId) {
        let moved = self.ops.get(&id).map(|op| op.moved.clone());
        let members = self.member_devices();
        for drive in moved.unwrap_or_default() {
            let known = self.pool.iter().any(|entry| entry.id == drive);
            let Some(device) = self.device_of(drive).filter(|_| !known) else {
                continue;
            };
            if members.contains(&device.dev) || self.retired.contains_key(&drive) {
                continue;
            }
            let entry = PoolEntry {
                id: drive,
                stable_name: device.stable_name.clone(),
                size_bytes: device.size_bytes,
                // It may be somebody's member by the time that it is needed.
                forced_signatures: vec![plan::SPARE_SIGNATURE.to_owned()],
                claimed_by: None,
                rule: None,
                only_for: None,
            };
            let text = format!(
                "/dev/{} was taken out of another array and not needed: it joins the spare pool",
                device.name
            );
            self.pool.push(entry.clone());
            self.persist(Record::Pool(entry));
            self.changed = true;
            self.notify(Some(NotificationEvent::DriveModify), None, Some(id), text);
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
        let mut others: Vec<(LunId, Recovery)> = others
            .map(|other| (*other, self.settings_of(*other)))
            .filter(|(_, settings)| own.yields_to(settings))
            .collect();
        // Whoever matters more comes first: what is kept for it is no spare of the others that reserve.
        others.sort_by_key(|(other, settings)| (Reverse(settings.priority), *other));
        let mut found: Vec<(Recovery, Reservation)> = Vec::new();
        for (other, settings) in others {
            let above = found.iter().filter(|(above, _)| settings.yields_to(above));
            let above: Vec<Reservation> = above.map(|(_, one)| one.clone()).collect();
            found.extend(
                self.reservation_of(other, id, &above)
                    .map(|one| (settings, one)),
            );
        }
        found.into_iter().map(|(_, one)| one).collect()
    }

    /// What is kept for one LUN against another.
    fn reservation_of(
        &self,
        id: LunId,
        against: LunId,
        above: &[Reservation],
    ) -> Option<Reservation> {
        let aside = self.relied_on_by_others(id, against);
        let mut context = self.context(id, None).ok()?;
        context.aside = Some(&aside);
        context.reserved = above;
        context.loans = &[];
        plan::reservation(&context)
    }
}
