//! LUNs and drives in words, for the journal.

use crate::model::{Health, Lun, LunStatus, Role, VdsEnum};

/// One clause on a LUN's state, for the journal.
pub(super) fn describe(lun: &Lun) -> String {
    let health = match lun.health {
        Health::Healthy => "healthy",
        Health::Rebuilding => "rebuilding",
        Health::FailedRedundancy => "degraded",
        Health::FailedRedundancyFailing => "degraded, and a survivor is failing",
        Health::FailingRedundancy => "running with a failing member or parts out of step",
        Health::Failed => "failed",
        other => other.name(),
    };
    let mut text = health.to_owned();
    if lun.status != LunStatus::Online && lun.status != LunStatus::Failed {
        text.push_str(&format!(" ({})", lun.status.name()));
    }
    let redundancy = &lun.redundancy;
    if lun.fault_tolerant {
        text.push_str(&format!(
            ", {} of {} members in sync",
            number(redundancy.members_in_sync),
            number(redundancy.members_wanted)
        ));
    }
    if !redundancy.fatal_next.is_empty() && redundancy.losses_survivable == Some(0) {
        text.push_str(&format!(
            "; losing {} would lose the LUN",
            redundancy.fatal_next.join(" or ")
        ));
    }
    if lun.held {
        text.push_str("; recovery is held");
    }
    text
}

/// A count, or that it is not known.
fn number(count: Option<u32>) -> String {
    count.map_or_else(|| "an unknown number".to_owned(), |count| count.to_string())
}

pub(super) fn role_word(role: Role) -> &'static str {
    match role {
        Role::InSync => "in sync",
        Role::Rebuilding => "being rebuilt",
        Role::Replacing => "being filled as a replacement",
        Role::Spare => "a spare",
        Role::Faulty => "faulty",
        Role::Journal => "the journal",
        Role::Pool => "in the pool",
        Role::Missing => "missing",
        Role::Unknown => "in an unknown state",
    }
}
