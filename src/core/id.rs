//! Identities. None of them depends on a name that the kernel may give to another object
//! tomorrow.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name space of all version 5 identifiers that lund derives; fixed for ever.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x6f72_672e_6c75_6e64_2e56_6473_310a_0001);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(
    /// Identifies a LUN: the md array's own UUID, version 5 of the UUID that device-mapper has, or
    /// version 5 of its name where the array has none.
    LunId
);
uuid_id!(
    /// Identifies a drive: version 5 of what is most lasting about it (see [`DriveId::derive`]).
    DriveId
);

impl LunId {
    /// Derives the identity of an array without a UUID of its own (metadata `none`).
    #[must_use]
    pub fn weak(kernel_name: &str) -> Self {
        Self(Uuid::new_v5(
            &NAMESPACE,
            format!("md-name:{kernel_name}").as_bytes(),
        ))
    }

    /// Derives the identity of a device-mapper array from its UUID in device-mapper.
    #[must_use]
    pub fn of_dm(dm_uuid: &str) -> Self {
        Self(Uuid::new_v5(
            &NAMESPACE,
            format!("dm-uuid:{dm_uuid}").as_bytes(),
        ))
    }
}

impl DriveId {
    /// Derives a drive's identity from `kind` (`wwn`, `serial`, `path`, `backing`, `devno`) and
    /// the value that the machine reports under it.
    #[must_use]
    pub fn derive(kind: &str, value: &str) -> Self {
        Self(Uuid::new_v5(
            &NAMESPACE,
            format!("drive-{kind}:{value}").as_bytes(),
        ))
    }
}

/// Number of an operation; never used twice on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpId(pub u64);

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A block device's number in the running kernel. Good only while the device stays plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DevNo {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for DevNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Monotonic milliseconds since some fixed moment; only differences mean anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mono(pub u64);

impl Mono {
    /// The moment `ms` milliseconds later.
    #[must_use]
    pub const fn after(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here, 0 when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Wall-clock milliseconds since 1970-01-01 UTC; for people and records, never for decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Wall(pub u64);

/// Both clocks at one moment, as the driver read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// For decisions.
    pub mono: Mono,
    /// For records.
    pub wall: Wall,
}
