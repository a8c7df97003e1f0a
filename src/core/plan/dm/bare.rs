//! Raid sets made with dmsetup: a leg that is there again is taken back, a lost one is laid on a spare.
//! Who made the set has to make it with other tables from then on; the LUN shows them.

use std::collections::BTreeSet;

use super::super::draft::Draft;
use super::super::mend::{has_taken_over, nobody};
use super::super::spare::{Candidate, Method, Need, judge_spares};
use super::super::view::{Member, Part, View, not_ready};
use super::super::{Context, Plan};
use super::{half_loaded, revive};
use crate::Error;
use crate::action::{Action, SyncWord, Target};
use crate::error::Unfit;
use crate::facts::{
    ArrayFacts, DmRaidFacts, Fact, IdentityKind, Inventory, LegRoom, RaidTable, Slot,
};
use crate::id::{DevNo, DriveId};
use crate::model::Phase;

/// Refuses sets of which a table loaded anew would lose something.
pub(super) fn refuse(ctx: &Context<'_>, set: &DmRaidFacts) -> Result<(), Error> {
    if !half_loaded_by_us(ctx, set) {
        half_loaded(ctx, set)?;
    }
    let why = match &set.table {
        Fact::Unknown(why) => format!("its table is not understood ({why})"),
        Fact::Known(table) => match no_reload(table) {
            Some(why) => why.to_owned(),
            None => return Ok(()),
        },
    };
    Err(Error::NotSupported {
        object: ctx.array.name.clone(),
        what: "changing a table like this one".to_owned(),
        why,
    })
}

/// Why a table like this one is not loaded anew.
fn no_reload(table: &RaidTable) -> Option<&'static str> {
    if table.journal_dev.is_some() {
        return Some("it has a journal device");
    }
    if table.delta_disks.is_some() || table.data_offset.is_some() {
        return Some("it is being reshaped, or was");
    }
    let forgets = |leg: &crate::facts::RaidLeg| leg.data.is_some() && leg.meta.is_none();
    table.legs.iter().any(forgets).then_some(
        "a leg has no metadata device, so a table loaded anew would not know what is in step",
    )
}

/// A second table is what this operation was about to resume when the daemon died.
fn half_loaded_by_us(ctx: &Context<'_>, set: &DmRaidFacts) -> bool {
    set.inactive_table && ctx.op.is_some() && !ctx.added.is_empty()
}

/// What was laid and is in no table.
fn is_littered(set: &DmRaidFacts) -> bool {
    set.laid.iter().any(|laid| !laid.in_use)
}

/// Continues what was begun, takes a leg back, or lays a lost one on a spare.
pub(super) fn mend(
    view: &View<'_>,
    set: &DmRaidFacts,
    chosen: Option<DriveId>,
) -> Result<Plan, Error> {
    if set.inactive_table || is_littered(set) {
        return Ok(sweep(view));
    }
    let filling = view.rebuilding();
    let holes = view.holes();
    if view.frozen() && !filling.is_empty() {
        return resume(
            view,
            &filling,
            "a held recovery continues from its checkpoint",
        );
    }
    if let Some(member) = revivable(view, set) {
        return revive(
            view,
            member,
            "the superblock of a lost leg can be read again",
        );
    }
    if !filling.is_empty() {
        return resume(
            view,
            &filling,
            "an interrupted recovery continues from its checkpoint",
        );
    }
    match holes.first() {
        Some(slot) => replace(view, set, &holes, *slot, chosen),
        None => Err(not_ready(
            &view.ctx,
            "a leg is not in sync, and nothing of it can be filled".to_owned(),
        )),
    }
}

/// What is left to do when every leg is in sync.
pub(super) fn tidy(view: &View<'_>, set: &DmRaidFacts) -> Option<Plan> {
    let stale = view.ctx.retiring.difference(view.ctx.tried).find_map(|id| {
        let mut devices = view.ctx.inventory.devices.values();
        devices.find(|device| device.id == *id && device.holders.is_empty())
    });
    if let Some(device) = stale {
        let rule = "the lost leg was replaced, and its superblock says that it is in sync";
        let mut draft = Draft::new(view, Phase::Rebuild, rule);
        let drive = Target {
            dev: device.dev,
            name: device.name.clone(),
            id: device.id,
        };
        let array = view.name();
        draft.step(
            Action::ForgetLeg { array, drive },
            "the old table would have the kernel take stale data for good",
        );
        return Some(draft.finish(0));
    }
    // A second table is this operation's own: anybody else's was refused before.
    let left = is_littered(set) || set.has_idle_rebuild() || set.inactive_table;
    left.then(|| sweep(view))
}

fn sweep(view: &View<'_>) -> Plan {
    let rule = "something is left of the laying of a leg";
    let mut draft = Draft::new(view, Phase::Rebuild, rule);
    let array = view.name();
    draft.step(Action::DropTable { array }, "nothing needs it");
    draft.finish(0)
}

