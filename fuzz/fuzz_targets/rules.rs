//! libFuzzer on [`soma_fuzz::rules`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| soma_fuzz::rules::check(input));
