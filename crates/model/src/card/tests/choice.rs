//! Which device computes, and what becomes of a card that cannot.

use std::path::Path;
use std::sync::{Arc, Mutex};

use soma_architecture::Architecture;
use soma_codes::{Code, Coded as _};

use super::emulated::Emulated;
use crate::device::{Cards, Device, DeviceChoice, Warn};
use crate::error::{DeviceFault, Error};
use crate::kernels::{Engine, KernelChoice};
use crate::layers::sigreg::Directions;
use crate::score::score;
use crate::weights::Weights;

/// An engine with its own cards, of this driver, and what it was warned of. Models of one layer
/// are small for it, and of two large.
#[derive(Debug)]
struct Scorer {
    engine: Engine,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Scorer {
    fn new(library: &Path, choice: DeviceChoice) -> Result<Self, Error> {
        let warnings = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&warnings);
        let device = Device {
            choice,
            auto_parameters: architecture(2).parameters(),
            cards: Cards::of(library.to_owned()),
            warn: Some(Warn(Arc::new(move |error| told.lock().unwrap().push(error.to_string())))),
            ..Device::default()
        };
        let engine = Engine::new(KernelChoice::Auto, 1).unwrap().on_device(device)?;
        Ok(Self { engine, warnings })
    }

    /// Scores something with a model of so many layers.
    fn score(&self, layers: u32) {
        let architecture = architecture(layers);
        let weights = Weights::init(&architecture, [1; 32]).unwrap();
        let directions = Directions::new(&architecture, [2; 32]);
        let cpu = Engine::new(KernelChoice::Auto, 1).unwrap();
        let expected = score(&cpu, &weights, b"data", &directions).unwrap();
        assert_eq!(score(&self.engine, &weights, b"data", &directions).unwrap(), expected);
    }

    fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock().unwrap())
    }
}

fn architecture(layers: u32) -> Architecture {
    Architecture { layers, dim: 8, heads: 1, ffn: 8, positions: 8, ..Architecture::nano() }
}

/// Whether the emulated card was written to meanwhile.
fn is_used(emulated: &Emulated, scoring: impl FnOnce()) -> bool {
    let before = emulated.get("written");
    scoring();
    emulated.get("written") > before
}

#[test]
fn the_processor_and_small_models_open_no_card() {
    let Some(emulated) = Emulated::new() else { return };
    let opened = emulated.get("opened");
    for (choice, layers) in [(DeviceChoice::Cpu, 2), (DeviceChoice::Auto, 1)] {
        let scorer = Scorer::new(emulated.path(), choice).unwrap();
        assert!(!is_used(&emulated, || scorer.score(layers)), "{choice}");
        assert!(scorer.warnings().is_empty());
    }
    assert_eq!(emulated.get("opened"), opened);
}

#[test]
fn auto_takes_a_card_for_large_models_and_a_number_for_all() {
    let Some(emulated) = Emulated::new() else { return };
    for (choice, layers) in [(DeviceChoice::Auto, 2), (DeviceChoice::Cuda(0), 1)] {
        let opened = emulated.get("opened");
        let scorer = Scorer::new(emulated.path(), choice).unwrap();
        for _ in 0..2 {
            assert!(is_used(&emulated, || scorer.score(layers)), "{choice}");
        }
        assert_eq!(emulated.get("opened"), opened + 1, "it is opened once");
        assert!(scorer.warnings().is_empty());
    }
}

