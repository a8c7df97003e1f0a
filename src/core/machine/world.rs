//! Taking in what was observed: which LUNs exist, what changed, what contradicts what was known.

use std::collections::{BTreeMap, BTreeSet};

use super::seen::seen;
use super::words::{describe, role_word};
use super::{Entry, Machine, Record};
use crate::Error;
use crate::facts::{ArrayFacts, ArrayState, DmOwner, Fact, Inventory, Level};
use crate::id::{DevNo, DriveId, LunId};
use crate::model::{Lun, LunStatus, NotificationEvent, Role};
use crate::plan::{self, Request};
use crate::project::{self, ProjectContext};

/// How long an array must stay half assembled before it is shown, as offline.
pub(super) const HALF_MS: u64 = 5_000;

/// How long a LUN must be not ready before it is shown so.
const NOT_READY_MS: u64 = 1_000;

impl Machine {
    /// Who an array is. A UUID that cannot be read for a moment does not make it another one.
    pub(super) fn identity(&self, array: &ArrayFacts) -> LunId {
        let unreadable = array.uuid.known().is_none();
        let bearer = self
            .luns
            .iter()
            .find(|(_, entry)| unreadable && entry.array == array.name);
        bearer.map_or_else(|| project::lun_id(array), |(id, _)| *id)
    }

    pub(super) fn on_scanned(&mut self, result: Result<Box<Inventory>, Error>) {
        self.scan.in_flight = false;
        self.scan.ended_at = self.now.mono;
        match result {
            Ok(inventory) => self.accept(*inventory),
            Err(error) => {
                self.overlapped.clear();
                self.notify(None, None, None, format!("scan failed: {error}"));
                self.fail_pending(&error);
                self.scan_has_failed();
                return;
            }
        }
        self.adopt();
        self.settle_pool();
        self.note_drives();
        self.renew_records();
        self.copy_failing();
        self.answer_pending();
        // After the calls: a drive that one of them names has its deep look by then.
        self.apply_spare_rules();
        // With the spares that just joined.
        self.note_coverage();
    }

    /// Takes a whole inventory in, finding out what came, went and changed.
    fn accept(&mut self, inventory: Inventory) {
        let mut seen: BTreeMap<LunId, Vec<String>> = BTreeMap::new();
        self.watch_halves(&inventory);
        for (name, array) in &inventory.arrays {
            if is_lun(array) && !self.is_forming(array) || self.has_lasted(name) {
                seen.entry(self.identity(array))
                    .or_default()
                    .push(name.clone());
            }
        }
        let other_devices = self.inventory.devices != inventory.devices;
        self.inventory = inventory;
        self.changed = true;
        let contradicted = self.find_contradictions(&seen);
        let ids: Vec<LunId> = self.luns.keys().copied().collect();
        for id in ids {
            if !seen.contains_key(&id) && !contradicted.contains(&id) {
                self.depart(id);
            }
        }
        for (id, names) in seen {
            let Some(name) = names.first() else { continue };
            if self.name_is_contested(id, name) {
                continue;
            }
            if self.luns.contains_key(&id) {
                self.reproject(id, name);
            } else {
                self.arrive(id, name);
            }
        }
        if self.awaits_in_vain() {
            self.bury_the_unseen();
        }
        self.read_the_overlapped();
        self.judge_the_boot();
        self.scan_has_ended(other_devices);
    }

    /// Arrays with members and without identity: `mdadm --create` shows one for a moment,
    /// `mdadm --incremental` leaves one behind that cannot start for want of members.
    fn watch_halves(&mut self, inventory: &Inventory) {
        let now = self.now.mono;
        let before = std::mem::take(&mut self.half_since);
        let halves: Vec<&ArrayFacts> = inventory
            .arrays
            .values()
            .filter(|array| !is_container(array))
            .filter(|array| is_half(array) || self.is_forming(array))
            .collect();
        for array in halves {
            let since = before.get(&array.name).copied().unwrap_or(now);
            self.half_since.insert(array.name.clone(), since);
        }
    }

    /// It came while lund looked on and does not run: `mdadm` may just be putting it together, which
    /// shows an identity before there is a level. What is found so at the start is shown so.
    fn is_forming(&self, array: &ArrayFacts) -> bool {
        if self.scan.started <= 1 {
            return false;
        }
        let id = self.identity(array);
        let inactive = array
            .state
            .is_known_and(|state| *state == ArrayState::Inactive);
        inactive && !self.luns.contains_key(&id) && !self.gone.contains_key(&id)
    }

