//! libFuzzer on [`soma_fuzz::transactions`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| soma_fuzz::transactions::check(input));
