//! Judging one drive: whether it may be taken at all, and how it would be taken in.

use crate::error::Unfit;
use crate::facts::{DeviceFacts, Fact, SuperblockFacts};
use crate::id::DriveId;
use crate::model::RetiredWhy;

use super::super::view::{Part, part, target_of};
use super::super::{Context, PoolEntry, fit};
use super::group::is_left_of_a_spare;
use super::{Candidate, Method, Need, Source, absent, candidate};

/// Drives that may fail one operation for each empty slot. One can be bad; when a second one fails in its
/// place, the fault is likely to lie in what they share, and a third would be lost to it too.
const BURNT_PER_SLOT: usize = 2;

/// Judges drives for one array.
pub(super) struct Judge<'a, 'n> {
    pub(super) ctx: Context<'a>,
    pub(super) need: &'n Need,
}

impl<'a> Judge<'a, '_> {
    /// Spares that are attached and idle. The kernel has taken them, so nothing is left to check.
    pub(super) fn attached(&self) -> Vec<Candidate> {
        let idle = self
            .ctx
            .array
            .members
            .iter()
            .filter(|m| part(m) == Ok(Part::Spare));
        idle.filter_map(|member| {
            let target = target_of(&self.ctx, member)?;
            let device = self.ctx.inventory.devices.get(&target.dev)?;
            let (source, unfit) = match self.need.chosen {
                Some(id) if id == device.id => (Source::Chosen, None),
                Some(_) => (Source::Attached, Some(Unfit::NotTheChosen)),
                None => (Source::Attached, None),
            };
            Some(candidate(device, source, Method::Start, unfit))
        })
        .collect()
    }

    /// The drive named in the call, unless it is an attached spare, which is judged above.
    pub(super) fn chosen(&self) -> Option<Candidate> {
        let id = self.need.chosen?;
        let device = match self.find(id) {
            Found::One(device) => device,
            Found::None => {
                return Some(absent(
                    id,
                    &id.to_string(),
                    0,
                    Source::Chosen,
                    Unfit::NotPresent,
                ));
            }
            Found::Several => {
                return Some(absent(id, &id.to_string(), 0, Source::Chosen, several()));
            }
        };
        let mut listed = false;
        if let Some((array, member)) = fit::membership(self.ctx.inventory, device)
            && array == self.ctx.array.name
        {
            match part(member) {
                Ok(Part::Spare) => return None,
                Ok(Part::Faulty(_)) => listed = true,
                _ => {
                    let unfit = Unfit::MemberElsewhere {
                        array: array.to_owned(),
                    };
                    return Some(candidate(device, Source::Chosen, Method::Add, Some(unfit)));
                }
            }
        }
        let entry = self.ctx.pool.iter().find(|entry| entry.id == id);
        Some(self.judged(device, Source::Chosen, entry, listed))
    }

    /// A drive of the pool; [`None`] when it is a member of this array already, or judged as the
    /// chosen or as a former member.
    pub(super) fn pooled(&self, entry: &PoolEntry) -> Option<Candidate> {
        if self.need.chosen == Some(entry.id) || self.need.retiring == Some(entry.id) {
            return None;
        }
        let device = match self.find(entry.id) {
            Found::One(device) => device,
            Found::None => return Some(self.missing(entry)),
            Found::Several => {
                let (name, size) = (&entry.stable_name, entry.size_bytes);
                return Some(absent(entry.id, name, size, Source::Pool, several()));
            }
        };
        let here = fit::membership(self.ctx.inventory, device)
            .is_some_and(|(array, _)| array == self.ctx.array.name);
        if here || fit::own_superblock(&self.ctx, device.dev).is_some() {
            return None;
        }
        Some(self.judged(device, Source::Pool, Some(entry), false))
    }

    /// Why a registered drive cannot be found: another one sits in its place, or none.
    fn missing(&self, entry: &PoolEntry) -> Candidate {
        let impostor = self.ctx.inventory.devices.values().find(|device| {
            device.stable_name == entry.stable_name || device.names.contains(&entry.stable_name)
        });
        match impostor {
            Some(device) => candidate(
                device,
                Source::Pool,
                Method::Add,
                Some(Unfit::IdentityChanged),
            ),
            None => {
                let (name, size) = (&entry.stable_name, entry.size_bytes);
                absent(entry.id, name, size, Source::Pool, Unfit::NotPresent)
            }
        }
    }

    /// Former members: those that bear this array's superblock, those that this operation has
    /// wiped on the way to adding them, and, for the record, those still listed as faulty.
    pub(super) fn former(&self) -> Vec<Candidate> {
        let mut found = Vec::new();
        for device in self.ctx.inventory.devices.values() {
            let named =
                self.need.chosen == Some(device.id) || self.need.retiring == Some(device.id);
            if named {
                continue;
            }
            match fit::membership(self.ctx.inventory, device) {
                Some((array, member)) if array == self.ctx.array.name => {
                    if matches!(part(member), Ok(Part::Faulty(_))) {
                        let unfit = Some(Unfit::ListedFaulty);
                        found.push(candidate(device, Source::Former, Method::Add, unfit));
                    }
                }
                Some(_) => {}
                None => {
                    let registered = self.ctx.pool.iter().find(|entry| entry.id == device.id);
                    let own = fit::own_superblock(&self.ctx, device.dev).is_some();
                    // What comes from another array is judged with what that can spare.
                    let wiped = registered.is_none()
                        && self.ctx.added.contains(&device.id)
                        && !self.ctx.moved.contains(&device.id);
                    if own || wiped {
                        found.push(self.judged(device, Source::Former, registered, false));
                    }
                }
            }
        }
        found
    }

    fn judged(
        &self,
        device: &DeviceFacts,
        source: Source,
        entry: Option<&PoolEntry>,
        listed: bool,
    ) -> Candidate {
        let judged = self.method(device, source, entry, listed);
        let (method, unfit) = match judged {
            Ok(method) => (method, None),
            Err(unfit) => (Method::Add, Some(unfit)),
        };
        let mut candidate = candidate(device, source, method, unfit);
        candidate.listed = listed;
        candidate
    }

    /// How the drive would be taken in, or why it will not do.
    fn method(
        &self,
        device: &DeviceFacts,
        source: Source,
        entry: Option<&PoolEntry>,
        listed: bool,
    ) -> Result<Method, Unfit> {
        let ctx = &self.ctx;
        if source != Source::Chosen && self.need.chosen.is_some() {
            return Err(Unfit::NotTheChosen);
        }
        if matches!(self.find(device.id), Found::Several) {
            return Err(several());
        }
        if ctx.tried.contains(&device.id) {
            return Err(Unfit::AlreadyTried);
        }
        if let Some(why) = ctx.aside.and_then(|aside| aside.get(&device.id)) {
            return Err(Unfit::SetAside { why: why.clone() });
        }
        if let Some(unfit) = self.promised(device) {
            return Err(unfit);
        }
        self.kept_back(device, source, entry)?;
        if let Some(op) = entry.and_then(|entry| entry.claimed_by)
            && Some(op) != ctx.op
        {
            return Err(Unfit::Claimed { op });
        }
        let array = listed.then_some(ctx.array.name.as_str());
        if let Some(unfit) = fit::unwritable(ctx.inventory, device, array) {
            return Err(unfit);
        }
        let found = fit::signatures(ctx.inventory.probes.get(&device.dev))?;
        let own = fit::own_superblock(ctx, device.dev);
        let known = own.is_some()
            || entry.is_some_and(|entry| {
                let forced = &entry.forced_signatures;
                forced.iter().any(|one| one == fit::SPARE_SIGNATURE)
                    && is_left_of_a_spare(ctx.inventory, device)
            });
        let foreign = foreign(&found, known, entry);
        if !foreign.is_empty() {
            return Err(Unfit::Signature { found: foreign });
        }
        if let Some(unfit) = fit::unsuited(ctx.inventory, ctx.array, device) {
            return Err(unfit);
        }
        match own {
            Some(superblock) => self.by_history(superblock).and_then(|method| {
                // The stale copy may be all that is left one day: its owner decides.
                let unasked = entry.is_none() && ctx.aside.is_some();
                if unasked && method == Method::WipeAndAdd && !ctx.added.contains(&device.id) {
                    let why = "it was a member, and would have to be erased";
                    return Err(Unfit::SetAside {
                        why: why.to_owned(),
                    });
                }
                Ok(method)
            }),
            None if found.is_empty() => Ok(Method::Add),
            None => Ok(Method::WipeAndAdd),
        }
    }

    /// What speaks against a drive by its past, and by the fate of those before it. Who names a drive
    /// takes that upon himself.
    pub(super) fn kept_back(
        &self,
        device: &DeviceFacts,
        source: Source,
        entry: Option<&PoolEntry>,
    ) -> Result<(), Unfit> {
        if source == Source::Chosen {
            return Ok(());
        }
        if let Some(retired) = self.ctx.retired.get(&device.id) {
            // What failed in this very array may have been away for a moment only: its history tells.
            let may_return = source == Source::Former
                && retired.why == RetiredWhy::Failed
                && retired.lun == self.ctx.lun.id;
            if !may_return {
                let what = retired.text();
                return Err(Unfit::Retired { what });
            }
        }
        if let Some(entry) = entry.filter(|entry| !entry.serves(self.ctx.lun)) {
            let to = entry.only_for.clone().unwrap_or_default();
            return Err(Unfit::Dedicated { to });
        }
        let burnt = self.ctx.tried.intersection(self.ctx.added).count();
        let slots = self.need.holes.len().max(1);
        if burnt >= slots.saturating_mul(BURNT_PER_SLOT) {
            let failed = u32::try_from(burnt).unwrap_or(u32::MAX);
            return Err(Unfit::SlotBurns { failed });
        }
        Ok(())
    }

    /// How a former member may come back. Its history must not be newer than the array's: its
    /// data would be the better copy, and neither a re-add nor a wipe may touch it. Without a
    /// bitmap a re-add would declare stale data in sync (docs/kernel-notes.md), so it is wiped.
    fn by_history(&self, superblock: &SuperblockFacts) -> Result<Method, Unfit> {
        let unknown = |what: &str, why: &str| Unfit::UnknownFact {
            what: format!("{what} ({why})"),
        };
        let array = match &self.ctx.array.events {
            Fact::Known(events) => *events,
            Fact::Unknown(why) => return Err(unknown("the array's event count", why)),
        };
        if superblock.events > array {
            return Err(Unfit::NewerHistory {
                have: superblock.events,
                array,
            });
        }
        let bitmap = match &self.ctx.array.bitmap {
            Fact::Known(bitmap) => *bitmap,
            Fact::Unknown(why) => return Err(unknown("whether the array has a bitmap", why)),
        };
        // What is erased is guarded by this number until the last moment (`Action::Wipe`).
        if let Some(Fact::Unknown(why)) = self.ctx.array.sync.as_ref().map(|sync| &sync.degraded) {
            return Err(unknown("how many members the array misses", why));
        }
        match superblock.role {
            Some(slot) if bitmap && self.need.holes.contains(&slot) => Ok(Method::ReAdd { slot }),
            _ => Ok(Method::WipeAndAdd),
        }
    }

    fn find(&self, id: DriveId) -> Found<'a> {
        let inventory = self.ctx.inventory;
        let mut all = inventory.devices.values().filter(|device| device.id == id);
        match (all.next(), all.next()) {
            (None, _) => Found::None,
            (Some(device), None) => Found::One(device),
            (Some(_), Some(_)) => Found::Several,
        }
    }
}

enum Found<'a> {
    None,
    One(&'a DeviceFacts),
    Several,
}

fn several() -> Unfit {
    Unfit::UnknownFact {
        what: "which of several devices with its identity is meant".to_owned(),
    }
}

/// Signatures that nobody has agreed to lose; `known`: that of md is.
fn foreign(found: &[String], known: bool, entry: Option<&PoolEntry>) -> Vec<String> {
    let accepted = |name: &String| {
        (known && name == fit::MD_SIGNATURE)
            || entry.is_some_and(|entry| entry.forced_signatures.contains(name))
    };
    found
        .iter()
        .filter(|name| !accepted(name))
        .cloned()
        .collect()
}
