//! What a node does when the engine reports: a finalized block's transactions leave the pool, the
//! block is counted and wakes whoever waits for it; a join is logged. Nothing here may block the
//! engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use soma_engine::{FinalizedBlock, JoinProgress, Joined, Sink};
use tokio::sync::watch;

use crate::mempool::Mempool;
use crate::metrics::Metrics;

pub(crate) struct Follower {
    pub(crate) pool: Mempool,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) heights: watch::Sender<u64>,
    pub(crate) join_log: JoinLog,
    /// What the node does while it starts.
    pub(crate) progress: watch::Sender<String>,
}

impl Sink for Follower {
    fn finalized(&self, block: FinalizedBlock) {
        self.pool.finalized(&block.transactions, block.timestamp_ms);
        self.metrics.blocks_final.inc();
        self.metrics.transactions_final.inc_by(block.transactions.len() as u64);
        // After a start, the last blocks are reported again.
        self.heights.send_modify(|height| *height = block.height.max(*height));
    }

    fn joining(&self, joining: JoinProgress) {
        self.join_log.progress(joining);
        self.progress.send_replace(describe(joining));
    }

    fn joined(&self, joined: &Joined) {
        tracing::info!(
            height = joined.height,
            digest = %joined.digest,
            state_root = %joined.state_root,
            handovers = joined.handovers,
            operations = joined.operations,
            bytes = joined.bytes,
            refused = joined.refused,
            "joined: verified every handover certificate since genesis, the certificate of this \
             block and every part of its state"
        );
    }
}

/// Logs the progress of a join: each stage, and at most one line a second; that nobody answers, at
/// first and then every minute.
#[derive(Default)]
pub(crate) struct JoinLog(Mutex<Option<(Instant, u8)>>);

impl JoinLog {
    fn progress(&self, joining: JoinProgress) {
        let (stage, pause) = match joining {
            JoinProgress::Asking => (0, Duration::from_secs(1)),
            JoinProgress::Alone { .. } => (1, Duration::from_mins(1)),
            JoinProgress::Committees { .. } => (2, Duration::from_secs(1)),
            _ => (3, Duration::from_secs(1)),
        };
        let now = Instant::now();
        let mut last = self.0.lock();
        let is_due =
            last.is_none_or(|(at, logged)| stage != logged || now.duration_since(at) > pause);
        if !is_due {
            return;
        }
        *last = Some((now, stage));
        if let JoinProgress::Alone { .. } = joining {
            tracing::warn!("{}", describe(joining));
        } else {
            tracing::info!("{}", describe(joining));
        }
    }
}

fn describe(joining: JoinProgress) -> String {
    match joining {
        JoinProgress::Alone { seconds } => format!(
            "joining: no peer has answered for {seconds} s; the node waits, because alone it could \
             only begin at genesis"
        ),
        JoinProgress::Committees { handovers, term } => {
            format!("joining: verified {handovers} handover certificates, up to term {term}")
        }
        JoinProgress::State { height, operations, of, bytes } => {
            let percent = operations.saturating_mul(100) / of.max(1);
            let total = u128::from(bytes) * u128::from(of) / u128::from(operations.max(1));
            let (received, total) = (bytes / 1_000_000, total / 1_000_000);
            format!(
                "joining: state of block {height}: {percent} % ({received} of about {total} MB)"
            )
        }
        _ => "joining: asking the peers what they offer".to_owned(),
    }
}
