//! What the host itself uses devices for.

use std::fs;

use lun_core::id::DevNo;

use super::Roots;
use super::read::text;
use crate::parse;

/// Mounts and swap areas, with the kernel name or number of the device beneath.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    by_number: Vec<(DevNo, String)>,
    by_name: Vec<(String, String)>,
}

impl Usage {
    /// Reads `/proc/self/mountinfo` and `/proc/swaps`. What cannot be read counts as nothing
    /// here: before a drive is taken it is also opened exclusively, which tells the same.
    pub(crate) fn read(roots: &Roots) -> Self {
        let mut found = Self::default();
        let path = roots.proc.join("self/mountinfo");
        match text(&path).and_then(|text| parse::mountinfo(&text)) {
            Ok(mounts) => {
                for mount in mounts {
                    if mount.dev.major != 0 {
                        found.by_number.push((mount.dev, mount.mount_point));
                    } else if let Some(name) = kernel_name(roots, &mount.source) {
                        found.by_name.push((name, mount.mount_point));
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the mounts are not known"),
        }
        match text(&roots.proc.join("swaps")).and_then(|text| parse::swaps(&text)) {
            Ok(swaps) => {
                for swap in swaps.iter().filter(|swap| swap.device) {
                    if let Some(name) = kernel_name(roots, &swap.path) {
                        found.by_name.push((name, "[swap]".to_owned()));
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "the swap areas are not known"),
        }
        found
    }

    /// Uses of one device, each once.
    pub(crate) fn of(&self, dev: DevNo, name: &str) -> Vec<String> {
        let numbered = self
            .by_number
            .iter()
            .filter(|(key, _)| *key == dev)
            .map(|(_, by)| by);
        let named = self
            .by_name
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, by)| by);
        let mut found: Vec<String> = numbered.chain(named).cloned().collect();
        found.sort();
        found.dedup();
        found
    }
}

/// Kernel name behind a path in `/dev`, with links followed.
fn kernel_name(roots: &Roots, path: &str) -> Option<String> {
    let inside = path.strip_prefix("/dev/")?;
    let resolved = fs::canonicalize(roots.dev.join(inside)).ok()?;
    let dev = fs::canonicalize(&roots.dev).ok()?;
    Some(resolved.strip_prefix(dev).ok()?.to_str()?.replace('/', "!"))
}
