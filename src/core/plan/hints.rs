//! What a LUN's hints (`VDS_HINTS`) come to in the kernel: speed limits for a rebuild priority, a write-intent
//! bitmap for fast crash recovery.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::action::Action;
use crate::facts::{ArrayFacts, Fact, SyncAction};
use crate::id::OpId;
use crate::model::{Health, VdsEnum};
use crate::project;

use super::Context;
use super::check::unsupported;

/// Highest rebuild priority (`VDS_HINTS::sRebuildPriority` is 0 to 15).
pub const PRIORITY_MAX: u8 = 15;
/// The priority whose limits are the kernel's own defaults.
const PRIORITY_NORMAL: u32 = 8;
/// The kernel's defaults (`SYSCTL_RAID_SPEED_LIMIT_MIN`, `_MAX`), KiB/s.
const DEFAULT_MIN: u32 = 1_000;
const DEFAULT_MAX: u32 = 200_000;

/// An array's own speed limits, KiB/s; [`None`] where it goes by the system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A sync gives way to other I/O down to this.
    pub min: Option<u32>,
    /// A sync is never faster.
    pub max: Option<u32>,
}

/// Limits that lund has set, or was about to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// What they were before: what they become again.
    pub before: Limits,
    /// What lund writes.
    pub written: Limits,
}

/// What clients wish of a LUN, and what of it has to be undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hints {
    /// `sRebuildPriority`; 0: nobody has asked for one.
    pub rebuild_priority: u8,
    /// Limits in force for an operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// The bitmap is being added (`true`) or taken away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitmap: Option<bool>,
}

/// What to do about the speed limits now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Nothing.
    Keep,
    /// Remember this, and write its limits.
    Set(Throttle),
    /// Write these: what was before, where it is still lund's.
    Restore(Limits),
    /// Nothing is left to be undone.
    Forget,
}

/// Limits of a priority; [`None`] for 0, which leaves the array as it is. 8 is what the kernel does by default.
/// Below it the ceiling halves with each number, for the floor alone does not slow a rebuild of an idle array;
/// above it the ceiling doubles and the floor, which other I/O has to yield, becomes four times as high.
#[must_use]
pub const fn limits(priority: u8) -> Option<Limits> {
    let number = priority as u32;
    let (min, max) = match number {
        0 => return None,
        1..=PRIORITY_NORMAL => (DEFAULT_MIN, DEFAULT_MAX >> (PRIORITY_NORMAL - number)),
        _ => {
            let above = number - PRIORITY_NORMAL;
            (DEFAULT_MIN << (2 * above), DEFAULT_MAX << above)
        }
    };
    Some(Limits {
        min: Some(min),
        max: Some(max),
    })
}

/// The limits in force; [`None`] when they cannot be read.
#[must_use]
pub fn limits_of(array: &ArrayFacts) -> Option<Limits> {
    let sync = array.sync.as_ref()?;
    Some(Limits {
        min: sync.speed_min.known()?.own(),
        max: sync.speed_max.known()?.own(),
    })
}

/// Compares what is wished with what is. `working`: an operation is under way. `tried`: the limits were written
/// since the daemon started; when they are others now, somebody else has set them, and that is left alone.
#[must_use]
pub fn pace(hints: &Hints, now: Limits, working: bool, tried: bool) -> Pace {
    let wanted = limits(hints.rebuild_priority).filter(|_| working);
    match (wanted, hints.throttle) {
        (None, None) => Pace::Keep,
        (Some(wanted), None) if wanted == now => Pace::Keep,
        (Some(written), None) => Pace::Set(Throttle {
            before: now,
            written,
        }),
        (Some(written), Some(old)) if old.written != written => Pace::Set(Throttle {
            before: before(&old, now),
            written,
        }),
        (Some(_), Some(old)) if !tried && now != old.written && half_way(&old, now) => {
            Pace::Set(old)
        }
        (Some(_), Some(_)) => Pace::Keep,
        (None, Some(old)) => match before(&old, now) {
            limits if limits == now => Pace::Forget,
            limits => Pace::Restore(limits),
        },
    }
}

/// Nobody else has set a limit: each is as it was, or as lund writes it.
fn half_way(old: &Throttle, now: Limits) -> bool {
    let one = |now, written, before| now == written || now == before;
    one(now.min, old.written.min, old.before.min) && one(now.max, old.written.max, old.before.max)
}

/// What was before, but where somebody else has set a limit since.
fn before(old: &Throttle, now: Limits) -> Limits {
    let one = |now, written, before| if now == written { before } else { now };
    Limits {
        min: one(now.min, old.written.min, old.before.min),
        max: one(now.max, old.written.max, old.before.max),
    }
}

