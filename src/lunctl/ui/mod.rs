//! What the administrator sees. Everything is made as plain text by pure functions; this module
//! paints it and writes it.

pub(crate) mod drive;
pub(crate) mod event;
pub(crate) mod lun;
pub(crate) mod op;
mod paint;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod progress;
#[cfg(test)]
pub(crate) mod samples;
mod table;
pub(crate) mod units;
pub(crate) mod watch;
pub(crate) mod why;

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};

use lun_core::Hresult;
use lun_ipc::HostView;
use serde_json::Value;

use crate::failure::Failure;
use crate::host::Host;

/// The way out: text, or one document.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    json: bool,
    /// The host that is asked, if it is another one.
    host: Option<Host>,
}

impl Ui {
    /// Text, or with `json` one document.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json, host: None }
    }

    /// The same; what it advises to type is about this host.
    pub(crate) fn about(self, host: Option<Host>) -> Self {
        Self { host, ..self }
    }

    fn advice<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.host {
            Some(host) => Cow::Owned(host.advice(text)),
            None => Cow::Borrowed(text),
        }
    }

    /// Whether a document is wanted.
    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    /// Whether a person watches: a bar may be drawn.
    pub(crate) fn interactive(&self) -> bool {
        !self.json && io::stdout().is_terminal() && io::stderr().is_terminal()
    }

    /// Writes text to stdout, in colour on a terminal.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        // The stream takes the colours out again where they are not wanted: no terminal, NO_COLOR.
        let mut stream = anstream::stdout().lock();
        let written = stream.write_all(paint::words(&self.advice(text)).as_bytes());
        settle(written.and_then(|()| stream.flush()))
    }

    /// Writes a document to stdout.
    pub(crate) fn document(&self, document: &Value) -> Result<(), Failure> {
        let mut stream = io::stdout().lock();
        settle(writeln!(stream, "{document:#}").and_then(|()| stream.flush()))
    }

    /// Writes a document to stdout, on one line; `false`: nobody reads any more.
    pub(crate) fn document_line(&self, document: &Value) -> Result<bool, Failure> {
        self.line(&document.to_string())
    }

    /// Writes a line to stdout; `false`: nobody reads any more.
    pub(crate) fn line(&self, text: &str) -> Result<bool, Failure> {
        let mut stream = io::stdout().lock();
        let written = writeln!(stream, "{text}").and_then(|()| stream.flush());
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
        let read = !written.as_ref().is_err_and(gone);
        settle(written).map(|()| read)
    }

    /// Writes a failure to stderr.
    pub(crate) fn failure(&self, failure: &Failure) -> Result<(), Failure> {
        settle(
            anstream::stderr()
                .lock()
                .write_all(paint::failure(failure).as_bytes()),
        )
    }

    /// Writes a remark to stderr. That it cannot be written is no reason to stop.
    pub(crate) fn note(&self, text: &str) {
        let text = self.advice(text);
        drop(writeln!(anstream::stderr().lock(), "{text}"));
    }

    /// Says so when the service has lost its memory.
    pub(crate) fn warn_ledger(&self, host: &HostView) {
        if let Some(why) = &host.ledger_degraded {
            self.note(&format!(
                "warning: ledger: degraded: the service cannot write it ({why}); what it does now \
                 will be forgotten if it ends\n{}",
                ledger_hint(why)
            ));
        }
    }
}

/// What brings a ledger back. The service has a mount name space of its own, in which a file system that
/// was read-only at its start stays so.
fn ledger_hint(why: &str) -> &'static str {
    let why = why.to_ascii_lowercase();
    if why.contains("readonly") || why.contains("read-only") {
        "hint: make the file system of /var/lib/lund writable; if the service was started on it as it \
         is, then `systemctl restart lund`"
    } else {
        "hint: it is tried again every few seconds; see `journalctl -u lund` for what keeps it"
    }
}

/// A reader that has gone away (`lunctl list | head -1`) has seen enough: no failure. Rust
/// ignores SIGPIPE, so that the write reports it.
fn settle(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Hresult::E_FAIL,
            format!("the output cannot be written: {error}"),
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}
