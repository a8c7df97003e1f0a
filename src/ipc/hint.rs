//! What to do next, told by the client: the body of a D-Bus error has no room for advice, and
//! advice names the client's own verbs.

use lun_core::Hresult;

/// One sentence of advice for an error of this HRESULT that speaks of `object` (the third value
/// of the error's body; see [`lun_core::Error::object`]). [`None`] where there is nothing to advise.
#[must_use]
pub fn hint_for(hresult: u32, object: &str) -> Option<String> {
    let text = match Hresult(hresult) {
        Hresult::VDS_E_ACCESS_DENIED => "run the command as root".to_owned(),
        Hresult::VDS_E_ANOTHER_CALL_IN_PROGRESS => {
            format!("see what it does with `lunctl status {object}`, or wait for it")
        }
        Hresult::VDS_E_OBJECT_NOT_FOUND => {
            "`lunctl list` shows the LUNs, `lunctl drives` the drives, `lunctl ops \
                        --all` the operations"
                .to_owned()
        }
        Hresult::VDS_E_OBJECT_DELETED => {
            "assemble the array again, then `lunctl reenumerate`".to_owned()
        }
        Hresult::VDS_E_PROVIDER_CACHE_CORRUPT => {
            "run `lunctl reenumerate` and `lunctl refresh`, then try again".to_owned()
        }
        Hresult::VDS_E_INVALID_OPERATION => format!(
            "only levels with redundancy can be recovered; `lunctl show {object}` tells the level"
        ),
        Hresult::VDS_E_OBJECT_STATUS_FAILED => format!(
            "recovery cannot revive a failed LUN; `lunctl show {object}` tells which members are \
             gone"
        ),
        Hresult::VDS_E_NOT_ENOUGH_DRIVE => {
            "register a spare with `lunctl spare add DRIVE`".to_owned()
        }
        Hresult::VDS_E_MEMBER_SIZE_INVALID => {
            "register a larger spare with `lunctl spare add DRIVE`".to_owned()
        }
        Hresult::VDS_E_LUN_OFFLINE => {
            "start the array with `mdadm --run` or `mdadm --assemble`".to_owned()
        }
        Hresult::VDS_E_LUN_NOT_READY => "try again in a moment".to_owned(),
        Hresult::VDS_E_READONLY => {
            format!("make the array writable with `mdadm --readwrite {object}`")
        }
        Hresult::VDS_E_CANCEL_TOO_LATE => format!("`lunctl status {object}` tells how it ended"),
        Hresult::VDS_E_TIMEOUT => "it goes on; `lunctl ops` shows how far it is".to_owned(),
        Hresult::VDS_E_PROVIDER_EXITING => {
            "the service is stopping; try again once it runs".to_owned()
        }
        Hresult::VDS_E_OPERATION_CANCELED => "`lunctl recover` goes on where it stopped".to_owned(),
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_names_the_object() {
        let hint = hint_for(0x8004_2404, "7").unwrap();
        assert!(hint.contains("lunctl status 7"), "{hint}");
        assert_eq!(hint_for(0, "md0"), None);
    }
}
