//! What can go wrong, with what was tried and what to do next.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Output;

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a machine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such kernel.
    #[error("unknown kernel {0:?}: one of bookworm (Linux 6.1), trixie (6.12), sid (7.x)")]
    UnknownKernel(String),
    /// The image could not be made.
    #[error("cannot build the {kernel} image: vm/build ended with {status}; its words:\n{log}")]
    Build {
        /// Which image.
        kernel: String,
        /// How `vm/build` ended.
        status: String,
        /// The end of its standard error.
        log: String,
    },
    /// A host program could not be run, or a file not be handled.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// QEMU is not there any more, or never was.
    #[error("{machine}: {what}; QEMU's words ({}):\n{words}\nlast console lines:\n{console}", log.display())]
    Qemu {
        /// Which machine.
        machine: String,
        /// What was tried.
        what: String,
        /// Where QEMU's standard error went.
        log: PathBuf,
        /// What is in it.
        words: String,
        /// What the guest printed last.
        console: String,
    },
    /// The monitor refused a command or said something unexpected.
    #[error("QEMU's monitor: {0}")]
    Monitor(String),
    /// The agent did not answer or the job did not end in time.
    #[error(
        "{machine}: {what} did not finish within {} s; next: raise the deadline if the machine is \
         loaded, or look at the evidence folder printed when the test fails\n{context}",
        deadline.as_secs()
    )]
    Deadline {
        /// Which machine.
        machine: String,
        /// What was waited for.
        what: String,
        /// How long.
        deadline: Duration,
        /// What was seen until then.
        context: String,
    },
    /// A script ended with a status other than 0.
    #[error("{machine}: status {} from: {script}\n--- stdout\n{}\n--- stderr\n{}", output.status,
        String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))]
    Script {
        /// Which machine.
        machine: String,
        /// What was run.
        script: String,
        /// What came of it.
        output: Output,
    },
    /// The guest went away while a job ran.
    #[error("{machine}: {what}: the guest went away ({why})")]
    Gone {
        /// Which machine.
        machine: String,
        /// What was waited for.
        what: String,
        /// Reboot, power cut, QEMU's end.
        why: String,
    },
    /// The caller asked for something impossible.
    #[error("{0}")]
    Usage(String),
}

/// Attaches what was tried to an I/O error.
pub(crate) trait Tried<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Tried<T> for std::result::Result<T, E> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Io {
            what: what(),
            source: error.into(),
        })
    }
}

/// The last `lines` lines of a file, or why they cannot be had.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => last_lines(&String::from_utf8_lossy(&bytes), lines),
        Err(error) => format!("({}: {error})", path.display()),
    }
}

pub(crate) fn last_lines(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.split_at(all.len().saturating_sub(lines)).1.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\n", 60), "a");
        assert_eq!(last_lines("", 3), "");
    }
}
