//! `lunctl events`.

use clap::Args;
use futures_util::StreamExt as _;
use lun_ipc::Event;

use crate::client::{Client, Wake};
use crate::failure::{DONE, Failure, INTERRUPTED, UNREACHABLE};
use crate::json;
use crate::ui::{Ui, event};

/// Notifications shown when nobody says where to begin.
const NEWEST: u32 = 100;

/// Shows what has happened, oldest first; without --since the newest 100 notifications
///
/// With --json one JSON object a line. With --follow it goes on until Ctrl-C (130), also when the
/// service is restarted meanwhile: none is lost, none is told twice.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on
    #[arg(long, short)]
    follow: bool,

    /// Begin after this sequence number; 0 begins with the oldest that is kept
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
}

/// What was told last, and whether anybody still reads.
struct Teller<'a> {
    client: &'a Client,
    ui: &'a Ui,
    last: u64,
    read: bool,
}

pub(crate) async fn run(args: &EventsArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    // Subscribed before the first look, so that nothing falls in between.
    let mut wakes = match args.follow {
        true => Some(client.notifications().await?),
        false => None,
    };
    let mut teller = Teller {
        client,
        ui,
        last: args.since.unwrap_or(0),
        read: true,
    };
    if args.since.is_none() {
        teller.tell(&client.recent_events(NEWEST).await?)?;
    } else {
        teller.catch_up().await?;
    }
    let Some(wakes) = wakes.as_mut() else {
        return Ok(DONE);
    };
    while teller.read {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => return Ok(INTERRUPTED),
            wake = wakes.next() => match wake {
                Some(Wake::Told) => teller.go_on(false).await?,
                Some(Wake::Gone) => ui.note("the service went away; waiting for it to come back"),
                Some(Wake::Back) => {
                    ui.note("the service is back");
                    teller.go_on(true).await?;
                }
                None => return Err(Failure::unreachable("the bus is gone")),
            },
        }
    }
    Ok(DONE)
}

impl Teller<'_> {
    /// Tells all that is newer than what was told last.
    async fn catch_up(&mut self) -> Result<(), Failure> {
        while self.read {
            let page = self.client.events_since(self.last).await?;
            if page.is_empty() {
                return Ok(());
            }
            self.tell(&page)?;
        }
        Ok(())
    }

    /// The same while following: a service that went away just now is waited for.
    async fn go_on(&mut self, restarted: bool) -> Result<(), Failure> {
        let outcome = match restarted && self.began_anew().await? {
            true => {
                self.ui.note("the numbers of notifications have begun anew");
                self.last = 0;
                self.catch_up().await
            }
            false => self.catch_up().await,
        };
        match outcome {
            Err(failure) if failure.exit == UNREACHABLE => Ok(()),
            outcome => outcome,
        }
    }

    /// The newest number is below what was told: somebody has taken the ledger away.
    async fn began_anew(&self) -> Result<bool, Failure> {
        match self.client.recent_events(1).await {
            Ok(newest) => Ok(newest.last().is_some_and(|event| event.seq < self.last)),
            Err(failure) if failure.exit == UNREACHABLE => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    fn tell(&mut self, events: &[Event]) -> Result<(), Failure> {
        let before = self.last;
        for event in events.iter().filter(|event| event.seq > before) {
            self.read = if self.ui.json() {
                self.ui.document_line(&json::document(event)?)?
            } else {
                self.ui.line(&event::line(event))?
            };
            self.last = event.seq;
            if !self.read {
                return Ok(());
            }
        }
        Ok(())
    }
}
