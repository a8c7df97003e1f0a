//! What the planner reads out of an array's facts: which part each member plays, which slots are
//! empty, what the kernel is doing. A fact that is needed and unknown is an answer of its own
//! ([`Error::LunNotReady`]), never a guess.

use crate::Error;
use crate::action::Target;
use crate::facts::{ArrayState, Fact, Level, MemberFacts, Position, Slot, SyncAction};
use crate::id::DriveId;
use crate::project;

use super::Context;

/// Slots that a version 1 superblock can number (`drivers/md/md_p.h`, `dev_roles` is 16 bits
/// wide); anything above is a misreading.
const MAX_SLOTS: u32 = 0xfffd;

/// The part a member plays, by `state` and `slot` together (`spare` alone says little:
/// a member being rebuilt is called `spare` too).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Carries valid data for the slot.
    InSync(u32),
    /// Is being filled for a slot without a good member, or waits for it.
    Rebuilding(u32),
    /// Is being filled next to a member that still works, or waits for it.
    Replacing(u32),
    /// Attached and idle.
    Spare,
    /// Failed; the slot lingers while the array is frozen.
    Faulty(Option<u32>),
    /// Reads `faulty` and `in_sync` at once: bad blocks of it are not yet recorded, and it is
    /// neither lost nor usable until they are.
    Unsettled(u32),
    /// Write journal.
    Journal,
}

impl Part {
    /// Slot it occupies; [`None`] for spares, the journal and members dropped from their slot.
    pub(super) const fn slot(self) -> Option<u32> {
        match self {
            Self::InSync(n) | Self::Rebuilding(n) | Self::Replacing(n) | Self::Unsettled(n) => {
                Some(n)
            }
            Self::Faulty(at) => at,
            Self::Spare | Self::Journal => None,
        }
    }
}

/// Tells the part of a member.
///
/// # Errors
/// The name of the fact that would be needed, with the reason why it is not known.
pub(super) fn part(member: &MemberFacts) -> Result<Part, String> {
    let state = match &member.state {
        Fact::Known(state) => state,
        Fact::Unknown(why) => return Err(format!("the state of {} ({why})", member.name)),
    };
    if state.journal {
        return Ok(Part::Journal);
    }
    let at = match &member.slot {
        Fact::Known(Slot::At(n)) => Some(*n),
        Fact::Known(Slot::None) => None,
        Fact::Known(Slot::Journal) => return Ok(Part::Journal),
        Fact::Unknown(_) if state.faulty && !state.in_sync => None,
        Fact::Unknown(why) => return Err(format!("the slot of {} ({why})", member.name)),
    };
    Ok(match (state.faulty, state.in_sync, at) {
        (true, true, Some(n)) => Part::Unsettled(n),
        (true, _, at) => Part::Faulty(at),
        (false, true, Some(n)) => Part::InSync(n),
        (false, true, None) => {
            return Err(format!(
                "the slot of {} (it is in sync, yet in no slot)",
                member.name
            ));
        }
        (false, false, None) => Part::Spare,
        (false, false, Some(n)) if state.replacement => Part::Replacing(n),
        (false, false, Some(n)) => Part::Rebuilding(n),
    })
}

/// A member with its part.
#[derive(Debug, Clone)]
pub(super) struct Member<'a> {
    /// As observed.
    pub(super) facts: &'a MemberFacts,
    /// What it is to the array.
    pub(super) part: Part,
    /// How an action names it; [`None`] when the device behind it vanished.
    pub(super) target: Option<Target>,
}

impl Member<'_> {
    /// Whether its drive has this identity.
    pub(super) fn is(&self, id: DriveId) -> bool {
        self.target.as_ref().is_some_and(|target| target.id == id)
    }

    /// Whether its `state` has the word `want_replacement`.
    pub(super) fn wants_replacement(&self) -> bool {
        self.facts
            .state
            .is_known_and(|state| state.want_replacement)
    }

    fn has_bad_blocks(&self) -> bool {
        self.facts.bad_blocks.is_known_and(|ranges| *ranges > 0)
    }

    /// How an action names it.
    ///
    /// # Errors
    /// [`Error::LunNotReady`] when the device behind it is not known.
    pub(super) fn target(&self, lun: &str) -> Result<Target, Error> {
        self.target.clone().ok_or_else(|| Error::LunNotReady {
            lun: lun.to_owned(),
            why: format!("the drive behind {} cannot be identified", self.facts.name),
        })
    }
}

