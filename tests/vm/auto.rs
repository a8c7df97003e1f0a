//! What lund does on a real kernel without a call: spares that take over, members that come back, and
//! what is left alone.

use serde_json::Value;

use super::lab::Lab;

/// The rules of these tests, and a program that writes down what it is told. It runs within the bounds of
/// the unit.
const CONFIG: &str = r#"
cat >/usr/local/bin/told <<'end'
#!/bin/sh
{ echo "$@"; cat; echo; } >>/run/lund/told
end
chmod 755 /usr/local/bin/told
cat >/etc/lund/lund.d/60-auto.toml <<'end'
[recovery]
mode = "auto"
grace_s = 0
[notify]
program = "/usr/local/bin/told"
[[lun]]
match = "md2"
priority = 5
end
systemctl start lund
"#;

/// A guest where LUNs are mended without a call, at once.
fn lab(name: &str) -> Lab {
    let lab = Lab::without_service(name);
    lab.sh(CONFIG);
    lab
}

impl Lab {
    /// Waits until this was decided about a LUN.
    fn until_decided(&self, lun: &str, rule: &str) -> Value {
        self.until_told(lun, rule, "")
    }

    /// Waits until this was decided about a LUN, with this in the reason or among the drives.
    fn until_told(&self, lun: &str, rule: &str, words: &str) -> Value {
        let mut last = Value::Null;
        for _ in 0..300 {
            last = self.lunctl(&format!("why {lun}")).json;
            let decision = &last["decision"];
            if decision["rule"] == rule && decision.to_string().contains(words) {
                return decision.clone();
            }
        }
        let seen = self.sh("cat /proc/mdstat; journalctl --no-pager -b -u lund | tail -60");
        panic!(
            "{lun}: never decided {rule}, {words}: {:#}\n{seen}",
            last["decision"]
        );
    }

    fn until_healthy(&self, lun: &str) {
        self.until(lun, "healthy", |lun| {
            lun["health"] == "VDS_H_HEALTHY" && lun["operation"].is_null()
        });
    }

    /// Operations on a LUN that nobody asked for, the newest first.
    fn by_itself(&self, lun: &str) -> Vec<Value> {
        let history = self.ok(&format!("history {lun}"));
        let all = history["operations"].as_array().unwrap();
        let own = all.iter().filter(|op| op["origin"] == "policy");
        own.cloned().collect()
    }