#[test]
fn a_card_that_is_absent_is_an_error_for_who_names_it_and_nothing_for_auto() {
    let absent = Path::new("/nonexistent/libcuda.so");
    let error = Scorer::new(absent, DeviceChoice::Cuda(0)).unwrap_err();
    assert!(matches!(error, Error::Device(DeviceFault::NoDriver)), "{error}");
    assert_eq!(error.code(), Code::DeviceUnavailable);
    let scorer = Scorer::new(absent, DeviceChoice::Auto).unwrap();
    scorer.score(2);
    assert!(scorer.warnings().is_empty());

    let Some(emulated) = Emulated::new() else { return };
    for (cards, capability, index, expected) in [
        (1, 8, 1, DeviceFault::NoCard { index: 1, count: 1 }),
        (0, 8, 0, DeviceFault::NoCard { index: 0, count: 0 }),
        (1, 7, 0, DeviceFault::OldCard { index: 0 }),
    ] {
        emulated.set("cards", cards);
        emulated.set("capability", capability);
        let error = Scorer::new(emulated.path(), DeviceChoice::Cuda(index)).unwrap_err();
        assert!(matches!(&error, Error::Device(fault) if *fault == expected), "{error}");
        if index == 0 {
            let scorer = Scorer::new(emulated.path(), DeviceChoice::Auto).unwrap();
            assert!(!is_used(&emulated, || scorer.score(2)));
            assert!(scorer.warnings().is_empty());
        }
    }
}

#[test]
fn a_card_that_fails_its_test_is_an_error_for_who_names_it_and_a_warning_for_auto() {
    let Some(emulated) = Emulated::new() else { return };
    emulated.set("forgotten", 1);
    let error = Scorer::new(emulated.path(), DeviceChoice::Cuda(0)).unwrap_err();
    assert_eq!(error.code(), Code::DeviceUnequal, "{error}");
    let scorer = Scorer::new(emulated.path(), DeviceChoice::Auto).unwrap();
    let opened = emulated.get("opened");
    for _ in 0..5 {
        scorer.score(2);
    }
    let [warning]: [String; 1] = scorer.warnings().try_into().unwrap();
    assert!(warning.contains("does not compute as the reference does: products"), "{warning}");
    assert_eq!(emulated.get("opened"), opened + 1, "nobody tries it again");
}

#[test]
fn kernels_that_the_driver_cannot_compile_are_told_with_what_it_says() {
    let Some(emulated) = Emulated::new() else { return };
    emulated.set("uncompilable", 1);
    let error = Scorer::new(emulated.path(), DeviceChoice::Cuda(0)).unwrap_err();
    let text = error.to_string();
    assert!(text.ends_with("the kernels: emulated failure: ptxas fatal: emulated"), "{text}");
    assert!(error.hint().contains("update NVIDIA's driver"), "{}", error.hint());
}

#[test]
fn a_card_that_fails_for_a_time_is_told_once_and_used_when_it_works_again() {
    let Some(emulated) = Emulated::new() else { return };
    emulated.set("failure", 1);
    let scorer = Scorer::new(emulated.path(), DeviceChoice::Auto).unwrap();
    assert!(!is_used(&emulated, || scorer.score(2)));
    let [warning]: [String; 1] = scorer.warnings().try_into().unwrap();
    assert!(warning.contains("emulated failure (cuInit)"), "{warning}");
    emulated.set("failure", -1);
    assert!(!is_used(&emulated, || scorer.score(2)), "it is left alone for a while");
    assert!(is_used(&emulated, || scorer.score(2)));

    // It fails while it computes, and is opened and tested again.
    emulated.set("failure", 20);
    scorer.score(2);
    assert_eq!(scorer.warnings().len(), 1);
    emulated.set("failure", -1);
    let opened = emulated.get("opened");
    let later = [(); 3].map(|()| is_used(&emulated, || scorer.score(2)));
    assert_eq!(later, [false, false, true], "longer than the first time");
    assert_eq!(emulated.get("opened"), opened + 1);
}

#[test]
fn a_card_that_never_works_is_tried_ever_less_often() {
    let Some(emulated) = Emulated::new() else { return };
    emulated.set("failure", 1);
    let cards = Cards::of(emulated.path().to_owned());
    let opened = emulated.get("opened");
    let news = (0..1000).filter(|_| cards.open(0, |_| Ok(())).unwrap_err().is_new).count();
    assert_eq!(news, 10);
    assert_eq!(emulated.get("opened"), opened + 10);
}