/// Legs are half filled, and nothing fills them. The status line may call such a leg in sync.
fn resume(view: &View<'_>, filling: &[&Member<'_>], rule: &str) -> Result<Plan, Error> {
    let mut draft = Draft::new(view, Phase::Rebuild, rule);
    draft.start(SyncWord::Recover, "the recovery continues where it stopped");
    for member in filling {
        draft.target(member.target(&view.name())?);
    }
    Ok(draft.finish_targets())
}

/// A leg that failed, whose device is there and whose superblock can be read.
fn revivable<'v, 'a>(view: &'v View<'a>, set: &DmRaidFacts) -> Option<&'v Member<'a>> {
    view.members.iter().find(|member| {
        let Part::Faulty(Some(slot)) = member.part else {
            return false;
        };
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        let written = matches!(set.superblocks.get(index), Some(Fact::Known(Some(_))));
        let drive = member.target.as_ref().map(|target| target.id);
        written && drive.is_some_and(|id| !view.ctx.tried.contains(&id))
    })
}

/// One leg after the other: each is a table of its own.
fn replace(
    view: &View<'_>,
    set: &DmRaidFacts,
    holes: &[u32],
    slot: u32,
    chosen: Option<DriveId>,
) -> Result<Plan, Error> {
    let need = Need {
        holes: holes.to_vec(),
        chosen,
        ..Need::default()
    };
    let mut candidates = judge_spares(&view.ctx, &need);
    let need_bytes = room(view, set)?.bytes();
    for candidate in candidates.iter_mut().filter(|candidate| candidate.fits()) {
        let have_bytes = candidate.size_bytes;
        if have_bytes < need_bytes {
            candidate.reject(Unfit::TooSmall {
                have_bytes,
                need_bytes,
            });
        }
    }
    let fit: Vec<Candidate> = candidates.iter().filter(|c| c.fits()).cloned().collect();
    let Some(pick) = fit.first() else {
        let done = has_taken_over(view, chosen);
        return nobody(view, chosen, done, holes.len(), candidates);
    };
    let rule = "the spare that fits best takes over a lost leg";
    let mut draft = Draft::new(view, Phase::Rebuild, rule)
        .candidates(candidates)
        .leaves_missing(holes.len().saturating_sub(fit.len()));
    if pick.method == Method::WipeAndAdd {
        let drive = pick.drive.clone();
        draft.step(
            Action::Wipe {
                drive,
                former: None,
            },
            "its owner agreed to lose what is on it",
        );
    }
    let (array, drive) = (view.name(), pick.drive.clone());
    draft.step(
        Action::ReplaceLeg { array, slot, drive },
        "metadata and data of the leg are laid on it, and it is filled",
    );
    draft.taken(pick.drive.id);
    draft.target(pick.drive.clone());
    Ok(draft.finish_targets())
}

/// Devices that bear the metadata of legs which have failed: each is to be forgotten when another leg is in
/// sync in its place. A failed leg may leave the table before that.
pub(super) fn outlived(
    inventory: &Inventory,
    array: &ArrayFacts,
    set: &DmRaidFacts,
) -> Vec<DriveId> {
    let legs = set.table.known().map_or(&[][..], |table| &table.legs);
    let failed = |slot: u32| {
        array.members.iter().any(|member| {
            let here = member.slot == Fact::Known(Slot::At(slot));
            here && member.state.is_known_and(|state| state.faulty)
        })
    };
    (0_u32..)
        .zip(legs)
        .filter(|(slot, _)| failed(*slot))
        .filter_map(|(_, leg)| inventory.devices.get(&leg.meta?))
        // A mere number may be another device's tomorrow, and this is written to.
        .filter(|device| device.id_kind != IdentityKind::DevNo)
        .map(|device| device.id)
        .collect()
}

/// What a leg takes of a drive. The metadata devices that are there tell how large one is.
fn room(view: &View<'_>, set: &DmRaidFacts) -> Result<LegRoom, Error> {
    let devices = &view.ctx.inventory.devices;
    let size = |dev: DevNo| devices.get(&dev).map(|device| device.size_bytes);
    let legs = set.table.known().map_or(&[][..], |table| &table.legs);
    let metas: BTreeSet<u64> = legs.iter().filter_map(|leg| size(leg.meta?)).collect();
    match (metas.last(), view.ctx.array.component_bytes.known()) {
        (Some(meta), Some(data)) => Ok(LegRoom::new(*meta, *data)),
        _ => Err(not_ready(
            &view.ctx,
            "how much a leg takes of a drive is not known".to_owned(),
        )),
    }
}

pub(super) fn refuse_release(array: &ArrayFacts) -> Option<Error> {
    Some(Error::NotSupported {
        object: array.name.clone(),
        what: "giving its spare back".to_owned(),
        why: "the spare is a leg of the set by now; without releasing it the recovery can be held"
            .to_owned(),
    })
}
