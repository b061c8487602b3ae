//! The whole competition against a running node, through the same API as everyone: weights are
//! committed, uploaded, held, revealed and routed; data wins a target, is published, audited and
//! paid. Then the node is stopped and started again.

use crate::network::{Network, wait_until};
use soma_architecture::embedding::document_distance;
use soma_codes::Coded as _;
use soma_model::{Score, Weights};
use soma_protocol::{
    Action, Amount, Epoch, Hash, ModelId, Phase, TargetId, action, corpus, winner,
};
use soma_sdk::api::{ModelStatus, Returned, Target, TargetStatus};
use soma_sdk::cipher;
use soma_sdk::obligation::{self, Publication, Reveal};
use soma_sdk::transfer::Remote;
use soma_sdk::{Secret, Sender};

const STAKE: Amount = Amount::soma(100);
const COMMISSION_BPS: u16 = 1_000;

/// Registers a model and commits it to weights for the next epoch; returns what is to be revealed.
pub(crate) async fn commit(
    network: &Network,
    owner: &Sender,
    name: &str,
    weights: &Weights,
) -> Reveal {
    let action = Action::RegisterModel(action::RegisterModel {
        name: name.to_owned(),
        commission_bps: COMMISSION_BPS,
        stake: STAKE,
    });
    owner.run(action).await.unwrap();
    let model = network.client.account(owner.address()).await.unwrap().models[0];
    let (plain, ciphertext) =
        (network.path(&format!("{name}.plain")), network.path(&format!("{name}.cipher")));
    weights.save(&plain).unwrap();
    let key = Secret::derive(&[1; 32], name);
    let encrypted = cipher::encrypt(&plain, &ciphertext, &key, |_| ()).unwrap();
    let reveal = Reveal {
        chain: owner.chain(),
        model: ModelId(model),
        architecture: 1,
        owner: owner.address(),
        epoch: Epoch(network.client.status().await.unwrap().clock.epoch + 1),
        key,
        weights_hash: encrypted.weights_hash,
        ciphertext_hash: encrypted.ciphertext_hash,
        size_bytes: encrypted.size_bytes,
        specialization: network.score(weights, [0; 32], b"what the model is good at").embedding,
        ciphertext,
    };
    owner.run(reveal.commit()).await.unwrap();
    let outsider = network.sender("account-8").await;
    let refused = outsider.upload(&reveal.ciphertext, reveal.ciphertext_hash, &mut |_, _| ()).await;
    assert_eq!(refused.unwrap_err().code().as_str(), "upload_not_permitted");
    owner.upload(&reveal.ciphertext, reveal.ciphertext_hash, &mut |_, _| ()).await.unwrap();
    reveal
}

/// Downloads the models routed to a target and scores data with each.
pub(crate) async fn scores(network: &Network, target: &Target, data: &[u8]) -> Vec<Score> {
    let mut scores = Vec::new();
    for routed in &target.routed {
        let path = network.path(&format!("{}.pulled", routed.weights_hash));
        let remote = Remote::weights(*routed.weights_hash, *routed.size_bytes);
        network.client.download(&remote, &path, &mut |_, _| ()).await.unwrap();
        let weights = soma_model::Weights::open(&path, Some(&network.architecture())).unwrap();
        scores.push(network.score(&weights, target.seed.0.0, data));
    }
    scores
}

/// What a submitter says about its data.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Claim {
    /// The truth.
    True,
    /// The truth, except for a loss that is too low by one.
    Loss,
    /// The truth, except for a gain that is too high by one.
    Gain,
    /// This model is said to have won, with its own loss and distance.
    Winner(ModelId),
}

/// The corpus of a submitter.
pub(crate) struct Corpus {
    documents: Vec<Vec<u8>>,
    leaves: Vec<Hash>,
}

const LEAF_SALT: [u8; 32] = [8; 32];

