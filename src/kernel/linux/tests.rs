//! The adapter over folders that look like the kernel's trees. No root is needed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use lun_core::Error;
use lun_core::action::{Action, SyncWord, Target};
use lun_core::error::Unfit;
use lun_core::facts::{
    ArrayState, Fact, IdentityKind, Level, MdstatProgress, Position, Slot, SyncAction,
};
use lun_core::id::{DevNo, DriveId};
use tempfile::TempDir;

mod guards;

use super::{Linux, Roots};
use crate::{Kernel, ScanRequest};

/// A machine in a folder.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        for name in [
            "sys/block",
            "sys/class/block",
            "sys/dev/block",
            "proc/self",
            "dev",
            "run",
        ] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let machine = Self { folder };
        machine.put("proc/self/mountinfo", "");
        machine.put("proc/swaps", "Filename Type Size Used Priority\n");
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn get(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A whole disk at `place` below `sys/devices`.
    fn disk(&self, place: &str, number: &str) {
        let name = Path::new(place)
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let at = format!("sys/devices/{place}");
        self.put(&format!("{at}/dev"), &format!("{number}\n"));
        self.put(&format!("{at}/size"), "131072\n");
        self.put(&format!("{at}/ro"), "0\n");
        self.put(&format!("{at}/queue/logical_block_size"), "512\n");
        self.put(&format!("{at}/queue/rotational"), "1\n");
        fs::create_dir_all(self.path(&format!("{at}/holders"))).unwrap();
        self.put(&format!("dev/{name}"), "");
        symlink(self.path(&at), self.path(&format!("sys/block/{name}"))).unwrap();
        self.link(&at, &name, number);
    }

    fn partition(&self, place: &str, number: &str, index: &str) {
        let name = Path::new(place)
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        let at = format!("sys/devices/{place}");
        self.put(&format!("{at}/dev"), number);
        self.put(&format!("{at}/size"), "65536\n");
        self.put(&format!("{at}/partition"), index);
        fs::create_dir_all(self.path(&format!("{at}/holders"))).unwrap();
        self.put(&format!("dev/{name}"), "");
        self.link(&at, &name, number);
    }

    fn link(&self, at: &str, name: &str, number: &str) {
        symlink(self.path(at), self.path(&format!("sys/class/block/{name}"))).unwrap();
        symlink(self.path(at), self.path(&format!("sys/dev/block/{number}"))).unwrap();
    }

    fn loop_disk(&self, index: u32, file: &str) {
        let place = format!("virtual/block/loop{index}");
        self.disk(&place, &format!("7:{index}"));
        self.put(
            &format!("sys/devices/{place}/loop/backing_file"),
            &format!("{file}\n"),
        );
        self.put(&format!("sys/devices/{place}/loop/offset"), "0\n");
    }

    /// A raid1 of loop0 (in sync) and loop1 (spare, no slot).
    fn mirror(&self, bitmap: bool) {
        self.loop_disk(0, "/var/d0");
        self.loop_disk(1, "/var/d1");
        self.disk("virtual/block/md0", "9:0");
        let md = "sys/devices/virtual/block/md0/md";
        let policy = if bitmap { "bitmap\n" } else { "resync\n" };
        let location = if bitmap { "+8\n" } else { "none\n" };
        for (name, text) in [
            ("uuid", "6bcb7af1-3a1a-b9d0-4c9b-7c1e0d2f9a11\n"),
            ("level", "raid1\n"),
            ("layout", "0\n"),
            ("raid_disks", "2\n"),
            ("chunk_size", "0\n"),
            ("component_size", "64512\n"),
            ("metadata_version", "1.2\n"),
            ("array_state", "clean\n"),
            ("sync_action", "idle\n"),
            ("sync_completed", "none\n"),
            ("degraded", "1\n"),
            ("mismatch_cnt", "0\n"),
            ("resync_start", "none\n"),
            ("reshape_position", "none\n"),
            ("consistency_policy", policy),
            ("bitmap/location", location),
        ] {
            self.put(&format!("{md}/{name}"), text);
        }
        self.member("md0", 0, "in_sync\n", "0\n");
        self.member("md0", 1, "spare\n", "none\n");
        fs::create_dir_all(self.path("dev/md")).unwrap();
        symlink("../md0", self.path("dev/md/data")).unwrap();
        self.put("proc/mdstat", "Personalities : [raid1]\nmd0 : active raid1 loop1[2](S) loop0[0]\n      64512 blocks super 1.2 [2/1] [U_]\n\nunused devices: <none>\n");
    }

    fn member(&self, array: &str, index: u32, state: &str, slot: &str) {
        let at = format!("sys/devices/virtual/block/{array}/md/dev-loop{index}");
        for (name, text) in [
            ("state", state),
            ("slot", slot),
            ("recovery_start", "none\n"),
            ("errors", "0\n"),
            ("bad_blocks", ""),
            ("size", "64512\n"),
        ] {
            self.put(&format!("{at}/{name}"), text);
        }
        let to = self.path(&format!("sys/devices/virtual/block/loop{index}"));
        symlink(to, self.path(&format!("{at}/block"))).unwrap();
    }

    fn linux(&self) -> Linux {
        Linux::with_roots(Roots::under(self.folder.path())).with_tools_in(vec![self.path("tools")])
    }

    /// A tool that writes down its arguments and then runs `script`.
    fn tool(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let log = self.path("log");
        let text = format!(
            "#!/bin/sh\necho {name} \"$@\" >> {}\n{script}\n",
            log.display()
        );
        self.put(&format!("tools/{name}"), &text);
        let path = self.path(&format!("tools/{name}"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn target(&self, name: &str) -> Target {
        let inventory = self.linux().scan(&ScanRequest::default()).unwrap();
        let facts = inventory
            .devices
            .into_values()
            .find(|facts| facts.name == name)
            .unwrap();
        Target {
            dev: facts.dev,
            name: facts.name,
            id: facts.id,
        }
    }

    fn act(&self, action: &Action) -> Result<(), Error> {
        self.linux().act(action)
    }
}

#[test]
fn an_array_is_read_whole() {
    let machine = Machine::new();
    machine.mirror(true);
    let inventory = machine.linux().scan(&ScanRequest::default()).unwrap();
    assert!(inventory.md_loaded);
    let array = &inventory.arrays["md0"];
    assert_eq!(array.dev, DevNo { major: 9, minor: 0 });
    assert_eq!(array.md_names, ["data"]);
    assert_eq!(array.level, Fact::Known(Level::Raid1));
    assert_eq!(array.component_bytes, Fact::Known(64512 * 1024));
    assert_eq!(array.size_bytes, Fact::Known(131_072 * 512));
    assert_eq!(array.state, Fact::Known(ArrayState::Clean));
    assert_eq!(array.bitmap, Fact::Known(true));
    assert_eq!(
        array.sync.as_ref().unwrap().action,
        Fact::Known(SyncAction::Idle)
    );
    assert_eq!(
        array.mdstat.as_ref().unwrap().progress,
        MdstatProgress::None
    );
    assert!(matches!(&array.uuid, Fact::Known(Some(_))));
    let [good, spare] = array.members.as_slice() else {
        panic!("two members")
    };
    assert_eq!(
        (good.name.as_str(), &good.slot),
        ("loop0", &Fact::Known(Slot::At(0)))
    );
    assert_eq!(spare.dev, Fact::Known(DevNo { major: 7, minor: 1 }));
    assert_eq!(spare.recovery_start, Fact::Known(Position::Done));
    assert_eq!(
        machine.linux().read_array("md0").unwrap().as_ref(),
        Some(array)
    );
    assert_eq!(machine.linux().read_array("md1").unwrap(), None);
    assert_eq!(machine.linux().read_array("../block/md0").unwrap(), None);
    assert_eq!(machine.linux().read_progress().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_read_is_unknown_and_says_where() {
    let machine = Machine::new();
    machine.mirror(false);
    machine.put("sys/block/md0/md/degraded", "many\n");
    fs::remove_file(machine.path("sys/block/md0/md/raid_disks")).unwrap();
    fs::remove_file(machine.path("sys/block/md0/md/dev-loop1/block")).unwrap();
    let array = machine.linux().read_array("md0").unwrap().unwrap();
    let Fact::Unknown(why) = &array.raid_disks else {
        panic!("known")
    };
    assert!(why.contains("md/raid_disks"), "{why}");
    assert!(matches!(array.sync.unwrap().degraded, Fact::Unknown(why) if why.contains("many")));
    assert!(matches!(array.members[1].dev, Fact::Unknown(_)));
    assert_eq!(array.bitmap, Fact::Known(false));
    // A member that is being removed is no heap of unknown facts.
    fs::remove_file(machine.path("sys/block/md0/md/dev-loop1/slot")).unwrap();
    let array = machine.linux().read_array("md0").unwrap().unwrap();
    assert_eq!(array.members.len(), 1, "{:?}", array.members);
}

#[test]
fn an_array_without_redundancy_has_no_sync_facts() {
    let machine = Machine::new();
    machine.mirror(false);
    for name in ["sync_action", "sync_completed", "degraded", "mismatch_cnt"] {
        fs::remove_file(machine.path("sys/block/md0/md").join(name)).unwrap();
    }
    assert_eq!(
        machine.linux().read_array("md0").unwrap().unwrap().sync,
        None
    );
}

#[test]
fn a_bitmap_is_believed_only_when_the_kernel_does_not_contradict_itself() {
    let machine = Machine::new();
    machine.mirror(true);
    let read = || machine.linux().read_array("md0").unwrap().unwrap().bitmap;
    machine.put("sys/block/md0/md/consistency_policy", "resync\n");
    assert!(matches!(read(), Fact::Unknown(_)));
    fs::remove_dir_all(machine.path("sys/block/md0/md/bitmap")).unwrap();
    assert_eq!(read(), Fact::Known(false));
    machine.put("sys/block/md0/md/consistency_policy", "bitmap\n");
    assert_eq!(read(), Fact::Known(true));
    fs::remove_file(machine.path("sys/block/md0/md/consistency_policy")).unwrap();
    assert!(matches!(read(), Fact::Unknown(_)));
}

#[test]
fn a_disk_is_known_by_what_lasts_and_its_partitions_count_for_it() {
    let machine = Machine::new();
    let place = "pci0000:00/0000:00:1f.2/ata1/host0/0:0:0:0/block/sda";
    machine.disk(place, "8:0");
    machine.partition(&format!("{place}/sda1"), "8:1", "1\n");
    machine.put(
        "run/udev/data/b8:0",
        "S:disk/by-id/ata-X_1\nE:ID_WWN=0x5000\nE:ID_BUS=ata\n",
    );
    machine.put("run/udev/data/b8:1", "E:ID_WWN=0x5000\nE:ID_FS_TYPE=ext4\n");
    machine.put(
        "proc/self/mountinfo",
        "40 28 8:1 / /srv rw - ext4 /dev/sda1 rw\n",
    );
    machine.put("sys/class/block/sda1/holders/dm-0", "");
    let devices = machine
        .linux()
        .scan(&ScanRequest::default())
        .unwrap()
        .devices;
    let disk = &devices[&DevNo { major: 8, minor: 0 }];
    let part = &devices[&DevNo { major: 8, minor: 1 }];
    assert_eq!(
        (disk.id, disk.id_kind),
        (DriveId::derive("wwn", "0x5000"), IdentityKind::Wwn)
    );
    assert_eq!(part.id, DriveId::derive("wwn", "0x5000-part1"));
    assert_eq!(disk.stable_name, "/dev/disk/by-id/ata-X_1");
    assert_eq!(
        disk.controller.as_deref(),
        Some("devices/pci0000:00/0000:00:1f.2")
    );
    let host = "devices/pci0000:00/0000:00:1f.2/ata1/host0";
    assert_eq!(
        (disk.enclosure.as_deref(), part.enclosure.as_deref()),
        (Some(host), Some(host))
    );
    assert_eq!(part.whole_disk, "sda");
    assert_eq!(part.logical_block_bytes, Fact::Known(512));
    assert_eq!(
        (&disk.used_by, &part.used_by),
        (&vec!["/srv".to_owned()], &vec!["/srv".to_owned()])
    );
    assert!(disk.holders.contains("dm-0"));
    assert_eq!(part.udev_signature.as_deref(), Some("ext4"));
}

#[test]
fn loops_without_a_file_and_memory_disks_are_no_candidates() {
    let machine = Machine::new();
    machine.loop_disk(0, "/var/d0 (deleted)");
    machine.disk("virtual/block/loop1", "7:1");
    machine.disk("virtual/block/zram0", "252:0");
    machine.disk("pci0000:00/0000:00:01.1/block/sr0", "11:0");
    let devices = machine
        .linux()
        .scan(&ScanRequest::default())
        .unwrap()
        .devices;
    let [only] = devices.values().collect::<Vec<_>>()[..] else {
        panic!("one device")
    };
    assert_eq!(
        (only.id, only.id_kind),
        (DriveId::derive("backing", "/var/d0"), IdentityKind::Backing)
    );
    assert_eq!(
        (only.controller.as_ref(), only.stable_name.as_str()),
        (None, "/var/d0")
    );
}

#[test]
fn words_are_written_once_and_only_to_arrays_that_exist() {
    let machine = Machine::new();
    machine.mirror(false);
    let set = |array: &str| Action::SetSync {
        array: array.to_owned(),
        word: SyncWord::Frozen,
    };
    machine.act(&set("md0")).unwrap();
    assert!(
        machine
            .get("sys/block/md0/md/sync_action")
            .starts_with("frozen")
    );
    let error = machine.act(&set("md7")).unwrap_err();
    assert!(matches!(
        error,
        Error::Kernel {
            errno: libc::ENODEV,
            ..
        }
    ));
    assert!(!machine.path("sys/block/md7").exists());
}

#[test]
fn a_drive_that_changed_behind_its_number_is_refused() {
    let machine = Machine::new();
    machine.mirror(true);
    let drive = machine.target("loop1");
    machine.put(
        "sys/devices/virtual/block/loop1/loop/backing_file",
        "/var/other\n",
    );
    let refused = Err(Error::DriveRefused {
        drive: "loop1".into(),
        unfit: Unfit::IdentityChanged,
    });
    let array = "md0".to_owned();
    for action in [
        Action::Wipe {
            drive: drive.clone(),
            former: None,
        },
        Action::AddSpare {
            array: array.clone(),
            drive: drive.clone(),
        },
        Action::ReAdd {
            array: array.clone(),
            drive: drive.clone(),
        },
        Action::FailMember {
            array: array.clone(),
            drive: drive.clone(),
        },
        Action::RemoveMember {
            array: array.clone(),
            drive: drive.clone(),
        },
        Action::WantReplacement {
            array: array.clone(),
            drive: drive.clone(),
        },
        Action::SetSlot {
            array,
            drive: drive.clone(),
            slot: 1,
        },
    ] {
        assert_eq!(machine.act(&action), refused, "{action:?}");
    }
    fs::remove_file(machine.path("sys/dev/block/7:1")).unwrap();
    let gone = Err(Error::DriveRefused {
        drive: "loop1".into(),
        unfit: Unfit::NotPresent,
    });
    assert_eq!(
        machine.act(&Action::Wipe {
            drive,
            former: None
        }),
        gone
    );
}

#[test]
fn a_word_that_the_kernel_ignores_is_an_error() {
    let machine = Machine::new();
    machine.mirror(false);
    let (array, drive) = ("md0".to_owned(), machine.target("loop0"));
    machine
        .act(&Action::WantReplacement {
            array: array.clone(),
            drive,
        })
        .unwrap();
    let vanished = Target {
        dev: DevNo { major: 7, minor: 9 },
        name: "loop9".to_owned(),
        id: DriveId::derive("backing", "x"),
    };
    let error = machine.act(&Action::WantReplacement {
        array,
        drive: vanished,
    });
    assert!(matches!(
        error,
        Err(Error::Kernel {
            errno: libc::ENODEV,
            ..
        })
    ));
}

#[test]
fn read_only_by_choice_is_left_alone() {
    let machine = Machine::new();
    machine.mirror(false);
    let action = Action::MakeReadWrite {
        array: "md0".to_owned(),
    };
    machine.act(&action).unwrap();
    assert_eq!(machine.get("sys/block/md0/md/array_state"), "clean\n");
    machine.put("sys/block/md0/md/array_state", "readonly\n");
    assert!(matches!(machine.act(&action), Err(Error::ReadOnly { .. })));
    machine.put("sys/block/md0/md/array_state", "read-auto\n");
    machine.act(&action).unwrap();
    assert!(
        machine
            .get("sys/block/md0/md/array_state")
            .starts_with("active")
    );
}

#[test]
fn superblocks_and_signatures_are_left_to_their_tools() {
    let machine = Machine::new();
    machine.mirror(true);
    machine.loop_disk(2, "/var/d2");
    machine.tool(
        "mdadm",
        "echo 'mdadm: No md superblock detected on x.' >&2; exit 1",
    );
    machine.tool("wipefs", "echo '{\"signatures\": []}'");
    machine
        .act(&Action::Wipe {
            drive: machine.target("loop2"),
            former: None,
        })
        .unwrap();
    let node = machine.path("dev/loop2").display().to_string();
    let said = machine.get("log");
    let want = [
        format!("wipefs --all {node}"),
        format!("mdadm --examine {node}"),
    ];
    assert!(said.starts_with(&want.join("\n")), "{said}");
    machine.tool("mdadm", "exit 0");
    let drive = machine.target("loop2");
    machine
        .act(&Action::AddSpare {
            array: "md0".to_owned(),
            drive,
        })
        .unwrap();
    let array = machine.path("dev/md0").display().to_string();
    assert!(
        machine
            .get("log")
            .ends_with(&format!("mdadm {array} --add-spare {node}\n"))
    );
    machine.tool("mdadm", "echo 'mdadm: Cannot' >&2; exit 1");
    let drive = machine.target("loop2");
    let error = machine
        .act(&Action::AddSpare {
            array: "md0".to_owned(),
            drive,
        })
        .unwrap_err();
    assert!(matches!(error, Error::Tool { stderr, .. } if stderr == "mdadm: Cannot"));
}

#[test]
fn a_probe_tells_all_three_things() {
    let machine = Machine::new();
    machine.mirror(true);
    machine.tool("mdadm", "echo broken >&2; exit 2");
    machine.tool("wipefs", "echo '{\"signatures\": [{\"type\": \"ext4\"}]}'");
    let probe = [
        DevNo { major: 7, minor: 1 },
        DevNo {
            major: 7,
            minor: 99,
        },
    ]
    .into();
    let request = ScanRequest {
        probe,
        events_of: ["md0".to_owned()].into(),
        ..ScanRequest::default()
    };
    let inventory = machine.linux().scan(&request).unwrap();
    let here = &inventory.probes[&DevNo { major: 7, minor: 1 }];
    assert_eq!(here.signatures, Fact::Known(vec!["ext4".to_owned()]));
    assert_eq!(here.exclusive, Fact::Known(true));
    assert!(matches!(&here.md, Fact::Unknown(why) if why.contains("broken")));
    let gone = &inventory.probes[&DevNo {
        major: 7,
        minor: 99,
    }];
    assert!(matches!(gone.exclusive, Fact::Unknown(_)));
    assert!(matches!(inventory.arrays["md0"].events, Fact::Unknown(_)));
}
