//! Weights: a safetensors file mapped into memory, or tensors in memory; read strictly, written
//! reproducibly.
//!
//! It never copies a matrix or writes to the map, and never accepts a value that is not finite.
//! Numbers below 2^-40 in magnitude are read as `+0`: vectors are copied without them, and matrices
//! that have some are marked as raw, so that they become zeros on their way to a product.
#![expect(unsafe_code, reason = "the weights file is mapped and its bytes are read as numbers")]

mod half;
mod header;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::OnceLock;

use memmap2::Mmap;
use rayon::prelude::*;
use soma_architecture::{Architecture, Linear as LinearId, Norm as NormId, Tensor, TensorSpec};
use soma_os::file::AtomicFile;

use crate::error::Error;
use crate::kernels::Matrix;
use crate::rope::Rope;
use crate::simd::{OPERAND_MIN, operand};
use crate::sizes::Sizes;
pub(crate) use half::{HalfKind, HalfMatrix, matmul_half};
pub(crate) use header::framed;
use header::{ElementType, Header, Location};

/// Elements that one task checks.
const SCAN_BLOCK: usize = 1 << 18;

/// The elements of a tensor.
#[derive(Debug)]
enum Elements {
    /// In the map, as first byte and number of elements, and whether small ones count as zero.
    Mapped { begin: usize, len: usize, raw: bool },
    /// In the map, two bytes each.
    MappedHalf { begin: usize, len: usize, kind: HalfKind },
    /// On the heap.
    Owned { values: Vec<f32>, raw: bool },
}

/// Gain and offset of a LayerNorm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Norm<'a> {
    pub(crate) gamma: &'a [f32],
    pub(crate) beta: &'a [f32],
}

/// A matrix of weights, `[in, out]`, as it lies in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weight<'a> {
    Float(Matrix<'a>),
    Half(HalfMatrix<'a>),
}

impl Weight<'_> {
    /// Inputs of the map.
    pub(crate) fn inputs(self) -> usize {
        match self {
            Self::Float(matrix) => matrix.rows(),
            Self::Half(matrix) => matrix.rows,
        }
    }
}

/// `y = x weight + bias`, where the weight is `[in, out]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linear<'a> {
    pub(crate) weight: Weight<'a>,
    pub(crate) bias: &'a [f32],
}

/// The tensors of one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layer<'a> {
    pub(crate) norm_1: Norm<'a>,
    pub(crate) query: Linear<'a>,
    pub(crate) key: Linear<'a>,
    pub(crate) value: Linear<'a>,
    pub(crate) output: Linear<'a>,
    pub(crate) norm_2: Norm<'a>,
    pub(crate) inner: Linear<'a>,
    pub(crate) outer: Linear<'a>,
}

/// All tensors of a model.
#[derive(Debug)]
pub struct Weights {
    architecture: Architecture,
    specs: Vec<TensorSpec>,
    elements: Vec<Elements>,
    map: Option<Mmap>,
    file_hash: Option<[u8; 32]>,
    rope: OnceLock<Rope>,
}

