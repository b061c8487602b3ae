//! Wall-clock time in milliseconds since 1970, UTC. Never use it to measure durations: it may be
//! set, which [`ClockLooks`] notices.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The current time of this machine's clock, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    unix_ms(SystemTime::now())
}

/// `time` in milliseconds since 1970; 0 for earlier times.
pub fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Looks at this machine's clock, compared with one that nobody sets.
#[derive(Debug)]
pub struct ClockLooks {
    last: (Instant, SystemTime),
}

impl Default for ClockLooks {
    fn default() -> Self {
        Self { last: (Instant::now(), SystemTime::now()) }
    }
}

impl ClockLooks {
    /// By how much the clock has been set back since the last look.
    pub fn set_back(&mut self) -> Duration {
        self.look(Instant::now(), SystemTime::now())
    }

    fn look(&mut self, steady: Instant, wall: SystemTime) -> Duration {
        let (last_steady, last_wall) = std::mem::replace(&mut self.last, (steady, wall));
        let passed = steady.saturating_duration_since(last_steady);
        let back = last_wall.duration_since(wall).unwrap_or_default();
        let ahead = wall.duration_since(last_wall).unwrap_or_default();
        (back + passed).saturating_sub(ahead)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{ClockLooks, unix_ms};

    #[test]
    fn times_before_1970_are_zero() {
        assert_eq!(unix_ms(UNIX_EPOCH + Duration::from_millis(1_500)), 1_500);
        assert_eq!(unix_ms(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_is_noticed_once_and_one_that_is_set_forward_is_not() {
        let mut looks = ClockLooks::default();
        let (steady, wall) = looks.last;
        let (second, day) = (Duration::from_secs(1), Duration::from_hours(24));
        assert_eq!(looks.look(steady + second, wall + second), Duration::ZERO);
        assert_eq!(looks.look(steady + 2 * second, wall + day), Duration::ZERO, "forward");
        assert_eq!(looks.look(steady + 3 * second, wall + 3 * second) + 2 * second, day);
        assert_eq!(looks.look(steady + 4 * second, wall + 4 * second), Duration::ZERO, "once");
        assert_eq!(looks.look(steady + 9 * second, wall + 6 * second), 3 * second, "it stood");
    }
}
