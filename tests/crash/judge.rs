//! What must hold after the blow, and at the end of the round.

use serde_json::Value;

use super::plan::{Blow, Story};
use super::round::{Accepted, Round};

/// Requests until redundancy is back; each waits for its operation's end.
const ATTEMPTS: usize = 8;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or("unknown")
}

fn has_ended(op: &Value) -> bool {
    matches!(
        op["state"].as_str(),
        Some("succeeded" | "failed" | "cancelled" | "interrupted")
    )
}

impl Round<'_> {
    fn show(&self) -> Value {
        self.site.lab.ok(&format!("show {}", self.lun))
    }

    /// A rebuild goes on where the superblock says that it had come.
    pub(super) fn judge_checkpoint(&mut self) {
        if self.checkpoint == 0 {
            return;
        }
        self.score.checkpoints += 1;
        let facts = self.site.facts(&self.name);
        let places = facts.members.iter().filter_map(|member| member.whole_until);
        match places.max() {
            Some(place) if place >= self.checkpoint => self.score.resumed += 1,
            other if !self.gives_back() => self.found.other.push(format!(
                "the superblock said {} sectors, after the boot it is {other:?}: {}",
                self.checkpoint, facts.text
            )),
            _ => {}
        }
    }

    fn gives_back(&self) -> bool {
        self.plan.story
            == Story::Cancel {
                release_spare: true,
            }
    }

    /// Right after the restart: what was accepted is there, and is what it says.
    pub(super) fn judge_survivors(&mut self) {
        let rows = self.site.ledger(self.found);
        let ours: Vec<&Value> = rows
            .iter()
            .filter(|row| text(row, "lun").eq_ignore_ascii_case(&self.lun))
            .collect();
        for row in &ours {
            self.note_unanswered(row);
        }
        for index in 0..self.accepted.len() {
            self.judge_accepted(index, &rows);
        }
        let living = ours.iter().filter(|row| row["ended"].is_null()).count();
        if living > 1 {
            self.found
                .doubled
                .push(format!("{living} operations at a time: {ours:?}"));
        }
        let of_clients = ours
            .iter()
            .filter(|row| row["op"]["origin"] == "client")
            .count();
        if of_clients > self.requests {
            let requests = self.requests;
            self.found.doubled.push(format!(
                "{of_clients} operations of {requests} requests: {ours:?}"
            ));
        }
        let continues = matches!(
            self.plan.story,
            Story::Recover | Story::Resume | Story::Replace
        );
        let again = ours.iter().find(|row| {
            row["op"]["origin"] == "kernel"
                && row["id"].as_u64() > Some(self.newest)
                && matches!(text(&row["op"], "phase"), "rebuild" | "replace")
        });
        if let Some(again) = again
            && continues
            && self.newest > 0
        {
            self.found
                .doubled
                .push(format!("the kernel's work as a second operation: {again}"));
        }
        self.judge_hold();
    }

    /// A request whose answer was cut off may have become an operation all the same; then it is one.
    fn note_unanswered(&mut self, row: &Value) {
        let id = row["id"].as_u64().unwrap();
        if row["op"]["origin"] == "client" && self.accepted.iter().all(|op| op.id != id) {
            self.accepted.push(Accepted {
                id,
                kind: text(&row["op"], "kind").to_owned(),
                ended: None,
            });
            self.newest = self.newest.max(id);
            self.score.unanswered += 1;
        }
    }

    fn judge_accepted(&mut self, index: usize, rows: &[Value]) {
        let (id, kind) = (self.accepted[index].id, self.accepted[index].kind.clone());
        let cli = self.site.lab.lunctl(&format!("status {id}"));
        let in_ledger = rows.iter().any(|row| row["id"].as_u64() == Some(id));
        if cli.status != 0 || !in_ledger {
            self.found.lost.push(format!(
                "operation {id}: in the ledger: {in_ledger}, status: {cli:?}"
            ));
            return;
        }
        let op = cli.json;
        if text(&op, "kind") != kind || !text(&op, "lun").eq_ignore_ascii_case(&self.lun) {
            self.found.doubled.push(format!(
                "operation {id} was a {kind} of {}, is {op}",
                self.lun
            ));
        }
        if let Some(ended) = &self.accepted[index].ended {
            let same = ["state", "hresult", "ended_at", "phase"]
                .iter()
                .all(|key| ended[key] == op[key]);
            if !same {
                self.found
                    .misreported
                    .push(format!("operation {id} had ended as {ended}, is {op}"));
            }
        } else if op["state"] == "succeeded" && matches!(kind.as_str(), "recover" | "replace") {
            let facts = self.site.facts(&self.name);
            if facts.degraded != "0" {
                let facts = facts.text;
                self.found
                    .misreported
                    .push(format!("operation {id} succeeded, but {facts}"));
            }
        }
        if has_ended(&op) {
            self.accepted[index].ended = Some(op);
        }
    }

    /// Frozen if and only if a hold is shown, once nothing is being done.
    fn judge_hold(&mut self) {
        let mut last = (Value::Null, String::new());
        for _ in 0..100 {
            let lun = self.show();
            let facts = self.site.facts(&self.name);
            let busy = !lun["operation"].is_null();
            let frozen = facts.action == "frozen";
            last = (lun.clone(), facts.text);
            // An operation may stop the array for a moment of its own.
            if !busy && frozen == (lun["held"] == true) {
                let held = lun["held"] == true;
                if self.hold.is_some_and(|told| told != held) {
                    let told = self.hold;
                    self.found
                        .misreported
                        .push(format!("told before: held {told:?}; now {lun}"));
                }
                return;
            }
            if busy && !frozen && lun["held"] == false {
                if self.hold == Some(true) {
                    self.found
                        .misreported
                        .push(format!("a hold was lost: {lun}"));
                }
                return;
            }
        }
        let (lun, facts) = last;
        self.found
            .misreported
            .push(format!("held and frozen do not agree: {facts}, {lun}"));
    }

    /// Lets everything end, and asks for redundancy until it is there.
    pub(super) fn settle(&mut self) {
        self.site.sh(&format!("fast {}", self.name));
        let mut said = Vec::new();
        for _ in 0..ATTEMPTS {
            let lun = self.show();
            if let Some(id) = lun["operation"]["id"].as_u64() {
                self.site.lab.lunctl(&format!("wait {id}"));
            } else if lun["health"] != "VDS_H_HEALTHY" || lun["held"] == true {
                let cli = self
                    .site
                    .lab
                    .lunctl(&format!("recover {} --wait", self.lun));
                self.requests += 1;
                said.push(format!(
                    "{}: {} {}",
                    cli.status,
                    cli.stdout.trim(),
                    cli.stderr.trim()
                ));
            } else {
                self.judge_ends();
                return;
            }
        }
        let lun = self.show();
        self.found
            .other
            .push(format!("redundancy does not return: {lun}; {said:#?}"));
        self.judge_ends();
    }

    /// Each accepted operation has ended, and truly.
    fn judge_ends(&mut self) {
        for index in 0..self.accepted.len() {
            let id = self.accepted[index].id;
            let cli = self.site.lab.lunctl(&format!("status {id}"));
            let op = cli.json;
            if !has_ended(&op) {
                self.found
                    .misreported
                    .push(format!("operation {id} does not end: {op}"));
                continue;
            }
            if let Some(before) = &self.accepted[index].ended
                && before["state"] != op["state"]
            {
                self.found
                    .misreported
                    .push(format!("operation {id} was {before}, is {op}"));
            }
            *self
                .score
                .ended
                .entry(text(&op, "state").to_owned())
                .or_default() += 1;
            if matches!(op["state"].as_str(), Some("failed" | "interrupted")) {
                let told = format!(
                    "operation {id} {}: {}",
                    text(&op, "state"),
                    text(&op, "message")
                );
                // Nothing but the blow has happened to it. Whose tool is killed may give up; a
                // comparison that lost its kernel cannot go on.
                let continues = matches!(
                    self.plan.story,
                    Story::Recover | Story::Resume | Story::Replace
                );
                if continues && self.plan.blow != Blow::Child {
                    self.found.misreported.push(told);
                } else {
                    self.found.notes.push(told);
                }
            }
            self.accepted[index].ended = Some(op);
        }
    }

    /// The array, its drives, its data, the ledger and the journal, when all is done.
    pub(super) fn judge_end(&mut self) {
        self.stop_writer();
        self.judge_members();
        self.judge_data();
        self.site.ledger(self.found);
        let verdict = self
            .site
            .sh("sqlite3 -readonly /var/lib/lund/lund.db 'PRAGMA integrity_check'");
        if verdict != "ok" {
            self.found.other.push(format!("ledger: {verdict}"));
        }
        let panics = self
            .site
            .sh("journalctl -b -u lund --no-pager -o cat | grep -i 'panicked' || true");
        if !panics.is_empty() {
            self.found.other.push(format!("journal: {panics}"));
        }
    }

    fn judge_members(&mut self) {
        let lun = self.show();
        let drives = lun["drives"].as_array().cloned().unwrap_or_default();
        let strange: Vec<&Value> = drives
            .iter()
            .filter(|drive| drive["role"] != "in_sync")
            .collect();
        if !strange.is_empty() {
            self.found
                .other
                .push(format!("left in the array: {strange:?}"));
        }
        let facts = self.site.facts(&self.name);
        let whole = facts.members.iter().filter(|member| member.in_sync).count();
        if facts.degraded != "0"
            || whole as u64 != self.plan.members
            || facts.members.len() != whole
        {
            let facts = &facts.text;
            self.found
                .misreported
                .push(format!("shown as healthy, but {facts}"));
        }
        let pool = self.site.lab.ok("spare list");
        for spare in &self.spares {
            let device = format!("/dev/{spare}");
            let in_pool = pool["drives"].as_array().is_some_and(|drives| {
                drives
                    .iter()
                    .any(|drive| drive["device"] == device.as_str())
            });
            let is_member = facts.members.iter().any(|member| member.device == *spare);
            if in_pool == is_member {
                self.found.other.push(format!(
                    "spare {device}: in the pool: {in_pool}, a member: {is_member}"
                ));
            }
        }
    }

    fn judge_data(&mut self) {
        let (target, seed) = (self.target(), self.plan.seed);
        let flushed: Vec<String> = self.flushed.iter().map(u64::to_string).collect();
        let flushed = flushed.join(",");
        let read = self
            .site
            .lab
            .run(&format!("lun-vm-load check {target} {seed} {flushed}"));
        if read.status != 0 {
            let said = String::from_utf8_lossy(&read.stdout).into_owned();
            self.found
                .data
                .push(format!("{target}, flushed {flushed}: {said}"));
        }
        if self.mismatches() == 0 {
            return;
        }
        let power = matches!(self.plan.blow, Blow::Power(_));
        let mirror = matches!(self.plan.level, "raid1" | "raid10");
        if !(power && mirror && self.legs_are_lawful(&flushed)) {
            self.found.data.push("the copies differ".to_owned());
            return;
        }
        // Copies may differ where nobody was promised anything; a repair makes them one.
        self.score.diverged += 1;
        self.site
            .lab
            .lunctl(&format!("recover {} --repair --wait", self.lun));
        if self.mismatches() != 0 {
            self.found
                .data
                .push("the copies differ after a repair".to_owned());
        }
    }

    /// Sectors that differ, by a comparison through the service.
    fn mismatches(&mut self) -> u64 {
        let output = self.site.lab.lunctl(&format!("verify {} --wait", self.lun));
        self.requests += 1;
        let differ = output.json["hresult_name"] == "VDS_E_VOLUME_NOT_HEALTHY";
        if output.status != i32::from(differ) {
            self.found.other.push(format!("verify: {output:?}"));
        }
        let count = self
            .site
            .sh(&format!("cat /sys/block/{}/md/mismatch_cnt", self.name));
        count.parse().unwrap()
    }

    /// Whether every copy holds, for each block, the last flushed write or a later one.
    fn legs_are_lawful(&mut self, flushed: &str) -> bool {
        let halves: &[&str] = match self.plan.level {
            "raid1" => &["0", "1"],
            _ => &["0 2", "1 3"],
        };
        let mut lawful = true;
        for slots in halves {
            // The halves of an unmounted file system: what it has, it has written.
            let check = if self.plan.file_system {
                "mount -o ro,noload $half /mnt; path=/mnt/load"
            } else {
                "path=$half"
            };
            let output = self.site.lab.run(&format!(
                ". /opt/lund/crash.sh; umount /srv/fs 2>/dev/null || true
                 half=$(half {} {slots}); {check}
                 lun-vm-load check $path {} {flushed} && good=0 || good=1
                 umount /mnt 2>/dev/null || true; halves_down; exit $good",
                self.name, self.plan.seed
            ));
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let told = format!("copies differ; slots {slots} alone: {said}");
            if output.status == 0 {
                self.found.notes.push(told);
            } else {
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                self.found.data.push(format!("{told} {error}"));
                lawful = false;
            }
        }
        if self.plan.file_system {
            self.site.sh(&format!("mount /dev/{} /srv/fs", self.name));
        }
        lawful
    }
}
