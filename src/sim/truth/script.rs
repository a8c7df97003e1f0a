//! The language of the scenarios (`scenarios.txt`): one step a line.

use lun_core::action::SyncWord;
use lun_core::facts::Level;

/// What the drives of a scenario are made of on a real kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Loop devices.
    #[default]
    Loop,
    /// Mapped devices on loop devices, which can hang and have sectors that fail.
    Mapped,
    /// Partitions: `a` and `b` lie on one disk, `c` and `d` on the next.
    Parts,
    /// Emulated SCSI disks, which can be pulled.
    Scsi,
    /// Mapped devices, and the arrays are raid sets of device-mapper whose legs lie on them.
    Sets,
    /// The same, and the sets are volumes of LVM, of whose group members and spares are physical volumes.
    Volumes,
}

impl Kind {
    /// Whether the arrays are raid sets of device-mapper.
    #[must_use]
    pub const fn is_raid_set(self) -> bool {
        matches!(self, Self::Sets | Self::Volumes)
    }
}

/// An array as a scenario makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "independent options of a command line"
)]
pub struct Create {
    /// Personality.
    pub level: Level,
    /// Drives by letter in the order of their slots; `-` is a missing one.
    pub members: String,
    /// Spares.
    pub spares: String,
    /// With a write-intent bitmap.
    pub bitmap: bool,
    /// `--assume-clean`.
    pub clean: bool,
    /// Metadata 0.90 in place of 1.2.
    pub old_metadata: bool,
}

/// One step of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The array that the following steps speak of: `x` at first.
    Use(char),
    /// Makes an array and waits until it has come to rest.
    Create(Create),
    /// Port: writes a word to `sync_action`.
    Word(SyncWord),
    /// Port: adds a spare.
    Add(char),
    /// Port: re-adds a former member.
    ReAdd(char),
    /// Port: fails a member.
    Fail(char),
    /// Port: removes a member.
    Remove(char),
    /// Port: marks a member for replacement.
    Want(char),
    /// Port: binds a spare to a slot.
    SetSlot(char, u32),
    /// Port: erases a drive.
    Wipe(char),
    /// Port: leaves auto-read-only.
    ReadWrite,
    /// Port: lets the next check begin at the beginning and go on to the end.
    WholeRange,
    /// Port: forgets a pending resync.
    ClearResync,
    /// Port: looks at drives that are in no array.
    Look(String),
    /// A member gives an error that its array cannot but notice.
    Break(char),
    /// An application writes so many blocks of 64 KiB, from the middle of the array on.
    Write(u32),
    /// The array is stopped.
    Stop,
    /// The array is assembled from these drives.
    Assemble {
        /// Drives by letter.
        drives: String,
        /// It begins auto-read-only.
        auto: bool,
        /// It is declared out of step.
        dirty: bool,
    },
    /// An administrator makes the array read-only.
    Readonly,
    /// A drive's input and output hang.
    Hang(char),
    /// A drive goes on.
    Unhang(char),
    /// The action that blocked has come back.
    Ended,
    /// A spot in the middle of a drive cannot be read or written.
    Spoil(char),
    /// What a drive holds in its middle is changed behind the array's back.
    Differ(char),
    /// Every read and write of a drive fails.
    Kill(char),
    /// A drive is pulled.
    Pull(char),
    /// Syncs stop at so many sixteenths, and wait there.
    Park(u32),
    /// Syncs no longer wait anywhere.
    Go,
    /// A drive bears the superblock of another array.
    Foreign(char),
    /// Reads and writes of a drive work again.
    Heal(char),
    /// Port: takes the leg on this drive back.
    Revive(char),
    /// Port: lays a leg on this drive in place of the one in this slot.
    Leg(u32, char),
    /// Port: erases the superblock of the leg that was on this drive.
    Forget(char),
    /// Port: drops a second table and what was laid in vain.
    DropTable,
    /// Port: has LVM replace the failed legs of a volume, wherever there is room.
    RepairVolume,
    /// Port: adds a drive to the volume group.
    Extend(char),
    /// An administrator suspends a set and resumes it.
    Suspend,
    /// An administrator sends a set a message.
    Message(SyncWord),
    /// An administrator loads a set's table again, and does not resume it.
    Load,
}

/// One scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// What its drives are made of.
    pub kind: Kind,
    /// Its drives, by letter.
    pub drives: String,
    /// Those of them that are half as large as the others.
    pub small: String,
    /// Sync actions that a kernel may pass through where the simulator does not, since how long
    /// they last depends on timing.
    pub may: Vec<String>,
    /// Whether a superblock happens to wait for a drive that hangs depends on timing too.
    pub may_wait: bool,
    /// Each step with the line that it was written as.
    pub steps: Vec<(String, Step)>,
}

