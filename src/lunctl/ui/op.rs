//! Operations as text.

use lun_core::Hresult;
use lun_core::model::{OpKind, OpView, Phase, VdsEnum as _};
use lun_core::op::Standing;
use lun_ipc::{OpHistory, StepView, hint_for};
use serde_json::Value;

use super::drive::short;
use super::table::{field, item, render};
use super::units::{moment, rate, seconds};
use crate::failure::{self, Failure};
use crate::json;

/// Kind of work, as a noun.
pub(crate) fn kind(kind: OpKind) -> &'static str {
    match kind {
        OpKind::Recover => "recovery",
        OpKind::Replace => "replacement",
        OpKind::Verify => "verification",
        OpKind::Repair => "repair",
    }
}

/// A phase in a word; [`None`] where nothing had to be done.
pub(crate) fn phase(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::ReAdd => Some("re-add"),
        Phase::Rebuild => Some("rebuild"),
        Phase::Replace => Some("replace"),
        Phase::Resync => Some("resync"),
        Phase::Check => Some("check"),
        Phase::Repair => Some("repair"),
        Phase::None => None,
    }
}

/// The perfect of a final state, after `has`.
pub(crate) fn ended_words(op: &OpView) -> String {
    match op.state.as_str() {
        "cancelled" => "been cancelled".to_owned(),
        "interrupted" => "been interrupted".to_owned(),
        state => state.to_owned(),
    }
}

/// `recovery of md0`.
fn subject(op: &OpView) -> String {
    format!("{} of {}", kind(op.kind), op.lun_name)
}

/// Where it stands, in a clause: `rebuild 42% onto /dev/loop2, 120 MiB/s, 3 min left`.
pub(crate) fn progress(op: &OpView) -> String {
    let mut text = phase(op.phase).unwrap_or(&op.state).to_owned();
    text.push_str(&format!(" {}%", op.percent));
    if let Some(spare) = &op.spare {
        text.push_str(&format!(" onto {spare}"));
    }
    if let Some(figure) = op.rate_bytes_per_s {
        text.push_str(&format!(", {}", rate(figure)));
    }
    if let Some(left) = op.eta_s {
        text.push_str(&format!(", {} left", seconds(left)));
    }
    text
}

/// Answer to a verb that has begun an operation.
pub(crate) fn begun(op: &OpView) -> String {
    if !op.is_running() {
        return ended(op);
    }
    let onto = op
        .spare
        .as_ref()
        .map_or_else(String::new, |spare| format!(" onto {spare}"));
    format!(
        "operation {id}: {subject}{onto} has begun.\n\
         `lunctl status {id}` shows it, `lunctl wait {id}` waits for it, `lunctl cancel {id}` \
         ends it.\n",
        id = op.id,
        subject = subject(op),
    )
}

/// An operation that has ended.
pub(crate) fn ended(op: &OpView) -> String {
    format!(
        "operation {}: {} {}: {}\n",
        op.id,
        subject(op),
        op.state,
        op.message
    )
}

/// An operation after its cancel.
pub(crate) fn after_cancel(op: &OpView) -> String {
    if op.is_running() {
        return format!(
            "operation {id}: {subject} is still {state}: {message}\n\
             `lunctl wait {id}` waits for its end.\n",
            id = op.id,
            subject = subject(op),
            state = op.state,
            message = op.message,
        );
    }
    if op.state != "cancelled" {
        let state = &op.state;
        return format!(
            "operation {}: {} {state} before it could be cancelled: {}\n",
            op.id,
            subject(op),
            op.message
        );
    }
    ended(op)
}

