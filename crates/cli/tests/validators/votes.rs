//! A network that votes for a larger architecture, and whose models earn before and after the
//! switch.

use std::path::Path;

use serde_json::Value;
use soma_protocol::{Epoch, Hash, ModelId};
use soma_sdk::api::{Model, ModelStatus, TargetStatus, Weights};

use crate::network::{Network, Running, until};

/// `nano` with two more layers, one and a half times as wide.
const LARGER: &str = r#"{"embedding_dim":192,"num_heads":6,"num_layers":6,"pwff_hidden_dim":768,
    "vocab_size":264,"max_seq_len":256,"sig_reg_slices":256,
    "sig_reg_points":17,"sig_reg_t_max":3.0}"#;
const OWNERS: [&str; 2] = ["account-1", "account-2"];
const STAKE: u64 = 10_000_000_000;

struct Course<'a> {
    network: Network,
    home: &'a Path,
}

impl<'a> Course<'a> {
    /// A network with two models that have no weights yet.
    async fn start(home: &'a Path) -> Self {
        let flags = ["--epoch", "manual", "--block-ms", "50"];
        let network = Network::start(home, &flags).await;
        for owner in OWNERS {
            let register = ["model", "register", "owl", "--stake", "10", "--key", owner];
            network.json(&register);
        }
        Self { network, home }
    }

    fn path(&self, name: &str) -> String {
        self.home.join(name).display().to_string()
    }

    /// Commits random weights of an architecture for each owner's model.
    fn commit(&self, arch: &str, flags: &[&str]) {
        let domain = self.document("domain");
        for owner in OWNERS {
            let weights = self.path(&format!("{owner}{}.safetensors", flags.len()));
            let seed = &owner[owner.len() - 1..];
            self.network.json(&["model", "init", "--arch", arch, "--seed", seed, "-o", &weights]);
            let commit = ["model", "commit", &weights, "--domain", &domain, "--key", owner];
            self.network.json(&[&commit[..], flags].concat());
        }
    }

    fn reveal(&self) {
        for owner in OWNERS {
            self.network.run(&["model", "reveal", "--key", owner]);
        }
    }

    /// A small file of its own words: the rules accept no data twice, nor most of it.
    fn document(&self, name: &str) -> String {
        let path = self.path(name);
        let word =
            |number: u32| format!("{} ", Hash::of_bytes(format!("{name} {number}").as_bytes()));
        std::fs::write(&path, (0..6).map(word).collect::<String>()).unwrap();
        path
    }

    /// Starts to submit a document in the epoch before the one in which it counts.
    async fn begin(&self, account: &str) -> Running {
        let document = self.document(account);
        self.network.submit(&["submit", &document, "--key", account]).await
    }

    /// Waits in the compete phase of an epoch until its targets have a candidate.
    async fn submitted(&self, epoch: u32) {
        self.network.turn_to(epoch, "compete").await;
        until("the document is entered for all targets", async || {
            let targets = self.targets(epoch).await;
            targets.iter().all(|target| !target.candidates.is_empty())
        })
        .await;
    }

    /// Waits until the running submitter has published the data of the previous epoch.
    async fn published(&self, epoch: u32) {
        self.network.turn_to(epoch + 1, "reveal").await;
        until("the data is published", async || {
            let targets = self.targets(epoch).await;
            targets.iter().all(|target| target.status == TargetStatus::Published)
        })
        .await;
    }

    async fn targets(&self, epoch: u32) -> Vec<soma_sdk::api::Target> {
        let client = &self.network.nodes[0].client;
        client.targets(Some(Epoch(epoch))).await.unwrap()
    }

    async fn models(&self) -> [Model; 2] {
        let client = &self.network.nodes[0].client;
        [client.model(ModelId(1)).await.unwrap(), client.model(ModelId(2)).await.unwrap()]
    }

