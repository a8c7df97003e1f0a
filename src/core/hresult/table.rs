//! The table of HRESULTs that a recovery service can meet.

use super::Hresult;

/// One row of the table.
pub(super) struct Row {
    pub(super) value: u32,
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
}

/// The row of a value.
pub(super) fn find(value: u32) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.value == value)
}

macro_rules! hresults {
    ($($module:ident { $($value:literal $name:ident $meaning:literal)+ })+) => {
        impl Hresult {
            $($(
                #[doc = $meaning]
                pub const $name: Self = Self($value);
            )+)+
        }

        /// Every constant of [`Hresult`].
        pub(super) const TABLE: &[Row] = &[
            $($(Row { value: $value, name: stringify!($name), meaning: $meaning },)+)+
        ];

        #[cfg(test)]
        #[allow(clippy::cast_sign_loss, reason = "an HRESULT is compared bit by bit")]
        fn windows() -> Vec<(&'static str, u32)> {
            use windows_sys::Win32::Storage::VirtualDiskService;

            /// The bindings keep this one in a module of web addresses.
            mod foundation_and_pending {
                pub(super) use windows_sys::Win32::Foundation::*;
                pub(super) const E_PENDING: i32 = -0x7fff_fff6;
            }
            use foundation_and_pending as Foundation;
            vec![$($((
                stringify!($name),
                $module::$name as u32,
            ),)+)+]
        }
    };
}

