//! Whether a call may act on a LUN at all (docs/errors.md has the answers).

use crate::Error;
use crate::error::{ObjectKind, Unfit};
use crate::facts::{ArrayState, Fact, Level, Metadata, SyncAction, SyncCompleted};
use crate::id::{DriveId, OpId};
use crate::model::LunStatus;
use crate::project;

use super::view::{Member, Part, View, needed, not_ready};
use super::{Context, Request};

/// Answers a call before any operation exists: what the LUN cannot do at all, cannot do any more,
/// or cannot do now, in this order. `busy` is our own operation on it: number and what it does.
///
/// # Errors
/// The first condition that matches. A fact that the answer rests on and that is
/// unknown is [`Error::LunNotReady`] naming it.
pub fn check(
    request: &Request,
    ctx: &Context<'_>,
    busy: Option<(OpId, String)>,
) -> Result<(), Error> {
    never_possible(request, ctx)?;
    not_busy(ctx, busy)?;
    writable(ctx)?;
    super::dm::refuse(request, ctx)?;
    let view = View::of(ctx)?;
    settled(&view)?;
    match request {
        Request::Verify => verify_refusal(&view),
        Request::Replace { drive, .. } => replaceable(&view, *drive),
        Request::Recover { spare, .. } => choosable(&view, *spare),
    }
}

/// A drive that already carries the LUN's data cannot be asked to take over. (The planner cannot
/// refuse it: when the operation is done, that is what the drive has become.)
fn choosable(view: &View<'_>, spare: Option<DriveId>) -> Result<(), Error> {
    match spare.and_then(|id| view.member(id)) {
        Some(member) if matches!(member.part, Part::InSync(_)) => Err(Error::DriveRefused {
            drive: format!("/dev/{}", member.facts.name),
            unfit: Unfit::MemberElsewhere { array: view.name() },
        }),
        _ => Ok(()),
    }
}

/// What no waiting changes: a LUN that lund leaves to others, a level without redundancy, and a
/// LUN that has failed. Checked again by the planner before every step.
///
/// # Errors
/// [`Error::NotSupported`], [`Error::NotFaultTolerant`], [`Error::StatusFailed`], and
/// [`Error::LunNotReady`] when the level is unknown.
pub(super) fn never_possible(request: &Request, ctx: &Context<'_>) -> Result<(), Error> {
    let array = ctx.array;
    if let Some(why) = unsupported(ctx) {
        let what = match request {
            Request::Recover { .. } => "recovery",
            Request::Replace { .. } => "replacing a drive",
            Request::Verify => "verification",
        };
        return Err(Error::NotSupported {
            object: array.name.clone(),
            what: what.to_owned(),
            why,
        });
    }
    // An array that is not yet assembled may have no level to judge by.
    offline_without_level(ctx)?;
    let level = needed(ctx, &array.level, "level")?;
    if !ctx.lun.fault_tolerant {
        return Err(Error::NotFaultTolerant {
            lun: array.name.clone(),
            level: level_text(level, ctx.lun.redundancy.members_wanted),
        });
    }
    if ctx.lun.status == LunStatus::Failed || array.state == Fact::Known(ArrayState::Broken) {
        return Err(Error::StatusFailed {
            lun: array.name.clone(),
            why: failure(ctx),
        });
    }
    super::dm::not_lost(ctx)
}

/// Why lund leaves this array to other tools.
pub(super) fn unsupported(ctx: &Context<'_>) -> Option<String> {
    if let Some(why) = &ctx.lun.unsupported {
        return Some(why.clone());
    }
    let array = ctx.array;
    if array.clustered {
        return Some("it is a clustered array, which the cluster recovers".to_owned());
    }
    if array.level.is_known_and(|level| *level == Level::Container) {
        return Some("it is a container of external metadata".to_owned());
    }
    match array.metadata.known() {
        Some(Metadata::External(kind)) => Some(format!(
            "its metadata is external ({kind}), which mdmon owns"
        )),
        _ => None,
    }
}

fn offline_without_level(ctx: &Context<'_>) -> Result<(), Error> {
    let stopped = matches!(
        ctx.array.state.known(),
        Some(ArrayState::Clear | ArrayState::Inactive)
    );
    let nameless = ctx
        .array
        .level
        .is_known_and(|l| *l == Level::Other(String::new()));
    if stopped && nameless {
        writable(ctx)
    } else {
        Ok(())
    }
}

