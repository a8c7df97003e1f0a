//! `org.lund.Vds1.Drive`.

use lun_core::Error;
use lun_core::error::ObjectKind;
use lun_core::id::DriveId;
use lun_core::machine::Command;
use lun_core::model::{Drive, DriveFlag, VdsEnum};
use lun_ipc::names::lun_path;
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath, interface};

use super::plex::{Extent, extents};
use super::{Result, Right, SharedContext, json, no_object, not_supported, word};

/// `VDS_MAINTENANCE_OPERATION`: `BlinkLight`.
const BLINK_LIGHT: u32 = 1;
/// The last of them, `Ping`.
const PING: u32 = 5;

/// One drive.
#[derive(Debug)]
pub(super) struct DriveObject {
    pub(super) context: SharedContext,
    pub(super) id: DriveId,
}

impl DriveObject {
    fn look<T>(&self, pick: impl FnOnce(&Drive) -> T) -> Result<T> {
        let current = self.context.handle.current();
        let found = current
            .snapshot
            .drives
            .iter()
            .find(|drive| drive.id == Some(self.id));
        found.map(pick).ok_or_else(|| {
            Error::ObjectDeleted {
                kind: ObjectKind::Drive,
                again: Vec::new(),
                name: self.id.to_string(),
            }
            .into()
        })
    }

    /// Name for messages: the node, or the lasting name of a drive that is not there.
    fn called(&self) -> Result<String> {
        self.look(|drive| match drive.device.as_str() {
            "" => drive.stable_name.clone(),
            device => device.to_owned(),
        })
    }

    async fn light(
        &self,
        operation: u32,
        on: bool,
        connection: &Connection,
        header: &Header<'_>,
    ) -> Result<()> {
        let name = self.called()?;
        if !(BLINK_LIGHT..=PING).contains(&operation) {
            return Err(Error::InvalidArgument {
                what: format!("maintenance operation {operation}"),
                why: "VDS_MAINTENANCE_OPERATION goes from 1 to 5".to_owned(),
            }
            .into());
        }
        if operation != BLINK_LIGHT {
            let what = format!("maintenance operation {operation}");
            return Err(not_supported(&name, &what, "BlinkLight (1) alone is done"));
        }
        let command = Command::Light {
            drive: self.id.to_string(),
            on,
        };
        self.context
            .change(connection, header, &[Right::Maintenance], &name, command)
            .await
            .map(drop)
    }

    async fn change_pool(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        command: Command,
    ) -> Result<()> {
        let drive = self.called()?;
        self.context
            .change(connection, header, &[Right::Spare], &drive, command)
            .await
            .map(drop)
    }

    /// Only the hot spare flag is a caller's to change (`IVdsDrive::SetFlags`).
    fn only_hot_spare(&self, flags: u32) -> Result<()> {
        if flags == DriveFlag::HotSpare.bit() {
            return Ok(());
        }
        Err(Error::NotSupported {
            object: self.called()?,
            what: format!("changing the flags {flags:#x}"),
            why: "VDS_DRF_HOTSPARE (0x1) alone can be set and cleared".to_owned(),
        }
        .into())
    }
}

