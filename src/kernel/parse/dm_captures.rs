//! Raid sets of device-mapper captured from running kernels (`fixtures/README.md`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lun_core::id::DevNo;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dm")
}

/// The capture called so, `7/raid1`: its sections by their titles.
pub(crate) fn one(name: &str) -> BTreeMap<String, String> {
    let mut sections = BTreeMap::new();
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    for section in text.split("==> ").skip(1) {
        let (title, body) = section.split_once(" <==\n").unwrap();
        sections.insert(title.to_owned(), body.to_owned());
    }
    sections
}

/// Every capture by its name.
pub(crate) fn all() -> Vec<(String, BTreeMap<String, String>)> {
    let mut found = Vec::new();
    for kernel in ["6.1", "6.12", "7"] {
        for entry in std::fs::read_dir(folder().join(kernel)).unwrap() {
            let name = format!("{kernel}/{}", entry.unwrap().file_name().to_str().unwrap());
            let capture = one(&name);
            found.push((name, capture));
        }
    }
    assert!(found.len() > 100, "only {} captures", found.len());
    found
}

/// The first bytes of a metadata device of a capture.
pub(crate) fn superblock(capture: &BTreeMap<String, String>, meta: DevNo) -> Vec<u8> {
    let hex: String = capture[&format!("{meta}/superblock")]
        .split_whitespace()
        .collect();
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}
