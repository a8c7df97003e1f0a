//! What is kept of a machine whose test failed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::channel::Channel;
use crate::error::{last_lines, tail};
use crate::image::failures_dir;

const JOURNAL_DEADLINE: Duration = Duration::from_secs(20);
const SHOWN: usize = 60;

/// Copies the console's log and, from a living guest, the journal of this boot; says where.
pub(crate) fn keep(name: &str, dir: &Path, channel: Option<&Arc<Channel>>) {
    let safe: String = name
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "-_.".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let to = failures_dir().join(format!("{safe}-{}", std::process::id()));
    if let Err(error) = fs::create_dir_all(&to) {
        eprintln!(
            "vm {name}: cannot keep evidence in {}: {error}",
            to.display()
        );
        return;
    }
    let journal = channel.map_or_else(
        || "(the guest was off)".to_owned(),
        |channel| read_journal(channel).unwrap_or_else(|error| format!("({error})")),
    );
    let written = fs::copy(dir.join("console.log"), to.join("console.log"))
        .and_then(|_| fs::copy(dir.join("qemu.log"), to.join("qemu.log")))
        .and_then(|_| fs::write(to.join("journal.log"), &journal));
    if let Err(error) = written {
        eprintln!(
            "vm {name}: evidence in {} is incomplete: {error}",
            to.display()
        );
    }
    eprintln!(
        "vm {name}: kept console.log, journal.log and qemu.log in {}",
        to.display()
    );
    eprintln!(
        "--- console, last {SHOWN} lines\n{}",
        tail(&to.join("console.log"), SHOWN)
    );
    eprintln!(
        "--- journal, last {SHOWN} lines\n{}",
        last_lines(&journal, SHOWN)
    );
}

fn read_journal(channel: &Arc<Channel>) -> crate::Result<String> {
    let job = channel.start("exec journalctl -b --no-pager -o short-precise")?;
    let output = job.wait(JOURNAL_DEADLINE)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
