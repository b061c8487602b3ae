//! `soma doctor`: checks whether this machine can run a node, one line per check.
//!
//! It must never change anything, but for an object of its own in a node's cold store, which it
//! deletes. It needs no running node; with `--dir` it also checks a node's folder.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use soma_codes::{Code, Coded as _, Exit};
use soma_model::{CardInfo, DeviceChoice, DeviceFault, Error as ModelError, KernelChoice};
use soma_node::NodeFolder;
use soma_protocol::{ConsensusKey, Hash};
use soma_sdk::Trust;
use soma_sdk::api::{Contact, RefusedFor};
use soma_sdk::client::{Client, without_login};
use soma_sdk::keys::KeyFolder;

use crate::error::{Error, Result};
use crate::global::Global;
use crate::home::Home;
use crate::network;
use crate::output::Output;

/// Check whether this machine can run a node.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// A node's folder to check.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Free space below which a node's disk is soon full.
const DISK_BYTES_MIN: u64 = 10 << 30;
/// How far a peer's clock may differ: nodes refuse each other beyond five seconds.
const PEER_CLOCK_MS_MAX: u64 = 2_000;
/// How far the clock may be behind a finalized block.
const CLOCK_MS_MAX: u64 = 1_000;
const CONNECT: Duration = Duration::from_secs(3);

/// One line: what was checked, and the result.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    ok: bool,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Check {
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), ok: true, found: found.into(), hint: None }
    }

    fn problem(name: impl Into<String>, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name: name.into(), ok: false, found: found.into(), hint: Some(hint.into()) }
    }

    fn line(&self) -> String {
        let word = if self.ok { "ok      " } else { "problem " };
        let hint = self.hint.as_ref().map(|hint| format!("\n                  hint: {hint}"));
        format!("{word} {:<8} {}{}", self.name, self.found, hint.unwrap_or_default())
    }
}

impl Doctor {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let home = Home::find(global)?;
        let mut checks = vec![kernels(), device(CardInfo::find(0)), keys(&home.keys())];
        match &self.dir {
            Some(dir) => checks.extend(node(dir, global)),
            None => checks.push(disk(&std::env::temp_dir())),
        }
        checks.push(clock(global, output));
        let text: Vec<String> = checks.iter().map(Check::line).collect();
        output.result(text.join("\n"), &checks)?;
        let problems = checks.iter().filter(|check| !check.ok).count();
        if problems == 0 {
            return Ok(());
        }
        Err(Error::new(
            Code::Unhealthy,
            format!("{problems} of {} checks found a problem", checks.len()),
        )
        .hint("see the hint of each problem"))
    }
}

/// Whether the fast kernels equal the reference on this processor.
fn kernels() -> Check {
    match soma_model::Engine::new(KernelChoice::Auto, 1) {
        Ok(_) => Check::ok("kernels", "kernels match the reference bit for bit"),
        Err(error) => {
            Check::problem("kernels", error.to_string(), "do not validate or score on this machine")
        }
    }
}

/// Whether a card can compute scores, and why not. A processor always can, so only a card that
/// computes wrongly is a problem.
fn device(found: std::result::Result<CardInfo, ModelError>) -> Check {
    match found {
        Ok(CardInfo { index, name, free_bytes }) => Check::ok(
            "device",
            format!(
                "cuda:{index} ({name}, {} MiB free) computes scores, the same as this processor, \
                 with --device auto",
                free_bytes >> 20
            ),
        ),
        Err(ModelError::Device(fault)) if fault.is_absence() => {
            Check::ok("device", format!("this processor computes scores: {fault}"))
        }
        Err(error) => {
            let found = format!("this processor computes scores, no card: {}", reason(&error));
            let is_wrong = matches!(error, ModelError::Device(DeviceFault::Unequal { .. }));
            Check { ok: !is_wrong, ..Check::problem("device", found, error.hint()) }
        }
    }
}

/// The card that audits are to use, if one is named: without it, the node does not start.
fn audit_device(choice: DeviceChoice) -> Option<Check> {
    let DeviceChoice::Cuda(index) = choice else {
        return None;
    };
    Some(match CardInfo::find(index) {
        Ok(CardInfo { name, .. }) => Check::ok("audits", format!("{choice} ({name})")),
        Err(error) => Check::problem(
            "audits",
            format!("audits cannot use {choice}: {}", reason(&error)),
            format!("{}; or set audit_device to \"auto\" in config.toml", error.hint()),
        ),
    })
}

/// Why a card cannot compute.
fn reason(error: &ModelError) -> String {
    match error {
        ModelError::Device(fault) => fault.to_string(),
        error => error.to_string(),
    }
}

fn keys(folder: &KeyFolder) -> Check {
    let listed = folder.list().and_then(|keys| {
        keys.iter().try_for_each(|key| folder.check(&key.name))?;
        Ok(keys)
    });
    match listed {
        Ok(keys) => Check::ok(
            "keys",
            format!("{} in {}, readable only by this user", keys.len(), folder.path().display()),
        ),
        Err(error) => Check::problem("keys", error.to_string(), error.hint()),
    }
}

