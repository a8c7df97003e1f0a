//! From the kernel's facts to the VDS model: here the two vocabularies meet.
//!
//! Nothing is remembered but what the caller hands in; a fact that is not known stays unknown and
//! is listed in [`Lun::unknown`].

mod drives;
mod health;
#[cfg(test)]
mod rules;
mod slots;
#[cfg(test)]
mod tests;

use crate::facts::{
    ArrayFacts, ArrayState, DmOwner, Fact, Inventory, LaidDevice, Level, MdstatProgress, Metadata,
    SyncAction,
};
use crate::id::{DevNo, Wall};
use crate::model::PoolEntry;
use crate::model::{Driver, Lun, LunStatus, LunType, ManagedBy, Redundancy, SyncView};

pub use drives::pool_drive;
pub use slots::{
    errors, good_slots, half_filled_source, is_degraded, is_delayed, is_dirty, is_failing,
    is_running, lun_id, may_differ, missing_slots, syncing,
};

/// What the projection needs to know beyond the facts.
#[derive(Debug, Clone, Copy)]
pub struct ProjectContext<'a> {
    /// Recovery of this LUN is held by an administrator's cancel.
    pub held: bool,
    /// `sRebuildPriority` as it was asked for.
    pub rebuild_priority: u8,
    /// The spare pool.
    pub pool: &'a [PoolEntry],
    /// When the facts were read.
    pub observed_at: Wall,
    /// The same LUN as it was shown before, for what cannot be read now.
    pub last_known: Option<&'a Lun>,
}

/// The LUN that an array is. [`Lun::operation`] is left empty: the machine fills it in.
#[must_use]
pub fn project(inventory: &Inventory, array: &ArrayFacts, ctx: &ProjectContext<'_>) -> Lun {
    let view = health::View::new(array, ctx.last_known);
    let (status, health) = view.judge();
    let id = match (&array.uuid, ctx.last_known) {
        // An unreadable UUID must not give the LUN another identity for a moment.
        (Fact::Unknown(_), Some(known)) if known.name == array.name => known.id,
        _ => lun_id(array),
    };
    let failed = status == LunStatus::Failed;
    let redundancy = Redundancy {
        members_wanted: array.raid_disks.known().copied(),
        members_in_sync: view.good.as_deref().map(count),
        losses_survivable: if failed { Some(0) } else { view.survivable },
        // Where all is lost there is no next loss.
        fatal_next: if failed {
            Vec::new()
        } else {
            fatal_devices(array, &view.fatal_next())
        },
    };
    let mut lun = Lun {
        id,
        name: array.name.clone(),
        device: drives::node(&array.name),
        links: links(array),
        driver: array.dm().map_or(Driver::Md, |_| Driver::DmRaid),
        managed_by: managed_by(array),
        level: level_text(&array.level).to_owned(),
        kind: lun_type(array),
        size_bytes: array.size_bytes.known().copied(),
        status,
        health,
        transition: view.transition(),
        fault_tolerant: view.fault_tolerant.unwrap_or(false),
        redundancy,
        held: ctx.held,
        rebuild_priority: ctx.rebuild_priority,
        fast_crash_recovery: array.bitmap.known().copied(),
        auto_read_only: array.state == Fact::Known(ArrayState::ReadAuto)
            || array
                .mdstat
                .as_ref()
                .is_some_and(|mdstat| mdstat.auto_read_only),
        read_only: array.state == Fact::Known(ArrayState::Readonly)
            || array.mdstat.as_ref().is_some_and(|mdstat| mdstat.read_only),
        sync: sync_view(array, ctx.held),
        operation: None,
        plexes: Vec::new(),
        drives: drives::drives(inventory, array, id, ctx.pool, ctx.last_known),
        unknown: unknown(array),
        unsupported: unsupported(array),
        recreate: recreate(inventory, array),
        observed_at_ms: ctx.observed_at,
    };
    lun.plexes = drives::plexes(array, &lun);
    lun
}

/// Other names of the node. LVM's are links of its own, and the kernel name is always there.
fn links(array: &ArrayFacts) -> Vec<String> {
    let md = array.md_names.iter().map(|name| format!("/dev/md/{name}"));
    let lvm = array.dm().and_then(|set| match &set.owner {
        DmOwner::Lvm { vg, lv } => Some(format!("/dev/{vg}/{lv}")),
        DmOwner::Bare => None,
    });
    let kernel = array.dm().map(|set| drives::node(&set.kernel_name));
    md.chain(lvm).chain(kernel).collect()
}

