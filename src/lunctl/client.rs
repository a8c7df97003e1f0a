//! The service as this program sees it: one function per question, answers in core's types,
//! failures ready to be shown.

use std::str::FromStr;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt as _};
use lun_core::Hresult;
use lun_core::id::OpId;
use lun_core::model::{Drive, Lun, OpView};
use lun_core::plan::{Explanation, Plan};
use lun_ipc::names::{ASYNC_INTERFACE, BUS_NAME, op_path};
use lun_ipc::proxy::{AsyncProxy, DriveProxy, LunProxy, ProviderProxy};
use lun_ipc::{
    CancelOptions, ClientError, Event, HintOptions, HistoryOptions, HistoryPage, HostView,
    OpHistory, RecoverOptions, RemoteError, ReplaceOptions, SpareOptions,
};
use serde::de::DeserializeOwned;
use zbus::fdo::{DBusProxy, PropertiesProxy};
use zbus::message::Type;
use zbus::{MatchRule, MessageStream, OwnedObjectPath, proxy::CacheProperties};

use crate::failure::{Failure, NO_OBJECT};
use crate::host::Host;

/// Where to look for the service: `system`, `session`, or a D-Bus address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bus(String);

impl Bus {
    /// Whether this is this machine's own system bus.
    pub(crate) fn is_system(&self) -> bool {
        self.0 == "system"
    }
}

impl FromStr for Bus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // An address has at least a transport and a colon.
        if matches!(text, "system" | "session") || text.contains(':') {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected system, session, or an address such as unix:path=/run/bus".to_owned())
        }
    }
}

/// How `Wait` came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// The operation has ended.
    Ended,
    /// The time was up.
    TimedOut,
}

/// Why whoever follows the notifications has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    /// There is a new one.
    Told,
    /// The service went away.
    Gone,
    /// The service is there again.
    Back,
}

/// A connection to the service.
#[derive(Debug)]
pub(crate) struct Client {
    ipc: lun_ipc::Client,
    here: bool,
}

impl Client {
    /// Connects to a bus of this host, or to the system bus of another one.
    pub(crate) async fn connect(bus: &Bus, host: Option<&Host>) -> Result<Self, Failure> {
        let ipc = match host {
            Some(host) => lun_ipc::Client::over(host.reach()?).await,
            None => lun_ipc::Client::connect(&bus.0).await,
        };
        Ok(Self {
            ipc: ipc.map_err(Failure::from)?,
            here: host.is_none() && bus.is_system(),
        })
    }

    /// Whether this host's own service answers, as far as that can be told.
    pub(crate) const fn is_here(&self) -> bool {
        self.here
    }

    /// Everything that clients may see.
    pub(crate) async fn snapshot(&self) -> Result<HostView, Failure> {
        parse("Describe", &call(self.provider().await?.describe().await)?)
    }

