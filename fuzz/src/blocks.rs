//! The decoder of blocks.

/// Whatever decodes has one encoding.
///
/// # Panics
/// If a block encodes to bytes other than those it was decoded from.
pub fn check(input: &[u8]) {
    if let Some(encoded) = soma_engine::recode_block(input) {
        assert_eq!(encoded, input, "a second encoding of a block");
    }
}