impl Corpus {
    /// Fixes texts, each repeated a hundred times, for the targets of the next epoch on.
    pub(crate) async fn commit(sender: &Sender, texts: &[&str]) -> Self {
        let documents: Vec<Vec<u8>> =
            texts.iter().map(|text| text.repeat(100).into_bytes()).collect();
        let leaf = |data: &Vec<u8>| {
            corpus::leaf(&Hash::of_bytes(data), u32::try_from(data.len()).unwrap(), &LEAF_SALT)
        };
        let leaves: Vec<Hash> = documents.iter().map(leaf).collect();
        let root = corpus::root(&leaves).unwrap();
        let count = u32::try_from(leaves.len()).unwrap();
        let action = action::CommitCorpus { root, leaves: count };
        sender.run(Action::CommitCorpus(action)).await.unwrap();
        Self { documents, leaves }
    }

    /// What is due once a document is submitted to a target.
    pub(crate) fn publication(&self, sender: &Sender, target: &Target, at: usize) -> Publication {
        let index = u32::try_from(at).unwrap();
        Publication {
            chain: sender.chain(),
            submitter: sender.address(),
            target: TargetId(target.id),
            epoch: Epoch(target.epoch),
            salt: Secret::from_bytes([9; 32]),
            index,
            leaf_salt: Secret::from_bytes(LEAF_SALT),
            path: corpus::path(&self.leaves, index).unwrap(),
            data: self.documents[at].clone(),
        }
    }
}

/// Submits a document of a corpus to a target with a claim.
pub(crate) async fn submit(
    network: &Network,
    sender: &Sender,
    target: &Target,
    corpus: &Corpus,
    at: usize,
    claim: Claim,
) -> Publication {
    let publication = corpus.publication(sender, target, at);
    let scores = scores(network, target, &publication.data).await;
    let losses: Vec<_> = scores.iter().map(|score| Some(score.cross_entropy_q32())).collect();
    let ages: Vec<_> = target.routed.iter().map(|routed| routed.age.into()).collect();
    let best = match claim {
        Claim::Winner(model) => target.routed.iter().position(|one| one.model == model.0),
        _ => winner(&losses, &ages, sender.params().loss_margin_q32),
    };
    let best = best.unwrap();
    let loss_q32 = scores[best].loss_q32 - i64::from(matches!(claim, Claim::Loss));
    let gain_q32 = scores[best].gain_q32 + i64::from(matches!(claim, Claim::Gain));
    let model = ModelId(target.routed[best].model);
    let distance = distance(network, target, model, &scores[best]).await;
    let claim = obligation::Claim { model, loss_q32, gain_q32, distance };
    sender.run(publication.submit(claim)).await.unwrap();
    publication
}

/// The distance of data with this score under a model from a target.
pub(crate) async fn distance(
    network: &Network,
    target: &Target,
    model: ModelId,
    score: &Score,
) -> u64 {
    let direction = network.client.direction(TargetId(target.id)).await.unwrap();
    let epoch = Some(Epoch(target.epoch));
    let specialization = network.client.specialization(model, epoch).await.unwrap();
    let (mean, target) = (specialization.components, direction.components);
    document_distance(&score.embedding, &mean, &target).unwrap()
}

/// Two models enter the competition: committed and held in epoch 1, revealed and active in epoch 2.
pub(crate) async fn enter(network: &Network) -> [Reveal; 2] {
    let owners = [network.sender("account-1").await, network.sender("account-2").await];
    let weights = [1, 2].map(|seed| Weights::init(&network.architecture(), [seed; 32]).unwrap());
    let reveals = [
        commit(network, &owners[0], "one", &weights[0]).await,
        commit(network, &owners[1], "two", &weights[1]).await,
    ];
    reveal(network, &owners, &reveals, 2).await;
    reveals
}

/// Reveals what is committed for an epoch, once the validator holds it, and moves to the epoch's
/// compete phase.
pub(crate) async fn reveal(network: &Network, owners: &[Sender], reveals: &[Reveal], epoch: u32) {
    for reveal in reveals {
        let held = async || network.client.model(reveal.model).await.unwrap().commits[0].held;
        wait_until("the validator attests the file it holds", held).await;
        if epoch == 2 {
            let early = network.pull(reveal).await.unwrap_err();
            assert_eq!(early.code().as_str(), "weights_not_found", "secret until revealed");
        }
    }
    network.go_to(epoch, Phase::Reveal).await;
    for (owner, reveal) in owners.iter().zip(reveals) {
        owner.run(reveal.reveal()).await.unwrap();
    }
    network.go_to(epoch, Phase::Compete).await;
    for reveal in reveals {
        let model = network.client.model(reveal.model).await.unwrap();
        assert_eq!(model.status, ModelStatus::Active);
    }
}

