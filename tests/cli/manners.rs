//! How `lunctl` speaks to people: suggestions, colours, width.

use std::process::{Command, Stdio};

use super::{command, json, lunctl, on, run};

#[test]
fn a_mistyped_name_is_answered_with_the_one_that_was_meant() {
    on("mirror-degraded", async |rig, _user| {
        json(rig, "spare add sdc").await.exits(0);
        for (line, meant) in [
            ("show dm0", "did you mean md0?"),
            ("recover md", "did you mean md0?"),
            ("why /dev/md00", "did you mean /dev/md0?"),
            ("cancel md1", "did you mean md0?"),
            ("recover md0 --spare sdcc", "did you mean sdc?"),
            ("spare add /dev/sdcc", "did you mean /dev/sdc?"),
        ] {
            let plain = run(rig, line).await.exits(3);
            let hint = format!("hint: {meant}");
            assert!(plain.stderr.contains(&hint), "{line}: {plain:?}");
            assert!(plain.stderr.contains("`lunctl "), "{line}: {plain:?}");
            let failed = json(rig, line).await.exits(3).json();
            let hint = failed["error"]["hint"].as_str().unwrap();
            assert!(hint.starts_with(meant), "{line}: {hint}");
        }
        let far = run(rig, "show backup").await.exits(3);
        assert!(!far.stderr.contains("did you mean"), "{far:?}");
        assert!(far.stderr.contains("hint: `lunctl list`"), "{far:?}");
    });
}

#[test]
fn a_mistyped_verb_is_answered_with_the_one_that_was_meant() {
    on("empty", async |rig, _user| {
        for (line, meant) in [
            ("recovr md0", "recover"),
            ("lsit", "list"),
            ("spare ad x", "add"),
        ] {
            let failed = run(rig, line).await.exits(2);
            assert!(
                failed.stderr.contains(&format!("'{meant}'")),
                "{line}: {failed:?}"
            );
        }
        let failed = run(rig, "recover md0 --dry-rn").await.exits(2);
        assert!(failed.stderr.contains("'--dry-run'"), "{failed:?}");
    });
}

/// Runs a line in a terminal (script(1) makes one), with `environment`.
fn in_a_terminal(address: &str, line: &str, environment: &[(&str, &str)]) -> String {
    let mut terminal = Command::new("script");
    // What a build server or a desktop sets would be heeded, as it should be.
    for set_outside in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        terminal.env_remove(set_outside);
    }
    terminal
        .args(["--quiet", "--return", "--command"])
        .arg(format!("{} {line}", lunctl().display()))
        .arg("/dev/null")
        .env("TERM", "xterm-256color")
        .env("LUND_BUS", address)
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    String::from_utf8(terminal.output().unwrap().stdout).unwrap()
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    const ESCAPE: char = '\u{1b}';
    on("zoo", async |rig, _user| {
        for line in ["list", "recover md2", "recover"] {
            let address = rig.address().to_owned();
            let shown = tokio::task::spawn_blocking(move || {
                let coloured = in_a_terminal(&address, line, &[]);
                let plain = in_a_terminal(&address, line, &[("NO_COLOR", "1")]);
                let dumb = in_a_terminal(&address, line, &[("TERM", "dumb")]);
                let piped = command(&address, line).output().unwrap();
                (
                    coloured,
                    [plain, dumb],
                    [piped.stdout, piped.stderr].concat(),
                )
            });
            let (coloured, plain, piped) = shown.await.unwrap();
            assert!(coloured.contains(ESCAPE), "{line}: {coloured:?}");
            for plain in plain {
                assert!(
                    !plain.contains(ESCAPE) && !plain.is_empty(),
                    "{line}: {plain:?}"
                );
            }
            assert!(!piped.contains(&0x1b) && !piped.is_empty(), "{line}");
        }
    });
}

#[test]
fn what_is_listed_fits_80_columns() {
    on("zoo", async |rig, _user| {
        for line in [
            "list",
            "drives",
            "spare list",
            "ops --all",
            "history",
            "show md0",
            "why md0",
            "why md3",
        ] {
            let text = run(rig, line).await.exits(0).stdout;
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(80), "{line}: {text}");
        }
    });
}
