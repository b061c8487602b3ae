//! From tokens to representations and logits: pre-norm layers, several chunks at once.
//!
//! Rows of different chunks share only the matrix products, where every output has its own chain:
//! batching never changes a bit.

use crate::kernels::{Engine, Epilogue};
use crate::layers::attention::{Heads, attend};
use crate::layers::linear::{linear, linear_operand, linear_residual, product};
use crate::layers::norm::layer_norm;
use crate::simd::operand;
use crate::weights::{Layer, Norm, Weights};

/// Buffers of a forward pass, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Forward {
    /// Residual stream, `[rows, dim]`.
    x: Vec<f32>,
    /// Buffer for the next residual stream.
    next: Vec<f32>,
    normed: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    mixed: Vec<f32>,
    hidden: Vec<f32>,
}

/// Keys and values of a chunk's positions so far, layer by layer.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    positions: usize,
    layers: Vec<KeysValues>,
}

#[derive(Clone, Debug, Default)]
struct KeysValues {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Cache {
    /// The cache of a chunk that has no positions yet.
    pub(crate) fn new(weights: &Weights) -> Self {
        Self { positions: 0, layers: vec![KeysValues::default(); weights.sizes().layers] }
    }

    /// Number of positions so far.
    pub(crate) fn positions(&self) -> usize {
        self.positions
    }
}

impl Forward {
    /// Representations of whole chunks, `[positions of all chunks, dim]`.
    pub(crate) fn representations(
        &mut self,
        engine: &Engine,
        weights: &Weights,
        chunks: &[Vec<u16>],
    ) -> &[f32] {
        self.run(engine, weights, chunks, None)
    }

    /// Representations of the positions that follow those in the cache, to which they are added.
    pub(crate) fn continue_chunk(
        &mut self,
        engine: &Engine,
        weights: &Weights,
        tokens: Vec<u16>,
        cache: &mut Cache,
    ) -> &[f32] {
        self.run(engine, weights, &[tokens], Some(cache))
    }

    fn run(
        &mut self,
        engine: &Engine,
        weights: &Weights,
        chunks: &[Vec<u16>],
        mut cache: Option<&mut Cache>,
    ) -> &[f32] {
        let sizes = weights.sizes();
        let past = cache.as_ref().map_or(0, |cache| cache.positions);
        let lengths: Vec<usize> = chunks.iter().map(Vec::len).collect();
        self.embed(weights, chunks);
        for index in 0..sizes.layers {
            let layer = weights.layer(index);
            self.project(engine, &layer);
            self.rotate(engine, weights, &lengths, past);
            match cache.as_deref_mut() {
                None => self.attend_chunks(engine, weights, &lengths),
                Some(cache) => self.attend_cached(engine, weights, &mut cache.layers[index]),
            }
            self.finish_layer(engine, &layer);
        }
        if let Some(cache) = cache {
            cache.positions += lengths[0];
        }
        self.norm(engine, weights.final_norm());
        &self.normed
    }

    fn embed(&mut self, weights: &Weights, chunks: &[Vec<u16>]) {
        let embedding = weights.embedding();
        self.x.clear();
        for &token in chunks.iter().flatten() {
            let row = usize::from(token) * embedding.columns();
            let row = &embedding.data()[row..row + embedding.columns()];
            if embedding.is_raw() {
                self.x.extend(row.iter().map(|&x| operand(x)));
            } else {
                self.x.extend_from_slice(row);
            }
        }
        let rows = self.x.len() / embedding.columns();
        for buffer in [
            &mut self.next,
            &mut self.normed,
            &mut self.query,
            &mut self.key,
            &mut self.value,
            &mut self.mixed,
        ] {
            buffer.resize(self.x.len(), 0.0);
        }
        self.hidden.resize(rows * weights.sizes().ffn, 0.0);
    }

    fn norm(&mut self, engine: &Engine, norm: Norm<'_>) {
        layer_norm(engine, &self.x, norm, &mut self.normed);
    }

    fn project(&mut self, engine: &Engine, layer: &Layer<'_>) {
        self.norm(engine, layer.norm_1);
        linear_operand(engine, &self.normed, layer.query, &mut self.query);
        linear_operand(engine, &self.normed, layer.key, &mut self.key);
        linear_operand(engine, &self.normed, layer.value, &mut self.value);
    }

    /// Rotates queries and keys; every chunk starts at position `past`.
    fn rotate(&mut self, engine: &Engine, weights: &Weights, lengths: &[usize], past: usize) {
        let (rope, dim) = (weights.rope(), weights.sizes().dim);
        let positions = lengths.iter().flat_map(|&length| past..past + length);
        let rows: Vec<_> = positions
            .zip(self.query.chunks_exact_mut(dim).zip(self.key.chunks_exact_mut(dim)))
            .collect();
        engine.for_each(rows, |(position, (query, key))| {
            engine.run(rope.rotate(query, position, false));
            engine.run(rope.rotate(key, position, false));
        });
    }

    fn attend_chunks(&mut self, engine: &Engine, weights: &Weights, lengths: &[usize]) {
        let (dim, head_dim) = (weights.sizes().dim, weights.sizes().head_dim());
        let mut tasks = Vec::new();
        let mut rest = (&self.query[..], &self.key[..], &self.value[..], &mut self.mixed[..]);
        for &length in lengths {
            let (query, query_rest) = rest.0.split_at(length * dim);
            let (key, key_rest) = rest.1.split_at(length * dim);
            let (value, value_rest) = rest.2.split_at(length * dim);
            let (mixed, mixed_rest) = rest.3.split_at_mut(length * dim);
            rest = (query_rest, key_rest, value_rest, mixed_rest);
            tasks.extend(Heads { query, key, value, dim, head_dim }.tasks(mixed));
        }
        engine.for_each(tasks, |task| attend(engine, task));
    }

    fn attend_cached(&mut self, engine: &Engine, weights: &Weights, past: &mut KeysValues) {
        let (dim, head_dim) = (weights.sizes().dim, weights.sizes().head_dim());
        past.keys.extend_from_slice(&self.key);
        past.values.extend_from_slice(&self.value);
        let (query, key, value) = (&self.query[..], &past.keys[..], &past.values[..]);
        let tasks = Heads { query, key, value, dim, head_dim }.tasks(&mut self.mixed);
        engine.for_each(tasks, |task| attend(engine, task));
    }

    fn finish_layer(&mut self, engine: &Engine, layer: &Layer<'_>) {
        linear_residual(engine, &self.mixed, layer.output, &self.x, &mut self.next);
        std::mem::swap(&mut self.x, &mut self.next);
        self.norm(engine, layer.norm_2);
        product(
            engine,
            &self.normed,
            layer.inner,
            &mut self.hidden,
            Epilogue::BiasGelu(layer.inner.bias),
        );
        linear_residual(engine, &self.hidden, layer.outer, &self.x, &mut self.next);
        std::mem::swap(&mut self.x, &mut self.next);
    }
}

/// Logits of representations, `[rows, vocabulary]`.
pub(crate) fn logits(
    engine: &Engine,
    weights: &Weights,
    representations: &[f32],
    out: &mut Vec<f32>,
) {
    let sizes = weights.sizes();
    out.resize(representations.len() / sizes.dim * sizes.vocabulary, 0.0);
    linear(engine, representations, weights.predictor(), out);
}
