//! The hyperparameters that all models of a network share: bounds, presets and parameter count.
//!
//! It must never hold anything that a single machine may choose (threads, kernels, batch sizes).

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Version of the arithmetic that defines the scores; see `docs/numerics.md`.
pub const NUMERICS_VERSION: u32 = 3;
/// Maximum length of a weights file's header, in bytes.
pub const HEADER_BYTES_MAX: u64 = 1 << 20;
/// The largest `dim`, and so the most components of an embedding.
pub const DIM_MAX: u32 = 1 << 16;

/// Maximum positions of a forward pass; a longer chunk has a pass to itself.
pub const PASS_POSITIONS: u32 = 1024;

/// A model architecture: a pre-norm byte transformer.
///
/// The serde form is that of the chain (genesis, API); [`Configuration`](crate::Configuration) is
/// that of weights files.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Name, 1 to 64 ASCII characters.
    pub name: String,
    /// Version of the arithmetic that defines the scores; see [`NUMERICS_VERSION`].
    pub numerics_version: u32,
    /// Number of transformer layers.
    pub layers: u32,
    /// Width of the residual stream and length of an embedding.
    pub dim: u32,
    /// Number of attention heads, each `dim / heads` wide.
    pub heads: u32,
    /// Hidden width of the feed-forward network.
    pub ffn: u32,
    /// Number of token ids in the softmax: 256 bytes, PAD, EOS and reserved ones.
    pub vocabulary: u32,
    /// Bytes in a chunk, which is also its number of positions.
    pub positions: u32,
    /// Number of directions that `SIGReg` projects onto.
    pub sig_reg_slices: u32,
    /// Number of nodes in `SIGReg`'s integral, both ends included.
    pub sig_reg_points: u32,
    /// Upper end of `SIGReg`'s integral, in thousandths.
    pub sig_reg_t_max_thousandths: u32,
    /// Upper limit of `SIGReg`'s factor, the number of samples.
    pub sig_reg_cap: u32,
    /// Weight of `SIGReg` in the loss, in millionths.
    pub sig_reg_coefficient_millionths: u32,
}

impl Architecture {
    /// The architecture of the network: 1,209,684,232 parameters.
    pub fn v1() -> Self {
        Self {
            name: "v1".into(),
            numerics_version: NUMERICS_VERSION,
            layers: 24,
            dim: 2_048,
            heads: 8,
            ffn: 8_192,
            vocabulary: 264,
            positions: 1_024,
            sig_reg_slices: 256,
            sig_reg_points: 17,
            sig_reg_t_max_thousandths: 3_000,
            sig_reg_cap: 16,
            sig_reg_coefficient_millionths: 20_000,
        }
    }

    /// An architecture small enough to train on a CPU in minutes: 0.86 million parameters.
    pub fn nano() -> Self {
        Self {
            name: "nano".into(),
            layers: 4,
            dim: 128,
            heads: 4,
            ffn: 512,
            positions: 256,
            ..Self::v1()
        }
    }

    /// The preset with this name.
    pub fn preset(name: &str) -> Option<Self> {
        [Self::nano(), Self::v1()].into_iter().find(|preset| preset.name == name)
    }

