//! The simulated machine as a bench.

use std::collections::BTreeSet;

use lun_core::action::{Action, Target};
use lun_core::facts::{ArrayFacts, Inventory, Level, Metadata, Slot};
use lun_core::id::NAMESPACE;
use lun_kernel::ScanRequest;
use uuid::Uuid;

use super::bench_sets::GROUP;
use super::observe::errno_name;
use super::run::{Bench, Done};
use super::script::{Create, Kind, Script, Step};
use crate::action::Outcome;
use crate::scenario::Scenario;
use crate::world::{KernelStyle, Mode, SECTOR, Superblock, World};

/// Bytes of a drive; the real bench uses the same.
pub const DRIVE_BYTES: u64 = 20 << 20;
/// More events than any scenario leads to.
const MANY: usize = 10_000;

/// A simulated machine.
#[derive(Debug)]
pub struct SimBench {
    pub(super) world: World,
    /// Drives with a spot that fails.
    spoiled: BTreeSet<String>,
    /// The array whose action blocks.
    blocked: Option<String>,
    /// What its drives and arrays are.
    pub(super) kind: Kind,
}

impl SimBench {
    /// A machine whose kernel has these habits.
    #[must_use]
    pub fn new(style: KernelStyle) -> Self {
        let mut world = World::new();
        world.style = style;
        Self {
            world,
            spoiled: BTreeSet::new(),
            blocked: None,
            kind: Kind::default(),
        }
    }

    fn create(&mut self, array: char, spec: &Create) -> Result<String, String> {
        let (name, old) = (array.to_string(), spec.old_metadata);
        let members: Vec<String> = spec.members.chars().map(String::from).collect();
        let there: Vec<&str> = members
            .iter()
            .map(String::as_str)
            .filter(|m| *m != "-")
            .collect();
        let style = self.world.style;
        let mut scenario = Scenario::over(std::mem::take(&mut self.world))
            .style(style)
            .array(&name, spec.level.clone(), &there)
            .bitmap(spec.bitmap)
            .md(|a| {
                a.raid_disks = u32::try_from(members.len()).unwrap_or(u32::MAX);
                for member in &mut a.members {
                    let slot = members.iter().position(|m| *m == member.name);
                    member.slot = slot
                        .and_then(|slot| u32::try_from(slot).ok())
                        .map_or(Slot::None, Slot::At);
                }
                if old {
                    a.metadata = Metadata::V0_90;
                }
            });
        for spare in spec.spares.chars() {
            scenario = scenario.spare(&spare.to_string());
        }
        if !spec.clean {
            scenario = scenario.md(out_of_step);
        }
        self.world = scenario.build()?;
        Ok("ok".to_owned())
    }

    fn write(&mut self, name: &str, blocks: u32) -> String {
        let result = self.world.write(name, u64::from(blocks) * 128);
        if result.is_ok() {
            let hit: Vec<String> = self.world.array(name).map_or_else(Vec::new, |array| {
                let spoiled = |m: &&crate::Member| m.good() && self.spoiled.contains(&m.name);
                let members = array.members.iter().filter(spoiled);
                members.map(|m| m.name.clone()).collect()
            });
            for drive in hit {
                self.world.write_error(&drive);
            }
        }
        told(result)
    }

    fn readonly(&mut self, name: &str) -> Result<String, String> {
        self.world.interrupt(name);
        let array = self.world.arrays.get_mut(name).ok_or("no such array")?;
        array.mode = Mode::Readonly;
        array.frozen = false;
        Ok("ok".to_owned())
    }

    fn break_member(&mut self, name: &str, drive: &str) -> Result<String, String> {
        let dev = self.world.dev(drive).ok_or("no such drive")?;
        let answer = told(self.world.write_faulty(name, dev));
        self.world.settle();
        Ok(answer)
    }

    fn foreign(&mut self, drive: &str) -> Result<String, String> {
        let device = self.world.device_mut(drive).ok_or("no such drive")?;
        device.superblock = Some(Superblock {
            array: Uuid::new_v5(&NAMESPACE, b"another array"),
            device: Uuid::new_v5(&NAMESPACE, drive.as_bytes()),
            events: 1,
            role: Some(0),
            recovery_offset: None,
        });
        Ok("ok".to_owned())
    }
}

/// What `mdadm --create` leaves to be done: the last member of a raid5 is rebuilt, the copies of
/// every other level are resynced.
fn out_of_step(array: &mut crate::Array) {
    if array.level == Level::Raid5 {
        if let Some(last) = array.members.iter_mut().rev().find(|m| m.in_sync) {
            last.in_sync = false;
            last.recovery_offset = Some(0);
        }
    } else if array.level != Level::Raid0 {
        array.resync_start = Some(0);
    }
}

pub(super) fn told(result: Result<(), i32>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(errno) => errno_name(errno),
    }
}

impl Bench for SimBench {
    fn furnish(&mut self, script: &Script) -> Result<(), String> {
        self.kind = script.kind;
        let mut scenario = Scenario::over(std::mem::take(&mut self.world));
        for (index, letter) in script.drives.chars().enumerate() {
            let name = letter.to_string();
            let bytes = if script.small.contains(letter) {
                DRIVE_BYTES / 2
            } else {
                DRIVE_BYTES
            };
            let whole = match script.kind {
                Kind::Parts => format!("disk{}", index / 2),
                _ => name.clone(),
            };
            scenario = scenario.part(&name, &whole, bytes);
        }
        self.world = scenario.build()?;
        Ok(())
    }

