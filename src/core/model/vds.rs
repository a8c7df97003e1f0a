//! The enumerations of the Virtual Disk Service with their names and numbers, as `vdshp.idl` and
//! `vdscmmn.idl` of the Windows SDK define them. They travel as their names (`VDS_LS_ONLINE`);
//! the numbers are for those who know VDS from its own interfaces.
//!
//! Every name and number is compared in the tests with the Windows bindings for Rust.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What all VDS enumerations have in common: a C name and a number.
pub trait VdsEnum: Copy + Sized + 'static {
    /// Every enumerator, by rising number.
    const ALL: &'static [Self];

    /// Name in the Windows headers, `VDS_LS_ONLINE`.
    fn name(self) -> &'static str;

    /// Number in the Windows headers.
    fn value(self) -> i32;

    /// The enumerator with this number. VDS asks that unknown numbers be tolerated and never
    /// taken for another value, hence [`None`].
    #[must_use]
    fn from_value(value: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|item| item.value() == value)
    }

    /// The enumerator with this name.
    #[must_use]
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|item| item.name() == name)
    }
}

macro_rules! vds_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident = $value:literal => $c_name:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$item_doc])* $item,)+
        }

        impl VdsEnum for $name {
            const ALL: &'static [Self] = &[$(Self::$item,)+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$item => stringify!($c_name),)+
                }
            }

            fn value(self) -> i32 {
                match self {
                    $(Self::$item => $value,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = String::deserialize(deserializer)?;
                Self::from_name(&name).ok_or_else(|| {
                    serde::de::Error::custom(format!("{name:?} is not a {}", stringify!($name)))
                })
            }
        }

        #[cfg(test)]
        impl tests::Oracle for $name {
            fn theirs(self) -> i64 {
                use windows_sys::Win32::Storage::VirtualDiskService as theirs;
                match self {
                    $(Self::$item => i64::from(theirs::$c_name),)+
                }
            }
        }
    };
}

vds_enum! {
    /// Availability of a LUN (`VDS_LUN_STATUS`). A plex has the same words with the same numbers
    /// under the prefix `VDS_LPS_`.
    LunStatus {
        /// Reserved by VDS; shown when nothing is known.
        Unknown = 0 => VDS_LS_UNKNOWN,
        /// Available.
        Online = 1 => VDS_LS_ONLINE,
        /// Busy, for a while.
        NotReady = 2 => VDS_LS_NOT_READY,
        /// Unavailable by choice.
        Offline = 4 => VDS_LS_OFFLINE,
        /// Failed: Recover cannot revive it.
        Failed = 5 => VDS_LS_FAILED,
    }
}

vds_enum! {
    /// Fault state (`VDS_HEALTH`). Which values an object may have is in [`Health::allowed_for_lun`]
    /// and [`Health::allowed_for_drive`].
    Health {
        /// Cannot be determined.
        Unknown = 0 => VDS_H_UNKNOWN,
        /// Works fully; never together with the status FAILED.
        Healthy = 1 => VDS_H_HEALTHY,
        /// A mirror is resynchronised, or parity is regenerated.
        Rebuilding = 2 => VDS_H_REBUILDING,
        /// Stale configuration; software volumes only, never a LUN.
        Stale = 3 => VDS_H_STALE,
        /// Works, with recoverable errors.
        Failing = 4 => VDS_H_FAILING,
        /// Some copy has errors, all are online.
        FailingRedundancy = 5 => VDS_H_FAILING_REDUNDANCY,
        /// Some copy has failed, at least one works.
        FailedRedundancy = 6 => VDS_H_FAILED_REDUNDANCY,
        /// The last working copy is failing.
        FailedRedundancyFailing = 7 => VDS_H_FAILED_REDUNDANCY_FAILING,
        /// Failed; the status must be FAILED as well.
        Failed = 8 => VDS_H_FAILED,
        /// Reserved by VDS; never used.
        Replaced = 9 => VDS_H_REPLACED,
        /// A drive that is expected to fail.
        PendingFailure = 10 => VDS_H_PENDING_FAILURE,
        /// Subsystems, controllers and pools with partly failed parts; never a LUN.
        Degraded = 11 => VDS_H_DEGRADED,
    }
}

