//! Spares by rule (`[[spare]]`): blank drives whose names a rule matches join the pool by themselves, and
//! those that may not are listed with the reason. Only a person can force a drive.

use std::collections::{BTreeMap, BTreeSet};

use super::{Machine, Record};
use crate::Error;
use crate::facts::DeviceFacts;
use crate::id::{DevNo, DriveId};
use crate::model::{NotificationEvent, PassedOver, PoolEntry};
use crate::plan;
use crate::policy::SpareRule;

/// What became of the drives that rules speak of and that are not in the pool.
#[derive(Debug, Default)]
pub(super) struct Ruled {
    /// Judged, and why they may not join. They are judged again when anything about them changes.
    judged: BTreeMap<DriveId, (DeviceFacts, PassedOver)>,
    /// A deep look was asked for.
    asked: BTreeSet<DriveId>,
}

impl Machine {
    /// Takes in what the rules speak of, and lets go what they no longer do.
    pub(super) fn apply_spare_rules(&mut self) {
        self.leave_by_rule();
        if self.policy.spare_rules.is_empty() {
            return;
        }
        let members = self.member_devices();
        let mut unprobed = BTreeSet::new();
        let mut found: Vec<(DevNo, DriveId, SpareRule)> = Vec::new();
        for device in self.inventory.devices.values() {
            let Some(rule) = self.rule_for(device) else {
                continue;
            };
            let known = self.pool.iter().any(|entry| entry.id == device.id);
            let judged = self.ruled.judged.get(&device.id);
            if known
                || members.contains(&device.dev)
                || judged.is_some_and(|(facts, _)| facts == device)
            {
                continue;
            }
            let probed = self.inventory.probes.contains_key(&device.dev);
            if probed || self.ruled.asked.contains(&device.id) {
                found.push((device.dev, device.id, rule.clone()));
            } else {
                unprobed.insert(device.dev);
                self.ruled.asked.insert(device.id);
            }
        }
        for (dev, id, rule) in found {
            self.ruled.asked.remove(&id);
            self.judge_by_rule(dev, id, &rule);
        }
        let there: BTreeSet<DriveId> = self.inventory.devices.values().map(|d| d.id).collect();
        self.ruled.judged.retain(|id, _| there.contains(id));
        self.ruled.asked.retain(|id| there.contains(id));
        if !unprobed.is_empty() {
            self.want_deep_scan();
            self.scan.probe.extend(unprobed);
        }
    }

    /// The first rule that speaks of a drive.
    pub(super) fn rule_for(&self, device: &DeviceFacts) -> Option<&SpareRule> {
        let names = || {
            let own = device.names.iter().map(String::as_str);
            own.chain([device.stable_name.as_str()])
        };
        let mut rules = self.policy.spare_rules.iter();
        rules.find(|rule| rule.speaks_of(names()))
    }

    fn judge_by_rule(&mut self, dev: DevNo, id: DriveId, rule: &SpareRule) {
        let judged = plan::refuse_registration(&self.inventory, dev, false);
        let reason = match (judged, self.retired.get(&id)) {
            (Ok(entry), None) => {
                self.ruled.judged.remove(&id);
                return self.join_by_rule(entry, rule);
            }
            (Ok(_), Some(retired)) => retired.text(),
            (Err(Error::DriveRefused { unfit, .. }), _) => unfit.text(),
            (Err(other), _) => other.to_string(),
        };
        let Some(device) = self.inventory.devices.get(&dev).cloned() else {
            return;
        };
        let passed = PassedOver {
            id,
            device: format!("/dev/{}", device.name),
            stable_name: device.stable_name.clone(),
            rule: rule.matches.clone(),
            reason,
        };
        let known = self.ruled.judged.insert(id, (device, passed.clone()));
        if known.is_none_or(|(_, known)| known.reason != passed.reason) {
            let text = format!(
                "{} does not join the spare pool by the rule {:?}: {}",
                passed.device, passed.rule, passed.reason
            );
            self.changed = true;
            self.notify(None, None, None, text);
        }
    }

    fn join_by_rule(&mut self, mut entry: PoolEntry, rule: &SpareRule) {
        entry.rule = Some(rule.matches.clone());
        entry.only_for.clone_from(&rule.only_for);
        let text = format!(
            "{} joins the spare pool by the rule {:?}",
            entry.stable_name, rule.matches
        );
        self.pool.push(entry.clone());
        self.persist(Record::Pool(entry));
        self.changed = true;
        self.notify(Some(NotificationEvent::DriveModify), None, None, text);
        self.reproject_all();
    }

    /// Drives whose rule is gone leave the pool, unless an operation has them; those whose rule says
    /// another LUN now are dedicated to that.
    fn leave_by_rule(&mut self) {
        let mut leaving = Vec::new();
        let mut changed = Vec::new();
        for entry in &self.pool {
            let Some(pattern) = &entry.rule else { continue };
            let rules = &self.policy.spare_rules;
            match rules.iter().find(|rule| rule.matches == *pattern) {
                Some(rule) if rule.only_for != entry.only_for => {
                    let only_for = rule.only_for.clone();
                    changed.push(PoolEntry {
                        only_for,
                        ..entry.clone()
                    });
                }
                Some(_) => {}
                None if entry.claimed_by.is_none() => leaving.push(entry.clone()),
                None => {}
            }
        }
        for entry in changed {
            if let Some(kept) = self.pool.iter_mut().find(|kept| kept.id == entry.id) {
                kept.clone_from(&entry);
            }
            self.persist(Record::Pool(entry));
            self.changed = true;
        }
        for entry in leaving {
            self.pool.retain(|kept| kept.id != entry.id);
            self.persist(Record::PoolRemoved(entry.id));
            let text = format!(
                "{} left the spare pool: its rule is gone",
                entry.stable_name
            );
            self.changed = true;
            self.notify(Some(NotificationEvent::DriveModify), None, None, text);
        }
    }

    /// `Refresh`: what the rules speak of is judged anew.
    pub(super) fn judge_rules_anew(&mut self) {
        self.ruled = Ruled::default();
        self.apply_spare_rules();
    }

    /// Drives that a rule speaks of and that may not join, for clients.
    pub(super) fn passed_over(&self) -> Vec<PassedOver> {
        let judged = self.ruled.judged.values();
        judged.map(|(_, passed)| passed.clone()).collect()
    }
}
