//! `docs/errors.md` is made from the code: this test compares it, and prints what it should be.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Error, ObjectKind, Unfit};
use crate::Hresult;
use crate::id::OpId;

const HEAD: &str = "\
# Errors

Made from the code; `cargo test -p lun-core errors_md` prints what it should be when it is not.

A failed call answers on the bus with `org.lund.Vds1.Error.` and the name below, a message, the
HRESULT and the object's name; `lunctl` prints message and hint, and exits with the code below.
An operation that fails after it began answers its call with success and reports its HRESULT by
`QueryStatus` and `Wait`.
";

const EXIT_CODES: &str = "
## Exit codes of lunctl

| code | meaning |
|---|---|
| 0 | done |
| 1 | the operation failed |
| 2 | usage |
| 3 | no such object, or deleted |
| 4 | cannot be done in this state |
| 5 | busy |
| 6 | cancelled |
| 7 | access denied |
| 8 | timed out waiting; the operation goes on |
| 9 | the service cannot be reached (no HRESULT: the client finds out alone) |
| 10 | cache corrupt |
";

const CHOICES: &str = "
Where VDS has no code for a case, the nearest was chosen:

- a recovery that ended without its aim is `VDS_E_DISK_IO_FAILING` when a drive is to blame and
  `VDS_E_PROVIDER_FAILURE` otherwise;
- one that ended with unreadable places is `VDS_E_IO_ERROR`, so that the number alone tells it
  from a recovery that failed;
- copies that differ are `VDS_E_VOLUME_NOT_HEALTHY`;
- a drive with something written on it is refused with `VDS_E_OPERATION_DENIED`, the code for an
  operation that would destroy what the host may need;
- an operation that was cut off is `VDS_E_OPERATION_CANCELED`: nobody can wait for it any more.
";

/// Position of a variant in the documentation. Without a wildcard: a new variant does not compile
/// until it has a place here, and the test below asks for its sample.
const fn position(error: &Error) -> usize {
    match error {
        Error::AccessDenied { .. } => 0,
        Error::InvalidArgument { .. } => 1,
        Error::ObjectNotFound { .. } => 2,
        Error::Ambiguous { .. } => 3,
        Error::ObjectDeleted { .. } => 4,
        Error::CacheCorrupt { .. } => 5,
        Error::NotFaultTolerant { .. } => 6,
        Error::StatusFailed { .. } => 7,
        Error::AnotherCall { .. } => 8,
        Error::LunOffline { .. } => 9,
        Error::LunNotReady { .. } => 10,
        Error::ReadOnly { .. } => 11,
        Error::NoSpare { .. } => 12,
        Error::SparesTooSmall { .. } => 13,
        Error::NotSupported { .. } => 14,
        Error::DriveRefused { .. } => 15,
        Error::CancelTooLate { .. } => 16,
        Error::OperationCanceled { .. } => 17,
        Error::Timeout { .. } => 18,
        Error::Kernel { .. } => 19,
        Error::Tool { .. } => 20,
        Error::BadText { .. } => 21,
        Error::RecoveryFailed { .. } => 22,
        Error::CompletedWithLosses { .. } => 23,
        Error::MismatchFound { .. } => 24,
        Error::Interrupted { .. } => 25,
        Error::MemberHealthy { .. } => 26,
        Error::Exiting => 27,
        Error::Ledger { .. } => 28,
        Error::Internal { .. } => 29,
    }
}

