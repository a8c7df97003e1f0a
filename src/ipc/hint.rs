//! What to do next, told by the client: the body of a D-Bus error has no room for advice, and
//! advice names the client's own verbs.

use lun_core::Hresult;

/// One sentence of advice for an error of this HRESULT that speaks of `object` (the third value
/// of the error's body; see [`lun_core::Error::object`]). [`None`] where there is nothing to advise.
#[must_use]
pub fn hint_for(hresult: u32, object: &str) -> Option<String> {
    let text = match Hresult(hresult) {
        Hresult::VDS_E_ACCESS_DENIED => {
            "run it as root, or let a polkit rule grant the action named above".to_owned()
        }
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
        Hresult::VDS_E_LUN_OFFLINE if object.starts_with("mapper/") => {
            "make it again with `dmsetup`, or with `vgchange -ay` where it is LVM's".to_owned()
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
        Hresult::E_ACCESSDENIED => "run the command as root".to_owned(),
        Hresult::E_INVALIDARG => "`lunctl --help` shows what is accepted".to_owned(),
        Hresult::VDS_E_NOT_SUPPORTED => {
            format!("use the tool that owns {object} (mdadm, lvm, or the vendor's)")
        }
        Hresult::VDS_E_RETRY | Hresult::ERROR_BUSY => "try again in a moment".to_owned(),
        other => return drive_hint(other, object).or_else(|| outcome_hint(other, object)),
    };
    Some(text)
}

/// Advice for a drive that was refused.
fn drive_hint(hresult: Hresult, drive: &str) -> Option<String> {
    Some(match hresult {
        Hresult::VDS_E_DEVICE_IN_USE => {
            format!("`lsblk {drive}` shows its users; release it, or choose another drive")
        }
        Hresult::VDS_E_OPERATION_DENIED => format!(
            "if all that is on it may be lost: `lunctl spare add {drive} --force`, then try again"
        ),
        Hresult::VDS_E_INVALID_SECTOR_SIZE => {
            "choose a drive with smaller logical blocks; `lsblk -o NAME,LOG-SEC` shows them"
                .to_owned()
        }
        Hresult::VDS_E_MEDIA_WRITE_PROTECTED => {
            format!("make it writable with `blockdev --setrw {drive}`, or choose another")
        }
        Hresult::VDS_E_DISK_IN_USE_BY_VOLUME => {
            "choose a drive that belongs to nothing; `lunctl drives` shows what each belongs to"
                .to_owned()
        }
        Hresult::VDS_E_DISK_CONFIGURATION_NOT_IN_SYNC => format!(
            "find out with `mdadm --examine {drive}` which copy is the right one before anything \
             is written to either"
        ),
        Hresult::VDS_E_INVALID_DISK => {
            "exchange the drive, or choose another; `lunctl drives` shows them".to_owned()
        }
        Hresult::VDS_E_UNEXPECTED_DISK_LAYOUT_CHANGE => format!(
            "`lunctl spare remove` the old drive, then `lunctl spare add {drive}` the new one"
        ),
        Hresult::VDS_E_OBJECT_OUT_OF_SYNC => "`lunctl refresh` reads it again".to_owned(),
        Hresult::VDS_E_MEMBER_IS_HEALTHY => {
            "`lunctl drives` marks the drives that are failing".to_owned()
        }
        _ => return None,
    })
}

/// Advice for what the kernel or a tool refused, and for how an operation ended.
fn outcome_hint(hresult: Hresult, object: &str) -> Option<String> {
    Some(match hresult {
        Hresult::VDS_E_IO_ERROR => format!(
            "restore the files at the unreadable places from a backup, then exchange the drives \
             with `lunctl replace {object} DRIVE`"
        ),
        Hresult::VDS_E_VOLUME_NOT_HEALTHY => format!(
            "`lunctl recover {object} --repair` makes the copies equal; a few differences on a \
             mirror with swap on it are harmless"
        ),
        Hresult::VDS_E_DISK_IO_FAILING => format!(
            "`lunctl show {object}` tells which drive: exchange it, register another with \
             `lunctl spare add DRIVE`, then `lunctl recover {object}`"
        ),
        Hresult::VDS_E_PROVIDER_FAILURE => {
            "`journalctl -u lund` and `journalctl -k` tell more; `lunctl refresh` reads the state \
             again"
                .to_owned()
        }
        Hresult::VDS_E_BAD_PROVIDER_DATA => {
            "please report the text above with the kernel's version (`uname -r`)".to_owned()
        }
        Hresult::VDS_E_DRIVER_OBJECT_NOT_FOUND => {
            "`lunctl refresh` reads the state again".to_owned()
        }
        Hresult::VDS_E_LOG_UPDATE => {
            "free space in /var/lib/lund and check that it is writable; recovery goes on without \
             the record meanwhile"
                .to_owned()
        }
        Hresult::VDS_E_INTERNAL_ERROR => {
            "please report it with the output of `journalctl -u lund`".to_owned()
        }
        _ => return None,
    })
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

    /// Each row of the tables in docs/errors.md that ends with advice: its HRESULTs.
    fn advised() -> Vec<u32> {
        let rows = include_str!("../../docs/errors.md").lines();
        let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
        let with_advice = cells.filter(|cells| {
            cells.len() >= 5
                && cells
                    .last()
                    .is_some_and(|hint| !hint.trim_matches([' ', '|']).is_empty())
        });
        let words = with_advice.flat_map(|cells| cells[1].split(", ").collect::<Vec<_>>());
        words
            .filter_map(|word| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok())
            .collect()
    }

    #[test]
    fn every_error_with_advice_has_it_on_the_command_line_too() {
        let advised = advised();
        assert!(advised.len() > 40, "{advised:x?}");
        for hresult in advised {
            let hint = hint_for(hresult, "md0");
            assert!(hint.is_some(), "no hint for {hresult:#010x}");
        }
    }
}
