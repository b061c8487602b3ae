//! Attention on a card: blocks of queries, in waves that the memory for scores suffices for.
#![expect(unsafe_code, reason = "kernels are launched")]

use crate::device::{Argument, Card, Kernel, Memory};
use crate::error::DeviceFault;
use crate::sizes::Sizes;

/// Floats of scores that a wave may have, unless a single block of queries has more: 256 MiB.
pub(super) const WAVE_FLOATS: usize = 64 << 20;
/// Chunks up to this length are computed in small tiles.
const SHORT: usize = 64;
/// Words of 32 bits of a block of queries in the list (`Queries` in `kernels.cu`).
const WORDS: usize = 6;
/// Queries that a block of `weigh` takes.
const WEIGH_QUERIES: usize = 32;
/// Threads of a block of `weigh`.
const WEIGH_THREADS: usize = 512;

/// The kernels of a shape of tile.
#[derive(Clone, Copy, Debug)]
struct Tiles {
    scores: Kernel,
    values: Kernel,
    queries: usize,
    columns: usize,
    threads: usize,
}

const MEDIUM: Tiles = Tiles {
    scores: Kernel::ScoresMedium,
    values: Kernel::ValuesMedium,
    queries: 128,
    columns: 128,
    threads: 256,
};
const SMALL: Tiles = Tiles {
    scores: Kernel::ScoresSmall,
    values: Kernel::ValuesSmall,
    queries: 32,
    columns: 64,
    threads: 128,
};

/// The rows of a chunk in a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) first: usize,
    pub(super) count: usize,
}

/// Some queries of a chunk with the keys that they see.
#[derive(Clone, Copy, Debug)]
struct Queries {
    chunk: usize,
    first: usize,
    count: usize,
    keys: usize,
    /// Where its scores begin, in the list of all.
    scores: usize,
}

/// Some blocks of the list whose scores fit together, and how many heads at a time.
#[derive(Clone, Copy, Debug)]
struct Wave {
    first: usize,
    count: usize,
    heads: usize,
    /// Floats of one head.
    floats: usize,
}

/// How attention of the chunks of a pass is computed.
#[derive(Debug)]
pub(super) struct Plan {
    tiles: Tiles,
    list: Vec<Queries>,
    waves: Vec<Wave>,
}

/// Memory that attention uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffers<'a> {
    /// Queries, keys and values, `[3 dim, rows]`.
    pub(super) projected: &'a Memory,
    /// Values, `[rows, heads * padded]`, where a head's width is padded to a multiple of four.
    pub(super) values: &'a Memory,
    pub(super) list: &'a Memory,
    pub(super) scores: &'a Memory,
    pub(super) sums: &'a Memory,
    /// `[dim, rows]`
    pub(super) out: &'a Memory,
}

impl Plan {
    /// Plans the attention of these chunks, with at most so many scores at a time.
    pub(super) fn new(sizes: Sizes, chunks: &[Chunk], floats: usize) -> Self {
        let longest = chunks.iter().map(|chunk| chunk.count).max().unwrap_or(0);
        let tiles = if longest <= SHORT { SMALL } else { MEDIUM };
        let mut list: Vec<Queries> = chunks
            .iter()
            .flat_map(|chunk| {
                (0..chunk.count).step_by(tiles.queries).map(move |first| {
                    let count = tiles.queries.min(chunk.count - first);
                    Queries { chunk: chunk.first, first, count, keys: first + count, scores: 0 }
                })
            })
            .collect();
        // What takes longest begins first.
        list.sort_by_key(|queries| std::cmp::Reverse(queries.keys));
        let (mut waves, mut begin): (Vec<Wave>, usize) = (Vec::new(), 0);
        for (index, queries) in list.iter_mut().enumerate() {
            queries.scores = begin;
            let size = queries.keys * tiles.queries;
            begin += size;
            match waves.last_mut() {
                Some(wave) if wave.floats + size <= floats => {
                    wave.count += 1;
                    wave.floats += size;
                }
                _ => waves.push(Wave { first: index, count: 1, heads: 1, floats: size }),
            }
        }
        for wave in &mut waves {
            wave.heads = (floats / wave.floats.max(1)).clamp(1, sizes.heads);
        }
        Self { tiles, list, waves }
    }