fn managed_by(array: &ArrayFacts) -> ManagedBy {
    match array.dm().map(|set| &set.owner) {
        None => ManagedBy::Mdadm,
        Some(DmOwner::Lvm { .. }) => ManagedBy::Lvm,
        Some(DmOwner::Bare) => ManagedBy::Dmsetup,
    }
}

/// How many are true.
fn count(slots: &[bool]) -> u32 {
    u32::try_from(slots.iter().filter(|good| **good).count()).unwrap_or(u32::MAX)
}

/// Nodes of the only good occupants of these slots: a slot with two of them (a member and its
/// finished replacement) bears the loss of either.
fn fatal_devices(array: &ArrayFacts, slots: &[u32]) -> Vec<String> {
    slots
        .iter()
        .filter_map(|slot| {
            let mut good = slots::occupants(array, *slot)
                .filter(|member| member.state.is_known_and(slots::is_good));
            let only = good.next()?;
            good.next().is_none().then(|| drives::node(&only.name))
        })
        .collect()
}

/// The kernel's word for the level; `unknown` where it has none.
fn level_text(level: &Fact<Level>) -> &str {
    match level {
        Fact::Known(Level::Linear) => "linear",
        Fact::Known(Level::Raid0) => "raid0",
        Fact::Known(Level::Raid1) => "raid1",
        Fact::Known(Level::Raid4) => "raid4",
        Fact::Known(Level::Raid5) => "raid5",
        Fact::Known(Level::Raid6) => "raid6",
        Fact::Known(Level::Raid10) => "raid10",
        Fact::Known(Level::Container) => "container",
        Fact::Known(Level::Other(word)) if !word.is_empty() => word,
        Fact::Known(Level::Other(_)) | Fact::Unknown(_) => "unknown",
    }
}

fn lun_type(array: &ArrayFacts) -> LunType {
    match &array.level {
        Fact::Known(Level::Linear) => LunType::Span,
        Fact::Known(Level::Raid0) => LunType::Stripe,
        Fact::Known(Level::Raid1) if array.raid_disks == Fact::Known(1) => LunType::Simple,
        Fact::Known(Level::Raid1) => LunType::Mirror,
        Fact::Known(Level::Raid4) => LunType::Raid4,
        Fact::Known(Level::Raid5) => LunType::Raid5,
        Fact::Known(Level::Raid6) => LunType::Raid6,
        Fact::Known(Level::Raid10) => LunType::Raid10,
        Fact::Known(Level::Container | Level::Other(_)) | Fact::Unknown(_) => LunType::Unknown,
    }
}

fn sync_view(array: &ArrayFacts, held: bool) -> SyncView {
    let action = match array.sync.as_ref().map(|sync| &sync.action) {
        None => "none",
        Some(Fact::Unknown(_)) => "unknown",
        Some(Fact::Known(action)) => action_text(*action),
    };
    let queued_reason = queued_reason(array, held);
    SyncView {
        action: action.to_owned(),
        queued: queued_reason.is_some(),
        queued_reason,
        mismatch_sectors: array
            .sync
            .as_ref()
            .and_then(|sync| sync.mismatch_sectors.known().copied()),
    }
}

const fn action_text(action: SyncAction) -> &'static str {
    match action {
        SyncAction::Idle => "idle",
        SyncAction::Frozen => "frozen",
        SyncAction::Resync => "resync",
        SyncAction::Recover => "recover",
        SyncAction::Check => "check",
        SyncAction::Repair => "repair",
        SyncAction::Reshape => "reshape",
    }
}

/// Why the kernel waits with work that it wants to do.
fn queued_reason(array: &ArrayFacts, held: bool) -> Option<String> {
    if is_delayed(array) {
        return Some("it waits until another array on the same disks is done".into());
    }
    let mdstat = array.mdstat.as_ref()?;
    if mdstat.progress != MdstatProgress::Pending {
        return None;
    }
    let frozen = array
        .sync
        .as_ref()
        .is_some_and(|sync| sync.action == Fact::Known(SyncAction::Frozen));
    Some(match (mdstat.auto_read_only, mdstat.read_only) {
        (true, _) => "the array is auto-read-only: it waits for the first write".into(),
        (_, true) => "the array is read-only".into(),
        _ if held => "recovery is held".into(),
        _ if frozen => "somebody has frozen the array".into(),
        _ => "the kernel has not begun yet".into(),
    })
}

