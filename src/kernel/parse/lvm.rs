//! Reports of LVM (`--reportformat json --units b --nosuffix`): `vgs`, `pvs` and `lvs` of one group.
//! Every value is a string there, numbers too.

use lun_core::Error;
use lun_core::facts::{LogicalVolume, PhysicalVolume, VolumeGroup};
use lun_core::id::DevNo;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::bad;

/// Fields asked of `vgs`.
pub const VG_FIELDS: &str = "vg_name,vg_extent_size";
/// Fields asked of `pvs`.
pub const PV_FIELDS: &str =
    "pv_name,pv_uuid,pv_size,pv_free,pv_missing,pv_allocatable,pv_major,pv_minor";
/// Fields asked of `lvs`.
pub const LV_FIELDS: &str = "lv_name,lv_parent,lv_size,lv_health_status,seg_monitor,devices";

/// `[unknown]`: the node of a physical volume whose device is gone.
const UNKNOWN: &str = "[unknown]";

#[derive(Deserialize)]
struct Report<T> {
    report: Vec<T>,
}

#[derive(Deserialize)]
struct Groups {
    vg: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    vg_name: String,
    vg_extent_size: String,
}

#[derive(Deserialize)]
struct Physicals {
    pv: Vec<Physical>,
}

#[derive(Deserialize)]
struct Physical {
    pv_name: String,
    pv_uuid: String,
    pv_size: String,
    pv_free: String,
    pv_missing: String,
    pv_allocatable: String,
    pv_major: String,
    pv_minor: String,
}

#[derive(Deserialize)]
struct Logicals {
    lv: Vec<Logical>,
}

#[derive(Deserialize)]
struct Logical {
    lv_name: String,
    lv_parent: String,
    lv_size: String,
    lv_health_status: String,
    seg_monitor: String,
    devices: String,
}

/// One volume group out of the three reports, and the value of `activation/raid_fault_policy`.
///
/// # Errors
/// When a report is not what LVM prints, or has not exactly one group.
pub fn volume_group(vgs: &str, pvs: &str, lvs: &str, policy: &str) -> Result<VolumeGroup, Error> {
    let groups: Vec<Group> = rows::<Groups>("vgs", vgs)?
        .into_iter()
        .flat_map(|rows| rows.vg)
        .collect();
    let [group] = groups.as_slice() else {
        return Err(bad("vgs", vgs, "one volume group"));
    };
    let extent_bytes = bytes("vgs", "vg_extent_size", &group.vg_extent_size)?;
    if extent_bytes == 0 {
        return Err(bad("vgs", &group.vg_extent_size, "an extent size above 0"));
    }
    let physical = rows::<Physicals>("pvs", pvs)?
        .into_iter()
        .flat_map(|rows| rows.pv)
        .map(physical)
        .collect::<Result<_, _>>()?;
    Ok(VolumeGroup {
        name: group.vg_name.clone(),
        extent_bytes,
        physical,
        logical: logical(
            rows::<Logicals>("lvs", lvs)?
                .into_iter()
                .flat_map(|rows| rows.lv),
        )?,
        fault_policy: fault_policy(policy)?,
    })
}

fn rows<T: DeserializeOwned>(source: &str, text: &str) -> Result<Vec<T>, Error> {
    serde_json::from_str::<Report<T>>(text)
        .map(|report| report.report)
        .map_err(|error| bad(source, text, &format!("a report of LVM ({error})")))
}

fn bytes(source: &str, field: &str, text: &str) -> Result<u64, Error> {
    text.trim()
        .parse()
        .map_err(|_| bad(source, text, &format!("bytes in {field}")))
}

fn physical(row: Physical) -> Result<PhysicalVolume, Error> {
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let there = row.pv_name != UNKNOWN;
    let dev = number(&row.pv_major)
        .zip(number(&row.pv_minor))
        .filter(|_| there)
        .map(|(major, minor)| DevNo { major, minor });
    Ok(PhysicalVolume {
        uuid: row.pv_uuid,
        dev,
        size_bytes: bytes("pvs", "pv_size", &row.pv_size)?,
        free_bytes: bytes("pvs", "pv_free", &row.pv_free)?,
        missing: !there || !row.pv_missing.is_empty(),
        allocatable: !row.pv_allocatable.is_empty(),
        node: row.pv_name,
    })
}

/// A volume has a row for each segment; they are put together.
fn logical(rows: impl Iterator<Item = Logical>) -> Result<Vec<LogicalVolume>, Error> {
    let mut found: Vec<LogicalVolume> = Vec::new();
    for row in rows {
        let name = row.lv_name.trim_matches(['[', ']']).to_owned();
        let nodes = row
            .devices
            .split(',')
            .filter(|node| !node.is_empty())
            .map(without_extent);
        let monitored = row.seg_monitor == "monitored";
        if let Some(known) = found.iter_mut().find(|known| known.name == name) {
            known.nodes.extend(nodes);
            known.monitored |= monitored;
            continue;
        }
        let parent = row.lv_parent.trim_matches(['[', ']']);
        found.push(LogicalVolume {
            nodes: nodes.collect(),
            parent: (!parent.is_empty()).then(|| parent.to_owned()),
            size_bytes: bytes("lvs", "lv_size", &row.lv_size)?,
            health: row.lv_health_status,
            monitored,
            name,
        });
    }
    Ok(found)
}

/// `/dev/sda(25)`: the node without the extent on it.
fn without_extent(text: &str) -> String {
    let end = text.rfind('(').unwrap_or(text.len());
    text.get(..end).unwrap_or(text).to_owned()
}

/// `raid_fault_policy="warn"`, as `lvmconfig` prints it.
fn fault_policy(text: &str) -> Result<String, Error> {
    text.trim()
        .strip_prefix("raid_fault_policy=")
        .map(|value| value.trim_matches('"').to_owned())
        .ok_or_else(|| bad("lvmconfig", text, "`raid_fault_policy=...`"))
}
