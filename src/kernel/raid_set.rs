//! A raid set of device-mapper in the shape of an array: what works in it is md, so its facts are
//! told in md's words.
//!
//! Which legs are in sync is told by the status line and by the superblocks together, and a leg is in
//! sync only if neither speaks against it. The status line lies at times: kernels from 6.9 print `A`
//! and `idle` after an interrupted recovery, and every kernel prints `a` for all legs during a resync.
//! The superblocks lag behind by a moment: they are written after the letter changes, and before the
//! event (`drivers/md/md.c:md_reap_sync_thread`).

#[cfg(test)]
mod tests;

use lun_core::facts::{
    ArrayFacts, ArrayState, DmRaidFacts, Driver, Fact, LegHealth, Level, MemberFacts, MemberState,
    Metadata, Position, RaidStatus, RaidSuperblock, RaidTable, Slot, SyncAction, SyncCompleted,
    SyncFacts,
};
use lun_core::id::{DevNo, LunId};

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// What the names of raid sets begin with: the folder of their nodes.
const PREFIX: &str = "mapper/";

/// What sysfs says of the device of a raid set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its number.
    pub dev: DevNo,
    /// Its size, bytes.
    pub size_bytes: Fact<u64>,
    /// `queue/logical_block_size`.
    pub logical_block_bytes: Fact<u32>,
}

/// Name of the array that a raid set is: no name of md has a slash.
#[must_use]
pub fn array_name(dm_name: &str) -> String {
    format!("{PREFIX}{dm_name}")
}

/// Name in device-mapper of the array called so; [`None`] for an array of md.
#[must_use]
pub fn dm_name(array: &str) -> Option<&str> {
    array.strip_prefix(PREFIX)
}

/// The facts of a raid set in the shape of an array. `leg` tells kernel name and size, bytes, of the
/// device with this number.
#[must_use]
pub fn array_facts(
    set: DmRaidFacts,
    disk: Disk,
    leg: &dyn Fn(DevNo) -> Option<(String, u64)>,
) -> ArrayFacts {
    let view = View::new(&set);
    let mut members: Vec<MemberFacts> = (0_u32..)
        .zip(view.table.map_or(&[][..], |table| &table.legs))
        .filter_map(|(slot, place)| Some(view.member(slot, place.data?, leg)))
        .collect();
    members.extend(view.journal(leg));
    let table = |value: fn(&RaidTable) -> u64| of_table(&set.table, value);
    let level = of_table(&set.table, |table| table.kind.level.clone());
    ArrayFacts {
        name: array_name(&set.name),
        dev: disk.dev,
        md_names: Vec::new(),
        uuid: Fact::Known(set.uuid.as_deref().map(|uuid| LunId::of_dm(uuid).0)),
        layout: of_table(&set.table, |table| table.kind.layout),
        raid_disks: of_table(&set.table, |table| {
            u32::try_from(table.legs.len()).unwrap_or(u32::MAX)
        }),
        chunk_bytes: table(|table| table.chunk_sectors.saturating_mul(SECTOR)),
        component_bytes: table(component_bytes),
        size_bytes: disk.size_bytes,
        logical_block_bytes: disk.logical_block_bytes,
        metadata: Fact::Known(Metadata::DmRaid),
        state: Fact::Known(state(&set)),
        sync: view.sync(&members),
        resync_start: view.resync_start(),
        reshaping: view.reshaping(),
        bitmap: of_table(&set.table, has_bitmap),
        clustered: false,
        mdstat: None,
        events: view.freshest.map_or_else(
            || Fact::Unknown("no leg has a readable superblock".to_owned()),
            |superblock| Fact::Known(superblock.events),
        ),
        level,
        members,
        driver: Driver::DmRaid(Box::new(set)),
    }
}

fn of_table<T>(table: &Fact<RaidTable>, value: impl Fn(&RaidTable) -> T) -> Fact<T> {
    match table {
        Fact::Known(table) => Fact::Known(value(table)),
        Fact::Unknown(why) => Fact::Unknown(why.clone()),
    }
}

const fn state(set: &DmRaidFacts) -> ArrayState {
    if set.suspended {
        ArrayState::Suspended
    } else if set.read_only {
        ArrayState::Readonly
    } else {
        ArrayState::Active
    }
}

/// Rate that holds a recovery, KiB/s for each drive: the lowest that the kernel takes, for 0 means its
/// own bounds (`dm-raid.c:parse_raid_params`).
pub const HOLD_RATE: u64 = 1;