    fn has_lasted(&self, name: &str) -> bool {
        let since = self.half_since.get(name);
        since.is_some_and(|at| self.now.mono.since(*at) >= HALF_MS)
    }

    /// An array that stayed half assembled is not shown yet.
    pub(super) fn half_has_lasted(&self) -> bool {
        self.half_since.keys().any(|name| {
            self.has_lasted(name) && self.luns.values().all(|entry| entry.array != *name)
        })
    }

    /// A LUN whose name now bears another identity, without its going ever having been seen, or
    /// whose identity two arrays bear.
    fn find_contradictions(&mut self, seen: &BTreeMap<LunId, Vec<String>>) -> BTreeSet<LunId> {
        let mut contradicted = BTreeSet::new();
        let mut suspicious = false;
        for (id, entry) in &mut self.luns {
            let says = match seen.get(id) {
                Some(names) if names.len() > 1 => {
                    Some(format!("{} all bear this UUID", names.join(", ")))
                }
                Some(_) => None,
                None => self
                    .inventory
                    .arrays
                    .get(&entry.array)
                    .filter(|array| is_lun(array))
                    // What had no identity of its own contradicts nothing by getting one.
                    .filter(|_| *id != LunId::weak(&entry.array))
                    .map(|array| format!("{} bears {}", entry.array, project::lun_id(array))),
            };
            entry.contradiction = says.map(|text| {
                let times = entry.contradiction.as_ref().map_or(0, |(_, times)| *times);
                suspicious |= times == 0;
                (text, times + 1)
            });
            if entry.contradiction.is_some() {
                contradicted.insert(*id);
            }
        }
        // One re-read may settle it: an event can have overtaken the scan.
        if suspicious {
            self.scan.wanted = true;
        }
        for id in &contradicted {
            let Some(entry) = self.luns.get(id) else {
                continue;
            };
            let Some((says, 2)) = &entry.contradiction else {
                continue;
            };
            let text = format!(
                "{} is known as {id}, but {says}: refresh is needed",
                entry.array
            );
            self.notify(
                Some(NotificationEvent::ServiceOutOfSync),
                Some(*id),
                None,
                text,
            );
        }
        contradicted
    }

    /// Another LUN still claims this name and nobody has accepted the change.
    fn name_is_contested(&self, id: LunId, name: &str) -> bool {
        self.luns.iter().any(|(other, entry)| {
            *other != id && entry.array == name && entry.contradiction.is_some()
        })
    }

