//! `OP|LUN`: an operation by number, or by the LUN it works on.

use std::convert::Infallible;
use std::str::FromStr;

use lun_core::Hresult;
use lun_core::id::OpId;
use lun_core::model::OpView;

use crate::client::Client;
use crate::failure::Failure;

/// What was typed where an operation or a LUN may stand. A number is always an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// An operation.
    Op(OpId),
    /// A LUN, as named by the administrator.
    Lun(String),
}

impl FromStr for Target {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        // `parse` alone would take `+7`.
        let number = text
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok());
        Ok(number
            .flatten()
            .map_or_else(|| Self::Lun(text.to_owned()), |id| Self::Op(OpId(id))))
    }
}

/// Which operation of a LUN is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that runs, and no other.
    Running,
    /// The one that runs, else the latest.
    Latest,
}

/// Finds the operation that is meant.
///
/// # Errors
///
/// No such operation or LUN; the LUN has no operation, or with [`Which::Running`] none that runs.
pub(crate) async fn resolve(
    client: &Client,
    target: &Target,
    which: Which,
) -> Result<OpView, Failure> {
    let name = match target {
        Target::Op(id) => return client.op(*id).await,
        Target::Lun(name) => name,
    };
    let lun = client.lun(name).await?;
    let ops = client.snapshot().await?.ops;
    let of_lun: Vec<OpView> = ops.into_iter().filter(|op| op.lun == lun.id).collect();
    choose(&lun.name, of_lun, which)
}

/// Chooses among a LUN's operations.
fn choose(name: &str, ops: Vec<OpView>, which: Which) -> Result<OpView, Failure> {
    let latest = ops.iter().map(|op| op.id).max();
    let mut ops = ops;
    ops.sort_by_key(|op| (op.is_running(), op.id));
    match (ops.pop(), which) {
        (None, _) => Err(Failure::new(
            Hresult::VDS_E_OBJECT_NOT_FOUND,
            format!("{name} has had no operation"),
        )
        .hint("run `lunctl ops --all`")),
        (Some(op), Which::Running) if !op.is_running() => Err(Failure::new(
            Hresult::VDS_E_CANCEL_TOO_LATE,
            format!(
                "no operation runs on {name}; the latest, {}, has {}",
                latest.unwrap_or(op.id),
                crate::ui::op::ended_words(&op)
            ),
        )
        .hint(format!("run `lunctl status {name}`"))),
        (Some(op), _) => Ok(op),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn a_number_is_an_operation() {
        assert_eq!("7".parse(), Ok(Target::Op(OpId(7))));
        assert_eq!("md0".parse(), Ok(Target::Lun("md0".to_owned())));
        assert_eq!("+7".parse(), Ok(Target::Lun("+7".to_owned())));
        assert_eq!("-7".parse(), Ok(Target::Lun("-7".to_owned())));
        assert_eq!("".parse(), Ok(Target::Lun(String::new())));
    }

    #[test]
    fn the_running_operation_wins_over_a_later_one() {
        let running = samples::running();
        let mut later = samples::finished("succeeded", 0);
        later.id = OpId(9);
        let chosen = choose("md0", vec![running.clone(), later], Which::Latest).unwrap();
        assert_eq!(chosen.id, running.id);
    }

    #[test]
    fn nothing_to_cancel_is_said_so() {
        let ended = samples::finished("succeeded", 0);
        let failure = choose("md0", vec![ended.clone()], Which::Running).unwrap_err();
        assert_eq!(failure.hresult, Hresult::VDS_E_CANCEL_TOO_LATE);
        assert!(
            failure.message.contains("has succeeded"),
            "{}",
            failure.message
        );
        assert_eq!(choose("md0", vec![ended.clone()], Which::Latest), Ok(ended));
        let failure = choose("md0", vec![], Which::Latest).unwrap_err();
        assert_eq!(failure.exit, 3);
    }
}
