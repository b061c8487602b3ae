//! Wall-clock time in milliseconds since 1970, UTC. Never use it to measure durations.

use std::time::{SystemTime, UNIX_EPOCH};

/// The current time of this machine's clock, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    unix_ms(SystemTime::now())
}

/// `time` in milliseconds since 1970; 0 for earlier times.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::unix_ms;

    #[test]
    fn times_before_1970_are_zero() {
        assert_eq!(unix_ms(UNIX_EPOCH + Duration::from_millis(1_500)), 1_500);
        assert_eq!(unix_ms(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
