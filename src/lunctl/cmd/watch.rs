//! `lunctl watch`.

use clap::Args;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::{Client, Wake};
use crate::failure::{DONE, Failure, UNREACHABLE};
use crate::ui::Ui;
use crate::ui::watch::View;

/// Shows the running operations and the LUNs that need care, and keeps the view up to date
///
/// On a terminal the view is redrawn whenever the service tells of a change; elsewhere each change
/// is a line, and with --json each change is one JSON document on a line. It goes on until Ctrl-C
/// (0), also when the service is restarted meanwhile.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {}

/// What a person or the terminal wants.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    resized: Signal,
}

/// Why the view has to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    End,
    Resized,
    Service(Wake),
    NoBus,
}

pub(crate) async fn run(_: &WatchArgs, client: &Client, ui: &Ui) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    // Subscribed before the first look, so that no change falls in between.
    let mut wakes = client.changes().await?;
    let mut view = View::new(ui);
    let mut read = view.show(client.snapshot().await?)?;
    while read {
        read = match signals.cause(&mut wakes).await {
            Cause::End => return view.end().map(|()| DONE),
            Cause::Resized => view.redraw()?,
            Cause::Service(Wake::Gone) => view.away()?,
            Cause::Service(Wake::Told | Wake::Back) => look(client, &mut view).await?,
            Cause::NoBus => return Err(Failure::unreachable("the bus is gone")),
        };
    }
    Ok(DONE)
}

/// Shows what is there now; a service that went away in this very moment is waited for.
async fn look(client: &Client, view: &mut View) -> Result<bool, Failure> {
    match client.snapshot().await {
        Ok(host) => view.show(host),
        Err(failure) if failure.exit == UNREACHABLE => view.away(),
        Err(failure) => Err(failure),
    }
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::unreachable(format!("cannot receive signals: {error}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            resized: listen(SignalKind::window_change())?,
        })
    }

    /// Waits for the next cause. Many changes that were told at once are one.
    async fn cause(&mut self, wakes: &mut BoxStream<'static, Wake>) -> Cause {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Cause::End,
            _ = self.terminate.recv() => Cause::End,
            _ = self.resized.recv() => Cause::Resized,
            wake = wakes.next() => {
                let Some(mut wake) = wake else {
                    return Cause::NoBus;
                };
                while let Some(Some(next)) = wakes.next().now_or_never() {
                    // Whether the service is there outweighs that it told something.
                    if next != Wake::Told {
                        wake = next;
                    }
                }
                Cause::Service(wake)
            }
        }
    }
}