    /// Number of parameters.
    pub fn parameters(&self) -> u64 {
        let [layers, dim, ffn, vocabulary] =
            [self.layers, self.dim, self.ffn, self.vocabulary].map(u64::from);
        let linear = |from: u64, to: u64| from.saturating_mul(to).saturating_add(to);
        let norm = dim.saturating_mul(2);
        let layer = [
            norm.saturating_mul(2),
            linear(dim, dim).saturating_mul(4),
            linear(dim, ffn),
            linear(ffn, dim),
        ];
        [
            vocabulary.saturating_mul(dim),
            layer.into_iter().fold(0, u64::saturating_add).saturating_mul(layers),
            norm,
            linear(dim, vocabulary),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Maximum length of a weights file: its parameters in f32 and a header.
    pub fn weights_bytes_max(&self) -> u64 {
        self.parameters().saturating_mul(4).saturating_add(HEADER_BYTES_MAX)
    }

    /// Minimum length of submitted data: one full chunk.
    pub const fn data_bytes_min(&self) -> u32 {
        self.positions
    }

    /// Checks that the numbers describe a model that the engine can run.
    ///
    /// # Errors
    /// [`Error::UnknownNumerics`], or [`Error::OutOfBounds`] naming the first invalid field.
    pub fn check(&self) -> Result<(), Error> {
        if self.numerics_version != NUMERICS_VERSION {
            return Err(Error::UnknownNumerics { version: self.numerics_version });
        }
        for (field, value, min, max) in self.bounds() {
            if !(min..=max).contains(&value) {
                let bounds = format!("{min} to {max}");
                return Err(Error::OutOfBounds { field, value, bounds });
            }
        }
        if !self.dim.is_multiple_of(self.heads.saturating_mul(2)) {
            return Err(Error::OutOfBounds {
                field: "heads",
                value: self.heads.into(),
                bounds: "a divisor of the width with an even quotient".to_owned(),
            });
        }
        Ok(())
    }

    /// Every bounded number: its name, its value, and the minimum and maximum allowed.
    ///
    /// The last two keep a file below 1 TiB and a buffer of the forward pass below 1 GiB: each size
    /// alone may be large, but not all at once.
    fn bounds(&self) -> [(&'static str, u64, u64, u64); 14] {
        // Whoever proposes an architecture writes on the terminals of all who vote.
        let is_printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        let name_length = if self.name.bytes().all(is_printable) {
            u64::try_from(self.name.len()).unwrap_or(u64::MAX)
        } else {
            0
        };
        let t_max = self.sig_reg_t_max_thousandths;
        let coefficient = self.sig_reg_coefficient_millionths;
        [
            ("name", name_length, 1, 64),
            ("layers", self.layers.into(), 1, 256),
            ("dim", self.dim.into(), 2, DIM_MAX.into()),
            ("heads", self.heads.into(), 1, self.dim.into()),
            ("ffn", self.ffn.into(), 1, 1 << 18),
            ("vocabulary", self.vocabulary.into(), 258, 1 << 16),
            ("positions", self.positions.into(), 2, 1 << 16),
            ("sig_reg_slices", self.sig_reg_slices.into(), 1, 1 << 14),
            ("sig_reg_points", self.sig_reg_points.into(), 2, 1 << 10),
            ("sig_reg_t_max_thousandths", t_max.into(), 1, 16_000),
            ("sig_reg_cap", self.sig_reg_cap.into(), 1, 1 << 16),
            ("sig_reg_coefficient_millionths", coefficient.into(), 0, 1_000_000_000),
            ("parameters", self.parameters(), 1, 1 << 38),
            ("buffer_elements", self.buffer_elements(), 1, 1 << 28),
        ]
    }

    /// Elements of the largest buffer of a forward pass.
    fn buffer_elements(&self) -> u64 {
        let rows = self.positions.max(PASS_POSITIONS);
        let columns = self.dim.max(self.ffn).max(self.vocabulary);
        let states = u64::from(rows).saturating_mul(columns.into());
        let projections = u64::from(rows.max(self.dim)).saturating_mul(self.sig_reg_slices.into());
        states.max(projections)
    }
}

#[cfg(test)]
mod tests {
    use super::{Architecture, Error, NUMERICS_VERSION};

    #[test]
    fn the_full_architecture_has_the_published_number_of_parameters() {
        assert_eq!(Architecture::v1().parameters(), 1_209_684_232);
        Architecture::v1().check().unwrap();
        Architecture::nano().check().unwrap();
    }

    #[test]
    fn heads_of_odd_width_are_refused() {
        for (dim, heads) in [(128, 3), (6, 2), (0, 4)] {
            let architecture = Architecture { dim, heads, ..Architecture::nano() };
            assert!(architecture.check().is_err(), "{dim} {heads}");
        }
    }

    #[test]
    fn every_number_has_a_least_and_a_greatest_value_and_is_named_beyond_them() {
        fn named(change: impl Fn(&mut Architecture, u32), value: u32) -> Option<&'static str> {
            let mut architecture = Architecture { heads: 1, ..Architecture::nano() };
            change(&mut architecture, value);
            match architecture.check() {
                Ok(()) => None,
                Err(Error::OutOfBounds { field, .. }) => Some(field),
                Err(error) => panic!("{error}"),
            }
        }
        type Change = fn(&mut Architecture, u32);
        let fields: [(&str, Change, u32, u32); 10] = [
            ("layers", |a, value| a.layers = value, 1, 256),
            ("dim", |a, value| a.dim = value, 2, 1 << 16),
            ("ffn", |a, value| a.ffn = value, 1, 1 << 18),
            ("vocabulary", |a, value| a.vocabulary = value, 258, 1 << 16),
            ("positions", |a, value| a.positions = value, 2, 1 << 16),
            ("sig_reg_slices", |a, value| a.sig_reg_slices = value, 1, 1 << 14),
            ("sig_reg_points", |a, value| a.sig_reg_points = value, 2, 1 << 10),
            (
                "sig_reg_t_max_thousandths",
                |a, value| a.sig_reg_t_max_thousandths = value,
                1,
                16_000,
            ),
            ("sig_reg_cap", |a, value| a.sig_reg_cap = value, 1, 1 << 16),
            (
                "sig_reg_coefficient_millionths",
                |a, value| a.sig_reg_coefficient_millionths = value,
                0,
                1_000_000_000,
            ),
        ];
        for (field, change, min, max) in fields {
            assert_eq!((named(change, min), named(change, max)), (None, None), "{field}");
            assert_eq!(named(change, max + 1), Some(field));
            if min > 0 {
                assert_eq!(named(change, min - 1), Some(field));
            }
        }
    }

    #[test]
    fn sizes_that_are_too_large_together_are_refused() {
        let long = Architecture { positions: 1 << 16, ..Architecture::nano() };
        long.check().unwrap();
        let wide = Architecture { ffn: 1 << 18, ..long.clone() };
        assert!(wide.check().is_err());
        let deep = Architecture { layers: 256, dim: 1 << 16, ..Architecture::nano() };
        assert!(deep.check().is_err());
    }

    #[test]
    fn a_name_is_short_ascii_and_another_numerics_version_is_unknown() {
        for name in ["", &"x".repeat(65), "\u{e9}", "v2\u{1b}[2J", "two\nlines"].map(str::to_owned)
        {
            let architecture = Architecture { name, ..Architecture::nano() };
            assert!(architecture.check().is_err());
        }
        for version in [0, NUMERICS_VERSION - 1, NUMERICS_VERSION + 1] {
            let architecture = Architecture { numerics_version: version, ..Architecture::nano() };
            assert_eq!(architecture.check(), Err(Error::UnknownNumerics { version }));
        }
    }
}
