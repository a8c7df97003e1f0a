//! The objects that are always there: provider, subsystem and controllers.

use lun_core::Error;
use lun_core::error::ObjectKind;
use lun_core::id::OpId;
use lun_core::machine::{Command, Reply};
use lun_core::model::{Driver, Health, LunStatus, VdsEnum};
use lun_ipc::names::{
    DM_CONTROLLER_PATH, MD_CONTROLLER_PATH, SUB_SYSTEM_PATH, drive_path, lun_path,
};
use lun_ipc::{HistoryOptions, MAX_PAGE, Options, SpareOptions, check_limit};
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, interface};

use super::{
    Result, Right, SharedContext, checked, json, not_supported, op_path_of, refused, unexpected,
};
use crate::ledger::Filter;

/// `VDS_SUB_SYSTEM_FLAG` of what is understood: LUNs with and without redundancy (0x600), of every type
/// from simple to parity (0xf800), and copies can be compared (`CONSISTENCY_CHECK_CAPABLE`).
const SUB_SYSTEM_FLAGS: u32 = 0x0100_fe00;
/// `VDS_PT_HARDWARE`.
const PROVIDER_TYPE: i32 = 2;
/// `VDS_PF_INTERNAL_HARDWARE_PROVIDER`.
const PROVIDER_FLAGS: u32 = 2;
/// Operations in an answer when no limit was given.
const PAGE: u32 = 100;

/// `org.lund.Vds1.Provider`.
#[derive(Debug)]
pub(super) struct ProviderObject(pub(super) SharedContext);

