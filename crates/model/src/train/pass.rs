//! The forward and the backward pass of one window: what one thread does between two points where
//! all threads meet.
//!
//! Gradients take the place of the activations they belong to as soon as those are no longer
//! needed, so that the memory of a step is that of its activations: per position and layer `8 dim +
//! 2 hidden` numbers, besides `2 dim + vocabulary + 2 slices` for the last layer's output.

use soma_architecture::{Linear, Norm, Tensor};

use super::layout::{Layout, Place};
use crate::kernels::{Engine, Epilogue, Matrix, MatrixMut, Triangle, matmul_here};
use crate::layers::attention::{AttentionBackward, HeadColumns, HeadScratch, Heads, attend};
use crate::layers::feed_forward::{BiasGelu, Multiply};
use crate::layers::linear::ColumnSums;
use crate::layers::loss::{CrossEntropy, NO_TARGET};
use crate::layers::norm::{NormBackward, Normalize};
use crate::layers::sigreg::{CharacteristicFunction, Directions, DocumentSums};
use crate::rope::Rope;
use crate::sizes::Sizes;
use crate::weights::Norm as NormWeights;

/// What all windows of a micro-batch share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model<'a> {
    pub(super) engine: &'a Engine,
    pub(super) sizes: Sizes,
    pub(super) layout: &'a Layout,
    pub(super) values: &'a [f32],
    pub(super) rope: &'a Rope,
    pub(super) directions: &'a Directions,
}

impl Model<'_> {
    fn values(&self, place: &Place) -> &[f32] {
        &self.values[place.range.clone()]
    }

    fn weight(&self, linear: Linear) -> Matrix<'_> {
        let [weight, _] = self.layout.linear(linear);
        Matrix::new(self.values(weight), weight.rows, weight.columns)
    }

    fn bias(&self, linear: Linear) -> &[f32] {
        self.values(self.layout.linear(linear)[1])
    }

    /// `outputs = inputs . weight + bias`
    fn project(&self, linear: Linear, inputs: &[f32], outputs: &mut [f32]) {
        let epilogue = Epilogue::Bias(self.bias(linear));
        self.product(inputs, self.weight(linear), outputs, false, epilogue);
    }

    /// `outputs = operand(inputs . weight + bias)`
    fn project_operand(&self, linear: Linear, inputs: &[f32], outputs: &mut [f32]) {
        let epilogue = Epilogue::BiasOperand(self.bias(linear));
        self.product(inputs, self.weight(linear), outputs, false, epilogue);
    }

    /// `outputs = residual + (inputs . weight + bias)`
    fn project_onto(&self, linear: Linear, inputs: &[f32], residual: &[f32], outputs: &mut [f32]) {
        let bias = self.bias(linear);
        let residual = Matrix::new(residual, residual.len() / bias.len(), bias.len());
        let epilogue = Epilogue::BiasResidual(bias, residual);
        self.product(inputs, self.weight(linear), outputs, false, epilogue);
    }

    /// `d_inputs (+)= d_outputs . weight^T`
    fn project_back(&self, linear: Linear, d_outputs: &[f32], d_inputs: &mut [f32], add: bool) {
        let weight = self.weight(linear).transposed();
        self.product(d_outputs, weight, d_inputs, add, Epilogue::None);
    }

    fn product(&self, a: &[f32], b: Matrix<'_>, c: &mut [f32], add: bool, last: Epilogue<'_>) {
        let rows = a.len() / b.rows();
        let a = Matrix::new(a, rows, b.rows());
        let c = MatrixMut::new(c, rows, b.columns());
        matmul_here(self.engine, a, b, c, add, Triangle::Full, last);
    }

    fn normalize(&self, norm: Norm, rows: &[f32], outputs: &mut [f32]) {
        let [gamma, beta] = self.layout.norm(norm).map(|place| self.values(place));
        self.engine.run(Normalize { rows, norm: NormWeights { gamma, beta }, outputs });
    }

    /// Rotates queries or keys by their positions, or their gradients back.
    fn rotate(&self, rows: &mut [f32], back: bool) {
        for (position, row) in rows.chunks_exact_mut(self.sizes.dim).enumerate() {
            self.engine.run(self.rope.rotate(row, position, back));
        }
    }
}

/// The activations of one layer, later their gradients; `[positions, width]` each.
#[derive(Debug)]
struct LayerActivations {
    /// What enters the layer along the residual.
    input: Vec<f32>,
    normed_1: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    /// The residual between attention and feed-forward.
    middle: Vec<f32>,
    normed_2: Vec<f32>,
    /// The slope of the GELU at its input.
    slopes: Vec<f32>,
    hidden: Vec<f32>,
}