const fn unfit_position(unfit: &Unfit) -> usize {
    match unfit {
        Unfit::NotPresent => 0,
        Unfit::TooSmall { .. } => 1,
        Unfit::BlockSize { .. } => 2,
        Unfit::ReadOnly => 3,
        Unfit::InUse { .. } => 4,
        Unfit::Held { .. } => 5,
        Unfit::Busy { .. } => 6,
        Unfit::MemberElsewhere { .. } => 7,
        Unfit::Signature { .. } => 8,
        Unfit::NewerHistory { .. } => 9,
        Unfit::ListedFaulty => 10,
        Unfit::AlreadyTried => 11,
        Unfit::Claimed { .. } => 12,
        Unfit::IdentityChanged => 13,
        Unfit::UnknownFact { .. } => 14,
        Unfit::NotTheChosen => 15,
        Unfit::NotAllocatable => 16,
        Unfit::SetAside { .. } => 17,
        Unfit::Retired { .. } => 18,
        Unfit::SlotBurns { .. } => 19,
        Unfit::Dedicated { .. } => 20,
        Unfit::Reserved { .. } => 21,
    }
}

fn unfit_samples() -> Vec<Unfit> {
    vec![
        Unfit::NotPresent,
        Unfit::TooSmall {
            have_bytes: 1_000_000,
            need_bytes: 2_000_000,
        },
        Unfit::BlockSize {
            have: 4096,
            array: 512,
        },
        Unfit::ReadOnly,
        Unfit::InUse {
            by: vec!["/srv".into()],
        },
        Unfit::Held {
            by: vec!["dm-3".into()],
        },
        Unfit::Busy {
            detail: "opened exclusively".into(),
        },
        Unfit::MemberElsewhere {
            array: "md1".into(),
        },
        Unfit::Signature {
            found: vec!["ext4".into()],
        },
        Unfit::NewerHistory {
            have: 120,
            array: 100,
        },
        Unfit::ListedFaulty,
        Unfit::AlreadyTried,
        Unfit::Claimed { op: OpId(7) },
        Unfit::IdentityChanged,
        Unfit::UnknownFact {
            what: "the size".into(),
        },
        Unfit::NotTheChosen,
        Unfit::NotAllocatable,
        Unfit::SetAside {
            why: "it was taken out of md0 by hand".into(),
        },
        Unfit::Retired {
            what: "failed in md1".into(),
        },
        Unfit::SlotBurns { failed: 2 },
        Unfit::Dedicated { to: "md7*".into() },
        Unfit::Reserved { lun: "md7".into() },
    ]
}

fn call_samples() -> Vec<Error> {
    let lun = || "md0".to_owned();
    vec![
        Error::AccessDenied {
            verb: "recover".into(),
            object: lun(),
            caller: "uid 1000".into(),
            action: "org.lund.Vds1.recover".into(),
            why: "polkit refuses it".into(),
        },
        Error::InvalidArgument {
            what: "--timeout".into(),
            why: "no such unit".into(),
        },
        Error::ObjectNotFound {
            kind: ObjectKind::Lun,
            name: "md9".into(),
            known: vec![lun()],
        },
        Error::Ambiguous {
            name: "4".into(),
            candidates: vec!["4a".into(), "4b".into()],
        },
        Error::ObjectDeleted {
            kind: ObjectKind::Lun,
            again: Vec::new(),
            name: lun(),
        },
        Error::CacheCorrupt {
            lun: lun(),
            cached: "raid5".into(),
            kernel: "raid6".into(),
        },
        Error::NotFaultTolerant {
            lun: lun(),
            level: "raid0".into(),
        },
        Error::StatusFailed {
            lun: lun(),
            why: "2 of 3 members are lost".into(),
        },
        Error::AnotherCall {
            lun: lun(),
            op: Some(OpId(7)),
            doing: "recover".into(),
        },
    ]
}

fn state_samples() -> Vec<Error> {
    let lun = || "md0".to_owned();
    let rejected = vec![("/dev/sdc".to_owned(), Unfit::ReadOnly)];
    let few = Unfit::TooSmall {
        have_bytes: 1_000_000,
        need_bytes: 2_000_000,
    };
    let small = vec![("/dev/sdc".to_owned(), few)];
    vec![
        Error::LunOffline {
            lun: lun(),
            state: "inactive".into(),
            again: Vec::new(),
        },
        Error::LunNotReady {
            lun: lun(),
            why: "suspended".into(),
        },
        Error::ReadOnly { lun: lun() },
        Error::NoSpare {
            lun: lun(),
            missing: 1,
            rejected,
        },
        Error::SparesTooSmall {
            lun: lun(),
            need_bytes: 2_000_000,
            rejected: small,
        },
        Error::NotSupported {
            object: lun(),
            what: "recover".into(),
            why: "IMSM".into(),
        },
        Error::DriveRefused {
            drive: "/dev/sdc".into(),
            unfit: Unfit::NotPresent,
        },
    ]
}

