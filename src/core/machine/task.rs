//! What the machine keeps of an unfinished operation beyond the operation itself.

use std::collections::BTreeSet;

use super::io::{ActId, Command, PersistId, Token};
use crate::Error;
use crate::action::{Action, SyncWord};
use crate::id::{DriveId, LunId, Mono, OpId};
use crate::op::{Caller, Op, OpState};

/// No freeze within this time after a recovery was first seen to run: kernels 6.11 to 6.17 can
/// take it for finished (kernel commit "md: prevent incorrect update of resync/recovery offset").
pub(super) const FREEZE_GUARD_MS: u64 = 1_500;

/// How long a recovery that the kernel accepted may take to be seen.
pub(super) const START_WINDOW_MS: u64 = 10_000;

/// Pause before an action that found the array busy is planned again.
pub(super) const RETRY_MS: u64 = 500;

/// Pause before a hold that could not be kept is tried again.
pub(super) const HOLD_RETRY_MS: u64 = 30_000;

/// Actions of one operation, at most: a bound on every loop.
pub(super) const STEPS_MAX: u32 = 64;

/// Times in a row that an array may be found busy.
pub(super) const BUSY_MAX: u32 = 20;

/// Where an unfinished operation stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stage {
    /// Waits for the facts of this scan, or a later one, and then plans.
    NeedFacts { scan: u64 },
    /// The intent is on its way to the ledger.
    Intent { persist: PersistId, action: Action },
    /// The ledger has answered; the action is due.
    Due { action: Action },
    /// The action is under way.
    Acting {
        id: ActId,
        action: Action,
        late: bool,
    },
    /// The kernel works, or should soon.
    Watching { since: Mono },
}

/// A cancellation under way.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Cancel {
    /// Give the drives back that the operation added.
    pub(super) release_spare: bool,
    /// Calls that wait for it.
    pub(super) tokens: Vec<Token>,
    /// The cancel has begun to write: what is written from now on is its own.
    pub(super) stopping: bool,
    /// `frozen` or `idle` was written with success.
    pub(super) stopped: bool,
    /// A repair was seen to run, by this daemon, on copies in step: a resync that is pending after
    /// the stop is left behind by it, and nothing else is out of step.
    pub(super) clean_before: bool,
    /// `idle` was written after the stop: nothing is held any more.
    pub(super) thawed: bool,
    /// Drives given back so far.
    pub(super) released: BTreeSet<DriveId>,
    /// The hold was written down.
    pub(super) hold_recorded: bool,
}

/// The live part of an unfinished operation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    pub(super) stage: Stage,
    pub(super) cancel: Option<Cancel>,
    /// When to look again without any event.
    pub(super) wake_at: Option<Mono>,
    /// The kernel was seen at work in this phase.
    pub(super) sync_seen: bool,
    /// The start word that the kernel accepted last and has not been seen to follow yet.
    pub(super) started_word: Option<SyncWord>,
    /// Actions sent since the daemon started.
    pub(super) acts: u32,
    /// Steps that were written down and, by a cancel that came first, never carried out.
    pub(super) dropped: u32,
    /// Until when it waits for an array that is being assembled; [`None`]: it does not.
    pub(super) assembled_by: Option<Mono>,
    /// It was unfinished when the daemon started.
    pub(super) resumed: bool,
    /// Drives that were attached since the daemon started, or seen in a slot that they were to fill.
    pub(super) attached: BTreeSet<DriveId>,
    /// Facts were read again for want of probes.
    pub(super) asked_for_probes: bool,
    /// How it is to end, once the array is thawed.
    pub(super) ending: Option<(OpState, Option<Error>, String)>,
    /// A resync was put off so that its freeze can be lifted.
    pub(super) put_off: bool,
    /// Times in a row that the array was busy.
    pub(super) busy: u32,
    /// What went wrong last, for an ending that has nothing better to say.
    pub(super) last_error: Option<Error>,
    /// Last progress reading: when and how many KiB were done, for the rate.
    pub(super) last_progress: Option<(Mono, u64)>,
}

impl Task {
    pub(super) fn new(stage: Stage) -> Self {
        Self {
            stage,
            cancel: None,
            wake_at: None,
            sync_seen: false,
            started_word: None,
            acts: 0,
            dropped: 0,
            assembled_by: None,
            resumed: false,
            attached: BTreeSet::new(),
            asked_for_probes: false,
            ending: None,
            put_off: false,
            busy: 0,
            last_error: None,
            last_progress: None,
        }
    }

    /// The task of an operation that the ledger remembers as unfinished: it looks at the facts of
    /// the first scan and goes on from there.
    pub(super) fn resumed(op: &Op) -> Self {
        let mut task = Self::new(Stage::NeedFacts { scan: 1 });
        task.resumed = true;
        if op.state == OpState::Cancelling {
            task.cancel = Some(Cancel {
                release_spare: op.work.release_spare,
                ..Cancel::default()
            });
        }
        task
    }

    pub(super) fn is_watching(&self) -> bool {
        matches!(self.stage, Stage::Watching { .. })
    }

    /// An action is under way: nothing else may be sent for this LUN.
    pub(super) fn is_acting(&self) -> bool {
        matches!(self.stage, Stage::Acting { .. })
    }

    /// An action that was written down and has not been sent.
    pub(super) fn intended(&self) -> Option<&Action> {
        match &self.stage {
            Stage::Intent { action, .. } | Stage::Due { action } => Some(action),
            Stage::NeedFacts { .. } | Stage::Acting { .. } | Stage::Watching { .. } => None,
        }
    }

    pub(super) fn persisted(&mut self, id: PersistId) {
        if let Stage::Intent { persist, action } = &self.stage
            && *persist == id
        {
            self.stage = Stage::Due {
                action: action.clone(),
            };
        }
    }
}

/// Whose action it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ActOwner {
    /// A step of an operation.
    Op(OpId),
    /// `release`: ends a hold; without a token once the call was told that it takes long. `rest`:
    /// what comes after the action.
    Release {
        lun: LunId,
        token: Option<Token>,
        rest: Vec<Action>,
    },
    /// Freezes a held LUN again.
    Reassert { lun: LunId },
    /// Writes speed limits; `late`: past its deadline.
    Pace { lun: LunId, late: bool },
    /// Changes the write-intent bitmap.
    Bitmap { lun: LunId },
    /// Switches the light of this disk; without a token once the call was told that it takes long.
    Light { disk: String, token: Option<Token> },
}

/// A call that waits for facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) token: Token,
    pub(super) caller: Caller,
    pub(super) command: Command,
    /// The first scan whose facts are new enough.
    pub(super) scan: u64,
}