    /// The same of a service that runs; [`None`] where none does. Nothing is started by asking.
    pub(crate) async fn snapshot_of_running(&self) -> Result<Option<HostView>, Failure> {
        let bus = call(DBusProxy::new(self.ipc.connection()).await)?;
        let name = call(BUS_NAME.try_into())?;
        let owned = bus.name_has_owner(name).await;
        if call(owned.map_err(zbus::Error::from))? {
            self.snapshot().await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// A LUN by name.
    pub(crate) async fn lun(&self, name: &str) -> Result<Lun, Failure> {
        parse(
            "Describe",
            &call(self.lun_proxy(name).await?.describe().await)?,
        )
    }

    /// Starts a recovery.
    pub(crate) async fn recover(
        &self,
        lun: &str,
        spare: Option<&str>,
        repair: bool,
    ) -> Result<OpView, Failure> {
        let options = RecoverOptions {
            spare: spare.map(str::to_owned),
            repair,
        };
        let path = call(self.lun_proxy(lun).await?.recover(options.to_dict()).await)?;
        self.op_at(path).await
    }

    /// What a recovery would do.
    pub(crate) async fn plan_recover(
        &self,
        lun: &str,
        spare: Option<&str>,
        repair: bool,
    ) -> Result<Plan, Failure> {
        let options = RecoverOptions {
            spare: spare.map(str::to_owned),
            repair,
        };
        let text = call(
            self.lun_proxy(lun)
                .await?
                .plan_recover(options.to_dict())
                .await,
        )?;
        parse("PlanRecover", &text)
    }

    /// Starts a replacement.
    pub(crate) async fn replace(
        &self,
        lun: &str,
        drive: &str,
        with: Option<&str>,
    ) -> Result<OpView, Failure> {
        let options = ReplaceOptions {
            with: with.map(str::to_owned),
        };
        let lun = self.lun_proxy(lun).await?;
        let path = call(lun.replace_drive(drive, options.to_dict()).await)?;
        self.op_at(path).await
    }

    /// What a replacement would do.
    pub(crate) async fn plan_replace(
        &self,
        lun: &str,
        drive: &str,
        with: Option<&str>,
    ) -> Result<Plan, Failure> {
        let options = ReplaceOptions {
            with: with.map(str::to_owned),
        };
        let lun = self.lun_proxy(lun).await?;
        parse(
            "PlanReplace",
            &call(lun.plan_replace(drive, options.to_dict()).await)?,
        )
    }

    /// Starts a comparison of all copies.
    pub(crate) async fn verify(&self, lun: &str) -> Result<OpView, Failure> {
        let path = call(self.lun_proxy(lun).await?.verify().await)?;
        self.op_at(path).await
    }

    /// Ends a hold; answers with the LUN as it then is.
    pub(crate) async fn release(&self, lun: &str) -> Result<Lun, Failure> {
        // One proxy for both calls: the name might be another LUN's by the second.
        let lun = self.lun_proxy(lun).await?;
        call(lun.release().await)?;
        parse("Describe", &call(lun.describe().await)?)
    }

    /// Applies hints, if any; answers with the LUN as it then is.
    pub(crate) async fn hints(&self, lun: &str, wish: HintOptions) -> Result<Lun, Failure> {
        let lun = self.lun_proxy(lun).await?;
        if wish != HintOptions::default() {
            call(lun.apply_hints(wish.to_dict()).await)?;
        }
        parse("Describe", &call(lun.describe().await)?)
    }

    /// Registers a drive in the pool; answers with the drive.
    pub(crate) async fn spare_add(&self, drive: &str, force: bool) -> Result<Drive, Failure> {
        let options = SpareOptions { force };
        let path = call(
            self.provider()
                .await?
                .spare_add(drive, options.to_dict())
                .await,
        )?;
        let builder = DriveProxy::builder(self.ipc.connection())
            .destination(BUS_NAME)
            .path(path);
        let proxy = call(builder.cache_properties(CacheProperties::No).build().await)?;
        parse("Describe", &call(proxy.describe().await)?)
    }

    /// Takes a drive out of the pool.
    pub(crate) async fn spare_remove(&self, drive: &str) -> Result<(), Failure> {
        call(self.provider().await?.spare_remove(drive).await)
    }

    /// Re-reads everything.
    pub(crate) async fn refresh(&self) -> Result<(), Failure> {
        call(self.provider().await?.refresh().await)
    }

    /// Looks for what came or went.
    pub(crate) async fn reenumerate(&self) -> Result<(), Failure> {
        call(self.provider().await?.reenumerate().await)
    }

    /// An operation by number. One that is no longer on the bus is looked for in the ledger.
    pub(crate) async fn op(&self, id: OpId) -> Result<OpView, Failure> {
        match self.op_at(op_path(id)).await {
            Err(failure) if failure.exit == NO_OBJECT => {
                self.op_history(id).await.map(|found| found.op)
            }
            result => result,
        }
    }

    /// An operation of any age, with its steps.
    pub(crate) async fn op_history(&self, id: OpId) -> Result<OpHistory, Failure> {
        let text = call(self.provider().await?.query_operation(id.0).await);
        parse(
            "QueryOperation",
            &text.map_err(|failure| no_op(id, failure))?,
        )
    }

    /// Operations of any age, newest first.
    pub(crate) async fn history(
        &self,
        lun: Option<&str>,
        before: Option<OpId>,
        limit: u32,
    ) -> Result<HistoryPage, Failure> {
        let options = HistoryOptions {
            lun: lun.map(str::to_owned),
            before,
            limit: Some(limit),
        };
        let provider = self.provider().await?;
        let text = call(provider.query_operations(options.to_dict()).await)?;
        parse("QueryOperations", &text)
    }

    /// Why a LUN is as it is.
    pub(crate) async fn explain(&self, lun: &str) -> Result<Explanation, Failure> {
        parse(
            "Explain",
            &call(self.lun_proxy(lun).await?.explain().await)?,
        )
    }

    /// Some notifications with a number above `since`, oldest first; none: there are no more.
    pub(crate) async fn events_since(&self, since: u64) -> Result<Vec<Event>, Failure> {
        let text = call(self.provider().await?.query_events(since).await)?;
        parse("QueryEvents", &text)
    }

    /// The newest notifications, oldest first.
    pub(crate) async fn recent_events(&self, limit: u32) -> Result<Vec<Event>, Failure> {
        let text = call(self.provider().await?.query_recent_events(limit).await)?;
        parse("QueryRecentEvents", &text)
    }

    /// A stream that yields whenever something is told, and when the service goes or comes.
    pub(crate) async fn notifications(&self) -> Result<BoxStream<'static, Wake>, Failure> {
        let provider = self.provider().await?;
        let told = call(provider.receive_notification().await)?.map(|_| Wake::Told);
        let owners = call(provider.inner().receive_owner_changed().await)?;
        let moved = owners.map(|owner| match owner {
            Some(_) => Wake::Back,
            None => Wake::Gone,
        });
        Ok(futures_util::stream::select(told, moved).boxed())
    }

    /// A stream that yields whenever the service tells of any change of any object, and when it
    /// goes or comes.
    pub(crate) async fn changes(&self) -> Result<BoxStream<'static, Wake>, Failure> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(BUS_NAME)
            .build();
        let rule = call(rule)?;
        let stream = MessageStream::for_match_rule(rule, self.ipc.connection(), None).await;
        let told = call(stream)?.map(|_| Wake::Told);
        let provider = self.provider().await?;
        let owners = call(provider.inner().receive_owner_changed().await)?;
        let moved = owners.map(|owner| match owner {
            Some(_) => Wake::Back,
            None => Wake::Gone,
        });
        Ok(futures_util::stream::select(told, moved).boxed())
    }

