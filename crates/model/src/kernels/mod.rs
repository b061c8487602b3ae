//! Matrix products and the engine that runs them, with its kernel and its threads.
//!
//! The reference kernel is the definition, and every other kernel equals it bit for bit. Results
//! must never depend on the kernel, the thread count, the blocking or the batch.

mod buffer;
mod fast;
mod matrix;
mod pack;
mod reference;
mod self_test;
#[cfg(test)]
mod tests;
mod tile;

use std::fmt;
use std::str::FromStr;

use rayon::prelude::*;

pub(crate) use buffer::{Buffer, SCORES, WIDENED};
pub(crate) use matrix::{Matrix, MatrixMut};
pub(crate) use self_test::{functions, same_bits, values, values_of};

use crate::device::Device;
use crate::error::Error;
#[cfg(any(target_arch = "aarch64", test))]
use crate::simd::Neon;
#[cfg(test)]
use crate::simd::Watched;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{KernelKind, Operation, Portable, Simd};

impl KernelKind {
    /// Whether this CPU can run the kernel.
    pub fn is_available(self) -> bool {
        Lanes::detect(self).is_some()
    }
}

/// The kernel that the caller asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelChoice {
    /// The fastest kernel this CPU can run.
    #[default]
    Auto,
    /// This kernel, or an error.
    Kind(KernelKind),
}

impl FromStr for KernelChoice {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        if name == "auto" {
            return Ok(Self::Auto);
        }
        KernelKind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .map(Self::Kind)
            .ok_or_else(|| Error::UnknownKernel { name: name.to_owned() })
    }
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Kind(kind) => kind.fmt(f),
        }
    }
}

/// The lane implementation of a kernel, as a value.
#[derive(Clone, Copy, Debug)]
enum Lanes {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(any(target_arch = "aarch64", test))]
    Neon(Neon),
    #[cfg(test)]
    Watched(Watched),
}

impl Lanes {
    fn detect(kind: KernelKind) -> Option<Self> {
        match kind {
            KernelKind::Reference => Some(Self::Portable(Portable)),
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx2 => Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            KernelKind::Avx512 => Avx512::detect().map(Self::Avx512),
            #[cfg(any(target_arch = "aarch64", test))]
            KernelKind::Neon => Neon::detect().map(Self::Neon),
            #[cfg(not(target_arch = "x86_64"))]
            KernelKind::Avx2 | KernelKind::Avx512 => None,
            #[cfg(not(any(target_arch = "aarch64", test)))]
            KernelKind::Neon => None,
        }
    }
}

/// A kernel and its threads.
#[derive(Debug)]
pub struct Engine {
    kind: KernelKind,
    lanes: Lanes,
    pool: rayon::ThreadPool,
    /// Where passes of a score run instead, if anywhere.
    device: Device,
}

