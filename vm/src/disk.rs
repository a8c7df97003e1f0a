//! A disk whose volatile write cache is lost in a power cut, as a real drive's is.
//!
//! QEMU reaches it over NBD on a unix socket; the server is a thread of this process. What the guest has
//! written and not flushed stays in memory. A flush, or a write with FUA, puts it into the file behind the
//! disk. At a cut each block of the cache is written or lost by the toss of a seeded coin: a drive writes
//! its cache in an order of its own. (Killing QEMU alone loses nothing, for the host keeps what QEMU wrote.)
//!
//! The protocol is that of the NBD project's `doc/proto.md`: fixed newstyle, `NBD_OPT_GO`, simple replies.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Error, Result, Tried};

/// What a drive of today writes as a whole or not at all: its physical block.
pub(crate) const BLOCK: usize = 4096;
const BLOCK_U64: u64 = BLOCK as u64;
/// A drive's cache is small; what does not fit is written.
const CACHE_BLOCKS: usize = 8192;
/// QEMU is dead when its disks are cut; what it had sent is soon read.
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);

const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const FIXED_NEWSTYLE_NO_ZEROES: u16 = 3;
const OPT_ABORT: u32 = 2;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERR_UNSUPPORTED: u32 = (1 << 31) | 1;
/// Has flags, takes flushes, takes FUA.
const TRANSMISSION: u16 = 1 | 4 | 8;
const FLAG_FUA: u16 = 1;
const EINVAL: u32 = 22;
const EIO: u32 = 5;
/// No request of QEMU's is larger.
const LONGEST: u32 = 64 << 20;

/// How much of a write cache survives a cut, in percent of its blocks: 0 loses all that was not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survival(pub u8);

/// What a cut did to the write caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Blocks of 4096 bytes that had been written and not flushed.
    pub unflushed: usize,
    /// How many of them are lost.
    pub lost: usize,
}

#[derive(Debug, Default)]
struct State {
    cache: BTreeMap<u64, Vec<u8>>,
    connected: bool,
}

/// A disk and its server.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    file: File,
    bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
    /// Closed with the disk, which ends the thread that waits for a client.
    _lifeline: UnixStream,
}

impl Disk {
    /// Serves the file at `path` to whoever connects to `listener`, one at a time, until it is dropped.
    pub(crate) fn serve(path: &Path, listener: UnixListener) -> Result<Arc<Self>> {
        let what = || format!("open the disk {}", path.display());
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .tried(what)?;
        let bytes = file.metadata().tried(what)?.len();
        if bytes % BLOCK_U64 != 0 {
            let words = format!("{}: {bytes} bytes are no whole blocks", path.display());
            return Err(Error::Usage(words));
        }
        let (lifeline, ended) = UnixStream::pair().tried(what)?;
        let disk = Arc::new(Self {
            path: path.to_owned(),
            file,
            bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
            _lifeline: lifeline,
        });
        // No strong reference while it waits.
        let weak = Arc::downgrade(&disk);
        thread::spawn(move || {
            while let Some(stream) = knock(&listener, &ended) {
                let Some(disk) = weak.upgrade() else { return };
                disk.connect(true);
                // QEMU is killed, not told to end.
                if let Err(error) = disk.talk(&mut &stream)
                    && !matches!(
                        error.kind(),
                        ErrorKind::UnexpectedEof
                            | ErrorKind::ConnectionReset
                            | ErrorKind::BrokenPipe
                    )
                {
                    eprintln!("vm: disk {}: {error}", disk.path.display());
                }
                disk.connect(false);
            }
        });
        Ok(disk)
    }

    /// The file behind it: what a power cut now would surely leave.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The power goes: of what was not flushed `survival` percent is written, the rest is lost. QEMU must
    /// be dead.
    pub(crate) fn cut(&self, seed: u64, survival: Survival) -> Result<Loss> {
        let what = || format!("cut the power of {}", self.path.display());
        let mut state = lock(&self.state);
        while state.connected {
            let (next, late) = self
                .changed
                .wait_timeout(state, DRAIN_DEADLINE)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            if late.timed_out() && state.connected {
                return Err(io::Error::from(ErrorKind::TimedOut)).tried(what);
            }
        }
        let cache = std::mem::take(&mut state.cache);
        let mut loss = Loss {
            unflushed: cache.len(),
            lost: 0,
        };
        for (block, bytes) in cache {
            let toss = scramble(seed ^ block.wrapping_mul(0x9e37_79b9_7f4a_7c15)) % 100;
            if toss < u64::from(survival.0) {
                self.file
                    .write_all_at(&bytes, block * BLOCK_U64)
                    .tried(what)?;
            } else {
                loss.lost += 1;
            }
        }
        Ok(loss)
    }