    /// Asks for the end of an operation.
    pub(crate) async fn cancel(&self, id: OpId, release_spare: bool) -> Result<(), Failure> {
        let proxy = self.op_proxy(op_path(id)).await?;
        call(
            proxy
                .cancel(CancelOptions { release_spare }.to_dict())
                .await,
        )
    }

    /// Waits for the end of an operation, `left` at most, for ever without it.
    pub(crate) async fn wait(&self, id: OpId, left: Option<Duration>) -> Result<WaitEnd, Failure> {
        // 0 means for ever on the bus; more milliseconds than fit are as good as that.
        let timeout_ms = left.map_or(0, |left| {
            u64::try_from(left.as_millis()).unwrap_or(0).max(1)
        });
        let proxy = self.op_proxy(op_path(id)).await?;
        match call(proxy.wait(timeout_ms).await) {
            Ok(_) => Ok(WaitEnd::Ended),
            Err(failure) if failure.hresult == Hresult::VDS_E_TIMEOUT => Ok(WaitEnd::TimedOut),
            Err(failure) => Err(failure),
        }
    }

    /// A stream that yields whenever a property of the operation has changed.
    pub(crate) async fn op_changes(&self, id: OpId) -> Result<BoxStream<'static, ()>, Failure> {
        let builder = PropertiesProxy::builder(self.ipc.connection());
        let proxy = call(
            builder
                .destination(BUS_NAME)
                .path(op_path(id))
                .cache_properties(CacheProperties::No)
                .build()
                .await,
        )?;
        let changes = call(proxy.receive_properties_changed().await)?;
        let ours = changes.filter_map(|signal| async move {
            let args = signal.args().ok()?;
            (args.interface_name.as_str() == ASYNC_INTERFACE).then_some(())
        });
        Ok(ours.boxed())
    }

    async fn op_at(&self, path: OwnedObjectPath) -> Result<OpView, Failure> {
        parse(
            "Describe",
            &call(self.op_proxy(path).await?.describe().await)?,
        )
    }

    async fn provider(&self) -> Result<ProviderProxy<'static>, Failure> {
        self.ipc.provider().await.map_err(Failure::from)
    }

    async fn lun_proxy(&self, name: &str) -> Result<LunProxy<'static>, Failure> {
        self.ipc.lun(name).await.map_err(Failure::from)
    }

    async fn op_proxy(&self, path: OwnedObjectPath) -> Result<AsyncProxy<'static>, Failure> {
        self.ipc.operation(path).await.map_err(Failure::from)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Remote(error) => of_remote(error),
            ClientError::Unreachable(text) => {
                Self::unreachable(format!("the service cannot be reached: {text}"))
            }
            ClientError::Protocol(text) => Self::bad_answer("this call", text),
        }
    }
}

