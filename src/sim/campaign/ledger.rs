//! The ledger as a crash finds it: what was committed, and what was only told.

use std::collections::{BTreeMap, VecDeque};

use lun_core::Error;
use lun_core::id::{DriveId, LunId, OpId, Wall};
use lun_core::machine::{LedgerState, PersistId, Record, SeenDrive, SeenLun};
use lun_core::model::Phase;
use lun_core::op::Op;
use lun_core::plan::PoolEntry;

/// What is committed to the medium, kept as the daemon's ledger keeps it.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    ops: BTreeMap<OpId, Op>,
    pool: Vec<PoolEntry>,
    holds: BTreeMap<LunId, (String, Wall)>,
    luns: BTreeMap<LunId, SeenLun>,
    drives: BTreeMap<DriveId, SeenDrive>,
    /// What the last start of the host left behind is known.
    booted: bool,
}

impl Committed {
    /// The host goes down.
    pub const fn host_went_down(&mut self) {
        self.booted = false;
    }

    /// Takes one record in.
    pub fn apply(&mut self, record: Record) {
        match record {
            Record::Op(op) => {
                self.ops.insert(op.id, *op);
            }
            Record::Pool(entry) => match self.pool.iter_mut().find(|old| old.id == entry.id) {
                Some(old) => *old = entry,
                None => self.pool.push(entry),
            },
            Record::PoolRemoved(id) => self.pool.retain(|entry| entry.id != id),
            Record::Hold { lun, name, at } => {
                self.holds.insert(lun, (name, at));
            }
            Record::HoldReleased(lun) => {
                self.holds.remove(&lun);
            }
            Record::Lun(seen) => {
                self.luns.insert(seen.id, seen);
            }
            Record::Drive(seen) => {
                self.drives.insert(seen.id, seen);
            }
            Record::Booted => self.booted = true,
            // History for people: nothing is decided from it.
            Record::Intent { .. } | Record::Outcome { .. } | Record::Decision(_) => {}
        }
    }

    /// Whether it tells of a LUN that a member of it is being filled, or held in the middle of that.
    #[must_use]
    pub fn tells_of_a_fill(&self, lun: LunId) -> bool {
        let held = self.holds.contains_key(&lun);
        self.ops.values().any(|op| {
            let phase = matches!(op.phase, Phase::Rebuild | Phase::Replace | Phase::ReAdd);
            let open = held || !op.state.is_finished();
            phase && open && op.lun == lun && !op.targets.is_empty()
        })
    }

    /// Whether it tells that copies of a LUN may differ.
    #[must_use]
    pub fn tells_of_a_difference(&self, lun: LunId) -> bool {
        self.luns.get(&lun).is_some_and(|seen| seen.unproven)
    }

    /// An operation as it was committed last.
    #[must_use]
    pub fn op(&self, id: OpId) -> Option<&Op> {
        self.ops.get(&id)
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &[PoolEntry] {
        &self.pool
    }

    /// What a daemon that starts now remembers. Operations go through their stored form: what is
    /// not in it does not survive.
    ///
    /// # Errors
    /// When an operation cannot be stored or read back.
    pub fn state(&self) -> Result<LedgerState, String> {
        let stored = |op: &Op| -> Result<Op, serde_json::Error> {
            serde_json::from_str(&serde_json::to_string(op)?)
        };
        let ops: Result<Vec<Op>, _> = self.ops.values().map(stored).collect();
        Ok(LedgerState {
            last_op: self.ops.keys().last().map_or(0, |id| id.0),
            ops: ops.map_err(|error| format!("an operation cannot be stored: {error}"))?,
            pool: self.pool.clone(),
            holds: self.holds.clone(),
            luns: self.luns.values().cloned().collect(),
            drives: self.drives.values().cloned().collect(),
            rebooted: !self.booted,
            ..LedgerState::default()
        })
    }
}

/// The ledger's file and the thread that writes it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// What is on the medium.
    pub committed: Committed,
    /// Told, in this order, and not yet written.
    told: VecDeque<(PersistId, Record)>,
    /// What was taken away and could not be written: its thread remembers that for as long as the
    /// daemon lives, because the machine tells it only of what is.
    owed: Vec<Record>,
    /// Writes fail.
    pub failing: bool,
}

impl Ledger {
    /// Takes a record into the queue; true when the thread has to be woken.
    pub fn tell(&mut self, id: PersistId, record: Record) -> bool {
        self.told.push_back((id, record));
        self.told.len() == 1
    }

    /// Writes the oldest record, or fails to; the answer for the daemon, and whether more waits.
    pub fn write_one(&mut self) -> Option<(PersistId, Result<(), Error>, bool)> {
        let (id, record) = self.told.pop_front()?;
        let result = if self.failing {
            if matches!(record, Record::PoolRemoved(_) | Record::HoldReleased(_)) {
                self.owed.push(record);
            }
            Err(Error::Ledger {
                what: "write".to_owned(),
                detail: "database or disk is full".to_owned(),
            })
        } else {
            for record in self.owed.drain(..) {
                self.committed.apply(record);
            }
            self.committed.apply(record);
            Ok(())
        };
        Some((id, result, !self.told.is_empty()))
    }

    /// The daemon dies: of what it had told only the first `survive` records were written.
    pub fn crash(&mut self, survive: usize) {
        self.owed.clear();
        for (_, record) in self.told.drain(..).take(survive) {
            if !self.failing {
                self.committed.apply(record);
            }
        }
    }

    /// Whether this record is told and not yet written.
    #[must_use]
    pub fn is_on_its_way(&self, id: PersistId) -> bool {
        self.told.iter().any(|(told, _)| *told == id)
    }

    /// Records told and not yet written.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.told.len()
    }
}
