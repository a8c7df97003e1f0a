//! The actions. Each is one thing done to the kernel or to a drive; before a drive is touched its
//! number must still bear the identity that the plan saw.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lun_core::Error;
use lun_core::action::{Action, FormerOf, SyncWord, Target};
use lun_core::error::Unfit;
use lun_core::facts::{ArrayState, Fact, MemberFacts, MemberState, Slot, SyncCompleted};

use super::array::{bitmap, member_dev, member_folder, members};
use super::exclusive::TO_TAKE;
use super::read::{names, text};
use super::tool::{LEDCTL, MDADM, Tools, WIPEFS};
use super::write::{while_busy, write_value};
use super::{Roots, bare, device, ioctl, probe, set, spare};
use crate::md_spare::Unusual;
use crate::{parse, raid_set};

/// How long a spurious EBUSY is borne: kernels before 6.11 give one while the array's thread
/// merely looks for work, also right after a device was added.
const LOOKING_FOR_WORK: Duration = Duration::from_secs(2);
/// How long a removal waits for I/O, or for the superblock that records a failure.
const DETACHING: Duration = Duration::from_secs(5);

/// Performs one action.
pub(crate) fn act(roots: &Roots, tools: &Tools, action: &Action) -> Result<(), Error> {
    if let Some(name) = action.array().and_then(raid_set::dm_name) {
        return set::act(roots, tools, name, action);
    }
    let hand = Hand { roots, tools };
    match action {
        Action::SetSync { array, word } => hand.set_sync(array, *word),
        Action::ClearResyncStart { array, fill_first } => hand.clear_resync(array, *fill_first),
        Action::WholeRange { array } => {
            let md = hand.md(array)?;
            write_value(&md.join("sync_min"), "0")?;
            write_value(&md.join("sync_max"), "max")
        }
        Action::SetSpeed { array, min, max } => {
            let md = hand.md(array)?;
            write_value(&md.join("sync_speed_min"), &speed(*min))?;
            write_value(&md.join("sync_speed_max"), &speed(*max))
        }
        Action::SetBitmap { array, on } => hand.set_bitmap(array, *on),
        Action::MakeReadWrite { array } => hand.make_read_write(array),
        Action::AddSpare { array, drive } => hand.add_spare(array, drive),
        Action::ReAdd { array, drive } => hand.re_add(array, drive),
        Action::FailMember { array, drive } => hand.fail(array, drive),
        Action::RemoveMember { array, drive } => hand.remove(array, drive),
        Action::DropVanished { array, member } => hand.drop_vanished(array, member),
        Action::WantReplacement { array, drive } => hand.want_replacement(array, drive),
        Action::SetSlot { array, drive, slot } => {
            let folder = hand.member(array, drive)?;
            write_value(&folder.join("slot"), &slot.to_string())
        }
        Action::Light { drive, on } => hand.light(drive, *on),
        Action::Wipe { drive, former } => hand.wipe(drive, former.as_ref()),
        Action::Revive { array, .. }
        | Action::RepairVolume { array, .. }
        | Action::ReplaceLeg { array, .. }
        | Action::DropTable { array }
        | Action::ForgetLeg { array, .. }
        | Action::ExtendGroup { array, .. } => {
            Err(set::not_for(array, action, "it is an array of md"))
        }
    }
}

/// Node of a drive that is still the one that the plan saw.
pub(crate) fn drive_node(roots: &Roots, tools: &Tools, drive: &Target) -> Result<String, Error> {
    let node = Hand { roots, tools }.drive(drive)?;
    Ok(node.to_string_lossy().into_owned())
}

/// The same, of a drive that nobody has open.
pub(crate) fn free_drive(roots: &Roots, tools: &Tools, drive: &Target) -> Result<String, Error> {
    let node = Hand { roots, tools }.drive(drive)?;
    Hand::require_free(drive, &node)?;
    Ok(node.to_string_lossy().into_owned())
}

