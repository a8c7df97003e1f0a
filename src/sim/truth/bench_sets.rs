//! Raid sets on the simulated bench.

use lun_core::action::Target;

use super::bench::SimBench;
use super::run::Bench;
use super::script::Create;
use crate::scenario::Scenario;
use crate::world::Array;

/// MiB of data on each leg; the real bench uses the same.
pub const LEG_MIB: u64 = 8;
/// Sectors of a metadata device.
pub const META_SECTORS: u64 = 2048;
/// Sectors that a bit of the bitmap stands for.
pub const REGION_SECTORS: u64 = 1024;

/// Name of the volume group.
pub(super) const GROUP: &str = "vg";

impl SimBench {
    pub(super) fn create_set(&mut self, array: char, spec: &Create) -> Result<String, String> {
        let drives = letters(&spec.members);
        let drives: Vec<&str> = drives.iter().map(String::as_str).collect();
        let (name, clean) = (array.to_string(), spec.clean);
        let style = self.world.style;
        self.world = Scenario::over(std::mem::take(&mut self.world))
            .style(style)
            .bare(&name, spec.level.clone(), &drives, LEG_MIB)
            .md(|array| begun(array, clean))
            .build()?;
        Ok("ok".to_owned())
    }

    pub(super) fn create_volume(&mut self, array: char, spec: &Create) -> Result<String, String> {
        let group = format!("{}{}", spec.members, spec.spares);
        let (legs, group) = (letters(&spec.members), letters(&group));
        let legs: Vec<&str> = legs.iter().map(String::as_str).collect();
        let group: Vec<&str> = group.iter().map(String::as_str).collect();
        let style = self.world.style;
        let clean = spec.clean;
        self.world = Scenario::over(std::mem::take(&mut self.world))
            .style(style)
            .group(GROUP, &group)
            .volume(
                GROUP,
                &array.to_string(),
                spec.level.clone(),
                &legs,
                LEG_MIB,
            )
            .md(|array| begun(array, clean))
            .build()?;
        Ok("ok".to_owned())
    }

    /// Reads and writes of a drive work again.
    pub(super) fn heal(&mut self, drive: char) -> Result<String, String> {
        let device = self.world.device(&drive.to_string());
        let id = device.ok_or("no such drive")?.id;
        for device in self.world.devices.values_mut() {
            if device.id == id || device.under == Some(id) {
                device.dead = false;
                device.fails_at = None;
            }
        }
        Ok("ok".to_owned())
    }

    /// The table is loaded and waits.
    pub(super) fn load_again(&mut self, name: &str) -> Result<String, String> {
        let array = self.world.arrays.get_mut(name).ok_or("no such array")?;
        let set = array.dm.as_mut().ok_or("it is no raid set")?;
        set.inactive_table = true;
        Ok("ok".to_owned())
    }

    pub(super) fn leg_on(&self, drive: char) -> Result<Target, String> {
        let target = self.target(drive)?;
        let sets = self.world.arrays.values().filter_map(|a| a.dm.as_ref());
        let mut legs = sets.flat_map(|set| set.legs.iter().map(move |leg| (set, leg)));
        let leg = legs.find(|(_, leg)| leg.drive == target.id && !leg.left_out);
        // One that lund laid is shown as the drive.
        let shown = leg.filter(|(set, leg)| set.laid.iter().all(|laid| laid.dev != leg.data));
        let device = shown.and_then(|(_, leg)| self.world.devices.get(&leg.data));
        Ok(device.map_or(target, |device| Target {
            dev: device.dev,
            name: device.name.clone(),
            id: device.id,
        }))
    }

    pub(super) fn metadata_on(&self, drive: char) -> Result<Target, String> {
        let device = self.world.device(&drive.to_string());
        let id = device.ok_or("no such drive")?.id;
        let sets = self.world.arrays.values().filter_map(|a| a.dm.as_ref());
        let mut legs = sets.flat_map(|set| set.former.iter().chain(&set.legs));
        let leg = legs.find(|leg| leg.drive == id);
        let leg = leg.ok_or_else(|| format!("no leg was on {drive}"))?;
        let device = self.world.devices.get(&leg.meta).ok_or("it is gone")?;
        Ok(Target {
            dev: device.dev,
            name: device.name.clone(),
            id: device.id,
        })
    }
}

fn letters(text: &str) -> Vec<String> {
    text.chars().map(String::from).collect()
}

/// A set that was made without `nosync` begins with a resync.
fn begun(array: &mut Array, clean: bool) {
    if !clean {
        array.resync_start = Some(0);
        array.really_dirty = true;
    }
}
