//! What was decided about a LUN that lost redundancy, and why: also that nothing is done.

use serde::{Deserialize, Serialize};

use crate::id::{LunId, OpId, Wall};

/// Why something is done, waited for, or left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoRule {
    /// The mode is `off`.
    ModeOff,
    /// The mode is `notify`: what would be done is said.
    ModeNotify,
    /// An administrator's cancel holds it.
    Held,
    /// Somebody froze its recovery, and it was not lund.
    FrozenByOthers,
    /// An operation, or the kernel by itself, is at work on it.
    AtWork,
    /// It waits for its first write, or is read-only by choice.
    NotWritable,
    /// lund recovers no LUN of this kind, or it has failed.
    BeyondRecovery,
    /// What is known of it contradicts itself or is not known.
    Unclear,
    /// The host was started a moment ago, and members may still be found.
    Assembly,
    /// Lost members are given a while to come back.
    Grace,
    /// Several drives went at once through one parent: they are waited for, and no spare is spent.
    CommonCause,
    /// Another LUN on the same disks is being recovered, or comes first.
    SharedDisks,
    /// Attempts have failed: the next one waits.
    BackOff,
    /// Attempts have failed so often that no more is made until a drive is added.
    GivenUp,
    /// No drive can take over.
    NoSpare,
    /// Former members are back.
    ReAdd,
    /// A spare takes over.
    Spare,
    /// What was begun is continued.
    Resume,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum AutoVerdict {
    /// An operation is begun.
    Act,
    /// It is looked at again then, or when something changes.
    Wait {
        /// Milliseconds since 1970; [`None`]: when something changes.
        ends_at_ms: Option<Wall>,
    },
    /// Nothing is done until somebody does something about it.
    Leave,
}

/// A drive that was considered, or what else could have been done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    /// Node or lasting name.
    pub drive: String,
    /// It would have done.
    pub fits: bool,
    /// Why it was taken or not.
    pub reason: String,
}

/// One decision about one LUN. It is made anew whenever something changes, and kept when it is another
/// than the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// LUN.
    pub lun: LunId,
    /// Its name then.
    pub lun_name: String,
    /// When it was made, milliseconds since 1970.
    pub decided_at_ms: Wall,
    /// The rule that decided.
    pub rule: AutoRule,
    /// What follows.
    #[serde(flatten)]
    pub verdict: AutoVerdict,
    /// One sentence for people.
    pub reason: String,
    /// What it rests on, a clause each.
    pub facts: Vec<String>,
    /// Drives considered, the best first.
    pub alternatives: Vec<Alternative>,
    /// Operation that it began.
    pub op: Option<OpId>,
}

impl AutoRule {
    /// The word that `--json` and the journal have for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModeOff => "mode_off",
            Self::ModeNotify => "mode_notify",
            Self::Held => "held",
            Self::FrozenByOthers => "frozen_by_others",
            Self::AtWork => "at_work",
            Self::NotWritable => "not_writable",
            Self::BeyondRecovery => "beyond_recovery",
            Self::Unclear => "unclear",
            Self::Assembly => "assembly",
            Self::Grace => "grace",
            Self::CommonCause => "common_cause",
            Self::SharedDisks => "shared_disks",
            Self::BackOff => "back_off",
            Self::GivenUp => "given_up",
            Self::NoSpare => "no_spare",
            Self::ReAdd => "re_add",
            Self::Spare => "spare",
            Self::Resume => "resume",
        }
    }
}

impl AutoVerdict {
    /// The word that `--json` and the journal have for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Wait { .. } => "wait",
            Self::Leave => "leave",
        }
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.verdict {
            AutoVerdict::Act => "is recovered by itself",
            AutoVerdict::Wait { .. } => "is waited with",
            AutoVerdict::Leave => "is left alone",
        };
        write!(f, "{} {what}: {}", self.lun_name, self.reason)
    }
}

impl Decision {
    /// Whether it says the same, whenever it was made.
    #[must_use]
    pub fn repeats(&self, other: &Self) -> bool {
        let same = Self {
            decided_at_ms: other.decided_at_ms,
            op: other.op,
            ..self.clone()
        };
        same == *other && (self.op == other.op || self.op.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_document() {
        for rule in [
            AutoRule::ModeOff,
            AutoRule::FrozenByOthers,
            AutoRule::ReAdd,
            AutoRule::BackOff,
        ] {
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(json, format!("{:?}", rule.as_str()));
        }
        let ends_at_ms = Some(Wall(7));
        let json = serde_json::to_value(AutoVerdict::Wait { ends_at_ms }).unwrap();
        assert_eq!(json["verdict"], "wait");
        assert_eq!(json["ends_at_ms"], 7);
    }
}