/// Whether a LUN can have a rebuild priority at all.
///
/// # Errors
/// [`Error::InvalidArgument`] past 15, [`Error::NotSupported`] where nothing is ever rebuilt by md.
pub fn refuse_priority(ctx: &Context<'_>, priority: u8) -> Result<(), Error> {
    if priority > PRIORITY_MAX {
        return Err(Error::InvalidArgument {
            what: format!("sRebuildPriority {priority}"),
            why: "it is 0 (none) to 15".to_owned(),
        });
    }
    if priority == 0 {
        return Ok(());
    }
    refuse(ctx, "a rebuild priority")
}

fn refuse(ctx: &Context<'_>, what: &str) -> Result<(), Error> {
    let why = if let Some(why) = unsupported(ctx) {
        why
    } else if ctx.array.dm().is_some() {
        "what slows a raid set and what it logs is in its table, which its owner loads".to_owned()
    } else if !ctx.lun.fault_tolerant {
        "its level has no redundancy".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::NotSupported {
        object: ctx.array.name.clone(),
        what: what.to_owned(),
        why,
    })
}

/// What gives the LUN a write-intent bitmap, or takes it away; [`None`] when it is as wished.
///
/// # Errors
/// [`Error::NotSupported`] where md keeps none; [`Error::AnotherCall`] while anything runs; [`Error::LunNotReady`]
/// unless the LUN is whole and in step: a former member comes back by the bitmap, and what it missed before
/// there was one is in no bitmap.
pub fn bitmap_step(
    ctx: &Context<'_>,
    on: bool,
    busy: Option<(OpId, String)>,
) -> Result<Option<Action>, Error> {
    let array = ctx.array;
    if array.bitmap == Fact::Known(on) {
        return Ok(None);
    }
    refuse(
        ctx,
        "another write-intent bitmap (bFastCrashRecoveryRequired)",
    )?;
    let lun = array.name.clone();
    if let Some((op, doing)) = busy {
        let op = Some(op);
        return Err(Error::AnotherCall { lun, op, doing });
    }
    let not_ready = |why: String| {
        let lun = lun.clone();
        Err(Error::LunNotReady { lun, why })
    };
    if let Fact::Unknown(why) = &array.bitmap {
        return not_ready(format!(
            "whether it has a write-intent bitmap is unknown: {why}"
        ));
    }
    if let Some(action) = project::syncing(array) {
        let doing = format!("the kernel runs a {action:?}").to_lowercase();
        return Err(Error::AnotherCall {
            lun,
            op: None,
            doing,
        });
    }
    let idle = |sync: &crate::facts::SyncFacts| sync.action == Fact::Known(SyncAction::Idle);
    if !array.sync.as_ref().is_some_and(idle) {
        return not_ready("it is frozen, or what it does is unknown".to_owned());
    }
    if ctx.lun.health != Health::Healthy || ctx.lun.read_only || ctx.lun.auto_read_only {
        return not_ready(format!(
            "its bitmap is changed only while it is whole, in step and writable (health {})",
            ctx.lun.health.name()
        ));
    }
    let array = lun;
    Ok(Some(Action::SetBitmap { array, on }))
}

#[cfg(test)]
mod tests {
    use super::super::testkit::World;
    use super::*;
    use crate::facts::{Level, SpeedLimit};

    const SYSTEM: Limits = Limits {
        min: None,
        max: None,
    };

    fn own(min: u32, max: u32) -> Limits {
        let (min, max) = (Some(min), Some(max));
        Limits { min, max }
    }

    fn wished(rebuild_priority: u8, throttle: Option<Throttle>) -> Hints {
        Hints {
            rebuild_priority,
            throttle,
            bitmap: None,
        }
    }

    #[test]
    fn a_higher_priority_is_faster() {
        assert_eq!(limits(0), None);
        assert_eq!(limits(8), Some(own(DEFAULT_MIN, DEFAULT_MAX)));
        for priority in 1..PRIORITY_MAX {
            let (low, high) = (limits(priority).unwrap(), limits(priority + 1).unwrap());
            assert!(low.max < high.max && low.min <= high.min, "{priority}");
            assert!(low.min <= low.max && high.min <= high.max, "{priority}");
        }
        // The kernel keeps them in an `int`.
        let Limits { min, max } = limits(PRIORITY_MAX).unwrap();
        assert!(min.max(max).unwrap() < i32::MAX.unsigned_abs());
    }