/// Publishes claims of the last epoch and waits for the audits; returns the fees paid.
pub(crate) async fn publish(network: &Network, sender: &Sender, claims: &[&Publication]) -> u64 {
    let mut fees = 0;
    let epoch = network.client.status().await.unwrap().clock.epoch;
    for claim in claims {
        fees += sender.run(claim.publish()).await.unwrap().fee.0;
        let data = network.client.target_data(claim.target, claim.data_hash()).await.unwrap();
        assert_eq!(data, claim.data);
    }
    network.go_to(epoch, Phase::Compete).await;
    let targets: Vec<_> = claims.iter().map(|claim| claim.target).collect();
    network.wait_for_attestations(&targets).await;
    fees
}

#[tokio::test(flavor = "multi_thread")]
async fn a_win_is_published_audited_and_paid_in_halves_and_survives_a_restart() {
    let mut network = Network::with_params(|params| params.targets_per_epoch = 3);
    let submitter = network.sender("account-3").await;
    let texts = ["a text that nobody has seen ", "another one, well claimed ", "and a third "];
    let corpus = Corpus::commit(&submitter, &texts).await;
    let reveals = enter(&network).await;
    let targets = network.client.targets(Some(Epoch(2))).await.unwrap();
    let honest = submit(&network, &submitter, &targets[0], &corpus, 0, Claim::True).await;
    let liar = submit(&network, &submitter, &targets[1], &corpus, 1, Claim::Loss).await;
    let boaster = submit(&network, &submitter, &targets[2], &corpus, 2, Claim::Gain).await;
    let before = network.balance(&submitter).await;
    let stakes = network.stakes().await;
    network.go_to(3, Phase::Reveal).await;
    let fees = publish(&network, &submitter, &[&honest, &liar, &boaster]).await;
    network.go_to(4, Phase::Reveal).await;

    let won = network.client.target(honest.target).await.unwrap();
    let payment = won.payment.expect("the honest claim is paid");
    assert_eq!(won.status, TargetStatus::Settled);
    let halves = [payment.paid_submitter.0, payment.paid_model.0];
    assert_eq!(halves, [won.reward.0 / 2; 2]);
    for false_claim in [liar.target, boaster.target] {
        let lost = network.client.target(false_claim).await.unwrap();
        let invalid = (TargetStatus::Returned, Some(Returned::Invalid));
        assert_eq!((lost.status, lost.returned), invalid);
    }
    let bond = Amount(won.reward.0).bps(submitter.params().bond_bps).0;
    let after = network.balance(&submitter).await;
    assert_eq!(after, before - fees + payment.paid_submitter.0 + bond, "its half, and one bond");
    let grown = network.stakes().await.iter().sum::<u64>() - stakes.iter().sum::<u64>();
    let commission = Amount(payment.paid_model.0).bps(COMMISSION_BPS).0;
    assert_eq!(grown, payment.paid_model.0 - commission, "the rest joins the stake");
    let status = network.client.status().await.unwrap();
    assert!(status.supply.conserved);

    network.restart().await;
    let again = network.client.status().await.unwrap();
    assert!(again.height.0 >= status.height.0 && again.supply.conserved);
    assert_eq!(network.balance(&submitter).await, after);
    assert_eq!(network.client.block(status.height.0).await.unwrap().hash, status.block);
    network.pull(&reveals[1]).await.unwrap();
    let alice = network.sender("account-1").await;
    alice
        .run(Action::Transfer(action::Transfer { to: submitter.address(), amount: Amount(1) }))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_seed_gives_one_beacon() {
    let mut beacons = Vec::new();
    for _ in 0..2 {
        let network = Network::start();
        network.go_to(2, Phase::Compete).await;
        beacons.push(
            network
                .client
                .status()
                .await
                .unwrap()
                .clock
                .beacon
                .expect("drawn before the compete phase"),
        );
    }
    assert_eq!(beacons[0], beacons[1]);
}
