//! The past and the reasons: `history`, `ops --all`, `status`, `events`, `why`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Run, command, json, lunctl, on, run};
use crate::rig::{Rig, User, block_on};

fn ids(document: &Value) -> Vec<u64> {
    let operations = document["operations"].as_array().unwrap();
    operations
        .iter()
        .map(|op| op["id"].as_u64().unwrap())
        .collect()
}

/// The documents of a verb that prints one a line.
fn lines(run: &Run) -> Vec<Value> {
    run.stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect()
}

#[test]
fn history_is_paged_newest_first() {
    on("mirror", async |rig, _user| {
        for _ in 0..5 {
            json(rig, "recover md0").await.exits(0);
        }
        let newest = json(rig, "history --limit 2").await.exits(0).json();
        assert_eq!(
            (ids(&newest), &newest["next_before"]),
            (vec![5, 4], &4.into())
        );
        let next = json(rig, "history md0 --limit 2 --before 4")
            .await
            .exits(0)
            .json();
        assert_eq!((ids(&next), &next["next_before"]), (vec![3, 2], &2.into()));
        let last = json(rig, "history md0 --limit 2 --before 2")
            .await
            .exits(0)
            .json();
        assert_eq!((ids(&last), &last["next_before"]), (vec![1], &Value::Null));
        assert_eq!(
            ids(&json(rig, "ops --all").await.exits(0).json()),
            [1, 2, 3, 4, 5]
        );
        let text = run(rig, "history --limit 2").await.exits(0).stdout;
        assert!(
            text.contains("`lunctl history --limit 2 --before 4`"),
            "{text}"
        );
        json(rig, "history md77")
            .await
            .exits(3)
            .error("VDS_E_OBJECT_NOT_FOUND");
        json(rig, "history --limit 0")
            .await
            .exits(2)
            .error("E_INVALIDARG");
    });
}

#[test]
fn a_lun_that_is_gone_has_a_history() {
    on("mirror", async |rig, user: User| {
        json(rig, "recover md0").await.exits(0);
        let id = json(rig, "show md0").await.exits(0).json()["id"].clone();
        rig.sim.with(|world| world.arrays.remove("md0"));
        json(rig, "reenumerate").await.exits(0);
        user.until("gone", |view| view.luns.is_empty()).await;
        json(rig, "show md0")
            .await
            .exits(3)
            .error("VDS_E_OBJECT_DELETED");
        let id = id.as_str().unwrap();
        for name in ["md0", "/dev/md0", id, &id[..8]] {
            let page = json(rig, &format!("history {name}")).await.exits(0).json();
            assert_eq!(ids(&page), [1], "{name}");
        }
    });
}

#[test]
fn an_operation_is_shown_with_its_steps_across_restarts() {
    lunctl();
    let mut rig = Rig::start(lun_sim::scenario::by_name("mirror-degraded").unwrap());
    rig.fast();
    let before = block_on(async {
        json(&rig, "spare add sdc").await.exits(0);
        json(&rig, "recover md0 --wait").await.exits(0);
        lines(&json(&rig, "events --since 0").await.exits(0))
    });
    rig.stop_service();
    rig.start_service();
    block_on(async {
        let op = json(&rig, "status 1").await.exits(0).json();
        assert_eq!(op["state"], "succeeded", "{op:#}");
        assert_eq!(op["before"]["members_in_sync"], 1, "{op:#}");
        assert_eq!(op["after"]["members_in_sync"], 2, "{op:#}");
        let steps = op["steps"].as_array().unwrap();
        assert!(!steps.is_empty(), "{op:#}");
        for step in steps {
            assert_eq!(step["hresult"], "0x00000000", "{step:#}");
            assert!(
                step["ended_at"].is_string() && step["text"].is_string(),
                "{step:#}"
            );
        }
        let text = run(&rig, "status 1").await.exits(0).stdout;
        assert!(
            text.contains("add /dev/sdc to md0 as a spare: done"),
            "{text}"
        );
        // Numbers go on, and what was told before is still there.
        let after = lines(&json(&rig, "events --since 0").await.exits(0));
        assert_eq!(after[..before.len()], before);
        let numbers = seqs(&after);
        assert_eq!(numbers, (1..).take(numbers.len()).collect::<Vec<_>>());
        assert!(numbers.len() > before.len(), "the restart told something");
        let last = before.last().unwrap()["seq"].as_u64().unwrap();
        let newer = lines(&json(&rig, &format!("events --since {last}")).await.exits(0));
        assert_eq!(newer, after[before.len()..]);
    });
}

