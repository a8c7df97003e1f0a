//! What the spare pool is worth, as text.

use std::fmt::Write as _;

use lun_core::model::{Coverage, DriveWanted, PassedOver, RetiredDrive};

use super::table::indented;
use super::units::{bytes, rfc3339};

/// Columns of a terminal.
const COLUMNS: usize = 80;

/// Which LUNs have a spare: `covers 5 of 6 LUNs; md4 uncovered: needs 512-byte sectors`, and what to buy.
pub(crate) fn coverage(all: &[Coverage]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let covered = all.iter().filter(|one| one.covered).count();
    let mut line = format!("covers {covered} of {} LUNs", all.len());
    for one in all.iter().filter(|one| !one.covered) {
        let why = one.reason.as_deref().unwrap_or("unknown");
        let _ = write!(line, "; {} uncovered: {why}", one.lun_name);
    }
    let mut text = format!("\n{}", wrapped(&line));
    let reserving = all.iter().filter(|one| one.reserves);
    let names: Vec<&str> = reserving.map(|one| one.lun_name.as_str()).collect();
    if !names.is_empty() {
        let line = format!("the last spare that fits is kept for {}", names.join(", "));
        text.push_str(&wrapped(&line));
    }
    for one in all.iter().filter(|one| !one.covered) {
        let line = format!("to buy for {}: {}", one.lun_name, wanted(&one.wants));
        text.push_str(&wrapped(&line));
    }
    text
}

/// Lines of at most [`COLUMNS`] columns, but for words that are longer; all but the first are indented.
fn wrapped(line: &str) -> String {
    let mut text = String::new();
    let mut used = 0;
    for word in line.split(' ') {
        let long = word.chars().count();
        if used > 0 && used + 1 + long > COLUMNS {
            text.push_str("\n  ");
            used = 2;
        } else if used > 0 {
            text.push(' ');
            used += 1;
        }
        text.push_str(word);
        used += long;
    }
    text.push('\n');
    text
}

fn wanted(wants: &DriveWanted) -> String {
    let size = wants
        .size_bytes
        .map(|size| format!("{} ({size} bytes) or more", bytes(size)));
    let blocks = wants
        .logical_block_bytes
        .map(|size| format!("sectors of {size} bytes or less"));
    let media = wants.rotational.map(|spins| {
        if spins {
            "a hard disk".to_owned()
        } else {
            "a solid-state drive".to_owned()
        }
    });
    let words: Vec<String> = [size, blocks, media].into_iter().flatten().collect();
    words.join(", ")
}

/// Drives that a rule speaks of and that are no spares; empty when there is none.
pub(crate) fn passed_over(drives: &[PassedOver]) -> String {
    if drives.is_empty() {
        return String::new();
    }
    let rows = drives
        .iter()
        .map(|one| vec![one.device.clone(), one.reason.clone(), one.rule.clone()]);
    let table = indented(&["DRIVE", "WHY NOT", "RULE"], rows.collect());
    format!("\nNo spares, although a rule of the configuration speaks of them:\n{table}")
}

/// Drives that are not used again unasked; empty when there is none.
pub(crate) fn retired(drives: &[RetiredDrive]) -> String {
    if drives.is_empty() {
        return String::new();
    }
    let rows = drives.iter().map(|one| {
        vec![
            one.device.clone().unwrap_or_else(|| "-".to_owned()),
            one.reason.clone(),
            rfc3339(one.retired.at.0),
            one.stable_name.clone(),
        ]
    });
    let table = indented(&["DRIVE", "WHY", "SINCE", "LASTING NAME"], rows.collect());
    format!(
        "\nOut of use (`lunctl spare add DRIVE --force` for one that is sound after all):\n{table}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use lun_core::id::LunId;

    fn of(name: &str, reason: Option<&str>) -> Coverage {
        Coverage {
            lun: LunId::weak(name),
            lun_name: name.to_owned(),
            covered: reason.is_none(),
            reserves: false,
            by: Vec::new(),
            reason: reason.map(str::to_owned),
            wants: DriveWanted {
                size_bytes: Some(1 << 30),
                logical_block_bytes: Some(512),
                rotational: Some(true),
            },
        }
    }

    #[test]
    fn what_is_covered_and_what_must_be_bought() {
        let all = [of("md0", None), of("md4", Some("needs 512-byte sectors"))];
        assert_eq!(
            coverage(&all),
            "\ncovers 1 of 2 LUNs; md4 uncovered: needs 512-byte sectors\n\
             to buy for md4: 1 GiB (1073741824 bytes) or more, sectors of 512 bytes or less,\n  a hard disk\n"
        );
        let mut reserving = of("md0", None);
        reserving.reserves = true;
        assert_eq!(
            coverage(&[reserving]),
            "\ncovers 1 of 1 LUNs\nthe last spare that fits is kept for md0\n"
        );
        assert_eq!(coverage(&[]), "");
        assert_eq!(retired(&[]), "");
        assert_eq!(passed_over(&[]), "");
    }
}
