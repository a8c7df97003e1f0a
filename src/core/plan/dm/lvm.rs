//! Volumes of LVM: everything is done by LVM's own tools, and only what they do safely.

use std::collections::BTreeSet;

use super::super::draft::Draft;
use super::super::mend::nobody;
use super::super::spare::{Candidate, Method, Need, Source, judge_spares, offered, rank};
use super::super::view::{Member, Part, View, needed, not_ready};
use super::super::{Context, Plan};
use super::{half_loaded, revive};
use crate::Error;
use crate::action::{Action, SyncWord, Target};
use crate::error::Unfit;
use crate::facts::{
    DeviceFacts, DmOwner, DmRaidFacts, Fact, LogicalVolume, PhysicalVolume, VolumeGroup,
};
use crate::id::DriveId;
use crate::model::Phase;
use crate::project;

/// What LVM takes of a new physical volume for itself, bytes: its label and metadata area come before
/// the first extent, which begins at 1 MiB (`pvcreate`, `default_data_alignment`).
const PV_OVERHEAD_BYTES: u64 = 1 << 20;
/// Word of `raid_fault_policy` with which dmeventd replaces failed legs itself.
const ALLOCATE: &str = "allocate";

/// Stays out of the way of dmeventd, and of a table that waits for its resume.
pub(super) fn refuse(ctx: &Context<'_>, set: &DmRaidFacts) -> Result<(), Error> {
    half_loaded(ctx, set)?;
    let DmOwner::Lvm { vg, lv } = &set.owner else {
        return Ok(());
    };
    let Some(Fact::Known(group)) = ctx.inventory.groups.get(vg) else {
        return Ok(());
    };
    let monitored = group
        .logical
        .iter()
        .any(|volume| volume.name == *lv && volume.monitored);
    if project::is_degraded(ctx.array) && monitored && group.fault_policy == ALLOCATE {
        return Err(Error::NotSupported {
            object: ctx.array.name.clone(),
            what: "recovery".to_owned(),
            why: format!(
                "dmeventd replaces failed legs of {vg}/{lv} by itself (raid_fault_policy is \"allocate\" in \
                 lvm.conf), and two must not do it at once; set it to \"warn\" to have lund do it"
            ),
        });
    }
    Ok(())
}

/// Whether LVM has no device for a leg of this volume any more.
pub(super) fn is_gone(ctx: &Context<'_>, vg: &str, lv: &str, slot: u32) -> bool {
    let group = ctx.inventory.groups.get(vg).and_then(Fact::known);
    group.is_some_and(|group| group.leg(lv, slot).is_some_and(|leg| !present(group, leg)))
}

/// Continues what was begun, takes a leg back, or has LVM replace what is lost.
pub(super) fn mend(
    view: &View<'_>,
    vg: &str,
    lv: &str,
    chosen: Option<DriveId>,
) -> Result<Plan, Error> {
    let filling = view.rebuilding();
    let holes = view.holes();
    if view.frozen() && !filling.is_empty() {
        return thaw(view, &filling);
    }
    let nothing_known = Fact::Unknown("LVM was not asked yet".to_owned());
    let asked = view.ctx.inventory.groups.get(vg).unwrap_or(&nothing_known);
    let what = format!("what LVM says of the volume group {vg}");
    let group = needed(&view.ctx, asked, &what)?;
    if let Some(member) = revivable(view, group, lv, &filling) {
        return revive(view, member, "the device of a lost leg is there again");
    }
    if holes.is_empty() {
        return Err(not_ready(
            &view.ctx,
            "a leg is not in sync, and LVM has not taken it up again".to_owned(),
        ));
    }
    if view.dirty()? {
        return Ok(in_step(view));
    }
    replace(view, group, lv, &holes, chosen)
}

/// LVM replaces no leg while copies or parity are out of step, and refreshes no volume that misses a leg:
/// what takes the rest up again is its rate, given anew.
fn in_step(view: &View<'_>) -> Plan {
    let rule = "LVM replaces the lost legs once the others are in step";
    let mut draft = Draft::new(view, Phase::Resync, rule);
    draft.start(SyncWord::Recover, "its recovery rate is given back");
    draft.finish(1)
}

/// Legs are being filled, and somebody has slowed that to a standstill.
fn thaw(view: &View<'_>, filling: &[&Member<'_>]) -> Result<Plan, Error> {
    let mut draft = Draft::new(
        view,
        Phase::Rebuild,
        "a held recovery continues from its checkpoint",
    );
    draft.start(SyncWord::Recover, "its recovery rate is given back");
    for member in filling {
        draft.target(member.target(&view.name())?);
    }
    Ok(draft.finish_targets())
}

