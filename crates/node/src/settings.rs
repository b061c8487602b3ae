//! The settings of a node: what `config.toml` says, and everything that a node is started with.
//! They must never be read from a global location: the caller passes them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de};
use soma_engine::{ConsensusSecret, Contacts, Join, KEEP_BLOCKS_MIN, Peer, PeerAddress};
use soma_model::DeviceChoice;
use soma_os::net::names_another_host;
use soma_protocol::{ConsensusKey, Endpoints, Genesis, Rejection, Ruleset, SecretKey};
use soma_sdk::Trust;
use soma_sdk::client::{check_url, has_login, names_another_machine, without_login};

use crate::bucket::BucketAddress;
use crate::error::NodeError;

/// The least time between two blocks, in milliseconds.
pub const BLOCK_MS: u64 = 500;
/// The longest time between two blocks while nothing happens, in milliseconds.
pub const IDLE_BLOCK_MS: u64 = 5_000;
/// Memory of models that audits have open, in bytes: two of `v1`.
pub const AUDIT_MEMORY_BYTES: u64 = 12 << 30;
/// The port of the API, unless another is given.
pub const API_PORT: u16 = 8645;

/// What `config.toml` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the HTTP API listens; port 0 takes a free one.
    pub api: SocketAddr,
    /// Certificates in PEM that are trusted besides those that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Where other nodes connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The least time between two blocks, in milliseconds.
    #[serde(default = "block_ms")]
    pub block_ms: u64,
    /// The longest time between two blocks while nothing happens, in milliseconds.
    #[serde(default = "idle_block_ms")]
    pub idle_block_ms: u64,
    /// Threads of all audits; 0 for one per CPU.
    #[serde(default)]
    pub audit_threads: usize,
    /// Where audits compute scores.
    #[serde(default)]
    pub audit_device: DeviceChoice,
    /// Memory of models that audits have open, in bytes; one model is always open.
    #[serde(default = "audit_memory_bytes")]
    pub audit_memory_bytes: u64,
    /// The API's certificate; it speaks plain HTTP without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Limits for each client of the API.
    #[serde(default)]
    pub clients: ClientLimits,
    /// Limits of the transaction pool.
    #[serde(default)]
    pub pool: PoolLimits,
    /// Where weights files are, and their limits.
    #[serde(default)]
    pub weights: WeightsSettings,
    /// The blocks and the state of this node.
    #[serde(default)]
    pub history: HistorySettings,
    /// Where this node is reached, which its validator says on the chain; `None` if it says
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,
    /// The other nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<PeerSettings>,
}

fn block_ms() -> u64 {
    BLOCK_MS
}

fn idle_block_ms() -> u64 {
    IDLE_BLOCK_MS
}

fn audit_memory_bytes() -> u64 {
    AUDIT_MEMORY_BYTES
}

/// The files of the API's certificate, in PEM, relative to the node's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Its chain, the node's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Limits for one client of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientLimits {
    /// Requests a second; twice as many at once.
    pub requests_per_second: u32,
    /// Transactions a second; twice as many at once.
    pub transactions_per_second: u32,
    /// Connections, and requests that run, event streams and uploads included.
    pub concurrent: u32,
    /// Event streams, and transfers of files.
    pub streams: u32,
    /// Whether a proxy on this machine names the client in `X-Forwarded-For`.
    pub trust_proxy: bool,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            requests_per_second: 100,
            transactions_per_second: 2_000,
            concurrent: 64,
            streams: 8,
            trust_proxy: false,
        }
    }
}

/// Limits of the transaction pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolLimits {
    /// Bytes of encoded transactions in all.
    pub bytes: usize,
    /// Transactions in all.
    pub entries: usize,
    /// Transactions of one account, and how far a nonce may be ahead of the chain.
    pub per_account: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { bytes: 64 << 20, entries: 100_000, per_account: 256 }
    }
}

