//! Weights: a safetensors file in memory, or tensors alone; read strictly, written reproducibly.
//!
//! A file is read once, into memory of this process, and hashed there: the hash is that of the very
//! bytes that scores are computed from, whatever happens to the file later. (In a mapped file,
//! another program could change them after they were hashed, or end the process by shortening it.)
//!
//! It never copies a matrix out of that memory, and never accepts a value that is not finite.
//! Numbers below 2^-40 in magnitude are read as `+0`: vectors are copied without them, and matrices
//! that have some are marked as raw, so that they become zeros on their way to a product.
#![expect(unsafe_code, reason = "the bytes of the weights file are read as numbers")]

mod half;
mod header;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use memmap2::{Mmap, MmapMut};
use rayon::prelude::*;
use soma_architecture::{
    Architecture, HEADER_BYTES_MAX, Linear as LinearId, Norm as NormId, Tensor, TensorSpec,
};
use soma_os::data::{check_memory, kind_of};
use soma_os::file::AtomicFile;

use crate::device::Kept;
use crate::error::Error;
use crate::kernels::Matrix;
use crate::rope::Rope;
use crate::simd::{OPERAND_MIN, operand};
use crate::sizes::Sizes;
pub(crate) use half::{HalfKind, HalfMatrix, matmul_half};
use header::{ElementType, Header, Location};
pub(crate) use header::{framed, write as header_of};

/// Elements that one task checks.
const SCAN_BLOCK: usize = 1 << 18;
/// Bytes that are read and hashed at a time.
const READ_BLOCK: usize = 16 << 20;

/// The elements of a tensor.
#[derive(Debug)]
enum Elements {
    /// In the file, as first byte and number of elements, and whether small ones count as zero.
    InFile { begin: usize, len: usize, raw: bool },
    /// In the file, two bytes each.
    HalfInFile { begin: usize, len: usize, kind: HalfKind },
    /// On the heap.
    Owned { values: Vec<f32>, raw: bool },
}

/// The elements of a tensor as they lie in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored<'a> {
    Float(&'a [f32]),
    Half(&'a [u16], HalfKind),
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
    /// The bytes of the file, in memory that only this process can change.
    file: Option<Mmap>,
    file_hash: Option<[u8; 32]>,
    rope: OnceLock<Rope>,
    /// What cards keep of them.
    kept: Arc<Kept>,
}

impl Weights {
    /// Reads a weights file into memory and checks all of it.
    ///
    /// Without an architecture, the file's metadata must name one. What happens to the file
    /// afterwards has no effect.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::NotAFile`] if it cannot be read, [`Error::Changed`] if it changes
    /// while it is read; otherwise what is wrong with it.
    #[expect(clippy::expect_used, reason = "nothing asks it to stop")]
    pub fn open(path: &Path, architecture: Option<&Architecture>) -> Result<Self, Error> {
        let opened = Self::open_while(path, architecture, &|| true)?;
        Ok(opened.expect("work that always proceeds is done"))
    }

    /// Opens a weights file as [`Self::open`] does, or gives up: `None` once `proceed` is false,
    /// which it asks again and again.
    ///
    /// # Errors
    /// Same as [`Self::open`].
    pub fn open_while(
        path: &Path,
        architecture: Option<&Architecture>,
        proceed: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, Error> {
        let mut source = Source::open(path)?;
        let start = source.start()?;
        let header = Header::read(&start)?;
        let architecture = match architecture {
            Some(architecture) => architecture.clone(),
            None => header.architecture()?.ok_or(Error::NoArchitecture)?,
        };
        architecture.check()?;
        let specs = architecture.tensors();
        let locations = header.locate(&specs, source.bytes)?;
        let Some((file, file_hash)) = source.read(&start[..header.data_start()], proceed)? else {
            return Ok(None);
        };
        let mut elements = Vec::with_capacity(specs.len());
        for (&location, spec) in locations.iter().zip(&specs) {
            elements
                .push(read_elements(&file, location, spec).map_err(|index| {
                    Error::NonFiniteWeight { tensor: spec.name.clone(), index }
                })?);
        }
        let (file, file_hash) = (Some(file), Some(file_hash));
        Ok(Some(Self {
            architecture,
            specs,
            elements,
            file,
            file_hash,
            rope: OnceLock::new(),
            kept: Arc::default(),
        }))
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
            file: None,
            file_hash: None,
            rope: OnceLock::new(),
            kept: Arc::default(),
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
            file: None,
            file_hash: None,
            rope: OnceLock::new(),
            kept: Arc::default(),
        }
    }

    /// Memory that the numbers take, in bytes.
    pub fn bytes(&self) -> usize {
        let owned = self.elements.iter().map(|elements| match elements {
            Elements::Owned { values, .. } => values.len() * 4,
            Elements::InFile { .. } | Elements::HalfInFile { .. } => 0,
        });
        self.file.as_deref().map_or(0, <[u8]>::len) + owned.sum::<usize>()
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
        out.write_all(&header_of(&self.architecture))?;
        self.tensors().try_for_each(|(_, values)| write_floats(out, &values))
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
            Elements::InFile { begin, len, raw } => {
                let file = self.file.as_deref().unwrap_or_default();
                (floats_of(&file[*begin..][..len * 4]), *raw)
            }
            Elements::HalfInFile { .. } => (&[], false),
        }
    }

    /// What cards keep of them.
    pub(crate) fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// The tensors as they lie in memory, in the order of a file; small elements count as zero.
    pub(crate) fn stored(&self) -> impl Iterator<Item = (&TensorSpec, Stored<'_>)> {
        self.specs.iter().map(|spec| (spec, self.stored_at(spec.tensor)))
    }

    /// A tensor as it lies in memory.
    pub(crate) fn stored_at(&self, tensor: Tensor) -> Stored<'_> {
        let index = self.index(tensor);
        match self.half(index) {
            Some((bits, kind)) => Stored::Half(bits, kind),
            None => Stored::Float(self.floats(index).0),
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
        let Elements::HalfInFile { begin, len, kind } = self.elements[index] else {
            return None;
        };
        let file = self.file.as_deref().unwrap_or_default();
        Some((halves_of(&file[begin..][..len * 2]), kind))
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

/// Writes numbers in little-endian order, some at a time.
pub(crate) fn write_floats(out: &mut impl Write, values: &[f32]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for block in values.chunks(1 << 16) {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|value| value.to_le_bytes()));
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// Opens a regular file for reading.
pub(crate) fn open_regular(path: &Path) -> Result<File, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    // To open a pipe would wait for whoever writes to it.
    let found = std::fs::metadata(path).map_err(io)?;
    if let Some(kind) = kind_of(found.file_type()) {
        return Err(Error::NotAFile { path: path.to_owned(), kind });
    }
    File::open(path).map_err(io)
}

/// A file that is being read.
struct Source<'a> {
    path: &'a Path,
    file: File,
    bytes: usize,
    modified: Option<SystemTime>,
}

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = open_regular(path)?;
        let found = file.metadata().map_err(io)?;
        let bytes =
            usize::try_from(found.len()).map_err(|_| io(io::ErrorKind::OutOfMemory.into()))?;
        Ok(Self { path, file, bytes, modified: found.modified().ok() })
    }

    /// The first bytes, all that can belong to a header.
    fn start(&mut self) -> Result<Vec<u8>, Error> {
        let mut start = Vec::new();
        let read = (&mut self.file).take(8 + HEADER_BYTES_MAX).read_to_end(&mut start);
        read.and_then(|_| self.file.rewind()).map_err(|error| self.io(error))?;
        Ok(start)
    }

    /// The whole file with its BLAKE3; `start` are bytes that were already read. `None` once
    /// `proceed` is false.
    fn read(
        mut self,
        start: &[u8],
        proceed: &dyn Fn() -> bool,
    ) -> Result<Option<(Mmap, [u8; 32])>, Error> {
        let memory = check_memory(self.bytes as u64).and_then(|()| MmapMut::map_anon(self.bytes));
        let mut memory = memory.map_err(|error| self.io(error))?;
        let mut hasher = blake3::Hasher::new();
        for block in memory.chunks_mut(READ_BLOCK) {
            if !proceed() {
                return Ok(None);
            }
            self.file.read_exact(block).map_err(|error| self.io(error))?;
            hasher.update_rayon(block);
        }
        let found = self.file.metadata().map_err(|error| self.io(error))?;
        let same = found.len() == self.bytes as u64 && found.modified().ok() == self.modified;
        if !same || !memory.starts_with(start) {
            return Err(Error::Changed { path: self.path.to_owned() });
        }
        let memory = memory.make_read_only().map_err(|error| self.io(error))?;
        Ok(Some((memory, hasher.finalize().into())))
    }

    /// A failure to read; an early end is a change.
    fn io(&self, source: io::Error) -> Error {
        let path = self.path.to_owned();
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::Changed { path },
            _ => Error::Io { path, source },
        }
    }
}

