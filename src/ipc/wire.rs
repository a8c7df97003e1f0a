//! What travels: options of calls (`a{sv}`) and JSON documents.

use std::collections::HashMap;

use lun_core::Hresult;
use lun_core::action::Action;
use lun_core::id::{LunId, OpId, Wall};
use lun_core::model::OpView;
use lun_core::op::{Standing, StateChange};
use serde::{Deserialize, Serialize};
use zbus::{OwnedVariant, Variant};

use crate::proxy::Dict;

/// Longest string that a call may carry.
pub const MAX_STRING_BYTES: usize = 4096;

/// Options as they arrive.
pub type Options = HashMap<String, OwnedVariant>;

/// Why a call's arguments were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("there is no option {0:?} (there is {1})")]
    Unknown(String, String),
    /// The option wants another type.
    #[error("option {0:?} must be a {1}")]
    Type(String, &'static str),
    /// Longer than [`MAX_STRING_BYTES`].
    #[error("{0} is longer than {MAX_STRING_BYTES} bytes")]
    TooLong(String),
    /// Nothing in it.
    #[error("{0} is empty")]
    Empty(String),
    /// More than one answer holds, or nothing.
    #[error("a limit of {0} is out of bounds (1 to {MAX_PAGE})")]
    Limit(u32),
}

/// Refuses an empty or overlong string argument; `what` names it in the message.
///
/// # Errors
/// [`OptionError::Empty`], [`OptionError::TooLong`].
pub fn check_string(what: &str, text: &str) -> Result<(), OptionError> {
    if text.is_empty() {
        return Err(OptionError::Empty(what.to_owned()));
    }
    if text.len() > MAX_STRING_BYTES {
        return Err(OptionError::TooLong(what.to_owned()));
    }
    Ok(())
}

/// Options of `Recover` and `PlanRecover`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoverOptions {
    /// `spare` (s): this drive and no other.
    pub spare: Option<String>,
    /// `repair` (b): rewrite what differs even when nothing else is wrong.
    pub repair: bool,
}

/// Options of `ReplaceDrive` and `PlanReplace`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplaceOptions {
    /// `with` (s): onto this drive and no other.
    pub with: Option<String>,
}

/// Options of `Cancel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CancelOptions {
    /// `release_spare` (b): give back the spare that the operation attached.
    pub release_spare: bool,
}

/// Options of `SpareAdd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpareOptions {
    /// `force` (b): the owner accepts to lose what is on the drive.
    pub force: bool,
}

impl RecoverOptions {
    /// As the proxies take it.
    #[must_use]
    pub fn to_dict(&self) -> Dict<'_> {
        let mut dict = Dict::new();
        put_string(&mut dict, "spare", self.spare.as_deref());
        put_flag(&mut dict, "repair", self.repair);
        dict
    }

    /// As it arrived.
    ///
    /// # Errors
    /// An unknown option, one of another type, or too long a string.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        known(options, &["spare", "repair"])?;
        Ok(Self {
            spare: string(options, "spare")?,
            repair: flag(options, "repair")?,
        })
    }
}

impl ReplaceOptions {
    /// As the proxies take it.
    #[must_use]
    pub fn to_dict(&self) -> Dict<'_> {
        let mut dict = Dict::new();
        put_string(&mut dict, "with", self.with.as_deref());
        dict
    }

    /// As it arrived.
    ///
    /// # Errors
    /// An unknown option, one of another type, or too long a string.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        known(options, &["with"])?;
        Ok(Self {
            with: string(options, "with")?,
        })
    }
}

impl CancelOptions {
    /// As the proxies take it.
    #[must_use]
    pub fn to_dict(&self) -> Dict<'static> {
        let mut dict = Dict::new();
        put_flag(&mut dict, "release_spare", self.release_spare);
        dict
    }

    /// As it arrived.
    ///
    /// # Errors
    /// An unknown option, or one of another type.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        known(options, &["release_spare"])?;
        Ok(Self {
            release_spare: flag(options, "release_spare")?,
        })
    }
}

