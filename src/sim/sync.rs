//! Sync threads: what the kernel starts by itself, how it goes on, how it ends
//! (`drivers/md/md.c:md_check_recovery`, `md_do_sync`, `md_reap_sync_thread`).

use lun_core::facts::{Level, Slot, SyncAction};
use lun_core::id::DevNo;

use crate::world::{Array, KernelStyle, Member, Mode, SECTOR, Sync, World, errno};

impl World {
    /// Lets the clock run up to `to_ms` and does all that falls due on the way, in order.
    pub fn advance_to(&mut self, to_ms: u64) {
        loop {
            self.look_for_work();
            match self.next_event_ms() {
                Some(at) if at <= to_ms => {
                    self.now_ms = self.now_ms.max(at);
                    self.fire();
                }
                _ => break,
            }
        }
        self.now_ms = self.now_ms.max(to_ms);
    }

    /// Lets the clock run for `ms` milliseconds.
    pub fn advance_ms(&mut self, ms: u64) {
        self.advance_to(self.now_ms.saturating_add(ms));
    }

    /// Does what is due now.
    pub fn settle(&mut self) {
        self.advance_to(self.now_ms);
    }

    /// Lets the clock run until no sync thread can go on, or until `limit_ms` have passed.
    pub fn run_until_idle(&mut self, limit_ms: u64) {
        let end = self.now_ms.saturating_add(limit_ms);
        self.settle();
        while let Some(at) = self.next_event_ms().filter(|at| *at <= end) {
            self.advance_to(at);
        }
    }

    /// When the next thing happens by itself; [`None`] while everything stands still.
    #[must_use]
    pub fn next_event_ms(&self) -> Option<u64> {
        self.arrays
            .values()
            .filter_map(|array| self.next_of(array))
            .min()
    }

    fn next_of(&self, array: &Array) -> Option<u64> {
        let sync = array.sync.as_ref()?;
        let slowed = array.is_slowed();
        if sync.delayed || sync.parked || self.rate == 0 || self.stalled(array) || slowed {
            return None;
        }
        let sixteenth = (sync.told + 1).saturating_mul(sync.total).div_ceil(16);
        let fault = sync
            .targets
            .iter()
            .filter_map(|dev| self.devices.get(dev)?.fails_at)
            .min()
            .unwrap_or(u64::MAX);
        let goal = sixteenth
            .min(sync.total)
            .min(fault)
            .min(array.sync_max.unwrap_or(u64::MAX))
            .saturating_sub(sync.base);
        let ms = goal
            .saturating_mul(SECTOR)
            .saturating_mul(1000)
            .div_ceil(self.rate);
        Some(sync.base_ms.saturating_add(ms))
    }

    /// Does what has fallen due: a target fails, a sync ends, a sixteenth is passed.
    fn fire(&mut self) {
        let names: Vec<String> = self.arrays.keys().cloned().collect();
        for name in names {
            let Some(array) = self.arrays.get(&name) else {
                continue;
            };
            if self.next_of(array).is_none_or(|at| at > self.now_ms) {
                continue;
            }
            let position = self.position(array);
            let Some(sync) = &array.sync else { continue };
            let failing = sync.targets.iter().copied().find(|dev| {
                self.devices
                    .get(dev)
                    .and_then(|d| d.fails_at)
                    .is_some_and(|at| at <= position)
            });
            if let Some(dev) = failing {
                if let Some(device) = self.devices.get_mut(&dev) {
                    device.fails_at = None;
                }
                self.fault(&name, dev);
            } else if position >= sync.total {
                self.finish(&name);
            } else {
                self.checkpoint(&name, position);
            }
        }
    }

    /// Records progress at a sixteenth, as the superblocks do.
    fn checkpoint(&mut self, name: &str, position: u64) {
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        let max = array.sync_max;
        let Some(sync) = &mut array.sync else { return };
        sync.parked = max.is_some_and(|max| position >= max);
        sync.told = position.saturating_mul(16) / sync.total.max(1);
        let (action, targets) = (sync.action, sync.targets.clone());
        store_position(array, action, &targets, position);
        self.write_superblocks(name);
        self.hint_progress(name);
    }