vds_enum! {
    /// Configuration change in flight (`VDS_TRANSITION_STATE`). A rebuild is health, not transition.
    Transition {
        /// Cannot be determined.
        Unknown = 0 => VDS_TS_UNKNOWN,
        /// No configuration change runs.
        Stable = 1 => VDS_TS_STABLE,
        /// Growing.
        Extending = 2 => VDS_TS_EXTENDING,
        /// Getting smaller.
        Shrinking = 3 => VDS_TS_SHRINKING,
        /// The level is being changed.
        Reconfiging = 4 => VDS_TS_RECONFIGING,
        /// Chunk, layout or number of members is being changed.
        Restriping = 5 => VDS_TS_RESTRIPING,
    }
}

vds_enum! {
    /// Kind of a LUN (`VDS_LUN_TYPE`). A plex has the same numbers under the prefix `VDS_LPT_`.
    LunType {
        /// Cannot be determined.
        Unknown = 0 => VDS_LT_UNKNOWN,
        /// Input of CreateLun only.
        Default = 1 => VDS_LT_DEFAULT,
        /// Input of CreateLun only.
        FaultTolerant = 2 => VDS_LT_FAULT_TOLERANT,
        /// Input of CreateLun only.
        NonFaultTolerant = 3 => VDS_LT_NON_FAULT_TOLERANT,
        /// One drive.
        Simple = 10 => VDS_LT_SIMPLE,
        /// Concatenation.
        Span = 11 => VDS_LT_SPAN,
        /// RAID 0.
        Stripe = 12 => VDS_LT_STRIPE,
        /// RAID 1.
        Mirror = 13 => VDS_LT_MIRROR,
        /// Any parity RAID, for old clients.
        Parity = 14 => VDS_LT_PARITY,
        /// RAID 2.
        Raid2 = 15 => VDS_LT_RAID2,
        /// RAID 3.
        Raid3 = 16 => VDS_LT_RAID3,
        /// RAID 4.
        Raid4 = 17 => VDS_LT_RAID4,
        /// RAID 5.
        Raid5 = 18 => VDS_LT_RAID5,
        /// RAID 6.
        Raid6 = 19 => VDS_LT_RAID6,
        /// RAID 01.
        Raid01 = 20 => VDS_LT_RAID01,
        /// RAID 03.
        Raid03 = 21 => VDS_LT_RAID03,
        /// RAID 05.
        Raid05 = 22 => VDS_LT_RAID05,
        /// RAID 10.
        Raid10 = 23 => VDS_LT_RAID10,
        /// RAID 15.
        Raid15 = 24 => VDS_LT_RAID15,
        /// RAID 30.
        Raid30 = 25 => VDS_LT_RAID30,
        /// RAID 50.
        Raid50 = 26 => VDS_LT_RAID50,
        /// RAID 51.
        Raid51 = 27 => VDS_LT_RAID51,
        /// RAID 53.
        Raid53 = 28 => VDS_LT_RAID53,
        /// RAID 60.
        Raid60 = 29 => VDS_LT_RAID60,
        /// RAID 61.
        Raid61 = 30 => VDS_LT_RAID61,
    }
}

vds_enum! {
    /// Availability of a drive (`VDS_DRIVE_STATUS`).
    DriveStatus {
        /// Cannot be determined.
        Unknown = 0 => VDS_DRS_UNKNOWN,
        /// Available and in use.
        Online = 1 => VDS_DRS_ONLINE,
        /// Busy, for a while.
        NotReady = 2 => VDS_DRS_NOT_READY,
        /// Present, taken out of its LUN without a failure.
        Offline = 4 => VDS_DRS_OFFLINE,
        /// Failed.
        Failed = 5 => VDS_DRS_FAILED,
        /// Unplugged.
        Removed = 8 => VDS_DRS_REMOVED,
    }
}