impl Weights {
    /// Maps a weights file and checks all of it.
    ///
    /// Without an architecture, the file's metadata must name one. The file must not change while
    /// it is in use.
    pub fn open(path: &Path, architecture: Option<&Architecture>) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() < 8 {
            let bytes = file.metadata().map_err(io)?.len();
            return Err(Error::TooShort { bytes: usize::try_from(bytes).unwrap_or(0) });
        }
        // SAFETY: the documentation asks the caller to leave the file as it is.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Self::from_map(map, architecture)
    }

    fn from_map(map: Mmap, architecture: Option<&Architecture>) -> Result<Self, Error> {
        let header = Header::read(&map)?;
        let architecture = match architecture {
            Some(architecture) => architecture.clone(),
            None => header.architecture()?.ok_or(Error::NoArchitecture)?,
        };
        architecture.check()?;
        let specs = architecture.tensors();
        let locations = header.locate(&specs, map.len())?;
        let file_hash = blake3::Hasher::new().update_rayon(&map).finalize().into();
        let mut elements = Vec::with_capacity(specs.len());
        for (&location, spec) in locations.iter().zip(&specs) {
            elements
                .push(read_elements(&map, location, spec).map_err(|index| {
                    Error::NonFiniteWeight { tensor: spec.name.clone(), index }
                })?);
        }
        let file_hash = Some(file_hash);
        let map = Some(map);
        Ok(Self { architecture, specs, elements, map, file_hash, rope: OnceLock::new() })
    }

    /// Random weights: the same for the same architecture and seed.
    ///
    /// Biases and betas are 0, gammas 1. The others are uniform between -a and a, from a BLAKE3
    /// stream over the seed and the tensor's name, with a standard deviation of 1 / sqrt(inputs)
    /// for linear maps (over sqrt(2 layers) more for those that write to the residual stream) and
    /// 0.02 for the embedding and the predictor.
    pub fn init(architecture: &Architecture, seed: [u8; 32]) -> Result<Self, Error> {
        architecture.check()?;
        let specs = architecture.tensors();
        let elements = specs
            .par_iter()
            .map(|spec| Elements::Owned {
                values: initial_values(architecture, spec, seed),
                raw: false,
            })
            .collect();
        Ok(Self {
            architecture: architecture.clone(),
            specs,
            elements,
            map: None,
            file_hash: None,
            rope: OnceLock::new(),
        })
    }

    /// Weights of these tensors, in the order of [`Architecture::tensors`]; small numbers count as
    /// zero, as in a file.
    ///
    /// # Panics
    /// If their number or a length does not match the architecture.
    pub(crate) fn from_tensors(architecture: &Architecture, tensors: Vec<Vec<f32>>) -> Self {
        let specs = architecture.tensors();
        assert_eq!(specs.len(), tensors.len(), "one tensor for each of the architecture's");
        for (spec, tensor) in specs.iter().zip(&tensors) {
            assert_eq!(spec.elements(), tensor.len(), "the length of a tensor");
        }
        let elements = specs.iter().zip(tensors).map(|(spec, values)| owned(values, spec));
        Self {
            architecture: architecture.clone(),
            elements: elements.collect(),
            specs,
            map: None,
            file_hash: None,
            rope: OnceLock::new(),
        }
    }

    /// The architecture.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Number of parameters.
    pub fn parameters(&self) -> u64 {
        self.architecture.parameters()
    }

    /// The tensors with their names and shapes, in the order of a file, as they are read: widened,
    /// and without small numbers.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&TensorSpec, Cow<'_, [f32]>)> {
        self.specs.iter().enumerate().map(|(index, spec)| (spec, self.tensor(index)))
    }

    /// BLAKE3 of the file's bytes; of the bytes that [`Self::save`] writes if there is no file.
    pub fn hash(&self) -> [u8; 32] {
        self.file_hash.unwrap_or_else(|| {
            let mut hasher = blake3::Hasher::new();
            self.write_to(&mut hasher).map_or([0; 32], |()| hasher.finalize().into())
        })
    }

    /// Writes a safetensors file in float32, with the architecture in its metadata; the write is
    /// atomic.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let write = || {
            let file = AtomicFile::create(path)?;
            let mut writer = BufWriter::with_capacity(1 << 20, file);
            self.write_to(&mut writer)?;
            writer.into_inner()?.commit()
        };
        write().map_err(|source| Error::Io { path: path.to_owned(), source })
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&header::write(&self.architecture))?;
        let mut bytes = Vec::new();
        for (_, values) in self.tensors() {
            for block in values.chunks(1 << 16) {
                bytes.clear();
                bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
                out.write_all(&bytes)?;
            }
        }
        Ok(())
    }

    /// Tensor `index` of [`Architecture::tensors`].
    fn tensor(&self, index: usize) -> Cow<'_, [f32]> {
        match self.half(index) {
            Some((bits, kind)) => bits.iter().map(|&bits| kind.widen(bits)).collect(),
            None => match self.floats(index) {
                (floats, true) => floats.iter().map(|&value| operand(value)).collect(),
                (floats, false) => Cow::Borrowed(floats),
            },
        }
    }

    /// A tensor that is float32 in memory (empty if it is not), and whether its small elements
    /// count as zero.
    fn floats(&self, index: usize) -> (&[f32], bool) {
        match &self.elements[index] {
            Elements::Owned { values, raw } => (values, *raw),
            Elements::Mapped { begin, len, raw } => {
                let map = self.map.as_deref().unwrap_or_default();
                (mapped_floats(&map[*begin..][..len * 4]), *raw)
            }
            Elements::MappedHalf { .. } => (&[], false),
        }
    }

    /// A vector.
    fn vector(&self, tensor: Tensor) -> &[f32] {
        let (values, raw) = self.floats(self.index(tensor));
        debug_assert!(!raw, "vectors are copied without small elements");
        values
    }

    /// A tensor that has half precision in memory.
    fn half(&self, index: usize) -> Option<(&[u16], HalfKind)> {
        let Elements::MappedHalf { begin, len, kind } = self.elements[index] else {
            return None;
        };
        let map = self.map.as_deref().unwrap_or_default();
        Some((mapped_halves(&map[begin..][..len * 2]), kind))
    }

    /// The rotary tables, made on first use.
    pub(crate) fn rope(&self) -> &Rope {
        self.rope.get_or_init(|| Rope::new(&self.architecture))
    }

    /// The sizes of the architecture.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes::from(&self.architecture)
    }

    /// The embedding, `[vocabulary, dim]`.
    pub(crate) fn embedding(&self) -> Matrix<'_> {
        let Sizes { vocabulary, dim, .. } = self.sizes();
        let (values, raw) = self.floats(self.index(Tensor::Embedding));
        Matrix::new(values, vocabulary, dim).raw(raw)
    }

    /// The tensors of layer `index`.
    pub(crate) fn layer(&self, index: usize) -> Layer<'_> {
        Layer {
            norm_1: self.norm(NormId::First(index)),
            query: self.linear(LinearId::Query(index)),
            key: self.linear(LinearId::Key(index)),
            value: self.linear(LinearId::Value(index)),
            output: self.linear(LinearId::Output(index)),
            norm_2: self.norm(NormId::Second(index)),
            inner: self.linear(LinearId::Inner(index)),
            outer: self.linear(LinearId::Outer(index)),
        }
    }

    /// The last LayerNorm, whose outputs are the representations.
    pub(crate) fn final_norm(&self) -> Norm<'_> {
        self.norm(NormId::Final)
    }

    /// The map from representations to logits.
    pub(crate) fn predictor(&self) -> Linear<'_> {
        self.linear(LinearId::Predictor)
    }

    fn index(&self, tensor: Tensor) -> usize {
        tensor.index(self.sizes().layers)
    }

    fn norm(&self, norm: NormId) -> Norm<'_> {
        Norm { gamma: self.vector(Tensor::Gamma(norm)), beta: self.vector(Tensor::Beta(norm)) }
    }

    fn linear(&self, linear: LinearId) -> Linear<'_> {
        let index = self.index(Tensor::Weight(linear));
        let [inputs, outputs] = [self.specs[index].shape[0], self.specs[index].shape[1]];
        let weight = if let Some((bits, kind)) = self.half(index) {
            Weight::Half(HalfMatrix { bits, kind, rows: inputs, columns: outputs })
        } else {
            let (values, raw) = self.floats(index);
            Weight::Float(Matrix::new(values, inputs, outputs).raw(raw))
        };
        Linear { weight, bias: self.vector(Tensor::Bias(linear)) }
    }
}