/// What the service refused, in its own words.
fn of_remote(error: RemoteError) -> Failure {
    let mut failure = Failure::new(error.hresult, error.message);
    failure.hint = error.hint;
    failure.object = Some(error.object).filter(|object| !object.is_empty());
    if error.name == "AmbiguousName" {
        failure.hint = Some("type more of the id, or the name".to_owned());
    }
    // A drive that cannot serve is no matter of waiting, whichever HRESULT says why: 4, or 3
    // when there is no such drive.
    if error.name == "DriveRefused" && failure.exit != 3 {
        failure.exit = 4;
    }
    failure
}

/// What the service says of an operation that nobody knows, with a better hint.
fn no_op(id: OpId, failure: Failure) -> Failure {
    if failure.hresult != Hresult::VDS_E_OBJECT_NOT_FOUND {
        return failure;
    }
    let message = format!("there is no operation {id}");
    Failure { message, ..failure }.hint("run `lunctl ops --all`")
}

fn call<T>(result: zbus::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| ClientError::from(error).into())
}

fn parse<T: DeserializeOwned>(method: &str, text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::bad_answer(method, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(name: &str, hresult: u32) -> Failure {
        of_remote(RemoteError {
            name: name.to_owned(),
            message: "a sentence".to_owned(),
            hresult: Hresult(hresult),
            object: "md0".to_owned(),
            hint: Some("do this".to_owned()),
        })
    }

    #[test]
    fn the_services_words_are_kept() {
        let failure = remote("AnotherCallInProgress", 0x8004_2404);
        assert_eq!(failure.exit, 5);
        assert_eq!(failure.message, "a sentence");
        assert_eq!(failure.hint.as_deref(), Some("do this"));
        assert_eq!(failure.name, "VDS_E_ANOTHER_CALL_IN_PROGRESS");
    }

    #[test]
    fn a_drive_that_does_not_fit_exits_4_and_one_that_is_not_there_3() {
        assert_eq!(remote("DriveRefused", 0x8004_2413).exit, 4); // DEVICE_IN_USE
        assert_eq!(remote("DriveRefused", 0x8004_2516).exit, 4); // MEMBER_SIZE_INVALID
        assert_eq!(remote("DriveRefused", 0x8004_2405).exit, 3); // OBJECT_NOT_FOUND
        assert_eq!(remote("AmbiguousName", 0x8007_0057).exit, 2);
    }

    #[test]
    fn a_bus_is_system_session_or_an_address() {
        assert!("system".parse::<Bus>().is_ok_and(|bus| bus.is_system()));
        assert!("session".parse::<Bus>().is_ok());
        assert!("unix:path=/tmp/x".parse::<Bus>().is_ok());
        assert!("sytem".parse::<Bus>().is_err());
        assert!("".parse::<Bus>().is_err());
    }
}
