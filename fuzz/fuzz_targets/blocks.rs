//! libFuzzer on [`soma_fuzz::blocks`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| soma_fuzz::blocks::check(input));
