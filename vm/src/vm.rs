//! A machine for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::accel::Accel;
use crate::channel::{Channel, Output, Running};
use crate::disk::{Loss, Survival};
use crate::disks::Disks;
use crate::error::{Error, Result, Tried};
use crate::evidence;
use crate::image::{Image, Kernel, vm_dir};
use crate::machine::{self, Machine, Memory, PAYLOAD_BYTES};
use crate::snapshot::{self, BOOT_DEADLINE, Snapshot};

/// How long [`Vm::run`] waits.
pub const RUN_DEADLINE: Duration = Duration::from_secs(120);
/// How long a machine may take from its snapshot to its agent's answer.
const START_DEADLINE: Duration = Duration::from_secs(60);
const PAYLOAD_DEADLINE: Duration = Duration::from_secs(120);

/// What a machine is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which kernel it runs.
    pub kernel: Kernel,
    /// A folder whose content the guest finds in `/opt/lund` (at most 512 MiB).
    pub payload: Option<PathBuf>,
    /// What it is called in messages and in the folder of its evidence: the test's name.
    pub name: String,
    /// Sizes in bytes of disks that the guest finds as `/dev/disk/by-id/virtio-disk0` and so on. With any,
    /// they and the system disk have a write cache that a power cut loses, and the machine boots cold.
    pub disks: Vec<u64>,
}

impl Options {
    /// A machine called `name` with the kernel that `LUND_VM_KERNEL` names.
    ///
    /// # Errors
    /// [`Error::UnknownKernel`].
    pub fn from_env(name: &str) -> Result<Self> {
        Ok(Self {
            kernel: Kernel::from_env()?,
            payload: None,
            name: name.to_owned(),
            disks: Vec::new(),
        })
    }
}

/// A running guest. Dropping it kills it and removes its disk; while the thread panics, or after
/// [`Vm::keep_evidence`], the console's log and the journal are kept first.
#[derive(Debug)]
pub struct Vm {
    name: String,
    dir: PathBuf,
    image: Image,
    accel: Accel,
    /// Blocks of the payload disk that hold something.
    payload_mib: u64,
    live: Option<Live>,
    /// Those whose write cache a power cut loses.
    disks: Option<Disks>,
    keep: bool,
    /// The backing files must outlive the machine.
    snapshot: Option<Snapshot>,
    /// Removed when dropped, should the supervisor not have done so.
    _dir: tempfile::TempDir,
}

#[derive(Debug)]
struct Live {
    channel: Arc<Channel>,
    machine: Machine,
    boot: String,
}

impl Vm {
    /// Starts a machine from the booted snapshot of its kernel, or cold when it has disks of its own.
    /// What is missing is made first: the image (minutes, once) and the snapshot (a cold boot, once).
    ///
    /// # Errors
    /// Whatever keeps the guest from answering, with the logs' last lines.
    pub fn start(options: &Options) -> Result<Self> {
        let image = Image::ensure(options.kernel)?;
        let accel = Accel::detect(&image)?;
        let runs = vm_dir().join("run");
        fs::create_dir_all(&runs).tried(|| format!("make {}", runs.display()))?;
        let temp = tempfile::Builder::new()
            .prefix("vm-")
            .tempdir_in(&runs)
            .tried(|| format!("make a folder in {}", runs.display()))?;
        let dir = temp.path().to_owned();
        let payload_mib = write_payload(&dir.join("payload.raw"), options.payload.as_deref())?;
        let (snapshot, disks) = if options.disks.is_empty() {
            (Some(Snapshot::ensure(&image, accel)?), None)
        } else {
            (None, Some(Disks::make(&dir, &image, &options.disks)?))
        };
        let mut vm = Self {
            name: options.name.clone(),
            dir,
            image,
            accel,
            payload_mib,
            live: None,
            disks,
            keep: false,
            snapshot,
            _dir: temp,
        };
        if vm.disks.is_some() {
            vm.restart()?;
        } else {
            vm.live = Some(vm.enter_snapshot()?);
        }
        vm.unpack_payload()?;
        Ok(vm)
    }

    fn enter_snapshot(&self) -> Result<Live> {
        if let Some(snapshot) = &self.snapshot {
            machine::layers(&self.dir, &self.image, Some(&snapshot.dir))?;
        }
        let (machine, wires) = Machine::start(
            &self.name,
            &self.dir,
            &self.image,
            &machine::hardware(self.accel),
            Memory::Snapshot,
        )?;
        // The greeting waits in the socket until the guest runs.
        let channel = Channel::new(&self.name, wires.agent)?;
        let boot = snapshot::enter(wires.monitor)
            .and_then(|()| channel.await_boot(None, START_DEADLINE))
            .map_err(|error| machine.broken(&self.name, &error.to_string()))?;
        Ok(Live {
            channel,
            machine,
            boot,
        })
    }

