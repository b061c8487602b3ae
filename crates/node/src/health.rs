//! What a node knows about its own condition: the one place that `/readyz`, `/v1/status`, the
//! metrics, the log and `soma doctor` have it from.
//!
//! A message names nodes by the beginning of their keys: it is public, and addresses and paths are
//! not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use soma_codes::{Code, Coded};
use soma_engine::{Contact, Contacts, EngineError, KeyUse, RefusedFor, Unleased};
use soma_os::clock::now_ms;
use soma_protocol::record::NextRules;
use soma_protocol::{Address, ConsensusKey, RulesRange, read};
use soma_sdk::Text;
use soma_sdk::api as types;
use soma_sdk::figures::span;
use soma_store::StoreError;

use crate::certificates::Certificates;
use crate::chain::Chain;
use crate::duties::Duties;
use crate::error::engine_code;
use crate::peers::{Heard, PeerNews};
use crate::shutdown::Shutdown;

/// Age of the last finalized block beyond which a node is not ready.
const BLOCK_AGE_MAX_MS: u64 = 30_000;
/// Time after the start in which a network of one need not have made a block.
const START: Duration = Duration::from_secs(30);
/// How many blocks a node may be behind: a moment of a busy network.
const BEHIND_MAX: u64 = 16;
/// How far a clock may differ: beyond it, nodes refuse each other.
const CLOCK_MS_MAX: u64 = 5_000;
/// How far the clock may be behind the last block: beyond it, this node votes late.
const BEHIND_BLOCK_MS_MAX: u64 = 1_000;
/// Time after the start in which the peers may still know connections of before it.
const OWN_CONNECTIONS: Duration = Duration::from_secs(10);
/// How long a node may wait for the leases of its key before it says so: after a start or a moment
/// without connections it takes half as long.
const UNLEASED: Duration = Duration::from_secs(12);
/// How long a refused connection counts.
const RECENT: Duration = Duration::from_secs(30);
/// Free space below which the disk is almost full, in bytes.
const DISK_BYTES_MIN: u64 = 256 << 20;
/// Peers that a message names.
const NAMED_MAX: usize = 4;
/// The pause between two looks at the own condition.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Something about this node that its operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// Whether the node cannot serve because of it.
    pub(crate) unready: bool,
}

impl Trouble {
    fn new(code: Code, unready: bool, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), unready }
    }

    /// As the API says it.
    pub(crate) fn described(&self) -> types::Trouble {
        types::Trouble {
            code: Text(self.code),
            message: self.message.clone(),
            hint: self.code.hint().to_owned(),
            unready: self.unready,
        }
    }
}

/// What a node knows before it has a chain: the other nodes that its settings name, and what is
/// heard of them.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// The nodes that settings and genesis name, and whether each has an address.
    pub(crate) peers: BTreeMap<ConsensusKey, bool>,
    /// Those of the settings, whose word is taken.
    pub(crate) trusted: Arc<BTreeSet<ConsensusKey>>,
    pub(crate) contacts: Contacts,
    pub(crate) news: PeerNews,
    /// The certificate of its API, if it has one.
    pub(crate) certificates: Option<Arc<Certificates>>,
    /// When the node was started.
    pub(crate) started: Instant,
}

impl Surroundings {
    /// What the operator of a node that still starts should know.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let contacts = self.contacts.all();
        let condition = Condition {
            now_ms: now_ms(),
            running: self.started.elapsed(),
            has_progressed: false,
            height: 0,
            known: 0,
            block_ms: 0,
            peers: &self.peers,
            trusted: &self.trusted,
            connected: contacts.values().filter(|contact| contact.connected.is_some()).count(),
            contacts,
            news: self.news.fresh(),
            watching: None,
            key_use: KeyUse::default(),
            fallback: None,
            barred: None,
            free_bytes: None,
        };
        let (clock, twice) = (condition.clock(false), condition.twice(false));
        let troubles = clock.into_iter().chain(twice).chain(condition.alone());
        troubles.chain(self.certificate()).collect()
    }

    fn certificate(&self) -> Option<Trouble> {
        let message = self.certificates.as_ref()?.trouble()?;
        Some(Trouble::new(Code::BadTlsFiles, false, message))
    }

    /// Keeps the certificate of the API up to date, forever.
    pub(crate) async fn follow_certificates(&self) {
        match &self.certificates {
            Some(certificates) => Arc::clone(certificates).follow().await,
            None => std::future::pending().await,
        }
    }
}

