//! Sizes, durations and moments in words.

use jiff::Timestamp;

/// A moment in RFC 3339, UTC, of milliseconds since 1970; the milliseconds themselves when the
/// calendar ends before them.
pub(crate) fn rfc3339(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .map_or_else(
            || format!("{ms} ms after 1970"),
            |moment| moment.to_string(),
        )
}

/// A moment for people: whole seconds.
pub(crate) fn moment(ms: u64) -> String {
    rfc3339(ms.saturating_sub(ms % 1000))
}

/// Bytes in the largest binary unit that leaves a number of at least one.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(u32, &str); 5] = [
        (50, "PiB"),
        (40, "TiB"),
        (30, "GiB"),
        (20, "MiB"),
        (10, "KiB"),
    ];
    for (shift, unit) in UNITS {
        let whole = bytes >> shift;
        if whole > 0 {
            // Tenths by integers: no rounding surprises, no lossy casts.
            let tenth = ((u128::from(bytes) * 10) >> shift) % 10;
            return if whole >= 100 || tenth == 0 {
                format!("{whole} {unit}")
            } else {
                format!("{whole}.{tenth} {unit}")
            };
        }
    }
    format!("{bytes} B")
}

/// [`bytes`], or that it is unknown.
pub(crate) fn maybe_bytes(size: Option<u64>) -> String {
    size.map_or_else(|| "unknown".to_owned(), bytes)
}

/// Bytes per second.
pub(crate) fn rate(bytes_per_s: u64) -> String {
    format!("{}/s", bytes(bytes_per_s))
}

/// Seconds in two units at most.
pub(crate) fn seconds(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, 1..10) if !seconds.is_multiple_of(60) => format!("{minutes} min {} s", seconds % 60),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(rfc3339(1_795_407_137_000), "2026-11-23T04:12:17Z");
        assert_eq!(rfc3339(1_795_407_137_250), "2026-11-23T04:12:17.25Z");
        assert_eq!(moment(1_795_407_137_250), "2026-11-23T04:12:17Z");
        assert_eq!(rfc3339(u64::MAX), "18446744073709551615 ms after 1970");
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(bytes(1_999_844_147_200), "1.8 TiB");
        assert_eq!(bytes(u64::MAX), "16383 PiB");
        assert_eq!(rate(120 << 20), "120 MiB/s");
        assert_eq!(maybe_bytes(None), "unknown");
    }

    #[test]
    fn durations() {
        assert_eq!(seconds(0), "0 s");
        assert_eq!(seconds(59), "59 s");
        assert_eq!(seconds(61), "1 min 1 s");
        assert_eq!(seconds(180), "3 min");
        assert_eq!(seconds(601), "10 min");
        assert_eq!(seconds(3_720), "1 h 2 min");
        assert_eq!(seconds(90_000), "1 d 1 h");
    }
}