/// An array as the planner sees it.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    /// What it was read from.
    pub(super) ctx: Context<'a>,
    /// Members in the order of the facts, those that vanished left out.
    pub(super) members: Vec<Member<'a>>,
    /// Names of members without data whose device is gone, and which the kernel still lists as if it
    /// were there.
    pub(super) vanished: Vec<&'a str>,
    /// Slots wanted.
    pub(super) slots: u32,
    /// The word in `sync_action`.
    pub(super) action: SyncAction,
    /// What really runs or is queued.
    pub(super) running: Option<SyncAction>,
    /// `array_state`.
    pub(super) state: ArrayState,
}

impl<'a> View<'a> {
    /// Reads the facts that every decision needs.
    ///
    /// # Errors
    /// [`Error::LunNotReady`] naming the first needed fact that is unknown.
    pub(super) fn of(ctx: &Context<'a>) -> Result<Self, Error> {
        let array = ctx.array;
        let state = *needed(ctx, &array.state, "array_state")?;
        let slots = *needed(ctx, &array.raid_disks, "raid_disks")?;
        if slots > MAX_SLOTS {
            return Err(not_ready(
                ctx,
                format!("raid_disks reads {slots}, which cannot be"),
            ));
        }
        let Some(sync) = &array.sync else {
            return Err(not_ready(
                ctx,
                "the kernel shows no sync_action for it".to_owned(),
            ));
        };
        let action = *needed(ctx, &sync.action, "sync_action")?;
        needed(ctx, &sync.completed, "sync_completed")?;
        let mut members = Vec::with_capacity(array.members.len());
        let mut vanished = Vec::new();
        for facts in &array.members {
            let part =
                part(facts).map_err(|what| not_ready(ctx, format!("{what} is not known")))?;
            // Device-mapper has no way to drop a leg, and keeps its device.
            if array.dm().is_none() && has_vanished(facts, part) {
                vanished.push(facts.name.as_str());
                continue;
            }
            members.push(Member {
                facts,
                part,
                target: target_of(ctx, facts),
            });
        }
        Ok(Self {
            ctx: *ctx,
            members,
            vanished,
            slots,
            action,
            running: project::syncing(array),
            state,
        })
    }

    /// Kernel name of the array.
    pub(super) fn name(&self) -> String {
        self.ctx.array.name.clone()
    }

    /// `sync_action` reads `frozen`.
    pub(super) fn frozen(&self) -> bool {
        self.action == SyncAction::Frozen
    }

    /// The array waits for its first write.
    pub(super) fn read_auto(&self) -> bool {
        self.state == ArrayState::ReadAuto
    }

    /// Members that carry valid data.
    pub(super) fn in_sync(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members
            .iter()
            .filter(|m| matches!(m.part, Part::InSync(_)))
    }

    /// Slots without a good member.
    pub(super) fn bad_slots(&self) -> Vec<u32> {
        (0..self.slots)
            .filter(|slot| !self.members.iter().any(|m| m.part == Part::InSync(*slot)))
            .collect()
    }

    /// Bad slots that nobody is filling and nobody may still come back to.
    pub(super) fn holes(&self) -> Vec<u32> {
        let taken = |slot: u32| {
            self.members
                .iter()
                .any(|m| m.part.slot() == Some(slot) && !matches!(m.part, Part::Faulty(_)))
        };
        self.bad_slots()
            .into_iter()
            .filter(|slot| !taken(*slot))
            .collect()
    }

