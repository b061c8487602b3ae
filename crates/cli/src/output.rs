//! The only module that prints.
//!
//! stdout carries the result and nothing else; everything else goes to stderr. `--json` changes the
//! format and must never change the content.

#![expect(clippy::print_stderr, reason = "the only module that prints")]

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use soma_compete::{Advance, Level, Observer};

use crate::error::{Error, Result};
use soma_codes::Code;

const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const WARNING: Style = AnsiColor::Yellow.on_default();
const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default();

/// How this run prints.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// All bars and spinners, so that a line of text never lands in the middle of one.
    bars: MultiProgress,
    color: bool,
}

/// When to use color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Output {
    /// Decides how to print: by flags, then the environment, then whether stderr is a terminal.
    pub(crate) fn new(json: bool, quiet: bool, no_progress: bool, color: Color) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if set("FORCE_COLOR") && !set("NO_COLOR") => true,
            // By NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM and whether it is a terminal.
            Color::Auto => AutoStream::choice(&std::io::stderr()) != ColorChoice::Never,
        };
        let progress = terminal && !quiet && !no_progress && !set("SOMA_NO_PROGRESS");
        Self { json, quiet, bars: MultiProgress::with_draw_target(target(progress)), color }
    }

    /// True if results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// The result: `text` for people, or `data` as one line of JSON.
    pub(crate) fn result(&self, text: impl Display, data: &impl Serialize) -> Result {
        if self.json {
            let line = serde_json::to_string(data)
                .map_err(|error| Error::new(Code::Json, error.to_string()))?;
            self.bars.suspend(|| write_stdout(&line))
        } else {
            self.bars.suspend(|| write_stdout(&text.to_string()))
        }
    }

    /// One result of many, as [`Self::result`]; false once the reader has closed the pipe.
    pub(crate) fn line(&self, text: impl Display, data: &impl Serialize) -> Result<bool> {
        let line = if self.json {
            serde_json::to_string(data)
                .map_err(|error| Error::new(Code::Json, error.to_string()))?
        } else {
            text.to_string()
        };
        self.bars.suspend(|| reader_is_there(write(&line)))
    }

    /// A line of information.
    pub(crate) fn say(&self, text: impl Display) {
        if !self.quiet {
            self.bars.suspend(|| eprintln!("{text}"));
        }
    }

    /// A heading.
    pub(crate) fn heading(&self, text: impl Display) {
        self.say(format_args!("\n{}", self.paint(STRONG, text)));
    }

    /// A warning.
    pub(crate) fn warn(&self, text: impl Display) {
        self.say(format_args!("{} {text}", self.paint(WARNING, "warning:")));
    }

    /// Something was completed.
    pub(crate) fn done(&self, text: impl Display) {
        self.say(format_args!("{} {text}", self.paint(GOOD, "\u{2713}")));
    }

    /// Emphasized text.
    pub(crate) fn strong(&self, text: impl Display) -> String {
        self.paint(STRONG, text)
    }

    /// Text that stands out as good.
    pub(crate) fn good(&self, text: impl Display) -> String {
        self.paint(GOOD, text)
    }

    /// A bar that shows `share` (0 to 1), as wide as a progress bar.
    pub(crate) fn share(&self, share: f64) -> String {
        const CELLS: usize = 32;
        let full = (0..CELLS).filter(|cell| share * CELLS as f64 > *cell as f64 + 0.5).count();
        let (full, rest) = ("\u{2501}".repeat(full), "\u{2500}".repeat(CELLS - full));
        format!("{}{}", self.paint(HINT, full), self.paint(FAINT, rest))
    }

    /// Prints an error.
    pub(crate) fn error(&self, error: &Error) {
        if self.json {
            let line = serde_json::json!({"error": {
                "code": error.code.as_str(), "message": error.message, "hint": error.hint,
                "exit": error.exit.number(),
            }});
            eprintln!("{line}");
            return;
        }
        let head = self.paint(ERROR, format_args!("error[{}]", error.code));
        eprintln!("{head}: {}", error.message);
        eprintln!("{} {}", self.paint(HINT, "hint:"), error.hint);
    }

    /// A progress bar for work of known length.
    pub(crate) fn bar(&self, length: u64, label: &str, unit: Unit) -> ProgressBar {
        let numbers = match unit {
            Unit::Items => "{pos}/{len}",
            Unit::Bytes => "{binary_bytes}/{binary_total_bytes}",
        };
        let bar = self.bars.add(ProgressBar::new(length));
        let template = format!("  {{prefix:<11}} {{bar:32}} {numbers} {{msg}} {{eta}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("\u{2501}\u{2578}\u{2500}"));
        }
        bar.set_prefix(label.to_owned());
        bar
    }

    /// A spinner for work of unknown length.
    pub(crate) fn spinner(&self, text: impl Into<String>) -> ProgressBar {
        let spinner = self.bars.add(ProgressBar::new_spinner());
        spinner.set_message(text.into());
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    }

    fn paint(&self, style: Style, text: impl Display) -> String {
        if self.color { format!("{style}{text}{style:#}") } else { text.to_string() }
    }
}

impl Observer for Output {
    fn start(&self, task: &str, bytes: Option<u64>) -> Advance {
        let bar = match bytes {
            Some(bytes) => self.bar(bytes, task, Unit::Bytes),
            None => self.spinner(task.to_owned()),
        };
        // It disappears with the last reference to it.
        Box::new(move |done| bar.set_position(done))
    }

    fn notice(&self, level: Level, message: &dyn Display) {
        match level {
            Level::Info => self.say(message),
            Level::Success => self.done(message),
            Level::Warning => self.warn(message),
        }
    }
}

/// Where bars are drawn, if at all.
fn target(shown: bool) -> ProgressDrawTarget {
    if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() }
}

/// What a progress bar counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// Items.
    Items,
    /// Bytes.
    Bytes,
}

/// The whole terminal, for a page that is redrawn; restored when dropped. Four escape sequences do
/// it, so this needs no terminal library.
#[derive(Debug)]
pub(crate) struct Screen(std::io::Stdout);

impl Screen {
    /// Switches to the terminal's alternate screen and hides the cursor.
    pub(crate) fn open() -> Result<Self> {
        let mut screen = Self(std::io::stdout());
        reader_is_there(screen.write("\u{1b}[?1049h\u{1b}[?25l"))?;
        Ok(screen)
    }

    /// Redraws the page; false once the terminal is closed.
    pub(crate) fn draw(&mut self, text: &str) -> Result<bool> {
        // Overwrite, then clear the rest of each line and of the screen: this does not flicker.
        let lines = text.replace('\n', "\u{1b}[K\n");
        reader_is_there(self.write(&format!("\u{1b}[H{lines}\u{1b}[K\u{1b}[J")))
    }

    fn write(&mut self, text: &str) -> std::io::Result<()> {
        self.0.write_all(text.as_bytes())?;
        self.0.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A closed terminal needs no restoring.
        let _gone = self.write("\u{1b}[?25h\u{1b}[?1049l");
    }
}

/// A closed pipe is success: the reader has what it wanted.
fn write_stdout(text: &str) -> Result {
    reader_is_there(write(text)).map(drop)
}

/// False if the reader has closed the pipe.
fn reader_is_there(written: std::io::Result<()>) -> Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Error::new(Code::Stdout, format!("cannot write the result: {error}"))),
    }
}

/// Writes a text and a newline, unless it ends with one.
fn write(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}
