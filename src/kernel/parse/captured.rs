//! Texts captured from running kernels (`fixtures/README.md`): every one of them is read, what two
//! sources say of one thing is compared, and each state is what it was made to be.

use std::collections::BTreeMap;
use std::path::Path;

use lun_core::facts::{ArrayState, Level, MdstatProgress, Metadata, Slot, SyncCompleted};
use uuid::Uuid;

use super::*;

/// Folders of fixtures, named by the kernel's version.
const KERNELS: [&str; 3] = ["6.1", "6.12", "7"];

/// One state of one machine: what each file and each tool said, by its name.
pub(super) struct Capture {
    /// Kernel and state, such as `6.12/raid5-check`.
    pub(super) name: String,
    sections: Vec<(String, String)>,
}

impl Capture {
    fn read(path: &Path, name: String) -> Self {
        let mut sections: Vec<(String, String)> = Vec::new();
        // wipefs prints bytes of a DDF label as they are; the adapter reads its tools the same way.
        for line in String::from_utf8_lossy(&std::fs::read(path).unwrap()).lines() {
            let title = line
                .strip_prefix("==> ")
                .and_then(|rest| rest.strip_suffix(" <=="));
            if let Some(title) = title {
                sections.push((title.to_owned(), String::new()));
            } else {
                let (_, text) = sections.last_mut().unwrap();
                text.push_str(line);
                text.push('\n');
            }
        }
        Self { name, sections }
    }

    pub(super) fn get(&self, title: &str) -> &str {
        self.sections
            .iter()
            .find(|(name, _)| name == title)
            .map_or_else(
                || panic!("{}: nothing called {title}", self.name),
                |(_, text)| text,
            )
    }

    /// Sections that end in `suffix`, by what stands before it.
    fn all<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.sections
            .iter()
            .filter_map(move |(name, text)| Some((name.strip_suffix(suffix)?, text.as_str())))
    }

    fn state(&self) -> &str {
        self.name.split_once('/').unwrap().1
    }
}

/// Every capture but those of the host itself.
fn arrays() -> Vec<Capture> {
    let mut found = all();
    found.retain(|capture| capture.state() != "host");
    found
}

/// Every capture of every kernel.
pub(super) fn all() -> Vec<Capture> {
    let mut found = Vec::new();
    for kernel in KERNELS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures")
            .join(kernel);
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let state = path.file_name().unwrap().to_str().unwrap();
            found.push(Capture::read(&path, format!("{kernel}/{state}")));
        }
    }
    assert!(found.len() > 90, "only {} captures", found.len());
    found
}

/// The capture called so.
pub(super) fn one(name: &str) -> Capture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name);
    Capture::read(&path, name.to_owned())
}

/// Every piece of every capture, for the tests that mutilate texts.
pub(super) fn pieces() -> Vec<String> {
    all()
        .into_iter()
        .flat_map(|capture| capture.sections)
        .map(|(_, text)| text)
        .filter(|text| !text.is_empty())
        .collect()
}

/// An array as sysfs tells it: files of `md/`, several lines of one joined again.
struct Sysfs(BTreeMap<String, String>);

impl Sysfs {
    fn read(text: &str) -> Self {
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        for line in text.lines() {
            let (file, value) = line.split_once(':').unwrap();
            let text = files.entry(file.to_owned()).or_default();
            text.push_str(value);
            text.push('\n');
        }
        Self(files)
    }

    fn get(&self, file: &str) -> Option<&str> {
        self.0.get(file).map(String::as_str)
    }

    fn level(&self) -> Level {
        let kind: Metadata = metadata("f", self.get("metadata_version").unwrap()).unwrap();
        level(self.get("level").unwrap(), Some(&kind))
    }

    fn state(&self) -> ArrayState {
        array_state("f", self.get("array_state").unwrap()).unwrap()
    }

    fn members(&self) -> impl Iterator<Item = &str> {
        self.0
            .keys()
            .filter_map(|file| file.strip_prefix("dev-")?.strip_suffix("/state"))
    }

    fn slot(&self, member: &str) -> Slot {
        slot("f", self.get(&format!("dev-{member}/slot")).unwrap()).unwrap()
    }

