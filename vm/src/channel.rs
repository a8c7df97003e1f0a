//! The host's end of the agent's port: jobs by number, their output as it comes.

use std::collections::HashMap;
use std::io::{self, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result, Tried, last_lines};
use crate::protocol::{CHUNK, Frame, Kind};

/// What a command printed, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 and the signal's number when a signal ended it.
    pub status: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// The kernel's limit for one argument of a program, less some air.
const LONGEST_SCRIPT: usize = 120_000;

#[derive(Debug, Default)]
struct JobState {
    output: Output,
    /// Set when it is over: its status, or why there will be none.
    end: Option<Result<i32, String>>,
}

#[derive(Debug, Default)]
struct State {
    /// The boot that has answered our greeting.
    boot: Option<String>,
    jobs: HashMap<u32, JobState>,
    next_job: u32,
    /// Why nothing more will come.
    closed: Option<String>,
}

/// A connection to the agent of one machine, shared by its jobs.
#[derive(Debug)]
pub(crate) struct Channel {
    machine: String,
    nonce: u64,
    writer: Mutex<UnixStream>,
    state: Mutex<State>,
    changed: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ns() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

impl Channel {
    /// Greets the agent, which may come much later or be restored from a snapshot, and starts to listen.
    pub(crate) fn new(machine: &str, stream: UnixStream) -> Result<Arc<Self>> {
        let what = || "set up the agent's connection".to_owned();
        let reader = stream.try_clone().tried(what)?;
        stream
            .set_write_timeout(Some(Duration::from_secs(60)))
            .tried(what)?;
        let channel = Arc::new(Self {
            machine: machine.to_owned(),
            nonce: now_ns() ^ (u64::from(std::process::id()) << 40),
            writer: Mutex::new(stream),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        channel.greet().tried(what)?;
        let listener = Arc::clone(&channel);
        thread::spawn(move || listener.listen(reader));
        Ok(channel)
    }

    fn greet(&self) -> io::Result<()> {
        self.send(&Frame::sync(self.nonce, now_ns()))
    }

    fn send(&self, frame: &Frame) -> io::Result<()> {
        frame.write_to(&mut *lock(&self.writer))
    }

    fn listen(&self, stream: UnixStream) {
        let mut reader = BufReader::with_capacity(CHUNK, stream);
        let why = loop {
            match Frame::read_from(&mut reader) {
                Ok(frame) => {
                    // An agent that has just started does not know us yet.
                    if frame.kind == Kind::Hello && frame.u64_at(0) != Some(self.nonce) {
                        let _ = self.greet();
                    } else {
                        lock(&self.state).take(&frame);
                    }
                }
                Err(error) => break format!("its connection ended: {error}"),
            }
            self.changed.notify_all();
        };
        lock(&self.state).close(&why);
        self.changed.notify_all();
    }

    /// Waits until `check` finds something, the connection ends, or the deadline passes.
    fn wait<T>(
        &self,
        what: &str,
        deadline: Duration,
        mut check: impl FnMut(&mut State) -> Option<Result<T, String>>,
    ) -> Result<T> {
        let until = Instant::now() + deadline;
        let mut state = lock(&self.state);
        loop {
            if let Some(found) = check(&mut state) {
                return found.map_err(|why| self.gone(what, why));
            }
            if let Some(why) = &state.closed {
                return Err(self.gone(what, why.clone()));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Deadline {
                    machine: self.machine.clone(),
                    what: what.to_owned(),
                    deadline,
                    context: String::new(),
                });
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn gone(&self, what: &str, why: String) -> Error {
        Error::Gone {
            machine: self.machine.clone(),
            what: what.to_owned(),
            why,
        }
    }

    /// Waits for the agent of another boot than `former`, and names that boot.
    pub(crate) fn await_boot(&self, former: Option<&str>, deadline: Duration) -> Result<String> {
        self.wait("the start of the guest's agent", deadline, |state| {
            state
                .boot
                .clone()
                .filter(|boot| Some(boot.as_str()) != former)
                .map(Ok)
        })
    }

    /// Starts a job; its standard input stays open.
    pub(crate) fn start(self: &Arc<Self>, script: &str) -> Result<Running> {
        if script.len() > LONGEST_SCRIPT {
            return Err(Error::Usage(format!(
                "a script of {} bytes is too long for one argument: put() it as a file",
                script.len()
            )));
        }
        let id = {
            let mut state = lock(&self.state);
            state.next_job += 1;
            let id = state.next_job;
            state.jobs.insert(id, JobState::default());
            id
        };
        let job = Running {
            channel: Arc::clone(self),
            id,
            script: brief(script),
        };
        self.send(&Frame::new(Kind::Run, id, script))
            .map_err(|error| self.gone(&job.script, error.to_string()))?;
        Ok(job)
    }
}

impl State {
    fn take(&mut self, frame: &Frame) {
        if frame.kind == Kind::Hello {
            let boot = String::from_utf8_lossy(frame.payload.get(8..).unwrap_or_default());
            if self.boot.as_deref() != Some(&boot) {
                self.end_jobs("the guest rebooted");
                self.boot = Some(boot.into_owned());
            }
        }
        let Some(job) = self.jobs.get_mut(&frame.job) else {
            return;
        };
        match frame.kind {
            Kind::Stdout => job.output.stdout.extend(&frame.payload),
            Kind::Stderr => job.output.stderr.extend(&frame.payload),
            Kind::Exit => job.end = Some(frame.status().ok_or_else(|| "bad status".to_owned())),
            _ => {}
        }
    }

    /// Jobs that were started before the first greeting was answered wait for that very boot.
    fn end_jobs(&mut self, why: &str) {
        if self.boot.is_none() {
            return;
        }
        for job in self.jobs.values_mut() {
            job.end.get_or_insert_with(|| Err(why.to_owned()));
        }
    }

    fn close(&mut self, why: &str) {
        self.closed = Some(why.to_owned());
        for job in self.jobs.values_mut() {
            job.end.get_or_insert_with(|| Err(why.to_owned()));
        }
    }
}

/// The first words of a script, for messages.
fn brief(script: &str) -> String {
    let line = script.trim().lines().next().unwrap_or_default();
    let mut words: String = line.chars().take(100).collect();
    if words.len() < script.trim().len() {
        words.push('…');
    }
    words
}

/// A command that runs in the guest. Dropping it kills the command if it still runs.
#[derive(Debug)]
pub struct Running {
    channel: Arc<Channel>,
    id: u32,
    script: String,
}

impl Running {
    /// Waits for its end and returns what it printed.
    ///
    /// # Errors
    /// [`Error::Deadline`] (with what it has printed; it still runs), or [`Error::Gone`].
    pub fn wait(&self, deadline: Duration) -> Result<Output> {
        let ended = self.channel.wait(&self.script, deadline, |state| {
            let job = state.jobs.get(&self.id)?;
            Some(job.end.clone()?.map(|status| Output {
                status,
                ..job.output.clone()
            }))
        });
        ended.map_err(|error| self.with_output(error))
    }

    /// Waits until its standard output or standard error holds `words`, and returns its
    /// standard output so far.
    ///
    /// # Errors
    /// [`Error::Deadline`]; [`Error::Gone`], also when it ends without having said the words.
    pub fn wait_for(&self, words: &str, deadline: Duration) -> Result<String> {
        let what = format!("{words:?} from {}", self.script);
        let found = self.channel.wait(&what, deadline, |state| {
            let job = state.jobs.get(&self.id)?;
            let holds = |bytes: &Vec<u8>| {
                bytes
                    .windows(words.len().max(1))
                    .any(|window| window == words.as_bytes())
            };
            if holds(&job.output.stdout) || holds(&job.output.stderr) {
                return Some(Ok(String::from_utf8_lossy(&job.output.stdout).into_owned()));
            }
            let end = job.end.as_ref()?;
            Some(Err(format!(
                "it ended ({end:?}) without the words; {}",
                heard(&job.output)
            )))
        });
        found.map_err(|error| self.with_output(error))
    }

    /// Passes on what it prints as it prints it, and returns its status.
    ///
    /// # Errors
    /// [`Error::Deadline`] when it runs longer; [`Error::Gone`]; those of the writers.
    pub fn stream(
        &self,
        stdout: &mut impl Write,
        stderr: &mut impl Write,
        deadline: Duration,
    ) -> Result<i32> {
        let until = Instant::now() + deadline;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (news, end) = self.channel.wait(&self.script, left, |state| {
                let job = state.jobs.get_mut(&self.id)?;
                let news = std::mem::take(&mut job.output);
                let silent = news.stdout.is_empty() && news.stderr.is_empty();
                let end = job.end.clone();
                (!silent || end.is_some()).then_some(Ok((news, end)))
            })?;
            for (to, bytes) in [
                (stdout as &mut dyn Write, news.stdout),
                (stderr, news.stderr),
            ] {
                to.write_all(&bytes)
                    .and_then(|()| to.flush())
                    .tried(|| "pass on what the guest printed".into())?;
            }
            match end {
                Some(Ok(status)) => return Ok(status),
                Some(Err(why)) => return Err(self.channel.gone(&self.script, why)),
                None => {}
            }
        }
    }

    /// What it has printed until now; the status means nothing yet.
    #[must_use]
    pub fn so_far(&self) -> Output {
        let state = lock(&self.channel.state);
        state
            .jobs
            .get(&self.id)
            .map(|job| job.output.clone())
            .unwrap_or_default()
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let state = lock(&self.channel.state);
        state.jobs.get(&self.id).is_none_or(|job| job.end.is_some())
    }

    /// Sends bytes to its standard input.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn input(&self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(CHUNK) {
            self.send(Kind::Input, chunk)?;
        }
        Ok(())
    }

    /// Ends its standard input.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn end_input(&self) -> Result<()> {
        self.send(Kind::Input, &[])
    }

