//! Attention on a card: blocks of queries, in waves that the memory for scores suffices for.

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
    weigh: Kernel,
    values: Kernel,
    queries: usize,
    columns: usize,
    threads: usize,
}

const MEDIUM: Tiles = Tiles {
    scores: Kernel::ScoresMedium,
    weigh: Kernel::WeighMedium,
    values: Kernel::ValuesMedium,
    queries: 128,
    columns: 128,
    threads: 256,
};
const SMALL: Tiles = Tiles {
    scores: Kernel::ScoresSmall,
    weigh: Kernel::WeighSmall,
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
        let Buffers { projected, values, scores, sums, out, .. } = buffers;
        let blocks = &list[wave.first..wave.first + wave.count];
        let keys = blocks.iter().map(|queries| queries.keys).max().unwrap_or(0);
        let width = sizes.head_dim();
        let place = [
            buffers.list.at::<u32>(wave.first * WORDS),
            Argument::Long(blocks[0].scores),
            Argument::Long(wave.floats),
            scores.start(),
        ];
        let count = Argument::Count;
        let mut arguments = vec![
            projected.start(),
            count(rows),
            count(width),
            count(sizes.dim),
            count(head),
            Argument::Float(scale(width)),
        ];
        arguments.extend(place);
        let grid = [wave.count, keys.div_ceil(tiles.columns), wave.heads];
        card.launch(tiles.scores, grid, tiles.threads, &arguments)?;

        let mut arguments = place.to_vec();
        arguments.push(sums.start());
        let grid = [wave.count, tiles.queries.div_ceil(WEIGH_QUERIES), wave.heads];
        card.launch(tiles.weigh, grid, WEIGH_THREADS, &arguments)?;

        let mut arguments = vec![
            values.start(),
            count(rows),
            count(width),
            count(width.next_multiple_of(4)),
            count(sizes.heads),
            count(head),
            sums.start(),
        ];
        arguments.extend(place);
        arguments.push(out.start());
        let grid = [wave.count, width.div_ceil(tiles.columns), wave.heads];
        card.launch(tiles.values, grid, tiles.threads, &arguments)
    }
}

/// `1 / sqrt(width)`
fn scale(width: usize) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a width is at most 65536, which is exact")]
    let width = width as f32;
    1.0 / width.sqrt()
}