vds_enum! {
    /// One flag of a drive (`VDS_DRIVE_FLAG`); the number is a bit.
    DriveFlag {
        /// Reserved as a hot spare.
        HotSpare = 1 => VDS_DRF_HOTSPARE,
        /// Belongs to a LUN.
        Assigned = 2 => VDS_DRF_ASSIGNED,
        /// Belongs to no LUN.
        Unassigned = 4 => VDS_DRF_UNASSIGNED,
        /// Serves in place of another drive.
        HotSpareInUse = 8 => VDS_DRF_HOTSPARE_IN_USE,
        /// Waits for its turn.
        HotSpareStandby = 16 => VDS_DRF_HOTSPARE_STANDBY,
    }
}

vds_enum! {
    /// What an asynchronous operation gives (`VDS_ASYNC_OUTPUT_TYPE`).
    AsyncOutput {
        /// An operation that VDS has no word for (verify, repair).
        Unknown = 0 => VDS_ASYNCOUT_UNKNOWN,
        /// Creates a volume.
        CreateVolume = 1 => VDS_ASYNCOUT_CREATEVOLUME,
        /// Extends a volume.
        ExtendVolume = 2 => VDS_ASYNCOUT_EXTENDVOLUME,
        /// Shrinks a volume.
        ShrinkVolume = 3 => VDS_ASYNCOUT_SHRINKVOLUME,
        /// Adds a copy to a volume.
        AddVolumePlex = 4 => VDS_ASYNCOUT_ADDVOLUMEPLEX,
        /// Splits a copy off a volume.
        BreakVolumePlex = 5 => VDS_ASYNCOUT_BREAKVOLUMEPLEX,
        /// Removes a copy of a volume.
        RemoveVolumePlex = 6 => VDS_ASYNCOUT_REMOVEVOLUMEPLEX,
        /// Repairs a copy of a volume.
        RepairVolumePlex = 7 => VDS_ASYNCOUT_REPAIRVOLUMEPLEX,
        /// Recovers a disk pack.
        RecoverPack = 8 => VDS_ASYNCOUT_RECOVERPACK,
        /// Replaces a drive; reserved by VDS, used by lund for ReplaceDrive.
        ReplaceDisk = 9 => VDS_ASYNCOUT_REPLACEDISK,
        /// Creates a partition.
        CreatePartition = 10 => VDS_ASYNCOUT_CREATEPARTITION,
        /// Cleans a disk.
        Clean = 11 => VDS_ASYNCOUT_CLEAN,
        /// Creates a LUN.
        CreateLun = 50 => VDS_ASYNCOUT_CREATELUN,
        /// Adds a copy to a LUN.
        AddLunPlex = 52 => VDS_ASYNCOUT_ADDLUNPLEX,
        /// Removes a copy of a LUN.
        RemoveLunPlex = 53 => VDS_ASYNCOUT_REMOVELUNPLEX,
        /// Extends a LUN.
        ExtendLun = 54 => VDS_ASYNCOUT_EXTENDLUN,
        /// Shrinks a LUN.
        ShrinkLun = 55 => VDS_ASYNCOUT_SHRINKLUN,
        /// `IVdsLun::Recover`.
        RecoverLun = 56 => VDS_ASYNCOUT_RECOVERLUN,
        /// Logs in to an iSCSI target.
        LoginToTarget = 60 => VDS_ASYNCOUT_LOGINTOTARGET,
        /// Logs out of an iSCSI target.
        LogoutFromTarget = 61 => VDS_ASYNCOUT_LOGOUTFROMTARGET,
        /// Creates an iSCSI target.
        CreateTarget = 62 => VDS_ASYNCOUT_CREATETARGET,
        /// Creates an iSCSI portal group.
        CreatePortalGroup = 63 => VDS_ASYNCOUT_CREATEPORTALGROUP,
        /// Deletes an iSCSI target.
        DeleteTarget = 64 => VDS_ASYNCOUT_DELETETARGET,
        /// Adds an iSCSI portal.
        AddPortal = 65 => VDS_ASYNCOUT_ADDPORTAL,
        /// Removes an iSCSI portal.
        RemovePortal = 66 => VDS_ASYNCOUT_REMOVEPORTAL,
        /// Deletes an iSCSI portal group.
        DeletePortalGroup = 67 => VDS_ASYNCOUT_DELETEPORTALGROUP,
        /// Formats a volume.
        Format = 101 => VDS_ASYNCOUT_FORMAT,
        /// Creates a virtual disk.
        CreateVdisk = 200 => VDS_ASYNCOUT_CREATE_VDISK,
        /// Attaches a virtual disk.
        AttachVdisk = 201 => VDS_ASYNCOUT_ATTACH_VDISK,
        /// Compacts a virtual disk.
        CompactVdisk = 202 => VDS_ASYNCOUT_COMPACT_VDISK,
        /// Merges virtual disks.
        MergeVdisk = 203 => VDS_ASYNCOUT_MERGE_VDISK,
        /// Expands a virtual disk.
        ExpandVdisk = 204 => VDS_ASYNCOUT_EXPAND_VDISK,
    }
}