/// Why recovery is left alone altogether.
fn unsupported(array: &ArrayFacts) -> Option<String> {
    if array.level == Fact::Known(Level::Container) {
        return Some("a container of external metadata is not an array itself".into());
    }
    if let Fact::Known(Metadata::External(kind)) = &array.metadata {
        return Some(format!(
            "external metadata ({kind}) belongs to its own manager"
        ));
    }
    array
        .clustered
        .then(|| "a clustered array is managed by all of its nodes together".into())
}

/// How a set is made again of which a leg is a device that lund has laid: that, and the set's table as it may
/// be loaded again. Numbers change with the next start of the host, so that devices are called by name.
fn recreate(inventory: &Inventory, array: &ArrayFacts) -> Vec<String> {
    let Some((set, table)) = array.dm().and_then(|set| Some((set, set.table.known()?))) else {
        return Vec::new();
    };
    let in_table = |laid: &&LaidDevice| {
        table
            .legs
            .iter()
            .any(|leg| [leg.meta, leg.data].contains(&Some(laid.dev)))
    };
    let laid: Vec<&LaidDevice> = set.laid.iter().filter(in_table).collect();
    if laid.is_empty() {
        return Vec::new();
    }
    let called = |dev: DevNo| match laid.iter().find(|laid| laid.dev == dev) {
        Some(laid) => format!("/dev/mapper/{}", laid.name),
        None => drives::lasting_node(inventory, dev),
    };
    let mut commands: Vec<String> = laid
        .iter()
        .map(|laid| laid.command(&drives::lasting_node(inventory, laid.on)))
        .collect();
    let (name, start, len) = (&set.name, table.start, table.len);
    let uuid = set
        .uuid
        .as_ref()
        .map_or_else(String::new, |uuid| format!(" --uuid {uuid}"));
    let params = table.reloaded().params(&called);
    commands.push(format!(
        "dmsetup create {name}{uuid} --table '{start} {len} raid {params}'"
    ));
    commands
}

/// Every fact about the array and its members that could not be read, with the reason.
fn unknown(array: &ArrayFacts) -> Vec<String> {
    let mut list = Vec::new();
    note(&mut list, "uuid", &array.uuid);
    note(&mut list, "level", &array.level);
    note(&mut list, "layout", &array.layout);
    note(&mut list, "raid_disks", &array.raid_disks);
    note(&mut list, "chunk_size", &array.chunk_bytes);
    note(&mut list, "component_size", &array.component_bytes);
    note(&mut list, "size", &array.size_bytes);
    note(&mut list, "logical_block_size", &array.logical_block_bytes);
    note(&mut list, "metadata_version", &array.metadata);
    note(&mut list, "array_state", &array.state);
    note(&mut list, "resync_start", &array.resync_start);
    note(&mut list, "reshape_position", &array.reshaping);
    note(&mut list, "bitmap", &array.bitmap);
    if let Some(sync) = &array.sync {
        note(&mut list, "sync_action", &sync.action);
        note(&mut list, "sync_completed", &sync.completed);
        note(&mut list, "degraded", &sync.degraded);
        note(&mut list, "mismatch_cnt", &sync.mismatch_sectors);
    }
    if let Some(set) = array.dm() {
        note(&mut list, "table", &set.table);
        note(&mut list, "status", &set.status);
    }
    for member in &array.members {
        note(&mut list, &format!("{} block", member.name), &member.dev);
        note(&mut list, &format!("{} slot", member.name), &member.slot);
        note(&mut list, &format!("{} state", member.name), &member.state);
        note(
            &mut list,
            &format!("{} recovery_start", member.name),
            &member.recovery_start,
        );
        note(
            &mut list,
            &format!("{} bad_blocks", member.name),
            &member.bad_blocks,
        );
        note(
            &mut list,
            &format!("{} size", member.name),
            &member.size_bytes,
        );
    }
    list
}

fn note<T>(list: &mut Vec<String>, what: &str, fact: &Fact<T>) {
    if let Fact::Unknown(why) = fact {
        list.push(format!("{what}: {why}"));
    }
}
