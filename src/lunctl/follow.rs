//! Waiting for operations: woken by the service's signals, never by a clock.

use std::future::pending;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use lun_core::id::OpId;
use lun_core::model::OpView;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Client, WaitEnd};
use crate::duration;
use crate::failure::{
    CANCELLED, DONE, Failure, INTERRUPTED, OPERATION_FAILED, TIMED_OUT, UNREACHABLE,
};
use crate::json;
use crate::ui::progress::{Line, Progress};
use crate::ui::{Ui, op};

/// How long a service that went away while it was waited for may take to come back (a restart
/// or an update): the operation itself is the kernel's and goes on meanwhile.
const COME_BACK: Duration = Duration::from_secs(10);
/// Pause between two attempts to reach a service that went away.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(500);

/// Waiting for what was begun.
#[derive(Debug, Args)]
pub(crate) struct WaitOptions {
    /// Wait until the operation has ended, showing its progress; the exit code is its outcome
    #[arg(long)]
    pub(crate) wait: bool,

    /// Give up waiting after this long (2s, 5m, 1h or seconds); the operation goes on
    #[arg(long, requires = "wait", value_parser = duration::parse, value_name = "DURATION")]
    pub(crate) timeout: Option<Duration>,
}

/// Why waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The operation has ended.
    Ended,
    /// The time was up.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
}

/// One operation at the end of the waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Followed {
    /// As it stands.
    pub(crate) op: OpView,
    /// Why waiting ended.
    pub(crate) end: End,
}

/// Shows an operation that was just begun, and waits for it when asked to.
pub(crate) async fn begun(
    begun: OpView,
    options: &WaitOptions,
    client: &Client,
    ui: &Ui,
) -> Result<u8, Failure> {
    if options.wait {
        return all(&[begun.id], options.timeout, client, ui).await;
    }
    if ui.json() {
        ui.document(&json::document(&begun)?)?;
    } else {
        ui.text(&op::begun(&begun))?;
    }
    Ok(if begun.is_running() {
        DONE
    } else {
        outcome_code(&begun)
    })
}

/// Waits for all operations, shows how each ended and answers with the worst exit code.
pub(crate) async fn all(
    ops: &[OpId],
    timeout: Option<Duration>,
    client: &Client,
    ui: &Ui,
) -> Result<u8, Failure> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let progress = Progress::new(ui);
    let followed = join_all(
        ops.iter()
            .map(|op| one(client, *op, deadline, progress.line())),
    )
    .await
    .into_iter()
    .collect::<Result<Vec<Followed>, Failure>>()?;
    if ui.json() {
        let views: Vec<&OpView> = followed.iter().map(|one| &one.op).collect();
        ui.document(&match views.as_slice() {
            [only] => json::document(only)?,
            several => json::under("operations", &several)?,
        })?;
    } else {
        for one in &followed {
            conclude(one, ui)?;
        }
    }
    Ok(worst(followed.iter().map(code)))
}

/// Waits quietly and for a limited time until an operation has ended; answers with it as it then
/// stands.
pub(crate) async fn until_ended(
    client: &Client,
    op: OpId,
    patience: Duration,
) -> Result<OpView, Failure> {
    let deadline = Instant::now().checked_add(patience);
    one(client, op, deadline, Line::hidden())
        .await
        .map(|followed| followed.op)
}

/// Follows one operation to its end.
async fn one(
    client: &Client,
    id: OpId,
    deadline: Option<Instant>,
    mut line: Line,
) -> Result<Followed, Failure> {
    loop {
        match watch(client, id, deadline, &mut line).await {
            Err(failure) if failure.exit == UNREACHABLE => {
                line.note("the service went away; waiting for it to come back");
                come_back(client, id, failure).await?;
            }
            result => {
                line.finish();
                return result;
            }
        }
    }
}

