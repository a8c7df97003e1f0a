//! `lun-vm`: the test machines by hand.

use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use lun_vm::{Image, Kernel, Options, Running, Vm};

const USAGE: &str = "\
Throw-away virtual machines with Linux software RAID, from a booted snapshot.

  lun-vm build [--kernel K] [--all] [--refresh]
      make the image and the booted snapshot; prints nothing when both are there
  lun-vm run [--kernel K] [--payload DIR] [--] COMMAND [ARG...]
      run a command as root in a fresh machine; one word is a script for bash
  lun-vm shell [--kernel K] [--payload DIR]
      a root shell on the console of a fresh machine; Ctrl-A X leaves

  --kernel K     bookworm (Linux 6.1), trixie (6.12) or sid (7.x);
                 without it LUND_VM_KERNEL, else bookworm
  --payload DIR  its content is in /opt/lund
  --refresh      ask the Debian mirror for a newer kernel

Images and snapshots lie in LUND_VM_DIR, else in target/vm. LUND_VM_ACCEL=kvm|tcg skips the probe.";

const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Ctrl-A, as in QEMU's own console.
const ESCAPE: u8 = 1;

#[derive(Default)]
struct Arguments {
    verb: String,
    kernels: Vec<Kernel>,
    payload: Option<PathBuf>,
    refresh: bool,
    command: Vec<String>,
}

fn main() -> ExitCode {
    let result = match parse(std::env::args().skip(1)) {
        Ok(arguments) => act(&arguments),
        Err(words) => {
            eprintln!("error: {words}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut found = Arguments {
        verb: words.next().ok_or("no verb")?,
        ..Arguments::default()
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--kernel" => found
                .kernels
                .push(value()?.parse().map_err(|e| format!("{e}"))?),
            "--payload" => found.payload = Some(value()?.into()),
            "-h" | "--help" => {
                found.verb = "help".into();
                return Ok(found);
            }
            "--all" => found.kernels = Kernel::ALL.to_vec(),
            "--refresh" => found.refresh = true,
            "--" => found.command.extend(words.by_ref()),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => {
                found.command.push(word);
                found.command.extend(words.by_ref());
            }
        }
    }
    match (found.verb.as_str(), found.command.is_empty()) {
        ("build" | "shell", false) => Err("a command belongs to run".into()),
        ("run", true) => Err("run what?".into()),
        ("build" | "run" | "shell" | "-h" | "--help" | "help", _) => Ok(found),
        (verb, _) => Err(format!("unknown verb {verb}")),
    }
}

fn act(arguments: &Arguments) -> lun_vm::Result<ExitCode> {
    let chosen = match arguments.kernels.first() {
        Some(kernel) => *kernel,
        None => Kernel::from_env()?,
    };
    let options = Options {
        kernel: chosen,
        payload: arguments.payload.clone(),
        disks: Vec::new(),
        name: format!("{}-{}", arguments.verb, std::process::id()),
    };
    match arguments.verb.as_str() {
        "build" => {
            let all = if arguments.kernels.is_empty() {
                &[chosen][..]
            } else {
                &arguments.kernels
            };
            for kernel in all {
                Image::build(*kernel, arguments.refresh)?;
                Vm::start(&Options {
                    kernel: *kernel,
                    ..options.clone()
                })?;
            }
            Ok(ExitCode::SUCCESS)
        }
        "run" => run(&Vm::start(&options)?, &arguments.command),
        "shell" => shell(&Vm::start(&options)?),
        _ => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run(vm: &Vm, command: &[String]) -> lun_vm::Result<ExitCode> {
    let job = Arc::new(vm.spawn(&script(command))?);
    if io::stdin().is_terminal() {
        job.end_input()?;
    } else {
        let job = Arc::clone(&job);
        thread::spawn(move || feed(&job));
    }
    let status = job.stream(&mut io::stdout(), &mut io::stderr(), FOR_EVER)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}

/// One word is a script, several are a program and its arguments.
fn script(command: &[String]) -> String {
    match command {
        [script] => script.clone(),
        words => {
            let quoted = words
                .iter()
                .map(|word| format!("'{}'", word.replace('\'', r"'\''")));
            quoted.collect::<Vec<_>>().join(" ")
        }
    }
}

fn feed(job: &Running) {
    let mut buffer = vec![0; 64 << 10];
    let mut stdin = io::stdin();
    while let Ok(length @ 1..) = stdin.read(&mut buffer) {
        if job.input(buffer.get(..length).unwrap_or_default()).is_err() {
            return;
        }
    }
    let _ = job.end_input();
}

fn shell(vm: &Vm) -> lun_vm::Result<ExitCode> {
    let failed = |source| lun_vm::Error::Io {
        what: "use the console".into(),
        source,
    };
    let mut console = vm.open_console()?;
    let from_guest = console.try_clone().map_err(failed)?;
    eprintln!(
        "vm: Linux {} of {}; Ctrl-A X leaves",
        vm.sh("uname -r")?,
        vm.kernel()
    );
    let _raw = RawTerminal::new();
    thread::spawn(move || show(from_guest));
    // A new prompt: the old one went to nobody.
    console.write_all(b"\n").map_err(failed)?;
    type_into(&mut console).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn show(mut console: UnixStream) {
    let mut buffer = vec![0; 4096];
    let mut stdout = io::stdout();
    while let Ok(length @ 1..) = console.read(&mut buffer) {
        let _ = stdout.write_all(buffer.get(..length).unwrap_or_default());
        let _ = stdout.flush();
    }
    eprint!("\r\nvm: the machine is gone; Ctrl-A X leaves\r\n");
}

/// Passes keys on until Ctrl-A X or the end of input; Ctrl-A Ctrl-A is one Ctrl-A.
fn type_into(console: &mut impl Write) -> io::Result<()> {
    let mut escaped = false;
    // Unbuffered, for nothing may be read that a later user of the terminal types.
    let mut stdin = io::stdin();
    let mut key = [0; 1];
    while stdin.read(&mut key)? > 0 {
        let [byte] = key;
        match (escaped, byte) {
            (true, b'x' | b'X') => return Ok(()),
            (false, ESCAPE) => escaped = true,
            _ => {
                escaped = false;
                console.write_all(&[byte])?;
            }
        }
    }
    Ok(())
}

/// The terminal without echo and line editing; as it was again when dropped.
struct RawTerminal(Option<String>);

impl RawTerminal {
    fn new() -> Self {
        let before = stty(&["-g"]).filter(|_| io::stdin().is_terminal());
        if before.is_some() {
            stty(&["raw", "-echo"]);
        }
        Self(before)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            stty(&[before]);
            eprintln!();
        }
    }
}

fn stty(words: &[&str]) -> Option<String> {
    let output = Command::new("stty")
        .args(words)
        .stdin(Stdio::inherit())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Arguments, String> {
        parse(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn what_follows_the_command_is_the_commands() {
        let found = parsed(&["run", "--kernel", "sid", "ls", "--all"]).unwrap();
        assert_eq!(
            (found.kernels, found.command),
            (vec![Kernel::Sid], vec!["ls".into(), "--all".into()])
        );
        let found = parsed(&["run", "--", "--odd"]).unwrap();
        assert_eq!(found.command, ["--odd"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            &[][..],
            &["run"],
            &["shell", "ls"],
            &["fly"],
            &["run", "--kernel"],
            &["build", "--x"],
        ] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn one_word_is_a_script_and_several_are_a_program() {
        assert_eq!(script(&["a | b".into()]), "a | b");
        assert_eq!(script(&["echo".into(), "it's".into()]), r"'echo' 'it'\''s'");
    }
}
