//! One round: an array, damage, requests, the blow, and the way back.

use std::path::Path;
use std::time::Duration;

use lun_vm::{Loss, Running};
use serde_json::Value;

use super::plan::{Blow, Moment, Plan, Story};
use super::score::{Findings, Score};
use super::site::{DISKS, Site};
use crate::vm::lab::PATIENCE;

/// How fast an array copies until the blow: slow enough to meet it in the middle.
const SLOW_KIB_PER_S: u64 = 800;
const SOON: Duration = Duration::from_secs(60);
const SECTOR: u64 = 512;

/// An operation that was accepted: its number was printed.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) id: u64,
    pub(super) kind: String,
    /// As it stood when its end was reported, before the blow.
    pub(super) ended: Option<Value>,
}

pub(super) struct Round<'a> {
    pub(super) site: &'a mut Site,
    pub(super) plan: Plan,
    pub(super) score: &'a mut Score,
    pub(super) found: &'a mut Findings,
    /// The array: as the LUN, and as the kernel's files know it.
    pub(super) lun: String,
    pub(super) uuid: String,
    pub(super) name: String,
    pub(super) spares: Vec<String>,
    victim: String,
    writer: Option<Running>,
    /// The last flushed write of each of the writer's threads.
    pub(super) flushed: Vec<u64>,
    pub(super) accepted: Vec<Accepted>,
    /// Requests that begin an operation, answered or not.
    pub(super) requests: usize,
    /// `Some(true)`: a hold was reported. `Some(false)`: its end was. `None`: neither is sure.
    pub(super) hold: Option<bool>,
    /// Whether the blow came when it was meant to.
    hit: String,
    /// Sectors of a rebuilding member that its superblock called whole when the host died.
    pub(super) checkpoint: u64,
    /// The newest operation when the blow fell.
    pub(super) newest: u64,
}

impl<'a> Round<'a> {
    /// Runs it whole, and tells what happened in a few words.
    pub(super) fn run(
        site: &'a mut Site,
        plan: Plan,
        score: &'a mut Score,
        findings: &'a mut Findings,
    ) -> String {
        let mut round = Self::set_up(site, plan, score, findings);
        round.damage();
        let last = round.lead();
        round.blow(last.as_deref());
        round.come_back();
        round.judge_survivors();
        round.settle();
        round.judge_end();
        round.tear_down();
        let ends: Vec<String> = round
            .accepted
            .iter()
            .map(|op| {
                let state = op.ended.as_ref().and_then(|ended| ended["state"].as_str());
                format!("{} {} {}", op.kind, op.id, state.unwrap_or("?"))
            })
            .collect();
        format!("{}; {}", round.hit, ends.join(", "))
    }

    fn set_up(
        site: &'a mut Site,
        plan: Plan,
        score: &'a mut Score,
        found: &'a mut Findings,
    ) -> Self {
        let devices = site.devices.clone();
        let at = usize::try_from(plan.members).unwrap();
        let members: Vec<String> = devices[..at]
            .iter()
            .map(|name| format!("/dev/{name}"))
            .collect();
        let spares = devices[at..][..usize::try_from(plan.spares).unwrap()].to_vec();
        let bitmap = if plan.bitmap { "internal" } else { "none" };
        let uuid = site.sh(&format!(
            "systemctl reset-failed lund || true
             mdadm --create /dev/md0 --run --quiet --metadata=1.2 --level={} --raid-devices={} \
                --bitmap={bitmap} --size={} {} >&2; fast md0; idle md0; cat /sys/block/md0/md/uuid",
            plan.level,
            plan.members,
            plan.mib << 10,
            members.join(" ")
        ));
        let lun = site.lab.until("md0", "healthy", |lun| {
            lun["health"] == "VDS_H_HEALTHY" && lun["operation"].is_null()
        });
        for spare in &spares {
            // It may have failed in an earlier round.
            site.lab.ok(&format!("spare add /dev/{spare} --force"));
        }
        let victim = devices[usize::try_from(plan.victim).unwrap()].clone();
        let mut round = Self {
            lun: lun["id"].as_str().unwrap().to_owned(),
            uuid,
            name: "md0".to_owned(),
            spares,
            victim,
            site,
            plan,
            score,
            found,
            writer: None,
            flushed: vec![0; 4],
            accepted: Vec::new(),
            requests: 0,
            hold: Some(false),
            hit: String::new(),
            checkpoint: 0,
            newest: 0,
        };
        round.start_writer();
        round
    }

    /// Where the writer writes.
    pub(super) fn target(&self) -> String {
        if self.plan.file_system {
            "/srv/fs/load".to_owned()
        } else {
            format!("/dev/{}", self.name)
        }
    }

    fn start_writer(&mut self) {
        if self.plan.file_system {
            self.site.sh(&format!(
                "mkfs.ext4 -q -F -b 4096 /dev/{0}; mount /dev/{0} /srv/fs
                 truncate -s $(($(blockdev --getsize64 /dev/{0}) / 2)) /srv/fs/load; sync",
                self.name
            ));
        }
        let (target, seed) = (self.target(), self.plan.seed);
        let writer = self
            .site
            .lab
            .spawn(&format!("exec lun-vm-load write {target} {seed}"));
        writer.wait_for("filled", PATIENCE).unwrap();
        self.writer = Some(writer);
    }

