//! What the files may say, and what is said of mistakes.

use super::*;

fn load_text(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lund.toml");
    std::fs::write(&path, text).unwrap();
    load(&path, true)
}

fn error_of(text: &str) -> String {
    let config = load_text(text);
    assert_eq!(
        config.policy,
        out_of_force(),
        "nothing of a bad file is in force"
    );
    let error = config.error.expect("the text is wrong");
    format!("{}: {}", error.line.unwrap_or(0), error.message)
}

#[test]
fn no_file_means_defaults() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(
        load(&folder.path().join("lund.toml"), false),
        Config::default()
    );
    assert!(load(&folder.path().join("lund.toml"), true).error.is_some());
}

#[test]
fn every_key_has_its_effect() {
    let config = load_text(
        "[service]\nrescan_s = 120\nprogress_s = 2\ndeadline_s = 10\n[recovery]\nmode = \"notify\"\n\
         grace_s = 0\nverify_after = true\n[lvm]\nextend_groups = true\n[log]\nlevel = \"debug\"\n[operations]\nkeep_finished = 50\n[ledger]\n\
         keep_operations = 200\nkeep_events = 300\nkeep_days = 90\n[[lun]]\nmatch = \"md*\"\n\
         mode = \"auto\"\ngrace_s = 3\npriority = -2\nreserve = true\n[[lun]]\nmatch = \"vg/lv\"\n\
         [notify]\nprogram = \"/usr/local/bin/told\"\ndeadline_s = 5\n[prefail]\nmode = \"auto\"\nevents = 3\n\
         window_s = 600\n[[spare]]\n\
         match = \"/dev/disk/by-id/ata-*\"\nfor = \"md*\"\n[[spare]]\nmatch = \"/var/spare\"\n",
    );
    let notify = hook::Settings {
        program: "/usr/local/bin/told".into(),
        deadline: Duration::from_secs(5),
    };
    assert_eq!(config.notify, Some(notify));
    let retention = Retention {
        operations: 200,
        events: 300,
        days: Some(90),
    };
    assert_eq!(config.retention, retention);
    assert_eq!(config.error, None);
    assert_eq!(config.log_level, tracing::Level::DEBUG);
    let expected = Policy {
        rescan_ms: 120_000,
        progress_ms: 2_000,
        deadline_ms: 10_000,
        recovery: lun_core::policy::Recovery {
            mode: AutoMode::Notify,
            grace_ms: 0,
            priority: 0,
            reserve: false,
        },
        lun_rules: vec![
            LunRule {
                matches: "md*".to_owned(),
                mode: Some(AutoMode::Auto),
                grace_ms: Some(3_000),
                priority: Some(-2),
                reserve: Some(true),
            },
            LunRule {
                matches: "vg/lv".to_owned(),
                ..LunRule::default()
            },
        ],
        verify_after: true,
        extend_groups: true,
        prefail: PrefailRule {
            mode: PrefailMode::Auto,
            events: 3,
            window_ms: 600_000,
        },
        spare_groups: Vec::new(),
        spare_rules: vec![
            SpareRule {
                matches: "/dev/disk/by-id/ata-*".to_owned(),
                only_for: Some("md*".to_owned()),
            },
            SpareRule {
                matches: "/var/spare".to_owned(),
                only_for: None,
            },
        ],
        keep_finished: 50,
    };
    assert_eq!(config.policy, expected);
}

#[test]
fn mistakes_are_told_with_line_and_key() {
    assert!(error_of("[service]\nrescan = 60\n").starts_with("2: unknown field `rescan`"));
    assert!(error_of("[nonsense]\n").starts_with("1: unknown field `nonsense`"));
    assert_eq!(
        error_of("\n[service]\nrescan_s = 5\n"),
        "3: service.rescan_s = 5 is out of bounds (30 to 3600)"
    );
    assert_eq!(
        error_of("[ledger]\nkeep_operations = 5\n"),
        "2: ledger.keep_operations = 5 is out of bounds (100 to 10000000)"
    );
    assert_eq!(
        error_of("[prefail]\nevents = 0\n"),
        "2: prefail.events = 0 is out of bounds (1 to 1000000)"
    );
    assert!(error_of("[prefail]\nmode = \"maybe\"\n").contains("unknown variant `maybe`"));
    assert_eq!(
        error_of("[[spare]]\nmatch = \"sd*\"\n"),
        "2: spare.match = \"sd*\" is no path of drives (as /dev/disk/by-id/NAME*)"
    );
    assert_eq!(
        error_of("[[spare]]\nmatch = \"/dev/disk/by-path/*\"\nfor = \"\"\n"),
        "3: spare.for is empty: it names no LUN"
    );
    assert!(error_of("[[spare]]\nfor = \"md0\"\n").contains("missing field `match`"));
    assert!(
        error_of("[[spare]]\nmatch = \"/dev/x\"\nforce = true\n").contains("unknown field `force`")
    );
    assert!(error_of("[ledger]\nkeep = 5\n").starts_with("2: unknown field `keep`"));
    assert!(error_of("[log]\nlevel = \"loud\"\n").contains("log.level = \"loud\" is none of"));
    assert!(error_of("[service]\nrescan_s = \"x\"\n").starts_with("2: invalid type"));
    assert!(error_of("\u{1}\u{2}junk = = [").starts_with('1'));
    assert!(error_of("[service]\nrescan_s = -1\n").starts_with("2: "));
    assert!(error_of("[recovery]\nmode = \"maybe\"\n").starts_with("2: unknown variant `maybe`"));
    assert!(error_of("[[lun]]\nmode = \"off\"\n").contains("missing field `match`"));
    assert_eq!(
        error_of("[[lun]]\nmatch = \"\"\n"),
        "2: lun.match is empty: it names no LUN (`*` means all)"
    );
    assert_eq!(
        error_of("[[lun]]\nmatch = \"md0\"\npriority = 5000\n"),
        "3: lun.priority = 5000 is out of bounds (-1000 to 1000)"
    );
    assert_eq!(
        error_of("[[lun]]\nmatch = \"md0\"\ngrace_s = 90000\n"),
        "3: lun.grace_s = 90000 is out of bounds (0 to 86400)"
    );
    assert_eq!(
        error_of("[notify]\nprogram = \"mail\"\n"),
        "2: notify.program = \"mail\" is no absolute path"
    );
}

#[test]
fn drop_ins_override_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lund.toml");
    let drop_ins = folder.path().join("lund.d");
    std::fs::create_dir(&drop_ins).unwrap();
    std::fs::write(&path, "[service]\nrescan_s = 100\nprogress_s = 3\n").unwrap();
    std::fs::write(drop_ins.join("20-b.toml"), "[service]\nrescan_s = 300\n").unwrap();
    std::fs::write(drop_ins.join("10-a.toml"), "[service]\nrescan_s = 200\n").unwrap();
    std::fs::write(drop_ins.join("30-c.toml.off"), "junk").unwrap();
    let config = load(&path, true);
    assert_eq!(config.error, None);
    assert_eq!(
        (config.policy.rescan_ms, config.policy.progress_ms),
        (300_000, 3_000)
    );
    std::fs::write(drop_ins.join("40-d.toml"), "x = 1").unwrap();
    let error = load(&path, true).error.unwrap();
    assert!(
        error
            .to_string()
            .contains("lund.d/40-d.toml:1: unknown field `x`"),
        "{error}"
    );
}
