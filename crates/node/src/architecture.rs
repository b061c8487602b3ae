//! The architecture of the chain and the architecture of the model engine: the only place where the two meet.
//!
//! The chain knows integers alone, the engine's has two floats. Both directions are exact or refused.

use soma_model::Architecture;
use soma_protocol::ArchitectureSpec;

use crate::error::NodeError;

const THOUSANDTHS: f64 = 1e3;
const MILLIONTHS: f64 = 1e6;
/// The arithmetic that this software's scores are defined by.
const NUMERICS_VERSION: u32 = 1;

/// The model engine's form of a chain's architecture.
///
/// # Errors
/// [`NodeError::Model`] when the model engine does not run such models.
pub fn architecture(spec: &ArchitectureSpec) -> Result<Architecture, NodeError> {
    if spec.numerics_version != NUMERICS_VERSION {
        return Err(NodeError::Numerics {
            version: spec.numerics_version,
        });
    }
    let size = |number: u32| number as usize;
    let architecture = Architecture {
        dim: size(spec.dim),
        heads: size(spec.heads),
        layers: size(spec.layers),
        ffn: size(spec.ffn),
        vocabulary: size(spec.vocabulary),
        positions: size(spec.positions),
        sigreg_slices: size(spec.sig_reg_slices),
        sigreg_points: size(spec.sig_reg_points),
        sigreg_t_max: f64::from(spec.sig_reg_t_max_thousandths) / THOUSANDTHS,
        sigreg_coefficient: f64::from(spec.sig_reg_coefficient_millionths) / MILLIONTHS,
        sigreg_cap: size(spec.sig_reg_cap),
    };
    architecture.validate()?;
    Ok(architecture)
}

/// The chain's form of a model architecture.
///
/// # Errors
/// [`NodeError::Model`] or [`NodeError::Genesis`] when it is out of bounds, [`NodeError::Inexact`] when one of its
/// floats is no whole number of thousandths (`sig_reg_t_max`) or millionths (`sig_reg_coefficient`).
pub fn spec(name: &str, architecture: &Architecture) -> Result<ArchitectureSpec, NodeError> {
    architecture.validate()?;
    let count =
        |field, number: usize| u32::try_from(number).map_err(|_| NodeError::Inexact { field });
    let spec = ArchitectureSpec {
        name: name.to_owned(),
        numerics_version: NUMERICS_VERSION,
        layers: count("num_layers", architecture.layers)?,
        dim: count("embedding_dim", architecture.dim)?,
        heads: count("num_heads", architecture.heads)?,
        ffn: count("pwff_hidden_dim", architecture.ffn)?,
        vocabulary: count("vocab_size", architecture.vocabulary)?,
        positions: count("max_seq_len", architecture.positions)?,
        sig_reg_slices: count("sig_reg_slices", architecture.sigreg_slices)?,
        sig_reg_points: count("sig_reg_points", architecture.sigreg_points)?,
        sig_reg_t_max_thousandths: whole("sig_reg_t_max", architecture.sigreg_t_max, THOUSANDTHS)?,
        sig_reg_cap: count("sig_reg_cap", architecture.sigreg_cap)?,
        sig_reg_coefficient_millionths: whole(
            "sig_reg_coefficient",
            architecture.sigreg_coefficient,
            MILLIONTHS,
        )?,
    };
    spec.check()?;
    Ok(spec)
}

/// `value` as a number of parts of a whole; refused unless the parts give the very same float back.
fn whole(field: &'static str, value: f64, parts: f64) -> Result<u32, NodeError> {
    let rounded = (value * parts).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to lie in the range of u32"
    )]
    let count = (0.0..=f64::from(u32::MAX))
        .contains(&rounded)
        .then_some(rounded as u32);
    let exact = |count: &u32| (f64::from(*count) / parts).to_bits() == value.to_bits();
    count.filter(exact).ok_or(NodeError::Inexact { field })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use soma_model::Architecture;
    use soma_protocol::ArchitectureSpec;

    use soma_codes::Coded as _;

    use super::{architecture, spec};

    #[test]
    fn the_presets_of_chain_and_engine_are_the_same_models() {
        for (name, of_chain, of_engine) in [
            ("nano", ArchitectureSpec::nano(), Architecture::nano()),
            ("v1", ArchitectureSpec::v1(), Architecture::v1()),
        ] {
            assert_eq!(architecture(&of_chain).unwrap(), of_engine);
            assert_eq!(spec(name, &of_engine).unwrap(), of_chain);
        }
    }

    #[test]
    fn a_coefficient_finer_than_the_chain_can_say_is_refused_and_not_rounded() {
        let fine = Architecture {
            sigreg_coefficient: 0.020_000_1,
            ..Architecture::nano()
        };
        assert_eq!(
            spec("fine", &fine).unwrap_err().code().as_str(),
            "inexact_architecture"
        );
    }

    proptest! {
        #[test]
        fn what_the_chain_says_survives_the_way_there_and_back(
            t_max in 1u32..=16_000, coefficient in 0u32..=1_000_000, cap in 1u32..=65_536, layers in 1u32..=64,
        ) {
            let before = ArchitectureSpec {
                sig_reg_t_max_thousandths: t_max,
                sig_reg_coefficient_millionths: coefficient,
                sig_reg_cap: cap,
                layers,
                ..ArchitectureSpec::nano()
            };
            let after = spec("nano", &architecture(&before).unwrap()).unwrap();
            prop_assert_eq!(after, before);
        }
    }
}
