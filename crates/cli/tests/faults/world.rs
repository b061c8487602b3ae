//! A network of one validator with a model, and what both of its competitors need.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use soma_compete::{Advance, Competitor, Level, Observer, Offer};
use soma_model::Weights;
use soma_node::Node;
use soma_node::localnet::{Localnet, OPERATOR, Plan};
use soma_protocol::{Address, Amount, Epoch, Hash, ModelId, Params, Phase, action};
use soma_sdk::api::{Status, Target};
use soma_sdk::client::Client;
use soma_sdk::sender::Sender;
use soma_sdk::spool::Spool;

use crate::command::PATIENCE;

pub(crate) const OWNER: &str = "account-1";
pub(crate) const SUBMITTER: &str = "account-2";
const POLL: Duration = Duration::from_millis(20);

struct Silent;

impl Observer for Silent {
    fn start(&self, _: &str, _: Option<u64>) -> Advance {
        Box::new(|_| ())
    }

    fn notice(&self, _: Level, _: &dyn Display) {}
}

/// A network with a model that is active from epoch 2 on. Its phases end by command.
pub(crate) struct World {
    node: Node,
    local: Localnet,
    pub(crate) client: Client,
    pub(crate) model: ModelId,
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plan = Plan::manual([9; 32]);
        let params = Params {
            targets_per_epoch: 2,
            models_per_target: 1,
            candidates_per_target: 1,
            missed_reveal_slash_bps: 1_000,
            ..plan.params.clone()
        };
        let plan = Plan { architecture: crate::tiny(), params, ..plan };
        let local = Localnet::create(&dir.path().join("state"), &plan).unwrap();
        let mut config = local.node(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        (config.settings.block_ms, config.settings.idle_block_ms) = (20, 200);
        config.settings.audit_threads = 1;
        let node = soma_node::start(config).unwrap();
        let client = Client::new(node.url()).unwrap();
        let mut world = Self { node, local, client, model: ModelId(0), dir };
        let owner = world.competitor().await;
        let (name, stake) = ("m".to_owned(), Amount::soma(100));
        let model = action::RegisterModel { name, commission_bps: 1_000, stake };
        world.model = owner.register(model).await.unwrap();
        let (file, weights) = world.weights(0);
        let offer = Offer {
            model: world.model,
            file: &file,
            weights_hash: Hash(weights.hash()),
            specialization: specialization(),
            architecture: 1,
        };
        owner.commit(offer).await.unwrap();
        world
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Weights of a seed, and their file.
    pub(crate) fn weights(&self, seed: u64) -> (PathBuf, Weights) {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let weights = Weights::init(&crate::tiny(), bytes).unwrap();
        let path = self.at(&format!("weights-{seed}"));
        weights.save(&path).unwrap();
        (path, weights)
    }

    /// Where its API answers.
    pub(crate) fn api(&self) -> SocketAddr {
        self.node.api()
    }

    /// The file of a key.
    pub(crate) fn key(&self, account: &str) -> String {
        self.local.keys().path_of(account).display().to_string()
    }

    pub(crate) fn submitter(&self) -> Address {
        self.local.key(SUBMITTER).unwrap().address()
    }

    /// Ends the phase. The model's first weights are revealed when epoch 2 has begun.
    pub(crate) async fn end_phase(&self) {
        let clock = self.sender(OPERATOR).await.end_phase().await.unwrap().clock;
        if (clock.epoch, clock.phase.0) == (2, Phase::Reveal) {
            self.competitor().await.deliver_once().await.unwrap();
        }
    }

    /// Ends phases until this one runs, each when nothing is due of the node.
    pub(crate) async fn go_to(&self, epoch: u32, phase: Phase) {
        loop {
            let status = self.status().await;
            if (status.clock.epoch, status.clock.phase.0) == (epoch, phase) {
                return;
            }
            assert!(status.clock.epoch <= epoch, "epoch {epoch} is over");
            if status.duties == 0 {
                self.end_phase().await;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the answer is yes.
    pub(crate) async fn until(&self, what: &str, mut question: impl AsyncFnMut() -> bool) {
        let begun = Instant::now();
        while !question().await {
            assert!(begun.elapsed() < PATIENCE, "timed out: {what}");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn sender(&self, account: &str) -> Sender {
        let key = self.local.key(account).unwrap();
        Sender::on_any_chain(self.client.clone(), key).await.unwrap()
    }

    /// The owner of the model, whom nothing disturbs.
    async fn competitor(&self) -> Competitor<'static> {
        let spool = Spool::open(self.at("first-spool")).unwrap();
        Competitor { sender: self.sender(OWNER).await, spool, observer: &Silent }
    }

    pub(crate) async fn status(&self) -> Status {
        self.client.status().await.unwrap()
    }

    pub(crate) async fn targets(&self, epoch: u32) -> Vec<Target> {
        self.client.targets(Some(Epoch(epoch))).await.unwrap()
    }

    /// The targets of an epoch for which the submitter is a candidate.
    pub(crate) async fn entered(&self, epoch: u32) -> Vec<Target> {
        let address = self.submitter();
        let mut targets = self.targets(epoch).await;
        targets.retain(|target| target.candidates.iter().any(|it| it.submitter.0 == address));
        targets
    }
}

/// The direction of the model: an axis, so that no document has none.
pub(crate) fn specialization() -> Vec<i16> {
    let mut components = vec![0; crate::tiny().dim as usize];
    components[0] = i16::MAX;
    components
}
