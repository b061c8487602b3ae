//! What a node counts, and how it is shown in the text format that Prometheus reads. Every metric is declared here, once, with
//! its help. It must never cost a lock on a path that serves a request.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Adds a time, in whole milliseconds.
    pub(crate) fn add_duration(&self, time: Duration) {
        self.add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything a node counts itself; the rest is read from the state when it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) requests: Counter,
    request_ms: Counter,
    responses_refused: Counter,
    responses_failed: Counter,
    pub(crate) transactions_admitted: Counter,
    pub(crate) transactions_refused: Counter,
    pub(crate) transactions_final: Counter,
    pub(crate) blocks_final: Counter,
    pub(crate) upload_bytes: Counter,
    pub(crate) files_fetched: Counter,
    pub(crate) gossip_sent: Counter,
    pub(crate) gossip_dropped: Counter,
    pub(crate) gossip_heard: Counter,
    pub(crate) gossip_malformed: Counter,
    pub(crate) audits_valid: Counter,
    pub(crate) audits_invalid: Counter,
    pub(crate) audits_failed: Counter,
    pub(crate) audit_scores: Counter,
    pub(crate) audit_bytes: Counter,
    pub(crate) audit_ms: Counter,
}

/// What is true now, as opposed to counted.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) height: u64,
    pub(crate) epoch: u32,
    /// 0 reveal, 1 publish, 2 compete, 3 attest.
    pub(crate) phase: u32,
    pub(crate) pool_transactions: usize,
    pub(crate) pool_bytes: usize,
    pub(crate) audits_waiting: usize,
    pub(crate) block_age_ms: u64,
    pub(crate) peers: usize,
    pub(crate) ready: bool,
}

impl Metrics {
    /// Counts an answer, and how long it took to begin.
    pub(crate) fn answered(&self, status: u16, after: Duration) {
        self.request_ms.add_duration(after);
        match status {
            400..=499 => self.responses_refused.add(1),
            500.. => self.responses_failed.add(1),
            _ => {}
        }
    }

    /// The text of `/metrics`.
    pub(crate) fn render(&self, gauges: &Gauges) -> String {
        let mut text = String::new();
        for (name, help, value) in gauges.list() {
            write(&mut text, "gauge", name, help, value);
        }
        for (name, help, counter) in self.list() {
            write(&mut text, "counter", name, help, counter.get());
        }
        text
    }

    fn list(&self) -> impl Iterator<Item = (&'static str, &'static str, &Counter)> {
        let node = self.of_clients().into_iter().chain(self.of_the_network());
        node.chain(self.of_audits())
    }

    fn of_clients(&self) -> [(&'static str, &'static str, &Counter); 7] {
        [
            ("soma_requests_total", "Requests served.", &self.requests),
            (
                "soma_request_ms_total",
                "Milliseconds until their answers began.",
                &self.request_ms,
            ),
            (
                "soma_responses_refused_total",
                "Answers with a status of 400 to 499.",
                &self.responses_refused,
            ),
            (
                "soma_responses_failed_total",
                "Answers with a status of 500 or more: busy, or failed.",
                &self.responses_failed,
            ),
            (
                "soma_transactions_admitted_total",
                "Taken into the pool.",
                &self.transactions_admitted,
            ),
            (
                "soma_transactions_refused_total",
                "Refused by the pool.",
                &self.transactions_refused,
            ),
            (
                "soma_upload_bytes_total",
                "Bytes of weights received.",
                &self.upload_bytes,
            ),
        ]
    }

    fn of_the_network(&self) -> [(&'static str, &'static str, &Counter); 7] {
        [
            (
                "soma_transactions_final_total",
                "Final transactions.",
                &self.transactions_final,
            ),
            (
                "soma_blocks_final_total",
                "Final blocks.",
                &self.blocks_final,
            ),
            (
                "soma_files_fetched_total",
                "Files of weights fetched from other nodes.",
                &self.files_fetched,
            ),
            (
                "soma_gossip_sent_total",
                "Batches of transactions told to other nodes.",
                &self.gossip_sent,
            ),
            (
                "soma_gossip_dropped_total",
                "Batches that the engine had no room for.",
                &self.gossip_dropped,
            ),
            (
                "soma_gossip_heard_total",
                "Batches of transactions heard from other nodes.",
                &self.gossip_heard,
            ),
            (
                "soma_gossip_malformed_total",
                "Messages of other nodes that are no batch.",
                &self.gossip_malformed,
            ),
        ]
    }

