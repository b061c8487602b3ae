//! The nodes of a local network with several validators: one process each, started and stopped
//! together.
//!
//! Each process runs `soma node run` on its folder and writes its log there. It reads a pipe from
//! this process and exits when the pipe closes, however this process ends. This module must never
//! end a process that it did not start.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use soma_codes::Code;
use soma_node::NodeFolder;
use soma_node::localnet::NodeEntry;
use soma_sdk::client::Client;

use crate::error::{Error, Result};
use crate::network;

/// Time for all nodes to answer.
const START_LIMIT: Duration = Duration::from_mins(2);
/// Time for a node to stop by itself.
const STOP_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// Lines of a log that are shown when a node did not start.
const LOG_LINES: usize = 5;

/// Running nodes.
#[derive(Debug)]
pub(crate) struct LocalNodes {
    nodes: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    folder: NodeFolder,
    url: String,
    /// `None` once it has exited.
    child: Option<Child>,
    pid: u32,
}

impl LocalNodes {
    /// Starts a node in each folder and waits until all answer.
    pub(crate) fn start(folders: Vec<NodeFolder>) -> Result<Self> {
        let nodes = folders.into_iter().map(Process::start);
        let mut nodes = Self { nodes: nodes.collect::<Result<_>>()? };
        network::block_on(nodes.answered())?;
        Ok(nodes)
    }

    async fn answered(&mut self) -> Result {
        let begun = Instant::now();
        for process in &mut self.nodes {
            let client = Client::new(&process.url)?;
            while client.status().await.is_err() {
                if process.ended().is_some() || begun.elapsed() > START_LIMIT {
                    return Err(process.failed());
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// URL, folder and process of each node.
    pub(crate) fn entries(&self) -> Vec<NodeEntry> {
        let entry = |process: &Process| NodeEntry {
            url: process.url.clone(),
            dir: process.folder.dir().to_path_buf(),
            pid: process.pid,
        };
        self.nodes.iter().map(entry).collect()
    }

    /// Index and status of the nodes that have exited since the last call.
    pub(crate) fn ended(&mut self) -> Vec<(usize, ExitStatus)> {
        let nodes = self.nodes.iter_mut().enumerate();
        nodes.filter_map(|(number, process)| Some((number, process.ended()?))).collect()
    }

    /// Whether every node has exited.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.iter().all(|process| process.child.is_none())
    }

    /// Stops all nodes and waits for them.
    pub(crate) fn stop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            drop(child.stdin.take());
        }
        let begun = Instant::now();
        for mut child in self.nodes.iter_mut().filter_map(|node| node.child.take()) {
            while begun.elapsed() < STOP_LIMIT && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(POLL);
            }
            // Fails if it has exited by itself, which is fine.
            let _ended = child.kill();
            let _status = child.wait();
        }
    }
}

impl Drop for LocalNodes {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Process {
    fn start(folder: NodeFolder) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(Code::NoProcess, format!("cannot start a node: {error}"))
        };
        let path = log_file(&folder);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|error| Error::file(&path, "write", &error))?;
        let program = std::env::current_exe().map_err(failed)?;
        let child = Command::new(program)
            .args(["node", "run", "--until-stdin-ends", "--dir"])
            .arg(folder.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        Ok(Self { url: folder.settings().url(), pid: child.id(), child: Some(child), folder })
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    fn failed(&self) -> Error {
        let path = log_file(&self.folder);
        let log = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        let message = format!("the node at {} did not start\n{last}", self.url);
        Error::new(Code::NodeStopped, message).hint(format!("see its log: {}", path.display()))
    }
}

fn log_file(folder: &NodeFolder) -> PathBuf {
    folder.dir().join("log")
}