pub(crate) struct Health {
    pub(crate) chain: Arc<Chain>,
    pub(crate) shutdown: Shutdown,
    pub(crate) around: Surroundings,
    /// The folder whose disk must not become full.
    pub(crate) dir: PathBuf,
    /// The last block when the node was started.
    pub(crate) started_at: u64,
    pub(crate) duties: Arc<Duties>,
}

impl Health {
    /// Why the node stopped, once it has.
    pub(crate) fn stopped(&self) -> Option<NodeFailure> {
        self.chain.failure().map(|failure| NodeFailure::of(&failure))
    }

    /// Why the node is not ready, if it is not.
    pub(crate) fn not_ready(&self) -> Option<Trouble> {
        let unready: Vec<_> =
            self.troubles().into_iter().filter(|trouble| trouble.unready).collect();
        let first = unready.first()?.clone();
        let messages: Vec<_> = unready.into_iter().map(|trouble| trouble.message).collect();
        Some(Trouble { message: messages.join("; "), ..first })
    }

    /// Age of the last finalized block by this machine's clock; `None` before the first block.
    pub(crate) fn block_age_ms(&self) -> Option<u64> {
        let block = self.chain.history.block(self.chain.height()).ok()??;
        Some(now_ms().saturating_sub(block.timestamp_ms))
    }

    pub(crate) fn peers_connected(&self) -> usize {
        self.chain.engine().connected().len()
    }

    /// Everything that its operator should know, the worst first.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        if self.shutdown.has_begun() {
            return vec![Trouble::new(Code::NotReady, true, "the node is stopping")];
        }
        if let Some(failure) = self.chain.failure() {
            return vec![stopped(&failure)];
        }
        let height = self.chain.height();
        let block = self.chain.history.block(height).ok().flatten();
        let engine = self.chain.engine();
        let free_bytes = soma_os::disk::free_bytes(&self.dir).ok().flatten();
        let condition = Condition {
            now_ms: now_ms(),
            running: self.around.started.elapsed(),
            has_progressed: height > self.started_at,
            height,
            known: engine.known(),
            block_ms: block.map_or(self.chain.genesis.timestamp_ms, |block| block.timestamp_ms),
            peers: &self.around.peers,
            trusted: &self.around.trusted,
            connected: engine.connected().len(),
            contacts: self.around.contacts.all(),
            news: self.around.news.fresh(),
            watching: engine.watching().map(|watching| watching.to_string()),
            key_use: engine.key_use(),
            fallback: engine.fallback(),
            barred: self.chain.read(|state, _| self.duties.keys.barred(state)),
            free_bytes,
        };
        let troubles = condition.troubles().into_iter().chain(self.around.certificate());
        troubles
            .chain(self.cold_store())
            .chain(self.other_rules().map(|other| other.trouble()))
            .collect()
    }

    /// What the cold store of weights files does not do.
    fn cold_store(&self) -> Vec<Trouble> {
        let troubles = self.duties.weights.cold().map(|cold| cold.troubles()).unwrap_or_default();
        troubles.into_iter().map(|(code, message)| Trouble::new(code, false, message)).collect()
    }

    /// The rules that are scheduled, if this software does not execute them.
    fn other_rules(&self) -> Option<OtherRules> {
        let executed = self.chain.executed;
        self.chain.read(|state, _| {
            let next = read::rules(state).next?;
            let epoch_ms = read::params(state).epoch_ms;
            let other = OtherRules { next, epoch: read::clock(state).epoch.0, epoch_ms, executed };
            (!executed.contains(next.version)).then_some(other)
        })
    }

    /// What the node knows about its connections, as the API says it.
    pub(crate) fn contacts(&self) -> types::Contacts {
        let now = SystemTime::now();
        let ago = |at: SystemTime| {
            let ago = now.duration_since(at).unwrap_or_default();
            Text(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX))
        };
        let describe = |(key, contact): (ConsensusKey, Contact)| types::Contact {
            consensus_key: Text(soma_protocol::Hash(key.0)),
            connected: contact.connected.is_some(),
            expected: contact.is_expected,
            refused: contact.refused.map(|(_, why)| match why {
                RefusedFor::Unknown => types::RefusedFor::Unknown,
                RefusedFor::Twice => types::RefusedFor::Twice,
                RefusedFor::Clock => types::RefusedFor::Clock,
            }),
            refused_ago_ms: contact.refused.map(|(at, _)| ago(at)),
            turned_away_ago_ms: contact.turned_away.map(ago),
        };
        types::Contacts {
            chain_id: Text(self.chain.id),
            now_ms: Text(now_ms()),
            height: Text(self.chain.height()),
            nodes: self.around.contacts.all().into_iter().map(describe).collect(),
        }
    }

    /// Logs each trouble when it begins and when it ends.
    pub(crate) async fn watch(self: Arc<Self>) {
        tokio::join!(log_troubles(|| self.troubles()), self.log_other_rules());
    }

    /// Logs in every epoch that other software is needed, forever; when that begins, as with any
    /// trouble, it is logged already.
    async fn log_other_rules(&self) {
        let mut known = None;
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let other = self.other_rules();
            let epoch = other.as_ref().map(|other| other.epoch);
            if let Some(other) = other.filter(|_| known.is_some() && known != epoch) {
                let Trouble { code, message, .. } = other.trouble();
                tracing::warn!(code = code.as_str(), hint = code.hint(), "{message}");
            }
            known = epoch;
        }
    }
}