    #[test]
    fn limits_are_set_while_something_runs_and_put_back_after() {
        let before = own(500, 5_000);
        let written = limits(12).unwrap();
        let throttle = Throttle { before, written };
        let set = wished(12, Some(throttle));
        assert_eq!(pace(&wished(12, None), before, false, false), Pace::Keep);
        assert_eq!(
            pace(&wished(12, None), before, true, false),
            Pace::Set(throttle)
        );
        assert_eq!(pace(&wished(0, None), before, true, false), Pace::Keep);
        assert_eq!(pace(&wished(12, None), written, true, false), Pace::Keep);
        assert_eq!(pace(&set, written, true, true), Pace::Keep);
        assert_eq!(pace(&set, written, false, true), Pace::Restore(before));
        assert_eq!(pace(&set, before, false, true), Pace::Forget);
        // The wish was taken back meanwhile.
        assert_eq!(
            pace(&wished(0, Some(throttle)), written, true, true),
            Pace::Restore(before)
        );
        // Another wish: what was before is what lund found.
        let other = Throttle {
            before,
            written: limits(3).unwrap(),
        };
        assert_eq!(
            pace(&wished(3, Some(throttle)), written, true, true),
            Pace::Set(other)
        );
    }

    #[test]
    fn what_a_crash_cut_short_is_done_again_once() {
        let written = limits(12).unwrap();
        let throttle = Throttle {
            before: SYSTEM,
            written,
        };
        let half = Limits {
            min: written.min,
            max: None,
        };
        for now in [SYSTEM, half] {
            let set = wished(12, Some(throttle));
            assert_eq!(pace(&set, now, true, false), Pace::Set(throttle));
            assert_eq!(
                pace(&set, now, true, true),
                Pace::Keep,
                "somebody has undone it"
            );
        }
        assert_eq!(
            pace(&wished(12, Some(throttle)), half, false, false),
            Pace::Restore(SYSTEM)
        );
    }

    #[test]
    fn what_somebody_else_has_set_is_left() {
        let written = limits(12).unwrap();
        let throttle = Throttle {
            before: SYSTEM,
            written,
        };
        let now = Limits {
            max: Some(77),
            ..written
        };
        let set = wished(12, Some(throttle));
        assert_eq!(pace(&set, now, true, true), Pace::Keep);
        let left = Limits {
            min: None,
            max: Some(77),
        };
        assert_eq!(pace(&set, now, false, true), Pace::Restore(left));
        assert_eq!(pace(&set, left, false, true), Pace::Forget);
    }

    #[test]
    fn limits_are_those_of_the_array() {
        let mut world = World::new(Level::Raid1, 2);
        assert_eq!(limits_of(world.array_mut()), Some(SYSTEM));
        let sync = world.array_mut().sync.as_mut().unwrap();
        sync.speed_max = Fact::Known(SpeedLimit {
            kib_s: 7,
            local: true,
        });
        let max = Some(7);
        assert_eq!(
            limits_of(world.array_mut()),
            Some(Limits { min: None, max })
        );
        world.array_mut().sync.as_mut().unwrap().speed_min = Fact::Unknown("EIO".into());
        assert_eq!(limits_of(world.array_mut()), None);
    }

    fn step(world: &World, on: bool) -> Result<Option<Action>, Error> {
        world.with(|ctx| bitmap_step(ctx, on, None))
    }

    #[test]
    fn a_bitmap_is_changed_only_where_nothing_rests_on_it() {
        let whole = World::new(Level::Raid1, 2);
        assert_eq!(step(&whole, true), Ok(None));
        assert!(matches!(
            step(&whole, false),
            Ok(Some(Action::SetBitmap { on: false, .. }))
        ));
        let mut degraded = World::new(Level::Raid1, 2);
        degraded.fail("d1");
        assert!(matches!(
            step(&degraded, false),
            Err(Error::LunNotReady { .. })
        ));
        let mut syncing = World::new(Level::Raid1, 2);
        syncing.show(SyncAction::Check, true);
        assert!(matches!(
            step(&syncing, false),
            Err(Error::AnotherCall { .. })
        ));
        let mut frozen = World::new(Level::Raid1, 2);
        frozen.show(SyncAction::Frozen, false);
        assert!(matches!(
            step(&frozen, false),
            Err(Error::LunNotReady { .. })
        ));
        let mut unknown = World::new(Level::Raid1, 2);
        unknown.array_mut().bitmap = Fact::Unknown("EIO".into());
        assert!(matches!(
            step(&unknown, true),
            Err(Error::LunNotReady { .. })
        ));
        let mut striped = World::new(Level::Raid0, 2);
        striped.array_mut().bitmap = Fact::Known(false);
        assert!(matches!(
            step(&striped, true),
            Err(Error::NotSupported { .. })
        ));
        let refused = |priority| striped.with(|ctx| refuse_priority(ctx, priority));
        assert!(matches!(refused(1), Err(Error::NotSupported { .. })));
        assert!(matches!(refused(16), Err(Error::InvalidArgument { .. })));
        assert_eq!(refused(0), Ok(()), "no wish is granted to all");
    }
}