    /// Ends the writer; what it had flushed by then is what must be there.
    pub(super) fn stop_writer(&mut self) {
        let Some(writer) = self.writer.take() else {
            return;
        };
        if writer.is_over() {
            let said = writer.so_far().stderr;
            let said = String::from_utf8_lossy(&said).into_owned();
            self.found.other.push(format!("the writer ended: {said}"));
        } else {
            writer.kill().unwrap();
            writer.wait(SOON).unwrap();
        }
        self.note_flushed(&writer);
    }

    fn note_flushed(&mut self, writer: &Running) {
        let said = writer.so_far().stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        // The last line may have been cut off.
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        for line in whole.lines() {
            if let Some((thread, number)) = line.split_once(' ') {
                let thread: usize = thread.parse().unwrap();
                self.flushed[thread] = number.parse().unwrap();
            }
        }
    }

    fn damage(&mut self) {
        self.site
            .sh(&format!("slow {} {SLOW_KIB_PER_S}", self.name));
        if self.plan.fails_first() {
            let (name, victim) = (&self.name, &self.victim);
            let blank = if self.plan.story == Story::ReAdd {
                String::new()
            } else {
                format!("blank {victim}")
            };
            self.site.sh(&format!("lose {name} {victim}; {blank}"));
        }
        if !self.plan.writes_until_the_blow() {
            self.stop_writer();
            self.site.sh(&format!("quiet {}", self.name));
        }
    }

    /// The requests before the last one; returns the last one.
    fn lead(&mut self) -> Option<String> {
        let lun = self.lun.clone();
        let recover = format!("recover {lun}");
        let verify = format!("verify {lun}");
        let replace = format!("replace {lun} /dev/{}", self.victim);
        match self.plan.story {
            Story::Recover | Story::ReAdd => Some(recover),
            Story::Replace => Some(replace),
            Story::Verify => Some(verify),
            Story::CancelVerify => {
                let id = self.begin(&verify);
                Some(format!("cancel {id}"))
            }
            Story::Cancel { release_spare } => {
                let id = self.begin(&recover);
                let option = if release_spare {
                    " --release-spare"
                } else {
                    ""
                };
                Some(format!("cancel {id}{option}"))
            }
            Story::Held | Story::Resume | Story::Release => {
                let id = self.begin(&recover);
                self.cancel(id);
                match self.plan.story {
                    Story::Held => None,
                    Story::Resume => Some(recover),
                    _ => Some(format!("release {lun}")),
                }
            }
        }
    }

    /// Begins an operation and lets it come as far as the plan says.
    fn begin(&mut self, request: &str) -> u64 {
        let op = self.site.lab.ok(request);
        self.requests += 1;
        let id = self.accept(&op);
        let strike = self.site.lab.spawn(&format!(
            "lun-vm-load strike sync /sys/block/{}/md/sync_completed {} -- true",
            self.name, self.plan.lead
        ));
        strike.wait(SOON).unwrap();
        id
    }

    fn cancel(&mut self, id: u64) {
        let ended = self.site.lab.ok(&format!("cancel {id}"));
        let op = self.accepted.iter_mut().find(|op| op.id == id).unwrap();
        op.ended = Some(ended);
        self.hold = Some(true);
    }

    fn accept(&mut self, op: &Value) -> u64 {
        let id = op["id"].as_u64().unwrap();
        self.accepted.push(Accepted {
            id,
            kind: op["kind"].as_str().unwrap().to_owned(),
            ended: None,
        });
        self.score.accepted += 1;
        id
    }

    /// The command that waits for the moment.
    fn strike(&self, pid: &str) -> String {
        let when = match self.plan.moment {
            Moment::Answered => "now".to_owned(),
            Moment::Ledger(changes) => format!("file /var/lib/lund/lund.db-wal {changes}"),
            Moment::Mdadm => format!("child {pid} mdadm"),
            Moment::Copied(sixteenths) => {
                format!(
                    "sync /sys/block/{}/md/sync_completed {sixteenths}",
                    self.name
                )
            }
        };
        let hand = match self.plan.blow {
            Blow::Daemon => format!("kill -KILL {pid}"),
            Blow::Service => {
                "bash -c 'echo 1 >/sys/fs/cgroup/system.slice/lund.service/cgroup.kill'".to_owned()
            }
            Blow::Child => format!("pkill -KILL -P {pid} -x mdadm"),
            Blow::Power(_) | Blow::Reboot => "true".to_owned(),
        };
        format!("exec lun-vm-load strike {when} -- {hand}")
    }

