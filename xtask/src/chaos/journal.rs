//! What is told of a run: a line for each fault on standard output, and the same as JSON.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::json::quoted;

/// Where a run is told.
#[derive(Debug)]
pub(crate) struct Journal {
    begun: Instant,
    json: bool,
    log: Option<File>,
}

/// A fault that is over.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) host: &'a str,
    pub(crate) fault: String,
    /// When it began, how long it lasted, and how long after its end the node was in step.
    pub(crate) at: Duration,
    pub(crate) lasted: Duration,
    pub(crate) in_step_after: Duration,
    /// What the node said of itself meanwhile, as codes.
    pub(crate) said: String,
}

impl Journal {
    /// A journal that begins now, on standard output (as JSON if `json`) and in a file.
    pub(crate) fn new(json: bool, log: Option<&Path>) -> Result<Self, String> {
        let create = |path: &Path| {
            File::create(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        Ok(Self { begun: Instant::now(), json, log: log.map(create).transpose()? })
    }

    /// Time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn fault(&mut self, entry: &Entry<'_>) {
        let Entry { host, fault, at, lasted, in_step_after, said } = entry;
        let (at, lasted) = (at.as_secs_f64(), lasted.as_secs_f64());
        let after = in_step_after.as_secs_f64();
        let text = format!(
            "{at:8.1} s  {host}  {fault:<22} {lasted:5.1} s, in step {after:.1} s later  {said}"
        );
        let json = format!(
            "{{\"at_s\":{at:.1},\"host\":{},\"fault\":{},\"lasted_s\":{lasted:.1},\
             \"in_step_after_s\":{after:.1},\"said\":{}}}",
            quoted(host),
            quoted(fault),
            quoted(said),
        );
        self.tell(text.trim_end(), &json);
    }

    /// Something else that happened: its kind, and what.
    pub(crate) fn event(&mut self, kind: &str, what: &str) {
        let at = self.now().as_secs_f64();
        let json =
            format!("{{\"at_s\":{at:.1},\"event\":{},\"what\":{}}}", quoted(kind), quoted(what));
        self.tell(&format!("{at:8.1} s  {kind}: {what}"), &json);
    }

    #[expect(clippy::print_stdout, reason = "the journal is the result of the command")]
    fn tell(&mut self, text: &str, json: &str) {
        println!("{}", if self.json { json } else { text });
        if let Some(log) = &mut self.log {
            // The run matters more than its record; standard output has it as well.
            let _written = writeln!(log, "{json}");
        }
    }
}
