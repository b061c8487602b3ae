//! Audits: a claim that is false in its last bit costs the submitter its bond, an honest one on the
//! same network is paid, and every validator has scored both itself.

use std::path::{Path, PathBuf};

use soma_architecture::embedding::document_distance;
use soma_model::{Directions, Engine, KernelChoice, Score, Weights};
use soma_protocol::{Action, Amount, Epoch, Hash, ModelId, TargetId, action, corpus, winner};
use soma_sdk::Secret;
use soma_sdk::api::cursor::Cursor;
use soma_sdk::api::{Returned, Target, TargetStatus};
use soma_sdk::obligation::{Claim, Publication};
use soma_sdk::sender::Sender;

use serde_json::Value;

use crate::network::{Network, until};
use crate::support::root;

/// Small enough for a debug build, large enough to compete.
const ARCH: &str = r#"{"embedding_dim":32,"num_heads":2,"num_layers":1,"pwff_hidden_dim":64,
    "vocab_size":264,"max_seq_len":64,"sig_reg_slices":16,
    "sig_reg_points":17,"sig_reg_t_max":3.0}"#;

const LEAF_SALT: [u8; 32] = [8; 32];

/// The document of those who do not submit by a command.
fn document() -> Vec<u8> {
    std::fs::read(root().join("ARCHITECTURE.md")).unwrap()
}

fn leaf(data: &[u8]) -> Hash {
    corpus::leaf(&Hash::of_bytes(data), u32::try_from(data.len()).unwrap(), &LEAF_SALT)
}

pub(crate) struct Competition {
    pub(crate) network: Network,
    home: PathBuf,
}

impl Competition {
    /// Two models with random weights, active in epoch 2. Their owners upload to the first
    /// validator only. `submitter` has fixed the document that it claims for.
    pub(crate) async fn start(home: &Path, more: &[&str], submitter: &str) -> Self {
        let arch = home.join("arch.json").display().to_string();
        std::fs::write(&arch, ARCH).unwrap();
        let flags = ["--epoch", "manual", "--arch", &arch];
        let network = Network::start(home, &[&flags[..], more].concat()).await;
        let competition = Self { network, home: home.to_owned() };
        let domain = root().join("STYLE.md").display().to_string();
        for (owner, seed) in [("account-1", "1"), ("account-2", "2")] {
            let weights = competition.weights(seed).display().to_string();
            let json = |arguments: &[&str]| competition.network.json(arguments);
            json(&["model", "init", "--arch", &arch, "--seed", seed, "-o", &weights]);
            json(&["model", "register", "owl", "--key", owner]);
            json(&["model", "commit", &weights, "--domain", &domain, "--key", owner]);
        }
        let sender = competition.network.sender(submitter).await;
        let root = corpus::root(&[leaf(&document())]).unwrap();
        sender.run(action::CommitCorpus { root, leaves: 1 }.into()).await.unwrap();
        competition.network.turn_to(2, "reveal").await;
        for owner in ["account-1", "account-2"] {
            competition.network.run(&["model", "reveal", "--key", owner]);
        }
        competition.network.turn_to(2, "compete").await;
        competition
    }

    fn weights(&self, seed: &str) -> PathBuf {
        self.home.join(format!("{seed}.safetensors"))
    }

    /// What enters the document for a target, and the action that submits it, with a loss that is
    /// lower by this much than it is.
    pub(crate) async fn claim(
        &self,
        sender: &Sender,
        target: &Target,
        lower_by: i64,
    ) -> (Publication, Action) {
        let data = document();
        let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
        let score = |model: u32| -> Score {
            let weights = Weights::open(&self.weights(&model.to_string()), None).unwrap();
            let directions = Directions::new(weights.architecture(), target.seed.0.0);
            soma_model::score(&engine, &weights, &data, &directions).unwrap().score
        };
        let scores: Vec<Score> = target.routed.iter().map(|one| score(one.model)).collect();
        let losses: Vec<_> = scores.iter().map(|score| Some(score.loss_q32)).collect();
        let ages: Vec<_> = target.routed.iter().map(|one| one.age.into()).collect();
        let best = winner(&losses, &ages, sender.params().loss_margin_q32).unwrap();
        let model = ModelId(target.routed[best].model);
        let direction = sender.client().direction(TargetId(target.id)).await.unwrap();
        let epoch = Some(Epoch(target.epoch));
        let specialization = sender.client().specialization(model, epoch).await.unwrap();
        let (mean, direction) = (specialization.components, direction.components);
        let distance = document_distance(&scores[best].embedding, &mean, &direction).unwrap();
        let publication = Publication {
            chain: sender.chain(),
            submitter: sender.address(),
            target: TargetId(target.id),
            epoch: Epoch(target.epoch),
            salt: Secret::from_bytes([9; 32]),
            index: 0,
            leaf_salt: Secret::from_bytes(LEAF_SALT),
            path: Vec::new(),
            data,
        };
        let loss_q32 = scores[best].loss_q32 - lower_by;
        let gain_q32 = scores[best].gain_q32;
        let claim = publication.submit(Claim { model, loss_q32, gain_q32, distance });
        (publication, claim)
    }

