//! A small world of one array for tests: builders of facts, and a model of what the kernel and
//! `mdadm` make of each action.

mod kernel;

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::view::{Part, part};
use super::{Context, Loan, Plan, PoolEntry, Request, Reservation, check, plan};
use crate::Error;
use crate::action::Action;
use crate::facts::{
    ArrayFacts, ArrayState, DeviceFacts, Fact, IdentityKind, Inventory, Level, MdstatFacts,
    MdstatProgress, MemberFacts, MemberState, Metadata, Position, ProbeFacts, Slot, SpeedLimit,
    SuperblockFacts, SyncAction, SyncCompleted, SyncFacts,
};
use crate::id::{DevNo, DriveId, LunId, OpId, Wall};
use crate::model::{Lun, Retired, RetiredWhy};
use crate::project::{ProjectContext, project};

pub(crate) const MIB: u64 = 1024 * 1024;
/// Size of every member's drive.
pub(crate) const DISK: u64 = 1024 * MIB;
/// What metadata takes of it.
pub(crate) const OVERHEAD: u64 = MIB;
pub(crate) const MD0: &str = "md0";
pub(crate) const EVENTS: u64 = 100;
pub(crate) const UUID0: Uuid = Uuid::from_u128(0x1111_2222_3333_4444_5555_6666_7777_8888);

pub(crate) const RECOVER: Request = Request::Recover {
    spare: None,
    repair: false,
};
pub(crate) const REPAIR: Request = Request::Recover {
    spare: None,
    repair: true,
};

pub(crate) fn onto(spare: DriveId) -> Request {
    Request::Recover {
        spare: Some(spare),
        repair: false,
    }
}

pub(crate) fn in_sync() -> MemberState {
    MemberState {
        in_sync: true,
        ..MemberState::default()
    }
}

pub(crate) fn spare() -> MemberState {
    MemberState {
        spare: true,
        ..MemberState::default()
    }
}

pub(crate) fn faulty() -> MemberState {
    MemberState {
        faulty: true,
        ..MemberState::default()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) inventory: Inventory,
    pub(crate) pool: Vec<PoolEntry>,
    pub(crate) held: bool,
    /// As [`Context::unproven`].
    pub(crate) unproven: bool,
    pub(crate) op: Option<OpId>,
    pub(crate) tried: BTreeSet<DriveId>,
    pub(crate) added: BTreeSet<DriveId>,
    pub(crate) retiring: BTreeSet<DriveId>,
    pub(crate) extend_groups: bool,
    pub(crate) aside: Option<BTreeMap<DriveId, String>>,
    pub(crate) reserved: Vec<Reservation>,
    pub(crate) loans: Vec<Loan>,
    pub(crate) moved: BTreeSet<DriveId>,
    pub(crate) retired: BTreeMap<DriveId, Retired>,
    /// Devices made so far.
    devices: u32,
    /// Slots that re-added members had.
    saved: BTreeMap<DevNo, u32>,
}

impl World {
    /// A healthy array of drives `d0`, `d1`, ... in the slots of the same number.
    pub(crate) fn new(level: Level, slots: u32) -> Self {
        let mut world = Self {
            inventory: Inventory {
                md_loaded: true,
                ..Inventory::default()
            },
            pool: Vec::new(),
            held: false,
            unproven: false,
            op: Some(OpId(1)),
            tried: BTreeSet::new(),
            added: BTreeSet::new(),
            retiring: BTreeSet::new(),
            extend_groups: false,
            aside: None,
            reserved: Vec::new(),
            loans: Vec::new(),
            moved: BTreeSet::new(),
            retired: BTreeMap::new(),
            devices: 0,
            saved: BTreeMap::new(),
        };
        world
            .inventory
            .arrays
            .insert(MD0.to_owned(), array(MD0, level, slots, UUID0));
        for slot in 0..slots {
            world.member(&format!("d{slot}"), Slot::At(slot), in_sync());
        }
        world
    }

    pub(crate) fn array(&self) -> &ArrayFacts {
        &self.inventory.arrays[MD0]
    }

    pub(crate) fn array_mut(&mut self) -> &mut ArrayFacts {
        self.inventory.arrays.get_mut(MD0).unwrap()
    }