    /// `Refresh`: what the kernel says is accepted, whatever was known.
    pub(super) fn accept_contradictions(&mut self) {
        let ids: Vec<LunId> = self
            .luns
            .iter()
            .filter(|(_, entry)| entry.contradiction.is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in &ids {
            let still_there = self
                .inventory
                .arrays
                .values()
                .any(|array| self.identity(array) == *id);
            if still_there {
                if let Some(entry) = self.luns.get_mut(id) {
                    entry.contradiction = None;
                }
            } else {
                self.depart(*id);
            }
        }
        let inventory = std::mem::take(&mut self.inventory);
        self.accept(inventory);
    }

    fn arrive(&mut self, id: LunId, name: &str) {
        let Some(mut lun) = self.projected(id, name) else {
            return;
        };
        let text = format!("{name} ({}) is {}", lun.level, describe(&lun));
        let left = self.gone.remove(&id);
        lun.rebuild_priority = left.as_ref().map_or(0, |seen| seen.hints.rebuild_priority);
        let healthy_at = left.as_ref().and_then(|seen| seen.healthy_at);
        let hints = left.as_ref().map(|seen| seen.hints).unwrap_or_default();
        let unproven = left.as_ref().is_some_and(|seen| seen.unproven);
        self.luns.insert(
            id,
            Entry {
                array: name.to_owned(),
                lun,
                contradiction: None,
                healthy_at,
                unproven,
                hints,
                recorded_at: self.now.wall,
                left,
            },
        );
        self.seat_the_remembered(id);
        self.await_members(id);
        self.note_health(id);
        self.note_failures(id);
        self.note_errors(id);
        self.record_lun(id, false);
        self.notify(Some(NotificationEvent::LunArrive), Some(id), None, text);
        self.tell_if_worse(id);
    }

    fn depart(&mut self, id: LunId) {
        if !self.luns.contains_key(&id) {
            return;
        }
        self.record_lun(id, true);
        let Some(entry) = self.luns.remove(&id) else {
            return;
        };
        self.read_at.remove(&entry.array);
        self.read_later.remove(&entry.array);
        self.not_ready_since.remove(&id);
        self.stop_deciding(id);
        self.gone.insert(id, seen(&entry, self.now.wall, true));
        self.changed = true;
        let text = format!("{} is gone", entry.array);
        self.notify(Some(NotificationEvent::LunDepart), Some(id), None, text);
    }

    /// LUNs of the ledger that the first scan did not find.
    fn bury_the_unseen(&mut self) {
        let unseen: Vec<LunId> = self
            .gone
            .iter()
            .filter(|(_, seen)| !seen.gone)
            .map(|(id, _)| *id)
            .collect();
        for id in unseen {
            let Some(record) = self.gone.get_mut(&id) else {
                continue;
            };
            record.gone = true;
            let record = record.clone();
            let text = format!("{} was known and is gone", record.name);
            self.persist(Record::Lun(record));
            self.notify(Some(NotificationEvent::LunDepart), Some(id), None, text);
        }
    }

    fn projected(&self, id: LunId, name: &str) -> Option<Lun> {
        let array = self.inventory.arrays.get(name)?;
        let entry = self.luns.get(&id);
        let last_known = entry.map(|entry| &entry.lun);
        let context = ProjectContext {
            rebuild_priority: entry.map_or(0, |entry| entry.hints.rebuild_priority),
            held: self.holds.contains_key(&id),
            pool: &self.pool,
            observed_at: self.now.wall,
            last_known,
        };
        Some(project::project(&self.inventory, array, &context))
    }

    /// Derives a LUN's model anew and tells what changed.
    pub(super) fn reproject(&mut self, id: LunId, name: &str) {
        let Some(mut lun) = self.projected(id, name) else {
            return;
        };
        self.outlast_a_moment(&mut lun, name);
        let Some(entry) = self.luns.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut entry.lun, lun.clone());
        let renamed = entry.array != name;
        name.clone_into(&mut entry.array);
        let unchanged = Lun {
            observed_at_ms: lun.observed_at_ms,
            ..before.clone()
        } == lun;
        self.note_health(id);
        self.note_failures(id);
        self.note_errors(id);
        self.tell_if_worse(id);
        if renamed
            || before.links != lun.links
            || before.level != lun.level
            || before.health != lun.health
            || before.recreate != lun.recreate
        {
            self.record_lun(id, false);
        }
        self.changed = true;
        if unchanged {
            return;
        }
        self.auto.dirty = true;
        self.tell_drives(&before, &lun);
        if before.health != lun.health || before.status != lun.status || before.held != lun.held {
            let text = format!("{name} is {}", describe(&lun));
            self.notify(Some(NotificationEvent::LunModify), Some(id), None, text);
        }
    }

    /// An array under load is `write-pending` for moments; only what lasts is shown as not ready.
    fn outlast_a_moment(&mut self, lun: &mut Lun, name: &str) {
        if lun.status != LunStatus::NotReady {
            self.not_ready_since.remove(&lun.id);
            return;
        }
        let now = self.now.mono;
        let since = *self.not_ready_since.entry(lun.id).or_insert(now);
        if now.since(since) < NOT_READY_MS {
            let again = since.after(NOT_READY_MS);
            self.read_later.insert(name.to_owned(), again);
            if let Some(entry) = self.luns.get(&lun.id) {
                lun.status = entry.lun.status;
            }
        }
    }

    /// Drives that failed, left or came, as VDS tells them.
    fn tell_drives(&mut self, before: &Lun, after: &Lun) {
        let present = |lun: &Lun| -> BTreeMap<String, Role> {
            lun.drives
                .iter()
                .filter(|drive| !drive.device.is_empty())
                .map(|drive| (drive.device.clone(), drive.role))
                .collect()
        };
        let (old, new) = (present(before), present(after));
        let mut told = Vec::new();
        for (device, role) in &new {
            match old.get(device) {
                Some(was) if was == role => {}
                Some(_) if *role == Role::Faulty => told.push((
                    NotificationEvent::DriveRemoved,
                    format!("{device} failed in {}", after.name),
                )),
                _ => told.push((
                    NotificationEvent::DriveModify,
                    format!("{device} is {} in {}", role_word(*role), after.name),
                )),
            }
        }
        for device in old.keys().filter(|device| !new.contains_key(*device)) {
            told.push((
                NotificationEvent::DriveRemoved,
                format!("{device} is no longer part of {}", after.name),
            ));
        }
        for (event, text) in told {
            self.notify(Some(event), Some(after.id), None, text);
        }
    }

