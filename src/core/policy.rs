//! Tunables with their bounds. The file format is the daemon's affair; the meaning is here.

use serde::{Deserialize, Serialize};

/// What an administrator may set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Milliseconds between safety rescans while nothing happens; 30 000 to 3 600 000.
    pub rescan_ms: u64,
    /// Milliseconds between readings of progress while an operation runs; 1 000 to 60 000.
    pub progress_ms: u64,
    /// Milliseconds after which a kernel write or tool run is called late; 1 000 to 600 000.
    pub deadline_ms: u64,
    /// Compare all copies after a rebuild and record the differences.
    pub verify_after: bool,
    /// Spares of the pool may become physical volumes where a volume group has no room for a new leg.
    pub extend_groups: bool,
    /// Finished operations kept in memory and on the bus; 10 to 10 000.
    pub keep_finished: usize,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            rescan_ms: 60_000,
            progress_ms: 1_000,
            deadline_ms: 30_000,
            verify_after: false,
            extend_groups: false,
            keep_finished: 256,
        }
    }
}