#[interface(name = "org.lund.Vds1.Drive")]
impl DriveObject {
    /// Sets flags (`IVdsDrive::SetFlags`); `VDS_DRF_HOTSPARE` (1) alone can be set: it joins the spare pool.
    async fn set_flags(
        &self,
        flags: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<()> {
        self.only_hot_spare(flags)?;
        let command = Command::SpareAdd {
            drive: self.id.to_string(),
            force: false,
        };
        self.change_pool(connection, &header, command).await
    }

    /// Clears flags (`IVdsDrive::ClearFlags`); `VDS_DRF_HOTSPARE` (1) alone can be cleared.
    async fn clear_flags(
        &self,
        flags: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<()> {
        self.only_hot_spare(flags)?;
        let command = Command::SpareRemove {
            drive: self.id.to_string(),
        };
        self.change_pool(connection, &header, command).await
    }

    /// Begins a maintenance (`IVdsMaintenance::StartMaintenance`); `BlinkLight` (1) alone is done: the light
    /// of the drive's bay, by `ledctl`.
    async fn start_maintenance(
        &self,
        operation: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<()> {
        self.light(operation, true, connection, &header).await
    }

    /// Ends a maintenance (`IVdsMaintenance::StopMaintenance`); `BlinkLight` (1) alone is done.
    async fn stop_maintenance(
        &self,
        operation: u32,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<()> {
        self.light(operation, false, connection, &header).await
    }

    /// The extents of the drive (`IVdsDrive::QueryExtents`): drive, LUN (`/` where it is free), bytes, in
    /// use; none where they cannot be told.
    #[zbus(out_args("extents"))]
    async fn query_extents(&self) -> Result<Vec<Extent>> {
        self.look(extents)
    }

    /// The drive, as JSON.
    #[zbus(out_args("json"))]
    async fn describe(&self) -> Result<String> {
        json(&self.look(Drive::clone)?)
    }

    /// Identity.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn id(&self) -> String {
        self.id.to_string()
    }

    /// The identity rests on a plug, a file or a number, not on the drive.
    #[zbus(property)]
    async fn weak_identity(&self) -> Result<bool> {
        self.look(|drive| drive.weak_identity)
    }

    /// Node, `/dev/sda1`; empty when it is not there.
    #[zbus(property)]
    async fn device(&self) -> Result<String> {
        self.look(|drive| drive.device.clone())
    }

    /// A lasting name.
    #[zbus(property)]
    async fn stable_name(&self) -> Result<String> {
        self.look(|drive| drive.stable_name.clone())
    }

    /// Slot in its LUN; -1 when it is in none.
    #[zbus(property)]
    async fn slot(&self) -> Result<i32> {
        self.look(|drive| {
            drive
                .slot
                .and_then(|slot| i32::try_from(slot).ok())
                .unwrap_or(-1)
        })
    }

    /// What it is to its LUN, in a word.
    #[zbus(property)]
    async fn role(&self) -> Result<String> {
        self.look(|drive| word(&drive.role))
    }

    /// `VDS_DRIVE_FLAG`.
    #[zbus(property)]
    async fn flags(&self) -> Result<u32> {
        self.look(|drive| DriveFlag::mask(&drive.flags))
    }

    /// Names of the bits of `Flags`.
    #[zbus(property)]
    async fn flag_names(&self) -> Result<Vec<String>> {
        self.look(|drive| {
            drive
                .flags
                .iter()
                .map(|flag| flag.name().to_owned())
                .collect()
        })
    }

    /// `VDS_DRIVE_STATUS`.
    #[zbus(property)]
    async fn status(&self) -> Result<i32> {
        self.look(|drive| drive.status.value())
    }

    /// Name of `Status`.
    #[zbus(property)]
    async fn status_name(&self) -> Result<String> {
        self.look(|drive| drive.status.name().to_owned())
    }

    /// `VDS_HEALTH`.
    #[zbus(property)]
    async fn health(&self) -> Result<i32> {
        self.look(|drive| drive.health.value())
    }

    /// Name of `Health`.
    #[zbus(property)]
    async fn health_name(&self) -> Result<String> {
        self.look(|drive| drive.health.name().to_owned())
    }

    /// The LUN that it belongs to; `/` when it belongs to none.
    #[zbus(property)]
    async fn lun(&self) -> Result<OwnedObjectPath> {
        self.look(|drive| drive.lun.map_or_else(no_object, lun_path))
    }

    /// Bytes; 0 when it is not known.
    #[zbus(property)]
    async fn size(&self) -> Result<u64> {
        self.look(|drive| drive.size_bytes.unwrap_or(0))
    }

    /// Name for people: the node, or the lasting name of a drive that is not there.
    #[zbus(property)]
    async fn friendly_name(&self) -> Result<String> {
        self.called()
    }

    /// What tells it from all others for good (`pwszIdentification`).
    #[zbus(property)]
    async fn identification(&self) -> Result<String> {
        self.look(|drive| drive.stable_name.clone())
    }

    /// Registered in the spare pool.
    #[zbus(property)]
    async fn in_pool(&self) -> Result<bool> {
        self.look(|drive| drive.in_pool)
    }
}