    fn blow(&mut self, request: Option<&str>) {
        let pid = self.site.sh("systemctl show --value -p MainPID lund");
        *self.score.blows.entry(self.plan.blow.name()).or_default() += 1;
        let send = |round: &Self| {
            request.map(|request| {
                round
                    .site
                    .lab
                    .spawn(&format!("exec lunctl {request} --json"))
            })
        };
        let answered = self.plan.moment == Moment::Answered;
        let early = if answered { send(self) } else { None };
        if let Some(asked) = &early {
            asked.wait(PATIENCE).unwrap();
        }
        let strike = self.site.lab.spawn(&self.strike(&pid));
        strike.wait_for("armed", SOON).unwrap();
        let asked = if answered { early } else { send(self) };
        let said = strike.wait_for("struck", SOON).unwrap();
        self.hit = said.lines().last().unwrap_or_default().trim().to_owned();
        match self.plan.blow {
            Blow::Power(survival) => {
                let loss = self
                    .site
                    .lab
                    .vm
                    .power_cut_keeping(self.plan.seed, survival)
                    .unwrap();
                self.note_loss(loss);
            }
            // Its writer and its requests end with the boot.
            Blow::Reboot => self.site.lab.vm.reboot().unwrap(),
            Blow::Daemon | Blow::Service | Blow::Child => {
                // The child may have been gone before the hand came down: then nobody died.
                strike.wait(SOON).unwrap();
                if self.plan.blow != Blow::Child {
                    self.site.sh(&format!("back {pid}"));
                }
                if let Some(asked) = &asked {
                    asked.wait(PATIENCE).unwrap();
                }
            }
        }
        if let (Some(asked), Some(request)) = (asked, request) {
            self.answer(request, &asked);
        }
        self.newest = self.accepted.iter().map(|op| op.id).max().unwrap_or(0);
    }

    fn note_loss(&mut self, loss: Loss) {
        self.score.blocks_unflushed += loss.unflushed;
        self.score.blocks_lost += loss.lost;
        let checkpoints = (0..DISKS).filter_map(|disk| {
            let disk = usize::try_from(disk).unwrap();
            checkpoint_on(self.site.lab.vm.disk_file(disk)?)
        });
        self.checkpoint = checkpoints.max().unwrap_or(0);
    }

    /// What the last request was answered before the blow, if it was.
    fn answer(&mut self, request: &str, asked: &Running) {
        let begins = ["recover", "replace", "verify"]
            .iter()
            .any(|verb| request.starts_with(verb));
        self.requests += usize::from(begins);
        let heard = asked.so_far();
        let document: Option<Value> = serde_json::from_slice(&heard.stdout).ok();
        let good = document.filter(|document| document.get("error").is_none());
        match (good, self.plan.story) {
            (Some(op), _) if begins => {
                self.accept(&op);
                // A recovery that begins ends the hold.
                self.hold = Some(false);
            }
            (Some(op), Story::Cancel { release_spare }) => {
                self.accepted.last_mut().unwrap().ended = Some(op);
                self.hold = if release_spare { None } else { Some(true) };
            }
            (Some(op), Story::CancelVerify) => self.accepted.last_mut().unwrap().ended = Some(op),
            (Some(_), Story::Release) => self.hold = Some(false),
            _ => self.hold = None,
        }
    }

    fn come_back(&mut self) {
        if matches!(self.plan.blow, Blow::Power(_)) {
            self.site.lab.vm.restart().unwrap();
        }
        if self.plan.blow.boots() {
            if let Some(writer) = self.writer.take() {
                self.note_flushed(&writer);
            }
            self.name = self.site.sh(&format!("assembled {}", self.uuid));
            self.judge_checkpoint();
            if self.plan.file_system {
                self.site.sh(&format!("mount /dev/{} /srv/fs", self.name));
            }
        }
        let lun = self.lun.clone();
        self.site
            .lab
            .until(&lun, "known again", |lun| lun["name"].is_string());
    }

    fn tear_down(&mut self) {
        let umount = if self.plan.file_system {
            "umount /srv/fs"
        } else {
            "true"
        };
        let spares: Vec<String> = self
            .spares
            .iter()
            .map(|name| format!("/dev/{name}"))
            .collect();
        for spare in spares {
            self.site.lab.lunctl(&format!("spare remove {spare}"));
        }
        self.site.sh(&format!(
            "{umount}; udevadm settle; mdadm --quiet --stop /dev/{}; clear_disks {}",
            self.name,
            self.site.devices.join(" ")
        ));
        let lun = self.lun.clone();
        self.site.lab.until_gone(&lun);
    }
}

/// The sectors that a rebuilding member's superblock (version 1.2) calls whole, if it has such a line.
fn checkpoint_on(disk: &Path) -> Option<u64> {
    use std::os::unix::fs::FileExt;
    const MAGIC: u32 = 0xa92b_4efc;
    const HAS_RECOVERY_OFFSET: u32 = 2;
    let mut block = [0; 256];
    let file = std::fs::File::open(disk).ok()?;
    file.read_exact_at(&mut block, 8 * SECTOR).ok()?;
    let word = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().unwrap());
    let offset = u64::from_le_bytes(block[152..160].try_into().unwrap());
    (word(0) == MAGIC && word(8) & HAS_RECOVERY_OFFSET != 0).then_some(offset)
}
