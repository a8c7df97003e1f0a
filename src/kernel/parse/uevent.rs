//! `KEY=VALUE` texts: sysfs `uevent` files and the entries of udev's database.

use std::collections::BTreeMap;

/// What udev, or a `uevent` file, tells of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties {
    /// Values by key (`ID_WWN`, `DEVNAME`, ...).
    pub values: BTreeMap<String, String>,
    /// Links below `/dev`, as absolute paths.
    pub links: Vec<String>,
}

impl Properties {
    /// A value that is not empty.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

/// Reads the `KEY=VALUE` lines of a sysfs `uevent` file; other lines are passed over.
#[must_use]
pub fn uevent(text: &str) -> Properties {
    let mut found = Properties::default();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        found.values.insert(key.to_owned(), value.to_owned());
    }
    found
}

/// Reads an entry of `/run/udev/data`: `E:KEY=VALUE` and `S:link` lines (systemd,
/// `device_update_db`). Only tests read it so; the running machine is asked through libudev.
#[must_use]
pub fn udev_database(text: &str) -> Properties {
    let mut found = Properties::default();
    for line in text.lines() {
        if let Some((key, value)) = line
            .strip_prefix("E:")
            .and_then(|line| line.split_once('='))
        {
            found.values.insert(key.to_owned(), value.to_owned());
        } else if let Some(link) = line.strip_prefix("S:") {
            found.links.push(format!("/dev/{link}"));
        }
    }
    found.links.sort();
    found
}