/// One window: its tokens, and everything computed from them.
#[derive(Debug)]
pub(super) struct Pass {
    pub(super) tokens: Vec<u16>,
    pub(super) targets: Vec<u16>,
    layers: Vec<LayerActivations>,
    /// The residual after the last layer.
    residual: Vec<f32>,
    representations: Vec<f32>,
    logits: Vec<f32>,
    cosines: Vec<f32>,
    sines: Vec<f32>,
    pub(super) sigreg_sums: DocumentSums,
    /// Sum of the negative log likelihoods.
    pub(super) nll: f64,
    /// Gradients of all biases and norms.
    pub(super) vectors: Vec<f32>,
}

/// Buffers that a pass needs only while it runs.
#[derive(Debug)]
pub(super) struct Scratch {
    narrow: Vec<f32>,
    wide: Vec<f32>,
    rows: Vec<f32>,
    head: HeadScratch,
}

impl Scratch {
    pub(super) fn new(sizes: Sizes) -> Self {
        let Sizes { dim, positions, .. } = sizes;
        Self {
            narrow: vec![0.0; positions * dim],
            wide: vec![0.0; positions * sizes.ffn],
            rows: vec![0.0; 2 * dim],
            head: HeadScratch::new(positions, sizes.head_dim()),
        }
    }
}

impl Pass {
    pub(super) fn new(sizes: Sizes, layout: &Layout, sigreg: &CharacteristicFunction) -> Self {
        let positions = sizes.positions;
        let zeros = |width: usize| vec![0.0; positions * width];
        let (dim, hidden) = (sizes.dim, sizes.ffn);
        let layer = || LayerActivations {
            input: zeros(dim),
            normed_1: zeros(dim),
            queries: zeros(dim),
            keys: zeros(dim),
            values: zeros(dim),
            attended: zeros(dim),
            middle: zeros(dim),
            normed_2: zeros(dim),
            slopes: zeros(hidden),
            hidden: zeros(hidden),
        };
        Self {
            tokens: Vec::with_capacity(positions),
            targets: Vec::with_capacity(positions),
            layers: (0..sizes.layers).map(|_| layer()).collect(),
            residual: zeros(dim),
            representations: zeros(dim),
            logits: zeros(sizes.vocabulary),
            cosines: zeros(sizes.slices),
            sines: zeros(sizes.slices),
            sigreg_sums: sigreg.document_sums(),
            nll: 0.0,
            vectors: vec![0.0; layout.vectors_len()],
        }
    }

    fn positions(&self) -> usize {
        self.tokens.len()
    }

    /// Takes in tokens, each of which predicts the next.
    pub(super) fn fill(&mut self, tokens: impl Iterator<Item = u16>) {
        self.tokens.clear();
        self.tokens.extend(tokens);
        self.targets.clear();
        self.targets.extend_from_slice(self.tokens.get(1..).unwrap_or_default());
        self.targets.push(NO_TARGET);
    }

    /// Computes the likelihoods; `weight` is what one predicted position counts for in the
    /// gradient.
    pub(super) fn forward(&mut self, model: &Model<'_>, weight: f32) {
        let Sizes { dim, vocabulary, .. } = model.sizes;
        let n = self.positions();
        let embedding = model.values(model.layout.place(Tensor::Embedding));
        for (row, &token) in self.layers[0].input.chunks_exact_mut(dim).zip(&self.tokens) {
            row.copy_from_slice(&embedding[usize::from(token) * dim..][..dim]);
        }
        for index in 0..self.layers.len() {
            let (before, after) = self.layers.split_at_mut(index + 1);
            let output = after.first_mut().map_or(&mut self.residual, |next| &mut next.input);
            before[index].forward(model, index, n, &mut output[..n * dim]);
        }
        let representations = &mut self.representations[..n * dim];
        model.normalize(Norm::Final, &self.residual[..n * dim], representations);
        let logits = &mut self.logits[..n * vocabulary];
        model.project(Linear::Predictor, representations, logits);
        let targets = &self.targets;
        self.nll = model.engine.run(CrossEntropy { logits, targets, weight });
    }