fn level_text(level: &Level, wanted: Option<u32>) -> String {
    let members = match wanted {
        Some(1) => "1 member".to_owned(),
        Some(more) => format!("{more} members"),
        None => "an unknown number of members".to_owned(),
    };
    match level {
        Level::Linear => "linear".to_owned(),
        Level::Raid0 => "raid0".to_owned(),
        Level::Raid1 => format!("raid1 of {members}"),
        Level::Raid4 => format!("raid4 of {members}"),
        Level::Raid5 => format!("raid5 of {members}"),
        Level::Raid6 => format!("raid6 of {members}"),
        Level::Raid10 => format!("raid10 of {members}"),
        Level::Container => "a container".to_owned(),
        Level::Other(name) => name.clone(),
    }
}

/// Which slots are lost, or that the kernel gave the array up.
fn failure(ctx: &Context<'_>) -> String {
    let lost: Vec<String> = match project::good_slots(ctx.array) {
        Some(good) => (0_u32..)
            .zip(good)
            .filter(|(_, g)| !g)
            .map(|(n, _)| n.to_string())
            .collect(),
        None => Vec::new(),
    };
    let broken = ctx.array.state == Fact::Known(ArrayState::Broken)
        || ctx.array.mdstat.as_ref().is_some_and(|entry| entry.broken);
    let mut why = if lost.is_empty() {
        "no data can be read from it reliably".to_owned()
    } else {
        format!(
            "no good member in slot {}, more than its level survives",
            lost.join(", ")
        )
    };
    if broken {
        why = if lost.is_empty() {
            "the kernel has marked it broken until it is stopped".to_owned()
        } else {
            format!(
                "no good member in slot {}, and the kernel has marked it broken",
                lost.join(", ")
            )
        };
    }
    why
}

/// Nothing may run on the array: neither ours nor the kernel's. A frozen array is not busy once
/// its thread has stopped, and a held one is exactly what Recover is for.
fn not_busy(ctx: &Context<'_>, busy: Option<(OpId, String)>) -> Result<(), Error> {
    let lun = ctx.array.name.clone();
    if let Some((op, doing)) = busy {
        let doing = format!("operation {op}: {doing}");
        return Err(Error::AnotherCall {
            lun,
            op: Some(op),
            doing,
        });
    }
    let action = ctx
        .array
        .sync
        .as_ref()
        .and_then(|sync| sync.action.known())
        .copied();
    let running = project::syncing(ctx.array);
    let doing =
        if ctx.array.reshaping.is_known_and(|yes| *yes) || action == Some(SyncAction::Reshape) {
            "it is being reshaped".to_owned()
        } else if let Some(running) = running {
            let queued = if ctx.lun.sync.queued {
                ", queued behind another array"
            } else {
                ""
            };
            format!("the kernel runs a {} on it{queued}", action_text(running))
        } else if action == Some(SyncAction::Frozen) && still_stopping(ctx) {
            "the kernel is still stopping its last recovery".to_owned()
        } else {
            return Ok(());
        };
    Err(Error::AnotherCall {
        lun,
        op: None,
        doing,
    })
}

/// `frozen` is shown at once, even while the old thread hangs in I/O; only `sync_completed` tells
/// that it is gone (docs/kernel-notes.md).
fn still_stopping(ctx: &Context<'_>) -> bool {
    ctx.array
        .sync
        .as_ref()
        .is_some_and(|sync| sync.completed.is_known_and(|c| *c != SyncCompleted::None))
}

const fn action_text(action: SyncAction) -> &'static str {
    match action {
        SyncAction::Idle | SyncAction::Frozen => "sync action",
        SyncAction::Resync => "resync",
        SyncAction::Recover => "recovery",
        SyncAction::Check => "check",
        SyncAction::Repair => "repair",
        SyncAction::Reshape => "reshape",
    }
}

