//! From bytes to tokens: independent chunks of at most `positions` bytes.
//!
//! There is no padding here or anywhere else: a short chunk simply has fewer positions.

/// Id of the padding token, which is in the vocabulary but never an input.
pub const PAD: u16 = 256;
/// Id of the token that ends a short chunk.
pub const EOS: u16 = 257;

/// A piece of the data that the model sees on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Its bytes, at least one.
    pub bytes: &'a [u8],
    /// Whether EOS follows the last byte, which it does only in a short chunk.
    pub ends: bool,
}

impl Chunk<'_> {
    /// Number of positions: the bytes and EOS.
    pub fn positions(&self) -> usize {
        self.bytes.len() + usize::from(self.ends)
    }

    /// Number of positions whose next token is in the chunk.
    pub fn predicted(&self) -> usize {
        self.positions() - 1
    }

    /// Its tokens.
    pub fn tokens(&self) -> impl Iterator<Item = u16> + '_ {
        self.bytes.iter().map(|&byte| u16::from(byte)).chain(self.ends.then_some(EOS))
    }
}

/// Cuts data into chunks of `positions` bytes; if the last one is short, EOS is appended. Empty
/// data has no chunks.
pub fn chunks(data: &[u8], positions: usize) -> impl Iterator<Item = Chunk<'_>> {
    data.chunks(positions.max(1)).map(move |bytes| Chunk { bytes, ends: bytes.len() < positions })
}
