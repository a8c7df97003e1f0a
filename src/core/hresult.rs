//! HRESULTs: how a VDS call and a VDS operation say how they ended.
//!
//! Bit 31 is the severity (1: failure), bits 26 to 16 the facility, bits 15 to 0 the code. VDS has
//! the facility 4 (`FACILITY_ITF`), Win32 errors travel with facility 7. Values are those of
//! `vdserr.h` and `winerror.h` of the Windows SDK; the tests compare each with the Windows bindings.
//! Never judge by a name: there are `VDS_S_` names with the failure bit.

mod table;
mod win32;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An HRESULT as VDS clients know it. It travels as the text `0x80042404`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hresult(pub u32);

/// Facility of codes that belong to one interface; all of VDS.
pub const FACILITY_ITF: u16 = 4;
/// Facility of Win32 errors.
pub const FACILITY_WIN32: u16 = 7;

impl Hresult {
    /// Name in the Windows headers (`VDS_E_ANOTHER_CALL_IN_PROGRESS`, `S_OK`); for a Win32 error
    /// its name (`ERROR_BUSY`); `UNKNOWN` for a number that is in no table here.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.known_name().unwrap_or("UNKNOWN")
    }

    /// [`Self::name`]; [`None`] for a number that is in no table here.
    #[must_use]
    pub fn known_name(self) -> Option<&'static str> {
        table::find(self.0).map(|row| row.name).or_else(|| {
            (self.is_failure() && self.facility() == FACILITY_WIN32)
                .then(|| win32::name(u32::from(self.code())))
                .flatten()
        })
    }

    /// What it means, in a sentence; [`None`] for Win32 errors and unknown numbers.
    #[must_use]
    pub fn meaning(self) -> Option<&'static str> {
        table::find(self.0).map(|row| row.meaning)
    }

    /// Every HRESULT with a name, Win32 errors excepted, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = Self> {
        table::TABLE.iter().map(|row| Self(row.value))
    }

    /// The value of a name as [`Self::name`] gives it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        table::TABLE
            .iter()
            .find(|row| row.name == name)
            .map(|row| Self(row.value))
            .or_else(|| win32::number(name).map(Self::from_win32))
    }

    /// Severity bit clear: success, `S_FALSE` and `VDS_S_` codes included.
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 & 0x8000_0000 == 0
    }

    /// Severity bit set.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        !self.is_success()
    }

    /// `HRESULT_FACILITY`: bits 28 to 16.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "masked to 13 bits")]
    pub const fn facility(self) -> u16 {
        ((self.0 >> 16) & 0x1fff) as u16
    }

    /// `HRESULT_CODE`: bits 15 to 0.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "masked to 16 bits")]
    pub const fn code(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// `HRESULT_FROM_WIN32`: 0 stays success, a number that is an HRESULT already passes through,
    /// all others keep their low 16 bits under the facility of Win32.
    #[must_use]
    pub const fn from_win32(number: u32) -> Self {
        if number == 0 || number & 0x8000_0000 != 0 {
            Self(number)
        } else {
            Self((number & 0xffff) | 0x8007_0000)
        }
    }

    /// What a system call's error number amounts to for a VDS client: the code of VDS where one
    /// says it, else the Win32 error that is its nearest kin. Only for errors of the kernel:
    /// `EINVAL` then is an argument of ours, not of the caller. Windows has no official pairing;
    /// this one is lund's.
    #[must_use]
    pub const fn from_errno(errno: i32) -> Self {
        win32::from_errno(errno)
    }

    /// Exit code of a command that ended with this HRESULT: 0 done; 1 the operation failed; 2
    /// usage; 3 no such object, or deleted; 4 cannot be done in this state; 5 busy; 6 cancelled;
    /// 7 access denied; 8 timed out; 10 cache corrupt. (9, the service cannot be reached, has no
    /// HRESULT: the client finds that out alone.)
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        if self.is_success() {
            return 0;
        }
        match self {
            Self::E_INVALIDARG | Self::E_POINTER => 2,
            Self::VDS_E_OBJECT_NOT_FOUND
            | Self::VDS_E_OBJECT_DELETED
            | Self::VDS_E_DRIVER_OBJECT_NOT_FOUND => 3,
            Self::E_NOTIMPL
            | Self::VDS_E_NOT_SUPPORTED
            | Self::VDS_E_OPERATION_DENIED
            | Self::VDS_E_CANCEL_TOO_LATE
            | Self::VDS_E_NOT_ENOUGH_SPACE
            | Self::VDS_E_NOT_ENOUGH_DRIVE
            | Self::VDS_E_NO_MEDIA
            | Self::VDS_E_DEVICE_IN_USE
            | Self::VDS_E_INVALID_OPERATION
            | Self::VDS_E_MEDIA_WRITE_PROTECTED
            | Self::VDS_E_OBJECT_STATUS_FAILED
            | Self::VDS_E_DISK_NOT_ONLINE
            | Self::VDS_E_DISK_IN_USE_BY_VOLUME
            | Self::VDS_E_OBJECT_OUT_OF_SYNC
            | Self::VDS_E_DISK_CONFIGURATION_NOT_IN_SYNC
            | Self::VDS_E_MEMBER_SIZE_INVALID
            | Self::VDS_E_INVALID_DISK
            | Self::VDS_E_INVALID_SECTOR_SIZE
            | Self::VDS_E_DUPLICATE_DISK
            | Self::VDS_E_LAST_VALID_DISK
            | Self::VDS_E_MEMBER_IS_HEALTHY
            | Self::VDS_E_MEMBER_MISSING
            | Self::VDS_E_MEMBER_REGENERATING
            | Self::VDS_E_OBJECT_EXISTS
            | Self::VDS_E_UNEXPECTED_DISK_LAYOUT_CHANGE
            | Self::VDS_E_READONLY
            | Self::VDS_E_LUN_NOT_READY
            | Self::VDS_E_LUN_OFFLINE
            | Self::VDS_E_LUN_FAILED
            | Self::VDS_E_INVALID_STATE => 4,
            Self::VDS_E_ANOTHER_CALL_IN_PROGRESS
            | Self::VDS_E_OPERATION_PENDING
            | Self::VDS_E_RETRY
            | Self::ERROR_BUSY
            | Self::VDS_E_VOLUME_SYNCHRONIZING
            | Self::VDS_E_VOLUME_REGENERATING => 5,
            Self::VDS_E_OPERATION_CANCELED => 6,
            Self::VDS_E_ACCESS_DENIED | Self::E_ACCESSDENIED => 7,
            Self::VDS_E_TIMEOUT => 8,
            Self::VDS_E_PROVIDER_CACHE_CORRUPT => 10,
            _ => 1,
        }
    }
}