/// The array runs and may be written. `write-pending` and `active-idle` are moments in the life
/// of a healthy array, and read-auto ends with the first write.
pub(super) fn writable(ctx: &Context<'_>) -> Result<(), Error> {
    let lun = ctx.array.name.clone();
    let offline = |state: &str| Error::LunOffline {
        lun: lun.clone(),
        state: state.to_owned(),
        again: Vec::new(),
    };
    match needed(ctx, &ctx.array.state, "array_state")? {
        ArrayState::Clear => Err(offline("clear")),
        ArrayState::Inactive => Err(offline("inactive")),
        ArrayState::Suspended => Err(not_ready(ctx, "its I/O is suspended".to_owned())),
        ArrayState::Readonly => Err(Error::ReadOnly { lun }),
        ArrayState::ReadAuto
        | ArrayState::Clean
        | ArrayState::Active
        | ArrayState::WritePending
        | ArrayState::ActiveIdle
        | ArrayState::Broken => Ok(()),
    }
}

/// No member is between two states.
///
/// # Errors
/// [`Error::LunNotReady`] naming the member whose bad blocks the kernel has yet to record.
pub(super) fn settled(view: &View<'_>) -> Result<(), Error> {
    match view
        .members
        .iter()
        .find(|m| matches!(m.part, Part::Unsettled(_)))
    {
        Some(member) => Err(not_ready(
            &view.ctx,
            format!("bad blocks of {} are not yet recorded", member.facts.name),
        )),
        None => Ok(()),
    }
}

/// Whether a check would be a check. On a LUN that has recovery pending the kernel recovers
/// instead and drops the request (docs/kernel-notes.md), and reading every sector of a degraded LUN
/// only wears out what is left.
///
/// # Errors
/// [`Error::LunNotReady`] with what has to come first.
pub(super) fn verify_refusal(view: &View<'_>) -> Result<(), Error> {
    let bad = view.bad_slots();
    let replacement_pending = !view.replacing().is_empty()
        || (view.spares().next().is_some() && view.in_sync().any(Member::wants_replacement));
    let why = if !bad.is_empty() {
        format!(
            "{} of its {} members are missing, recover it first",
            bad.len(),
            view.slots
        )
    } else if view.ctx.lun.held {
        "its recovery is held, recover or release it first".to_owned()
    } else if replacement_pending {
        "a member waits to be replaced, recover it first".to_owned()
    } else if view.dirty()? {
        "its copies are not in step, recover it first".to_owned()
    } else {
        return Ok(());
    };
    Err(not_ready(&view.ctx, why))
}

/// Whether `drive` is, or was, a member that can be replaced.
///
/// # Errors
/// [`Error::InvalidArgument`] or [`Error::ObjectNotFound`] when it is none, and
/// [`Error::LunNotReady`] when another member is missing: replacing a good member reads all
/// others, so what is missing has to be rebuilt first.
pub(super) fn replaceable(view: &View<'_>, drive: DriveId) -> Result<(), Error> {
    let invalid = |name: &str, why: &str| Error::InvalidArgument {
        what: format!("/dev/{name}"),
        why: why.to_owned(),
    };
    let degraded = !view.bad_slots().is_empty();
    if let Some(member) = view.member(drive) {
        let name = &member.facts.name;
        return match member.part {
            Part::InSync(_) if degraded => Err(not_ready(
                &view.ctx,
                format!("other members than {name} are missing, recover it first"),
            )),
            Part::InSync(_) | Part::Faulty(_) => Ok(()),
            Part::Unsettled(_) => settled(view),
            Part::Spare => Err(invalid(name, "it is an idle spare and holds no data")),
            Part::Rebuilding(_) | Part::Replacing(_) => Err(invalid(
                name,
                "it is being filled and holds no complete data yet",
            )),
            Part::Journal => Err(invalid(name, "it is the write journal")),
        };
    }
    let inventory = view.ctx.inventory;
    match inventory.devices.values().find(|device| device.id == drive) {
        Some(_) if degraded && was_member(view, drive) => Ok(()),
        Some(device) => Err(invalid(
            &device.name,
            &format!("it is no member of {}", view.name()),
        )),
        // It is unplugged: the empty slot may well be its own.
        None if degraded => Ok(()),
        None => Err(Error::ObjectNotFound {
            kind: ObjectKind::Drive,
            name: drive.to_string(),
            known: view
                .members
                .iter()
                .map(|m| format!("/dev/{}", m.facts.name))
                .collect(),
        }),
    }
}

/// Whether the drive bears this array's superblock.
fn was_member(view: &View<'_>, drive: DriveId) -> bool {
    view.ctx
        .inventory
        .devices
        .values()
        .filter(|device| device.id == drive)
        .any(|device| super::fit::own_superblock(&view.ctx, device.dev).is_some())
}