/// Whether this table lets nothing be filled at more than [`HOLD_RATE`].
#[must_use]
pub fn stands_still(table: &RaidTable) -> bool {
    table.min_recovery_rate == Some(HOLD_RATE) && table.max_recovery_rate == Some(HOLD_RATE)
}

/// Bytes that the set uses of each leg.
#[must_use]
pub fn component_bytes(table: &RaidTable) -> u64 {
    component_sectors(table).saturating_mul(SECTOR)
}

/// Sectors that the set uses of each leg.
fn component_sectors(table: &RaidTable) -> u64 {
    let legs = u64::try_from(table.legs.len()).unwrap_or(u64::MAX);
    let shares = match table.kind.level {
        Level::Raid0 => legs,
        Level::Raid4 | Level::Raid5 => legs.saturating_sub(1),
        Level::Raid6 => legs.saturating_sub(2),
        Level::Raid10 => {
            let copies = u64::from(table.raid10_copies.unwrap_or(2));
            return table.len.saturating_mul(copies).div_ceil(legs.max(1));
        }
        _ => 1,
    };
    table.len.div_ceil(shares.max(1))
}

/// A bitmap lies behind the superblocks, unless there are none, or a journal does its work
/// (`dm-raid.c:raid_ctr`).
fn has_bitmap(table: &RaidTable) -> bool {
    let mut there = table.legs.iter().filter(|leg| leg.data.is_some());
    table.kind.level != Level::Raid0
        && table.journal_dev.is_none()
        && there.all(|leg| leg.meta.is_some())
}

struct View<'a> {
    set: &'a DmRaidFacts,
    table: Option<&'a RaidTable>,
    status: Option<&'a RaidStatus>,
    /// The superblock with the highest event count.
    freshest: Option<&'a RaidSuperblock>,
}

impl<'a> View<'a> {
    fn new(set: &'a DmRaidFacts) -> Self {
        let freshest = set
            .superblocks
            .iter()
            .filter_map(|superblock| superblock.known()?.as_ref())
            .max_by_key(|superblock| superblock.events);
        Self {
            set,
            table: set.table.known(),
            status: set.status.known(),
            freshest,
        }
    }

    fn level(&self) -> Option<&Level> {
        self.table.map(|table| &table.kind.level)
    }

    /// Whether every leg that lives bears the letter `a` because copies or parity are brought in step
    /// or have to be: that tells nothing of the single leg.
    fn all_are_out_of_step(&self, status: &RaidStatus) -> bool {
        let none_in_sync = !status.legs.contains(&LegHealth::InSync);
        let needed = self
            .freshest
            .is_some_and(|superblock| superblock.array_resync_offset.is_some());
        let runs = matches!(status.action, SyncAction::Resync | SyncAction::Reshape);
        none_in_sync && (runs || needed)
    }

    /// A table was loaded, and what it needs has not begun: every leg that lives bears the letter `a` then
    /// (`dm-raid.c:rs_get_progress`), those in sync too.
    fn is_starting(&self, status: &RaidStatus) -> bool {
        let waits = matches!(status.action, SyncAction::Idle | SyncAction::Frozen);
        waits && !status.legs.contains(&LegHealth::InSync) && !self.all_are_out_of_step(status)
    }

    fn member(
        &self,
        slot: u32,
        dev: DevNo,
        leg: &dyn Fn(DevNo) -> Option<(String, u64)>,
    ) -> MemberFacts {
        let there = leg(dev);
        let superblock = self.superblock(slot);
        // A leg that lund laid is shown as the drive that it lies on.
        let laid = self.set.laid.iter().find(|laid| laid.dev == dev);
        let on = laid.and_then(|laid| Some((laid.on, leg(laid.on)?.0)));
        let (dev, there) = match (on, there) {
            (Some((on, name)), Some((_, size))) => (on, Some((name, size))),
            (_, there) => (dev, there),
        };
        MemberFacts {
            dev: match there {
                Some(_) => Fact::Known(dev),
                None => Fact::Unknown(format!("no device has the number {dev}")),
            },
            size_bytes: there.as_ref().map_or_else(
                || Fact::Unknown(format!("no device has the number {dev}")),
                |(_, size)| Fact::Known(*size),
            ),
            name: there.map_or_else(|| dev.to_string(), |(name, _)| name),
            slot: Fact::Known(Slot::At(slot)),
            state: self.member_state(slot),
            recovery_start: match superblock {
                Some(Fact::Known(Some(superblock))) => Fact::Known(
                    superblock
                        .disk_recovery_offset
                        .map_or(Position::Done, Position::At),
                ),
                Some(Fact::Unknown(why)) => Fact::Unknown(why.clone()),
                Some(Fact::Known(None)) | None if self.level() == Some(&Level::Raid0) => {
                    Fact::Known(Position::Done)
                }
                Some(Fact::Known(None)) | None => {
                    Fact::Unknown("the leg has no superblock".to_owned())
                }
            },
            errors: Fact::Unknown("device-mapper does not count them".to_owned()),
            // The target turns the lists off (`dm-raid.c`, `badblocks.shift`).
            bad_blocks: Fact::Known(0),
        }
    }

