//! The daemon as programs on the bus meet it.

mod cancel;
mod errors;
mod junk;
mod manners;
mod objects;
mod recover;
mod rights;
