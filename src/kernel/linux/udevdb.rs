//! What udev knows of a device.

use std::fs;
use std::path::Path;

use lun_core::id::DevNo;

use super::Roots;
use crate::parse::{self, Properties};

/// udev's entry of a block device; empty when udev has none (no udevd, or not yet).
pub(crate) fn properties(roots: &Roots, dev: DevNo) -> Properties {
    match &roots.run {
        Some(run) => from_file(run, dev),
        None => from_library(dev),
    }
}

fn from_file(run: &Path, dev: DevNo) -> Properties {
    let path = run
        .join("udev/data")
        .join(format!("b{}:{}", dev.major, dev.minor));
    fs::read(path).map_or_else(
        |_| Properties::default(),
        |bytes| parse::udev_database(&String::from_utf8_lossy(&bytes)),
    )
}

fn from_library(dev: DevNo) -> Properties {
    let number = nix::sys::stat::makedev(u64::from(dev.major), u64::from(dev.minor));
    let Ok(device) = udev::Device::from_devnum(udev::DeviceType::Block, number) else {
        return Properties::default();
    };
    let mut found = Properties::default();
    for entry in device.properties() {
        let key = entry.name().to_string_lossy().into_owned();
        found
            .values
            .insert(key, entry.value().to_string_lossy().into_owned());
    }
    let links = found.get("DEVLINKS").unwrap_or_default().to_owned();
    found.links = links.split_whitespace().map(str::to_owned).collect();
    found.links.sort();
    found
}
