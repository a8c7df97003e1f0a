//! The machine on the simulated kernel, with a virtual clock: the whole of lund's decisions
//! without its daemon.

mod auto;
mod campaign;
mod cancel;
mod found;
mod found_sets;
mod freezes;
mod groups;
mod hints;
mod laid_legs;
mod lives;
mod pool;
mod resume;
mod rig;
