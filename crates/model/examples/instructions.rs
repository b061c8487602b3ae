//! Runs one kernel a number of times and does nothing else: `.ci/instructions` counts what it
//! executes.
//!
//! `instructions product|score TIMES`; the difference of two counts excludes the cost of starting.

use soma_model::bench::{self, Product};
use soma_model::{Architecture, Directions, KernelKind, Weights, score};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (work, times) = (arguments.next(), arguments.next());
    let times: usize = times.ok_or("how many times?")?.parse()?;
    // Valgrind's fma is not exact, so the start-up test refuses the kernel there; its instructions
    // are the same.
    let engine = bench::untested_engine(KernelKind::Avx2)?;
    match work.as_deref() {
        Some("product") => {
            let mut product = Product::new([130, 520, 260]);
            (0..times).for_each(|_| product.run(&engine));
        }
        Some("score") => {
            let architecture = Architecture { layers: 1, ..Architecture::nano() };
            let weights = Weights::init(&architecture, [0; 32])?;
            let directions = Directions::new(&architecture, [0; 32]);
            let data: Vec<u8> = (0..=255).collect();
            for _ in 0..times {
                score(&engine, &weights, &data, &directions)?;
            }
        }
        _ => return Err("product or score?".into()),
    }
    Ok(())
}