/// The float32 numbers that these bytes of the file are.
#[expect(clippy::cast_ptr_alignment, reason = "checked")]
fn floats_of(bytes: &[u8]) -> &[f32] {
    let start = bytes.as_ptr().cast::<f32>();
    assert!(start.is_aligned(), "tensors are aligned in the file, and the file to a page");
    // SAFETY: the address is aligned, the numbers lie inside the bytes, and any bits are a float32.
    unsafe { std::slice::from_raw_parts(start, bytes.len() / 4) }
}

/// The half-precision numbers that these bytes of the file are.
#[expect(clippy::cast_ptr_alignment, reason = "checked")]
fn halves_of(bytes: &[u8]) -> &[u16] {
    let start = bytes.as_ptr().cast::<u16>();
    assert!(start.is_aligned(), "tensors are aligned in the file, and the file to a page");
    // SAFETY: the address is aligned, the numbers lie inside the bytes, and any bits are a u16.
    unsafe { std::slice::from_raw_parts(start, bytes.len() / 2) }
}

/// Checks all elements of a tensor. Matrices stay in the file, vectors with small elements and half
/// precision outside linear maps are copied; an error is the index of the first element that is not
/// finite.
fn read_elements(file: &[u8], location: Location, spec: &TensorSpec) -> Result<Elements, usize> {
    let Location { element, begin, end } = location;
    let bytes = &file[begin..end];
    let len = bytes.len() / element.bytes();
    if cfg!(target_endian = "big") {
        return read_swapped(bytes, element, spec);
    }
    let kind = match element {
        ElementType::F32 => {
            let floats = floats_of(bytes);
            let raw = scan(floats, |value| {
                let bits = value.to_bits();
                (bits & 0x7f80_0000 != 0x7f80_0000, is_small(bits))
            })?;
            return Ok(if raw && is_vector(spec) {
                owned(floats.to_vec(), spec)
            } else {
                Elements::InFile { begin, len, raw }
            });
        }
        ElementType::Bf16 => HalfKind::Bf16,
        ElementType::F16 => HalfKind::F16,
    };
    let halves = halves_of(bytes);
    scan(halves, |&bits| (kind.is_finite(bits), false))?;
    // Rows of the embedding are copied, not multiplied.
    if matches!(spec.tensor, Tensor::Weight(_)) {
        return Ok(Elements::HalfInFile { begin, len, kind });
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
