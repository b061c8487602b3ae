//! A node as a process on a host, which can be killed, paused and started again.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::host::Host;
use super::{http, run};
use crate::json::Json;

/// How long a node may take to end when it is asked to.
const END_MAX: Duration = Duration::from_mins(1);

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) host: Host,
    /// Its folder.
    pub(crate) dir: PathBuf,
    /// Where it logs, beside the host's disk: a full disk must not hide what the node says of it.
    pub(crate) log: PathBuf,
    soma: PathBuf,
    /// Variables of its environment.
    pub(crate) environment: Vec<(&'static str, PathBuf)>,
    child: Option<Child>,
}

impl Node {
    pub(crate) fn new(host: Host, soma: &Path, log: PathBuf) -> Self {
        let dir = host.dir.join("node");
        let soma = soma.to_owned();
        Self { host, dir, log, soma, environment: Vec::new(), child: None }
    }

    /// A command of the program on this host, with a result in JSON.
    pub(crate) fn soma(&self, arguments: &[&str]) -> Result<Json, String> {
        let mut command = self.host.command(&self.soma);
        command.args(arguments).arg("--json").env("SOMA_HOME", self.host.dir.join("home"));
        Json::parse(&run(&mut command)?)
    }

    pub(crate) fn start(&mut self) -> Result<(), String> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| format!("{}: {error}", self.log.display()))?;
        let mut command = self.host.command(&self.soma);
        command.args(["node", "run", "--dir"]).arg(&self.dir);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|error| error.to_string())?;
        self.child = Some(child);
        Ok(())
    }

    /// Sends a signal, if it runs.
    pub(crate) fn signal(&self, name: &str) -> Result<(), String> {
        let Some(child) = &self.child else { return Ok(()) };
        run(Command::new("kill").args(["-s", name, &child.id().to_string()])).map(drop)
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().map_err(|error| error.to_string())?;
        child.wait().map(drop).map_err(|error| error.to_string())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.signal("TERM")?;
        let begun = Instant::now();
        while self.child.is_some() && self.ended().is_none() {
            if begun.elapsed() > END_MAX {
                self.kill()?;
                return Err(format!("{} does not end when it is asked to", self.host.name));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// How its process ended, if it did so by itself since this was asked last.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status.to_string())
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Answer of its API.
    pub(crate) fn get(&self, path: &str) -> Result<Json, String> {
        http::get(&self.host.address, path)
    }

    /// URL of its API, for commands.
    pub(crate) fn url(&self) -> String {
        format!("http://{}:8645", self.host.address)
    }

    /// Memory of its process now, in bytes; 0 if it does not run.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let Some(child) = &self.child else { return 0 };
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// The last lines of its log.
    pub(crate) fn last_lines(&self, lines: usize) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}
