//! What the loss of counting promises: the bits of its definition, and that no data can make
//! counting look worse than it is.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a failed unwrap fails the test, the numbers are small, and logarithms only bound"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use soma_model::counting::counting_q32;

const LN_257: f64 = 5.549_076_084_895_8;
/// What the experts' sharing may cost at a position: a 32nd of the weights, and the rounding.
const SHARING: f64 = 0.031_8;

fn counting(data: &[u8], positions: usize) -> f64 {
    counting_q32(data, positions).unwrap() as f64 / 2_f64.powi(32)
}

/// `docs/numerics.md`, word for word and slowly: contexts are strings, in ordered maps.
#[derive(Default)]
struct Slow {
    counts: BTreeMap<Vec<u16>, BTreeMap<u16, u128>>,
    weights: Vec<u128>,
}

/// Sums over the positions of a document.
struct Sums {
    mantissa: u128,
    halvings: u128,
    predicted: u128,
    /// The same losses as floats, and each expert's own.
    nats: f64,
    experts: Vec<f64>,
}

impl Slow {
    fn chunk(chunk: &[u8], ends: bool, sums: &mut Sums) {
        let weights = [vec![1 << 31], vec![(1 << 31) / 7; 7]].concat();
        let mut slow = Self { weights, ..Self::default() };
        let mut tokens: Vec<u16> = chunk.iter().map(|&byte| byte.into()).collect();
        tokens.extend(ends.then_some(257));
        for at in 0..tokens.len() {
            if at > 0 {
                slow.predict(&tokens[..at], tokens[at], sums);
            }
            slow.count(&tokens[..at], tokens[at]);
        }
    }

    fn contexts(before: &[u16]) -> impl DoubleEndedIterator<Item = &[u16]> {
        (0..=before.len().min(6)).map(|order| &before[before.len() - order..])
    }

    fn predict(&mut self, before: &[u16], next: u16, sums: &mut Sums) {
        let mut given = vec![(1_u128 << 32) / 257];
        for context in Self::contexts(before) {
            let below = *given.last().unwrap();
            let probability = self.counts.get(context).map_or(below, |counts| {
                let total: u128 = counts.values().sum();
                let distinct = counts.len() as u128;
                let count = counts.get(&next).copied().unwrap_or(0);
                ((count << 32) + distinct * below) / (total + distinct)
            });
            given.push(probability);
        }
        given.resize(8, *given.last().unwrap());
        let parts: Vec<u128> = self.weights.iter().zip(&given).map(|(w, p)| w * p).collect();
        let sum: u128 = parts.iter().sum();
        assert!((1 << 47..1 << 64).contains(&sum));
        for (weight, part) in self.weights.iter_mut().zip(parts) {
            *weight = part / ((sum >> 32) + 1) * 31 / 32 + (1 << 24);
        }
        assert!(self.weights.iter().sum::<u128>() <= 1 << 32);
        sums.mantissa *= sum;
        let excess = 64 - sums.mantissa.leading_zeros();
        sums.mantissa >>= excess;
        sums.halvings += 64 - u128::from(excess);
        sums.predicted += 1;
        sums.nats -= (sum as f64 / 2_f64.powi(64)).ln();
        for (nats, given) in sums.experts.iter_mut().zip(given) {
            *nats -= (given as f64 / 2_f64.powi(32)).ln();
        }
    }

    fn count(&mut self, before: &[u16], next: u16) {
        for context in Self::contexts(before).rev() {
            let count = self.counts.entry(context.to_vec()).or_default().entry(next).or_default();
            *count += 1;
            if *count > 1 {
                break;
            }
        }
    }
}

fn slowly(data: &[u8], positions: usize) -> Sums {
    let mut sums =
        Sums { mantissa: 1 << 63, halvings: 0, predicted: 0, nats: 0.0, experts: vec![0.0; 8] };
    for chunk in data.chunks(positions) {
        Slow::chunk(chunk, chunk.len() < positions, &mut sums);
    }
    sums
}

impl Sums {
    fn counting_q32(&self) -> i64 {
        // The logarithm by halving the interval it lies in.
        let (mut mantissa, mut bits) = (self.mantissa, self.halvings << 32);
        for digit in (0..32).rev() {
            mantissa = (mantissa * mantissa) >> 63;
            if mantissa >= 1 << 64 {
                mantissa >>= 1;
                bits -= 1 << digit;
            }
        }
        // ln 2 in 2^-64, from its series 1 / (n 2^n).
        let ln_2 = (1..=100_u128).map(|n| ((1_u128 << 120) >> n) / n).sum::<u128>() >> 56;
        i64::try_from(((bits * ln_2) >> 64) / self.predicted).unwrap()
    }
}

fn agrees(data: &[u8], positions: usize) {
    let sums = slowly(data, positions);
    assert_eq!(counting_q32(data, positions), Some(sums.counting_q32()));
    let mean = sums.nats / sums.predicted as f64;
    assert!((counting(data, positions) - mean).abs() < 1e-9, "the logarithm is one");
}

fn repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)
}

fn natural() -> Vec<Vec<u8>> {
    let files = ["docs/numerics.md", "crates/model/src/forward.rs", "docs/reference/openapi.json"];
    files.iter().map(|file| std::fs::read(repository(file)).unwrap()).collect()
}