impl fmt::Display for Hresult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

/// Why a text is no HRESULT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an HRESULT of the form 0x80042404")]
pub struct ParseHresultError(String);

impl std::str::FromStr for Hresult {
    type Err = ParseHresultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        digits
            .filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .map(Self)
            .ok_or_else(|| ParseHresultError(text.to_owned()))
    }
}

impl Serialize for Hresult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hresult {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn severity_is_bit_31_and_nothing_else() {
        assert!(Hresult::S_OK.is_success());
        assert!(Hresult::S_FALSE.is_success());
        assert!(Hresult::VDS_S_PROPERTIES_INCOMPLETE.is_success());
        assert!(Hresult::VDS_E_OPERATION_PENDING.is_failure());
        // VDS_S_GPT_BOOT_MIRRORED_TO_MBR: a success by name only.
        assert!(Hresult(0x8004_2469).is_failure());
    }

    #[test]
    fn parts_are_those_of_the_headers() {
        let hresult = Hresult::VDS_E_ANOTHER_CALL_IN_PROGRESS;
        assert_eq!((hresult.facility(), hresult.code()), (FACILITY_ITF, 0x2404));
        let busy = Hresult::from_win32(170);
        assert_eq!((busy.facility(), busy.code()), (FACILITY_WIN32, 170));
    }

