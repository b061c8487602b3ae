//! A copy of a model wins nothing against its original, byte for byte, with noise on every weight,
//! or with other representations behind the same predictions: measured on real weights of a trained
//! model, and shown on a running node.

use std::path::Path;

use crate::competition::{self, Claim, commit, publish, reveal, submit};
use crate::network::Network;
use soma_model::train::{Corpus, Recipe, Trainer};
use soma_model::{
    Architecture, Directions, Engine, KernelChoice, Score, Weights, score_all, score_with_dump,
};
use soma_protocol::record::WeightsAge;
use soma_protocol::winner::margin;
use soma_protocol::{Epoch, Params, Phase, winner};
use soma_sdk::api::{Returned, TargetStatus};

const LEARNED: [&str; 2] =
    [include_str!("../../../../docs/protocol.md"), include_str!("../../../../docs/engine.md")];
const UNSEEN: [&str; 3] = [
    include_str!("../../../../docs/numerics.md"),
    include_str!("../../../../docs/adr/0008-age-belongs-to-weights-hashes.md"),
    include_str!("../../../model/src/score.rs"),
];
/// Relative noise on a weight.
const NOISE: [f32; 3] = [1e-6, 1e-5, 1e-4];

/// A model that has learned something.
fn trained(architecture: &Architecture, steps: u64) -> Weights {
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let recipe = Recipe { steps, warmup: 10, ..Recipe::default() };
    let mut corpus = Corpus::new();
    for text in LEARNED {
        corpus.push(text.as_bytes());
    }
    let start = Weights::init(architecture, recipe.seed).unwrap();
    let mut trainer = Trainer::new(&engine, &start, recipe, corpus).unwrap();
    for _ in 0..steps {
        trainer.step().unwrap();
    }
    trainer.weights()
}

/// A copy with every weight scaled by `1 + noise` or `1 - noise`, as a coin toss decides.
fn noisy(weights: &Weights, noise: f32, seed: u64, path: &Path) -> Weights {
    weights.save(path).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let values = &mut bytes[8 + usize::try_from(header).unwrap()..];
    let mut coins = vec![0; values.len() / 4];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut coins);
    for (value, coin) in values.as_chunks_mut::<4>().0.iter_mut().zip(coins) {
        let part = if coin % 2 == 0 { noise } else { -noise };
        *value = (f32::from_le_bytes(*value) * (1.0 + part)).to_le_bytes();
    }
    std::fs::write(path, &bytes).unwrap();
    Weights::open(path, None).unwrap()
}

/// The values of a tensor in the bytes of a weights file.
fn tensor<'a>(bytes: &'a mut [u8], name: &str) -> &'a mut [[u8; 4]] {
    let length = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let at = |end: usize| {
        8 + length + usize::try_from(header[name]["data_offsets"][end].as_u64().unwrap()).unwrap()
    };
    bytes[at(0)..at(1)].as_chunks_mut::<4>().0
}

fn add(value: &mut [u8; 4], change: f32) {
    *value = (f32::from_le_bytes(*value) + change).to_le_bytes();
}

/// A copy with the same predictions whose representations of `texts` have the mean zero, which
/// lowers `SIGReg`: the last `LayerNorm` moves them, and the predictor takes it back.
fn centered(weights: &Weights, texts: &[&[u8]], path: &Path) -> Weights {
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let directions = Directions::new(weights.architecture(), [0; 32]);
    let dim = weights.architecture().dim as usize;
    let (mut middle, mut rows) = (vec![0.0; dim], 0.0);
    for text in texts {
        let (_, dump) = score_with_dump(&engine, weights, text, &directions).unwrap();
        for row in dump.representations.chunks_exact(dim) {
            middle.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            rows += 1.0;
        }
    }
    weights.save(path).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    for (at, sum) in middle.into_iter().enumerate() {
        #[expect(clippy::cast_possible_truncation, reason = "a weight is a float32")]
        let mean = (sum / rows) as f32;
        add(&mut tensor(&mut bytes, "final_norm.beta")[at], -mean);
        let bias = tensor(&mut bytes, "predictor.bias").len();
        let row = tensor(&mut bytes, "predictor.weight")[at * bias..][..bias].to_vec();
        let bias = tensor(&mut bytes, "predictor.bias");
        for (value, weight) in bias.iter_mut().zip(row) {
            add(value, mean * f32::from_le_bytes(weight));
        }
    }
    std::fs::write(path, &bytes).unwrap();
    Weights::open(path, None).unwrap()
}

