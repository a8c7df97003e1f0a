//! What is refused at the last moment, whatever the plan said.

use std::fs;

use lun_core::Error;
use lun_core::action::{Action, FormerOf};

use super::Machine;

/// Since the plan was made its array has lost another member: what is on the former one may be needed.
#[test]
fn a_former_member_that_may_be_needed_is_not_erased() {
    let machine = Machine::new();
    machine.mirror(false);
    machine.loop_disk(2, "/var/d2");
    let wipe = Action::Wipe {
        drive: machine.target("loop2"),
        former: Some(FormerOf {
            array: "md0".to_owned(),
            degraded: 1,
        }),
    };
    machine.put("sys/block/md0/md/degraded", "2\n");
    let refused = machine.act(&wipe);
    assert!(
        matches!(refused, Err(Error::LunNotReady { .. })),
        "{refused:?}"
    );
    machine.put("sys/block/md0/md/degraded", "1\n");
    machine.put("sys/block/md0/md/array_state", "broken\n");
    let refused = machine.act(&wipe);
    assert!(
        matches!(refused, Err(Error::LunNotReady { .. })),
        "{refused:?}"
    );
}

/// Since the plan was made the half-filled member was taken out: the resync is what the others need.
#[test]
fn a_resync_is_put_off_only_while_a_member_is_half_filled() {
    let machine = Machine::new();
    machine.mirror(false);
    let md = "sys/block/md0/md";
    let clear = |fill_first| {
        let array = "md0".to_owned();
        machine.act(&Action::ClearResyncStart { array, fill_first })
    };
    machine.put(&format!("{md}/resync_start"), "0\n");
    for (slot, state) in [("1", "in_sync"), ("none", "spare"), ("1", "faulty")] {
        machine.put(&format!("{md}/dev-loop1/slot"), &format!("{slot}\n"));
        machine.put(&format!("{md}/dev-loop1/state"), &format!("{state}\n"));
        let refused = clear(true);
        assert!(
            matches!(refused, Err(Error::LunNotReady { .. })),
            "{slot} {state}: {refused:?}"
        );
        assert_eq!(machine.get(&format!("{md}/resync_start")), "0\n");
    }
    machine.put(&format!("{md}/dev-loop1/slot"), "1\n");
    machine.put(&format!("{md}/dev-loop1/state"), "spare\n");
    clear(true).unwrap();
    assert_eq!(machine.get(&format!("{md}/resync_start")), "none");
    machine.put(&format!("{md}/dev-loop1/state"), "in_sync\n");
    machine.put(&format!("{md}/resync_start"), "0\n");
    clear(false).unwrap();
    assert_eq!(machine.get(&format!("{md}/resync_start")), "none");
}

/// A member is dropped by name only when nothing is behind the name, and never one with data.
#[test]
fn only_a_vanished_member_is_dropped() {
    let machine = Machine::new();
    machine.mirror(false);
    let drop_of = |member: &str| Action::DropVanished {
        array: "md0".to_owned(),
        member: member.to_owned(),
    };
    let busy = |result: Result<(), Error>| {
        assert!(
            matches!(
                result,
                Err(Error::Kernel {
                    errno: libc::EBUSY,
                    ..
                })
            ),
            "{result:?}"
        );
    };
    busy(machine.act(&drop_of("loop1")));
    let folder = "sys/devices/virtual/block/md0/md";
    for member in ["loop0", "loop1"] {
        fs::remove_file(machine.path(&format!("{folder}/dev-{member}/block"))).unwrap();
    }
    busy(machine.act(&drop_of("loop0")));
    assert_eq!(machine.get("sys/block/md0/md/dev-loop0/state"), "in_sync\n");
    machine.act(&drop_of("nobody")).unwrap();
    machine.act(&drop_of("loop1")).unwrap();
    assert_eq!(machine.get("sys/block/md0/md/dev-loop1/state"), "remove");
}

#[test]
fn the_last_guards_hold() {
    let machine = Machine::new();
    machine.mirror(false);
    let (array, good) = ("md0".to_owned(), machine.target("loop0"));
    let fail = Action::FailMember {
        array: array.clone(),
        drive: good.clone(),
    };
    assert!(matches!(
        machine.act(&fail),
        Err(Error::MemberHealthy { .. })
    ));
    let remove = Action::RemoveMember {
        array: array.clone(),
        drive: good.clone(),
    };
    assert!(matches!(
        machine.act(&remove),
        Err(Error::MemberHealthy { .. })
    ));
    assert_eq!(machine.get("sys/block/md0/md/dev-loop0/state"), "in_sync\n");
    let re_add = Action::ReAdd {
        array: array.clone(),
        drive: machine.target("loop1"),
    };
    assert!(matches!(
        machine.act(&re_add),
        Err(Error::NotSupported { .. })
    ));
    // Its finished replacement fills the same slot: now it may go.
    machine.put("sys/block/md0/md/dev-loop1/state", "in_sync\n");
    machine.put("sys/block/md0/md/dev-loop1/slot", "0\n");
    machine.act(&fail).unwrap();
    assert!(
        machine
            .get("sys/block/md0/md/dev-loop0/state")
            .starts_with("faulty")
    );
}

/// Whether a bay has a light is known to `ledctl` alone.
#[test]
fn a_light_takes_ledctl_and_the_disk_that_was_meant() {
    let machine = Machine::new();
    machine.loop_disk(2, "/var/d2");
    let light = |on| Action::Light {
        drive: machine.target("loop2"),
        on,
    };
    let refused = machine.act(&light(true)).unwrap_err();
    assert!(matches!(refused, Error::NotSupported { .. }), "{refused:?}");
    assert!(refused.to_string().contains("ledmon"), "{refused}");
    machine.tool("ledctl", "exit 0");
    machine.act(&light(true)).unwrap();
    machine.act(&light(false)).unwrap();
    let node = machine.path("dev/loop2").display().to_string();
    let want = format!("ledctl locate={node}\nledctl locate_off={node}");
    assert_eq!(machine.get("log").trim(), want);
    machine.tool("ledctl", "echo 'no enclosure' >&2; exit 1");
    let refused = machine.act(&light(true)).unwrap_err();
    assert!(refused.to_string().contains("no enclosure"), "{refused}");
    let stale = Action::Light {
        drive: lun_core::action::Target {
            id: lun_core::id::DriveId::derive("serial", "another"),
            ..machine.target("loop2")
        },
        on: true,
    };
    let refused = machine.act(&stale).unwrap_err();
    assert!(matches!(refused, Error::DriveRefused { .. }), "{refused:?}");
}
