//! Who may do what, with a polkit that answers as the test wants.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lun_core::Hresult;
use lun_core::action::{Action, SyncWord};
use lun_ipc::names::{DRIVE_INTERFACE, MD_CONTROLLER_PATH, ROOT_PATH, SUB_SYSTEM_PATH};
use lun_ipc::{CancelOptions, RecoverOptions, RemoteError};
use lund::bus::Patience;
use tokio::sync::Notify;
use zbus::{Connection, OwnedVariant};
use zbus_polkit::policykit1::{AuthorizationResult, CheckAuthorizationFlags};

use crate::rig::{PATIENCE, Rig, User, block_on, refused, remote};
use crate::rights::{TABLE, busctl, call_of, methods};

const DENIED: Hresult = Hresult::VDS_E_ACCESS_DENIED;

/// What polkit was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    /// Bus name of who is asked about.
    subject: String,
    action: String,
    object: String,
    interactive: bool,
    question: String,
}

#[derive(Debug, Default)]
struct State {
    granted: BTreeSet<String>,
    asked: Vec<Asked>,
    withdrawn: Vec<String>,
    /// It never answers.
    silent: bool,
}

/// A polkit that grants what it is told to.
#[derive(Debug, Clone, Default)]
struct Fake {
    state: Arc<Mutex<State>>,
    told: Arc<Notify>,
}

#[zbus::interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Fake {
    async fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedVariant>),
        action: String,
        details: HashMap<String, String>,
        flags: CheckAuthorizationFlags,
        question: String,
    ) -> AuthorizationResult {
        assert_eq!(subject.0, "system-bus-name");
        let (authorized, silent) = {
            let mut state = self.state.lock().unwrap();
            state.asked.push(Asked {
                subject: subject.1["name"].clone().try_into().unwrap(),
                action: action.clone(),
                object: details["object"].clone(),
                interactive: flags.contains(CheckAuthorizationFlags::ALLOW_USER_INTERACTION),
                question,
            });
            (state.granted.contains(&action), state.silent)
        };
        self.told.notify_one();
        if silent {
            std::future::pending::<()>().await;
        }
        AuthorizationResult {
            is_authorized: authorized,
            is_challenge: false,
            details: HashMap::new(),
        }
    }

    async fn cancel_check_authorization(&self, question: String) {
        self.state.lock().unwrap().withdrawn.push(question);
        self.told.notify_one();
    }
}

impl Fake {
    /// Puts it on the bus, for as long as the connection lives.
    async fn start(rig: &Rig) -> (Self, Connection) {
        let fake = Self::default();
        let connection = zbus::connection::Builder::address(rig.address())
            .name("org.freedesktop.PolicyKit1")
            .serve_at("/org/freedesktop/PolicyKit1/Authority", fake.clone())
            .build()
            .await
            .unwrap();
        (fake, connection)
    }

    fn grant(&self, rights: &[&str]) {
        let granted = rights.iter().map(|right| format!("org.lund.Vds1.{right}"));
        self.state.lock().unwrap().granted = granted.collect();
    }

    /// What was asked since the last look.
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }
}

/// A daemon that asks about everybody, and a polkit to be asked.
fn judged(scenario: &str, patience: Patience, test: impl AsyncFnOnce(&Rig, User, Fake)) {
    let rig = Rig::judged(lun_sim::scenario::by_name(scenario).unwrap(), patience);
    block_on(async {
        let (fake, _connection) = Fake::start(&rig).await;
        let user = rig.client().await;
        test(&rig, user, fake).await;
    });
}

fn names(asked: &[Asked]) -> Vec<&str> {
    asked
        .iter()
        .filter_map(|asked| asked.action.strip_prefix("org.lund.Vds1."))
        .collect()
}