/// Where weights files are, and their limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightsSettings {
    /// Free space that they leave on the disk, in bytes: the chain needs it.
    pub free_bytes_min: u64,
    /// With a cold store, the bytes of encrypted files that stay on the disk although no audit runs
    /// them.
    pub local_bytes_max: u64,
    /// The URL of the cold store, without credentials; `None` if all files stay on the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cold: Option<String>,
    /// URLs below which encrypted files lie under their hashes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
}

impl Default for WeightsSettings {
    fn default() -> Self {
        Self { free_bytes_min: 5 << 30, local_bytes_max: 0, cold: None, mirrors: Vec::new() }
    }
}

/// The blocks and the state of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistorySettings {
    /// How many blocks it keeps; all of them if `None`.
    pub keep_blocks: Option<u64>,
    /// How it obtains the state if it has no blocks.
    pub join: Join,
}

/// Another node.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSettings {
    /// The consensus key that identifies it.
    pub key: ConsensusKey,
    /// Where it listens, `host:port`; `None` if it connects to this node.
    pub address: Option<String>,
    /// Its API, from which files are downloaded.
    pub url: Option<String>,
}

impl fmt::Debug for PeerSettings {
    /// Without the name and the password that its URL may have.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("PeerSettings")
            .field("key", &self.key)
            .field("address", &self.address)
            .field("url", &self.url.as_deref().map(without_login))
            .finish()
    }
}

/// What the text of `config.toml` says about a setting or a table, in the order of the settings.
const COMMENTS: [(&str, &str); 21] = [
    (
        "api",
        "Where the HTTP API listens. It speaks plain HTTP: to publish it, put a proxy with TLS in \
         front of it, or add a table [tls] with the files of a certificate: certificate, key.",
    ),
    ("ca", "Certificates in PEM that are trusted besides those that the system trusts."),
    ("listen", "Where other nodes connect; they are identified by their keys."),
    ("block_ms", "The least time between two blocks, in milliseconds; the same on all nodes."),
    ("idle_block_ms", "The most time between two blocks, in milliseconds; the same on all nodes."),
    ("audit_threads", "Threads of all audits; 0 for one per CPU."),
    (
        "audit_device",
        "Where audits compute scores: \"auto\" (a card if there is one), \"cpu\", \"cuda\" or \
         \"cuda:N\".",
    ),
    ("audit_memory_bytes", "Memory of the models that audits have open, in bytes."),
    ("[tls]", "The API's chain of certificates and its key, in PEM; read again when they change."),
    ("[clients]", "Limits for each client of the API; this machine itself is not limited."),
    ("streams", "Event streams of a client, and its transfers of files."),
    ("trust_proxy", "Whether a proxy on this machine names the client in X-Forwarded-For."),
    ("[pool]", "Limits of waiting transactions: bytes, transactions, transactions of one account."),
    ("[weights]", "Free space on the disk that weights files leave to the chain, in bytes."),
    (
        "local_bytes_max",
        "With cold = URL, files that no audit runs leave the disk for a bucket or a folder, beyond \
         this many bytes: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or \
         file:///PATH. Credentials are those of the environment.",
    ),
    ("cold", "The cold store."),
    ("mirrors", "URLs below which encrypted files lie under their hashes; asked before nodes."),
    ("[history]", "To keep only the last blocks, 100000 for example: keep_blocks = 100000"),
    (
        "join",
        "How a node without blocks obtains the state: \"auto\", \"state\" (state sync) or \
         \"replay\" (execute all blocks).",
    ),
    (
        "[endpoints]",
        "Where this node is reached: p2p as HOST:PORT, and the url of its API. While it votes for \
         a validator, it says so on the chain whenever that is not what the chain says.",
    ),
    (
        "[[peers]]",
        "Other nodes, besides those that are on the chain: key, address (left out if the node \
         connects to this one) and url of the API. Above the tables, ca = FILE names \
         certificates to trust besides the system's.",
    ),
];