/// What went wrong with an operation that has ended; [`None`] when it ended well.
pub(crate) fn failure(op: &OpView) -> Option<Failure> {
    if op.hresult.is_success() {
        return None;
    }
    let (lun, id) = (&op.lun_name, op.id);
    let (exit, hint) = match op.state.as_str() {
        "cancelled" if matches!(op.kind, OpKind::Verify | OpKind::Repair) => (
            failure::CANCELLED,
            format!("run `lunctl verify {lun}` to begin anew"),
        ),
        "cancelled" => (
            failure::CANCELLED,
            format!(
                "a cancelled recovery is held: `lunctl recover {lun}` continues it, `lunctl \
                 release {lun}` leaves it to automatic recovery"
            ),
        ),
        "interrupted" => (
            failure::OPERATION_FAILED,
            format!("run `lunctl recover {lun}`"),
        ),
        _ => (
            failure::OPERATION_FAILED,
            hint_for(op.hresult.0, lun).unwrap_or_else(|| {
                format!(
                    "`lunctl show {lun}` shows what is left; `lunctl recover {lun}` tries again"
                )
            }),
        ),
    };
    let message = format!(
        "operation {id}, {}, {}: {} ({} {})",
        subject(op),
        op.state,
        op.message.trim_end_matches('.'),
        op.hresult_name,
        op.hresult
    );
    Some(Failure {
        exit,
        ..Failure::new(op.hresult, message).hint(hint)
    })
}

/// Waiting has ended before the operation.
pub(crate) fn timed_out(op: &OpView) -> Failure {
    let id = op.id;
    let message = format!(
        "timed out waiting for operation {id}, {}, at {}%: the operation goes on",
        subject(op),
        op.percent
    );
    Failure::new(Hresult::VDS_E_TIMEOUT, message).hint(format!(
        "`lunctl wait {id}` waits again, `lunctl cancel {id}` ends it"
    ))
}

/// Everything about one operation.
pub(crate) fn details(op: &OpView) -> String {
    let mut text = format!("operation {}: {} {}\n", op.id, subject(op), op.state);
    if op.is_running() {
        text.push_str(&field("progress", &progress(op)));
    }
    text.push_str(&field(
        "result",
        &format!("{} {}", op.hresult_name, op.hresult),
    ));
    text.push_str(&field("message", &op.message));
    if let Some(name) = phase(op.phase) {
        text.push_str(&field("phase", name));
    }
    if let Some(spare) = &op.spare {
        text.push_str(&field("spare", spare));
    }
    text.push_str(&field("output type", op.async_output.name()));
    text.push_str(&field("origin", &format!("{:?}", op.origin).to_lowercase()));
    text.push_str(&field("asked by", &op.asked_by));
    text.push_str(&field("started", &moment(op.started_at_ms.0)));
    if let Some(ended) = op.ended_at_ms {
        let took = ended.0.saturating_sub(op.started_at_ms.0) / 1000;
        text.push_str(&field(
            "ended",
            &format!("{} after {}", moment(ended.0), seconds(took)),
        ));
    }
    text
}

/// An operation of any age, and its steps.
pub(crate) fn history(found: &OpHistory) -> String {
    let mut text = details(&found.op);
    for (label, standing) in [("before", &found.before), ("after", &found.after)] {
        if let Some(standing) = standing {
            text.push_str(&field(label, &stood(standing)));
        }
    }
    if !found.states.is_empty() {
        let each = found.states.iter();
        let each = each.map(|change| format!("{} {}", moment(change.at.0), change.state));
        text.push_str(&field("states", &each.collect::<Vec<_>>().join(", ")));
    }
    if let Some(why) = &found.ledger_error {
        text.push_str(&field("steps", &format!("not known: {why}")));
    }
    if !found.steps.is_empty() {
        text.push_str("\nSteps\n");
    }
    for step in &found.steps {
        let number = usize::try_from(step.number).unwrap_or(usize::MAX);
        text.push_str(&item(number, &step_text(step)));
    }
    text
}

/// How a LUN stood: `ONLINE, FAILED_REDUNDANCY, 1 of 2 in sync`.
fn stood(standing: &Standing) -> String {
    let count = |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |n| n.to_string());
    format!(
        "{}, {}, {} of {} in sync",
        short(standing.status.name()),
        short(standing.health.name()),
        count(standing.members_in_sync),
        count(standing.members_wanted)
    )
}