    /// Runs a script as root, with `bash -euo pipefail -c`, and returns how it ended.
    ///
    /// # Errors
    /// [`Error::Deadline`] after [`RUN_DEADLINE`] (the script is killed), [`Error::Gone`].
    pub fn run(&self, script: &str) -> Result<Output> {
        self.run_with_deadline(script, RUN_DEADLINE)
    }

    /// As [`Vm::run`], with a deadline of one's own.
    ///
    /// # Errors
    /// [`Error::Deadline`] (the script is killed), [`Error::Gone`].
    pub fn run_with_deadline(&self, script: &str, deadline: Duration) -> Result<Output> {
        let job = self.spawn(script)?;
        job.end_input()?;
        job.wait(deadline)
    }

    /// Runs a script that must succeed and returns its standard output, without the last newline.
    ///
    /// # Errors
    /// [`Error::Script`] with both outputs when its status is not 0; those of [`Vm::run`].
    pub fn sh(&self, script: &str) -> Result<String> {
        self.sh_with_deadline(script, RUN_DEADLINE)
    }

    /// As [`Vm::sh`], with a deadline of one's own.
    ///
    /// # Errors
    /// Those of [`Vm::sh`].
    pub fn sh_with_deadline(&self, script: &str, deadline: Duration) -> Result<String> {
        let output = self.run_with_deadline(script, deadline)?;
        self.succeeded(script, output)
    }

    /// Starts a script and goes on; several may run at a time. Its standard input stays open
    /// until [`Running::end_input`].
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub fn spawn(&self, script: &str) -> Result<Running> {
        self.live()?.channel.start(script)
    }

    /// Copies a host file, with its mode, to a path in the guest.
    ///
    /// # Errors
    /// When it cannot be read, or not be written.
    pub fn put(&self, host: &Path, guest: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let what = || format!("read {}", host.display());
        let bytes = fs::read(host).tried(what)?;
        let mode = fs::metadata(host).tried(what)?.permissions().mode() & 0o7777;
        self.write(guest, &bytes, mode)
    }

