//! Which right a call takes. Each is an action of polkit, described in `dist/org.lund.Vds1.policy`.

use lun_core::id::OpId;
use lun_core::model::OpView;

/// What somebody may be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Start a recovery.
    Recover,
    /// Cancel an operation that the same user began.
    CancelOwn,
    /// Cancel an operation of somebody else: another user, the kernel, the service's own policy.
    CancelOther,
    /// Move a LUN's data from one drive to another.
    Replace,
    /// Read and compare all copies, and rewrite what differs.
    Scrub,
    /// End a hold.
    Release,
    /// Put drives into the spare pool, and take them out.
    Spare,
    /// Read everything anew.
    Refresh,
    /// Switch the lights of bays.
    Maintenance,
    /// Change the hints of a LUN.
    Hints,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Recover,
        Self::CancelOwn,
        Self::CancelOther,
        Self::Replace,
        Self::Scrub,
        Self::Release,
        Self::Spare,
        Self::Refresh,
        Self::Maintenance,
        Self::Hints,
    ];

    /// Its action of polkit.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::Recover => "org.lund.Vds1.recover",
            Self::CancelOwn => "org.lund.Vds1.cancel-own",
            Self::CancelOther => "org.lund.Vds1.cancel-other",
            Self::Replace => "org.lund.Vds1.replace",
            Self::Scrub => "org.lund.Vds1.scrub",
            Self::Release => "org.lund.Vds1.release",
            Self::Spare => "org.lund.Vds1.spare",
            Self::Refresh => "org.lund.Vds1.refresh",
            Self::Maintenance => "org.lund.Vds1.maintenance",
            Self::Hints => "org.lund.Vds1.hints",
        }
    }

    /// What it takes to cancel an operation. One that no user is known to have begun is somebody
    /// else's, and so is one that is not there: the caller may not learn which by trying.
    #[must_use]
    pub fn to_cancel(ops: &[OpView], op: OpId, uid: u32) -> Self {
        let asked = ops.iter().find(|view| view.id == op);
        match asked.and_then(|view| view.asked_uid) {
            Some(owner) if owner == uid => Self::CancelOwn,
            _ => Self::CancelOther,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = include_str!("../../../dist/org.lund.Vds1.policy");

    #[test]
    fn the_policy_file_describes_every_right_and_no_other() {
        let described: Vec<&str> = POLICY
            .split("<action id=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let mut rights: Vec<&str> = Right::ALL.map(Right::action).to_vec();
        rights.sort_unstable();
        let mut sorted = described.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, rights);
    }

    fn asked_by(id: u64, uid: Option<u32>) -> OpView {
        let view = serde_json::json!({
            "id": id, "kind": "recover", "async_output": "VDS_ASYNCOUT_RECOVERLUN",
            "lun": uuid::Uuid::nil(), "lun_name": "md0", "state": "running",
            "hresult": "0x80042409", "hresult_name": "VDS_E_OPERATION_PENDING", "percent": 0,
            "phase": "rebuild", "origin": "client", "spare": null, "started_at_ms": 0,
            "ended_at_ms": null, "rate_bytes_per_s": null, "eta_s": null, "message": "",
            "asked_by": "somebody", "asked_uid": uid
        });
        serde_json::from_value(view).unwrap()
    }

    #[test]
    fn only_who_asked_cancels_by_the_right_of_owners() {
        let ops = [asked_by(1, Some(1000)), asked_by(2, None)];
        let right = |op, uid| Right::to_cancel(&ops, OpId(op), uid);
        assert_eq!(right(1, 1000), Right::CancelOwn);
        assert_eq!(right(1, 1001), Right::CancelOther);
        assert_eq!(right(2, 1000), Right::CancelOther, "the kernel's");
        assert_eq!(right(3, 1000), Right::CancelOther, "there is none");
    }

    #[test]
    fn the_page_for_people_names_every_right() {
        let page = include_str!("../../../docs/rights.md");
        for right in Right::ALL {
            let cell = format!("| `{}` |", right.action());
            assert!(page.contains(&cell), "docs/rights.md: {cell}");
        }
    }

    #[test]
    fn no_right_is_given_without_an_administrator() {
        for action in POLICY.split("<action ").skip(1) {
            let action = action.split("</action>").next().unwrap();
            for (session, wanted) in [
                ("any", "auth_admin"),
                ("inactive", "auth_admin"),
                ("active", "auth_admin_keep"),
            ] {
                let default = format!("<allow_{session}>{wanted}</allow_{session}>");
                assert!(action.contains(&default), "{default} is not in {action}");
            }
            assert!(action.contains("<description>") && action.contains("<message>"));
        }
    }
}
