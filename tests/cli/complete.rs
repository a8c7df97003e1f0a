//! Completion as the shells ask for it.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{json, lunctl, on};
use crate::rig::{Rig, block_on};

/// The values that `shell` is offered after `line`; its last word is the one that is typed.
fn offered(address: &str, shell: &str, line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split(' ').collect();
    let output = Command::new(lunctl())
        .arg("--")
        .args(&words)
        .env("LUNCTL_COMPLETE", shell)
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .env("_CLAP_IFS", "\n")
        .env("LUND_BUS", address)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let ends = |letter| match shell {
        "zsh" => letter == ':',
        _ => letter == '\t',
    };
    text.lines()
        .map(|line| line.split(ends).next().unwrap().to_owned())
        .collect()
}

/// The same of every shell, which must agree.
async fn all(rig: &Rig, line: &'static str) -> Vec<String> {
    let address = rig.address().to_owned();
    let offers = tokio::task::spawn_blocking(move || {
        ["bash", "zsh", "fish"].map(|shell| offered(&address, shell, line))
    });
    let [bash, zsh, fish] = offers.await.unwrap();
    assert_eq!((&bash, &bash), (&zsh, &fish), "{line}");
    bash
}

#[test]
fn names_are_those_that_the_service_knows_now() {
    on("mirror-degraded", async |rig, _user| {
        assert_eq!(all(rig, "lunctl recov").await, ["recover"]);
        assert_eq!(all(rig, "lunctl recover --dr").await, ["--dry-run"]);
        assert_eq!(all(rig, "lunctl spare a").await, ["add"]);
        for verb in ["show", "recover", "why", "verify", "release", "history"] {
            let line = format!("lunctl {verb} m").leak();
            assert_eq!(all(rig, line).await, ["md0"], "{verb}");
        }
        let nodes = ["/dev/md0", "/dev/md/home"];
        assert_eq!(all(rig, "lunctl show /dev/m").await, nodes);
        assert_eq!(all(rig, "lunctl replace md0 /d").await, ["/dev/sda"]);

        assert!(all(rig, "lunctl spare remove /").await.is_empty());
        json(rig, "spare add sdc").await.exits(0);
        assert_eq!(all(rig, "lunctl spare remove /").await, ["/dev/sdc"]);
        assert_eq!(all(rig, "lunctl recover md0 --spare /").await, ["/dev/sdc"]);

        json(rig, "recover md0").await.exits(0);
        assert_eq!(all(rig, "lunctl cancel 1").await, ["1"]);
        assert_eq!(all(rig, "lunctl wait md0 1").await, ["1"]);
        json(rig, "cancel 1").await.exits(0);
        assert!(all(rig, "lunctl cancel 1").await.is_empty());
        assert_eq!(all(rig, "lunctl status 1").await, ["1"]);
    });
}

#[test]
fn without_a_service_there_are_verbs_and_no_names() {
    lunctl();
    let mut rig = Rig::start(lun_sim::scenario::by_name("mirror").unwrap());
    rig.stop_service();
    block_on(async {
        assert_eq!(all(&rig, "lunctl recov").await, ["recover"]);
        assert!(all(&rig, "lunctl recover m").await.is_empty());
    });
    assert!(offered("unix:path=/nonexistent", "bash", "lunctl show m").is_empty());
}

#[test]
fn the_installed_file_completes_in_bash() {
    on("mirror-degraded", async |rig, _user| {
        let house = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let file = house.join("dist/completion/lunctl.bash");
        let line = r#"source "$1"
            COMP_WORDS=(lunctl show m) COMP_CWORD=2 COMP_TYPE=9
            complete -p lunctl | grep -q _clap_complete_lunctl || exit 3
            _clap_complete_lunctl lunctl m show 2> /dev/null
            printf '%s\n' "${COMPREPLY[@]}""#;
        let mut bash = Command::new("bash");
        let folder = lunctl().parent().unwrap().display().to_string();
        let path = format!("{folder}:{}", std::env::var("PATH").unwrap());
        bash.args(["-c", line, "bash"])
            .arg(file)
            .env("PATH", path)
            .env("LUND_BUS", rig.address());
        let output = tokio::task::spawn_blocking(move || bash.output().unwrap());
        let output = output.await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text.trim(), "md0", "{output:?}");
    });
}
