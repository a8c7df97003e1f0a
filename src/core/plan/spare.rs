//! Which drives could take over, in which order, and why the others could not.
//!
//! Only drives that somebody meant for it are looked at: spares attached to the array, drives
//! registered in the pool, former members of this very array, and a drive that was named in the
//! call. A blank drive that merely is there is nobody's spare.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::action::Target;
use crate::error::Unfit;
use crate::facts::{ArrayFacts, DeviceFacts, Fact, Inventory, SuperblockFacts};
use crate::id::{DevNo, DriveId};

use super::view::{Part, part, target_of};
use super::{Context, PoolEntry, fit};

/// A drive's name and why it was not taken, as [`crate::Error::NoSpare`] lists them.
pub type Rejection = (String, Unfit);

/// Why a drive was considered at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A spare that is attached to the array already.
    Attached,
    /// Registered in the pool.
    Pool,
    /// Bears this array's superblock, or is listed in it as faulty.
    Former,
    /// Named in the call.
    Chosen,
    /// A physical volume of the volume group that the LUN lies in.
    VolumeGroup,
}

/// How a drive would be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Re-add into the slot it had: only what changed meanwhile is copied.
    ReAdd {
        /// The slot.
        slot: u32,
    },
    /// It is attached: start it.
    Start,
    /// Add it as a fresh spare.
    Add,
    /// Erase what is on it, then add it.
    WipeAndAdd,
}

/// What became of a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The plan fills it.
    Taken,
    /// It would do.
    Fits {
        /// 0 is the best.
        rank: u32,
    },
    /// It will not do.
    Rejected(Unfit),
}

/// A drive that was considered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The drive; number 0:0 and the lasting name when it is not there.
    pub drive: Target,
    /// Lasting name, for people.
    pub stable_name: String,
    /// Why it was considered.
    pub source: Source,
    /// How it would be taken in.
    pub method: Method,
    /// It is listed as faulty in the array and has to be removed from it first.
    pub listed: bool,
    /// Size, bytes.
    pub size_bytes: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// The verdict in words, for people.
    pub reason: String,
}

impl Candidate {
    /// Whether it would do, or does.
    #[must_use]
    pub const fn fits(&self) -> bool {
        matches!(self.verdict, Verdict::Fits { .. } | Verdict::Taken)
    }

    /// It will not do after all.
    pub(super) fn reject(&mut self, unfit: Unfit) {
        self.reason = unfit.text();
        self.verdict = Verdict::Rejected(unfit);
    }

    /// Name for messages: the node, or the lasting name of a drive that is not there.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.verdict {
            Verdict::Rejected(Unfit::NotPresent) => self.stable_name.clone(),
            _ => format!("/dev/{}", self.drive.name),
        }
    }
}

/// What is needed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Need {
    /// Slots without an occupant, into which a former member may be re-added.
    pub holes: Vec<u32>,
    /// Only this drive.
    pub chosen: Option<DriveId>,
    /// Member that is being replaced: never its own successor unless it is the chosen one.
    pub retiring: Option<DriveId>,
}

/// Judges every drive that could take over, the best first, the rejected ones last. The order
/// among those that fit: re-adds, attached spares, pool, former members that would be erased;
/// within the pool the best fit, the order of registration last.
#[must_use]
pub fn judge_spares(ctx: &Context<'_>, need: &Need) -> Vec<Candidate> {
    let judge = Judge { ctx: *ctx, need };
    let mut found = judge.attached();
    found.extend(judge.chosen());
    found.extend(ctx.pool.iter().filter_map(|entry| judge.pooled(entry)));
    found.extend(judge.former());
    let survivors = survivors(ctx);
    // A stable sort: what ranks equal keeps the order of attachment or registration.
    found.sort_by_cached_key(|candidate| {
        let device = ctx.inventory.devices.get(&candidate.drive.dev);
        let rank = device.map(|device| rank(device, &survivors));
        (!candidate.fits(), class(candidate), rank)
    });
    let mut next = 0;
    for candidate in &mut found {
        if let Verdict::Fits { rank } = &mut candidate.verdict {
            *rank = next;
            next += 1;
        }
    }
    found
}

/// Devices that must be probed before [`judge_spares`] can judge: the pool, the drive named in the
/// call, drives that this operation has wiped, and idle drives that look like members of an array.
#[must_use]
pub fn probes_wanted(
    inventory: &Inventory,
    array: &ArrayFacts,
    pool: &[PoolEntry],
    named: &BTreeSet<DriveId>,
) -> BTreeSet<DevNo> {
    let degraded = crate::project::is_degraded(array);
    let wanted = |device: &&DeviceFacts| {
        if named.contains(&device.id) {
            return true;
        }
        let attached = fit::membership(inventory, device);
        if attached.is_some_and(|(name, _)| name == array.name) {
            return false;
        }
        let registered = pool.iter().any(|entry| entry.id == device.id);
        // udev passes over a device that somebody has locked, so its silence proves nothing: a
        // degraded array looks at what has no record too.
        let looks_former = match device.udev_signature.as_deref() {
            Some(found) => found == fit::MD_SIGNATURE,
            None => degraded && device.used_by.is_empty(),
        };
        registered || (looks_former && attached.is_none() && device.holders.is_empty())
    };
    inventory
        .devices
        .values()
        .filter(wanted)
        .map(|device| device.dev)
        .collect()
}

