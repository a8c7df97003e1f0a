//! `lunctl watch`: told by the service's signals, on a terminal and elsewhere.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use lun_core::model::Health;
use serde_json::Value;

use super::{command, json, lunctl, on};
use crate::rig::{Rig, block_on};

/// A watcher whose lines are read one by one.
struct Watcher {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watcher {
    fn start(rig: &Rig, line: &str) -> Self {
        let mut child = command(rig.address(), line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads on until a line is as wanted; answers with it.
    fn until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut seen = Vec::new();
        for line in self.lines.by_ref().map(Result::unwrap) {
            if wanted(&line) {
                return line;
            }
            seen.push(line);
        }
        panic!("it ended without {what}: {seen:#?}");
    }

    /// Ctrl-C; answers with the exit code and with what it said on stderr.
    fn interrupt(mut self) -> (Option<i32>, String) {
        interrupt(self.child.id());
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        (code, said)
    }
}

fn interrupt(process: u32) {
    let kill = Command::new("kill")
        .args(["-INT", &process.to_string()])
        .status();
    assert!(kill.unwrap().success());
}

#[test]
fn without_a_terminal_each_change_is_a_line() {
    lunctl();
    let mut rig = Rig::start(lun_sim::scenario::by_name("mirror-degraded").unwrap());
    let mut watcher = Watcher::start(&rig, "watch");
    watcher.until("the summary", |line| {
        line == "No operation runs, 1 of 1 LUNs needs care."
    });
    watcher.until("the degraded LUN", |line| {
        line == "md0: ONLINE, FAILED_REDUNDANCY, 1 of 2 in sync"
    });
    block_on(async {
        json(&rig, "spare add sdc").await.exits(0);
        json(&rig, "recover md0").await.exits(0);
    });
    watcher.until("progress", |line| {
        line.starts_with("operation 1: md0 running: rebuild ")
    });
    // A restart of the service is waited for.
    rig.stop_service();
    rig.start_service();
    block_on(async { json(&rig, "cancel md0").await.exits(0) });
    watcher.until("the end", |line| {
        line.starts_with("operation 1: recovery of md0 cancelled")
    });
    watcher.until("the hold", |line| line.ends_with(", held"));
    rig.fast();
    block_on(async { json(&rig, "recover md0").await.exits(0) });
    watcher.until("the second end", |line| {
        line.starts_with("operation 2: recovery of md0 succeeded")
    });
    watcher.until("health", |line| {
        line == "md0: ONLINE, HEALTHY, 2 of 2 in sync"
    });
    let (code, said) = watcher.interrupt();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the service went away"), "{said}");
    assert!(said.contains("the service is back"), "{said}");
}

#[test]
fn with_json_each_change_is_a_document() {
    on("mirror-degraded", async |rig, user| {
        let mut watcher = Watcher::start(rig, "watch --json");
        let shows = |line: &str, operations: usize, luns: usize| {
            let document: Value = serde_json::from_str(line).unwrap();
            document["operations"].as_array().unwrap().len() == operations
                && document["luns"].as_array().unwrap().len() == luns
        };
        let first = watcher.until("the first", |_| true);
        assert!(shows(&first, 0, 1), "{first}");
        json(rig, "spare add sdc").await.exits(0);
        json(rig, "recover md0").await.exits(0);
        user.until_lun("md0", "rebuilding", |lun| lun.health == Health::Rebuilding)
            .await;
        watcher.until("the operation", |line| shows(line, 1, 1));
        rig.fast();
        json(rig, "wait md0").await.exits(0);
        watcher.until("health", |line| shows(line, 0, 0));
        assert_eq!(watcher.interrupt().0, Some(0));
    });
}

#[test]
fn on_a_terminal_the_board_is_redrawn_and_the_last_one_stays() {
    on("mirror-degraded", async |rig, _user| {
        json(rig, "spare add sdc").await.exits(0);
        let mut terminal = Command::new("script");
        // The shell tells its own number, which exec makes that of the watcher.
        let line = format!("echo $$; exec {} watch", lunctl().display());
        terminal
            .args(["--quiet", "--return", "--flush", "--command", &line])
            .arg("/dev/null")
            .env("TERM", "xterm")
            .env("LUND_BUS", rig.address())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = terminal.spawn().unwrap();
        let mut shown = BufReader::new(child.stdout.take().unwrap());
        let mut number = String::new();
        shown.read_line(&mut number).unwrap();
        let mut until = |wanted: &str| {
            let mut line = Vec::new();
            while shown.read_until(b'\n', &mut line).unwrap() > 0 {
                if String::from_utf8_lossy(&line).contains(wanted) {
                    return;
                }
            }
            panic!("never shown: {wanted}: {}", String::from_utf8_lossy(&line));
        };
        until("No operation runs, 1 of 1 LUNs needs care.");
        json(rig, "recover md0").await.exits(0);
        until("1 operation runs, 1 of 1 LUNs needs care.");
        until("[");
        rig.fast();
        json(rig, "wait md0").await.exits(0);
        until("No operation runs, the one LUN is healthy.");
        interrupt(number.trim().parse().unwrap());
        // The other screen is left, and the last board is written to the usual one.
        until("\u{1b}[?1049lNo operation runs, the one LUN is healthy.");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}
