//! How fast a file must move. A place is for a transfer that moves: neither silence nor a trickle
//! keeps it, and the longer it has been held, the more must have moved. Whoever is slower loses the
//! place and resumes, with a new one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long nothing need move at all.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);
/// The least rate in the first minute; this software's clients assume eight times as much.
pub(super) const BYTES_PER_SECOND: u32 = 8 << 10;
/// From here on the least rate grows with the time: after ten times as much it is tenfold.
const GROWS_AFTER_MS: u64 = 60_000;

/// The time in which a transfer must have moved this many bytes, silence aside.
pub(super) fn time_for(bytes: u64) -> Duration {
    let evenly_ms = bytes.saturating_mul(1_000) / u64::from(BYTES_PER_SECOND);
    let grown_ms = || evenly_ms.saturating_mul(GROWS_AFTER_MS).isqrt();
    Duration::from_millis(if evenly_ms <= GROWS_AFTER_MS { evenly_ms } else { grown_ms() })
}

/// What has moved of a file, and since when.
#[derive(Debug)]
pub(super) struct Pace {
    begun: Mutex<Instant>,
    bytes: AtomicU64,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self { begun: Mutex::new(Instant::now()), bytes: AtomicU64::new(0) }
    }

    /// Counts from now on: what came before was this node's work.
    pub(super) fn restart(&self) {
        *self.begun.lock() = Instant::now();
    }

    /// Some more bytes have moved.
    pub(super) fn moved(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// How far the transfer is behind the least rate, in milliseconds; negative if it is ahead.
    pub(super) fn behind_ms(&self) -> i64 {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        ms(self.begun.lock().elapsed()) - ms(time_for(self.bytes.load(Ordering::Relaxed)))
    }

    /// Whether it is so far behind that it loses its place.
    pub(super) fn is_too_slow(&self) -> bool {
        u128::try_from(self.behind_ms()).is_ok_and(|behind| behind > SILENCE_MAX.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::time_for;

    #[test]
    fn the_least_rate_grows_with_the_time_that_a_transfer_has_held_its_place() {
        assert_eq!(time_for(0), Duration::ZERO);
        assert_eq!(time_for(8 << 10), Duration::from_secs(1));
        assert_eq!(time_for(60 * (8 << 10)), Duration::from_mins(1));
        assert_eq!(time_for(4 * 60 * (8 << 10)), Duration::from_mins(2), "twice the rate");
        assert_eq!(time_for(100 * 60 * (8 << 10)), Duration::from_mins(10), "ten times the rate");
        // A piece of an upload at eight times the first rate is never too slow.
        let piece = soma_sdk::api::routes::UPLOAD_PIECE_BYTES;
        assert!(time_for(piece) > Duration::from_secs(piece / (64 << 10)));
        assert!(time_for(u64::MAX) < Duration::from_hours(24 * 365));
    }
}
