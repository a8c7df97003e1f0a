//! Telling when the spares at hand begin to fall short of a LUN, and when they no longer do.

use std::collections::BTreeMap;

use super::Machine;
use crate::id::LunId;
use crate::model::Coverage;
use crate::plan;

impl Machine {
    /// Finds out anew which LUNs have a spare, and tells of each that lost its last one or has one again.
    /// A host whose pool is empty from the start has none by choice: nothing is told of it.
    pub(super) fn note_coverage(&mut self) {
        let fresh: BTreeMap<LunId, Coverage> = self
            .luns
            .iter()
            .filter_map(|(id, entry)| {
                let array = self.inventory.arrays.get(&entry.array)?;
                let mut coverage = plan::coverage(
                    &self.inventory,
                    (&entry.lun, array),
                    &self.pool,
                    &self.retired,
                    &self.reservations(*id),
                )?;
                coverage.reserves = self.settings_of(*id).reserve;
                Some((*id, coverage))
            })
            .collect();
        let before = std::mem::replace(&mut self.coverage, fresh);
        let mut told = Vec::new();
        for (id, now) in &self.coverage {
            let was = before.get(id).map(|before| before.covered);
            match (was, &now.reason) {
                (Some(true), Some(why)) => told.push((*id, shortfall(now, why))),
                (None, Some(why)) if !self.pool.is_empty() => {
                    told.push((*id, shortfall(now, why)));
                }
                (Some(false), None) => {
                    let text = format!("{} has a spare now: {}", now.lun_name, now.by.join(", "));
                    told.push((*id, text));
                }
                _ => {}
            }
        }
        self.changed |= before != self.coverage;
        for (id, text) in told {
            self.notify(None, Some(id), None, text);
        }
    }
}

/// That a LUN has no spare, why, and what has to be bought.
fn shortfall(now: &Coverage, why: &str) -> String {
    let wants = &now.wants;
    let size = wants
        .size_bytes
        .map(|bytes| format!("at least {bytes} bytes"));
    let blocks = wants
        .logical_block_bytes
        .map(|bytes| format!("sectors of at most {bytes} bytes"));
    let wanted: Vec<String> = size.into_iter().chain(blocks).collect();
    let wanted = if wanted.is_empty() {
        String::new()
    } else {
        format!("; a drive that would do has {}", wanted.join(" and "))
    };
    format!("no spare covers {}: {why}{wanted}", now.lun_name)
}
