//! Win32 error numbers, and the pairing of Linux error numbers with HRESULTs.

use super::Hresult;

macro_rules! win32 {
    ($($number:literal $name:ident)+) => {
        /// Name of a Win32 error number; [`None`] outside the table.
        pub(super) const fn name(number: u32) -> Option<&'static str> {
            match number {
                $($number => Some(stringify!($name)),)+
                _ => None,
            }
        }

        /// Number of a Win32 error name.
        pub(super) fn number(name: &str) -> Option<u32> {
            match name {
                $(stringify!($name) => Some($number),)+
                _ => None,
            }
        }

        impl Hresult {
            $(
                #[doc = concat!("Win32 error ", stringify!($number), " as an HRESULT.")]
                pub const $name: Self = Self::from_win32($number);
            )+
        }

        #[cfg(test)]
        fn windows() -> Vec<(&'static str, u32, u32)> {
            use windows_sys::Win32::Foundation as theirs;
            vec![$((stringify!($name), $number, theirs::$name),)+]
        }
    };
}

win32! {
    2 ERROR_FILE_NOT_FOUND
    3 ERROR_PATH_NOT_FOUND
    4 ERROR_TOO_MANY_OPEN_FILES
    5 ERROR_ACCESS_DENIED
    8 ERROR_NOT_ENOUGH_MEMORY
    14 ERROR_OUTOFMEMORY
    19 ERROR_WRITE_PROTECT
    21 ERROR_NOT_READY
    23 ERROR_CRC
    29 ERROR_WRITE_FAULT
    30 ERROR_READ_FAULT
    31 ERROR_GEN_FAILURE
    50 ERROR_NOT_SUPPORTED
    55 ERROR_DEV_NOT_EXIST
    80 ERROR_FILE_EXISTS
    87 ERROR_INVALID_PARAMETER
    109 ERROR_BROKEN_PIPE
    112 ERROR_DISK_FULL
    120 ERROR_CALL_NOT_IMPLEMENTED
    170 ERROR_BUSY
    183 ERROR_ALREADY_EXISTS
    206 ERROR_FILENAME_EXCED_RANGE
    232 ERROR_NO_DATA
    267 ERROR_DIRECTORY
    483 ERROR_DEVICE_HARDWARE_ERROR
    534 ERROR_ARITHMETIC_OVERFLOW
    995 ERROR_OPERATION_ABORTED
    997 ERROR_IO_PENDING
    1062 ERROR_SERVICE_NOT_ACTIVE
    1112 ERROR_NO_MEDIA_IN_DRIVE
    1117 ERROR_IO_DEVICE
    1127 ERROR_DISK_OPERATION_FAILED
    1167 ERROR_DEVICE_NOT_CONNECTED
    1168 ERROR_NOT_FOUND
    1223 ERROR_CANCELLED
    1237 ERROR_RETRY
    1314 ERROR_PRIVILEGE_NOT_HELD
    1460 ERROR_TIMEOUT
    1617 ERROR_DEVICE_REMOVED
    5023 ERROR_INVALID_STATE
}

