//! Tunables with their bounds. The file format is the daemon's affair; the meaning is here.

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::id::LunId;

/// What an administrator may set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Milliseconds between safety rescans while nothing happens; 30 000 to 3 600 000.
    pub rescan_ms: u64,
    /// Milliseconds between readings of progress while an operation runs; 1 000 to 60 000.
    pub progress_ms: u64,
    /// Milliseconds after which a kernel write or tool run is called late; 1 000 to 600 000.
    pub deadline_ms: u64,
    /// What happens by itself to a LUN that no rule speaks of.
    pub recovery: Recovery,
    /// Rules for single LUNs, in the order in which they were read; a later one overrides an earlier one.
    pub lun_rules: Vec<LunRule>,
    /// Compare all copies after a rebuild and record the differences.
    pub verify_after: bool,
    /// Spares of the pool may become physical volumes where a volume group has no room for a new leg.
    pub extend_groups: bool,
    /// Whether members that are failing are looked for.
    pub prefail: PrefailRule,
    /// Drives that join the pool by themselves; of several rules that speak of a drive the first counts.
    pub spare_rules: Vec<SpareRule>,
    /// Arrays that help each other out with attached spares, from `mdadm.conf`.
    #[serde(default)]
    pub spare_groups: Vec<SpareGroup>,
    /// Finished operations kept in memory and on the bus; 10 to 10 000.
    pub keep_finished: usize,
}

/// Whether a LUN that lost a member is mended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoMode {
    /// Nothing is begun and nothing is considered.
    Off,
    /// What would be done is said, and not done.
    Notify,
    /// It is mended.
    Auto,
}

impl AutoMode {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Notify => "notify",
            Self::Auto => "auto",
        }
    }
}

impl std::fmt::Display for AutoMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Whether anything does.
    pub mode: AutoMode,
    /// Milliseconds that a lost member is given to come back before a spare takes its place; 0 to
    /// 86 400 000.
    pub grace_ms: u64,
    /// Of LUNs that have equally few losses left, the one with the greater number comes first; -1000 to
    /// 1000.
    pub priority: i32,
    /// The last spare of the pool that fits the LUN is kept for it: no LUN of the same or a lower priority
    /// takes it, unless that one reserves too and its priority is the same.
    #[serde(default)]
    pub reserve: bool,
}

impl Recovery {
    /// Whether a LUN of these settings leaves a spare to one of `other`.
    #[must_use]
    pub const fn yields_to(&self, other: &Self) -> bool {
        let first = other.priority > self.priority;
        // Of two that reserve, a loss that has happened counts more than one that may.
        other.reserve && (first || (other.priority == self.priority && !self.reserve))
    }
}

impl Default for Recovery {
    fn default() -> Self {
        Self {
            mode: AutoMode::Auto,
            grace_ms: 15_000,
            priority: 0,
            reserve: false,
        }
    }
}

/// What is said of single LUNs; what is left out is as for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LunRule {
    /// Which: an id, a name, or a pattern of names with `*` and `?`.
    pub matches: String,
    /// As [`Recovery::mode`].
    pub mode: Option<AutoMode>,
    /// As [`Recovery::grace_ms`].
    pub grace_ms: Option<u64>,
    /// As [`Recovery::priority`].
    pub priority: Option<i32>,
    /// As [`Recovery::reserve`].
    #[serde(default)]
    pub reserve: Option<bool>,
}

impl LunRule {
    /// Whether it speaks of the LUN with this identity and these names.
    #[must_use]
    pub fn speaks_of<'a>(&self, id: LunId, names: impl IntoIterator<Item = &'a str>) -> bool {
        let pattern = WildMatch::new(&self.matches);
        self.matches.eq_ignore_ascii_case(&id.to_string())
            || names.into_iter().any(|name| pattern.matches(name))
    }
}

impl Policy {
    /// What happens by itself to the LUN with this identity and these names.
    #[must_use]
    pub fn recovery_of(&self, id: LunId, names: &[&str]) -> Recovery {
        let rules = self.lun_rules.iter();
        rules
            .filter(|rule| rule.speaks_of(id, names.iter().copied()))
            .fold(self.recovery, |so_far, rule| Recovery {
                mode: rule.mode.unwrap_or(so_far.mode),
                grace_ms: rule.grace_ms.unwrap_or(so_far.grace_ms),
                priority: rule.priority.unwrap_or(so_far.priority),
                reserve: rule.reserve.unwrap_or(so_far.reserve),
            })
    }

    /// The spare group of the array with this identity and these names: the first one that names it.
    #[must_use]
    pub fn group_of(&self, id: LunId, names: &[&str]) -> Option<&str> {
        let holds = |group: &&SpareGroup| {
            let mut arrays = group.arrays.iter();
            arrays.any(|array| array.is(id, names.iter().copied()))
        };
        let group = self.spare_groups.iter().find(holds)?;
        Some(&group.name)
    }

