//! Builders of machines, and some machines by name.

use lun_core::facts::{IdentityKind, Level, Metadata, Slot};
use lun_core::id::{DevNo, DriveId, NAMESPACE};
use uuid::Uuid;

use crate::world::{Array, Device, KernelStyle, Member, Mode, SECTOR, World};

/// Builds a [`World`]. Methods that change an array or a drive change the one named last.
#[derive(Debug, Clone)]
pub struct Scenario {
    world: World,
    disk: Option<DevNo>,
    array: Option<String>,
    wrong: Vec<String>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self::new()
    }
}

impl Scenario {
    /// A machine without drives.
    #[must_use]
    pub fn new() -> Self {
        Self {
            world: World::new(),
            disk: None,
            array: None,
            wrong: Vec::new(),
        }
    }

    /// More drives and arrays for a machine that has some.
    #[must_use]
    pub(crate) fn over(world: World) -> Self {
        Self {
            world,
            ..Self::new()
        }
    }

    /// Whose habits the kernel has.
    #[must_use]
    pub fn style(mut self, style: KernelStyle) -> Self {
        self.world.style = style;
        self
    }

    /// A blank disk of so many bytes.
    #[must_use]
    pub fn disk(self, name: &str, size_bytes: u64) -> Self {
        self.part(name, name, size_bytes)
    }

    /// Several blank disks of the same size.
    #[must_use]
    pub fn disks(mut self, names: &[&str], size_bytes: u64) -> Self {
        for name in names {
            self = self.disk(name, size_bytes);
        }
        self
    }

    /// A partition on a whole disk, which itself need not be declared.
    #[must_use]
    pub fn part(mut self, name: &str, whole_disk: &str, size_bytes: u64) -> Self {
        let minor = u32::try_from(self.world.devices.len()).unwrap_or(u32::MAX / 16) * 16;
        let dev = DevNo { major: 8, minor };
        let serial = format!("SIM-{name}");
        let device = Device {
            dev,
            name: name.to_owned(),
            id: DriveId::derive("serial", &serial),
            id_kind: IdentityKind::Serial,
            serial,
            size_bytes,
            block_bytes: 512,
            rotational: false,
            transport: "ata".to_owned(),
            controller: None,
            whole_disk: whole_disk.to_owned(),
            read_only: false,
            used_by: Vec::new(),
            holders: std::collections::BTreeSet::new(),
            opened: false,
            signatures: std::collections::BTreeSet::new(),
            superblock: None,
            lit: false,
            present: true,
            hung: false,
            dead: false,
            precious: false,
            fails_at: None,
            unreadable: 0,
            content: None,
            missed_sectors: 0,
            under: None,
        };
        self.world.devices.insert(dev, device);
        self.disk = Some(dev);
        self
    }

    /// Changes the drive named last.
    #[must_use]
    pub fn drive(mut self, change: impl FnOnce(&mut Device)) -> Self {
        match self.disk.and_then(|dev| self.world.devices.get_mut(&dev)) {
            Some(device) => change(device),
            None => self.wrong.push("no disk to change yet".to_owned()),
        }
        self
    }

    /// The drive named last bears a signature, and nobody allowed it to be overwritten.
    #[must_use]
    pub fn precious(self, signature: &str) -> Self {
        let signature = signature.to_owned();
        self.drive(|device| {
            device.precious = true;
            device.signatures.insert(signature);
        })
    }

    /// A clean array, all members in sync. Its size is that of the smallest member.
    #[must_use]
    pub fn array(mut self, name: &str, level: Level, members: &[&str]) -> Self {
        let uuid = Uuid::new_v5(&NAMESPACE, format!("sim-array:{name}").as_bytes());
        let mut bound = Vec::new();
        let mut component = u64::MAX;
        for (slot, member) in (0_u32..).zip(members) {
            let Some(device) = self.world.device_mut(member) else {
                self.wrong.push(format!("{name}: no disk {member}"));
                continue;
            };
            device.content = Some((uuid, 0));
            component = component.min(device.usable_sectors());
            bound.push(Member {
                slot: Slot::At(slot),
                in_sync: true,
                recovery_offset: None,
                ..Member::spare(device.dev, device.name.clone())
            });
        }
        let minor = u32::try_from(self.world.arrays.len()).unwrap_or(u32::MAX);
        let array = Array {
            name: name.to_owned(),
            dev: DevNo { major: 9, minor },
            uuid,
            md_names: Vec::new(),
            layout: default_layout(&level),
            raid_disks: u32::try_from(members.len()).unwrap_or(u32::MAX),
            chunk_bytes: if level == Level::Raid1 { 0 } else { 512 << 10 },
            level,
            // Whole chunks, as md does.
            component: component / 1024 * 1024,
            block_bytes: 512,
            metadata: Metadata::V1(2),
            mode: Mode::Running,
            broken: false,
            stuck: false,
            bitmap: false,
            clustered: false,
            reshaping: false,
            events: 10,
            resync_start: None,
            really_dirty: false,
            members: bound,
            frozen: false,
            needed: true,
            requested: None,
            sync_min: 0,
            sync_max: None,
            speed_min: None,
            speed_max: None,
            last_action: None,
            sync: None,
            mismatch_real: 0,
            mismatch_shown: 0,
            generation: 0,
            degraded_lie: None,
            dm: None,
        };
        self.world.arrays.insert(name.to_owned(), array);
        self.world.bump(name);
        self.array = Some(name.to_owned());
        self
    }

