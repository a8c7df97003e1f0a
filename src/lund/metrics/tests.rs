use std::collections::{BTreeMap, BTreeSet};

use lun_core::id::{Mono, Now, Wall};
use lun_core::machine::{Input, Machine};
use lun_core::policy::Policy;
use lun_kernel::{Kernel, ScanRequest};
use lun_sim::{SimKernel, scenario};

use super::*;

/// A sample: its name, its labels, its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads the text format 0.0.4 as strictly as promtool: every sample has a family that was
/// declared before it, with help and type; names and labels are well formed; no series comes twice.
fn parse(text: &str) -> Vec<Sample> {
    let mut declared = BTreeMap::new();
    let mut helped = BTreeSet::new();
    let mut family = String::new();
    let mut seen = BTreeSet::new();
    let mut samples = Vec::new();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "the last line ends"
    );
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(well_formed(name) && !help.is_empty(), "{line}");
            assert!(helped.insert(name.to_owned()), "twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["gauge", "counter"].contains(&kind), "{line}");
            assert!(helped.contains(name), "help comes first: {line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(declared.insert(name.to_owned(), kind).is_none(), "{line}");
            name.clone_into(&mut family);
        } else {
            let sample = sample(line);
            assert_eq!(sample.0, family, "a sample of another family: {line}");
            let series = (sample.0.clone(), sample.1.clone());
            assert!(seen.insert(series), "a series comes twice: {line}");
            samples.push(sample);
        }
    }
    for name in declared.keys() {
        assert!(samples.iter().any(|sample| sample.0 == *name), "{name}");
    }
    samples
}

fn well_formed(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn sample(line: &str) -> Sample {
    let name_ends = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(name_ends);
    assert!(well_formed(name), "{line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, value) = rest.split_once("=\"").unwrap();
            assert!(well_formed(label), "{line}");
            let (value, after) = unquoted(value);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    (name.to_owned(), labels, value)
}

/// A label's value up to its closing quote, and what follows.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next().unwrap().1 {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                c => panic!("\\{c}"),
            },
            c => value.push(c),
        }
    }
    panic!("no closing quote: {text}");
}

/// What a daemon would publish of a machine that the simulator knows.
fn published(scenario: &str) -> Published {
    let kernel = SimKernel::real_time(scenario::by_name(scenario).unwrap(), 1 << 20);
    let inventory = kernel.scan(&ScanRequest::default()).unwrap();
    let now = Now {
        mono: Mono(1_000),
        wall: Wall(1_000),
    };
    let mut machine = Machine::new(Policy::default());
    machine.step(now, Input::Start(Box::default()));
    machine.step(now, Input::Scanned(Ok(Box::new(inventory))));
    Published {
        snapshot: machine.snapshot(),
        ..Published::default()
    }
}

fn value(samples: &[Sample], name: &str) -> Option<f64> {
    let mut of_name = samples.iter().filter(|sample| sample.0 == name);
    let found = of_name.next().map(|sample| sample.2);
    assert!(of_name.next().is_none(), "several {name}");
    found
}

#[test]
fn a_degraded_mirror_in_figures() {
    let samples = parse(&text(&published("mirror-degraded"), &Ended::default()));
    for (name, expected) in [
        ("lund_info", 1.0),
        ("lund_config_error", 0.0),
        ("lund_ledger_degraded", 0.0),
        ("lund_spares_registered", 0.0),
        ("lund_spares_ready", 0.0),
        ("lund_lun_healthy", 0.0),
        ("lund_lun_held", 0.0),
        ("lund_lun_members_wanted", 2.0),
        ("lund_lun_members_in_sync", 1.0),
        ("lund_lun_losses_survivable", 0.0),
    ] {
        assert_eq!(
            value(&samples, name),
            Some(expected),
            "{name}: {samples:#?}"
        );
    }
    let health = samples.iter().find(|sample| sample.0 == "lund_lun_health");
    let labels = &health.unwrap().1;
    assert_eq!(labels["lun"], "md0");
    assert_eq!(labels["health"], "VDS_H_FAILED_REDUNDANCY");
    assert_eq!(value(&samples, "lund_operation_percent"), None);
}