    fn member(&self, member: &str) -> lun_core::facts::MemberState {
        member_state(self.get(&format!("dev-{member}/state")).unwrap())
    }
}

/// Puts one file through its parser. `unset`: the array is not assembled, so numbers may be empty.
fn read_file(file: &str, text: &str, unset: bool) -> Result<(), Error> {
    let name = file.rsplit('/').next().unwrap();
    match name {
        "raid_disks" if unset && text.trim().is_empty() => Ok(()),
        "raid_disks" | "degraded" => number::<u32>(file, text).map(drop),
        "layout" => layout(file, text).map(drop),
        "chunk_size" | "component_size" | "mismatch_cnt" | "size" | "errors"
        | "logical_block_size" => number::<u64>(file, text).map(drop),
        "array_state" => array_state(file, text).map(drop),
        "sync_action" => sync_action(file, text).map(drop),
        "last_sync_action" => last_sync_action(file, text).map(drop),
        "sync_min" => number::<u64>(file, text).map(drop),
        "sync_max" => sync_max(file, text).map(drop),
        "sync_speed_min" | "sync_speed_max" => speed_limit(file, text).map(drop),
        "sync_completed" => sync_completed(file, text).map(drop),
        "resync_start" | "recovery_start" => position(file, text).map(drop),
        "metadata_version" => metadata(file, text).map(drop),
        "location" => bitmap_location(file, text).map(drop),
        "slot" => slot(file, text).map(drop),
        "bad_blocks" => bad_block_lines(file, text).map(drop),
        "dev" => dev_number(file, text).map(drop),
        "uuid" => md_uuid(file, text).map(drop),
        _ => Ok(()),
    }
}

#[test]
fn every_file_is_understood() {
    for capture in arrays() {
        for (array, text) in capture.all("/sysfs") {
            let sysfs = Sysfs::read(text);
            let unset = sysfs.state() == ArrayState::Inactive;
            for (file, text) in &sysfs.0 {
                let read = read_file(file, text, unset);
                assert!(read.is_ok(), "{} {array}/{file}: {read:?}", capture.name);
            }
        }
    }
}

#[test]
fn mdstat_and_sysfs_agree() {
    for capture in arrays() {
        let found = mdstat(capture.get("/proc/mdstat")).unwrap();
        let mut seen = 0;
        for (name, text) in capture.all("/sysfs") {
            let sysfs = Sysfs::read(text);
            let array = found
                .arrays
                .iter()
                .find(|array| array.name == name)
                .unwrap_or_else(|| panic!("{}: mdstat lacks {name}", capture.name));
            compare(&capture.name, array, &sysfs);
            seen += 1;
        }
        assert_eq!(found.arrays.len(), seen, "{}", capture.name);
    }
}

fn compare(at: &str, array: &MdstatArray, sysfs: &Sysfs) {
    let state = sysfs.state();
    let facts = &array.facts;
    assert_eq!(facts.inactive, state == ArrayState::Inactive, "{at}");
    assert_eq!(facts.read_only, state == ArrayState::Readonly, "{at}");
    assert_eq!(facts.auto_read_only, state == ArrayState::ReadAuto, "{at}");
    if let Some(word) = &array.level {
        assert_eq!(&level(word, None), &sysfs.level(), "{at}");
    }
    let location = sysfs
        .get("bitmap/location")
        .is_some_and(|text| bitmap_location("f", text).unwrap());
    assert_eq!(array.bitmap, location, "{at}");
    if let Some(completed) = sysfs.get("sync_completed") {
        match (sync_completed("f", completed).unwrap(), facts.progress) {
            (SyncCompleted::At { total, .. }, MdstatProgress::At { total_kib, .. }) => {
                assert_eq!(total, total_kib * 2, "{at}");
            }
            (SyncCompleted::Delayed, MdstatProgress::Delayed)
            | (SyncCompleted::None, MdstatProgress::None | MdstatProgress::Pending) => {}
            other => panic!("{at}: {other:?}"),
        }
    }
    let mut names: Vec<&str> = array.members.iter().map(|member| &*member.name).collect();
    names.sort_unstable();
    assert_eq!(names, sysfs.members().collect::<Vec<_>>(), "{at}");
    for member in &array.members {
        compare_member(at, array, member, sysfs);
    }
}