/// Reads scenarios. A line `scenario NAME` begins one; `kind`, `drives`, `small` and `may` describe
/// it; every other line is a step. `#` begins a comment.
///
/// # Errors
/// The line that was not understood.
pub fn parse(text: &str) -> Result<Vec<Script>, String> {
    let mut scripts: Vec<Script> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        if let ["scenario", name] = words.as_slice() {
            scripts.push(Script {
                name: (*name).to_owned(),
                kind: Kind::default(),
                drives: String::new(),
                small: String::new(),
                may: Vec::new(),
                may_wait: false,
                steps: Vec::new(),
            });
        } else {
            let script = scripts.last_mut().ok_or("a scenario must come first")?;
            describe(script, line, &words)
                .ok_or_else(|| format!("line {number}: {line:?} is not understood"))?;
        }
    }
    Ok(scripts)
}

/// Takes in one line of a scenario.
fn describe(script: &mut Script, line: &str, words: &[&str]) -> Option<()> {
    match words {
        ["kind", kind] => {
            script.kind = match *kind {
                "mapped" => Kind::Mapped,
                "parts" => Kind::Parts,
                "scsi" => Kind::Scsi,
                "sets" => Kind::Sets,
                "volumes" => Kind::Volumes,
                _ => return None,
            };
        }
        ["drives", drives] => script.drives = (*drives).to_owned(),
        ["small", drives] => script.small = (*drives).to_owned(),
        ["may", "write-pending"] => script.may_wait = true,
        ["may", actions @ ..] => {
            script.may = actions.iter().map(|action| (*action).to_owned()).collect();
        }
        _ => script.steps.push((line.to_owned(), step(words)?)),
    }
    Some(())
}

fn step(words: &[&str]) -> Option<Step> {
    Some(match words {
        ["use", array] => Step::Use(letter(array)?),
        ["create", level, members, options @ ..] => Step::Create(create(level, members, options)?),
        ["assemble", drives, options @ ..] => Step::Assemble {
            drives: (*drives).to_owned(),
            auto: options.contains(&"auto"),
            dirty: options.contains(&"dirty"),
        },
        ["look", drives] => Step::Look((*drives).to_owned()),
        ["slot", drive, slot] => Step::SetSlot(letter(drive)?, slot.parse().ok()?),
        ["write", blocks] => Step::Write(blocks.parse().ok()?),
        ["leg", slot, drive] => Step::Leg(slot.parse().ok()?, letter(drive)?),
        ["message", word] => Step::Message(sync_word(word)?),
        ["park", sixteenths] => Step::Park(sixteenths.parse().ok()?),
        [verb, drive] => on_drive(verb, letter(drive)?)?,
        ["read-write"] => Step::ReadWrite,
        ["whole-range"] => Step::WholeRange,
        ["clear-resync"] => Step::ClearResync,
        ["stop"] => Step::Stop,
        ["suspend"] => Step::Suspend,
        ["load"] => Step::Load,
        ["drop-table"] => Step::DropTable,
        ["lv-repair"] => Step::RepairVolume,
        ["readonly"] => Step::Readonly,
        ["ended"] => Step::Ended,
        ["go"] => Step::Go,
        [word] => Step::Word(sync_word(word)?),
        _ => return None,
    })
}

fn on_drive(verb: &str, drive: char) -> Option<Step> {
    Some(match verb {
        "add" => Step::Add(drive),
        "re-add" => Step::ReAdd(drive),
        "fail" => Step::Fail(drive),
        "remove" => Step::Remove(drive),
        "want" => Step::Want(drive),
        "wipe" => Step::Wipe(drive),
        "break" => Step::Break(drive),
        "hang" => Step::Hang(drive),
        "unhang" => Step::Unhang(drive),
        "spoil" => Step::Spoil(drive),
        "differ" => Step::Differ(drive),
        "kill" => Step::Kill(drive),
        "pull" => Step::Pull(drive),
        "foreign" => Step::Foreign(drive),
        "heal" => Step::Heal(drive),
        "revive" => Step::Revive(drive),
        "forget" => Step::Forget(drive),
        "extend" => Step::Extend(drive),
        _ => return None,
    })
}

fn create(level: &str, members: &str, options: &[&str]) -> Option<Create> {
    let level = match level {
        "raid0" => Level::Raid0,
        "raid1" => Level::Raid1,
        "raid5" => Level::Raid5,
        "raid6" => Level::Raid6,
        "raid10" => Level::Raid10,
        _ => return None,
    };
    let mut create = Create {
        level,
        members: members.to_owned(),
        spares: String::new(),
        bitmap: false,
        clean: false,
        old_metadata: false,
    };
    for option in options {
        match *option {
            "bitmap" => create.bitmap = true,
            "clean" => create.clean = true,
            "0.90" => create.old_metadata = true,
            _ => create.spares = option.strip_prefix("spare=")?.to_owned(),
        }
    }
    Some(create)
}

/// The one letter of a word.
fn letter(word: &str) -> Option<char> {
    let mut chars = word.chars();
    let first = chars.next()?;
    (first.is_ascii_lowercase() && chars.next().is_none()).then_some(first)
}

fn sync_word(word: &str) -> Option<SyncWord> {
    [
        SyncWord::Frozen,
        SyncWord::Idle,
        SyncWord::Recover,
        SyncWord::Resync,
        SyncWord::Check,
        SyncWord::Repair,
    ]
    .into_iter()
    .find(|known| known.as_str() == word)
}
