//! `org.lund.Vds1.Async`: `IVdsAsync`.

use std::time::Duration;

use lun_core::Error;
use lun_core::error::ObjectKind;
use lun_core::id::OpId;
use lun_core::machine::Command;
use lun_core::model::{OpView, VdsEnum};
use lun_ipc::names::lun_path;
use lun_ipc::{CallError, CancelOptions, Options};
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath, interface};

use super::{Result, Right, SharedContext, json, refused, word};

/// One operation.
#[derive(Debug)]
pub(super) struct AsyncObject {
    pub(super) context: SharedContext,
    pub(super) id: OpId,
}

impl AsyncObject {
    fn look<T>(&self, pick: impl FnOnce(&OpView) -> T) -> Result<T> {
        let current = self.context.handle.current();
        let found = current.snapshot.ops.iter().find(|view| view.id == self.id);
        found.map(pick).ok_or_else(|| self.forgotten())
    }

    fn forgotten(&self) -> CallError {
        Error::ObjectDeleted {
            kind: ObjectKind::Operation,
            again: Vec::new(),
            name: self.id.to_string(),
        }
        .into()
    }
}

#[interface(name = "org.lund.Vds1.Async")]
impl AsyncObject {
    /// HRESULT (`VDS_E_OPERATION_PENDING` while it runs) and percentage (0 to 99; 100 at the end).
    #[zbus(out_args("hresult", "percent"))]
    async fn query_status(&self) -> Result<(u32, u32)> {
        self.look(|view| (view.hresult.0, view.percent))
    }

    /// Waits for the end, `timeout_ms` 0 for ever. Answers with HRESULT and output type of the operation, or fails with
    /// `VDS_E_TIMEOUT` while it goes on.
    #[zbus(out_args("hresult", "output_type"))]
    async fn wait(&self, timeout_ms: u64) -> Result<(u32, i32)> {
        let finished = self.context.handle.finished(self.id);
        let view = if timeout_ms == 0 {
            finished.await?
        } else {
            match tokio::time::timeout(Duration::from_millis(timeout_ms), finished).await {
                Ok(view) => view?,
                Err(_) => {
                    let what = format!("operation {}", self.id);
                    return Err(Error::Timeout {
                        what,
                        after_ms: timeout_ms,
                    }
                    .into());
                }
            }
        };
        let view = view.ok_or_else(|| self.forgotten())?;
        Ok((view.hresult.0, view.async_output.value()))
    }

    /// Asks for its end. Option: `release_spare` (b), give back the drives that it has attached.
    async fn cancel(
        &self,
        options: Options,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<()> {
        let CancelOptions { release_spare } =
            CancelOptions::from_options(&options).map_err(refused)?;
        let command = Command::Cancel {
            op: self.id,
            release_spare,
        };
        let object = format!("operation {}", self.id);
        let uid = self.context.auth.caller(connection, &header).await?.uid();
        let right = Right::to_cancel(&self.context.handle.current().snapshot.ops, self.id, uid);
        self.context
            .change(connection, &header, &[right], &object, command)
            .await
            .map(drop)
    }

    /// The operation, as JSON.
    #[zbus(out_args("json"))]
    async fn describe(&self) -> Result<String> {
        json(&self.look(OpView::clone)?)
    }

    /// Number.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn id(&self) -> u64 {
        self.id.0
    }

    /// `recover`, `replace`, `verify` or `repair`.
    #[zbus(property)]
    async fn kind(&self) -> Result<String> {
        self.look(|view| word(&view.kind))
    }

    /// Where it stands.
    #[zbus(property)]
    async fn state(&self) -> Result<String> {
        self.look(|view| view.state.clone())
    }

    /// As of `QueryStatus`.
    #[zbus(property)]
    async fn hresult(&self) -> Result<u32> {
        self.look(|view| view.hresult.0)
    }

    /// Name of `Hresult`.
    #[zbus(property)]
    async fn hresult_name(&self) -> Result<String> {
        self.look(|view| view.hresult_name.clone())
    }

    /// As of `QueryStatus`.
    #[zbus(property)]
    async fn percent(&self) -> Result<u32> {
        self.look(|view| view.percent)
    }

    /// What is being done.
    #[zbus(property)]
    async fn phase(&self) -> Result<String> {
        self.look(|view| word(&view.phase))
    }

    /// Who began it: `client`, `policy` or `kernel`.
    #[zbus(property)]
    async fn origin(&self) -> Result<String> {
        self.look(|view| word(&view.origin))
    }

    /// `VDS_ASYNC_OUTPUT_TYPE`; 56 for a recovery.
    #[zbus(property)]
    async fn output_type(&self) -> Result<i32> {
        self.look(|view| view.async_output.value())
    }

    /// The LUN.
    #[zbus(property)]
    async fn lun(&self) -> Result<OwnedObjectPath> {
        self.look(|view| lun_path(view.lun))
    }

    /// The LUN's name when it began.
    #[zbus(property)]
    async fn lun_name(&self) -> Result<String> {
        self.look(|view| view.lun_name.clone())
    }

    /// Node of the drive that takes over; empty when none does.
    #[zbus(property)]
    async fn spare(&self) -> Result<String> {
        self.look(|view| view.spare.clone().unwrap_or_default())
    }

    /// Milliseconds since 1970.
    #[zbus(property)]
    async fn started_at(&self) -> Result<u64> {
        self.look(|view| view.started_at_ms.0)
    }

    /// Milliseconds since 1970; 0 while it runs.
    #[zbus(property)]
    async fn ended_at(&self) -> Result<u64> {
        self.look(|view| view.ended_at_ms.map_or(0, |at| at.0))
    }

    /// Bytes per second; 0 when it is not known.
    #[zbus(property)]
    async fn rate(&self) -> Result<u64> {
        self.look(|view| view.rate_bytes_per_s.unwrap_or(0))
    }

    /// Seconds left; -1 when it cannot be told.
    #[zbus(property)]
    async fn eta(&self) -> Result<i64> {
        self.look(|view| {
            view.eta_s
                .and_then(|eta| i64::try_from(eta).ok())
                .unwrap_or(-1)
        })
    }

    /// What happens, or how it ended, in a sentence.
    #[zbus(property)]
    async fn message(&self) -> Result<String> {
        self.look(|view| view.message.clone())
    }
}