/// Rules that are scheduled and that this software does not execute.
struct OtherRules {
    next: NextRules,
    /// The running epoch, and the length of one; 0 if phases end by command.
    epoch: u32,
    epoch_ms: u64,
    executed: RulesRange,
}

impl OtherRules {
    fn trouble(&self) -> Trouble {
        let Self { next: NextRules { version, from }, epoch, epoch_ms, executed } = self;
        let left = from.0.saturating_sub(*epoch);
        let epochs = if left == 1 { "the next epoch".into() } else { format!("{left} epochs on") };
        let within = match epoch_ms.saturating_mul(left.into()) {
            0 => String::new(),
            most => format!(", within {}", span(most)),
        };
        let message = format!(
            "the network follows rules {version} from epoch {from} on ({epochs}{within}), and this \
             software executes {executed}: this node stops there"
        );
        Trouble::new(Code::RulesUnknown, false, message)
    }
}

/// Logs each trouble when it begins and when it ends, forever.
pub(crate) async fn log_troubles(troubles: impl Fn() -> Vec<Trouble>) {
    let mut known: BTreeSet<&'static str> = BTreeSet::new();
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let troubles = troubles();
        for trouble in &troubles {
            if known.insert(trouble.code.as_str()) {
                let (code, hint) = (trouble.code.as_str(), trouble.code.hint());
                tracing::warn!(code, hint, "{}", trouble.message);
            }
        }
        known.retain(|code| {
            let lasts = troubles.iter().any(|trouble| trouble.code.as_str() == *code);
            if !lasts {
                tracing::info!(code, "this trouble has ended");
            }
            lasts
        });
    }
}

/// Why a node stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NodeFailure {
    code: Code,
    message: String,
}

impl NodeFailure {
    fn of(failure: &EngineError) -> Self {
        let code = match engine_code(failure) {
            Code::EngineError => Code::NodeStopped,
            code => code,
        };
        Self { code, message: failure.to_string() }
    }
}

impl Coded for NodeFailure {
    fn code(&self) -> Code {
        self.code
    }
}

/// What is known about this node at one moment.
struct Condition<'a> {
    now_ms: u64,
    running: Duration,
    /// Whether a block was finalized since the node was started.
    has_progressed: bool,
    height: u64,
    /// The last block that is known to be finalized.
    known: u64,
    /// Time of the last finalized block, or of genesis.
    block_ms: u64,
    peers: &'a BTreeMap<ConsensusKey, bool>,
    trusted: &'a BTreeSet<ConsensusKey>,
    connected: usize,
    contacts: BTreeMap<ConsensusKey, Contact>,
    news: BTreeMap<ConsensusKey, Heard>,
    watching: Option<String>,
    key_use: KeyUse,
    fallback: Option<&'a str>,
    /// The validator whose duties this node may not send, and the key that it has.
    barred: Option<(Address, Address)>,
    free_bytes: Option<u64>,
}