    fn spares(&self) -> Vec<String> {
        let pool = self.ok("spare list");
        let drives = pool["drives"].as_array().unwrap().iter();
        let mut names: Vec<String> = drives
            .map(|drive| drive["device"].as_str().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    }

    /// Nodes of the members in sync.
    fn members(&self, lun: &str) -> Vec<String> {
        let lun = self.ok(&format!("show {lun}"));
        let drives = lun["drives"].as_array().unwrap().iter();
        let mut names: Vec<String> = drives
            .filter(|drive| drive["role"] == "in_sync")
            .map(|drive| drive["device"].as_str().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    }
}

/// A spare takes over when a member fails; one that comes later is used at once; of two LUNs that lost a
/// member while the service was down the one with the priority gets the only spare; a held one is left alone.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn smoke_mended_without_a_call() {
    let lab = lab("auto");
    lab.sh(
        "disks 10 24; array md0 raid1 2 --bitmap=internal; fill md0; \
         FIRST=2 array md2 raid1 2 --bitmap=internal; fill md2",
    );

    // A spare of the pool takes over.
    lab.ok("spare add /dev/loop8");
    lab.sh("mdadm --quiet --fail /dev/md0 /dev/loop1");
    lab.until_healthy("md0");
    let ops = lab.by_itself("md0");
    assert_eq!(ops.len(), 1, "{ops:#?}");
    assert_eq!(ops[0]["spare"], "/dev/loop8", "{ops:#?}");
    lab.whole("md0", 2);
    // The program and the journal were told of the decision.
    lab.sh("until grep -q '^decision md0 act$' /run/lund/told; do read -rt 0.1 <> <(:) || true; done; \
            grep -q '\"rule\":\"spare\"' /run/lund/told; \
            journalctl --no-pager -b MESSAGE_ID=3f2a6a0d6c0e4b5c9d3a8c5b6c2f7e11 LUN=md0 RULE=spare | grep -q 'md0 is recovered by itself'");

    // What somebody takes out is not put back, and a spare that comes later is used at once.
    lab.sh("lose md2 loop3");
    let decision = lab.until_told("md2", "no_spare", "/dev/loop3: somebody took it out");
    assert_eq!(decision["verdict"], "leave", "{decision:#}");
    lab.ok("spare add /dev/loop9");
    lab.until_healthy("md2");
    lab.whole("md2", 2);
    assert_eq!(lab.by_itself("md2").len(), 1);

    // Two LUNs and one spare, lost while nobody looked.
    lab.sh("systemctl stop lund; mdadm --quiet --fail /dev/md0 /dev/loop0; mdadm --quiet --fail /dev/md2 /dev/loop2; \
            wipefs --quiet --all /dev/loop7");
    lab.sh("printf '[[spare]]\\nmatch = \"%s\"\\n' $LAB/disk7 >/etc/lund/lund.d/70-spare.toml; systemctl start lund");
    lab.until_healthy("md2");
    lab.whole("md2", 2);
    assert_eq!(lab.members("md2"), ["/dev/loop7", "/dev/loop9"]);
    lab.until_decided("md0", "no_spare");

    // Held: left alone for as long as it is.
    lab.sh("slow md0 300");
    lab.ok("spare add /dev/loop6");
    let running = lab.until("md0", "under way", |lun| {
        lun["operation"]["percent"].as_u64() > Some(2)
    });
    lab.ok(&format!("cancel {}", running["operation"]["id"]));
    lab.until_decided("md0", "held");
    let before = lab.by_itself("md0").len();
    lab.ok("refresh");
    assert_eq!(lab.by_itself("md0").len(), before);
    lab.sh("fast md0");
    lab.ok("release md0");
    lab.until_healthy("md0");
    lab.whole("md0", 2);
    assert_eq!(lab.members("md0"), ["/dev/loop6", "/dev/loop8"]);
}

/// A controller that goes with two members burns no spares, and both are taken back with it. Two that fail, each
/// for itself, are replaced by two spares.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn a_controller_that_goes_and_comes_back() {
    let lab = lab("auto-controller");
    lab.sh(
        "shelf; disks 6 24; mdadm --create /dev/md0 --run --quiet --metadata=1.2 --level=raid6 --raid-devices=5 \
             --bitmap=internal /dev/loop0 /dev/$(shelf_name 0) /dev/loop1 /dev/$(shelf_name 1) /dev/loop2 2>&1; \
         idle md0; fill md0",
    );
    lab.until_healthy("md0");
    lab.ok("spare add /dev/loop4");
    lab.ok("spare add /dev/loop5");
    lab.sh("pull $(shelf_name 0) $(shelf_name 1); \
            head -c 1M /dev/urandom | dd of=/dev/md0 bs=64K oflag=direct conv=fsync,notrunc status=none; sum md0 >$LAB/md0.sum");
    let decision = lab.until_told("md0", "common_cause", "tcm_loop");
    assert_eq!(decision["verdict"], "wait", "{decision:#}");
    lab.sh("plug");
    lab.until_healthy("md0");
    lab.whole("md0", 5);
    assert_eq!(lab.spares(), ["/dev/loop4", "/dev/loop5"]);

    // Failures that have nothing in common.
    lab.sh("mdadm --quiet --fail /dev/md0 /dev/loop1 /dev/loop2");
    lab.until_healthy("md0");
    lab.whole("md0", 5);
    assert!(lab.spares().is_empty());
    let members = lab.members("md0");
    assert!(members.contains(&"/dev/loop4".to_owned()), "{members:?}");
    assert!(members.contains(&"/dev/loop5".to_owned()), "{members:?}");
    let ops = lab.by_itself("md0");
    assert!(ops.iter().all(|op| op["state"] == "succeeded"), "{ops:#?}");
}
