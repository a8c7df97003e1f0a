//! Names and paths on the bus. They are an interface: they grow by adding, never by changing.

use lun_core::id::{DriveId, LunId, OpId};
use lun_core::model::Driver;
use uuid::Uuid;
use zbus::ObjectPath;
use zbus::OwnedObjectPath;

/// Well-known name of the service.
pub const BUS_NAME: &str = "org.lund.Vds1";
/// Name that a daemon holds for as long as it runs, so that there is one at a time. Clients go by
/// [`BUS_NAME`], which appears when they may look.
pub const LOCK_NAME: &str = "org.lund.Vds1.Daemon";
/// Root of all objects: the provider, and the object manager.
pub const ROOT_PATH: &str = "/org/lund/Vds1";
/// The one subsystem: this host.
pub const SUB_SYSTEM_PATH: &str = "/org/lund/Vds1/subsystem";
/// The controller that stands for the md driver.
pub const MD_CONTROLLER_PATH: &str = "/org/lund/Vds1/controller/md";
/// The controller that stands for device-mapper.
pub const DM_CONTROLLER_PATH: &str = "/org/lund/Vds1/controller/device_mapper";
/// Path that stands for "no object" in a property of type object path.
pub const NO_OBJECT: &str = "/";

/// Interface of the provider (`IVdsHwProvider`), on [`ROOT_PATH`].
pub const PROVIDER_INTERFACE: &str = "org.lund.Vds1.Provider";
/// Interface of the subsystem (`IVdsSubSystem`).
pub const SUB_SYSTEM_INTERFACE: &str = "org.lund.Vds1.SubSystem";
/// Interface of a controller (`IVdsController`).
pub const CONTROLLER_INTERFACE: &str = "org.lund.Vds1.Controller";
/// Interface of a LUN (`IVdsLun`).
pub const LUN_INTERFACE: &str = "org.lund.Vds1.Lun";
/// Interface of a plex (`IVdsLunPlex`).
pub const PLEX_INTERFACE: &str = "org.lund.Vds1.Plex";
/// Interface of a drive (`IVdsDrive`).
pub const DRIVE_INTERFACE: &str = "org.lund.Vds1.Drive";
/// Interface of an operation (`IVdsAsync`).
pub const ASYNC_INTERFACE: &str = "org.lund.Vds1.Async";
/// Every error name of the service begins with this.
pub const ERROR_PREFIX: &str = "org.lund.Vds1.Error.";

const LUN_PREFIX: &str = "/org/lund/Vds1/lun/";
const PLEX_PREFIX: &str = "/org/lund/Vds1/plex/";
const DRIVE_PREFIX: &str = "/org/lund/Vds1/drive/";
const OP_PREFIX: &str = "/org/lund/Vds1/op/";

/// Path of a LUN.
#[must_use]
pub fn lun_path(id: LunId) -> OwnedObjectPath {
    owned(format!("{LUN_PREFIX}{}", element(id.0)))
}

/// Path of a plex.
#[must_use]
pub fn plex_path(id: Uuid) -> OwnedObjectPath {
    owned(format!("{PLEX_PREFIX}{}", element(id)))
}

/// Path of a drive.
#[must_use]
pub fn drive_path(id: DriveId) -> OwnedObjectPath {
    owned(format!("{DRIVE_PREFIX}{}", element(id.0)))
}

/// Path of an operation.
#[must_use]
pub fn op_path(id: OpId) -> OwnedObjectPath {
    owned(format!("{OP_PREFIX}{id}"))
}

/// Path of the controller that carries LUNs of this driver.
#[must_use]
pub const fn controller_path(driver: Driver) -> &'static str {
    match driver {
        Driver::Md => MD_CONTROLLER_PATH,
        Driver::DmRaid => DM_CONTROLLER_PATH,
    }
}

/// The LUN that a path names; [`None`] for any other path.
#[must_use]
pub fn lun_of_path(path: &str) -> Option<LunId> {
    identity(path.strip_prefix(LUN_PREFIX)?).map(LunId)
}

/// The drive that a path names; [`None`] for any other path.
#[must_use]
pub fn drive_of_path(path: &str) -> Option<DriveId> {
    identity(path.strip_prefix(DRIVE_PREFIX)?).map(DriveId)
}

/// The operation that a path names; [`None`] for any other path.
#[must_use]
pub fn op_of_path(path: &str) -> Option<OpId> {
    path.strip_prefix(OP_PREFIX)?.parse().ok().map(OpId)
}

/// A UUID as a path element, where a hyphen is not allowed.
fn element(id: Uuid) -> String {
    id.hyphenated().to_string().replace('-', "_")
}

fn identity(element: &str) -> Option<Uuid> {
    Uuid::try_parse(&element.replace('_', "-")).ok()
}

/// A path made of the constants above, hexadecimal digits, digits and underscores is always
/// valid; the root is the answer to what cannot happen.
fn owned(path: String) -> OwnedObjectPath {
    ObjectPath::try_from(path)
        .unwrap_or_else(|_| ObjectPath::from_static_str_unchecked(ROOT_PATH))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_back_to_what_they_were_made_of() {
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let path = lun_path(LunId(id));
        assert_eq!(
            path.as_str(),
            "/org/lund/Vds1/lun/01234567_89ab_cdef_0123_456789abcdef"
        );
        assert_eq!(lun_of_path(path.as_str()), Some(LunId(id)));
        assert_eq!(
            drive_of_path(drive_path(DriveId(id)).as_str()),
            Some(DriveId(id))
        );
        assert_eq!(op_of_path(op_path(OpId(7)).as_str()), Some(OpId(7)));
    }

    #[test]
    fn other_paths_name_nothing() {
        assert_eq!(lun_of_path("/org/lund/Vds1/lun/"), None);
        assert_eq!(lun_of_path(SUB_SYSTEM_PATH), None);
        assert_eq!(op_of_path("/org/lund/Vds1/op/-1"), None);
    }
}
