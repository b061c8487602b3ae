//! The sizes of an architecture as loops and buffers count them.

use soma_architecture::Architecture;

/// The sizes of an architecture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) dim: usize,
    pub(crate) heads: usize,
    pub(crate) layers: usize,
    pub(crate) ffn: usize,
    pub(crate) vocabulary: usize,
    pub(crate) positions: usize,
    /// Number of SIGReg's directions.
    pub(crate) slices: usize,
}

impl From<&Architecture> for Sizes {
    fn from(architecture: &Architecture) -> Self {
        Self {
            dim: architecture.dim as usize,
            heads: architecture.heads as usize,
            layers: architecture.layers as usize,
            ffn: architecture.ffn as usize,
            vocabulary: architecture.vocabulary as usize,
            positions: architecture.positions as usize,
            slices: architecture.sig_reg_slices as usize,
        }
    }
}

impl Sizes {
    /// Width of a head.
    pub(crate) fn head_dim(self) -> usize {
        self.dim / self.heads
    }
}
