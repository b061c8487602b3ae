//! The only module that prints, and so the only one that makes text harmless for the terminal.
//!
//! stdout carries the result and nothing else; everything else goes to stderr. `--json` changes the
//! format and must never change the content.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use console::{Term, truncate_str};
use indicatif::{
    BinaryBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle,
};
use serde::Serialize;
use soma_compete::{Advance, Level, Observer};

use crate::error::{Error, Result};
use crate::harmless::{self, Decoder};
use soma_codes::Code;

/// What a piece of text is, which decides its style.
#[derive(Clone, Copy, Debug)]
enum Role {
    Strong,
    Faint,
    Good,
    Warning,
    Error,
    Hint,
}

/// The styles of the roles, in their order.
const STYLES: [Style; 6] = [
    Style::new().bold(),
    Style::new().dimmed(),
    AnsiColor::Green.on_default(),
    AnsiColor::Yellow.on_default(),
    AnsiColor::Red.on_default().bold(),
    AnsiColor::Cyan.on_default(),
];

/// How this run prints.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four independent answers of the command line")]
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    /// All bars and spinners, so that a line of text never lands in the middle of one.
    bars: MultiProgress,
    /// Whether long work says a line now and then, because bars would not be seen.
    signs: bool,
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
        let terminal = std::io::stderr().is_terminal() && !is_dumb();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if set("FORCE_COLOR") && !set("NO_COLOR") => true,
            // By NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM and whether it is a terminal.
            Color::Auto => AutoStream::choice(&std::io::stderr()) != ColorChoice::Never,
        };
        let wanted = !quiet && !no_progress && !set("SOMA_NO_PROGRESS");
        let bars = MultiProgress::with_draw_target(target(wanted && terminal));
        Self { json, quiet, bars, signs: wanted && !terminal, color }
    }

    /// The same without information and warnings, while a page is shown.
    pub(crate) fn silent(&self) -> Self {
        Self { quiet: true, ..self.clone() }
    }

    /// True if results are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// The result: `text` for people, or `data` as one line of JSON.
    pub(crate) fn result(&self, text: impl Display, data: &impl Serialize) -> Result {
        let line = if self.json { json(data)? } else { shown(text) };
        self.bars.suspend(|| write_stdout(&line))
    }

    /// A result that is one value: alone for another program, with its name on a terminal, where it
    /// stands between sentences.
    pub(crate) fn value(&self, name: &str, value: impl Display, data: &impl Serialize) -> Result {
        if std::io::stdout().is_terminal() && !self.quiet {
            return self.result(format_args!("{name}  {value}"), data);
        }
        self.result(value, data)
    }

    /// One result of many, as [`Self::result`]; false once the reader has closed the pipe.
    pub(crate) fn line(&self, text: impl Display, data: &impl Serialize) -> Result<bool> {
        let line = if self.json { json(data)? } else { shown(text) };
        self.bars.suspend(|| reader_is_there(write(&line)))
    }

    /// A result that arrives byte by byte: as it is for another program, harmless on a terminal.
    pub(crate) fn bytes() -> Bytes {
        let stdout = std::io::stdout();
        let decoder = stdout.is_terminal().then(Decoder::default);
        Bytes { stdout, decoder }
    }

    /// A line of information.
    pub(crate) fn say(&self, text: impl Display) {
        if !self.quiet {
            self.bars.suspend(|| write_stderr(&shown(text)));
        }
    }

    /// A heading.
    pub(crate) fn heading(&self, text: impl Display) {
        self.say(format_args!("\n{}", self.paint(Role::Strong, text)));
    }

    /// A warning.
    pub(crate) fn warn(&self, text: impl Display) {
        let text = harmless::one_line(text);
        self.say(format_args!("{} {text}", self.paint(Role::Warning, "warning:")));
    }

    /// Something was completed.
    pub(crate) fn done(&self, text: impl Display) {
        self.say(format_args!("{} {text}", self.paint(Role::Good, "\u{2713}")));
    }

    /// Emphasized text.
    pub(crate) fn strong(&self, text: impl Display) -> String {
        self.paint(Role::Strong, text)
    }

    /// Text that stands out as good.
    pub(crate) fn good(&self, text: impl Display) -> String {
        self.paint(Role::Good, text)
    }

    /// A bar that shows `share` (0 to 1), as wide as a progress bar.
    pub(crate) fn share(&self, share: f64) -> String {
        const CELLS: usize = 32;
        let full = (0..CELLS).filter(|cell| share * CELLS as f64 > *cell as f64 + 0.5).count();
        let (full, rest) = ("\u{2501}".repeat(full), "\u{2500}".repeat(CELLS - full));
        format!("{}{}", self.paint(Role::Hint, full), self.paint(Role::Faint, rest))
    }

    /// Prints an error.
    pub(crate) fn error(&self, error: &Error) {
        if self.json {
            let line = serde_json::json!({"error": {
                "code": error.code.as_str(), "message": error.message, "hint": error.hint,
                "exit": error.exit.number(),
            }});
            write_stderr(&harmless::harmless_json(line.to_string()));
            return;
        }
        let head = self.paint(Role::Error, format_args!("error[{}]", error.code));
        let message = harmless::one_line(&error.message);
        write_stderr(&shown(format_args!("{head}: {message}")));
        write_stderr(&shown(format_args!("{} {}", self.paint(Role::Hint, "hint:"), error.hint)));
    }

    /// A progress bar for work of known length.
    pub(crate) fn bar(&self, length: u64, label: &str, unit: Unit) -> ProgressBar {
        let numbers = match unit {
            Unit::Items => "{pos}/{len}",
            Unit::Bytes => "{binary_bytes}/{binary_total_bytes}",
        };
        let bar = ProgressBar::new(length).with_finish(ProgressFinish::AndClear);
        let bar = self.bars.add(bar);
        let (_rows, columns) = Term::stderr().size();
        // A line that is wrapped cannot be redrawn.
        let template = if columns >= BAR_COLUMNS_MIN {
            format!("  {{prefix:<11}} {{bar:32}} {numbers} {{msg}} {{eta}}")
        } else {
            format!("{{prefix}} {numbers} {{wide_msg}}")
        };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("\u{2501}\u{2578}\u{2500}"));
        }
        bar.set_prefix(shown(label));
        bar
    }

    /// Signs of life for long work where no bar is drawn.
    pub(crate) fn signs(&self) -> Signs {
        Signs { output: self.clone(), next: Instant::now() + FIRST_PAUSE, pause: FIRST_PAUSE }
    }

    /// A spinner for work of unknown length.
    pub(crate) fn spinner(&self, text: impl Into<String>) -> ProgressBar {
        let spinner = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
        let spinner = self.bars.add(spinner);
        let text: String = text.into();
        spinner.set_message(shown(text));
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner
    }

    fn paint(&self, role: Role, text: impl Display) -> String {
        let text = text.to_string();
        if self.color { harmless::styled(role as u8, &text) } else { text }
    }
}

