//! A booted, idle machine, frozen once per image and entered by any number of machines at a time.
//!
//! Guest memory is a sparse file that machines map copy-on-write, so that a start reads only what it
//! touches and machines share the rest in the page cache. QEMU's migration (`x-ignore-shared`) writes
//! the devices' state, about half a megabyte. The disk is an overlay frozen at the same instant.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::accel::{Accel, qemu_version};
use crate::channel::Channel;
use crate::error::{Error, Result, Tried};
use crate::image::{Image, fingerprint, remove_unused, use_dir, vm_dir};
use crate::machine::{self, Machine, Memory};
use crate::qmp::Monitor;

/// Enough for a cold boot under emulation on a machine busy with other work (12 s on an idle one).
pub(crate) const BOOT_DEADLINE: Duration = Duration::from_secs(400);
/// QEMU's emulation breaks a boot now and then (docs/vm.md): so often one is tried.
pub(crate) const BOOT_ATTEMPTS: u32 = 3;
const MONITOR_DEADLINE: Duration = Duration::from_secs(120);

/// Waits for an idle system. What tests use is read once, so that its pages are in the snapshot.
const SETTLE: &str = "
systemctl is-system-running --wait || systemctl --failed --no-legend
udevadm settle
modules=/lib/modules/$(uname -r)
for name in loop brd md-mod linear raid0 raid1 raid10 raid456 dm-mod dm-raid dm-flakey dm-delay scsi_debug; do
    modprobe --show-depends \"$name\" 2> /dev/null || true
done | sed -n 's/^insmod \\([^ ]*\\).*/\\1/p' | sort -u | xargs cat > /dev/null
mdadm --version 2> /dev/null || true
dmsetup version > /dev/null 2>&1 || true
lvm version > /dev/null 2>&1 || true
for tool in losetup dd truncate sha256sum busctl blockdev jq journalctl tar; do \"$tool\" --version; done > /dev/null
journalctl --flush
journalctl --sync
sync
";

/// A snapshot, ready to be entered.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) dir: PathBuf,
    _in_use: File,
}

impl Snapshot {
    /// The snapshot of `image`; made first when it or anything it depends on has changed.
    pub(crate) fn ensure(image: &Image, accel: Accel) -> Result<Self> {
        let parent = vm_dir().join("snapshots");
        fs::create_dir_all(&parent).tried(|| format!("make {}", parent.display()))?;
        let image_name = image.dir.to_string_lossy();
        let hardware = machine::hardware(accel).join(" ");
        let key = fingerprint([&*image_name, &hardware, &qemu_version()?, SETTLE]);
        let prefix = format!("{}-{}-", image.kernel, accel.name());
        let dir = parent.join(format!("{prefix}{key}"));
        if dir.exists() {
            return Self::open(dir);
        }
        let lock = parent.join(format!("{prefix}lock"));
        let lock = File::create(&lock)
            .and_then(|file| file.lock().map(|()| file))
            .tried(|| format!("lock {}", lock.display()))?;
        if !dir.exists() {
            let started = Instant::now();
            eprintln!(
                "vm: booting the {} image once for its snapshot",
                image.kernel
            );
            retried(|| make(image, accel, &dir))?;
            eprintln!(
                "vm: snapshot made in {:.1} s",
                started.elapsed().as_secs_f64()
            );
            remove_unused(&parent, &prefix, &dir);
        }
        drop(lock);
        Self::open(dir)
    }

    fn open(dir: PathBuf) -> Result<Self> {
        let in_use = use_dir(&dir)?;
        Ok(Self {
            dir,
            _in_use: in_use,
        })
    }
}

/// Tries a cold boot up to [`BOOT_ATTEMPTS`] times, and says so.
pub(crate) fn retried<T>(mut boot: impl FnMut() -> Result<T>) -> Result<T> {
    for attempt in 1..BOOT_ATTEMPTS {
        match boot() {
            Ok(done) => return Ok(done),
            Err(error) => eprintln!("vm: boot {attempt} of {BOOT_ATTEMPTS} failed: {error}"),
        }
    }
    boot()
}

fn make(image: &Image, accel: Accel, dir: &Path) -> Result<()> {
    // The machine's folder becomes the snapshot; until then it goes with the machine.
    let work = dir.with_extension("new");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).tried(|| format!("make {}", work.display()))?;
    machine::layers(&work, image, None)?;
    machine::sparse(&work.join("payload.raw"), machine::PAYLOAD_BYTES)?;
    let name = format!("{}-snapshot", image.kernel);
    let hardware = machine::hardware(accel);
    let (machine, wires) = Machine::start(&name, &work, image, &hardware, Memory::Template)?;
    let booted = boot_and_freeze(&name, &machine, wires);
    if let Err(error) = booted {
        let what = format!("cannot make the snapshot: {error}");
        return Err(machine.broken(&name, &what));
    }
    machine.cut();
    fs::write(work.join("in-use"), "").tried(|| "mark the snapshot".into())?;
    fs::rename(&work, dir).tried(|| format!("name the snapshot {}", dir.display()))
}

fn boot_and_freeze(name: &str, machine: &Machine, wires: machine::Wires) -> Result<()> {
    let mut monitor = Monitor::new(wires.monitor, MONITOR_DEADLINE)?;
    let channel = Channel::new(name, wires.agent)?;
    channel.await_boot(None, BOOT_DEADLINE)?;
    let job = channel.start(SETTLE)?;
    let output = job.wait(BOOT_DEADLINE)?;
    drop(job);
    if output.status != 0 {
        let script = "the settling script".to_owned();
        return Err(Error::Script {
            machine: name.to_owned(),
            script,
            output,
        });
    }
    monitor.command("stop", &json!({}))?;
    monitor.prepare_migration()?;
    // Several terabytes a second: no throttling.
    monitor.command(
        "migrate-set-parameters",
        &json!({ "max-bandwidth": 1_u64 << 42 }),
    )?;
    monitor.command("migrate", &json!({ "uri": "exec:cat > state" }))?;
    monitor.await_migration()?;
    // An orderly end: QEMU writes what the overlay's format keeps in memory.
    let _ = monitor.command("quit", &json!({}));
    machine.await_end(name, MONITOR_DEADLINE)
}

/// Enters the snapshot whose memory and state are linked into the machine's folder.
pub(crate) fn enter(stream: std::os::unix::net::UnixStream) -> Result<()> {
    let mut monitor = Monitor::new(stream, MONITOR_DEADLINE)?;
    monitor.prepare_migration()?;
    monitor.command("migrate-incoming", &json!({ "uri": "exec:cat state" }))?;
    monitor.await_migration()?;
    monitor.command("cont", &json!({}))?;
    Ok(())
}
