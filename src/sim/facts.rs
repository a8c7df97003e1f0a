//! The machine as the readers of the real adapter would report it.

use std::collections::BTreeSet;

use lun_core::facts::{
    ArrayFacts, ArrayState, DeviceFacts, Fact, Inventory, MdstatFacts, MdstatProgress, MemberFacts,
    MemberState, Position, ProbeFacts, SpeedLimit, SuperblockFacts, SyncAction, SyncCompleted,
    SyncFacts,
};
use lun_kernel::ScanRequest;

use crate::world::{Array, Device, KernelStyle, Member, Mode, SECTOR, World};

/// `speed_limit_min` of a host that nobody has tuned, KiB/s.
const SPEED_MIN: u32 = 1_000;
/// `speed_limit_max`.
const SPEED_MAX: u32 = 200_000;

fn speed(own: Option<u32>, system: u32) -> SpeedLimit {
    own.map_or(SpeedLimit::system(system), |kib_s| SpeedLimit {
        kib_s,
        local: true,
    })
}

impl World {
    /// What a scan sees.
    #[must_use]
    pub fn inventory(&self, request: &ScanRequest) -> Inventory {
        let present = || self.devices.values().filter(|d| d.present);
        Inventory {
            groups: request
                .groups
                .iter()
                .map(|name| (name.clone(), self.group_facts(name)))
                .collect(),
            arrays: self
                .arrays
                .values()
                .map(|a| {
                    let facts = self.array_facts(a, request.events_of.contains(&a.name));
                    (a.name.clone(), facts)
                })
                .collect(),
            devices: present().map(|d| (d.dev, self.device_facts(d))).collect(),
            probes: present()
                .filter(|d| request.probe.contains(&d.dev))
                .map(|d| (d.dev, self.probe_facts(d)))
                .collect(),
            md_loaded: true,
        }
    }

    /// What the attributes of an array say; the event count only when it is asked for.
    #[must_use]
    pub fn array_facts(&self, array: &Array, events: bool) -> ArrayFacts {
        if let Some(set) = &array.dm {
            return self.set_facts(array, set);
        }
        let mut members: Vec<MemberFacts> = array
            .members
            .iter()
            .map(|m| self.member_facts(array, m))
            .collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        ArrayFacts {
            driver: lun_core::facts::Driver::Md,
            name: array.name.clone(),
            dev: array.dev,
            md_names: array.md_names.clone(),
            uuid: Fact::Known(Some(array.uuid)),
            level: Fact::Known(array.level.clone()),
            layout: Fact::Known(array.layout),
            raid_disks: Fact::Known(array.raid_disks),
            chunk_bytes: Fact::Known(array.chunk_bytes),
            component_bytes: Fact::Known(array.component * SECTOR),
            size_bytes: Fact::Known(match array.mode {
                Mode::Inactive => 0,
                _ => array.size_sectors() * SECTOR,
            }),
            logical_block_bytes: Fact::Known(array.block_bytes),
            metadata: Fact::Known(array.metadata.clone()),
            state: Fact::Known(state_of(array)),
            sync: array.has_sync().then(|| self.sync_facts(array)),
            resync_start: Fact::Known(position(array.resync_start)),
            reshaping: Fact::Known(array.reshaping),
            bitmap: Fact::Known(array.bitmap),
            clustered: array.clustered,
            mdstat: Some(self.mdstat_facts(array)),
            members,
            events: if events {
                Fact::Known(array.events)
            } else {
                Fact::Unknown("not asked for".to_owned())
            },
        }
    }

    fn sync_facts(&self, array: &Array) -> SyncFacts {
        let completed = match &array.sync {
            None => SyncCompleted::None,
            Some(sync) if sync.delayed => SyncCompleted::Delayed,
            // The attribute moves in sixteenths.
            Some(sync) => SyncCompleted::At {
                done: (sync.told.saturating_mul(sync.total) / 16).max(sync.base.min(sync.total)),
                total: sync.total,
            },
        };
        let action = match &array.sync {
            _ if array.frozen => SyncAction::Frozen,
            _ if array.reshaping => SyncAction::Reshape,
            Some(sync) => sync.action,
            None => SyncAction::Idle,
        };
        SyncFacts {
            action: Fact::Known(action),
            completed: Fact::Known(completed),
            degraded: Fact::Known(array.degraded_lie.unwrap_or_else(|| array.degraded())),
            mismatch_sectors: Fact::Known(array.mismatch_shown),
            last_action: Fact::Known(array.last_action),
            sync_min: Fact::Known(array.sync_min),
            sync_max: Fact::Known(array.sync_max),
            speed_min: Fact::Known(speed(array.speed_min, SPEED_MIN)),
            speed_max: Fact::Known(speed(array.speed_max, SPEED_MAX)),
        }
    }

