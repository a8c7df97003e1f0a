//! The real bench: this machine's kernel behind lund's own adapter.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use lun_core::Error;
use lun_core::action::{Action, Target};
use lun_core::facts::{ArrayFacts, Inventory, Level, SyncCompleted};
use lun_kernel::linux::Linux;
use lun_kernel::{Kernel, ScanRequest};
use lun_sim::truth::script::{Create, Kind, Script};
use lun_sim::truth::{BLOCK_BYTES, Bench, Done, META_SECTORS, Step, observe};

use crate::parts::{self, Drive, alone, tool, tool_any};
use crate::sets::{self, Leg};
use crate::volumes;

/// For so long nothing must have changed before the machine counts as at rest: that nothing
/// happens has no event that could be waited for.
const REST: Duration = Duration::from_millis(300);
/// The same while a drive hangs, when a sync thread does not tell that it stands still.
const REST_HUNG: Duration = Duration::from_secs(1);
/// Between two looks; twice that at a set, of which every superblock is read.
const TICK: Duration = Duration::from_millis(50);
/// Nothing takes longer, even emulated.
const PATIENCE: Duration = Duration::from_secs(120);
/// An action that takes longer while a drive hangs waits for it.
const BLOCKS: Duration = Duration::from_secs(3);
/// Chunk of striped levels, KiB: so small that 6.1's raid10 does not skip a resync
/// (docs/kernel-notes.md).
const CHUNK_KIB: u64 = 64;

/// One scenario's arrays and drives.
pub(crate) struct Lab {
    pub(crate) id: usize,
    kernel: Arc<Linux>,
    pub(crate) drives: Vec<Drive>,
    /// Drives that are half as large as the others.
    pub(crate) small: String,
    /// What the drives are made of.
    kind: Kind,
    /// Both devices of each leg that sets are made with: metadata, then data.
    pub(crate) legs: Vec<Leg>,
    /// Which drive each leg of a volume was last seen on: one without its drive lies on nothing.
    pub(crate) lay_on: RefCell<BTreeMap<String, char>>,
    /// LVM has every physical volume open while one of its tools is at work: one such scenario at a time.
    turn: Option<MutexGuard<'static, ()>>,
    hung: bool,
    blocked: Option<Receiver<Result<(), Error>>>,
    written: u8,
}

/// Loads what is needed.
pub(crate) fn prepare() -> Result<(), String> {
    for module in ["loop", "md_mod", "raid1", "raid10", "raid456", "dm-raid"] {
        tool("modprobe", &[module])?;
    }
    fs::create_dir_all(parts::STORE).map_err(|error| error.to_string())
}

impl Lab {
    pub(crate) fn new(id: usize) -> Self {
        Self {
            id,
            kernel: Arc::new(Linux::system()),
            drives: Vec::new(),
            small: String::new(),
            kind: Kind::default(),
            legs: Vec::new(),
            lay_on: RefCell::default(),
            turn: None,
            hung: false,
            blocked: None,
            written: 0,
        }
    }

    /// Stops the arrays and takes the drives away.
    pub(crate) fn clean_up(&mut self) -> Result<(), String> {
        if self.kind.is_raid_set() {
            self.remove_sets()?;
            return parts::unmake(self.id, self.kind, &self.drives);
        }
        for mapping in self.drives.iter().filter_map(|d| d.mapping.as_ref()) {
            tool("dmsetup", &["resume", mapping])?;
        }
        if let Some(blocked) = self.blocked.take() {
            let _ = blocked.recv_timeout(PATIENCE);
        }
        for array in ['x', 'y'] {
            if self.md(array).exists() {
                self.stop(array)?;
            }
        }
        let _alone = alone();
        parts::unmake(self.id, self.kind, &self.drives)
    }

    fn md(&self, array: char) -> std::path::PathBuf {
        std::path::Path::new("/sys/block")
            .join(self.array_name(array))
            .join("md")
    }

    fn node(&self, array: char) -> String {
        match self.kind {
            Kind::Sets => return self.set_node(array),
            Kind::Volumes => return format!("/dev/mapper/{}", self.volume_name(array)),
            _ => {}
        }
        format!("/dev/{}", self.array_name(array))
    }

