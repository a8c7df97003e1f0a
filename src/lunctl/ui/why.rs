//! The reasoning about a LUN, as text and as a document.

use lun_core::model::{AutoVerdict, Decision};
use lun_core::plan::{Bystander, Explained, Explanation, Refusal};
use serde_json::Value;

use super::table::{field, indented};
use super::units::{bytes, moment};
use super::{lun, plan};
use crate::failure::Failure;
use crate::json;

/// As text.
pub(crate) fn text(explanation: &Explanation) -> String {
    let name = &explanation.lun.name;
    let mut text = format!("{name} {}\n", explanation.lun.level);
    text.push_str(&lun::standing(&explanation.lun));
    if let Some(decision) = &explanation.decision {
        text.push_str("\nWhat happens by itself\n");
        text.push_str(&decided(decision));
    }
    text.push_str(&format!("\nWhat `lunctl recover {name}` would do now\n"));
    if let Some(refusal) = &explanation.refusal {
        text.push_str(&refused(refusal));
    }
    if let Some(plan) = &explanation.plan {
        text.push_str(&plan::outline(plan));
    }
    text.push_str("\nCandidates\n");
    if explanation.candidates.is_empty() {
        text.push_str("  none: no spare is attached, none registered, no former member is there\n");
    } else {
        text.push_str(&candidates(&explanation.candidates));
    }
    if !explanation.unregistered.is_empty() {
        text.push_str("\nIdle drives that were not considered\n");
        text.push_str(&bystanders(&explanation.unregistered));
    }
    text
}

fn decided(decision: &Decision) -> String {
    let verdict = match decision.verdict {
        AutoVerdict::Act => match decision.op {
            Some(op) => format!("recovered by operation {op}"),
            None => "recovered".to_owned(),
        },
        AutoVerdict::Wait {
            ends_at_ms: Some(at),
        } => format!("waits until {}", moment(at.0)),
        AutoVerdict::Wait { ends_at_ms: None } => "waits until something changes".to_owned(),
        AutoVerdict::Leave => "nothing".to_owned(),
    };
    let mut text = field("verdict", &verdict);
    text.push_str(&field("because", &decision.reason));
    text.push_str(&field("rule", decision.rule.as_str()));
    text.push_str(&field("since", &moment(decision.decided_at_ms.0)));
    for fact in &decision.facts {
        text.push_str(&field("fact", fact));
    }
    for drive in &decision.alternatives {
        let verdict = if drive.fits { "fits" } else { "does not do" };
        text.push_str(&field(
            "drive",
            &format!("{} {verdict}: {}", drive.drive, drive.reason),
        ));
    }
    text
}

fn refused(refusal: &Refusal) -> String {
    let mut text = field(
        "refused",
        &format!("{} {}", refusal.hresult_name, refusal.hresult),
    );
    text.push_str(&field("because", &refusal.message));
    if let Some(hint) = &refusal.hint {
        text.push_str(&field("change it", hint));
    }
    text
}

fn candidates(candidates: &[Explained]) -> String {
    let rows = candidates.iter().map(|explained| {
        let candidate = &explained.candidate;
        vec![
            candidate.name(),
            plan::source(candidate.source).to_owned(),
            bytes(candidate.size_bytes),
            plan::verdict(&candidate.verdict),
            with_change(&candidate.reason, explained.change.as_deref()),
        ]
    });
    indented(
        &["DRIVE", "SOURCE", "SIZE", "VERDICT", "WHY"],
        rows.collect(),
    )
}

fn bystanders(bystanders: &[Bystander]) -> String {
    let rows = bystanders.iter().map(|drive| {
        vec![
            drive.device.clone(),
            bytes(drive.size_bytes),
            with_change(&drive.reason, drive.change.as_deref()),
        ]
    });
    indented(&["DRIVE", "SIZE", "WHY"], rows.collect())
}

