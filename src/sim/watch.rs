//! Hints of the simulated machine.

use std::future::{Future, pending};
use std::pin::Pin;

use lun_core::facts::Inventory;
use lun_kernel::{Hint, Watch};
use tokio::sync::mpsc::UnboundedReceiver;

/// Waits for hints of a [`SimKernel`](crate::SimKernel). Waiting costs nothing.
#[derive(Debug)]
pub struct SimWatch {
    receiver: UnboundedReceiver<Hint>,
}

impl SimWatch {
    pub(crate) const fn new(receiver: UnboundedReceiver<Hint>) -> Self {
        Self { receiver }
    }
}

impl Watch for SimWatch {
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Hint> + '_>> {
        Box::pin(async {
            match self.receiver.recv().await {
                Some(hint) => hint,
                // The machine is gone: there will never be anything to tell.
                None => pending().await,
            }
        })
    }

    fn follow(&mut self, _inventory: &Inventory) {}
}
