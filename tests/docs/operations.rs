//! The guides: each `lunctl` line of a block that names a machine (`<!-- on: mirror-degraded -->`) is
//! run there, in order, and ends with the code that stands behind it (`# exits 4`; else 0). What is
//! copied is copied at once, unless the machine is `slow`.

use super::document;
use crate::cli::{on, run};

/// The blocks of a document: the machine, and the lines.
fn blocks(text: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut machine = None;
    let mut inside = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("<!-- on: ") {
            machine = Some(name.trim_end_matches(" -->").to_owned());
        } else if line.starts_with("```") {
            inside = !inside && machine.is_some();
            match (inside, machine.take()) {
                (true, Some(name)) => blocks.push((name, Vec::new())),
                (_, taken) => machine = taken,
            }
        } else if inside && let Some((_, lines)) = blocks.last_mut() {
            lines.push(line.to_owned());
        }
    }
    blocks
}

#[test]
fn what_the_guides_say_to_type_does_what_they_say() {
    let mut ran = 0;
    for path in ["README.md", "docs/operations.md", "docs/troubleshooting.md"] {
        for (machine, lines) in blocks(&document(path)) {
            let (name, slow) = match machine.strip_suffix(", slow") {
                Some(name) => (name, true),
                None => (machine.as_str(), false),
            };
            on(name, async |rig, _user| {
                if !slow {
                    rig.fast();
                }
                for line in &lines {
                    let line = line.strip_prefix("sudo ").unwrap_or(line);
                    let (typed, remark) = line.split_once('#').unwrap_or((line, ""));
                    let Some(typed) = typed.trim().strip_prefix("lunctl ") else {
                        continue;
                    };
                    let code = remark.split("exits ").nth(1);
                    let code = code.and_then(|code| code.split([' ', ':', ',']).next());
                    let code = code.map_or(0, |code| code.parse().unwrap());
                    run(rig, typed).await.exits(code);
                }
            });
            ran += lines.len();
        }
    }
    assert!(ran > 20, "only {ran} lines were run");
}
