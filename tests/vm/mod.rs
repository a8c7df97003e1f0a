//! lund on real kernels: the real service under systemd, real md arrays on loop devices, in a
//! QEMU machine that starts from a booted snapshot. `scripts/test` runs these; the kernel is the
//! one that `LUND_VM_KERNEL` names.

mod auto;
mod cancel;
mod dm;
mod dm_recover;
mod dm_trouble;
mod errors;
mod groups;
mod hints;
pub(crate) mod lab;
mod ledger;
mod lvm;
mod manners;
mod native;
mod package;
mod pool;
mod program;
mod recover;
mod resume;
mod rights;
mod sampled;
mod service;
mod spares;
mod truth;