    pub(crate) fn drive(&self, letter: char) -> Result<&Drive, String> {
        self.drives
            .iter()
            .find(|d| d.letter == letter)
            .ok_or_else(|| format!("no drive {letter}"))
    }

    fn nodes(&self, letters: &str) -> Result<Vec<String>, String> {
        letters
            .chars()
            .map(|letter| match letter {
                '-' => Ok("missing".to_owned()),
                _ => self.drive(letter).map(Drive::node),
            })
            .collect()
    }

    /// Runs mdadm while new arrays begin auto-read-only, or not.
    fn mdadm(auto: bool, args: &[String]) -> Result<(bool, String), String> {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let _alone = alone();
        let parameter = "/sys/module/md_mod/parameters/start_ro";
        fs::write(parameter, if auto { "1" } else { "0" })
            .map_err(|error| format!("{parameter}: {error}"))?;
        tool_any("mdadm", &args)
    }

    fn create(&self, array: char, spec: &Create) -> Result<String, String> {
        let level = match spec.level {
            Level::Raid0 => "raid0",
            Level::Raid1 => "raid1",
            Level::Raid5 => "raid5",
            Level::Raid6 => "raid6",
            Level::Raid10 => "raid10",
            _ => return Err("no such level".to_owned()),
        };
        let (members, spares) = (self.nodes(&spec.members)?, self.nodes(&spec.spares)?);
        let mut args = vec![
            "--create".to_owned(),
            self.node(array),
            "--run".to_owned(),
            "--quiet".to_owned(),
            format!(
                "--metadata={}",
                if spec.old_metadata { "0.90" } else { "1.2" }
            ),
            format!("--level={level}"),
            format!("--raid-devices={}", members.len()),
        ];
        if level != "raid0" {
            args.push(format!(
                "--bitmap={}",
                if spec.bitmap { "internal" } else { "none" }
            ));
        }
        if level != "raid1" {
            args.push(format!("--chunk={CHUNK_KIB}"));
        }
        if spec.clean {
            args.push("--assume-clean".to_owned());
        }
        if !spares.is_empty() {
            args.push(format!("--spare-devices={}", spares.len()));
        }
        args.extend(members);
        args.extend(spares);
        let (ok, text) = Self::mdadm(false, &args)?;
        if ok { Ok("ok".to_owned()) } else { Err(text) }
    }

    /// Stops an array. udev may have it open for a moment.
    fn stop(&self, array: char) -> Result<String, String> {
        let node = self.node(array);
        let until = Instant::now() + PATIENCE;
        loop {
            tool("udevadm", &["settle"])?;
            match tool("mdadm", &["--stop", &node]) {
                Ok(_) => return Ok("ok".to_owned()),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => {}
            }
        }
    }

    fn assemble(
        &self,
        array: char,
        drives: &str,
        auto: bool,
        dirty: bool,
    ) -> Result<String, String> {
        let mut args = vec![
            "--assemble".to_owned(),
            self.node(array),
            "--run".to_owned(),
            "--quiet".to_owned(),
        ];
        if dirty {
            args.push("--update=resync".to_owned());
        }
        args.extend(self.nodes(drives)?);
        let (ok, text) = Self::mdadm(auto, &args)?;
        if ok { Ok("ok".to_owned()) } else { Err(text) }
    }

    /// Writes a word to a file of the array; the answer is the kernel's.
    fn word(&self, array: char, file: &str, word: &str) -> String {
        told(fs::write(self.md(array).join(file), word))
    }

    /// Writes other data than the last time, and waits until it is on the drives.
    fn write(&mut self, array: char, blocks: u32) -> String {
        self.written = self.written.wrapping_add(1);
        let block = vec![self.written; usize::try_from(BLOCK_BYTES).unwrap_or_default()];
        let write = || {
            let mut file = OpenOptions::new().write(true).open(self.node(array))?;
            // The middle: its first and last blocks are read by others at any time.
            let middle = file.seek(SeekFrom::End(0))? / 2 / BLOCK_BYTES * BLOCK_BYTES;
            file.seek(SeekFrom::Start(middle))?;
            for _ in 0..blocks {
                file.write_all(&block)?;
            }
            file.sync_all()
        };
        told(write())
    }

