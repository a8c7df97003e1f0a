//! One schedule: what happens to a machine, drawn from its seed.

use lun_core::action::{Action, SyncWord, Target};
use lun_core::facts::Slot;
use lun_core::id::{DevNo, LunId, OpId};
use lun_core::machine::{Command, LedgerState};

use super::rig::{Pace, Rig};
use crate::world::{Array, Mode, World};

/// Something that ends by itself, later.
#[derive(Debug, Clone)]
pub(super) enum Later {
    /// A drive hangs no longer.
    Unhang(String),
    /// The ledger can be written again.
    LedgerWorks,
    /// A stopped array is assembled.
    Assemble(String),
    /// The daemon is started.
    Start,
}

/// The things of one schedule that are still to come.
#[derive(Debug, Default)]
pub(super) struct Agenda(Vec<(u64, Later)>);

impl Agenda {
    pub(super) fn add(&mut self, at_ms: u64, what: Later) {
        self.0.push((at_ms, what));
    }

    /// Does what is due by now; with `all` everything.
    pub(super) fn due(&mut self, rig: &mut Rig, all: bool) {
        let now = rig.now_ms();
        let (due, later) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(at, _)| all || *at <= now);
        self.0 = later;
        for (_, what) in due {
            rig.tell(|| format!("*** {what:?}"));
            match what {
                Later::Unhang(name) => rig.happens(|world| world.unhang(&name)),
                Later::LedgerWorks => rig.ledger_works(),
                Later::Assemble(name) => {
                    let read_auto = rig.random.one_in(3);
                    rig.happens(|world| world.assemble_found(&name, read_auto));
                }
                Later::Start => rig.start(),
            }
        }
    }
}

/// How a schedule's effects are carried out.
pub(super) fn pace(rig: &mut Rig) -> Pace {
    let random = &mut rig.random;
    let slow = random.one_in(4);
    let lossy = random.below(4);
    Pace {
        scan_ms: if slow { 400 } else { 40 },
        read_ms: if slow { 100 } else { 10 },
        act_ms: if slow { 500 } else { 40 },
        write_ms: if slow { 200 } else { 10 },
        slow_one_in: if random.one_in(2) { 12 } else { 0 },
        lose_one_in: match lossy {
            0 => 2,
            1 => 10,
            _ => 0,
        },
        double_one_in: if random.one_in(2) { 6 } else { 0 },
    }
}

/// Most administrators have registered a spare or two.
pub(super) fn prepare(rig: &mut Rig) {
    for _ in 0..rig.random.below(3) {
        let drive = free_drive(rig);
        let force = false;
        rig.call(Command::SpareAdd { drive, force });
    }
}

/// The next thing happens.
pub(super) fn disturb(rig: &mut Rig, agenda: &mut Agenda) {
    match rig.random.below(100) {
        0..=37 => call(rig),
        38..=40 => hang_amid_work(rig, agenda),
        41..=46 => death_amid_an_action(rig, agenda),
        47..=69 => misfortune(rig, agenda),
        70..=81 => somebody_else(rig, agenda),
        82..=92 => death(rig, agenda),
        _ => restart_of_the_machine(rig, agenda),
    }
}

fn some_drive(rig: &mut Rig) -> String {
    let names: Vec<String> = rig.world.devices.values().map(|d| d.name.clone()).collect();
    rig.random.pick(&names).cloned().unwrap_or_default()
}

/// A drive that is no member, if there is one: what clients register is rarely a member.
fn free_drive(rig: &mut Rig) -> String {
    let world = &rig.world;
    let idle = |d: &&crate::world::Device| d.present && world.array_of(d.dev).is_none();
    let names: Vec<String> = world
        .devices
        .values()
        .filter(idle)
        .map(|d| d.name.clone())
        .collect();
    match rig.random.pick(&names).cloned() {
        Some(name) if !rig.random.one_in(6) => name,
        _ => some_drive(rig),
    }
}

fn some_array(rig: &mut Rig) -> Option<String> {
    let names: Vec<String> = rig.world.arrays.keys().cloned().collect();
    rig.random.pick(&names).cloned()
}

fn some_lun(rig: &mut Rig) -> Option<LunId> {
    let name = some_array(rig)?;
    rig.machine()?.resolve_lun(&name).ok()
}

fn some_op(rig: &mut Rig) -> Option<OpId> {
    let machine = rig.machine()?;
    let running = machine.op_views().filter(|op| op.ended_at_ms.is_none());
    let running: Vec<OpId> = running.map(|op| op.id).collect();
    let all: Vec<OpId> = machine.op_views().map(|op| op.id).collect();
    if rig.random.one_in(5) || running.is_empty() {
        return rig.random.pick(&all).copied();
    }
    rig.random.pick(&running).copied()
}

