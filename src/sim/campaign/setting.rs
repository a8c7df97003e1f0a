//! The machines that schedules begin with.

use lun_core::facts::{Level, Metadata};
use lun_core::id::DevNo;

use super::random::Random;
use crate::scenario::Scenario;
use crate::world::{KernelStyle, Mode, World};

/// Bytes of an ordinary drive: small, so that a rebuild takes some seconds of virtual time.
pub(super) const DRIVE: u64 = 20 << 20;
/// Bytes a second of a sync thread.
const RATE: u64 = 4 << 20;

const LEVELS: &[(Level, usize)] = &[
    (Level::Raid1, 2),
    (Level::Raid1, 2),
    (Level::Raid1, 3),
    (Level::Raid4, 3),
    (Level::Raid5, 3),
    (Level::Raid5, 4),
    (Level::Raid6, 4),
    (Level::Raid6, 5),
    (Level::Raid10, 4),
    (Level::Raid10, 3),
];

/// A machine with one to three arrays and some drives more.
pub(super) fn world(random: &mut Random) -> Result<World, String> {
    let styles = [KernelStyle::V6_1, KernelStyle::V6_12, KernelStyle::V7];
    let style = random.pick(&styles).copied().unwrap_or_default();
    let mut scenario = Scenario::new().style(style);
    let arrays = match random.below(10) {
        0..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    // Partitions of the same disks: their arrays take turns.
    let shared = random.one_in(3);
    let mut letter = 0;
    for number in 0..arrays {
        let (level, count) = random.pick(LEVELS).cloned().unwrap_or((Level::Raid1, 2));
        let first = if shared { 0 } else { letter };
        letter = letter.max(first + count);
        let disks: Vec<String> = (first..first + count).map(disk_name).collect();
        let members: Vec<String> = if shared {
            let part = |disk: &String| format!("{disk}{}", number + 1);
            disks.iter().map(part).collect()
        } else {
            disks.clone()
        };
        for (member, disk) in members.iter().zip(&disks) {
            scenario = scenario.part(member, disk, DRIVE);
        }
        let names: Vec<&str> = members.iter().map(String::as_str).collect();
        scenario = array(scenario, random, &format!("md{number}"), level, &names);
    }
    scenario = more_drives(scenario, random, letter);
    let mut world = scenario.build()?;
    world.set_rate(RATE);
    Ok(world)
}

/// `sda`, `sdb`, ...
pub(super) fn disk_name(index: usize) -> String {
    let letter = u8::try_from(index % 26).unwrap_or(0) + b'a';
    format!("sd{}", char::from(letter))
}

fn array(
    scenario: Scenario,
    random: &mut Random,
    name: &str,
    level: Level,
    members: &[&str],
) -> Scenario {
    let bitmap = random.one_in(2);
    let old = random.one_in(6);
    let mut scenario = scenario.array(name, level, members).bitmap(bitmap);
    if old {
        scenario = scenario.md(|array| array.metadata = Metadata::V0_90);
    }
    if random.one_in(8) {
        scenario = scenario.mode(Mode::ReadAuto);
    }
    match random.below(8) {
        0 => scenario.dirty(),
        1..=4 => {
            let victim = random.pick(members).copied().unwrap_or_default().to_owned();
            scenario.lost(&victim)
        }
        _ => scenario,
    }
}

/// Spares that fit and drives that do not.
fn more_drives(mut scenario: Scenario, random: &mut Random, first: usize) -> Scenario {
    let mut next = first;
    let mut name = || {
        next += 1;
        disk_name(next - 1)
    };
    for _ in 0..random.between(1, 3) {
        scenario = scenario.disk(&name(), DRIVE + (random.below(3) << 20));
    }
    match random.below(8) {
        0 => scenario.disk(&name(), DRIVE / 2),
        1 => scenario.disk(&name(), DRIVE).precious("ext4"),
        2 => scenario.disk(&name(), DRIVE).drive(|drive| {
            drive.precious = true;
            drive.used_by.push("mounted on /srv".to_owned());
        }),
        3 => scenario
            .disk(&name(), DRIVE)
            .drive(|drive| drive.block_bytes = 4096),
        4 => scenario
            .disk(&name(), DRIVE)
            .drive(|drive| drive.fails_at = Some(20_000)),
        5 => scenario.disk(&name(), DRIVE).drive(|drive| {
            drive.opened = true;
            drive.precious = true;
        }),
        _ => scenario,
    }
}

/// A blank drive that fits every array of the setting.
pub(super) fn plug_blank(world: &mut World, number: u32) -> Result<String, String> {
    let name = format!("sdz{number}");
    let blank = Scenario::new().disk(&name, DRIVE + (1 << 20)).build()?;
    let dev = DevNo {
        major: 65,
        minor: number * 16,
    };
    for mut device in blank.devices.into_values() {
        device.dev = dev;
        world.devices.insert(dev, device);
    }
    world.plug(&name);
    Ok(name)
}