fn compare_member(at: &str, array: &MdstatArray, member: &MdstatMember, sysfs: &Sysfs) {
    let at = format!("{at} {}", member.name);
    let (state, slot) = (sysfs.member(&member.name), sysfs.slot(&member.name));
    let flag = |letter| member.flags.contains(letter);
    assert_eq!(flag('F'), state.faulty, "{at}");
    assert_eq!(flag('W'), state.write_mostly, "{at}");
    assert_eq!(flag('J'), state.journal, "{at}");
    assert_eq!(flag('R'), state.replacement, "{at}");
    if flag('S') {
        assert_eq!((slot, state.faulty), (Slot::None, false), "{at}");
    }
    // A replacement shares the slot of the member it copies.
    if let (Slot::At(index), false, false) = (slot, state.replacement, array.slots.is_empty()) {
        let letter = array.slots.chars().nth(usize::try_from(index).unwrap());
        assert_eq!(letter == Some('U'), state.in_sync, "{at}");
    }
}

/// UUIDs of an array whose superblock mdadm cannot read: `md/uuid` has the right one, mdadm prints
/// the bytes of each word in the wrong order.
const SWAPPED: &[&str] = &["raid1-failed"];

#[test]
fn every_source_tells_the_same_uuid() {
    for capture in arrays() {
        let at = &capture.name;
        for (array, text) in capture.all("/sysfs") {
            let sysfs = Sysfs::read(text);
            let told = detail_export_uuid(capture.get(&format!("{array}/detail-export"))).unwrap();
            let own = sysfs.get("uuid").map(|text| md_uuid("f", text).unwrap());
            let Some(own) = own.filter(|uuid| !uuid.is_nil()) else {
                continue;
            };
            if SWAPPED.contains(&capture.state()) {
                assert_ne!(told, Some(own), "{at}: mdadm has been mended");
            } else if !matches!(
                metadata("f", sysfs.get("metadata_version").unwrap()),
                Ok(Metadata::External(_))
            ) {
                assert_eq!(told, Some(own), "{at}");
            }
            for member in sysfs.members() {
                superblock_of(&capture, member, &sysfs, own);
            }
        }
    }
}

/// The superblock of a member that is there agrees with the kernel.
fn superblock_of(capture: &Capture, member: &str, sysfs: &Sysfs, array: Uuid) {
    let title = format!("{member}/examine");
    if !capture.sections.iter().any(|(name, _)| *name == title) {
        return;
    }
    let at = format!("{} {member}", capture.name);
    let Some(superblock) = examine(capture.get(&title)).unwrap() else {
        assert!(matches!(
            metadata("f", sysfs.get("metadata_version").unwrap()),
            Ok(Metadata::External(_))
        ));
        return;
    };
    assert_eq!(superblock.array_uuid, array, "{at}");
    let state = sysfs.member(member);
    if state.in_sync && !state.faulty && !state.journal {
        let Slot::At(index) = sysfs.slot(member) else {
            panic!("{at}: in sync without a slot")
        };
        assert_eq!(superblock.role, Some(index), "{at}");
    }
    if state.journal || state.spare && sysfs.slot(member) == Slot::None {
        assert_eq!(superblock.role, None, "{at}");
    }
}

#[test]
fn every_member_bears_a_signature() {
    for capture in arrays() {
        for (device, text) in capture.all("/wipefs") {
            let found = signatures(text).unwrap();
            assert!(
                found == ["linux_raid_member"] || found == ["ddf_raid_member"],
                "{} {device}: {found:?}",
                capture.name
            );
        }
    }
}

/// `LEVEL STATE ACTION PROGRESS [SLOTS] FLAGS`, each array of a capture on one line.
fn summary(capture: &Capture) -> String {
    let found = mdstat(capture.get("/proc/mdstat")).unwrap();
    let mut lines: Vec<String> = found
        .arrays
        .iter()
        .map(|array| {
            let sysfs = Sysfs::read(capture.get(&format!("{}/sysfs", array.name)));
            let progress = match array.facts.progress {
                MdstatProgress::None => "-",
                MdstatProgress::At { .. } => "moves",
                MdstatProgress::Delayed => "delayed",
                MdstatProgress::Pending => "pending",
                MdstatProgress::Remote => "remote",
            };
            let broken = if array.facts.broken { " broken" } else { "" };
            let mut flags: Vec<&str> = array.members.iter().map(|one| &*one.flags).collect();
            flags.sort_unstable();
            format!(
                "{} {} {} {progress}{broken} [{}] {}",
                array.level.as_deref().unwrap_or("-"),
                sysfs.get("array_state").unwrap().trim(),
                sysfs.get("sync_action").unwrap_or("-").trim(),
                array.slots,
                flags.concat(),
            )
            .trim_end()
            .to_owned()
        })
        .collect();
    lines.sort();
    lines.join("; ")
}

