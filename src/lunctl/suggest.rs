//! "Did you mean md0?": the nearest of the names that there are, for one that there is not.

use lun_ipc::HostView;

/// Names that differ by more than a third of their letters are other names.
const LETTERS_PER_MISTAKE: usize = 3;
/// So many suggestions at most.
const MOST: usize = 3;

/// The names of LUNs and drives that `typed` may have been meant for, the nearest first; none when
/// nothing is near.
pub(crate) fn names(typed: &str, host: &HostView) -> Vec<String> {
    let luns = host.luns.iter().flat_map(|lun| {
        let links = lun.links.iter().map(String::as_str);
        [lun.name.as_str(), lun.device.as_str()]
            .into_iter()
            .chain(links)
    });
    let drives = host
        .drives
        .iter()
        .filter(|drive| !drive.device.is_empty())
        .flat_map(|drive| [drive.device.as_str(), last_part(&drive.device)]);
    nearest(typed, luns.chain(drives))
}

/// The nearest names, one for each thing: `md0` and `/dev/md0` are not both told.
fn nearest<'a>(typed: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let known: Vec<&str> = known.collect();
    if known.contains(&typed) {
        // There is such a thing, and it was refused for another reason.
        return Vec::new();
    }
    let allowed = (typed.chars().count() / LETTERS_PER_MISTAKE).max(1);
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .map(|name| (distance(typed, name), name))
        .filter(|(mistakes, _)| *mistakes <= allowed)
        .collect();
    near.sort_unstable();
    let Some(best) = near.first().map(|(mistakes, _)| *mistakes) else {
        return Vec::new();
    };
    let mut told: Vec<&str> = Vec::new();
    for (_, name) in near.into_iter().filter(|(mistakes, _)| *mistakes == best) {
        if told.len() < MOST && !told.iter().any(|one| last_part(one) == last_part(name)) {
            told.push(name);
        }
    }
    told.into_iter().map(str::to_owned).collect()
}

/// Mistakes of typing between two names, whatever their case: a letter too many, too few or
/// another one, two exchanged.
fn distance(typed: &str, name: &str) -> usize {
    strsim::osa_distance(&typed.to_lowercase(), &name.to_lowercase())
}

fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// `did you mean md0?`, `did you mean md0 or md1?`; [`None`] for no names.
pub(crate) fn question(names: &[String]) -> Option<String> {
    match names {
        [] => None,
        [only] => Some(format!("did you mean {only}?")),
        [others @ .., last] => Some(format!("did you mean {} or {last}?", others.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(typed: &str) -> Vec<String> {
        nearest(
            typed,
            [
                "md0",
                "/dev/md0",
                "/dev/md/root",
                "md127",
                "/dev/sdc",
                "sdc",
            ]
            .into_iter(),
        )
    }

    #[test]
    fn a_mistyped_name_finds_the_one_that_was_meant() {
        assert_eq!(near("m0"), ["md0"]);
        assert_eq!(near("dm0"), ["md0"]);
        assert_eq!(near("MD0"), ["md0"]);
        assert_eq!(near("md172"), ["md127"]);
        assert_eq!(near("/dev/md/rot"), ["/dev/md/root"]);
        assert_eq!(near("/dev/sdcc"), ["/dev/sdc"]);
    }

    #[test]
    fn what_is_far_from_everything_finds_nothing() {
        assert_eq!(near("backup"), Vec::<String>::new());
        assert_eq!(near("md77"), Vec::<String>::new());
    }

    #[test]
    fn what_is_there_is_no_mistake() {
        assert_eq!(near("/dev/sdc"), Vec::<String>::new());
    }

    #[test]
    fn the_question_names_all() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(question(&[]), None);
        let one: Vec<String> = names(&["md0"]);
        assert_eq!(question(&one).as_deref(), Some("did you mean md0?"));
        let three: Vec<String> = names(&["md0", "md1", "md2"]);
        assert_eq!(
            question(&three).as_deref(),
            Some("did you mean md0, md1 or md2?")
        );
    }
}
