//! Who may do what, with the real polkit and the real system bus.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::lab::Lab;
use crate::rights::{Row, TABLE, call_of, methods};

/// A rule that gives alice everything of ours, and nobody anything.
const RULE: &str = r#"polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.lund.Vds1.") == 0 && subject.user == "alice")
        return polkit.Result.YES;
});"#;

/// Plays the table as a user; for each row whether the call was let through.
fn play(lab: &Lab, user: &str, paths: &BTreeMap<&str, String>) -> Vec<(&'static Row, bool)> {
    let mut script = String::from("cat >/tmp/play.sh <<'END'\n");
    for row in TABLE {
        let words = call_of(row, &paths[row.object], "loop0").join("' '");
        // The text of the refusal is what a user sees of it.
        let _ = writeln!(
            script,
            "if busctl '{words}' 2>&1 >/dev/null | grep -q 'is not allowed to'; then echo no; else echo yes; fi"
        );
    }
    let _ = writeln!(script, "END\nrunuser -u {user} -- bash /tmp/play.sh");
    let said = lab.sh(&script);
    let answers: Vec<bool> = said.lines().map(|line| line == "yes").collect();
    assert_eq!(answers.len(), TABLE.len(), "{said}");
    TABLE.iter().zip(answers).collect()
}

/// Everybody may look; only who `may` is let through by the rows that take a right.
fn expect(lab: &Lab, user: &str, may: bool, when: &str, paths: &BTreeMap<&str, String>) {
    let wrong: Vec<String> = play(lab, user, paths)
        .into_iter()
        .filter(|(row, through)| *through != (may || row.right.is_empty()))
        .map(|(row, through)| format!("{}.{}: {through}", row.object, row.method))
        .collect();
    assert_eq!(wrong, [""; 0], "{user}, {when}");
}

/// Paths of one object of each kind, by the last part of its interface's name.
fn paths(lab: &Lab) -> BTreeMap<&'static str, String> {
    let find = |prefix: &str| {
        let found = lab.sh(&format!(
            "busctl tree --list org.lund.Vds1 | grep '{prefix}' | tail -n 1"
        ));
        found.trim().to_owned()
    };
    BTreeMap::from([
        ("Provider", "/org/lund/Vds1".to_owned()),
        ("SubSystem", find("/subsystem$")),
        ("Lun", find("/lun/.")),
        ("Controller", find("/controller/md$")),
        ("Plex", find("/plex/.")),
        ("Drive", find("/drive/.")),
        ("Async", find("/op/.")),
    ])
}

#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn every_method_of_every_object_as_every_kind_of_user() {
    let lab = Lab::start("rights");
    lab.sh("disks 3; array md0 raid1 2 --bitmap=none");
    lab.until("md0", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    // A check that the kernel runs, slow enough to be there until the end.
    lab.sh("slow md0 10; echo check >/sys/block/md0/md/sync_action; \
         id alice >/dev/null 2>&1 || useradd alice; id nobody >/dev/null");
    lab.until("md0", "busy", |lun| lun["operation"].is_object());
    let paths = paths(&lab);
    for (object, path) in &paths {
        let xml = lab.sh(&format!(
            "busctl introspect --xml-interface org.lund.Vds1 {path}"
        ));
        for (interface, method) in methods(&xml) {
            let row = TABLE
                .iter()
                .find(|row| row.object == interface && row.method == method);
            assert!(row.is_some(), "{interface}.{method} of {object} has no row");
        }
    }
    expect(&lab, "nobody", false, "no rule", &paths);
    expect(&lab, "alice", false, "no rule", &paths);
    lab.sh("pkaction --verbose --action-id org.lund.Vds1.recover | grep -q 'implicit active: *auth_admin_keep'");
    lab.sh(&format!(
        "cat >/etc/polkit-1/rules.d/40-lund.rules <<'END'\n{RULE}\nEND\n\
         chmod 644 /etc/polkit-1/rules.d/40-lund.rules; systemctl restart polkit"
    ));
    expect(&lab, "nobody", false, "a rule for alice", &paths);
    lab.sh("systemctl mask --now --runtime polkit");
    expect(&lab, "alice", false, "polkit stopped", &paths);
    let said = lab.run("runuser -u alice -- lunctl verify md0");
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status, 7, "{text}");
    assert!(
        text.contains("org.lund.Vds1.scrub") && text.contains("only root may"),
        "{text}"
    );
    lab.sh("systemctl unmask --runtime polkit; systemctl start polkit");
    // The last row ends the operation.
    expect(&lab, "alice", true, "a rule for alice", &paths);
    lab.sh("echo check >/sys/block/md0/md/sync_action");
    lab.until("md0", "busy", |lun| lun["operation"].is_object());
    lab.sh("systemctl mask --now --runtime polkit");
    expect(&lab, "root", true, "polkit stopped", &paths);
}