    fn superblock(&self, slot: u32) -> Option<&'a Fact<Option<RaidSuperblock>>> {
        self.set.superblocks.get(usize::try_from(slot).ok()?)
    }

    fn member_state(&self, slot: u32) -> Fact<MemberState> {
        let status = match &self.set.status {
            Fact::Known(status) => status,
            Fact::Unknown(why) => return Fact::Unknown(why.clone()),
        };
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        let Some(letter) = status.legs.get(index) else {
            return Fact::Unknown("the status has no letter for this leg".to_owned());
        };
        let has = |list: fn(&RaidTable) -> &std::collections::BTreeSet<u32>| {
            self.table.is_some_and(|table| list(table).contains(&slot))
        };
        let words = MemberState {
            write_mostly: has(|table| &table.write_mostly),
            ..MemberState::default()
        };
        let by_letter = match letter {
            LegHealth::Failed | LegHealth::Absent => {
                return Fact::Known(MemberState {
                    faulty: true,
                    ..words
                });
            }
            LegHealth::InSync => true,
            LegHealth::Alive if self.is_starting(status) => match self.is_current(slot) {
                Ok(()) => true,
                Err(why) => return Fact::Unknown(why),
            },
            LegHealth::Alive => self.all_are_out_of_step(status),
        };
        match self.may_be_in_sync(slot) {
            Ok(by_superblock) => Fact::Known(MemberState {
                in_sync: by_letter && by_superblock,
                spare: !(by_letter && by_superblock),
                ..words
            }),
            // The letter alone is believed where it tells of a fault.
            Err(_) if !by_letter => Fact::Known(MemberState {
                spare: true,
                ..words
            }),
            Err(why) => Fact::Unknown(why),
        }
    }

    /// That the superblock of this leg was written together with the others. One that is older may be
    /// about to be written, and says what was true before.
    fn is_current(&self, slot: u32) -> Result<(), String> {
        let events = match self.superblock(slot) {
            Some(Fact::Known(Some(own))) => Some(own.events),
            Some(Fact::Unknown(why)) => return Err(why.clone()),
            Some(Fact::Known(None)) | None => None,
        };
        if events.is_some() && events == self.freshest.map(|freshest| freshest.events) {
            return Ok(());
        }
        Err("a table was loaded, and the superblocks are not written yet".to_owned())
    }

    /// Whether nothing in the superblocks speaks against this leg.
    fn may_be_in_sync(&self, slot: u32) -> Result<bool, String> {
        // Nothing is ever out of sync there, and its superblocks stay empty.
        if self.level() == Some(&Level::Raid0) {
            return Ok(true);
        }
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        let place = self.table.and_then(|table| table.legs.get(index));
        let has_meta = place.is_some_and(|leg| leg.meta.is_some());
        let own = match self.superblock(slot) {
            Some(Fact::Known(Some(own))) => own,
            // Without metadata there is nobody but the letter to ask.
            Some(Fact::Known(None)) if !has_meta => return Ok(true),
            Some(Fact::Known(None)) => return Err("its superblock is not written yet".to_owned()),
            Some(Fact::Unknown(why)) => return Err(why.clone()),
            None => return Err("its superblock was not read".to_owned()),
        };
        let failed = self
            .freshest
            .is_some_and(|freshest| freshest.failed.contains(&slot));
        Ok(own.disk_recovery_offset.is_none() && !failed)
    }

    /// A journal device of a parity set.
    fn journal(&self, leg: &dyn Fn(DevNo) -> Option<(String, u64)>) -> Option<MemberFacts> {
        let dev = self.table?.journal_dev?;
        let mut member = self.member(0, dev, leg);
        member.slot = Fact::Known(Slot::Journal);
        member.recovery_start = Fact::Known(Position::Done);
        member.state = match self.status.map(|status| status.journal) {
            Some(health) => Fact::Known(MemberState {
                journal: true,
                faulty: health != Some(LegHealth::InSync) && health != Some(LegHealth::Alive),
                ..MemberState::default()
            }),
            None => Fact::Unknown("the status was not read".to_owned()),
        };
        Some(member)
    }

    fn sync(&self, members: &[MemberFacts]) -> Option<SyncFacts> {
        if self.level() == Some(&Level::Raid0) {
            return None;
        }
        let silent = || "device-mapper does not tell".to_owned();
        let status = |value: fn(&RaidStatus) -> u64| match &self.set.status {
            Fact::Known(status) => Fact::Known(value(status)),
            Fact::Unknown(why) => Fact::Unknown(why.clone()),
        };
        Some(SyncFacts {
            action: match &self.set.status {
                Fact::Known(_) if self.stands_still() => Fact::Known(SyncAction::Frozen),
                Fact::Known(status) => Fact::Known(status.action),
                Fact::Unknown(why) => Fact::Unknown(why.clone()),
            },
            completed: match &self.set.status {
                Fact::Known(_) if self.stands_still() => Fact::Known(SyncCompleted::None),
                Fact::Known(status) => Fact::Known(completed(status)),
                Fact::Unknown(why) => Fact::Unknown(why.clone()),
            },
            degraded: self.degraded(members),
            mismatch_sectors: status(|status| status.mismatch_sectors),
            last_action: Fact::Unknown(silent()),
            sync_min: Fact::Unknown(silent()),
            sync_max: Fact::Unknown(silent()),
            speed_min: Fact::Unknown(silent()),
            speed_max: Fact::Unknown(silent()),
        })
    }

    /// Whether what it does is slowed to a standstill: the one way to stop a recovery that every kernel
    /// keeps. It comes to an end all the same, one KiB a second.
    fn stands_still(&self) -> bool {
        let status = self.status.map(|status| status.action);
        let moves = |action| {
            matches!(
                action,
                SyncAction::Check | SyncAction::Repair | SyncAction::Reshape
            )
        };
        self.table.is_some_and(stands_still) && !status.is_some_and(moves)
    }

    /// Slots without a leg in sync.
    fn degraded(&self, members: &[MemberFacts]) -> Fact<u32> {
        let Some(table) = self.table else {
            return Fact::Unknown("the table was not read".to_owned());
        };
        let mut good = 0;
        for member in members {
            match &member.state {
                Fact::Known(state) => good += usize::from(state.in_sync),
                Fact::Unknown(why) => return Fact::Unknown(why.clone()),
            }
        }
        let bad = table.legs.len().saturating_sub(good);
        Fact::Known(u32::try_from(bad).unwrap_or(u32::MAX))
    }

    fn resync_start(&self) -> Fact<Position> {
        if self.level() == Some(&Level::Raid0) {
            return Fact::Known(Position::Done);
        }
        let unread = self
            .set
            .superblocks
            .iter()
            .find_map(|superblock| match superblock {
                Fact::Unknown(why) => Some(why),
                Fact::Known(_) => None,
            });
        let written = self
            .freshest
            .map(|superblock| superblock.array_resync_offset);
        match (written, self.status, unread) {
            (Some(Some(sectors)), ..) => Fact::Known(Position::At(sectors)),
            (_, Some(status), _) if status.action == SyncAction::Resync => {
                Fact::Known(Position::At(status.done))
            }
            (Some(None), ..) => Fact::Known(Position::Done),
            (None, _, Some(why)) => Fact::Unknown(why.clone()),
            // No leg has metadata: the letters are all there is.
            (None, Some(status), None) if status.legs.contains(&LegHealth::InSync) => {
                Fact::Known(Position::Done)
            }
            (None, Some(status), None) => Fact::Known(Position::At(status.done)),
            (None, None, None) => Fact::Unknown("the status was not read".to_owned()),
        }
    }

    fn reshaping(&self) -> Fact<bool> {
        let (Some(table), Some(status)) = (self.table, self.status) else {
            return Fact::Unknown("table or status were not read".to_owned());
        };
        let written = self.freshest.is_some_and(|superblock| superblock.reshaping);
        let runs = status.action == SyncAction::Reshape || table.delta_disks.is_some();
        Fact::Known(written || runs)
    }
}

/// Nothing where no thread runs: the ratio of an idle set means nothing.
const fn completed(status: &RaidStatus) -> SyncCompleted {
    match status.action {
        SyncAction::Idle | SyncAction::Frozen => SyncCompleted::None,
        _ => SyncCompleted::At {
            done: status.done,
            total: status.total,
        },
    }
}
