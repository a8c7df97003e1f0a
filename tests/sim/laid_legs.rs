//! Legs that lund lays on sets made with dmsetup: killed between any two of its steps, started again, and
//! after a reboot of the host.

use lun_core::action::{Action, SyncWord};
use lun_core::facts::Level;
use lun_core::model::Health;
use lun_sim::dm::{DmSet, Reached};
use lun_sim::{KernelStyle, Scenario};

use super::rig::Rig;

const STYLES: [KernelStyle; 3] = [KernelStyle::V6_1, KernelStyle::V6_12, KernelStyle::V7];
const NAME: &str = "mapper/set";
const DRIVE: u64 = 40 << 20;

/// A mirror on sda and sdb, and sdc in the pool.
fn mirror(style: KernelStyle) -> Rig {
    let scenario = Scenario::new()
        .style(style)
        .disks(&["sda", "sdb", "sdc"], DRIVE)
        .bare("set", Level::Raid1, &["sda", "sdb"], 16);
    let mut rig = Rig::new(scenario.build().unwrap());
    rig.add_spare("sdc");
    rig
}

fn set(rig: &Rig) -> DmSet {
    rig.kernel
        .with(|world| *world.array(NAME).unwrap().dm.clone().unwrap())
}

/// Whole, with both devices of the new leg in the table, and nothing left over.
fn is_whole(rig: &Rig) {
    let (lun, set) = (rig.lun(NAME), set(rig));
    assert_eq!(lun.health, Health::Healthy, "{}", rig.story());
    assert_eq!(set.laid.len(), 2, "{set:?}\n{}", rig.story());
    assert!(
        set.laid.iter().all(|laid| set.uses(laid.dev)),
        "{set:?}\n{}",
        rig.story()
    );
    assert!(
        set.rebuild.is_empty() && !set.inactive_table,
        "{set:?}\n{}",
        rig.story()
    );
    rig.sound();
}

#[test]
fn a_daemon_that_dies_amid_the_laying_of_a_leg_lays_it_when_it_lives_again() {
    for style in STYLES {
        for reached in Reached::ALL {
            let mut rig = mirror(style);
            rig.happens(|world| world.vanish("sdb"));
            rig.dies_at = Some(reached);
            rig.ask_recovery(NAME);
            rig.pump();
            rig.until("dead", |rig| rig.dies_at.is_none());
            rig.restart();
            let op = rig.machine.snapshot().ops[0].id;
            let op = rig.finished(op);
            let told = format!("{style:?} {reached:?} {op:?}\n{}", rig.story());
            assert_eq!(op.state, "succeeded", "{told}");
            is_whole(&rig);
        }
    }
}

/// The set is gone, until its administrator has made it with the commands that the LUN shows.
#[test]
fn a_set_with_a_laid_leg_is_made_again_after_a_reboot() {
    for style in STYLES {
        let mut rig = mirror(style);
        rig.happens(|world| world.vanish("sdb"));
        let op = rig.recover(NAME).unwrap().id;
        rig.finished(op);
        is_whole(&rig);
        assert_eq!(rig.lun(NAME).recreate.len(), 3, "{}", rig.story());
        rig.start_of_the_host(|world| world.shut_down());
        assert!(
            rig.machine
                .snapshot()
                .luns
                .iter()
                .all(|lun| lun.name != NAME),
            "{}",
            rig.story()
        );
        rig.happens(|world| world.assemble_found(NAME, false));
        rig.pass(30_000);
        is_whole(&rig);
    }
}

/// The superblock of the leg that was lost says that it is in sync, and the kernel would believe it.
#[test]
fn the_superblock_of_a_replaced_leg_is_erased_when_it_can_be_written() {
    let mut rig = mirror(KernelStyle::V6_12);
    rig.happens(|world| world.fail_device("sdb"));
    let leg = set(&rig).legs[1].clone();
    // Its data cannot be read: it is not taken back. Its metadata can be written.
    rig.happens(|world| {
        if let Some(data) = world.devices.get_mut(&leg.data) {
            data.dead = true;
        }
    });
    rig.happens(|world| world.write(NAME, 8).unwrap());
    let op = rig.recover(NAME).unwrap().id;
    let op = rig.finished(op);
    assert_eq!(op.state, "succeeded", "{op:?}\n{}", rig.story());
    is_whole(&rig);
    let former = set(&rig).former;
    assert!(
        former.len() == 1 && former[0].meta == leg.meta && former[0].superblock.is_none(),
        "{former:?}\n{}",
        rig.story()
    );
}

/// A failed leg that cannot be read is in no table that is loaded after its loss.
#[test]
fn a_dead_leg_is_left_out_of_the_table_of_a_hold() {
    let mut rig = mirror(KernelStyle::V6_12);
    rig.happens(|world| world.vanish("sdb"));
    let array = NAME.to_owned();
    let word = SyncWord::Frozen;
    rig.happens(|world| world.act(&Action::SetSync { array, word }))
        .unwrap();
    assert!(set(&rig).legs[1].left_out);
    let op = rig.recover(NAME).unwrap().id;
    let op = rig.finished(op);
    assert_eq!(op.state, "succeeded", "{op:?}\n{}", rig.story());
    is_whole(&rig);
}

/// On 6.1 the message `frozen` holds until another one comes: a table at another rate was no use.
#[test]
fn what_somebodys_message_froze_is_let_go() {
    let mut rig = mirror(KernelStyle::V6_1);
    rig.happens(|world| world.message(NAME, SyncWord::Frozen, false))
        .unwrap();
    let op = rig.recover(NAME).unwrap().id;
    let op = rig.finished(op);
    assert_eq!(op.state, "succeeded", "{op:?}\n{}", rig.story());
    let frozen = rig.kernel.with(|world| world.array(NAME).unwrap().frozen);
    assert!(!frozen, "{}", rig.story());
    rig.sound();
}

/// At the lowest rate a check crawls: 1 KiB a second. What somebody holds is not checked.
#[test]
fn a_check_is_not_begun_at_the_lowest_rate() {
    for word in [SyncWord::Check, SyncWord::Repair] {
        let rig = mirror(KernelStyle::V6_12);
        let say = |word| Action::SetSync {
            array: NAME.to_owned(),
            word,
        };
        rig.kernel
            .with(|world| world.act(&say(SyncWord::Frozen)))
            .unwrap();
        let refused = rig.kernel.with(|world| world.act(&say(word)));
        assert!(
            matches!(refused, Err(lun_core::Error::LunNotReady { .. })),
            "{refused:?}"
        );
    }
}
