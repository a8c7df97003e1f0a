//! Proxies of the service's objects. [`crate::Client`] is the easier way in.
//!
//! Properties are not cached: a client asks for what is, not for what it saw last.

use std::collections::HashMap;

use zbus::{OwnedObjectPath, Result, Variant, proxy};

/// An extent (`VDS_DRIVE_EXTENT`): drive, LUN (`/` where it is free), bytes, in use.
pub type Extent = (OwnedObjectPath, OwnedObjectPath, u64, bool);

/// Options of a call, `a{sv}`.
pub type Dict<'a> = HashMap<&'a str, Variant<'a>>;

/// The provider: the service itself.
#[proxy(
    interface = "org.lund.Vds1.Provider",
    default_service = "org.lund.Vds1",
    default_path = "/org/lund/Vds1"
)]
pub trait Provider {
    /// Re-reads everything and accepts what the kernel says (`IVdsHwProvider::Refresh`).
    #[zbus(allow_interactive_auth)]
    fn refresh(&self) -> Result<()>;

    /// Looks for arrays and drives that came or went (`IVdsHwProvider::Reenumerate`).
    #[zbus(allow_interactive_auth)]
    fn reenumerate(&self) -> Result<()>;

    /// The LUN of this name: identity, unique beginning of it, `md0`, `/dev/md0`, `/dev/md/NAME`.
    fn find_lun(&self, name: &str) -> Result<OwnedObjectPath>;

    /// The drive of this name: identity, unique beginning of it, node or link under `/dev`.
    fn find_drive(&self, name: &str) -> Result<OwnedObjectPath>;

    /// Everything that clients may see, as JSON ([`crate::HostView`]).
    fn describe(&self) -> Result<String>;

    /// Remembered notifications with a number above `since`, as a JSON array of
    /// [`crate::Event`], oldest first, [`crate::MAX_PAGE`] at most: ask on from the last one until
    /// none is left.
    fn query_events(&self, since: u64) -> Result<String>;

    /// The newest notifications, `limit` of them (1 to [`crate::MAX_PAGE`]), as a JSON array of
    /// [`crate::Event`], oldest first.
    fn query_recent_events(&self, limit: u32) -> Result<String>;

    /// Operations of any age, newest first, as JSON of [`crate::HistoryPage`]. Options: `lun` (s),
    /// `before` (t), `limit` (u); see [`crate::HistoryOptions`].
    fn query_operations(&self, options: Dict<'_>) -> Result<String>;

    /// An operation of any age with its steps, as JSON of [`crate::OpHistory`].
    fn query_operation(&self, id: u64) -> Result<String>;

    /// Registers a drive in the spare pool.
    #[zbus(allow_interactive_auth)]
    fn spare_add(&self, drive: &str, options: Dict<'_>) -> Result<OwnedObjectPath>;

    /// Takes a drive out of the spare pool.
    #[zbus(allow_interactive_auth)]
    fn spare_remove(&self, drive: &str) -> Result<()>;

    /// Something happened: VDS event code (0 where VDS has none), kind of object (`lun`,
    /// `operation`, `service`), its path, sequence number, and a sentence.
    #[zbus(signal)]
    fn notification(
        &self,
        event: u32,
        kind: &str,
        object: zbus::ObjectPath<'_>,
        seq: u64,
        text: &str,
    ) -> Result<()>;

    /// Version of the service.
    #[zbus(property)]
    fn version(&self) -> Result<String>;

    /// The provider's lasting GUID.
    #[zbus(property)]
    fn id(&self) -> Result<String>;

    /// `ok`, or `degraded: ` and why.
    #[zbus(property)]
    fn ledger_state(&self) -> Result<String>;

    /// What is wrong with the configuration, so that it is not in force; empty when nothing is.
    #[zbus(property)]
    fn config_error(&self) -> Result<String>;
}

/// The subsystem: this host.
#[proxy(
    interface = "org.lund.Vds1.SubSystem",
    default_service = "org.lund.Vds1",
    default_path = "/org/lund/Vds1/subsystem"
)]
pub trait SubSystem {
    /// Looks for arrays and drives that came or went (`IVdsSubSystem::Reenumerate`).
    #[zbus(allow_interactive_auth)]
    fn reenumerate(&self) -> Result<()>;

    /// Moves the data of a drive to another (`IVdsSubSystem::ReplaceDrive`), whichever LUN it is in.
    #[zbus(allow_interactive_auth)]
    fn replace_drive(&self, drive: &str, replacement: &str) -> Result<OwnedObjectPath>;

    /// Paths of all LUNs.
    fn query_luns(&self) -> Result<Vec<OwnedObjectPath>>;

    /// Paths of all drives.
    fn query_drives(&self) -> Result<Vec<OwnedObjectPath>>;

    /// Paths of all controllers.
    fn query_controllers(&self) -> Result<Vec<OwnedObjectPath>>;

    /// Name of the host.
    #[zbus(property)]
    fn friendly_name(&self) -> Result<String>;
}

/// A controller: a kernel driver.
#[proxy(
    interface = "org.lund.Vds1.Controller",
    default_service = "org.lund.Vds1"
)]
pub trait Controller {
    /// Paths of the LUNs that the driver carries (`IVdsController::QueryAssociatedLuns`).
    #[zbus(name = "QueryAssociatedLuns")]
    fn query_associated_luns(&self) -> Result<Vec<OwnedObjectPath>>;

    /// Name of the driver.
    #[zbus(property)]
    fn friendly_name(&self) -> Result<String>;