fn with_change(reason: &str, change: Option<&str>) -> String {
    match change {
        Some(change) => format!("{reason}; {change}"),
        None => reason.to_owned(),
    }
}

/// As a document; the plan in it is that of a dry run.
pub(crate) fn document(explanation: &Explanation) -> Result<Value, Failure> {
    let mut document = json::document(explanation)?;
    if let (Value::Object(map), Some(plan)) = (&mut document, &explanation.plan) {
        map.insert("plan".to_owned(), plan::body(plan, &explanation.lun.name)?);
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;
    use lun_core::Error;
    use lun_core::id::{DriveId, Wall};
    use lun_core::model::{Alternative, AutoRule};

    fn sample() -> Explanation {
        let plan = samples::plan();
        let explained = |change: Option<&str>| Explained {
            candidate: plan.candidates[0].clone(),
            change: change.map(str::to_owned),
        };
        Explanation {
            lun: samples::degraded(),
            candidates: vec![explained(None), explained(Some("plug it in"))],
            plan: Some(plan),
            refusal: None,
            decision: Some(Decision {
                lun: samples::degraded().id,
                lun_name: "md0".to_owned(),
                decided_at_ms: Wall(1_795_407_137_000),
                rule: AutoRule::Grace,
                verdict: AutoVerdict::Wait {
                    ends_at_ms: Some(Wall(1_795_407_152_000)),
                },
                reason: "what was lost is given a while to come back".to_owned(),
                facts: vec!["/dev/loop1 went away".to_owned()],
                alternatives: vec![Alternative {
                    drive: "/dev/loop2".to_owned(),
                    fits: true,
                    reason: "it fits".to_owned(),
                }],
                op: None,
            }),
            unregistered: vec![Bystander {
                id: DriveId::derive("backing", "x"),
                device: "/dev/loop7".to_owned(),
                stable_name: "/srv/loop7.img".to_owned(),
                size_bytes: 1 << 28,
                reason: "it would fit, and is not registered as a spare".to_owned(),
                change: Some("`lunctl spare add /dev/loop7` registers it".to_owned()),
            }],
        }
    }

    #[test]
    fn the_reasoning_tells_state_plan_candidates_and_what_would_change_it() {
        let text = text(&sample());
        for part in [
            "fatal next    losing any of: /dev/loop0",
            "What `lunctl recover md0` would do now",
            "a spare of the pool takes over",
            "1.  add /dev/loop2 to md0 as a spare",
            "plug it in",
            "What happens by itself",
            "waits until 2026-11-23T04:12:32Z",
            "/dev/loop1 went away",
            "/dev/loop2 fits: it fits",
            "Idle drives that were not considered",
            "/dev/loop7",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
    }

    #[test]
    fn a_refusal_is_told_with_its_number_and_what_would_change_it() {
        let error = Error::ReadOnly {
            lun: "md0".to_owned(),
        };
        let refused = Explanation {
            plan: None,
            refusal: Some(Refusal::from(&error)),
            candidates: Vec::new(),
            ..sample()
        };
        let text = text(&refused);
        assert!(text.contains("VDS_E_READONLY 0x80042584"), "{text}");
        assert!(text.contains("mdadm --readwrite"), "{text}");
        assert!(text.contains("none: no spare is attached"), "{text}");
        let document = document(&refused).unwrap();
        assert_eq!(document["refusal"]["hresult_name"], "VDS_E_READONLY");
        assert_eq!(document["plan"], Value::Null);
    }

    #[test]
    fn the_document_has_the_plan_of_a_dry_run() {
        let document = document(&sample()).unwrap();
        assert_eq!(document["lun"]["name"], "md0");
        assert_eq!(document["plan"]["spare"], "/dev/loop2");
        assert_eq!(document["candidates"][1]["change"], "plug it in");
        assert_eq!(document["candidates"][0]["source"], "pool");
        assert_eq!(document["unregistered"][0]["device"], "/dev/loop7");
    }
}