    /// Sector of a drive in the middle of what it holds of an array, a little into a block.
    fn middle(&self, array: char, drive: &Drive) -> Result<u64, String> {
        let facts = self.facts(array)?.ok_or("no such array")?;
        let bytes = facts.component_bytes.known().copied().unwrap_or(0);
        let middle = bytes / 2 / BLOCK_BYTES * BLOCK_BYTES / 512;
        Ok(self.offset(array, drive)? + middle + 16)
    }

    /// Sector of a drive at which an array's data begins.
    fn offset(&self, array: char, drive: &Drive) -> Result<u64, String> {
        if self.kind == Kind::Sets {
            return Ok(drive.at + META_SECTORS);
        }
        let file = self.md(array).join(format!("dev-{}/offset", drive.name));
        let text =
            fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        text.trim()
            .parse()
            .map_err(|error| format!("{text:?}: {error}"))
    }

    /// Eight sectors of the block in the middle fail from now on.
    fn spoil(&self, array: char, letter: char) -> Result<String, String> {
        let drive = self.drive(letter)?;
        let (Some(mapping), Some(below)) = (&drive.mapping, &drive.below) else {
            return Err(format!("{letter} is no mapped device"));
        };
        let bad = self.middle(array, drive)?;
        let (after, end) = (bad + 8, lun_sim::truth::DRIVE_BYTES / 512);
        let table = format!(
            "0 {bad} linear /dev/{below} 0\n{bad} 8 error\n{after} {} linear /dev/{below} {after}\n",
            end - after
        );
        let file = drive.file.with_extension("table");
        fs::write(&file, table).map_err(|error| error.to_string())?;
        // Nobody is to read the array meanwhile: the kernel would write anew what it cannot read.
        tool("udevadm", &["settle"])?;
        tool("dmsetup", &["suspend", mapping])?;
        tool("dmsetup", &["load", mapping, &file.to_string_lossy()])?;
        tool("dmsetup", &["resume", mapping])
    }

    /// Every sector of a drive fails from now on.
    fn kill(&self, letter: char) -> Result<String, String> {
        let mapping = self.drive(letter)?.mapping.as_ref();
        let mapping = mapping.ok_or("it is no mapped device")?;
        let table = format!("0 {} error", self.bytes(letter) / 512);
        if self.kind.is_raid_set() {
            return sets::swap(mapping, &table);
        }
        tool("udevadm", &["settle"])?;
        tool("dmsetup", &["suspend", mapping])?;
        tool("dmsetup", &["load", mapping, "--table", &table])?;
        tool("dmsetup", &["resume", mapping])
    }

    /// Changes what a drive holds of the block in the middle.
    fn differ(&self, array: char, letter: char) -> Result<String, String> {
        let drive = self.drive(letter)?;
        let at = self.middle(array, drive)? * 512;
        let file = OpenOptions::new().write(true).open(&drive.file);
        file.and_then(|file| file.write_all_at(&[0xa5; 4096], at))
            .map_err(|error| error.to_string())?;
        Ok("ok".to_owned())
    }

    /// Makes another array on the drive and stops it.
    fn foreign(&self, letter: char) -> Result<String, String> {
        let node = format!("/dev/md{}", 300 + self.id);
        let drive = self.drive(letter)?.node();
        let args: Vec<String> = [
            "--create",
            &node,
            "--run",
            "--quiet",
            "--metadata=1.2",
            "--level=raid1",
            "--raid-devices=2",
            "--bitmap=none",
            &drive,
            "missing",
        ]
        .map(str::to_owned)
        .to_vec();
        let (ok, text) = Self::mdadm(true, &args)?;
        if !ok {
            return Err(text);
        }
        tool("udevadm", &["settle"])?;
        tool("mdadm", &["--stop", &node])
    }

    fn park(&self, array: char, sixteenths: u32) -> Result<String, String> {
        let facts = self.facts(array)?.ok_or("no such array")?;
        let sectors = facts.component_bytes.known().copied().unwrap_or(0) / 512;
        let at = sectors * u64::from(sixteenths) / 16;
        let at = at / (CHUNK_KIB * 2) * (CHUNK_KIB * 2);
        Ok(self.word(array, "sync_max", &at.to_string()))
    }