fn disk(dir: &Path) -> Check {
    match soma_os::disk::free_bytes(dir) {
        Ok(None) => Check::ok("disk", format!("not checked: {}", dir.display())),
        Ok(Some(bytes)) if bytes >= DISK_BYTES_MIN => {
            Check::ok("disk", format!("{} GiB free at {}", bytes >> 30, dir.display()))
        }
        Ok(Some(bytes)) => Check::problem(
            "disk",
            format!("{} MiB free at {}", bytes >> 20, dir.display()),
            "free some space: a full disk stops the node",
        ),
        Err(error) => Check::problem(
            "disk",
            format!("{}: {error}", dir.display()),
            "check that the folder exists",
        ),
    }
}

/// A node's folder, its ports and its peers.
fn node(dir: &Path, global: &Global) -> Vec<Check> {
    let mut checks = vec![disk(dir), keys(&KeyFolder::of(dir))];
    let (folder, key) = match open(dir, global) {
        Ok(opened) => opened,
        Err(error) => {
            checks.push(Check::problem("folder", error.message, error.hint));
            return checks;
        }
    };
    checks.push(Check::ok("folder", format!("a node of {}", folder.genesis().chain)));
    let settings = folder.settings();
    checks.extend(audit_device(settings.audit_device));
    checks.push(port("api", settings.api));
    checks.push(port("listen", settings.listen));
    for peer in &settings.peers {
        if let Some(address) = &peer.address {
            checks.push(reachable(address));
        }
    }
    checks.extend(certificate(&folder));
    checks.extend(cold_store(&folder));
    checks.extend(peers_about(&folder, key));
    checks.push(running(&folder));
    checks
}

/// The certificate of the API, if it has one.
fn certificate(folder: &NodeFolder) -> Option<Check> {
    folder.settings().tls.as_ref()?;
    Some(match folder.check_tls() {
        Ok(()) => Check::ok("tls", "the certificate of the API and its key fit"),
        Err(error) => Check::problem("tls", error.to_string(), error.hint()),
    })
}

/// The cold store of the weights files, if the node has one.
fn cold_store(folder: &NodeFolder) -> Option<Check> {
    folder.settings().weights.cold.as_ref()?;
    Some(match network::block_on(async { Ok(folder.check_cold_store().await) }) {
        Ok(Ok(())) => Check::ok("cold", "the cold store writes, reads, lists and deletes"),
        Ok(Err(error)) => Check::problem("cold", error.to_string(), error.hint()),
        Err(error) => Check::problem("cold", error.message, error.hint),
    })
}

/// The folder of a node whose files can all be used, and its consensus key.
fn open(dir: &Path, global: &Global) -> Result<(NodeFolder, ConsensusKey)> {
    let folder = NodeFolder::open(dir)?;
    let passphrase = network::node_passphrase(dir, global)?;
    let config = folder.config(passphrase.as_ref().map(|text| text.as_str()))?;
    Ok((folder, config.consensus.public()))
}

/// What the APIs of the peers say about this node: whether they accept it, and what time it is.
fn peers_about(folder: &NodeFolder, key: ConsensusKey) -> Vec<Check> {
    let chain = folder.genesis().chain_id();
    let trust = match folder.trust() {
        Ok(trust) => trust,
        Err(error) => return vec![Check::problem("ca", error.to_string(), error.hint())],
    };
    let urls = folder.settings().peers.iter().filter_map(|peer| peer.url.as_deref());
    urls.flat_map(|url| peer_about(url, &trust, &key, chain)).collect()
}

fn peer_about(url: &str, trust: &Trust, key: &ConsensusKey, chain: Hash) -> Vec<Check> {
    let asked_ms = soma_os::clock::now_ms();
    let client = Client::trusting(url, trust);
    let url = &without_login(url);
    let contacts = network::block_on(async {
        let client = client?.without_retries();
        let answer = tokio::time::timeout(CONNECT, client.contacts()).await;
        answer
            .map_err(|_| Error::new(Code::Network, format!("{url} does not answer in time")))?
            .map_err(Error::from)
    });
    let now_ms = soma_os::clock::now_ms();
    let contacts = match contacts {
        Ok(contacts) => contacts,
        Err(error) => {
            let hint = match error.exit {
                Exit::Verification => error.hint.as_str(),
                _ => "check the url under [[peers]] in config.toml: weights files come from there",
            };
            return vec![Check::problem("peer", format!("{url}: {}", error.message), hint)];
        }
    };
    let ours = contacts.of(key);
    let refused = ours.and_then(Contact::refused_now);
    let check = if contacts.chain_id.0 != chain {
        Check::problem(
            "peer",
            format!("{url} belongs to another chain"),
            "use the genesis file of the network that you want to join",
        )
    } else if refused == Some(RefusedFor::Twice) {
        let found = format!("{url} refuses a second node with the key of this one");
        Check::problem("peer", found, Code::KeyRunsTwice.hint())
    } else if refused == Some(RefusedFor::Clock) {
        let found = format!("{url} refuses this node: their clocks differ");
        Check::problem("peer", found, Code::ClockWrong.hint())
    } else if ours.is_none_or(|ours| !ours.expected) {
        let found = format!("{url} does not know the key of this node");
        Check::problem("peer", found, Code::NotAdmitted.hint())
    } else {
        let connected = ours.is_some_and(|ours| ours.connected);
        let now = if connected { "is connected to this node" } else { "accepts this node" };
        Check::ok("peer", format!("{url} {now}, at block {}", *contacts.height))
    };
    let difference_ms = (*contacts.now_ms).abs_diff(asked_ms.midpoint(now_ms));
    let clock = if difference_ms <= PEER_CLOCK_MS_MAX {
        Check::ok("clock", format!("as that of {url}"))
    } else {
        let side = if *contacts.now_ms > now_ms { "behind" } else { "ahead of" };
        let found = format!("{difference_ms} ms {side} that of {url}");
        Check::problem("clock", found, Code::ClockWrong.hint())
    };
    vec![check, clock]
}