/// A leg whose physical volumes are all there, and that `lvchange --refresh` has not been tried on.
fn revivable<'v, 'a>(
    view: &'v View<'a>,
    group: &VolumeGroup,
    lv: &str,
    filling: &[&'v Member<'a>],
) -> Option<&'v Member<'a>> {
    let untried = |member: &&&Member<'_>| {
        let drive = member.target.as_ref().map(|target| target.id);
        drive.is_some_and(|id| !view.ctx.tried.contains(&id))
    };
    let lost = view.members.iter().filter(|member| match member.part {
        Part::Faulty(Some(slot)) => group.leg(lv, slot).is_some_and(|leg| present(group, leg)),
        _ => false,
    });
    lost.collect::<Vec<_>>()
        .iter()
        .find(untried)
        .or_else(|| filling.iter().find(untried))
        .copied()
}

/// Whether LVM has devices for everything that a leg lies on.
fn present(group: &VolumeGroup, leg: &LogicalVolume) -> bool {
    !leg.nodes.is_empty()
        && leg.nodes.iter().all(|node| {
            group
                .physical(node)
                .is_some_and(|physical| !physical.missing)
        })
}

fn replace(
    view: &View<'_>,
    group: &VolumeGroup,
    lv: &str,
    holes: &[u32],
    chosen: Option<DriveId>,
) -> Result<Plan, Error> {
    let need_bytes = holes
        .iter()
        .map(|slot| leg_bytes(view, group, lv, *slot))
        .max()
        .unwrap_or(0);
    let mut candidates = volumes(view, group, lv, need_bytes, chosen);
    let inside: Vec<Target> = candidates
        .iter()
        .filter(|candidate| candidate.fits())
        .map(|candidate| candidate.drive.clone())
        .take(holes.len())
        .collect();
    let pooled = match view.ctx.extend_groups {
        true => pool(view, group, need_bytes, holes, chosen),
        false => Vec::new(),
    };
    let extend = pooled
        .iter()
        .find(|candidate| candidate.fits() && inside.len() < holes.len())
        .cloned();
    candidates.extend(pooled);
    let fit = candidates
        .iter()
        .filter(|candidate| candidate.fits())
        .count();
    if fit == 0 {
        let done = has_taken_over(view, group, lv, chosen);
        return nobody(view, chosen, done, holes.len(), candidates);
    }
    let mut draft = Draft::new(view, Phase::Rebuild, "LVM replaces the lost legs")
        .candidates(candidates)
        .leaves_missing(holes.len().saturating_sub(fit));
    if let Some(candidate) = extend {
        extend_group(view, group, &candidate, &mut draft);
    } else {
        for drive in &inside {
            draft.taken(drive.id);
        }
        draft.step(
            Action::RepairVolume {
                array: view.name(),
                onto: inside,
            },
            "their physical volumes are gone",
        );
    }
    Ok(draft.finish(holes.len().min(fit)))
}

/// Whether a leg in sync lies on the drive that was asked for.
fn has_taken_over(view: &View<'_>, group: &VolumeGroup, lv: &str, chosen: Option<DriveId>) -> bool {
    let devices = &view.ctx.inventory.devices;
    let drive = |node: &String| Some(devices.get(&group.physical(node)?.dev?)?.id);
    view.in_sync()
        .filter_map(|member| group.leg(lv, member.part.slot()?))
        .flat_map(|leg| &leg.nodes)
        .any(|node| chosen.is_some() && drive(node) == chosen)
}

/// A drive of the pool becomes a physical volume; what follows is planned when it is one.
fn extend_group(
    view: &View<'_>,
    group: &VolumeGroup,
    candidate: &Candidate,
    draft: &mut Draft<'_, '_>,
) {
    let drive = candidate.drive.clone();
    draft.taken(drive.id);
    if candidate.method == Method::WipeAndAdd {
        draft.step(
            Action::Wipe {
                drive: drive.clone(),
                former: None,
            },
            "its owner agreed to lose what is on it",
        );
    }
    draft.step(
        Action::ExtendGroup {
            array: view.name(),
            group: group.name.clone(),
            drive,
        },
        "the volume group has no room for a new leg, and lund may extend it",
    );
}