fn bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Data of few or many symbols, with and without repetitions.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let symbols = prop_oneof![Just(1_u8), Just(2), Just(3), Just(9), Just(255)];
    let random = (symbols, 1..600_usize)
        .prop_flat_map(|(symbols, count)| prop::collection::vec(0..symbols, count));
    let repeated = (prop::collection::vec(any::<u8>(), 1..40), 1..20_usize)
        .prop_map(|(piece, times)| piece.repeat(times));
    prop_oneof![random, repeated]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn counting_has_the_bits_of_its_definition(data in data(), positions in 2..300_usize) {
        agrees(&data, positions);
    }

    #[test]
    fn whatever_the_data_counting_is_hardly_worse_than_the_best_of_its_experts(data in data()) {
        let sums = slowly(&data, 1 << 16);
        let found = counting(&data, 1 << 16) * sums.predicted as f64;
        let positions = sums.predicted as f64;
        for (expert, nats) in sums.experts.iter().enumerate() {
            let start = if expert == 0 { 2_f64 } else { 14_f64 };
            prop_assert!(found <= nats + start.ln() + SHARING * positions, "expert {expert}");
        }
        prop_assert!(found <= positions * LN_257 + 2_f64.ln() + SHARING * positions);
    }
}

#[test]
fn counting_has_the_bits_of_its_definition_on_natural_data() {
    for data in natural() {
        for positions in [256, 1024, 5000] {
            agrees(&data[..data.len().min(8000)], positions);
        }
    }
}

#[test]
fn the_table_in_numerics_md_is_right() {
    let inputs: [(&str, Vec<u8>); 8] = [
        ("`a`", b"a".to_vec()),
        ("`ab`", b"ab".to_vec()),
        ("`a` 24 times", b"a".repeat(24)),
        ("the bytes 0 to 255", (0..=255).collect()),
        ("`To be, or not to be`", b"To be, or not to be".to_vec()),
        ("`To be, or not to be` 100 times", b"To be, or not to be".repeat(100)),
        ("2000 bytes of the BLAKE3 stream over nothing", bytes(2000)),
        ("the decimal numbers 1 to 999, without separators", {
            (1..1000).flat_map(|n| n.to_string().into_bytes()).collect()
        }),
    ];
    let page = std::fs::read_to_string(repository("docs/numerics.md")).unwrap();
    for (name, data) in inputs {
        let values = [256, 1024].map(|positions| counting_q32(&data, positions).unwrap());
        let row = format!("| {name} | {} | {} |", values[0], values[1]);
        assert!(page.contains(&row), "{row}");
    }
}

#[test]
fn only_what_is_predicted_is_counted_as_loss() {
    assert_eq!(counting_q32(b"", 256), None);
    // One byte: the end is predicted, by half of the weights as one of 257 symbols, by the others
    // as one of 257 that are not the byte.
    let expected = -((0.5 + 0.5 / 2.0) / 257.0_f64).ln();
    assert!((counting(b"a", 256) - expected).abs() < 1e-6);
    // A full chunk has no end: two bytes are one prediction.
    agrees(b"ab", 2);
    agrees(b"abc", 2);
    assert_eq!(counting_q32(b"abcd", 2), counting_q32(b"ab", 2), "chunks know nothing of others");
    assert_ne!(counting_q32(b"abcd", 4), counting_q32(b"abcd", 5), "the end costs something");
}

#[test]
fn what_has_occurred_before_costs_next_to_nothing() {
    let line = b"It is a truth universally acknowledged that counting remembers. ";
    assert!(counting(&line.repeat(16), 1024) < 0.32);
    assert!(counting(&line.repeat(1024), 1 << 16) < 0.04);
    // A passage that comes again, in data that is hard to predict.
    let passage = bytes(500);
    let [once, twice] = [passage.clone(), passage.repeat(2)]
        .map(|data| counting(&data, 1 << 16) * data.len() as f64);
    assert!(twice < 1.05 * once, "{once} {twice}");
}

#[test]
fn small_alphabets_and_anything_but_what_followed_before_gain_nothing() {
    // Two letters at random: one bit each, and a little to learn that.
    let two: Vec<u8> = bytes(1024).iter().map(|byte| b"ab"[usize::from(byte & 1)]).collect();
    assert!(counting(&two, 1024) < 2_f64.ln() + 0.06);
    // Of four letters always the one that has followed least often: the longer the context, the
    // worse it predicts.
    let mut least = b"abcdabcd".to_vec();
    while least.len() < 1024 {
        let followed = |order: usize, letter: u8| {
            let context = [&least[least.len() - order..], &[letter]].concat();
            least.windows(order + 1).filter(|window| **window == *context).count()
        };
        let next = b"abcd".iter().min_by_key(|&&letter| {
            (1..7).rev().map(|order| followed(order, letter)).collect::<Vec<_>>()
        });
        least.push(*next.unwrap());
    }
    let sums = slowly(&least, 1024);
    let [uniform, zero, .., six] = sums.experts[..] else { unreachable!() };
    assert!(six > zero && zero < uniform, "the long contexts are misled: {:?}", sums.experts);
    assert!(counting(&least, 1024) < 4_f64.ln() + 0.15);
}