    /// Bytes of the list.
    pub(super) fn list_bytes(&self) -> usize {
        self.list.len() * WORDS * 4
    }

    /// Bytes of the scores of the largest wave.
    pub(super) fn scores_bytes(&self) -> usize {
        self.waves.iter().map(|wave| wave.floats * wave.heads * 4).max().unwrap_or(0)
    }

    /// Bytes of the sums of the largest wave.
    pub(super) fn sums_bytes(&self) -> usize {
        let sums = self.waves.iter().map(|wave| wave.count * wave.heads * self.tiles.queries * 4);
        sums.max().unwrap_or(0)
    }

    /// Copies the list to the card.
    pub(super) fn write(&self, list: &Memory) -> Result<(), DeviceFault> {
        #[expect(clippy::cast_possible_truncation, reason = "the last number is cut in two")]
        let words: Vec<u32> = self
            .list
            .iter()
            .flat_map(|queries| {
                let Queries { chunk, first, count, keys, scores } = *queries;
                [chunk, first, count, keys, scores, scores >> 32].map(|number| number as u32)
            })
            .collect();
        list.write(&words)
    }

    /// Computes attention: scores, weights and their sums, weighted values.
    pub(super) fn run(
        &self,
        card: &Card,
        sizes: Sizes,
        rows: usize,
        buffers: Buffers<'_>,
    ) -> Result<(), DeviceFault> {
        for wave in &self.waves {
            for head in (0..sizes.heads).step_by(wave.heads) {
                let heads = wave.heads.min(sizes.heads - head);
                self.run_wave(card, sizes, rows, buffers, Wave { heads, ..*wave }, head)?;
            }
        }
        Ok(())
    }

    fn run_wave(
        &self,
        card: &Card,
        sizes: Sizes,
        rows: usize,
        buffers: Buffers<'_>,
        wave: Wave,
        head: usize,
    ) -> Result<(), DeviceFault> {
        let Self { tiles, list, .. } = self;
        let blocks = &list[wave.first..wave.first + wave.count];
        let keys = blocks.iter().map(|queries| queries.keys).max().unwrap_or(0);
        let (dim, width) = (sizes.dim, sizes.head_dim());
        let padded = width.next_multiple_of(4);
        let count = Argument::Count;
        let projected = buffers.projected.of::<f32>(3 * dim * rows);
        let list = buffers.list.span(wave.first * WORDS * 4, wave.count * WORDS * 4);
        let (begin, floats) = (Argument::Long(blocks[0].scores), Argument::Long(wave.floats));
        let scores = buffers.scores.of::<f32>(wave.floats * wave.heads);
        let sums = buffers.sums.of::<f32>(wave.count * wave.heads * tiles.queries);
        let launch = |kernel, blocks, threads, arguments: &[Argument]| {
            let grid = [wave.count, blocks, wave.heads];
            // SAFETY: the list says which rows of a chunk and which scores of the wave a block has,
            // and `Plan::new` has put all of them into the buffers; a tile reads what lies beyond
            // only up to the end of a row of features.
            unsafe { card.launch(kernel, grid, threads, arguments) }
        };

        let arguments = [
            projected,
            count(rows),
            count(width),
            count(dim),
            count(head),
            Argument::Float(scale(width)),
            list,
            begin,
            floats,
            scores,
        ];
        launch(tiles.scores, keys.div_ceil(tiles.columns), tiles.threads, &arguments)?;

        let arguments = [list, begin, floats, scores, count(tiles.queries), sums];
        let parts = tiles.queries.div_ceil(WEIGH_QUERIES);
        launch(Kernel::Weigh, parts, WEIGH_THREADS, &arguments)?;

        let arguments = [
            buffers.values.of::<f32>(rows * sizes.heads * padded),
            count(rows),
            count(width),
            count(padded),
            count(sizes.heads),
            count(head),
            sums,
            list,
            begin,
            floats,
            scores,
            buffers.out.of::<f32>(dim * rows),
        ];
        launch(tiles.values, width.div_ceil(tiles.columns), tiles.threads, &arguments)
    }
}

/// `1 / sqrt(width)`
fn scale(width: usize) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a width is at most 65536, which is exact")]
    let width = width as f32;
    1.0 / width.sqrt()
}
