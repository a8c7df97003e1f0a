//! KVM where it works, emulation where not.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, Result, Tried};
use crate::image::{Image, fingerprint, vm_dir};

/// How long a stock kernel may take to its initrd under KVM (about a second where KVM works).
const PROBE_SECONDS: &str = "10";

/// How the guest's code is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// By the processor.
    Kvm,
    /// Emulated, one thread per virtual CPU.
    Tcg,
}

impl Accel {
    /// The word for `LUND_VM_ACCEL`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    pub(crate) fn words(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // QEMU 7.2 leaves garbage in the flags after cmpxchg16b, which Linux 6.12's allocator uses
            // for every object: double faults sooner or later. Without it Linux takes another way.
            Self::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max,-svm,-cx16"],
        }
    }

    /// `LUND_VM_ACCEL` (`kvm` or `tcg`) if set, else KVM if a stock kernel boots with it here.
    /// `/dev/kvm` alone says nothing: it exists on hosts where no stock kernel gets far. The
    /// probe's result is remembered for this QEMU, host kernel and processor.
    ///
    /// # Errors
    /// When QEMU cannot be run at all.
    pub fn detect(image: &Image) -> Result<Self> {
        match std::env::var("LUND_VM_ACCEL").as_deref() {
            Ok("kvm") => return Ok(Self::Kvm),
            Ok("tcg") => return Ok(Self::Tcg),
            Ok("") | Err(_) => {}
            Ok(other) => return Err(Error::Usage(format!("LUND_VM_ACCEL={other}: kvm or tcg"))),
        }
        if File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_err()
        {
            return Ok(Self::Tcg);
        }
        let host = fs::read_to_string("/proc/version").unwrap_or_default();
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors
            .lines()
            .find(|line| line.starts_with("model name"))
            .unwrap_or("");
        let key = fingerprint([qemu_version()?.as_str(), &host, model]);
        let memo = vm_dir().join(format!("accel-{key}"));
        if let Some(known) = read(&memo) {
            return Ok(known);
        }
        let lock = File::create(vm_dir().join("accel.lock"))
            .and_then(|file| file.lock().map(|()| file))
            .tried(|| "lock the accelerator's probe".into())?;
        if let Some(known) = read(&memo) {
            return Ok(known);
        }
        let found = if boots_with_kvm(image)? {
            Self::Kvm
        } else {
            Self::Tcg
        };
        eprintln!(
            "vm: probed /dev/kvm by booting: using {} from now on",
            found.name()
        );
        fs::write(&memo, found.name()).tried(|| format!("write {}", memo.display()))?;
        drop(lock);
        Ok(found)
    }
}

fn read(memo: &Path) -> Option<Accel> {
    let name = fs::read_to_string(memo).ok()?;
    [Accel::Kvm, Accel::Tcg]
        .into_iter()
        .find(|accel| accel.name() == name.trim())
}

fn boots_with_kvm(image: &Image) -> Result<bool> {
    let output = Command::new("timeout")
        .args([
            "-s",
            "KILL",
            PROBE_SECONDS,
            "qemu-system-x86_64",
            "-nodefaults",
        ])
        .args([
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "pc",
            "-m",
            "512M",
        ])
        .args(Accel::Kvm.words())
        .arg("-kernel")
        .arg(image.dir.join("vmlinuz"))
        .arg("-initrd")
        .arg(image.dir.join("initrd"))
        .args([
            "-append",
            "console=ttyS0 panic=-1 lun-vm.probe",
            "-no-reboot",
        ])
        .args(["-serial", "stdio"])
        .stdin(Stdio::null())
        .output()
        .tried(|| "run qemu-system-x86_64 (vm/install-deps installs it)".into())?;
    Ok(String::from_utf8_lossy(&output.stdout).contains("lun-vm probe: ok"))
}

/// What `qemu-system-x86_64 --version` says.
pub(crate) fn qemu_version() -> Result<String> {
    let output = Command::new("qemu-system-x86_64")
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .tried(|| "run qemu-system-x86_64 (vm/install-deps installs it)".into())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
