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

/// What an administrator of systemd expects: the bus starts it, a reload keeps what runs and a wrong
/// file out, the journal explains itself, a stalled daemon is restarted, figures lie where they should.
#[test]
#[ignore = "needs a virtual machine: scripts/test runs it"]
fn manners_of_a_service() {
    let lab = Lab::without_service("service");
    lab.sh(
        "journalctl --update-catalog; disks 2 32; disks 1 32 8; array md0 raid1 2 --bitmap=none; fill md0; \
            lose md0 loop1; slow md0 150",
    );
    lab.sh(
        "[ \"$(systemctl is-active lund)\" = inactive ]; lunctl list >/dev/null; \
            [ \"$(systemctl is-active lund)\" = active ]",
    );
    lab.ok("spare add /dev/loop8");
    let op = lab.ok("recover md0")["id"].clone();

    let error =
        "busctl get-property org.lund.Vds1 /org/lund/Vds1 org.lund.Vds1.Provider ConfigError";
    let until = |command: &str| {
        lab.sh(&format!(
            "for n in $(seq 300); do {{ {command}; }} && exit 0; read -rt 0.2 <> <(:) || true; done; \
             systemctl status lund --no-pager; exit 1"
        ))
    };
    lab.sh("pid=$(systemctl show --value -p MainPID lund); echo $pid >/tmp/pid; \
            printf '[service]\\nrescan_s = 1\\n' >/etc/lund/lund.d/wrong.toml; systemctl reload lund");
    until(&format!(
        "{error} | grep -q 'wrong.toml:2: service.rescan_s = 1'"
    ));
    lab.sh(
        "systemctl show --value -p StatusText lund | grep -q 'configuration not in force'; \
            journalctl -u lund -p err -o cat --no-pager | grep -q wrong.toml; \
            rm /etc/lund/lund.d/wrong.toml; systemctl reload lund",
    );
    until(&format!(
        "[ \"$({error})\" = 's \"\"' ] && [ \"$(systemctl is-active lund)\" = active ]"
    ));
    lab.sh("[ \"$(systemctl show --value -p MainPID lund)\" = \"$(cat /tmp/pid)\" ]");
    let going = lab.ok(&format!("status {op}"));
    assert_eq!(
        going["hresult_name"], "VDS_E_OPERATION_PENDING",
        "{going:#}"
    );
    lab.sh("systemctl show --value -p StatusText lund | grep 'operation 1 on md0 running'");

    until(
        "grep -q '^lund_operation_percent{lun=\"md0\",op=\"1\",kind=\"recover\"} ' /run/lund/metrics.prom",
    );
    lab.sh("runuser -u alice -- grep -q '^lund_lun_losses_survivable{lun=\"md0\"} 0$' /run/lund/metrics.prom");
    lab.sh("fast md0");
    assert_eq!(lab.ok(&format!("wait {op}"))["state"], "succeeded");
    until(
        "grep -q '^lund_operations_total{kind=\"recover\",result=\"succeeded\"} 1$' /run/lund/metrics.prom",
    );
    lab.sh(
        "journalctl -u lund LUN=md0 OP=1 HRESULT=S_OK DRIVE=/dev/loop8 -x --no-pager >/tmp/told; \
            grep -q 'Operation 1 has succeeded' /tmp/told && grep -q 'lunctl status 1' /tmp/told",
    );

    lab.sh("mkdir -p /run/systemd/system/lund.service.d; \
            printf '[Service]\\nWatchdogSec=10\\n' >/run/systemd/system/lund.service.d/watchdog.conf; \
            systemctl daemon-reload; systemctl restart lund; systemctl kill --signal=STOP lund");
    until(
        "[ \"$(systemctl show --value -p NRestarts lund)\" -ge 1 ] && [ \"$(systemctl is-active lund)\" = active ]",
    );
    lab.sh("journalctl -u lund --no-pager >/tmp/told; grep -qi watchdog /tmp/told; lunctl list >/dev/null; systemctl stop lund; \
            ! test -e /run/lund/metrics.prom");
    lab.whole("md0", 2);
}
