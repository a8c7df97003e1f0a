//! Durations as an administrator types them.

use std::time::Duration;

/// Longest duration that is accepted: about 136 years, far below what overflows a clock.
const MAX_SECONDS: u64 = u32::MAX as u64;

/// Reads `2s`, `5m`, `1h` or plain seconds.
///
/// # Errors
///
/// A sentence that says what is wrong, for clap to print.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let (digits, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(digits) if text.ends_with('h') => (digits, 3600),
        Some(digits) if text.ends_with('m') => (digits, 60),
        Some(digits) => (digits, 1),
        None => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("expected a duration such as 2s, 5m, 1h or plain seconds".to_owned());
    }
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|seconds| *seconds <= MAX_SECONDS)
        .map(Duration::from_secs)
        .ok_or_else(|| "the duration is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_promised_forms() {
        assert_eq!(parse("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse("90"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
    }

    #[test]
    fn refuses_everything_else() {
        for bad in [
            "", "s", "m", "-1", "1.5s", "5 m", "1d", "5M", "1h30m", "٣s", "+4",
        ] {
            assert!(parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(parse("99999999999999999999").is_err());
        assert!(parse("18446744073709551615h").is_err());
    }
}