fn op(id: u64, ended: bool) -> OpView {
    let state = if ended { "failed" } else { "running" };
    let hresult = if ended { 0x8004_2443_u32 } else { 0x8004_2409 };
    serde_json::from_value(serde_json::json!({
        "id": id, "kind": "recover", "async_output": "VDS_ASYNCOUT_RECOVERLUN",
        "lun": "11111111-2222-3333-4444-555555555555", "lun_name": "a\\b\"c\nd", "state": state,
        "hresult": format!("0x{hresult:08x}"), "hresult_name": "", "percent": 42,
        "phase": "rebuild", "origin": "client", "spare": null, "started_at_ms": 1,
        "ended_at_ms": ended.then_some(2), "rate_bytes_per_s": 1000, "eta_s": null,
        "message": "", "asked_by": "",
    }))
    .unwrap()
}

#[test]
fn names_are_escaped_and_what_is_unknown_is_absent() {
    let mut published = Published::default();
    published.snapshot.ops.push(op(7, false));
    published.config_error = "wrong".to_owned();
    published.snapshot.ledger_degraded = Some("full".to_owned());
    let samples = parse(&text(&published, &Ended::default()));
    let percent = samples
        .iter()
        .find(|sample| sample.0 == "lund_operation_percent");
    let (_, labels, value_of) = percent.unwrap();
    assert_eq!((labels["lun"].as_str(), *value_of), ("a\\b\"c\nd", 42.0));
    assert_eq!(
        (labels["op"].as_str(), labels["kind"].as_str()),
        ("7", "recover")
    );
    let rate = value(&samples, "lund_operation_rate_bytes_per_second");
    assert_eq!(rate, Some(1000.0));
    assert_eq!(value(&samples, "lund_operation_eta_seconds"), None);
    assert_eq!(value(&samples, "lund_config_error"), Some(1.0));
    assert_eq!(value(&samples, "lund_ledger_degraded"), Some(1.0));
}

#[test]
fn operations_are_counted_once_by_their_result() {
    let mut ended = Ended::default();
    let mut published = Published::default();
    published.snapshot.ops = vec![op(1, true), op(2, false)];
    ended.look(&published.snapshot);
    let counted = |ended: &Ended, published: &Published| {
        value(&parse(&text(published, ended)), "lund_operations_total")
    };
    assert_eq!(counted(&ended, &published), None, "an earlier service's");
    published.snapshot.ops = vec![op(1, true), op(2, true), op(3, true)];
    ended.look(&published.snapshot);
    ended.look(&published.snapshot);
    assert_eq!(counted(&ended, &published), Some(2.0));
    published.snapshot.ops = vec![op(4, true)];
    ended.look(&published.snapshot);
    assert_eq!(counted(&ended, &published), Some(3.0));
}

#[test]
fn every_name_is_documented_and_no_other() {
    let document = include_str!("../../../docs/metrics.md");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: BTreeSet<&str> = rows
        .filter_map(|row| row.split(['`', '{']).next())
        .collect();
    let written: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(told, written);
}

/// The file is whole at every moment, is readable by everybody, and is not written anew for nothing.
#[tokio::test]
async fn the_file_follows_what_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let (sender, receiver) = watch::channel(Arc::new(Published::default()));
    let keeper = tokio::spawn(keep(folder.path().to_owned(), receiver));
    let path = folder.path().join(FILE);
    sender.send_replace(Arc::new(published("mirror-degraded")));
    // The end of the channel is the end of the keeper, after what was sent before.
    drop(sender);
    keeper.await.unwrap();
    let samples = parse(&std::fs::read_to_string(&path).unwrap());
    assert_eq!(value(&samples, "lund_lun_members_in_sync"), Some(1.0));
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644);
    let names: Vec<_> = folder.path().read_dir().unwrap().collect();
    assert_eq!(names.len(), 1, "nothing is left beside it: {names:?}");
}
