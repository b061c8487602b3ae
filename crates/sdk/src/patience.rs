//! Waits that are not silent: whoever listens is told what a wait is for once it lasts; and pauses
//! that grow.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How long a wait may be silent.
pub const QUIET: Duration = Duration::from_secs(2);

/// The pause before another attempt, after a failure with this many others in a row before it: it
/// doubles from `first` up to `longest`.
pub fn pause(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures)).min(longest)
}

/// Is told what is waited for; by default nobody is.
#[derive(Clone, Default)]
pub struct Listener(Option<Arc<Hear>>);

/// Takes a line of text.
type Hear = dyn Fn(&str) + Send + Sync;

impl Listener {
    /// A listener that calls `hear` with a line of text.
    pub fn new(hear: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hear)))
    }

    /// Tells a line of text.
    pub fn tell(&self, text: &str) {
        if let Some(hear) = &self.0 {
            hear(text);
        }
    }

    /// Waits for `work`, and tells once what for if that lasts.
    pub async fn during<T>(
        &self,
        what: impl FnOnce() -> String,
        work: impl Future<Output = T>,
    ) -> T {
        self.during_after(QUIET, what, work).await
    }

    async fn during_after<T>(
        &self,
        quiet: Duration,
        what: impl FnOnce() -> String,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = tokio::time::timeout(quiet, &mut work).await {
            return done;
        }
        self.tell(&what());
        work.await
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Listener" } else { "nobody" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::{Listener, pause};

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses = [0, 1, 2, 3, u32::MAX]
            .map(|failures| pause(Duration::from_secs(2), Duration::from_secs(9), failures));
        assert_eq!(pauses.map(|pause| pause.as_secs()), [2, 4, 8, 9, 9]);
    }

    #[tokio::test]
    async fn only_a_wait_that_lasts_is_told_and_only_once() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let into = heard.clone();
        let listener = Listener::new(move |text: &str| into.lock().unwrap().push(text.to_owned()));
        for (wait_ms, told) in [(0, 0), (100, 1)] {
            let work = tokio::time::sleep(Duration::from_millis(wait_ms));
            listener.during_after(Duration::from_millis(20), || "waiting".to_owned(), work).await;
            assert_eq!(heard.lock().unwrap().len(), told);
        }
    }
}