fn samples() -> Vec<Error> {
    let lun = || "md0".to_owned();
    let drive = || "/dev/sdc".to_owned();
    let mut list = call_samples();
    list.extend(state_samples());
    list.extend([
        Error::CancelTooLate {
            op: OpId(7),
            outcome: "succeeded".into(),
        },
        Error::OperationCanceled { op: OpId(7) },
        Error::Timeout {
            what: "operation 7".into(),
            after_ms: 5000,
        },
        Error::Kernel {
            action: "write recover to sync_action of".into(),
            object: lun(),
            errno: 16,
            detail: "Device or resource busy".into(),
        },
        Error::Tool {
            program: "/sbin/mdadm".into(),
            args: vec!["/dev/md0".into(), "--add-spare".into(), drive()],
            status: "exit status 1".into(),
            stderr: "cannot write superblock".into(),
        },
        Error::BadText {
            source_name: "md0/md/sync_action".into(),
            text: "dance".into(),
            want: "a sync action".into(),
        },
        Error::RecoveryFailed {
            lun: lun(),
            drive: Some(drive()),
            why: "write error".into(),
        },
        Error::CompletedWithLosses {
            lun: lun(),
            drives: vec![drive()],
            ranges: 2,
        },
        Error::MismatchFound {
            lun: lun(),
            mismatch_sectors: 128,
        },
        Error::Interrupted {
            lun: lun(),
            why: "the array was stopped".into(),
        },
        Error::MemberHealthy {
            lun: lun(),
            drive: drive(),
        },
        Error::Exiting,
        Error::Ledger {
            what: "write".into(),
            detail: "no space left".into(),
        },
        Error::Internal {
            what: "a plan without a LUN".into(),
        },
    ]);
    list
}