vds_enum! {
    /// Event codes of the hardware side (`VDS_NF_*`): the rest speak of volumes and partitions.
    NotificationEvent {
        /// A subsystem appeared.
        SubSystemArrive = 101 => VDS_NF_SUB_SYSTEM_ARRIVE,
        /// A subsystem is gone.
        SubSystemDepart = 102 => VDS_NF_SUB_SYSTEM_DEPART,
        /// A controller appeared.
        ControllerArrive = 103 => VDS_NF_CONTROLLER_ARRIVE,
        /// A controller is gone.
        ControllerDepart = 104 => VDS_NF_CONTROLLER_DEPART,
        /// A drive appeared.
        DriveArrive = 105 => VDS_NF_DRIVE_ARRIVE,
        /// A drive is gone.
        DriveDepart = 106 => VDS_NF_DRIVE_DEPART,
        /// A drive changed.
        DriveModify = 107 => VDS_NF_DRIVE_MODIFY,
        /// A LUN appeared.
        LunArrive = 108 => VDS_NF_LUN_ARRIVE,
        /// A LUN is gone.
        LunDepart = 109 => VDS_NF_LUN_DEPART,
        /// A LUN changed.
        LunModify = 110 => VDS_NF_LUN_MODIFY,
        /// A controller port appeared.
        PortArrive = 121 => VDS_NF_PORT_ARRIVE,
        /// A controller port is gone.
        PortDepart = 122 => VDS_NF_PORT_DEPART,
        /// An iSCSI portal appeared.
        PortalArrive = 123 => VDS_NF_PORTAL_ARRIVE,
        /// An iSCSI portal is gone.
        PortalDepart = 124 => VDS_NF_PORTAL_DEPART,
        /// An iSCSI portal changed.
        PortalModify = 125 => VDS_NF_PORTAL_MODIFY,
        /// An iSCSI target appeared.
        TargetArrive = 126 => VDS_NF_TARGET_ARRIVE,
        /// An iSCSI target is gone.
        TargetDepart = 127 => VDS_NF_TARGET_DEPART,
        /// An iSCSI target changed.
        TargetModify = 128 => VDS_NF_TARGET_MODIFY,
        /// An iSCSI portal group appeared.
        PortalGroupArrive = 129 => VDS_NF_PORTAL_GROUP_ARRIVE,
        /// An iSCSI portal group is gone.
        PortalGroupDepart = 130 => VDS_NF_PORTAL_GROUP_DEPART,
        /// An iSCSI portal group changed.
        PortalGroupModify = 131 => VDS_NF_PORTAL_GROUP_MODIFY,
        /// A subsystem changed.
        SubSystemModify = 151 => VDS_NF_SUB_SYSTEM_MODIFY,
        /// The service and what it manages are out of step.
        ServiceOutOfSync = 301 => VDS_NF_SERVICE_OUT_OF_SYNC,
        /// A controller changed.
        ControllerModify = 350 => VDS_NF_CONTROLLER_MODIFY,
        /// A controller is out of use.
        ControllerRemoved = 351 => VDS_NF_CONTROLLER_REMOVED,
        /// A controller port changed.
        PortModify = 352 => VDS_NF_PORT_MODIFY,
        /// A controller port is out of use.
        PortRemoved = 353 => VDS_NF_PORT_REMOVED,
        /// A drive is out of use.
        DriveRemoved = 354 => VDS_NF_DRIVE_REMOVED,
    }
}

