//! Prints what the real adapter sees, as JSON, or (`scan watch`) the hints as they come.
//!
//!     scan [DEVICE...]    the inventory; the named devices (`loop3`) are probed too
//!     scan watch          one line for each hint, with milliseconds since the start

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

use lun_core::facts::{ArrayFacts, DmOwner, Inventory};
use lun_kernel::linux::{Linux, LinuxWatch};
use lun_kernel::{Kernel, ScanRequest, Watch};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "watch") {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        return runtime.block_on(watch());
    }
    let kernel = Linux::system();
    let inventory = kernel.scan(&ScanRequest::default())?;
    let probe = inventory
        .devices
        .values()
        .filter(|facts| args.contains(&facts.name))
        .map(|facts| facts.dev)
        .collect();
    let events_of = inventory.arrays.keys().cloned().collect();
    let groups = inventory.arrays.values().filter_map(volume_group).collect();
    print(&kernel.scan(&ScanRequest {
        probe,
        events_of,
        groups,
    })?)
}

/// The volume group that a raid set of LVM lies in.
fn volume_group(array: &ArrayFacts) -> Option<String> {
    match &array.dm()?.owner {
        DmOwner::Lvm { vg, .. } => Some(vg.clone()),
        DmOwner::Bare => None,
    }
}

/// JSON wants text for keys, where the inventory has device numbers.
fn print(inventory: &Inventory) -> Result<(), Box<dyn Error>> {
    let devices: BTreeMap<String, _> = inventory
        .devices
        .iter()
        .map(|(dev, facts)| (dev.to_string(), facts))
        .collect();
    let probes: BTreeMap<String, _> = inventory
        .probes
        .iter()
        .map(|(dev, facts)| (dev.to_string(), facts))
        .collect();
    let document = serde_json::json!({
        "md_loaded": inventory.md_loaded,
        "arrays": inventory.arrays,
        "devices": devices,
        "probes": probes,
    });
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

async fn watch() -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let kernel = Linux::system();
    let mut watch = LinuxWatch::new()?;
    loop {
        watch.follow(&kernel.scan(&ScanRequest::default())?);
        let hint = watch.next().await;
        println!(
            "{:>8} ms  {hint:?}  (wakes {})",
            start.elapsed().as_millis(),
            watch.wakes()
        );
    }
}
