//! Another host: its system bus at the other end of `ssh HOST systemd-stdio-bridge`, as `busctl`
//! and `systemctl` reach it. Whoever logs in there may do what that user may do there.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::str::FromStr;

use crate::failure::{Failure, UNREACHABLE};

/// Letters of a host's or a user's name besides those of the alphabet and digits. ssh hands both to
/// shells (`ProxyCommand`, `Match exec`), so nothing that means something to one is let through.
const OTHERS: &str = "._-:[]%+@";

/// `[USER@]HOST`, fit to be an argument of ssh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host(String);

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // ssh takes the last @ as the border.
        let (user, host) = match text.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, text),
        };
        for part in user.into_iter().chain([host]) {
            if part.is_empty() {
                return Err("expected [USER@]HOST".to_owned());
            }
            if part.starts_with('-') {
                return Err(format!(
                    "`{part}` begins with `-`: ssh would take it for an option"
                ));
            }
        }
        let wrong = |letter: &char| !letter.is_ascii_alphanumeric() && !OTHERS.contains(*letter);
        match text.chars().find(wrong) {
            Some(letter) => Err(format!("{letter:?} is in no name of a host or a user")),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl Host {
    /// Starts ssh; answers with its input and output. It ends when the stream is closed.
    pub(crate) fn reach(&self) -> Result<UnixStream, Failure> {
        self.start().map_err(|error| {
            Failure::unreachable(format!(
                "ssh cannot be started (is the OpenSSH client installed?): {error}"
            ))
        })
    }

    fn start(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        // What ssh has to say or to ask goes to the terminal.
        Command::new("ssh")
            .args(["-xT", "--", &self.0, "systemd-stdio-bridge"])
            .stdin(OwnedFd::from(theirs.try_clone()?))
            .stdout(OwnedFd::from(theirs))
            .spawn()?;
        Ok(ours)
    }

    /// The commands that a text advises, as they have to be typed here to be about that host.
    pub(crate) fn advice(&self, text: &str) -> String {
        let Self(host) = self;
        text.replace("`lunctl ", &format!("`lunctl -H {host} "))
            .replace("`systemctl ", &format!("`systemctl -H {host} "))
            .replace("`journalctl ", &format!("`ssh {host} journalctl "))
    }

    /// The same failure, with advice about that host; one to reach the service says where to look.
    pub(crate) fn advise(&self, failure: Failure) -> Failure {
        let Self(host) = self;
        if failure.exit != UNREACHABLE {
            let hint = failure.hint.as_deref().map(|hint| self.advice(hint));
            return Failure { hint, ..failure };
        }
        failure.hint(format!(
            "run `ssh {host} systemctl status lund`; systemd-stdio-bridge must be there too"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_as_ssh_takes_them() {
        for name in [
            "far",
            "root@far.example.org",
            "a_b+c@d@far",
            "::1",
            "root@fe80::1%eth0",
        ] {
            assert_eq!(name.parse(), Ok(Host(name.to_owned())));
        }
    }

    #[test]
    fn advice_is_about_the_other_host() {
        let far = Host("root@far".to_owned());
        let here =
            "`lunctl wait 7` waits; `systemctl status lund`, `journalctl -k`, `wipefs /dev/sdb`";
        assert_eq!(
            far.advice(here),
            "`lunctl -H root@far wait 7` waits; `systemctl -H root@far status lund`, \
             `ssh root@far journalctl -k`, `wipefs /dev/sdb`"
        );
    }

    #[test]
    fn nothing_becomes_an_option_or_a_command() {
        for name in [
            "",
            "@",
            "root@",
            "@far",
            "-oProxyCommand=touch",
            "-oProxyCommand=touch@far",
            "root@-oProxyCommand=touch",
            "far;touch",
            "$(touch)",
            "`touch`",
            "a far",
            "far\n",
            "fär",
        ] {
            assert!(name.parse::<Host>().is_err(), "{name:?}");
        }
    }
}