    pub(crate) fn device(&mut self, name: &str, size_bytes: u64) -> DevNo {
        self.devices += 1;
        let dev = DevNo {
            major: 7,
            minor: self.devices,
        };
        self.inventory
            .devices
            .insert(dev, device(dev, name, size_bytes));
        self.inventory.probes.insert(dev, blank());
        dev
    }

    pub(crate) fn dev(&self, name: &str) -> DevNo {
        self.inventory
            .devices
            .values()
            .find(|d| d.name == name)
            .unwrap()
            .dev
    }

    pub(crate) fn device_mut(&mut self, name: &str) -> &mut DeviceFacts {
        self.inventory
            .devices
            .values_mut()
            .find(|d| d.name == name)
            .unwrap()
    }

    pub(crate) fn probe_mut(&mut self, name: &str) -> &mut ProbeFacts {
        let dev = self.dev(name);
        self.inventory.probes.get_mut(&dev).unwrap()
    }

    pub(crate) fn member(&mut self, name: &str, slot: Slot, state: MemberState) -> DriveId {
        self.member_of(MD0, name, slot, state)
    }

    pub(crate) fn member_of(
        &mut self,
        array: &str,
        name: &str,
        slot: Slot,
        state: MemberState,
    ) -> DriveId {
        let dev = self.device(name, DISK);
        self.bind(array, dev, slot, state);
        drive_id(name)
    }

    fn bind(&mut self, array: &str, dev: DevNo, slot: Slot, state: MemberState) {
        let device = self.inventory.devices.get_mut(&dev).unwrap();
        device.holders.insert(array.to_owned());
        let facts = MemberFacts {
            name: device.name.clone(),
            dev: Fact::Known(dev),
            slot: Fact::Known(slot),
            state: Fact::Known(state),
            recovery_start: Fact::Known(if state.in_sync {
                Position::Done
            } else {
                Position::At(0)
            }),
            errors: Fact::Known(0),
            bad_blocks: Fact::Known(0),
            size_bytes: Fact::Known(device.size_bytes - OVERHEAD),
        };
        let uuid = self.inventory.arrays[array]
            .uuid
            .known()
            .copied()
            .flatten()
            .unwrap();
        let role = match slot {
            Slot::At(n) => Some(n),
            _ => None,
        };
        let probe = self.inventory.probes.get_mut(&dev).unwrap();
        probe.exclusive = Fact::Known(false);
        superblock(probe, uuid, EVENTS, role);
        self.inventory
            .arrays
            .get_mut(array)
            .unwrap()
            .members
            .push(facts);
    }

    pub(crate) fn facts_mut(&mut self, name: &str) -> &mut MemberFacts {
        self.array_mut()
            .members
            .iter_mut()
            .find(|m| m.name == name)
            .unwrap()
    }

    pub(crate) fn state_mut(&mut self, name: &str) -> &mut MemberState {
        match &mut self.facts_mut(name).state {
            Fact::Known(state) => state,
            Fact::Unknown(_) => panic!("state of {name}"),
        }
    }

    /// The member works, and is to be replaced.
    pub(crate) fn doubt(&mut self, name: &str) {
        self.state_mut(name).want_replacement = true;
    }

    /// The member fails and stays listed.
    pub(crate) fn fail(&mut self, name: &str) {
        let facts = self.facts_mut(name);
        facts.state = Fact::Known(faulty());
        facts.slot = Fact::Known(Slot::None);
        self.counted();
    }

    fn unlist(&mut self, name: &str) {
        self.array_mut().members.retain(|m| m.name != name);
        self.device_mut(name).holders.clear();
        self.probe_mut(name).exclusive = Fact::Known(true);
        self.counted();
    }

    /// The member goes, and its drive with it.
    pub(crate) fn pull(&mut self, name: &str) {
        let dev = self.dev(name);
        self.unlist(name);
        self.inventory.devices.remove(&dev);
        self.inventory.probes.remove(&dev);
    }

    /// The member was away; its drive is back with a superblock of this age.
    pub(crate) fn former(&mut self, name: &str, events: u64) -> DriveId {
        self.unlist(name);
        if let Fact::Known(Some(md)) = &mut self.probe_mut(name).md {
            md.events = events;
        }
        drive_id(name)
    }

    pub(crate) fn attached_spare(&mut self, name: &str) -> DriveId {
        self.member(name, Slot::None, spare())
    }

