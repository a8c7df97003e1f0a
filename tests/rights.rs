//! Who may call what, row by row. The table is held against the objects' own introspection, so that
//! no method is without a row, and is played on a private bus (`bus/rights.rs`) and in a virtual
//! machine (`vm/rights.rs`).

use std::process::{Command, Output};

/// A method, and the right that it takes.
pub(crate) struct Row {
    /// Last part of the interface's name; the objects of the table have one interface each.
    pub(crate) object: &'static str,
    /// Method.
    pub(crate) method: &'static str,
    /// Arguments as `busctl` wants them: signature, then values.
    pub(crate) arguments: &'static [&'static str],
    /// Last part of the polkit action's name; empty: everybody may.
    pub(crate) right: &'static str,
}

const fn row(
    object: &'static str,
    method: &'static str,
    arguments: &'static [&'static str],
    right: &'static str,
) -> Row {
    Row {
        object,
        method,
        arguments,
        right,
    }
}

/// All of them. The operation was begun by another user, or by the kernel.
pub(crate) const TABLE: &[Row] = &[
    row("Provider", "Refresh", &[], "refresh"),
    row("Provider", "Reenumerate", &[], "refresh"),
    row("Provider", "FindLun", &["s", "md0"], ""),
    row("Provider", "FindDrive", &["s", "md0"], ""),
    row("Provider", "Describe", &[], ""),
    row("Provider", "QueryEvents", &["t", "0"], ""),
    row("Provider", "QueryRecentEvents", &["u", "1"], ""),
    row("Provider", "QueryOperations", &["a{sv}", "0"], ""),
    row("Provider", "QueryOperation", &["t", "1"], ""),
    row(
        "Provider",
        "SpareAdd",
        &["sa{sv}", "nonesuch", "0"],
        "spare",
    ),
    row("Provider", "SpareRemove", &["s", "nonesuch"], "spare"),
    row("Provider", "QuerySubSystems", &[], ""),
    row("SubSystem", "Reenumerate", &[], "refresh"),
    row(
        "SubSystem",
        "ReplaceDrive",
        &["ss", "MEMBER", "nonesuch"],
        "replace",
    ),
    row("SubSystem", "QueryLuns", &[], ""),
    row("SubSystem", "QueryDrives", &[], ""),
    row("SubSystem", "QueryControllers", &[], ""),
    row("Lun", "Recover", &["a{sv}", "0"], "recover"),
    row("Lun", "PlanRecover", &["a{sv}", "0"], ""),
    row(
        "Lun",
        "ReplaceDrive",
        &["sa{sv}", "nonesuch", "0"],
        "replace",
    ),
    row("Lun", "PlanReplace", &["sa{sv}", "nonesuch", "0"], ""),
    row("Lun", "Explain", &[], ""),
    row("Lun", "Verify", &[], "scrub"),
    row("Lun", "Release", &[], "release"),
    row("Lun", "QueryHints", &[], ""),
    row(
        "Lun",
        "ApplyHints",
        &["a{sv}", "1", "sRebuildPriority", "n", "0"],
        "hints",
    ),
    row("Lun", "QueryPlexes", &[], ""),
    row("Lun", "Describe", &[], ""),
    row("Lun", "GetIdentificationData", &[], ""),
    // What is not done here is refused to everybody alike.
    row("Lun", "SetStatus", &["i", "4"], ""),
    row("Lun", "AddPlex", &["s", "md1"], ""),
    row("Lun", "RemovePlex", &["s", "0"], ""),
    row("Lun", "Extend", &["tas", "1", "0"], ""),
    row("Lun", "Shrink", &["t", "1"], ""),
    row("Lun", "Delete", &[], ""),
    row("Plex", "QueryExtents", &[], ""),
    row("Plex", "Describe", &[], ""),
    row("Controller", "QueryAssociatedLuns", &[], ""),
    row("Drive", "SetFlags", &["u", "1"], "spare"),
    row("Drive", "ClearFlags", &["u", "1"], "spare"),
    row("Drive", "StartMaintenance", &["u", "1"], "maintenance"),
    row("Drive", "StopMaintenance", &["u", "1"], "maintenance"),
    row("Drive", "QueryExtents", &[], ""),
    row("Drive", "Describe", &[], ""),
    row("Async", "QueryStatus", &[], ""),
    row("Async", "Wait", &["t", "1"], ""),
    row("Async", "Describe", &[], ""),
    // Last: where it is allowed it ends the operation.
    row("Async", "Cancel", &["a{sv}", "0"], "cancel-other"),
];

/// What `busctl call` takes for a row, on the object at `path`; `member` is a drive that is in use.
pub(crate) fn call_of(row: &Row, path: &str, member: &str) -> Vec<String> {
    let interface = format!("org.lund.Vds1.{}", row.object);
    ["call", "org.lund.Vds1", path, &interface, row.method]
        .iter()
        .chain(row.arguments)
        .map(|&word| if word == "MEMBER" { member } else { word }.to_owned())
        .collect()
}

/// Runs `busctl` on the bus at an address.
pub(crate) fn busctl(address: &str, words: &[String]) -> Output {
    Command::new("busctl")
        .arg(format!("--address={address}"))
        .arg("--json=short")
        .args(words)
        .output()
        .expect("busctl must be installed (scripts/install-deps)")
}

/// Methods of our interfaces in the introspection of an object, as (object, method).
pub(crate) fn methods(xml: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for interface in xml.split("<interface name=\"").skip(1) {
        let Some((name, rest)) = interface.split_once('"') else {
            continue;
        };
        let Some(object) = name.strip_prefix("org.lund.Vds1.") else {
            continue;
        };
        let body = rest.split("</interface>").next().unwrap_or_default();
        for method in body.split("<method name=\"").skip(1) {
            let method = method.split('"').next().unwrap_or_default();
            found.push((object.to_owned(), method.to_owned()));
        }
    }
    found
}
