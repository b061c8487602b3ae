//! Claims before four validators: what is false in its last bit costs the submitter its bond, what
//! was not fixed before the targets or has won before is not even audited, and an honest claim on
//! the same network is paid, though its submitter is killed at every step.

use std::path::{Path, PathBuf};

use serde_json::Value;
use soma_architecture::embedding::document_distance;
use soma_codes::Coded as _;
use soma_model::{Directions, Engine, KernelChoice, Score, Weights};
use soma_protocol::{Action, Amount, Epoch, Hash, ModelId, TargetId, action, winner};
use soma_sdk::Secret;
use soma_sdk::api::cursor::Cursor;
use soma_sdk::api::{Returned, Target, TargetStatus};
use soma_sdk::corpus::{Corpus, Listed};
use soma_sdk::obligation::{Claim, Publication};
use soma_sdk::sender::Sender;

use crate::network::{Network, until};
use crate::support::{last_line, root, stderr};

/// Small enough for a debug build, large enough to compete.
const ARCH: &str = r#"{"embedding_dim":32,"num_heads":2,"num_layers":1,"pwff_hidden_dim":64,
    "vocab_size":264,"max_seq_len":64,"sig_reg_slices":16,
    "sig_reg_points":17,"sig_reg_t_max":3.0}"#;

pub(crate) struct Competition {
    pub(crate) network: Network,
    home: PathBuf,
}

/// A submitter that does not use the commands.
pub(crate) struct Submitter {
    pub(crate) sender: Sender,
    corpus: Corpus,
}

impl Submitter {
    /// Commits to documents, which count in the next epoch, with all that it committed before.
    pub(crate) async fn commit(&self, documents: &[&[u8]]) {
        let listed = |data: &&[u8]| Listed {
            data_hash: Hash::of_bytes(data),
            size_bytes: u32::try_from(data.len()).unwrap(),
        };
        self.corpus.add(documents.iter().map(listed)).unwrap();
        let leaves = self.corpus.len();
        let root = self.corpus.root(leaves).unwrap();
        let action = Action::CommitCorpus(action::CommitCorpus { root, leaves });
        self.sender.run(action).await.unwrap();
    }

    async fn balance(&self) -> u64 {
        self.sender.client().account(self.sender.address()).await.unwrap().balance.0
    }

    /// The code with which a publication is rejected.
    async fn rejected(&self, publication: Publication) -> &'static str {
        self.sender.run(publication.publish()).await.unwrap_err().code().as_str()
    }
}

impl Competition {
    /// Two models with random weights that can be revealed in epoch 2. Their owners upload to the
    /// first validator only.
    pub(crate) async fn start(home: &Path, more: &[&str]) -> Self {
        let arch = home.join("arch.json").display().to_string();
        std::fs::write(&arch, ARCH).unwrap();
        let flags = ["--epoch", "manual", "--arch", &arch];
        let network = Network::start(home, &[&flags[..], more].concat()).await;
        let competition = Self { network, home: home.to_owned() };
        let domain =
            ["STYLE.md", "SECURITY.md"].map(|name| root().join(name).display().to_string());
        let domain = ["--domain", &domain[0], &domain[1]];
        for (owner, seed) in [("account-1", "1"), ("account-2", "2")] {
            let weights = competition.weights(seed).display().to_string();
            let json = |arguments: &[&str]| competition.network.json(arguments);
            json(&["model", "init", "--arch", &arch, "--seed", seed, "-o", &weights]);
            json(&["model", "register", "owl", "--key", owner]);
            json(&[&["model", "commit", &weights, "--key", owner][..], &domain].concat());
        }
        competition
    }

    /// Turns to the compete phase of epoch 2, in which the models are active.
    pub(crate) async fn reveal(&self) {
        self.network.turn_to(2, "reveal").await;
        for owner in ["account-1", "account-2"] {
            self.network.run(&["model", "reveal", "--key", owner]);
        }
        self.network.turn_to(2, "compete").await;
    }

    fn weights(&self, seed: &str) -> PathBuf {
        self.home.join(format!("{seed}.safetensors"))
    }

    pub(crate) async fn submitter(&self, account: &str) -> Submitter {
        let sender = self.network.sender(account).await;
        let corpus = Corpus::open(self.home.join("liars").join(account)).unwrap();
        Submitter { sender, corpus }
    }