/// A method call by `busctl`; the fake works meanwhile.
async fn call(rig: &Rig, words: Vec<String>) -> Result<String, String> {
    let address = rig.address().to_owned();
    let output = tokio::task::spawn_blocking(move || busctl(&address, &words))
        .await
        .unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// A check that the kernel runs, begun by nobody that the service knows.
fn check_by_hand(rig: &Rig) {
    let check = Action::SetSync {
        array: "md0".to_owned(),
        word: SyncWord::Check,
    };
    rig.sim.with(|world| world.act(&check)).unwrap();
}

#[test]
fn every_method_takes_its_right_and_no_other() {
    judged("mirror", Patience::default(), async |rig, user, fake| {
        check_by_hand(rig);
        user.until("an operation of the kernel", |view| !view.ops.is_empty())
            .await;
        let drive = user.client.drive("sda").await.unwrap();
        assert_eq!(drive.inner().interface().as_str(), DRIVE_INTERFACE);
        let plex = lun_ipc::names::plex_path(user.lun("md0").await.plexes[0].id).to_string();
        let op = lun_ipc::names::op_path(user.view().await.ops[0].id);
        let paths = BTreeMap::from([
            ("Provider", ROOT_PATH.to_owned()),
            ("SubSystem", SUB_SYSTEM_PATH.to_owned()),
            ("Controller", MD_CONTROLLER_PATH.to_owned()),
            ("Lun", user.lun_path("md0").await.to_string()),
            ("Plex", plex),
            ("Drive", drive.inner().path().to_string()),
            ("Async", op.to_string()),
        ]);
        let mut real = BTreeSet::new();
        for path in paths.values() {
            let words = [
                "call",
                "org.lund.Vds1",
                path,
                "org.freedesktop.DBus.Introspectable",
                "Introspect",
            ];
            let answer = call(rig, words.map(str::to_owned).to_vec()).await.unwrap();
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
            real.extend(methods(answer["data"][0].as_str().unwrap()));
        }
        let rows: BTreeSet<(String, String)> = TABLE
            .iter()
            .map(|row| (row.object.to_owned(), row.method.to_owned()))
            .collect();
        assert_eq!(rows, real, "the table has every method");
        for row in TABLE {
            let what = format!("{}.{}", row.object, row.method);
            let words = call_of(row, &paths[row.object], "sda");
            let answer = call(rig, words.clone()).await;
            let asked = fake.asked();
            if row.right.is_empty() {
                assert_eq!(asked, [], "{what} is free");
                continue;
            }
            assert_eq!(names(&asked), [row.right], "{what}");
            let action = format!("org.lund.Vds1.{}", row.right);
            let said = answer.unwrap_err();
            assert!(
                said.contains("is not allowed to") && said.contains(&action),
                "{said}"
            );
            // And with the right, and no other, it is let through, whatever comes of it.
            fake.grant(&[row.right]);
            let answer = call(rig, words).await;
            assert!(
                answer
                    .as_ref()
                    .err()
                    .is_none_or(|said| !said.contains("is not allowed to")),
                "{what}: {answer:?}"
            );
            fake.grant(&[]);
            fake.asked();
        }
        rig.sound();
    });
}

#[test]
fn who_began_an_operation_cancels_it_by_another_right_than_others() {
    judged(
        "mirror-degraded",
        Patience::default(),
        async |rig, user, fake| {
            fake.grant(&["recover"]);
            let op = user.recover("md0", Some("sdc")).await.unwrap();
            fake.asked();
            let refusal = op.cancel(false).await;
            assert!(
                refusal
                    .as_ref()
                    .is_err_and(|error| error.message.contains(".cancel-own"))
            );
            refused(refusal, "AccessDenied", DENIED);
            fake.grant(&["cancel-other"]);
            refused(op.cancel(false).await, "AccessDenied", DENIED);
            fake.grant(&["cancel-own"]);
            op.cancel(false).await.unwrap();
            assert_eq!(op.wait().await, Hresult::VDS_E_OPERATION_CANCELED);
            rig.sound();
        },
    );
}

#[test]
fn a_recovery_that_may_rewrite_takes_both_rights() {
    judged("mirror", Patience::default(), async |_rig, user, fake| {
        let lun = user.client.lun("md0").await.unwrap();
        let repair = RecoverOptions {
            repair: true,
            ..RecoverOptions::default()
        };
        for (granted, asked) in [
            (&["scrub"][..], &["recover"][..]),
            (&["recover"], &["recover", "scrub"]),
        ] {
            fake.grant(granted);
            let answer = lun.recover(repair.to_dict()).await.map_err(remote);
            refused(answer, "AccessDenied", DENIED);
            assert_eq!(names(&fake.asked()), asked);
        }
        fake.grant(&["recover", "scrub"]);
        lun.recover(repair.to_dict()).await.unwrap();
    });
}

#[test]
fn polkit_is_asked_about_the_sender_and_may_ask_back_if_the_sender_says_so() {
    judged("mirror", Patience::default(), async |rig, user, fake| {
        refused(user.verify("md0").await, "AccessDenied", DENIED);
        let asked = fake.asked();
        let me = user.client.connection().unique_name().unwrap().to_string();
        let [first] = asked.as_slice() else {
            panic!("asked once: {asked:?}")
        };
        assert_eq!((&first.subject, first.object.as_str()), (&me, "md0"));
        assert!(first.interactive, "lunctl lets it ask for a password");
        let quiet = ["--allow-interactive-authorization=no".to_owned()];
        let lun = user.lun_path("md0").await.to_string();
        let row = TABLE.iter().find(|row| row.method == "Verify").unwrap();
        let words = quiet.into_iter().chain(call_of(row, &lun, "sda")).collect();
        call(rig, words).await.unwrap_err();
        assert!(!fake.asked()[0].interactive);
    });
}

#[test]
fn without_polkit_the_refusal_says_so() {
    let world = lun_sim::scenario::by_name("mirror").unwrap();
    let rig = Rig::judged(world, Patience::default());
    block_on(async {
        let user = rig.client().await;
        let error = user.verify("md0").await.map(drop).unwrap_err();
        for part in [
            "org.lund.Vds1.scrub",
            "polkit does not answer",
            "only root may",
        ] {
            assert!(error.message.contains(part), "{part}: {error:?}");
        }
        assert!(
            error
                .hint
                .as_ref()
                .is_some_and(|hint| hint.contains("root")),
            "{error:?}"
        );
        refused(Err::<(), RemoteError>(error), "AccessDenied", DENIED);
        user.lun("md0").await;
    });
}

#[test]
fn a_polkit_that_never_answers_keeps_nobody_waiting() {
    let patience = Patience {
        rules: Duration::from_secs(60),
        people: Duration::from_millis(500),
    };
    judged("mirror-degraded", patience, async |rig, user, fake| {
        fake.grant(&["recover"]);
        let op = user.recover("md0", Some("sdc")).await.unwrap();
        let others = rig.client().await;
        fake.asked();
        fake.state.lock().unwrap().silent = true;
        let cancel = async {
            let options = CancelOptions::default();
            op.proxy.cancel(options.to_dict()).await.map_err(remote)
        };
        let meanwhile = async {
            while fake.state.lock().unwrap().asked.is_empty() {
                fake.told.notified().await;
            }
            // The question is open, and everybody is served.
            others.lun("md0").await;
        };
        let (answer, ()) = futures_util::future::join(cancel, meanwhile).await;
        assert!(
            answer
                .as_ref()
                .is_err_and(|error| error.message.contains("did not answer in 500 ms"))
        );
        refused(answer, "AccessDenied", DENIED);
        let withdrawn = async {
            while fake.state.lock().unwrap().withdrawn.is_empty() {
                fake.told.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, withdrawn).await.unwrap();
        let question = fake.asked()[0].question.clone();
        assert_eq!(fake.state.lock().unwrap().withdrawn, [question]);
        rig.sound();
    });
}