/// See [`Hresult::from_errno`]. The numbers are those of `asm-generic/errno.h` (x86, arm, riscv,
/// s390, powerpc).
///
/// | error number | Win32 kin | what is returned |
/// |---|---|---|
/// | `EPERM`, `EACCES` | `ERROR_ACCESS_DENIED` | `E_ACCESSDENIED`: ours, not the caller's, right is missing |
/// | `ENOENT` | `ERROR_FILE_NOT_FOUND` | `VDS_E_DRIVER_OBJECT_NOT_FOUND` |
/// | `EINTR` | `ERROR_OPERATION_ABORTED` | `VDS_E_RETRY` |
/// | `EIO`, `EREMOTEIO` | `ERROR_IO_DEVICE` | `VDS_E_DISK_IO_FAILING` |
/// | `ENXIO`, `ENODEV` | `ERROR_DEV_NOT_EXIST` | `VDS_E_DRIVER_OBJECT_NOT_FOUND` |
/// | `EAGAIN` | `ERROR_RETRY` | `VDS_E_RETRY` |
/// | `ENOMEM` | `ERROR_NOT_ENOUGH_MEMORY` | `E_OUTOFMEMORY` |
/// | `EBUSY` | `ERROR_BUSY` | `ERROR_BUSY`: whether the array or a drive is busy only the caller knows |
/// | `EEXIST` | `ERROR_ALREADY_EXISTS` | `VDS_E_OBJECT_EXISTS` |
/// | `EINVAL` | `ERROR_INVALID_PARAMETER` | `VDS_E_DRIVER_INVALID_PARAM`, for `E_INVALIDARG` blames the caller |
/// | `ENOSPC` | `ERROR_DISK_FULL` | `VDS_E_NOT_ENOUGH_SPACE` |
/// | `EROFS` | `ERROR_WRITE_PROTECT` | `VDS_E_READONLY` |
/// | `ENOSYS`, `EOPNOTSUPP` | `ERROR_NOT_SUPPORTED` | `VDS_E_NOT_SUPPORTED` |
/// | `ETIMEDOUT` | `ERROR_TIMEOUT` | `VDS_E_TIMEOUT` |
/// | `ENOMEDIUM` | `ERROR_NO_MEDIA_IN_DRIVE` | `VDS_E_NO_MEDIA` |
/// | `ECANCELED` | `ERROR_CANCELLED` | `VDS_E_OPERATION_CANCELED` |
/// | `ENOTDIR`, `EMFILE`, `ENFILE`, `EPIPE`, `ERANGE`, `EOVERFLOW`, `ENAMETOOLONG`, `ENODATA`, `EBADMSG`, `EILSEQ` | their kin | the Win32 error |
/// | any other | `ERROR_GEN_FAILURE` | `VDS_E_PROVIDER_FAILURE` |
pub(super) const fn from_errno(errno: i32) -> Hresult {
    match errno {
        1 | 13 => Hresult::E_ACCESSDENIED,
        2 | 6 | 19 => Hresult::VDS_E_DRIVER_OBJECT_NOT_FOUND,
        4 | 11 => Hresult::VDS_E_RETRY,
        5 | 121 => Hresult::VDS_E_DISK_IO_FAILING,
        12 => Hresult::E_OUTOFMEMORY,
        16 => Hresult::ERROR_BUSY,
        17 => Hresult::VDS_E_OBJECT_EXISTS,
        22 => Hresult::VDS_E_DRIVER_INVALID_PARAM,
        28 => Hresult::VDS_E_NOT_ENOUGH_SPACE,
        30 => Hresult::VDS_E_READONLY,
        38 | 95 => Hresult::VDS_E_NOT_SUPPORTED,
        110 => Hresult::VDS_E_TIMEOUT,
        123 => Hresult::VDS_E_NO_MEDIA,
        125 => Hresult::VDS_E_OPERATION_CANCELED,
        20 => Hresult::ERROR_DIRECTORY,
        23 | 24 => Hresult::ERROR_TOO_MANY_OPEN_FILES,
        32 => Hresult::ERROR_BROKEN_PIPE,
        34 | 75 => Hresult::ERROR_ARITHMETIC_OVERFLOW,
        36 => Hresult::ERROR_FILENAME_EXCED_RANGE,
        61 => Hresult::ERROR_NO_DATA,
        74 | 84 => Hresult::ERROR_CRC,
        _ => Hresult::VDS_E_PROVIDER_FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_equals_the_windows_one() {
        for (text, ours, theirs) in windows() {
            assert_eq!(ours, theirs, "{text}");
            assert_eq!(name(ours), Some(text));
            assert_eq!(number(text), Some(ours));
        }
    }

    #[test]
    fn hresults_of_win32_kin_are_the_written_ones() {
        let expected = [
            (20, 0x8007_010b),
            (24, 0x8007_0004),
            (32, 0x8007_006d),
            (34, 0x8007_0216),
            (36, 0x8007_00ce),
            (61, 0x8007_00e8),
            (74, 0x8007_0017),
            (12, 0x8007_000e),
            (22, 0x8004_251c),
            (9999, 0x8004_2442),
        ];
        for (errno, hresult) in expected {
            assert_eq!(from_errno(errno), Hresult(hresult), "errno {errno}");
        }
    }
}
