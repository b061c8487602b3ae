//! `soma top`: monitors a node, a competitor or a training run, on a screen or, without a terminal,
//! with a line per sample.
//!
//! It only shows what the node answers and files say, and must leave the terminal as it found it.

mod chain;
mod tables;
mod training;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum as _;
use serde::Serialize;
use serde_json::{Value, json};
use soma_protocol::{Address, Epoch};
use soma_sdk::client::Client;

use crate::commands::status;
use crate::error::{Error, Result};
use crate::global::Global;
use crate::home::Home;
use crate::keyboard::Keyboard;
use crate::network;
use crate::output::{Output, Screen};
use crate::signals::stopped;
use chain::{Chain, Rates};
use tables::{Mine, Models, Targets};
use training::Training;

/// Monitor a node, the competition, your account or a training run.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "On a terminal, the keys 1 to 5 or tab change the view, and q ends it. With \
                  --json, or if stdout is not a terminal, it prints a line per sample until Ctrl-C."
)]
pub(crate) struct Top {
    /// What to show first.
    #[arg(long, value_enum, default_value_t)]
    view: View,
    /// The log of a training run (`soma train --log FILE`), for the view `training`.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The account for the view `mine` [default: that of the key].
    #[arg(long, value_name = "ADDRESS")]
    account: Option<Address>,
    /// Time between two samples, as in 500ms or 2s; models and targets are asked for a fifth as
    /// often.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = pause)]
    every: Duration,
}

const PAUSE_MIN: Duration = Duration::from_millis(100);
/// How many times longer the pause is between questions that have long answers.
const RARELY: u32 = 5;
/// Columns from which all views are named.
const NAMED_COLUMNS: usize = 60;

fn pause(text: &str) -> std::result::Result<Duration, String> {
    let pause = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if pause < PAUSE_MIN {
        return Err("the shortest interval is 100ms".to_owned());
    }
    Ok(pause)
}

/// What is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum View {
    /// The chain and the node.
    #[default]
    Chain,
    /// The models, by wins.
    Models,
    /// The targets of the running epoch.
    Targets,
    /// An account: its balance, its models and what it still has to send.
    Mine,
    /// A training run.
    Training,
}

impl View {
    /// The view that a key selects.
    fn at(self, key: u8) -> Option<Self> {
        let all = Self::value_variants();
        match key {
            b'1'..=b'9' => all.get(usize::from(key - b'1')).copied(),
            b'\t' => {
                let next = all.iter().position(|view| *view == self)? + 1;
                Some(all[next % all.len()])
            }
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Models => "models",
            Self::Targets => "targets",
            Self::Mine => "mine",
            Self::Training => "training",
        }
    }
}

/// One sample of a view.
#[derive(Serialize)]
#[serde(tag = "view", rename_all = "snake_case")]
enum Look {
    Chain(Box<Chain>),
    Models(Models),
    Targets(Targets),
    Mine(Mine),
    Training(Training),
}

impl Look {
    /// As a page of so many columns.
    fn page(&self, output: &Output, columns: usize) -> String {
        match self {
            Self::Chain(chain) => chain.page(output),
            Self::Models(models) => models.page(output, columns),
            Self::Targets(targets) => targets.page(columns),
            Self::Mine(mine) => mine.page(output, columns),
            Self::Training(training) => training.page(columns),
        }
    }

    /// In one line.
    fn line(&self) -> String {
        match self {
            Self::Chain(chain) => chain.line(),
            Self::Models(models) => models.line(),
            Self::Targets(targets) => targets.line(),
            Self::Mine(mine) => mine.line(),
            Self::Training(training) => training.line(),
        }
    }
}

impl Top {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        // Its page tells of a node that does not answer, once it is there.
        let client = network::quiet_client_at(&global.url, global)?;
        network::block_on(async {
            let (view, log) = (self.view, self.log.as_deref());
            let (account, home) = (self.account, Home::find(global)?);
            let eye = Eye { client: &client, global, output, home: &home, log, account };
            let mut rates = Rates::default();
            // Only the first sample must succeed; later failures are shown, and tried again.
            let first = eye.look(view, &mut rates).await?;
            let screen = if output.is_json() { None } else { Screen::open()? };
            let keyboard = screen.as_ref().map(|_| Keyboard::open());
            let mut monitor = Monitor { eye, rates, screen, keyboard, view, every: self.every };
            tokio::select! {
                signal = stopped() => signal,
                ended = monitor.run(first) => ended,
            }
        })
    }
}

/// Whatever the views look at.
struct Eye<'a> {
    client: &'a Client,
    global: &'a Global,
    output: &'a Output,
    home: &'a Home,
    log: Option<&'a Path>,
    account: Option<Address>,
}

impl Eye<'_> {
    async fn look(&self, view: View, rates: &mut Rates) -> Result<Look> {
        let client = self.client;
        Ok(match view {
            View::Chain => Look::Chain(Box::new(rates.sample(client.status().await?))),
            View::Models => Look::Models(Models::new(client.models().await?)),
            View::Targets => {
                let epoch = client.status().await?.clock.epoch;
                Look::Targets(Targets { epoch, targets: client.targets(Some(Epoch(epoch))).await? })
            }
            View::Mine => Look::Mine(self.mine().await?),
            View::Training => Look::Training(self.training()?),
        })
    }

    async fn mine(&self) -> Result<Mine> {
        let address = network::account(self.global, self.account)?;
        let status = self.client.status().await?;
        let account = self.client.account(address).await?;
        let mut models = Vec::new();
        for &id in account.models.iter().take(tables::OWN_MAX) {
            models.push(self.client.model(soma_protocol::ModelId(id)).await?);
        }
        let due = status::dues(self.home, self.client, &status, &self.output.silent()).await?;
        Ok(Mine { account, models, due, now_ms: status.timestamp_ms })
    }

    fn training(&self) -> Result<Training> {
        let log = self.log.ok_or_else(|| {
            Error::usage("the view `training` needs the log of a run")
                .hint("name it: soma top --view training --log FILE")
        })?;
        Training::read(log)
    }
}

