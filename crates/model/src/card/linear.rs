//! Linear maps on a card, and which shape of tile computes them.
#![expect(unsafe_code, reason = "kernels are launched")]

use super::layout::{Kind, Placed};
use crate::device::{Argument, Card, Kernel, Memory};
use crate::error::DeviceFault;

/// What becomes of a chain, with the numbers that `kernels.cu` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Epilogue {
    /// `operand(c)`
    Operand = 0,
    /// `c + bias`
    Bias = 1,
    /// `operand(c + bias)`
    BiasOperand = 2,
    /// `operand(gelu(operand(c + bias)))`
    BiasGelu = 3,
    /// `out + (c + bias)`
    BiasResidual = 4,
}

impl Epilogue {
    pub(super) const ALL: [Self; 5] =
        [Self::Operand, Self::Bias, Self::BiasOperand, Self::BiasGelu, Self::BiasResidual];
}

/// A shape of tile: the kernels of weights in float32 and in half precision, its outputs per block,
/// and its threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    float: Kernel,
    half: Kernel,
    rows: usize,
    columns: usize,
    threads: usize,
}

/// For what fills the card.
const LARGE: Tile = Tile {
    float: Kernel::LinearLarge,
    half: Kernel::LinearLargeHalf,
    rows: 128,
    columns: 128,
    threads: 128,
};
/// For what has about one block for each multiprocessor.
const MEDIUM: Tile = Tile {
    float: Kernel::LinearMedium,
    half: Kernel::LinearMediumHalf,
    rows: 128,
    columns: 128,
    threads: 256,
};
/// For few rows.
const SMALL: Tile = Tile {
    float: Kernel::LinearSmall,
    half: Kernel::LinearSmallHalf,
    rows: 32,
    columns: 64,
    threads: 128,
};
/// All of them; a score may use any.
pub(super) const TILES: [Tile; 3] = [LARGE, MEDIUM, SMALL];

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
    /// Absent where the epilogue has none.
    pub(super) bias: Option<Placed>,
    pub(super) rows: usize,
    pub(super) epilogue: Epilogue,
}

impl Map<'_> {
    /// Writes the outputs, `[outputs, rows]`.
    pub(super) fn run(self, card: &Card, out: &Memory) -> Result<(), DeviceFault> {
        self.run_with(card, Tile::for_outputs(card, self.rows, self.weight.columns()), out)
    }

    /// The same with this shape of tile.
    pub(super) fn run_with(self, card: &Card, tile: Tile, out: &Memory) -> Result<(), DeviceFault> {
        let Self { x, model, weight, bias, rows, epilogue } = self;
        let (inputs, outputs) = (weight.rows(), weight.columns());
        assert!(rows.is_multiple_of(4), "rows are taken four at a time");
        assert!(bias.is_none_or(|bias| bias.columns() == outputs), "a bias of each output");
        assert_eq!(bias.is_none(), epilogue == Epilogue::Operand, "a bias where one is added");
        let blocks = rows.div_ceil(tile.rows) * outputs.div_ceil(tile.columns);
        let kernel = if weight.kind == Kind::Float { tile.float } else { tile.half };
        let count = Argument::Count;
        let arguments = [
            x.of::<f32>(inputs * rows),
            weight.address(model),
            Argument::Long(weight.stride),
            count(weight.kind as usize),
            count(inputs),
            count(outputs),
            count(rows),
            count(epilogue as usize),
            bias.unwrap_or(weight).address(model),
            out.of::<f32>(outputs * rows),
        ];
        // SAFETY: these are the factors, the bias and the outputs, which is all that it reaches.
        unsafe { card.launch(kernel, [blocks, 1, 1], tile.threads, &arguments) }
    }
}