    fn connect(&self, connected: bool) {
        lock(&self.state).connected = connected;
        self.changed.notify_all();
    }

    fn talk(&self, wire: &mut (impl Read + Write)) -> io::Result<()> {
        if !self.negotiate(wire)? {
            return Ok(());
        }
        loop {
            let request = Request::read(wire)?;
            match request.kind {
                2 => return Ok(()),
                0 => match self.read(request.offset, request.length) {
                    Ok(bytes) => {
                        request.reply(wire, 0)?;
                        wire.write_all(&bytes)?;
                    }
                    Err(error) => request.reply(wire, number(&error))?,
                },
                1 => {
                    let mut bytes = vec![0; request.length as usize];
                    wire.read_exact(&mut bytes)?;
                    let fua = request.flags & FLAG_FUA != 0;
                    let done = self.write(request.offset, &bytes, fua);
                    request.reply(wire, done.map_or_else(|error| number(&error), |()| 0))?;
                }
                3 => {
                    let done = self.flush();
                    request.reply(wire, done.map_or_else(|error| number(&error), |()| 0))?;
                }
                _ => request.reply(wire, EINVAL)?,
            }
        }
    }

    /// True once the client has chosen the disk, false when it went away politely.
    fn negotiate(&self, wire: &mut (impl Read + Write)) -> io::Result<bool> {
        wire.write_all(b"NBDMAGIC")?;
        wire.write_all(&OPTION_MAGIC.to_be_bytes())?;
        wire.write_all(&FIXED_NEWSTYLE_NO_ZEROES.to_be_bytes())?;
        let _client_flags: [u8; 4] = take(wire)?;
        loop {
            if u64::from_be_bytes(take(wire)?) != OPTION_MAGIC {
                return Err(noise("an option without its magic"));
            }
            let option = u32::from_be_bytes(take(wire)?);
            let length = u32::from_be_bytes(take(wire)?);
            if length > 1 << 16 {
                return Err(noise("an option that is too long"));
            }
            wire.read_exact(&mut vec![0; length as usize])?;
            match option {
                OPT_GO => {
                    let mut info = vec![0, 0];
                    info.extend(self.bytes.to_be_bytes());
                    info.extend(TRANSMISSION.to_be_bytes());
                    option_reply(wire, option, REP_INFO, &info)?;
                    option_reply(wire, option, REP_ACK, &[])?;
                    return Ok(true);
                }
                OPT_ABORT => {
                    option_reply(wire, option, REP_ACK, &[])?;
                    return Ok(false);
                }
                _ => option_reply(wire, option, REP_ERR_UNSUPPORTED, &[])?,
            }
        }
    }

    fn within(&self, offset: u64, length: u64) -> io::Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.bytes => Ok(()),
            _ => Err(noise("past the end of the disk")),
        }
    }

    fn read(&self, offset: u64, length: u32) -> io::Result<Vec<u8>> {
        self.within(offset, u64::from(length))?;
        let state = lock(&self.state);
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        for piece in pieces(offset, bytes.len()) {
            if let Some(cached) = state.cache.get(&piece.block)
                && let Some(from) = cached.get(piece.within.clone())
                && let Some(to) = bytes.get_mut(piece.of_request)
            {
                to.copy_from_slice(from);
            }
        }
        Ok(bytes)
    }

    fn write(&self, offset: u64, bytes: &[u8], fua: bool) -> io::Result<()> {
        self.within(offset, bytes.len() as u64)?;
        let mut state = lock(&self.state);
        let mut written = Vec::new();
        for piece in pieces(offset, bytes.len()) {
            let mut whole = match state.cache.remove(&piece.block) {
                Some(cached) => cached,
                None => {
                    let mut stored = vec![0; BLOCK];
                    self.file
                        .read_exact_at(&mut stored, piece.block * BLOCK_U64)?;
                    stored
                }
            };
            if let Some(to) = whole.get_mut(piece.within)
                && let Some(from) = bytes.get(piece.of_request)
            {
                to.copy_from_slice(from);
            }
            written.push((piece.block, whole));
        }
        if fua {
            for (block, whole) in written {
                self.file.write_all_at(&whole, block * BLOCK_U64)?;
            }
            return Ok(());
        }
        state.cache.extend(written);
        if state.cache.len() > CACHE_BLOCKS {
            self.destage(&mut state)?;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.destage(&mut lock(&self.state))
    }

    fn destage(&self, state: &mut State) -> io::Result<()> {
        while let Some(entry) = state.cache.first_entry() {
            self.file
                .write_all_at(entry.get(), entry.key() * BLOCK_U64)?;
            entry.remove();
        }
        Ok(())
    }
}