/// A client calls.
fn call(rig: &mut Rig) {
    let Some(lun) = some_lun(rig) else { return };
    let drive = free_drive(rig);
    let command = match rig.random.below(20) {
        0..=5 => {
            let spare = rig.random.one_in(6).then_some(drive);
            Command::Recover {
                lun,
                spare,
                repair: rig.random.one_in(5),
                dry_run: rig.random.one_in(10),
            }
        }
        6..=10 => {
            let force = rig.random.one_in(10) && gives_up(rig, &drive);
            Command::SpareAdd { drive, force }
        }
        11..=13 => {
            let Some(op) = some_op(rig) else { return };
            let release_spare = rig.random.one_in(2);
            let command = Command::Cancel { op, release_spare };
            if rig.random.one_in(4) {
                // Two clients cancel at once.
                rig.call(command.clone());
            }
            command
        }
        14 => Command::Release { lun },
        15 => Command::Verify { lun },
        16 => {
            let drive = some_drive(rig);
            let with = rig.random.one_in(2).then(|| free_drive(rig));
            Command::Replace {
                lun,
                drive,
                with,
                dry_run: false,
            }
        }
        17 => Command::SpareRemove { drive },
        18 => Command::Refresh,
        _ => Command::Reenumerate,
    };
    rig.call(command);
}

/// The owner of a drive that no array uses agrees to lose what is on it.
fn gives_up(rig: &mut Rig, drive: &str) -> bool {
    let Some(dev) = rig.world.dev(drive) else {
        return false;
    };
    let leg_or_volume = rig.world.devices.get(&dev);
    if leg_or_volume.is_some_and(|d| d.under.is_some() || rig.world.group_of(d.id).is_some()) {
        return false;
    }
    let mut arrays = rig.world.arrays.values().chain(rig.world.stopped.values());
    if arrays.any(|array| array.member(dev).is_some()) {
        return false;
    }
    if let Some(device) = rig.world.devices.get_mut(&dev) {
        device.precious = false;
        device.content = None;
    }
    true
}

/// The member named would be the one too many: dead arrays teach little.
fn is_needed(world: &World, drive: &str) -> bool {
    let device = world.devices.values().find(|d| d.name == drive);
    // What befalls a drive befalls all legs on it, and what befalls a leg its drive.
    let legs = device.map_or_else(Vec::new, |d| world.legs_on(d.under.unwrap_or(d.id)));
    if legs.is_empty() {
        let Some(array) = world.dev(drive).and_then(|dev| world.array_of(dev)) else {
            return false;
        };
        let mut after: Array = array.clone();
        for member in after.members.iter_mut().filter(|m| m.name == drive) {
            member.faulty = true;
        }
        return !after.enough();
    }
    world.arrays.values().any(|array| {
        let mut after: Array = array.clone();
        for member in after.members.iter_mut() {
            member.faulty |= legs.contains(&member.dev);
        }
        array.enough() && !after.enough()
    })
}

/// Drives fail, hang, go and come.
fn misfortune(rig: &mut Rig, agenda: &mut Agenda) {
    let drive = some_drive(rig);
    let needed = is_needed(&rig.world, &drive) && !rig.random.one_in(40);
    let ms = rig.random.between(100, 40_000);
    let at = rig.now_ms() + ms;
    match rig.random.below(22) {
        0..=4 if !needed => {
            rig.fault("member failed", &drive);
            rig.happens(|world| world.fail_device(&drive));
        }
        5..=6 if !needed => {
            rig.fault("drive unplugged", &drive);
            rig.happens(|world| world.vanish(&drive));
        }
        7 if !needed => {
            rig.fault("drive pulled, array not told", &drive);
            rig.happens(|world| world.pull(&drive));
        }
        8..=10 => {
            let gone = |d: &&crate::world::Device| !d.present && d.under.is_none();
            let gone = rig.world.devices.values().filter(gone);
            let gone: Vec<String> = gone.map(|d| d.name.clone()).collect();
            if let Some(name) = rig.random.pick(&gone).cloned() {
                come_back(rig, &name);
            }
        }
        11 => {
            rig.fault("write error", &drive);
            rig.happens(|world| world.write_error(&drive));
        }
        12 => {
            rig.fault("drive hangs", &drive);
            rig.happens(|world| world.hang(&drive));
            agenda.add(at, Later::Unhang(drive));
        }
        13 => {
            rig.fault("will fail while filled", &drive);
            let sector = rig.random.between(1, 36_000);
            rig.happens(|world| {
                if let Some(device) = world.device_mut(&drive) {
                    device.fails_at = Some(sector);
                }
            });
        }
        14 if rig.random.one_in(3) => {
            rig.fault("unreadable range", &drive);
            rig.happens(|world| {
                if let Some(device) = world.device_mut(&drive) {
                    device.unreadable = 1;
                }
            });
        }
        15 => {
            let times = u32::try_from(rig.random.between(1, 4)).unwrap_or(1);
            rig.fault("array busy", "");
            rig.world.busy_next = times;
        }
        16 => {
            rig.fault("ledger fails", "");
            rig.ledger.failing = true;
            agenda.add(at, Later::LedgerWorks);
        }
        _ => {
            if let Some(name) = some_array(rig) {
                let sectors = rig.random.between(8, 512);
                rig.tell(|| format!("*** an application writes to {name}"));
                let _ = rig.happens(|world| world.write(&name, sectors));
            }
        }
    }
}