    /// Starts whatever every array needs, then whatever had waited for its turn.
    fn look_for_work(&mut self) {
        let names: Vec<String> = self.arrays.keys().cloned().collect();
        for name in &names {
            self.check_recovery(name);
        }
        for name in &names {
            let waits = self
                .arrays
                .get(name)
                .and_then(|a| a.sync.as_ref())
                .is_some_and(|s| s.delayed);
            if waits && !self.shares_busy_disk(name) {
                let now = self.now_ms;
                if let Some(sync) = self.arrays.get_mut(name).and_then(|a| a.sync.as_mut()) {
                    sync.delayed = false;
                    sync.base_ms = now;
                }
                self.hint_array(name);
            }
        }
    }

    /// Whether another array's sync thread works on a whole disk that this one uses too.
    fn shares_busy_disk(&self, name: &str) -> bool {
        let disks = |array: &Array| -> Vec<String> {
            let of = |m: &Member| self.devices.get(&m.dev).map(|d| d.whole_disk.clone());
            array.members.iter().filter_map(of).collect()
        };
        let Some(array) = self.arrays.get(name) else {
            return false;
        };
        let own = disks(array);
        self.arrays.values().any(|other| {
            other.name != name
                && other.sync.as_ref().is_some_and(|s| !s.delayed)
                && disks(other).iter().any(|disk| own.contains(disk))
        })
    }

    /// The array's own thread looks whether something should start.
    fn check_recovery(&mut self, name: &str) {
        let style = self.style;
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        let idle = array.sync.is_none() && !array.frozen && array.mode == Mode::Running;
        if !idle || !array.needed || !array.has_sync() {
            return;
        }
        array.needed = false;
        if array.enough() {
            drop_faulty(array);
            skip_pointless_resync(array);
            let action = choose(array, style);
            if action.is_some() {
                array.requested = None;
            }
            self.bump(name);
            if let Some(action) = action {
                self.start(name, action);
            }
        } else if style == KernelStyle::V7 && array.members.iter().any(Member::rebuilding) {
            // 7.x goes on filling the drive, and records what it cannot know as bad blocks.
            drop_faulty(array);
            for member in array.members.iter_mut().filter(|m| m.rebuilding()) {
                member.bad_blocks += 1;
            }
            self.start(name, SyncAction::Recover);
        } else {
            // Too much is lost: a half-filled drive is thrown out of its slot again.
            drop_faulty(array);
            for member in array.members.iter_mut().filter(|m| m.rebuilding()) {
                member.slot = Slot::None;
                member.recovery_offset = Some(0);
            }
        }
        self.hint_progress(name);
    }

    fn start(&mut self, name: &str, action: SyncAction) {
        let (now, delayed) = (self.now_ms, self.shares_busy_disk(name));
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        let rebuilding = || array.members.iter().filter(|m| m.rebuilding());
        let (targets, base) = match action {
            SyncAction::Recover => (
                rebuilding().map(|m| m.dev).collect(),
                rebuilding()
                    .map(|m| m.recovery_offset.unwrap_or(0))
                    .min()
                    .unwrap_or(0),
            ),
            // A bitmap without a dirty region lets all of it be skipped in one go.
            SyncAction::Resync if array.bitmap && !array.really_dirty => {
                (Vec::new(), array.sync_total(action))
            }
            SyncAction::Resync => (Vec::new(), array.resync_start.unwrap_or(0)),
            _ => (Vec::new(), array.sync_min),
        };
        let total = array.sync_total(action);
        if action != SyncAction::Recover {
            array.mismatch_shown = 0;
        }
        let base = base.min(total);
        let told = base.saturating_mul(16) / total.max(1);
        array.last_action = Some(action);
        array.sync = Some(Sync {
            action,
            start: base,
            base,
            base_ms: now,
            total,
            delayed,
            targets,
            told,
            parked: false,
        });
    }

