//! For every way to win nothing, the chain tells which one it was.

use soma_model::Weights;
use soma_protocol::{Action, Amount, Epoch, Hash, ModelId, Phase, TargetId, action};
use soma_sdk::Sender;
use soma_sdk::api::{Payment, Submission, Target, Why, routes};
use soma_sdk::obligation::{self, Publication, Reveal};
use soma_sdk::why::{self, Fate, Reason};

use crate::competition::{Claim, Corpus, commit, distance, enter, publish, scores, submit};
use crate::network::{Network, wait_until};

/// What became of the account's submissions.
async fn of_account(network: &Network, sender: &Sender) -> Vec<Fate> {
    why::of_account(&network.client, sender.address(), 100).await.unwrap()
}

/// What became of a model in one epoch.
async fn of_model(network: &Network, model: ModelId, epoch: u32) -> Vec<Fate> {
    let fates = why::of_model(&network.client, model, 100).await.unwrap();
    fates.into_iter().filter(|fate| fate.epoch == epoch).collect()
}

/// The reason given for a target.
fn about(fates: &[Fate], target: TargetId) -> &Reason {
    let found = fates.iter().find(|fate| fate.target == Some(target.0));
    &found.unwrap_or_else(|| panic!("nothing about target {target} in {fates:?}")).reason
}

/// What the node answers, if there is such a thing.
async fn get<T: serde::de::DeserializeOwned>(network: &Network, path: &str) -> Option<T> {
    let answer = reqwest::get(format!("{}{path}", network.url())).await.unwrap();
    match answer.status().as_u16() {
        404 => None,
        200 => Some(serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()),
        status => panic!("{path}: {status}"),
    }
}

/// The codes of the rejections among them, each with the phase in which it came.
fn refusals(fates: &[Fate]) -> Vec<(&str, &str)> {
    let refused = fates.iter().filter_map(|fate| match &fate.reason {
        Reason::Refused { code, phase, .. } => Some((code.as_str(), phase.as_str())),
        _ => None,
    });
    refused.collect()
}

/// The node tells of a submission that won, and says why in the words that the client finds.
async fn node_tells(
    network: &Network,
    [winner, outsider]: [&Sender; 2],
    target: TargetId,
    won: &Payment,
) {
    let path = routes::submission(target, winner.address());
    let submission: Submission = get(network, &path).await.unwrap();
    assert_eq!(submission.payment.as_ref(), Some(won));
    let kinds: Vec<&str> = submission.events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!((kinds[0], *kinds.last().unwrap()), ("target_settled", "submission_accepted"));
    let path = routes::submission(target, outsider.address());
    assert_eq!(get::<Submission>(network, &path).await, None);
    let of_account = why::of_account(&network.client, winner.address(), 10).await.unwrap();
    let of_model = why::of_model(&network.client, ModelId(won.model), 10).await.unwrap();
    for (path, found) in [
        (routes::path(routes::ACCOUNT_WHY, winner.address()), of_account),
        (routes::path(routes::MODEL_WHY, won.model), of_model),
    ] {
        let told: Why = get(network, &format!("{path}?epochs=10")).await.unwrap();
        let [told, found] = [serde_json::to_value(&told.fates), serde_json::to_value(&found)];
        assert_eq!(told.unwrap(), found.unwrap());
    }
    assert_eq!(get::<Why>(network, &routes::path(routes::MODEL_WHY, 99)).await, None);
}

