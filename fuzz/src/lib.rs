//! Fuzz targets: everything that reads bytes from outside. `check` of each module takes any bytes
//! and panics if a promise is broken. It never depends on earlier inputs, the API's node excepted.
//!
//! `fuzz_targets/` runs a target under libFuzzer, `tests/corpus.rs` on the inputs in `corpus/`.

pub mod transactions;
pub mod blocks;
pub mod rules;
pub mod api;

/// Checks one input; panics if a promise is broken.
pub type Check = fn(&[u8]);

/// Every target: its name, which is that of its folder in `corpus/`, and its check.
pub const TARGETS: [(&str, Check); 4] = [
    ("transactions", transactions::check),
    ("blocks", blocks::check),
    ("rules", rules::check),
    ("api", api::check),
];