vds_enum! {
    /// Kind of a VDS object (`VDS_OBJECT_TYPE`).
    ObjectType {
        /// No known kind.
        Unknown = 0 => VDS_OT_UNKNOWN,
        /// A provider: this service.
        Provider = 1 => VDS_OT_PROVIDER,
        /// A pack.
        Pack = 10 => VDS_OT_PACK,
        /// A volume.
        Volume = 11 => VDS_OT_VOLUME,
        /// A volume plex.
        VolumePlex = 12 => VDS_OT_VOLUME_PLEX,
        /// A disk.
        Disk = 13 => VDS_OT_DISK,
        /// A subsystem: this host.
        SubSystem = 30 => VDS_OT_SUB_SYSTEM,
        /// A controller: a kernel driver.
        Controller = 31 => VDS_OT_CONTROLLER,
        /// A drive.
        Drive = 32 => VDS_OT_DRIVE,
        /// A LUN: an array.
        Lun = 33 => VDS_OT_LUN,
        /// A full copy of a LUN's data.
        LunPlex = 34 => VDS_OT_LUN_PLEX,
        /// A controller port.
        Port = 35 => VDS_OT_PORT,
        /// A portal.
        Portal = 36 => VDS_OT_PORTAL,
        /// A target.
        Target = 37 => VDS_OT_TARGET,
        /// A portal group.
        PortalGroup = 38 => VDS_OT_PORTAL_GROUP,
        /// A storage pool.
        StoragePool = 39 => VDS_OT_STORAGE_POOL,
        /// A host bus adapter's port.
        HbaPort = 90 => VDS_OT_HBAPORT,
        /// An iSCSI initiator's adapter.
        InitAdapter = 91 => VDS_OT_INIT_ADAPTER,
        /// An iSCSI initiator's portal.
        InitPortal = 92 => VDS_OT_INIT_PORTAL,
        /// An operation.
        Async = 100 => VDS_OT_ASYNC,
        /// An enumeration.
        Enum = 101 => VDS_OT_ENUM,
        /// A virtual disk.
        Vdisk = 200 => VDS_OT_VDISK,
        /// An open virtual disk.
        OpenVdisk = 201 => VDS_OT_OPEN_VDISK,
    }
}

impl LunStatus {
    /// The plex form of the name, `VDS_LPS_ONLINE`.
    #[must_use]
    pub const fn plex_name(self) -> &'static str {
        match self {
            Self::Unknown => "VDS_LPS_UNKNOWN",
            Self::Online => "VDS_LPS_ONLINE",
            Self::NotReady => "VDS_LPS_NOT_READY",
            Self::Offline => "VDS_LPS_OFFLINE",
            Self::Failed => "VDS_LPS_FAILED",
        }
    }
}

impl Health {
    /// Whether a LUN or a plex may have this health (table of the `VDS_HEALTH` page).
    #[must_use]
    pub const fn allowed_for_lun(self) -> bool {
        match self {
            Self::Unknown
            | Self::Healthy
            | Self::Rebuilding
            | Self::Failing
            | Self::FailingRedundancy
            | Self::FailedRedundancy
            | Self::FailedRedundancyFailing
            | Self::Failed => true,
            Self::Stale | Self::Replaced | Self::PendingFailure | Self::Degraded => false,
        }
    }