fn hresult_cell(error: &Error) -> String {
    match error {
        Error::DriveRefused { .. } => "by reason | see below | see below".into(),
        Error::Kernel { .. } => "by error number | see below | see below".into(),
        Error::RecoveryFailed { .. } => {
            let other = Error::RecoveryFailed {
                lun: String::new(),
                drive: None,
                why: String::new(),
            };
            let (with, without) = (error.hresult(), other.hresult());
            format!(
                "{with}, {without} | {}, {} | {}",
                with.name(),
                without.name(),
                error.exit_code()
            )
        }
        _ => {
            let hresult = error.hresult();
            format!("{hresult} | {} | {}", hresult.name(), error.exit_code())
        }
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn document() -> String {
    let mut text = HEAD.to_owned();
    text.push_str("\n| name | HRESULT | VDS name | exit | meaning | for example | what to do |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for error in samples() {
        let hint = error.hint().unwrap_or_default();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            error.name(),
            hresult_cell(&error),
            cell(error.summary()),
            cell(&error.to_string()),
            cell(&hint)
        );
    }
    text.push_str(CHOICES);
    text.push_str("\n## Why a drive is refused\n\n");
    text.push_str("| reason | HRESULT | VDS name | exit | what to do |\n|---|---|---|---|---|\n");
    for unfit in unfit_samples() {
        let hresult = unfit.hresult();
        let _ = writeln!(
            text,
            "| {} | {hresult} | {} | {} | {} |",
            cell(&unfit.text()),
            hresult.name(),
            hresult.exit_code(),
            cell(&unfit.hint("/dev/sdc").unwrap_or_default())
        );
    }
    text.push_str(
        "\n## Error numbers of the kernel\n\nLinux and Windows have no official pairing; ",
    );
    text.push_str("any number not listed is `VDS_E_PROVIDER_FAILURE`.\n\n");
    text.push_str("| number | HRESULT | name | exit |\n|---|---|---|---|\n");
    for errno in 1..=133 {
        let hresult = Hresult::from_errno(errno);
        if hresult != Hresult::VDS_E_PROVIDER_FAILURE {
            let name = hresult.name();
            let _ = writeln!(
                text,
                "| {errno} | {hresult} | {name} | {} |",
                hresult.exit_code()
            );
        }
    }
    text.push_str(EXIT_CODES);
    text.push_str("\n## All HRESULTs that have a name here\n\n");
    text.push_str("Win32 errors (0x8007....) have their Windows names as well.\n\n");
    text.push_str("| HRESULT | name | exit | meaning |\n|---|---|---|---|\n");
    for hresult in Hresult::all() {
        let _ = writeln!(
            text,
            "| {hresult} | {} | {} | {} |",
            hresult.name(),
            hresult.exit_code(),
            hresult.meaning().unwrap_or_default()
        );
    }
    text
}

#[test]
fn errors_md_is_what_the_code_says() {
    let expected = document();
    let found = include_str!("../../../docs/errors.md");
    if found != expected {
        println!("{expected}");
    }
    assert!(
        found == expected,
        "docs/errors.md is out of date: the text above is what it should be"
    );
}

#[test]
fn samples_are_complete_and_in_order() {
    let order: Vec<_> = samples().iter().map(position).collect();
    assert_eq!(order, (0..30).collect::<Vec<_>>());
    let order: Vec<_> = unfit_samples().iter().map(unfit_position).collect();
    assert_eq!(order, (0..22).collect::<Vec<_>>());
}

#[test]
fn names_are_unique_and_fit_the_bus() {
    let names: BTreeSet<_> = samples().iter().map(Error::name).collect();
    assert_eq!(names.len(), samples().len());
    for name in names {
        assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric()), "{name}");
    }
}

#[test]
fn every_error_fails_says_where_and_what_next() {
    for error in samples() {
        assert!(error.hresult().is_failure(), "{error}");
        assert_ne!(error.exit_code(), 0, "{error}");
        assert!(error.hresult().known_name().is_some(), "{error}");
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error}");
        assert!(error.summary().ends_with('.'), "{error}");
        let about_the_service = matches!(error, Error::Exiting | Error::Internal { .. });
        assert_eq!(error.object().is_empty(), about_the_service, "{error}");
    }
}

#[test]
fn every_error_survives_the_ledger() {
    for error in samples() {
        let json = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<Error>(&json).unwrap(), error);
    }
    for unfit in unfit_samples() {
        let error = Error::NoSpare {
            lun: "md0".into(),
            missing: 1,
            rejected: vec![("a".into(), unfit)],
        };
        let json = serde_json::to_string(&error).unwrap();
        assert_eq!(serde_json::from_str::<Error>(&json).unwrap(), error);
    }
}

#[test]
fn a_refused_drive_never_ends_with_busy_or_usage() {
    for unfit in unfit_samples() {
        let expected = if unfit == Unfit::NotPresent { 3 } else { 4 };
        assert_eq!(unfit.hresult().exit_code(), expected, "{}", unfit.text());
    }
}

#[test]
fn rejected_drives_follow_the_message() {
    let rejected = vec![
        (
            "/dev/loop3".into(),
            Unfit::TooSmall {
                have_bytes: 1,
                need_bytes: 2,
            },
        ),
        ("/dev/loop4".into(), Unfit::ReadOnly),
    ];
    let error = Error::NoSpare {
        lun: "md0".into(),
        missing: 1,
        rejected,
    };
    assert_eq!(
        error.to_string(),
        "md0: 1 member is missing and no drive can take over; /dev/loop3: too small, 1 usable \
         bytes where 2 are needed; /dev/loop4: read-only"
    );
}