impl SpareOptions {
    /// As the proxies take it.
    #[must_use]
    pub fn to_dict(&self) -> Dict<'static> {
        let mut dict = Dict::new();
        put_flag(&mut dict, "force", self.force);
        dict
    }

    /// As it arrived.
    ///
    /// # Errors
    /// An unknown option, or one of another type.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        known(options, &["force"])?;
        Ok(Self {
            force: flag(options, "force")?,
        })
    }
}

fn put_string<'a>(dict: &mut Dict<'a>, key: &'static str, value: Option<&'a str>) {
    if let Some(value) = value {
        dict.insert(key, Variant::from(value));
    }
}

/// A flag that is not set is not sent.
fn put_flag(dict: &mut Dict<'_>, key: &'static str, value: bool) {
    if value {
        dict.insert(key, Variant::from(true));
    }
}

/// No option is given but these.
pub(crate) fn known(options: &Options, names: &[&str]) -> Result<(), OptionError> {
    match options.keys().find(|key| !names.contains(&key.as_str())) {
        Some(key) => {
            let shown: String = key.chars().take(64).collect();
            Err(OptionError::Unknown(shown, names.join(", ")))
        }
        None => Ok(()),
    }
}

fn string(options: &Options, key: &str) -> Result<Option<String>, OptionError> {
    let Some(value) = options.get(key) else {
        return Ok(None);
    };
    let text: &str = value
        .downcast_ref()
        .map_err(|_| OptionError::Type(key.to_owned(), "string"))?;
    check_string(&format!("option {key:?}"), text)?;
    Ok(Some(text.to_owned()))
}

fn flag(options: &Options, key: &str) -> Result<bool, OptionError> {
    match options.get(key) {
        Some(value) => value
            .downcast_ref()
            .map_err(|_| OptionError::Type(key.to_owned(), "boolean")),
        None => Ok(false),
    }
}

/// The document that `Provider.Describe` answers with.
pub use lun_core::machine::Snapshot as HostView;

/// A step of an operation: one action on the kernel or on a drive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// Number within the operation, from 1.
    pub number: u32,
    /// What was done; [`None`] when it was written down by another version that had other actions.
    pub action: Option<Action>,
    /// When it was about to be done.
    pub begun_at_ms: Wall,
    /// When its outcome was known; [`None`]: it is under way, or the service ended before it knew.
    pub ended_at_ms: Option<Wall>,
    /// Why it failed.
    pub error: Option<String>,
    /// `S_OK`, or that of the failure; [`None`] with `ended_at_ms`.
    pub hresult: Option<Hresult>,
}

/// An operation of any age, with its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpHistory {
    /// The operation.
    #[serde(flatten)]
    pub op: OpView,
    /// How the LUN stood when it began.
    pub before: Option<Standing>,
    /// How the LUN stood when it ended.
    pub after: Option<Standing>,
    /// The states that it was in, with the moments at which each began.
    pub states: Vec<StateChange>,
    /// Its steps, the first first.
    pub steps: Vec<StepView>,
    /// Why the steps are not known, when the ledger could not be read.
    pub ledger_error: Option<String>,
}

/// Some operations, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// The operations.
    pub operations: Vec<OpView>,
    /// Ask for those before this one next; [`None`]: there are no older ones.
    pub next_before: Option<OpId>,
    /// Why older ones are not known, when the ledger could not be read.
    pub ledger_error: Option<String>,
}

/// Which operations `QueryOperations` answers with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryOptions {
    /// `lun` (s): of this LUN, which may be gone: by id, unique beginning of it, or last known name.
    pub lun: Option<String>,
    /// `before` (t): with a smaller number than this.
    pub before: Option<OpId>,
    /// `limit` (u): so many, 1 to [`MAX_PAGE`]; 100 if not given.
    pub limit: Option<u32>,
}