    pub(crate) fn pooled(&mut self, name: &str, size_bytes: u64) -> DriveId {
        self.device(name, size_bytes);
        self.pool.push(PoolEntry {
            id: drive_id(name),
            stable_name: format!("by-id-{name}"),
            size_bytes,
            forced_signatures: Vec::new(),
            claimed_by: None,
            rule: None,
            only_for: None,
        });
        drive_id(name)
    }

    /// The drive is out of use, since this happened to it in another array.
    pub(crate) fn retire(&mut self, name: &str, why: RetiredWhy) {
        let retired = Retired {
            lun: LunId(Uuid::from_u128(77)),
            lun_name: "md1".to_owned(),
            at: Wall(0),
            why,
        };
        self.retired.insert(drive_id(name), retired);
    }

    pub(crate) fn dirty(&mut self) {
        self.array_mut().resync_start = Fact::Known(Position::At(0));
    }

    pub(crate) fn show(&mut self, action: SyncAction, running: bool) {
        let progress = MdstatProgress::At {
            done_kib: 10,
            total_kib: 100,
            speed_kib: 1,
        };
        let completed = SyncCompleted::At {
            done: 20,
            total: 200,
        };
        let array = self.array_mut();
        let sync = array.sync.as_mut().unwrap();
        sync.action = Fact::Known(action);
        sync.completed = Fact::Known(if running {
            completed
        } else {
            SyncCompleted::None
        });
        array.mdstat.as_mut().unwrap().progress = if running {
            progress
        } else {
            MdstatProgress::None
        };
    }

    fn counted(&mut self) {
        let wanted = *self.array().raid_disks.known().unwrap();
        let good = self.parts(|p| matches!(p, Part::InSync(_))).len();
        let sync = self.array_mut().sync.as_mut().unwrap();
        sync.degraded = Fact::Known(wanted - u32::try_from(good).unwrap().min(wanted));
    }

    fn parts(&self, test: impl Fn(Part) -> bool) -> Vec<String> {
        let known = self
            .array()
            .members
            .iter()
            .filter(|m| part(m).is_ok_and(&test));
        known.map(|m| m.name.clone()).collect()
    }

    pub(crate) fn lun(&self) -> Lun {
        let ctx = ProjectContext {
            held: self.held,
            rebuild_priority: 0,
            pool: &self.pool,
            observed_at: Wall(0),
            last_known: None,
        };
        project(&self.inventory, self.array(), &ctx)
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&Context<'_>) -> T) -> T {
        let lun = self.lun();
        let ctx = Context {
            unproven: self.unproven,
            inventory: &self.inventory,
            array: self.array(),
            lun: &lun,
            pool: &self.pool,
            retired: &self.retired,
            extend_groups: self.extend_groups,
            aside: self.aside.as_ref(),
            reserved: &self.reserved,
            loans: &self.loans,
            promised: &BTreeMap::new(),
            moved: &self.moved,
            op: self.op,
            tried: &self.tried,
            added: &self.added,
            retiring: &self.retiring,
        };
        work(&ctx)
    }

    pub(crate) fn plan(&self, request: &Request) -> Result<Plan, Error> {
        self.with(|ctx| plan(request, ctx))
    }

    pub(crate) fn check(&self, request: &Request) -> Result<(), Error> {
        self.with(|ctx| check(request, ctx, None))
    }

    pub(crate) fn action(&self) -> SyncAction {
        *self.array().sync.as_ref().unwrap().action.known().unwrap()
    }

    pub(crate) fn runs(&self) -> bool {
        let sync = self.array().sync.as_ref().unwrap();
        sync.completed != Fact::Known(SyncCompleted::None)
    }
}

pub(crate) fn drive_id(name: &str) -> DriveId {
    DriveId::derive("serial", name)
}

pub(crate) fn blank() -> ProbeFacts {
    ProbeFacts {
        signatures: Fact::Known(Vec::new()),
        exclusive: Fact::Known(true),
        md: Fact::Known(None),
    }
}

pub(crate) fn superblock(probe: &mut ProbeFacts, uuid: Uuid, events: u64, role: Option<u32>) {
    probe.signatures = Fact::Known(vec!["linux_raid_member".to_owned()]);
    let md = SuperblockFacts {
        array_uuid: uuid,
        device_uuid: None,
        events,
        role,
    };
    probe.md = Fact::Known(Some(md));
}

