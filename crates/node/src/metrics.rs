//! What a node counts, for Prometheus: every metric is listed once, with its help text. Counting
//! must never take a lock on a path that serves a request.

use std::time::Duration;

use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

macro_rules! metrics {
    (
        gauges { $($gauge:ident = $gauge_help:literal,)* }
        counters { $($counter:ident = $counter_help:literal,)* }
    ) => {
        /// Metrics that are counted where things happen.
        pub(crate) struct Metrics {
            registry: Registry,
            gauges: Gauges<Gauge>,
            $(pub(crate) $counter: Counter,)*
        }

        /// Metrics that are read when `/metrics` is requested.
        #[derive(Default)]
        pub(crate) struct Gauges<T> {
            $(pub(crate) $gauge: T,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("soma");
                let gauges = Gauges { $($gauge: Gauge::default(),)* };
                $(registry.register(stringify!($gauge), $gauge_help, gauges.$gauge.clone());)*
                // The library appends `_total` to the name and a full stop to the help.
                $(let $counter = Counter::default();
                registry.register(stringify!($counter), $counter_help, $counter.clone());)*
                Self { registry, gauges, $($counter,)* }
            }
        }

        impl Gauges<Gauge> {
            fn set(&self, values: &Gauges<u64>) {
                $(self.$gauge.set(i64::try_from(values.$gauge).unwrap_or(i64::MAX));)*
            }
        }
    };
}

metrics! {
    gauges {
        height = "Height of the last finalized block",
        epoch = "The current epoch",
        phase = "Phase: 0 reveal, 1 publish, 2 compete, 3 attest",
        pool_transactions = "Transactions waiting in the pool",
        pool_bytes = "Bytes of transactions waiting in the pool",
        audits_waiting = "Published claims not audited yet",
        block_age_ms = "Age of the last finalized block in milliseconds",
        peers = "Connected nodes",
        rules = "Version of the rules that the next block follows",
        rules_next = "Version of the rules that is scheduled; 0 if there is none",
        rules_next_epoch = "The epoch from which on blocks follow it; 0 if there is none",
        rules_max = "Newest version of the rules that this node executes",
        ready = "1 when /readyz answers 200, else 0",
    }
    counters {
        requests = "Requests served",
        request_ms = "Milliseconds until their responses began",
        responses_refused = "Responses with status 400 to 499",
        responses_failed = "Responses with status 500 or more: busy, or failed",
        transactions_admitted = "Admitted to the pool",
        transactions_refused = "Refused by the pool",
        transactions_final = "Finalized transactions",
        blocks_final = "Finalized blocks",
        upload_bytes = "Bytes of weights files received",
        files_fetched = "Weights files downloaded from other nodes",
        gossip_sent = "Batches of transactions sent to other nodes",
        gossip_dropped = "Batches the engine had no room for",
        gossip_heard = "Batches received from other nodes",
        gossip_refused = "Batches of nodes above their rate",
        gossip_blocked = "Nodes blocked for what they sent",
        audits_valid = "Claims found valid",
        audits_invalid = "Claims found invalid",
        audits_failed = "Audits postponed by a failure on this node",
        audit_scores = "Scores computed for audits: one for each model of each claim",
        audit_bytes = "Bytes scored for audits, once for each model",
        audit_ms = "Milliseconds spent on audits",
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