    /// Changes the array named last.
    #[must_use]
    pub fn md(mut self, change: impl FnOnce(&mut Array)) -> Self {
        match self
            .array
            .as_ref()
            .and_then(|name| self.world.arrays.get_mut(name))
        {
            Some(array) => change(array),
            None => self.wrong.push("no array to change yet".to_owned()),
        }
        self
    }

    /// The array has a write-intent bitmap, or none.
    #[must_use]
    pub fn bitmap(self, bitmap: bool) -> Self {
        self.md(|array| array.bitmap = bitmap)
    }

    /// The array has a name under `/dev/md/`.
    #[must_use]
    pub fn md_name(self, name: &str) -> Self {
        let name = name.to_owned();
        self.md(|array| array.md_names.push(name))
    }

    /// The copies are out of step.
    #[must_use]
    pub fn dirty(self) -> Self {
        self.md(|array| {
            array.resync_start = Some(0);
            array.really_dirty = true;
            array.mismatch_real = 128;
        })
    }

    /// Recovery of the array is frozen.
    #[must_use]
    pub fn frozen(self) -> Self {
        self.md(|array| array.frozen = true)
    }

    /// How the array runs.
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        self.md(|array| array.mode = mode)
    }

    /// An idle spare is attached to the array.
    #[must_use]
    pub fn spare(mut self, device: &str) -> Self {
        match (self.array.clone(), self.world.dev(device)) {
            (Some(name), Some(dev)) => {
                let member = Member::spare(dev, device.to_owned());
                if let Some(array) = self.world.arrays.get_mut(&name) {
                    array.members.push(member);
                }
                self.world.bump(&name);
            }
            _ => self.wrong.push(format!("no array, or no disk {device}")),
        }
        self
    }

    /// A member has failed; it is listed as faulty.
    #[must_use]
    pub fn failed(mut self, device: &str) -> Self {
        if self.world.dev(device).is_none() {
            self.wrong.push(format!("no disk {device}"));
        }
        self.world.fail_device(device);
        self
    }

    /// A member has failed, was removed, and its drive erased and unplugged.
    #[must_use]
    pub fn lost(mut self, device: &str) -> Self {
        if self.world.dev(device).is_none() {
            self.wrong.push(format!("no disk {device}"));
        }
        self.world.vanish(device);
        if let Some(device) = self.world.device_mut(device) {
            device.superblock = None;
            device.content = None;
        }
        self
    }

    /// Changes the machine at will.
    #[must_use]
    pub fn world(mut self, change: impl FnOnce(&mut World)) -> Self {
        change(&mut self.world);
        self
    }

    /// Changes the machine, or says what does not fit together.
    pub(crate) fn try_world(
        mut self,
        change: impl FnOnce(&mut World) -> Result<(), String>,
    ) -> Self {
        if let Err(why) = change(&mut self.world) {
            self.wrong.push(why);
        }
        self
    }

    /// The machine.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn build(mut self) -> Result<World, String> {
        if !self.wrong.is_empty() {
            return Err(self.wrong.join("; "));
        }
        self.world.settle();
        self.world.hints.clear();
        Ok(self.world)
    }
}

/// The layout word that `mdadm --create` chooses.
const fn default_layout(level: &Level) -> u32 {
    match level {
        Level::Raid10 => 0x102,
        Level::Raid5 | Level::Raid6 => 2,
        _ => 0,
    }
}

