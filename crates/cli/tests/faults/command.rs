//! A command as a process, whose every end is a success, or an error with a code and a hint.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support;

/// The longest time that a command may take once nothing fails anymore.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A process and what it has said so far.
pub(crate) struct Running {
    child: Child,
    killed: bool,
    signaled: bool,
    printed: Reading,
    said: Reading,
}

/// How a process has ended.
#[derive(Debug)]
pub(crate) enum End {
    Success,
    /// By an error with this code.
    Failure(String),
    /// By the test.
    Killed,
}

/// A stream that a thread reads to its end.
struct Reading {
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Reading {
    fn start(mut stream: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let heard = text.clone();
        let thread = std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 14];
            while let Ok(length @ 1..) = stream.read(&mut bytes) {
                heard.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        Self { text, thread: Some(thread) }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Running {
    /// Starts `soma` with these arguments, for JSON. It outlives a limit of file sizes, which
    /// stands for a full disk.
    pub(crate) fn start(home: &Path, folder: &Path, arguments: &[&str]) -> Self {
        let soma = support::command(home);
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(soma.get_program());
        for (name, value) in soma.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(folder).args(arguments).args(["--no-progress", "--json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let printed = Reading::start(child.stdout.take().unwrap());
        let said = Reading::start(child.stderr.take().unwrap());
        Self { child, killed: false, signaled: false, printed, said }
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    pub(crate) fn printed(&self) -> String {
        self.printed.text()
    }

    /// What it has said besides.
    pub(crate) fn said(&self) -> String {
        self.said.text()
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.killed = true;
        // It may have ended.
        let _ended = self.child.kill();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&mut self, name: &str) {
        self.signaled = true;
        let pid = self.child.id().to_string();
        // It may have ended.
        let _ended = Command::new("kill").args([name, &pid]).stderr(Stdio::null()).status();
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<End> {
        let status = self.child.try_wait().unwrap()?;
        self.printed.end();
        self.said.end();
        Some(self.judge(status))
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> End {
        let begun = Instant::now();
        loop {
            if let Some(end) = self.ended() {
                return end;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end; told:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn judge(&self, status: ExitStatus) -> End {
        let said = self.said();
        assert!(!said.contains("panicked"), "{said}");
        if status.success() {
            return End::Success;
        }
        // A signal may come before there is anything to say.
        if status.code().is_none() && (self.killed || (self.signaled && said.is_empty())) {
            return End::Killed;
        }
        // With `--json`, an error is a line of JSON.
        let error = said.lines().rev().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let text = |name: &str| line["error"][name].as_str().map(str::to_owned);
            Some((text("code")?, text("hint")?))
        });
        let (code, hint) = error.unwrap_or_else(|| panic!("{status} unexplained; told:\n{said}"));
        assert!(!hint.is_empty(), "{status} without a hint; told:\n{said}");
        End::Failure(code)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _ended = self.child.wait();
    }
}