/// The next client; none once the disk is gone.
fn knock(listener: &UnixListener, ended: &UnixStream) -> Option<UnixStream> {
    let mut both = [listener.as_fd(), ended.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    poll(&mut both, PollTimeout::NONE).ok()?;
    let [client, _] = both;
    (client.any() == Some(true))
        .then(|| listener.accept().ok())?
        .map(|(stream, _)| stream)
}

struct Request {
    flags: u16,
    kind: u16,
    cookie: [u8; 8],
    offset: u64,
    length: u32,
}

impl Request {
    fn read(wire: &mut impl Read) -> io::Result<Self> {
        if u32::from_be_bytes(take(wire)?) != REQUEST_MAGIC {
            return Err(noise("a request without its magic"));
        }
        let request = Self {
            flags: u16::from_be_bytes(take(wire)?),
            kind: u16::from_be_bytes(take(wire)?),
            cookie: take(wire)?,
            offset: u64::from_be_bytes(take(wire)?),
            length: u32::from_be_bytes(take(wire)?),
        };
        if request.length > LONGEST {
            return Err(noise("a request that is too long"));
        }
        Ok(request)
    }

    fn reply(&self, wire: &mut impl Write, error: u32) -> io::Result<()> {
        let mut head = REPLY_MAGIC.to_be_bytes().to_vec();
        head.extend(error.to_be_bytes());
        head.extend(self.cookie);
        wire.write_all(&head)
    }
}

/// The part of a request that lies in one block.
struct Piece {
    block: u64,
    within: std::ops::Range<usize>,
    of_request: std::ops::Range<usize>,
}

fn pieces(offset: u64, length: usize) -> impl Iterator<Item = Piece> {
    let skip = usize::try_from(offset % BLOCK_U64).unwrap_or(0);
    let first = offset / BLOCK_U64;
    (0..(skip + length).div_ceil(BLOCK)).map(move |index| {
        let (begin, end) = (index * BLOCK, (index + 1) * BLOCK);
        let (from, to) = (begin.max(skip), end.min(skip + length));
        Piece {
            block: first + index as u64,
            within: from - begin..to - begin,
            of_request: from - skip..to - skip,
        }
    })
}

fn take<const N: usize>(wire: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    wire.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn option_reply(wire: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).unwrap_or(0);
    let mut reply = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    for word in [option, kind, length] {
        reply.extend(word.to_be_bytes());
    }
    reply.extend(data);
    wire.write_all(&reply)
}

fn noise(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// The protocol's number of an error.
fn number(error: &io::Error) -> u32 {
    match error.kind() {
        ErrorKind::InvalidData => EINVAL,
        _ => EIO,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The finaliser of `SplitMix64`: every bit of the input stirs every bit of the output.
fn scramble(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of 16 blocks and its client, negotiated.
    fn disk(dir: &Path) -> (Arc<Disk>, UnixStream) {
        let path = dir.join("disk");
        File::create(&path)
            .unwrap()
            .set_len(16 * BLOCK_U64)
            .unwrap();
        let socket = dir.join("socket");
        let disk = Disk::serve(&path, UnixListener::bind(&socket).unwrap()).unwrap();
        let mut wire = UnixStream::connect(&socket).unwrap();
        let _: [u8; 18] = take(&mut wire).unwrap();
        wire.write_all(&3_u32.to_be_bytes()).unwrap();
        for (option, replies) in [(8_u32, 20), (OPT_GO, 20 + 12 + 20)] {
            wire.write_all(&OPTION_MAGIC.to_be_bytes()).unwrap();
            wire.write_all(&option.to_be_bytes()).unwrap();
            wire.write_all(&0_u32.to_be_bytes()).unwrap();
            wire.read_exact(&mut vec![0; replies]).unwrap();
        }
        (disk, wire)
    }

    fn ask(
        wire: &mut UnixStream,
        kind: u16,
        flags: u16,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> u32 {
        let mut request = REQUEST_MAGIC.to_be_bytes().to_vec();
        request.extend(flags.to_be_bytes());
        request.extend(kind.to_be_bytes());
        request.extend(*b"cookie..");
        request.extend(offset.to_be_bytes());
        request.extend(length.to_be_bytes());
        request.extend(data);
        wire.write_all(&request).unwrap();
        assert_eq!(u32::from_be_bytes(take(wire).unwrap()), REPLY_MAGIC);
        let error = u32::from_be_bytes(take(wire).unwrap());
        assert_eq!(&take::<8>(wire).unwrap(), b"cookie..");
        error
    }

    fn put(wire: &mut UnixStream, offset: u64, data: &[u8], flags: u16) {
        let length = u32::try_from(data.len()).unwrap();
        assert_eq!(ask(wire, 1, flags, offset, length, data), 0);
    }

    fn get(wire: &mut UnixStream, offset: u64, length: u32) -> Vec<u8> {
        assert_eq!(ask(wire, 0, 0, offset, length, &[]), 0);
        let mut bytes = vec![0; length as usize];
        wire.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_was_not_flushed_is_lost_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, mut wire) = disk(dir.path());
        put(&mut wire, 0, &[1; 2 * BLOCK], 0);
        assert_eq!(ask(&mut wire, 3, 0, 0, 0, &[]), 0);
        put(&mut wire, 512, &[2; 512], 0);
        put(&mut wire, 5 * BLOCK_U64, &[3; BLOCK], FLAG_FUA);
        put(&mut wire, 6 * BLOCK_U64 - 512, &[4; 1024], 0);
        // The living disk reads what was written, flushed or not.
        let mixed = get(&mut wire, 6 * BLOCK_U64 - 1024, 2048);
        assert_eq!(mixed, [[3; 512], [4; 512], [4; 512], [0; 512]].concat());
        assert_eq!(
            get(&mut wire, 0, 1536),
            [[1; 512], [2; 512], [1; 512]].concat()
        );
        drop(wire);
        let loss = disk.cut(1, Survival(0)).unwrap();
        assert_eq!(
            loss,
            Loss {
                unflushed: 3,
                lost: 3
            }
        );
        let left = std::fs::read(disk.path()).unwrap();
        assert_eq!(left[..2 * BLOCK], [1; 2 * BLOCK]);
        assert_eq!(left[5 * BLOCK..6 * BLOCK], [3; BLOCK]);
        assert!(left[6 * BLOCK..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_seed_decides_which_blocks_survive_and_none_is_torn() {
        let survivors = |seed| {
            let dir = tempfile::tempdir().unwrap();
            let (disk, mut wire) = disk(dir.path());
            put(&mut wire, 0, &[7; 16 * BLOCK], 0);
            drop(wire);
            let loss = disk.cut(seed, Survival(50)).unwrap();
            let left = std::fs::read(disk.path()).unwrap();
            let kept: Vec<bool> = left.chunks(BLOCK).map(|block| block[0] == 7).collect();
            for (block, kept) in left.chunks(BLOCK).zip(&kept) {
                assert!(block.iter().all(|byte| (*byte == 7) == *kept));
            }
            assert_eq!(kept.iter().filter(|kept| !**kept).count(), loss.lost);
            kept
        };
        assert_eq!(survivors(3), survivors(3));
        assert_ne!(survivors(3), survivors(4));
        assert!(survivors(3).contains(&true) && survivors(3).contains(&false));
    }

    #[test]
    fn requests_past_the_end_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (_disk, mut wire) = disk(dir.path());
        assert_eq!(ask(&mut wire, 0, 0, 16 * BLOCK_U64, 1, &[]), EINVAL);
        assert_eq!(ask(&mut wire, 1, 0, u64::MAX, 1, &[0]), EINVAL);
        assert_eq!(ask(&mut wire, 4, 0, 0, 0, &[]), EINVAL);
        assert_eq!(get(&mut wire, 15 * BLOCK_U64, 4096), [0; BLOCK]);
    }
}