/// Names that [`by_name`] knows, each with what it is.
pub const NAMES: &[(&str, &str)] = &[
    ("empty", "two blank disks, no array"),
    ("mirror", "a healthy mirror md0 and a blank disk sdc"),
    (
        "mirror-degraded",
        "a mirror md0 that lost sdb, and a blank disk sdc",
    ),
    (
        "mirror-spare-frozen",
        "a degraded mirror md0 with an attached spare, frozen",
    ),
    ("mirror-dirty", "a mirror md0 out of step, auto-read-only"),
    (
        "mirror-failing",
        "a mirror md0 with bitmap whose sdb had a write error, a blank disk sdc",
    ),
    (
        "raid5-degraded-with-pool",
        "a parity array md0 that lost sdc, blank disks sdd and sde",
    ),
    (
        "raid5-failed",
        "a parity array md0 that lost two members, a blank disk sdd",
    ),
    (
        "raid6-two-missing",
        "a RAID 6 md0 that lost two members, blank disks sde and sdf",
    ),
    ("raid10", "a healthy RAID 10 md0 and a blank disk sde"),
    ("raid0", "a stripe md0"),
    ("zoo", "many arrays in many states"),
];

/// The machine of this name (see [`NAMES`]).
///
/// # Errors
/// When there is none.
pub fn by_name(name: &str) -> Result<World, String> {
    const SIZE: u64 = 64 << 20;
    let new = |names: &[&str]| Scenario::new().disks(names, SIZE);
    let mirror = |rest: &[&str]| new(&["sda", "sdb"]).disks(rest, SIZE);
    let pair = ["sda", "sdb"];
    match name {
        "empty" => mirror(&[]),
        "mirror" => mirror(&["sdc"]).array("md0", Level::Raid1, &pair),
        "mirror-degraded" => mirror(&["sdc"])
            .array("md0", Level::Raid1, &pair)
            .md_name("home")
            .lost("sdb"),
        "mirror-spare-frozen" => mirror(&["sdc"])
            .array("md0", Level::Raid1, &pair)
            .frozen()
            .lost("sdb")
            .spare("sdc"),
        "mirror-dirty" => mirror(&[])
            .array("md0", Level::Raid1, &pair)
            .mode(Mode::ReadAuto)
            .dirty(),
        "mirror-failing" => mirror(&["sdc"])
            .array("md0", Level::Raid1, &pair)
            .bitmap(true)
            .world(|w| w.write_error("sdb")),
        "raid5-degraded-with-pool" => new(&["sda", "sdb", "sdc", "sdd", "sde"])
            .array("md0", Level::Raid5, &["sda", "sdb", "sdc"])
            .lost("sdc"),
        "raid5-failed" => new(&["sda", "sdb", "sdc", "sdd"])
            .array("md0", Level::Raid5, &["sda", "sdb", "sdc"])
            .failed("sdb")
            .failed("sdc"),
        "raid6-two-missing" => new(&["sda", "sdb", "sdc", "sdd", "sde", "sdf"])
            .array("md0", Level::Raid6, &["sda", "sdb", "sdc", "sdd"])
            .lost("sdb")
            .lost("sdd"),
        "raid10" => new(&["sda", "sdb", "sdc", "sdd", "sde"]).array(
            "md0",
            Level::Raid10,
            &["sda", "sdb", "sdc", "sdd"],
        ),
        "raid0" => mirror(&[]).array("md0", Level::Raid0, &pair),
        "zoo" => zoo(SIZE),
        _ => {
            let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "no scenario is called {name:?}; known: {}",
                known.join(", ")
            ));
        }
    }
    .build()
}

/// One array of most kinds, and blank disks.
fn zoo(size: u64) -> Scenario {
    Scenario::new()
        .disks(
            &[
                "sda", "sdb", "sdc", "sdd", "sde", "sdf", "sdg", "sdh", "sdi", "sdj",
            ],
            size,
        )
        .disks(
            &[
                "sdk", "sdl", "sdm", "sdn", "sdo", "sdp", "sdq", "sdr", "sdx",
            ],
            size,
        )
        .disk("sdy", size / 4)
        .disk("sdz", size)
        .precious("ext4")
        .array("md0", Level::Raid1, &["sda", "sdb"])
        .lost("sdb")
        .array("md1", Level::Raid5, &["sdc", "sdd", "sde"])
        .array("md2", Level::Raid0, &["sdf", "sdg"])
        .array("md3", Level::Raid5, &["sdh", "sdi", "sdj"])
        .failed("sdi")
        .failed("sdj")
        .array("md4", Level::Raid1, &["sdk", "sdl"])
        .mode(Mode::Readonly)
        .array("md5", Level::Raid1, &["sdm", "sdn"])
        .mode(Mode::Inactive)
        .array("md6", Level::Raid10, &["sdo", "sdp", "sdq", "sdr"])
}

/// Sectors of a component of this array; for tests.
#[must_use]
pub fn component_bytes(world: &World, array: &str) -> u64 {
    world.array(array).map_or(0, |a| a.component * SECTOR)
}