/// The float32 numbers that these bytes of the map are.
#[expect(clippy::cast_ptr_alignment, reason = "checked")]
fn mapped_floats(bytes: &[u8]) -> &[f32] {
    let start = bytes.as_ptr().cast::<f32>();
    assert!(start.is_aligned(), "tensors are aligned in the file, and the map to a page");
    // SAFETY: the address is aligned, the numbers lie inside the bytes, and any bits are a float32.
    unsafe { std::slice::from_raw_parts(start, bytes.len() / 4) }
}

/// The half-precision numbers that these bytes of the map are.
#[expect(clippy::cast_ptr_alignment, reason = "checked")]
fn mapped_halves(bytes: &[u8]) -> &[u16] {
    let start = bytes.as_ptr().cast::<u16>();
    assert!(start.is_aligned(), "tensors are aligned in the file, and the map to a page");
    // SAFETY: the address is aligned, the numbers lie inside the bytes, and any bits are a u16.
    unsafe { std::slice::from_raw_parts(start, bytes.len() / 2) }
}

/// Checks all elements of a tensor. Matrices stay in the map, vectors with small elements and half
/// precision outside linear maps are copied; an error is the index of the first element that is not
/// finite.
fn read_elements(map: &[u8], location: Location, spec: &TensorSpec) -> Result<Elements, usize> {
    let Location { element, begin, end } = location;
    let bytes = &map[begin..end];
    let len = bytes.len() / element.bytes();
    if cfg!(target_endian = "big") {
        return read_swapped(bytes, element, spec);
    }
    let kind = match element {
        ElementType::F32 => {
            let floats = mapped_floats(bytes);
            let raw = scan(floats, |value| {
                let bits = value.to_bits();
                (bits & 0x7f80_0000 != 0x7f80_0000, is_small(bits))
            })?;
            return Ok(if raw && is_vector(spec) {
                owned(floats.to_vec(), spec)
            } else {
                Elements::Mapped { begin, len, raw }
            });
        }
        ElementType::Bf16 => HalfKind::Bf16,
        ElementType::F16 => HalfKind::F16,
    };
    let halves = mapped_halves(bytes);
    scan(halves, |&bits| (kind.is_finite(bits), false))?;
    // Rows of the embedding are copied, not multiplied.
    if matches!(spec.tensor, Tensor::Weight(_)) {
        return Ok(Elements::MappedHalf { begin, len, kind });
    }
    Ok(owned(halves.par_iter().map(|&bits| kind.widen(bits)).collect(), spec))
}

