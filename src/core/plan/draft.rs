//! A plan while it is written: steps whose effect is already there are left out as they are added.

use crate::action::{Action, FormerOf, SyncWord, Target};
use crate::facts::{ArrayFacts, SyncAction};
use crate::id::DriveId;
use crate::model::Phase;
use crate::project;

use super::spare::{Candidate, Method, Verdict};
use super::view::View;
use super::{Plan, Step};

/// A plan being written.
#[derive(Debug)]
pub(super) struct Draft<'v, 'a> {
    view: &'v View<'a>,
    plan: Plan,
}

impl<'v, 'a> Draft<'v, 'a> {
    /// An empty plan by `rule`.
    pub(super) fn new(view: &'v View<'a>, phase: Phase, rule: impl Into<String>) -> Self {
        let plan = Plan {
            lun: view.ctx.lun.id,
            rule: rule.into(),
            phase,
            steps: Vec::new(),
            targets: Vec::new(),
            retires: None,
            leaves_missing: 0,
            candidates: Vec::new(),
            risk: risk(view, phase),
            bytes_to_copy: 0,
        };
        Self { view, plan }
    }

    /// Drives considered.
    pub(super) fn candidates(mut self, candidates: Vec<Candidate>) -> Self {
        self.plan.candidates = candidates;
        self
    }

    /// Slots that stay empty for want of drives.
    pub(super) fn leaves_missing(mut self, slots: usize) -> Self {
        self.plan.leaves_missing = u32::try_from(slots).unwrap_or(u32::MAX);
        self
    }

    /// The member that will be retired.
    pub(super) fn retires(&mut self, target: Target) {
        self.plan.retires = Some(target);
    }

    /// A drive that will be filled.
    pub(super) fn target(&mut self, target: Target) {
        self.plan.targets.push(target);
    }

    /// Adds a step.
    pub(super) fn step(&mut self, action: Action, why: &str) {
        self.plan.steps.push(Step {
            action,
            why: why.to_owned(),
        });
    }

    /// Takes the array out of auto-read-only, in which nothing is recovered.
    pub(super) fn wake(&mut self) {
        if self.view.read_auto() {
            let array = self.view.name();
            self.step(
                Action::MakeReadWrite { array },
                "nothing is recovered while the array waits for its first write",
            );
        }
    }

    /// Has the kernel fill what is missing before it brings a RAID10 in step, for which it would take a
    /// half-filled copy for a source ([`project::half_filled_source`]). The repair that takes the place of the
    /// resync comes after the fill.
    pub(super) fn fill_before_resync(&mut self) {
        if project::half_filled_source(self.view.ctx.array) {
            self.freeze();
            let array = self.view.name();
            self.step(
                Action::ClearResyncStart {
                    array,
                    fill_first: true,
                },
                "the kernel would bring the copies in step from the half-filled one; they are repaired \
                 after it is filled",
            );
        }
    }

    /// Gives a raid set its rate back: what is begun at the lowest one does not end.
    pub(super) fn at_full_rate(&mut self) {
        if self.view.ctx.array.dm().is_some() && self.view.frozen() {
            let array = self.view.name();
            let word = SyncWord::Idle;
            self.step(
                Action::SetSync { array, word },
                "at the lowest recovery rate it would not end",
            );
        }
    }

    /// Has the next check or repair go over everything: one that was stopped has left its place
    /// in `sync_min`, where the next would begin (`drivers/md/md.c:md_do_sync`).
    pub(super) fn whole_range(&mut self) {
        if !whole_range(self.view.ctx.array) {
            let array = self.view.name();
            self.step(
                Action::WholeRange { array },
                "a check that was stopped would be continued, and the rest passed over",
            );
        }
    }

    /// Keeps the kernel from starting before everything is in place: one pass then fills all, and
    /// `mdadm`, which freezes and thaws by itself, finds the array frozen and leaves it so.
    pub(super) fn freeze(&mut self) {
        // What this plan itself lets run for a moment is frozen again.
        let runs = |step: &Step| matches!(step.action, Action::SetSync { .. });
        if !self.view.frozen() || self.plan.steps.iter().any(runs) {
            let array = self.view.name();
            self.step(
                Action::SetSync {
                    array,
                    word: SyncWord::Frozen,
                },
                "the kernel must not start before every drive is in place",
            );
        }
    }