impl Condition<'_> {
    fn troubles(&self) -> Vec<Trouble> {
        let current = self.is_current();
        let mut troubles = Vec::new();
        troubles.extend(self.clock(current));
        troubles.extend(self.beside(current).or_else(|| self.twice(current)));
        troubles.extend(self.alone().filter(|_| !current));
        troubles.extend(self.behind(current));
        if !current && !troubles.iter().any(|trouble| trouble.unready) {
            troubles.push(self.halted());
        }
        let overtaken = self.key_use.overtaken.map(|overtaken| overtaken.to_string());
        let watching = overtaken.or_else(|| self.watching.clone());
        troubles.extend(watching.map(|why| Trouble::new(Code::VotesLost, false, why)));
        troubles.extend(self.unleased());
        troubles.extend(self.fallback.map(|why| Trouble::new(Code::JoinedAnotherWay, false, why)));
        if let Some((validator, key)) = self.barred {
            let message = format!(
                "this node votes for validator {validator}, but may not send its duties: {key} is \
                 not its duty key"
            );
            troubles.push(Trouble::new(Code::DutyKeyUnknown, false, message));
        }
        if let Some(free) = self.free_bytes.filter(|free| *free < DISK_BYTES_MIN) {
            let message = format!("the disk has {} MiB left", free >> 20);
            troubles.push(Trouble::new(Code::DiskLow, false, message));
        }
        troubles
    }

    fn block_age_ms(&self) -> u64 {
        self.now_ms.abs_diff(self.block_ms)
    }

    /// Whether the node takes part in finalizing blocks: it finalized one a moment ago.
    fn is_current(&self) -> bool {
        let is_recent = self.block_age_ms() <= BLOCK_AGE_MAX_MS;
        if self.peers.is_empty() {
            return is_recent || self.running < START;
        }
        is_recent && self.has_progressed
    }

    /// What the clock of this machine is compared with: the last block, whose time a quorum has
    /// accepted, and the clocks of the peers.
    fn clock(&self, current: bool) -> Option<Trouble> {
        let behind_block_ms = self.block_ms.saturating_sub(self.now_ms);
        if self.height > 0 && behind_block_ms > BEHIND_BLOCK_MS_MAX {
            let message = format!(
                "the clock of this machine is {} behind block {}, whose time the network accepted",
                span(behind_block_ms),
                self.height
            );
            let unready = !current || behind_block_ms > CLOCK_MS_MAX;
            return Some(Trouble::new(Code::ClockWrong, unready, message));
        }
        let mut ahead_ms: Vec<_> = self.news.values().map(|heard| heard.clock_ahead_ms).collect();
        if ahead_ms.is_empty() {
            let noted = self.contacts.values().filter(|contact| contact.is_expected);
            ahead_ms.extend(noted.filter_map(|contact| {
                let (at, _) = contact.refused.filter(|(_, why)| *why == RefusedFor::Clock)?;
                contact.clock_ahead_ms.filter(|_| is_recent(at))
            }));
        }
        ahead_ms.sort_unstable();
        let peers_ahead_ms = *ahead_ms.get(ahead_ms.len() / 2)?;
        if peers_ahead_ms.unsigned_abs() <= CLOCK_MS_MAX {
            return None;
        }
        let direction = if peers_ahead_ms > 0 { "behind" } else { "ahead of" };
        let (time, peers) = (span(peers_ahead_ms.unsigned_abs()), plural(ahead_ms.len()));
        let message = format!("the clock of this machine is {time} {direction} {peers}");
        Some(Trouble::new(Code::ClockWrong, !current, message))
    }

    /// Whether another node runs with this node's key. The word of one node that the settings do
    /// not name is not enough: it may be anybody's.
    fn twice(&self, current: bool) -> Option<Trouble> {
        let mut witnesses = self.news.iter().filter(|(key, heard)| {
            // It says that this key is connected, and ended a connection of this node after that.
            let contact = self.contacts.get(key);
            let turned_away = contact.and_then(|contact| contact.turned_away);
            let elsewhere = heard.knows_connected
                && turned_away.is_some_and(|at| at > heard.time)
                && self.running > OWN_CONNECTIONS;
            heard.refused == Some(types::RefusedFor::Twice) || elsewhere
        });
        let (witness, heard) = witnesses.next()?;
        if !self.trusted.contains(witness) && witnesses.next().is_none() {
            return None;
        }
        let what = match heard.refused {
            Some(types::RefusedFor::Twice) => "refuses another node with the key of this one",
            _ => "is connected to another node with the key of this one",
        };
        let message = format!("the same key runs twice: peer {} {what}", short(witness));
        Some(Trouble::new(Code::KeyRunsTwice, !current, message))
    }

    /// Whether another process is alive that runs with this node's key, as its signature proves.
    fn beside(&self, current: bool) -> Option<Trouble> {
        let other = self.key_use.other?;
        let since = span(self.now_ms.saturating_sub(other.started_ms));
        let whose = short(&other.through);
        let outcome = match self.key_use {
            KeyUse { unleased: None, overtaken: None, .. } => "this one votes, the other must not",
            _ => "this one does not vote",
        };
        let message = format!(
            "the same key runs twice: another node with it started {since} ago, as peer {whose} \
             told; {outcome}"
        );
        Some(Trouble::new(Code::KeyRunsTwice, !current, message))
    }

    /// Whether the other validators have not let this node vote for a while.
    fn unleased(&self) -> Option<Trouble> {
        let Unleased { held, needed, .. } = self
            .key_use
            .unleased
            .filter(|unleased| unleased.lasts >= UNLEASED && self.connected > 0)?;
        let message = format!(
            "it does not vote: {held} of the {needed} validators that it takes let it vote with \
             its key"
        );
        Some(Trouble::new(Code::NoLeases, false, message))
    }

    /// Whether a peer ended a connection of this node a moment ago.
    fn turned_away(&self, key: &ConsensusKey) -> bool {
        let contact = self.contacts.get(key);
        contact.and_then(|contact| contact.turned_away).is_some_and(is_recent)
    }

    /// Why nobody is connected, if nobody is.
    fn alone(&self) -> Option<Trouble> {
        if self.connected > 0 || self.peers.is_empty() {
            return None;
        }
        let mut code = Code::NoPeers;
        let mut reasons = Vec::new();
        for (key, has_address) in self.peers.iter().take(NAMED_MAX) {
            let heard = self.news.get(key);
            let turned_away = self.turned_away(key);
            let why = match heard {
                Some(heard) if !heard.same_chain => "belongs to another chain",
                Some(Heard { refused: Some(types::RefusedFor::Clock), .. }) => {
                    "refuses this node: their clocks differ"
                }
                Some(Heard { expects: false, .. }) => "does not know the key of this node",
                _ if turned_away => {
                    "ends the connection: it does not know the key of this node, their clocks \
                     differ, or the key runs twice"
                }
                _ if !has_address => "has to connect to this node, and has not",
                Some(_) => "answers at its API, but not at its address",
                None => "cannot be reached",
            };
            let refuses = turned_away || heard.is_some_and(|heard| !heard.expects);
            code = if refuses { Code::NotAdmitted } else { code };
            reasons.push(format!("{} {why}", short(key)));
        }
        let heights = self.news.values().filter(|heard| heard.same_chain);
        let there = heights.map(|heard| heard.height).max();
        let there = there.filter(|there| *there > self.height).map_or_else(String::new, |there| {
            format!("; it is at block {}, they are at block {there}", self.height)
        });
        let reasons = reasons.join(", ");
        let message = match self.peers.len() {
            1 => format!("its only peer is not connected: {reasons}{there}"),
            peers => format!("none of its {peers} peers is connected: {reasons}{there}"),
        };
        Some(Trouble::new(code, true, message))
    }

    /// How far the node is behind, if it is.
    fn behind(&self, current: bool) -> Option<Trouble> {
        let heard = self.news.iter().filter(|(_, heard)| heard.same_chain && !current);
        let (trusted, others): (Vec<_>, Vec<_>) =
            heard.partition(|(key, _)| self.trusted.contains(*key));
        let claimed = trusted.iter().map(|(_, heard)| heard.height).max().unwrap_or(0);
        // Some of the others may claim anything.
        let mut heights: Vec<_> = others.iter().map(|(_, heard)| heard.height).collect();
        heights.sort_unstable();
        let middle = heights.get(heights.len().saturating_sub(1) / 2).copied().unwrap_or(0);
        let last = self.known.max(claimed).max(middle);
        let is_behind = last > self.height + BEHIND_MAX && (self.connected > 0 || current);
        let message = format!("it is catching up: at block {} of {last}", self.height);
        is_behind.then(|| Trouble::new(Code::Behind, true, message))
    }

    /// The network finalizes nothing, or nothing of it arrives here.
    fn halted(&self) -> Trouble {
        let age = span(self.block_age_ms());
        let begins_ms = self.block_ms.saturating_sub(self.now_ms);
        if self.height == 0 && begins_ms > 0 {
            let message = format!("the network begins in {}", span(begins_ms));
            return Trouble::new(Code::NotReady, true, message);
        }
        let reason = match (self.peers.len(), self.connected) {
            _ if self.running < START => "the node has just started",
            (0, _) => "it cannot produce blocks; see its log",
            _ => "the network has halted, or this node is catching up",
        };
        let peers = match self.peers.len() {
            0 => String::new(),
            named => format!("; {} of its {named} peers are connected", self.connected),
        };
        let message = match (self.height, self.has_progressed) {
            (0, _) => format!("no block is finalized yet: {reason}{peers}"),
            _ => format!("the last finalized block is {age} old: {reason}{peers}"),
        };
        Trouble::new(Code::NetworkHalted, true, message)
    }
}