fn come_back(rig: &mut Rig, name: &str) {
    let rename = rig.random.one_in(3);
    if rename {
        rig.fault("drive back under another name", name);
        let number = u32::try_from(rig.random.below(200)).unwrap_or(0);
        let dev = DevNo {
            major: 66,
            minor: number * 16,
        };
        let new = format!("sdy{number}");
        rig.happens(|world| world.plug_as(name, &new, dev));
    } else {
        rig.fault("drive back", name);
        rig.happens(|world| world.plug(name));
    }
}

/// A second administrator, `mdadm --monitor`, a cron job.
fn somebody_else(rig: &mut Rig, agenda: &mut Agenda) {
    let Some(array) = some_array(rig) else { return };
    if rig.world.array(&array).is_some_and(|a| a.dm.is_some()) {
        return super::raid_sets::others(rig, agenda, &array);
    }
    let drive = some_drive(rig);
    let Some(target) = target(&rig.world, &drive) else {
        return;
    };
    let member = rig
        .world
        .array(&array)
        .and_then(|a| a.member(target.dev))
        .cloned();
    let needed = is_needed(&rig.world, &drive);
    match rig.random.below(10) {
        0..=4 => {
            let words = [
                SyncWord::Idle,
                SyncWord::Frozen,
                SyncWord::Check,
                SyncWord::Repair,
                SyncWord::Recover,
            ];
            let word = rig.random.pick(&words).copied().unwrap_or(SyncWord::Idle);
            rig.tally.fault("somebody writes sync_action");
            rig.meddle(&Action::SetSync { array, word });
        }
        5 if member.is_none() && !is_marked(&rig.world, &drive) => {
            rig.tally.fault("somebody adds a spare");
            rig.meddle(&Action::AddSpare {
                array,
                drive: target,
            });
        }
        6 if member.is_some() && !needed => {
            rig.tally.fault("somebody fails and removes a member");
            let drive = target.clone();
            rig.meddle(&Action::FailMember {
                array: array.clone(),
                drive,
            });
            rig.meddle(&Action::RemoveMember {
                array,
                drive: target,
            });
        }
        7 if member.is_some_and(|m| m.slot == Slot::None) => {
            rig.tally.fault("somebody removes a spare");
            rig.meddle(&Action::RemoveMember {
                array,
                drive: target,
            });
        }
        8 if rig.world.array(&array).is_some_and(|a| a.bitmap) => {
            rig.tally.fault("somebody re-adds a member");
            rig.meddle(&Action::ReAdd {
                array,
                drive: target,
            });
        }
        9 => {
            rig.fault("array stopped by somebody", &array);
            rig.happens(|world| world.stop(&array));
            let at = rig.now_ms() + rig.random.between(1, 20_000);
            agenda.add(at, Later::Assemble(array));
        }
        _ => {}
    }
}

/// Whether nobody in his right mind would give this drive to an array.
fn is_marked(world: &World, drive: &str) -> bool {
    world.device(drive).is_none_or(|d| {
        d.precious || !d.used_by.is_empty() || !d.signatures.is_empty() || d.content.is_some()
    })
}

pub(super) fn target(world: &World, drive: &str) -> Option<Target> {
    let device = world.devices.values().find(|d| d.name == drive)?;
    Some(Target {
        dev: device.dev,
        name: device.name.clone(),
        id: device.id,
    })
}

