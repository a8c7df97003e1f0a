//! Properties of plans over arbitrary consistent arrays: nothing good is ever touched, nothing
//! unfit is ever taken, and following the plan leads to an end.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

use super::testkit::{
    DISK, EVENTS, MD0, MIB, OVERHEAD, UUID0, World, array, drive_id, in_sync, superblock, words,
};
use super::view::{Part, part};
use super::{Need, Plan, Request, Source, Verdict, judge_spares, refuse_registration};
use crate::Error;
use crate::action::Action;
use crate::error::Unfit;
use crate::facts::{ArrayState, Fact, Level, Position, Slot, SyncAction};
use crate::id::{DriveId, OpId};
use crate::model::{LunStatus, Phase, RetiredWhy};

#[derive(Debug, Clone, Copy)]
enum Loss {
    None,
    Listed,
    Gone,
    Former { events: u64, looked_at: bool },
    WantsReplacement,
    WriteError,
    BadBlocks,
    HalfFilled { start: u64 },
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        6 => Just(Loss::None),
        1 => Just(Loss::Listed),
        1 => Just(Loss::Gone),
        2 => (EVENTS - 5..EVENTS + 3, any::<bool>())
            .prop_map(|(events, looked_at)| Loss::Former { events, looked_at }),
        1 => Just(Loss::WantsReplacement),
        1 => Just(Loss::WriteError),
        1 => Just(Loss::BadBlocks),
        1 => prop_oneof![Just(0_u64), Just(4096)].prop_map(|start| Loss::HalfFilled { start }),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    Larger,
    SharesDisk,
    Small,
    BlockSize,
    ReadOnly,
    Mounted,
    Held,
    Open,
    Signature,
    ForcedSignature,
    ForeignMd,
    NewerFormer,
    Elsewhere,
    Claimed,
    ClaimedByUs,
    Tried,
    NotPresent,
    NotProbed,
    Swapped,
    PartitionsUsed,
    UnknownBlockSize,
    Retired,
}

const DEFECTS: [Defect; 23] = [
    Defect::None,
    Defect::Larger,
    Defect::SharesDisk,
    Defect::Small,
    Defect::BlockSize,
    Defect::ReadOnly,
    Defect::Mounted,
    Defect::Held,
    Defect::Open,
    Defect::Signature,
    Defect::ForcedSignature,
    Defect::ForeignMd,
    Defect::NewerFormer,
    Defect::Elsewhere,
    Defect::Claimed,
    Defect::ClaimedByUs,
    Defect::Tried,
    Defect::NotPresent,
    Defect::NotProbed,
    Defect::Swapped,
    Defect::PartitionsUsed,
    Defect::UnknownBlockSize,
    Defect::Retired,
];

/// Defects with which a drive may still be taken.
const BEARABLE: [Defect; 5] = [
    Defect::None,
    Defect::Larger,
    Defect::SharesDisk,
    Defect::ForcedSignature,
    Defect::ClaimedByUs,
];

fn add_pooled(world: &mut World, name: &str, defect: Defect) {
    if defect == Defect::Elsewhere {
        world.member_of("md1", name, Slot::At(0), in_sync());
        let entry_of = world.pool.len();
        world.pooled(&format!("{name}x"), DISK);
        world.pool[entry_of].id = drive_id(name);
        return;
    }
    world.pooled(name, DISK);
    let last = world.pool.len() - 1;
    match defect {
        Defect::None | Defect::Elsewhere => {}
        Defect::Larger => world.device_mut(name).size_bytes = 2 * DISK,
        Defect::SharesDisk => {
            world.device_mut(name).whole_disk = "disk".to_owned();
            for device in world
                .inventory
                .devices
                .values_mut()
                .filter(|d| d.name == "d0")
            {
                device.whole_disk = "disk".to_owned();
            }
        }
        Defect::Small => world.device_mut(name).size_bytes = DISK - MIB,
        Defect::BlockSize => world.device_mut(name).logical_block_bytes = Fact::Known(4096),
        Defect::ReadOnly => world.device_mut(name).read_only = true,
        Defect::Mounted => world.device_mut(name).used_by.push("/srv".to_owned()),
        Defect::Held => {
            world.device_mut(name).holders.insert("dm-0".to_owned());
        }
        Defect::Open => world.probe_mut(name).exclusive = Fact::Unknown("qemu has it".to_owned()),
        Defect::Signature => {
            world.probe_mut(name).signatures = Fact::Known(vec!["ext4".to_owned()])
        }
        Defect::ForcedSignature => {
            world.probe_mut(name).signatures = Fact::Known(vec!["ext4".to_owned()]);
            world.pool[last].forced_signatures.push("ext4".to_owned());
        }
        Defect::ForeignMd => superblock(world.probe_mut(name), Uuid::from_u128(9), 1, Some(0)),
        Defect::NewerFormer => superblock(world.probe_mut(name), UUID0, EVENTS + 1, Some(0)),
        Defect::Claimed => world.pool[last].claimed_by = Some(OpId(99)),
        Defect::ClaimedByUs => world.pool[last].claimed_by = Some(OpId(1)),
        Defect::Tried => {
            world.tried.insert(drive_id(name));
        }
        Defect::NotPresent => {
            let dev = world.dev(name);
            world.inventory.devices.remove(&dev);
        }
        Defect::NotProbed => {
            let dev = world.dev(name);
            world.inventory.probes.remove(&dev);
        }
        Defect::Swapped => world.device_mut(name).id = drive_id("another"),
        Defect::PartitionsUsed => {
            let part = world.device(&format!("{name}p1"), MIB);
            let part = world.inventory.devices.get_mut(&part).unwrap();
            part.whole_disk = name.to_owned();
            part.holders.insert("dm-3".to_owned());
        }
        Defect::UnknownBlockSize => {
            world.device_mut(name).logical_block_bytes = Fact::Unknown("EIO".to_owned());
        }
        Defect::Retired => world.retire(name, RetiredWhy::Failed),
    }
}