impl Settings {
    /// Settings with defaults for everything else.
    pub fn new(api: SocketAddr, listen: SocketAddr, peers: Vec<PeerSettings>) -> Self {
        Self {
            api,
            ca: None,
            listen,
            block_ms: BLOCK_MS,
            idle_block_ms: IDLE_BLOCK_MS,
            audit_threads: 0,
            audit_device: DeviceChoice::default(),
            audit_memory_bytes: AUDIT_MEMORY_BYTES,
            tls: None,
            clients: ClientLimits::default(),
            pool: PoolLimits::default(),
            weights: WeightsSettings::default(),
            history: HistorySettings::default(),
            endpoints: None,
            peers,
        }
    }

    /// Where this machine reaches the API, as in `http://127.0.0.1:8645`.
    pub fn url(&self) -> String {
        api_url(self.api, self.tls.is_some())
    }

    /// Reads the text of a `config.toml`.
    ///
    /// # Errors
    /// What is wrong with it, with the line if the text is malformed.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let settings: Self = toml::from_str(text)?;
        let keep_blocks = settings.history.keep_blocks;
        if keep_blocks.is_some_and(|keep| keep < KEEP_BLOCKS_MIN) {
            let reason = format!("keep_blocks is less than {KEEP_BLOCKS_MIN}");
            return Err(de::Error::custom(reason));
        }
        if let Some(endpoints) = &settings.endpoints {
            check_endpoints(endpoints).map_err(de::Error::custom)?;
            check_reachable(endpoints, settings.listen).map_err(de::Error::custom)?;
        }
        if let Some(cold) = &settings.weights.cold {
            let bad = |reason| de::Error::custom(format!("[weights] cold: {reason}"));
            BucketAddress::parse(cold).map_err(bad)?;
        }
        for mirror in &settings.weights.mirrors {
            check_url(mirror).map_err(de::Error::custom)?;
            if has_login(mirror) {
                let reason = "the URL of a mirror must have no name and no password";
                return Err(de::Error::custom(reason));
            }
        }
        let peers = settings.peers.iter().map(PeerSettings::peer);
        let peers = peers.collect::<Result<_, _>>().map_err(de::Error::custom)?;
        soma_engine::check_peers(peers).map_err(de::Error::custom)?;
        for url in settings.peers.iter().filter_map(|peer| peer.url.as_deref()) {
            check_url(url).map_err(de::Error::custom)?;
        }
        Ok(settings)
    }

    /// The text of a `config.toml`, with a comment for each setting.
    pub fn render(&self) -> String {
        let mut text = "# Settings of a soma node, read when it starts.\n".to_owned();
        let mut comments = COMMENTS.as_slice();
        let mut in_table = false;
        // Strings, numbers and tables of these always have a TOML form.
        for line in toml::to_string(self).unwrap_or_default().lines() {
            in_table |= line.starts_with('[');
            let name = line.split(" = ").next();
            if let Some(at) = comments.iter().position(|(of, _)| name == Some(of)) {
                let (_, comment) = comments[at];
                comments = &comments[at + 1..];
                let blank = if in_table { "" } else { "\n" };
                text += &format!("{blank}# {comment}\n");
            }
            text += line;
            text += "\n";
        }
        text
    }
}

/// Where this machine reaches an API that listens at `address`: at loopback if it listens
/// everywhere.
pub(crate) fn api_url(address: SocketAddr, is_tls: bool) -> String {
    let port = address.port();
    let reachable =
        if address.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, port).into() } else { address };
    let scheme = if is_tls { "https" } else { "http" };
    format!("{scheme}://{reachable}")
}

impl PeerSettings {
    fn peer(&self) -> Result<Peer, soma_engine::EngineError> {
        let address = self.address.as_deref().map(str::parse::<PeerAddress>);
        Ok(Peer { key: self.key, address: address.transpose()? })
    }
}

/// Checks that nodes and clients can use these endpoints.
///
/// # Errors
/// What is wrong.
pub fn check_endpoints(endpoints: &Endpoints) -> Result<(), String> {
    if let Some(p2p) = &endpoints.p2p {
        p2p.parse::<PeerAddress>().map_err(|error| error.to_string())?;
    }
    if let Some(url) = &endpoints.url {
        check_url(url).map_err(|error| error.to_string())?;
        if has_login(url) {
            return Err("everybody sees it: the URL must have no name and no password".into());
        }
    }
    if endpoints.are_well_formed() { Ok(()) } else { Err(Rejection::BadEndpoints.to_string()) }
}

