//! The devices that lund lays on drives for the legs of a set made with dmsetup: a linear one for the metadata
//! and one for the data of a leg (`src/kernel/linux/bare.rs` does it in truth).

use lun_core::action::Target;
use lun_core::facts::{LAID_PREFIX, LaidDevice, LegPart, LegRoom};
use lun_core::id::DevNo;

use super::{DmSet, Leg};
use crate::world::{SECTOR, World, errno};

/// A device that lund has laid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Laid {
    /// Its half.
    pub part: LegPart,
    /// Name in device-mapper.
    pub name: String,
    /// UUID in device-mapper.
    pub uuid: String,
    /// Its number.
    pub dev: DevNo,
    /// Number of the drive that its table names; 0:0 while it has none.
    pub on: DevNo,
    /// Where on the drive it begins, sectors.
    pub at_sectors: u64,
    /// Its length, sectors.
    pub sectors: u64,
}

impl Laid {
    /// The device of this half of a leg, which has no table yet.
    fn new(set: &str, slot: u32, drive: &Target, part: LegPart, dev: DevNo) -> Self {
        let word = match part {
            LegPart::Meta => "meta",
            LegPart::Data => "data",
        };
        let id = drive.id.to_string();
        let short = id.split('-').next().unwrap_or_default();
        Self {
            part,
            name: format!("{set}_lund_{word}_{slot}_{short}"),
            uuid: format!("{LAID_PREFIX}{word}-{id}"),
            dev,
            on: DevNo { major: 0, minor: 0 },
            at_sectors: 0,
            sectors: 0,
        }
    }
}

impl DmSet {
    /// Whether the live table has this device.
    #[must_use]
    pub fn uses(&self, dev: DevNo) -> bool {
        let mut legs = self.legs.iter().filter(|leg| !leg.left_out);
        legs.any(|leg| leg.data == dev || leg.meta == dev)
    }

    /// The slot whose leg lies on the device with this number, itself or through what lund has laid there.
    #[must_use]
    pub fn slot_on(&self, dev: DevNo) -> Option<u32> {
        let through = |data: DevNo| self.laid.iter().any(|l| l.dev == data && l.on == dev);
        let slot = self
            .legs
            .iter()
            .position(|leg| !leg.left_out && (leg.data == dev || through(leg.data)))?;
        u32::try_from(slot).ok()
    }

    /// As the port reads them. A table that waits has open what it names.
    pub(super) fn laid_facts(&self) -> Vec<LaidDevice> {
        let laid = self.laid.iter().map(|laid| LaidDevice {
            part: laid.part,
            name: laid.name.clone(),
            uuid: laid.uuid.clone(),
            dev: laid.dev,
            on: laid.on,
            at_sectors: laid.at_sectors,
            sectors: laid.sectors,
            in_use: self.uses(laid.dev) || self.inactive_table,
        });
        laid.collect()
    }
}

impl World {
    /// The set that has this device open as a part of a leg.
    pub(crate) fn set_of_leg(&self, dev: DevNo) -> Option<&str> {
        let mut sets = self.arrays.values();
        let uses = |set: &DmSet| {
            let waits = || set.inactive_table && set.laid.iter().any(|laid| laid.dev == dev);
            set.uses(dev) || waits()
        };
        let array = sets.find(|array| array.dm.as_deref().is_some_and(uses))?;
        Some(&array.name)
    }

    /// What a leg of this set takes of a drive: the metadata devices that are there tell.
    pub(super) fn leg_room(&self, name: &str) -> Option<LegRoom> {
        let array = self.arrays.get(name)?;
        let metas = array.dm.iter().flat_map(|set| &set.legs);
        let metas = metas.filter(|leg| !leg.left_out);
        let sizes = metas.filter_map(|leg| Some(self.devices.get(&leg.meta)?.size_bytes));
        Some(LegRoom::new(sizes.max()?, array.component * SECTOR))
    }

    /// Makes one of the devices of a leg, without a table.
    pub(super) fn make_laid(
        &mut self,
        name: &str,
        slot: u32,
        drive: &Target,
        part: LegPart,
    ) -> Result<DevNo, i32> {
        let dev = self.fresh_dev();
        let set = self.arrays.get_mut(name).and_then(|a| a.dm.as_mut());
        let set = set.ok_or(errno::ENXIO)?;
        let laid = Laid::new(&set.name, slot, drive, part, dev);
        if set.laid.iter().any(|other| other.name == laid.name) {
            return Err(errno::EBUSY);
        }
        set.laid.push(laid);
        Ok(dev)
    }

    /// Gives it its table: it lies on the drive from now on. The metadata is erased.
    pub(super) fn load_laid(&mut self, name: &str, dev: DevNo, drive: &Target, room: LegRoom) {
        let set = self.arrays.get_mut(name).and_then(|a| a.dm.as_mut());
        let Some(laid) = set.and_then(|set| set.laid.iter_mut().find(|l| l.dev == dev)) else {
            return;
        };
        (laid.at_sectors, laid.sectors) = match laid.part {
            LegPart::Meta => (0, room.meta_sectors),
            LegPart::Data => (room.data_at, room.data_sectors),
        };
        laid.on = drive.dev;
        let (uuid, part, sectors) = (laid.uuid.clone(), laid.part, laid.sectors);
        if part == LegPart::Meta {
            self.guard_overwrite(drive.dev, &format!("made a leg of {name}"));
            if let Some(device) = self.devices.get_mut(&drive.dev) {
                device.content = None;
                device.missed_sectors = 0;
                device.signatures.clear();
                device.superblock = None;
            }
        }
        let device = self.mapped(&uuid, dev, drive.id, sectors.saturating_mul(SECTOR));
        self.devices.insert(dev, device);
        self.hint(lun_kernel::Hint::Devices);
    }

    /// Both devices of a leg.
    pub(super) fn lay_pair(
        &mut self,
        name: &str,
        slot: u32,
        drive: &Target,
        room: LegRoom,
    ) -> Result<Leg, i32> {
        let mut lay = |part| {
            let dev = self.make_laid(name, slot, drive, part)?;
            self.load_laid(name, dev, drive, room);
            Ok::<DevNo, i32>(dev)
        };
        Ok(Leg {
            meta: lay(LegPart::Meta)?,
            data: lay(LegPart::Data)?,
            drive: drive.id,
            superblock: None,
            left_out: false,
        })
    }

    /// Removes what was laid and is in no table.
    pub(super) fn remove_unused(&mut self, name: &str) {
        let Some(set) = self.arrays.get_mut(name).and_then(|a| a.dm.as_mut()) else {
            return;
        };
        let used = set.laid.iter().filter(|laid| set.uses(laid.dev));
        let used: Vec<Laid> = used.cloned().collect();
        let old = std::mem::replace(&mut set.laid, used.clone());
        for laid in old.iter().filter(|laid| !used.contains(laid)) {
            set.former.retain(|leg| leg.meta != laid.dev);
            self.devices.remove(&laid.dev);
        }
        self.hint(lun_kernel::Hint::Devices);
    }

    /// Erases the superblock on a metadata device that no table has.
    pub(super) fn forget_leg(&mut self, name: &str, meta: DevNo) -> Result<(), i32> {
        if self.devices.get(&meta).is_none_or(|d| d.dead) {
            return Err(errno::EIO);
        }
        self.with_set(name, |set| {
            let former = set.former.iter_mut().filter(|leg| leg.meta == meta);
            former.for_each(|leg| leg.superblock = None);
        });
        Ok(())
    }
}