/// Data that no text is like, on which noise does most: one byte again and again, and bytes at
/// random.
fn junk(architecture: &Architecture) -> Vec<Vec<u8>> {
    let mut random = vec![0; 64 * architecture.positions as usize];
    blake3::Hasher::new().finalize_xof().fill(&mut random);
    let random = random.chunks(architecture.positions as usize).map(<[u8]>::to_vec);
    (0..=u8::MAX).map(|byte| vec![byte; architecture.positions as usize]).chain(random).collect()
}

/// Pieces of texts that the model has and has not learned from, from a chunk to sixteen.
fn pieces(architecture: &Architecture) -> Vec<&'static [u8]> {
    let texts = LEARNED.into_iter().chain(UNSEEN);
    let pieces = texts.flat_map(|text| {
        [1, 4, 16]
            .map(|chunks| text.as_bytes().chunks_exact(chunks * architecture.positions as usize))
    });
    pieces.flat_map(|pieces| pieces.take(4)).collect()
}

#[test]
fn noise_on_every_weight_changes_a_loss_by_far_less_than_the_margin() {
    let architecture =
        Architecture { dim: 32, layers: 2, ffn: 64, positions: 64, ..Architecture::nano() };
    let original = trained(&architecture, 400);
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let directions = Directions::new(&architecture, [3; 32]);
    let (texts, junk) = (pieces(&architecture), junk(&architecture));
    let all: Vec<&[u8]> = texts.iter().copied().chain(junk.iter().map(Vec::as_slice)).collect();
    let losses = |weights: &Weights| -> Vec<i64> {
        let scores = score_all(&engine, weights, &all, &directions, |_| ()).unwrap();
        let scores = scores.into_iter();
        scores.map(|one| one.unwrap().score.cross_entropy_q32()).collect()
    };
    let expected = losses(&original);
    let mean = expected[..texts.len()].iter().sum::<i64>() / i64::try_from(texts.len()).unwrap();
    assert!(mean < 4 << 32, "a model without training has a loss of 5.6 nat");

    let margin_q32 = Params::network().loss_margin_q32;
    let age = |epoch| WeightsAge { epoch: Epoch(epoch), height: 1, index: 0 };
    let folder = tempfile::tempdir().unwrap();
    for noise in NOISE {
        for seed in 0..4 {
            let copy = noisy(&original, noise, seed, &folder.path().join("copy"));
            assert_ne!(copy.hash(), original.hash());
            for (at, (original, copy)) in expected.iter().zip(losses(&copy)).enumerate() {
                let won = winner(&[Some(copy), Some(*original)], &[age(2), age(1)], margin_q32);
                assert_eq!(won, Some(1), "noise {noise}, seed {seed}, data {at}");
                let (change, margin) = (original.abs_diff(copy), margin(copy, margin_q32));
                let times = if at < texts.len() { 8 } else { 2 };
                assert!(change * times < margin, "{change} of {margin}, noise {noise}, data {at}");
            }
        }
    }
}

