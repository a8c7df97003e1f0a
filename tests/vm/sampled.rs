//! Never healthy while a leg is not in sync: a machine whose raid sets are looked at all the while.

use std::ops::{Deref, DerefMut};

use lun_vm::Running;

use super::lab::{Lab, PATIENCE};

/// A machine with a sampler beside whatever the test does; what it has seen is judged when the test ends.
pub(crate) struct Sampled {
    lab: Lab,
    running: Option<Running>,
    /// Whether it has seen a leg out of sync.
    seen: bool,
}

impl Sampled {
    /// Starts to look.
    pub(crate) fn of(lab: Lab) -> Self {
        let mut sampled = Self {
            lab,
            running: None,
            seen: false,
        };
        sampled.sample();
        sampled
    }

    /// The same, after a reboot.
    pub(crate) fn sample(&mut self) {
        let running = self.lab.spawn("perl /opt/lund/sampled.pl");
        running.wait_for("sampling", PATIENCE).unwrap();
        self.running = Some(running);
    }

    /// Ends it and judges what it has seen.
    pub(crate) fn judge(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        self.lab.sh("touch /run/enough");
        let output = running.wait(PATIENCE).unwrap();
        let seen = String::from_utf8_lossy(&output.stdout);
        println!("{seen}");
        assert_eq!(output.status, 0, "{seen}");
        self.seen |= !seen.contains("\n0 moments");
    }
}

impl Deref for Sampled {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl DerefMut for Sampled {
    fn deref_mut(&mut self) -> &mut Lab {
        &mut self.lab
    }
}

impl Drop for Sampled {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.judge();
            assert!(self.seen, "each of these tests has a leg out of sync");
        }
    }
}
