//! A local network in a temporary folder, on real sockets, whose phases the test ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use soma_model::{Directions, Engine, KernelChoice, Score, Weights};
use soma_node::localnet::{Localnet, OPERATOR, Plan};
use soma_node::settings::PeerSettings;
use soma_node::{ClientLimits, Node, NodeConfig, NodeError, NodeFailure};
use soma_protocol::{Architecture, ConsensusKey, Params, Phase, SecretKey, TargetId};
use soma_sdk::api::cursor::Cursor;
use soma_sdk::events::Events;
use soma_sdk::obligation::Reveal;
use soma_sdk::transfer::Remote;
use soma_sdk::{Client, SdkError, Sender};
use tempfile::TempDir;

/// Time after which a test fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// Asks until the answer is yes.
pub(crate) async fn wait_until(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !question().await {
        assert!(begun.elapsed() < PATIENCE, "timed out: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A peer that is known for its API only: it never connects.
fn peer((number, url): (u8, String)) -> PeerSettings {
    PeerSettings {
        key: ConsensusKey(SecretKey::from_bytes(&[number; 32]).address().0),
        address: None,
        url: Some(url),
    }
}

/// What the validator has done for beacons, read once from the first event on.
struct Beacons {
    events: Events,
    committed: u64,
    revealed: u64,
}

impl Beacons {
    fn of(client: &Client) -> Self {
        let events = client.events(Some(Cursor::default()));
        Self { events, committed: 0, revealed: 0 }
    }

    /// Waits until it has committed to the next epoch's beacon and revealed this one's.
    async fn wait(&mut self, epoch: u32) {
        let epoch = u64::from(epoch);
        let done = async {
            while self.committed <= epoch || (epoch > 1 && self.revealed < epoch) {
                let event = self.events.next().await.unwrap();
                let of = event.fields.get("epoch").and_then(serde_json::Value::as_u64);
                match event.event.as_str() {
                    "beacon_committed" => self.committed = of.unwrap_or(0),
                    "beacon_revealed" => self.revealed = of.unwrap_or(0),
                    _ => (),
                }
            }
        };
        tokio::time::timeout(PATIENCE, done).await.expect("the validator does its duty");
    }
}

/// A running network and the means to act on it.
pub(crate) struct Network {
    pub(crate) client: Client,
    pub(crate) local: Localnet,
    node: Option<Node>,
    engine: Engine,
    dir: TempDir,
}

impl Network {
    /// Models of 64 bytes a chunk and some thousand parameters, two targets, two models each.
    pub(crate) fn plan() -> Plan {
        let plan = Plan::manual([7; 32]);
        let architecture = Architecture {
            name: "tiny".to_owned(),
            layers: 1,
            dim: 16,
            heads: 2,
            ffn: 32,
            positions: 64,
            sig_reg_slices: 16,
            ..plan.architecture.clone()
        };
        let params = Params { targets_per_epoch: 2, models_per_target: 2, ..plan.params.clone() };
        Plan { architecture, params, ..plan }
    }

    pub(crate) fn start() -> Self {
        Self::with(|_| (), |_| ())
    }

    /// Whose node has this key to sign duties with.
    pub(crate) fn with_duty_key(key: SecretKey) -> Self {
        Self::with(|_| (), |config| config.duties = key)
    }

    /// With other parameters.
    pub(crate) fn with_params(change: impl FnOnce(&mut Params)) -> Self {
        Self::with(change, |_| ())
    }

    /// With other nodes' APIs, from which the validator fetches what it lacks.
    pub(crate) fn with_peers(peer_urls: Vec<String>) -> Self {
        Self::with(
            |_| (),
            |config| {
                config.settings.peers = (1..).zip(peer_urls).map(peer).collect();
            },
        )
    }

    fn with(change: impl FnOnce(&mut Params), configure: impl FnOnce(&mut NodeConfig)) -> Self {
        let mut plan = Self::plan();
        change(&mut plan.params);
        Self::of(&plan, configure)
    }

    /// The network of a plan.
    pub(crate) fn of(plan: &Plan, configure: impl FnOnce(&mut NodeConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let local = Localnet::create(&dir.path().join("state"), plan).unwrap();
        let mut config = Self::config(&local);
        configure(&mut config);
        let node = soma_node::start(config).unwrap();
        let client = Client::new(node.url()).unwrap();
        let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
        Self { client, local, node: Some(node), engine, dir }
    }

    pub(crate) fn config(local: &Localnet) -> NodeConfig {
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = local.node(api).unwrap();
        let settings = &mut config.settings;
        settings.block_ms = 20;
        settings.idle_block_ms = 500;
        settings.audit_threads = 1;
        settings.clients = ClientLimits {
            requests_per_second: 5,
            transactions_per_second: 10,
            trust_proxy: true,
            ..settings.clients
        };
        config
    }

    /// Stops the node and starts it on the same state, on another port.
    pub(crate) async fn restart(&mut self) {
        self.restart_with(|_| ()).await;
    }

    /// The same, with another configuration.
    pub(crate) async fn restart_with(&mut self, configure: impl FnOnce(&mut NodeConfig)) {
        self.stop().await;
        self.begin(configure).unwrap();
    }

    pub(crate) async fn stop(&mut self) {
        let node = self.node.take().unwrap();
        tokio::task::spawn_blocking(move || node.shutdown()).await.unwrap();
    }

    /// Starts the node again after a stop.
    pub(crate) fn begin(
        &mut self,
        configure: impl FnOnce(&mut NodeConfig),
    ) -> Result<(), NodeError> {
        let mut config = Self::config(&self.local);
        configure(&mut config);
        let node = soma_node::start(config)?;
        self.client = Client::new(node.url()).unwrap();
        self.node = Some(node);
        Ok(())
    }

    /// Why the node stopped by itself, once it has.
    pub(crate) fn failure(&self) -> Option<NodeFailure> {
        self.node.as_ref().unwrap().failure()
    }

    pub(crate) fn url(&self) -> &str {
        self.node.as_ref().unwrap().url()
    }

    pub(crate) fn api(&self) -> SocketAddr {
        self.node.as_ref().unwrap().api()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn architecture(&self) -> Architecture {
        self.local.genesis().architecture.clone()
    }

    pub(crate) fn score(&self, weights: &Weights, seed: [u8; 32], data: &[u8]) -> Score {
        let directions = Directions::new(weights.architecture(), seed);
        soma_model::score(&self.engine, weights, data, &directions).unwrap().score
    }

    pub(crate) async fn sender(&self, name: &str) -> Sender {
        Sender::on_any_chain(self.client.clone(), self.local.key(name).unwrap()).await.unwrap()
    }

    /// Ends phases until this one runs, each when the validator has done what it owes in it.
    pub(crate) async fn go_to(&self, epoch: u32, phase: Phase) {
        let operator = self.sender(OPERATOR).await;
        let mut beacons = Beacons::of(&self.client);
        loop {
            let clock = self.client.status().await.unwrap().clock;
            if (clock.epoch, *clock.phase) == (epoch, phase) {
                return;
            }
            assert!(clock.epoch <= epoch, "epoch {epoch} is over");
            beacons.wait(clock.epoch).await;
            if *clock.phase == Phase::Attest {
                let shown = async || self.client.status().await.unwrap().duties == 0;
                wait_until("the validator shows what it found", shown).await;
            }
            operator.end_phase().await.unwrap();
        }
    }

    /// Waits until the validator has committed to the next epoch's beacon and revealed this one's.
    pub(crate) async fn wait_for_beacon(&self, epoch: u32) {
        Beacons::of(&self.client).wait(epoch).await;
    }

    /// Waits until the validator has attested these targets.
    pub(crate) async fn wait_for_attestations(&self, targets: &[TargetId]) {
        let mut events = self.client.events(Some(Cursor::default()));
        let mut open: Vec<u64> = targets.iter().map(|target| target.0.into()).collect();
        let found = async {
            while !open.is_empty() {
                let event = events.next().await.unwrap();
                let of = event.fields.get("target").and_then(serde_json::Value::as_u64);
                open.retain(|target| event.event != "verdict_committed" || of != Some(*target));
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the validator audits");
    }

    /// Downloads the weights of a reveal.
    pub(crate) async fn pull(&self, reveal: &Reveal) -> Result<(), SdkError> {
        let remote = Remote::weights(reveal.weights_hash, reveal.size_bytes);
        let path = self.path(&format!("{}.weights", reveal.weights_hash));
        self.client.download(&remote, &path, &mut |_, _| ()).await
    }

    pub(crate) async fn balance(&self, of: &Sender) -> u64 {
        self.client.account(of.address()).await.unwrap().balance.0
    }

    pub(crate) async fn stakes(&self) -> Vec<u64> {
        self.client.models().await.unwrap().iter().map(|model| model.stake.0).collect()
    }
}