/// What the node says about itself, if it runs.
fn running(folder: &NodeFolder) -> Check {
    let status = network::block_on(async {
        let client = folder.own_api()?;
        let status = tokio::time::timeout(CONNECT, client.status()).await;
        status
            .map_err(|_| Error::new(Code::Network, "it does not answer in time"))?
            .map_err(Error::from)
    });
    match status {
        Ok(status) => match status.troubles.first() {
            None => Check::ok("node", format!("runs and is ready, at block {}", *status.height)),
            Some(worst) => {
                let messages: Vec<_> =
                    status.troubles.iter().map(|trouble| trouble.message.as_str()).collect();
                Check::problem("node", messages.join("; "), worst.hint.clone())
            }
        },
        Err(error) if error.code == Code::NotReady => {
            Check::problem("node", error.message, error.hint)
        }
        Err(_) => {
            let url = folder.settings().url();
            Check::ok("node", format!("does not run: nothing answers at {url}"))
        }
    }
}

fn port(name: &str, address: SocketAddr) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            Check::ok(name, format!("{address} is in use (by this node, if it is running)"))
        }
        Err(error) => Check::problem(
            name,
            format!("{address}: {error}"),
            "choose an address of this machine in config.toml",
        ),
    }
}

fn reachable(address: &str) -> Check {
    let connect = || -> std::io::Result<()> {
        let resolved = address.to_socket_addrs()?.next();
        let resolved = resolved.ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        TcpStream::connect_timeout(&resolved, CONNECT).map(drop)
    };
    match connect() {
        Ok(()) => Check::ok("peer", format!("{address} answers")),
        Err(error) => Check::problem(
            "peer",
            format!("{address}: {error}"),
            "check that it is running and that no firewall blocks the connection",
        ),
    }
}

/// This machine's clock against the last finalized block of the node at `--url`: a quorum has
/// accepted that block's time.
fn clock(global: &Global, output: &Output) -> Check {
    let client = network::client(global, output);
    let status =
        client.and_then(|client: Client| network::block_on(async { Ok(client.status().await?) }));
    let Ok(status) = status else {
        return Check::ok(
            "clock",
            format!("not checked: no node answers at {}", without_login(&global.url)),
        );
    };
    let behind_ms = status.timestamp_ms.0.saturating_sub(soma_os::clock::now_ms());
    if behind_ms <= CLOCK_MS_MAX {
        Check::ok("clock", format!("not behind block {}", status.height))
    } else {
        Check::problem(
            "clock",
            format!("{behind_ms} ms behind block {}", status.height),
            "synchronize the clock with NTP: this node votes late on blocks",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_cannot_compute_is_told_with_the_reason_and_what_to_do() {
        let failed = DeviceFault::Failed { call: "cuInit", reason: "unknown error".to_owned() };
        let compiled = DeviceFault::Kernels { reason: "unsupported toolchain".to_owned() };
        let differs = DeviceFault::Unequal { name: "X1".to_owned(), what: "products" };
        for (fault, ok, reason, hint) in [
            (DeviceFault::NoDriver, true, "no NVIDIA driver is installed", None),
            (failed, true, "unknown error", Some("nvidia-smi")),
            (compiled, true, "cannot compile the kernels: unsupp", Some("update NVIDIA's driver")),
            (DeviceFault::OutOfMemory, true, "too little free memory", Some("nvidia-smi")),
            (differs, false, "`X1` does not compute as the reference does", Some("report it")),
        ] {
            let check = device(Err(fault.into()));
            assert_eq!(check.ok, ok, "{check:?}");
            assert!(check.found.contains(reason), "{check:?}");
            assert!(check.found.starts_with("this processor computes scores"), "{check:?}");
            assert_eq!(check.hint.is_some(), hint.is_some(), "{check:?}");
            assert!(hint.is_none_or(|hint| check.line().contains(hint)), "{check:?}");
        }
    }
}