    #[test]
    fn win32_numbers_become_hresults() {
        assert_eq!(Hresult::from_win32(0), Hresult::S_OK);
        assert_eq!(Hresult::from_win32(5), Hresult::E_ACCESSDENIED);
        assert_eq!(Hresult::from_win32(14), Hresult::E_OUTOFMEMORY);
        assert_eq!(Hresult::from_win32(87), Hresult::E_INVALIDARG);
        assert_eq!(
            Hresult::from_win32(0x8004_2404),
            Hresult::VDS_E_ANOTHER_CALL_IN_PROGRESS
        );
        assert_eq!(Hresult::from_win32(0x1_0005), Hresult(0x8007_0005));
    }

    #[test]
    fn names_are_found_both_ways() {
        assert_eq!(
            Hresult(0x8004_2404).name(),
            "VDS_E_ANOTHER_CALL_IN_PROGRESS"
        );
        assert_eq!(Hresult(0x8007_00aa).name(), "ERROR_BUSY");
        assert_eq!(Hresult(0x8007_0005).name(), "E_ACCESSDENIED");
        assert_eq!(Hresult(0xdead_beef).known_name(), None);
        assert_eq!(Hresult(0xdead_beef).name(), "UNKNOWN");
        assert_eq!(Hresult::from_name("ERROR_BUSY"), Some(Hresult(0x8007_00aa)));
        assert_eq!(
            Hresult::from_name("VDS_E_TIMEOUT"),
            Some(Hresult::VDS_E_TIMEOUT)
        );
        assert_eq!(Hresult::from_name("VDS_E_DRIVE_TOO_SMALL"), None);
    }

    #[test]
    fn exit_codes_follow_the_promise() {
        let expected = [
            (Hresult::S_OK, 0),
            (Hresult::VDS_S_PROPERTIES_INCOMPLETE, 0),
            (Hresult::VDS_E_DISK_IO_FAILING, 1),
            (Hresult::VDS_E_PROVIDER_FAILURE, 1),
            (Hresult::E_INVALIDARG, 2),
            (Hresult::VDS_E_OBJECT_NOT_FOUND, 3),
            (Hresult::VDS_E_OBJECT_DELETED, 3),
            (Hresult::VDS_E_INVALID_OPERATION, 4),
            (Hresult::VDS_E_OBJECT_STATUS_FAILED, 4),
            (Hresult::VDS_E_NOT_ENOUGH_DRIVE, 4),
            (Hresult::VDS_E_MEMBER_SIZE_INVALID, 4),
            (Hresult::VDS_E_READONLY, 4),
            (Hresult::VDS_E_LUN_OFFLINE, 4),
            (Hresult::VDS_E_ANOTHER_CALL_IN_PROGRESS, 5),
            (Hresult::VDS_E_OPERATION_CANCELED, 6),
            (Hresult::VDS_E_ACCESS_DENIED, 7),
            (Hresult::VDS_E_TIMEOUT, 8),
            (Hresult::VDS_E_PROVIDER_CACHE_CORRUPT, 10),
            (Hresult(0xdead_beef), 1),
        ];
        for (hresult, code) in expected {
            assert_eq!(hresult.exit_code(), code, "{hresult}");
        }
    }

    #[test]
    fn text_that_is_no_hresult_is_refused() {
        for text in ["", "80042404", "0x", "0x+1", "0x123456789", "0xzz", " 0x1"] {
            assert!(text.parse::<Hresult>().is_err(), "{text:?}");
        }
        assert!(serde_json::from_str::<Hresult>("2147754000").is_err());
    }

    proptest! {
        #[test]
        fn text_round_trips(number: u32) {
            let hresult = Hresult(number);
            let json = serde_json::to_string(&hresult).unwrap();
            prop_assert_eq!(&json, &format!("\"0x{number:08x}\""));
            prop_assert_eq!(serde_json::from_str::<Hresult>(&json).unwrap(), hresult);
        }

        #[test]
        fn no_failure_exits_with_success(number: u32) {
            let hresult = Hresult(number);
            prop_assert_eq!(hresult.exit_code() == 0, hresult.is_success());
            prop_assert!(hresult.exit_code() <= 10);
        }

        #[test]
        fn every_error_number_is_a_failure(errno: i32) {
            prop_assert!(Hresult::from_errno(errno).is_failure());
            prop_assert_ne!(Hresult::from_errno(errno), Hresult::E_INVALIDARG);
        }
    }
}
