//! `org.lund.Vds1.Lun`.

use std::collections::HashMap;

use lun_core::Error;
use lun_core::error::ObjectKind;
use lun_core::id::LunId;
use lun_core::machine::{Command, HintWish, Reply};
use lun_core::model::{Driver, Lun, LunStatus, VdsEnum};
use lun_ipc::names::{SUB_SYSTEM_PATH, controller_path, drive_path, op_path, plex_path};
use lun_ipc::{HintError, HintOptions, Options, RecoverOptions, ReplaceOptions, hints_in_force};
use serde::Serialize;
use zbus::message::Header;
use zbus::{Connection, ObjectPath, OwnedObjectPath, Variant, interface};

use super::{
    CallError, Result, Right, SharedContext, checked, json, no_object, not_supported, op_path_of,
    plan_of, refused, unexpected, word,
};

/// One LUN.
#[derive(Debug)]
pub(super) struct LunObject {
    pub(super) context: SharedContext,
    pub(super) id: LunId,
}

impl LunObject {
    /// What is known of it, or that it has gone.
    fn look<T>(&self, pick: impl FnOnce(&Lun) -> T) -> Result<T> {
        let current = self.context.handle.current();
        match current.snapshot.luns.iter().find(|lun| lun.id == self.id) {
            Some(lun) => Ok(pick(lun)),
            None => {
                let gone = current.snapshot.gone.iter().find(|gone| gone.id == self.id);
                let name = gone.map_or_else(|| self.id.to_string(), |gone| gone.name.clone());
                Err(Error::ObjectDeleted {
                    kind: ObjectKind::Lun,
                    again: gone.map_or_else(Vec::new, |gone| gone.recreate.clone()),
                    name,
                }
                .into())
            }
        }
    }

    fn called(&self) -> Result<String> {
        self.look(|lun| lun.name.clone())
    }

    /// What VDS lets a provider change of a LUN and this one leaves to the tool that owns it.
    fn reshaping(&self, what: &str, why: &str) -> Result<()> {
        Err(not_supported(&self.called()?, what, why))
    }

    fn recovery(&self, options: &Options, dry_run: bool) -> Result<Command> {
        let RecoverOptions { spare, repair } =
            RecoverOptions::from_options(options).map_err(refused)?;
        Ok(Command::Recover {
            lun: self.id,
            spare,
            repair,
            dry_run,
        })
    }

    fn replacement(&self, drive: &str, options: &Options, dry_run: bool) -> Result<Command> {
        let ReplaceOptions { with } = ReplaceOptions::from_options(options).map_err(refused)?;
        Ok(Command::Replace {
            lun: self.id,
            drive: checked("drive", drive)?,
            with,
            dry_run,
        })
    }
}

/// Why hints are not applied.
fn unwelcome(lun: &str, error: HintError) -> CallError {
    match error {
        HintError::Option(error) => refused(error),
        HintError::Priority(number) => Error::InvalidArgument {
            what: format!("sRebuildPriority {number}"),
            why: error.to_string(),
        }
        .into(),
        HintError::Unsupported { field, why } => {
            not_supported(lun, &format!("the hint {field}"), why)
        }
    }
}

