//! Prints the machine's fma peak and the share of it that the matrix product reaches, kernel by kernel.
#![expect(clippy::print_stdout, reason = "an example that runs in a terminal")]

use soma_model::{Engine, KernelChoice, KernelKind, bench};

fn main() -> Result<(), soma_model::Error> {
    let threads = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    for kind in KernelKind::ALL {
        if kind == KernelKind::Reference || !kind.is_available() {
            continue;
        }
        let engine = Engine::new(KernelChoice::Kind(kind), threads)?;
        for shape in [
            [1024, 2048, 8192],
            [1024, 8192, 2048],
            [1024, 2048, 2048],
            [4096, 128, 512],
            [4096, 512, 128],
            [128, 4096, 512],
        ] {
            let peak = bench::peak_gflops(&engine, 5);
            let speed = bench::product(&engine, shape, 9).gflops();
            println!(
                "{kind:8} {} threads  {shape:?}  {speed:7.1} GFLOP/s of {peak:7.1}  {:5.1} %",
                engine.threads(),
                100.0 * speed / peak
            );
        }
    }
    Ok(())
}