    /// The validators' verdict on each target, in order.
    async fn decided(&self, count: usize) -> Vec<Value> {
        let mut events = self.network.nodes[0].client.events(Some(Cursor::default()));
        let mut decided = Vec::new();
        while decided.len() < count {
            let event = events.next().await.unwrap();
            if event.event == "target_decided" {
                decided.push(Value::Object(event.fields));
            }
        }
        decided.sort_by_key(|event| event["target"].as_u64());
        decided
    }

    async fn balance(&self, of: &Sender) -> u64 {
        of.client().account(of.address()).await.unwrap().balance.0
    }

    async fn published(&self, target: u32) -> bool {
        let client = &self.network.nodes[0].client;
        let target = client.target(TargetId(target)).await.unwrap();
        target.status == TargetStatus::Published
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_that_is_false_in_its_last_bit_costs_the_bond_and_an_honest_one_is_paid() {
    let home = tempfile::tempdir().unwrap();
    let competition = Competition::start(home.path(), &["--block-ms", "50"], "account-4").await;
    let network = &competition.network;
    let client = &network.nodes[0].client;
    for node in &network.nodes {
        let held = std::fs::read_dir(node.dir.join("weights/ciphertexts")).unwrap();
        assert_eq!(held.count(), 2, "each validator fetched what it was not given");
    }

    let targets = client.targets(Some(Epoch(2))).await.unwrap();
    let (honest, false_one) = (&targets[0], &targets[1]);
    let style = root().join("STYLE.md").display().to_string();
    let target = honest.id.to_string();
    let submit = ["submit", &style, "--target", &target, "--key", "account-3"];
    let submitting = network.begin(&submit);
    let liar = network.sender("account-4").await;
    let before = competition.balance(&liar).await;
    let (lie, claim) = competition.claim(&liar, false_one, 1).await;
    liar.run(claim).await.unwrap();
    until("the honest claim is a candidate", async || {
        let target = client.target(TargetId(honest.id)).await.unwrap();
        !target.candidates.is_empty()
    })
    .await;

    network.turn_to(3, "reveal").await;
    liar.run(lie.publish()).await.unwrap();
    until("the honest claim is published", async || competition.published(honest.id).await).await;
    network.turn_to(4, "reveal").await;

    let lost = client.target(lie.target).await.unwrap();
    assert_eq!(lost.status, TargetStatus::Returned);
    assert_eq!(lost.returned, Some(Returned::Invalid));
    let bond = Amount(lost.reward.0).bps(liar.params().bond_bps).0;
    let spent = before - competition.balance(&liar).await;
    let fees = spent.checked_sub(bond).expect("the bond is gone");
    assert!(bond > 0 && fees < 10_000_000, "{bond} and fees of {fees}");
    let entered = submitting.result();
    assert_eq!(entered[0]["outcome"], "won");
    let half = (honest.reward.0 / 2).to_string();
    assert_eq!(entered[0]["paid"], half.as_str());

    let decided = competition.decided(2).await;
    for (event, verdict) in decided.iter().zip(["valid", "invalid"]) {
        assert_eq!(event["validity"], verdict);
        assert_eq!((&event["agreed"], &event["disagreed"]), (&4.into(), &0.into()));
    }
    for node in &network.nodes {
        let audits = node.client.status().await.unwrap().audits;
        assert_eq!((audits.valid.0, audits.invalid.0, audits.waiting), (1, 1, 0));
        assert_eq!(audits.scores.0, 4, "two claims with two models each");
    }
    assert!(client.status().await.unwrap().supply.conserved);
}
