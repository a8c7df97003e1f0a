//! The guest's part of the crash tests: a writer whose every block tells what it is, the check of what
//! is left of it, and a hand that strikes at a moment the test chose.
//!
//!     lun-vm-load write PATH SEED             fills PATH, prints `filled`, then writes until it is killed;
//!                                             prints `T G` once operation G of thread T is flushed
//!     lun-vm-load check PATH SEED G,G,G,G     each block holds the latest flushed write or a later one
//!     lun-vm-load strike WHEN -- COMMAND...   waits for WHEN and starts COMMAND, which is ready by then:
//!                                             `now`, `file PATH N` (the N-th change of a file),
//!                                             `child PID NAME` (a process of that name under PID),
//!                                             `sync PATH SIXTEENTHS` (a `sync_completed` this far)
//!
//! A write of thread T is a function of the seed and its number alone, so the host records numbers and no
//! data. Direct I/O throughout: what the page cache knows says nothing of the disks. std alone, as the agent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;
const BLOCK_U64: u64 = BLOCK as u64;
const THREADS: u64 = 4;
/// Blocks that lie together and belong to one thread.
const GROUP: u64 = 16;
const LONGEST_WRITE: u64 = 8;
/// Writes between two flushes.
const PER_FLUSH: u64 = 6;
/// After each flush a thread lets the rest of an emulated machine breathe.
const PACE: Duration = Duration::from_millis(30);
const O_DIRECT: i32 = 0o40_000;
const MAGIC: u64 = 0x6c75_6e64_6c6f_6164;
/// A strike that has not come by then comes now: the moment has passed.
const STRIKE_DEADLINE: Duration = Duration::from_secs(20);

type Words = Result<(), String>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["write", path, seed] => parsed(seed).and_then(|seed| write(path, seed)),
        ["check", path, seed, flushed] => check(path, seed, flushed),
        ["strike", rest @ ..] => strike(rest),
        _ => Err("usage: lun-vm-load write|check|strike ...".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            eprintln!("lun-vm-load: {words}");
            ExitCode::FAILURE
        }
    }
}

fn parsed(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word}: not a number"))
}

