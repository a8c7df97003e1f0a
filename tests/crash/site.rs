//! The machine of the crash tests: the service enabled, disks whose write cache a power cut loses, the
//! tools of the guest, and the memory of every operation ever seen in its ledger.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lun_vm::failures_dir;
use serde_json::Value;

use super::score::Findings;
use crate::vm::lab::Lab;

/// Members of the largest array, two spares and one to spare.
pub(super) const DISKS: u64 = 7;
const DISK_BYTES: u64 = 40 << 20;
/// After a boot everything copies slowly, so that its first figures can be read.
const BOOT_KIB_PER_S: u64 = 100;

pub(super) struct Site {
    pub(super) lab: Lab,
    /// The kernel's names of the disks; the same after every boot.
    pub(super) devices: Vec<String>,
    /// Rows of the ledger by operation, as last seen.
    ops: BTreeMap<u64, Value>,
}

impl Site {
    pub(super) fn open(name: &str) -> Self {
        let disks = (0..DISKS).map(|_| DISK_BYTES).collect();
        let lab = Lab::with_disks(name, disks);
        let tool = tool();
        lab.vm
            .put(
                &tool.path().join("lun-vm-load"),
                "/usr/local/bin/lun-vm-load",
            )
            .unwrap();
        lab.vm
            .write("/opt/lund/crash.sh", include_bytes!("guest.sh"), 0o644)
            .unwrap();
        lab.sh(&format!(
            "echo md_mod >/etc/modules-load.d/crash.conf
             printf 'dev.raid.speed_limit_m%s = {BOOT_KIB_PER_S}\\n' in ax >/etc/sysctl.d/99-crash.conf
             mkdir -p /srv/fs; modprobe md_mod; systemctl enable --now lund 2>&1; sync"
        ));
        let devices = lab.sh(&format!(
            ". /opt/lund/crash.sh; for n in $(seq 0 {}); do device $n; done",
            DISKS - 1
        ));
        Self {
            lab,
            devices: devices.lines().map(str::to_owned).collect(),
            ops: BTreeMap::new(),
        }
    }

    /// Runs a script with the functions of the lab and of the crash tests.
    pub(super) fn sh(&self, script: &str) -> String {
        let output = self.lab.sh(&format!(". /opt/lund/crash.sh\n{script}"));
        output.trim_end().to_owned()
    }

    /// What the kernel says of an array.
    pub(super) fn facts(&self, array: &str) -> Facts {
        Facts::parse(&self.sh(&format!("facts {array}")))
    }

    /// Every operation in the ledger. What was there before must be there; what had ended must stand as
    /// it stood; new ones have new numbers.
    pub(super) fn ledger(&mut self, findings: &mut Findings) -> Vec<Value> {
        let text = self.sh("ledger");
        let rows: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let now: BTreeMap<u64, Value> = rows
            .iter()
            .map(|row| (row["id"].as_u64().unwrap(), row.clone()))
            .collect();
        let newest = self.ops.keys().max().copied().unwrap_or(0);
        for (id, before) in &self.ops {
            let Some(after) = now.get(id) else {
                findings.lost.push(format!(
                    "operation {id} is no longer in the ledger: {before}"
                ));
                continue;
            };
            let same = |key: &str| before[key] == after[key];
            if !same("lun") || before["op"]["kind"] != after["op"]["kind"] {
                findings
                    .doubled
                    .push(format!("number {id} was {before}, is {after}"));
            } else if !before["ended"].is_null()
                && (before["op"]["error"] != after["op"]["error"]
                    || !same("state")
                    || !same("ended"))
            {
                findings
                    .misreported
                    .push(format!("operation {id} had ended as {before}, now {after}"));
            }
        }
        for id in now
            .keys()
            .filter(|id| !self.ops.contains_key(id) && **id <= newest)
        {
            findings
                .doubled
                .push(format!("new operation {id}, although {newest} was there"));
        }
        self.ops = now;
        rows
    }

    /// Keeps what tells how a round failed; returns where.
    pub(super) fn keep(&mut self, seed: u64, said: &str) -> PathBuf {
        let to = failures_dir().join(format!("crash-{seed}"));
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("round.log"), said).unwrap();
        let scripts = [
            (
                "journal.log",
                "journalctl --no-pager -o short-precise -u lund -u 'mdadm*' _TRANSPORT=kernel + _SYSTEMD_UNIT=lund.service + UNIT=lund.service",
            ),
            (
                "mdstat",
                "cat /proc/mdstat; for md in /dev/md?*; do mdadm --detail $md; done; mdadm --examine /dev/vd[c-z]",
            ),
            (
                "lunctl",
                "lunctl list; lunctl drives; lunctl ops --all; lunctl spare list",
            ),
            ("lund.db", "sqlite3 /var/lib/lund/lund.db .dump"),
        ];
        for (file, script) in scripts {
            let text = match self.lab.vm.run(&format!("({script}) 2>&1 || true")) {
                Ok(output) => output.stdout,
                Err(error) => error.to_string().into_bytes(),
            };
            fs::write(to.join(file), text).unwrap();
        }
        fs::write(to.join("console.log"), self.lab.vm.console()).unwrap();
        to
    }
}

/// What the kernel says of an array.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) action: String,
    pub(super) degraded: String,
    pub(super) members: Vec<Member>,
    /// All of it, as it was read.
    pub(super) text: String,
}

/// What it says of a drive in it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) device: String,
    /// Sectors that are whole; none: all of them, or a spare.
    pub(super) whole_until: Option<u64>,
    pub(super) in_sync: bool,
}

impl Facts {
    fn parse(text: &str) -> Self {
        let mut facts = Self {
            text: text.to_owned(),
            ..Self::default()
        };
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["sync_action", action] => facts.action = action.to_owned(),
                ["degraded", count] => facts.degraded = count.to_owned(),
                ["member", device, _, start, state] => facts.members.push(Member {
                    device: device.to_owned(),
                    whole_until: start.parse().ok(),
                    in_sync: state.starts_with("in_sync"),
                }),
                _ => {}
            }
        }
        facts
    }
}

/// The guest's tool, static, as the agent is made.
fn tool() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vm/src/bin/lun-vm-load.rs");
    let made = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "-C",
            "opt-level=3",
            "-C",
            "target-feature=+crt-static",
        ])
        .args(["-C", "strip=symbols", "--crate-name", "lun_vm_load", "-o"])
        .arg(dir.path().join("lun-vm-load"))
        .arg(source)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    dir
}
