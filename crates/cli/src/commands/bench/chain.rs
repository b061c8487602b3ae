//! `soma bench chain`: load from this process against validator processes, on real sockets and
//! disks.
//!
//! First at full load, until every transaction is finalized; then at half that rate, whether or not
//! the network keeps up, and the time to finality of each transaction. It is bounded in time, and
//! must only count transactions that it has seen finalized.

use std::time::Duration;

use serde::Serialize;
use soma_codes::Code;
use soma_node::localnet::{Localnet, Plan};

use super::load::{Load, Measured};
use crate::error::{Error, Result};
use crate::local_nodes::LocalNodes;
use crate::network;
use crate::output::Output;

/// Measure a network of validators on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Chain {
    /// Number of validators, one process each.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    validators: u8,
    /// Transactions at full load.
    #[arg(long, default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1_000..=2_000_000))]
    transactions: u32,
    /// Transactions per second at half load [default: half of the measured throughput].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Seconds at half load.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Minimum time between two blocks, in milliseconds.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=5_000))]
    block_ms: u64,
}

/// No epoch ends during the measurement.
const EPOCH_MS: u64 = 3_600_000;
/// Sending accounts.
const ACCOUNTS: u32 = 256;

/// What was measured.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    validators: u8,
    cores: usize,
    block_ms: u64,
    transactions: usize,
    tx_per_second: f64,
    paced_per_second: f64,
    paced_transactions: usize,
    finality_ms_p50: f64,
    finality_ms_p99: f64,
}

impl Chain {
    pub(crate) fn run(self, output: &Output) -> Result {
        let home = tempfile::tempdir().map_err(|error| {
            Error::new(Code::FileError, format!("cannot create a temporary folder: {error}"))
        })?;
        let plan = Plan {
            validators: self.validators,
            accounts: ACCOUNTS,
            ..Plan::timed([0; 32], EPOCH_MS)
        };
        let local = Localnet::create(home.path(), &plan)?;
        output.say(format_args!("starting {} validators", self.validators));
        let mut nodes = LocalNodes::start(local.folders(0, self.block_ms)?)?;
        let urls: Vec<String> = nodes.entries().into_iter().map(|node| node.url).collect();
        let measured = network::block_on(self.measure(&local, &urls, output));
        let exited = nodes.ended();
        nodes.stop();
        if let Some((number, status)) = exited.first() {
            let message = format!("node {} exited during the measurement: {status}", number + 1);
            return Err(Error::new(Code::NodeStopped, message));
        }
        let report = measured?;
        output.result(report.describe(), &report)
    }

    async fn measure(&self, local: &Localnet, urls: &[String], output: &Output) -> Result<Report> {
        let mut load = Load::new(local, urls).await?;
        output.say(format_args!("signing {} transactions", self.transactions));
        let first = load.sign(ACCOUNTS as usize);
        let full = load.sign(self.transactions as usize);
        // Validators that have just started vote once they have leases: that is not measured.
        load.run(first, None).await?;
        let drained = load.run(full, None).await?;
        let tx_per_second = drained.per_second();
        output.say(format_args!("{tx_per_second:.0} transactions per second"));
        let rate = self.rate.map_or(tx_per_second / 2.0, f64::from);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few thousand a second for a few minutes"
        )]
        let count = (rate * Duration::from_secs(self.seconds).as_secs_f64()).ceil() as usize;
        let signed = load.sign(count.max(100));
        let paced = load.run(signed, Some(rate)).await?;
        Ok(self.report(&drained, &paced, rate))
    }

    fn report(&self, drained: &Measured, paced: &Measured, rate: f64) -> Report {
        let ms = |share: f64| paced.quantile(share).as_secs_f64() * 1e3;
        Report {
            schema: "bench_chain/1",
            validators: self.validators,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            block_ms: self.block_ms,
            transactions: drained.count(),
            tx_per_second: drained.per_second(),
            paced_per_second: rate,
            paced_transactions: paced.count(),
            finality_ms_p50: ms(0.5),
            finality_ms_p99: ms(0.99),
        }
    }
}

impl Report {
    fn describe(&self) -> String {
        format!(
            "validators   {} on {} cores\nthroughput   {:.0} transactions per second ({} drained)\n\
             finality     median {:.0} ms, 99 % within {:.0} ms, at {:.0} per second",
            self.validators,
            self.cores,
            self.tx_per_second,
            self.transactions,
            self.finality_ms_p50,
            self.finality_ms_p99,
            self.paced_per_second,
        )
    }
}