    fn of_audits(&self) -> [(&'static str, &'static str, &Counter); 6] {
        [
            (
                "soma_audits_valid_total",
                "Wins found valid.",
                &self.audits_valid,
            ),
            (
                "soma_audits_invalid_total",
                "Wins found invalid.",
                &self.audits_invalid,
            ),
            (
                "soma_audits_failed_total",
                "Audits put off by a failure here.",
                &self.audits_failed,
            ),
            (
                "soma_audit_scores_total",
                "Scores computed for audits: one for each model of each claim.",
                &self.audit_scores,
            ),
            (
                "soma_audit_bytes_total",
                "Bytes scored for audits, once for each model.",
                &self.audit_bytes,
            ),
            (
                "soma_audit_ms_total",
                "Milliseconds spent on audits.",
                &self.audit_ms,
            ),
        ]
    }
}

impl Gauges {
    fn list(&self) -> [(&'static str, &'static str, u64); 9] {
        let size = |number: usize| number as u64;
        [
            (
                "soma_height",
                "Height of the last final block.",
                self.height,
            ),
            ("soma_epoch", "The running epoch.", self.epoch.into()),
            (
                "soma_phase",
                "Phase: 0 reveal, 1 publish, 2 compete, 3 attest.",
                self.phase.into(),
            ),
            (
                "soma_pool_transactions",
                "Transactions waiting.",
                size(self.pool_transactions),
            ),
            (
                "soma_pool_bytes",
                "Bytes of transactions waiting.",
                size(self.pool_bytes),
            ),
            (
                "soma_audits_waiting",
                "Published wins not audited yet.",
                size(self.audits_waiting),
            ),
            (
                "soma_block_age_ms",
                "Age of the last final block, in milliseconds.",
                self.block_age_ms,
            ),
            ("soma_peers", "Other nodes connected.", size(self.peers)),
            (
                "soma_ready",
                "1 when /readyz says so, else 0.",
                self.ready.into(),
            ),
        ]
    }
}

fn write(text: &mut String, kind: &str, name: &str, help: &str, value: u64) {
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
    );
}

#[cfg(test)]
mod tests {
    use super::{Gauges, Metrics};

    #[test]
    fn every_metric_on_the_board_exists() {
        let board = include_str!("../../../docs/operations/grafana.json");
        let counters = Metrics::default();
        let mut metrics: Vec<&str> = counters.list().map(|one| one.0).collect();
        metrics.extend(Gauges::default().list().map(|one| one.0));
        let word = |text: &str| {
            text.find(|c: char| !c.is_ascii_lowercase() && c != '_')
                .unwrap()
        };
        let named: Vec<&str> = board
            .match_indices("soma_")
            .map(|(at, _)| &board[at..][..word(&board[at..])])
            .collect();
        assert!(named.len() > 20);
        for name in &named {
            assert!(metrics.contains(name), "the board names {name}");
        }
        for name in metrics {
            assert!(named.contains(&name), "the board does not show {name}");
        }
    }

    #[test]
    fn every_metric_has_help_a_type_and_one_value() {
        let metrics = Metrics::default();
        metrics.upload_bytes.add(7);
        let text = metrics.render(&Gauges {
            height: 3,
            epoch: 1,
            phase: 2,
            pool_transactions: 0,
            pool_bytes: 0,
            audits_waiting: 0,
            block_age_ms: 0,
            peers: 0,
            ready: true,
        });
        let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(text.matches("# HELP soma_").count(), values.len());
        assert_eq!(text.matches("# TYPE soma_").count(), values.len());
        assert!(values.contains(&"soma_height 3") && values.contains(&"soma_upload_bytes_total 7"));
        assert!(values.iter().all(|line| line.split(' ').count() == 2));
    }
}
