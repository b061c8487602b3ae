//! The kernels one by one: `cargo bench -p soma-model [FILTER]`. `soma bench engine` says what
//! share of the machine they reach.
//!
//! On one thread, so that figures depend on the kernel and not on who else uses the machine's other
//! cores.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the benchmark")]

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use soma_model::bench::Product;
use soma_model::train::{Corpus, Recipe, Trainer};
use soma_model::{Architecture, Directions, Engine, KernelChoice, KernelKind, Weights, score};

/// Rows, depth and columns: products of a V1 layer, of a `nano` batch, of the gradient of its
/// weights, and of one byte.
const SHAPES: [[usize; 3]; 5] =
    [[256, 2048, 2048], [101, 2048, 2048], [4096, 128, 512], [128, 4096, 512], [1, 2048, 8192]];

fn main() {
    divan::main();
}

/// The fast kernels that this machine runs.
fn kinds() -> impl Iterator<Item = KernelKind> {
    let fast = |kind: &KernelKind| *kind != KernelKind::Reference && kind.is_available();
    KernelKind::ALL.into_iter().filter(fast)
}

fn engine(kind: KernelKind) -> Engine {
    Engine::new(KernelChoice::Kind(kind), 1).unwrap()
}

fn text(bytes: usize) -> Vec<u8> {
    b"The quick brown fox jumps over the lazy dog. ".iter().copied().cycle().take(bytes).collect()
}

fn products() -> impl Iterator<Item = (String, KernelKind, [usize; 3])> {
    kinds().flat_map(|kind| {
        SHAPES.map(|shape| (format!("{kind} {}x{}x{}", shape[0], shape[1], shape[2]), kind, shape))
    })
}

/// Items are multiply-adds.
#[divan::bench(args = products().map(Named::from), sample_count = 10)]
fn product(bencher: Bencher<'_, '_>, Named { kind, shape, .. }: &Named) {
    let (engine, mut product) = (engine(*kind), Product::new(*shape));
    bencher
        .counter(ItemsCount::new(shape.iter().product::<usize>()))
        .bench_local(|| product.run(&engine));
}

/// A kernel and a shape, with their name in the table.
struct Named {
    name: String,
    kind: KernelKind,
    shape: [usize; 3],
}

impl From<(String, KernelKind, [usize; 3])> for Named {
    fn from((name, kind, shape): (String, KernelKind, [usize; 3])) -> Self {
        Self { name, kind, shape }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// A whole chunk of `nano`, from bytes to integers.
#[divan::bench(args = kinds(), sample_count = 10)]
fn score_nano(bencher: Bencher<'_, '_>, kind: KernelKind) {
    let (engine, architecture) = (engine(kind), Architecture::nano());
    let weights = Weights::init(&architecture, [0; 32]).unwrap();
    let directions = Directions::new(&architecture, [0; 32]);
    let data = text(architecture.positions as usize);
    bencher
        .counter(BytesCount::of_slice(&data))
        .bench_local(|| score(&engine, &weights, &data, &directions).unwrap());
}

/// An optimizer step of `nano` on two windows.
#[divan::bench(args = kinds(), sample_count = 10)]
fn train_nano(bencher: Bencher<'_, '_>, kind: KernelKind) {
    let (engine, architecture) = (engine(kind), Architecture::nano());
    let weights = Weights::init(&architecture, [0; 32]).unwrap();
    let mut corpus = Corpus::new();
    corpus.push(&text(8 * architecture.positions as usize));
    let mut trainer = Trainer::new(&engine, &weights, Recipe::default(), corpus).unwrap();
    bencher.bench_local(|| trainer.step().unwrap());
}
