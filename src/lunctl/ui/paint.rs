//! Colours. Text is laid out first and painted afterwards, so that no escape sequence is ever
//! counted as width.

use anstyle::{AnsiColor, Style};

use crate::failure::Failure;

const GOOD: Style = AnsiColor::Green.on_default();
const CARE: Style = AnsiColor::Yellow.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// The words that have a colour, when they stand alone.
fn style_of(word: &str) -> Option<Style> {
    match word {
        "HEALTHY" | "succeeded" => Some(GOOD),
        "REBUILDING" | "FAILING" | "FAILING_REDUNDANCY" | "PENDING_FAILURE" | "NOT_READY"
        | "UNKNOWN" | "OFFLINE" | "held" | "cancelled" | "interrupted" | "cancelling" | "HELD" => {
            Some(CARE)
        }
        "FAILED"
        | "FAILED_REDUNDANCY"
        | "FAILED_REDUNDANCY_FAILING"
        | "REMOVED"
        | "failed"
        | "faulty"
        | "missing" => Some(BAD),
        _ => None,
    }
}

/// Text with its words of state in colour.
pub(super) fn words(text: &str) -> String {
    let mut painted = String::with_capacity(text.len());
    for piece in text.split_inclusive([' ', '\n']) {
        let word = piece.trim_end_matches([' ', '\n']);
        match style_of(word) {
            Some(style) => {
                let rest = piece.get(word.len()..).unwrap_or_default();
                painted.push_str(&format!("{style}{word}{style:#}{rest}"));
            }
            None => painted.push_str(piece),
        }
    }
    painted
}

/// A failure as `error:` and `hint:` lines.
pub(super) fn failure(failure: &Failure) -> String {
    let mut text = format!("{BAD}error:{BAD:#} {}\n", failure.message);
    if let Some(hint) = &failure.hint {
        text.push_str(&format!("{HINT}hint:{HINT:#} {hint}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn painting_changes_nothing_but_colours() {
        let text = "NAME  HEALTH\nmd0   FAILED_REDUNDANCY  7\n\n  two  words \n";
        assert_ne!(words(text), text);
        assert_eq!(bare(&words(text)), text);
    }

    #[test]
    fn a_word_within_a_word_has_no_colour() {
        assert_eq!(words("/dev/md/FAILED unfailed"), "/dev/md/FAILED unfailed");
    }

    #[test]
    fn a_failure_is_an_error_line_and_a_hint_line() {
        let shown = Failure::new(lun_core::Hresult(0x8004_2404), "md0 is busy").hint("wait");
        assert_eq!(bare(&failure(&shown)), "error: md0 is busy\nhint: wait\n");
    }
}
