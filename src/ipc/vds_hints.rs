//! `VDS_HINTS` as `a{sv}`, under the names of its fields.

use std::collections::HashMap;

use zbus::Variant;

use crate::proxy::Dict;
use crate::wire::{self, OptionError, Options};

/// Bit of `bFastCrashRecoveryRequired` in `ullHintMask` (`VDS_HINT_FASTCRASHRECOVERYREQUIRED`).
const FAST_CRASH_RECOVERY: u64 = 0x1;

/// Numbers that lund can do nothing about; 0 is no wish.
const NUMBERS: [(&str, &str); 7] = [
    ("ullExpectedMaximumSize", "arrays are not grown here"),
    ("ulOptimalReadSize", "it is fixed when an array is made"),
    (
        "ulOptimalReadAlignment",
        "it is fixed when an array is made",
    ),
    ("ulOptimalWriteSize", "it is fixed when an array is made"),
    (
        "ulOptimalWriteAlignment",
        "it is fixed when an array is made",
    ),
    ("ulMaximumDriveCount", "arrays are not made or grown here"),
    (
        "ulStripeSize",
        "another chunk size is a reshape, which mdadm does",
    ),
];

/// Flags that lund can do nothing about, each with its bit in `ullHintMask`; false is no wish.
const FLAGS: [(&str, u64, &str); 9] = [
    ("bMostlyReads", 0x2, "it would mean another level"),
    (
        "bOptimizeForSequentialReads",
        0x4,
        "the kernel reads ahead by itself",
    ),
    (
        "bOptimizeForSequentialWrites",
        0x8,
        "the kernel merges writes by itself",
    ),
    (
        "bReadBackVerifyEnabled",
        0x10,
        "md does not read back; Verify compares copies",
    ),
    (
        "bRemapEnabled",
        0x20,
        "drives remap by themselves, md keeps its list of bad blocks",
    ),
    (
        "bWriteThroughCachingEnabled",
        0x40,
        "caches are the drives' own",
    ),
    ("bHardwareChecksumEnabled", 0x80, "md keeps no checksums"),
    ("bIsYankable", 0x100, "it would mean other drives"),
    (
        "bAllocateHotSpare",
        0x200,
        "a [[spare]] rule of lund.toml keeps a spare for a LUN",
    ),
];

/// What is wished of `VDS_HINTS`; what is [`None`] stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HintOptions {
    /// `sRebuildPriority` (n), 0 to 15; 0 for none.
    pub rebuild_priority: Option<u8>,
    /// `bFastCrashRecoveryRequired` (b): a write-intent bitmap.
    pub fast_crash_recovery: Option<bool>,
}

/// Why hints were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HintError {
    /// It is no hint, or of another type.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// Not legal at all.
    #[error("sRebuildPriority {0} is out of bounds (0 to 15)")]
    Priority(i64),
    /// VDS knows it, and nothing here can do it.
    #[error("{field}: {why}")]
    Unsupported {
        /// Field of `VDS_HINTS`.
        field: &'static str,
        /// Why not.
        why: &'static str,
    },
}

impl HintOptions {
    /// As the proxies take it.
    #[must_use]
    pub fn to_dict(self) -> Dict<'static> {
        let mut dict = Dict::new();
        if let Some(priority) = self.rebuild_priority {
            dict.insert("sRebuildPriority", Variant::from(i16::from(priority)));
        }
        if let Some(wanted) = self.fast_crash_recovery {
            dict.insert("bFastCrashRecoveryRequired", Variant::from(wanted));
        }
        dict
    }

    /// As it arrived. Where there is an `ullHintMask`, flags whose bit it lacks are passed over; without one
    /// every flag that is given counts.
    ///
    /// # Errors
    /// A field that `VDS_HINTS` does not have, one of another type, one out of bounds, or one that wishes for what
    /// is not done here.
    pub fn from_options(options: &Options) -> Result<Self, HintError> {
        known(options)?;
        let mask = mask(options)?;
        let counts = |bit: u64| mask.is_none_or(|mask| mask & bit != 0);
        for (field, why) in NUMBERS {
            if whole(options, field)?.is_some_and(|number| number != 0) {
                return Err(HintError::Unsupported { field, why });
            }
        }
        for (field, bit, why) in FLAGS {
            if flag(options, field)? == Some(true) && counts(bit) {
                return Err(HintError::Unsupported { field, why });
            }
        }
        let priority = whole(options, "sRebuildPriority")?;
        let rebuild_priority = match priority.map(u8::try_from) {
            None => None,
            Some(Ok(number @ 0..=15)) => Some(number),
            Some(_) => return Err(HintError::Priority(priority.unwrap_or_default())),
        };
        let wanted = flag(options, "bFastCrashRecoveryRequired")?;
        Ok(Self {
            rebuild_priority,
            fast_crash_recovery: wanted.filter(|_| counts(FAST_CRASH_RECOVERY)),
        })
    }
}

/// All of `VDS_HINTS` as it is now; a flag counts where its bit is set in `ullHintMask`.
#[must_use]
pub fn hints_in_force(
    rebuild_priority: u8,
    fast_crash_recovery: Option<bool>,
) -> HashMap<&'static str, Variant<'static>> {
    let mask = fast_crash_recovery.map_or(0, |_| FAST_CRASH_RECOVERY);
    let mut hints = HintOptions {
        rebuild_priority: Some(rebuild_priority),
        fast_crash_recovery: Some(fast_crash_recovery.unwrap_or(false)),
    }
    .to_dict();
    hints.insert("ullHintMask", Variant::from(mask));
    hints.insert("ullExpectedMaximumSize", Variant::from(0_u64));
    let longs = NUMBERS.iter().map(|(field, _)| *field);
    for field in longs.filter(|field| *field != "ullExpectedMaximumSize") {
        hints.insert(field, Variant::from(0_u32));
    }
    for (field, _, _) in FLAGS.iter().filter(|(_, bit, _)| *bit < 0x200) {
        hints.insert(field, Variant::from(false));
    }
    hints
}

