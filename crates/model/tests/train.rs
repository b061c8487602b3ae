//! What training promises: the weights follow from architecture, recipe, seed and data, and from
//! nothing else.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use proptest::prelude::*;
use soma_model::train::{CheckpointFault, Corpus, Recipe, Trainer};
use soma_model::{Architecture, Directions, Engine, Error, KernelChoice, KernelKind, Weights};

/// Small, and no width is a whole number of vectors.
fn tiny() -> Architecture {
    Architecture {
        dim: 24,
        heads: 2,
        layers: 2,
        ffn: 40,
        positions: 48,
        sig_reg_slices: 20,
        ..Architecture::nano()
    }
}

fn corpus() -> Corpus {
    let line = "the quick brown fox jumps over the lazy dog; ";
    let mut corpus = Corpus::new();
    corpus.push(line.repeat(8).as_bytes());
    corpus.push(b"a");
    corpus.push(line.to_uppercase().repeat(3).as_bytes());
    corpus
}

fn recipe() -> Recipe {
    Recipe { steps: 6, batch: 5, warmup: 2, ..Recipe::default() }
}

fn train(engine: &Engine, recipe: Recipe, corpus: Corpus) -> [u8; 32] {
    let weights = Weights::init(&tiny(), recipe.seed).unwrap();
    let steps = recipe.steps;
    let mut trainer = Trainer::new(engine, &weights, recipe, corpus).unwrap();
    for _ in 0..steps {
        trainer.step().unwrap();
    }
    trainer.weights().hash()
}

fn engine(kind: KernelKind, threads: usize) -> Engine {
    Engine::new(KernelChoice::Kind(kind), threads).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    #[test]
    fn every_kernel_and_thread_count_trains_the_same_weights(
        seed: [u8; 32],
        batch in 1_usize..6,
        micro_batches in 1_usize..3,
    ) {
        let recipe = Recipe { seed, batch, micro_batches, steps: 3, ..recipe() };
        let expected = train(&engine(KernelKind::Reference, 1), recipe.clone(), corpus());
        for kind in KernelKind::ALL.into_iter().filter(|kind| kind.is_available()) {
            for threads in 1..=3 {
                let hash = train(&engine(kind, threads), recipe.clone(), corpus());
                prop_assert_eq!(hash, expected, "{} on {} threads", kind, threads);
            }
        }
    }

    #[test]
    fn a_run_that_is_interrupted_anywhere_ends_with_the_same_weights(stop in 0_u64..6) {
        let engine = Engine::new(KernelChoice::Auto, 2).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let weights = Weights::init(&tiny(), [0; 32]).unwrap();
        let mut first = Trainer::new(&engine, &weights, recipe(), corpus()).unwrap();
        for _ in 0..stop {
            first.step().unwrap();
        }
        first.save_checkpoint(file.path()).unwrap();
        drop(first);
        let mut second = Trainer::resume(&engine, file.path(), corpus()).unwrap();
        prop_assert_eq!(second.steps_done(), stop);
        while second.steps_done() < second.recipe().steps {
            second.step().unwrap();
        }
        prop_assert_eq!(second.weights().hash(), train(&engine, recipe(), corpus()));
    }

    #[test]
    fn a_checkpoint_with_one_changed_byte_is_refused(at: prop::sample::Index, bit in 0_u32..8) {
        let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let weights = Weights::init(&tiny(), [0; 32]).unwrap();
        let trainer = Trainer::new(&engine, &weights, recipe(), corpus()).unwrap();
        trainer.save_checkpoint(file.path()).unwrap();
        let mut bytes = std::fs::read(file.path()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        std::fs::write(file.path(), &bytes).unwrap();
        let refused = Trainer::resume(&engine, file.path(), corpus());
        let is_fault = matches!(refused, Err(Error::Checkpoint { .. }));
        prop_assert!(is_fault);
        std::fs::write(file.path(), &bytes[..at]).unwrap();
        let refused = Trainer::resume(&engine, file.path(), corpus());
        let is_fault = matches!(refused, Err(Error::Checkpoint { .. }));
        prop_assert!(is_fault);
    }
}

#[test]
fn a_checkpoint_goes_on_with_its_own_data_only() {
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let weights = Weights::init(&tiny(), [0; 32]).unwrap();
    let trainer = Trainer::new(&engine, &weights, recipe(), corpus()).unwrap();
    trainer.save_checkpoint(file.path()).unwrap();
    let refused = Trainer::resume(&engine, file.path(), Corpus::from(b"something else".as_slice()));
    let fault = CheckpointFault::OtherData.to_string();
    assert!(refused.unwrap_err().to_string().ends_with(&fault));
}

#[test]
fn the_seed_the_data_and_the_recipe_each_change_the_weights() {
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let mut more = corpus();
    more.push(b"one more document");
    let hashes = [
        train(&engine, recipe(), corpus()),
        train(&engine, Recipe { seed: [1; 32], ..recipe() }, corpus()),
        train(&engine, recipe(), more),
        train(&engine, Recipe { weight_decay: 0.2, ..recipe() }, corpus()),
        train(&engine, Recipe { sigreg_coefficient: 0.0, ..recipe() }, corpus()),
    ];
    for (i, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..i].contains(hash), "run {i}");
    }
}

#[test]
fn the_loss_falls_far_on_a_corpus_that_repeats_itself() {
    let engine = Engine::new(KernelChoice::Auto, 2).unwrap();
    let recipe =
        Recipe { steps: 150, batch: 4, warmup: 10, learning_rate: 1e-2, ..Recipe::default() };
    let weights = Weights::init(&tiny(), [0; 32]).unwrap();
    let mut trainer = Trainer::new(&engine, &weights, recipe, corpus()).unwrap();
    let before = trainer.evaluate(&corpus()).unwrap();
    for _ in 0..150 {
        trainer.step().unwrap();
    }
    let after = trainer.evaluate(&corpus()).unwrap();
    assert!(before > 5.0 && after < 1.5, "{before} {after}");
}

#[test]
fn an_evaluation_gives_the_cross_entropy_of_a_score() {
    let engine = Engine::new(KernelChoice::Auto, 2).unwrap();
    let weights = Weights::init(&tiny(), [3; 32]).unwrap();
    let mut trainer = Trainer::new(&engine, &weights, recipe(), corpus()).unwrap();
    trainer.step().unwrap();
    let data = b"Two chunks and a part of a third, so that the borders between them \
        and the end of the data count too.";
    let evaluated = trainer.evaluate(&Corpus::from(data.as_slice())).unwrap();
    let directions = Directions::new(&tiny(), [0; 32]);
    let report = soma_model::score(&engine, &trainer.weights(), data, &directions).unwrap();
    assert_eq!(evaluated.to_bits(), report.cross_entropy.to_bits());
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let weights = Weights::init(&tiny(), [0; 32]).unwrap();
    let new = |recipe, corpus| Trainer::new(&engine, &weights, recipe, corpus).map(|_| ());
    assert!(matches!(new(recipe(), Corpus::new()), Err(Error::EmptyData)));
    for recipe in [
        Recipe { batch: 0, ..recipe() },
        Recipe { learning_rate: f64::NAN, ..recipe() },
        Recipe { beta_2: 1.0, ..recipe() },
    ] {
        assert!(matches!(new(recipe, corpus()), Err(Error::Recipe { .. })));
    }
}