    /// Makes a sync thread that waits at `sync_max` look up, as one at work does all the time: it
    /// would not notice that a member failed until somebody wakes it.
    fn nudge(&self, array: char) -> Result<(), String> {
        let file = self.md(array).join("sync_max");
        let Ok(max) = fs::read_to_string(&file) else {
            return Ok(());
        };
        if max.trim() == "max" {
            return Ok(());
        }
        fs::write(&file, max.trim()).map_err(|error| format!("{}: {error}", file.display()))
    }

    pub(crate) fn facts(&self, array: char) -> Result<Option<ArrayFacts>, String> {
        self.kernel
            .read_array(&self.array_name(array))
            .map_err(|error| error.to_string())
    }

    /// Whether the array's sync thread runs and does not wait at `sync_max`.
    fn moves(&self, array: char, facts: &ArrayFacts) -> bool {
        let completed = facts.sync.as_ref().and_then(|s| s.completed.known());
        let Some(SyncCompleted::At { done, .. }) = completed else {
            return false;
        };
        let max = fs::read_to_string(self.md(array).join("sync_max")).unwrap_or_default();
        !max.trim().parse().is_ok_and(|max: u64| *done >= max)
    }
}

fn told(result: std::io::Result<()>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => error
            .raw_os_error()
            .map_or_else(|| error.to_string(), observe::errno_name),
    }
}