#[derive(Debug, Clone, Copy)]
struct Flags {
    bitmap: Option<bool>,
    dirty: bool,
    frozen: bool,
    held: bool,
    read_auto: bool,
    events_known: bool,
    dry: bool,
}

fn flags() -> impl Strategy<Value = Flags> {
    let bitmap = prop_oneof![4 => Just(Some(true)), 2 => Just(Some(false)), 1 => Just(None)];
    let bools = proptest::array::uniform6(any::<bool>());
    (bitmap, bools).prop_map(
        |(bitmap, [dirty, frozen, held, read_auto, unknown, dry])| Flags {
            bitmap,
            dirty,
            frozen: frozen || held,
            held,
            read_auto,
            events_known: !(unknown && dirty && frozen),
            dry,
        },
    )
}

fn level() -> impl Strategy<Value = (Level, u32)> {
    prop_oneof![
        (2_u32..5).prop_map(|n| (Level::Raid1, n)),
        (3_u32..6).prop_map(|n| (Level::Raid4, n)),
        (3_u32..6).prop_map(|n| (Level::Raid5, n)),
        (4_u32..7).prop_map(|n| (Level::Raid6, n)),
        (2_u32..7).prop_map(|n| (Level::Raid10, n)),
    ]
}

fn world() -> impl Strategy<Value = World> {
    let losses = proptest::collection::vec(loss(), 7);
    let pool = proptest::collection::vec(proptest::sample::select(DEFECTS.to_vec()), 0..4);
    (level(), losses, 0_usize..3, pool, flags()).prop_map(
        |((level, slots), losses, spares, pool, flags)| {
            let mut world = World::new(level, slots);
            world.inventory.arrays.insert(
                "md1".to_owned(),
                array("md1", Level::Raid1, 2, Uuid::from_u128(77)),
            );
            for spare in 0..spares {
                world.attached_spare(&format!("s{spare}"));
            }
            for (slot, loss) in (0..slots).zip(&losses) {
                lose(&mut world, &format!("d{slot}"), *loss);
            }
            for (number, defect) in pool.iter().enumerate() {
                add_pooled(&mut world, &format!("p{number}"), *defect);
            }
            set_flags(&mut world, flags);
            world
        },
    )
}

fn lose(world: &mut World, name: &str, loss: Loss) {
    match loss {
        Loss::None => {}
        Loss::Listed => world.fail(name),
        Loss::Gone => world.pull(name),
        Loss::Former { events, looked_at } => {
            world.former(name, events);
            if !looked_at {
                let dev = world.dev(name);
                world.inventory.probes.remove(&dev);
            }
        }
        Loss::WantsReplacement => world.state_mut(name).want_replacement = true,
        Loss::WriteError => world.state_mut(name).write_error = true,
        Loss::BadBlocks => world.facts_mut(name).bad_blocks = Fact::Known(2),
        Loss::HalfFilled { start } => {
            *world.state_mut(name) = super::testkit::spare();
            world.facts_mut(name).recovery_start = Fact::Known(Position::At(start));
        }
    }
}