    fn event(&mut self, array: char, step: &Step) -> Result<String, String> {
        let name = self.array_name(array);
        let ok = Ok("ok".to_owned());
        match step {
            Step::Create(spec) if self.kind == Kind::Sets => self.create_set(array, spec),
            Step::Create(spec) if self.kind == Kind::Volumes => self.create_volume(array, spec),
            Step::Create(spec) => self.create(array, spec),
            Step::Heal(drive) => self.heal(*drive),
            Step::Suspend => Ok(told(self.world.suspend_and_resume(&name))),
            Step::Message(word) => Ok(told(self.world.message(&name, *word, true))),
            Step::Load => self.load_again(&name),
            Step::Break(drive) => self.break_member(&name, &drive.to_string()),
            Step::Write(blocks) => Ok(self.write(&name, *blocks)),
            Step::Stop => {
                self.world.stop(&name);
                ok
            }
            Step::Assemble {
                drives,
                auto,
                dirty,
            } => {
                let drives: Vec<String> = drives.chars().map(String::from).collect();
                self.world.assemble_from(&name, &drives, *auto, *dirty);
                ok
            }
            Step::Readonly => self.readonly(&name),
            Step::Hang(drive) => {
                self.world.hang(&drive.to_string());
                ok
            }
            Step::Unhang(drive) => {
                self.world.unhang(&drive.to_string());
                ok
            }
            Step::Spoil(drive) => {
                self.spoiled.insert(drive.to_string());
                let device = self.world.device_mut(&drive.to_string());
                device.ok_or("no such drive")?.unreadable = 1;
                ok
            }
            Step::Differ(_) => {
                let array = self.world.arrays.get_mut(&name).ok_or("no such array")?;
                array.mismatch_real = 128;
                ok
            }
            Step::Kill(drive) => {
                self.world.kill(&drive.to_string());
                ok
            }
            Step::Pull(drive) => {
                self.world.pull(&drive.to_string());
                ok
            }
            Step::Park(sixteenths) => {
                let array = self.world.arrays.get_mut(&name).ok_or("no such array")?;
                let at = array.component * u64::from(*sixteenths) / 16;
                Ok(told(self.world.set_sync_max(&name, Some(at))))
            }
            Step::Go => Ok(told(self.world.set_sync_max(&name, None))),
            Step::Foreign(drive) => self.foreign(&drive.to_string()),
            other => Err(format!("{other:?} is no event")),
        }
    }

    fn act(&mut self, action: &Action) -> Done {
        match self.world.begin(action) {
            Outcome::Done(result) => Done::Answered(result),
            Outcome::Blocked(array) => {
                self.blocked = Some(array);
                Done::Blocked
            }
        }
    }

    fn ended(&mut self) -> Result<String, String> {
        let array = self.blocked.take().ok_or("nothing blocks")?;
        if self.world.stop_blocked(&array) {
            return Err("it still blocks".to_owned());
        }
        Ok("ok".to_owned())
    }

    fn array_name(&self, array: char) -> String {
        match self.kind {
            Kind::Sets => format!("mapper/{array}"),
            Kind::Volumes => format!("mapper/{GROUP}-{array}"),
            _ => array.to_string(),
        }
    }

    fn group(&self) -> String {
        GROUP.to_owned()
    }

    fn leg(&mut self, drive: char) -> Result<Target, String> {
        self.leg_on(drive)
    }

    fn metadata(&mut self, drive: char) -> Result<Target, String> {
        self.metadata_on(drive)
    }

    fn target(&self, drive: char) -> Result<Target, String> {
        let name = drive.to_string();
        let device = self.world.devices.values().find(|d| d.name == name);
        let device = device.ok_or_else(|| format!("no drive {drive}"))?;
        Ok(Target {
            dev: device.dev,
            name,
            id: device.id,
        })
    }

    fn letter(&self, name: &str) -> String {
        self.world.drive_name(name)
    }

    fn scan(&mut self, request: &ScanRequest) -> Result<Inventory, String> {
        Ok(self.world.inventory(request))
    }

    fn rest(
        &mut self,
        passing: &mut dyn FnMut(&ArrayFacts),
    ) -> Result<Vec<(char, ArrayFacts)>, String> {
        for _ in 0..MANY {
            // What blocked goes on as soon as the drive does.
            if let Some(array) = self.blocked.clone()
                && !self.world.stop_blocked(&array)
            {
                let _ = self.world.end_blocked(&array);
            }
            self.world.settle();
            let facts: Vec<(char, ArrayFacts)> = self
                .world
                .arrays
                .values()
                .filter_map(|a| Some((a.name.chars().last()?, self.world.array_facts(a, false))))
                .collect();
            for (_, facts) in &facts {
                passing(facts);
            }
            match self.world.next_event_ms() {
                Some(at) => self.world.advance_to(at),
                None => return Ok(facts),
            }
        }
        Err(format!("no rest after {MANY} events"))
    }
}

/// Sectors of 64 KiB, the blocks that scenarios write.
pub const BLOCK_BYTES: u64 = 128 * SECTOR;
