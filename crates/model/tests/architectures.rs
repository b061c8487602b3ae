//! Whatever the rules accept as an architecture, the engine runs: a network can never vote itself
//! an architecture that nobody can score.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use proptest::prelude::*;
use soma_model::train::{Corpus, Recipe, Trainer};
use soma_model::{Architecture, Directions, Engine, Error, KernelChoice, Weights, score};

fn engine() -> Engine {
    Engine::new(KernelChoice::Auto, 1).unwrap()
}

/// The smallest architecture in everything but the number of layers.
fn least() -> Architecture {
    Architecture {
        layers: 1,
        dim: 2,
        heads: 1,
        ffn: 1,
        vocabulary: 258,
        positions: 2,
        sig_reg_slices: 1,
        sig_reg_points: 2,
        sig_reg_t_max_thousandths: 1,
        sig_reg_cap: 1,
        sig_reg_coefficient_millionths: 0,
        ..Architecture::nano()
    }
}

/// Scores with random weights; a loss beyond the limit is a result as well.
fn scores(architecture: &Architecture, data: &[u8]) {
    architecture.check().unwrap();
    let weights = Weights::init(architecture, [1; 32]).unwrap();
    let directions = Directions::new(architecture, [2; 32]);
    match score(&engine(), &weights, data, &directions) {
        Ok(report) => assert_eq!(report.score.embedding.len(), architecture.dim as usize),
        Err(error) => assert!(matches!(error, Error::NonFinite), "{error}"),
    }
}

fn accepted() -> impl Strategy<Value = Architecture> {
    let sizes = (1..4_u32, 1..6_u32, 1..4_u32, 1..40_u32);
    let data = (258..300_u32, 2..40_u32);
    let sigreg = (1..40_u32, 2..40_u32, 1..=16_000_u32, 1..=65_536_u32);
    let coefficient = 0..=1_000_000_000_u32;
    (sizes, data, sigreg, coefficient).prop_map(|(sizes, data, sigreg, coefficient)| {
        let (heads, half, layers, ffn) = sizes;
        Architecture {
            layers,
            dim: heads * half * 2,
            heads,
            ffn,
            vocabulary: data.0,
            positions: data.1,
            sig_reg_slices: sigreg.0,
            sig_reg_points: sigreg.1,
            sig_reg_t_max_thousandths: sigreg.2,
            sig_reg_cap: sigreg.3,
            sig_reg_coefficient_millionths: coefficient,
            ..Architecture::nano()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_accepted_architecture_is_scored_and_trained(
        architecture in accepted(),
        data in prop::collection::vec(any::<u8>(), 1..120),
    ) {
        scores(&architecture, &data);
        let engine = engine();
        let weights = Weights::init(&architecture, [1; 32]).unwrap();
        let mut corpus = Corpus::new();
        corpus.push(&data);
        let mut trainer = Trainer::new(&engine, &weights, Recipe::default(), corpus).unwrap();
        trainer.step().unwrap();
    }
}

#[test]
fn an_architecture_at_each_bound_is_scored() {
    let greatest: [fn(&mut Architecture); 11] = [
        |_| (),
        |a| a.layers = 256,
        |a| a.ffn = 1 << 18,
        |a| a.vocabulary = 1 << 16,
        |a| a.positions = 1 << 16,
        |a| a.sig_reg_slices = 1 << 14,
        |a| a.sig_reg_points = 1 << 10,
        |a| a.sig_reg_t_max_thousandths = 16_000,
        |a| a.sig_reg_cap = 1 << 16,
        |a| a.sig_reg_coefficient_millionths = 1_000_000_000,
        |a| (a.dim, a.heads) = (1 << 10, 1 << 9),
    ];
    for change in greatest {
        let mut architecture = least();
        change(&mut architecture);
        scores(&architecture, b"abc");
    }
}