/// Columns that a bar with all its figures takes.
const BAR_COLUMNS_MIN: u16 = 90;

/// Whether the terminal understands no escape sequences.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// How long work is silent before its first sign of life, and at most between two of them.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Signs of life in the log of a job: a line soon after the beginning, then ever more rarely.
#[derive(Debug)]
pub(crate) struct Signs {
    output: Output,
    next: Instant,
    pause: Duration,
}

impl Signs {
    /// Says `text` if a sign is due.
    pub(crate) fn tick(&mut self, text: impl FnOnce() -> String) {
        if self.output.signs && Instant::now() >= self.next {
            self.output.say(text());
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            self.next = Instant::now() + self.pause;
        }
    }
}

/// Text for people as it is written: this is where everything becomes harmless.
fn shown(text: impl Display) -> String {
    harmless::render(&text.to_string(), &STYLES)
}

/// A line of JSON as it is written.
fn json(data: &impl Serialize) -> Result<String> {
    let line = serde_json::to_string(data);
    let line = line.map_err(|error| Error::new(Code::Json, error.to_string()))?;
    Ok(harmless::harmless_json(line))
}

/// Standard output for bytes that arrive one by one.
#[derive(Debug)]
pub(crate) struct Bytes {
    stdout: std::io::Stdout,
    /// `None` if another program reads.
    decoder: Option<Decoder>,
}

