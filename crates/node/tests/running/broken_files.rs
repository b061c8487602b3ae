//! A model reveals the weights of another with a file of its own, which is not them. Its file is
//! its own fault: the other model is served, scored and paid as if there were no such reveal.

use crate::competition::{Corpus, commit, distance, publish, reveal};
use crate::network::Network;
use soma_model::{Score, Weights};
use soma_protocol::{Action, Amount, Epoch, Hash, ModelId, Phase, action};
use soma_sdk::api::{ModelStatus, Target, TargetStatus};
use soma_sdk::obligation::{self, Publication, Reveal};
use soma_sdk::{Secret, Sender};

/// Registers a model and commits it to the weights of another, with a file of one byte.
async fn commit_junk(network: &Network, owner: &Sender, honest: &Reveal) -> Reveal {
    let (name, stake) = ("junk".to_owned(), Amount::soma(100));
    let register = action::RegisterModel { name, commission_bps: 0, stake };
    owner.run(Action::RegisterModel(register)).await.unwrap();
    let model = network.client.account(owner.address()).await.unwrap().models[0];
    let (ciphertext, bytes) = (network.path("junk.cipher"), b"x");
    std::fs::write(&ciphertext, bytes).unwrap();
    let reveal = Reveal {
        model: ModelId(model),
        owner: owner.address(),
        key: Secret::from_bytes([9; 32]),
        ciphertext_hash: Hash::of_bytes(bytes),
        size_bytes: 1,
        ciphertext,
        ..honest.clone()
    };
    owner.run(reveal.commit()).await.unwrap();
    owner.upload(&reveal.ciphertext, reveal.ciphertext_hash, &mut |_, _| ()).await.unwrap();
    reveal
}

/// Submits data with the score of one model, as the winner.
async fn claim(
    network: &Network,
    sender: &Sender,
    target: &Target,
    corpus: &Corpus,
    (model, weights): (ModelId, &Weights),
) -> Publication {
    let publication = corpus.publication(sender, target, 0);
    let score = network.score(weights, target.seed.0.0, &publication.data);
    let distance = distance(network, target, model, &score).await;
    let Score { loss_q32, gain_q32, .. } = score;
    let claim = obligation::Claim { model, loss_q32, gain_q32, distance };
    sender.run(publication.submit(claim)).await.unwrap();
    publication
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_reveals_another_models_weights_hash_with_its_own_file_hurts_nobody_else() {
    let network = Network::start();
    let submitter = network.sender("account-3").await;
    let corpus = Corpus::commit(&submitter, &["a text that nobody has seen "]).await;
    let owners = [network.sender("account-1").await, network.sender("account-2").await];
    let weights = Weights::init(&network.architecture(), [1; 32]).unwrap();
    let honest = commit(&network, &owners[0], "one", &weights).await;
    let junk = commit_junk(&network, &owners[1], &honest).await;
    let reveals = [honest, junk];
    reveal(&network, &owners, &reveals, 2).await;
    let [honest, junk] = &reveals;
    network.pull(honest).await.expect("the weights are served from the file that is right");

    let targets = network.client.targets(Some(Epoch(2))).await.unwrap();
    assert_eq!(targets[0].routed.len(), 2);
    for routed in &targets[0].routed {
        let own = if routed.model == honest.model.0 { honest } else { junk };
        assert_eq!(*routed.weights_hash, honest.weights_hash);
        assert_eq!(*routed.ciphertext_hash, own.ciphertext_hash);
    }
    let entered = (honest.model, &weights);
    let claimed = claim(&network, &submitter, &targets[0], &corpus, entered).await;
    network.go_to(3, Phase::Reveal).await;
    publish(&network, &submitter, &[&claimed]).await;
    network.go_to(4, Phase::Reveal).await;

    let won = network.client.target(claimed.target).await.unwrap();
    assert_eq!(won.status, TargetStatus::Settled, "{:?}", won.returned);
    let status = async |model| network.client.model(model).await.unwrap().status;
    assert_eq!(status(honest.model).await, ModelStatus::Active);
    assert_eq!(status(junk.model).await, ModelStatus::Inactive);
    network.pull(honest).await.unwrap();
}