    /// What publishes data, and the action that submits it with a claim that is true but for what
    /// `lie` makes of it. Shows the data under the root that counts or, if it is not there, under
    /// the newest one.
    pub(crate) async fn claim(
        &self,
        submitter: &Submitter,
        target: &Target,
        data: &[u8],
        lie: impl FnOnce(&mut Claim),
    ) -> (Publication, Action) {
        let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
        let score = |model: u32| -> Score {
            let weights = Weights::open(&self.weights(&model.to_string()), None).unwrap();
            let directions = Directions::new(weights.architecture(), target.seed.0.0);
            soma_model::score(&engine, &weights, data, &directions).unwrap().score
        };
        let Submitter { sender, corpus } = submitter;
        let client = sender.client();
        let scores: Vec<Score> = target.routed.iter().map(|one| score(one.model)).collect();
        let losses: Vec<_> = scores.iter().map(|score| Some(score.cross_entropy_q32())).collect();
        let ages: Vec<_> = target.routed.iter().map(|one| one.age.into()).collect();
        let best = winner(&losses, &ages, sender.params().loss_margin_q32).unwrap();
        let (id, model) = (TargetId(target.id), ModelId(target.routed[best].model));
        let direction = client.direction(id).await.unwrap().components;
        let mean = client.specialization(model, Some(Epoch(target.epoch))).await.unwrap();
        let Score { loss_q32, gain_q32, embedding, .. } = &scores[best];
        let mut claim = Claim {
            model,
            loss_q32: *loss_q32,
            gain_q32: *gain_q32,
            distance: document_distance(embedding, &mean.components, &direction).unwrap(),
        };
        lie(&mut claim);
        let counting = client.account(sender.address()).await.unwrap().corpus.unwrap().leaves;
        let hash = Hash::of_bytes(data);
        let proof = corpus.proof(counting, &hash).or_else(|| corpus.proof(corpus.len(), &hash));
        let proof = proof.unwrap();
        let publication = Publication {
            chain: sender.chain(),
            submitter: sender.address(),
            target: id,
            epoch: Epoch(target.epoch),
            salt: Secret::from_bytes([9; 32]),
            index: proof.index,
            leaf_salt: proof.leaf_salt,
            path: proof.path,
            data: data.to_vec(),
        };
        let action = publication.submit(claim);
        (publication, action)
    }

    /// Submits such a claim.
    async fn enter(
        &self,
        submitter: &Submitter,
        target: &Target,
        data: &[u8],
        lie: impl FnOnce(&mut Claim),
    ) -> Publication {
        let (publication, action) = self.claim(submitter, target, data, lie).await;
        submitter.sender.run(action).await.unwrap();
        publication
    }

    async fn target(&self, id: u32) -> Target {
        self.network.nodes[0].client.target(TargetId(id)).await.unwrap()
    }

    async fn targets(&self, epoch: u32) -> Vec<Target> {
        self.network.nodes[0].client.targets(Some(Epoch(epoch))).await.unwrap()
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
}

fn text(name: &str) -> Vec<u8> {
    std::fs::read(root().join(name)).unwrap()
}

/// The data with every two hundredth byte changed.
fn mutated(data: &[u8]) -> Vec<u8> {
    let change = |(at, byte): (usize, &u8)| if at % 200 == 0 { byte ^ 1 } else { *byte };
    data.iter().enumerate().map(change).collect()
}

/// A network on which an honest claim for the first target of epoch 2 is published, and each of the
/// other targets has met a claim that is false in its own way.
struct Published {
    competition: Competition,
    targets: Vec<Target>,
    /// The liars whose claims were published, with their balances before.
    liars: [(Submitter, u64); 2],
}

impl Published {
    async fn reach(home: &Path) -> Self {
        let competition = Competition::start(home, &["--block-ms", "50"]).await;
        let network = &competition.network;
        let style = root().join("STYLE.md").display().to_string();
        let honest = ["submit", &style, "--key", "account-3"];

        // The honest submitter is killed once its document is committed.
        network.submit(&honest).await.kill();
        let (known, data) = (text("CONTRIBUTING.md"), text("ARCHITECTURE.md"));
        let mut liars = Vec::new();
        for account in ["account-4", "account-5", "account-6", "account-7"] {
            let liar = competition.submitter(account).await;
            liar.commit(&[&known, &data]).await;
            let balance = liar.balance().await;
            liars.push((liar, balance));
        }
        competition.reveal().await;

        // It is killed again once its document is submitted.
        let targets = competition.targets(2).await;
        let first = targets[0].id.to_string();
        let submitting = network.begin(&[&honest[..], &["--target", &first]].concat());
        until("the honest claim is a candidate", async || {
            !competition.target(targets[0].id).await.candidates.is_empty()
        })
        .await;
        submitting.kill();

        let [low_loss, low_gain, no_path, late] = liars.try_into().ok().unwrap();
        let lie = |claim: &mut Claim| claim.loss_q32 -= 1;
        let loss = competition.enter(&low_loss.0, &targets[1], &data, lie).await;
        let lie = |claim: &mut Claim| claim.gain_q32 -= 1;
        let gain = competition.enter(&low_gain.0, &targets[2], &data, lie).await;
        // The third of them does not show that its data is in its corpus. The fourth chooses its
        // data now that it knows the target.
        let (closer, chosen) = (|claim: &mut Claim| claim.distance = 0, text("README.md"));
        let unshown = competition.enter(&no_path.0, &targets[3], &data, closer).await;
        late.0.commit(&[&chosen]).await;
        let chosen = competition.enter(&late.0, &targets[3], &chosen, |_| ()).await;

        network.turn_to(3, "reveal").await;
        let publishing = network.begin(&honest);
        let unshown = Publication { path: Vec::new(), ..unshown };
        assert_eq!(no_path.0.rejected(unshown).await, "not_in_corpus");
        for (liar, lie) in [(&low_loss.0, loss), (&low_gain.0, gain)] {
            liar.sender.run(lie.publish()).await.unwrap();
        }
        until("the honest claim is published", async || {
            competition.target(targets[0].id).await.status == TargetStatus::Published
        })
        .await;
        publishing.kill();
        network.turn_to(3, "publish:1").await;
        assert_eq!(late.0.rejected(chosen).await, "not_in_corpus");
        Self { competition, targets, liars: [low_loss, low_gain] }
    }

