//! The port: everything that lund asks of the kernel, and nothing else. The same decisions run
//! over [`linux`], the real adapter, and over the simulated kernel of `lun-sim`.
//!
//! Every call is blocking, is one kernel action or one reading, and decides nothing.

pub mod md_spare;
pub mod parse;
pub mod raid_set;

#[cfg(feature = "linux")]
pub mod linux;

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use lun_core::Error;
use lun_core::action::Action;
use lun_core::facts::{ArrayFacts, Inventory, MdstatFacts};
use lun_core::id::DevNo;

/// What a scan should look at beyond the ordinary.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScanRequest {
    /// Devices to probe for signatures, exclusive use and md superblocks (costly: it opens them).
    pub probe: BTreeSet<DevNo>,
    /// Arrays whose event count is wanted (reads a member's superblock).
    pub events_of: BTreeSet<String>,
    /// Volume groups that LVM is asked about (costly: it runs its tools).
    pub groups: BTreeSet<String>,
}

/// The kernel as lund sees it.
///
/// Implementations may block for as long as the kernel does (a write of `frozen` can block for
/// ever while a member hangs, `drivers/md/md.c:stop_sync_thread`); callers run them off the event
/// loop and give up waiting, never the call.
pub trait Kernel: Send + Sync {
    /// Reads every array and every candidate device.
    ///
    /// # Errors
    /// Only when nothing at all can be read; a single unreadable fact is
    /// [`Fact::Unknown`](lun_core::facts::Fact) instead.
    fn scan(&self, request: &ScanRequest) -> Result<Inventory, Error>;

    /// Reads one array. [`None`]: it is not there.
    ///
    /// # Errors
    /// As [`Kernel::scan`].
    fn read_array(&self, name: &str) -> Result<Option<ArrayFacts>, Error>;

    /// Reads `/proc/mdstat` alone, the cheap and live source of progress: array name and entry.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    fn read_progress(&self) -> Result<Vec<(String, MdstatFacts)>, Error>;

    /// Performs one action, after checking that every drive it names still has the identity that
    /// the plan saw.
    ///
    /// # Errors
    /// [`Error::Kernel`] with action, object and errno; [`Error::Tool`] with the tool's own words.
    fn act(&self, action: &Action) -> Result<(), Error>;
}

/// Something may have changed. Hints carry no truth: the driver reads the facts again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// This array may have changed.
    Array(String),
    /// Arrays may have come or gone, or any of them changed.
    Arrays,
    /// Block devices may have come, gone or changed.
    Devices,
    /// Events were lost: rescan everything.
    Overflow,
}

/// Where hints come from. Waiting costs nothing while nothing happens.
pub trait Watch {
    /// Waits for the next hint. Cancel safe.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Hint> + '_>>;

    /// Tells which arrays exist, so that their attributes and members are watched and those of
    /// vanished ones are let go (a kept file of a vanished array reports for ever).
    fn follow(&mut self, inventory: &Inventory);
}