fn scramble(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What one seed writes to a number of blocks.
#[derive(Clone, Copy)]
struct Pattern {
    seed: u64,
    blocks: u64,
}

impl Pattern {
    fn new(seed: u64, bytes: u64) -> Self {
        let whole = THREADS * GROUP;
        Self {
            seed,
            blocks: bytes / BLOCK_U64 / whole * whole,
        }
    }

    fn thread_of(block: u64) -> u64 {
        block / GROUP % THREADS
    }

    /// First block and number of blocks of a thread's write; writes count from 1.
    fn write(self, thread: u64, number: u64) -> (u64, u64) {
        let dice = scramble(scramble(self.seed ^ (thread << 56)) ^ number);
        let group = dice % (self.blocks / GROUP / THREADS);
        let start = (dice >> 32) % GROUP;
        let length = 1 + (dice >> 48) % LONGEST_WRITE.min(GROUP - start);
        ((group * THREADS + thread) * GROUP + start, length)
    }

    /// The content of a block after write `number` of its thread; 0 is the filling.
    fn content(self, block: u64, number: u64, into: &mut [u8]) {
        let mut state = scramble(self.seed ^ scramble(block) ^ number.rotate_left(40));
        let head = [MAGIC, self.seed, block, number];
        let filler = std::iter::repeat_with(|| {
            // A generator that need not be good, for most of an emulated machine's time goes here.
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(block | 1);
            state
        });
        for (word, value) in into.chunks_exact_mut(8).zip(head.into_iter().chain(filler)) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// For each block the last of the flushed writes.
    fn latest(self, flushed: &[u64]) -> Vec<u64> {
        let mut latest = vec![0; usize::try_from(self.blocks).unwrap_or(0)];
        for (thread, last) in (0..).zip(flushed) {
            for number in 1..=*last {
                let (first, length) = self.write(thread, number);
                for block in first..first + length {
                    if let Some(entry) = usize::try_from(block).ok().and_then(|b| latest.get_mut(b))
                    {
                        *entry = number;
                    }
                }
            }
        }
        latest
    }

    /// What is wrong with a block, if anything is; true when it is newer than the last flush.
    fn judge(self, block: u64, latest: u64, bytes: &[u8]) -> Result<bool, String> {
        let mut whole = [0; BLOCK];
        self.content(block, latest, &mut whole);
        if bytes == whole {
            return Ok(false);
        }
        let word = |index: usize| {
            let bytes = bytes.chunks_exact(8).nth(index)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let (Some(magic), Some(seed), Some(owner), Some(number)) =
            (word(0), word(1), word(2), word(3))
        else {
            return Err("too short".into());
        };
        if magic != MAGIC || seed != self.seed {
            return Err(format!(
                "foreign content (first words {magic:#x}, {seed:#x}), expected write {latest}"
            ));
        }
        if owner != block {
            return Err(format!("the content of block {owner}, write {number}"));
        }
        self.content(block, number, &mut whole);
        if bytes != whole {
            return Err(format!("torn: begins as write {number}"));
        }
        let (first, length) = self.write(Self::thread_of(block), number);
        if number <= latest {
            return Err(format!("stale: write {number}, flushed was {latest}"));
        }
        if !(first..first + length).contains(&block) {
            return Err(format!("write {number} never went here"));
        }
        Ok(true)
    }
}

/// Memory that direct I/O takes: aligned to a block.
struct Aligned {
    bytes: Vec<u8>,
    skip: usize,
    length: usize,
}

impl Aligned {
    fn new(blocks: u64) -> Self {
        let length = usize::try_from(blocks).unwrap_or(1) * BLOCK;
        let bytes = vec![0; length + BLOCK];
        let skip = bytes.as_ptr().align_offset(BLOCK);
        Self {
            bytes,
            skip,
            length,
        }
    }

    fn get(&mut self) -> &mut [u8] {
        self.bytes
            .get_mut(self.skip..self.skip + self.length)
            .unwrap_or_default()
    }
}

fn open(path: &str, for_writing: bool) -> Result<(File, u64), String> {
    let mut options = OpenOptions::new();
    options.read(true).write(for_writing).custom_flags(O_DIRECT);
    let told = |error: io::Error| format!("{path}: {error}");
    let mut file = options.open(path).map_err(told)?;
    let bytes = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(told)?;
    Ok((file, bytes))
}

fn write(path: &str, seed: u64) -> Words {
    let (file, bytes) = open(path, true)?;
    let pattern = Pattern::new(seed, bytes);
    if pattern.blocks == 0 {
        return Err(format!("{path}: {bytes} bytes are too few"));
    }
    let told = |error: io::Error| format!("{path}: {error}");
    let batch = THREADS * GROUP;
    let mut buffer = Aligned::new(batch);
    for first in (0..pattern.blocks).step_by(usize::try_from(batch).unwrap_or(1)) {
        for (block, bytes) in (first..).zip(buffer.get().chunks_exact_mut(BLOCK)) {
            pattern.content(block, 0, bytes);
        }
        file.write_all_at(buffer.get(), first * BLOCK_U64)
            .map_err(told)?;
    }
    file.sync_data().map_err(told)?;
    say("filled");
    let (failed, failures) = mpsc::channel();
    for thread in 0..THREADS {
        let (file, failed) = (file.try_clone().map_err(told)?, failed.clone());
        thread::spawn(move || {
            if let Err(error) = keep_writing(&file, pattern, thread) {
                let _ = failed.send(error);
            }
        });
    }
    // Whoever fails first ends them all.
    Err(failures
        .recv()
        .map_or_else(|_| "the writers ended".into(), told))
}

fn keep_writing(file: &File, pattern: Pattern, thread: u64) -> io::Result<()> {
    let mut buffer = Aligned::new(LONGEST_WRITE);
    for number in 1.. {
        let (first, length) = pattern.write(thread, number);
        let length = usize::try_from(length).unwrap_or(1) * BLOCK;
        let bytes = buffer.get().get_mut(..length).unwrap_or_default();
        for (block, bytes) in (first..).zip(bytes.chunks_exact_mut(BLOCK)) {
            pattern.content(block, number, bytes);
        }
        file.write_all_at(bytes, first * BLOCK_U64)?;
        if number % PER_FLUSH == 0 {
            file.sync_data()?;
            say(&format!("{thread} {number}"));
            thread::sleep(PACE);
        }
    }
    Ok(())
}

/// One line at once, whole.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = out
        .write_all(format!("{line}\n").as_bytes())
        .and_then(|()| out.flush());
}

fn check(path: &str, seed: &str, flushed: &str) -> Words {
    let flushed: Vec<u64> = flushed.split(',').map(parsed).collect::<Result<_, _>>()?;
    let (file, bytes) = open(path, false)?;
    let pattern = Pattern::new(parsed(seed)?, bytes);
    let (mut newer, mut seen, mut bad) = (0_u64, 0_u64, 0_u64);
    let mut buffer = Aligned::new(GROUP);
    for (first, latest) in (0..pattern.blocks)
        .step_by(16)
        .zip(pattern.latest(&flushed).chunks(16))
    {
        let place = first * BLOCK_U64;
        file.read_exact_at(buffer.get(), place)
            .map_err(|error| format!("{path} at {place}: {error}"))?;
        for ((block, latest), bytes) in (first..).zip(latest).zip(buffer.get().chunks_exact(BLOCK))
        {
            seen += 1;
            match pattern.judge(block, *latest, bytes) {
                Ok(is_newer) => newer += u64::from(is_newer),
                Err(words) => {
                    bad += 1;
                    if bad <= 10 {
                        println!("block {block}: {words}");
                    }
                }
            }
        }
    }
    println!("{seen} blocks, {newer} newer than the last flush, {bad} bad");
    if bad > 0 || seen == 0 {
        return Err(format!("{path}: {bad} bad blocks of {seen}"));
    }
    Ok(())
}

fn strike(words: &[&str]) -> Words {
    let at = words
        .iter()
        .position(|word| *word == "--")
        .ok_or("strike WHEN -- COMMAND")?;
    let (when, command) = words.split_at(at);
    let [_, program, arguments @ ..] = command else {
        return Err("strike WHEN -- COMMAND".into());
    };
    // The command waits for its first line, so that nothing but a write lies between moment and blow.
    let mut hand = Command::new("/bin/bash")
        .args([
            "-c",
            "echo ready; read -r _ && exec \"$@\"",
            "strike",
            program,
        ])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("bash: {error}"))?;
    let (Some(mut trigger), Some(mut output)) = (hand.stdin.take(), hand.stdout.take()) else {
        return Err("no pipe to bash".into());
    };
    output
        .read_exact(&mut [0; 6])
        .map_err(|error| format!("bash: {error}"))?;
    say("armed");
    let moment = await_moment(when)?;
    let _ = trigger.write_all(b"now\n");
    drop(trigger);
    say(&format!("struck {moment}"));
    match hand.wait() {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("{program}: {other:?}")),
    }
}

