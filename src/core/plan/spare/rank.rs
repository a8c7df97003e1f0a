//! Which of the drives that fit is the best, and why, in words.

use crate::facts::{DeviceFacts, Fact};
use crate::id::DriveId;

use super::super::view::{Part, part};
use super::super::{Context, PoolEntry};

/// How well a drive fits: of two the smaller one is taken. The fields count in their order; what is
/// unknown counts as not matching. The last two make the choice the same whatever the order in which
/// drives were found or registered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Rank {
    /// It may serve other LUNs too.
    shared: bool,
    /// On the same disk as a survivor: it would be lost with it.
    same_disk: bool,
    other_media: bool,
    other_transport: bool,
    same_enclosure: bool,
    same_controller: bool,
    size_bytes: u64,
    stable_name: String,
    id: DriveId,
}

impl Rank {
    /// What speaks for the drive and against it, for people.
    pub(super) fn text(&self) -> String {
        let mut words = Vec::new();
        if !self.shared {
            words.push("kept for it");
        }
        if !self.other_media && !self.other_transport {
            words.push("of the members' kind");
        }
        let against = [
            (
                self.other_media,
                "of other or unknown media than the members",
            ),
            (self.other_transport, "of another or unknown transport"),
            (self.same_disk, "on the disk of a member"),
            (self.same_enclosure, "in the enclosure of a member"),
            (self.same_controller, "on the controller of a member"),
        ];
        words.extend(against.iter().filter(|(is, _)| *is).map(|(_, word)| *word));
        words.join(", ")
    }
}

/// Drives that carry the data now.
pub(super) fn survivors<'i>(ctx: &Context<'i>) -> Vec<&'i DeviceFacts> {
    let inventory = ctx.inventory;
    ctx.array
        .members
        .iter()
        .filter(|member| matches!(part(member), Ok(Part::InSync(_) | Part::Unsettled(_))))
        .filter_map(|member| inventory.devices.get(member.dev.known()?))
        .collect()
}

/// How well a drive fits beside the survivors. `entry`: what the pool knows of it.
pub(in super::super) fn rank(
    device: &DeviceFacts,
    survivors: &[&DeviceFacts],
    entry: Option<&PoolEntry>,
) -> Rank {
    let any = |differs: &dyn Fn(&DeviceFacts) -> bool| survivors.iter().any(|s| differs(s));
    Rank {
        shared: entry.is_none_or(|entry| entry.only_for.is_none()),
        same_disk: any(&|s| s.whole_disk == device.whole_disk),
        other_media: any(&|s| s.rotational.known() != device.rotational.known())
            || unknown(&device.rotational),
        other_transport: any(&|s| s.transport.known() != device.transport.known())
            || unknown(&device.transport),
        same_enclosure: any(&|s| s.enclosure.is_some() && s.enclosure == device.enclosure),
        same_controller: any(&|s| s.controller.is_some() && s.controller == device.controller),
        size_bytes: device.size_bytes,
        stable_name: device.stable_name.clone(),
        id: device.id,
    }
}

const fn unknown<T>(fact: &Fact<T>) -> bool {
    matches!(fact, Fact::Unknown(_))
}
