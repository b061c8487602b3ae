//! Simulates the same economy for several values of one number, which is how a default is chosen.

use std::fmt::Write as _;

use clap::ValueEnum;
use serde::Serialize;
use soma_protocol::Amount;

use crate::Error;
use crate::actors::Kind;
use crate::report::Report;
use crate::report::run;
use crate::settings::Settings;

/// The number to vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sweep {
    /// `bond_bps`: the bond of a submission, as a share of the reward
    Bond,
    /// `loss_margin_q32`, in thousandths of a nat: smaller differences of losses are ties
    Margin,
    /// `models_per_target`
    Models,
    /// `candidates_per_target`
    Candidates,
    /// `verdict_slash_bps`: what a wrong verdict costs
    Slash,
    /// `rent_price_per_mib_epoch`, in percent of the default
    Rent,
    /// Number of validators that never audit
    Silent,
}

/// The results for one value.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The value.
    pub value: u64,
    /// The value with its unit.
    pub label: String,
    /// The results.
    pub report: Report,
}

/// A column of the table: two lines of heading, and the number below.
type Column = (&'static str, &'static str, fn(&Report) -> f64);

/// The first columns of every table.
const COMMON: [Column; 3] = [
    ("trainer", "net/1000", |report| report.net(Kind::Trainer)),
    ("submitter", "net/1000", |report| report.net(Kind::Submitter)),
    ("auditor", "net/1000", |report| report.net(Kind::Auditor)),
];

const MARGIN: [Column; 6] = [
    ("trainer", "pay/stake", |report| report.pay_to_stake(Kind::Trainer)),
    ("copier", "pay/stake", |report| report.pay_to_stake(Kind::Copier)),
    ("noisy copy", "pay/stake", |report| report.pay_to_stake(Kind::NoisyCopier)),
    ("copier", "net/1000", |report| report.net(Kind::Copier)),
    ("0.1% noise", "wins %", |report| 100.0 * report.noise_wins[0]),
    ("1% noise", "wins %", |report| 100.0 * report.noise_wins[1]),
];

const BOND: [Column; 4] = [
    ("silent", "per denied", |report| report.griefing_cost(Kind::Silencer)),
    ("false", "per denied", |report| report.griefing_cost(Kind::Denier)),
    ("forgetful", "net/1000", |report| report.net(Kind::Forgetful)),
    ("false win", "net/1000", |report| report.net(Kind::Liar)),
];

const SLASH: [Column; 3] = [
    ("faulty", "net/1000", |report| report.net(Kind::Faulty)),
    ("faulty", "lost %", |report| {
        let row = report.row(Kind::Faulty);
        row.map_or(0.0, |row| 100.0 * row.burned / row.first)
    }),
    ("guessing", "net/1000", |report| report.net(Kind::Guesser)),
];

const RENT: [Column; 3] = [
    ("rent", "of gain %", |report| {
        let row = report.row(Kind::Trainer);
        row.map_or(0.0, |row| 100.0 * row.rent / (row.gain + row.rent))
    }),
    ("large", "net/1000", |report| report.net(Kind::Large)),
    ("split", "net/1000", |report| report.net(Kind::Splitter)),
];

const SILENT: [Column; 2] = [
    ("won", "%", |report| {
        let won = u32::try_from(report.settled).unwrap_or(u32::MAX);
        let all = u32::try_from(report.settled + report.returned).unwrap_or(u32::MAX);
        100.0 * f64::from(won) / f64::from(all.max(1))
    }),
    ("silent", "net/1000", |report| report.net(Kind::Silent)),
];

impl Sweep {
    /// The values to simulate.
    pub const fn values(self) -> &'static [u64] {
        match self {
            Self::Bond => &[500, 1_000, 2_500, 5_000, 7_500, 10_000],
            Self::Margin => &[0, 1 << 20, 1 << 21, 1 << 22, 1 << 23, 1 << 24, 1 << 25, 1 << 26],
            Self::Models => &[1, 2, 3, 4, 6, 8],
            Self::Candidates => &[1, 2, 4, 8],
            Self::Slash => &[0, 1, 10, 30, 100],
            Self::Rent => &[10, 30, 100, 200],
            Self::Silent => &[0, 2, 4, 5, 6, 8],
        }
    }

    /// A value with its unit.
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn label(self, value: u64) -> String {
        match self {
            Self::Bond | Self::Slash => format!("{} %", value as f64 / 100.0),
            Self::Margin => format!("{:.2}", value as f64 * 1_000.0 / 4_294_967_296.0),
            Self::Rent => format!("{value} %"),
            Self::Models | Self::Candidates | Self::Silent => value.to_string(),
        }
    }

    /// The settings with one number changed.
    fn settings(self, base: &Settings, value: u64) -> Settings {
        // No default is chosen by what these try.
        let mut settings = Settings { attackers: false, ..base.clone() };
        let name = match self {
            Self::Bond => "bond_bps",
            Self::Margin => "loss_margin_q32",
            Self::Models => "models_per_target",
            Self::Candidates => "candidates_per_target",
            Self::Slash => "verdict_slash_bps",
            Self::Rent => {
                let price = &mut settings.params.rent_price_per_mib_epoch;
                *price = Amount(price.0 * value / 100);
                return settings;
            }
            Self::Silent => {
                settings.silent = usize::try_from(value).unwrap_or(usize::MAX);
                return settings;
            }
        };
        if let Some(params) = settings.params.clone().with(name, value) {
            settings.params = params;
        }
        settings
    }

    /// The columns that matter for this number.
    const fn columns(self) -> &'static [Column] {
        match self {
            Self::Margin | Self::Models => &MARGIN,
            Self::Bond | Self::Candidates => &BOND,
            Self::Slash => &SLASH,
            Self::Rent => &RENT,
            Self::Silent => &SILENT,
        }
    }

    /// Simulates the economy once for each value.
    ///
    /// # Errors
    /// Those of [`run`].
    pub fn run(self, base: &Settings) -> Result<Vec<Line>, Error> {
        let line = |&value: &u64| {
            Ok(Line { value, label: self.label(value), report: run(&self.settings(base, value))? })
        };
        self.values().iter().map(line).collect()
    }
}

/// The table of a sweep, one line for each value.
pub fn table(sweep: Sweep, lines: &[Line]) -> String {
    let name = format!("{sweep:?}").to_lowercase();
    let columns = || COMMON.iter().chain(sweep.columns());
    let mut text = format!("{name:<10}");
    for (head, _, _) in columns() {
        let _ = write!(text, "{head:>12}");
    }
    text += &format!("\n{:<10}", "");
    for (_, head, _) in columns() {
        let _ = write!(text, "{head:>12}");
    }
    for line in lines {
        text += &format!("\n{:<10}", line.label);
        for (_, _, figure) in columns() {
            let _ = write!(text, "{:>12.2}", figure(&line.report));
        }
    }
    text
}