struct Hand<'a> {
    roots: &'a Roots,
    tools: &'a Tools,
}

impl Hand<'_> {
    /// Folder of a running or inactive array. Nothing is done to a name that has none: opening its
    /// node would create an array.
    fn md(&self, array: &str) -> Result<PathBuf, Error> {
        let md = self.roots.sys.join("block").join(array).join("md");
        if array.is_empty() || array.contains('/') || !md.is_dir() {
            return Err(Error::Kernel {
                action: "find the array".to_owned(),
                object: md.display().to_string(),
                errno: libc::ENODEV,
                detail: "there is no such array".to_owned(),
            });
        }
        Ok(md)
    }

    /// Checks that a drive is still the one that the plan saw; gives its node.
    fn drive(&self, drive: &Target) -> Result<PathBuf, Error> {
        let refused = |unfit| Error::DriveRefused {
            drive: drive.name.clone(),
            unfit,
        };
        let Some((name, id)) = device::identity_of(self.roots, drive.dev) else {
            return Err(refused(Unfit::NotPresent));
        };
        if id != drive.id || name != drive.name {
            return Err(refused(Unfit::IdentityChanged));
        }
        Ok(device::node(self.roots, &name))
    }

    /// Checks that a member is still the one that the plan saw; gives its folder. A member whose
    /// device vanished is known by its folder alone, as the kernel still holds the old one.
    fn member(&self, array: &str, drive: &Target) -> Result<PathBuf, Error> {
        let folder = member_folder(self.roots, array, &drive.name);
        if !self.md(array)?.starts_with(&self.roots.sys) || !folder.is_dir() {
            return Err(Error::Kernel {
                action: format!("find member {} of {array} in", drive.name),
                object: folder.display().to_string(),
                errno: libc::ENODEV,
                detail: "it is no member".to_owned(),
            });
        }
        match member_dev(&folder) {
            Fact::Known(dev) if dev == drive.dev => self.drive(drive).map(|_| folder),
            Fact::Known(_) => Err(Error::DriveRefused {
                drive: drive.name.clone(),
                unfit: Unfit::IdentityChanged,
            }),
            Fact::Unknown(_) => Ok(folder),
        }
    }

    fn state(folder: &Path) -> Result<MemberState, Error> {
        text(&folder.join("state")).map(|text| parse::member_state(&text))
    }

    fn require_free(drive: &Target, node: &Path) -> Result<(), Error> {
        if probe::is_free(node, TO_TAKE)? {
            return Ok(());
        }
        Err(Error::DriveRefused {
            drive: drive.name.clone(),
            unfit: Unfit::Busy {
                detail: format!("an exclusive open of {} fails", node.display()),
            },
        })
    }

    /// Writes `word` once. EBUSY means "something runs", except on kernels before 6.11, where the
    /// array's thread claims to run while it looks for work: then `sync_completed` shows nothing
    /// done, and trying again is right.
    fn set_sync(&self, array: &str, word: SyncWord) -> Result<(), Error> {
        let md = self.md(array)?;
        let path = md.join("sync_action");
        let starts = !matches!(word, SyncWord::Frozen | SyncWord::Idle);
        let spurious = || {
            let read = text(&md.join("sync_completed"))
                .and_then(|text| parse::sync_completed("sync_completed", &text));
            matches!(
                read,
                Ok(SyncCompleted::None | SyncCompleted::At { done: 0, .. })
            )
        };
        let write = || write_value(&path, word.as_str());
        while_busy(&path, LOOKING_FOR_WORK, write, || starts && spurious())
    }

    /// `active` leaves auto-read-only. It is written in no other state: to a running array it
    /// would also release writers that wait for a superblock (`md.c:array_state_store`).
    fn make_read_write(&self, array: &str) -> Result<(), Error> {
        let path = self.md(array)?.join("array_state");
        match parse::array_state(&path.display().to_string(), &text(&path)?)? {
            ArrayState::ReadAuto => write_value(&path, "active"),
            ArrayState::Readonly => Err(Error::ReadOnly {
                lun: array.to_owned(),
            }),
            ArrayState::Clear | ArrayState::Inactive | ArrayState::Suspended => {
                Err(Error::LunOffline {
                    lun: array.to_owned(),
                    state: text(&path)?.trim().into(),
                    again: Vec::new(),
                })
            }
            ArrayState::Clean
            | ArrayState::Active
            | ArrayState::WritePending
            | ArrayState::ActiveIdle
            | ArrayState::Broken => Ok(()),
        }
    }

    /// What is plain is done without a child process; a member that has failed and is still listed is not.
    fn add_spare(&self, array: &str, drive: &Target) -> Result<(), Error> {
        let listed = member_folder(self.roots, array, &drive.name).is_dir();
        let place = spare::Place {
            roots: self.roots,
            md: &self.md(array)?,
            array: &self.array_node(array)?,
            node: &self.drive(drive)?,
            drive,
        };
        let added = match listed {
            true => Err(Unusual("it is a member".to_owned())),
            false => spare::add(&place)?,
        };
        match added {
            Ok(()) => Ok(()),
            Err(why) => {
                tracing::debug!(array, drive = drive.name, %why, "left to mdadm");
                self.add(array, drive, "--add-spare")
            }
        }
    }

    fn add(&self, array: &str, drive: &Target, option: &str) -> Result<(), Error> {
        self.md(array)?;
        let node = self.drive(drive)?;
        // A failed member that is still listed is held by the array itself.
        if !member_folder(self.roots, array, &drive.name).is_dir() {
            Self::require_free(drive, &node)?;
        }
        let array = self.array_node(array)?;
        let (array, node) = (array.to_string_lossy(), node.to_string_lossy());
        let args = [array.as_ref(), option, node.as_ref()];
        self.tools.run(MDADM, &args).map(|_| ())
    }

    /// The last guard: a former member of an array that is not whole comes back by the bitmap alone, and what it
    /// missed before there was one is in no bitmap.
    fn set_bitmap(&self, array: &str, on: bool) -> Result<(), Error> {
        let md = self.md(array)?;
        if bitmap(&md) == Fact::Known(on) {
            return Ok(());
        }
        let path = md.join("degraded");
        let missing: u32 = parse::number(&path.display().to_string(), &text(&path)?)?;
        if missing != 0 {
            return Err(Error::LunNotReady {
                lun: array.to_owned(),
                why: format!("{missing} of its members are missing"),
            });
        }
        let node = self.array_node(array)?;
        let word = if on {
            "--bitmap=internal"
        } else {
            "--bitmap=none"
        };
        let args = ["--grow", &node.to_string_lossy(), word];
        self.tools.run(MDADM, &args).map(drop)
    }

    /// Node of an array that exists.
    fn array_node(&self, array: &str) -> Result<PathBuf, Error> {
        let node = device::node(self.roots, array);
        if self.md(array).is_ok() && node.exists() {
            return Ok(node);
        }
        Err(Error::Kernel {
            action: "find the array's node".to_owned(),
            object: node.display().to_string(),
            errno: libc::ENOENT,
            detail: "it is not there, and opening it would create an array".to_owned(),
        })
    }

    /// The last guard: without a bitmap the kernel would declare stale data to be in sync.
    fn re_add(&self, array: &str, drive: &Target) -> Result<(), Error> {
        match bitmap(&self.md(array)?) {
            Fact::Known(true) => self.add(array, drive, "--re-add"),
            Fact::Known(false) => Err(no_re_add(array, "it has no write-intent bitmap")),
            Fact::Unknown(why) => Err(no_re_add(array, &why)),
        }
    }

    /// The last guard: an in-sync member is failed only when another in-sync device fills the same
    /// slot. After the kernel has refused, it is too late: the array is broken until it is stopped.
    fn fail(&self, array: &str, drive: &Target) -> Result<(), Error> {
        let folder = self.member(array, drive)?;
        let state = Self::state(&folder)?;
        if state.faulty {
            return Ok(());
        }
        if state.in_sync && !self.has_twin(array, &folder) {
            return Err(Error::MemberHealthy {
                lun: array.to_owned(),
                drive: drive.name.clone(),
            });
        }
        match write_value(&folder.join("state"), "faulty") {
            // EBUSY tells that the array is broken now, not that the member was spared.
            Err(Error::Kernel {
                errno: libc::EBUSY, ..
            }) if Self::state(&folder)?.faulty => Ok(()),
            other => other,
        }
    }

    /// Whether another in-sync device fills the same slot (a finished replacement).
    fn has_twin(&self, array: &str, folder: &Path) -> bool {
        let slot_of = |folder: &Path| {
            text(&folder.join("slot"))
                .and_then(|text| parse::slot("slot", &text))
                .ok()
        };
        let Some(Slot::At(slot)) = slot_of(folder) else {
            return false;
        };
        let md = self.roots.sys.join("block").join(array).join("md");
        names(&md)
            .iter()
            .filter(|name| name.starts_with("dev-"))
            .any(|name| {
                let other = md.join(name);
                other != folder
                    && slot_of(&other) == Some(Slot::At(slot))
                    && Self::state(&other).is_ok_and(|state| state.in_sync && !state.faulty)
            })
    }

    fn remove(&self, array: &str, drive: &Target) -> Result<(), Error> {
        if !member_folder(self.roots, array, &drive.name).is_dir() && self.md(array).is_ok() {
            // Somebody else was quicker.
            return Ok(());
        }
        let folder = self.member(array, drive)?;
        let state = Self::state(&folder)?;
        if state.in_sync && !state.faulty {
            return Err(Error::MemberHealthy {
                lun: array.to_owned(),
                drive: drive.name.clone(),
            });
        }
        let watch = folder.join("state");
        let vanished = device::identity_of(self.roots, drive.dev).is_none();
        let node = self.array_node(array)?;
        let attempt = || {
            if vanished {
                return write_value(&watch, "remove");
            }
            ioctl::hot_remove(&node, drive.dev).map_err(|error| {
                super::read::failed(&format!("remove {} from", drive.name), &node, &error)
            })
        };
        while_busy(&watch, DETACHING, attempt, || folder.is_dir())
            .or_else(|error| if folder.is_dir() { Err(error) } else { Ok(()) })
    }

    /// A member whose device is there is refused as busy: what was read of it was out of date.
    fn drop_vanished(&self, array: &str, member: &str) -> Result<(), Error> {
        let folder = member_folder(self.roots, array, member);
        if self.md(array)?.starts_with(&self.roots.sys) && !folder.is_dir() {
            return Ok(());
        }
        let refused = |detail: &str| {
            Err(Error::Kernel {
                action: "drop the vanished member".to_owned(),
                object: folder.display().to_string(),
                errno: libc::EBUSY,
                detail: detail.to_owned(),
            })
        };
        if folder.join("block").exists() {
            return refused("its device is there");
        }
        let watch = folder.join("state");
        let state = Self::state(&folder)?;
        if state.in_sync && !state.faulty {
            return refused("it counts as in sync");
        }
        if !state.faulty {
            write_value(&watch, "faulty")?;
        }
        let attempt = || write_value(&watch, "remove");
        while_busy(&watch, DETACHING, attempt, || folder.is_dir())
            .or_else(|error| if folder.is_dir() { Err(error) } else { Ok(()) })
    }

    /// The kernel ignores the word for a spare, a journal or a replacement and says nothing.
    fn want_replacement(&self, array: &str, drive: &Target) -> Result<(), Error> {
        let folder = self.member(array, drive)?;
        let path = folder.join("state");
        write_value(&path, "want_replacement")?;
        let state = Self::state(&folder)?;
        if state.want_replacement {
            return Ok(());
        }
        Err(Error::Kernel {
            action: "write \"want_replacement\" to".to_owned(),
            object: path.display().to_string(),
            errno: 0,
            detail: "the kernel took the word and ignored it: only a member that carries data can \
                     be replaced"
                .to_owned(),
        })
    }

    /// Puts the resync off only while there is a half-filled member to be filled first: once that is
    /// gone, the resync is what brings the others in step.
    fn clear_resync(&self, array: &str, fill_first: bool) -> Result<(), Error> {
        let md = self.md(array)?;
        let half_filled = |member: &MemberFacts| {
            let partly = |state: &MemberState| !state.in_sync && !state.faulty;
            matches!(member.slot.known(), Some(Slot::At(_))) && member.state.is_known_and(partly)
        };
        if fill_first && !members(&md).iter().any(half_filled) {
            return Err(Error::LunNotReady {
                lun: array.to_owned(),
                why: "nothing of it is half filled any more".to_owned(),
            });
        }
        write_value(&md.join("resync_start"), "none")
    }

    /// The last guard: an array that has lost another member since the plan was made may need what is
    /// on the former one.
    fn does_without(&self, former: &FormerOf) -> Result<(), Error> {
        let md = self.md(&former.array)?;
        let path = md.join("degraded");
        let now: u32 = parse::number(&path.display().to_string(), &text(&path)?)?;
        let path = md.join("array_state");
        let state = parse::array_state(&path.display().to_string(), &text(&path)?)?;
        if now == former.degraded && state != ArrayState::Broken {
            return Ok(());
        }
        Err(Error::LunNotReady {
            lun: former.array.clone(),
            why: format!(
                "it misses {now} members, and missed {} when a former one was to be erased",
                former.degraded
            ),
        })
    }

    /// Which enclosures have a light, and how it is told, `ledctl` knows.
    fn light(&self, drive: &Target, on: bool) -> Result<(), Error> {
        let node = self.drive(drive)?;
        if self.tools.find(LEDCTL).is_none() {
            return Err(Error::NotSupported {
                object: node.display().to_string(),
                what: "switching the light of its bay".to_owned(),
                why: "it takes ledctl, of the package ledmon, which is not installed".to_owned(),
            });
        }
        let word = if on { "locate" } else { "locate_off" };
        let pattern = format!("{word}={}", node.display());
        self.tools.run(LEDCTL, &[&pattern]).map(drop)
    }

    /// Erases signatures; wipefs opens the drive exclusively itself, so a use that begins after
    /// the check is found too.
    fn wipe(&self, drive: &Target, former: Option<&FormerOf>) -> Result<(), Error> {
        let node = self.drive(drive)?;
        Self::require_free(drive, &node)?;
        if let Some(former) = former {
            self.does_without(former)?;
        }
        let path = node.to_string_lossy();
        self.tools.run(WIPEFS, &["--all", &path])?;
        // wipefs knows one superblock for each format; mdadm knows every place of its own.
        if probe::md_superblock(self.tools, &node)?.is_some() {
            self.tools.run(MDADM, &["--zero-superblock", &path])?;
        }
        // Nor does it know those of raid sets.
        bare::forget(&node)?;
        let left = probe::signatures(self.tools, &node)?;
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::DriveRefused {
            drive: drive.name.clone(),
            unfit: Unfit::Signature { found: left },
        })
    }
}

/// A speed as the kernel wants it.
fn speed(limit: Option<u32>) -> String {
    limit.map_or_else(|| "system".to_owned(), |kib_s| kib_s.to_string())
}

fn no_re_add(array: &str, why: &str) -> Error {
    Error::NotSupported {
        object: array.to_owned(),
        what: "re-adding a former member".to_owned(),
        why: why.to_owned(),
    }
}
