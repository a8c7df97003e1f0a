//! Deep looks at a device: exclusive use, signatures, md superblock.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use lun_core::Error;
use lun_core::facts::{Fact, ProbeFacts, SuperblockFacts};
use lun_core::id::DevNo;

use super::exclusive::{TO_LOOK, when_free};
use super::read::{failed, to_fact};
use super::tool::{MDADM, Tools, WIPEFS};
use super::{Roots, device, direct, superblock};
use crate::{md_spare, parse};

/// How the superblock of a raid set of device-mapper is called here.
const RAID_SET: &str = "dm_raid_member";

/// Looks at the device behind a number.
pub(crate) fn probe(roots: &Roots, tools: &Tools, dev: DevNo) -> ProbeFacts {
    let Some((name, _)) = device::identity_of(roots, dev) else {
        let gone = format!("there is no device {dev}");
        return ProbeFacts {
            signatures: Fact::Unknown(gone.clone()),
            exclusive: Fact::Unknown(gone.clone()),
            md: Fact::Unknown(gone),
        };
    };
    let node = device::node(roots, &name);
    // First: a tool that hangs on the device keeps others from opening it, also when it was killed.
    let exclusive = to_fact(is_free(&node, TO_LOOK));
    let signatures = to_fact(signatures(tools, &node));
    // wipefs knows every format that mdadm knows, and finds the last place of each.
    let blank = signatures.is_known_and(Vec::is_empty) && !bears_superblock(roots, dev, &node);
    ProbeFacts {
        exclusive,
        md: match blank {
            true => Fact::Known(None),
            false => to_fact(md_superblock(tools, &node)),
        },
        signatures,
    }
}

/// Whether something that looks like a superblock of md lies where one may; also when that cannot be read.
fn bears_superblock(roots: &Roots, dev: DevNo, node: &Path) -> bool {
    let looks = || -> Result<bool, Error> {
        let unread = |error: io::Error| failed("read", node, &error);
        let drive = direct::open(node).map_err(unread)?;
        for at in md_spare::places(device::sectors(roots, dev)?) {
            if md_spare::bears_superblock(&direct::block(&drive, at).map_err(unread)?) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    looks().unwrap_or(true)
}

/// Whether an exclusive open succeeds, that is, nobody has mounted it, swaps on it, or has put a
/// device on top of it or of its partitions. Opening for reading only makes udev look at nothing.
pub(crate) fn is_free(node: &Path, patience: Duration) -> Result<bool, Error> {
    let flags = libc::O_EXCL | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let open = || OpenOptions::new().read(true).custom_flags(flags).open(node);
    match when_free(patience, open) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(false),
        Err(error) => Err(failed("open exclusively", node, &error)),
    }
}

/// Signatures on a device, by name. wipefs knows none of raid sets: a leg of one that does not exist just now
/// would pass for blank.
pub(crate) fn signatures(tools: &Tools, node: &Path) -> Result<Vec<String>, Error> {
    let output = tools.run(WIPEFS, &["--json", "--no-act", &node.to_string_lossy()])?;
    let mut found = parse::signatures(&output.stdout)?;
    if superblock::is_borne(node)? {
        found.push(RAID_SET.to_owned());
    }
    Ok(found)
}

/// The md superblock on a device. mdadm exits with 1 when there is none, and also when it cannot
/// read the device, so its words decide.
pub(crate) fn md_superblock(tools: &Tools, node: &Path) -> Result<Option<SuperblockFacts>, Error> {
    let node = node.to_string_lossy();
    let args = ["--examine", node.as_ref()];
    let output = tools.run_any(MDADM, &args)?;
    if output.status.success() {
        return parse::examine(&output.stdout);
    }
    if output.stderr.contains("No md superblock detected") {
        return Ok(None);
    }
    Err(Error::Tool {
        program: MDADM.to_owned(),
        args: args.map(str::to_owned).to_vec(),
        status: output.status.to_string(),
        stderr: output.stderr.trim().to_owned(),
    })
}
