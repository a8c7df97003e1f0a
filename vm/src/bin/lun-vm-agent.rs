//! The guest's agent: runs what the host asks for, several jobs at once, and streams their output.
//!
//! It needs std alone, so that `vm/build` can compile it with rustc in seconds, static. It waits in
//! blocking reads only. When the host end of the port is gone a read answers at once with end of file;
//! then the agent ends and systemd starts it anew a second later.

#[path = "../protocol.rs"]
#[allow(dead_code)]
mod protocol;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use protocol::{CHUNK, Frame, Kind};

/// How long output of a job that has exited is waited for: a daemon it left behind may hold the pipe.
const DRAIN: Duration = Duration::from_secs(1);
/// A clock this near to the host's is left alone.
const CLOCK_SLACK: Duration = Duration::from_millis(100);

struct Job {
    group: u32,
    input: Sender<Vec<u8>>,
}

struct Agent {
    port: Mutex<File>,
    jobs: Mutex<HashMap<u32, Job>>,
    boot_id: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn main() -> ExitCode {
    let path = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "/dev/virtio-ports/org.lund.agent".into());
    match serve(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lun-vm-agent: {path}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(path: &str) -> io::Result<()> {
    let port = OpenOptions::new().read(true).write(true).open(path)?;
    let mut reader = BufReader::with_capacity(CHUNK, port.try_clone()?);
    let agent = Arc::new(Agent {
        port: Mutex::new(port),
        jobs: Mutex::new(HashMap::new()),
        boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?
            .trim()
            .to_owned(),
    });
    let mut host = 0;
    // A predecessor that died in the middle of a frame left the host waiting for the rest of it.
    lock(&agent.port).write_all(&vec![0; CHUNK])?;
    agent.hello(host)?;
    loop {
        let frame = Frame::read_from(&mut reader)?;
        match frame.kind {
            Kind::Sync => {
                let nonce = frame.u64_at(0).unwrap_or(0);
                if nonce != host {
                    agent.forget_all();
                    host = nonce;
                }
                if let Some(now) = frame.u64_at(8) {
                    set_clock(Duration::from_nanos(now));
                    // Machines restored from one snapshot must not draw the same random numbers.
                    let _ = fs::write("/dev/urandom", &frame.payload);
                }
                agent.hello(host)?;
            }
            Kind::Run => Arc::clone(&agent).start(frame.job, &frame.payload)?,
            Kind::Input => {
                if let Some(job) = lock(&agent.jobs).get(&frame.job) {
                    let _ = job.input.send(frame.payload);
                }
            }
            Kind::Kill => {
                if let Some(job) = lock(&agent.jobs).get(&frame.job) {
                    kill_group(job.group);
                }
            }
            _ => {}
        }
    }
}

impl Agent {
    fn send(&self, frame: &Frame) -> io::Result<()> {
        frame.write_to(&mut *lock(&self.port))
    }

    fn hello(&self, nonce: u64) -> io::Result<()> {
        let mut payload = nonce.to_le_bytes().to_vec();
        payload.extend(self.boot_id.as_bytes());
        self.send(&Frame::new(Kind::Hello, 0, payload))
    }

    /// Kills the jobs of a host that is gone; what they still print carries ids nobody waits for.
    fn forget_all(&self) {
        for (_, job) in lock(&self.jobs).drain() {
            kill_group(job.group);
        }
    }

    fn start(self: Arc<Self>, id: u32, script: &[u8]) -> io::Result<()> {
        let started = Command::new("/bin/bash")
            .args(["-euo", "pipefail", "-c", &String::from_utf8_lossy(script)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                let words = format!("lun-vm-agent: cannot start bash: {error}\n");
                self.send(&Frame::new(Kind::Stderr, id, words))?;
                return self.send(&Frame::new(Kind::Exit, id, 127_i32.to_le_bytes()));
            }
        };
        let (input, inputs) = mpsc::channel();
        if let Some(stdin) = child.stdin.take() {
            thread::spawn(move || feed(stdin, &inputs));
        }
        let (done, drained) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            self.forward(id, Kind::Stdout, stdout, done.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            self.forward(id, Kind::Stderr, stderr, done);
        }
        lock(&self.jobs).insert(
            id,
            Job {
                group: child.id(),
                input,
            },
        );
        thread::spawn(move || self.finish(id, child, &drained));
        Ok(())
    }

    fn forward(
        self: &Arc<Self>,
        id: u32,
        kind: Kind,
        mut from: impl Read + Send + 'static,
        done: Sender<()>,
    ) {
        let agent = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = vec![0; CHUNK];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let chunk = buffer.get(..length).unwrap_or_default();
                if agent.send(&Frame::new(kind, id, chunk)).is_err() {
                    break;
                }
            }
            let _ = done.send(());
        });
    }

    fn finish(&self, id: u32, mut child: Child, drained: &Receiver<()>) {
        let status = child.wait().map_or(127, |status| {
            status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
        });
        let until = Instant::now() + DRAIN;
        for _ in 0..2 {
            let left = until.saturating_duration_since(Instant::now());
            if drained.recv_timeout(left).is_err() {
                break;
            }
        }
        lock(&self.jobs).remove(&id);
        let _ = self.send(&Frame::new(Kind::Exit, id, status.to_le_bytes()));
    }
}

/// Writes what the host sends to a job's standard input until an empty chunk, or until nobody reads.
fn feed(mut stdin: impl Write, inputs: &Receiver<Vec<u8>>) {
    while let Ok(chunk) = inputs.recv() {
        if chunk.is_empty() || stdin.write_all(&chunk).is_err() {
            break;
        }
    }
}

fn kill_group(group: u32) {
    let _ = Command::new("/bin/kill")
        .args(["-KILL", "--", &format!("-{group}")])
        .status();
}

fn set_clock(host: Duration) {
    let guest = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if guest.abs_diff(host) < CLOCK_SLACK {
        return;
    }
    let at = format!("@{}.{:09}", host.as_secs(), host.subsec_nanos());
    match Command::new("/bin/date")
        .args(["-u", "-s", &at])
        .stdout(Stdio::null())
        .status()
    {
        Ok(status) if status.success() => {}
        other => eprintln!("lun-vm-agent: cannot set the clock to {at}: {other:?}"),
    }
}