    /// `VDS_CONTROLLER_STATUS`.
    #[zbus(property)]
    fn status(&self) -> Result<i32>;
}

/// A LUN: an array.
#[proxy(interface = "org.lund.Vds1.Lun", default_service = "org.lund.Vds1")]
pub trait Lun {
    /// Starts recovery (`IVdsLun::Recover`). Options: `spare` (s), `repair` (b); see
    /// [`crate::RecoverOptions`].
    #[zbus(allow_interactive_auth)]
    fn recover(&self, options: Dict<'_>) -> Result<OwnedObjectPath>;

    /// What [`recover`](Self::recover) would do, as JSON of `lun_core::plan::Plan`.
    fn plan_recover(&self, options: Dict<'_>) -> Result<String>;

    /// Moves the data off a drive (`IVdsSubSystem::ReplaceDrive`). Options: `with` (s); see
    /// [`crate::ReplaceOptions`].
    #[zbus(allow_interactive_auth)]
    fn replace_drive(&self, drive: &str, options: Dict<'_>) -> Result<OwnedObjectPath>;

    /// What [`replace_drive`](Self::replace_drive) would do, as JSON.
    fn plan_replace(&self, drive: &str, options: Dict<'_>) -> Result<String>;

    /// Why the LUN is as it is, what a recovery would do now, and what would change that, as JSON
    /// of `lun_core::plan::Explanation`.
    fn explain(&self) -> Result<String>;

    /// Compares all copies.
    #[zbus(allow_interactive_auth)]
    fn verify(&self) -> Result<OwnedObjectPath>;

    /// Ends a hold.
    #[zbus(allow_interactive_auth)]
    fn release(&self) -> Result<()>;

    /// The hints in force (`IVdsLun::QueryHints`), under the names of `VDS_HINTS`.
    fn query_hints(&self) -> Result<HashMap<String, zbus::OwnedVariant>>;

    /// Other hints (`IVdsLun::ApplyHints`); see [`crate::HintOptions`].
    #[zbus(allow_interactive_auth)]
    fn apply_hints(&self, hints: Dict<'_>) -> Result<()>;

    /// The plexes (`IVdsLun::QueryPlexes`), as a JSON array of `lun_core::model::Plex`.
    fn query_plexes(&self) -> Result<String>;

    /// What a disk would answer to an inquiry (`IVdsLun::GetIdentificationData`), as JSON.
    fn get_identification_data(&self) -> Result<String>;

    /// The LUN, as JSON of `lun_core::model::Lun`.
    fn describe(&self) -> Result<String>;

    /// Kernel name, `md0`.
    #[zbus(property)]
    fn name(&self) -> Result<String>;

    /// Path of the running operation, `/` when there is none.
    #[zbus(property)]
    fn operation(&self) -> Result<OwnedObjectPath>;
}

/// A plex: one full copy of a LUN's data (`IVdsLunPlex`).
#[proxy(interface = "org.lund.Vds1.Plex", default_service = "org.lund.Vds1")]
pub trait Plex {
    /// The extents of drives that carry it (`IVdsLunPlex::QueryExtents`).
    fn query_extents(&self) -> Result<Vec<Extent>>;

    /// The plex, as JSON of `lun_core::model::Plex`.
    fn describe(&self) -> Result<String>;
}

/// A drive.
#[proxy(interface = "org.lund.Vds1.Drive", default_service = "org.lund.Vds1")]
pub trait Drive {
    /// Sets flags (`IVdsDrive::SetFlags`); only `VDS_DRF_HOTSPARE` (1) can be set.
    #[zbus(allow_interactive_auth)]
    fn set_flags(&self, flags: u32) -> Result<()>;

    /// Clears flags (`IVdsDrive::ClearFlags`); only `VDS_DRF_HOTSPARE` (1) can be cleared.
    #[zbus(allow_interactive_auth)]
    fn clear_flags(&self, flags: u32) -> Result<()>;

    /// Switches the light of its bay on (`IVdsMaintenance::StartMaintenance` with `BlinkLight`, 1).
    #[zbus(allow_interactive_auth)]
    fn start_maintenance(&self, operation: u32) -> Result<()>;

    /// Switches it off again.
    #[zbus(allow_interactive_auth)]
    fn stop_maintenance(&self, operation: u32) -> Result<()>;

    /// Its extents, used and free (`IVdsDrive::QueryExtents`).
    fn query_extents(&self) -> Result<Vec<Extent>>;

    /// The drive, as JSON of `lun_core::model::Drive`.
    fn describe(&self) -> Result<String>;

    /// Node, `/dev/sda1`.
    #[zbus(property)]
    fn device(&self) -> Result<String>;
}

/// An operation (`IVdsAsync`).
#[proxy(interface = "org.lund.Vds1.Async", default_service = "org.lund.Vds1")]
pub trait Async {
    /// HRESULT (`VDS_E_OPERATION_PENDING` while it runs) and percentage (0 to 99, 100 at the end).
    fn query_status(&self) -> Result<(u32, u32)>;

    /// Waits for the end; `timeout_ms` 0 waits for ever. Answers with the operation's HRESULT and
    /// output type, or fails with `VDS_E_TIMEOUT` while the operation goes on.
    fn wait(&self, timeout_ms: u64) -> Result<(u32, i32)>;

    /// Asks for its end. Option: `release_spare` (b); see [`crate::CancelOptions`].
    #[zbus(allow_interactive_auth)]
    fn cancel(&self, options: Dict<'_>) -> Result<()>;

    /// The operation, as JSON of `lun_core::model::OpView`.
    fn describe(&self) -> Result<String>;
}
