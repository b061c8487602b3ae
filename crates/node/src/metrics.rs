//! What a node counts, for Prometheus: every metric is listed once, with its help text. Counting
//! must never take a lock on a path that serves a request.

use std::time::Duration;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Metrics that are counted where things happen.
pub(crate) struct Metrics {
    registry: Registry,
    gauges: Gauges<Gauge>,
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

/// Metrics that are read when `/metrics` is requested.
#[derive(Default)]
pub(crate) struct Gauges<T> {
    pub(crate) height: T,
    pub(crate) epoch: T,
    pub(crate) phase: T,
    pub(crate) pool_transactions: T,
    pub(crate) pool_bytes: T,
    pub(crate) audits_waiting: T,
    pub(crate) block_age_ms: T,
    pub(crate) peers: T,
    pub(crate) ready: T,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("soma");
        let gauges = Gauges::register(&mut registry);
        // The library appends `_total` to the name and a full stop to the help.
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        Self {
            requests: counter("requests", "Requests served"),
            request_ms: counter("request_ms", "Milliseconds until their responses began"),
            responses_refused: counter("responses_refused", "Responses with status 400 to 499"),
            responses_failed: counter(
                "responses_failed",
                "Responses with status 500 or more: busy, or failed",
            ),
            transactions_admitted: counter("transactions_admitted", "Admitted to the pool"),
            transactions_refused: counter("transactions_refused", "Refused by the pool"),
            transactions_final: counter("transactions_final", "Finalized transactions"),
            blocks_final: counter("blocks_final", "Finalized blocks"),
            upload_bytes: counter("upload_bytes", "Bytes of weights files received"),
            files_fetched: counter("files_fetched", "Weights files downloaded from other nodes"),
            gossip_sent: counter("gossip_sent", "Batches of transactions sent to other nodes"),
            gossip_dropped: counter("gossip_dropped", "Batches the engine had no room for"),
            gossip_heard: counter("gossip_heard", "Batches received from other nodes"),
            gossip_malformed: counter("gossip_malformed", "Malformed batches of other nodes"),
            audits_valid: counter("audits_valid", "Claims found valid"),
            audits_invalid: counter("audits_invalid", "Claims found invalid"),
            audits_failed: counter("audits_failed", "Audits postponed by a failure on this node"),
            audit_scores: counter(
                "audit_scores",
                "Scores computed for audits: one for each model of each claim",
            ),
            audit_bytes: counter("audit_bytes", "Bytes scored for audits, once for each model"),
            audit_ms: counter("audit_ms", "Milliseconds spent on audits"),
            gauges,
            registry,
        }
    }
}

impl Gauges<Gauge> {
    fn register(registry: &mut Registry) -> Self {
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        Self {
            height: gauge("height", "Height of the last finalized block"),
            epoch: gauge("epoch", "The current epoch"),
            phase: gauge("phase", "Phase: 0 reveal, 1 publish, 2 compete, 3 attest"),
            pool_transactions: gauge("pool_transactions", "Transactions waiting in the pool"),
            pool_bytes: gauge("pool_bytes", "Bytes of transactions waiting in the pool"),
            audits_waiting: gauge("audits_waiting", "Published claims not audited yet"),
            block_age_ms: gauge("block_age_ms", "Age of the last finalized block in milliseconds"),
            peers: gauge("peers", "Connected nodes"),
            ready: gauge("ready", "1 when /readyz answers 200, else 0"),
        }
    }

    fn set(&self, values: &Gauges<u64>) {
        for (gauge, value) in [
            (&self.height, values.height),
            (&self.epoch, values.epoch),
            (&self.phase, values.phase),
            (&self.pool_transactions, values.pool_transactions),
            (&self.pool_bytes, values.pool_bytes),
            (&self.audits_waiting, values.audits_waiting),
            (&self.block_age_ms, values.block_age_ms),
            (&self.peers, values.peers),
            (&self.ready, values.ready),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

impl Metrics {
    /// Counts a response, and how long it took to begin.
    pub(crate) fn responded(&self, status: u16, after: Duration) {
        self.request_ms.inc_by(milliseconds(after));
        match status {
            400..=499 => self.responses_refused.inc(),
            500.. => self.responses_failed.inc(),
            _ => 0,
        };
    }

    /// Adds the time of an audit.
    pub(crate) fn audited(&self, time: Duration) {
        self.audit_ms.inc_by(milliseconds(time));
    }

    /// The metrics in the `OpenMetrics` text format, without its end, because the engine's follow.
    pub(crate) fn encode(&self, gauges: &Gauges<u64>) -> String {
        self.gauges.set(gauges);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode_registry(&mut text, &self.registry);
        text
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Gauges, Metrics};

    #[test]
    fn the_dashboard_shows_every_metric_and_no_other() {
        let dashboard = include_str!("../../../docs/operations/grafana.json");
        let text = Metrics::default().encode(&Gauges::default());
        let metrics: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(' ').next().unwrap())
            .collect();
        let end = |text: &str| text.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap();
        let shown: Vec<&str> = dashboard
            .match_indices("soma_")
            .map(|(at, _)| &dashboard[at..][..end(&dashboard[at..])])
            .collect();
        assert!(shown.len() > 20);
        for name in &shown {
            assert!(metrics.contains(name), "there is no metric {name}");
        }
        for name in metrics {
            assert!(shown.contains(&name), "the dashboard does not show {name}");
        }
    }

    #[test]
    fn every_metric_has_help_a_type_and_one_value() {
        let metrics = Metrics::default();
        metrics.upload_bytes.inc_by(7);
        let text = metrics.encode(&Gauges { height: 3, ..Gauges::default() });
        let values: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(text.matches("# HELP soma_").count(), values.len());
        assert_eq!(text.matches("# TYPE soma_").count(), values.len());
        assert!(values.contains(&"soma_height 3") && values.contains(&"soma_upload_bytes_total 7"));
        assert!(values.iter().all(|line| line.split(' ').count() == 2));
    }
}
