//! A training run, from the log that it writes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Steps over which rates are averaged.
const RECENT: usize = 50;
/// Rows of the curve.
const ROWS: usize = 8;
/// The longest line that can be one of a log.
const LINE_BYTES_MAX: u64 = 4 << 10;
/// How many lines may be malformed: a log has one now and then, where a disk was full.
const MALFORMED_MAX: u32 = 1_000;

/// A line of the log.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
struct Step {
    #[serde(rename = "step")]
    number: u64,
    cross_entropy: f64,
    gradient_norm: f64,
    learning_rate: f64,
    tokens: u64,
    /// Since the run or its last continuation began.
    seconds: f64,
}

/// What a log says.
#[derive(Debug, Serialize)]
pub(super) struct Training {
    last: Option<Step>,
    tokens_per_second: Option<f64>,
    /// The mean cross-entropy of equal parts of the run, the first one first.
    #[serde(skip)]
    curve: Vec<f64>,
}

impl Training {
    /// Reads a log. A malformed line, such as one that is being written, is left out.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| Error::file(path, "read", &error);
        let mut lines = BufReader::new(File::open(path).map_err(failed)?);
        let (mut recent, mut curve) = (VecDeque::<Step>::new(), Curve::default());
        let (mut line, mut malformed) = (Vec::new(), 0);
        loop {
            line.clear();
            let part = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
            if part.map_err(failed)? == 0 {
                break;
            }
            let Ok(step) = serde_json::from_slice::<Step>(&line) else {
                malformed += 1;
                if malformed > MALFORMED_MAX {
                    let message = format!("{} is no log of a training run", path.display());
                    return Err(
                        Error::usage(message).hint("name the FILE of soma train --log FILE")
                    );
                }
                continue;
            };
            // A run that was continued counts its seconds from zero.
            if recent.back().is_some_and(|last| last.seconds > step.seconds) {
                recent.clear();
            }
            recent.push_back(step);
            if recent.len() > RECENT {
                recent.pop_front();
            }
            curve.add(step.cross_entropy);
        }
        Ok(Self {
            last: recent.back().copied(),
            tokens_per_second: rate(&recent),
            curve: curve.means,
        })
    }

    pub(super) fn line(&self) -> String {
        let Some(last) = self.last else {
            return "no step yet".to_owned();
        };
        format!(
            "step {}  cross-entropy {:.4}  gradient {:.3}  {} tokens/s",
            last.number,
            last.cross_entropy,
            last.gradient_norm,
            self.speed()
        )
    }

    pub(super) fn page(&self, columns: usize) -> String {
        let Some(last) = self.last else {
            return "no step yet".to_owned();
        };
        format!(
            "step      {}\ncross-entropy {:.4} nats\ngradient  {:.3}\nrate      {:.2e}\n\
             speed     {} tokens/s\n\n{}",
            last.number,
            last.cross_entropy,
            last.gradient_norm,
            last.learning_rate,
            self.speed(),
            drawn(&self.curve, columns)
        )
    }

    fn speed(&self) -> String {
        self.tokens_per_second.map_or_else(|| "-".to_owned(), |speed| format!("{speed:.0}"))
    }
}

/// Tokens a second over these steps.
fn rate(steps: &VecDeque<Step>) -> Option<f64> {
    let (first, last) = (steps.front()?, steps.back()?);
    let seconds = last.seconds - first.seconds;
    let tokens: u64 = steps.iter().skip(1).map(|step| step.tokens).sum();
    (seconds > 0.0).then(|| tokens as f64 / seconds)
}

/// Means of equal parts: whenever there are too many, neighbors are joined.
#[derive(Default)]
struct Curve {
    means: Vec<f64>,
    /// How many steps a part has, and what the last part has so far.
    each: u32,
    sum: f64,
    count: u32,
}

impl Curve {
    const PARTS_MAX: usize = 256;

    fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.each = self.each.max(1);
        (self.sum, self.count) = (self.sum + value, self.count + 1);
        if self.count < self.each {
            return;
        }
        self.means.push(self.sum / f64::from(self.count));
        (self.sum, self.count) = (0.0, 0);
        if self.means.len() == Self::PARTS_MAX {
            let joined = self.means.chunks(2).map(|pair| pair.iter().sum::<f64>() / 2.0);
            self.means = joined.collect();
            self.each *= 2;
        }
    }
}

/// A curve of block characters, with the highest and the lowest value beside it.
fn drawn(curve: &[f64], columns: usize) -> String {
    const LABEL: usize = 9;
    const BLOCKS: [char; 9] = [
        ' ', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}',
        '\u{2588}',
    ];
    let width = columns.saturating_sub(LABEL + 1).min(curve.len());
    if width == 0 {
        return String::new();
    }
    let at = |column: usize| curve[column * curve.len() / width];
    let values: Vec<f64> = (0..width).map(at).collect();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let span = (high - low).max(f64::MIN_POSITIVE);
    // How many eighths of a row each value is high, at least one.
    let eighths = |value: f64| {
        let share = (value - low) / span;
        (1..8 * ROWS).filter(|eighth| share * (8 * ROWS - 1) as f64 > *eighth as f64 - 0.5).count()
            + 1
    };
    let row = |row: usize| {
        let label = match row {
            0 => format!("{high:>LABEL$.4}"),
            row if row + 1 == ROWS => format!("{low:>LABEL$.4}"),
            _ => " ".repeat(LABEL),
        };
        let below = 8 * (ROWS - 1 - row);
        let cell = |value: &f64| BLOCKS[eighths(*value).saturating_sub(below).min(8)];
        format!("{label} {}", values.iter().map(cell).collect::<String>())
    };
    (0..ROWS).map(row).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Curve, ROWS, Training, drawn};

    fn log(steps: u64) -> String {
        let line = |step: u64| {
            format!(
                "{{\"step\": {step}, \"loss\": 1, \"cross_entropy\": {}, \"sigreg\": 0, \
                 \"gradient_norm\": 0.5, \"learning_rate\": 0.001, \"tokens\": 100, \
                 \"seconds\": {step}.5}}\n",
                5.0 - step as f64 / 100.0
            )
        };
        (1..=steps).map(line).collect()
    }

    #[test]
    fn a_log_that_is_being_written_is_shown_up_to_its_last_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        std::fs::write(&path, "").unwrap();
        assert_eq!(Training::read(&path).unwrap().line(), "no step yet");
        std::fs::write(&path, format!("{}{{\"step\": 3", log(2))).unwrap();
        let training = Training::read(&path).unwrap();
        assert_eq!(training.line(), "step 2  cross-entropy 4.9800  gradient 0.500  100 tokens/s");
        for columns in [10, 40, 80] {
            let page = training.page(columns);
            let mut curve = page.lines().skip_while(|line| !line.is_empty());
            assert!(curve.all(|line| line.chars().count() <= columns), "{page}");
        }
    }

    #[test]
    fn a_curve_of_any_length_falls_where_the_run_does() {
        let mut curve = Curve::default();
        (0..10_000_u32).for_each(|step| curve.add(f64::from(10_000 - step)));
        curve.add(f64::NAN);
        assert!(curve.means.len() < Curve::PARTS_MAX);
        assert!(curve.means.is_sorted_by(|one, next| one > next));
        let picture = drawn(&curve.means, 40);
        assert_eq!(picture.lines().count(), ROWS);
        let first = picture.lines().next().unwrap();
        assert!(first.ends_with(' ') && first.contains('\u{2588}'), "{picture}");
        assert!(drawn(&[], 40).is_empty());
        assert!(!drawn(&[1.0, 1.0], 40).is_empty());
    }
}