#[interface(name = "org.lund.Vds1.Provider")]
impl ProviderObject {
    /// Reads everything anew and accepts what the kernel says (`IVdsHwProvider::Refresh`).
    async fn refresh(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<()> {
        self.0
            .change(
                connection,
                &header,
                &[Right::Refresh],
                "the service",
                Command::Refresh,
            )
            .await
            .map(drop)
    }

    /// Looks for arrays and drives that came or went (`IVdsHwProvider::Reenumerate`).
    async fn reenumerate(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<()> {
        self.0.reenumerate(connection, &header, "the service").await
    }

    /// The LUN of this name: identity, unique beginning of it, `md0`, `/dev/md0`, `/dev/md/NAME`.
    #[zbus(name = "FindLun", out_args("lun"))]
    async fn find_lun(&self, name: &str) -> Result<OwnedObjectPath> {
        checked("name", name)?;
        Ok(lun_path(self.0.handle.resolve_lun(name).await?))
    }

    /// The drive of this name: identity, unique beginning of it, node or link under `/dev`.
    #[zbus(out_args("drive"))]
    async fn find_drive(&self, name: &str) -> Result<OwnedObjectPath> {
        checked("name", name)?;
        let id = self.0.handle.resolve_drive(name).await?;
        let drives = &self.0.handle.current().snapshot.drives;
        // The objects are members, spares and the pool; `SpareAdd` makes one of another drive.
        if drives.iter().all(|drive| drive.id != Some(id)) {
            let error = Error::ObjectNotFound {
                kind: ObjectKind::Drive,
                name: name.to_owned(),
                known: drives.iter().map(|drive| drive.device.clone()).collect(),
            };
            return Err(error.into());
        }
        Ok(drive_path(id))
    }

    /// Everything that clients may see, as JSON.
    #[zbus(out_args("json"))]
    async fn describe(&self) -> Result<String> {
        json(&self.0.handle.current().snapshot)
    }

    /// Remembered notifications with a number above `since`, oldest first, as a JSON array.
    #[zbus(out_args("json"))]
    async fn query_events(&self, since: u64) -> Result<String> {
        json(&self.0.past.events_since(since, MAX_PAGE).await)
    }

    /// The newest notifications, `limit` of them, oldest first, as a JSON array.
    #[zbus(out_args("json"))]
    async fn query_recent_events(&self, limit: u32) -> Result<String> {
        let limit = check_limit(limit).map_err(refused)?;
        json(&self.0.past.recent_events(limit).await)
    }

    /// Operations of any age, newest first, as JSON. Options: `lun` (s), `before` (t), `limit` (u).
    #[zbus(out_args("json"))]
    async fn query_operations(&self, options: Options) -> Result<String> {
        let HistoryOptions { lun, before, limit } =
            HistoryOptions::from_options(&options).map_err(refused)?;
        let lun = match lun {
            Some(name) => Some(self.0.past.lun(&name).await?),
            None => None,
        };
        let limit = limit.unwrap_or(PAGE);
        let filter = Filter { lun, before, limit };
        json(&self.0.past.operations(filter).await)
    }

    /// An operation of any age with its steps, as JSON.
    #[zbus(out_args("json"))]
    async fn query_operation(&self, id: u64) -> Result<String> {
        json(&self.0.past.operation(OpId(id)).await?)
    }

    /// Registers a drive in the spare pool. Option: `force` (b), to give away what is on it.
    #[zbus(out_args("drive"))]
    async fn spare_add(
        &self,
        drive: &str,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath> {
        let SpareOptions { force } = SpareOptions::from_options(&options).map_err(refused)?;
        let name = checked("drive", drive)?;
        let command = Command::SpareAdd { drive: name, force };
        match self
            .0
            .change(connection, &header, &[Right::Spare], drive, command)
            .await?
        {
            Reply::Drive(registered) => match registered.id {
                Some(id) => Ok(drive_path(id)),
                None => Err(unexpected(&Reply::Drive(registered))),
            },
            other => Err(unexpected(&other)),
        }
    }

    /// Takes a drive out of the spare pool.
    async fn spare_remove(
        &self,
        drive: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<()> {
        let command = Command::SpareRemove {
            drive: checked("drive", drive)?,
        };
        self.0
            .change(connection, &header, &[Right::Spare], drive, command)
            .await
            .map(drop)
    }

    /// The subsystems (`IVdsHwProvider::QuerySubSystems`): this host.
    #[zbus(out_args("subsystems"))]
    async fn query_sub_systems(&self) -> Vec<OwnedObjectPath> {
        vec![ObjectPath::from_static_str_unchecked(SUB_SYSTEM_PATH).into()]
    }

    /// Something happened: VDS event code (0 where VDS has none), kind of object (`lun`, `operation`,
    /// `service`), its path, sequence number, and a sentence.
    #[zbus(signal)]
    pub(super) async fn notification(
        emitter: &SignalEmitter<'_>,
        event: u32,
        kind: &str,
        object: ObjectPath<'_>,
        seq: u64,
        text: &str,
    ) -> zbus::Result<()>;

    /// Version of the service.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// The lasting GUID.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn id(&self) -> String {
        self.0.provider.to_string()
    }

    /// Name for people (`pwszName`).
    #[zbus(property(emits_changed_signal = "const"))]
    async fn name(&self) -> &'static str {
        "lund"
    }

    /// `VDS_PROVIDER_TYPE`: hardware (2), the kind that has LUNs and drives.
    #[zbus(property(emits_changed_signal = "const"), name = "Type")]
    async fn kind(&self) -> i32 {
        PROVIDER_TYPE
    }

    /// `VDS_PROVIDER_FLAG`: an internal provider (2).
    #[zbus(property(emits_changed_signal = "const"))]
    async fn flags(&self) -> u32 {
        PROVIDER_FLAGS
    }

    /// `ok`, or `degraded: ` and why.
    #[zbus(property)]
    async fn ledger_state(&self) -> String {
        match &self.0.handle.current().snapshot.ledger_degraded {
            Some(why) => format!("degraded: {why}"),
            None => "ok".to_owned(),
        }
    }

    /// What is wrong with the configuration, so that it is not in force; empty when nothing is.
    #[zbus(property)]
    async fn config_error(&self) -> String {
        self.0.handle.current().config_error.clone()
    }
}

/// `org.lund.Vds1.SubSystem`.
#[derive(Debug)]
pub(super) struct SubSystemObject(pub(super) SharedContext);

#[interface(name = "org.lund.Vds1.SubSystem")]
impl SubSystemObject {
    /// Paths of all LUNs (`IVdsSubSystem::QueryLuns`).
    #[zbus(name = "QueryLuns", out_args("luns"))]
    async fn query_luns(&self) -> Vec<OwnedObjectPath> {
        let current = self.0.handle.current();
        current
            .snapshot
            .luns
            .iter()
            .map(|lun| lun_path(lun.id))
            .collect()
    }

    /// Paths of all drives (`IVdsSubSystem::QueryDrives`).
    #[zbus(out_args("drives"))]
    async fn query_drives(&self) -> Vec<OwnedObjectPath> {
        let current = self.0.handle.current();
        current
            .snapshot
            .drives
            .iter()
            .filter_map(|drive| drive.id)
            .map(drive_path)
            .collect()
    }

    /// Paths of all controllers (`IVdsSubSystem::QueryControllers`).
    #[zbus(out_args("controllers"))]
    async fn query_controllers(&self) -> Vec<OwnedObjectPath> {
        [MD_CONTROLLER_PATH, DM_CONTROLLER_PATH]
            .map(|path| ObjectPath::from_static_str_unchecked(path).into())
            .to_vec()
    }

    /// Name of the host.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn friendly_name(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
    }

    /// Looks for arrays and drives that came or went (`IVdsSubSystem::Reenumerate`).
    async fn reenumerate(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<()> {
        self.0
            .reenumerate(connection, &header, "the subsystem")
            .await
    }

    /// Moves the data of a drive to another (`IVdsSubSystem::ReplaceDrive`), whichever LUN it is in. VDS
    /// waits for the end; here the operation is the answer.
    #[zbus(out_args("operation"))]
    async fn replace_drive(
        &self,
        drive: &str,
        replacement: &str,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath> {
        checked("drive", drive)?;
        let with = Some(checked("replacement", replacement)?);
        let id = self.0.handle.resolve_drive(drive).await?;
        let current = self.0.handle.current();
        let drives = &current.snapshot.drives;
        let lun = drives
            .iter()
            .find(|known| known.id == Some(id))
            .and_then(|known| known.lun);
        let Some(lun) = lun else {
            return Err(not_supported(drive, "replacing it", "it belongs to no LUN"));
        };
        let command = Command::Replace {
            lun,
            drive: drive.to_owned(),
            with,
            dry_run: false,
        };
        let reply = self
            .0
            .change(connection, &header, &[Right::Replace], drive, command)
            .await?;
        op_path_of(&reply)
    }

    /// What tells this host from others: the provider's lasting GUID.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn identification(&self) -> String {
        self.0.provider.to_string()
    }

    /// `VDS_SUB_SYSTEM_FLAG`: kinds of LUN that are understood, and that copies can be compared.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn flags(&self) -> u32 {
        SUB_SYSTEM_FLAGS
    }

    /// Name of `Status`.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn status_name(&self) -> String {
        LunStatus::Online.name().replace("VDS_LS_", "VDS_SSS_")
    }

