//! Whether a check or a repair came to its end. The kernel answers success to the word and says
//! nothing when somebody stops what it began; but one that was stopped leaves its place in `sync_min`,
//! one that came to its end leaves 0 there, and `last_sync_action` tells whether it ran at all
//! (`drivers/md/md.c:md_do_sync`). Kernels before 6.11 keep the place in sixteenths: until the first
//! has been passed, 0 tells nothing (docs/kernel-notes.md). Of a raid set of device-mapper there are neither:
//! that it was seen in its last sixteenth is all that tells.

use super::Machine;
use super::finish::phase_word;
use crate::Error;
use crate::facts::{ArrayFacts, Fact, SyncAction, SyncCompleted};
use crate::id::OpId;
use crate::model::Phase;
use crate::op::{Op, OpState};

/// Looks, half a second apart, at a check that was accepted and is not seen to run.
const LOOKS: u32 = 2;
/// Ends in a row without having been seen beyond the first sixteenth that are believed: somebody
/// would have had to stop it in its first moments each time.
const UNSEEN_BELIEVED: u32 = 2;

/// A check of a raid set that took less may have passed its last sixteenth between two looks, milliseconds.
const QUICK_MS: u64 = 30_000;

/// What the facts say of a check or repair that does not run any more.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// It went over everything.
    Whole,
    /// Nothing speaks against it.
    Unseen,
    /// It was stopped here, sectors.
    Stopped(u64),
    /// Something else ran last: it never began, another action took its place, or the array was
    /// assembled anew.
    Another,
    /// A fact is missing.
    Unknown(String),
}

/// What an operation has scrubbed with. Its phase alone does not tell: a resync that came between, after
/// a power cut, is a phase too.
const fn word_of(op: &Op) -> SyncAction {
    match (&op.request, op.phase) {
        (Some(_), _) if op.work.rewrites => SyncAction::Repair,
        (None, Phase::Repair) => SyncAction::Repair,
        _ => SyncAction::Check,
    }
}

/// `seen`: beyond the part of which the facts tell nothing; `lasted_ms`: how long it was seen to run.
fn end_of(array: &ArrayFacts, word: SyncAction, seen: bool, lasted_ms: Option<u64>) -> End {
    // It does not run, or has another level now: the planner has the words for that.
    let Some(sync) = &array.sync else {
        return End::Another;
    };
    if array.dm().is_some() {
        return match lasted_ms {
            _ if seen => End::Whole,
            Some(ms) if ms >= QUICK_MS => {
                End::Unknown("it was not seen in its last sixteenth".to_owned())
            }
            _ => End::Unseen,
        };
    }
    match (&sync.last_action, &sync.sync_min) {
        (Fact::Unknown(why), _) => End::Unknown(format!("last_sync_action: {why}")),
        (_, Fact::Unknown(why)) => End::Unknown(format!("sync_min: {why}")),
        (Fact::Known(Some(last)), Fact::Known(sectors)) if *last == word => {
            match (*sectors, seen) {
                (0, true) => End::Whole,
                (0, false) => End::Unseen,
                (sectors, _) => End::Stopped(sectors),
            }
        }
        (Fact::Known(_), Fact::Known(_)) => End::Another,
    }
}

/// Whether so much is done of a check or repair that what the facts say of its end counts: the first
/// sixteenth, of a raid set all but the last.
pub(super) fn is_telling(array: &ArrayFacts, done: u64, total: u64) -> bool {
    let sixteenths = if array.dm().is_some() { 15 } else { 1 };
    total > 0 && done.saturating_mul(16) >= total.saturating_mul(sixteenths)
}

/// The same of one that runs now.
fn tells(array: &ArrayFacts) -> bool {
    let completed = array.sync.as_ref().map(|sync| &sync.completed);
    match completed {
        Some(Fact::Known(SyncCompleted::At { done, total })) => is_telling(array, *done, *total),
        _ => false,
    }
}

impl Machine {
    fn end_of(&self, array: &ArrayFacts, word: SyncAction, op: &Op) -> End {
        let began = op.live.running_since;
        let lasted_ms = began.map(|since| self.now.mono.since(since));
        end_of(array, word, op.work.scrub_seen, lasted_ms)
    }

    /// A check or repair runs: has enough of it been seen?
    pub(super) fn note_scrub(&mut self, id: OpId) {
        let lun = self.ops.get(&id).map(|op| op.lun);
        if lun.and_then(|lun| self.array_of(lun)).is_some_and(tells) {
            self.scrub_is_seen(id);
        }
    }