#[test]
fn following_loses_and_doubles_nothing_across_a_restart() {
    lunctl();
    let mut rig = Rig::start(lun_sim::scenario::by_name("mirror").unwrap());
    let mut follower = command(rig.address(), "events --follow --since 0 --json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut seen: Vec<Value> = Vec::new();
    let mut until = |seen: &mut Vec<Value>, text: &str| loop {
        let line = told.next().expect("it follows on").unwrap();
        seen.push(serde_json::from_str(&line).unwrap());
        if seen.last().unwrap()["text"]
            .as_str()
            .unwrap()
            .starts_with(text)
        {
            return;
        }
    };
    block_on(async { json(&rig, "recover md0").await.exits(0) });
    until(&mut seen, "operation 1 succeeded");
    rig.stop_service();
    rig.start_service();
    block_on(async { json(&rig, "recover md0").await.exits(0) });
    until(&mut seen, "operation 2 succeeded");
    let last = seen.last().unwrap()["seq"].as_u64().unwrap();
    let all = block_on(async { lines(&json(&rig, "events --since 0").await.exits(0)) });
    let all: Vec<Value> = all
        .into_iter()
        .filter(|event| event["seq"].as_u64().unwrap() <= last)
        .collect();
    assert_eq!(seqs(&seen), seqs(&all));
    let interrupt = Command::new("kill")
        .args(["-INT", &follower.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    assert_eq!(follower.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut follower.stderr.take().unwrap(), &mut said).unwrap();
    assert!(said.contains("the service is back"), "{said}");
}

#[test]
fn why_tells_what_would_be_done_and_what_would_change_it() {
    on("mirror-degraded", async |rig, _user| {
        let why = json(rig, "why md0").await.exits(0).json();
        assert_eq!(
            why["refusal"]["hresult_name"], "VDS_E_NOT_ENOUGH_DRIVE",
            "{why:#}"
        );
        assert_eq!(why["plan"], Value::Null);
        assert_eq!(why["lun"]["redundancy"]["losses_survivable"], 0);
        let idle = &why["unregistered"][0];
        assert_eq!(idle["device"], "/dev/sdc", "{why:#}");
        assert!(
            idle["change"]
                .as_str()
                .unwrap()
                .contains("lunctl spare add /dev/sdc")
        );
        let text = run(rig, "why md0").await.exits(0).stdout;
        assert!(text.contains("lunctl spare add"), "{text}");
        assert!(
            rig.sim.with(|world| world.log.is_empty()),
            "it changes nothing"
        );

        json(rig, "spare add /dev/sdc").await.exits(0);
        let why = json(rig, "why md0").await.exits(0).json();
        assert_eq!(why["refusal"], Value::Null, "{why:#}");
        assert_eq!(why["plan"]["spare"], "/dev/sdc", "{why:#}");
        assert_eq!(
            why["candidates"][0]["verdict"]["verdict"], "taken",
            "{why:#}"
        );
        assert_eq!(why["unregistered"], Value::Array(Vec::new()));

        let op = json(rig, "recover md0").await.exits(0).json();
        let why = json(rig, "why md0").await.exits(0).json();
        assert_eq!(
            why["refusal"]["hresult_name"],
            "VDS_E_ANOTHER_CALL_IN_PROGRESS"
        );
        assert_eq!(why["lun"]["operation"]["id"], op["id"], "{why:#}");
        json(rig, "why md77")
            .await
            .exits(3)
            .error("VDS_E_OBJECT_NOT_FOUND");
    });
}

#[test]
fn why_names_the_rule_that_rejected_a_spare() {
    on("zoo", async |rig, _user| {
        let why = json(rig, "why md2").await.exits(0).json();
        assert_eq!(
            why["refusal"]["hresult_name"], "VDS_E_INVALID_OPERATION",
            "{why:#}"
        );
        let why = json(rig, "why md0").await.exits(0).json();
        for idle in why["unregistered"].as_array().unwrap() {
            assert!(
                idle["reason"].as_str().unwrap().contains("registered"),
                "{why:#}"
            );
        }
        let list = json(rig, "list").await.exits(0).json();
        assert_eq!(list["ledger"]["state"], "ok");
        assert_eq!(
            json(rig, "show md0").await.exits(0).json()["ledger"]["state"],
            "ok"
        );
    });
}