#[interface(name = "org.lund.Vds1.Lun")]
impl LunObject {
    /// Starts recovery (`IVdsLun::Recover`). Options: `spare` (s), the drive to take; `repair` (b), rewrite what
    /// differs when nothing else is wrong.
    #[zbus(out_args("operation"))]
    async fn recover(
        &self,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath> {
        let command = self.recovery(&options, false)?;
        // It may end in rewriting what differs, and may as well end in a rebuild.
        let rights: &[Right] = match command {
            Command::Recover { repair: true, .. } => &[Right::Recover, Right::Scrub],
            _ => &[Right::Recover],
        };
        let reply = self
            .context
            .change(connection, &header, rights, &self.called()?, command)
            .await?;
        op_path_of(&reply)
    }

    /// What `Recover` would do, as JSON.
    #[zbus(out_args("json"))]
    async fn plan_recover(
        &self,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String> {
        let command = self.recovery(&options, true)?;
        plan_of(&self.context.ask(connection, &header, command).await?)
    }

    /// Moves the data off a drive. Option: `with` (s), the drive to take.
    #[zbus(out_args("operation"))]
    async fn replace_drive(
        &self,
        drive: &str,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath> {
        let command = self.replacement(drive, &options, false)?;
        let reply = self
            .context
            .change(
                connection,
                &header,
                &[Right::Replace],
                &self.called()?,
                command,
            )
            .await?;
        op_path_of(&reply)
    }

    /// What `ReplaceDrive` would do, as JSON.
    #[zbus(out_args("json"))]
    async fn plan_replace(
        &self,
        drive: &str,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String> {
        let command = self.replacement(drive, &options, true)?;
        plan_of(&self.context.ask(connection, &header, command).await?)
    }

    /// Why the LUN is as it is, what a recovery would do, and what would change that, as JSON.
    #[zbus(out_args("json"))]
    async fn explain(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String> {
        let command = Command::Explain { lun: self.id };
        match self.context.ask(connection, &header, command).await? {
            Reply::Explanation(explanation) => json(&explanation),
            other => Err(unexpected(&other)),
        }
    }

    /// Compares all copies.
    #[zbus(out_args("operation"))]
    async fn verify(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<OwnedObjectPath> {
        let command = Command::Verify { lun: self.id };
        let reply = self
            .context
            .change(
                connection,
                &header,
                &[Right::Scrub],
                &self.called()?,
                command,
            )
            .await?;
        op_path_of(&reply)
    }

    /// Ends a hold.
    async fn release(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<()> {
        let command = Command::Release { lun: self.id };
        self.context
            .change(
                connection,
                &header,
                &[Right::Release],
                &self.called()?,
                command,
            )
            .await
            .map(drop)
    }

    /// The hints in force (`IVdsLun::QueryHints`), under the names of `VDS_HINTS`. A flag counts where its bit is
    /// set in `ullHintMask`.
    #[zbus(out_args("hints"))]
    async fn query_hints(&self) -> Result<HashMap<&'static str, Variant<'static>>> {
        self.look(|lun| hints_in_force(lun.rebuild_priority, lun.fast_crash_recovery))
    }

    /// Other hints (`IVdsLun::ApplyHints`), those that are given. `sRebuildPriority` (n): how fast operations sync,
    /// 1 to 15, 8 as the kernel does by default, 0 for no wish. `bFastCrashRecoveryRequired` (b): a write-intent
    /// bitmap, which `false` takes away. Any other wish is `VDS_E_NOT_SUPPORTED`.
    async fn apply_hints(
        &self,
        hints: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<()> {
        let name = self.called()?;
        let hints = HintOptions::from_options(&hints).map_err(|error| unwelcome(&name, error))?;
        let command = Command::ApplyHints {
            lun: self.id,
            wish: HintWish {
                rebuild_priority: hints.rebuild_priority,
                bitmap: hints.fast_crash_recovery,
            },
        };
        self.context
            .change(connection, &header, &[Right::Hints], &name, command)
            .await
            .map(drop)
    }

    /// The plexes (`IVdsLun::QueryPlexes`), as a JSON array; their objects are in `Plexes`.
    #[zbus(out_args("json"))]
    async fn query_plexes(&self) -> Result<String> {
        json(&self.look(|lun| lun.plexes.clone())?)
    }

    /// What a disk would answer to an inquiry (`IVdsLun::GetIdentificationData`), as JSON with the fields
    /// of `VDS_LUN_INFORMATION`.
    #[zbus(out_args("json"))]
    async fn get_identification_data(&self) -> Result<String> {
        json(&self.look(identification)?)
    }

    /// Moves the LUN to a status (`IVdsLun::SetStatus`). The one that it has can be set; arrays are
    /// started and stopped by the tool that owns them.
    #[zbus(name = "SetStatus")]
    async fn set_status_of(&self, status: i32) -> Result<()> {
        let wanted = LunStatus::from_value(status).filter(|wanted| *wanted != LunStatus::Unknown);
        let Some(wanted) = wanted else {
            return Err(Error::InvalidArgument {
                what: format!("status {status}"),
                why: "VDS_LS_ONLINE (1), VDS_LS_NOT_READY (2), VDS_LS_OFFLINE (4) and VDS_LS_FAILED (5) are known".to_owned(),
            }
            .into());
        };
        let (name, is) = self.look(|lun| (lun.name.clone(), lun.status))?;
        if wanted == is {
            return Ok(());
        }
        let what = format!("taking it from {} to {}", is.name(), wanted.name());
        Err(not_supported(
            &name,
            &what,
            "arrays are started and stopped by their own tool",
        ))
    }

    /// `VDS_E_NOT_SUPPORTED`: mirrors get another leg by their own tool.
    #[zbus(name = "AddPlex")]
    async fn add_plex(&self, lun: &str) -> Result<()> {
        checked("lun", lun)?;
        self.reshaping(
            "adding a plex",
            "it changes how many copies there are, which is not recovery",
        )
    }

    /// `VDS_E_NOT_SUPPORTED`: mirrors lose a leg by their own tool.
    #[zbus(name = "RemovePlex")]
    async fn remove_plex(&self, plex: &str) -> Result<()> {
        checked("plex", plex)?;
        self.reshaping(
            "removing a plex",
            "it takes redundancy away, which is never done here",
        )
    }

    /// `VDS_E_NOT_SUPPORTED`: arrays grow by their own tool.
    async fn extend(&self, bytes: u64, drives: Vec<String>) -> Result<()> {
        let what = format!("extending by {bytes} bytes onto {} drives", drives.len());
        self.reshaping(&what, "arrays are grown by their own tool")
    }

    /// `VDS_E_NOT_SUPPORTED`: arrays shrink by their own tool.
    async fn shrink(&self, bytes: u64) -> Result<()> {
        self.reshaping(
            &format!("shrinking by {bytes} bytes"),
            "it destroys data, which is never done here",
        )
    }

    /// `VDS_E_NOT_SUPPORTED`: nothing here deletes an array.
    async fn delete(&self) -> Result<()> {
        self.reshaping("deleting", "it destroys data, which is never done here")
    }

    /// The LUN, as JSON.
    #[zbus(out_args("json"))]
    async fn describe(&self) -> Result<String> {
        json(&self.look(Lun::clone)?)
    }

    /// Identity.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn id(&self) -> String {
        self.id.to_string()
    }

    /// Kernel name, `md0`.
    #[zbus(property)]
    async fn name(&self) -> Result<String> {
        self.called()
    }

    /// Node, `/dev/md0`.
    #[zbus(property)]
    async fn device(&self) -> Result<String> {
        self.look(|lun| lun.device.clone())
    }

    /// Name for people (`pwszFriendlyName`): the lasting link if there is one, else the node.
    #[zbus(property)]
    async fn friendly_name(&self) -> Result<String> {
        self.look(|lun| lun.links.first().unwrap_or(&lun.device).clone())
    }

    /// What tells it from all others for good (`pwszIdentification`).
    #[zbus(property(emits_changed_signal = "const"))]
    async fn identification(&self) -> String {
        self.id.to_string()
    }

    /// Who may see it (`pwszUnmaskingList`); empty: it is local, and not masked.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn unmasking_list(&self) -> &'static str {
        ""
    }

    /// Other names, `/dev/md/NAME`.
    #[zbus(property)]
    async fn links(&self) -> Result<Vec<String>> {
        self.look(|lun| lun.links.clone())
    }

    /// The plexes.
    #[zbus(property)]
    async fn plexes(&self) -> Result<Vec<OwnedObjectPath>> {
        self.look(|lun| lun.plexes.iter().map(|plex| plex_path(plex.id)).collect())
    }

    /// The drives that are attached to it.
    #[zbus(property)]
    async fn drives(&self) -> Result<Vec<OwnedObjectPath>> {
        self.look(|lun| {
            lun.drives
                .iter()
                .filter_map(|d| d.id)
                .map(drive_path)
                .collect()
        })
    }

    /// The subsystem (`IVdsLun::GetSubSystem`).
    #[zbus(property(emits_changed_signal = "const"), name = "SubSystem")]
    async fn sub_system(&self) -> OwnedObjectPath {
        ObjectPath::from_static_str_unchecked(SUB_SYSTEM_PATH).into()
    }

    /// The controller: the driver that carries it.
    #[zbus(property)]
    async fn controller(&self) -> Result<OwnedObjectPath> {
        self.look(|lun| ObjectPath::from_static_str_unchecked(controller_path(lun.driver)).into())
    }

    /// The tool that owns its metadata.
    #[zbus(property)]
    async fn managed_by(&self) -> Result<String> {
        self.look(|lun| word(&lun.managed_by))
    }

    /// Level in the words of the kernel.
    #[zbus(property)]
    async fn level(&self) -> Result<String> {
        self.look(|lun| lun.level.clone())
    }

    /// `VDS_LUN_TYPE`.
    #[zbus(property, name = "Type")]
    async fn kind(&self) -> Result<i32> {
        self.look(|lun| lun.kind.value())
    }

    /// Name of `Type`.
    #[zbus(property, name = "TypeName")]
    async fn kind_name(&self) -> Result<String> {
        self.look(|lun| lun.kind.name().to_owned())
    }

    /// Bytes; 0 when it is not known.
    #[zbus(property)]
    async fn size(&self) -> Result<u64> {
        self.look(|lun| lun.size_bytes.unwrap_or(0))
    }

    /// `VDS_LUN_STATUS`.
    #[zbus(property)]
    async fn status(&self) -> Result<i32> {
        self.look(|lun| lun.status.value())
    }

    /// Name of `Status`.
    #[zbus(property)]
    async fn status_name(&self) -> Result<String> {
        self.look(|lun| lun.status.name().to_owned())
    }

    /// `VDS_HEALTH`.
    #[zbus(property)]
    async fn health(&self) -> Result<i32> {
        self.look(|lun| lun.health.value())
    }

    /// Name of `Health`.
    #[zbus(property)]
    async fn health_name(&self) -> Result<String> {
        self.look(|lun| lun.health.name().to_owned())
    }

    /// `VDS_TRANSITION_STATE`.
    #[zbus(property)]
    async fn transition(&self) -> Result<i32> {
        self.look(|lun| lun.transition.value())
    }

    /// Name of `Transition`.
    #[zbus(property)]
    async fn transition_name(&self) -> Result<String> {
        self.look(|lun| lun.transition.name().to_owned())
    }

    /// The level has redundancy.
    #[zbus(property)]
    async fn fault_tolerant(&self) -> Result<bool> {
        self.look(|lun| lun.fault_tolerant)
    }

    /// Recovery is held by an administrator.
    #[zbus(property)]
    async fn held(&self) -> Result<bool> {
        self.look(|lun| lun.held)
    }

    /// `sRebuildPriority`, 0 to 15; 0: nobody has asked for one.
    #[zbus(property)]
    async fn rebuild_priority(&self) -> Result<i16> {
        self.look(|lun| lun.rebuild_priority.into())
    }

    /// Read-only by choice.
    #[zbus(property)]
    async fn read_only(&self) -> Result<bool> {
        self.look(|lun| lun.read_only)
    }

    /// It waits for its first write.
    #[zbus(property)]
    async fn auto_read_only(&self) -> Result<bool> {
        self.look(|lun| lun.auto_read_only)
    }

    /// Word of `sync_action`.
    #[zbus(property, name = "SyncAction")]
    async fn kernel_action(&self) -> Result<String> {
        self.look(|lun| lun.sync.action.clone())
    }

    /// The kernel wants to run that and waits.
    #[zbus(property)]
    async fn sync_queued(&self) -> Result<bool> {
        self.look(|lun| lun.sync.queued)
    }

    /// Slots; -1 when that is not known.
    #[zbus(property)]
    async fn members_wanted(&self) -> Result<i32> {
        self.look(|lun| count_or_unknown(lun.redundancy.members_wanted))
    }

    /// Slots with an occupant in sync; -1 when that is not known.
    #[zbus(property)]
    async fn members_in_sync(&self) -> Result<i32> {
        self.look(|lun| count_or_unknown(lun.redundancy.members_in_sync))
    }

    /// How many more losses are surely survivable; -1 when it is not known.
    #[zbus(property)]
    async fn losses_survivable(&self) -> Result<i32> {
        self.look(|lun| count_or_unknown(lun.redundancy.losses_survivable))
    }

    /// Devices of which the loss of any one, next, would fail the LUN.
    #[zbus(property)]
    async fn fatal_next(&self) -> Result<Vec<String>> {
        self.look(|lun| lun.redundancy.fatal_next.clone())
    }

    /// The running operation; `/` when there is none.
    #[zbus(property)]
    async fn operation(&self) -> Result<OwnedObjectPath> {
        self.look(|lun| {
            lun.operation
                .as_ref()
                .map_or_else(no_object, |op| op_path(op.id))
        })
    }
}

/// `VDS_LUN_INFORMATION` of an array: a direct access device on the bus of type RAID.
#[derive(Serialize)]
struct Identification {
    version: u32,
    device_type: u8,
    device_type_modifier: u8,
    command_queueing: bool,
    /// `VDSBusTypeRAID`.
    bus_type: u32,
    vendor_id: &'static str,
    product_id: String,
    serial_number: String,
}

fn identification(lun: &Lun) -> Identification {
    let driver = match lun.driver {
        Driver::Md => "md",
        Driver::DmRaid => "device-mapper",
    };
    Identification {
        version: 1,
        device_type: 0,
        device_type_modifier: 0,
        command_queueing: true,
        bus_type: 8,
        vendor_id: "Linux",
        product_id: format!("{driver} {}", lun.level),
        serial_number: lun.id.to_string(),
    }
}

/// A count as the bus shows it.
fn count_or_unknown(count: Option<u32>) -> i32 {
    count
        .and_then(|count| i32::try_from(count).ok())
        .unwrap_or(-1)
}