    /// Kills it and all of its process group.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn kill(&self) -> Result<()> {
        self.send(Kind::Kill, &[])
    }

    /// Lets it run on; its output is not kept any more.
    pub fn detach(self) {
        lock(&self.channel.state).jobs.remove(&self.id);
    }

    fn send(&self, kind: Kind, payload: &[u8]) -> Result<()> {
        let sent = self.channel.send(&Frame::new(kind, self.id, payload));
        sent.map_err(|error| self.channel.gone(&self.script, error.to_string()))
    }

    fn with_output(&self, error: Error) -> Error {
        match error {
            Error::Deadline {
                machine,
                what,
                deadline,
                ..
            } => Error::Deadline {
                machine,
                what,
                deadline,
                context: heard(&self.so_far()),
            },
            other => other,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let job = lock(&self.channel.state).jobs.remove(&self.id);
        if job.is_some_and(|job| job.end.is_none()) {
            let _ = self.kill();
        }
    }
}

fn heard(output: &Output) -> String {
    let end = |bytes: &[u8]| last_lines(&String::from_utf8_lossy(bytes), 20);
    format!(
        "stdout until then:\n{}\nstderr:\n{}",
        end(&output.stdout),
        end(&output.stderr)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn hello(nonce: u64, boot: &str) -> Frame {
        let mut payload = nonce.to_le_bytes().to_vec();
        payload.extend(boot.as_bytes());
        Frame::new(Kind::Hello, 0, payload)
    }

    /// A channel that has been greeted, and the agent's end.
    fn greeted() -> (Arc<Channel>, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let channel = Channel::new("test", ours).unwrap();
        let nonce = Frame::read_from(&mut theirs).unwrap().u64_at(0).unwrap();
        hello(nonce, "boot-1").write_to(&mut theirs).unwrap();
        assert_eq!(channel.await_boot(None, SOON).unwrap(), "boot-1");
        (channel, theirs)
    }

    #[test]
    fn jobs_run_side_by_side() {
        let (channel, mut agent) = greeted();
        let first = channel.start("one").unwrap();
        let second = channel.start("two").unwrap();
        let asked: Vec<_> = (0..2)
            .map(|_| Frame::read_from(&mut agent).unwrap())
            .collect();
        assert_eq!(asked[1].payload, b"two");
        for (frame, words) in asked.iter().rev().zip(["2", "1"]) {
            Frame::new(Kind::Stdout, frame.job, words)
                .write_to(&mut agent)
                .unwrap();
            let status = i32::from(frame.job == asked[1].job);
            Frame::new(Kind::Exit, frame.job, status.to_le_bytes())
                .write_to(&mut agent)
                .unwrap();
        }
        let (first, second) = (first.wait(SOON).unwrap(), second.wait(SOON).unwrap());
        assert_eq!(
            (first.status, first.stdout.as_slice()),
            (0, b"1".as_slice())
        );
        assert_eq!(
            (second.status, second.stdout.as_slice()),
            (1, b"2".as_slice())
        );
    }

    #[test]
    fn a_reboot_is_greeted_and_ends_the_jobs_of_the_former_boot() {
        let (channel, mut agent) = greeted();
        let job = channel.start("sleep").unwrap();
        Frame::read_from(&mut agent).unwrap();
        hello(0, "boot-2").write_to(&mut agent).unwrap();
        let sync = Frame::read_from(&mut agent).unwrap();
        assert_eq!(sync.kind, Kind::Sync);
        hello(sync.u64_at(0).unwrap(), "boot-2")
            .write_to(&mut agent)
            .unwrap();
        let error = job.wait(SOON).unwrap_err();
        assert!(
            matches!(&error, Error::Gone { why, .. } if why.contains("reboot")),
            "{error}"
        );
        assert_eq!(channel.await_boot(Some("boot-1"), SOON).unwrap(), "boot-2");
    }

    #[test]
    fn words_are_waited_for_and_missed_words_are_told() {
        let (channel, mut agent) = greeted();
        let job = channel.start("talk").unwrap();
        let id = Frame::read_from(&mut agent).unwrap().job;
        Frame::new(Kind::Stdout, id, "half a li")
            .write_to(&mut agent)
            .unwrap();
        Frame::new(Kind::Stdout, id, "ne\n")
            .write_to(&mut agent)
            .unwrap();
        assert_eq!(job.wait_for("a line", SOON).unwrap(), "half a line\n");
        let error = job
            .wait_for("never", Duration::from_millis(50))
            .unwrap_err();
        assert!(matches!(&error, Error::Deadline { context, .. } if context.contains("half")));
        Frame::new(Kind::Exit, id, 0_i32.to_le_bytes())
            .write_to(&mut agent)
            .unwrap();
        assert!(matches!(
            job.wait_for("never", SOON),
            Err(Error::Gone { .. })
        ));
    }

    #[test]
    fn a_dropped_job_is_killed_and_a_lost_machine_ends_all() {
        let (channel, mut agent) = greeted();
        drop(channel.start("forever").unwrap());
        let kinds = [(); 2].map(|()| Frame::read_from(&mut agent).unwrap().kind);
        assert_eq!(kinds, [Kind::Run, Kind::Kill]);
        let job = channel.start("more").unwrap();
        drop(agent);
        assert!(matches!(job.wait(SOON), Err(Error::Gone { .. })));
    }

    #[test]
    fn long_scripts_are_named_briefly() {
        assert_eq!(brief("\n  true\n"), "true");
        assert_eq!(brief("a\nb"), "a…");
    }
}