fn set_flags(world: &mut World, flags: Flags) {
    world.held = flags.held;
    world.op = (!flags.dry).then_some(OpId(1));
    let array = world.array_mut();
    array.bitmap = flags
        .bitmap
        .map_or(Fact::Unknown("EIO".to_owned()), Fact::Known);
    if flags.dirty {
        array.resync_start = Fact::Known(Position::At(64));
    }
    if flags.read_auto {
        array.state = Fact::Known(ArrayState::ReadAuto);
    }
    if !flags.events_known {
        array.events = Fact::Unknown("mdadm failed".to_owned());
    }
    if flags.frozen {
        world.show(SyncAction::Frozen, false);
    }
}

/// Any request, about any drive that there is, or about none.
fn request(world: &World, kind: u8, pick: Index, other: Index) -> Request {
    let mut ids: Vec<DriveId> = world.inventory.devices.values().map(|d| d.id).collect();
    ids.extend(world.pool.iter().map(|entry| entry.id));
    ids.push(drive_id("nobody"));
    let drive = *pick.get(&ids);
    match kind {
        0..4 => Request::Recover {
            spare: None,
            repair: kind == 3,
        },
        4 | 5 => Request::Recover {
            spare: Some(drive),
            repair: false,
        },
        6 => Request::Replace { drive, with: None },
        7 => Request::Replace {
            drive,
            with: Some(*other.get(&ids)),
        },
        _ => Request::Verify,
    }
}

fn chosen(request: &Request) -> Option<DriveId> {
    match request {
        Request::Recover { spare, .. } => *spare,
        Request::Replace { with, .. } => *with,
        Request::Verify => None,
    }
}

/// Whether the drive carries data of any array now.
fn carries_data(world: &World, id: DriveId) -> bool {
    world
        .inventory
        .arrays
        .values()
        .flat_map(|array| &array.members)
        .any(|member| {
            let same = member
                .dev
                .known()
                .and_then(|dev| world.inventory.devices.get(dev));
            same.is_some_and(|device| device.id == id)
                && matches!(part(member), Ok(Part::InSync(_) | Part::Unsettled(_)))
        })
}

fn safe(world: &World, request: &Request, plan: &Plan) {
    let mut removed = BTreeSet::new();
    for step in &plan.steps {
        let Some(drive) = step.action.drive() else {
            continue;
        };
        let device = &world.inventory.devices[&drive.dev];
        assert_eq!(device.id, drive.id);
        let member = super::fit::membership(&world.inventory, device);
        match &step.action {
            Action::FailMember { .. } => panic!("a plan fails nothing"),
            Action::RemoveMember { .. } => {
                let (array, member) = member.unwrap();
                assert_eq!(array, MD0);
                assert!(
                    matches!(part(member), Ok(Part::Faulty(_))),
                    "{drive:?} removed"
                );
                removed.insert(drive.id);
            }
            Action::Wipe { .. } | Action::AddSpare { .. } | Action::ReAdd { .. } => {
                assert!(!carries_data(world, drive.id), "{drive:?} overwritten");
                assert!(
                    member.is_none() || removed.contains(&drive.id),
                    "{drive:?} is a member"
                );
                assert!(device.used_by.is_empty() && !device.read_only);
                assert!(device.size_bytes - OVERHEAD >= DISK - OVERHEAD);
                assert_eq!(device.logical_block_bytes, Fact::Known(512));
                assert!(!world.tried.contains(&drive.id));
                if let Some(chosen) = chosen(request) {
                    assert_eq!(drive.id, chosen, "another drive than the one insisted on");
                }
            }
            Action::SetSlot { .. } => {
                if let Some(chosen) = chosen(request) {
                    assert_eq!(drive.id, chosen, "another drive than the one insisted on");
                }
            }
            _ => {}
        }
        if matches!(step.action, Action::ReAdd { .. }) {
            let md = world.inventory.probes[&drive.dev]
                .md
                .known()
                .cloned()
                .flatten()
                .unwrap();
            assert_eq!(
                world.array().bitmap,
                Fact::Known(true),
                "re-add without a bitmap"
            );
            assert!(md.events <= EVENTS && md.array_uuid == UUID0);
        }
    }
}

/// Follows plans to the end. At most 20 steps lie between two runs of the kernel.
fn follow(world: &mut World, request: &Request) -> Option<Error> {
    let mut steps_in_a_row = 0;
    for _ in 0..200 {
        let plan = match world.plan(request) {
            Ok(plan) => plan,
            Err(error) => return Some(error),
        };
        safe(world, request, &plan);
        let once = matches!(plan.phase, Phase::Check | Phase::Repair);
        if plan.phase == Phase::None {
            assert!(plan.steps.is_empty());
            return None;
        }
        match plan.steps.first() {
            Some(step) => {
                steps_in_a_row += 1;
                assert!(steps_in_a_row <= 20, "no end: {:?}", words(&plan));
                world.apply(&step.action);
            }
            None => {
                assert!(world.runs(), "waits for nothing: {plan:?}");
                steps_in_a_row = 0;
                world.finish();
                if once {
                    return None;
                }
            }
        }
    }
    panic!("no end");
}

