//! Finding LUNs and drives by what people call them.

use super::{Machine, SeenLun};
use crate::Error;
use crate::error::ObjectKind;
use crate::facts::DeviceFacts;
use crate::id::{DriveId, LunId, OpId};
use crate::op::Op;

/// Shortest id prefix that is taken for one.
const PREFIX_MIN: usize = 4;

impl Machine {
    /// Finds a LUN by id, unique id prefix, `md0`, `/dev/md0`, `/dev/md/NAME` or `NAME`; one
    /// of device-mapper also by its name there, `/dev/mapper/NAME`, `vg/lv` or `/dev/vg/lv`.
    ///
    /// # Errors
    /// [`Error::ObjectNotFound`] with the names there are, [`Error::Ambiguous`], or
    /// [`Error::ObjectDeleted`] for one that existed, [`Error::LunOffline`] for one that may still be
    /// assembled after a boot.
    pub fn resolve_lun(&self, name: &str) -> Result<LunId, Error> {
        let exact = self.luns.iter().find(|(id, entry)| {
            id.to_string().eq_ignore_ascii_case(name)
                || is_called(name, &entry.array, &entry.lun.links)
        });
        if let Some((id, _)) = exact {
            return Ok(*id);
        }
        let found: Vec<LunId> = self
            .luns
            .keys()
            .copied()
            .filter(|id| has_prefix(&id.to_string(), name))
            .collect();
        match found.as_slice() {
            [only] => return Ok(*only),
            [] => {}
            several => {
                return Err(Error::Ambiguous {
                    name: name.to_owned(),
                    candidates: several.iter().map(ToString::to_string).collect(),
                });
            }
        }
        let was = self.gone.values().find(|seen: &&SeenLun| {
            seen.id.to_string().eq_ignore_ascii_case(name)
                || is_called(name, &seen.name, &seen.links)
        });
        if let Some(seen) = was {
            if let Some(error) = self.not_assembled_yet(seen.id) {
                return Err(error);
            }
            return Err(Error::ObjectDeleted {
                kind: ObjectKind::Lun,
                again: seen.recreate.clone(),
                name: name.to_owned(),
            });
        }
        Err(Error::ObjectNotFound {
            kind: ObjectKind::Lun,
            name: name.to_owned(),
            known: self
                .luns
                .values()
                .map(|entry| entry.array.clone())
                .collect(),
        })
    }

    /// Finds a drive by id, unique id prefix, kernel name or any name under `/dev`; drives of the
    /// pool also by the lasting name under which they were registered.
    ///
    /// # Errors
    /// [`Error::ObjectNotFound`] with the drives there are, [`Error::Ambiguous`], or
    /// [`Error::ObjectDeleted`] for one that was a member or a spare and is gone.
    pub fn resolve_drive(&self, name: &str) -> Result<DriveId, Error> {
        let called = |device: &&DeviceFacts| {
            device.name == name
                || device.names.iter().any(|other| other == name)
                || device.stable_name == name
                || device.id.to_string().eq_ignore_ascii_case(name)
        };
        if let Some(device) = self.inventory.devices.values().find(called) {
            return Ok(device.id);
        }
        let registered = self.pool.iter().find(|entry| {
            entry.stable_name == name || entry.id.to_string().eq_ignore_ascii_case(name)
        });
        if let Some(entry) = registered {
            return Ok(entry.id);
        }
        let mut found: Vec<DriveId> = self
            .inventory
            .devices
            .values()
            .map(|device| device.id)
            .chain(self.pool.iter().map(|entry| entry.id))
            .filter(|id| has_prefix(&id.to_string(), name))
            .collect();
        found.sort_unstable();
        found.dedup();
        let was = || {
            self.seen_drives.values().any(|seen| {
                seen.device == name
                    || seen.device.strip_prefix("/dev/") == Some(name)
                    || seen.stable_name == name
                    || seen.id.to_string().eq_ignore_ascii_case(name)
            })
        };
        match found.as_slice() {
            [only] => Ok(*only),
            [] if was() => Err(Error::ObjectDeleted {
                kind: ObjectKind::Drive,
                again: Vec::new(),
                name: name.to_owned(),
            }),
            [] => Err(Error::ObjectNotFound {
                kind: ObjectKind::Drive,
                name: name.to_owned(),
                known: self
                    .inventory
                    .devices
                    .values()
                    .filter_map(|device| device.names.first().cloned())
                    .collect(),
            }),
            several => Err(Error::Ambiguous {
                name: name.to_owned(),
                candidates: several.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// The device behind a drive's identity, if it is plugged in.
    pub(super) fn device_of(&self, id: DriveId) -> Option<&DeviceFacts> {
        self.inventory
            .devices
            .values()
            .find(|device| device.id == id)
    }

    pub(super) fn op(&self, id: OpId) -> Result<&Op, Error> {
        self.ops.get(&id).ok_or_else(|| {
            // A number that was given once belongs to an operation that is no longer kept.
            if id.0 <= self.last_op && id.0 > 0 {
                Error::ObjectDeleted {
                    kind: ObjectKind::Operation,
                    again: Vec::new(),
                    name: id.to_string(),
                }
            } else {
                Error::ObjectNotFound {
                    kind: ObjectKind::Operation,
                    name: id.to_string(),
                    known: self
                        .ops
                        .keys()
                        .rev()
                        .take(8)
                        .map(ToString::to_string)
                        .collect(),
                }
            }
        })
    }
}

impl SeenLun {
    /// Whether a name, an id or the beginning of one means this LUN as it was last seen.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        let id = self.id.to_string();
        id.eq_ignore_ascii_case(name)
            || has_prefix(&id, name)
            || is_called(name, &self.name, &self.links)
    }
}

fn is_called(name: &str, array: &str, links: &[String]) -> bool {
    let bare = name.strip_prefix("/dev/").unwrap_or(name);
    bare == array
        || array.strip_prefix("mapper/") == Some(name)
        || links.iter().any(|link| {
            link == name
                || link.strip_prefix("/dev/") == Some(name)
                || link
                    .strip_prefix("/dev/md/")
                    .is_some_and(|short| short == name)
        })
}

/// Whether `name` is a proper prefix of an id, with or without its dashes.
fn has_prefix(id: &str, name: &str) -> bool {
    let plain = |text: &str| text.replace('-', "").to_ascii_lowercase();
    let prefix = plain(name);
    prefix.len() >= PREFIX_MIN
        && prefix.bytes().all(|byte| byte.is_ascii_hexdigit())
        && plain(id).starts_with(&prefix)
}
