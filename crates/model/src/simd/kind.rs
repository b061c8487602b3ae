//! The implementations of the lanes, by name.

use std::fmt;

/// A way to compute; all kinds give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelKind {
    /// Plain, readable Rust: the definition. Slow.
    Reference,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512F.
    Avx512,
    /// 64-bit ARM.
    Neon,
}

impl KernelKind {
    /// Every kind; of those that a CPU supports, the fastest comes last.
    pub const ALL: [Self; 4] = [Self::Reference, Self::Neon, Self::Avx2, Self::Avx512];

    /// The name used in commands and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Neon => "neon",
        }
    }
}

impl fmt::Display for KernelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