/// A tensor on the heap. A vector loses its small elements, because it is used as it is.
fn owned(mut values: Vec<f32>, spec: &TensorSpec) -> Elements {
    let mut raw = values.par_iter().any(|value| is_small(value.to_bits()));
    if raw && is_vector(spec) {
        for value in &mut values {
            *value = operand(*value);
        }
        raw = false;
    }
    Elements::Owned { values, raw }
}

fn is_vector(spec: &TensorSpec) -> bool {
    !spec.tensor.is_matrix()
}

/// [`read_elements`] on a machine whose numbers lie the other way round: a copy of everything.
fn read_swapped(bytes: &[u8], element: ElementType, spec: &TensorSpec) -> Result<Elements, usize> {
    let half = |kind: HalfKind| {
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| u16::from_le_bytes(bytes))
            .map(move |bits| if kind.is_finite(bits) { kind.widen(bits) } else { f32::NAN })
    };
    let values: Vec<f32> = match element {
        ElementType::F32 => {
            bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        }
        ElementType::Bf16 => half(HalfKind::Bf16).collect(),
        ElementType::F16 => half(HalfKind::F16).collect(),
    };
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(index),
        None => Ok(owned(values, spec)),
    }
}

/// Whether a number is read as `+0` without being it: its magnitude is below 2^-40.
fn is_small(bits: u32) -> bool {
    bits & 0x7fff_ffff < OPERAND_MIN && bits != 0
}

/// Whether any element is small; an error is the index of the first one that is not finite.
/// `look` tells of an element whether it is finite and whether it is small.
fn scan<T: Sync>(elements: &[T], look: impl Fn(&T) -> (bool, bool) + Sync) -> Result<bool, usize> {
    let blocks: Vec<Result<bool, usize>> = elements
        .par_chunks(SCAN_BLOCK)
        .enumerate()
        .map(|(block, elements)| {
            // This has no branches, so that it runs at the speed of memory; what it finds is rare.
            let (finite, small) = elements.iter().fold((true, false), |(all, any), element| {
                let (finite, small) = look(element);
                (all & finite, any | small)
            });
            if finite {
                return Ok(small);
            }
            let index = elements.iter().position(|element| !look(element).0);
            Err(block * SCAN_BLOCK + index.unwrap_or_default())
        })
        .collect();
    blocks.into_iter().try_fold(false, |any, small| Ok(any | small?))
}

/// The initial values of a tensor; see [`Weights::init`].
fn initial_values(architecture: &Architecture, spec: &TensorSpec, seed: [u8; 32]) -> Vec<f32> {
    let elements = spec.elements();
    let bound = match spec.tensor {
        Tensor::Gamma(_) => return vec![1.0; elements],
        Tensor::Beta(_) | Tensor::Bias(_) => return vec![0.0; elements],
        Tensor::Embedding | Tensor::Weight(_) => initial_bound(architecture, spec),
    };
    let mut stream = blake3::Hasher::new_keyed(&seed).update(spec.name.as_bytes()).finalize_xof();
    let mut bytes = [0; 4096];
    let mut values = Vec::with_capacity(elements);
    while values.len() < elements {
        stream.fill(&mut bytes);
        let (words, _) = bytes.as_chunks::<4>();
        values.extend(words.iter().take(elements - values.len()).map(|&word| {
            // 24 bits: every step is exact up to the last product.
            #[expect(clippy::cast_precision_loss, reason = "24 bits")]
            let unit = (u32::from_le_bytes(word) >> 8) as f32 / 8_388_608.0 - 1.0;
            unit * bound
        }));
    }
    values
}

/// sqrt(3) times the standard deviation: the bound of a uniform distribution.
fn initial_bound(architecture: &Architecture, spec: &TensorSpec) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "extents are at most 2^18, which is exact")]
    let (inputs, layers) = (spec.shape[0] as f32, architecture.layers as f32);
    match spec.tensor {
        Tensor::Embedding | Tensor::Weight(LinearId::Predictor) => 3.0_f32.sqrt() * 0.02,
        Tensor::Weight(LinearId::Output(_) | LinearId::Outer(_)) => {
            (3.0 / (inputs * (2.0 * layers))).sqrt()
        }
        _ => (3.0 / inputs).sqrt(),
    }
}
