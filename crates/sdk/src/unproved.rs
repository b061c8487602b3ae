//! Why what a node says is not believed. Nothing here decides what to do about it.

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// Its bytes are malformed, or something is missing.
    #[error("the proof is malformed or incomplete")]
    Malformed,
    /// The proof of a record does not lead to the root of the state.
    #[error("the proof does not show what a record is in the state of block {height}")]
    Record {
        /// The block that it names.
        height: u64,
    },
    /// A record is proved, and of a form that this software does not know.
    #[error("the state of block {height} has records that this version of soma cannot read")]
    Format {
        /// The block.
        height: u64,
    },
    /// The block is not certified by the committee that the handovers lead to.
    #[error("block {height} is not certified by the committee of this chain")]
    Block {
        /// The height that it names.
        height: u64,
    },
    /// A handover does not follow from those before it.
    #[error("a handover to another committee is invalid: {0}")]
    Handover(soma_proof::InvalidHandover),
    /// The block is certified, and of another time.
    #[error(
        "block {height} is {} s {} by this machine's clock",
        .off_ms / 1_000,
        if *.ahead { "ahead" } else { "old" }
    )]
    Time {
        /// The block.
        height: u64,
        /// By how many milliseconds.
        off_ms: u64,
        /// Whether it is in the future.
        ahead: bool,
    },
    /// The answer needs more records than one proof has.
    #[error("an answer needs more records than one proof has")]
    TooMuch,
}