/// Looks without pause: the moments meant here last microseconds.
fn await_moment(when: &[&str]) -> Result<String, String> {
    let until = Instant::now() + STRIKE_DEADLINE;
    let mut changes = 0;
    let mut last = None;
    loop {
        let hit = match when {
            ["now"] => true,
            ["file", path, count] => {
                let now = fs::metadata(path)
                    .ok()
                    .map(|m| (m.mtime(), m.mtime_nsec(), m.size()));
                if last.is_some() && last != Some(now) {
                    changes += 1;
                }
                last = Some(now);
                changes >= parsed(count)?
            }
            ["child", pid, name] => has_child(pid, name),
            ["sync", path, sixteenths] => {
                let text = fs::read_to_string(path).unwrap_or_default();
                let mut numbers = text
                    .split('/')
                    .filter_map(|word| word.trim().parse::<u64>().ok());
                match (numbers.next(), numbers.next()) {
                    (Some(done), Some(all)) => done * 16 >= all * parsed(sixteenths)?,
                    _ => false,
                }
            }
            _ => return Err(format!("unknown moment {when:?}")),
        };
        if hit {
            return Ok("in time".into());
        }
        if Instant::now() > until {
            return Ok("late".into());
        }
        thread::yield_now();
    }
}

/// Whether a process has a child of that name.
fn has_child(pid: &str, name: &str) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    tasks.flatten().any(|task| {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        children.split_whitespace().any(|child| {
            fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == name)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERN: Pattern = Pattern {
        seed: 7,
        blocks: 1024,
    };

    #[test]
    fn writes_stay_in_their_threads_groups() {
        for thread in 0..THREADS {
            for number in 1..500 {
                let (first, length) = PATTERN.write(thread, number);
                assert!(length >= 1 && first + length <= PATTERN.blocks);
                for block in first..first + length {
                    assert_eq!(Pattern::thread_of(block), thread);
                }
            }
        }
    }

    #[test]
    fn each_kind_of_damage_is_told() {
        let latest = PATTERN.latest(&[40, 40, 40, 40]);
        let (block, _) = PATTERN.write(2, 41);
        let expected = latest[usize::try_from(block).unwrap()];
        let mut bytes = [0; BLOCK];
        let said = |bytes: &[u8]| PATTERN.judge(block, expected, bytes);
        assert!(said(&bytes).unwrap_err().contains("foreign"));
        PATTERN.content(block, expected, &mut bytes);
        assert_eq!(said(&bytes), Ok(false));
        PATTERN.content(block, 41, &mut bytes);
        assert_eq!(said(&bytes), Ok(true));
        bytes[BLOCK - 1] ^= 1;
        assert!(said(&bytes).unwrap_err().contains("torn"));
        PATTERN.content(block + 1, 41, &mut bytes);
        assert!(said(&bytes).unwrap_err().contains("the content of block"));
        let elsewhere = (42..).find(|n| {
            let (first, length) = PATTERN.write(2, *n);
            !(first..first + length).contains(&block)
        });
        PATTERN.content(block, elsewhere.unwrap(), &mut bytes);
        assert!(said(&bytes).unwrap_err().contains("never went here"));
        PATTERN.content(block, 41, &mut bytes);
        let stale = PATTERN.judge(block, 99, &bytes).unwrap_err();
        assert!(stale.contains("stale"), "{stale}");
    }
}