    /// Stops the sync thread where it is and keeps its checkpoint.
    pub(crate) fn interrupt(&mut self, name: &str) {
        let style = self.style;
        let Some(array) = self.arrays.get(name) else {
            return;
        };
        let position = self.position(array);
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        let Some(sync) = array.sync.take() else {
            return;
        };
        store_position(array, sync.action, &sync.targets, position);
        if matches!(sync.action, SyncAction::Check | SyncAction::Repair) {
            // 6.1 keeps the last sixteenth that it wrote down, later kernels the place itself.
            array.sync_min = match style {
                KernelStyle::V6_1 => {
                    let told = sync.told.saturating_mul(sync.total) / 16;
                    told.max(sync.start).min(position)
                }
                KernelStyle::V6_12 | KernelStyle::V7 => position,
            };
        }
        if sync.action == SyncAction::Repair && style == KernelStyle::V7 {
            array.resync_start = Some(position);
        }
        array.needed = true;
        self.bump(name);
        self.hint_array(name);
    }

    /// `sync_max`: where syncs wait. It cannot be lowered while one runs.
    ///
    /// # Errors
    /// The kernel's error number.
    pub fn set_sync_max(&mut self, name: &str, max: Option<u64>) -> Result<(), i32> {
        self.rebase();
        let array = self.arrays.get_mut(name).ok_or(errno::ENOENT)?;
        let (old, new) = (array.sync_max.unwrap_or(u64::MAX), max.unwrap_or(u64::MAX));
        if new < old && array.sync.is_some() && array.mode == Mode::Running {
            return Err(errno::EBUSY);
        }
        array.sync_max = max;
        if let Some(sync) = &mut array.sync {
            sync.parked = false;
        }
        self.settle();
        Ok(())
    }

    fn finish(&mut self, name: &str) {
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        let Some(sync) = array.sync.take() else {
            return;
        };
        array.needed = true;
        array.sync_max = None;
        match sync.action {
            SyncAction::Resync => {
                array.resync_start = None;
                array.really_dirty = false;
                array.mismatch_real = 0;
                let good = array.members.iter_mut().filter(|m| m.good());
                good.for_each(|m| m.torn = false);
            }
            SyncAction::Check => array.mismatch_shown = array.mismatch_real,
            SyncAction::Repair => {
                array.members.iter_mut().for_each(|m| m.torn = false);
                array.mismatch_shown = array.mismatch_real;
                array.mismatch_real = 0;
            }
            _ => {}
        }
        if matches!(sync.action, SyncAction::Check | SyncAction::Repair) {
            array.sync_min = 0;
        }
        for dev in sync.targets {
            self.complete_target(name, dev);
        }
        self.bump(name);
        self.hint_array(name);
    }

    /// A filled drive becomes a member in sync; what it replaced becomes faulty.
    fn complete_target(&mut self, name: &str, dev: DevNo) {
        let Some(array) = self.arrays.get(name) else {
            return;
        };
        // What the sources cannot read is recorded on both sides, and the rebuild ends well.
        let Some(slot) = array.member(dev).map(|m| m.slot) else {
            return;
        };
        let losses = self.unreadable_for(array, slot);
        let Some(array) = self.arrays.get_mut(name) else {
            return;
        };
        if losses > 0 {
            for member in array.members.iter_mut().filter(|m| m.good()) {
                let unreadable = self.devices.get(&member.dev).map_or(0, |d| d.unreadable);
                member.bad_blocks = member.bad_blocks.max(unreadable);
            }
        }
        let content = (array.uuid, array.generation);
        let Some(member) = array.member_mut(dev).filter(|m| m.rebuilding()) else {
            return;
        };
        member.in_sync = true;
        let torn = member.torn;
        member.recovery_offset = None;
        member.bad_blocks += losses;
        let (slot, replaced) = (member.slot, member.replacement);
        member.replacement = false;
        array.mismatch_real += if torn { 8 } else { 0 };
        if replaced {
            let old = array
                .members
                .iter_mut()
                .find(|m| m.slot == slot && m.dev != dev);
            if let Some(old) = old {
                old.faulty = true;
                old.in_sync = false;
                old.want_replacement = false;
                old.slot = Slot::None;
            }
        }
        if let Some(device) = self.devices.get_mut(&dev) {
            device.content = Some(content);
            device.missed_sectors = 0;
        }
    }
}

