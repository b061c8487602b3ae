//! Weights: a safetensors file mapped into memory, or tensors in memory; read strictly, written
//! reproducibly.
//!
//! It never copies matrices that can be used in place, and never accepts a value that is not
//! finite.
#![expect(unsafe_code, reason = "the weights file is mapped and its bytes are read as numbers")]

mod half;
mod header;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::OnceLock;

use memmap2::{MmapMut, MmapOptions};
use rayon::prelude::*;
use soma_architecture::{Architecture, Linear as LinearId, Norm as NormId, Tensor, TensorSpec};
use soma_os::file::AtomicFile;

use crate::error::Error;
use crate::kernels::Matrix;
use crate::rope::Rope;
use crate::sizes::Sizes;
pub(crate) use half::{HalfKind, HalfMatrix, matmul_half};
pub(crate) use header::framed;
use header::{ElementType, Header, Location};

/// Elements that one task checks.
const SCAN_BLOCK: usize = 1 << 18;

/// The elements of a tensor.
#[derive(Debug)]
enum Elements {
    /// In the map, as first byte and number of elements.
    Mapped { begin: usize, len: usize },
    /// In the map, two bytes each.
    MappedHalf { begin: usize, len: usize, kind: HalfKind },
    /// On the heap.
    Owned(Vec<f32>),
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
    map: Option<MmapMut>,
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
        // Copy on write: subnormal weights are zeroed in the map, which copies their pages alone
        // and not the file. SAFETY: the documentation asks the caller to leave the file as it is.
        let map = unsafe { MmapOptions::new().no_reserve_swap().map_copy(&file) }.map_err(io)?;
        Self::from_map(map, architecture)
    }

    fn from_map(map: MmapMut, architecture: Option<&Architecture>) -> Result<Self, Error> {
        let header = Header::read(&map)?;
        let architecture = match architecture {
            Some(architecture) => architecture.clone(),
            None => header.architecture()?.ok_or(Error::NoArchitecture)?,
        };
        architecture.check()?;
        let specs = architecture.tensors();
        let locations = header.locate(&specs, map.len())?;
        let file_hash = blake3::Hasher::new().update_rayon(&map).finalize().into();
        let elements = locations.iter().zip(&specs);
        let elements =
            elements.map(|(&location, spec)| read_elements(&map, location, spec)).collect();
        let file_hash = Some(file_hash);
        let map = Some(map);
        let mut weights =
            Self { architecture, specs, elements, map, file_hash, rope: OnceLock::new() };
        for index in 0..weights.elements.len() {
            if let Err(element) = weights.check(index) {
                let tensor = weights.specs[index].name.clone();
                return Err(Error::NonFiniteWeight { tensor, index: element });
            }
        }
        Ok(weights)
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
            .map(|spec| Elements::Owned(initial_values(architecture, spec, seed)))
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

    /// Weights of these tensors, in the order of [`Architecture::tensors`].
    ///
    /// # Panics
    /// If their number or a length does not match the architecture.
    pub(crate) fn from_tensors(architecture: &Architecture, tensors: Vec<Vec<f32>>) -> Self {
        let specs = architecture.tensors();
        assert_eq!(specs.len(), tensors.len(), "one tensor for each of the architecture's");
        for (spec, tensor) in specs.iter().zip(&tensors) {
            assert_eq!(spec.elements(), tensor.len(), "the length of a tensor");
        }
        Self {
            architecture: architecture.clone(),
            specs,
            elements: tensors.into_iter().map(Elements::Owned).collect(),
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

    /// The tensors with their names and shapes, in the order of a file; those of half precision are
    /// widened.
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
            None => Cow::Borrowed(self.floats(index)),
        }
    }

    /// A tensor that is float32 in memory; empty if it is not.
    fn floats(&self, index: usize) -> &[f32] {
        match &self.elements[index] {
            Elements::Owned(values) => values,
            Elements::Mapped { begin, len } => {
                let bytes = self.mapped(*begin, len * 4);
                // SAFETY: the length was checked, the address is aligned (`read_elements`), and any
                // bits are a float32.
                unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), *len) }
            }
            Elements::MappedHalf { .. } => &[],
        }
    }

    /// A tensor that has half precision in memory.
    fn half(&self, index: usize) -> Option<(&[u16], HalfKind)> {
        let Elements::MappedHalf { begin, len, kind } = self.elements[index] else {
            return None;
        };
        let bytes = self.mapped(begin, len * 2);
        // SAFETY: the length was checked, the address is aligned (`read_elements`), and any bits
        // are a u16.
        let bits = unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), len) };
        Some((bits, kind))
    }

    fn mapped(&self, begin: usize, len: usize) -> &[u8] {
        let bytes = self.map.as_deref().map_or(&[][..], |map| &map[begin..]);
        assert!(bytes.len() >= len, "a mapped tensor lies inside the map");
        &bytes[..len]
    }

    /// Zeroes subnormal float32 values; an error is the index of the first value that is not
    /// finite.
    fn check(&mut self, index: usize) -> Result<(), usize> {
        match self.half(index) {
            Some((bits, kind)) => find_not_finite(bits, kind),
            None => flush_subnormals(self.floats_mut(index)),
        }
    }

    fn floats_mut(&mut self, index: usize) -> &mut [f32] {
        match &mut self.elements[index] {
            Elements::Owned(values) => values,
            Elements::Mapped { begin, len } => {
                let bytes = self.map.as_deref_mut().map_or(&mut [][..], |map| &mut map[*begin..]);
                assert!(bytes.len() >= *len * 4, "a mapped tensor lies inside the map");
                // SAFETY: as in `floats`, and `&mut self` makes the borrow exclusive.
                unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), *len) }
            }
            Elements::MappedHalf { .. } => &mut [],
        }
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
        Matrix::new(self.floats(self.index(Tensor::Embedding)), vocabulary, dim)
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
        Norm {
            gamma: self.floats(self.index(Tensor::Gamma(norm))),
            beta: self.floats(self.index(Tensor::Beta(norm))),
        }
    }

    fn linear(&self, linear: LinearId) -> Linear<'_> {
        let index = self.index(Tensor::Weight(linear));
        let [inputs, outputs] = [self.specs[index].shape[0], self.specs[index].shape[1]];
        let weight = match self.half(index) {
            Some((bits, kind)) => {
                Weight::Half(HalfMatrix { bits, kind, rows: inputs, columns: outputs })
            }
            None => Weight::Float(Matrix::new(self.floats(index), inputs, outputs)),
        };
        Linear { weight, bias: self.floats(self.index(Tensor::Bias(linear))) }
    }
}