/// Checks that others can use these endpoints of a node that listens on `listen`.
///
/// # Errors
/// What is wrong.
fn check_reachable(endpoints: &Endpoints, listen: SocketAddr) -> Result<(), String> {
    if listen.ip().is_loopback() {
        return Ok(());
    }
    let host = endpoints.p2p.as_deref().and_then(|p2p| p2p.rsplit_once(':')).map(|(host, _)| host);
    if host.is_none_or(names_another_host)
        && endpoints.url.as_deref().is_none_or(names_another_machine)
    {
        Ok(())
    } else {
        Err("[endpoints] names this machine, where nobody else reaches it".into())
    }
}

/// Everything that a node is started with.
#[derive(Clone)]
pub struct NodeConfig {
    /// The node's own folder: chain, history, weights.
    pub dir: PathBuf,
    /// The chain.
    pub genesis: Genesis,
    /// The key that a validator's duties are signed with: its account's, or its duty key.
    pub duties: SecretKey,
    /// The account's key, if both are here: it signs while the other one may not.
    pub account: Option<SecretKey>,
    /// The key it votes with.
    pub consensus: ConsensusSecret,
    /// Its settings.
    pub settings: Settings,
    /// Whether it votes although nothing shows how its key voted before.
    pub vote_unrecorded: bool,
    /// The rules that it executes: all that this software knows, but in tests.
    pub ruleset: Ruleset,
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NodeConfig")
            .field("dir", &self.dir)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl NodeConfig {
    /// Whose certificates this node trusts.
    pub(crate) fn trust(&self) -> Result<Trust, NodeError> {
        trust(&self.settings, &self.dir)
    }

    /// Where the engine runs and whom it connects to; it listens on `listen`.
    pub(crate) fn host(
        &self,
        listen: SocketAddr,
        contacts: Contacts,
    ) -> Result<soma_engine::Host, NodeError> {
        let peers = self.settings.peers.iter().map(PeerSettings::peer);
        Ok(soma_engine::Host {
            dir: chain_dir(&self.dir),
            listen,
            peers: peers.collect::<Result<_, _>>().map_err(NodeError::engine)?,
            votes: votes_file(&self.dir),
            contacts,
        })
    }

    pub(crate) fn engine_settings(&self) -> soma_engine::Settings {
        soma_engine::Settings {
            genesis: self.genesis.clone(),
            key: self.consensus.clone(),
            block_ms: self.settings.block_ms,
            idle_block_ms: self.settings.idle_block_ms,
            join: self.settings.history.join,
            vote_unrecorded: self.vote_unrecorded,
            ruleset: self.ruleset,
            keep_blocks: self.settings.history.keep_blocks,
        }
    }
}

/// Whose certificates the node in `dir` trusts.
pub(crate) fn trust(settings: &Settings, dir: &Path) -> Result<Trust, NodeError> {
    match &settings.ca {
        Some(file) => Ok(Trust::with_file(&dir.join(file))?),
        None => Ok(Trust::system()),
    }
}

/// The record of the last vote of the node's key. It is outside the chain's folder, so that it
/// stays when that is replaced.
pub(crate) fn votes_file(dir: &Path) -> PathBuf {
    dir.join("votes")
}

/// The secret that a node's contributions to beacons follow from.
pub(crate) fn beacon_file(dir: &Path) -> PathBuf {
    dir.join("beacon")
}

/// The folder of weights files in a node's own folder.
pub(crate) fn weights_dir(dir: &Path) -> PathBuf {
    dir.join("weights")
}

/// The folder of the chain in a node's own folder.
pub(crate) fn chain_dir(dir: &Path) -> PathBuf {
    dir.join("chain")
}

#[cfg(test)]
mod tests {
    use soma_protocol::ConsensusKey;

    use super::{COMMENTS, ConsensusSecret, Endpoints, Join, PeerSettings, Settings, TlsFiles};

