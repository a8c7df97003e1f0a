//! The disks of a machine that boots cold: its system disk and those of its test, all of them with a
//! write cache that a power cut loses.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::accel::Accel;
use crate::disk::{BLOCK, Disk, Loss, Survival};
use crate::error::{Error, Result, Tried};
use crate::image::Image;
use crate::machine::{hardware_on, listen, sparse};

/// Each with its server; the system disk comes first.
#[derive(Debug)]
pub(crate) struct Disks(Vec<(String, Arc<Disk>)>);

impl Disks {
    /// Copies the image's system disk into `dir` (its holes stay holes) and makes the others.
    pub(crate) fn make(dir: &Path, image: &Image, sizes: &[u64]) -> Result<Self> {
        let from = image.dir.join("root.raw");
        let copied = Command::new("cp")
            .args(["--sparse=always", "--reflink=auto", "--"])
            .arg(&from)
            .arg(dir.join("root.disk"))
            .stdin(Stdio::null())
            .output()
            .tried(|| "run cp".into())?;
        if !copied.status.success() {
            let words = String::from_utf8_lossy(&copied.stderr).into_owned();
            let from = from.display();
            return Err(Error::Usage(format!("cannot copy {from}: {words}")));
        }
        let mut names = vec!["root".to_owned()];
        for (number, bytes) in sizes.iter().enumerate() {
            let name = format!("disk{number}");
            sparse(&dir.join(format!("{name}.disk")), *bytes)?;
            names.push(name);
        }
        let served = names.into_iter().map(|name| {
            let listener = listen(dir, &format!("{name}.sock"))?;
            let disk = Disk::serve(&dir.join(format!("{name}.disk")), listener)?;
            Ok((name, disk))
        });
        served.collect::<Result<_>>().map(Self)
    }

    /// The machine's command line: the usual one on these disks. A block of 4096 bytes is written as a
    /// whole or not at all, and the guest is told so, as drives of today tell it.
    pub(crate) fn hardware(&self, accel: Accel) -> Vec<String> {
        let mut words = Vec::new();
        for (name, _) in &self.0 {
            let own = [
                "-blockdev".to_owned(),
                format!("driver=nbd,node-name={name},server.type=unix,server.path={name}.sock"),
                "-device".to_owned(),
                format!(
                    "virtio-blk-pci,drive={name},serial={name},write-cache=on,physical_block_size={BLOCK}"
                ),
            ];
            if words.is_empty() {
                words = hardware_on(accel, own.each_ref().map(String::as_str));
            } else {
                words.extend(own);
            }
        }
        words
    }

    /// The power of all of them goes at one moment; QEMU is dead.
    pub(crate) fn cut(&self, seed: u64, survival: Survival) -> Result<Loss> {
        let mut total = Loss::default();
        for (salt, (_, disk)) in (1_u64..).zip(&self.0) {
            let loss = disk.cut(seed.wrapping_mul(salt), survival)?;
            total.unflushed += loss.unflushed;
            total.lost += loss.lost;
        }
        Ok(total)
    }

    /// The file behind the test's disk `number`.
    pub(crate) fn file(&self, number: usize) -> Option<&Path> {
        self.0.get(number + 1).map(|(_, disk)| disk.path())
    }
}
