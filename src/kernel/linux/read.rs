//! Reading small files, so that each failure tells the path and the errno.

use std::fs;
use std::io;
use std::path::Path;

use lun_core::Error;
use lun_core::facts::Fact;

/// The error for a failed system call: what was tried, on what, and the errno.
pub(crate) fn failed(action: &str, object: &Path, error: &io::Error) -> Error {
    Error::Kernel {
        action: action.to_owned(),
        object: object.display().to_string(),
        errno: error.raw_os_error().unwrap_or(0),
        detail: error.to_string(),
    }
}

/// Text of a file; bytes that are no UTF-8 (device names can hold any) are replaced.
pub(crate) fn text(path: &Path) -> Result<String, Error> {
    loop {
        match fs::read(path) {
            Ok(bytes) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read", path, &error)),
        }
    }
}

/// As [`text`], but [`None`] for a file that is not there or whose object is just going.
pub(crate) fn text_if_there(path: &Path) -> Result<Option<String>, Error> {
    match text(path) {
        Ok(text) => Ok(Some(text)),
        Err(Error::Kernel { errno, .. }) if is_gone(errno) => Ok(None),
        Err(error) => Err(error),
    }
}

/// `ENOENT`: no such file. `ENODEV`: a file of an object that is no more.
pub(crate) const fn is_gone(errno: i32) -> bool {
    errno == libc::ENOENT || errno == libc::ENODEV
}

/// Reads and parses one file into a fact.
pub(crate) fn fact<T>(path: &Path, parse: impl FnOnce(&str, &str) -> Result<T, Error>) -> Fact<T> {
    to_fact(text(path).and_then(|text| parse(&path.display().to_string(), &text)))
}

/// A failed reading becomes an unknown fact with the reason.
pub(crate) fn to_fact<T>(result: Result<T, Error>) -> Fact<T> {
    match result {
        Ok(value) => Fact::Known(value),
        Err(error) => Fact::Unknown(error.to_string()),
    }
}

/// Changes a fact's value.
pub(crate) fn map<T, U>(fact: Fact<T>, change: impl FnOnce(T) -> U) -> Fact<U> {
    match fact {
        Fact::Known(value) => Fact::Known(change(value)),
        Fact::Unknown(why) => Fact::Unknown(why),
    }
}

/// Names in a folder, sorted; none when the folder is not there or goes meanwhile.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    found.sort();
    found
}