    /// Members that fill a slot without a good member.
    pub(super) fn rebuilding(&self) -> Vec<&Member<'a>> {
        let bad = self.bad_slots();
        self.members
            .iter()
            .filter(|m| match m.part {
                Part::Rebuilding(n) | Part::Replacing(n) => bad.contains(&n),
                _ => false,
            })
            .collect()
    }

    /// Members that are filled next to one that still works.
    pub(super) fn replacing(&self) -> Vec<&Member<'a>> {
        let bad = self.bad_slots();
        self.members
            .iter()
            .filter(|m| matches!(m.part, Part::Replacing(n) if !bad.contains(&n)))
            .collect()
    }

    /// Attached, idle spares.
    pub(super) fn spares(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|m| m.part == Part::Spare)
    }

    /// The member whose drive has this identity.
    pub(super) fn member(&self, id: DriveId) -> Option<&Member<'a>> {
        self.members.iter().find(|m| m.is(id))
    }

    /// The in-sync member of a slot.
    pub(super) fn good_in(&self, slot: u32) -> Option<&Member<'a>> {
        self.in_sync().find(|m| m.part == Part::InSync(slot))
    }

    /// Members that fail but still carry data, by slot: flagged, with a failed write, or with
    /// recorded bad blocks. Bad blocks alone count only on a single member: when several have
    /// some, a lost range may be lost on all of them, is then recorded on every drive that is
    /// filled from them too, and replacing would go on until no drive is left.
    pub(super) fn failing(&self) -> Vec<&Member<'a>> {
        let with_bad_blocks = self.in_sync().filter(|m| m.has_bad_blocks()).count();
        let mut found: Vec<_> = self
            .in_sync()
            .filter(|m| {
                m.facts
                    .state
                    .is_known_and(|s| s.want_replacement || s.write_error)
                    || (m.has_bad_blocks() && with_bad_blocks == 1)
            })
            .collect();
        found.sort_by_key(|m| m.part.slot());
        found
    }

    /// Mirrors or parity are not known to be in step.
    ///
    /// # Errors
    /// [`Error::LunNotReady`] when `resync_start` is unknown.
    pub(super) fn dirty(&self) -> Result<bool, Error> {
        match project::is_dirty(self.ctx.array) {
            Some(dirty) => Ok(dirty),
            None => {
                let position = needed(&self.ctx, &self.ctx.array.resync_start, "resync_start")?;
                Ok(matches!(position, Position::At(_)))
            }
        }
    }

    /// A raid10 that is dirty lets no spare in (`drivers/md/raid10.c:raid10_add_disk`): the
    /// resync comes first. Unknown counts as dirty here, which only costs an order of phases.
    pub(super) fn refuses_spares(&self) -> bool {
        self.ctx.array.level == Fact::Known(Level::Raid10)
            && self.ctx.array.resync_start != Fact::Known(Position::Done)
    }
}

/// Whether nothing is behind a member that was to be filled or to stand by.
fn has_vanished(member: &MemberFacts, part: Part) -> bool {
    let without_data = matches!(part, Part::Rebuilding(_) | Part::Replacing(_) | Part::Spare);
    without_data && member.dev.known().is_none()
}

/// How an action names the drive behind a member.
pub(super) fn target_of(ctx: &Context<'_>, member: &MemberFacts) -> Option<Target> {
    let dev = *member.dev.known()?;
    let device = ctx.inventory.devices.get(&dev)?;
    Some(Target {
        dev,
        name: device.name.clone(),
        id: device.id,
    })
}

/// The value of a fact that the decision rests on.
///
/// # Errors
/// [`Error::LunNotReady`] naming the fact.
pub(super) fn needed<'f, T>(
    ctx: &Context<'_>,
    fact: &'f Fact<T>,
    what: &str,
) -> Result<&'f T, Error> {
    match fact {
        Fact::Known(value) => Ok(value),
        Fact::Unknown(why) => Err(not_ready(ctx, format!("{what} is not known ({why})"))),
    }
}

/// [`Error::LunNotReady`] about this LUN.
pub(super) fn not_ready(ctx: &Context<'_>, why: String) -> Error {
    Error::LunNotReady {
        lun: ctx.array.name.clone(),
        why,
    }
}
