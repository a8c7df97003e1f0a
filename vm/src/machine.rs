//! One QEMU process: its command line, its supervisor, and the sockets by which it is reached.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::accel::Accel;
use crate::error::{Error, Result, Tried, tail};
use crate::image::Image;

/// Guest memory. Snapshots keep it in a sparse file of which only touched pages exist.
const MEMORY: &str = "2048M";
/// The payload disk's size, the same at snapshot time and later; the file is sparse.
pub(crate) const PAYLOAD_BYTES: u64 = 512 << 20;
/// `panic=-1`: a panic resets the machine at once. A test then learns that the guest rebooted instead of
/// waiting for its deadline, and a boot that QEMU's emulation broke (docs/vm.md) is tried again.
const KERNEL_WORDS: &str = "panic=-1 console=ttyS0 root=/dev/vda rw quiet net.ifnames=0 mitigations=off \
    audit=0 apparmor=0 nowatchdog no_timer_check no5lvl random.trust_cpu=on";
const SUPERVISOR: &str = include_str!("supervise.sh");

/// Where guest memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Fresh: a cold boot.
    Fresh,
    /// Written through to the file `ram` of the machine's folder: a snapshot is being made.
    Template,
    /// `ram`, copied on write, with the devices' state from `state`: a start from a snapshot.
    Snapshot,
}

/// A running QEMU. Dropping it kills QEMU and removes its folder.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) dir: PathBuf,
    supervisor: Child,
    lifeline: Option<ChildStdin>,
    output: ChildStdout,
}

/// The connections of a machine that has just been started.
pub(crate) struct Wires {
    pub(crate) agent: UnixStream,
    pub(crate) monitor: UnixStream,
}

/// The system disk as an overlay. Writeback: what the guest has flushed survives QEMU's death.
const OVERLAY: [&str; 4] = [
    "-drive",
    "if=none,id=root,file=disk.qcow2,format=qcow2,cache=writeback,discard=unmap",
    "-device",
    "virtio-blk-pci,drive=root,serial=root",
];

/// What every machine of this accelerator has; part of the snapshot's name, for it must not differ.
pub(crate) fn hardware(accel: Accel) -> Vec<String> {
    hardware_on(accel, OVERLAY)
}

/// The same with another system disk, given by its four words.
pub(crate) fn hardware_on(accel: Accel, root: [&str; 4]) -> Vec<String> {
    let mut words = vec!["-nodefaults", "-no-user-config", "-display", "none"];
    words.extend([
        "-machine",
        "pc,memory-backend=ram,vmport=off,hpet=off",
        "-m",
        MEMORY,
    ]);
    words.extend(["-smp", "2", "-rtc", "base=utc,clock=host"]);
    words.extend(accel.words());
    words.extend(["-append", KERNEL_WORDS]);
    words.extend(root);
    words.extend([
        "-drive",
        "if=none,id=payload,file=payload.raw,format=raw,readonly=on",
        "-device",
        "virtio-blk-pci,drive=payload,serial=payload",
        "-chardev",
        "socket,id=console,path=console.sock,server=on,wait=off,logfile=console.log,logappend=on",
        "-device",
        "isa-serial,chardev=console",
        "-chardev",
        "socket,id=agent,path=agent.sock",
        "-device",
        "virtio-serial-pci",
        "-device",
        "virtserialport,chardev=agent,name=org.lund.agent",
        "-device",
        "virtio-rng-pci",
        "-chardev",
        "socket,id=monitor,path=monitor.sock",
        "-mon",
        "chardev=monitor,mode=control",
    ]);
    words.into_iter().map(str::to_owned).collect()
}

