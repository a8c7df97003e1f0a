//! Notifications as text.

use lun_ipc::Event;

use super::units::moment;

/// One notification, on one line: number, moment, what happened.
pub(crate) fn line(event: &Event) -> String {
    format!(
        "{:>6}  {}  {}",
        event.seq,
        moment(event.at_ms.0),
        event.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use lun_core::id::Wall;

    #[test]
    fn a_notification_is_one_line() {
        let event = Event {
            seq: 7,
            at_ms: Wall(1_795_407_137_000),
            event: 0,
            event_name: None,
            lun: None,
            op: None,
            text: "md0 is online".to_owned(),
        };
        assert_eq!(line(&event), "     7  2026-11-23T04:12:17Z  md0 is online");
    }
}
