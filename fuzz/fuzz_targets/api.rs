//! libFuzzer on [`soma_fuzz::api`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| soma_fuzz::api::check(input));
