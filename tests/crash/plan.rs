//! What a round does, drawn from its seed alone.

use lun_vm::Survival;

/// A reproducible stream of draws (`SplitMix64`).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Which rounds are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Only {
    Daemon,
    Power,
}

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// The daemon, by SIGKILL.
    Daemon,
    /// The daemon and every child of it at once.
    Service,
    /// The tool that the daemon runs, not the daemon.
    Child,
    /// The host, with this much of its drives' write caches kept.
    Power(Survival),
    /// Nobody: an orderly reboot.
    Reboot,
}

impl Blow {
    pub(super) fn boots(self) -> bool {
        matches!(self, Self::Power(_) | Self::Reboot)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Service => "daemon+children",
            Self::Child => "child",
            Self::Power(_) => "power",
            Self::Reboot => "reboot",
        }
    }
}

/// When it dies, counted from the last request of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// When the request has been answered.
    Answered,
    /// At the n-th change of the ledger's log after the request was sent.
    Ledger(u64),
    /// While the daemon runs mdadm.
    Mdadm,
    /// When the kernel has copied so many sixteenths.
    Copied(u64),
}

/// What is asked of the daemon; the blow falls on the last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Story {
    Recover,
    /// A former member is back, the array has a bitmap.
    ReAdd,
    Cancel {
        release_spare: bool,
    },
    /// Nothing is asked any more: it is held.
    Held,
    /// Recover again what was cancelled.
    Resume,
    Release,
    Replace,
    Verify,
    CancelVerify,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) level: &'static str,
    pub(super) members: u64,
    pub(super) bitmap: bool,
    /// The writer writes into a file of a file system, not to the array itself.
    pub(super) file_system: bool,
    /// MiB of each member that the array uses.
    pub(super) mib: u64,
    /// Drives registered as spares.
    pub(super) spares: u64,
    /// The member that fails, is replaced, or leaves.
    pub(super) victim: u64,
    pub(super) story: Story,
    /// Sixteenths copied before the request that the blow falls on, where the story has one before it.
    pub(super) lead: u64,
    pub(super) blow: Blow,
    pub(super) moment: Moment,
}

impl Plan {
    /// The round of this seed. Without a wish one round in four takes the host down.
    pub(super) fn draw(seed: u64, only: Option<Only>) -> Self {
        let mut dice = Dice::new(seed);
        let boots = match only {
            Some(only) => only == Only::Power,
            None => seed % 4 == 3,
        };
        let (level, members) =
            dice.pick(&[("raid1", 2), ("raid5", 3), ("raid6", 4), ("raid10", 4)]);
        let story = dice.pick(&[
            Story::Recover,
            Story::Recover,
            Story::Recover,
            Story::ReAdd,
            Story::Cancel {
                release_spare: false,
            },
            Story::Cancel {
                release_spare: true,
            },
            Story::Held,
            Story::Resume,
            Story::Release,
            Story::Replace,
            Story::Verify,
            Story::CancelVerify,
        ]);
        let blow = Self::blow(&mut dice, boots, story);
        let moment = Self::moment(&mut dice, story, blow);
        let file_system = dice.chance(25);
        Self {
            seed,
            level,
            members,
            bitmap: story == Story::ReAdd || dice.chance(30),
            file_system,
            // A journal of ext4 takes 4 MiB.
            mib: 8 + dice.below(3) * 2 + if file_system { 8 } else { 0 },
            spares: 1 + dice.below(2),
            victim: dice.below(members),
            story,
            lead: 1 + dice.below(6),
            blow,
            moment,
        }
    }

    fn blow(dice: &mut Dice, boots: bool, story: Story) -> Blow {
        if boots {
            return match dice.below(4) {
                0 => Blow::Reboot,
                1 => Blow::Power(Survival(0)),
                2 => Blow::Power(Survival(90)),
                _ => Blow::Power(Survival(50)),
            };
        }
        let runs_mdadm = matches!(story, Story::Recover | Story::ReAdd | Story::Replace);
        match dice.below(6) {
            0 if runs_mdadm => Blow::Child,
            0..=2 => Blow::Service,
            _ => Blow::Daemon,
        }
    }

    fn moment(dice: &mut Dice, story: Story, blow: Blow) -> Moment {
        if blow == Blow::Child {
            return Moment::Mdadm;
        }
        let choice = dice.below(8);
        match story {
            Story::Held => Moment::Answered,
            Story::Recover | Story::Replace => match choice {
                0 => Moment::Answered,
                1..=3 => Moment::Ledger(1 + dice.below(24)),
                4 => Moment::Mdadm,
                _ => Moment::Copied(1 + dice.below(12)),
            },
            Story::Resume | Story::Verify => match choice {
                0 => Moment::Answered,
                1..=3 => Moment::Ledger(1 + dice.below(12)),
                _ => Moment::Copied(6 + dice.below(8)),
            },
            Story::ReAdd => match choice {
                0..=1 => Moment::Answered,
                2..=4 => Moment::Mdadm,
                _ => Moment::Ledger(1 + dice.below(24)),
            },
            Story::Cancel { .. } | Story::CancelVerify | Story::Release => match choice {
                0..=1 => Moment::Answered,
                _ => Moment::Ledger(1 + dice.below(6)),
            },
        }
    }

    /// What it is, in a few words.
    pub(super) fn words(self) -> String {
        let bitmap = if self.bitmap { " bitmap" } else { "" };
        let file_system = if self.file_system { " ext4" } else { "" };
        let blow = match self.blow {
            Blow::Power(Survival(percent)) => format!("power ({percent} % of the caches kept)"),
            other => other.name().to_owned(),
        };
        format!(
            "{}{bitmap}{file_system}, {:?}, {blow} at {:?}",
            self.level, self.story, self.moment
        )
    }

    /// A parity array that misses a member and was being written cannot be started after a power cut
    /// (its stripes are torn and nothing can tell); so nobody writes to it then.
    pub(super) fn writes_until_the_blow(self) -> bool {
        let parity = matches!(self.level, "raid5" | "raid6");
        !(parity && self.fails_first() && matches!(self.blow, Blow::Power(_)))
    }

    /// Whether the story begins with a member that fails.
    pub(super) fn fails_first(self) -> bool {
        !matches!(
            self.story,
            Story::Replace | Story::Verify | Story::CancelVerify
        )
    }
}

#[test]
fn a_seed_is_a_round_and_rounds_differ() {
    let drawn = |seed| format!("{:?}", Plan::draw(seed, None));
    assert_eq!(drawn(5), drawn(5));
    let plans: Vec<Plan> = (0..2000).map(|seed| Plan::draw(seed, None)).collect();
    for blow in ["daemon", "daemon+children", "child", "power", "reboot"] {
        assert!(plans.iter().any(|plan| plan.blow.name() == blow), "{blow}");
    }
    for level in ["raid1", "raid5", "raid6", "raid10"] {
        assert!(plans.iter().any(|plan| plan.level == level), "{level}");
    }
    let powered = (0..100).all(|seed| Plan::draw(seed, Some(Only::Power)).blow.boots());
    let killed = (0..100).all(|seed| !Plan::draw(seed, Some(Only::Daemon)).blow.boots());
    assert!(powered && killed);
}