/// What a new leg takes: its data and its metadata.
fn leg_bytes(view: &View<'_>, group: &VolumeGroup, lv: &str, slot: u32) -> u64 {
    let size = |kind: &str| {
        let name = format!("{lv}_{kind}_{slot}");
        group
            .logical
            .iter()
            .find(|part| part.name == name)
            .map(|part| part.size_bytes)
    };
    let component = view
        .ctx
        .array
        .component_bytes
        .known()
        .copied()
        .unwrap_or(u64::MAX);
    let whole = |bytes: u64| {
        bytes
            .div_ceil(group.extent_bytes.max(1))
            .saturating_mul(group.extent_bytes.max(1))
    };
    let data = size("rimage").unwrap_or_else(|| whole(component));
    data.saturating_add(size("rmeta").unwrap_or(group.extent_bytes))
}

/// The physical volumes of the group, judged, the best first.
fn volumes(
    view: &View<'_>,
    group: &VolumeGroup,
    lv: &str,
    need_bytes: u64,
    chosen: Option<DriveId>,
) -> Vec<Candidate> {
    let serving: BTreeSet<&String> = view
        .in_sync()
        .chain(view.rebuilding())
        .filter_map(|member| group.leg(lv, member.part.slot()?))
        .flat_map(|leg| &leg.nodes)
        .collect();
    let devices = &view.ctx.inventory.devices;
    let survivors: Vec<&DeviceFacts> = serving
        .iter()
        .filter_map(|node| devices.get(&group.physical(node)?.dev?))
        .collect();
    let mut found: Vec<Candidate> = group
        .physical
        .iter()
        .map(|physical| {
            let device = physical.dev.and_then(|dev| devices.get(&dev));
            let unfit = unfit(view, physical, &serving, device, need_bytes, chosen);
            let free = physical.free_bytes;
            // Nodes of what is gone are all called `[unknown]`.
            let lost = format!("physical volume {}", physical.uuid);
            let name = device.map_or(lost.as_str(), |_| &physical.node);
            let reason = format!("it has {free} bytes free in {}", group.name);
            offered(device, (name, free), Source::VolumeGroup, unfit, reason)
        })
        .collect();
    found.sort_by_cached_key(|candidate| {
        let device = devices.get(&candidate.drive.dev);
        let far = device.map(|device| rank(device, &survivors, None));
        (!candidate.fits(), far, candidate.size_bytes)
    });
    found
}

/// Why a physical volume cannot take a new leg.
fn unfit(
    view: &View<'_>,
    physical: &PhysicalVolume,
    serving: &BTreeSet<&String>,
    device: Option<&DeviceFacts>,
    need_bytes: u64,
    chosen: Option<DriveId>,
) -> Option<Unfit> {
    let Some(device) = device.filter(|_| !physical.missing) else {
        return Some(Unfit::NotPresent);
    };
    if serving.contains(&physical.node) {
        return Some(Unfit::MemberElsewhere { array: view.name() });
    }
    if chosen.is_some_and(|id| id != device.id) {
        return Some(Unfit::NotTheChosen);
    }
    if view.ctx.tried.contains(&device.id) {
        return Some(Unfit::AlreadyTried);
    }
    if !physical.allocatable {
        return Some(Unfit::NotAllocatable);
    }
    let have_bytes = physical.free_bytes;
    (have_bytes < need_bytes).then_some(Unfit::TooSmall {
        have_bytes,
        need_bytes,
    })
}

/// Drives of the pool that could become physical volumes.
fn pool(
    view: &View<'_>,
    group: &VolumeGroup,
    need_bytes: u64,
    holes: &[u32],
    chosen: Option<DriveId>,
) -> Vec<Candidate> {
    let need = Need {
        holes: holes.to_vec(),
        chosen,
        ..Need::default()
    };
    let mut found = judge_spares(&view.ctx, &need);
    // What is a physical volume of the group already is judged as one.
    let devs: BTreeSet<_> = group
        .physical
        .iter()
        .filter_map(|physical| physical.dev)
        .collect();
    found.retain(|candidate| !devs.contains(&candidate.drive.dev));
    for candidate in found.iter_mut().filter(|candidate| candidate.fits()) {
        let room = candidate.size_bytes.saturating_sub(PV_OVERHEAD_BYTES);
        let have_bytes = room - room % group.extent_bytes.max(1);
        if have_bytes < need_bytes {
            candidate.reject(Unfit::TooSmall {
                have_bytes,
                need_bytes,
            });
        }
    }
    found
}
