//! Who may lean on whom: crates by their manifests, modules of the core by their text.

use super::Findings;
use super::scan::{File, files, layers, numbered};

/// Crates from outside.
enum Foreign {
    /// These and no others.
    Only(&'static [&'static str]),
    /// Any but these.
    Not(&'static [&'static str]),
}

struct Crate {
    name: &'static str,
    folder: &'static str,
    /// Crates of this workspace that it may name, in every section of its manifest.
    ours: &'static [&'static str],
    /// Crates from outside that its product may be built from; tests of it may use any.
    foreign: Foreign,
}

/// `core <- kernel <- { sim, lund }` and `core <- ipc <- { lund, lunctl }`; nothing else.
const CRATES: &[Crate] = &[
    Crate {
        name: "lun-core",
        folder: "src/core",
        ours: &[],
        foreign: Foreign::Only(&["bitflags", "serde", "thiserror", "uuid", "wildmatch"]),
    },
    Crate {
        name: "lun-kernel",
        folder: "src/kernel",
        ours: &["lun-core"],
        foreign: Foreign::Only(&[
            "devicemapper",
            "libc",
            "nix",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
            "udev",
            "uuid",
        ]),
    },
    Crate {
        name: "lun-sim",
        folder: "src/sim",
        ours: &["lun-core", "lun-kernel"],
        foreign: Foreign::Only(&["serde", "serde_json", "thiserror", "tokio", "uuid"]),
    },
    Crate {
        name: "lun-ipc",
        folder: "src/ipc",
        ours: &["lun-core"],
        foreign: Foreign::Only(&[
            "futures-util",
            "serde",
            "serde_json",
            "thiserror",
            "uuid",
            "zbus",
        ]),
    },
    Crate {
        name: "lund",
        folder: "src/lund",
        ours: &["lun-core", "lun-kernel", "lun-sim", "lun-ipc"],
        foreign: Foreign::Not(&["devicemapper", "libc", "udev"]),
    },
    Crate {
        name: "lunctl",
        folder: "src/lunctl",
        ours: &["lun-core", "lun-ipc"],
        foreign: Foreign::Not(&["devicemapper", "libc", "rusqlite", "udev"]),
    },
    Crate {
        name: "lun-vm",
        folder: "vm",
        ours: &[],
        foreign: Foreign::Only(&[
            "libc",
            "nix",
            "serde",
            "serde_json",
            "tempfile",
            "thiserror",
        ]),
    },
    Crate {
        name: "lun-tests",
        folder: "tests",
        ours: &[
            "lun-core",
            "lun-kernel",
            "lun-sim",
            "lun-ipc",
            "lun-vm",
            "lund",
        ],
        foreign: Foreign::Not(&[]),
    },
];

/// The modules of the core from the ground up: each may name those before it, none after it.
const CORE: &[&str] = &[
    "id", "hresult", "error", "facts", "action", "policy", "model", "raid", "project", "diff",
    "plan", "op", "machine",
];

/// A dependency as a manifest names it.
struct Dependency<'a> {
    line: usize,
    name: &'a str,
    text: &'a str,
    /// It is needed by tests only.
    dev: bool,
}

fn dependencies(manifest: &str) -> Vec<Dependency<'_>> {
    let mut found = Vec::new();
    let mut section = "";
    for (line, text) in numbered(manifest) {
        if let Some(header) = text.trim().strip_prefix('[') {
            section = header.trim_end_matches(']');
            if let Some((kind, name)) = section.rsplit_once("dependencies.") {
                found.push(Dependency {
                    line,
                    name,
                    text,
                    dev: kind.ends_with("dev-"),
                });
            }
        } else if section.ends_with("dependencies") && !text.trim_start().starts_with('#') {
            let name = text.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() && text.contains('=') {
                let dev = section.ends_with("dev-dependencies");
                found.push(Dependency {
                    line,
                    name,
                    text,
                    dev,
                });
            }
        }
    }
    found
}

