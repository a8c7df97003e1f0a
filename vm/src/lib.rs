//! Throw-away QEMU machines for tests that need a real kernel and a real systemd.
//!
//! A machine starts from a booted snapshot in about half a second, runs scripts as root, and leaves
//! nothing behind. `docs/vm.md` tells how, and what it costs.
//!
//! ```no_run
//! # fn main() -> lun_vm::Result<()> {
//! use lun_vm::{Options, Vm};
//! let vm = Vm::start(&Options::from_env("degraded-mirror")?)?;
//! vm.sh("truncate -s 64M /srv/mem/a /srv/mem/b; losetup /dev/loop0 /srv/mem/a")?;
//! let writer = vm.spawn("while :; do dd if=/dev/zero of=/dev/loop0 bs=64k count=16; done")?;
//! assert_eq!(vm.run("grep -q raid1 /proc/mdstat")?.status, 1);
//! writer.kill()?;
//! # Ok(()) }
//! ```
//!
//! # However a test ends
//! Each QEMU has a supervisor, a small bash that waits on a pipe only the test process holds. When
//! that process ends in whatever way, the pipe closes and the supervisor kills QEMU and removes its
//! folder. (A parent-death signal alone would be bound to the thread that started QEMU, and test
//! threads come and go.) Should the supervisor be killed, QEMU dies by such a signal.

mod accel;
mod channel;
mod disk;
mod disks;
mod error;
mod evidence;
mod image;
mod machine;
mod protocol;
mod qmp;
mod snapshot;
mod vm;

pub use accel::Accel;
pub use channel::{Output, Running};
pub use disk::{Loss, Survival};
pub use error::{Error, Result};
pub use image::{Image, Kernel, failures_dir, vm_dir};
pub use vm::{Options, RUN_DEADLINE, Vm};
