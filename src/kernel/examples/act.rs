//! Performs one action on the real kernel, as the daemon would.
//!
//!     act add-spare ARRAY DRIVE      kernel names: md0 loop3

use std::error::Error;

use lun_core::action::{Action, Target};
use lun_kernel::linux::Linux;
use lun_kernel::{Kernel, ScanRequest};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [verb, array, drive] = args.as_slice() else {
        return Err("usage: act add-spare ARRAY DRIVE".into());
    };
    if verb != "add-spare" {
        return Err(format!("no such action: {verb}").into());
    }
    let kernel = Linux::system();
    let inventory = kernel.scan(&ScanRequest::default())?;
    let facts = inventory
        .devices
        .values()
        .find(|facts| facts.name == *drive)
        .ok_or("no such drive")?;
    kernel.act(&Action::AddSpare {
        array: array.clone(),
        drive: Target {
            dev: facts.dev,
            name: facts.name.clone(),
            id: facts.id,
        },
    })?;
    Ok(())
}
