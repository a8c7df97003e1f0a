//! What is installed beside the programs, as an administrator meets it at a shell.

use super::lab::Lab;

/// A tab after the beginning of a LUN's name, in a bash that sits in a terminal.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn bash_completes_the_name_of_a_lun() {
    let lab = Lab::start("completion");
    lab.sh("disks 2; FIRST=0 array md77 raid1 2 --bitmap=none");
    lab.until("md77", "healthy", |lun| lun["health"] == "VDS_H_HEALTHY");
    let typed = r"source /usr/share/bash-completion/completions/lunctl\nlunctl sho\tm\t--json >/tmp/shown\nexit\n";
    let name = lab.sh(&format!(
        "printf '{typed}' | TERM=dumb script -qec 'bash --norc -i' /tmp/typescript; \
         jq -r .name /tmp/shown || {{ cat /tmp/typescript; exit 1; }}"
    ));
    assert!(name.trim().ends_with("md77"), "{name}");
    lab.sh("test -s /usr/share/zsh/vendor-completions/_lunctl; \
            test -s /usr/share/fish/vendor_completions.d/lunctl.fish; \
            for page in man1/lunctl.1 man8/lund.8 man5/lund.toml.5; do test -s /usr/share/man/$page; done");
}

/// The real bridge and the real system bus, with a login that does not leave the machine.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn the_service_of_another_host() {
    let lab = Lab::start("host");
    lab.sh("disks 3; array md0 raid1 2 --bitmap=none; lose md0 loop1");
    lab.sh(
        r#"mkdir /tmp/far; printf '#!/bin/sh\nshift 3\nunset DBUS_SYSTEM_BUS_ADDRESS\nexec "$@"\n' >/tmp/far/ssh
           chmod -R a+rx /tmp/far"#,
    );
    let far = "PATH=/tmp/far:$PATH DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent";
    lab.sh(&format!("! {far} lunctl list"));
    let health = lab.sh(&format!(
        "{far} lunctl -H far show md0 --json | jq -r .health"
    ));
    assert_eq!(health.trim(), "VDS_H_FAILED_REDUNDANCY");
    // Who logs in there is who asks there.
    let refused = lab.run(&format!(
        "runuser -u alice -- env {far} lunctl -H far spare add loop2"
    ));
    assert_eq!(refused.status, 7, "{refused:?}");
    let state = lab.sh(&format!(
        "{far} lunctl -H far spare add loop2 >/dev/null; \
         {far} lunctl -H far recover md0 --wait --json | jq -r .state"
    ));
    assert_eq!(state.trim(), "succeeded");
}