/// Uses float32 tensors, and half-precision linear maps, in place if they are aligned; widens
/// everything else.
fn read_elements(map: &[u8], location: Location, spec: &TensorSpec) -> Elements {
    let Location { element, begin, end } = location;
    let bytes = &map[begin..end];
    let len = bytes.len() / element.bytes();
    let kind = match element {
        ElementType::F32 => None,
        ElementType::Bf16 => Some(HalfKind::Bf16),
        ElementType::F16 => Some(HalfKind::F16),
    };
    // Rows of the embedding are copied, not multiplied.
    let is_map = matches!(spec.tensor, Tensor::Weight(_));
    let address = bytes.as_ptr().addr();
    let lies_well = address.is_multiple_of(element.bytes()) && cfg!(target_endian = "little");
    match kind {
        None if lies_well => return Elements::Mapped { begin, len },
        Some(kind) if lies_well && is_map => return Elements::MappedHalf { begin, len, kind },
        _ => {}
    }
    let mut values = vec![0.0; len];
    match kind {
        None => widen(bytes, &mut values, f32::from_le_bytes),
        // A value that is not finite must be found later, so it must not become a finite one here.
        Some(kind) => widen(bytes, &mut values, |bytes| {
            let bits = u16::from_le_bytes(bytes);
            if kind.is_finite(bits) { kind.widen(bits) } else { f32::NAN }
        }),
    }
    Elements::Owned(values)
}

/// An error is the index of the first half that is not finite.
fn find_not_finite(bits: &[u16], kind: HalfKind) -> Result<(), usize> {
    let found = bits.par_chunks(SCAN_BLOCK).enumerate();
    let found = found.find_map_first(|(block, bits)| {
        // This has no branches, so that it runs at the speed of memory; what it finds is rare.
        let finite = bits.iter().fold(true, |all, &bits| all & kind.is_finite(bits));
        if finite {
            return None;
        }
        let index = bits.iter().position(|&bits| !kind.is_finite(bits))?;
        Some(block * SCAN_BLOCK + index)
    });
    found.map_or(Ok(()), Err)
}

fn widen<const N: usize>(bytes: &[u8], values: &mut [f32], to_f32: impl Fn([u8; N]) -> f32 + Sync) {
    let (elements, _) = bytes.as_chunks::<N>();
    values.par_chunks_mut(SCAN_BLOCK).zip(elements.par_chunks(SCAN_BLOCK)).for_each(
        |(to, from)| {
            for (to, from) in to.iter_mut().zip(from) {
                *to = to_f32(*from);
            }
        },
    );
}

/// Replaces subnormal values by `+0`; an error is the index of the first value that is not finite.
fn flush_subnormals(values: &mut [f32]) -> Result<(), usize> {
    let is_finite = |value: &f32| value.to_bits() & 0x7f80_0000 != 0x7f80_0000;
    let is_subnormal =
        |value: &f32| value.to_bits() & 0x7fff_ffff != 0 && value.to_bits() & 0x7f80_0000 == 0;
    let not_finite =
        values.par_chunks_mut(SCAN_BLOCK).enumerate().find_map_first(|(block, values)| {
            // These two passes have no branches, so that they run at the speed of memory; what they
            // find is rare.
            if !values.iter().fold(true, |all, value| all & is_finite(value)) {
                let index = values.iter().position(|value| !is_finite(value))?;
                return Some(block * SCAN_BLOCK + index);
            }
            if values.iter().fold(false, |any, value| any | is_subnormal(value)) {
                values
                    .iter_mut()
                    .filter(|value| is_subnormal(value))
                    .for_each(|value| *value = 0.0);
            }
            None
        });
    not_finite.map_or(Ok(()), Err)
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