    /// Writes a file in the guest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, guest: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = quoted(guest);
        let script =
            format!("mkdir -p -- \"$(dirname -- {path})\"; cat > {path}; chmod {mode:o} -- {path}");
        let job = self.spawn(&script)?;
        job.input(bytes)?;
        job.end_input()?;
        let output = job.wait(RUN_DEADLINE)?;
        self.succeeded(&script, output).map(drop)
    }

    /// Reads a file of the guest.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn get(&self, guest: &str) -> Result<Vec<u8>> {
        let script = format!("cat -- {}", quoted(guest));
        let mut output = self.run(&script)?;
        let bytes = std::mem::take(&mut output.stdout);
        self.succeeded(&script, output).map(|_| bytes)
    }

    /// Kills QEMU. What the guest has flushed to its disks is kept. Of the rest all is lost by disks with a
    /// write cache ([`Options::disks`]); of a machine from the snapshot it may be lost.
    ///
    /// # Errors
    /// [`Error::Io`] when a disk cannot be brought to its end.
    pub fn power_cut(&mut self) -> Result<Loss> {
        self.power_cut_keeping(0, Survival(0))
    }

    /// As [`Vm::power_cut`]; each block in the write caches survives with this probability, and `seed`
    /// decides which.
    ///
    /// # Errors
    /// Those of [`Vm::power_cut`].
    pub fn power_cut_keeping(&mut self, seed: u64, survival: Survival) -> Result<Loss> {
        let Some(live) = self.live.take() else {
            return Ok(Loss::default());
        };
        live.machine.cut();
        match &self.disks {
            Some(disks) => disks.cut(seed, survival),
            None => Ok(Loss::default()),
        }
    }

    /// The host's file behind disk `number` of [`Options::disks`]: what its medium holds, without its
    /// write cache.
    #[must_use]
    pub fn disk_file(&self, number: usize) -> Option<&Path> {
        self.disks.as_ref()?.file(number)
    }

    /// Boots cold from the machine's own disk, after [`Vm::power_cut`] or instead of it, and
    /// waits until the system is up. The payload is there again.
    ///
    /// # Errors
    /// [`Error::Qemu`] or [`Error::Deadline`] when the guest does not come up.
    pub fn restart(&mut self) -> Result<()> {
        self.power_cut()?;
        self.live = Some(snapshot::retried(|| self.boot_cold())?);
        self.await_system()
    }

    /// Reboots in an orderly way and waits until the system is up again.
    ///
    /// # Errors
    /// [`Error::Qemu`] or [`Error::Deadline`] when the guest does not come back.
    pub fn reboot(&mut self) -> Result<()> {
        let name = self.name.clone();
        let live = self.live.as_mut().ok_or_else(|| off(&name))?;
        live.channel.start("systemctl reboot")?.detach();
        live.boot = live
            .channel
            .await_boot(Some(&live.boot), BOOT_DEADLINE)
            .map_err(|error| live.machine.broken(&name, &error.to_string()))?;
        self.await_system()
    }

    /// Keeps the console's log and the journal when the machine is dropped, even without a panic.
    pub fn keep_evidence(&mut self) {
        self.keep = true;
    }

    /// What the kernel and the boot have printed on the serial console since this machine started.
    #[must_use]
    pub fn console(&self) -> String {
        let bytes = fs::read(self.dir.join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernel it runs.
    #[must_use]
    pub fn kernel(&self) -> Kernel {
        self.image.kernel
    }

    /// Connects to the serial console.
    ///
    /// # Errors
    /// When somebody else is connected or the machine is off.
    pub fn open_console(&self) -> Result<std::os::unix::net::UnixStream> {
        machine::connect(&self.dir, "console.sock")
    }

    fn boot_cold(&self) -> Result<Live> {
        let hardware = match &self.disks {
            Some(disks) => disks.hardware(self.accel),
            None => machine::hardware(self.accel),
        };
        let (machine, wires) =
            Machine::start(&self.name, &self.dir, &self.image, &hardware, Memory::Fresh)?;
        let channel = Channel::new(&self.name, wires.agent)?;
        match channel.await_boot(None, BOOT_DEADLINE) {
            Ok(boot) => Ok(Live {
                channel,
                machine,
                boot,
            }),
            Err(error) => {
                let error = machine.broken(&self.name, &error.to_string());
                machine.cut();
                Err(error)
            }
        }
    }

    fn live(&self) -> Result<&Live> {
        self.live.as_ref().ok_or_else(|| off(&self.name))
    }

    fn await_system(&mut self) -> Result<()> {
        let settle = "systemctl is-system-running --wait > /dev/null || true; udevadm settle";
        self.sh_with_deadline(settle, BOOT_DEADLINE).map(drop)
    }

    /// Past the page cache of the snapshot, which has seen an empty disk.
    fn unpack_payload(&mut self) -> Result<()> {
        if self.payload_mib == 0 {
            return Ok(());
        }
        let script = format!(
            "blockdev --flushbufs /dev/vdb
            dd if=/dev/vdb bs=1M count={} iflag=direct status=none | {{ tar -x -C /opt/lund; cat > /dev/null; }}
            sync -f /opt/lund",
            self.payload_mib
        );
        self.sh_with_deadline(&script, PAYLOAD_DEADLINE).map(drop)
    }

    fn succeeded(&self, script: &str, output: Output) -> Result<String> {
        if output.status != 0 {
            let (machine, script) = (self.name.clone(), script.to_owned());
            return Err(Error::Script {
                machine,
                script,
                output,
            });
        }
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(text)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if self.keep || std::thread::panicking() {
            let channel = self.live.as_ref().filter(|live| live.machine.is_alive());
            evidence::keep(&self.name, &self.dir, channel.map(|live| &live.channel));
        }
    }
}

fn off(name: &str) -> Error {
    let what = "a command".to_owned();
    Error::Gone {
        machine: name.to_owned(),
        what,
        why: "it is powered off: restart() it".into(),
    }
}

/// Writes the payload disk and returns how many MiB of it hold something.
fn write_payload(disk: &Path, payload: Option<&Path>) -> Result<u64> {
    let mut used = 0;
    if let Some(folder) = payload {
        let output = Command::new("tar")
            .args([
                "--create",
                "--sparse",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--file",
            ])
            .arg(disk)
            .arg("--directory")
            .arg(folder)
            .arg(".")
            .stdin(Stdio::null())
            .output()
            .tried(|| "run tar".into())?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::Usage(format!(
                "cannot pack {}: {words}",
                folder.display()
            )));
        }
        used = fs::metadata(disk)
            .tried(|| format!("measure {}", disk.display()))?
            .len();
        if used > PAYLOAD_BYTES {
            return Err(Error::Usage(format!(
                "{} is {} MiB packed, the payload disk holds {} MiB: strip its programs",
                folder.display(),
                used >> 20,
                PAYLOAD_BYTES >> 20
            )));
        }
    }
    machine::sparse(disk, PAYLOAD_BYTES)?;
    Ok(used.div_ceil(1 << 20))
}

/// One word for bash, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_path_is_one_word() {
        assert_eq!(quoted("/a b"), "'/a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn the_payload_disk_always_has_its_full_size() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("files");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("lund"), vec![7; 3 << 20]).unwrap();
        let disk = dir.path().join("payload.raw");
        assert_eq!(write_payload(&disk, None).unwrap(), 0);
        assert_eq!(fs::metadata(&disk).unwrap().len(), PAYLOAD_BYTES);
        assert_eq!(write_payload(&disk, Some(&folder)).unwrap(), 4);
        assert_eq!(fs::metadata(&disk).unwrap().len(), PAYLOAD_BYTES);
        let missing = write_payload(&disk, Some(&dir.path().join("none"))).unwrap_err();
        assert!(missing.to_string().contains("none"));
    }
}
