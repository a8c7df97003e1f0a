//! Runs a scenario on a bench and writes down what was seen.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use lun_core::Error;
use lun_core::action::{Action, Target};
use lun_core::facts::{ArrayFacts, Inventory};
use lun_kernel::ScanRequest;

use super::observe;
use super::script::{Script, Step};

/// How an action ended.
#[derive(Debug)]
pub enum Done {
    /// It came back.
    Answered(Result<(), Error>),
    /// It waits for a drive that hangs.
    Blocked,
}

/// A machine to run scenarios on: the simulated one, or a real one with throw-away drives.
pub trait Bench {
    /// Makes the drives.
    ///
    /// # Errors
    /// In words; the scenario cannot be run.
    fn furnish(&mut self, script: &Script) -> Result<(), String>;

    /// Lets something happen that is no action of the port; the answer is that of the kernel or of
    /// the tool that does it.
    ///
    /// # Errors
    /// In words; the scenario cannot go on.
    fn event(&mut self, array: char, step: &Step) -> Result<String, String>;

    /// Performs an action of the port.
    fn act(&mut self, action: &Action) -> Done;

    /// The answer of the action that blocked, once it has come back.
    ///
    /// # Errors
    /// In words, when there is none or it does not come back.
    fn ended(&mut self) -> Result<String, String>;

    /// Kernel name of an array.
    fn array_name(&self, array: char) -> String;

    /// Name of the volume group.
    fn group(&self) -> String;

    /// A drive as actions name it.
    ///
    /// # Errors
    /// In words, when there is no such drive.
    fn target(&self, drive: char) -> Result<Target, String>;

    /// The leg on a drive, as the set shows it; the drive itself where the set has none there.
    ///
    /// # Errors
    /// In words, when there is no such drive.
    fn leg(&mut self, drive: char) -> Result<Target, String>;

    /// The metadata device of the leg that was made on a drive.
    ///
    /// # Errors
    /// In words, when there is none.
    fn metadata(&mut self, drive: char) -> Result<Target, String>;

    /// The letter of the drive with this kernel name, else the name.
    fn letter(&self, name: &str) -> String;

    /// Scans.
    ///
    /// # Errors
    /// In words.
    fn scan(&mut self, request: &ScanRequest) -> Result<Inventory, String>;

    /// Lets time pass until nothing more happens by itself; tells `passing` of every state seen on
    /// the way. Gives the arrays that exist, by letter.
    ///
    /// # Errors
    /// In words, when the machine does not come to rest.
    fn rest(
        &mut self,
        passing: &mut dyn FnMut(&ArrayFacts),
    ) -> Result<Vec<(char, ArrayFacts)>, String>;
}

/// One step and what it led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The step as it was written.
    pub line: String,
    /// How it was answered.
    pub answer: String,
    /// Every array at rest, one a line.
    pub arrays: Vec<String>,
    /// Sync actions that were shown before it came to rest.
    pub passing: BTreeSet<String>,
}

/// All that was seen of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Name of the scenario.
    pub name: String,
    /// Its steps, up to the first that could not be made.
    pub steps: Vec<Seen>,
    /// Why not all steps could be made.
    pub broke_off: Option<String>,
}

