//! The architecture that all models of a network share, as data. Only integers: the model crate
//! turns them into its own floats.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::Error;

/// Room for the header of a weights file, in bytes.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// A model architecture.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchitectureSpec {
    /// Its name.
    pub name: String,
    /// Version of the arithmetic that defines the scores.
    pub numerics_version: u32,
    /// Transformer layers.
    pub layers: u32,
    /// Components of a representation, and of the embedding.
    pub dim: u32,
    /// Attention heads.
    pub heads: u32,
    /// Width of the feed-forward layer.
    pub ffn: u32,
    /// Token ids.
    pub vocabulary: u32,
    /// Bytes in a chunk.
    pub positions: u32,
    /// Directions of `SIGReg`.
    pub sig_reg_slices: u32,
    /// Integration nodes of `SIGReg`.
    pub sig_reg_points: u32,
    /// Largest node of `SIGReg`, in thousandths.
    pub sig_reg_t_max_thousandths: u32,
    /// Samples at which the factor of `SIGReg` stops growing.
    pub sig_reg_cap: u32,
    /// Weight of `SIGReg` in the loss, in millionths.
    pub sig_reg_coefficient_millionths: u32,
}

impl ArchitectureSpec {
    /// The full architecture: 1.2 billion parameters.
    pub fn v1() -> Self {
        Self {
            name: "v1".into(),
            numerics_version: 1,
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

    /// A small one that trains on a laptop: 0.86 million parameters.
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
            layer
                .into_iter()
                .fold(0, u64::saturating_add)
                .saturating_mul(layers),
            norm,
            linear(dim, vocabulary),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Greatest length of a weights file: its parameters in f32 and a header.
    pub fn weights_bytes_max(&self) -> u64 {
        self.parameters()
            .saturating_mul(4)
            .saturating_add(HEADER_BYTES_MAX)
    }

    /// Least length of submitted data: one full chunk.
    pub const fn data_bytes_min(&self) -> u32 {
        self.positions
    }

    /// Checks that the numbers make a model that nodes can hold.
    ///
    /// # Errors
    /// [`Error::Architecture`] naming the first field that does not.
    pub fn check(&self) -> Result<(), Error> {
        let within = [
            ("numerics_version", self.numerics_version, 1, 1),
            ("layers", self.layers, 1, 1_024),
            ("dim", self.dim, 8, 65_536),
            ("heads", self.heads, 1, self.dim),
            ("ffn", self.ffn, 1, 1 << 20),
            ("vocabulary", self.vocabulary, 258, 65_536),
            ("positions", self.positions, 2, 65_536),
            ("sig_reg_slices", self.sig_reg_slices, 1, 65_536),
            ("sig_reg_points", self.sig_reg_points, 2, 1_024),
            (
                "sig_reg_t_max_thousandths",
                self.sig_reg_t_max_thousandths,
                1,
                100_000,
            ),
            ("sig_reg_cap", self.sig_reg_cap, 1, 65_536),
            (
                "sig_reg_coefficient_millionths",
                self.sig_reg_coefficient_millionths,
                0,
                1_000_000,
            ),
        ];
        for (field, found, min, max) in within {
            if found < min || found > max {
                return Err(Error::Architecture {
                    field,
                    found: found.into(),
                });
            }
        }
        if !self.dim.is_multiple_of(self.heads.saturating_mul(2)) {
            return Err(Error::Architecture {
                field: "heads",
                found: self.heads.into(),
            });
        }
        if self.name.is_empty() || self.name.len() > 64 || !self.name.is_ascii() {
            return Err(Error::Architecture {
                field: "name",
                found: u64::try_from(self.name.len()).unwrap_or(u64::MAX),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ArchitectureSpec;

    #[test]
    fn the_full_architecture_has_the_published_number_of_parameters() {
        assert_eq!(ArchitectureSpec::v1().parameters(), 1_209_684_232);
        ArchitectureSpec::v1().check().unwrap();
        ArchitectureSpec::nano().check().unwrap();
    }

    #[test]
    fn heads_of_odd_width_are_refused() {
        assert!(
            ArchitectureSpec {
                heads: 3,
                ..ArchitectureSpec::nano()
            }
            .check()
            .is_err()
        );
        assert!(
            ArchitectureSpec {
                dim: 0,
                ..ArchitectureSpec::nano()
            }
            .check()
            .is_err()
        );
    }
}
