//! Runs many seeded schedules, or replays one with its story; see `scripts/campaign --help`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use lun_sim::campaign::{self, Failure, Kind, Tally};

const USAGE: &str = "\
usage: campaign [--schedules N] [--seed FIRST] [--threads T] [--failures N] [--raid-sets] [--replay SEED]

  --schedules N   how many schedules are run (1000000)
  --seed FIRST    seed of the first; the others follow (0)
  --threads T     threads (all processors)
  --failures N    goes on until so many schedules have failed (1)
  --raid-sets     runs the schedule of raid sets of every seed, and no other
  --replay SEED   runs this one alone and tells its story";

struct Options {
    schedules: u64,
    first: u64,
    threads: u64,
    failures: usize,
    replay: Option<u64>,
    raid_sets: bool,
}

fn options() -> Result<Options, String> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let mut options = Options {
        schedules: 1_000_000,
        first: 0,
        threads,
        failures: 1,
        replay: None,
        raid_sets: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--help" || word == "-h" {
            return Err(String::new());
        }
        if word == "--raid-sets" {
            options.raid_sets = true;
            continue;
        }
        let value = words
            .next()
            .ok_or_else(|| format!("{word} needs a number"))?;
        let number: u64 = value
            .replace('_', "")
            .parse()
            .map_err(|_| format!("{word}: {value:?} is no number"))?;
        match word.as_str() {
            "--schedules" => options.schedules = number,
            "--seed" => options.first = number,
            "--threads" => options.threads = number.max(1),
            "--failures" => options.failures = usize::try_from(number).unwrap_or(1),
            "--replay" => options.replay = Some(number),
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    Ok(options)
}

/// Runs schedules until there are no more, or enough have failed.
fn work(
    options: &Options,
    next: &AtomicU64,
    stop: &AtomicBool,
    failed: &Mutex<Vec<Failure>>,
) -> Tally {
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= options.schedules {
            break;
        }
        let seed = options.first + index;
        let outcome = match options.raid_sets {
            true => campaign::run_one(seed, Kind::RaidSets),
            false => campaign::run(seed),
        };
        match outcome {
            Ok(figures) => tally.add(&figures),
            Err(failure) => {
                tally.schedules += 1;
                let Ok(mut failed) = failed.lock() else { break };
                failed.push(*failure);
                if failed.len() >= options.failures {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }
    tally
}

fn run(options: &Options) -> ExitCode {
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let failed = Mutex::new(Vec::new());
    let began = Instant::now();
    let mut tally = Tally::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads)
            .map(|_| scope.spawn(|| work(options, &next, &stop, &failed)))
            .collect();
        for thread in threads {
            if let Ok(figures) = thread.join() {
                tally.add(&figures);
            }
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let failed = failed.into_inner().unwrap_or_default();
    print(&tally, options, seconds);
    for failure in &failed {
        eprintln!("{failure}");
    }
    if let Some(first) = failed.iter().min_by_key(|failure| failure.seed)
        && let Err(told) = campaign::replay(first.seed, first.kind)
        && options.failures == 1
    {
        eprintln!("{told}");
    }
    println!("{} violations", failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn print(tally: &Tally, options: &Options, seconds: f64) {
    let last = options.first + options.schedules.saturating_sub(1);
    println!(
        "{} schedules (seeds {}..={last}) in {seconds:.1} s on {} threads: {:.0} a second",
        tally.schedules,
        options.first,
        options.threads,
        tally.schedules as f64 / seconds.max(0.001)
    );
    println!(
        "{:.0} hours of virtual time, {} inputs, {} actions, {} calls granted",
        tally.virtual_ms as f64 / 3_600_000.0,
        tally.steps,
        tally.acts,
        tally.accepted
    );
    println!("operations by their end: {:?}", tally.ends);
    println!("arrays in the end: {:?}", tally.arrays);
    println!("decisions: {:?}", tally.decisions);
    println!("refusals: {:?}", tally.refusals);
    println!("faults:");
    for (kind, count) in &tally.faults {
        println!("  {count:>10} {kind}");
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let Some(seed) = options.replay else {
        return run(&options);
    };
    let kind = match options.raid_sets {
        true => Kind::RaidSets,
        false => Kind::Arrays,
    };
    match campaign::replay(seed, kind) {
        Ok((tally, story)) => {
            println!(
                "{}\nseed {seed} breaks no promise: {tally:?}",
                story.join("\n")
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::from(1)
        }
    }
}