    /// `VDS_HEALTH`: degraded (11) while a drive of it is failed or is about to, else healthy (1).
    #[zbus(property(emits_changed_signal = "false"))]
    async fn health(&self) -> i32 {
        self.fault_state().value()
    }

    /// Name of `Health`.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn health_name(&self) -> String {
        self.fault_state().name().to_owned()
    }

    /// `VDS_SSS_ONLINE`: a subsystem that answers is online.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn status(&self) -> i32 {
        LunStatus::Online.value()
    }
}

impl SubSystemObject {
    fn fault_state(&self) -> Health {
        let current = self.0.handle.current();
        let mut drives = current.snapshot.drives.iter();
        let ill =
            drives.any(|drive| matches!(drive.health, Health::Failed | Health::PendingFailure));
        if ill {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }
}

/// `org.lund.Vds1.Controller`.
#[derive(Debug)]
pub(super) struct ControllerObject {
    pub(super) context: SharedContext,
    pub(super) driver: Driver,
}

#[interface(name = "org.lund.Vds1.Controller")]
impl ControllerObject {
    /// The LUNs that the driver carries (`IVdsController::QueryAssociatedLuns`).
    #[zbus(name = "QueryAssociatedLuns", out_args("luns"))]
    async fn query_associated_luns(&self) -> Vec<OwnedObjectPath> {
        let current = self.context.handle.current();
        let luns = current.snapshot.luns.iter();
        luns.filter(|lun| lun.driver == self.driver)
            .map(|lun| lun_path(lun.id))
            .collect()
    }

    /// The subsystem (`IVdsController::GetSubSystem`).
    #[zbus(property(emits_changed_signal = "const"), name = "SubSystem")]
    async fn sub_system(&self) -> OwnedObjectPath {
        ObjectPath::from_static_str_unchecked(SUB_SYSTEM_PATH).into()
    }

    /// Name of the driver.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn friendly_name(&self) -> &'static str {
        match self.driver {
            Driver::Md => "md",
            Driver::DmRaid => "device-mapper",
        }
    }

    /// `VDS_CONTROLLER_STATUS`, which has the numbers of `VDS_LUN_STATUS`: online (1) while the
    /// driver is loaded, offline (4) otherwise.
    #[zbus(property)]
    async fn status(&self) -> i32 {
        self.state().value()
    }

    /// Name of `Status`.
    #[zbus(property)]
    async fn status_name(&self) -> String {
        self.state().name().replace("VDS_LS_", "VDS_CS_")
    }
}

impl ControllerObject {
    fn state(&self) -> LunStatus {
        let snapshot = &self.context.handle.current().snapshot;
        let loaded = match self.driver {
            Driver::Md => snapshot.md_loaded,
            Driver::DmRaid => snapshot.luns.iter().any(|lun| lun.driver == Driver::DmRaid),
        };
        if loaded {
            LunStatus::Online
        } else {
            LunStatus::Offline
        }
    }
}
