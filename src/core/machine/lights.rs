//! The light of a drive's bay: a call that changes no data, and that nothing waits for but its caller.

use super::task::ActOwner;
use super::{ActId, Machine, Reply, Token};
use crate::Error;
use crate::action::{Action, Target};
use crate::error::Unfit;

impl Machine {
    /// The call `Light`: lights up the bay of a drive, of the whole disk where the drive is a partition.
    pub(super) fn light(&mut self, token: Token, name: &str, on: bool) {
        let target = match self.light_target(name) {
            Ok(target) => target,
            Err(error) => return self.reply(token, Err(error)),
        };
        let disk = target.name.clone();
        let busy = self
            .acts
            .values()
            .any(|owner| matches!(owner, ActOwner::Light { disk: other, .. } if *other == disk));
        if busy {
            let error = Error::AnotherCall {
                lun: format!("/dev/{disk}"),
                op: None,
                doing: "its light is being switched".to_owned(),
            };
            return self.reply(token, Err(error));
        }
        let owner = ActOwner::Light {
            disk,
            token: Some(token),
        };
        self.act(owner, Action::Light { drive: target, on });
    }

    fn light_target(&self, name: &str) -> Result<Target, Error> {
        let id = self.resolve_drive(name)?;
        let not_present = || Error::DriveRefused {
            drive: name.to_owned(),
            unfit: Unfit::NotPresent,
        };
        let device = self.device_of(id).ok_or_else(not_present)?;
        let mut devices = self.inventory.devices.values();
        let disk = devices
            .find(|disk| disk.name == device.whole_disk)
            .ok_or_else(not_present)?;
        Ok(Target {
            dev: disk.dev,
            name: disk.name.clone(),
            id: disk.id,
        })
    }

    pub(super) fn lit(&mut self, token: Option<Token>, result: Result<(), Error>) {
        if let Some(token) = token {
            self.reply(token, result.map(|()| Reply::Done));
        }
    }

    /// `ledctl` has not ended within the deadline: who asked need not wait on.
    pub(super) fn light_late(&mut self, id: ActId) {
        let after_ms = self.policy.deadline_ms;
        if let Some(ActOwner::Light { disk, token }) = self.acts.get_mut(&id)
            && let Some(token) = token.take()
        {
            let what = format!("switching the light of /dev/{disk}");
            self.reply(token, Err(Error::Timeout { what, after_ms }));
        }
    }
}
