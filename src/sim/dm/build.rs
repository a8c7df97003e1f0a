//! Builders of raid sets and volume groups.

use lun_core::facts::{DmOwner, IdentityKind, Level, Metadata};
use lun_core::id::{DevNo, DriveId, LunId};
use uuid::Uuid;

use super::{DmSet, Group, Leg, Physical};
use crate::scenario::Scenario;
use crate::world::{Device, OVERHEAD_BYTES, SECTOR, World};

/// Extents of simulated groups: one MiB.
pub(super) const EXTENT_BYTES: u64 = 1 << 20;
/// Major number of device-mapper.
const DM_MAJOR: u32 = 253;
/// Size of a metadata device of a set made with dmsetup.
const META_BYTES: u64 = 1 << 20;
/// Signature of a physical volume.
pub(crate) const PV_SIGNATURE: &str = "LVM2_member";

impl Scenario {
    /// These drives are physical volumes of a volume group. Nobody allowed them to be overwritten.
    #[must_use]
    pub fn group(self, name: &str, drives: &[&str]) -> Self {
        let drives: Vec<String> = drives.iter().map(|&drive| drive.to_owned()).collect();
        self.try_world(|world| {
            let mut group = Group {
                extent_bytes: EXTENT_BYTES,
                ..Group::default()
            };
            for drive in &drives {
                let device = world
                    .device_mut(drive)
                    .ok_or_else(|| format!("no disk {drive}"))?;
                group.physical.push(physical_on(device));
            }
            world.groups.insert(name.to_owned(), group);
            Ok(())
        })
    }

    /// A volume `lv` of LVM in sync, with a leg of so many MiB on each of these drives of the group. It is
    /// called `mapper/VG-LV`.
    #[must_use]
    pub fn volume(self, vg: &str, lv: &str, level: Level, drives: &[&str], mib: u64) -> Self {
        let owner = DmOwner::Lvm {
            vg: vg.to_owned(),
            lv: lv.to_owned(),
        };
        let name = format!("{vg}-{lv}");
        let id = |word: &str| {
            let uuid = Uuid::new_v5(&lun_core::id::NAMESPACE, word.as_bytes());
            uuid.simple().to_string()
        };
        let uuid = format!("LVM-{}{}", id(vg), id(&name));
        self.set(&name, &uuid, owner, level, drives, mib)
    }

    /// A raid set in sync that was made with dmsetup. It is called `mapper/NAME`.
    #[must_use]
    pub fn bare(self, name: &str, level: Level, drives: &[&str], mib: u64) -> Self {
        let uuid = format!("SIM-{name}");
        self.set(name, &uuid, DmOwner::Bare, level, drives, mib)
    }

    fn set(
        self,
        name: &str,
        uuid: &str,
        owner: DmOwner,
        level: Level,
        drives: &[&str],
        mib: u64,
    ) -> Self {
        let mut scenario = self;
        let mut legs = Vec::new();
        let mut names = Vec::new();
        for (slot, drive) in (0_u32..).zip(drives) {
            let stem = leg_name(name, slot);
            scenario = scenario.try_world(|world| {
                let id = world
                    .device(drive)
                    .map(|device| device.id)
                    .ok_or_else(|| format!("no disk {drive}"))?;
                let leg = world.lay_leg(&stem, id, mib << 20);
                if owner == DmOwner::Bare {
                    world.list_parts(&leg, &stem);
                }
                names.extend(world.devices.get(&leg.data).map(|d| d.name.clone()));
                legs.push(leg);
                Ok(())
            });
        }
        let members: Vec<&str> = names.iter().map(String::as_str).collect();
        let array = format!("mapper/{name}");
        let mut scenario = scenario.array(&array, level, &members);
        let set = DmSet {
            name: name.to_owned(),
            uuid: uuid.to_owned(),
            owner,
            legs,
            rebuild: std::collections::BTreeSet::new(),
            slowed: false,
            slowed_by_owner: false,
            event: 1,
            inactive_table: false,
            laid: Vec::new(),
            former: Vec::new(),
        };
        let sectors = (mib << 20) / SECTOR;
        scenario = scenario.world(|world| world.map(&array, set, sectors));
        scenario
    }
}