impl Bench for Lab {
    fn furnish(&mut self, script: &Script) -> Result<(), String> {
        if script.kind == Kind::Volumes {
            self.turn = Some(volumes::turn());
        }
        {
            let _alone = alone();
            self.kind = script.kind;
            script.small.clone_into(&mut self.small);
            self.drives = parts::make(self.id, script.kind, &script.drives, &script.small)?;
            if self.kind == Kind::Sets {
                self.lay_legs(script)?;
            }
            tool("udevadm", &["settle"])?;
        }
        let inventory = self.scan(&ScanRequest::default())?;
        let seen = |name: &str| {
            let facts = inventory.devices.values().find(|f| f.name == name);
            let facts = facts.ok_or_else(|| format!("{name} is not seen"))?;
            Ok::<_, String>(Target {
                dev: facts.dev,
                name: facts.name.clone(),
                id: facts.id,
            })
        };
        for drive in &mut self.drives {
            drive.target = Some(seen(&drive.name)?);
        }
        for leg in &mut self.legs {
            leg.targets = leg
                .names
                .iter()
                .map(|name| seen(name))
                .collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    fn event(&mut self, array: char, step: &Step) -> Result<String, String> {
        let done = |result: Result<String, String>| result.map(|_| "ok".to_owned());
        match step {
            Step::Create(spec) if self.kind == Kind::Sets => self.create_set(array, spec),
            Step::Create(spec) if self.kind == Kind::Volumes => self.create_volume(array, spec),
            Step::Heal(letter) => done(self.heal(*letter)),
            Step::Suspend => self.suspend(array),
            Step::Message(word) => self.message(array, *word),
            Step::Load => self.load_again(array),
            Step::Create(spec) => self.create(array, spec),
            Step::Break(letter) => {
                let file = format!("dev-{}/state", self.drive(*letter)?.name);
                let answer = self.word(array, &file, "faulty");
                self.nudge(array)?;
                Ok(answer)
            }
            Step::Write(blocks) => Ok(self.write(array, *blocks)),
            Step::Stop => self.stop(array),
            Step::Assemble {
                drives,
                auto,
                dirty,
            } => self.assemble(array, drives, *auto, *dirty),
            Step::Readonly => {
                tool("udevadm", &["settle"])?;
                Ok(self.word(array, "array_state", "readonly"))
            }
            Step::Hang(letter) => {
                self.hung = true;
                let mapping = self.drive(*letter)?.mapping.as_ref();
                let mapping = mapping.ok_or("it is no mapped device")?;
                done(tool(
                    "dmsetup",
                    &["suspend", "--nolockfs", "--noflush", mapping],
                ))
            }
            Step::Unhang(letter) => {
                self.hung = false;
                let mapping = self.drive(*letter)?.mapping.as_ref();
                done(tool("dmsetup", &["resume", mapping.ok_or("not mapped")?]))
            }
            Step::Spoil(letter) => done(self.spoil(array, *letter)),
            Step::Kill(letter) => done(self.kill(*letter)),
            Step::Differ(letter) => self.differ(array, *letter),
            Step::Pull(letter) => {
                tool("udevadm", &["settle"])?;
                let name = &self.drive(*letter)?.name;
                let file = format!("/sys/block/{name}/device/delete");
                let told = told(fs::write(file, "1"));
                tool("udevadm", &["settle"])?;
                Ok(told)
            }
            Step::Park(sixteenths) => self.park(array, *sixteenths),
            Step::Go => Ok(self.word(array, "sync_max", "max")),
            Step::Foreign(letter) => done(self.foreign(*letter)),
            other => Err(format!("{other:?} is no event")),
        }
    }

    fn act(&mut self, action: &Action) -> Done {
        let (sender, receiver) = channel();
        let (kernel, action) = (Arc::clone(&self.kernel), action.clone());
        // A thread of its own: what waits for a drive that hangs cannot be called back.
        std::thread::spawn(move || {
            let _ = sender.send(kernel.act(&action));
        });
        let wait = if self.hung { BLOCKS } else { PATIENCE };
        match receiver.recv_timeout(wait) {
            Ok(result) => Done::Answered(result),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.blocked = Some(receiver);
                Done::Blocked
            }
        }
    }

    fn ended(&mut self) -> Result<String, String> {
        let receiver = self.blocked.take().ok_or("nothing blocks")?;
        let result = receiver
            .recv_timeout(PATIENCE)
            .map_err(|_| "it still blocks".to_owned())?;
        Ok(observe::answer(&result))
    }

    fn array_name(&self, array: char) -> String {
        match self.kind {
            Kind::Sets => return format!("mapper/{}", self.set_name(array)),
            Kind::Volumes => return format!("mapper/{}", self.volume_name(array)),
            _ => {}
        }
        let number = 100 + 2 * self.id + usize::from(array != 'x');
        format!("md{number}")
    }

    fn target(&self, drive: char) -> Result<Target, String> {
        let target = self.drive(drive)?.target.clone();
        target.ok_or_else(|| format!("{drive} was never seen"))
    }

    fn group(&self) -> String {
        self.group_name()
    }

    fn leg(&mut self, drive: char) -> Result<Target, String> {
        if self.kind == Kind::Volumes {
            return self.volume_leg(drive);
        }
        self.leg_target(drive)
    }

    fn metadata(&mut self, drive: char) -> Result<Target, String> {
        self.metadata_on(drive)
    }

    fn letter(&self, name: &str) -> String {
        let drive = self.drives.iter().find(|d| d.name == name);
        let leg = self
            .legs
            .iter()
            .find(|leg| leg.names.iter().any(|part| part == name));
        let letter = drive
            .map(|d| d.letter)
            .or_else(|| leg.map(|leg| leg.letter))
            .or_else(|| self.letter_below(name));
        letter.map_or_else(|| name.to_owned(), |letter| letter.to_string())
    }

    fn scan(&mut self, request: &ScanRequest) -> Result<Inventory, String> {
        self.kernel.scan(request).map_err(|error| error.to_string())
    }

    fn rest(
        &mut self,
        passing: &mut dyn FnMut(&ArrayFacts),
    ) -> Result<Vec<(char, ArrayFacts)>, String> {
        let until = Instant::now() + PATIENCE;
        let rest = if self.hung { REST_HUNG } else { REST };
        let (mut last, mut since) = (Vec::new(), Instant::now());
        loop {
            let mut arrays = Vec::new();
            let mut moving = false;
            for letter in ['x', 'y'] {
                if let Some(facts) = self.facts(letter)? {
                    passing(&facts);
                    moving |= self.moves(letter, &facts);
                    arrays.push((letter, facts));
                }
            }
            let seen: Vec<String> = arrays
                .iter()
                .map(|(_, facts)| observe::array(facts, |name| name.to_owned()))
                .collect();
            if seen != last {
                (last, since) = (seen, Instant::now());
            } else if since.elapsed() >= rest && (self.hung || !moving) {
                return Ok(arrays);
            }
            if Instant::now() > until {
                return Err(format!("the machine does not come to rest: {last:?}"));
            }
            std::thread::sleep(if self.kind.is_raid_set() {
                TICK * 2
            } else {
                TICK
            });
        }
    }
}
