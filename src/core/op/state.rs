//! Where an operation stands, and the one table of what may follow.
//!
//! ```text
//! queued -> preparing -> running -> (verifying) -> succeeded | failed | cancelled | interrupted
//!                ^          |            |
//!                +----------+------------+   the next phase, or another drive
//! any of the first four -> cancelling -> cancelled | running | succeeded | failed | interrupted
//! ```

use serde::{Deserialize, Serialize};

/// Where an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpState {
    /// Accepted; nothing has been done yet.
    Queued,
    /// Steps are being carried out, the copying has not begun.
    Preparing,
    /// The kernel copies or compares (or waits for its turn to).
    Running,
    /// The kernel is done; what it left is being looked at.
    Verifying,
    /// Somebody asked for an end and the kernel has not stopped yet.
    Cancelling,
    /// Ended well.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Ended because somebody asked.
    Cancelled,
    /// Ended because the ground was taken from under it (reboot, array stopped or gone).
    Interrupted,
}

/// What happens to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpEvent {
    /// Its steps begin (first phase or a further one).
    Prepare,
    /// The kernel was seen to work on it.
    Run,
    /// The kernel was seen to be done; the outcome is checked.
    Verify,
    /// Somebody asked for its end.
    Cancel,
    /// The cancel could not be carried out: the kernel works on.
    CancelFailed,
    /// The kernel was seen to have stopped after a cancel.
    Stopped,
    /// It reached its aim.
    Succeed,
    /// It cannot reach its aim.
    Fail,
    /// The ground was taken from under it.
    Interrupt,
}

impl OpState {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Preparing,
        Self::Running,
        Self::Verifying,
        Self::Cancelling,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Interrupted,
    ];

    /// The word for it in JSON and on the bus.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Preparing => "preparing",
            Self::Running => "running",
            Self::Verifying => "verifying",
            Self::Cancelling => "cancelling",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether nothing can follow.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::Interrupted => true,
            Self::Queued | Self::Preparing | Self::Running | Self::Verifying | Self::Cancelling => {
                false
            }
        }
    }

    /// The state after `event`; [`None`] when the event is not legal here. The table is the private
    /// function of the same name.
    #[must_use]
    pub const fn next(self, event: OpEvent) -> Option<Self> {
        next(self, event)
    }
}

impl std::fmt::Display for OpState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl OpEvent {
    /// Every event.
    pub const ALL: [Self; 9] = [
        Self::Prepare,
        Self::Run,
        Self::Verify,
        Self::Cancel,
        Self::CancelFailed,
        Self::Stopped,
        Self::Succeed,
        Self::Fail,
        Self::Interrupt,
    ];
}

/// The table of legal pairs: the state after `event` in `state`, [`None`] when that is not legal.
///
/// `Prepare` from `Running` is a drive that failed while it was filled, with another one to try;
/// from `Verifying` the next phase. `Verify` from `Queued` or `Preparing` is a copy so short that
/// it was over before it was seen. Nothing leaves a finished state.
const fn next(state: OpState, event: OpEvent) -> Option<OpState> {
    use OpEvent as E;
    use OpState as S;
    match (state, event) {
        (S::Queued | S::Running | S::Verifying, E::Prepare) => Some(S::Preparing),
        (S::Queued | S::Preparing | S::Verifying, E::Run) => Some(S::Running),
        (S::Queued | S::Preparing | S::Running, E::Verify) => Some(S::Verifying),
        (S::Queued | S::Preparing | S::Running | S::Verifying, E::Cancel) => Some(S::Cancelling),
        (S::Cancelling, E::CancelFailed) => Some(S::Running),
        (S::Cancelling, E::Stopped) => Some(S::Cancelled),
        (
            S::Queued | S::Preparing | S::Running | S::Verifying | S::Cancelling,
            E::Succeed | E::Fail | E::Interrupt,
        ) => Some(match event {
            E::Succeed => S::Succeeded,
            E::Fail => S::Failed,
            _ => S::Interrupted,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_leaves_a_finished_state() {
        for state in OpState::ALL.into_iter().filter(|state| state.is_finished()) {
            for event in OpEvent::ALL {
                assert_eq!(next(state, event), None, "{state} {event:?}");
            }
        }
    }

    #[test]
    fn an_end_is_within_reach_of_every_state() {
        for state in OpState::ALL
            .into_iter()
            .filter(|state| !state.is_finished())
        {
            let ends = OpEvent::ALL
                .into_iter()
                .filter_map(|event| next(state, event));
            assert!(ends.into_iter().any(OpState::is_finished), "{state}");
        }
    }

    #[test]
    fn only_a_cancel_leads_to_cancelled() {
        for state in OpState::ALL {
            for event in OpEvent::ALL {
                if next(state, event) == Some(OpState::Cancelled) {
                    assert_eq!(state, OpState::Cancelling);
                }
            }
        }
    }

    #[test]
    fn words_are_the_serialised_ones() {
        for state in OpState::ALL {
            let json = serde_json::to_string(&state).unwrap();
            assert_eq!(json, format!("\"{state}\""));
        }
    }

    #[test]
    fn the_usual_life_is_legal() {
        let life = [
            OpEvent::Prepare,
            OpEvent::Run,
            OpEvent::Verify,
            OpEvent::Succeed,
        ];
        let end = life.into_iter().try_fold(OpState::Queued, next);
        assert_eq!(end, Some(OpState::Succeeded));
    }

    proptest! {
        #[test]
        fn every_life_ends_at_most_once(
            events in proptest::collection::vec(proptest::sample::select(&OpEvent::ALL[..]), 0..64)
        ) {
            let mut state = OpState::Queued;
            let mut ends = 0;
            for event in events {
                if let Some(after) = next(state, event) {
                    prop_assert!(!state.is_finished());
                    prop_assert_ne!(after, state);
                    ends += u32::from(after.is_finished());
                    state = after;
                }
            }
            prop_assert_eq!(ends, u32::from(state.is_finished()));
        }
    }
}