impl Engine {
    /// An engine on `threads` threads (0: one for each CPU).
    ///
    /// The kernel is first compared with the reference; `Auto` skips a kernel that differs from it.
    pub fn new(choice: KernelChoice, threads: usize) -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("soma-model-{index}"))
            .build()?;
        let (kind, lanes) = match choice {
            KernelChoice::Kind(kind) => {
                let lanes = Lanes::detect(kind).ok_or(Error::Unavailable { kind })?;
                if !self_test::passes(kind, lanes) {
                    return Err(Error::Unequal { kind });
                }
                (kind, lanes)
            }
            KernelChoice::Auto => KernelKind::ALL
                .into_iter()
                .rev()
                .filter_map(|kind| Some((kind, Lanes::detect(kind)?)))
                .find(|&(kind, lanes)| self_test::passes(kind, lanes))
                .unwrap_or((KernelKind::Reference, Lanes::Portable(Portable))),
        };
        Ok(Self { kind, lanes, pool, device: Device::default() })
    }

    /// An engine on one thread whose kernel was not compared with the reference: to count its
    /// instructions under an inexact emulator. Its results are meaningless.
    pub(crate) fn untested(kind: KernelKind) -> Result<Self, Error> {
        let lanes = Lanes::detect(kind).ok_or(Error::Unavailable { kind })?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        Ok(Self { kind, lanes, pool, device: Device::default() })
    }

    /// An engine on the calling thread that counts the subnormal numbers its lanes meet
    /// ([`crate::simd::subnormals`]).
    #[cfg(test)]
    pub(crate) fn watched() -> Result<Self, Error> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
        Ok(Self {
            kind: KernelKind::Avx512,
            lanes: Lanes::Watched(Watched),
            pool,
            device: Device::default(),
        })
    }

    /// The kernel in use.
    pub fn kernel(&self) -> KernelKind {
        self.kind
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// The same engine, with this device for the passes of scores.
    #[must_use]
    pub(crate) fn with_device(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// Its device.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Runs work whose parallel parts belong to no engine, such as opening weights, on the threads
    /// of this one: a process that was forked has no others.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// Runs an elementwise computation on the lanes of this kernel, on the calling thread.
    pub(crate) fn run<O: Operation>(&self, operation: O) -> O::Output {
        run_on(self.lanes, operation)
    }

    /// Calls `task` for every item, on all threads. The order is not defined, so items must not
    /// share anything that they write.
    pub(crate) fn for_each<T: Send>(&self, items: Vec<T>, task: impl Fn(T) + Send + Sync) {
        if self.threads() == 1 || items.len() < 2 {
            items.into_iter().for_each(task);
        } else {
            self.pool.install(|| items.into_par_iter().with_max_len(1).for_each(task));
        }
    }

    /// How many rows (or elements) one task should take so that every thread gets several tasks.
    pub(crate) fn share(&self, items: usize) -> usize {
        if self.threads() == 1 { items.max(1) } else { items.div_ceil(self.threads() * 4).max(1) }
    }
}

fn run_on<O: Operation>(lanes: Lanes, operation: O) -> O::Output {
    match lanes {
        Lanes::Portable(simd) => simd.dispatch(operation),
        #[cfg(target_arch = "x86_64")]
        Lanes::Avx2(simd) => simd.dispatch(operation),
        #[cfg(target_arch = "x86_64")]
        Lanes::Avx512(simd) => simd.dispatch(operation),
        #[cfg(any(target_arch = "aarch64", test))]
        Lanes::Neon(simd) => simd.dispatch(operation),
        #[cfg(test)]
        Lanes::Watched(simd) => simd.dispatch(operation),
    }
}

/// What happens to an element of C after its chain is complete.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Epilogue<'a> {
    /// Nothing.
    #[default]
    None,
    /// `c + bias[n]`
    Bias(&'a [f32]),
    /// `operand(c + bias[n])`
    BiasOperand(&'a [f32]),
    /// `operand(gelu(operand(c + bias[n])))`
    BiasGelu(&'a [f32]),
    /// `residual[m][n] + (c + bias[n])`; the residual must not be C.
    BiasResidual(&'a [f32], Matrix<'a>),
}

/// Which part of a product is computed. `shift` moves the diagonal: element (m, j) is on or below
/// it if `j <= m + shift`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Triangle {
    /// All of it.
    #[default]
    Full,
    /// Only outputs `n <= m + shift` are needed. The others are unspecified.
    LowerOutput {
        /// Offset of the diagonal.
        shift: usize,
    },
    /// A is lower triangular: the chain of row m takes `k <= m + shift` and A above the diagonal is
    /// never read.
    LowerDepth {
        /// Offset of the diagonal.
        shift: usize,
    },
    /// A is upper triangular: the chain of row m takes `k >= m` and A below the diagonal is never
    /// read.
    UpperDepth,
}

/// `C[m][n] = chain over k ascending of fma(A[m][k], B[k][n], acc)`, then the epilogue, on all
/// threads.
///
/// The chain starts at `+0.0`, or at C when `accumulate`. Of a raw matrix, small numbers count as
/// zero ([`Matrix::raw`]).
pub(crate) fn matmul(
    engine: &Engine,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: MatrixMut<'_>,
    accumulate: bool,
    epilogue: Epilogue<'_>,
) {
    check_shapes(a, b, &c);
    let c = c.at_origin();
    match engine.kind {
        KernelKind::Reference => {
            let share = engine.share(c.rows());
            let rows = c.into_grid(share, usize::MAX);
            engine.for_each(rows, |block| {
                let a = a.rows_from(block.first_row(), block.rows());
                reference::matmul(a, b, block, accumulate, Triangle::Full, epilogue);
            });
        }
        _ => fast::matmul(engine, a, b, c, accumulate, epilogue),
    }
}

/// [`matmul`] of a triangle on the calling thread, for use inside a task of [`Engine::for_each`].
pub(crate) fn matmul_here(
    engine: &Engine,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: MatrixMut<'_>,
    accumulate: bool,
    triangle: Triangle,
    epilogue: Epilogue<'_>,
) {
    check_shapes(a, b, &c);
    let c = c.at_origin();
    match engine.kind {
        KernelKind::Reference => reference::matmul(a, b, c, accumulate, triangle, epilogue),
        _ => fast::matmul_here(engine.lanes, a, b, c, accumulate, triangle, epilogue),
    }
}

fn check_shapes(a: Matrix<'_>, b: Matrix<'_>, c: &MatrixMut<'_>) {
    assert_eq!(a.columns(), b.rows(), "the depth of A and B");
    assert_eq!(a.rows(), c.rows(), "the rows of A and C");
    assert_eq!(b.columns(), c.columns(), "the columns of B and C");
}
