//! A plan as text and as a document: what would be done, and nothing is.

use lun_core::action::{Action, SyncWord, Target};
use lun_core::model::{OpView, Phase};
use lun_core::plan::{Candidate, Plan, Source, Verdict};
use serde_json::{Value, json};

use super::table::{field, indented, item};
use super::units::{bytes, rate, seconds};
use super::{Ui, op};
use crate::client::Client;
use crate::failure::{DONE, Failure};
use crate::json::document;

/// The kernel's own limit of resync speed, KiB per second and member.
const SPEED_LIMIT: &str = "/proc/sys/dev/raid/speed_limit_max";

/// What the estimate of the duration rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Basis {
    /// The rate of an earlier operation on this LUN.
    LastRate(u64),
    /// The most that the kernel allows itself; it may well be slower.
    KernelLimit(u64),
    /// Nothing is known.
    Unknown,
}

/// Shows a plan.
pub(crate) async fn present(
    plan: &Plan,
    name: &str,
    client: &Client,
    ui: &Ui,
) -> Result<u8, Failure> {
    let host = client.snapshot().await?;
    let lun_name = host
        .luns
        .iter()
        .find(|lun| lun.id == plan.lun)
        .map_or(name, |lun| lun.name.as_str());
    // The limit is this machine's; another machine's bus says nothing about it.
    let limit = client.is_here().then(kernel_limit).flatten();
    let basis = basis(plan, &host.ops, limit);
    if ui.json() {
        ui.document(&to_document(plan, lun_name, basis)?)?;
    } else {
        ui.text(&to_text(plan, lun_name, basis))?;
    }
    Ok(DONE)
}

/// The kernel's limit in bytes per second.
fn kernel_limit() -> Option<u64> {
    let text = std::fs::read_to_string(SPEED_LIMIT).ok()?;
    text.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn basis(plan: &Plan, ops: &[OpView], limit: Option<u64>) -> Basis {
    let last = ops
        .iter()
        .filter(|op| op.lun == plan.lun)
        .filter_map(|op| {
            op.rate_bytes_per_s
                .filter(|rate| *rate > 0)
                .map(|rate| (op.id, rate))
        })
        .max();
    match (last, limit.filter(|limit| *limit > 0)) {
        (Some((_, rate)), _) => Basis::LastRate(rate),
        (None, Some(limit)) => Basis::KernelLimit(limit),
        (None, None) => Basis::Unknown,
    }
}

/// Seconds that copying takes.
fn duration(plan: &Plan, basis: Basis) -> Option<u64> {
    match basis {
        Basis::LastRate(rate) | Basis::KernelLimit(rate) if rate > 0 => {
            Some(plan.bytes_to_copy.div_ceil(rate))
        }
        Basis::LastRate(_) | Basis::KernelLimit(_) | Basis::Unknown => None,
    }
}

/// The duration in words.
fn duration_text(plan: &Plan, basis: Basis) -> String {
    let time = duration(plan, basis).map(seconds).unwrap_or_default();
    match basis {
        Basis::LastRate(figure) => {
            format!(
                "about {time} at {}, the last known rate of this LUN",
                rate(figure)
            )
        }
        Basis::KernelLimit(figure) => {
            format!(
                "at least {time}: the kernel limits itself to {}",
                rate(figure)
            )
        }
        Basis::Unknown => "unknown: no rate of this LUN is known".to_owned(),
    }
}

fn to_text(plan: &Plan, name: &str, basis: Basis) -> String {
    let mut text = format!("Plan for {name}: {}\n", plan.rule);
    if plan.phase == Phase::None {
        text.push_str("Nothing would be done.\n");
        return text;
    }
    text.push_str(&fields(plan));
    text.push_str(&field("duration", &duration_text(plan, basis)));
    text.push_str("\nSteps\n");
    text.push_str(&steps(plan));
    if !plan.candidates.is_empty() {
        text.push_str("\nCandidates\n");
        text.push_str(&candidates(&plan.candidates));
    }
    text.push_str("\nNothing was changed.\n");
    text
}

/// A plan in short: the rule, what would be done to the data, the steps.
pub(crate) fn outline(plan: &Plan) -> String {
    let mut text = field("rule", &plan.rule);
    if plan.phase == Phase::None {
        text.push_str(&field("steps", "nothing would be done"));
        return text;
    }
    text.push_str(&fields(plan));
    text.push_str(&steps(plan));
    text
}

fn fields(plan: &Plan) -> String {
    let mut text = String::new();
    if let Some(phase) = op::phase(plan.phase) {
        text.push_str(&field("phase", phase));
    }
    if let Some(names) = drives_filled(plan) {
        text.push_str(&field("spare", &names));
    }
    if let Some(old) = &plan.retires {
        text.push_str(&field("retires", &node(&old.name)));
    }
    if plan.leaves_missing > 0 {
        let text_missing = format!("{}, for want of spares", slots(plan.leaves_missing));
        text.push_str(&field("leaves empty", &text_missing));
    }
    text.push_str(&field("at risk", &plan.risk));
    text.push_str(&field("to copy", &bytes(plan.bytes_to_copy)));
    text
}

fn steps(plan: &Plan) -> String {
    if plan.steps.is_empty() {
        return "  none: it is already under way\n".to_owned();
    }
    let lines = plan.steps.iter().enumerate().map(|(number, step)| {
        let what = format!("{}, {}", words(&step.action), step.why);
        item(number.saturating_add(1), &what)
    });
    lines.collect()
}

fn candidates(candidates: &[Candidate]) -> String {
    let rows = candidates.iter().map(|candidate| {
        vec![
            candidate.name(),
            source(candidate.source).to_owned(),
            bytes(candidate.size_bytes),
            verdict(&candidate.verdict),
            candidate.reason.clone(),
        ]
    });
    indented(
        &["DRIVE", "SOURCE", "SIZE", "VERDICT", "REASON"],
        rows.collect(),
    )
}

pub(super) const fn source(source: Source) -> &'static str {
    match source {
        Source::Attached => "attached",
        Source::Pool => "pool",
        Source::Former => "former member",
        Source::Chosen => "named by you",
        Source::VolumeGroup => "volume group",
        Source::SpareGroup => "spare group",
    }
}

