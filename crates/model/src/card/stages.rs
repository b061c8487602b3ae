//! The stages of a pass on a card, from tokens to what a score takes from them.
#![expect(unsafe_code, reason = "kernels are launched")]

use super::attention::{Buffers, Chunk, Plan, WAVE_FLOATS};
use super::layout::{Kind, Layout, Placed, PlacedLinear, PlacedNorm, place, staging_bytes};
use super::linear::{Epilogue, Map};
use crate::device::{Argument, Card, Kernel, Memory, Need};
use crate::error::DeviceFault;
use crate::layers::sigreg::distance_of_sums;
use crate::pass::{Outcome, Rows, Subject};
use crate::sizes::Sizes;

/// Chunks begin at multiples of this many rows, so that sixteen bytes can be copied at a time.
const CHUNK_ALIGNMENT: usize = 4;
/// The rows of a pass are a multiple of this.
const ROW_ALIGNMENT: usize = 32;
/// Means that a row has no token, no target or no chunk.
const NOTHING: u32 = u32::MAX;
/// The most blocks along the second axis of a grid.
const GRID_MAX: usize = 65_535;
/// Nodes of SIGReg that a thread takes.
const NODES: usize = 16;

/// What the memory of a pass is for.
#[derive(Clone, Copy)]
enum Room {
    Tokens,
    Positions,
    Targets,
    Owners,
    Chunks,
    Queries,
    Residual,
    Normed,
    Projected,
    Values,
    Scores,
    Sums,
    Mixed,
    Hidden,
    Logits,
    Projections,
    Nll,
    Broken,
    Representations,
    Characteristic,
}

/// The rows of the chunks of a pass.
#[derive(Debug)]
struct Placement {
    chunks: Vec<Chunk>,
    rows: usize,
    tokens: Vec<u32>,
    positions: Vec<u32>,
    targets: Vec<u32>,
    owners: Vec<u32>,
}

impl Placement {
    #[expect(clippy::cast_possible_truncation, reason = "rows are far below 2^32")]
    fn new(chunks: &[Vec<u16>]) -> Self {
        let mut first = 0;
        let placed: Vec<Chunk> = chunks
            .iter()
            .map(|tokens| {
                let chunk = Chunk { first, count: tokens.len() };
                first = (first + tokens.len()).next_multiple_of(CHUNK_ALIGNMENT);
                chunk
            })
            .collect();
        let rows = first.next_multiple_of(ROW_ALIGNMENT);
        let mut placement = Self {
            rows,
            tokens: vec![NOTHING; rows],
            positions: vec![0; rows],
            targets: vec![NOTHING; rows],
            owners: vec![NOTHING; rows],
            chunks: placed,
        };
        for (index, (chunk, tokens)) in placement.chunks.iter().zip(chunks).enumerate() {
            for (position, &token) in tokens.iter().enumerate() {
                let row = chunk.first + position;
                placement.tokens[row] = token.into();
                placement.positions[row] = position as u32;
                placement.owners[row] = index as u32;
                let target = tokens.get(position + 1);
                placement.targets[row] = target.map_or(NOTHING, |&token| token.into());
            }
        }
        placement
    }
}

/// A pass, and where everything of it lies.
#[derive(Debug)]
pub(super) struct Stages<'a> {
    subject: Subject<'a>,
    layout: Layout,
    directions: Placed,
    placement: Placement,
    plan: Plan,
}

impl<'a> Stages<'a> {
    /// The pass of these chunks of tokens.
    pub(super) fn new(subject: Subject<'a>, chunks: &[Vec<u16>]) -> Self {
        Self::within(subject, chunks, WAVE_FLOATS)
    }

    /// The same with at most so many scores of attention at a time.
    pub(super) fn within(subject: Subject<'a>, chunks: &[Vec<u16>], wave_floats: usize) -> Self {
        let sizes = subject.weights.sizes();
        let placement = Placement::new(chunks);
        let plan = Plan::new(sizes, &placement.chunks, wave_floats);
        Self {
            subject,
            layout: Layout::new(subject.weights),
            directions: Placed::matrix(0, sizes.dim, sizes.slices, Kind::Float),
            placement,
            plan,
        }
    }