    /// Writes a word that starts something, unless the kernel already shows it and nothing in
    /// this plan has stopped it.
    pub(super) fn start(&mut self, word: SyncWord, why: &str) {
        let shown = match word {
            SyncWord::Recover => SyncAction::Recover,
            SyncWord::Resync => SyncAction::Resync,
            SyncWord::Check => SyncAction::Check,
            SyncWord::Repair => SyncAction::Repair,
            SyncWord::Idle => SyncAction::Idle,
            SyncWord::Frozen => SyncAction::Frozen,
        };
        if self.plan.steps.is_empty() && self.view.action == shown {
            return;
        }
        let array = self.view.name();
        self.step(Action::SetSync { array, word }, why);
    }

    /// Takes a candidate in, up to the point where it is attached to the array.
    pub(super) fn attach(&mut self, candidate: &Candidate) {
        let array = self.view.name();
        let drive = candidate.drive.clone();
        if candidate.listed {
            self.step(
                Action::RemoveMember {
                    array: array.clone(),
                    drive: drive.clone(),
                },
                "it is listed as faulty and was asked for by name",
            );
        }
        if let Some(donor) = candidate.donor.clone() {
            self.step(
                Action::RemoveMember {
                    array: donor,
                    drive: drive.clone(),
                },
                "it is a spare there, and needed here",
            );
        }
        match candidate.method {
            Method::Start => {}
            Method::ReAdd { .. } => self.step(
                Action::ReAdd { array, drive },
                "it was a member, and the bitmap tells what it has missed",
            ),
            Method::Add => self.step(Action::AddSpare { array, drive }, "it takes over"),
            Method::WipeAndAdd => {
                let why = "what is on it is stale, or its owner agreed to lose it";
                self.step(
                    Action::Wipe {
                        drive: drive.clone(),
                        former: self.former_of(&drive),
                    },
                    why,
                );
                self.step(Action::AddSpare { array, drive }, "it takes over");
            }
        }
        self.taken(candidate.drive.id);
        self.target(candidate.drive.clone());
    }

    /// That a drive to be erased is a former member of this array.
    fn former_of(&self, drive: &Target) -> Option<FormerOf> {
        super::fit::own_superblock(&self.view.ctx, drive.dev)?;
        let sync = self.view.ctx.array.sync.as_ref()?;
        Some(FormerOf {
            array: self.view.name(),
            degraded: *sync.degraded.known()?,
        })
    }

    /// Says of a candidate that the plan takes it.
    pub(super) fn taken(&mut self, drive: DriveId) {
        for candidate in &mut self.plan.candidates {
            if candidate.drive.id == drive && candidate.fits() {
                candidate.verdict = Verdict::Taken;
            }
        }
    }

    /// The finished plan, with `copies` times a member's size to be copied.
    pub(super) fn finish(mut self, copies: usize) -> Plan {
        let each = self
            .view
            .ctx
            .array
            .component_bytes
            .known()
            .copied()
            .unwrap_or(0);
        let copies = u64::try_from(copies).unwrap_or(u64::MAX);
        self.plan.bytes_to_copy = each.saturating_mul(copies);
        self.plan
    }

    /// The finished plan, with as much to be copied as there are targets.
    pub(super) fn finish_targets(self) -> Plan {
        let copies = self.plan.targets.len();
        self.finish(copies)
    }
}

/// Whether a check would go over everything. A raid set of device-mapper has no bounds that could be
/// set; what a stopped check left there is gone with its table.
#[must_use]
pub fn whole_range(array: &ArrayFacts) -> bool {
    array.dm().is_some()
        || array.sync.as_ref().is_some_and(|sync| {
            sync.sync_min.is_known_and(|sectors| *sectors == 0)
                && sync.sync_max.is_known_and(Option::is_none)
        })
}

/// What is at risk while the plan runs.
fn risk(view: &View<'_>, phase: Phase) -> String {
    let redundancy = &view.ctx.lun.redundancy;
    let until = if phase == Phase::None {
        "Now"
    } else {
        "Until this finishes"
    };
    let mut text = match redundancy.losses_survivable {
        Some(0) if !redundancy.fatal_next.is_empty() => {
            format!(
                "{until}, losing {} loses the LUN.",
                redundancy.fatal_next.join(" or ")
            )
        }
        Some(count) => format!("{until}, the LUN survives {count} further loss(es) of any member."),
        None => "How many further losses the LUN survives is not known.".to_owned(),
    };
    if phase == Phase::Resync {
        text.push_str(" Copies or parity may differ where the last writes were cut short.");
    }
    text
}