    /// The entry of `/proc/mdstat`.
    #[must_use]
    pub fn mdstat_facts(&self, array: &Array) -> MdstatFacts {
        let progress = match &array.sync {
            Some(sync) if sync.delayed => MdstatProgress::Delayed,
            Some(sync) => MdstatProgress::At {
                done_kib: self.position(array) / 2,
                total_kib: sync.total / 2,
                speed_kib: if self.stalled(array) {
                    0
                } else {
                    self.rate / 1024
                },
            },
            None if array.has_sync() && array.resync_start.is_some() => MdstatProgress::Pending,
            None => MdstatProgress::None,
        };
        MdstatFacts {
            broken: array.broken && self.style != KernelStyle::V6_1,
            inactive: array.mode == Mode::Inactive,
            read_only: array.mode == Mode::Readonly,
            auto_read_only: array.mode == Mode::ReadAuto,
            progress,
        }
    }

    fn member_facts(&self, array: &Array, member: &Member) -> MemberFacts {
        let device = self.devices.get(&member.dev).filter(|d| d.present);
        MemberFacts {
            name: member.name.clone(),
            dev: match device {
                Some(device) => Fact::Known(device.dev),
                None => Fact::Unknown(format!("dev-{}/block leads nowhere", member.name)),
            },
            slot: Fact::Known(member.slot),
            state: Fact::Known(MemberState {
                faulty: member.faulty,
                in_sync: member.in_sync && !member.faulty,
                spare: !member.in_sync && !member.faulty,
                blocked: member.faulty && array.stuck,
                write_error: member.write_error,
                want_replacement: member.want_replacement,
                replacement: member.replacement,
                ..MemberState::default()
            }),
            recovery_start: Fact::Known(position(member.recovery_offset)),
            errors: Fact::Known(member.errors),
            bad_blocks: Fact::Known(member.bad_blocks),
            size_bytes: Fact::Known(device.map_or(0, Device::usable_sectors) * SECTOR),
        }
    }

    fn device_facts(&self, device: &Device) -> DeviceFacts {
        let mut holders = device.holders.clone();
        holders.extend(self.array_of(device.dev).map(|a| a.name.clone()));
        holders.extend(self.set_of_leg(device.dev).map(str::to_owned));
        let legs = self.legs_on(device.id).into_iter();
        holders.extend(
            legs.filter_map(|dev| Some(self.devices.get(&dev).filter(|d| d.present)?.name.clone())),
        );
        let by_id = format!("/dev/disk/by-id/{}-{}", device.transport, device.serial);
        let md = device
            .superblock
            .is_some()
            .then(|| "linux_raid_member".to_owned());
        DeviceFacts {
            dev: device.dev,
            name: device.name.clone(),
            id: device.id,
            id_kind: device.id_kind,
            stable_name: by_id.clone(),
            names: vec![format!("/dev/{}", device.name), by_id],
            size_bytes: device.size_bytes,
            logical_block_bytes: Fact::Known(device.block_bytes),
            rotational: Fact::Known(device.rotational),
            transport: Fact::Known(device.transport.clone()),
            read_only: device.read_only,
            holders,
            used_by: device.used_by.clone(),
            whole_disk: device.whole_disk.clone(),
            controller: device.controller.clone(),
            enclosure: None,
            udev_signature: md.or_else(|| device.signatures.iter().next().cloned()),
        }
    }

    fn probe_facts(&self, device: &Device) -> ProbeFacts {
        let mut signatures: BTreeSet<String> = device.signatures.clone();
        if device.superblock.is_some() {
            signatures.insert("linux_raid_member".to_owned());
        }
        ProbeFacts {
            signatures: Fact::Known(signatures.into_iter().collect()),
            exclusive: Fact::Known(self.exclusive_user(device.dev).is_none()),
            md: Fact::Known(device.superblock.as_ref().map(|sb| SuperblockFacts {
                array_uuid: sb.array,
                device_uuid: Some(sb.device),
                events: sb.events,
                role: sb.role,
            })),
        }
    }
}

const fn position(at: Option<u64>) -> Position {
    match at {
        None => Position::Done,
        Some(sectors) => Position::At(sectors),
    }
}

/// `array_state`. An array that broke under a write hangs in `write-pending`.
const fn state_of(array: &Array) -> ArrayState {
    match array.mode {
        Mode::Inactive => ArrayState::Inactive,
        Mode::Readonly => ArrayState::Readonly,
        Mode::ReadAuto => ArrayState::ReadAuto,
        Mode::Running if !array.broken => ArrayState::Clean,
        Mode::Running if array.stuck => ArrayState::WritePending,
        Mode::Running => ArrayState::Broken,
    }
}