    /// Adds up the samples of SIGReg.
    pub(super) fn sample(&mut self, model: &Model<'_>, sigreg: &CharacteristicFunction) {
        let n = self.positions();
        let representations = &self.representations[..n * model.sizes.dim];
        let slices = n * model.sizes.slices;
        let (cosines, sines) = (&mut self.cosines[..slices], &mut self.sines[..slices]);
        let directions = model.directions.matrix();
        model.product(representations, directions, cosines, false, Epilogue::None);
        model.engine.run(sigreg.samples(cosines, sines, &mut self.sigreg_sums));
    }

    /// Replaces the activations with the gradients of the loss.
    pub(super) fn backward(
        &mut self,
        model: &Model<'_>,
        sigreg: &CharacteristicFunction,
        scratch: &mut Scratch,
    ) {
        let Sizes { dim, vocabulary, .. } = model.sizes;
        let n = self.positions();
        let slices = n * model.sizes.slices;
        let logits = &self.logits[..n * vocabulary];
        let d_representations = &mut scratch.narrow[..n * dim];
        bias_gradient(model, Linear::Predictor, logits, &mut self.vectors);
        model.project_back(Linear::Predictor, logits, d_representations, false);
        model.engine.run(sigreg.gradient(&mut self.cosines[..slices], &self.sines[..slices]));
        let directions = model.directions.matrix().transposed();
        let cosines = &self.cosines[..slices];
        model.product(cosines, directions, d_representations, true, Epilogue::None);
        let residual = &mut self.residual[..n * dim];
        let (d_outputs, rows) = (&*d_representations, &mut scratch.rows);
        let vectors = &mut self.vectors;
        norm_backward(model, Norm::Final, residual, None, d_outputs, vectors, rows);
        for index in (0..self.layers.len()).rev() {
            let (before, after) = self.layers.split_at_mut(index + 1);
            let d_output = after.first().map_or(&self.residual, |next| &next.input);
            let d_output = &d_output[..n * dim];
            before[index].backward(model, index, n, d_output, scratch, &mut self.vectors);
        }
    }

    /// The two factors of a linear layer's weight gradient: its inputs, and the gradients of its
    /// outputs.
    pub(super) fn factors(&self, linear: Linear, model: &Model<'_>) -> [Matrix<'_>; 2] {
        let (inputs, d_outputs) = match linear {
            Linear::Query(i) => (&self.layers[i].normed_1, &self.layers[i].queries),
            Linear::Key(i) => (&self.layers[i].normed_1, &self.layers[i].keys),
            Linear::Value(i) => (&self.layers[i].normed_1, &self.layers[i].values),
            Linear::Output(i) => (&self.layers[i].attended, &self.layers[i].middle),
            Linear::Inner(i) => (&self.layers[i].normed_2, &self.layers[i].slopes),
            Linear::Outer(i) => {
                let d_output = self.layers.get(i + 1).map_or(&self.residual, |next| &next.input);
                (&self.layers[i].hidden, d_output)
            }
            Linear::Predictor => (&self.representations, &self.logits),
        };
        let [weight, _] = model.layout.linear(linear);
        let n = self.positions();
        [
            Matrix::new(&inputs[..n * weight.rows], n, weight.rows),
            Matrix::new(&d_outputs[..n * weight.columns], n, weight.columns),
        ]
    }

    /// The gradients of the embedded rows, one for each token.
    pub(super) fn d_embedded(&self) -> &[f32] {
        &self.layers[0].input
    }
}

impl LayerActivations {
    fn forward(&mut self, model: &Model<'_>, layer: usize, n: usize, output: &mut [f32]) {
        let engine = model.engine;
        let Sizes { dim, ffn, .. } = model.sizes;
        let (narrow, wide) = (n * dim, n * ffn);
        let normed = &mut self.normed_1[..narrow];
        model.normalize(Norm::First(layer), &self.input[..narrow], normed);
        let projections = [
            (Linear::Query(layer), &mut self.queries),
            (Linear::Key(layer), &mut self.keys),
            (Linear::Value(layer), &mut self.values),
        ];
        for (linear, rows) in projections {
            model.project_operand(linear, normed, &mut rows[..narrow]);
        }
        model.rotate(&mut self.queries[..narrow], false);
        model.rotate(&mut self.keys[..narrow], false);
        let attended = &mut self.attended[..narrow];
        let [query, key, value] =
            [&self.queries, &self.keys, &self.values].map(|rows| &rows[..narrow]);
        let heads = Heads { query, key, value, dim, head_dim: model.sizes.head_dim() };
        for task in heads.tasks(attended) {
            attend(engine, task);
        }
        let middle = &mut self.middle[..narrow];
        let output_map = Linear::Output(layer);
        model.project_onto(output_map, attended, &self.input[..narrow], middle);
        let normed = &mut self.normed_2[..narrow];
        model.normalize(Norm::Second(layer), middle, normed);
        let hidden = &mut self.hidden[..wide];
        let inner = Linear::Inner(layer);
        model.product(normed, model.weight(inner), hidden, false, Epilogue::None);
        engine.run(BiasGelu {
            rows: hidden,
            bias: model.bias(inner),
            slopes: &mut self.slopes[..wide],
        });
        model.project_onto(Linear::Outer(layer), hidden, middle, output);
    }