/// Submits without having computed anything.
fn guess(publication: &Publication, target: &Target) -> Action {
    let model = ModelId(target.routed[0].model);
    publication.submit(obligation::Claim { model, loss_q32: 1, gain_q32: 1, distance: 1 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitter_and_the_owner_of_a_model_are_told_what_became_of_each_target() {
    let network = Network::with_params(|params| params.targets_per_epoch = 4);
    let [alice, bob] = [network.sender("account-3").await, network.sender("account-4").await];
    let texts = ["a text that nobody has seen ", "another one, well claimed ", "and a third ", "!"];
    let alices = Corpus::commit(&alice, &texts).await;
    let bobs = Corpus::commit(&bob, &["a text of Bob's, of another kind: 0123456789 "]).await;
    let empty = register(&network.sender("account-5").await, "empty").await;
    enter(&network).await;
    let targets = network.client.targets(Some(Epoch(2))).await.unwrap();
    let honest = submit(&network, &alice, &targets[0], &alices, 0, Claim::True).await;
    let liar = submit(&network, &alice, &targets[1], &alices, 1, Claim::Loss).await;
    let silent = submit(&network, &alice, &targets[2], &alices, 2, Claim::True).await;
    let rivals = [
        (&alice, submit(&network, &alice, &targets[3], &alices, 3, Claim::True).await),
        (&bob, submit(&network, &bob, &targets[3], &bobs, 0, Claim::True).await),
    ];
    let outsider = network.sender("account-6").await;
    let unfixed = alices.publication(&outsider, &targets[0], 0);
    outsider.run(guess(&unfixed, &targets[0])).await.unwrap_err();
    let fates = of_account(&network, &alice).await;
    assert_eq!(*about(&fates, honest.target), Reason::Pending { rank: 0 });

    network.go_to(3, Phase::Reveal).await;
    bob.run(guess(&bobs.publication(&bob, &targets[2], 0), &targets[2])).await.unwrap_err();
    let contested = network.client.target(rivals[0].1.target).await.unwrap();
    let is_alices = contested.candidates[0].submitter.0 == alice.address();
    let [closer, farther] = if is_alices { [0, 1] } else { [1, 0] };
    rivals[closer].0.run(rivals[closer].1.publish()).await.unwrap();
    publish(&network, &alice, &[&honest, &liar]).await;
    network.wait_for_attestations(&[rivals[closer].1.target]).await;
    network.go_to(4, Phase::Reveal).await;

    let fates = of_account(&network, &alice).await;
    let won = network.client.target(honest.target).await.unwrap().payment.unwrap();
    let paid = Amount(won.paid_submitter.0);
    assert_eq!(*about(&fates, honest.target), Reason::Won { paid });
    let bond = Amount(targets[1].reward.0).bps(alice.params().bond_bps);
    assert_eq!(*about(&fates, liar.target), Reason::FoundInvalid { bond });
    assert_eq!(*about(&fates, silent.target), Reason::NotPublished { bond });
    let fates = of_account(&network, rivals[farther].0).await;
    let reason = about(&fates, rivals[farther].1.target);
    let Reason::CloserPublished { distance, closest } = reason else { panic!("{reason:?}") };
    assert!(closest.0 < distance.0);
    assert_eq!(refusals(&of_account(&network, &bob).await), [("wrong_phase", "reveal")]);
    let fates = of_account(&network, &outsider).await;
    assert_eq!(refusals(&fates), [("no_corpus", "compete")]);
    node_tells(&network, [&alice, &outsider], honest.target, &won).await;

    let other = targets[0].routed.iter().find(|routed| routed.model != won.model).unwrap().model;
    let winners = of_model(&network, ModelId(won.model), 2).await;
    let others = of_model(&network, ModelId(other), 2).await;
    let paid = Amount(won.paid_model.0);
    assert_eq!(*about(&winners, honest.target), Reason::ModelWon { paid });
    let reason = about(&others, honest.target);
    let Reason::PredictedWorse { winner, loss_q32: Some(_) } = reason else { panic!("{reason:?}") };
    assert_eq!(*winner, won.model);
    assert_eq!(*about(&others, liar.target), Reason::ClaimInvalid);
    assert_eq!(*about(&others, silent.target), Reason::Unclaimed);
    let fates = of_model(&network, empty, 2).await;
    assert_eq!(fates[0].reason, Reason::NoWeights);
    for epochs in 1..=4 {
        let first = 5 - epochs;
        let fates = why::of_account(&network.client, alice.address(), epochs).await.unwrap();
        assert!(fates.iter().all(|fate| fate.epoch >= first), "{epochs} epochs: {fates:?}");
        let expected = if first <= 2 { 4 } else { 0 };
        assert_eq!(fates.len(), expected, "{epochs} epochs: {fates:?}");
    }
    let fates = why::of_model(&network.client, ModelId(won.model), 2).await.unwrap();
    let routed = fates.iter().filter(|fate| fate.epoch == 3 && fate.target.is_some());
    assert_eq!(routed.count(), 4, "what epoch 2 paid came after they were drawn: {fates:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_displaced_or_not_routed_or_let_weights_lapse_is_told_so() {
    let network = Network::with_params(|params| {
        params.targets_per_epoch = 1;
        params.models_per_target = 1;
        params.candidates_per_target = 1;
        params.refresh_epochs = 2;
    });
    let alice = network.sender("account-3").await;
    let bob = network.sender("account-4").await;
    let texts = ["one text ", "0123456789", "another kind of text "];
    let corpus = Corpus::commit(&alice, &texts).await;
    let bobs = Corpus::commit(&bob, &texts).await;
    let weights = Weights::init(&network.architecture(), [3; 32]).unwrap();
    let secretive = network.sender("account-5").await;
    let kept = commit(&network, &secretive, "kept", &weights).await;
    let idle = network.sender("account-6").await;
    let model = register(&idle, "not uploaded").await;
    let ciphertext_hash = Hash::of_bytes(b"a file that nobody uploads");
    let never_sent = Reveal { model, owner: idle.address(), ciphertext_hash, ..kept.clone() };
    idle.run(never_sent.commit()).await.unwrap();
    let held = async || network.client.model(kept.model).await.unwrap().commits[0].held;
    wait_until("the validator attests the file it holds", held).await;
    let [one, two] = enter(&network).await.map(|reveal| reveal.model);

    let target = network.client.targets(Some(Epoch(2))).await.unwrap().remove(0);
    let id = TargetId(target.id);
    let routed = ModelId(target.routed[0].model);
    let passed_over = if routed == one { two } else { one };
    let fates = of_model(&network, passed_over, 2).await;
    let Reason::NotRouted { nearest, routed: to, missing: Some(missing), .. } = &fates[0].reason
    else {
        panic!("{fates:?}")
    };
    assert_eq!((*nearest, to.as_slice()), (target.id, &[routed.0][..]));
    assert!(*missing > Amount::ZERO);
    let lapsed = of_model(&network, model, 2).await;
    assert!(matches!(lapsed[0].reason, Reason::NotHeld { .. }), "{lapsed:?}");

    let mut order = Vec::new();
    for at in 0..3 {
        let publication = corpus.publication(&alice, &target, at);
        let score = &scores(&network, &target, &publication.data).await[0];
        order.push((distance(&network, &target, routed, score).await, at));
    }
    order.sort_unstable();
    submit(&network, &alice, &target, &corpus, order[1].1, Claim::True).await;
    submit(&network, &bob, &target, &bobs, order[0].1, Claim::True).await;
    let fates = of_account(&network, &alice).await;
    let reason = about(&fates, id);
    let Reason::Displaced { distance, closest } = reason else { panic!("{reason:?}") };
    assert_eq!((distance.0, closest.0), (order[1].0, order[0].0));

    network.go_to(3, Phase::Compete).await;
    let lapsed = of_model(&network, kept.model, 2).await;
    assert!(matches!(lapsed[0].reason, Reason::NotRevealed { .. }), "{lapsed:?}");
    network.go_to(4, Phase::Compete).await;
    let fates = of_model(&network, one, 4).await;
    assert_eq!(fates[0].reason, Reason::WeightsDue { since: 4 });
}

/// Registers a model without weights.
async fn register(owner: &Sender, name: &str) -> ModelId {
    let (name, stake) = (name.to_owned(), Amount::soma(100));
    let action = action::RegisterModel { name, commission_bps: 0, stake };
    owner.run(Action::RegisterModel(action)).await.unwrap();
    let account = owner.client().account(owner.address()).await.unwrap();
    ModelId(account.models[0])
}
