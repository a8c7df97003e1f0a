//! Kinds of news in the journal: each has a `MESSAGE_ID`, a level, and an entry of the catalog
//! (`dist/lund.catalog`) that `journalctl -x` shows. The numbers are drawn once and stay.

use lun_core::model::{Health, Lun, LunStatus, NotificationEvent, OpView};
use tracing::Level;

/// What kind of news a line of the journal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A LUN is there that was not.
    LunArrived,
    /// A LUN is gone.
    LunDeparted,
    /// A LUN is healthy.
    LunHealthy,
    /// A LUN has lost redundancy, or stands in doubt.
    LunUnwell,
    /// A LUN has lost data or cannot be reached.
    LunFailed,
    /// A drive failed, came, went, or plays another part.
    Drive,
    /// What is done by itself about a LUN that lost redundancy was decided.
    Decision,
    /// An operation was begun, or goes on.
    Operation,
    /// An operation ended well.
    OperationSucceeded,
    /// An operation failed.
    OperationFailed,
    /// An operation was cancelled.
    OperationCancelled,
    /// An operation was cut off by others.
    OperationInterrupted,
    /// What lund knew and what the kernel says contradict each other.
    OutOfSync,
    /// The ledger cannot be written.
    LedgerDegraded,
    /// The ledger can be written again.
    LedgerRestored,
    /// The configuration was read and is in force.
    ConfigLoaded,
    /// The configuration has a mistake and is not in force.
    ConfigRefused,
    /// Anything else about the service.
    Service,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::LunArrived,
        Self::LunDeparted,
        Self::LunHealthy,
        Self::LunUnwell,
        Self::LunFailed,
        Self::Drive,
        Self::Decision,
        Self::Operation,
        Self::OperationSucceeded,
        Self::OperationFailed,
        Self::OperationCancelled,
        Self::OperationInterrupted,
        Self::OutOfSync,
        Self::LedgerDegraded,
        Self::LedgerRestored,
        Self::ConfigLoaded,
        Self::ConfigRefused,
        Self::Service,
    ];

    /// 128 bits in 32 digits (sd_journal_print(3), `MESSAGE_ID=`).
    #[must_use]
    pub const fn message_id(self) -> &'static str {
        match self {
            Self::LunArrived => "6c161977e6d842579bf1049fc1aff0c6",
            Self::LunDeparted => "43b564524ce446949fac770e7d090ced",
            Self::LunHealthy => "f1a977d15a4541559c2180c61d5cc7b4",
            Self::LunUnwell => "bd45c96c7e6d4c21aa682fc7d629a5a6",
            Self::LunFailed => "0db201dea72040cbb9b347a181daa2ea",
            Self::Drive => "9d9b201f68c54d98ba33c6db674722be",
            Self::Decision => "3f2a6a0d6c0e4b5c9d3a8c5b6c2f7e11",
            Self::Operation => "43dd693bdd1f4c6fb757a534adf96588",
            Self::OperationSucceeded => "5dee20925bad46e28e92337685ce05aa",
            Self::OperationFailed => "2bf79eac73a34b53a863970ab51a32fe",
            Self::OperationCancelled => "fb01cf48580c4783a4cf82e50ff1e604",
            Self::OperationInterrupted => "d9f98b5fbef942b4adabf0ff7956eac4",
            Self::OutOfSync => "d68d2913e7ed43ada0fcc7e51b6a9ad2",
            Self::LedgerDegraded => "65a214aff39f4e04a8860f22d20e807a",
            Self::LedgerRestored => "94a6ed00c2274ecf85f9711d82fe5b84",
            Self::ConfigLoaded => "25e6fe6254e34542b5768a9be59aecab",
            Self::ConfigRefused => "17e6c3a032a44481a1ba4f039d0e2882",
            Self::Service => "b6b9860ed119455697b06433ecf90c6b",
        }
    }

    /// How much it matters.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::LunFailed
            | Self::OperationFailed
            | Self::OutOfSync
            | Self::LedgerDegraded
            | Self::ConfigRefused => Level::ERROR,
            Self::LunUnwell | Self::OperationInterrupted => Level::WARN,
            Self::LunArrived
            | Self::LunDeparted
            | Self::LunHealthy
            | Self::Drive
            | Self::Decision
            | Self::Operation
            | Self::OperationSucceeded
            | Self::OperationCancelled
            | Self::LedgerRestored
            | Self::ConfigLoaded
            | Self::Service => Level::INFO,
        }
    }

    /// The kind of a notification about a LUN, an operation, or neither, both as they are now.
    #[must_use]
    pub fn of(event: Option<NotificationEvent>, lun: Option<&Lun>, op: Option<&OpView>) -> Self {
        use NotificationEvent as Event;
        match (event, op) {
            (Some(Event::ServiceOutOfSync), _) => Self::OutOfSync,
            (Some(Event::DriveArrive | Event::DriveDepart), _)
            | (Some(Event::DriveModify | Event::DriveRemoved), _) => Self::Drive,
            // Of an operation only its end is an event of its LUN.
            (Some(Event::LunModify), Some(op)) => Self::of_end(op),
            (_, Some(_)) => Self::Operation,
            (Some(Event::LunDepart), None) => Self::LunDeparted,
            (Some(Event::LunArrive), None) => match lun.map(Self::of_lun) {
                Some(Self::LunHealthy) | None => Self::LunArrived,
                Some(unwell) => unwell,
            },
            (Some(Event::LunModify), None) => lun.map_or(Self::Service, Self::of_lun),
            (_, None) => Self::Service,
        }
    }

    fn of_lun(lun: &Lun) -> Self {
        match (lun.status, lun.health) {
            (LunStatus::Failed, _) | (_, Health::Failed) => Self::LunFailed,
            (_, Health::Healthy) => Self::LunHealthy,
            _ => Self::LunUnwell,
        }
    }

    fn of_end(op: &OpView) -> Self {
        match op.state.as_str() {
            "succeeded" => Self::OperationSucceeded,
            "failed" => Self::OperationFailed,
            "cancelled" => Self::OperationCancelled,
            "interrupted" => Self::OperationInterrupted,
            _ => Self::Operation,
        }
    }
}