    /// The memory that it needs.
    pub(super) fn need(&self) -> Need<'_> {
        let Subject { weights, directions, .. } = self.subject;
        Need {
            kept: vec![
                (weights.kept(), self.layout.bytes()),
                (directions.kept(), self.directions.bytes()),
            ],
            rooms: self.rooms(),
            staging: staging_bytes(weights),
        }
    }

    /// Bytes of each room.
    fn rooms(&self) -> Vec<usize> {
        let Self { subject, placement, plan, .. } = self;
        let sizes = subject.weights.sizes();
        let Sizes { dim, ffn, vocabulary, slices, heads, .. } = sizes;
        let (rows, chunks) = (placement.rows, placement.chunks.len());
        let floats = |features: usize| features * rows * size_of::<f32>();
        let padded = sizes.head_dim().next_multiple_of(4);
        let mut bytes = Vec::new();
        for (room, needed) in [
            (Room::Tokens, floats(1)),
            (Room::Positions, floats(1)),
            (Room::Targets, floats(1)),
            (Room::Owners, floats(1)),
            (Room::Chunks, chunks * 8),
            (Room::Queries, plan.list_bytes()),
            (Room::Residual, floats(dim)),
            (Room::Normed, floats(dim)),
            (Room::Projected, floats(3 * dim)),
            (Room::Values, floats(heads * padded)),
            (Room::Scores, plan.scores_bytes()),
            (Room::Sums, plan.sums_bytes()),
            (Room::Mixed, floats(dim)),
            (Room::Hidden, floats(ffn)),
            (Room::Logits, floats(vocabulary)),
            (Room::Projections, floats(slices)),
            (Room::Nll, floats(1)),
            (Room::Broken, chunks * 4),
            (Room::Representations, chunks * dim * size_of::<f64>()),
            (Room::Characteristic, chunks * self.characteristic() * size_of::<f32>()),
        ] {
            bytes.resize(bytes.len().max(room as usize + 1), 0);
            bytes[room as usize] = needed;
        }
        bytes
    }

    /// Sums of a chunk that SIGReg takes.
    fn characteristic(&self) -> usize {
        2 * self.subject.nodes.phi.len() * self.subject.weights.sizes().slices
    }

    /// Computes the chunks, one outcome for each: `None` if a representation or a logit is not
    /// finite.
    ///
    /// # Errors
    /// [`DeviceFault::OutOfMemory`], or a failure of the card; then no outcome means anything.
    pub(super) fn run(
        &self,
        card: &mut Card,
        rows: Option<&mut Rows>,
    ) -> Result<Vec<Option<Outcome>>, DeviceFault> {
        let Subject { weights, directions, .. } = self.subject;
        let model = card.keep(weights.kept(), self.layout.bytes(), |card, memory| {
            self.layout.fill(card, memory, weights)
        })?;
        let to = self.directions;
        let directions = card.keep(directions.kept(), to.bytes(), |card, memory| {
            let staging = card.allocate(to.bytes())?;
            place(card, &staging, directions.matrix().data(), Kind::Float, memory, to)
        })?;
        card.make_rooms(&self.rooms())?;
        let running = Running { stages: self, card, model: &model, directions: &directions };
        running.write()?;
        running.forward()?;
        running.measure()?;
        if let Some(rows) = rows {
            running.read_rows(rows)?;
        }
        running.outcomes()
    }
}

/// A pass that has all its memory.
struct Running<'a> {
    stages: &'a Stages<'a>,
    card: &'a Card,
    model: &'a Memory,
    directions: &'a Memory,
}

