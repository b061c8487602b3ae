//! `soma top`: monitors a node, on a screen or, without a terminal, with a line per sample.
//!
//! It only shows what the node answers, and must leave the terminal as it found it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;
use soma_protocol::Amount;
use soma_sdk::api::Status;
use soma_sdk::api::text::Text;
use soma_sdk::client::Client;

use crate::commands::status::{audited, phase};
use crate::error::{Error, Result};
use crate::global::Global;
use crate::keyboard::Keyboard;
use crate::network;
use crate::output::{Output, Screen};
use crate::signals::stopped;

/// Monitor a node.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --json, or if stdout is not a terminal, it prints a line per sample. \
                  Stop it with q or Ctrl-C."
)]
pub(crate) struct Top {
    /// Time between two samples, as in 500ms or 2s.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = pause)]
    every: Duration,
}

/// Rates are averages over this time.
const WINDOW: Duration = Duration::from_secs(10);
const PAUSE_MIN: Duration = Duration::from_millis(100);

fn pause(text: &str) -> std::result::Result<Duration, String> {
    let pause = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if pause < PAUSE_MIN {
        return Err("the shortest interval is 100ms".to_owned());
    }
    Ok(pause)
}

/// What is shown for one sample.
#[derive(Debug, Serialize)]
struct View<'a> {
    url: &'a str,
    /// Averaged over at most the last ten seconds; `None` in the first sample.
    transactions_per_second: Option<f64>,
    blocks_per_second: Option<f64>,
    /// Block time until the phase ends; `None` if phases are ended manually.
    phase_left_ms: Option<Text<u64>>,
    #[serde(flatten)]
    status: &'a Status,
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
struct Rates(VecDeque<Sample>);

impl Rates {
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

impl Top {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        // Its page tells of a node that does not answer, once it is there.
        let client = Client::new(&global.url)?;
        network::block_on(async {
            // Only the first request must succeed; later failures are shown, and retried.
            let first = network::client(global, output)?.status().await?;
            let screen = if output.is_json() { None } else { Screen::open()? };
            let mut keyboard = screen.as_ref().map(|_| Keyboard::open());
            let keys = keyboard.as_ref().is_some_and(Keyboard::is_open);
            let stop_with = if keys { "q or Ctrl-C" } else { "Ctrl-C" };
            let rates = Rates::default();
            let mut monitor = Monitor { client: &client, output, rates, screen, stop_with };
            let mut stop = std::pin::pin!(stop(keyboard.as_mut()));
            let mut answer = Ok(first);
            loop {
                if !monitor.show(answer)? {
                    return Ok(());
                }
                tokio::select! {
                    signal = &mut stop => return signal,
                    () = tokio::time::sleep(self.every) => {}
                }
                answer = tokio::select! {
                    signal = &mut stop => return signal,
                    status = client.status() => status.map_err(Error::from),
                };
            }
        })
    }
}

/// Returns when the monitor is asked to stop.
async fn stop(keyboard: Option<&mut Keyboard>) -> Result {
    match keyboard {
        Some(keyboard) => tokio::select! {
            signal = stopped() => signal,
            () = keyboard.pressed(b'q') => Ok(()),
        },
        None => stopped().await,
    }
}

struct Monitor<'a> {
    client: &'a Client,
    output: &'a Output,
    rates: Rates,
    screen: Option<Screen>,
    stop_with: &'static str,
}

impl Monitor<'_> {
    /// Shows one answer; false once the reader has closed the pipe.
    fn show(&mut self, answer: Result<Status>) -> Result<bool> {
        let status = match answer {
            Ok(status) => status,
            Err(error) => {
                let text = format!("{}\n\nretrying; stop with {}", error.message, self.stop_with);
                let Some(screen) = &mut self.screen else {
                    self.output.error(&error);
                    return Ok(true);
                };
                return screen.draw(&text);
            }
        };
        let rates = self.rates.after(Sample {
            at: Instant::now(),
            height: status.height.0,
            transactions: status.transactions_final.0,
        });
        let left_ms = status.clock.ends_ms.map(|ends| ends.0.saturating_sub(status.timestamp_ms.0));
        let view = View {
            url: self.client.url(),
            transactions_per_second: rates.map(|rates| rates.0),
            blocks_per_second: rates.map(|rates| rates.1),
            phase_left_ms: left_ms.map(Text),
            status: &status,
        };
        match &mut self.screen {
            Some(screen) => screen.draw(&view.page(self.output, self.stop_with)),
            None => self.output.line(view.line(), &view),
        }
    }
}

/// A rate as text.
fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

impl View<'_> {
    fn left(&self) -> String {
        self.phase_left_ms.map_or_else(
            || "manual".to_owned(),
            |left| format!("{:.1} s left", left.0 as f64 / 1e3),
        )
    }

    fn line(&self) -> String {
        let status = self.status;
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

    fn page(&self, output: &Output, stop_with: &str) -> String {
        let status = self.status;
        let supply = if status.supply.conserved {
            output.good("conserved")
        } else {
            output.strong("NOT CONSERVED")
        };
        format!(
            "{}  {}  soma {}\n\n\
             height    {:<12} {} blocks/s\n\
             traffic   {:<12} {} finalized since the node started, {} pending\n\
             epoch     {:<12} {}, {}\n\
             peers     {} connected\n\
             models    {} active, {} targets open\n\
             duties    {} pending in this phase\n\
             audits    {}\n\
             supply    {} burned, {supply}\n\n\
             stop with {stop_with}",
            output.strong(&status.chain),
            self.url,
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
