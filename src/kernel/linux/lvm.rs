//! LVM's own tools: what they say of a volume group, and the changes that only they may make.
//!
//! A tool that changes something is never ended by force: it may have suspended devices. Its time is
//! not bounded here; the operation says when it takes long. Under systemd it runs as a service of its own, which
//! the end of this one, however sudden, does not touch, and which nothing of this one's sandbox hinders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use lun_core::Error;
use lun_core::action::{Action, SyncWord, Target};
use lun_core::facts::{Fact, VolumeGroup};

use super::read::to_fact;
use super::tool::Tools;
use super::{Roots, act, dm};
use crate::parse::lvm;
use crate::raid_set;

/// The only program: its commands are its first argument, so that no link to it is needed.
const LVM: &str = "lvm";
/// Starts a service that lasts as long as a command.
const SYSTEMD_RUN: &str = "systemd-run";
/// LVM looks at every device, and not only where its file of hints says that physical volumes are: one that could not
/// be read when that file was written is missing in it, also after it is back under its name (docs/kernel-notes.md).
const LOOK: &str = "--nohints";
/// It is there while systemd runs (sd_booted(3)).
const SYSTEMD: &str = "/run/systemd/system";
/// Longer than anything that ends takes.
const NEVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Asks LVM about volume groups.
pub(crate) fn groups(
    tools: &Tools,
    names: &BTreeSet<String>,
) -> BTreeMap<String, Fact<VolumeGroup>> {
    names
        .iter()
        .map(|name| (name.clone(), to_fact(group(tools, name))))
        .collect()
}

fn group(tools: &Tools, name: &str) -> Result<VolumeGroup, Error> {
    let report = |command: &str, fields: &str, more: &[&str]| {
        let form = [
            command,
            LOOK,
            "--reportformat",
            "json",
            "--units",
            "b",
            "--nosuffix",
            "-o",
            fields,
        ];
        let args: Vec<&str> = form.iter().chain(more).copied().collect();
        tools.run(LVM, &args).map(|output| output.stdout)
    };
    let vgs = report("vgs", lvm::VG_FIELDS, &[name])?;
    let chosen = format!("vg_name={name}");
    let pvs = report("pvs", lvm::PV_FIELDS, &["-S", &chosen])?;
    let lvs = report("lvs", lvm::LV_FIELDS, &["-a", name])?;
    let key = "activation/raid_fault_policy";
    let policy = tools
        .run(LVM, &["lvmconfig", "--type", "full", key])?
        .stdout;
    lvm::volume_group(&vgs, &pvs, &lvs, &policy)
}

/// Performs one action on the volume `vg/lv`, which device-mapper calls `name`.
pub(crate) fn act(
    roots: &Roots,
    tools: &Tools,
    name: &str,
    volume: &(String, String),
    action: &Action,
) -> Result<(), Error> {
    let tools = Tools {
        deadline: NEVER,
        ..tools.clone()
    };
    let hand = Hand {
        roots,
        tools: &tools,
        name,
        volume: format!("{}/{}", volume.0, volume.1),
    };
    match action {
        Action::SetSync { word, .. } => hand.set_sync(*word),
        Action::Revive { drive, .. } => hand.revive(drive),
        Action::RepairVolume { onto, .. } => hand.repair(onto),
        Action::ExtendGroup { group, drive, .. } => {
            let node = act::free_drive(roots, &tools, drive)?;
            // Not with `-y`: what was written on the drive since it was looked at would be wiped. There is
            // nobody to answer LVM's question, which it takes for a no.
            hand.run(&["vgextend", group, &node])
        }
        _ => Err(super::set::not_for(
            &raid_set::array_name(name),
            action,
            "it is a volume of LVM",
        )),
    }
}

struct Hand<'a> {
    roots: &'a Roots,
    tools: &'a Tools,
    name: &'a str,
    volume: String,
}

impl Hand<'_> {
    fn run(&self, args: &[&str]) -> Result<(), Error> {
        let args = &[args, &[LOOK]].concat();
        let service = Path::new(SYSTEMD).is_dir() && self.tools.find(SYSTEMD_RUN).is_some();
        let Some(lvm) = self.tools.find(LVM).filter(|_| service) else {
            return self.tools.run(LVM, args).map(|_| ());
        };
        let lvm = lvm.to_string_lossy();
        // SIGPIPE is ignored in a service: words to a daemon that is no more end nothing.
        let as_service = [
            "--quiet",
            "--collect",
            "--wait",
            "--pipe",
            "--setenv=LC_ALL=C",
            "--description=LVM for lund",
            "--",
            &*lvm,
        ];
        let all: Vec<&str> = as_service.iter().chain(args).copied().collect();
        self.tools
            .run(SYSTEMD_RUN, &all)
            .map(|_| ())
            .map_err(|error| match error {
                Error::Tool { status, stderr, .. } => Error::Tool {
                    program: LVM.to_owned(),
                    args: args.iter().map(|&arg| arg.to_owned()).collect(),
                    status,
                    stderr,
                },
                other => other,
            })
    }

    /// LVM starts a check and a repair; it stops nothing. A recovery is held by its rate, which LVM
    /// writes down, so that the hold outlives a reboot.
    fn set_sync(&self, word: SyncWord) -> Result<(), Error> {
        match word {
            SyncWord::Check | SyncWord::Repair if self.stands_still()? => Err(Error::LunNotReady {
                lun: raid_set::array_name(self.name),
                why: "its recovery rate is the lowest, at which no check ends".to_owned(),
            }),
            SyncWord::Check | SyncWord::Repair => {
                self.run(&["lvchange", "--syncaction", word.as_str(), &self.volume])
            }
            SyncWord::Frozen => self.rates(&format!("{}k", raid_set::HOLD_RATE)),
            // A volume that is out of step is taken up again when its table is loaded anew.
            SyncWord::Resync if !self.stands_still()? => {
                self.run(&["lvchange", "--refresh", &self.volume])
            }
            SyncWord::Idle | SyncWord::Recover | SyncWord::Resync => self.rates("0"),
        }
    }

    fn rates(&self, rate: &str) -> Result<(), Error> {
        let args = [
            "lvchange",
            "--minrecoveryrate",
            rate,
            "--maxrecoveryrate",
            rate,
            &self.volume,
        ];
        self.run(&args)
    }

    fn stands_still(&self) -> Result<bool, Error> {
        let table = dm::table(self.roots, self.name)?;
        Ok(raid_set::stands_still(&table))
    }

    /// `lvchange --refresh` answers success also when the kernel could not take the leg back.
    fn revive(&self, drive: &Target) -> Result<(), Error> {
        self.run(&["lvchange", "--refresh", &self.volume])?;
        dm::require_alive(self.roots, self.name, drive)
    }

    fn repair(&self, onto: &[Target]) -> Result<(), Error> {
        let nodes = onto
            .iter()
            .map(|drive| act::drive_node(self.roots, self.tools, drive))
            .collect::<Result<Vec<_>, _>>()?;
        let mut args = vec!["lvconvert", "-y", "--repair", &self.volume];
        args.extend(nodes.iter().map(String::as_str));
        self.run(&args)
    }
}
