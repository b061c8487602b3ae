//! Retries what failed for a transient reason, with pauses that double up to a limit.
//!
//! `backon` retries a function that starts from scratch each time. Transfers and event streams
//! continue where they stopped, and count failures only while nothing arrives, so the count is kept
//! here. It must never retry an error that is not transient.

use std::time::Duration;

use crate::error::SdkError;
use crate::patience::pause;

/// How many failures in a row, without progress, a transfer or an event stream retries.
pub(crate) const RETRIES: u32 = 8;
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Counts failures in a row, and limits how many are retried.
pub(crate) struct Retries {
    limit: u32,
    failures: u32,
    reached: u64,
}

impl Retries {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, failures: 0, reached: 0 }
    }

    /// Resets the count if a transfer has got further than ever before.
    pub(crate) fn progress(&mut self, reached: u64) {
        if reached > self.reached {
            (self.reached, self.failures) = (reached, 0);
        }
    }

    /// Pauses before the next attempt. Returns false at once if there have been too many failures.
    pub(crate) async fn pause(&mut self) -> bool {
        if self.failures >= self.limit {
            return false;
        }
        let pause = pause(PAUSE_FIRST, PAUSE_MAX, self.failures);
        self.failures += 1;
        tokio::time::sleep(pause).await;
        true
    }

    /// Pauses before the next attempt, or returns the error if there have been too many failures
    /// or it is not transient.
    pub(crate) async fn pause_or_fail(&mut self, error: SdkError) -> Result<(), SdkError> {
        if error.is_transient() && self.pause().await { Ok(()) } else { Err(error) }
    }
}