impl Running<'_> {
    fn sizes(&self) -> Sizes {
        self.stages.subject.weights.sizes()
    }

    fn rows(&self) -> usize {
        self.stages.placement.rows
    }

    fn room(&self, room: Room) -> &Memory {
        self.card.room(room as usize)
    }

    /// The address of some features of all rows.
    fn features(&self, room: Room, count: usize) -> Argument {
        self.room(room).of::<f32>(count * self.rows())
    }

    /// The address of one number of 32 bits of each row.
    fn of_rows(&self, room: Room) -> Argument {
        self.features(room, 1)
    }

    /// The address of the places of chunks.
    fn chunks(&self) -> Argument {
        self.room(Room::Chunks).of::<u32>(2 * self.stages.placement.chunks.len())
    }

    fn broken(&self) -> Argument {
        self.room(Room::Broken).of::<u32>(self.stages.placement.chunks.len())
    }

    /// Copies what describes the chunks.
    fn write(&self) -> Result<(), DeviceFault> {
        let Stages { placement, plan, .. } = self.stages;
        self.room(Room::Tokens).write(&placement.tokens)?;
        self.room(Room::Positions).write(&placement.positions)?;
        self.room(Room::Targets).write(&placement.targets)?;
        self.room(Room::Owners).write(&placement.owners)?;
        #[expect(clippy::cast_possible_truncation, reason = "rows are far below 2^32")]
        let chunks: Vec<u32> = placement
            .chunks
            .iter()
            .flat_map(|chunk| [chunk.first as u32, chunk.count as u32])
            .collect();
        self.room(Room::Chunks).write(&chunks)?;
        self.room(Room::Broken).fill(0, placement.chunks.len())?;
        plan.write(self.room(Room::Queries))
    }

    /// Everything up to the representations.
    fn forward(&self) -> Result<(), DeviceFault> {
        let Stages { layout, plan, .. } = self.stages;
        self.embed()?;
        for layer in &layout.layers {
            let (normed, mixed) = (Room::Normed, Room::Mixed);
            self.normalize(layer.norm_1)?;
            self.linear(normed, layer.projection, Epilogue::BiasOperand, Room::Projected)?;
            self.rotate()?;
            self.transpose()?;
            plan.run(
                self.card,
                self.sizes(),
                self.rows(),
                Buffers {
                    projected: self.room(Room::Projected),
                    values: self.room(Room::Values),
                    list: self.room(Room::Queries),
                    scores: self.room(Room::Scores),
                    sums: self.room(Room::Sums),
                    out: self.room(mixed),
                },
            )?;
            let residual = Epilogue::BiasResidual;
            self.linear(mixed, layer.output, residual, Room::Residual)?;
            self.normalize(layer.norm_2)?;
            self.linear(normed, layer.inner, Epilogue::BiasGelu, Room::Hidden)?;
            self.linear(Room::Hidden, layer.outer, residual, Room::Residual)?;
        }
        self.normalize(layout.final_norm)
    }

    fn embed(&self) -> Result<(), DeviceFault> {
        let (dim, embedding) = (self.sizes().dim, self.stages.layout.embedding);
        let grid = [self.rows().div_ceil(256), dim.min(GRID_MAX), 1];
        let arguments = [
            self.of_rows(Room::Tokens),
            embedding.address(self.model),
            Argument::Long(embedding.stride),
            Argument::Count(dim),
            Argument::Count(self.rows()),
            self.features(Room::Residual, dim),
        ];
        // SAFETY: tokens are rows of the embedding, or `NOTHING`.
        unsafe { self.card.launch(Kernel::Embed, grid, 256, &arguments) }
    }

    fn normalize(&self, norm: PlacedNorm) -> Result<(), DeviceFault> {
        let dim = self.sizes().dim;
        let arguments = [
            self.features(Room::Residual, dim),
            norm.gamma.address(self.model),
            norm.beta.address(self.model),
            Argument::Count(dim),
            Argument::Count(self.rows()),
            self.features(Room::Normed, dim),
        ];
        let grid = [self.rows() / 8, 1, 1];
        // SAFETY: it reaches these features of all rows, and a number of each feature.
        unsafe { self.card.launch(Kernel::Normalize, grid, 128, &arguments) }
    }

    fn linear(
        &self,
        from: Room,
        map: PlacedLinear,
        epilogue: Epilogue,
        to: Room,
    ) -> Result<(), DeviceFault> {
        let map = Map {
            x: self.room(from),
            model: self.model,
            weight: map.weight,
            bias: Some(map.bias),
            rows: self.rows(),
            epilogue,
        };
        map.run(self.card, self.room(to))
    }

    fn rotate(&self) -> Result<(), DeviceFault> {
        let (sizes, layout) = (self.sizes(), &self.stages.layout);
        // Pairs of queries and keys: half of twice the width.
        let pairs = sizes.dim;
        let arguments = [
            self.features(Room::Projected, 3 * sizes.dim),
            self.of_rows(Room::Positions),
            layout.cosines.address(self.model),
            layout.sines.address(self.model),
            Argument::Count(sizes.head_dim() / 2),
            Argument::Count(layout.cosines.stride),
            Argument::Count(pairs),
            Argument::Count(self.rows()),
        ];
        let grid = [self.rows().div_ceil(256), pairs.min(GRID_MAX), 1];
        // SAFETY: positions are columns of the tables, and queries and keys are two thirds.
        unsafe { self.card.launch(Kernel::Rotate, grid, 256, &arguments) }
    }

    fn transpose(&self) -> Result<(), DeviceFault> {
        let Sizes { dim, heads, .. } = self.sizes();
        let (width, rows) = (self.sizes().head_dim(), self.rows());
        let padded = width.next_multiple_of(4);
        let third = dim * rows * size_of::<f32>();
        let arguments = [
            self.room(Room::Projected).span(2 * third, third),
            Argument::Count(width),
            Argument::Count(padded),
            Argument::Count(heads),
            Argument::Count(rows),
            self.features(Room::Values, heads * padded),
        ];
        let grid = [rows / 32, dim.div_ceil(32).min(GRID_MAX), 1];
        // SAFETY: it reads the last third, and writes a padded row of each head for every row.
        unsafe { self.card.launch(Kernel::Transpose, grid, 256, &arguments) }
    }

    /// What a score takes from the representations.
    fn measure(&self) -> Result<(), DeviceFault> {
        let Stages { layout, placement, .. } = self.stages;
        let Sizes { dim, vocabulary, .. } = self.sizes();
        let (normed, rows, count) = (Room::Normed, self.rows(), Argument::Count);
        self.linear(normed, layout.predictor, Epilogue::Bias, Room::Logits)?;
        let arguments = [
            self.features(Room::Logits, vocabulary),
            self.of_rows(Room::Targets),
            self.of_rows(Room::Owners),
            count(vocabulary),
            count(rows),
            self.of_rows(Room::Nll),
            self.broken(),
        ];
        // SAFETY: targets are features of the logits, and owners are chunks, or `NOTHING`.
        unsafe { self.card.launch(Kernel::Likelihood, [rows / 8, 1, 1], 128, &arguments)? };
        let chunks = placement.chunks.len();
        let arguments = [
            self.features(normed, dim),
            self.chunks(),
            count(dim),
            count(rows),
            self.room(Room::Representations).of::<f64>(chunks * dim),
            self.broken(),
        ];
        let grid = [dim.div_ceil(128), chunks, 1];
        // SAFETY: the rows of chunks are in the pass, and there is a sum of each feature of each.
        unsafe { self.card.launch(Kernel::SumRows, grid, 128, &arguments)? };
        self.project()
    }

    /// SIGReg's projections and their sums.
    fn project(&self) -> Result<(), DeviceFault> {
        let Stages { subject, placement, directions, .. } = self.stages;
        let (slices, rows) = (self.sizes().slices, self.rows());
        let map = Map {
            x: self.room(Room::Normed),
            model: self.directions,
            weight: *directions,
            bias: None,
            rows,
            epilogue: Epilogue::Operand,
        };
        map.run(self.card, self.room(Room::Projections))?;
        let (nodes, chunks) = (subject.nodes.phi.len(), placement.chunks.len());
        let arguments = [
            self.features(Room::Projections, slices),
            self.chunks(),
            Argument::Double(subject.nodes.turns),
            Argument::Count(nodes),
            Argument::Count(slices),
            Argument::Count(rows),
            self.room(Room::Characteristic).of::<f32>(chunks * self.stages.characteristic()),
        ];
        let grid = [slices.div_ceil(128), nodes.div_ceil(NODES), chunks];
        // SAFETY: the rows of chunks are in the pass, and there are sums of each node of each.
        unsafe { self.card.launch(Kernel::Characteristic, grid, 128, &arguments) }
    }

    /// Appends the rows of all chunks, row by row.
    fn read_rows(&self, to: &mut Rows) -> Result<(), DeviceFault> {
        let (Sizes { dim, vocabulary, .. }, rows) = (self.sizes(), self.rows());
        let representations = self.room(Room::Normed).read(dim * rows)?;
        let logits = self.room(Room::Logits).read(vocabulary * rows)?;
        for chunk in &self.stages.placement.chunks {
            for row in chunk.first..chunk.first + chunk.count {
                to.representations.extend(representations.iter().skip(row).step_by(rows));
                to.logits.extend(logits.iter().skip(row).step_by(rows));
            }
        }
        Ok(())
    }

    /// Fetches the results.
    fn outcomes(&self) -> Result<Vec<Option<Outcome>>, DeviceFault> {
        let Stages { subject, placement, .. } = self.stages;
        let (dim, chunks) = (self.sizes().dim, placement.chunks.len());
        let each = self.stages.characteristic();
        let nll: Vec<f32> = self.room(Room::Nll).read(self.rows())?;
        let broken: Vec<u32> = self.room(Room::Broken).read(chunks)?;
        let sums: Vec<f64> = self.room(Room::Representations).read(chunks * dim)?;
        let characteristic: Vec<f32> = self.room(Room::Characteristic).read(chunks * each)?;
        let parts = sums.chunks_exact(dim).zip(characteristic.chunks_exact(each));
        let outcomes = placement.chunks.iter().zip(broken).zip(parts);
        Ok(outcomes
            .map(|((chunk, broken), (representation, sums))| {
                let predicted = chunk.first..chunk.first + chunk.count - 1;
                (broken == 0).then(|| Outcome {
                    nll: nll[predicted].to_vec(),
                    representation: representation.to_vec(),
                    distance: distance_of_sums(subject.nodes, sums, chunk.count),
                })
            })
            .collect())
    }
}