/// Writes a line of this kind, with its fields, into the journal. Fields that are [`None`] are left out.
#[macro_export]
macro_rules! tell {
    ($kind:expr, $($field:ident = $value:expr,)* $text:literal $(, $argument:expr)*) => {{
        let kind: $crate::news::Kind = $kind;
        let id = kind.message_id();
        match kind.level() {
            tracing::Level::ERROR => tracing::error!(MESSAGE_ID = id, $($field = $value,)* $text $(, $argument)*),
            tracing::Level::WARN => tracing::warn!(MESSAGE_ID = id, $($field = $value,)* $text $(, $argument)*),
            _ => tracing::info!(MESSAGE_ID = id, $($field = $value,)* $text $(, $argument)*),
        }
    }};
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_has_a_number_of_its_own_and_an_entry_of_the_catalog() {
        let catalog = include_str!("../../dist/lund.catalog");
        let entries: BTreeSet<&str> = catalog
            .lines()
            .filter_map(|line| line.strip_prefix("-- "))
            .collect();
        let ids: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.message_id()).collect();
        assert_eq!(ids.len(), Kind::ALL.len(), "a number was given twice");
        assert_eq!(ids, entries, "dist/lund.catalog and the kinds differ");
        for id in ids {
            let digits = id.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(id.len() == 32 && digits, "{id}");
        }
        for entry in catalog.split("\n-- ").skip(1) {
            for header in ["\nSubject: ", "\nDefined-By: lund\n", "\nDocumentation: "] {
                assert!(entry.contains(header), "{header:?} is missing in {entry}");
            }
        }
    }

    #[test]
    fn news_without_an_object_is_of_the_service() {
        assert_eq!(Kind::of(None, None, None), Kind::Service);
        let gone = Kind::of(Some(NotificationEvent::LunDepart), None, None);
        assert_eq!(gone, Kind::LunDeparted);
        let drive = Kind::of(Some(NotificationEvent::DriveRemoved), None, None);
        assert_eq!(drive, Kind::Drive);
        let lost = Kind::of(Some(NotificationEvent::ServiceOutOfSync), None, None);
        assert_eq!((lost, lost.level()), (Kind::OutOfSync, Level::ERROR));
    }
}
