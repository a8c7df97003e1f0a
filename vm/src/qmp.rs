//! QEMU's monitor, as far as it is needed to make and to enter a snapshot.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::{Error, Result};

pub(crate) struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
    events: Vec<Value>,
}

impl Monitor {
    /// Greets QEMU; every later answer must come within `deadline`.
    pub(crate) fn new(stream: UnixStream, deadline: Duration) -> Result<Self> {
        let failed = |error| Error::Monitor(format!("cannot set up the connection: {error}"));
        stream.set_read_timeout(Some(deadline)).map_err(failed)?;
        let writer = stream.try_clone().map_err(failed)?;
        let mut monitor = Self {
            reader: BufReader::new(stream),
            writer,
            events: Vec::new(),
        };
        monitor.receive()?;
        monitor.command("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Runs a command and returns its answer; events on the way are kept.
    pub(crate) fn command(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        let line = json!({ "execute": name, "arguments": arguments }).to_string() + "\n";
        self.writer
            .write_all(line.as_bytes())
            .map_err(|error| Error::Monitor(format!("cannot send {name}: {error}")))?;
        loop {
            let message = self.receive()?;
            if let Some(answer) = message.get("return") {
                return Ok(answer.clone());
            }
            if let Some(error) = message.get("error") {
                return Err(Error::Monitor(format!(
                    "{name} {arguments} answered {error}"
                )));
            }
            self.events.push(message);
        }
    }

    /// Switches on what both ends of a snapshot need: guest memory stays in its file.
    pub(crate) fn prepare_migration(&mut self) -> Result<()> {
        let on = |name: &str| json!({ "capability": name, "state": true });
        let capabilities = json!({ "capabilities": [on("x-ignore-shared"), on("events")] });
        self.command("migrate-set-capabilities", &capabilities)?;
        Ok(())
    }

    /// Waits for the end of a migration that has been started.
    pub(crate) fn await_migration(&mut self) -> Result<()> {
        loop {
            let event = match self.events.is_empty() {
                true => self.receive()?,
                false => self.events.remove(0),
            };
            if event.get("event").and_then(Value::as_str) != Some("MIGRATION") {
                continue;
            }
            match event.pointer("/data/status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(Error::Monitor(format!(
                        "the snapshot's transfer ended: {event}"
                    )));
                }
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(Error::Monitor("QEMU closed the connection".into())),
            Ok(_) => serde_json::from_str(&line)
                .map_err(|error| Error::Monitor(format!("cannot read {line:?}: {error}"))),
            Err(error) => Err(Error::Monitor(format!("no answer: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_before_an_answer_are_not_lost() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let lines = [
            json!({ "QMP": {} }),
            json!({ "return": {} }),
            json!({ "event": "MIGRATION", "data": { "status": "setup" } }),
            json!({ "event": "MIGRATION", "data": { "status": "completed" } }),
            json!({ "return": { "status": "running" } }),
            json!({ "error": { "desc": "no" } }),
        ];
        for line in lines {
            theirs.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        let mut monitor = Monitor::new(ours, Duration::from_secs(5)).unwrap();
        let answer = monitor.command("query-status", &json!({})).unwrap();
        assert_eq!(answer, json!({ "status": "running" }));
        monitor.await_migration().unwrap();
        let error = monitor.command("cont", &json!({})).unwrap_err().to_string();
        assert!(error.contains("cont") && error.contains("no"), "{error}");
    }
}