    fn settings(peers: Vec<PeerSettings>) -> Settings {
        let address = |port| format!("127.0.0.1:{port}").parse().unwrap();
        Settings::new(address(1), address(2), peers)
    }

    fn peer(address: &str, url: Option<&str>) -> PeerSettings {
        PeerSettings {
            key: ConsensusSecret([7; 32]).public(),
            address: Some(address.to_owned()),
            url: url.map(str::to_owned),
        }
    }

    #[test]
    fn settings_are_read_as_they_were_written_and_have_defaults() {
        let url = "http://host:1";
        let mut written = settings(vec![peer("host:1", None), peer("host:2", Some(url))]);
        written.clients.trust_proxy = true;
        written.ca = Some("ca.pem".into());
        written.tls = Some(TlsFiles { certificate: "chain.pem".into(), key: "key.pem".into() });
        written.pool.entries = 7;
        written.weights.cold = Some("s3://bucket/prefix".to_owned());
        written.weights.mirrors = vec!["https://host/files".to_owned()];
        written.history.keep_blocks = Some(5_000);
        written.history.join = Join::Replay;
        written.endpoints = Some(Endpoints { p2p: Some("host:3".to_owned()), url: None });
        let text = written.render();
        assert_eq!(Settings::parse(&text).unwrap(), written);
        for (name, comment) in COMMENTS {
            assert!(text.contains(comment), "{name} has no comment");
        }
        let shortest = "api = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n[clients]\n";
        assert_eq!(Settings::parse(shortest).unwrap(), settings(Vec::new()));
    }

    #[test]
    fn every_setting_of_a_new_node_has_its_comment_though_some_are_left_out() {
        let text = settings(vec![peer("host:1", None)]).render();
        for (name, comment) in COMMENTS {
            let is_optional = ["ca", "[tls]", "cold", "mirrors", "[endpoints]"].contains(&name);
            assert_eq!(text.contains(comment), !is_optional, "{name}");
        }
    }

    #[test]
    fn settings_never_show_the_password_of_a_peers_url() {
        let shown = format!("{:?}", settings(vec![peer("host:1", Some("https://a:secret@host"))]));
        assert!(shown.contains("https://host") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn unknown_settings_and_impossible_values_are_refused() {
        let refusal = |text: &str| Settings::parse(text).unwrap_err().to_string();
        let text = settings(Vec::new()).render();
        assert!(refusal(&(text.clone() + "\n[colors]\nred = 1\n")).contains("colors"));
        let few = text.replace("[history]", "[history]\nkeep_blocks = 1");
        assert!(refusal(&few).contains("keep_blocks"));
        let mut cold = settings(Vec::new());
        cold.weights.cold = Some("s3://AKIA:word@bucket".to_owned());
        let refused = refusal(&cold.render());
        assert!(refused.contains("[weights] cold") && !refused.contains("word@"), "{refused}");
        let mut mirrored = settings(Vec::new());
        mirrored.weights.mirrors = vec!["https://user:word@host".to_owned()];
        assert!(refusal(&mirrored.render()).contains("no password"));
        let nowhere = settings(vec![peer("nowhere", None)]).render();
        assert!(refusal(&nowhere).contains("nowhere"));
        let at = |url: &str| {
            let endpoints = Some(Endpoints { p2p: None, url: Some(url.to_owned()) });
            Settings { endpoints, listen: "0.0.0.0:2".parse().unwrap(), ..settings(Vec::new()) }
        };
        assert!(refusal(&at("https://user:word@host").render()).contains("no password"));
        assert!(refusal(&at("http://127.0.0.1:8645").render()).contains("this machine"));
        assert!(refusal(&(text + "\n[endpoints]\napi_url = \"x\"\n")).contains("api_url"));
        let no_url = settings(vec![peer("host:1", Some("ftp://host"))]).render();
        assert!(refusal(&no_url).contains("ftp"));
        let no_key = PeerSettings { key: ConsensusKey([0xab; 32]), ..peer("host:1", None) };
        assert!(refusal(&settings(vec![no_key]).render()).contains("key"));
    }
}
