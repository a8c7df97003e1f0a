//! Runs the scenarios of `lun_sim::truth` on the simulator, or on the kernel of the machine it
//! runs on. The latter makes arrays, takes drives away and changes parameters of the md driver: it
//! is for throw-away machines (`scripts/truth`), and wants root.
//!
//!     truth list
//!     truth run --on sim [--style 6.1|6.12|7] [NAME...]
//!     truth run --on linux [--style 6.1|6.12|7] [NAME...]
//!
//! Prints a transcript of each scenario. Of a real kernel it also prints what it passed through that
//! the simulator in that style does not. With no style the running kernel's is taken.

mod lab;
mod parts;
mod sets;
mod volumes;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lun_sim::KernelStyle;
use lun_sim::truth::{self, Script};

/// Scenarios that run at the same time on a real kernel. Most of the time they wait.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["list"] => list(),
        ["run", "--on", side, rest @ ..] => run(side, rest),
        _ => Err("usage: truth list | truth run --on sim|linux [--style S] [NAME...]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), String> {
    for script in truth::scripts()? {
        println!("{}", script.name);
    }
    Ok(())
}

fn run(side: &str, rest: &[&str]) -> Result<(), String> {
    let (style, names) = match rest {
        ["--style", style, names @ ..] => (Some(named_style(style)?), names),
        names => (None, names),
    };
    let mut scripts = truth::scripts()?;
    if let Some(unknown) = names.iter().find(|n| scripts.iter().all(|s| s.name != **n)) {
        return Err(format!("no scenario is called {unknown}"));
    }
    scripts.retain(|script| names.is_empty() || names.contains(&script.name.as_str()));
    match side {
        "sim" => {
            let style = style.unwrap_or_default();
            for script in &scripts {
                print!("{}", truth::simulated(script, style).text());
            }
            Ok(())
        }
        "linux" => {
            let style = style.map_or_else(running_style, Ok)?;
            lab::prepare()?;
            for text in on_linux(&scripts, style) {
                print!("{text}");
            }
            Ok(())
        }
        other => Err(format!("there is no side {other}")),
    }
}

/// Runs the scenarios, several at a time; the transcripts come in their order.
fn on_linux(scripts: &[Script], style: KernelStyle) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let texts = Mutex::new(vec![String::new(); scripts.len()]);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(script) = scripts.get(index) else {
                        return;
                    };
                    let text = one(index, script, style);
                    if let Ok(mut texts) = texts.lock()
                        && let Some(place) = texts.get_mut(index)
                    {
                        *place = text;
                    }
                }
            });
        }
    });
    texts.into_inner().unwrap_or_default()
}

fn one(index: usize, script: &Script, style: KernelStyle) -> String {
    let began = std::time::Instant::now();
    let mut lab = lab::Lab::new(index);
    let seen = truth::run(&mut lab, script);
    let mut text = seen.text();
    for surprise in seen.surprises(&truth::simulated(script, style), &script.may) {
        text.push_str(&format!("  surprise: {surprise}\n"));
    }
    if let Err(error) = lab.clean_up() {
        text.push_str(&format!("  not cleaned up: {error}\n"));
    }
    eprintln!("{} {} ms", script.name, began.elapsed().as_millis());
    text
}

fn named_style(name: &str) -> Result<KernelStyle, String> {
    match name {
        "6.1" => Ok(KernelStyle::V6_1),
        "6.12" => Ok(KernelStyle::V6_12),
        "7" => Ok(KernelStyle::V7),
        other => Err(format!("there is no style {other}")),
    }
}

/// The style of the running kernel, by its version.
fn running_style() -> Result<KernelStyle, String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_err(|error| format!("osrelease: {error}"))?;
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|n| n.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(7..), _) => Ok(KernelStyle::V7),
        (Some(6), Some(11..)) => Ok(KernelStyle::V6_12),
        (Some(6), Some(_)) => Ok(KernelStyle::V6_1),
        _ => Err(format!("no style is known for kernel {}", release.trim())),
    }
}