    fn backward(
        &mut self,
        model: &Model<'_>,
        layer: usize,
        n: usize,
        d_output: &[f32],
        scratch: &mut Scratch,
        vectors: &mut [f32],
    ) {
        let Sizes { dim, ffn, .. } = model.sizes;
        let (narrow, wide) = (n * dim, n * ffn);
        let d_normed = &mut scratch.narrow[..narrow];
        let d_hidden = &mut scratch.wide[..wide];
        bias_gradient(model, Linear::Outer(layer), d_output, vectors);
        model.project_back(Linear::Outer(layer), d_output, d_hidden, false);
        let slopes = &mut self.slopes[..wide];
        model.engine.run(Multiply { rows: slopes, factors: d_hidden });
        bias_gradient(model, Linear::Inner(layer), slopes, vectors);
        model.project_back(Linear::Inner(layer), slopes, d_normed, false);
        let middle = &mut self.middle[..narrow];
        norm_backward(
            model,
            Norm::Second(layer),
            middle,
            Some(d_output),
            d_normed,
            vectors,
            &mut scratch.rows,
        );

        bias_gradient(model, Linear::Output(layer), middle, vectors);
        model.project_back(Linear::Output(layer), middle, d_normed, false);
        self.attention_backward(model, n, &scratch.narrow[..narrow], &mut scratch.head);
        let d_normed = &mut scratch.narrow[..narrow];
        let projections = [
            (Linear::Query(layer), &self.queries),
            (Linear::Key(layer), &self.keys),
            (Linear::Value(layer), &self.values),
        ];
        for (index, (linear, d_rows)) in projections.into_iter().enumerate() {
            bias_gradient(model, linear, &d_rows[..narrow], vectors);
            model.project_back(linear, &d_rows[..narrow], d_normed, index > 0);
        }
        norm_backward(
            model,
            Norm::First(layer),
            &mut self.input[..narrow],
            Some(&self.middle[..narrow]),
            d_normed,
            vectors,
            &mut scratch.rows,
        );
    }

    fn attention_backward(
        &mut self,
        model: &Model<'_>,
        n: usize,
        d_outputs: &[f32],
        scratch: &mut HeadScratch,
    ) {
        let Sizes { dim, heads, .. } = model.sizes;
        let width = dim / heads;
        let scale = 1.0 / (width as f32).sqrt();
        for head in 0..heads {
            model.engine.run(AttentionBackward {
                positions: n,
                columns: HeadColumns { dim, first: head * width, width },
                scale,
                outputs: &self.attended,
                d_outputs,
                queries: &mut self.queries,
                keys: &mut self.keys,
                values: &mut self.values,
                scratch,
            });
        }
        model.rotate(&mut self.queries[..n * dim], true);
        model.rotate(&mut self.keys[..n * dim], true);
    }
}

fn bias_gradient(model: &Model<'_>, linear: Linear, d_outputs: &[f32], vectors: &mut [f32]) {
    let [_, bias] = model.layout.linear(linear);
    let sums = &mut vectors[bias.vector_range.clone()];
    model.engine.run(ColumnSums { rows: d_outputs, sums });
}

/// Turns the rows, which are the input of a norm, into their gradient: the one along the residual,
/// if any, plus that of the norm.
fn norm_backward(
    model: &Model<'_>,
    norm: Norm,
    rows: &mut [f32],
    gradient: Option<&[f32]>,
    d_outputs: &[f32],
    vectors: &mut [f32],
    scratch: &mut [f32],
) {
    let [gamma, beta] = model.layout.norm(norm);
    let vectors = &mut vectors[gamma.vector_range.start..beta.vector_range.end];
    let (d_gamma, d_beta) = vectors.split_at_mut(gamma.len());
    let gamma = model.values(gamma);
    model.engine.run(NormBackward { rows, gradient, d_outputs, gamma, d_gamma, d_beta, scratch });
}
