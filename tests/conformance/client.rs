//! A client that is not ours: `busctl` of systemd. Calls are made by `busctl call`; what a refusal
//! carries beside its text, `busctl monitor` shows.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A refusal as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Name of the error behind `org.lund.Vds1.Error.`.
    pub(super) name: String,
    pub(super) hresult: u32,
    pub(super) message: String,
}

/// The bus as `busctl` shows it.
pub(super) struct Busctl {
    address: String,
    monitor: Child,
    errors: BufReader<ChildStdout>,
}

impl Busctl {
    pub(super) fn start(address: &str) -> Self {
        let mut monitor = Command::new("busctl")
            .arg(format!("--address={address}"))
            .args(["--json=short", "--match=type='error'", "monitor"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("busctl must be installed (scripts/install-deps)");
        // It says so when it listens; nothing that happens from then on is missed.
        let mut said = String::new();
        BufReader::new(monitor.stderr.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        assert!(said.contains("Monitoring"), "{said}");
        Self {
            address: address.to_owned(),
            errors: BufReader::new(monitor.stdout.take().unwrap()),
            monitor,
        }
    }

    fn run(&self, words: &[&str]) -> Result<Value, String> {
        let output = Command::new("busctl")
            .arg(format!("--address={}", self.address))
            .args(["--json=short", "--timeout=60"])
            .args(words)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        if !output.status.success() {
            return Err(String::from_utf8(output.stderr).unwrap());
        }
        // A method without a result prints nothing.
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(answer["data"].clone())
    }

    /// Calls a method of an interface of ours; the results as an array.
    pub(super) fn call(
        &mut self,
        path: &str,
        interface: &str,
        method: &str,
        arguments: &[&str],
    ) -> Result<Value, Refusal> {
        let interface = format!("org.lund.Vds1.{interface}");
        let words = ["call", "org.lund.Vds1", path, &interface, method];
        let words: Vec<&str> = words.iter().chain(arguments).copied().collect();
        self.run(&words).map_err(|said| self.refusal(&said))
    }

    /// The refusal that `busctl` has just reported with this text.
    fn refusal(&mut self, said: &str) -> Refusal {
        loop {
            let mut line = String::new();
            let read = self.errors.read_line(&mut line).unwrap();
            assert!(read > 0, "the monitor has ended; there was {said}");
            let message: Value = serde_json::from_str(&line).unwrap();
            let name = message["error_name"].as_str().unwrap_or_default();
            let Some(name) = name.strip_prefix("org.lund.Vds1.Error.") else {
                continue;
            };
            let body = &message["payload"]["data"];
            let refusal = Refusal {
                name: name.to_owned(),
                hresult: u32::try_from(body[1].as_u64().unwrap()).unwrap(),
                message: body[0].as_str().unwrap().to_owned(),
            };
            if said.contains(refusal.message.lines().next().unwrap_or_default()) {
                return refusal;
            }
        }
    }

    /// A property.
    pub(super) fn get(&self, path: &str, interface: &str, property: &str) -> Value {
        let interface = format!("org.lund.Vds1.{interface}");
        self.run(&["get-property", "org.lund.Vds1", path, &interface, property])
            .unwrap_or_else(|said| panic!("{path} {property}: {said}"))
    }

    /// A property that is a number.
    pub(super) fn number(&self, path: &str, interface: &str, property: &str) -> i64 {
        let value = self.get(path, interface, property);
        value
            .as_i64()
            .unwrap_or_else(|| panic!("{property}: {value}"))
    }

    /// A property or result that is a list of object paths.
    pub(super) fn paths(value: &Value) -> Vec<String> {
        let list = value
            .as_array()
            .unwrap_or_else(|| panic!("no list: {value}"));
        list.iter()
            .map(|path| path.as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Busctl {
    fn drop(&mut self) {
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
    }
}
