//! Asks polkit. Every question has a deadline and is withdrawn when it passes; a user may have a few
//! open at a time, so that nobody can fill the service with questions that nobody answers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use zbus::Connection;
use zbus::message::{Flags, Header};
use zbus::proxy::CacheProperties;
use zbus_polkit::policykit1::{
    AuthorityProxy, AuthorizationResult, CheckAuthorizationFlags, Subject,
};

use super::rights::Right;

/// Questions that one user may have open.
const OPEN_PER_USER: u32 = 8;
/// How long the withdrawal of a question may take.
const WITHDRAWAL: Duration = Duration::from_secs(1);

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// When nobody is asked anything: polkit answers by its rules.
    pub rules: Duration,
    /// When somebody may be asked for a password.
    pub people: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            rules: Duration::from_secs(10),
            people: Duration::from_secs(120),
        }
    }
}

/// The way to polkit.
#[derive(Debug, Default)]
pub(super) struct Polkit {
    patience: Patience,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_user: HashMap<u32, u32>,
    /// Number of the last question; withdrawals name it.
    last: u64,
}

/// A question that is open; it counts until it is dropped.
struct Question<'a> {
    open: &'a Mutex<Open>,
    uid: u32,
    name: String,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.by_user.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.by_user.remove(&self.uid);
            }
        }
    }
}

impl Polkit {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            open: Mutex::default(),
        }
    }

    /// Whether the sender of a call has a right. The bus name of the sender is what polkit is asked
    /// about: a process number may be somebody else's by the time it is looked at.
    ///
    /// # Errors
    /// Why not, as the end of a sentence.
    pub(super) async fn ask(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        uid: u32,
        right: Right,
        object: &str,
    ) -> Result<(), String> {
        let question = self.begin(uid)?;
        let subject = Subject::new_for_message_header(header)
            .map_err(|error| format!("the caller cannot be named to polkit: {error}"))?;
        let interactive = header
            .primary()
            .flags()
            .contains(Flags::ALLOW_INTERACTIVE_AUTH);
        let (flags, patience) = if interactive {
            let flags = CheckAuthorizationFlags::ALLOW_USER_INTERACTION;
            (flags, self.patience.people)
        } else {
            (CheckAuthorizationFlags::empty(), self.patience.rules)
        };
        let silent = |error: zbus::Error| {
            format!("polkit does not answer ({error}), and without it only root may")
        };
        let authority = AuthorityProxy::builder(connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(silent)?;
        let details = HashMap::from([("object", object)]);
        let check = authority.check_authorization(
            &subject,
            right.action(),
            &details,
            flags,
            &question.name,
        );
        match tokio::time::timeout(patience, check).await {
            Ok(Ok(result)) => judge(&result, interactive),
            Ok(Err(error)) => Err(silent(error)),
            Err(_) => {
                let withdrawal = authority.cancel_check_authorization(&question.name);
                match tokio::time::timeout(WITHDRAWAL, withdrawal).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!("polkit: {error}"),
                    Err(_) => tracing::debug!("polkit does not take a question back"),
                }
                Err(format!(
                    "polkit did not answer in {} ms, and without it only root may",
                    patience.as_millis()
                ))
            }
        }
    }

    fn begin(&self, uid: u32) -> Result<Question<'_>, String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.by_user.entry(uid).or_default();
        if *count >= OPEN_PER_USER {
            return Err(format!(
                "{OPEN_PER_USER} calls of this user wait for an answer of polkit already"
            ));
        }
        *count += 1;
        open.last += 1;
        Ok(Question {
            open: &self.open,
            uid,
            name: format!("lund-{}", open.last),
        })
    }
}

fn judge(result: &AuthorizationResult, interactive: bool) -> Result<(), String> {
    if result.is_authorized {
        return Ok(());
    }
    let why = if result.details.contains_key("polkit.dismissed") {
        "the question for a password was dismissed"
    } else if !result.is_challenge {
        "polkit refuses it"
    } else if interactive {
        "polkit wants a password, and nobody is there to ask for it (`pkttyagent` is, in a terminal)"
    } else {
        "polkit wants a password, and the call did not allow it to ask"
    };
    Err(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_a_user_are_counted_and_end() {
        let polkit = Polkit::default();
        let mut open: Vec<_> = (0..OPEN_PER_USER)
            .map(|_| polkit.begin(1000).map_err(drop).unwrap())
            .collect();
        assert!(polkit.begin(1000).is_err());
        let other = polkit.begin(1001).map_err(drop).unwrap();
        assert!(open.iter().all(|question| question.name != other.name));
        open.pop();
        assert!(polkit.begin(1000).is_ok());
        open.clear();
        drop(other);
        assert!(polkit.open.lock().unwrap().by_user.is_empty());
    }

    #[test]
    fn every_answer_but_yes_is_no() {
        let result = |authorized, challenge, details: &[(&str, &str)]| AuthorizationResult {
            is_authorized: authorized,
            is_challenge: challenge,
            details: details
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        };
        assert_eq!(judge(&result(true, false, &[]), false), Ok(()));
        let refused = [
            judge(&result(false, false, &[]), true),
            judge(&result(false, true, &[]), true),
            judge(&result(false, true, &[]), false),
            judge(&result(false, true, &[("polkit.dismissed", "true")]), true),
        ];
        let texts: std::collections::BTreeSet<String> =
            refused.into_iter().map(Result::unwrap_err).collect();
        assert_eq!(texts.len(), 4, "each says something of its own: {texts:?}");
    }
}
