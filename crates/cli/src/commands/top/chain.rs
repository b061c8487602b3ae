//! The chain: blocks, traffic, the epoch, and what the node's validator does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;
use soma_protocol::Amount;
use soma_sdk::api::Status;
use soma_sdk::api::text::Text;

use crate::commands::status::{audited, phase};
use crate::output::Output;

/// Rates are averages over this time.
const WINDOW: Duration = Duration::from_secs(10);

/// What is shown for one sample.
#[derive(Debug, Serialize)]
pub(super) struct Chain {
    /// Averaged over at most the last ten seconds; `None` in the first sample.
    transactions_per_second: Option<f64>,
    blocks_per_second: Option<f64>,
    /// Block time until the phase ends; `None` if phases are ended manually.
    phase_left_ms: Option<Text<u64>>,
    #[serde(flatten)]
    status: Status,
}

/// The counters of a node at some time.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    height: u64,
    transactions: u64,
}

/// The last samples, from which rates are computed.
#[derive(Default)]
pub(super) struct Rates(VecDeque<Sample>);

impl Rates {
    /// The answer of a node now, with the rates that follow from it and earlier ones.
    pub(super) fn sample(&mut self, status: Status) -> Chain {
        let rates = self.after(Sample {
            at: Instant::now(),
            height: status.height.0,
            transactions: status.transactions_final.0,
        });
        let left_ms = status.clock.ends_ms.map(|ends| ends.0.saturating_sub(status.timestamp_ms.0));
        Chain {
            transactions_per_second: rates.map(|rates| rates.0),
            blocks_per_second: rates.map(|rates| rates.1),
            phase_left_ms: left_ms.map(Text),
            status,
        }
    }

    /// Transactions and blocks per second; `None` before there are two samples of one run of the
    /// node.
    fn after(&mut self, now: Sample) -> Option<(f64, f64)> {
        // A restarted node counts from zero.
        if self.0.back().is_some_and(|last| last.transactions > now.transactions) {
            self.0.clear();
        }
        self.0.push_back(now);
        while self.0.get(1).is_some_and(|sample| now.at - sample.at >= WINDOW) {
            self.0.pop_front();
        }
        let first = self.0.front()?;
        let seconds = (now.at - first.at).as_secs_f64();
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        (seconds > 0.0)
            .then(|| (rate(now.transactions, first.transactions), rate(now.height, first.height)))
    }
}

/// A rate as text.
fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

impl Chain {
    fn left(&self) -> String {
        self.phase_left_ms.map_or_else(
            || "manual".to_owned(),
            |left| format!("{:.1} s left", left.0 as f64 / 1e3),
        )
    }

    pub(super) fn line(&self) -> String {
        let status = &self.status;
        format!(
            "height {}  {} tx/s  {} blocks/s  epoch {} {} ({})  pool {}  peers {}  \
             audits {} waiting",
            status.height,
            rate(self.transactions_per_second),
            rate(self.blocks_per_second),
            status.clock.epoch,
            phase(&status.clock),
            self.left(),
            status.pool,
            status.peers,
            status.audits.waiting,
        )
    }

    /// The name of the chain.
    pub(super) fn name(&self) -> &str {
        &self.status.chain
    }

    pub(super) fn page(&self, output: &Output) -> String {
        let status = &self.status;
        let supply = if status.supply.conserved {
            output.good("conserved")
        } else {
            output.strong("NOT CONSERVED")
        };
        format!(
            "software  soma {}\n\
             height    {:<12} {} blocks/s\n\
             traffic   {:<12} {} finalized since the node started, {} pending\n\
             epoch     {:<12} {}, {}\n\
             peers     {} connected\n\
             models    {} active, {} targets open\n\
             duties    {} pending in this phase\n\
             audits    {}\n\
             supply    {} burned, {supply}",
            status.version,
            status.height,
            rate(self.blocks_per_second),
            format!("{} tx/s", rate(self.transactions_per_second)),
            status.transactions_final,
            status.pool,
            status.clock.epoch,
            phase(&status.clock),
            self.left(),
            status.peers,
            status.models_active,
            status.targets_open,
            status.duties,
            audited(&status.audits),
            Amount(status.supply.burned.0),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Rates, Sample, WINDOW};

    #[test]
    fn rates_cover_the_last_seconds_and_restart_with_the_node() {
        let begun = Instant::now();
        let mut rates = Rates::default();
        let mut sample = |second: u64, height, transactions| {
            let at = begun + Duration::from_secs(second);
            rates.after(Sample { at, height, transactions })
        };
        assert_eq!(sample(0, 5, 100), None);
        assert_eq!(sample(2, 9, 150), Some((25.0, 2.0)));
        for second in 3..=2 + WINDOW.as_secs() {
            sample(second, 9, 150);
        }
        assert_eq!(sample(3 + WINDOW.as_secs(), 9, 150), Some((0.0, 0.0)));
        assert_eq!(sample(20, 10, 3), None, "the node was restarted");
        assert_eq!(sample(21, 10, 4), Some((1.0, 0.0)));
    }
}
