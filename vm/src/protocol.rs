//! What host and guest say to each other over the virtio-serial port: frames of
//! `magic, kind, job, length, payload` (integers little endian).
//!
//! | kind | from | job | payload |
//! |---|---|---|---|
//! | `Sync` | host | 0 | nonce, host clock (ns since the epoch), both u64 |
//! | `Run` | host | new id | script for `bash -euo pipefail -c` |
//! | `Input` | host | id | bytes for its stdin; empty: end of input |
//! | `Kill` | host | id | |
//! | `Hello` | guest | 0 | nonce of the last `Sync` (0: none yet), then the boot id as text |
//! | `Stdout`, `Stderr` | guest | id | bytes |
//! | `Exit` | guest | id | status, i32 |
//!
//! The host end is new after every snapshot restore, so either side may see the tail of a frame whose
//! head went elsewhere: a reader skips to the next magic. A `Sync` makes the agent forget (and kill) all
//! jobs of the former host, and answer `Hello` with its nonce; what comes before that is ignored.

use std::io::{self, ErrorKind, Read, Write};

const MAGIC: [u8; 4] = *b"LVM\x01";
/// Longer payloads are not sent; a header that claims one is noise.
pub(crate) const MAX_PAYLOAD: usize = 1 << 20;
/// How much of a stream goes into one frame.
pub(crate) const CHUNK: usize = 64 << 10;

/// What a frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A new host is here.
    Sync = 1,
    /// Start a job.
    Run = 2,
    /// Standard input for a job.
    Input = 3,
    /// Kill a job's process group.
    Kill = 4,
    /// The agent is here.
    Hello = 16,
    /// A job printed.
    Stdout = 17,
    /// A job printed on standard error.
    Stderr = 18,
    /// A job is over.
    Exit = 19,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Sync,
            Self::Run,
            Self::Input,
            Self::Kill,
            Self::Hello,
            Self::Stdout,
            Self::Stderr,
            Self::Exit,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// What it means.
    pub(crate) kind: Kind,
    /// Which job it is about; 0 for none.
    pub(crate) job: u32,
    /// Its content.
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// A frame about `job`.
    pub(crate) fn new(kind: Kind, job: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            job,
            payload: payload.into(),
        }
    }

    /// The frame that greets the agent.
    #[must_use]
    pub(crate) fn sync(nonce: u64, now_ns: u64) -> Self {
        let mut payload = nonce.to_le_bytes().to_vec();
        payload.extend(now_ns.to_le_bytes());
        Self::new(Kind::Sync, 0, payload)
    }

    /// The u64 at `at`, if the payload is long enough.
    #[must_use]
    pub(crate) fn u64_at(&self, at: usize) -> Option<u64> {
        let bytes = self.payload.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The i32 that is the whole payload of an `Exit`.
    #[must_use]
    pub(crate) fn status(&self) -> Option<i32> {
        Some(i32::from_le_bytes(self.payload.as_slice().try_into().ok()?))
    }

    /// Writes the frame with one `write_all`.
    ///
    /// # Errors
    /// Those of the writer; `InvalidInput` when the payload is longer than [`MAX_PAYLOAD`].
    pub(crate) fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        let length = u32::try_from(self.payload.len())
            .ok()
            .filter(|_| self.payload.len() <= MAX_PAYLOAD)
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "frame too long"))?;
        let mut bytes = Vec::with_capacity(13 + self.payload.len());
        bytes.extend(MAGIC);
        bytes.push(self.kind as u8);
        bytes.extend(self.job.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(&self.payload);
        to.write_all(&bytes)
    }

    /// Reads the next frame, skipping whatever is none.
    ///
    /// # Errors
    /// Those of the reader; `UnexpectedEof` at its end.
    pub(crate) fn read_from(from: &mut impl Read) -> io::Result<Self> {
        loop {
            seek_magic(from)?;
            let mut kind = [0; 1];
            let mut job = [0; 4];
            let mut length = [0; 4];
            from.read_exact(&mut kind)?;
            from.read_exact(&mut job)?;
            from.read_exact(&mut length)?;
            let [byte] = kind;
            let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
            let Some(kind) = Kind::from_byte(byte).filter(|_| length <= MAX_PAYLOAD) else {
                continue;
            };
            let mut payload = vec![0; length];
            from.read_exact(&mut payload)?;
            return Ok(Self {
                kind,
                job: u32::from_le_bytes(job),
                payload,
            });
        }
    }
}

fn seek_magic(from: &mut impl Read) -> io::Result<()> {
    let mut window = [0; 4];
    from.read_exact(&mut window)?;
    while window != MAGIC {
        let mut next = [0; 1];
        from.read_exact(&mut next)?;
        let ([_, b, c, d], [e]) = (window, next);
        window = [b, c, d, e];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(frame: &Frame) -> Vec<u8> {
        let mut out = Vec::new();
        frame.write_to(&mut out).unwrap();
        out
    }

    #[test]
    fn frames_survive_the_wire_with_any_bytes() {
        let all: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        for frame in [
            Frame::new(Kind::Run, 7, "echo hi"),
            Frame::new(Kind::Stdout, u32::MAX, all),
            Frame::new(Kind::Input, 1, Vec::new()),
            Frame::new(Kind::Stderr, 2, MAGIC.repeat(3)),
        ] {
            assert_eq!(
                Frame::read_from(&mut bytes(&frame).as_slice()).unwrap(),
                frame
            );
        }
    }

    #[test]
    fn a_reader_skips_the_tail_of_somebody_elses_frame() {
        let stale = bytes(&Frame::new(Kind::Stdout, 3, "the end of an old line"));
        let fresh = Frame::sync(42, 43);
        for cut in 1..stale.len() {
            let mut wire = stale.split_at(cut).1.to_vec();
            wire.extend(bytes(&fresh));
            assert_eq!(
                Frame::read_from(&mut wire.as_slice()).unwrap(),
                fresh,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_header_that_claims_too_much_is_noise() {
        let mut wire = MAGIC.to_vec();
        wire.extend([Kind::Stdout as u8, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
        let fresh = Frame::new(Kind::Exit, 1, 3_i32.to_le_bytes());
        wire.extend(bytes(&fresh));
        let read = Frame::read_from(&mut wire.as_slice()).unwrap();
        assert_eq!(read.status(), Some(3));
    }

    #[test]
    fn the_greeting_carries_nonce_and_clock() {
        let frame = Frame::sync(1, 1 << 60);
        assert_eq!(
            (frame.u64_at(0), frame.u64_at(8), frame.u64_at(9)),
            (Some(1), Some(1 << 60), None)
        );
    }

    #[test]
    fn too_long_a_frame_is_refused_and_an_ended_stream_is_an_error() {
        let long = Frame::new(Kind::Run, 1, vec![0; MAX_PAYLOAD + 1]);
        assert_eq!(
            long.write_to(&mut Vec::new()).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
        let whole = bytes(&Frame::new(Kind::Run, 1, "x"));
        let cut = whole.split_at(whole.len() - 1).0;
        assert_eq!(
            Frame::read_from(&mut &*cut).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
    }
}
