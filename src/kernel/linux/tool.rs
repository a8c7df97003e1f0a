//! Running `mdadm` and `wipefs`: by absolute path, without a shell, with an empty environment, a
//! deadline and bounded output.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lun_core::Error;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Writes superblocks.
pub(crate) const MDADM: &str = "mdadm";
/// Finds and erases signatures.
pub(crate) const WIPEFS: &str = "wipefs";

/// Switches the lights of enclosures.
pub(crate) const LEDCTL: &str = "ledctl";

/// Output kept of one stream, bytes; more is read and dropped.
const KEPT: usize = 64 * 1024;
/// How often a child that has closed its output is asked whether it has ended.
const REAP_EVERY: Duration = Duration::from_millis(5);

/// Where the tools are and how long they may take.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// Folders searched, in order.
    pub(crate) folders: Vec<PathBuf>,
    /// Time for one run.
    pub(crate) deadline: Duration,
}

impl Default for Tools {
    fn default() -> Self {
        let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        Self {
            folders: folders.into_iter().map(PathBuf::from).collect(),
            deadline: Duration::from_secs(30),
        }
    }
}

/// What a tool said.
#[derive(Debug)]
pub(crate) struct Output {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Tools {
    /// Runs a tool; an exit status other than 0 is an error.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Result<Output, Error> {
        let output = self.run_any(program, args)?;
        if output.status.success() {
            return Ok(output);
        }
        let said = if output.stderr.trim().is_empty() {
            &output.stdout
        } else {
            &output.stderr
        };
        Err(tool_error(
            program,
            args,
            &output.status.to_string(),
            said.trim(),
        ))
    }

    /// Where a tool is.
    pub(crate) fn find(&self, program: &str) -> Option<PathBuf> {
        let mut paths = self.folders.iter().map(|folder| folder.join(program));
        paths.find(|path| path.is_file())
    }

    /// Runs a tool, whatever its exit status.
    pub(crate) fn run_any(&self, program: &str, args: &[&str]) -> Result<Output, Error> {
        let path = self.find(program).ok_or_else(|| {
            let places: Vec<_> = self
                .folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect();
            let detail = format!("there is no such program in {}", places.join(", "));
            tool_error(program, args, "not started", &detail)
        })?;
        let mut child = Command::new(&path)
            .args(args)
            .env_clear()
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| tool_error(program, args, "not started", &error.to_string()))?;
        let until = Instant::now() + self.deadline;
        let ended = collect(&mut child, until)
            .and_then(|(stdout, stderr)| Some((stdout, stderr, reap(&mut child, until)?)));
        match ended {
            Some((stdout, stderr, status)) => Ok(Output {
                status,
                stdout,
                stderr,
            }),
            None => {
                abandon(child);
                Err(Error::Timeout {
                    what: format!("{} {}", path.display(), args.join(" ")),
                    after_ms: u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX),
                })
            }
        }
    }
}

fn tool_error(program: &str, args: &[&str], status: &str, stderr: &str) -> Error {
    Error::Tool {
        program: program.to_owned(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        status: status.to_owned(),
        stderr: stderr.to_owned(),
    }
}

/// One stream of a child.
struct Stream {
    file: File,
    kept: Vec<u8>,
    open: bool,
}

impl Stream {
    fn new(fd: OwnedFd) -> Self {
        Self {
            file: File::from(fd),
            kept: Vec::new(),
            open: true,
        }
    }

    /// Reads once what is there, and notes the end.
    fn take(&mut self) {
        let mut buffer = [0_u8; 4096];
        match self.file.read(&mut buffer) {
            Ok(0) => self.open = false,
            Ok(count) => {
                let room = KEPT.saturating_sub(self.kept.len());
                self.kept.extend(buffer.iter().take(count.min(room)));
            }
            Err(error) => self.open = error.kind() == std::io::ErrorKind::Interrupted,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

/// Reads both streams to their ends; [`None`] when that takes longer than allowed.
fn collect(child: &mut Child, until: Instant) -> Option<(String, String)> {
    let out = Stream::new(OwnedFd::from(child.stdout.take()?));
    let err = Stream::new(OwnedFd::from(child.stderr.take()?));
    let mut streams = [out, err];
    while streams.iter().any(|stream| stream.open) {
        let left = until.checked_duration_since(Instant::now())?;
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        // Only open streams are asked: one that has ended reports so for ever.
        let mut fds: Vec<_> = streams
            .iter()
            .filter(|stream| stream.open)
            .map(|stream| PollFd::new(stream.file.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let open = streams.iter_mut().filter(|stream| stream.open);
        for (stream, _) in open.zip(ready).filter(|(_, ready)| *ready) {
            stream.take();
        }
    }
    let [out, err] = &streams;
    Some((out.text(), err.text()))
}

/// Waits for the end of a child that has closed its output.
fn reap(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => thread::sleep(REAP_EVERY),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Kills a child and leaves its reaping to a thread: one that hangs in the kernel does not die
/// before its I/O ends.
fn abandon(mut child: Child) {
    let _ = child.kill();
    let reaper = thread::Builder::new().name("reaper".to_owned());
    if let Err(error) = reaper.spawn(move || child.wait()) {
        tracing::warn!(%error, "no thread to wait for a killed tool");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(deadline: Duration) -> Tools {
        Tools {
            deadline,
            ..Tools::default()
        }
    }

    #[test]
    fn keeps_both_streams_and_the_status() {
        let output =
            tools(Duration::from_secs(10)).run_any("sh", &["-c", "echo a; echo b >&2; exit 3"]);
        let output = output.unwrap();
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("a\n", "b\n")
        );
        assert_eq!(output.status.code(), Some(3));
        let error = tools(Duration::from_secs(10)).run("sh", &["-c", "echo b >&2; exit 3"]);
        assert!(matches!(error, Err(Error::Tool { stderr, .. }) if stderr == "b"));
    }

    #[test]
    fn the_environment_is_empty_and_much_output_is_cut() {
        let output = tools(Duration::from_secs(10)).run("env", &[]).unwrap();
        assert_eq!(output.stdout, "LC_ALL=C\n");
        let output = tools(Duration::from_secs(10)).run("head", &["-c", "300000", "/dev/zero"]);
        assert_eq!(output.unwrap().stdout.len(), KEPT);
    }

    #[test]
    fn a_late_tool_is_killed() {
        let before = Instant::now();
        let error = tools(Duration::from_millis(100)).run("sleep", &["60"]);
        assert!(matches!(error, Err(Error::Timeout { after_ms: 100, .. })));
        let error = tools(Duration::from_millis(100)).run("sh", &["-c", "exec >&- 2>&-; sleep 60"]);
        assert!(matches!(error, Err(Error::Timeout { .. })));
        assert!(before.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_missing_tool_is_named() {
        let error = tools(Duration::from_secs(1)).run("no-such-tool", &["x"]);
        assert!(matches!(error, Err(Error::Tool { stderr, .. }) if stderr.contains("/usr/sbin")));
    }
}
