//! The signals that stop a long-running command: SIGINT and SIGTERM, and for work that is worth
//! keeping SIGHUP, which comes when a connection to the machine breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use soma_codes::Code;
use soma_protocol::Amount;
use soma_sdk::at_stake::AtStake;

use crate::error::{Error, Result};
use crate::output::Output;

/// The status of a process that a second signal ends at once.
const ENDED_BY_SIGNAL: i32 = 130;

/// Whether the process was asked to stop. The first signal only sets this, so that work can be
/// kept; a second one ends the process.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Waits for signals from now on.
    pub(crate) fn listen() -> Result<Self> {
        let failed = |error: std::io::Error| Error::new(Code::Signals, error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let mut signals = {
            let _entered = runtime.enter();
            Signals::listen(true).map_err(failed)?
        };
        let stop = Self(Arc::new(AtomicBool::new(false)));
        let set = stop.0.clone();
        let wait = move || {
            runtime.block_on(signals.next());
            set.store(true, Ordering::Relaxed);
            runtime.block_on(signals.next());
            std::process::exit(ENDED_BY_SIGNAL);
        };
        std::thread::Builder::new().name("signals".into()).spawn(wait).map_err(failed)?;
        Ok(stop)
    }

    /// Whether a signal has come.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The signals that ask a process to stop.
#[cfg(unix)]
struct Signals(Vec<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    fn listen(hangup: bool) -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if hangup && !hangup_is_ignored() {
            kinds.push(SignalKind::hangup());
        }
        kinds.into_iter().map(signal).collect::<std::io::Result<_>>().map(Self)
    }

    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            let mut signals = self.0.iter_mut();
            if signals.any(|signal| signal.poll_recv(context).is_ready()) {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }
}

/// Whether `nohup` or a shell has told the process to outlive its terminal; listening would undo
/// that. Where the system does not tell, the process is left to outlive it or not.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // SIGHUP is signal 1, the lowest bit.
    ignored.is_none_or(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen(_hangup: bool) -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Says what is at stake when a signal stops the process, and ends it.
#[expect(clippy::exit, reason = "a signal ends the process, whatever it does")]
pub(crate) fn last_word(at_stake: AtStake, output: Output) -> Result {
    let failed = |error: std::io::Error| Error::new(Code::Signals, error.to_string());
    let mut signals = Signals::listen(true).map_err(failed)?;
    tokio::spawn(async move {
        signals.next().await;
        let error = told(&at_stake, &output);
        output.error(&error);
        std::process::exit(error.exit.number().into())
    });
    Ok(())
}

/// Tells what is due and what may still happen; returns how the process ends.
fn told(at_stake: &AtStake, output: &Output) -> Error {
    for (hash, action) in at_stake.transactions() {
        output.warn(format_args!(
            "transaction {hash} ({action}) was handed in, and may still be included"
        ));
    }
    let dues = at_stake.dues();
    for due in &dues {
        output.warn(due);
    }
    if dues.is_empty() {
        return Error::new(Code::Interrupted, "stopped; nothing is due");
    }
    let at_risk: Amount = dues.iter().map(|due| Amount(due.at_risk.0)).sum();
    let what =
        if dues.len() == 1 { "reveal or publication is" } else { "reveals or publications are" };
    let count = dues.len();
    let message = format!("stopped, though {count} {what} due, and {at_risk} SOMA at stake");
    Error::new(Code::Interrupted, message).hint(
        "run the same command again in time: `soma submit`, `soma model publish` and `soma model \
         reveal` send whatever is due",
    )
}

/// Returns when the process receives a signal to stop.
pub(crate) async fn stopped() -> Result {
    let signals = Signals::listen(false);
    let mut signals = signals.map_err(|error| Error::new(Code::Signals, error.to_string()))?;
    signals.next().await;
    Ok(())
}