impl Machine {
    /// Starts QEMU with `hardware` in `dir`, which holds `payload.raw`, the disks, and what `memory` asks
    /// for.
    pub(crate) fn start(
        name: &str,
        dir: &Path,
        image: &Image,
        hardware: &[String],
        memory: Memory,
    ) -> Result<(Self, Wires)> {
        let agent = listen(dir, "agent.sock")?;
        let monitor = listen(dir, "monitor.sock")?;
        let _ = fs::remove_file(dir.join("console.sock"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("qemu.log"))
            .tried(|| format!("make a log in {}", dir.display()))?;
        let mut command = Command::new("/bin/bash");
        command
            .args(["-c", SUPERVISOR, "supervise"])
            .arg(dir)
            .arg("qemu-system-x86_64");
        command
            .arg("-name")
            .arg(format!("lun-vm-{}", name.replace(',', "_")));
        command.args(hardware);
        command.arg("-kernel").arg(image.dir.join("vmlinuz"));
        command.arg("-initrd").arg(image.dir.join("initrd"));
        command.arg("-object").arg(match memory {
            Memory::Fresh => format!("memory-backend-ram,id=ram,size={MEMORY}"),
            Memory::Template => ram_file("on"),
            Memory::Snapshot => ram_file("off"),
        });
        if memory == Memory::Snapshot {
            command.args(["-incoming", "defer"]);
        }
        let mut supervisor = command
            .current_dir(dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .tried(|| "start QEMU's supervisor (/bin/bash)".into())?;
        let lifeline = supervisor.stdin.take();
        let output = supervisor
            .stdout
            .take()
            .ok_or_else(|| Error::Monitor("no pipe".into()))?;
        let machine = Self {
            dir: dir.to_owned(),
            supervisor,
            lifeline,
            output,
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        let wires = Wires {
            agent: machine.accept(name, &agent, deadline)?,
            monitor: machine.accept(name, &monitor, deadline)?,
        };
        Ok((machine, wires))
    }

    /// Waits for QEMU to connect, or to die.
    fn accept(&self, name: &str, at: &UnixListener, deadline: Instant) -> Result<UnixStream> {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut both = [
            PollFd::new(at.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.output.as_fd(), PollFlags::POLLIN),
        ];
        poll(&mut both, wait).tried(|| "wait for QEMU".into())?;
        let [knock, _] = both;
        if knock.any() == Some(true) {
            return at
                .accept()
                .map(|(stream, _)| stream)
                .tried(|| "accept QEMU".into());
        }
        Err(self.broken(name, "QEMU did not come up"))
    }

    /// An error with QEMU's and the guest's last words.
    pub(crate) fn broken(&self, name: &str, what: &str) -> Error {
        let log = self.dir.join("qemu.log");
        Error::Qemu {
            machine: name.to_owned(),
            what: what.to_owned(),
            words: tail(&log, 20),
            console: tail(&self.dir.join("console.log"), 20),
            log,
        }
    }

    /// Waits for QEMU to end by itself.
    pub(crate) fn await_end(&self, name: &str, deadline: Duration) -> Result<()> {
        let wait = PollTimeout::try_from(deadline).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, wait).tried(|| "wait for QEMU's end".into())? {
            0 => Err(self.broken(name, "QEMU did not end when told to")),
            _ => Ok(()),
        }
    }

    /// Whether QEMU still runs.
    pub(crate) fn is_alive(&self) -> bool {
        let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// Kills QEMU as a power cut would, and leaves its folder.
    pub(crate) fn cut(mut self) {
        if let Some(mut lifeline) = self.lifeline.take() {
            let _ = lifeline.write_all(b"keep\n");
        }
        let _ = self.supervisor.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.supervisor.wait();
    }
}

fn ram_file(share: &str) -> String {
    format!("memory-backend-file,id=ram,size={MEMORY},mem-path=ram,share={share}")
}

/// Listens on a socket in `dir`, however long its path is: the kernel takes 107 bytes.
pub(crate) fn listen(dir: &Path, name: &str) -> Result<UnixListener> {
    let what = || format!("listen on {}", dir.join(name).display());
    let _ = fs::remove_file(dir.join(name));
    let handle = File::open(dir).tried(what)?;
    let short = format!("/proc/self/fd/{}/{name}", handle.as_raw_fd());
    UnixListener::bind(short).tried(what)
}

/// Connects to a socket in `dir`, however long its path is.
pub(crate) fn connect(dir: &Path, name: &str) -> Result<UnixStream> {
    let what = || format!("connect to {}", dir.join(name).display());
    let handle = File::open(dir).tried(what)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", handle.as_raw_fd())).tried(what)
}

/// Links what lies under a machine's disk into its folder: `root.raw` of the image and, on top of it,
/// `snapshot.qcow2`. QEMU looks for each layer beside the name by which it has opened the one above, so
/// the folder needs all of them; and no character of their real paths means anything to QEMU.
pub(crate) fn layers(dir: &Path, image: &Image, snapshot: Option<&Path>) -> Result<()> {
    link(&image.dir.join("root.raw"), &dir.join("root.raw"))?;
    match snapshot {
        None => overlay(dir, "root.raw", "raw"),
        Some(snapshot) => {
            link(&snapshot.join("disk.qcow2"), &dir.join("snapshot.qcow2"))?;
            link(&snapshot.join("ram"), &dir.join("ram"))?;
            link(&snapshot.join("state"), &dir.join("state"))?;
            overlay(dir, "snapshot.qcow2", "qcow2")
        }
    }
}

/// Makes `dir/disk.qcow2`, for what is written on top of `base` (`raw` or `qcow2`).
fn overlay(dir: &Path, base: &str, format: &str) -> Result<()> {
    let output = Command::new("qemu-img")
        .args([
            "create",
            "-q",
            "-f",
            "qcow2",
            "-b",
            base,
            "-F",
            format,
            "disk.qcow2",
        ])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .tried(|| "run qemu-img (vm/install-deps installs it)".into())?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Usage(format!(
        "cannot make a disk in {}: {words}",
        dir.display()
    )))
}

/// A symbolic link at `at`.
fn link(to: &Path, at: &Path) -> Result<()> {
    symlink(to, at).tried(|| format!("link {} to {}", at.display(), to.display()))
}

/// A sparse file of `bytes` zeros.
pub(crate) fn sparse(path: &Path, bytes: u64) -> Result<()> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|file| file.set_len(bytes))
        .tried(|| format!("make {}", path.display()))
}