    /// The same policy with nothing that happens by itself.
    #[must_use]
    pub fn by_hand(mut self) -> Self {
        self.recovery.mode = AutoMode::Off;
        self
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            rescan_ms: 60_000,
            progress_ms: 1_000,
            deadline_ms: 30_000,
            recovery: Recovery::default(),
            lun_rules: Vec::new(),
            verify_after: false,
            extend_groups: false,
            prefail: PrefailRule::default(),
            spare_rules: Vec::new(),
            spare_groups: Vec::new(),
            keep_finished: 256,
        }
    }
}

/// What is done about a member that is failing and has not failed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrefailMode {
    /// Errors are not counted.
    Off,
    /// It is said.
    Notify,
    /// It is said, and the member is copied onto a spare while redundancy is intact.
    Auto,
}

/// When a member counts as failing: so many errors within so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefailRule {
    /// What is done about it.
    pub mode: PrefailMode,
    /// Errors; 1 to 1 000 000.
    pub events: u32,
    /// Milliseconds; 60 000 to 2 592 000 000.
    pub window_ms: u64,
}

impl Default for PrefailRule {
    fn default() -> Self {
        Self {
            mode: PrefailMode::Notify,
            events: 10,
            window_ms: 86_400_000,
        }
    }
}

/// Blank drives of these names are spares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpareRule {
    /// Which: a name under `/dev/disk/by-id`, `by-path` or the like, or the file behind a loop device, with
    /// `*` and `?` for what may differ.
    pub matches: String,
    /// They serve only LUNs that are called so ([`PoolEntry::only_for`](crate::model::PoolEntry)).
    pub only_for: Option<String>,
}

impl SpareRule {
    /// Whether it speaks of a drive with these names.
    #[must_use]
    pub fn speaks_of<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        let pattern = WildMatch::new(&self.matches);
        names.into_iter().any(|name| pattern.matches(name))
    }
}

/// Arrays with the same `spare-group` in `mdadm.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpareGroup {
    /// Its name.
    pub name: String,
    /// Which arrays are in it.
    pub arrays: Vec<GroupedArray>,
}

/// An array as `mdadm.conf` names it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupedArray {
    /// Its UUID, in all orders of bytes that it may be written in. Where there is one, names do not count.
    pub ids: Vec<LunId>,
    /// Its names.
    pub names: Vec<String>,
}

impl GroupedArray {
    /// Whether it is the array with this identity and these names.
    #[must_use]
    pub fn is<'a>(&self, id: LunId, names: impl IntoIterator<Item = &'a str>) -> bool {
        if !self.ids.is_empty() {
            return self.ids.contains(&id);
        }
        let mut names = names.into_iter();
        names.any(|name| self.names.iter().any(|own| own == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_override_what_holds_for_all_one_after_the_other() {
        let id = LunId(uuid::Uuid::from_u128(7));
        let rule = |matches: &str, mode, priority| LunRule {
            matches: matches.to_owned(),
            mode,
            grace_ms: None,
            priority,
            reserve: None,
        };
        let policy = Policy {
            lun_rules: vec![
                rule("md*", Some(AutoMode::Notify), Some(3)),
                rule("md1", Some(AutoMode::Off), None),
                rule(&id.to_string().to_uppercase(), None, Some(-4)),
            ],
            ..Policy::default()
        };
        let other = LunId(uuid::Uuid::from_u128(8));
        let of = |id, name: &str| {
            let recovery = policy.recovery_of(id, &[name]);
            (recovery.mode, recovery.grace_ms, recovery.priority)
        };
        assert_eq!(of(other, "vg/lv"), (AutoMode::Auto, 15_000, 0));
        assert_eq!(of(other, "md0"), (AutoMode::Notify, 15_000, 3));
        assert_eq!(of(other, "md1"), (AutoMode::Off, 15_000, 3));
        assert_eq!(of(id, "vg/lv"), (AutoMode::Auto, 15_000, -4));
    }

    #[test]
    fn a_spare_is_left_to_who_reserves_it_and_is_no_less_important() {
        let lun = |priority, reserve| Recovery {
            priority,
            reserve,
            ..Recovery::default()
        };
        let yields = |one: Recovery, other: Recovery| one.yields_to(&other);
        assert!(yields(lun(0, false), lun(0, true)));
        assert!(yields(lun(0, false), lun(1, true)));
        assert!(!yields(lun(1, false), lun(0, true)));
        assert!(!yields(lun(0, false), lun(9, false)), "it reserves nothing");
        assert!(!yields(lun(0, true), lun(0, true)), "the loss counts more");
        assert!(yields(lun(0, true), lun(1, true)));
    }
}
