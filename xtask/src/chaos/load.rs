//! A light load: payments by `soma send` to one node after the other. What the command reports as
//! finalized must stay so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::hosts::run;
use crate::hosts::sandbox::WORLD;
use crate::json::Json;

/// Pause between two payments of one payer.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a payment may take, in seconds; a node that is cut off finalizes nothing.
const SEND_MAX_S: &str = "45";

/// Payments that were reported: the number of the node, and the hash.
type Paid = Arc<Mutex<Vec<(usize, String)>>>;

/// Payers, each in a thread.
#[derive(Debug)]
pub(crate) struct Load {
    paid: Paid,
    /// Payments that no node confirmed in time. They may be finalized all the same.
    unanswered: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    payers: Vec<JoinHandle<()>>,
}

impl Load {
    /// A payer for each key, who pays `to` through the nodes at `urls` in turn.
    pub(crate) fn start(soma: &Path, keys: &[PathBuf], to: &str, urls: &[String]) -> Self {
        let mut load = Self {
            paid: Paid::default(),
            unanswered: Arc::default(),
            ends: Arc::default(),
            payers: Vec::new(),
        };
        for (number, key) in keys.iter().enumerate() {
            let (soma, key, to, urls) =
                (soma.to_owned(), key.clone(), to.to_owned(), urls.to_owned());
            let (paid, unanswered) = (Arc::clone(&load.paid), Arc::clone(&load.unanswered));
            let ends = Arc::clone(&load.ends);
            load.payers.push(std::thread::spawn(move || {
                // Payers begin at different nodes.
                let mut node = number * urls.len() / 2;
                while !ends.load(Ordering::Relaxed) {
                    node = (node + 1) % urls.len();
                    match pay(&soma, &key, &to, &urls[node]) {
                        Ok(hash) => {
                            paid.lock().unwrap_or_else(PoisonError::into_inner).push((node, hash));
                        }
                        Err(_) => drop(unanswered.fetch_add(1, Ordering::Relaxed)),
                    }
                    std::thread::sleep(PAUSE);
                }
            }));
        }
        load
    }

    /// The payments that were reported since this was asked last.
    pub(crate) fn reported(&self) -> Vec<(usize, String)> {
        std::mem::take(&mut *self.paid.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// Ends after the payments that are under way.
    pub(crate) fn end(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        for payer in self.payers.drain(..) {
            // A payer cannot panic; if one did, it has nothing more to report.
            let _ended = payer.join();
        }
    }
}

fn pay(soma: &Path, key: &Path, to: &str, url: &str) -> Result<String, String> {
    let mut command = Command::new("timeout");
    command.arg(SEND_MAX_S).arg(soma).args(["send", to, "0.001", "--json", "--url", url]);
    command.arg("--key").arg(key).env("SOMA_HOME", Path::new(WORLD).join("home"));
    Ok(Json::parse(&run(&mut command)?)?.get("hash").text().to_owned())
}