/// Follows one operation for as long as the service is there.
async fn watch(
    client: &Client,
    id: OpId,
    deadline: Option<Instant>,
    line: &mut Line,
) -> Result<Followed, Failure> {
    // Subscribed before the first look, so that no change falls in between.
    let mut changes = client.op_changes(id).await?;
    let mut op = client.op(id).await?;
    line.show(&op);
    if !op.is_running() {
        return Ok(Followed {
            op,
            end: End::Ended,
        });
    }
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if left.is_some_and(|left| left.is_zero()) {
        return Ok(Followed {
            op,
            end: End::TimedOut,
        });
    }
    let ended = client.wait(id, left);
    tokio::pin!(ended);
    loop {
        let end = tokio::select! {
            biased;
            answer = &mut ended => match answer? {
                WaitEnd::Ended => End::Ended,
                WaitEnd::TimedOut => End::TimedOut,
            },
            () = until(deadline) => End::TimedOut,
            _ = tokio::signal::ctrl_c() => End::Interrupted,
            Some(()) = changes.next() => {
                op = client.op(id).await?;
                line.show(&op);
                continue;
            }
        };
        if end != End::Interrupted {
            op = client.op(id).await?;
            line.show(&op);
        }
        // It may have ended in the very moment in which the time was up.
        let end = if op.is_running() || end == End::Interrupted {
            end
        } else {
            End::Ended
        };
        return Ok(Followed { op, end });
    }
}

/// Sleeps until `deadline`, for ever when there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}

/// Waits for a service that went away; gives `failure` back when it stays away.
async fn come_back(client: &Client, id: OpId, failure: Failure) -> Result<(), Failure> {
    let give_up = Instant::now() + COME_BACK;
    while Instant::now() < give_up {
        sleep(BETWEEN_ATTEMPTS).await;
        match client.op(id).await {
            Ok(_) => return Ok(()),
            Err(failure) if failure.exit == UNREACHABLE => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure {
        message: format!("{} (operation {id} goes on without it)", failure.message),
        ..failure
    })
}

/// Shows how the waiting for one operation ended.
fn conclude(followed: &Followed, ui: &Ui) -> Result<(), Failure> {
    let op = &followed.op;
    match followed.end {
        End::Ended => match op::failure(op) {
            Some(failure) => ui.failure(&failure),
            None => ui.text(&op::ended(op)),
        },
        End::TimedOut => ui.failure(&op::timed_out(op)),
        End::Interrupted => {
            ui.note(&format!(
                "operation {} goes on; `lunctl cancel {}` ends it",
                op.id, op.id
            ));
            Ok(())
        }
    }
}

/// Exit code of an operation that has ended. Judged by its HRESULT; `interrupted` was nobody's
/// wish and is a failure.
pub(crate) fn outcome_code(op: &OpView) -> u8 {
    if op.hresult.is_success() {
        DONE
    } else if op.state == "cancelled" {
        CANCELLED
    } else {
        OPERATION_FAILED
    }
}

/// Exit code for one operation that was waited for.
fn code(followed: &Followed) -> u8 {
    match followed.end {
        End::Ended => outcome_code(&followed.op),
        End::TimedOut => TIMED_OUT,
        End::Interrupted => INTERRUPTED,
    }
}

/// The worst of several exit codes.
fn worst(codes: impl Iterator<Item = u8>) -> u8 {
    let badness = |code: &u8| match *code {
        DONE => 0,
        TIMED_OUT => 1,
        CANCELLED => 2,
        OPERATION_FAILED => 3,
        _ => 4,
    };
    codes.max_by_key(badness).unwrap_or(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn the_outcome_is_the_exit_code() {
        assert_eq!(outcome_code(&samples::finished("succeeded", 0)), 0);
        assert_eq!(outcome_code(&samples::finished("failed", 0x8004_2540)), 1);
        assert_eq!(
            outcome_code(&samples::finished("cancelled", 0x8004_240D)),
            6
        );
        assert_eq!(
            outcome_code(&samples::finished("interrupted", 0x8004_240D)),
            1
        );
    }

    #[test]
    fn why_waiting_ended_is_the_exit_code() {
        let op = samples::running();
        assert_eq!(
            code(&Followed {
                op: op.clone(),
                end: End::TimedOut
            }),
            8
        );
        assert_eq!(
            code(&Followed {
                op,
                end: End::Interrupted
            }),
            130
        );
    }

    #[test]
    fn the_worst_code_of_several() {
        assert_eq!(worst([0, 8, 6, 1].into_iter()), 1);
        assert_eq!(worst([0, 8, 6].into_iter()), 6);
        assert_eq!(worst([8, 0].into_iter()), 8);
        assert_eq!(worst([0, 0].into_iter()), 0);
        assert_eq!(worst([0, 130, 1].into_iter()), 130);
        assert_eq!(worst([].into_iter()), 0);
    }
}