fn judge(layer: &Crate, manifest: &File, findings: &mut Findings) {
    for dependency in dependencies(&manifest.text) {
        let Dependency {
            line,
            name,
            text,
            dev,
        } = dependency;
        let ours = CRATES.iter().any(|other| other.name == name);
        if ours && !layer.ours.contains(&name) {
            let todo = format!(
                "{} must not know {name} (ARCHITECTURE.md, \"Crates\"); move what it needs down to \
                 a crate that both may use",
                layer.name
            );
            findings.add(&manifest.path, line, text.trim(), &todo);
        }
        let refused = match layer.foreign {
            Foreign::Only(list) => !list.contains(&name),
            Foreign::Not(list) => list.contains(&name),
        };
        if !ours && !dev && refused {
            let todo = format!(
                "{} may not be built from {name}; do it in the crate whose job it is, or widen the \
                 table in tests/tidy/arrows.rs and say why in an ADR",
                layer.name
            );
            findings.add(&manifest.path, line, text.trim(), &todo);
        }
        if text.contains("package =") || text.contains("package=") {
            findings.add(&manifest.path, line, text.trim(), "do not rename crates");
        }
    }
}

fn find<'a>(files: &'a [File], path: &str) -> Option<&'a File> {
    files.iter().find(|file| file.path == path)
}

#[test]
fn crates_lean_only_downwards() {
    let files = files();
    let mut findings = Findings::default();
    for layer in CRATES {
        match find(&files, &format!("{}/Cargo.toml", layer.folder)) {
            Some(manifest) => judge(layer, manifest, &mut findings),
            None => findings.add(
                layer.folder,
                0,
                "no Cargo.toml",
                "correct the table of crates",
            ),
        }
    }
    findings.none("crates lean only downwards");
}

#[test]
fn every_crate_is_in_the_table() {
    let files = files();
    let mut findings = Findings::default();
    let members = find(&files, "Cargo.toml").map_or("", |root| root.text.as_str());
    let members = members
        .split("members = [")
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    for folder in members.unwrap_or_default().split([',', '\n']) {
        let folder = folder.trim().trim_matches('"');
        if !folder.is_empty() && !CRATES.iter().any(|layer| layer.folder == folder) {
            findings.add(
                "Cargo.toml",
                0,
                folder,
                "add the crate to tests/tidy/arrows.rs",
            );
        }
    }
    findings.none("every crate has its place among the layers");
}

#[test]
fn the_simulator_stays_optional_and_away_from_the_system() {
    let files = files();
    let mut findings = Findings::default();
    let lines = |path: &str, name: &str| -> Vec<(usize, String)> {
        find(&files, path).map_or_else(Vec::new, |manifest| {
            dependencies(&manifest.text)
                .into_iter()
                .filter(|dependency| dependency.name == name && !dependency.dev)
                .map(|dependency| (dependency.line, dependency.text.to_owned()))
                .collect()
        })
    };
    for (line, text) in lines("src/lund/Cargo.toml", "lun-sim") {
        if !text.contains("optional = true") {
            let todo = "keep lun-sim behind the feature `sim`: it has no place in a package";
            findings.add("src/lund/Cargo.toml", line, &text, todo);
        }
    }
    for (line, text) in lines("src/sim/Cargo.toml", "lun-kernel") {
        if text.contains("features") && !text.contains("default-features = false") {
            let todo = "use the port alone, without the feature `linux`";
            findings.add("src/sim/Cargo.toml", line, &text, todo);
        }
    }
    for (line, text) in lines("Cargo.toml", "lun-kernel") {
        if !text.contains("default-features = false") {
            let todo = "say default-features = false, or the simulator gets the real adapter";
            findings.add("Cargo.toml", line, &text, todo);
        }
    }
    for (line, text) in lines("src/core/Cargo.toml", "uuid") {
        if text.contains("v4") {
            let todo = "random identifiers are made by the daemon and handed to the core";
            findings.add("src/core/Cargo.toml", line, &text, todo);
        }
    }
    findings.none("the simulator stays optional and away from the system");
}