fn device(dev: DevNo, name: &str, size_bytes: u64) -> DeviceFacts {
    DeviceFacts {
        dev,
        name: name.to_owned(),
        id: drive_id(name),
        id_kind: IdentityKind::Serial,
        stable_name: format!("by-id-{name}"),
        names: vec![format!("/dev/{name}")],
        size_bytes,
        logical_block_bytes: Fact::Known(512),
        rotational: Fact::Known(true),
        transport: Fact::Known("ata".to_owned()),
        read_only: false,
        holders: BTreeSet::new(),
        used_by: Vec::new(),
        whole_disk: name.to_owned(),
        controller: None,
        enclosure: None,
        udev_signature: None,
    }
}

pub(crate) fn array(name: &str, level: Level, slots: u32, uuid: Uuid) -> ArrayFacts {
    let layout = if level == Level::Raid10 { 0x102 } else { 0 };
    ArrayFacts {
        driver: crate::facts::Driver::Md,
        name: name.to_owned(),
        dev: DevNo { major: 9, minor: 0 },
        md_names: Vec::new(),
        uuid: Fact::Known(Some(uuid)),
        level: Fact::Known(level),
        layout: Fact::Known(layout),
        raid_disks: Fact::Known(slots),
        chunk_bytes: Fact::Known(64 * 1024),
        component_bytes: Fact::Known(DISK - OVERHEAD),
        size_bytes: Fact::Known(DISK),
        logical_block_bytes: Fact::Known(512),
        metadata: Fact::Known(Metadata::V1(2)),
        state: Fact::Known(ArrayState::Clean),
        sync: Some(SyncFacts {
            action: Fact::Known(SyncAction::Idle),
            completed: Fact::Known(SyncCompleted::None),
            degraded: Fact::Known(0),
            mismatch_sectors: Fact::Known(0),
            last_action: Fact::Known(None),
            sync_min: Fact::Known(0),
            sync_max: Fact::Known(None),
            speed_min: Fact::Known(SpeedLimit::system(1_000)),
            speed_max: Fact::Known(SpeedLimit::system(200_000)),
        }),
        resync_start: Fact::Known(Position::Done),
        reshaping: Fact::Known(false),
        bitmap: Fact::Known(true),
        clustered: false,
        mdstat: Some(MdstatFacts {
            broken: false,
            inactive: false,
            read_only: false,
            auto_read_only: false,
            progress: MdstatProgress::None,
        }),
        members: Vec::new(),
        events: Fact::Known(EVENTS),
    }
}

/// Actions of a plan as short words: `frozen`, `add d4`, `slot d4=1`.
pub(crate) fn words(plan: &Plan) -> Vec<String> {
    let word = |action: &Action| match action {
        Action::SetSync { word, .. } => word.as_str().to_owned(),
        Action::ClearResyncStart { .. } => "clear resync_start".to_owned(),
        Action::WholeRange { .. } => "whole range".to_owned(),
        Action::MakeReadWrite { .. } => "rw".to_owned(),
        Action::SetSpeed { .. } | Action::SetBitmap { .. } => action.to_string(),
        Action::AddSpare { drive, .. } => format!("add {}", drive.name),
        Action::ReAdd { drive, .. } => format!("re-add {}", drive.name),
        Action::FailMember { drive, .. } => format!("fail {}", drive.name),
        Action::RemoveMember { drive, .. } => format!("remove {}", drive.name),
        Action::DropVanished { member, .. } => format!("drop {member}"),
        Action::WantReplacement { drive, .. } => format!("want {}", drive.name),
        Action::SetSlot { drive, slot, .. } => format!("slot {}={slot}", drive.name),
        Action::Light { drive, on } => format!("light {} {on}", drive.name),
        Action::Wipe { drive, .. } => format!("wipe {}", drive.name),
        Action::Revive { drive, .. } => format!("revive {}", drive.name),
        Action::RepairVolume { onto, .. } => {
            let onto: Vec<&str> = onto.iter().map(|drive| drive.name.as_str()).collect();
            format!("repair onto {}", onto.join(" "))
        }
        Action::ReplaceLeg { slot, drive, .. } => format!("leg {slot}={}", drive.name),
        Action::DropTable { .. } => "drop table".to_owned(),
        Action::ForgetLeg { drive, .. } => format!("forget {}", drive.name),
        Action::ExtendGroup { drive, .. } => format!("extend {}", drive.name),
    };
    plan.steps.iter().map(|step| word(&step.action)).collect()
}
