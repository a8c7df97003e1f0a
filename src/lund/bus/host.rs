//! The objects that are always there: provider, subsystem and controllers.

use lun_core::Error;
use lun_core::error::ObjectKind;
use lun_core::id::OpId;
use lun_core::machine::{Command, Reply};
use lun_core::model::{Driver, LunStatus, VdsEnum};
use lun_ipc::names::{DM_CONTROLLER_PATH, MD_CONTROLLER_PATH, drive_path, lun_path};
use lun_ipc::{HistoryOptions, MAX_PAGE, Options, SpareOptions, check_limit};
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, interface};

use super::{Result, Right, SharedContext, checked, json, refused, unexpected};
use crate::ledger::Filter;

/// Operations in an answer when no limit was given.
const PAGE: u32 = 100;

/// `org.lund.Vds1.Provider`.
#[derive(Debug)]
pub(super) struct ProviderObject(pub(super) SharedContext);

#[interface(name = "org.lund.Vds1.Provider")]
impl ProviderObject {
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

    async fn reenumerate(
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
                Command::Reenumerate,
            )
            .await
            .map(drop)
    }

    #[zbus(name = "FindLun")]
    async fn find_lun(&self, name: &str) -> Result<OwnedObjectPath> {
        checked("name", name)?;
        Ok(lun_path(self.0.handle.resolve_lun(name).await?))
    }

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

    async fn describe(&self) -> Result<String> {
        json(&self.0.handle.current().snapshot)
    }

    async fn query_events(&self, since: u64) -> Result<String> {
        json(&self.0.past.events_since(since, MAX_PAGE).await)
    }

    async fn query_recent_events(&self, limit: u32) -> Result<String> {
        let limit = check_limit(limit).map_err(refused)?;
        json(&self.0.past.recent_events(limit).await)
    }

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

    async fn query_operation(&self, id: u64) -> Result<String> {
        json(&self.0.past.operation(OpId(id)).await?)
    }

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

    #[zbus(signal)]
    pub(super) async fn notification(
        emitter: &SignalEmitter<'_>,
        event: u32,
        kind: &str,
        object: ObjectPath<'_>,
        seq: u64,
        text: &str,
    ) -> zbus::Result<()>;

    #[zbus(property(emits_changed_signal = "const"))]
    async fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    #[zbus(property(emits_changed_signal = "const"))]
    async fn id(&self) -> String {
        self.0.provider.to_string()
    }

    #[zbus(property)]
    async fn ledger_state(&self) -> String {
        match &self.0.handle.current().snapshot.ledger_degraded {
            Some(why) => format!("degraded: {why}"),
            None => "ok".to_owned(),
        }
    }

    #[zbus(property(emits_changed_signal = "const"))]
    async fn config_error(&self) -> &str {
        &self.0.config_error
    }
}

/// `org.lund.Vds1.SubSystem`.
#[derive(Debug)]
pub(super) struct SubSystemObject(pub(super) SharedContext);

#[interface(name = "org.lund.Vds1.SubSystem")]
impl SubSystemObject {
    #[zbus(name = "QueryLuns")]
    async fn query_luns(&self) -> Vec<OwnedObjectPath> {
        let current = self.0.handle.current();
        current
            .snapshot
            .luns
            .iter()
            .map(|lun| lun_path(lun.id))
            .collect()
    }

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

    async fn query_controllers(&self) -> Vec<OwnedObjectPath> {
        [MD_CONTROLLER_PATH, DM_CONTROLLER_PATH]
            .map(|path| ObjectPath::from_static_str_unchecked(path).into())
            .to_vec()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    async fn friendly_name(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
    }

    /// `VDS_SSS_ONLINE`: a subsystem that answers is online.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn status(&self) -> i32 {
        LunStatus::Online.value()
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
