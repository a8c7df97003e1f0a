//! Crash rounds on a real kernel: the daemon, its tools or the whole host die at a moment that the seed
//! chose, under a running writer; then every promise is checked. `scripts/crash-test` runs them.

mod judge;
mod plan;
mod round;
mod score;
mod site;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use plan::{Only, Plan};
use round::Round;
use score::{Findings, Score};
use site::Site;

/// What `scripts/crash-test` wants; without it a short run, always the same.
struct Orders {
    rounds: u64,
    seed: u64,
    only: Option<Only>,
}

impl Orders {
    fn from_env() -> Self {
        let number = |name: &str, without: u64| match std::env::var(name) {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|_| panic!("{name}={text}: not a number")),
            Err(_) => without,
        };
        Self {
            rounds: number("LUND_CRASH_ROUNDS", 8),
            seed: number("LUND_CRASH_SEED", 1),
            only: match std::env::var("LUND_CRASH_ONLY").as_deref() {
                Ok("daemon") => Some(Only::Daemon),
                Ok("power") => Some(Only::Power),
                Ok(other) if !other.is_empty() => {
                    panic!("LUND_CRASH_ONLY={other}: daemon or power")
                }
                _ => None,
            },
        }
    }

    fn replay(&self, plan: &Plan) -> String {
        let only = match (self.only, plan.blow.boots()) {
            (None, _) => "",
            (_, true) => " --only power",
            (_, false) => " --only daemon",
        };
        let kernel = lun_vm::Kernel::from_env().unwrap();
        format!(
            "scripts/crash-test --rounds 1 --seed {} --kernel {kernel}{only}",
            plan.seed
        )
    }
}

#[test]
#[ignore = "needs a virtual machine: scripts/crash-test runs it"]
fn rounds() {
    let orders = Orders::from_env();
    let mut score = Score::default();
    let mut site = None;
    for seed in orders.seed..orders.seed + orders.rounds {
        let plan = Plan::draw(seed, orders.only);
        let began = Instant::now();
        let mut findings = Findings::default();
        let open = site.get_or_insert_with(|| Site::open("crash"));
        let done = catch_unwind(AssertUnwindSafe(|| {
            Round::run(open, plan, &mut score, &mut findings)
        }));
        let told = match done {
            Ok(told) => told,
            Err(panic) => {
                findings.other.push(words_of(&*panic));
                "did not come to its end".to_owned()
            }
        };
        score.rounds += 1;
        score.count(&findings);
        let verdict = if findings.is_clean() { "ok" } else { "FAILED" };
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "seed {seed}: {}; {told}: {verdict}, {seconds:.0} s",
            plan.words()
        );
        for note in &findings.notes {
            println!("    note: {note}");
        }
        if !findings.is_clean() {
            score.failed.push(seed);
            let said = format!("{plan:#?}\n{told}\n{findings}");
            // The next round gets a machine that nothing has happened to.
            let kept = site.take().map(|mut site| site.keep(seed, &said));
            print!("{findings}");
            println!("    kept: {}", kept.unwrap_or_default().display());
            println!("    again: {}", orders.replay(&plan));
        }
    }
    print!("{score}");
    assert!(
        score.failed.is_empty(),
        "seeds that failed: {:?}",
        score.failed
    );
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without words".to_owned())
}