    pub(super) fn scrub_is_seen(&mut self, id: OpId) {
        let scrubs = |phase| matches!(phase, Phase::Check | Phase::Repair);
        if self.ops.get(&id).is_some_and(|op| scrubs(op.phase)) {
            self.work(id, |work| work.scrub_seen = true);
        }
    }

    /// Whether what the operation asked of its check or repair cannot be called done. It is
    /// waited for, begun again or ended then; `true` says that no more is to be done now.
    pub(super) fn scrub_fell_short(&mut self, id: OpId, array: &ArrayFacts) -> bool {
        let (Some(op), Some(task)) = (self.ops.get(&id), self.tasks.get(&id)) else {
            return true;
        };
        if !op.work.scrub_started {
            return false;
        }
        let (phase, name) = (op.phase, op.lun_name.clone());
        let accepted = task.started_word.is_some() && task.busy < LOOKS;
        let word = word_of(op);
        match self.end_of(array, word, op) {
            End::Whole => self.scrubbed(id, word),
            End::Another | End::Unseen if accepted => {
                self.expect_running(id);
                true
            }
            End::Unseen if op.work.scrub_unseen + 1 >= UNSEEN_BELIEVED => self.scrubbed(id, word),
            end @ (End::Another | End::Unseen) => {
                self.begin_scrub_again(id, end == End::Unseen);
                false
            }
            End::Stopped(sectors) => {
                self.interrupt(id, &stopped_text(phase, sectors));
                true
            }
            End::Unknown(why) => {
                let what = phase_word(phase);
                let why = format!("whether the {what} came to its end cannot be told: {why}");
                self.fail(
                    id,
                    Error::RecoveryFailed {
                        lun: name,
                        drive: None,
                        why,
                    },
                );
                true
            }
        }
    }

    /// It went over everything; always `false`.
    fn scrubbed(&mut self, id: OpId, word: SyncAction) -> bool {
        let Some(op) = self.ops.get_mut(&id) else {
            return false;
        };
        if let Some(phase) = Phase::of_action(word) {
            op.phase = phase;
        }
        let lun = op.lun;
        if word == SyncAction::Repair {
            self.proven(lun);
        }
        false
    }

    fn begin_scrub_again(&mut self, id: OpId, unseen: bool) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.started_word = None;
            task.busy = 0;
        }
        self.work(id, |work| {
            work.scrub_started = false;
            work.scrub_seen = false;
            work.scrub_unseen += u32::from(unseen);
        });
    }

    /// Something else has run, or the host went down: a check or repair of a raid set that was begun before
    /// counts no more. Of an array of md `last_sync_action` tells.
    pub(super) fn scrub_is_overtaken(&mut self, id: OpId) {
        let lun = self.ops.get(&id).map(|op| op.lun);
        let array = lun.and_then(|lun| self.array_of(lun));
        if array.is_some_and(|array| array.dm().is_some()) {
            self.work(id, |work| {
                work.scrub_started = false;
                work.scrub_seen = false;
                work.scrub_unseen = 0;
            });
        }
    }

    /// The same for one that others began: it is not begun again.
    pub(super) fn adopted_scrub_fell_short(&mut self, id: OpId, array: &ArrayFacts) -> bool {
        let Some(op) = self.ops.get(&id) else {
            return true;
        };
        let phase = op.phase;
        let what = phase_word(phase);
        let (lun, word) = (op.lun, word_of(op));
        let text = match self.end_of(array, word, op) {
            End::Whole => {
                if word == SyncAction::Repair {
                    self.proven(lun);
                }
                return false;
            }
            End::Unseen if array.dm().is_some() => {
                format!("whether the {what} came to its end cannot be told")
            }
            End::Unseen => {
                let text = format!("the {what} ended before its first sixteenth was seen");
                self.finish(id, OpState::Succeeded, None, text);
                return true;
            }
            End::Stopped(sectors) => stopped_text(phase, sectors),
            End::Another => format!("the {what} stopped before its end"),
            End::Unknown(why) => {
                format!("whether the {what} came to its end cannot be told: {why}")
            }
        };
        self.interrupt(id, &text);
        true
    }
}

fn stopped_text(phase: Phase, sectors: u64) -> String {
    let (what, mib) = (phase_word(phase), sectors / 2048);
    format!("somebody stopped the {what} after {mib} MiB of each member")
}
