//! `org.lund.Vds1.Lun`.

use lun_core::Error;
use lun_core::error::ObjectKind;
use lun_core::id::LunId;
use lun_core::machine::{Command, Reply};
use lun_core::model::{Lun, VdsEnum};
use lun_ipc::names::{controller_path, op_path};
use lun_ipc::{Options, RecoverOptions, ReplaceOptions};
use zbus::message::Header;
use zbus::{Connection, ObjectPath, OwnedObjectPath, interface};

use super::{
    Result, Right, SharedContext, checked, json, no_object, op_path_of, plan_of, refused,
    unexpected, word,
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
                    name,
                }
                .into())
            }
        }
    }

    fn called(&self) -> Result<String> {
        self.look(|lun| lun.name.clone())
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

#[interface(name = "org.lund.Vds1.Lun")]
impl LunObject {
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

    async fn plan_recover(
        &self,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String> {
        let command = self.recovery(&options, true)?;
        plan_of(&self.context.ask(connection, &header, command).await?)
    }

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

    async fn query_plexes(&self) -> Result<String> {
        json(&self.look(|lun| lun.plexes.clone())?)
    }

    async fn describe(&self) -> Result<String> {
        json(&self.look(Lun::clone)?)
    }

    #[zbus(property(emits_changed_signal = "const"))]
    async fn id(&self) -> String {
        self.id.to_string()
    }

    #[zbus(property)]
    async fn name(&self) -> Result<String> {
        self.called()
    }

    #[zbus(property)]
    async fn device(&self) -> Result<String> {
        self.look(|lun| lun.device.clone())
    }

    #[zbus(property)]
    async fn links(&self) -> Result<Vec<String>> {
        self.look(|lun| lun.links.clone())
    }

    #[zbus(property)]
    async fn controller(&self) -> Result<OwnedObjectPath> {
        self.look(|lun| ObjectPath::from_static_str_unchecked(controller_path(lun.driver)).into())
    }

    #[zbus(property)]
    async fn managed_by(&self) -> Result<String> {
        self.look(|lun| word(&lun.managed_by))
    }

    #[zbus(property)]
    async fn level(&self) -> Result<String> {
        self.look(|lun| lun.level.clone())
    }

    #[zbus(property, name = "Type")]
    async fn kind(&self) -> Result<i32> {
        self.look(|lun| lun.kind.value())
    }

    #[zbus(property, name = "TypeName")]
    async fn kind_name(&self) -> Result<String> {
        self.look(|lun| lun.kind.name().to_owned())
    }

    /// Bytes; 0 when it is not known.
    #[zbus(property)]
    async fn size(&self) -> Result<u64> {
        self.look(|lun| lun.size_bytes.unwrap_or(0))
    }

    #[zbus(property)]
    async fn status(&self) -> Result<i32> {
        self.look(|lun| lun.status.value())
    }

    #[zbus(property)]
    async fn status_name(&self) -> Result<String> {
        self.look(|lun| lun.status.name().to_owned())
    }

    #[zbus(property)]
    async fn health(&self) -> Result<i32> {
        self.look(|lun| lun.health.value())
    }

    #[zbus(property)]
    async fn health_name(&self) -> Result<String> {
        self.look(|lun| lun.health.name().to_owned())
    }

    #[zbus(property)]
    async fn transition(&self) -> Result<i32> {
        self.look(|lun| lun.transition.value())
    }

    #[zbus(property)]
    async fn transition_name(&self) -> Result<String> {
        self.look(|lun| lun.transition.name().to_owned())
    }

    #[zbus(property)]
    async fn fault_tolerant(&self) -> Result<bool> {
        self.look(|lun| lun.fault_tolerant)
    }

    #[zbus(property)]
    async fn held(&self) -> Result<bool> {
        self.look(|lun| lun.held)
    }

    #[zbus(property)]
    async fn read_only(&self) -> Result<bool> {
        self.look(|lun| lun.read_only)
    }

    #[zbus(property)]
    async fn auto_read_only(&self) -> Result<bool> {
        self.look(|lun| lun.auto_read_only)
    }

    #[zbus(property, name = "SyncAction")]
    async fn kernel_action(&self) -> Result<String> {
        self.look(|lun| lun.sync.action.clone())
    }

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

/// A count as the bus shows it.
fn count_or_unknown(count: Option<u32>) -> i32 {
    count
        .and_then(|count| i32::try_from(count).ok())
        .unwrap_or(-1)
}