/// A recovery is asked for, and the daemon dies while an action is under way, in its middle, or
/// before its end is known.
fn death_amid_an_action(rig: &mut Rig, agenda: &mut Agenda) {
    if let Some(lun) = some_lun(rig) {
        rig.call(Command::Recover {
            lun,
            spare: None,
            repair: false,
            dry_run: false,
        });
    }
    let limit = rig.now_ms() + 3_000;
    let mut acting = rig.random.between(1, 12);
    while acting > 0 && rig.next(limit) {
        if rig.is_acting() {
            acting -= 1;
        }
    }
    death(rig, agenda);
}

/// A member hangs while something is copied, and somebody cancels.
fn hang_amid_work(rig: &mut Rig, agenda: &mut Agenda) {
    let busy = rig.world.arrays.values().filter(|a| a.sync.is_some());
    let members: Vec<DevNo> = busy.flat_map(|a| &a.members).map(|m| m.dev).collect();
    let Some(dev) = rig.random.pick(&members).copied() else {
        return call(rig);
    };
    let Some(name) = rig.world.devices.get(&dev).map(|d| d.name.clone()) else {
        return;
    };
    rig.fault("drive hangs", &name);
    rig.happens(|world| world.hang(&name));
    let at = rig.now_ms() + rig.random.between(100, 60_000);
    agenda.add(at, Later::Unhang(name));
    if let Some(op) = some_op(rig) {
        let release_spare = rig.random.one_in(2);
        rig.call(Command::Cancel { op, release_spare });
    }
    let ms = rig.random.between(0, 40_000);
    rig.run_for(ms);
}

/// The daemon dies, and is started again at once or after a while.
fn death(rig: &mut Rig, agenda: &mut Agenda) {
    if rig.machine().is_none() {
        return;
    }
    rig.tally.fault("daemon killed");
    rig.kill();
    if rig.random.one_in(40) {
        rig.fault("ledger lost", "");
        rig.ledger = super::ledger::Ledger::default();
        rig.checks.ledger_lost();
        rig.disown_hung();
        rig.start_with(|state| LedgerState {
            degraded: Some("lund.db was corrupt and is set aside".to_owned()),
            ..state
        });
    } else if rig.random.one_in(3) {
        let at = rig.now_ms() + rig.random.between(1, 30_000);
        agenda.add(at, Later::Start);
    } else {
        rig.start();
    }
}

/// Reboot or power cut. The daemon comes up before the arrays, amid them, or after them.
fn restart_of_the_machine(rig: &mut Rig, agenda: &mut Agenda) {
    rig.kill();
    rig.ledger.committed.host_went_down();
    let cut = rig.random.one_in(2);
    let writing = rig.random.one_in(2);
    rig.fault(if cut { "power cut" } else { "reboot" }, "");
    rig.happens(|world| {
        if cut {
            world.power_cut(writing);
        } else {
            world.shut_down();
        }
    });
    forget_what_nobody_saw(rig);
    if rig.random.one_in(3) {
        let drives = rig.world.devices.values().filter(|d| d.under.is_none());
        let mut order: Vec<DevNo> = drives.map(|d| d.dev).collect();
        rig.random.shuffle(&mut order);
        rig.fault("names dealt anew", "");
        rig.happens(|world| world.deal_names(&order));
    }
    if rig.random.one_in(4) {
        let drive = some_drive(rig);
        rig.fault("drive gone after the restart", &drive);
        rig.happens(|world| world.pull(&drive));
    }
    let early = rig.random.one_in(2);
    let now = rig.now_ms();
    let names: Vec<String> = rig.world.stopped.keys().cloned().collect();
    for name in names {
        let spread = if early { 15_000 } else { 1 };
        let ms = rig.random.between(0, spread);
        agenda.add(now + ms, Later::Assemble(name));
    }
    agenda.add(now + rig.random.between(1, 5_000), Later::Start);
}

/// A fill that began and went on while no daemon lived leaves nothing that a daemon could know it by:
/// what it did to the copies is not held against lund.
fn forget_what_nobody_saw(rig: &mut Rig) {
    let committed = &rig.ledger.committed;
    for array in rig.world.stopped.values_mut() {
        if !committed.tells_of_a_fill(LunId(array.uuid)) {
            array.members.iter_mut().for_each(|m| m.torn = false);
        }
    }
}

/// Arrays on which recovery can be asked for.
pub(super) fn recoverable(world: &World) -> Vec<String> {
    let fit = |array: &&Array| {
        let runs = matches!(array.mode, Mode::Running | Mode::ReadAuto);
        runs && array.has_sync() && array.enough() && !array.broken
    };
    let fit = world.arrays.values().filter(fit);
    fit.map(|array| array.name.clone()).collect()
}
