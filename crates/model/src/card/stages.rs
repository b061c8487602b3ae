//! The stages of a pass on a card, from tokens to what a score takes from them.

use super::attention::{Buffers, Chunk, Plan, WAVE_FLOATS};
use super::layout::{Layout, Placed, PlacedLinear, PlacedNorm, copy};
use super::linear::{Epilogue, Map};
use crate::device::{Argument, Card, Kernel, Memory};
use crate::error::DeviceFault;
use crate::layers::sigreg::{Nodes, distance_of_sums};
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
    Directions,
    Staging,
    Projections,
    Nll,
    Broken,
    Representations,
    Characteristic,
}

/// The rows of the chunks of a pass.
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

/// A pass that is being computed.
struct Stages<'a> {
    card: &'a Card,
    sizes: Sizes,
    layout: &'a Layout,
    model: &'a Memory,
    rows: usize,
}

/// Computes chunks of tokens, one outcome for each: `None` if a representation or a logit is not
/// finite.
///
/// # Errors
/// [`DeviceFault::OutOfMemory`], or a failure of the card; then no outcome means anything.
pub(super) fn run(
    card: &mut Card,
    subject: Subject<'_>,
    chunks: &[Vec<u16>],
    rows: Option<&mut Rows>,
) -> Result<Vec<Option<Outcome>>, DeviceFault> {
    run_within(card, subject, chunks, rows, WAVE_FLOATS)
}

/// The same with at most so many scores of attention at a time.
pub(super) fn run_within(
    card: &mut Card,
    subject: Subject<'_>,
    chunks: &[Vec<u16>],
    rows: Option<&mut Rows>,
    wave_floats: usize,
) -> Result<Vec<Option<Outcome>>, DeviceFault> {
    let weights = subject.weights;
    let sizes = weights.sizes();
    let layout = Layout::new(sizes);
    let model = card.keep(weights.identity(), layout.bytes(), |card, memory| {
        layout.fill(card, memory, weights)
    })?;
    let placement = Placement::new(chunks);
    let plan = Plan::new(sizes, &placement.chunks, wave_floats);
    make_rooms(card, sizes, subject.nodes, &placement, &plan)?;
    let card = &*card;
    let stages = Stages { card, sizes, layout: &layout, model: &model, rows: placement.rows };
    stages.write(&placement, &plan)?;
    stages.forward(&plan)?;
    stages.measure(subject, &placement)?;
    if let Some(rows) = rows {
        stages.read_rows(&placement, rows)?;
    }
    stages.outcomes(subject.nodes, &placement)
}

/// Makes room for everything before anything is computed.
fn make_rooms(
    card: &mut Card,
    sizes: Sizes,
    nodes: &Nodes,
    placement: &Placement,
    plan: &Plan,
) -> Result<(), DeviceFault> {
    let Sizes { dim, ffn, vocabulary, slices, heads, .. } = sizes;
    let (rows, chunks) = (placement.rows, placement.chunks.len());
    let floats = |features: usize| features * rows * size_of::<f32>();
    let padded = sizes.head_dim().next_multiple_of(4);
    let direction_bytes = dim * slices.next_multiple_of(4) * size_of::<f32>();
    for (room, bytes) in [
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
        (Room::Directions, direction_bytes),
        (Room::Staging, direction_bytes),
        (Room::Projections, floats(slices)),
        (Room::Nll, floats(1)),
        (Room::Broken, chunks * 4),
        (Room::Representations, chunks * dim * size_of::<f64>()),
        (Room::Characteristic, chunks * 2 * nodes.phi.len() * slices * size_of::<f32>()),
    ] {
        card.make_room(room as usize, bytes)?;
    }
    Ok(())
}