fn step_text(step: &StepView) -> String {
    let what = step_words(step);
    let outcome = match (&step.error, step.ended_at_ms) {
        (Some(error), _) => format!("failed: {error}"),
        (None, Some(ended)) => {
            let took = ended.0.saturating_sub(step.begun_at_ms.0);
            format!("done after {took} ms")
        }
        (None, None) => "no outcome is known".to_owned(),
    };
    format!("{} {what}: {outcome}", moment(step.begun_at_ms.0))
}

fn step_words(step: &StepView) -> String {
    step.action.as_ref().map_or_else(
        || "an action of another version".to_owned(),
        super::plan::words,
    )
}

/// The document of an operation and its steps.
pub(crate) fn history_document(found: &OpHistory) -> Result<Value, Failure> {
    let mut document = json::document(found)?;
    let steps = document.get_mut("steps").and_then(Value::as_array_mut);
    for (value, step) in steps.into_iter().flatten().zip(&found.steps) {
        if let Value::Object(map) = value {
            map.insert("text".to_owned(), Value::String(step_words(step)));
        }
    }
    Ok(document)
}

/// Several operations; `all` tells what was asked for.
pub(crate) fn table(ops: &[OpView], all: bool) -> String {
    if ops.is_empty() {
        return if all {
            "No operation is known.\n".to_owned()
        } else {
            "No operation runs; `lunctl ops --all` lists those that have ended.\n".to_owned()
        };
    }
    let rows = ops.iter().map(|op| {
        vec![
            op.id.to_string(),
            op.lun_name.clone(),
            kind(op.kind).to_owned(),
            op.state.clone(),
            format!("{}%", op.percent),
            moment(op.started_at_ms.0),
            if op.is_running() {
                progress(op)
            } else {
                op.message.clone()
            },
        ]
    });
    render(
        &["OP", "LUN", "KIND", "STATE", "DONE", "STARTED", "WHAT"],
        rows.collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn progress_is_one_clause() {
        assert_eq!(
            progress(&samples::running()),
            "rebuild 42% onto /dev/loop2, 120 MiB/s, 3 min left"
        );
    }

    #[test]
    fn what_was_begun_says_how_to_go_on() {
        let text = begun(&samples::running());
        assert!(
            text.starts_with("operation 7: recovery of md0 onto /dev/loop2 has begun.\n"),
            "{text}"
        );
        assert!(text.contains("`lunctl wait 7`"));
    }

    #[test]
    fn a_failed_operation_says_what_why_and_what_now() {
        let failure = failure(&samples::finished("failed", 0x8004_2540)).unwrap();
        assert_eq!(failure.exit, 1);
        assert!(
            failure.message.contains("VDS_E_DISK_IO_FAILING 0x80042540"),
            "{failure:?}"
        );
        assert!(failure.hint.unwrap().contains("lunctl show md0"));
    }

    #[test]
    fn a_cancelled_operation_says_that_it_is_held() {
        let failure = failure(&samples::finished("cancelled", 0x8004_240D)).unwrap();
        assert_eq!(failure.exit, 6);
        assert!(failure.hint.unwrap().contains("lunctl release md0"));
        assert_eq!(super::failure(&samples::finished("succeeded", 0)), None);
    }

    #[test]
    fn a_time_out_says_that_the_operation_goes_on() {
        let failure = timed_out(&samples::running());
        assert_eq!(failure.exit, 8);
        assert!(
            failure.message.ends_with("the operation goes on"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn an_interrupted_operation_is_no_cancelled_one() {
        let failure = failure(&samples::finished("interrupted", 0x8004_240D)).unwrap();
        assert_eq!(failure.exit, 1);
    }

    #[test]
    fn tables_and_details_fit_80_columns() {
        let ops = [samples::running(), samples::finished("failed", 0x8004_2540)];
        let text = table(&ops, true) + &details(&ops[0]) + &details(&ops[1]);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(text.contains("2026-11-23T04:12:17Z"), "{text}");
        assert!(table(&[], false).contains("ops --all"));
    }
}
