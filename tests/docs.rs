//! The documents against what they speak of.

mod bus;
mod json;
mod operations;
mod safety;

use std::path::Path;
use std::process::Command;

/// The text of a file of the repository.
fn document(path: &str) -> String {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(house.join(path)).unwrap()
}

/// The words in backticks behind `expected` in the complaint about `text` as a configuration: the
/// keys that there are.
fn keys(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lund.toml");
    std::fs::write(&path, text).unwrap();
    let error = lund::config::load(&path, true).error.unwrap().message;
    let (_, known) = error.split_once("expected").unwrap();
    let words = known.split('`').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

/// The head of a section: of one that may be there several times in double brackets.
fn table(section: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lund.toml");
    std::fs::write(&path, format!("[{section}]\n")).unwrap();
    let error = lund::config::load(&path, true).error;
    match error {
        Some(error) if error.message.contains("expected a sequence") => format!("[[{section}]]"),
        Some(error) => panic!("[{section}]: {error}"),
        None => format!("[{section}]"),
    }
}

#[test]
fn every_key_of_the_configuration_is_in_its_man_page_and_its_file() {
    let page = document("dist/man/lund.toml.5");
    let file = document("dist/lund.toml");
    let sections = keys("nonsense = 1\n");
    assert!(sections.len() >= 5, "{sections:?}");
    for section in sections {
        let table = table(&section);
        let title = format!(".SH SECTION {}", table.to_uppercase());
        let (_, rest) = page
            .split_once(&title)
            .unwrap_or_else(|| panic!("lund.toml.5 has no {title}"));
        let told = rest.split(".SH ").next().unwrap();
        let (_, rest) = file
            .split_once(&format!("\n{table}\n"))
            .or_else(|| file.split_once(&format!("\n#{table}\n")))
            .unwrap_or_else(|| panic!("dist/lund.toml has no {table}"));
        let kept = rest.split("\n[").next().unwrap();
        let kept = kept.split("\n#[").next().unwrap();
        let keys = keys(&format!("{table}\nnonsense = 1\n"));
        assert!(!keys.is_empty(), "{section}");
        for key in keys {
            let line = kept
                .lines()
                .find_map(|line| line.strip_prefix(&format!("#{key} = ")))
                .unwrap_or_else(|| panic!("dist/lund.toml: no {key} in [{section}]"));
            let entry = format!("\\fB{key}\\fR = {line}\n");
            assert!(told.contains(&entry), "lund.toml.5: no {entry:?} in {told}");
        }
    }
}

#[test]
fn the_man_pages_are_set_without_a_complaint() {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for page in ["lunctl.1", "lund.8", "lund.toml.5"] {
        let set = Command::new("man")
            .args(["--warnings=w", "-E", "UTF-8", "-l", "-Tutf8", "-Z"])
            .arg(house.join("dist/man").join(page))
            .env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "80")
            .output()
            .expect("man must be installed (scripts/install-deps)");
        let said = String::from_utf8_lossy(&set.stderr);
        assert!(set.status.success() && said.is_empty(), "{page}: {said}");
        assert!(set.stdout.len() > 1000, "{page} is empty");
    }
}