impl Bytes {
    /// Writes bytes at once; false once the reader has closed the pipe.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<bool> {
        let written = match &mut self.decoder {
            Some(decoder) => self.stdout.write_all(decoder.push(bytes).as_bytes()),
            None => self.stdout.write_all(bytes),
        };
        reader_is_there(written.and_then(|()| self.stdout.flush()))
    }
}

impl Observer for Output {
    fn start(&self, task: &str, bytes: Option<u64>) -> Advance {
        let bar = match bytes {
            Some(bytes) => self.bar(bytes, task, Unit::Bytes),
            None => self.spinner(task.to_owned()),
        };
        let (mut signs, task) = (self.signs(), task.to_owned());
        // The bar disappears with the last reference to it.
        Box::new(move |done| {
            bar.set_position(done);
            if let Some(bytes) = bytes {
                let (done, bytes) = (BinaryBytes(done), BinaryBytes(bytes));
                signs.tick(|| format!("{task}: {done} of {bytes}"));
            }
        })
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
    /// Switches to the terminal's alternate screen and hides the cursor. `None` if stdout is no
    /// terminal, or one that cannot do that.
    pub(crate) fn open() -> Result<Option<Self>> {
        if !std::io::stdout().is_terminal() || is_dumb() {
            return Ok(None);
        }
        let mut screen = Self(std::io::stdout());
        reader_is_there(screen.write("\u{1b}[?1049h\u{1b}[?25l"))?;
        Ok(Some(screen))
    }

    /// How wide it is now.
    pub(crate) fn columns() -> usize {
        Term::stdout().size().1.into()
    }

    /// Redraws the page, as much of it as there is room for; false once the terminal is closed.
    pub(crate) fn draw(&mut self, text: &str) -> Result<bool> {
        let page = fitted(&shown(text), Term::stdout().size());
        reader_is_there(self.write(&format!("\u{1b}[H{page}\u{1b}[J")))
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

/// The beginning of a page that fits into rows and columns: a terminal would wrap longer lines, and
/// scroll the first ones away. Each line is cleared before it is written, which does not flicker.
fn fitted(page: &str, (rows, columns): (u16, u16)) -> String {
    let lines = page.lines().take(rows.into());
    let lines =
        lines.map(|line| format!("\u{1b}[K{}", truncate_str(line, columns.into(), "\u{2026}")));
    lines.collect::<Vec<_>>().join("\n")
}

/// Writes a line that is not a result. A log that cannot be written, because its disk is full, say,
/// must not end the work.
fn write_stderr(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
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

/// The end of the times that can be written with four digits for the year.
const YEAR_10000_MS: u64 = 253_402_300_800_000;

/// A time as people write it, up to the year 9999.
pub(crate) fn when(ms: u64) -> String {
    if ms < YEAR_10000_MS {
        humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_millis(ms))
            .to_string()
    } else {
        format!("{ms} ms after 1970")
    }
}

#[cfg(test)]
mod tests {
    use console::measure_text_width;

    use super::{Color, Output, fitted, shown};

    #[test]
    fn a_page_keeps_its_first_lines_and_never_wraps() {
        let output = Output::new(false, false, true, Color::Always);
        let strong = output.strong("a name that is wider than the whole terminal");
        let page = shown(format!("{strong}\nsecond\n\u{4e16}\u{754c} \u{4e16}\u{754c} x\nfourth"));
        let drawn = fitted(&page, (3, 8));
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].contains("a name") && lines[1].ends_with("second"), "{drawn:?}");
        for line in lines {
            assert!(measure_text_width(line) <= 8, "{line:?}");
        }
        assert!(fitted("", (0, 0)).is_empty());
    }
}
