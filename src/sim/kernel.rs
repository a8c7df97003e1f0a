//! The simulated machine under the port.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lun_core::Error;
use lun_core::action::Action;
use lun_core::facts::{ArrayFacts, Inventory, MdstatFacts};
use lun_kernel::{Hint, Kernel, ScanRequest};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::action::Outcome;
use crate::watch::SimWatch;
use crate::world::World;

/// A simulated kernel. Clones serve the same machine; when the last one goes, so does the thread
/// that drives a machine in real time.
#[derive(Clone)]
pub struct SimKernel {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// The world changed: a blocked action or the clock's thread may go on.
    changed: Condvar,
    /// Moment 0 of the world's clock; [`None`] when tests turn it by hand.
    epoch: Option<Instant>,
}

struct State {
    world: World,
    watchers: Vec<UnboundedSender<Hint>>,
    closed: bool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl SimKernel {
    /// Serves a machine whose clock tests turn by hand ([`World::advance_ms`]).
    #[must_use]
    pub fn by_hand(world: World) -> Self {
        Self::new(world, None)
    }

    /// Serves a machine whose clock is the real one, with sync threads that do `rate` bytes a
    /// second. What falls due happens on time, and hints tell of it.
    #[must_use]
    pub fn real_time(mut world: World, rate: u64) -> Self {
        world.set_rate(rate);
        let epoch = Instant::now();
        // The world's clock starts at 0 whatever its builder did.
        let past = Duration::from_millis(world.now_ms);
        let kernel = Self::new(world, Some(epoch.checked_sub(past).unwrap_or(epoch)));
        let shared = Arc::clone(&kernel.handle.shared);
        std::thread::spawn(move || shared.keep_time());
        kernel
    }

    fn new(mut world: World, epoch: Option<Instant>) -> Self {
        world.settle();
        world.hints.clear();
        let state = State {
            world,
            watchers: Vec::new(),
            closed: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            epoch,
        };
        Self {
            handle: Arc::new(Handle {
                shared: Arc::new(shared),
            }),
        }
    }

    /// A new listener of the machine's hints.
    #[must_use]
    pub fn watch(&self) -> SimWatch {
        let (sender, receiver) = unbounded_channel();
        self.handle.shared.lock().watchers.push(sender);
        SimWatch::new(receiver)
    }

    /// Does something to the machine, or looks at it. Hints of what changed are delivered.
    pub fn with<R>(&self, change: impl FnOnce(&mut World) -> R) -> R {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        let result = change(&mut state.world);
        state.world.settle();
        shared.deliver(&mut state);
        drop(state);
        shared.changed.notify_all();
        result
    }

    /// Tells every listener that hints were lost.
    pub fn overflow(&self) {
        self.with(|world| world.hint(Hint::Overflow));
    }
}

impl Shared {
    /// The state, with its clock brought up to now.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.catch_up(&mut state);
        state
    }

    fn catch_up(&self, state: &mut State) {
        if let Some(epoch) = self.epoch {
            let ms = u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX);
            state.world.advance_to(ms.max(state.world.now_ms));
            self.deliver(state);
        }
    }

    fn deliver(&self, state: &mut State) {
        let hints = std::mem::take(&mut state.world.hints);
        if hints.is_empty() {
            return;
        }
        state
            .watchers
            .retain(|watcher| hints.iter().all(|hint| watcher.send(hint.clone()).is_ok()));
    }

    /// Sleeps until the next thing falls due, for as long as the machine is served.
    fn keep_time(&self) {
        let mut state = self.lock();
        while !state.closed {
            let now = state.world.now_ms;
            state = match state.world.next_event_ms() {
                Some(at) => {
                    let wait = Duration::from_millis(at.saturating_sub(now).max(1));
                    self.changed
                        .wait_timeout(state, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
            };
            self.catch_up(&mut state);
        }
    }

    /// Waits until `go_on` holds or the machine is no longer served.
    fn wait_until<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        go_on: impl Fn(&World) -> bool,
    ) -> MutexGuard<'a, State> {
        while !state.closed && !go_on(&state.world) {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            self.catch_up(&mut state);
        }
        state
    }
}

impl Kernel for SimKernel {
    fn scan(&self, request: &ScanRequest) -> Result<Inventory, Error> {
        Ok(self.handle.shared.lock().world.inventory(request))
    }

    fn read_array(&self, name: &str) -> Result<Option<ArrayFacts>, Error> {
        let state = self.handle.shared.lock();
        let array = state.world.array(name);
        Ok(array.map(|array| state.world.array_facts(array, false)))
    }

    fn read_progress(&self) -> Result<Vec<(String, MdstatFacts)>, Error> {
        Ok(self.handle.shared.lock().world.progress_facts())
    }

    fn act(&self, action: &Action) -> Result<(), Error> {
        let shared = &self.handle.shared;
        let mut state = shared.wait_until(shared.lock(), |world| !world.hold_actions);
        let outcome = state.world.begin(action);
        shared.deliver(&mut state);
        shared.changed.notify_all();
        match outcome {
            Outcome::Done(result) => result,
            Outcome::Blocked(name) => {
                let mut state = shared.wait_until(state, |world| !world.stop_blocked(&name));
                let result = state.world.end_blocked(&name);
                shared.deliver(&mut state);
                shared.changed.notify_all();
                result
            }
        }
    }
}