fn known(options: &Options) -> Result<(), OptionError> {
    let own = [
        "ullHintMask",
        "bFastCrashRecoveryRequired",
        "sRebuildPriority",
    ];
    let numbers = NUMBERS.iter().map(|(field, _)| *field);
    let flags = FLAGS.iter().map(|(field, _, _)| *field);
    let names: Vec<&str> = own.into_iter().chain(numbers).chain(flags).collect();
    wire::known(options, &names)
}

/// A whole number of any of D-Bus's types: `busctl` users need not know which.
fn whole(options: &Options, key: &str) -> Result<Option<i64>, OptionError> {
    let Some(value) = options.get(key) else {
        return Ok(None);
    };
    let number = (value.downcast_ref::<i16>().map(i64::from).ok())
        .or_else(|| value.downcast_ref::<u16>().map(i64::from).ok())
        .or_else(|| value.downcast_ref::<i32>().map(i64::from).ok())
        .or_else(|| value.downcast_ref::<u32>().map(i64::from).ok())
        .or_else(|| value.downcast_ref::<u8>().map(i64::from).ok())
        .or_else(|| value.downcast_ref::<i64>().ok())
        .or_else(|| {
            let number = value.downcast_ref::<u64>().ok()?;
            Some(i64::try_from(number).unwrap_or(i64::MAX))
        });
    number
        .map(Some)
        .ok_or_else(|| OptionError::Type(key.to_owned(), "whole number"))
}

/// Which flags count; [`None`]: all that are given.
fn mask(options: &Options) -> Result<Option<u64>, OptionError> {
    let given = options.get("ullHintMask");
    match given.and_then(|value| value.downcast_ref::<u64>().ok()) {
        Some(mask) => Ok(Some(mask)),
        None => Ok(whole(options, "ullHintMask")?.map(i64::cast_unsigned)),
    }
}

fn flag(options: &Options, key: &str) -> Result<Option<bool>, OptionError> {
    let wrong = |_| OptionError::Type(key.to_owned(), "boolean");
    options
        .get(key)
        .map(|value| value.downcast_ref().map_err(wrong))
        .transpose()
}

#[cfg(test)]
mod tests {
    use zbus::OwnedVariant;

    use super::*;

    fn arrived(dict: Dict<'_>) -> Result<HintOptions, HintError> {
        let options = dict
            .into_iter()
            .map(|(key, value)| (key.to_owned(), OwnedVariant::try_from(value).unwrap()))
            .collect();
        HintOptions::from_options(&options)
    }

    #[test]
    fn hints_arrive_as_they_were_sent() {
        let none = HintOptions::default();
        let both = HintOptions {
            rebuild_priority: Some(15),
            fast_crash_recovery: Some(false),
        };
        for hints in [none, both] {
            assert_eq!(arrived(hints.to_dict()), Ok(hints));
        }
        // What is in force can be applied as it is.
        assert_eq!(
            arrived(hints_in_force(3, Some(true))),
            Ok(HintOptions {
                rebuild_priority: Some(3),
                fast_crash_recovery: Some(true),
            })
        );
        let unknown = arrived(hints_in_force(0, None)).unwrap();
        assert_eq!(unknown.fast_crash_recovery, None, "its bit is not set");
    }

    #[test]
    fn a_number_may_be_of_any_type() {
        for value in [
            Variant::from(7_i16),
            Variant::from(7_u8),
            Variant::from(7_u32),
            Variant::from(7_i64),
            Variant::from(7_u64),
        ] {
            let hints = arrived(Dict::from([("sRebuildPriority", value)])).unwrap();
            assert_eq!(hints.rebuild_priority, Some(7));
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let refused =
            |key, value: Variant<'static>| arrived(Dict::from([(key, value)])).unwrap_err();
        for bad in [-1_i16, 16, 256] {
            let error = refused("sRebuildPriority", Variant::from(bad));
            assert_eq!(error, HintError::Priority(bad.into()));
        }
        let error = refused("sRebuildPriority", Variant::from("7"));
        assert!(
            matches!(error, HintError::Option(OptionError::Type(..))),
            "{error}"
        );
        let error = refused("bMostlyRead", Variant::from(true));
        assert!(
            matches!(error, HintError::Option(OptionError::Unknown(..))),
            "{error}"
        );
        for (field, _) in NUMBERS {
            let error = refused(field, Variant::from(1_u32));
            assert!(matches!(error, HintError::Unsupported { field: named, .. } if named == field));
            assert!(arrived(Dict::from([(field, Variant::from(0_u32))])).is_ok());
        }
        for (name, bit, _) in FLAGS {
            let error = refused(name, Variant::from(true));
            assert!(matches!(error, HintError::Unsupported { field, .. } if field == name));
            let masked = |mask: u64| {
                let value = Variant::from(true);
                arrived(Dict::from([
                    (name, value),
                    ("ullHintMask", Variant::from(mask)),
                ]))
            };
            assert!(masked(!bit).is_ok(), "{name} does not count");
            assert!(masked(bit).is_err());
        }
    }
}
