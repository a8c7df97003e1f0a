//! What the machine does when the ledger does not work, and when it works again.

use super::{Machine, PersistId, Record};
use crate::Error;

impl Machine {
    pub(super) fn on_persisted(&mut self, id: PersistId, result: Result<(), Error>) {
        self.answered(id);
        match result {
            Err(error) => self.ledger_fails(&error),
            Ok(()) if self.ledger_degraded.is_some() => self.ledger_is_back(id),
            Ok(()) => {}
        }
        // Recovery goes on without a ledger: what waited for the record goes on either way.
        for task in self.tasks.values_mut() {
            task.persisted(id);
        }
    }

    fn ledger_fails(&mut self, error: &Error) {
        if self.ledger_degraded.is_none() {
            let text = format!("the ledger is degraded, going on in memory: {error}");
            self.notify(None, None, None, text);
            // Numbers given from here on may be forgotten; those given later must be others. Seconds
            // since 1970 exceed any number counted up from one.
            self.last_op = self.last_op.max(self.now.wall.0 / 1000);
        }
        self.retold = None;
        self.ledger_degraded = Some(error.to_string());
        self.changed = true;
    }

    /// What the ledger was told meanwhile is lost to it, and it may be another file by now: it is
    /// told everything anew. Until the last of that is written a crash would still take it back.
    fn ledger_is_back(&mut self, written: PersistId) {
        match self.retold {
            None => {
                let records = self.all_records();
                let last = records
                    .into_iter()
                    .map(|record| self.persist(record))
                    .last();
                self.retold = Some(last.unwrap_or(written));
                if last.is_some() {
                    return;
                }
            }
            Some(last) if written < last => return,
            Some(_) => {}
        }
        self.retold = None;
        self.ledger_degraded = None;
        let text = "the ledger can be written again and has been told everything anew".to_owned();
        self.notify(None, None, None, text);
        self.changed = true;
    }

    /// All that the ledger has to know, as it is now. What was taken away (a drive out of the pool,
    /// a hold) is not in it.
    fn all_records(&self) -> Vec<Record> {
        let ops = self.ops.values().map(|op| Record::Op(Box::new(op.clone())));
        let pool = self.pool.iter().cloned().map(Record::Pool);
        let holds = self.holds.iter().map(|(lun, (name, at))| Record::Hold {
            lun: *lun,
            name: name.clone(),
            at: *at,
        });
        let luns = self
            .luns
            .values()
            .map(|entry| Record::Lun(super::seen::seen(entry, self.now.wall, false)));
        let gone = self.gone.values().cloned().map(Record::Lun);
        let drives = self.seen_drives.values().cloned().map(Record::Drive);
        pool.chain(ops)
            .chain(holds)
            .chain(luns)
            .chain(gone)
            .chain(drives)
            .collect()
    }
}
