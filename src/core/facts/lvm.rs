//! What LVM says of a volume group (`vgs`, `pvs` and `lvs` with `--reportformat json`). Read only when a
//! plan needs it: each look runs LVM's tools.

use serde::{Deserialize, Serialize};

use crate::id::DevNo;

/// A volume group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeGroup {
    /// Its name.
    pub name: String,
    /// `vg_extent_size`, bytes: everything is allocated in these.
    pub extent_bytes: u64,
    /// Its physical volumes.
    pub physical: Vec<PhysicalVolume>,
    /// Its logical volumes, those that others are made of included.
    pub logical: Vec<LogicalVolume>,
    /// `activation/raid_fault_policy`: what dmeventd does about a failed leg, `warn` or `allocate`.
    pub fault_policy: String,
}

/// A physical volume of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhysicalVolume {
    /// `pv_name`: a node, or `[unknown]` where the device is gone.
    pub node: String,
    /// `pv_uuid`.
    pub uuid: String,
    /// Device number; [`None`] where the device is gone.
    pub dev: Option<DevNo>,
    /// `pv_size`, bytes.
    pub size_bytes: u64,
    /// `pv_free`, bytes.
    pub free_bytes: u64,
    /// `pv_missing`: LVM has no device for it, or does not use the one that came back.
    pub missing: bool,
    /// `pv_allocatable`: new extents may be taken from it (`pvchange -x`).
    pub allocatable: bool,
}

/// A logical volume of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogicalVolume {
    /// `lv_name`, without the brackets of a hidden one.
    pub name: String,
    /// `lv_parent`: the volume that this one is a part of.
    pub parent: Option<String>,
    /// `lv_size`, bytes.
    pub size_bytes: u64,
    /// `devices`: the nodes that it lies on, without the extents.
    pub nodes: Vec<String>,
    /// `lv_health_status`; empty where nothing is wrong.
    pub health: String,
    /// `seg_monitor`: dmeventd looks after it.
    pub monitored: bool,
}

impl VolumeGroup {
    /// The part of `volume` that bears the data of the leg in this slot.
    #[must_use]
    pub fn leg(&self, volume: &str, slot: u32) -> Option<&LogicalVolume> {
        let name = format!("{volume}_rimage_{slot}");
        self.logical.iter().find(|part| part.name == name)
    }

    /// The physical volume of this node.
    #[must_use]
    pub fn physical(&self, node: &str) -> Option<&PhysicalVolume> {
        self.physical.iter().find(|physical| physical.node == node)
    }
}