hresults! {
    Foundation {
        0x0000_0000 S_OK "Done."
        0x0000_0001 S_FALSE "Done, with less than was asked for."
        0x8000_4001 E_NOTIMPL "Not implemented."
        0x8000_4002 E_NOINTERFACE "No such interface."
        0x8000_4003 E_POINTER "An output argument is missing."
        0x8000_4004 E_ABORT "Aborted."
        0x8000_4005 E_FAIL "Failed for no stated reason."
        0x8000_000A E_PENDING "The data is not there yet."
        0x8000_FFFF E_UNEXPECTED "Something impossible happened."
        0x8007_0005 E_ACCESSDENIED "Access denied (the Win32 form)."
        0x8007_0006 E_HANDLE "Not a valid handle."
        0x8007_000E E_OUTOFMEMORY "Out of memory."
        0x8007_0057 E_INVALIDARG "An argument of the caller is not legal."
    }
    VirtualDiskService {
        0x8004_2400 VDS_E_NOT_SUPPORTED "The object or the provider cannot do this."
        0x8004_2401 VDS_E_INITIALIZED_FAILED "The service could not be started."
        0x8004_2402 VDS_E_INITIALIZE_NOT_CALLED "Used before it was initialised."
        0x8004_2404 VDS_E_ANOTHER_CALL_IN_PROGRESS "A conflicting operation on the object runs."
        0x8004_2405 VDS_E_OBJECT_NOT_FOUND "The identifier names nothing."
        0x8004_2409 VDS_E_OPERATION_PENDING "The operation still runs."
        0x8004_240A VDS_E_OPERATION_DENIED "The operation is not allowed on this object."
        0x8004_240B VDS_E_OBJECT_DELETED "The object existed and is gone."
        0x8004_240C VDS_E_CANCEL_TOO_LATE "The operation cannot be cancelled any more."
        0x8004_240D VDS_E_OPERATION_CANCELED "The operation was cancelled."
        0x8004_240F VDS_E_NOT_ENOUGH_SPACE "There is not enough usable space."
        0x8004_2410 VDS_E_NOT_ENOUGH_DRIVE "There are too few usable drives."
        0x8004_2411 VDS_E_BAD_COOKIE "Unknown notification cookie."
        0x8004_2412 VDS_E_NO_MEDIA "There is no medium in the drive."
        0x8004_2413 VDS_E_DEVICE_IN_USE "The device is in use."
        0x8004_2415 VDS_E_INVALID_OPERATION "The operation makes no sense on this object (Recover: no redundancy)."
        0x8004_2416 VDS_E_PATH_NOT_FOUND "The path is missing."
        0x8004_2419 VDS_E_UNRECOVERABLE_ERROR "The service has to stop."
        0x8004_241C VDS_E_PROVIDER_INITIALIZATION_FAILED "The provider could not be started."
        0x8004_241D VDS_E_OBJECT_EXISTS "The object exists already."
        0x8004_241E VDS_E_NO_DISKS_FOUND "No disks were found."
        0x8004_241F VDS_E_PROVIDER_CACHE_CORRUPT "The cached view of the array is wrong: reenumerate, then refresh."
        0x8004_2425 VDS_E_INCOMPATIBLE_FILE_SYSTEM "The file system does not permit it."
        0x8004_2426 VDS_E_INCOMPATIBLE_MEDIA "The medium does not permit it."
        0x8004_2427 VDS_E_ACCESS_DENIED "The caller lacks the right."
        0x8004_2428 VDS_E_MEDIA_WRITE_PROTECTED "The medium is read-only."
        0x8004_242B VDS_E_IO_ERROR "An I/O error happened during the operation."
        0x8004_2431 VDS_E_OBJECT_STATUS_FAILED "The object has the status FAILED."
        0x8004_2433 VDS_E_EXTENT_SIZE_LESS_THAN_MIN "An extent is too small."
        0x8004_2437 VDS_E_NO_FREE_SPACE "There is no free space."
        0x8004_243D VDS_E_VOLUME_NOT_ONLINE "The volume is not online."
        0x8004_243E VDS_E_VOLUME_NOT_HEALTHY "The volume is not healthy."
        0x8004_2441 VDS_E_BAD_PROVIDER_DATA "The provider got or returned nonsense."
        0x8004_2442 VDS_E_PROVIDER_FAILURE "The provider failed an operation."
        0x8004_2445 VDS_E_VOLUME_NOT_A_MIRROR "The volume is not a mirror."
        0x8004_2448 VDS_E_INTERNAL_ERROR "A defect of the service; see its log."
        0x8004_244A VDS_E_PROVIDER_TYPE_NOT_SUPPORTED "The kind of provider is not supported."
        0x8004_244B VDS_E_DISK_NOT_ONLINE "The disk is not online."
        0x8004_244C VDS_E_DISK_IN_USE_BY_VOLUME "The disk is a member of something already."
        0x8004_244E VDS_E_ASYNC_OBJECT_FAILURE "The operation object could not be made."
        0x8004_2453 VDS_E_OBJECT_OUT_OF_SYNC "The view of the object may be stale."
        0x8004_2454 VDS_E_MISSING_DISK "A disk is missing."
        0x8004_2456 VDS_E_LBN_REMAP_ENABLED_FLAG "Block remapping cannot be set."
        0x8004_245F VDS_E_TIMEOUT "No answer in time."
        0x8004_2460 VDS_E_REPAIR_VOLUMESTATE "A repair needs an object that is online, and neither healthy nor rebuilding."
        0x8004_2463 VDS_E_RETRY "Transient: try again."
        0x8004_2501 VDS_E_DISK_NOT_MISSING "The disk is not missing."
        0x8004_2505 VDS_E_DRIVER_INTERNAL_ERROR "The kernel side failed."
        0x8004_2514 VDS_E_PROVIDER_EXITING "The service is shutting down."
        0x8004_2515 VDS_E_EXTENT_EXCEEDS_DISK_FREE_SPACE "An extent exceeds the free space of its disk."
        0x8004_2516 VDS_E_MEMBER_SIZE_INVALID "The size of a member does not fit."
        0x8004_2519 VDS_E_INVALID_DISK "The disk is corrupt, failing or offline."
        0x8004_251C VDS_E_DRIVER_INVALID_PARAM "The kernel refused an argument of the service."
        0x8004_2526 VDS_E_INVALID_DISK_COUNT "The number of disks is wrong."
        0x8004_2528 VDS_E_SOURCE_IS_TARGET_PACK "Source and target are the same."
        0x8004_252A VDS_E_CORRUPT_NOTIFICATION_INFO "A notification could not be understood."
        0x8004_252E VDS_E_DUPLICATE_DISK "A disk was named twice."
        0x8004_252F VDS_E_LAST_VALID_DISK "It is the last valid disk."
        0x8004_2530 VDS_E_INVALID_SECTOR_SIZE "The sector size does not fit."
        0x8004_2533 VDS_E_PLEX_SIZE_INVALID "The size of a copy does not fit."
        0x8004_2534 VDS_E_NO_EXTENTS_FOR_PLEX "A copy has no extents."
        0x8004_2535 VDS_E_INVALID_PLEX_TYPE "The kind of copy is wrong."
        0x8004_2537 VDS_E_NO_HEALTHY_DISKS "All drives involved are missing or failed."
        0x8004_2539 VDS_E_DISK_CONFIGURATION_CORRUPTED "The metadata on a disk is corrupt."
        0x8004_253A VDS_E_DISK_CONFIGURATION_NOT_IN_SYNC "The metadata of the disks disagree."
        0x8004_253B VDS_E_DISK_CONFIGURATION_UPDATE_FAILED "The metadata could not be written."
        0x8004_253D VDS_E_DRIVER_OBJECT_NOT_FOUND "The kernel has no such array."
        0x8004_2540 VDS_E_DISK_IO_FAILING "I/O on a drive fails."
        0x8004_2542 VDS_E_FAULT_TOLERANT_DISKS_NOT_SUPPORTED "Fault tolerant disks are not supported."
        0x8004_2544 VDS_E_MEMBER_IS_HEALTHY "The member is healthy."
        0x8004_2545 VDS_E_MEMBER_REGENERATING "The member is being rebuilt."
        0x8004_2547 VDS_E_PLEX_IS_HEALTHY "The copy is healthy."
        0x8004_2548 VDS_E_PLEX_LAST_ACTIVE "It is the last good copy."
        0x8004_2549 VDS_E_PLEX_MISSING "The copy is missing."
        0x8004_254A VDS_E_MEMBER_MISSING "A member is missing."
        0x8004_254B VDS_E_PLEX_REGENERATING "The copy is being rebuilt."
        0x8004_254D VDS_E_UNEXPECTED_DISK_LAYOUT_CHANGE "The configuration changed behind the service's back."
        0x8004_2556 VDS_E_CACHE_CORRUPT "The service's own cache is corrupt."
        0x8004_2572 VDS_E_PROVIDER_INTERNAL_ERROR "An internal error of the provider."
        0x8004_2575 VDS_E_UNRECOVERABLE_PROVIDER_ERROR "The provider has to stop."
        0x8004_257F VDS_E_VOLUME_SYNCHRONIZING "Blocked by a running resynchronisation."
        0x8004_2580 VDS_E_VOLUME_REGENERATING "Blocked by a running regeneration."
        0x8004_2584 VDS_E_READONLY "The object is read-only."
        0x8004_2587 VDS_E_LOG_UPDATE "The log of the service could not be written."
        0x8004_258B VDS_E_PLEX_NOT_LOADED_TO_CACHE "The copy is not in the cache."
        0x8004_2701 VDS_E_NAME_NOT_UNIQUE "The name is not unique."
        0x8004_2712 VDS_E_PROVIDER_CACHE_OUTOFSYNC "The cache differs from what the driver says."
        0x8004_280A VDS_E_DISK_IS_OFFLINE "The disk is offline."
        0x8004_280B VDS_E_DISK_IS_READ_ONLY "The disk is read-only."
        0x8004_2816 VDS_E_SHRINK_OVER_DATA "There is data behind the new end."
        0x8004_2817 VDS_E_INVALID_SHRINK_SIZE "The size to shrink by is wrong."
        0x8004_2818 VDS_E_LUN_DISK_MISSING "A disk of the LUN is missing."
        0x8004_2819 VDS_E_LUN_DISK_FAILED "A disk of the LUN has failed."
        0x8004_281A VDS_E_LUN_DISK_NOT_READY "A disk of the LUN is not ready."
        0x8004_281B VDS_E_LUN_DISK_NO_MEDIA "A disk of the LUN has no medium."
        0x8004_281C VDS_E_LUN_NOT_READY "The LUN is not ready."
        0x8004_281D VDS_E_LUN_OFFLINE "The LUN is offline."
        0x8004_281E VDS_E_LUN_FAILED "The LUN has failed."
        0x8004_2907 VDS_E_SUBSYSTEM_ID_IS_NULL "The identifier of the subsystem is missing."
        0x8004_291B VDS_E_INVALID_PATH "The path is not legal."
        0x8004_291E VDS_E_LUN_DISK_READ_ONLY "A disk of the LUN is read-only."
        0x8004_291F VDS_E_LUN_UPDATE_DISK "The LUN is done, the view of its disk is not: refresh."
        0x8004_2A00 VDS_E_NO_POOL "There is no storage pool."
        0x8004_2A01 VDS_E_NO_POOL_CREATED "No storage pool was made."
        0x8004_2A05 VDS_E_INVALID_STATE "The state of the object does not permit it."
        0x8004_2B00 VDS_E_SHRINK_EXTEND_UNALIGNED "The size is not aligned."
        0x0004_2421 VDS_S_PROVIDER_ERROR_LOADING_CACHE "Done; some objects could not be loaded."
        0x0004_244D VDS_S_IN_PROGRESS "An operation is in progress."
        0x0004_2508 VDS_S_DISK_IS_MISSING "Done without data of a missing disk."
        0x0004_257A VDS_S_RESYNC_NOTIFICATION_TASK_FAILED "Done; no notices of resynchronisation will come."
        0x0004_2700 VDS_S_NAME_TRUNCATED "Done; the name was cut."
        0x0004_2702 VDS_S_STATUSES_INCOMPLETELY_SET "Done; not every status was set."
        0x0004_2714 VDS_S_ALREADY_EXISTS "It was there already."
        0x0004_2715 VDS_S_PROPERTIES_INCOMPLETE "Done; some properties are missing."
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_constant_equals_the_windows_one() {
        let theirs = windows();
        assert_eq!(TABLE.len(), theirs.len());
        for (row, (name, value)) in TABLE.iter().zip(theirs) {
            assert_eq!(row.name, name);
            assert_eq!(row.value, value, "{name}");
        }
    }

    #[test]
    fn names_and_values_are_unique() {
        let values: BTreeSet<_> = TABLE.iter().map(|row| row.value).collect();
        let names: BTreeSet<_> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!((values.len(), names.len()), (TABLE.len(), TABLE.len()));
    }
}