    /// A pool drive that has become a member in sync is a spare no longer.
    fn settle_pool(&mut self) {
        let in_sync: BTreeSet<_> = self
            .luns
            .values()
            .flat_map(|entry| &entry.lun.drives)
            .filter(|drive| drive.role == Role::InSync)
            .filter_map(|drive| drive.id)
            .collect();
        self.leave_pool(&in_sync, "a member now");
        // What joined a volume group is LVM's, whether or not a leg lies on it yet.
        let groups = self.inventory.groups.values().filter_map(Fact::known);
        let physical: BTreeSet<DriveId> = groups
            .flat_map(|group| &group.physical)
            .filter_map(|physical| Some(self.inventory.devices.get(&physical.dev?)?.id))
            .collect();
        self.leave_pool(&physical, "a physical volume now");
    }

    fn leave_pool(&mut self, used: &BTreeSet<DriveId>, what: &str) {
        let (gone, kept) = std::mem::take(&mut self.pool)
            .into_iter()
            .partition::<Vec<_>, _>(|entry| used.contains(&entry.id));
        self.pool = kept;
        for entry in gone {
            self.auto.dirty = true;
            self.persist(Record::PoolRemoved(entry.id));
            let text = format!("{} is {what} and left the spare pool", entry.stable_name);
            self.notify(Some(NotificationEvent::DriveModify), None, None, text);
        }
    }

    /// What deserves a deep look: every drive that a plan could take or has touched, and the event
    /// count of the arrays that could have lost one of them.
    pub(super) fn deep_request(&self) -> (BTreeSet<DevNo>, BTreeSet<String>) {
        let mut named = BTreeSet::new();
        for op in self.ops.values().filter(|op| !op.state.is_finished()) {
            named.extend(op.added.iter().chain(&op.moved).copied());
            named.extend(op.request.as_ref().and_then(Request::chosen));
        }
        let mut probe = BTreeSet::new();
        let mut events_of = BTreeSet::new();
        for (name, array) in &self.inventory.arrays {
            let wanted = plan::probes_wanted(&self.inventory, array, &self.pool, &named);
            if project::is_degraded(array) && !wanted.is_empty() {
                events_of.insert(name.clone());
            }
            probe.extend(wanted);
        }
        let members = self.member_devices();
        probe.retain(|dev| !members.contains(dev));
        (probe, events_of)
    }

    /// Whether a drive deserves a deep look, by what is known now, and has had none.
    pub(super) fn has_unprobed(&self) -> bool {
        let (wanted, _) = self.deep_request();
        let mut wanted = wanted.iter();
        wanted.any(|dev| !self.inventory.probes.contains_key(dev))
    }

    /// Volume groups of which a plan would have to know where a lost leg may go.
    pub(super) fn groups_wanted(&self) -> BTreeSet<String> {
        let arrays = self.inventory.arrays.values();
        // Not degraded is not enough: of a leg whose metadata cannot be read it is not known.
        let whole = |array: &&ArrayFacts| {
            project::good_slots(array).is_some_and(|good| !good.contains(&false))
        };
        arrays
            .filter(|array| !whole(array))
            .filter_map(|array| match &array.dm()?.owner {
                DmOwner::Lvm { vg, .. } => Some(vg.clone()),
                DmOwner::Bare => None,
            })
            .collect()
    }

    pub(super) fn member_devices(&self) -> BTreeSet<DevNo> {
        self.inventory
            .arrays
            .values()
            .flat_map(|array| &array.members)
            .filter_map(|member| member.dev.known().copied())
            .collect()
    }

    pub(super) fn array_of(&self, id: LunId) -> Option<&ArrayFacts> {
        let entry = self.luns.get(&id)?;
        self.inventory.arrays.get(&entry.array)
    }
}

/// Containers and arrays in the act of going are no LUNs.
fn is_lun(array: &ArrayFacts) -> bool {
    // While mdadm puts an array together it has a name and neither level nor identity.
    let nameless = matches!(array.uuid, Fact::Known(None))
        && array
            .state
            .is_known_and(|state| matches!(state, ArrayState::Clear | ArrayState::Inactive));
    let cleared = array
        .state
        .is_known_and(|state| *state == ArrayState::Clear);
    !is_container(array) && !nameless && !cleared
}

/// It only holds the metadata of other arrays, and never runs.
fn is_container(array: &ArrayFacts) -> bool {
    array.level.is_known_and(|level| *level == Level::Container)
}

/// It has members, and neither runs nor has an identity.
fn is_half(array: &ArrayFacts) -> bool {
    !array.members.is_empty()
        && matches!(array.uuid, Fact::Known(None))
        && array
            .state
            .is_known_and(|state| *state == ArrayState::Inactive)
}