impl World {
    /// Makes a raid set of an array whose members are its legs.
    fn map(&mut self, name: &str, set: DmSet, component: u64) {
        let dev = self.fresh_dev();
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        let uuid = LunId::of_dm(&set.uuid).0;
        let devs: Vec<DevNo> = array.members.iter().map(|m| m.dev).collect();
        array.dev = dev;
        array.uuid = uuid;
        array.metadata = Metadata::DmRaid;
        array.bitmap = true;
        array.component = component / 1024 * 1024;
        if array.level != Level::Raid1 {
            array.chunk_bytes = 64 << 10;
        }
        array.dm = Some(Box::new(set));
        for dev in devs {
            if let Some(device) = self.devices.get_mut(&dev) {
                device.content = Some((uuid, 0));
                device.superblock = None;
            }
        }
        self.bump(name);
    }

    /// Lays a blank leg on a drive: a device with its data; that of its metadata is not listed.
    pub(super) fn lay_leg(&mut self, stem: &str, drive: DriveId, bytes: u64) -> Leg {
        let (data, meta) = (self.fresh_dev(), self.fresh_dev());
        let serial = format!("{stem}-{}", data.minor);
        let device = Device {
            used_by: vec![format!("LVM, as {stem}")],
            ..self.mapped(&serial, data, drive, bytes)
        };
        self.devices.insert(data, device);
        Leg {
            data,
            meta,
            drive,
            superblock: None,
            left_out: false,
        }
    }

    /// Of a set made with dmsetup both devices of a leg are seen by all.
    fn list_parts(&mut self, leg: &Leg, stem: &str) {
        let device = self.mapped(&format!("{stem}-meta"), leg.meta, leg.drive, META_BYTES);
        self.devices.insert(leg.meta, device);
        if let Some(data) = self.devices.get_mut(&leg.data) {
            data.used_by.clear();
        }
    }

    /// A device of device-mapper on this drive.
    pub(super) fn mapped(&self, serial: &str, dev: DevNo, drive: DriveId, bytes: u64) -> Device {
        let name = format!("dm-{}", dev.minor);
        Device {
            dev,
            name: name.clone(),
            id: DriveId::derive("dm-uuid", serial),
            id_kind: IdentityKind::Serial,
            serial: serial.to_owned(),
            size_bytes: bytes,
            block_bytes: 512,
            rotational: false,
            transport: "dm".to_owned(),
            controller: None,
            whole_disk: name,
            read_only: false,
            used_by: Vec::new(),
            holders: std::collections::BTreeSet::new(),
            opened: false,
            signatures: std::collections::BTreeSet::new(),
            superblock: None,
            lit: false,
            present: true,
            hung: self.drive(drive).is_some_and(|d| d.hung),
            dead: !self.is_there(drive),
            precious: false,
            fails_at: None,
            unreadable: 0,
            content: None,
            missed_sectors: 0,
            under: Some(drive),
        }
    }

    /// A number of device-mapper that was never used.
    pub(super) const fn fresh_dev(&mut self) -> DevNo {
        self.minors += 1;
        DevNo {
            major: DM_MAJOR,
            minor: self.minors,
        }
    }
}

/// What a drive is worth to a group, which it now belongs to.
pub(super) fn physical_on(device: &mut Device) -> Physical {
    device.signatures.insert(PV_SIGNATURE.to_owned());
    device.precious = true;
    Physical {
        drive: device.id,
        extents: device.size_bytes.saturating_sub(OVERHEAD_BYTES) / EXTENT_BYTES,
        flagged: false,
    }
}

/// Name in device-mapper of a leg of the set called so.
pub(super) fn leg_name(set: &str, slot: u32) -> String {
    format!("{set}_rimage_{slot}")
}