/// That the node has stopped by itself.
fn stopped(failure: &EngineError) -> Trouble {
    let code = engine_code(failure);
    let message = match failure {
        // Their paths are nobody else's business.
        EngineError::Damaged { .. }
        | EngineError::Store(StoreError::Io { .. } | StoreError::DamagedFile { .. }) => {
            code.explanation().to_owned()
        }
        failure => failure.to_string(),
    };
    Trouble::new(code, true, message)
}

fn is_recent(at: SystemTime) -> bool {
    SystemTime::now().duration_since(at).is_ok_and(|ago| ago < RECENT)
}

fn plural(peers: usize) -> String {
    match peers {
        1 => "that of a peer".to_owned(),
        peers => format!("those of {peers} peers"),
    }
}

/// The beginning of a key.
fn short(key: &ConsensusKey) -> String {
    key.to_string().chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::time::{Duration, Instant, SystemTime};

    use soma_engine::{Contact, EngineError, KeyUse, OtherProcess, Overtaken, Remedy, Unleased};
    use soma_protocol::{Address, ConsensusKey};
    use soma_sdk::api::RefusedFor;
    use soma_store::StoreError;

    use super::{Code, Condition, Heard, Trouble, stopped};

    const PEER: ConsensusKey = ConsensusKey([7; 32]);
    const NOW_MS: u64 = 10_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    static TRUSTED: LazyLock<BTreeSet<ConsensusKey>> = LazyLock::new(|| BTreeSet::from([PEER]));

    /// A node with one peer, to which it is connected, at a block of a second ago.
    fn healthy(peers: &BTreeMap<ConsensusKey, bool>) -> Condition<'_> {
        Condition {
            now_ms: NOW_MS,
            running: Duration::from_secs(100),
            has_progressed: true,
            height: 50,
            known: 50,
            block_ms: NOW_MS - 1_000,
            peers,
            trusted: &TRUSTED,
            connected: peers.len(),
            contacts: BTreeMap::new(),
            news: BTreeMap::new(),
            watching: None,
            key_use: KeyUse::default(),
            fallback: None,
            barred: None,
            free_bytes: Some(1 << 40),
        }
    }

    /// The same, but nobody is connected and no block arrives.
    fn alone(peers: &BTreeMap<ConsensusKey, bool>) -> Condition<'_> {
        Condition { connected: 0, has_progressed: false, ..healthy(peers) }
    }

    fn heard() -> Heard {
        Heard {
            at: Instant::now(),
            time: SystemTime::now() - Duration::from_secs(1),
            clock_ahead_ms: 0,
            height: 50,
            same_chain: true,
            knows_connected: false,
            expects: true,
            refused: None,
        }
    }

    fn turned_away() -> BTreeMap<ConsensusKey, Contact> {
        let mut contact = Contact::default();
        contact.turned_away = Some(SystemTime::now());
        BTreeMap::from([(PEER, contact)])
    }

    fn one_peer() -> BTreeMap<ConsensusKey, bool> {
        BTreeMap::from([(PEER, true)])
    }

    fn worst(condition: &Condition<'_>) -> Trouble {
        condition.troubles().into_iter().next().expect("there is a trouble")
    }

    #[test]
    fn a_node_that_takes_part_has_no_trouble() {
        let peers = one_peer();
        assert_eq!(healthy(&peers).troubles(), []);
        let nobody = BTreeMap::new();
        let new = Condition { has_progressed: false, ..healthy(&nobody) };
        assert_eq!(new.troubles(), [], "a network of one");
    }

    #[test]
    fn a_node_that_nobody_accepts_is_not_ready_at_any_height_and_says_why() {
        let peers = one_peer();
        let unknown = Heard { expects: false, height: 900, ..heard() };
        for (height, block_ms) in [(0, 0), (50, NOW_MS - 1_000)] {
            let condition = Condition { height, block_ms, ..alone(&peers) };
            let found = worst(&condition);
            assert_eq!((found.code, found.unready), (Code::NoPeers, true));
            assert!(found.message.contains("cannot be reached"), "{}", found.message);
            let condition = Condition { contacts: turned_away(), ..condition };
            assert_eq!(worst(&condition).code, Code::NotAdmitted);
            let news = BTreeMap::from([(PEER, unknown)]);
            let found = worst(&Condition { news, ..condition });
            assert_eq!(found.code, Code::NotAdmitted);
            assert!(found.message.contains("does not know the key"), "{}", found.message);
            assert!(found.message.contains("block 900"), "{}", found.message);
        }
    }

    #[test]
    fn a_clock_that_is_wrong_in_either_direction_is_named() {
        let peers = one_peer();
        for (ahead_ms, side) in [(2 * HOUR_MS, "2 h behind"), (-3 * HOUR_MS, "3 h ahead of")] {
            let news = BTreeMap::from([(PEER, Heard { clock_ahead_ms: ahead_ms, ..heard() })]);
            let found = worst(&Condition { news, ..alone(&peers) });
            assert_eq!((found.code, found.unready), (Code::ClockWrong, true));
            assert!(found.message.contains(side), "{}", found.message);
        }
        // Without the API of any peer.
        let behind = Condition { block_ms: NOW_MS + 7_200_000, ..alone(&peers) };
        let found = worst(&behind);
        assert!(found.message.contains("2 h behind block 50"), "{}", found.message);
        assert!(found.unready);
        let mut contact = Contact::default();
        contact.is_expected = true;
        contact.refused = Some((SystemTime::now(), soma_engine::RefusedFor::Clock));
        contact.clock_ahead_ms = Some(-2 * HOUR_MS);
        let contacts = BTreeMap::from([(PEER, contact)]);
        let found = worst(&Condition { contacts, ..alone(&peers) });
        assert!(found.message.contains("2 h ahead of"), "{}", found.message);
        let little = BTreeMap::from([(PEER, Heard { clock_ahead_ms: 1_500, ..heard() })]);
        assert_eq!(Condition { news: little, ..healthy(&peers) }.troubles(), []);
    }

    #[test]
    fn a_node_that_may_not_send_the_duties_of_its_validator_says_so() {
        let peers = one_peer();
        let [validator, key] = [1, 2].map(|byte| Address([byte; 32]));
        let barred = Condition { barred: Some((validator, key)), ..healthy(&peers) };
        let found = worst(&barred);
        assert_eq!((found.code, found.unready), (Code::DutyKeyUnknown, false));
        assert!(found.message.contains(&validator.to_string()), "{}", found.message);
    }

    #[test]
    fn both_nodes_with_one_key_say_so() {
        let peers = one_peer();
        let elsewhere = BTreeMap::from([(PEER, Heard { knows_connected: true, ..heard() })]);
        let second =
            Condition { news: elsewhere.clone(), contacts: turned_away(), ..alone(&peers) };
        let found = worst(&second);
        assert_eq!((found.code, found.unready), (Code::KeyRunsTwice, true));
        let later = SystemTime::now() + Duration::from_secs(1);
        let just_connected = Heard { knows_connected: true, time: later, ..heard() };
        let news = BTreeMap::from([(PEER, just_connected)]);
        let connecting = Condition { news, contacts: turned_away(), ..alone(&peers) };
        assert_ne!(worst(&connecting).code, Code::KeyRunsTwice, "its own new connection");
        let refused = Some(RefusedFor::Twice);
        let news = BTreeMap::from([(PEER, Heard { refused, knows_connected: true, ..heard() })]);
        let found = worst(&Condition { news, ..healthy(&peers) });
        assert_eq!((found.code, found.unready), (Code::KeyRunsTwice, false), "the first one runs");
        let restarted = Condition { running: Duration::from_secs(2), ..second };
        assert_ne!(worst(&restarted).code, Code::KeyRunsTwice, "its own last connection");
    }

    #[test]
    fn a_node_says_whom_it_saw_with_its_key_and_which_of_both_votes() {
        let peers = one_peer();
        let other = OtherProcess { process: 3, started_ms: NOW_MS - 60_000, through: PEER };
        let seen = KeyUse { other: Some(other), ..KeyUse::default() };
        let first = worst(&Condition { key_use: seen, ..healthy(&peers) });
        assert_eq!((first.code, first.unready), (Code::KeyRunsTwice, false));
        assert!(first.message.contains("07070707"), "{}", first.message);
        assert!(first.message.contains("this one votes"), "{}", first.message);
        let unleased = Unleased { held: 1, needed: 2, lasts: Duration::from_secs(30) };
        let overtaken = Some(Overtaken { free_from: 9, is_restored: false });
        let key_use = KeyUse { unleased: Some(unleased), overtaken, ..seen };
        let found = Condition { key_use, ..alone(&peers) };
        let found = Condition { connected: 1, ..found }.troubles();
        assert!(found[0].unready && found[0].message.contains("does not vote"), "{found:?}");
        let codes: Vec<_> = found.iter().map(|trouble| trouble.code).collect();
        assert_eq!(codes, [Code::KeyRunsTwice, Code::VotesLost, Code::NoLeases]);
        let soon = Unleased { lasts: Duration::from_secs(3), ..unleased };
        let key_use = KeyUse { unleased: Some(soon), ..KeyUse::default() };
        assert_eq!(Condition { key_use, ..healthy(&peers) }.troubles(), [], "it has just begun");
    }

    #[test]
    fn a_node_that_is_behind_or_hears_of_no_block_is_not_ready() {
        let peers = one_peer();
        let behind = Condition { known: 5_000, ..healthy(&peers) };
        let found = worst(&behind);
        assert_eq!((found.code, found.unready), (Code::Behind, true));
        assert!(found.message.contains("at block 50 of 5000"), "{}", found.message);
        let old = Condition { block_ms: NOW_MS - 300_000, ..healthy(&peers) };
        let found = worst(&old);
        assert_eq!((found.code, found.unready), (Code::NetworkHalted, true));
        let restarted = Condition { has_progressed: false, ..healthy(&peers) };
        assert!(
            worst(&restarted).unready,
            "what was finalized before a restart is no sign of life"
        );
        let nobody = BTreeMap::new();
        let silent = Condition { block_ms: NOW_MS - 300_000, height: 0, ..healthy(&nobody) };
        assert!(worst(&silent).unready, "no block at all");
    }

    #[test]
    fn a_node_that_stopped_says_why_and_names_no_path() {
        let path = || PathBuf::from("/home/somebody/chain");
        let reason = "it is no text".to_owned();
        let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let failures = [
            EngineError::Damaged { path: path(), reason: reason.clone(), remedy: Remedy::Votes },
            EngineError::Store(StoreError::DamagedFile { path: path(), reason }),
            EngineError::Store(StoreError::Io { path: path(), source }),
        ];
        for failure in failures {
            let found = stopped(&failure);
            assert!(found.unready && failure.to_string().contains("somebody"), "{failure}");
            assert!(!found.message.contains("somebody"), "{}", found.message);
        }
    }

    #[test]
    fn what_does_not_stop_a_node_from_serving_is_told_too() {
        let peers = one_peer();
        let condition = Condition {
            watching: Some("the journal is gone".to_owned()),
            fallback: Some("it executes all blocks"),
            free_bytes: Some(1 << 20),
            ..healthy(&peers)
        };
        let found = condition.troubles();
        let codes: Vec<_> = found.iter().map(|trouble| trouble.code).collect();
        assert_eq!(codes, [Code::VotesLost, Code::JoinedAnotherWay, Code::DiskLow]);
        assert!(found.iter().all(|trouble| !trouble.unready));
    }

    #[test]
    fn the_word_of_one_node_that_only_the_chain_names_is_not_enough() {
        let peers = one_peer();
        let liar = Heard { refused: Some(RefusedFor::Twice), height: u64::MAX, ..heard() };
        let news = |numbers: &[u8]| {
            let mut news: BTreeMap<_, _> =
                numbers.iter().map(|number| (ConsensusKey([*number; 32]), liar)).collect();
            news.extend([(ConsensusKey([90; 32]), heard()), (ConsensusKey([91; 32]), heard())]);
            news
        };
        let told = |numbers: &[u8]| {
            let condition = Condition { news: news(numbers), ..alone(&peers) };
            let troubles = condition.troubles();
            let has = |code| troubles.iter().any(|trouble| trouble.code == code);
            (has(Code::KeyRunsTwice), has(Code::Behind))
        };
        assert_eq!(told(&[1]), (false, false));
        assert!(told(&[1, 2]).0, "two of them agree");
        assert!(told(&[7]).0, "one that the settings name");
    }
}