struct Monitor<'a> {
    eye: Eye<'a>,
    rates: Rates,
    screen: Option<Screen>,
    keyboard: Option<Keyboard>,
    view: View,
    every: Duration,
}

impl Monitor<'_> {
    /// Shows samples until the user or a closed pipe ends it.
    async fn run(&mut self, first: Look) -> Result {
        let mut resized = Resized::listen();
        let mut answer = Ok(first);
        loop {
            if !self.show(&answer)? {
                return Ok(());
            }
            let rarely = matches!(self.view, View::Models | View::Targets | View::Mine);
            let pause = if rarely { self.every * RARELY } else { self.every };
            // A key counts at once, also while a node does not answer.
            let next = async {
                tokio::time::sleep(pause).await;
                self.eye.look(self.view, &mut self.rates).await
            };
            tokio::select! {
                look = next => answer = look,
                () = resized.wait() => {}
                key = pressed(self.keyboard.as_mut()) => {
                    if key.eq_ignore_ascii_case(&b'q') {
                        return Ok(());
                    }
                    let Some(view) = self.view.at(key) else { continue };
                    self.view = view;
                    // Nothing was counted while another view was shown.
                    self.rates = Rates::default();
                    let look = self.eye.look(view, &mut self.rates);
                    answer = tokio::select! {
                        look = look => look,
                        () = quit(self.keyboard.as_mut()) => return Ok(()),
                    };
                }
            }
        }
    }

    /// Shows one answer; false once the reader has closed the pipe.
    fn show(&mut self, answer: &Result<Look>) -> Result<bool> {
        let output = self.eye.output;
        let Some(screen) = &mut self.screen else {
            return match answer {
                Ok(look) => output.line(look.line(), &self.eye.told(look)),
                Err(error) => {
                    output.error(error);
                    Ok(true)
                }
            };
        };
        let columns = Screen::columns();
        let page = match answer {
            Ok(look) => look.page(output, columns),
            Err(error) => format!("{}\n{}\n\ntrying again", error.message, error.hint),
        };
        let has_keys = self.keyboard.as_ref().is_some_and(Keyboard::is_open);
        let head = head(self.view, output, columns, has_keys);
        let url = self.eye.client.url();
        let title = match answer {
            Ok(Look::Chain(chain)) => format!("{}  {url}", output.strong(chain.name())),
            _ => url.to_owned(),
        };
        screen.draw(&format!("{title}\n{head}\n\n{page}"))
    }
}

impl Eye<'_> {
    /// A sample as JSON.
    fn told(&self, look: &Look) -> Value {
        let mut told = json!(look);
        told["url"] = self.client.url().into();
        told
    }
}

/// The views, the shown one standing out, and how to end it.
fn head(view: View, output: &Output, columns: usize, has_keys: bool) -> String {
    let end = if has_keys { "q: quit" } else { "Ctrl-C: quit" };
    if columns < NAMED_COLUMNS {
        let next = if has_keys { "  tab: next" } else { "" };
        return format!("{}{next}  {end}", output.strong(view.name()));
    }
    let named = |(number, named): (usize, &View)| {
        let name = format!("{} {}", number + 1, named.name());
        if *named == view { output.strong(name) } else { name }
    };
    let all: Vec<_> = View::value_variants().iter().enumerate().map(named).collect();
    format!("{}   {end}", all.join("   "))
}

/// The next key, if there is a keyboard.
async fn pressed(keyboard: Option<&mut Keyboard>) -> u8 {
    match keyboard {
        Some(keyboard) => keyboard.next().await,
        None => std::future::pending().await,
    }
}

/// Returns when the key that ends it is pressed.
async fn quit(mut keyboard: Option<&mut Keyboard>) {
    while !pressed(keyboard.as_deref_mut()).await.eq_ignore_ascii_case(&b'q') {}
}

/// Changes of the terminal's size, where the system tells.
struct Resized(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl Resized {
    fn listen() -> Self {
        #[cfg(unix)]
        return Self(
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change()).ok(),
        );
        #[cfg(not(unix))]
        Self()
    }

    async fn wait(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.0
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::{View, head};
    use crate::output::{Color, Output};

    #[test]
    fn digits_and_tab_select_views_and_other_keys_do_not() {
        assert_eq!(View::Chain.at(b'3'), Some(View::Targets));
        assert_eq!(View::Chain.at(b'\t'), Some(View::Models));
        assert_eq!(View::Training.at(b'\t'), Some(View::Chain));
        assert_eq!([b'9', b'0', b'x'].map(|key| View::Mine.at(key)), [None; 3]);
    }

    #[test]
    fn the_head_fits_a_narrow_terminal_and_says_how_to_end() {
        let output = Output::new(false, false, true, Color::Never);
        for columns in [40, 80] {
            for has_keys in [false, true] {
                let head = head(View::Training, &output, columns, has_keys);
                assert!(head.len() <= columns && head.contains("quit"), "{head}");
            }
        }
    }
}