    /// Three of four validators propose and approve the larger architecture.
    fn vote(&self, larger: &str) {
        for number in 1..=3 {
            let key = format!("validator-{number}");
            let address = self.network.json(&["keys", "show", &key])["address"].clone();
            let address = address.as_str().unwrap();
            self.network.json(&["send", address, "10", "--key", "account-8"]);
        }
        let propose = ["vote", "propose", "architecture", larger, "--name", "larger"];
        let proposal = self.network.json(&[&propose[..], &["--key", "validator-1"]].concat());
        let id = proposal["id"].to_string();
        for number in 1..=3 {
            let key = format!("validator-{number}");
            let cast = self.network.json(&["vote", "cast", &id, "yes", "--key", &key]);
            assert_eq!(cast["status"], "open", "it is counted as the next epoch begins");
        }
    }
}

fn won(entered: &Value) -> bool {
    let entered = entered["submissions"].as_array().unwrap();
    entered.len() == 4 && entered.iter().all(|target| target["outcome"] == "won")
}

fn earned(models: &[Model; 2]) -> u64 {
    models.iter().map(|model| model.earned.0).sum()
}

/// The same models with the same stakes, now with the next weights.
fn assert_moved(before: &[Model; 2], after: &[Model; 2]) {
    for (old, new) in before.iter().zip(after) {
        assert_eq!((old.id, old.owner), (new.id, new.owner));
        assert_eq!(new.status, ModelStatus::Active);
        let hash = |weights: &Option<Weights>| weights.as_ref().unwrap().hash;
        assert_eq!(hash(&new.weights), hash(&old.next));
        assert!(new.stake.0 >= old.stake.0 && new.next.is_none());
    }
    let stakes: u64 = after.iter().map(|model| model.stake.0).sum();
    assert!(stakes > 2 * STAKE, "what they earned before the switch stands behind them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_votes_from_nano_to_a_larger_architecture_and_its_models_earn_all_the_way() {
    let home = tempfile::tempdir().unwrap();
    let course = Course::start(home.path()).await;
    let larger = course.path("larger.json");
    std::fs::write(&larger, LARGER).unwrap();
    course.commit("nano", &[]);
    course.vote(&larger);
    let first = course.begin("account-3").await;

    // Epoch 2: the vote has passed. Models compete with their weights, and commit to the next ones.
    course.network.turn_to(2, "reveal").await;
    let governance = course.network.json(&["vote", "list"]);
    assert_eq!(governance["proposals"][0]["status"], "passed");
    let switch = governance["migration"]["ends_epoch"].as_u64().unwrap();
    assert_eq!(switch, 5, "three epochs of a local network to migrate");
    course.reveal();
    course.submitted(2).await;
    let second = course.begin("account-4").await;
    course.commit(&larger, &["--next"]);

    // Epoch 3: both weights are public, and the old ones still win.
    course.published(2).await;
    course.reveal();
    let governance = course.network.json(&["vote", "list"]);
    assert_eq!(governance["migration"]["ready"].as_array().unwrap().len(), 2);
    course.submitted(3).await;
    let third = course.begin("account-5").await;
    let before = course.models().await;
    assert!(before.iter().all(|model| model.weights.is_some() && model.next.is_some()));
    course.published(3).await;
    assert!(won(&first.result()));
    course.submitted(4).await;
    let fourth = course.begin("account-6").await;
    let earned_before = earned(&course.models().await);
    assert!(earned_before > 0);

    // Epoch 5: the switch. Earlier submissions are audited and paid under the earlier architecture.
    course.published(4).await;
    assert!(won(&second.result()));
    let architecture = course.network.nodes[0].client.architecture().await.unwrap();
    assert_eq!((architecture.name.as_str(), architecture.dim), ("larger", 192));
    let after = course.models().await;
    assert_moved(&before, &after);
    course.submitted(5).await;
    assert!(earned(&after) > earned_before);
    course.published(5).await;
    assert!(won(&third.result()));
    let earned_by_nano = earned(&course.models().await);
    course.network.turn_to(7, "reveal").await;
    assert!(won(&fourth.result()));
    assert!(earned(&course.models().await) > earned_by_nano);
    let status = course.network.nodes[3].client.status().await.unwrap();
    assert!(status.supply.conserved && status.audits.invalid.0 == 0);
}