/// Most operations or notifications in one answer.
pub const MAX_PAGE: u32 = 1000;

impl HistoryOptions {
    /// As the proxies take it.
    #[must_use]
    pub fn to_dict(&self) -> Dict<'_> {
        let mut dict = Dict::new();
        put_string(&mut dict, "lun", self.lun.as_deref());
        if let Some(before) = self.before {
            dict.insert("before", Variant::from(before.0));
        }
        if let Some(limit) = self.limit {
            dict.insert("limit", Variant::from(limit));
        }
        dict
    }

    /// As it arrived.
    ///
    /// # Errors
    /// An unknown option, one of another type or out of bounds, or too long a string.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        known(options, &["lun", "before", "limit"])?;
        let before: Option<u64> = number(options, "before", "64 bit number (t)")?;
        let limit: Option<u32> = number(options, "limit", "32 bit number (u)")?;
        Ok(Self {
            lun: string(options, "lun")?,
            before: before.map(OpId),
            limit: limit.map(check_limit).transpose()?,
        })
    }
}

/// Refuses a number of results out of bounds.
///
/// # Errors
/// [`OptionError::Limit`].
pub fn check_limit(limit: u32) -> Result<u32, OptionError> {
    if (1..=MAX_PAGE).contains(&limit) {
        Ok(limit)
    } else {
        Err(OptionError::Limit(limit))
    }
}

fn number<T: TryFrom<OwnedVariant>>(
    options: &Options,
    key: &str,
    kind: &'static str,
) -> Result<Option<T>, OptionError> {
    let wrong = || OptionError::Type(key.to_owned(), kind);
    options
        .get(key)
        .map(|value| {
            let value = value.try_clone().map_err(|_| wrong())?;
            T::try_from(value).map_err(|_| wrong())
        })
        .transpose()
}

/// One remembered notification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Sequence number. It never repeats and only rises, across restarts too; after an end of the
    /// service that was not orderly it jumps.
    pub seq: u64,
    /// When, milliseconds since 1970.
    pub at_ms: Wall,
    /// VDS event code; 0 where VDS has none.
    pub event: u32,
    /// Name of the event code, `VDS_NF_LUN_MODIFY`.
    pub event_name: Option<String>,
    /// LUN that it concerns.
    pub lun: Option<LunId>,
    /// Operation that it concerns.
    pub op: Option<OpId>,
    /// A sentence.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(dict: Dict<'_>) -> Options {
        dict.into_iter()
            .map(|(key, value)| (key.to_owned(), OwnedVariant::try_from(value).unwrap()))
            .collect()
    }

    #[test]
    fn options_arrive_as_they_were_sent() {
        for options in [
            RecoverOptions::default(),
            RecoverOptions {
                spare: Some("/dev/loop2".to_owned()),
                repair: true,
            },
        ] {
            assert_eq!(
                RecoverOptions::from_options(&sent(options.to_dict())),
                Ok(options)
            );
        }
        let cancel = CancelOptions {
            release_spare: true,
        };
        assert_eq!(
            CancelOptions::from_options(&sent(cancel.to_dict())),
            Ok(cancel)
        );
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        let unknown = sent(Dict::from([("spare_", Variant::from("x"))]));
        let error = RecoverOptions::from_options(&unknown).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is no option \"spare_\" (there is spare, repair)"
        );
        let mistyped = sent(Dict::from([("repair", Variant::from("yes"))]));
        let error = RecoverOptions::from_options(&mistyped).unwrap_err();
        assert_eq!(error, OptionError::Type("repair".to_owned(), "boolean"));
        let long = "x".repeat(MAX_STRING_BYTES + 1);
        let error = RecoverOptions::from_options(&sent(Dict::from([(
            "spare",
            Variant::from(long.as_str()),
        )])));
        assert!(matches!(error, Err(OptionError::TooLong(_))));
    }
}