    /// Whether a drive may have this health (same table; `REPLACED` is reserved).
    #[must_use]
    pub const fn allowed_for_drive(self) -> bool {
        match self {
            Self::Unknown | Self::Healthy | Self::Failed | Self::PendingFailure => true,
            Self::Rebuilding
            | Self::Stale
            | Self::Failing
            | Self::FailingRedundancy
            | Self::FailedRedundancy
            | Self::FailedRedundancyFailing
            | Self::Replaced
            | Self::Degraded => false,
        }
    }
}

impl DriveFlag {
    /// The bit of this flag.
    #[must_use]
    pub const fn bit(self) -> u32 {
        match self {
            Self::HotSpare => 0x01,
            Self::Assigned => 0x02,
            Self::Unassigned => 0x04,
            Self::HotSpareInUse => 0x08,
            Self::HotSpareStandby => 0x10,
        }
    }

    /// All flags in one number, as `VDS_DRIVE_PROP.ulFlags` holds them.
    #[must_use]
    pub fn mask(flags: &[Self]) -> u32 {
        flags.iter().fold(0, |mask, flag| mask | flag.bit())
    }

    /// The known flags of a number, by rising bit; unknown bits are passed over.
    #[must_use]
    pub fn from_mask(mask: u32) -> Vec<Self> {
        Self::ALL
            .iter()
            .copied()
            .filter(|flag| mask & flag.bit() != 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same enumerator in the Windows bindings.
    pub(super) trait Oracle {
        fn theirs(self) -> i64;
    }

    fn compare<T>()
    where
        T: VdsEnum + Oracle + fmt::Debug + Ord + Serialize + for<'de> Deserialize<'de>,
    {
        for &item in T::ALL {
            assert_eq!(i64::from(item.value()), item.theirs(), "{}", item.name());
            assert_eq!(T::from_value(item.value()), Some(item));
            assert_eq!(T::from_name(item.name()), Some(item));
            let json = serde_json::to_string(&item).unwrap();
            assert_eq!(json, format!("\"{}\"", item.name()));
            assert_eq!(serde_json::from_str::<T>(&json).unwrap(), item);
        }
        assert!(T::ALL.is_sorted());
        assert!(T::ALL.is_sorted_by_key(|item| item.value()));
        assert_eq!(T::from_value(-1), None);
        assert!(serde_json::from_str::<T>("\"VDS_NONSENSE\"").is_err());
    }

    #[test]
    fn every_enumerator_equals_the_windows_one() {
        compare::<LunStatus>();
        compare::<Health>();
        compare::<Transition>();
        compare::<LunType>();
        compare::<DriveStatus>();
        compare::<DriveFlag>();
        compare::<AsyncOutput>();
        compare::<NotificationEvent>();
        compare::<ObjectType>();
    }

    #[test]
    fn plex_names_have_the_numbers_of_lun_status() {
        use windows_sys::Win32::Storage::VirtualDiskService as theirs;
        let expected = [
            (LunStatus::Unknown, theirs::VDS_LPS_UNKNOWN),
            (LunStatus::Online, theirs::VDS_LPS_ONLINE),
            (LunStatus::NotReady, theirs::VDS_LPS_NOT_READY),
            (LunStatus::Offline, theirs::VDS_LPS_OFFLINE),
            (LunStatus::Failed, theirs::VDS_LPS_FAILED),
        ];
        for (status, number) in expected {
            assert_eq!(status.value(), number);
            assert_eq!(status.plex_name().replace("LPS", "LS"), status.name());
        }
    }

    #[test]
    fn flags_and_masks_convert_both_ways() {
        for &flag in DriveFlag::ALL {
            assert_eq!(i64::from(flag.bit()), i64::from(flag.value()));
        }
        for mask in 0..32 {
            assert_eq!(DriveFlag::mask(&DriveFlag::from_mask(mask)), mask);
        }
        assert_eq!(DriveFlag::from_mask(0x8000_0000), []);
    }
}