impl Transcript {
    /// The transcript as text: each step, its answer, and each array whose state changed.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("scenario {}\n", self.name);
        let mut before: &[String] = &[];
        for seen in &self.steps {
            let _ = writeln!(text, "  {} -> {}", seen.line, seen.answer);
            for array in seen.arrays.iter().filter(|array| !before.contains(array)) {
                let _ = writeln!(text, "      {array}");
            }
            before = &seen.arrays;
        }
        if let Some(why) = &self.broke_off {
            let _ = writeln!(text, "  broken off: {why}");
        }
        text
    }

    /// What was passed through that neither the simulator passes through nor the scenario allows,
    /// nor was there before or after the step.
    #[must_use]
    pub fn surprises(&self, simulated: &Self, may: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        let mut before: BTreeSet<String> = BTreeSet::new();
        for (seen, expected) in self.steps.iter().zip(&simulated.steps) {
            let after: BTreeSet<String> = seen.arrays.iter().flat_map(|line| words(line)).collect();
            for action in &seen.passing {
                let known = expected.passing.contains(action)
                    || before.contains(action)
                    || after.contains(action)
                    || may.contains(action);
                if !known {
                    found.push(format!("{}: passed through {action}", seen.line));
                }
            }
            before = after;
        }
        found
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Runs a scenario.
pub fn run(bench: &mut dyn Bench, script: &Script) -> Transcript {
    let mut transcript = Transcript {
        name: script.name.clone(),
        steps: Vec::new(),
        broke_off: bench.furnish(script).err(),
    };
    let mut current = 'x';
    for (line, step) in &script.steps {
        if transcript.broke_off.is_some() {
            break;
        }
        match perform(bench, &mut current, step) {
            Ok((answer, mut arrays, passing)) => {
                // Whether a change of the superblocks still waits to be written is chance: for a
                // drive that hangs where the scenario says so, else in an array that broke.
                let means = if script.may_wait { " rw " } else { " broken " };
                for line in &mut arrays {
                    *line = line.replacen(" write-pending ", means, 1);
                }
                transcript.steps.push(Seen {
                    line: line.clone(),
                    answer,
                    arrays,
                    passing,
                });
            }
            Err(why) => transcript.broke_off = Some(format!("{line}: {why}")),
        }
    }
    transcript
}

type Made = (String, Vec<String>, BTreeSet<String>);

fn perform(bench: &mut dyn Bench, current: &mut char, step: &Step) -> Result<Made, String> {
    let answer = match step {
        Step::Use(array) => {
            *current = *array;
            "ok".to_owned()
        }
        Step::Look(drives) => look(bench, *current, drives)?,
        Step::Ended => bench.ended()?,
        _ => match action(bench, *current, step)? {
            Some(action) => match bench.act(&action) {
                Done::Answered(result) => observe::answer(&result),
                Done::Blocked => "blocked".to_owned(),
            },
            None => bench.event(*current, step)?,
        },
    };
    let mut passing = BTreeSet::new();
    let arrays = bench.rest(&mut |facts| {
        if let Some(action) = observe::running(facts) {
            passing.insert(observe::word(&action));
        }
    })?;
    let lines = arrays
        .iter()
        .map(|(array, facts)| {
            let text = observe::array(facts, |name| bench.letter(name));
            format!("{array}: {text}")
        })
        .collect();
    Ok((answer, lines, passing))
}

/// The action of the port that a step is; [`None`] for what merely happens.
fn action(bench: &mut dyn Bench, current: char, step: &Step) -> Result<Option<Action>, String> {
    let array = bench.array_name(current);
    Ok(Some(match step {
        Step::Word(word) => Action::SetSync { array, word: *word },
        Step::ClearResync => Action::ClearResyncStart {
            array,
            fill_first: false,
        },
        Step::WholeRange => Action::WholeRange { array },
        Step::ReadWrite => Action::MakeReadWrite { array },
        Step::Add(drive) => Action::AddSpare {
            array,
            drive: bench.target(*drive)?,
        },
        Step::ReAdd(drive) => Action::ReAdd {
            array,
            drive: bench.target(*drive)?,
        },
        Step::Fail(drive) => Action::FailMember {
            array,
            drive: bench.target(*drive)?,
        },
        Step::Remove(drive) => Action::RemoveMember {
            array,
            drive: bench.target(*drive)?,
        },
        Step::Want(drive) => Action::WantReplacement {
            array,
            drive: bench.target(*drive)?,
        },
        Step::SetSlot(drive, slot) => Action::SetSlot {
            array,
            drive: bench.target(*drive)?,
            slot: *slot,
        },
        Step::Wipe(drive) => Action::Wipe {
            drive: bench.target(*drive)?,
            former: None,
        },
        Step::Revive(drive) => Action::Revive {
            array,
            drive: bench.leg(*drive)?,
        },
        Step::Leg(slot, drive) => Action::ReplaceLeg {
            array,
            slot: *slot,
            drive: bench.target(*drive)?,
        },
        Step::Forget(drive) => Action::ForgetLeg {
            array,
            drive: bench.metadata(*drive)?,
        },
        Step::DropTable => Action::DropTable { array },
        Step::RepairVolume => Action::RepairVolume {
            array,
            onto: Vec::new(),
        },
        Step::Extend(drive) => Action::ExtendGroup {
            array,
            group: bench.group(),
            drive: bench.target(*drive)?,
        },
        _ => return Ok(None),
    }))
}

/// What is written on drives that are in no array.
fn look(bench: &mut dyn Bench, current: char, drives: &str) -> Result<String, String> {
    let array = bench.array_name(current);
    let targets: Vec<(char, Target)> = drives
        .chars()
        .map(|letter| Ok((letter, bench.target(letter)?)))
        .collect::<Result<_, String>>()?;
    let inventory = bench.scan(&ScanRequest {
        probe: targets.iter().map(|(_, target)| target.dev).collect(),
        events_of: [array.clone()].into_iter().collect(),
        ..ScanRequest::default()
    })?;
    let facts = inventory.arrays.get(&array);
    let own = facts.and_then(|facts| {
        let uuid = (*facts.uuid.known()?)?;
        Some((uuid, *facts.events.known()?))
    });
    let told: Vec<String> = targets
        .iter()
        .map(|(letter, target)| {
            let text = inventory.probes.get(&target.dev).map_or_else(
                || "not there".to_owned(),
                |probe| observe::probe(probe, own),
            );
            format!("{letter}: {text}")
        })
        .collect();
    Ok(told.join("; "))
}
