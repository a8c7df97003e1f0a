//! What a decision rests on, in words.

use crate::Error;
use crate::id::LunId;
use crate::model::Alternative;
use crate::plan::Plan;

use super::super::Machine;
use super::super::io::LossKind;

impl Machine {
    /// What is known of a LUN's losses, a clause each.
    pub(super) fn grounds(&self, id: LunId) -> Vec<String> {
        let Some(entry) = self.luns.get(&id) else {
            return Vec::new();
        };
        let settings = self.settings_of(id);
        let redundancy = &entry.lun.redundancy;
        let number =
            |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let mut facts = vec![
            format!(
                "mode {}, grace {} s",
                settings.mode,
                settings.grace_ms / 1000
            ),
            format!(
                "{}: {} of {} members in sync, {} more losses survivable",
                entry.lun.level,
                number(redundancy.members_in_sync),
                number(redundancy.members_wanted),
                number(redundancy.losses_survivable)
            ),
        ];
        for lost in self.auto.losses.lost.values().filter(|lost| lost.lun == id) {
            let how = match (lost.kind, lost.back) {
                (LossKind::Failed, _) => "failed",
                (LossKind::Vanished, None) => "went away",
                (LossKind::Vanished, Some(_)) => "went away and is back",
                (LossKind::TakenOut, _) => "was taken out by somebody",
                (LossKind::Unseen, _) => "was lost while nobody looked",
            };
            facts.push(format!("/dev/{} {how}", lost.name));
        }
        facts
    }
}

/// Drives that were considered, with what became of each.
pub(super) fn alternatives(planned: &Result<Plan, Error>) -> Vec<Alternative> {
    match planned {
        Ok(plan) => plan
            .candidates
            .iter()
            .map(|candidate| Alternative {
                drive: candidate.name(),
                fits: candidate.fits(),
                reason: candidate.reason.clone(),
            })
            .collect(),
        Err(Error::NoSpare { rejected, .. } | Error::SparesTooSmall { rejected, .. }) => rejected
            .iter()
            .map(|(drive, unfit)| Alternative {
                drive: drive.clone(),
                fits: false,
                reason: unfit.text(),
            })
            .collect(),
        Err(_) => Vec::new(),
    }
}