/// What the pure core must not even name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::os",
    "std::io",
    "std::time::Instant",
    "std::time::SystemTime",
    "HashMap",
    "HashSet",
    "tokio",
    "libc",
    "nix",
    "zbus",
    "rusqlite",
    "tracing",
];

#[test]
fn the_core_is_pure() {
    let mut findings = Findings::default();
    for file in files()
        .iter()
        .filter(|file| file.is_rust() && file.path.starts_with("src/core/"))
    {
        let code = layers(&file.text).code;
        for (line, text) in numbered(&code) {
            let flat = text.replace("use std::{", "use std::");
            for impure in IMPURE {
                if names(&flat, impure) {
                    let todo = "the core takes observations, time and chance as arguments and \
                                returns wishes; do this in kernel or lund";
                    findings.add(&file.path, line, impure, todo);
                }
            }
        }
        for (line, module) in grouped_std(&code) {
            let path = format!("std::{module}");
            if IMPURE.contains(&path.as_str()) {
                findings.add(
                    &file.path,
                    line,
                    &path,
                    "the core must not use this; see clippy.toml",
                );
            }
        }
    }
    findings.none("src/core is pure");
}

/// Whether `path` stands in `text` as whole words.
fn names(text: &str, path: &str) -> bool {
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(path).any(|(at, _)| {
        let before = text.get(..at).and_then(|text| text.chars().next_back());
        let after = text
            .get(at + path.len()..)
            .and_then(|text| text.chars().next());
        !word(before) && !word(after)
    })
}

/// First segments inside `use std::{...}`, with the line of the `use`.
fn grouped_std(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, opening) in code.match_indices("use std::{") {
        let line = code.get(..at).map_or(0, |before| before.lines().count()) + 1;
        let inner = code
            .get(at + opening.len()..)
            .and_then(|rest| rest.split(';').next());
        let mut depth = 0;
        let mut segment = String::new();
        for c in inner.unwrap_or_default().chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => found.push((line, std::mem::take(&mut segment))),
                c if depth == 0 && !c.is_whitespace() => segment.push(c),
                _ => {}
            }
        }
        found.push((line, segment));
    }
    found
        .into_iter()
        .map(|(line, path)| (line, path.split("::").next().unwrap_or("").to_owned()))
        .collect()
}

#[test]
fn modules_of_the_core_lean_only_downwards() {
    let mut findings = Findings::default();
    let rank = |module: &str| CORE.iter().position(|known| *known == module);
    for file in files()
        .iter()
        .filter(|file| file.is_rust() && !file.path.ends_with("/tests.rs"))
    {
        let Some(inside) = file.path.strip_prefix("src/core/") else {
            continue;
        };
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        if module == "lib" {
            continue;
        }
        let Some(own) = rank(module) else {
            findings.add(
                &file.path,
                0,
                module,
                "give the module its place in tests/tidy/arrows.rs",
            );
            continue;
        };
        let text = layers(&file.text).code;
        let product = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        for (line, text) in numbered(product) {
            for named in text.split("crate::").skip(1) {
                let other = named
                    .split(|c: char| !c.is_alphanumeric() && c != '_')
                    .next();
                let other = other.unwrap_or_default();
                if rank(other).is_some_and(|other| other > own) {
                    let todo =
                        format!("{module} lies below {other}: pass the value in, or move it down");
                    findings.add(&file.path, line, text.trim(), &todo);
                }
            }
        }
    }
    findings.none("modules of the core lean only downwards");
}

#[test]
fn reads_both_spellings_of_a_dependency() {
    let manifest = "[dependencies]\na.workspace = true\nb = \"1\"\n# c = \"1\"\n[dependencies.d]\nversion = \"1\"\n[dev-dependencies]\ne = { path = \"x\" }\n[features]\nf = []\n";
    let found: Vec<(&str, bool)> = dependencies(manifest)
        .iter()
        .map(|found| (found.name, found.dev))
        .collect();
    assert_eq!(
        found,
        [("a", false), ("b", false), ("d", false), ("e", true)]
    );
}
