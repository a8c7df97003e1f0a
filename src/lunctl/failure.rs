//! What the command line tells its caller when it could not do what was asked.

use lun_core::Hresult;

/// Done.
pub(crate) const DONE: u8 = 0;
/// The operation was begun and ended badly.
pub(crate) const OPERATION_FAILED: u8 = 1;
/// The command line was not understood, or an id prefix was ambiguous.
pub(crate) const USAGE: u8 = 2;
/// No such object, or it existed and is gone.
pub(crate) const NO_OBJECT: u8 = 3;
/// The operation was cancelled.
pub(crate) const CANCELLED: u8 = 6;
/// Waiting timed out; the operation goes on.
pub(crate) const TIMED_OUT: u8 = 8;
/// The service cannot be reached.
pub(crate) const UNREACHABLE: u8 = 9;
/// Waiting was broken off with Ctrl-C; the operation goes on. The shell's 128 + SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;

/// `HRESULT_FROM_WIN32(ERROR_SERVICE_NOT_ACTIVE)`: nobody answers on the bus.
pub(crate) const SERVICE_NOT_ACTIVE: Hresult = Hresult(0x8007_0426);

/// One failure, ready to be shown: on stderr as `error:` and `hint:` lines, or as a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Exit code, as docs/errors.md lists them.
    pub(crate) exit: u8,
    /// HRESULT.
    pub(crate) hresult: Hresult,
    /// Its name.
    pub(crate) name: String,
    /// What went wrong, one sentence.
    pub(crate) message: String,
    /// What to do next.
    pub(crate) hint: Option<String>,
    /// Name of the object that it speaks of, where the service told one.
    pub(crate) object: Option<String>,
}

impl Failure {
    /// A failure with the exit code that belongs to `hresult`.
    pub(crate) fn new(hresult: Hresult, message: impl Into<String>) -> Self {
        Self {
            exit: exit_code(hresult),
            hresult,
            name: name_of(hresult),
            message: message.into(),
            hint: None,
            object: None,
        }
    }

    /// The same failure with a hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The command line was not understood.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Hresult::E_INVALIDARG, message)
    }

    /// The service does not answer.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self::new(SERVICE_NOT_ACTIVE, message).hint("run `systemctl status lund`")
    }

    /// The service answered with something that this program does not understand.
    pub(crate) fn bad_answer(what: &str, detail: impl std::fmt::Display) -> Self {
        Self::new(
            Hresult::VDS_E_BAD_PROVIDER_DATA,
            format!("the answer of the service to {what} cannot be understood: {detail}"),
        )
        .hint("lunctl and lund may be of different versions; run `lunctl --version`")
    }
}

/// Name of an HRESULT; its number where it has no name.
pub(crate) fn name_of(hresult: Hresult) -> String {
    hresult
        .known_name()
        .map_or_else(|| hresult.to_string(), str::to_owned)
}

/// Exit code of a failed call. A call that failed with a success code is a contradiction and
/// counts as a failure.
pub(crate) fn exit_code(hresult: Hresult) -> u8 {
    if hresult == SERVICE_NOT_ACTIVE {
        return UNREACHABLE;
    }
    match hresult.exit_code() {
        DONE => OPERATION_FAILED,
        code => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_the_design() {
        for (hresult, want) in [
            (0x8007_0057, 2),  // E_INVALIDARG
            (0x8004_2405, 3),  // OBJECT_NOT_FOUND
            (0x8004_240B, 3),  // OBJECT_DELETED
            (0x8004_2415, 4),  // INVALID_OPERATION
            (0x8004_2431, 4),  // OBJECT_STATUS_FAILED
            (0x8004_2410, 4),  // NOT_ENOUGH_DRIVE
            (0x8004_2516, 4),  // MEMBER_SIZE_INVALID
            (0x8004_2584, 4),  // READONLY
            (0x8004_281D, 4),  // LUN_OFFLINE
            (0x8004_281C, 4),  // LUN_NOT_READY
            (0x8004_2404, 5),  // ANOTHER_CALL_IN_PROGRESS
            (0x8004_240D, 6),  // OPERATION_CANCELED
            (0x8004_2427, 7),  // ACCESS_DENIED
            (0x8004_245F, 8),  // TIMEOUT
            (0x8007_0426, 9),  // ERROR_SERVICE_NOT_ACTIVE
            (0x8004_241F, 10), // PROVIDER_CACHE_CORRUPT
        ] {
            assert_eq!(exit_code(Hresult(hresult)), want, "{hresult:#010x}");
        }
        assert_ne!(exit_code(Hresult(0)), 0, "a failure never exits 0");
    }

    #[test]
    fn an_unreachable_service_says_where_to_look() {
        let failure = Failure::unreachable("nobody is there");
        assert_eq!(failure.exit, 9);
        assert_eq!(failure.hint.as_deref(), Some("run `systemctl status lund`"));
        assert_eq!(failure.name, "ERROR_SERVICE_NOT_ACTIVE");
    }
}