#[test]
fn a_copy_with_other_representations_has_a_lower_loss_and_does_not_win() {
    let architecture =
        Architecture { dim: 32, layers: 2, ffn: 64, positions: 64, ..Architecture::nano() };
    let original = trained(&architecture, 200);
    let folder = tempfile::tempdir().unwrap();
    let texts = pieces(&architecture);
    let copy = centered(&original, &texts, &folder.path().join("copy"));
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let directions = Directions::new(&architecture, [3; 32]);
    let scores = |weights: &Weights| -> Vec<Score> {
        let scores = score_all(&engine, weights, &texts, &directions, |_| ()).unwrap();
        scores.into_iter().map(|one| one.unwrap().score).collect()
    };
    let (originals, copies) = (scores(&original), scores(&copy));
    let margin_q32 = Params::network().loss_margin_q32;
    let age = |epoch| WeightsAge { epoch: Epoch(epoch), height: 1, index: 0 };
    let mut lower = 0;
    for (original, copy) in originals.iter().zip(&copies) {
        let losses = [copy, original].map(|score| Some(score.cross_entropy_q32()));
        assert_eq!(winner(&losses, &[age(2), age(1)], margin_q32), Some(1));
        let by = u64::try_from(original.loss_q32 - copy.loss_q32).unwrap_or(0);
        lower += usize::from(by > margin(original.loss_q32, margin_q32));
    }
    assert!(lower * 2 > texts.len(), "by the loss, it would win: {lower} of {}", texts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_winning_model_are_routed_with_it_and_win_nothing() {
    let network = Network::with_params(|params| {
        params.models_per_target = 5;
        params.targets_per_epoch = 5;
    });
    let submitter = network.sender("account-6").await;
    let lines = UNSEEN[0].lines().filter(|line| line.len() > 60);
    let lines: Vec<&str> = lines.take(5).collect();
    let corpus = competition::Corpus::commit(&submitter, &lines).await;
    let weights = trained(&network.architecture(), 300);
    let owner = network.sender("account-1").await;
    let original = commit(&network, &owner, "original", &weights).await;
    reveal(&network, &[owner], std::slice::from_ref(&original), 2).await;

    // Public now: everybody may copy it, and commit to the copy for the next epoch.
    network.pull(&original).await.unwrap();
    let pulled = network.path(&format!("{}.weights", original.weights_hash));
    let exact = Weights::open(&pulled, Some(&network.architecture())).unwrap();
    let (mut owners, mut copies) = (Vec::new(), Vec::new());
    for (at, noise) in [0.0].into_iter().chain(NOISE).enumerate() {
        let owner = network.sender(&format!("account-{}", at + 2)).await;
        let copy = noisy(&exact, noise, 7, &network.path("copy"));
        copies.push(commit(&network, &owner, &format!("copy {at}"), &copy).await);
        owners.push(owner);
    }
    assert_eq!(copies[0].weights_hash, original.weights_hash, "byte for byte");
    reveal(&network, &owners, &copies, 3).await;

    let targets = network.client.targets(Some(Epoch(3))).await.unwrap();
    let mut claims = Vec::new();
    let truths = [Claim::True; 3].into_iter();
    let expected = truths.chain([0, 3].map(|at| Claim::Winner(copies[at].model)));
    for (at, (target, claim)) in targets.iter().zip(expected).enumerate() {
        assert_eq!(target.routed.len(), 5, "all on one target");
        claims.push(submit(&network, &submitter, target, &corpus, at, claim).await);
    }
    assert_eq!(claims.len(), 5);
    network.go_to(4, Phase::Reveal).await;
    publish(&network, &submitter, &claims.iter().collect::<Vec<_>>()).await;
    network.go_to(5, Phase::Reveal).await;

    for claim in &claims[..3] {
        let won = network.client.target(claim.target).await.unwrap();
        assert_eq!(won.status, TargetStatus::Settled);
    }
    for claim in &claims[3..] {
        let lost = network.client.target(claim.target).await.unwrap();
        assert_eq!(lost.returned, Some(Returned::Invalid));
    }
    assert_eq!(network.client.model(original.model).await.unwrap().wins, 3);
    for copy in copies {
        let copy = network.client.model(copy.model).await.unwrap();
        assert_eq!((copy.wins, copy.earned.0), (0, 0), "{}", copy.name);
    }
}