/// A single defect per drive, so that its verdict is known beforehand.
fn bears(defect: Defect) -> bool {
    BEARABLE.contains(&defect)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_good_is_touched_and_every_plan_is_the_same_twice(
        world in world(), kind in 0_u8..9, pick: Index, other: Index,
    ) {
        let request = request(&world, kind, pick, other);
        let first = world.plan(&request);
        prop_assert_eq!(&first, &world.plan(&request));
        let failed = world.lun().status == LunStatus::Failed;
        if failed {
            prop_assert!(first.is_err(), "planned for a failed LUN");
        }
        if let Ok(plan) = first {
            safe(&world, &request, &plan);
            for target in &plan.targets {
                prop_assert!(world.inventory.devices[&target.dev].id == target.id);
                prop_assert!(!carries_data(&world, target.id), "{:?} is filled", target);
            }
        }
    }

    #[test]
    fn following_the_plan_comes_to_an_end(
        world in world(), kind in 0_u8..9, pick: Index, other: Index,
    ) {
        let mut world = world;
        world.op = Some(OpId(1));
        let request = request(&world, kind, pick, other);
        if world.check(&request).is_ok() {
            let end = follow(&mut world, &request);
            let unsound = matches!(end, Some(Error::Internal { .. } | Error::StatusFailed { .. }));
            prop_assert!(!unsound, "{:?}", end);
            if end.is_none() && matches!(request, Request::Recover { spare: None, .. }) {
                prop_assert_eq!(world.lun().redundancy.members_in_sync,
                    world.lun().redundancy.members_wanted);
            }
        }
    }

    #[test]
    fn a_pool_drive_is_taken_if_and_only_if_it_fits(
        defect in proptest::sample::select(DEFECTS.to_vec()), bitmap: bool,
    ) {
        let mut world = World::new(Level::Raid5, 3);
        world.inventory.arrays.insert(
            "md1".to_owned(), array("md1", Level::Raid1, 2, Uuid::from_u128(77)),
        );
        world.array_mut().bitmap = Fact::Known(bitmap);
        world.pull("d1");
        add_pooled(&mut world, "p0", defect);
        match world.plan(&super::testkit::RECOVER) {
            Ok(plan) => {
                prop_assert!(bears(defect), "{:?} taken", defect);
                prop_assert_eq!(&plan.candidates[0].verdict, &Verdict::Taken);
                prop_assert_eq!(plan.candidates[0].source, Source::Pool);
            }
            Err(Error::NoSpare { rejected, .. }) => {
                prop_assert!(!bears(defect) && defect != Defect::Small);
                prop_assert_eq!(rejected.len(), 1);
            }
            Err(Error::SparesTooSmall { .. }) => prop_assert_eq!(defect, Defect::Small),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }

    /// Neither the order of registration nor that of discovery decides.
    #[test]
    fn the_choice_is_the_same_in_whatever_order_the_drives_come(
        world in world(), order in Just((0..4_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let judged = |world: &World| world.with(|ctx| {
            let need = Need { holes: vec![0, 1], ..Need::default() };
            judge_spares(ctx, &need)
        });
        let mut other = world.clone();
        other.pool = order.iter().filter_map(|at| world.pool.get(*at).cloned()).collect();
        prop_assert_eq!(judged(&world), judged(&other));
    }

    #[test]
    fn what_is_registered_would_be_taken(
        defect in proptest::sample::select(DEFECTS.to_vec()), force: bool,
    ) {
        let mut world = World::new(Level::Raid5, 3);
        if defect == Defect::Elsewhere {
            let other = array("md1", Level::Raid1, 2, Uuid::from_u128(77));
            world.inventory.arrays.insert("md1".to_owned(), other);
        }
        world.pull("d1");
        add_pooled(&mut world, "p0", defect);
        world.pool.clear();
        let Some(dev) = world.inventory.devices.values().find(|d| d.name == "p0").map(|d| d.dev)
        else { return Ok(()) };
        match refuse_registration(&world.inventory, dev, force) {
            Ok(entry) => {
                world.pool.push(entry);
                world.tried.clear();
                world.retired.clear();
                if defect != Defect::NewerFormer && defect != Defect::UnknownBlockSize {
                    prop_assert!(world.plan(&super::testkit::RECOVER).is_ok(), "{:?}", defect);
                }
            }
            Err(Error::DriveRefused { unfit: Unfit::Signature { .. }, .. }) => {
                prop_assert!(!force);
            }
            Err(Error::DriveRefused { .. }) => prop_assert!(!bears(defect)),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }
}
