//! The simulator against what real kernels were seen to do.

use crate::KernelStyle;
use crate::truth::{self, script};

use super::STYLES;

/// The transcripts of a text by the scenario's name.
fn transcripts(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("scenario ") {
            Some(name) => found.push((name.to_owned(), format!("{line}\n"))),
            None => {
                let (_, text) = found.last_mut().expect("a scenario comes first");
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    found
}

/// Both texts line by line, where they differ.
fn difference(simulated: &str, recorded: &str) -> String {
    let mut told = String::new();
    let (mut one, mut other) = (simulated.lines(), recorded.lines());
    loop {
        match (one.next(), other.next()) {
            (None, None) => return told,
            (a, b) if a == b => told += &format!("    {}\n", a.unwrap_or_default()),
            (a, b) => {
                told += &format!("  simulated: {}\n", a.unwrap_or("(nothing)"));
                told += &format!("  kernel:    {}\n", b.unwrap_or("(nothing)"));
            }
        }
    }
}

#[test]
fn the_simulator_does_what_the_kernels_did() {
    let scripts = truth::scripts().unwrap();
    let mut wrong = String::new();
    for style in STYLES {
        let recorded = transcripts(truth::recording(style));
        let names: Vec<&String> = recorded.iter().map(|(name, _)| name).collect();
        let known: Vec<&String> = scripts.iter().map(|script| &script.name).collect();
        assert_eq!(
            names, known,
            "{style:?}: scripts/truth --record renews the recordings"
        );
        for (script, (name, recorded)) in scripts.iter().zip(&recorded) {
            let simulated = truth::simulated(script, style).text();
            if simulated != *recorded {
                wrong += &format!("{style:?} {name}\n{}", difference(&simulated, recorded));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn no_recording_broke_off_or_was_a_surprise() {
    for style in STYLES {
        for (name, text) in transcripts(truth::recording(style)) {
            for word in ["broken off", "surprise", "not cleaned up", "unnameable"] {
                assert!(!text.contains(word), "{style:?} {name}: {text}");
            }
        }
    }
}

#[test]
fn scenarios_are_many_and_have_names_of_their_own() {
    let scripts = truth::scripts().unwrap();
    let names: std::collections::BTreeSet<&String> = scripts.iter().map(|s| &s.name).collect();
    assert_eq!(names.len(), scripts.len());
    assert!(scripts.iter().all(|script| !script.steps.is_empty()));
}

#[test]
fn a_line_that_is_not_understood_is_named() {
    let wrong = script::parse("scenario one\n  drives ab\n  wait\n");
    assert_eq!(wrong.unwrap_err(), "line 3: \"wait\" is not understood");
}

#[test]
fn a_change_of_the_simulator_is_noticed() {
    let scripts = truth::scripts().unwrap();
    let differs = |name: &str| {
        let script = scripts.iter().find(|s| s.name == name).unwrap();
        let text = |style| truth::simulated(script, style).text();
        text(KernelStyle::V6_1) != text(KernelStyle::V6_12)
    };
    assert!(scripts.iter().any(|script| differs(&script.name)));
}