/// What each state is on every kernel.
const STATES: &[(&str, &str)] = &[
    (
        "container-ddf",
        "- inactive - - [] SS; raid1 clean resync moves [UU]",
    ),
    ("linear", "linear clean - - []"),
    ("raid0", "raid0 clean - - []"),
    ("raid0-broken", "raid0 broken - - broken []"),
    ("raid1-0.90", "raid1 clean idle - [UU] F"),
    ("raid1-1.0", "raid1 clean idle - [UU]"),
    ("raid1-bad-blocks", "raid1 clean idle - [UU]"),
    ("raid1-degraded-frozen", "raid1 clean frozen - [U_U] FS"),
    (
        "raid1-delayed",
        "raid1 clean resync delayed [UU]; raid1 clean resync moves [UU]",
    ),
    ("raid1-failed", "raid1 write-pending idle - broken [__] FF"),
    (
        "raid1-read-auto-pending",
        "raid1 read-auto idle pending [UU]",
    ),
    ("raid1-readonly", "raid1 readonly idle - [UU]"),
    ("raid1-rebuild", "raid1 clean recover moves [U_]"),
    ("raid1-replace", "raid1 clean recover moves [UU] R"),
    ("raid1-replaced", "raid1 clean idle - [UU] F"),
    ("raid1-resync", "raid1 clean resync moves [UU]"),
    ("raid1-vanished", "raid1 clean idle - [UU]"),
    ("raid1-vanished-failed", "raid1 clean idle - [U_] F"),
    ("raid1-write-mostly", "raid1 clean idle - [UU] W"),
    ("raid10-far-repair", "raid10 clean repair moves [UUUU]"),
    ("raid10-near-check", "raid10 clean check moves [UUUU]"),
    (
        "raid10-offset-replace",
        "raid10 clean recover moves [UUU] R",
    ),
    ("raid5-broken", "raid5 write-pending idle - broken [U__] FF"),
    ("raid5-check", "raid5 clean check moves [UUU]"),
    ("raid5-inactive", "- inactive - - [] S"),
    ("raid5-journal", "raid5 clean idle - [UUU] J"),
    ("raid5-ppl", "raid5 clean idle - [UUU]"),
    ("raid5-recovery", "raid5 clean recover moves [UU_]"),
    ("raid5-reshape", "raid5 clean reshape moves [UUUU]"),
    ("raid6-rebuild", "raid6 clean recover moves [U__UU]"),
];

/// States that differ on some kernel.
const DIFFERENT: &[(&str, &str)] = &[
    // 6.1 does not know the word.
    ("6.1/raid5-broken", "raid5 write-pending idle - [U__] FF"),
    ("6.1/raid1-failed", "raid1 write-pending idle - [__] FF"),
    ("6.1/raid0-broken", "raid0 broken - - []"),
    // A write happened to come between.
    ("6.1/raid1-vanished", "raid1 clean idle - [U_] F"),
    // They have no such personality; on 7 udev came and took a member back.
    ("6.12/linear", "- inactive - - []"),
    ("7/linear", "- inactive - - [] S"),
];

#[test]
fn every_state_is_what_it_was_made_to_be() {
    let mut wrong = Vec::new();
    for capture in arrays() {
        let told = summary(&capture);
        let want = DIFFERENT
            .iter()
            .find(|(name, _)| *name == capture.name)
            .or_else(|| STATES.iter().find(|(state, _)| *state == capture.state()))
            .map(|(_, want)| *want);
        if want != Some(&*told) {
            wrong.push(format!(
                "    ({:?}, {told:?}), // not {want:?}",
                capture.name
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
