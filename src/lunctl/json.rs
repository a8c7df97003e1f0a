//! The JSON documents of `--json`. Their fields are promised in `docs/json.md`.

use lun_ipc::HostView;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::ui::units;

/// A value as a document: with `started_at` and `ended_at` beside the milliseconds.
///
/// # Errors
///
/// The value cannot be written as JSON.
pub(crate) fn document<T: Serialize>(value: &T) -> Result<Value, Failure> {
    let mut document =
        serde_json::to_value(value).map_err(|error| Failure::bad_answer("a question", error))?;
    stamp(&mut document);
    Ok(document)
}

/// A document with one field.
///
/// # Errors
///
/// As [`document`].
pub(crate) fn under<T: Serialize>(key: &str, value: &T) -> Result<Value, Failure> {
    let mut map = Map::new();
    map.insert(key.to_owned(), document(value)?);
    Ok(Value::Object(map))
}

/// Adds whether the service can write its ledger, and why not.
pub(crate) fn add_ledger(document: &mut Value, host: &HostView) {
    if let Value::Object(map) = document {
        let why = &host.ledger_degraded;
        let state = if why.is_some() { "degraded" } else { "ok" };
        map.insert("ledger".to_owned(), json!({"state": state, "reason": why}));
    }
}

/// The document of a failure.
pub(crate) fn of_failure(failure: &Failure) -> Value {
    json!({"error": {
        "hresult": failure.hresult,
        "name": failure.name,
        "message": failure.message,
        "hint": failure.hint,
    }})
}

/// Adds RFC 3339 moments beside every field that ends in `_at_ms`.
fn stamp(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(stamp),
        Value::Object(map) => {
            map.values_mut().for_each(stamp);
            let stamps: Vec<(String, Value)> = map
                .iter()
                .filter_map(|(key, moment)| {
                    let name = key
                        .strip_suffix("_ms")
                        .filter(|name| name.ends_with("_at"))?;
                    let text = moment.as_u64().map(units::rfc3339);
                    Some((name.to_owned(), text.map_or(Value::Null, Value::String)))
                })
                .collect();
            map.extend(stamps);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    fn has(document: &Value, fields: &[&str]) {
        for field in fields {
            assert!(
                document.get(field).is_some(),
                "no field {field} in {document}"
            );
        }
    }

    #[test]
    fn a_lun_has_the_promised_fields() {
        let document = document(&samples::degraded()).unwrap();
        has(
            &document,
            &[
                "id",
                "name",
                "device",
                "driver",
                "managed_by",
                "level",
                "type",
                "size_bytes",
                "status",
                "health",
                "transition",
                "fault_tolerant",
                "redundancy",
                "held",
                "sync",
                "operation",
                "plexes",
                "drives",
            ],
        );
        has(
            &document["redundancy"],
            &[
                "members_wanted",
                "members_in_sync",
                "losses_survivable",
                "fatal_next",
            ],
        );
        has(&document["sync"], &["action", "queued", "mismatch_sectors"]);
        assert_eq!(document["driver"], "md");
        assert_eq!(document["managed_by"], "mdadm");
        assert_eq!(document["type"], "VDS_LT_MIRROR");
        assert_eq!(document["status"], "VDS_LS_ONLINE");
        assert_eq!(document["health"], "VDS_H_REBUILDING");
        assert_eq!(document["operation"]["started_at"], "2026-11-23T04:12:17Z");
    }

    #[test]
    fn a_drive_has_the_promised_fields() {
        let document = document(&samples::drive()).unwrap();
        has(
            &document,
            &[
                "id",
                "device",
                "slot",
                "role",
                "flags",
                "status",
                "health",
                "lun",
                "size_bytes",
            ],
        );
        assert_eq!(document["role"], "in_sync");
        assert_eq!(document["flags"], serde_json::json!(["VDS_DRF_ASSIGNED"]));
        assert_eq!(document["status"], "VDS_DRS_ONLINE");
    }

    #[test]
    fn an_operation_has_the_promised_fields() {
        let document = document(&samples::running()).unwrap();
        has(
            &document,
            &[
                "id",
                "kind",
                "async_output",
                "lun",
                "lun_name",
                "state",
                "hresult",
                "hresult_name",
                "percent",
                "phase",
                "origin",
                "spare",
                "started_at",
                "ended_at",
                "rate_bytes_per_s",
                "eta_s",
                "message",
            ],
        );
        assert_eq!(document["id"], 7);
        assert_eq!(document["kind"], "recover");
        assert_eq!(document["async_output"], "VDS_ASYNCOUT_RECOVERLUN");
        assert_eq!(document["hresult"], "0x80042409");
        assert_eq!(document["phase"], "rebuild");
        assert_eq!(document["origin"], "client");
        assert_eq!(document["ended_at"], Value::Null);
    }

    #[test]
    fn a_failure_has_the_promised_form() {
        let failure = Failure::new(lun_core::Hresult(0x8004_2404), "md0 is busy").hint("wait");
        assert_eq!(
            of_failure(&failure),
            serde_json::json!({"error": {
                "hresult": "0x80042404",
                "name": "VDS_E_ANOTHER_CALL_IN_PROGRESS",
                "message": "md0 is busy",
                "hint": "wait",
            }})
        );
    }
}
