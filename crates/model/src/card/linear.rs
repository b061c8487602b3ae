//! Linear maps on a card, and which shape of tile computes them.

use super::layout::Placed;
use crate::device::{Argument, Card, Kernel, Memory};
use crate::error::DeviceFault;

/// What becomes of a chain, with the numbers that `kernels.cu` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Epilogue {
    /// Nothing.
    #[cfg(test)]
    Plain = 0,
    /// `operand(c)`
    Operand = 1,
    /// `c + bias`
    Bias = 2,
    /// `operand(c + bias)`
    BiasOperand = 3,
    /// `operand(gelu(operand(c + bias)))`
    BiasGelu = 4,
    /// `out + (c + bias)`
    BiasResidual = 5,
}

/// A shape of tile: the kernel, its outputs per block, and its threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    kernel: Kernel,
    rows: usize,
    columns: usize,
    threads: usize,
}

/// For what fills the card.
pub(super) const LARGE: Tile =
    Tile { kernel: Kernel::LinearLarge, rows: 128, columns: 128, threads: 128 };
/// For what has about one block for each multiprocessor.
pub(super) const MEDIUM: Tile =
    Tile { kernel: Kernel::LinearMedium, rows: 128, columns: 128, threads: 256 };
/// For few rows.
pub(super) const SMALL: Tile =
    Tile { kernel: Kernel::LinearSmall, rows: 32, columns: 64, threads: 128 };

impl Tile {
    /// The shape that should be fastest; all give the same bits.
    fn for_outputs(card: &Card, rows: usize, columns: usize) -> Self {
        let blocks = rows.div_ceil(LARGE.rows) * columns.div_ceil(LARGE.columns);
        let processors = card.multiprocessors();
        if 4 * blocks < 3 * processors {
            SMALL
        } else if 2 * blocks <= 3 * processors {
            MEDIUM
        } else {
            LARGE
        }
    }
}

/// A linear map of the rows of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map<'a> {
    /// `[inputs, rows]`
    pub(super) x: &'a Memory,
    /// The weights are in it, `[inputs, outputs]`, and so is the bias.
    pub(super) model: &'a Memory,
    pub(super) weight: Placed,
    pub(super) bias: Placed,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) rows: usize,
    pub(super) epilogue: Epilogue,
}

impl Map<'_> {
    /// Writes the outputs, `[outputs, rows]`.
    pub(super) fn run(self, card: &Card, out: &Memory) -> Result<(), DeviceFault> {
        self.run_with(card, Tile::for_outputs(card, self.rows, self.outputs), out)
    }

    /// The same with this shape of tile.
    pub(super) fn run_with(self, card: &Card, tile: Tile, out: &Memory) -> Result<(), DeviceFault> {
        let blocks = self.rows.div_ceil(tile.rows) * self.outputs.div_ceil(tile.columns);
        card.launch(
            tile.kernel,
            [blocks, 1, 1],
            tile.threads,
            &[
                self.x.start(),
                self.model.at::<f32>(self.weight.first),
                Argument::Long(self.weight.stride),
                Argument::Count(self.inputs),
                Argument::Count(self.outputs),
                Argument::Count(self.rows),
                Argument::Count(self.epilogue as usize),
                self.model.at::<f32>(self.bias.first),
                out.start(),
            ],
        )
    }
}