impl Stages<'_> {
    fn room(&self, room: Room) -> &Memory {
        self.card.room(room as usize)
    }

    fn address(&self, room: Room) -> Argument {
        self.room(room).start()
    }

    fn placed(&self, placed: Placed) -> Argument {
        self.model.at::<f32>(placed.first)
    }

    /// Copies what describes the chunks.
    fn write(&self, placement: &Placement, plan: &Plan) -> Result<(), DeviceFault> {
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
    fn forward(&self, plan: &Plan) -> Result<(), DeviceFault> {
        let Sizes { dim, ffn, .. } = self.sizes;
        let layout = self.layout;
        self.embed()?;
        for layer in &layout.layers {
            let (normed, mixed) = (Room::Normed, Room::Mixed);
            self.normalize(layer.norm_1)?;
            let (map, bias) = (layer.projection, Epilogue::BiasOperand);
            self.linear(normed, map, dim, 3 * dim, bias, Room::Projected)?;
            self.rotate()?;
            self.transpose()?;
            plan.run(
                self.card,
                self.sizes,
                self.rows,
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
            self.linear(mixed, layer.output, dim, dim, residual, Room::Residual)?;
            self.normalize(layer.norm_2)?;
            self.linear(normed, layer.inner, dim, ffn, Epilogue::BiasGelu, Room::Hidden)?;
            self.linear(Room::Hidden, layer.outer, ffn, dim, residual, Room::Residual)?;
        }
        self.normalize(layout.final_norm)
    }

    fn embed(&self) -> Result<(), DeviceFault> {
        let (dim, embedding) = (self.sizes.dim, self.layout.embedding);
        self.card.launch(
            Kernel::Embed,
            [self.rows.div_ceil(256), dim.min(GRID_MAX), 1],
            256,
            &[
                self.address(Room::Tokens),
                self.placed(embedding),
                Argument::Long(embedding.stride),
                Argument::Count(dim),
                Argument::Count(self.rows),
                self.address(Room::Residual),
            ],
        )
    }

    fn normalize(&self, norm: PlacedNorm) -> Result<(), DeviceFault> {
        self.card.launch(
            Kernel::Normalize,
            [self.rows / 8, 1, 1],
            128,
            &[
                self.address(Room::Residual),
                self.placed(norm.gamma),
                self.placed(norm.beta),
                Argument::Count(self.sizes.dim),
                Argument::Count(self.rows),
                self.address(Room::Normed),
            ],
        )
    }

    fn linear(
        &self,
        from: Room,
        map: PlacedLinear,
        inputs: usize,
        outputs: usize,
        epilogue: Epilogue,
        to: Room,
    ) -> Result<(), DeviceFault> {
        let map = Map {
            x: self.room(from),
            model: self.model,
            weight: map.weight,
            bias: map.bias,
            inputs,
            outputs,
            rows: self.rows,
            epilogue,
        };
        map.run(self.card, self.room(to))
    }

    fn rotate(&self) -> Result<(), DeviceFault> {
        // Pairs of queries and keys: half of twice the width.
        let pairs = self.sizes.dim;
        self.card.launch(
            Kernel::Rotate,
            [self.rows.div_ceil(256), pairs.min(GRID_MAX), 1],
            256,
            &[
                self.address(Room::Projected),
                self.address(Room::Positions),
                self.placed(self.layout.cosines),
                self.placed(self.layout.sines),
                Argument::Count(self.sizes.head_dim() / 2),
                Argument::Count(self.layout.cosines.stride),
                Argument::Count(pairs),
                Argument::Count(self.rows),
            ],
        )
    }

    fn transpose(&self) -> Result<(), DeviceFault> {
        let (dim, width) = (self.sizes.dim, self.sizes.head_dim());
        self.card.launch(
            Kernel::Transpose,
            [self.rows / 32, dim.div_ceil(32).min(GRID_MAX), 1],
            256,
            &[
                self.room(Room::Projected).at::<f32>(2 * dim * self.rows),
                Argument::Count(width),
                Argument::Count(width.next_multiple_of(4)),
                Argument::Count(self.sizes.heads),
                Argument::Count(self.rows),
                self.address(Room::Values),
            ],
        )
    }

    /// What a score takes from the representations.
    fn measure(&self, subject: Subject<'_>, placement: &Placement) -> Result<(), DeviceFault> {
        let Sizes { dim, vocabulary, .. } = self.sizes;
        let normed = Room::Normed;
        let predictor = self.layout.predictor;
        self.linear(normed, predictor, dim, vocabulary, Epilogue::Bias, Room::Logits)?;
        self.card.launch(
            Kernel::Likelihood,
            [self.rows / 8, 1, 1],
            128,
            &[
                self.address(Room::Logits),
                self.address(Room::Targets),
                self.address(Room::Owners),
                Argument::Count(vocabulary),
                Argument::Count(self.rows),
                self.address(Room::Nll),
                self.address(Room::Broken),
            ],
        )?;
        self.card.launch(
            Kernel::SumRows,
            [dim.div_ceil(128), placement.chunks.len(), 1],
            128,
            &[
                self.address(normed),
                self.address(Room::Chunks),
                Argument::Count(dim),
                Argument::Count(self.rows),
                self.address(Room::Representations),
                self.address(Room::Broken),
            ],
        )?;
        self.project(subject, placement)
    }

    /// SIGReg's projections and their sums.
    fn project(&self, subject: Subject<'_>, placement: &Placement) -> Result<(), DeviceFault> {
        let Sizes { dim, slices, .. } = self.sizes;
        let directions = Placed { first: 0, stride: slices.next_multiple_of(4) };
        let (staging, memory) = (self.room(Room::Staging), self.room(Room::Directions));
        let values = subject.directions.matrix().data();
        copy(self.card, staging, values, 0, slices, memory, directions)?;
        let map = Map {
            x: self.room(Room::Normed),
            model: memory,
            weight: directions,
            bias: directions,
            inputs: dim,
            outputs: slices,
            rows: self.rows,
            epilogue: Epilogue::Operand,
        };
        map.run(self.card, self.room(Room::Projections))?;
        let nodes = subject.nodes.phi.len();
        self.card.launch(
            Kernel::Characteristic,
            [slices.div_ceil(128), nodes.div_ceil(NODES), placement.chunks.len()],
            128,
            &[
                self.address(Room::Projections),
                self.address(Room::Chunks),
                Argument::Double(subject.nodes.turns),
                Argument::Count(nodes),
                Argument::Count(slices),
                Argument::Count(self.rows),
                self.address(Room::Characteristic),
            ],
        )
    }

    /// Appends the rows of all chunks, row by row.
    fn read_rows(&self, placement: &Placement, to: &mut Rows) -> Result<(), DeviceFault> {
        let Sizes { dim, vocabulary, .. } = self.sizes;
        let representations = self.room(Room::Normed).read(dim * self.rows)?;
        let logits = self.room(Room::Logits).read(vocabulary * self.rows)?;
        for chunk in &placement.chunks {
            for row in chunk.first..chunk.first + chunk.count {
                to.representations.extend(representations.iter().skip(row).step_by(self.rows));
                to.logits.extend(logits.iter().skip(row).step_by(self.rows));
            }
        }
        Ok(())
    }

    /// Fetches the results.
    fn outcomes(
        &self,
        nodes: &Nodes,
        placement: &Placement,
    ) -> Result<Vec<Option<Outcome>>, DeviceFault> {
        let Sizes { dim, slices, .. } = self.sizes;
        let chunks = placement.chunks.len();
        let (each, all) = (2 * nodes.phi.len() * slices, chunks * 2 * nodes.phi.len() * slices);
        let nll: Vec<f32> = self.room(Room::Nll).read(self.rows)?;
        let broken: Vec<u32> = self.room(Room::Broken).read(chunks)?;
        let sums: Vec<f64> = self.room(Room::Representations).read(chunks * dim)?;
        let characteristic: Vec<f32> = self.room(Room::Characteristic).read(all)?;
        let parts = sums.chunks_exact(dim).zip(characteristic.chunks_exact(each));
        let outcomes = placement.chunks.iter().zip(broken).zip(parts);
        Ok(outcomes
            .map(|((chunk, broken), (representation, sums))| {
                let predicted = chunk.first..chunk.first + chunk.count - 1;
                (broken == 0).then(|| Outcome {
                    nll: nll[predicted].to_vec(),
                    representation: representation.to_vec(),
                    distance: distance_of_sums(nodes, sums, chunk.count),
                })
            })
            .collect())
    }
}