/// Rejections in the order of the candidates.
pub(super) fn rejections(candidates: &[Candidate]) -> Vec<Rejection> {
    candidates
        .iter()
        .filter_map(|candidate| match &candidate.verdict {
            Verdict::Rejected(unfit) => Some((candidate.name(), unfit.clone())),
            _ => None,
        })
        .collect()
}

const fn class(candidate: &Candidate) -> u8 {
    match (candidate.method, candidate.source) {
        (Method::ReAdd { .. }, _) => 0,
        (Method::Start, _) => 1,
        (_, Source::Former) => 3,
        _ => 2,
    }
}

/// Drives that carry the data now.
fn survivors<'i>(ctx: &Context<'i>) -> Vec<&'i DeviceFacts> {
    let inventory = ctx.inventory;
    ctx.array
        .members
        .iter()
        .filter(|member| matches!(part(member), Ok(Part::InSync(_) | Part::Unsettled(_))))
        .filter_map(|member| inventory.devices.get(member.dev.known()?))
        .collect()
}

/// How well a drive fits, smaller is better: not on the same disk as a survivor (it would be lost
/// with it), the same kind of media, the same transport, another controller, and then the
/// smallest. What is unknown counts as not matching.
pub(super) fn rank(
    device: &DeviceFacts,
    survivors: &[&DeviceFacts],
) -> (bool, bool, bool, bool, u64) {
    let any = |differs: &dyn Fn(&DeviceFacts) -> bool| survivors.iter().any(|s| differs(s));
    (
        any(&|s| s.whole_disk == device.whole_disk),
        any(&|s| s.rotational.known() != device.rotational.known()) || unknown(&device.rotational),
        any(&|s| s.transport.known() != device.transport.known()) || unknown(&device.transport),
        any(&|s| s.controller.is_some() && s.controller == device.controller),
        device.size_bytes,
    )
}

const fn unknown<T>(fact: &Fact<T>) -> bool {
    matches!(fact, Fact::Unknown(_))
}

struct Judge<'a, 'n> {
    ctx: Context<'a>,
    need: &'n Need,
}

impl<'a> Judge<'a, '_> {
    /// Spares that are attached and idle. The kernel has taken them, so nothing is left to check.
    fn attached(&self) -> Vec<Candidate> {
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
    fn chosen(&self) -> Option<Candidate> {
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
    fn pooled(&self, entry: &PoolEntry) -> Option<Candidate> {
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
    fn former(&self) -> Vec<Candidate> {
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
                    let wiped = registered.is_none() && self.ctx.added.contains(&device.id);
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
        let foreign = foreign(&found, own.is_some(), entry);
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

/// Signatures that nobody has agreed to lose.
fn foreign(found: &[String], own: bool, entry: Option<&PoolEntry>) -> Vec<String> {
    let accepted = |name: &String| {
        (own && name == fit::MD_SIGNATURE)
            || entry.is_some_and(|entry| entry.forced_signatures.contains(name))
    };
    found
        .iter()
        .filter(|name| !accepted(name))
        .cloned()
        .collect()
}

fn candidate(
    device: &DeviceFacts,
    source: Source,
    method: Method,
    unfit: Option<Unfit>,
) -> Candidate {
    let reason = unfit
        .as_ref()
        .map_or_else(|| reason(source, method), Unfit::text);
    Candidate {
        drive: Target {
            dev: device.dev,
            name: device.name.clone(),
            id: device.id,
        },
        stable_name: device.stable_name.clone(),
        source,
        method,
        listed: false,
        size_bytes: device.size_bytes,
        verdict: unfit.map_or(Verdict::Fits { rank: 0 }, Verdict::Rejected),
        reason,
    }
}

/// A place that somebody other than `mdadm` would take, with room for so many bytes.
pub(super) fn offered(
    device: Option<&DeviceFacts>,
    place: (&str, u64),
    source: Source,
    unfit: Option<Unfit>,
    reason: String,
) -> Candidate {
    let (name, room) = place;
    let mut candidate = match (device, unfit) {
        (Some(device), unfit) => candidate(device, source, Method::Add, unfit),
        (None, unfit) => absent(
            DriveId::derive("path", name),
            name,
            room,
            source,
            unfit.unwrap_or(Unfit::NotPresent),
        ),
    };
    candidate.size_bytes = room;
    if candidate.fits() {
        candidate.reason = reason;
    }
    candidate
}

/// A candidate that no single device stands for.
fn absent(id: DriveId, name: &str, size_bytes: u64, source: Source, unfit: Unfit) -> Candidate {
    Candidate {
        drive: Target {
            dev: DevNo { major: 0, minor: 0 },
            name: name.to_owned(),
            id,
        },
        stable_name: name.to_owned(),
        source,
        method: Method::Add,
        listed: false,
        size_bytes,
        reason: unfit.text(),
        verdict: Verdict::Rejected(unfit),
    }
}

fn reason(source: Source, method: Method) -> String {
    let what = match (source, method) {
        (_, Method::ReAdd { slot }) => {
            return format!("it was in slot {slot}, and the bitmap tells what it has missed");
        }
        (Source::Attached | Source::Chosen, Method::Start) => "it is attached as a spare",
        (Source::Former, Method::WipeAndAdd) => {
            "it was a member, and has to be erased and filled anew"
        }
        (Source::Former, _) => "it was a member and has been erased for this",
        (_, Method::WipeAndAdd) => "it fits, and its owner agreed to lose what is on it",
        (Source::Chosen, _) => "it fits and was asked for",
        (_, _) => "it fits",
    };
    what.to_owned()
}
