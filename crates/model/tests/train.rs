//! What training promises: the weights follow from architecture, recipe, seed and data, and from
//! nothing else.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use soma_model::train::{Changes, CheckpointFault, Corpus, Recipe, Trainer};
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

#[test]
fn a_step_that_is_given_up_leaves_the_run_as_it_was() {
    let engine = Engine::new(KernelChoice::Auto, 2).unwrap();
    let recipe = Recipe { micro_batches: 2, ..recipe() };
    let weights = Weights::init(&tiny(), recipe.seed).unwrap();
    let mut trainer = Trainer::new(&engine, &weights, recipe.clone(), corpus()).unwrap();
    let mut given_up = 0;
    for allowed in (0..).step_by(7) {
        let asked = AtomicU32::new(0);
        let proceed = || asked.fetch_add(1, Ordering::Relaxed) < allowed;
        if trainer.step_while(&proceed).unwrap().is_some() {
            break;
        }
        given_up += 1;
        assert_eq!(trainer.steps_done(), 0);
    }
    assert!(given_up > 1);
    while trainer.steps_done() < recipe.steps {
        trainer.step().unwrap();
    }
    assert_eq!(trainer.weights_hash(), train(&engine, recipe, corpus()));
}

#[test]
fn what_a_step_reports_can_be_known_before_it_and_changes_nothing() {
    let engine = Engine::new(KernelChoice::Auto, 2).unwrap();
    let recipe = Recipe { micro_batches: 2, ..recipe() };
    let weights = Weights::init(&tiny(), recipe.seed).unwrap();
    let mut trainer = Trainer::new(&engine, &weights, recipe.clone(), corpus()).unwrap();
    while trainer.steps_done() < recipe.steps {
        let told = trainer.next_report(&|| true).unwrap().unwrap();
        assert_eq!(trainer.steps_done() + 1, told.step);
        assert_eq!(trainer.step().unwrap(), told);
    }
    assert_eq!(trainer.weights_hash(), train(&engine, recipe, corpus()));
}

#[test]
fn a_run_that_diverges_names_the_step_and_keeps_the_weights_from_before_it() {
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let recipe = Recipe { learning_rate: 1e30, warmup: 0, weight_decay: 0.0, ..recipe() };
    let weights = Weights::init(&tiny(), recipe.seed).unwrap();
    let mut trainer = Trainer::new(&engine, &weights, recipe, corpus()).unwrap();
    let (error, before) = loop {
        let before = trainer.weights().hash();
        if let Err(error) = trainer.step() {
            break (error, before);
        }
    };
    let failed = trainer.steps_done() + 1;
    assert!(matches!(error, Error::Diverged { step, .. } if step == failed), "{error}");
    assert_eq!(trainer.weights().hash(), before);
    assert_eq!(trainer.next_report(&|| true).unwrap_err().to_string(), error.to_string());
    // The run can be resumed from there, with what made it diverge changed.
    trainer.save_checkpoint(file.path()).unwrap();
    let mut resumed = Trainer::resume(&engine, file.path(), corpus()).unwrap();
    assert_eq!(resumed.weights().hash(), before);
    assert_eq!(resumed.step().unwrap_err().to_string(), error.to_string());
    resumed.change(Changes { learning_rate: Some(1e-9), ..Changes::default() }).unwrap();
    assert!(resumed.recipe().learning_rate < 1e-8);
}

#[test]
fn a_finished_run_is_prolonged_as_if_it_had_had_the_steps_from_then_on() {
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let weights = Weights::init(&tiny(), [0; 32]).unwrap();
    let mut finished = Trainer::new(&engine, &weights, recipe(), corpus()).unwrap();
    for _ in 0..recipe().steps {
        finished.step().unwrap();
    }
    finished.save_checkpoint(file.path()).unwrap();
    let prolonged = || {
        let mut trainer = Trainer::resume(&engine, file.path(), corpus()).unwrap();
        trainer.change(Changes { steps: Some(9), ..Changes::default() }).unwrap();
        let rates: Vec<f32> = (6..9).map(|_| trainer.step().unwrap().learning_rate).collect();
        (trainer.steps_done(), rates, trainer.weights_hash())
    };
    let (steps, rates, hash) = prolonged();
    assert_eq!(steps, 9);
    assert!(rates.is_sorted_by(|a, b| a > b) && rates[2] > 0.0, "{rates:?}");
    assert_eq!(prolonged().2, hash);
    let fewer = finished.change(Changes { steps: Some(5), ..Changes::default() });
    assert!(matches!(fewer, Err(Error::Recipe { field: "steps" })));
}

#[test]
fn data_in_which_no_byte_follows_another_is_refused() {
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let weights = Weights::init(&tiny(), [0; 32]).unwrap();
    let (kept, _) = Corpus::from(b"ab".as_slice()).hold_out();
    assert_eq!(kept.len(), 1);
    let refused = Trainer::new(&engine, &weights, recipe(), kept);
    assert!(matches!(refused, Err(Error::NothingToPredict)));
    // A whole document of one byte teaches that it ends.
    Trainer::new(&engine, &weights, recipe(), Corpus::from(b"a".as_slice())).unwrap();
}

#[test]
fn a_trainer_writes_the_file_that_its_weights_would_write() {
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [saved, copied] = ["saved", "copied"].map(|name| folder.path().join(name));
    let weights = Weights::init(&tiny(), [0; 32]).unwrap();
    let mut trainer = Trainer::new(&engine, &weights, recipe(), corpus()).unwrap();
    for _ in 0..3 {
        trainer.step().unwrap();
    }
    let hash = trainer.save(&saved).unwrap();
    trainer.weights().save(&copied).unwrap();
    let bytes = std::fs::read(&saved).unwrap();
    assert!(bytes == std::fs::read(&copied).unwrap());
    assert_eq!(hash, *blake3::hash(&bytes).as_bytes());
    assert_eq!(hash, trainer.weights().hash());
}