    /// Checks what became of the targets of epoch 2.
    async fn is_judged(&self) {
        let Self { competition, targets, liars } = self;
        let won = competition.target(targets[0].id).await;
        let honest = competition.network.sender("account-3").await.address();
        let payment = won.payment.unwrap();
        assert_eq!(payment.submitter.0, honest);
        assert_eq!(payment.paid_submitter.0, targets[0].reward.0 / 2);
        for ((liar, before), target) in liars.iter().zip(&targets[1..]) {
            let lost = competition.target(target.id).await;
            assert_eq!(lost.status, TargetStatus::Returned);
            assert_eq!(lost.returned, Some(Returned::Invalid));
            let bond = Amount(lost.reward.0).bps(liar.sender.params().bond_bps).0;
            let spent = before - liar.balance().await;
            let fees = spent.checked_sub(bond).expect("the bond is gone");
            assert!(bond > 0 && fees < 10_000_000, "{bond} and fees of {fees}");
        }
        let unshown = competition.target(targets[3].id).await;
        assert_eq!(unshown.returned, Some(Returned::Unclaimed), "neither was published");

        let decided = competition.decided(3).await;
        for (event, verdict) in decided.iter().zip(["valid", "invalid", "invalid"]) {
            assert_eq!(event["validity"], verdict);
            assert_eq!((&event["agreed"], &event["disagreed"]), (&4.into(), &0.into()));
        }
        for node in &competition.network.nodes {
            let audits = node.client.status().await.unwrap().audits;
            assert_eq!((audits.valid.0, audits.invalid.0, audits.waiting), (1, 2, 0));
            assert_eq!(audits.scores.0, 6, "three claims with two models each");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_true_to_the_last_bit_fixed_before_the_targets_and_new_is_paid() {
    let home = tempfile::tempdir().unwrap();
    let published = Box::pin(Published::reach(home.path())).await;
    let Published { competition, .. } = &published;
    let network = &competition.network;
    for node in &network.nodes {
        let held = std::fs::read_dir(node.dir.join("weights/ciphertexts")).unwrap();
        assert_eq!(held.count(), 2, "each validator fetched what it was not given");
    }

    // Copies of what won, with changes here and there, are committed in time for epoch 4.
    let mutant = mutated(&text("STYLE.md"));
    let liar = competition.submitter("account-8").await;
    liar.commit(&[&mutant]).await;
    let path = home.path().join("mutant.md");
    std::fs::write(&path, &mutant).unwrap();
    let path = path.display().to_string();
    let careful = network.submit(&["submit", &path, "--key", "account-2"]).await;
    network.turn_to(4, "reveal").await;
    published.is_judged().await;

    network.turn_to(4, "compete").await;
    let target = &competition.targets(4).await[0];
    let copy = competition.enter(&liar, target, &mutant, |_| ()).await;
    let output = careful.output();
    let said = stderr(&output);
    assert!(said.contains("left out: 1 that have won before"), "{said}");
    assert_eq!(last_line(&output)["submissions"], serde_json::json!([]));
    network.turn_to(5, "reveal").await;
    assert_eq!(liar.rejected(copy).await, "data_seen_before");
    assert!(network.nodes[0].client.status().await.unwrap().supply.conserved);
}
