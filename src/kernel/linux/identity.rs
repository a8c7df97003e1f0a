//! What is most lasting about a device.

use lun_core::facts::IdentityKind;
use lun_core::id::{DevNo, DriveId};

use crate::parse::Properties;

/// All that an identity may be made of.
pub(crate) struct Traits<'a> {
    /// Device number.
    pub(crate) dev: DevNo,
    /// Node, the last resort of a name.
    pub(crate) node: &'a str,
    /// udev's words.
    pub(crate) udev: &'a Properties,
    /// Number of the partition; [`None`] for a whole disk.
    pub(crate) partition: Option<u32>,
    /// File behind a loop device, and where in it the device begins, bytes.
    pub(crate) backing: Option<(&'a str, u64)>,
}

/// Identity, what it rests on, and a lasting name for people.
pub(crate) fn identify(traits: &Traits<'_>) -> (DriveId, IdentityKind, String) {
    let (kind, word, value) = lasting(traits);
    (DriveId::derive(word, &value), kind, stable_name(traits))
}

fn lasting(traits: &Traits<'_>) -> (IdentityKind, &'static str, String) {
    let udev = traits.udev;
    let part = traits
        .partition
        .map_or_else(String::new, |number| format!("-part{number}"));
    if let Some(wwn) = udev
        .get("ID_WWN_WITH_EXTENSION")
        .or_else(|| udev.get("ID_WWN"))
    {
        return (IdentityKind::Wwn, "wwn", format!("{wwn}{part}"));
    }
    if let Some(serial) = udev.get("ID_SERIAL") {
        let part = match (traits.partition, udev.get("ID_PART_ENTRY_UUID")) {
            (Some(_), Some(uuid)) => format!("-part-{uuid}"),
            _ => part,
        };
        return (IdentityKind::Serial, "serial", format!("{serial}{part}"));
    }
    // Mapped devices and arrays that are themselves members have a number of their own kind.
    for key in ["DM_UUID", "MD_UUID"] {
        if let Some(uuid) = udev.get(key) {
            return (
                IdentityKind::Serial,
                "serial",
                format!("{key}={uuid}{part}"),
            );
        }
    }
    if let Some(link) = link(udev, "/dev/disk/by-path/") {
        return (IdentityKind::Path, "path", link.to_owned());
    }
    if let Some((file, offset)) = traits.backing {
        let offset = if offset == 0 {
            String::new()
        } else {
            format!("+{offset}")
        };
        return (
            IdentityKind::Backing,
            "backing",
            format!("{file}{offset}{part}"),
        );
    }
    (IdentityKind::DevNo, "devno", traits.dev.to_string())
}

fn stable_name(traits: &Traits<'_>) -> String {
    let udev = traits.udev;
    let by_id = "/dev/disk/by-id/";
    // A model and serial number say more to people than a world-wide name; what is written on the
    // device (`lvm-pv-uuid-`, `md-uuid-`) is no name of the device.
    let told = |link: &&String| {
        link.strip_prefix(by_id).is_some_and(|name| {
            !["wwn-", "lvm-pv-", "md-", "nvme-eui."]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        })
    };
    let wwn = || {
        udev.links
            .iter()
            .find(|link| link.starts_with("/dev/disk/by-id/wwn-"))
    };
    let backing = || traits.backing.map(|(file, _)| file);
    udev.links
        .iter()
        .find(told)
        .or_else(wwn)
        .map(String::as_str)
        .or_else(|| link(udev, "/dev/disk/by-path/"))
        .or_else(backing)
        .unwrap_or(traits.node)
        .to_owned()
}

fn link<'a>(udev: &'a Properties, folder: &str) -> Option<&'a str> {
    udev.links
        .iter()
        .find(|link| link.starts_with(folder))
        .map(String::as_str)
}