pub(super) fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Taken => "taken".to_owned(),
        Verdict::Fits { rank } => format!("fits, rank {}", rank.saturating_add(1)),
        Verdict::Rejected(_) => "rejected".to_owned(),
    }
}

fn slots(count: u32) -> String {
    match count {
        1 => "1 slot".to_owned(),
        more => format!("{more} slots"),
    }
}

fn drives_filled(plan: &Plan) -> Option<String> {
    let names: Vec<String> = plan
        .targets
        .iter()
        .map(|target| node(&target.name))
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// The node of a kernel name.
fn node(name: &str) -> String {
    format!("/dev/{name}")
}

/// A word of `sync_action`.
fn of_word(array: &str, word: SyncWord) -> String {
    match word {
        SyncWord::Frozen => format!("hold {array} still"),
        SyncWord::Idle => format!("let {array} go on by itself"),
        SyncWord::Recover => format!("start the rebuild of {array}"),
        SyncWord::Resync => format!("start the resync of {array}"),
        SyncWord::Check => format!("start comparing the copies of {array}"),
        SyncWord::Repair => format!("start rewriting what differs on {array}"),
    }
}

/// An action in plain words.
pub(super) fn words(action: &Action) -> String {
    match action {
        Action::SetSync { array, word } => of_word(array, *word),
        Action::ClearResyncStart {
            array,
            fill_first: false,
        } => format!("clear the mark that an interrupted repair left on {array}"),
        Action::ClearResyncStart { array, .. } => {
            format!("put off the resync of {array}, to be repaired once it is filled")
        }
        Action::WholeRange { array } => format!("have {array} checked from end to end"),
        // Of hints, not of plans.
        Action::SetSpeed { .. } | Action::SetBitmap { .. } => action.to_string(),
        Action::MakeReadWrite { array } => format!("make {array} writable"),
        Action::AddSpare { array, drive } => {
            format!("add {} to {array} as a spare", node(&drive.name))
        }
        Action::ReAdd { array, drive } => {
            format!("add {} back to {array} where it was", node(&drive.name))
        }
        Action::FailMember { array, drive } => {
            format!("mark {} of {array} faulty", node(&drive.name))
        }
        Action::RemoveMember { array, drive } => {
            format!("take {} out of {array}", node(&drive.name))
        }
        Action::DropVanished { array, member } => {
            format!("take {member}, whose device is gone, out of {array}")
        }
        Action::WantReplacement { array, drive } => {
            format!("ask for a replacement of {} in {array}", node(&drive.name))
        }
        Action::SetSlot { array, drive, slot } => {
            format!("give {} slot {slot} of {array}", node(&drive.name))
        }
        Action::Revive { array, drive } => {
            format!("take {} back into {array}", node(&drive.name))
        }
        Action::RepairVolume { array, onto } => {
            format!("have LVM replace the lost legs of {array}{}", places(onto))
        }
        Action::ReplaceLeg { array, slot, drive } => {
            format!(
                "lay leg {slot} of {array} on {} and fill it",
                node(&drive.name)
            )
        }
        Action::DropTable { array } => {
            format!("clear what was laid for a leg of {array} and is in no table")
        }
        Action::ForgetLeg { drive, .. } => {
            format!(
                "erase the superblock of the old leg on {}",
                node(&drive.name)
            )
        }
        Action::ExtendGroup { group, drive, .. } => {
            format!("add {} to the volume group {group}", node(&drive.name))
        }
        Action::Light { drive, on: true } => format!("light up {}", node(&drive.name)),
        Action::Light { drive, .. } => format!("switch off the light of {}", node(&drive.name)),
        Action::Wipe { drive, .. } => format!("erase what is written on {}", node(&drive.name)),
    }
}

/// Where to, after a verb; nothing where that is left open.
fn places(onto: &[Target]) -> String {
    let onto: Vec<String> = onto.iter().map(|drive| node(&drive.name)).collect();
    match onto.is_empty() {
        true => String::new(),
        false => format!(" on {}", onto.join(", ")),
    }
}

/// The plan as it stands in the document of another verb.
pub(super) fn body(plan: &Plan, name: &str) -> Result<Value, Failure> {
    let document = to_document(plan, name, Basis::Unknown)?;
    Ok(document.get("plan").cloned().unwrap_or(Value::Null))
}

/// `{"plan": ...}`: the plan, with what only this program adds to it.
fn to_document(plan: &Plan, name: &str, basis: Basis) -> Result<Value, Failure> {
    let mut body = document(plan)?;
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .map(|step| {
            Ok(json!({
                "text": words(&step.action),
                "why": step.why,
                "action": document(&step.action)?,
            }))
        })
        .collect::<Result<_, Failure>>()?;
    let (basis_name, figure) = match basis {
        Basis::LastRate(figure) => ("last_rate", Some(figure)),
        Basis::KernelLimit(figure) => ("kernel_limit", Some(figure)),
        Basis::Unknown => ("unknown", None),
    };
    if let Value::Object(map) = &mut body {
        map.insert("steps".to_owned(), Value::Array(steps));
        map.insert("lun_name".to_owned(), json!(name));
        let spare = plan.targets.first().map(|target| node(&target.name));
        map.insert("spare".to_owned(), json!(spare));
        map.insert("nothing_to_do".to_owned(), json!(plan.phase == Phase::None));
        map.insert(
            "estimate".to_owned(),
            json!({
                "seconds": duration(plan, basis),
                "basis": basis_name,
                "rate_bytes_per_s": figure,
            }),
        );
    }
    Ok(json!({"plan": body}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn a_plan_says_what_why_and_at_what_risk() {
        let text = to_text(&samples::plan(), "md0", Basis::LastRate(64 << 20));
        for part in [
            "Plan for md0: a spare of the pool takes over\n",
            "phase         rebuild",
            "spare         /dev/loop2",
            "at risk       the loss of /dev/loop0 would fail the LUN",
            "to copy       256 MiB",
            "duration      about 4 s at 64 MiB/s",
            "  1.  add /dev/loop2 to md0 as a spare, because it fits best",
            "  2.  start the rebuild of md0, to fill the empty slot",
            "/dev/loop2  pool",
            "taken",
            "rejected",
            "too small",
            "Nothing was changed.",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_duration_is_said_to_be_unknown() {
        let plan = samples::plan();
        assert_eq!(basis(&plan, &[], None), Basis::Unknown);
        assert!(duration_text(&plan, Basis::Unknown).starts_with("unknown"));
        let limit = basis(&plan, &[], Some(200_000 * 1024));
        assert_eq!(limit, Basis::KernelLimit(204_800_000));
        assert!(duration_text(&plan, limit).starts_with("at least 2 s"));
        let last = basis(&plan, &[samples::running()], Some(1));
        assert_eq!(last, Basis::LastRate(120 << 20));
    }

    #[test]
    fn nothing_to_do_is_said_in_words() {
        let mut plan = samples::plan();
        plan.phase = Phase::None;
        plan.steps.clear();
        assert!(to_text(&plan, "md0", Basis::Unknown).contains("Nothing would be done."));
    }

    #[test]
    fn the_document_of_a_plan() {
        let document = to_document(&samples::plan(), "md0", Basis::LastRate(64 << 20)).unwrap();
        let plan = &document["plan"];
        assert_eq!(plan["spare"], "/dev/loop2");
        assert_eq!(plan["phase"], "rebuild");
        assert_eq!(plan["steps"][1]["text"], "start the rebuild of md0");
        assert_eq!(plan["estimate"]["seconds"], 4);
        assert_eq!(plan["candidates"][0]["verdict"]["verdict"], "taken");
        assert_eq!(plan["candidates"][1]["verdict"]["reason"], "too_small");
        assert_eq!(plan["nothing_to_do"], false);
    }
}
