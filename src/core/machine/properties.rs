//! The machine against a world that answers anything, in any order: what must hold whatever
//! happens, and that everything comes to its end once the world behaves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::{ActId, Command, Effect, HintWish, Input, Machine, PersistId, Record, Token};
use crate::Error;
use crate::action::Action;
use crate::facts::{Fact, Inventory, Level, Slot, SyncAction};
use crate::id::{LunId, Mono, Now, OpId, Wall};
use crate::model::OpView;
use crate::plan::Hints;
use crate::plan::testkit::{DISK, MD0, World};
use crate::policy::Policy;

/// What a scan may find: the same array of two mirrors, in different fortunes.
fn fortunes() -> Vec<Inventory> {
    let healthy = World::new(Level::Raid1, 2);
    let mut degraded = World::new(Level::Raid1, 2);
    degraded.fail("d1");
    degraded.pooled("p0", DISK);
    degraded.pooled("p1", DISK);
    let mut filled = degraded.clone();
    filled.member("s0", Slot::At(1), crate::plan::testkit::spare());
    let shown = |action, running| {
        let mut world = match action {
            SyncAction::Recover => filled.clone(),
            _ => degraded.clone(),
        };
        world.show(action, running);
        world.inventory
    };
    let mut failing = healthy.clone();
    failing.doubt("d0");
    failing.pooled("p0", DISK);
    let mut dirty = healthy.clone();
    dirty.dirty();
    let mut scrubbed = healthy.clone();
    scrubbed.show(SyncAction::Check, true);
    let mut stranger = healthy.clone();
    stranger.array_mut().uuid = Fact::Known(Some(uuid::Uuid::from_u128(99)));
    let mut unread = degraded.clone();
    if let Some(sync) = unread.array_mut().sync.as_mut() {
        sync.action = Fact::Unknown("not read".into());
        sync.degraded = Fact::Unknown("not read".into());
    }
    vec![
        healthy.inventory,
        shown(SyncAction::Idle, false),
        shown(SyncAction::Recover, true),
        shown(SyncAction::Frozen, false),
        shown(SyncAction::Frozen, true),
        shown(SyncAction::Resync, true),
        failing.inventory,
        dirty.inventory,
        scrubbed.inventory,
        stranger.inventory,
        unread.inventory,
        Inventory::default(),
    ]
}

/// What the machine has asked for and has no answer to yet.
#[derive(Default)]
struct Desk {
    scans: u32,
    reads: Vec<String>,
    progress: u32,
    acts: Vec<(ActId, Action)>,
    persists: VecDeque<(PersistId, Record)>,
    calls: BTreeSet<u64>,
    /// Intents that the ledger has answered and no act has followed yet.
    intended: Vec<Action>,
    /// Hints as the ledger was told of them last.
    hints: Hints,
    /// Operations as last shown.
    shown: BTreeMap<OpId, OpView>,
}

struct Rig {
    machine: Machine,
    desk: Desk,
    fortunes: Vec<Inventory>,
    lun: LunId,
    now: u64,
    tokens: u64,
}

fn trouble() -> Error {
    Error::Kernel {
        object: MD0.into(),
        action: "write".into(),
        errno: 16,
        detail: "Device or resource busy".into(),
    }
}

impl Rig {
    fn new() -> Self {
        let fortunes = fortunes();
        let lun = crate::project::lun_id(&fortunes[0].arrays[MD0]);
        let mut rig = Self {
            machine: Machine::new(Policy::default().by_hand()),
            desk: Desk::default(),
            fortunes,
            lun,
            now: 1_000,
            tokens: 0,
        };
        rig.give(Input::Start(Box::default()));
        rig
    }