/// Notes how far a sync came.
fn store_position(array: &mut Array, action: SyncAction, targets: &[DevNo], position: u64) {
    match action {
        SyncAction::Recover => {
            for member in array
                .members
                .iter_mut()
                .filter(|m| targets.contains(&m.dev))
            {
                if member.rebuilding() {
                    member.recovery_offset = Some(position);
                }
            }
        }
        SyncAction::Resync => array.resync_start = Some(position),
        _ => {}
    }
}

/// Faulty members leave their slots. What was filled to replace one takes its place.
fn drop_faulty(array: &mut Array) {
    let left: Vec<Slot> = array
        .members
        .iter_mut()
        .filter(|m| m.faulty && m.slot != Slot::None)
        .map(|member| {
            member.want_replacement = false;
            std::mem::replace(&mut member.slot, Slot::None)
        })
        .collect();
    for member in array.members.iter_mut().filter(|m| m.replacement) {
        member.replacement &= !left.contains(&member.slot);
    }
}

/// A resync with nothing to compare against ends at once.
fn skip_pointless_resync(array: &mut Array) {
    let bad = array.degraded();
    let pointless = match array.level {
        Level::Raid1 => bad + 1 >= array.raid_disks,
        Level::Raid4 | Level::Raid5 => bad >= 1,
        Level::Raid6 => bad >= 2,
        _ => false,
    };
    if pointless {
        array.resync_start = None;
        array.really_dirty = false;
    }
}

/// What the kernel starts next; binds spares on the way.
fn choose(array: &mut Array, style: KernelStyle) -> Option<SyncAction> {
    let resync = array.resync_start.is_some();
    if resync && style != KernelStyle::V6_1 {
        return Some(SyncAction::Resync);
    }
    // raid10 takes no spare while it is out of step.
    if !(resync && array.level == Level::Raid10) {
        bind_spares(array, style);
    }
    if array.members.iter().any(Member::rebuilding) {
        return Some(SyncAction::Recover);
    }
    if resync {
        return Some(SyncAction::Resync);
    }
    array.requested
}

/// Idle spares go into empty slots, then in place of members that want replacement.
fn bind_spares(array: &mut Array, style: KernelStyle) {
    let mixed = style == KernelStyle::V6_1 && matches!(array.level, Level::Raid1 | Level::Raid10);
    // The kernel's list begins with the device that was bound last.
    for index in (0..array.members.len()).rev() {
        if !array.members.get(index).is_some_and(Member::idle_spare) {
            continue;
        }
        let hole = (0..array.raid_disks).find(|slot| slot_empty(array, *slot));
        let weak = (0..array.raid_disks).find(|slot| slot_wants_replacement(array, *slot));
        let (slot, replacement) = match (hole, weak) {
            // 6.1 mirrors take the lower slot, and so may leave the hole.
            (Some(hole), Some(weak)) if mixed && weak < hole => (weak, true),
            (Some(hole), _) => (hole, false),
            (None, Some(weak)) => (weak, true),
            (None, None) => continue,
        };
        if let Some(member) = array.members.get_mut(index) {
            member.slot = Slot::At(slot);
            member.replacement = replacement;
            member.recovery_offset = Some(0);
        }
    }
}

/// Whether nothing at all occupies the slot.
pub(crate) fn slot_empty(array: &Array, slot: u32) -> bool {
    !array.members.iter().any(|m| m.slot == Slot::At(slot))
}

/// Whether the slot's member wants a replacement and has none yet.
pub(crate) fn slot_wants_replacement(array: &Array, slot: u32) -> bool {
    let here = || array.members.iter().filter(|m| m.slot == Slot::At(slot));
    here().any(|m| m.good() && m.want_replacement) && !here().any(|m| m.replacement)
}
