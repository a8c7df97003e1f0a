//! The program of `[notify]`: told of everything that is notified, one run after the other, by arguments
//! and a document on its standard input. Nothing here makes anybody wait: what cannot be told in time is
//! dropped, the oldest first, and the number of what was dropped is told with the next.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Notifications that may wait for the program.
const WAITING: usize = 64;
/// How long a program that was killed may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// The program and how long one run may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Absolute path.
    pub program: PathBuf,
    /// A run that takes longer is killed.
    pub deadline: Duration,
}

/// One thing to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// `decision`, `operation`, `change` or `remark`.
    pub word: &'static str,
    /// Name of the LUN; `-`: none in particular.
    pub lun: String,
    /// Verdict of a decision, state of an operation, name of the event; `-`: none.
    pub detail: String,
    /// The document.
    pub document: Value,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Told>,
    dropped: u64,
    running: bool,
}

/// Tells a program what happens.
#[derive(Debug, Clone)]
pub struct Hook {
    settings: Settings,
    queue: Arc<Mutex<Queue>>,
}

impl Hook {
    /// Nothing runs before something is to be told.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            queue: Arc::default(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues one thing; never blocks.
    pub fn tell(&self, told: Told) {
        let mut queue = self.queue();
        if queue.waiting.len() >= WAITING {
            queue.waiting.pop_front();
            queue.dropped += 1;
        }
        queue.waiting.push_back(told);
        if std::mem::replace(&mut queue.running, true) {
            return;
        }
        drop(queue);
        let hook = self.clone();
        let spawned = std::thread::Builder::new()
            .name("lund-notify".to_owned())
            .spawn(move || hook.tell_all());
        if let Err(error) = spawned {
            tracing::error!("nobody is notified, no thread can be had: {error}");
            self.queue().running = false;
        }
    }

    /// Tells what waits, until nothing does.
    fn tell_all(&self) {
        loop {
            let mut queue = self.queue();
            let Some(mut told) = queue.waiting.pop_front() else {
                queue.running = false;
                return;
            };
            let dropped = std::mem::take(&mut queue.dropped);
            drop(queue);
            if dropped > 0 {
                tracing::warn!("{dropped} notifications were dropped, the program is too slow");
            }
            if let Value::Object(map) = &mut told.document {
                map.insert("dropped".to_owned(), json!(dropped));
            }
            if let Err(why) = run(&self.settings.program, self.settings.deadline, &told) {
                tracing::error!("{}: {why}", self.settings.program.display());
            }
        }
    }
}

/// The document lies in memory, so that a program that does not read it keeps nobody waiting.
fn standard_input(document: &Value) -> std::io::Result<File> {
    let mut file = File::from(memfd_create(c"lund-notification", MFdFlags::MFD_CLOEXEC)?);
    serde_json::to_writer(&file, document)?;
    file.write_all(b"\n")?;
    file.rewind()?;
    Ok(file)
}

/// Runs the program once, without a shell and with an environment of two words.
fn run(program: &Path, deadline: Duration, told: &Told) -> Result<(), String> {
    let input = standard_input(&told.document).map_err(|error| format!("not started: {error}"))?;
    let mut child = Command::new(program)
        .args([told.word, &told.lun, &told.detail])
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .process_group(0)
        .stdin(input)
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("not started: {error}"))?;
    let group = i32::try_from(child.id()).map(Pid::from_raw);
    let (ended, end) = mpsc::channel();
    std::thread::Builder::new()
        .name("lund-notify-end".to_owned())
        .spawn(move || {
            // Nobody listens any more when even the kill did not help.
            let _ = ended.send(child.wait());
        })
        .map_err(|error| format!("not waited for, no thread can be had: {error}"))?;
    if let Ok(status) = end.recv_timeout(deadline) {
        return judge(&status.map_err(|error| error.to_string())?);
    }
    let killed = group.map_err(|error| error.to_string());
    killed.and_then(|group| killpg(group, Signal::SIGKILL).map_err(|error| error.to_string()))?;
    let gone = end.recv_timeout(KILL_PATIENCE).is_ok();
    let then = if gone {
        "killed"
    } else {
        "killed, and it is not gone"
    };
    Err(format!(
        "it took more than {} s: {then}",
        deadline.as_secs()
    ))
}

fn judge(status: &ExitStatus) -> Result<(), String> {
    if status.success() {
        Ok(())
    } else {
        Err(format!("it ended with {status}"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    use super::*;

    fn told(number: u64) -> Told {
        Told {
            word: "remark",
            lun: "md0".to_owned(),
            detail: number.to_string(),
            document: json!({"number": number}),
        }
    }

    /// A program that writes down its arguments, its environment and its input, and then does this.
    fn program(folder: &Path, then: &str) -> PathBuf {
        let path = folder.join("program");
        let text = format!(
            "#!/bin/sh\n{{ echo \"$@\"; env | cut -d= -f1 | sort | tr '\\n' ' '; cat; }} >>'{}/said'\n{then}\n",
            folder.display()
        );
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn it_is_told_by_arguments_and_a_document() {
        let folder = tempfile::tempdir().unwrap();
        let program = program(folder.path(), "");
        run(&program, Duration::from_secs(30), &told(7)).unwrap();
        let said = std::fs::read_to_string(folder.path().join("said")).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.first(), Some(&"remark md0 7"), "{said}");
        assert!(said.contains("LC_ALL") && said.contains("PATH"), "{said}");
        assert!(
            !said.contains("CARGO"),
            "the environment is not handed on: {said}"
        );
        assert!(said.contains("{\"number\":7}"), "{said}");
    }

    #[test]
    fn one_that_fails_hangs_or_is_missing_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let at_once = Duration::from_millis(200);
        let failing = program(folder.path(), "exit 3");
        let why = run(&failing, Duration::from_secs(30), &told(1)).unwrap_err();
        assert!(why.contains("exit status: 3"), "{why}");
        let hanging = program(folder.path(), "exec sleep 1000");
        let began = Instant::now();
        let why = run(&hanging, at_once, &told(1)).unwrap_err();
        assert!(why.ends_with("killed"), "{why}");
        assert!(began.elapsed() < KILL_PATIENCE);
        let why = run(Path::new("/nonsense"), at_once, &told(1)).unwrap_err();
        assert!(why.starts_with("not started"), "{why}");
    }

    #[test]
    fn a_slow_program_costs_the_oldest_and_nobody_waits() {
        let hook = Hook::new(Settings {
            program: "/nonsense".into(),
            deadline: Duration::from_secs(1),
        });
        // As if one run went on all the time.
        hook.queue().running = true;
        for number in 0..100 {
            hook.tell(told(number));
        }
        let queue = hook.queue();
        assert_eq!((queue.waiting.len(), queue.dropped), (WAITING, 36));
        assert_eq!(
            queue.waiting.front().map(|told| told.detail.as_str()),
            Some("36")
        );
    }
}
