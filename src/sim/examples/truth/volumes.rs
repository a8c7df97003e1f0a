//! Volumes of LVM on the real bench: the drives of raid sets, made physical volumes of a group of the scenario's own.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lun_core::action::Target;
use lun_core::facts::Level;
use lun_kernel::ScanRequest;
use lun_sim::truth::script::Create;
use lun_sim::truth::{Bench, LEG_MIB, REGION_SECTORS};

use crate::lab::Lab;
use crate::parts::tool;
use crate::sets::Family;

/// Drives that are physical volumes: `truth.sh` lets LVM see these numbers and no others.
pub(crate) const FAMILY: Family = Family {
    stem: "pv",
    minors: 5000,
};

/// The turn of a scenario with volumes.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lab {
    /// Name of the scenario's group.
    pub(crate) fn group_name(&self) -> String {
        format!("tv{}", self.id)
    }

    /// Name of a volume in device-mapper.
    pub(crate) fn volume_name(&self, array: char) -> String {
        format!("{}-{array}", self.group_name())
    }

    fn physical(&self, letters: &str) -> Result<Vec<String>, String> {
        let node = |letter| Ok(self.drive(letter)?.node());
        letters.chars().map(node).collect()
    }

    /// Makes the group of the members' and the spares' drives, and in it a volume on those of the members.
    pub(crate) fn create_volume(&self, array: char, spec: &Create) -> Result<String, String> {
        let (members, spares) = (self.physical(&spec.members)?, self.physical(&spec.spares)?);
        let (group, name) = (self.group_name(), array.to_string());
        let args = |words: &[&str], nodes: &[&[String]]| {
            let nodes = nodes.iter().copied().flatten().cloned();
            words
                .iter()
                .map(|&word| word.to_owned())
                .chain(nodes)
                .collect::<Vec<_>>()
        };
        let lvm = |args: &[String]| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            tool("lvm", &args)
        };
        lvm(&args(
            &["vgcreate", "-q", "-y", "-s", "1M", &group],
            &[&members, &spares],
        ))?;
        let legs = u64::try_from(members.len()).map_err(|error| error.to_string())?;
        let (kind, shape, shares) = match spec.level {
            Level::Raid1 => ("raid1", vec![format!("-m{}", legs - 1)], 1),
            Level::Raid5 => ("raid5", vec![format!("-i{}", legs - 1)], legs - 1),
            Level::Raid6 => ("raid6", vec![format!("-i{}", legs - 2)], legs - 2),
            Level::Raid10 => {
                let pairs = legs / 2;
                (
                    "raid10",
                    vec![format!("-i{pairs}"), "-m1".to_owned()],
                    pairs,
                )
            }
            _ => return Err("no such level".to_owned()),
        };
        let (size, region) = (
            format!("{}M", LEG_MIB * shares),
            format!("{}K", REGION_SECTORS / 2),
        );
        let mut words = vec![
            "lvcreate", "-q", "-y", "-Wn", "-Zn", "-n", &name, "--type", kind,
        ];
        words.extend(["-L", &size, "-R", &region]);
        words.extend(shape.iter().map(String::as_str));
        if spec.clean {
            words.push("--nosync");
        }
        words.push(&group);
        lvm(&args(&words, &[&members]))?;
        Ok("ok".to_owned())
    }

    /// The drive that a leg of a volume lies on, or lay on before that was lost.
    pub(crate) fn letter_below(&self, name: &str) -> Option<char> {
        let below = fs::read_dir(format!("/sys/block/{name}/slaves")).ok();
        let found = below.into_iter().flatten().flatten().find_map(|below| {
            let below = below.file_name();
            let drive = self.drives.iter().find(|drive| *drive.name == *below);
            drive.map(|drive| drive.letter)
        });
        let mut known = self.lay_on.borrow_mut();
        if let Some(letter) = found {
            known.insert(name.to_owned(), letter);
        }
        known.get(name).copied()
    }

    /// The leg of a volume on a drive; the drive itself where there is none.
    pub(crate) fn volume_leg(&mut self, letter: char) -> Result<Target, String> {
        let facts = self.facts('x')?.ok_or("there is no volume")?;
        let on = |name: &str| self.letter_below(name) == Some(letter);
        let Some(member) = facts.members.iter().find(|member| on(&member.name)) else {
            return self.target(letter);
        };
        let dev = member.dev.known().copied();
        let inventory = self.scan(&ScanRequest::default())?;
        let device = dev.and_then(|dev| inventory.devices.get(&dev));
        let device = device.ok_or_else(|| format!("{} is not seen", member.name))?;
        Ok(Target {
            dev: device.dev,
            name: device.name.clone(),
            id: device.id,
        })
    }
}