    fn give(&mut self, input: Input) {
        let now = Now {
            mono: Mono(self.now),
            wall: Wall(self.now),
        };
        for effect in self.machine.step(now, input) {
            self.take(effect);
        }
        self.look();
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Scan { .. } => {
                self.desk.scans += 1;
                assert_eq!(self.desk.scans, 1, "two scans at once");
            }
            Effect::ReadArray { name } => self.desk.reads.push(name),
            Effect::ReadProgress => {
                self.desk.progress += 1;
                assert_eq!(self.desk.progress, 1, "two readings of progress at once");
            }
            Effect::Act { id, action, .. } => {
                let array = action.array().map(str::to_owned);
                let rival = self.desk.acts.iter().find(|(_, other)| {
                    array.is_some() && other.array().map(str::to_owned) == array
                });
                assert!(rival.is_none(), "{action:?} beside {rival:?}");
                let intent = self.desk.intended.iter().position(|known| *known == action);
                // Keeping and lifting a hold has its record already: the hold itself. What hints do
                // is with the LUN.
                let recorded = match &action {
                    Action::SetSync { .. } => true,
                    Action::SetSpeed { .. } => self.desk.hints.throttle.is_some(),
                    Action::SetBitmap { on, .. } => self.desk.hints.bitmap == Some(*on),
                    _ => false,
                };
                assert!(
                    intent.is_some() || recorded,
                    "{action:?} was not written down"
                );
                if let Some(at) = intent {
                    self.desk.intended.remove(at);
                }
                self.desk.acts.push((id, action));
            }
            Effect::Persist { id, record } => self.desk.persists.push_back((id, record)),
            Effect::Reply { token, .. } => {
                assert!(
                    self.desk.calls.remove(&token.0),
                    "answered twice: {token:?}"
                );
            }
            Effect::Publish | Effect::Decided(_) | Effect::Notify { .. } => {}
        }
    }

    /// What clients see: percentages never fall, an end is an end, numbers are given once.
    fn look(&mut self) {
        let ops = self.machine.snapshot().ops;
        for op in &ops {
            let done = op.percent == 100;
            assert_eq!(done, op.ended_at_ms.is_some(), "{op:?}");
            if let Some(before) = self.desk.shown.get(&op.id) {
                assert!(op.percent >= before.percent, "{before:?} -> {op:?}");
                if before.ended_at_ms.is_some() {
                    assert_eq!((&before.state, before.hresult), (&op.state, op.hresult));
                }
            }
        }
        self.desk
            .shown
            .extend(ops.into_iter().map(|op| (op.id, op)));
    }

    fn call(&mut self, pick: usize) {
        let lun = self.lun;
        let newest = self.desk.shown.keys().next_back().copied();
        let op = newest.unwrap_or(OpId(1));
        let recover = |spare: Option<&str>, repair, dry_run| Command::Recover {
            lun,
            spare: spare.map(str::to_owned),
            repair,
            dry_run,
        };
        let commands = [
            recover(None, false, false),
            recover(None, false, false),
            recover(Some("/dev/p1"), false, false),
            recover(None, true, false),
            recover(None, false, true),
            Command::Verify { lun },
            Command::Cancel {
                op,
                release_spare: false,
            },
            Command::Cancel {
                op,
                release_spare: true,
            },
            Command::Release { lun },
            Command::SpareAdd {
                drive: "/dev/p0".into(),
                force: false,
            },
            Command::SpareRemove {
                drive: "/dev/p0".into(),
            },
            Command::Replace {
                lun,
                drive: "/dev/d0".into(),
                with: None,
                dry_run: false,
            },
            Command::Refresh,
            Command::Reenumerate,
        ];
        self.tokens += 1;
        self.desk.calls.insert(self.tokens);
        self.give(Input::Call {
            token: Token(self.tokens),
            caller: "test".into(),
            command: commands[pick % commands.len()].clone(),
        });
    }

    /// Hints of all kinds, legal or not.
    fn hint(&mut self, pick: usize) {
        let priority = u8::try_from(pick % 19).unwrap_or(0);
        let wish = HintWish {
            rebuild_priority: Some(priority).filter(|number| *number < 18),
            bitmap: [None, Some(true), Some(false)][pick % 3],
        };
        let lun = self.lun;
        self.tokens += 1;
        self.desk.calls.insert(self.tokens);
        self.give(Input::Call {
            token: Token(self.tokens),
            caller: "test".into(),
            command: Command::ApplyHints { lun, wish },
        });
    }

    fn answer_scan(&mut self, pick: usize) {
        if self.desk.scans == 0 {
            return;
        }
        self.desk.scans = 0;
        let found = self.fortunes.get(pick).cloned().map(Box::new);
        self.give(Input::Scanned(found.ok_or_else(trouble)));
    }

    fn answer_read(&mut self, pick: usize) {
        let Some(name) = self.desk.reads.pop() else {
            return;
        };
        let found = self.fortunes.get(pick);
        let facts = found.map(|inventory| inventory.arrays.get(&name).cloned().map(Box::new));
        let result = facts.ok_or_else(trouble);
        self.give(Input::ArrayRead { name, result });
    }

    fn answer_act(&mut self, pick: usize, well: bool) {
        if self.desk.acts.is_empty() {
            return;
        }
        let (id, _) = self.desk.acts.remove(pick % self.desk.acts.len());
        let result = if well { Ok(()) } else { Err(trouble()) };
        self.give(Input::Acted { id, result });
    }

    fn answer_ledger(&mut self, well: bool) {
        let Some((id, record)) = self.desk.persists.pop_front() else {
            return;
        };
        match record {
            Record::Intent { action, .. } => self.desk.intended.push(action),
            Record::Lun(seen) if seen.id == self.lun => self.desk.hints = seen.hints,
            _ => {}
        }
        let result = if well { Ok(()) } else { Err(trouble()) };
        self.give(Input::Persisted { id, result });
    }

    fn answer_progress(&mut self, pick: usize) {
        if self.desk.progress == 0 {
            return;
        }
        self.desk.progress = 0;
        let read = self.fortunes.get(pick).map(|inventory| {
            let arrays = inventory.arrays.iter();
            arrays
                .filter_map(|(name, array)| Some((name.clone(), array.mdstat.clone()?)))
                .collect()
        });
        self.give(Input::Progress(read.ok_or_else(trouble)));
    }

    /// Something happens: an answer, well or ill, an event, a call, or time.
    fn chance(&mut self, kind: u8, pick: u8) {
        let pick = usize::from(pick);
        let fortune = pick % (self.fortunes.len() + 1);
        match kind % 16 {
            0..=2 => self.answer_scan(fortune),
            3 => self.answer_read(fortune),
            4 | 5 => self.answer_act(pick, true),
            6 => self.answer_act(pick, false),
            7..=9 => self.answer_ledger(pick != 0),
            10 => self.answer_progress(fortune),
            12 if pick % 3 == 0 => self.hint(pick),
            11 | 12 => self.call(pick),
            13 if pick % 4 == 0 => self.give(Input::Policy(Policy {
                verify_after: pick % 8 == 0,
                keep_finished: 10 + pick,
                ..Policy::default()
            })),
            13 => self.give(Input::DirtyArray(MD0.into())),
            14 => match self.desk.acts.first() {
                Some((id, _)) => self.give(Input::ActLate { id: *id }),
                None => self.give(Input::DirtyAll),
            },
            _ => {
                self.now += u64::try_from(pick).unwrap_or(0) * 50;
                self.give(Input::Timer);
            }
        }
    }

    /// From now on everything answers well, and the array is what it should be.
    fn calm(&mut self) {
        for _ in 0..20_000 {
            let idle = self.desk.calls.is_empty()
                && self.desk.shown.values().all(|op| op.ended_at_ms.is_some());
            if self.desk.scans > 0 {
                self.answer_scan(0);
            } else if !self.desk.persists.is_empty() {
                self.answer_ledger(true);
            } else if !self.desk.acts.is_empty() {
                self.answer_act(0, true);
            } else if !self.desk.reads.is_empty() {
                self.answer_read(0);
            } else if self.desk.progress > 0 {
                self.answer_progress(0);
            } else if idle {
                return;
            } else {
                let wake = self.machine.next_wake().map_or(self.now, |at| at.0);
                self.now = wake.max(self.now + 1);
                self.give(Input::Timer);
            }
        }
        panic!(
            "no end: calls {:?}, operations {:#?}",
            self.desk.calls, self.desk.shown
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_promises_are_kept(
        chances in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..300),
    ) {
        let mut rig = Rig::new();
        for (kind, pick) in chances {
            rig.chance(kind, pick);
        }
        rig.calm();
    }
}

/// A hold that was found broken and dropped in the meantime once left a timer behind that was
/// always due.
#[test]
fn a_dropped_hold_leaves_no_timer() {
    let mut rig = Rig::new();
    let chances = [
        (171, 128),
        (96, 13),
        (16, 131),
        (111, 200),
        (59, 34),
        (244, 0),
        (16, 4),
        (175, 5),
        (83, 0),
        (128, 141),
        (107, 98),
        (139, 73),
    ];
    for (kind, pick) in chances {
        rig.chance(kind, pick);
    }
    rig.calm();
    let left = &rig.machine.hold_broken_at;
    assert!(left.is_empty(), "{left:?}");
}
