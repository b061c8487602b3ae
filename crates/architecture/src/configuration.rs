//! The JSON form of an architecture in weights files, checkpoints and `--arch` files: the field
//! names are those of the public V1 configuration.
//!
//! Its decimals become the integers of [`Architecture`] exactly or are refused, never rounded.

use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::{Architecture, Error, NUMERICS_VERSION};

/// Decimal places of `sig_reg_t_max`.
const THOUSANDTHS: u32 = 3;
/// Decimal places of `sig_reg_coefficient`.
const MILLIONTHS: u32 = 6;

/// An architecture as stated in JSON, unchecked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    embedding_dim: u32,
    num_heads: u32,
    num_layers: u32,
    pwff_hidden_dim: u32,
    vocab_size: u32,
    max_seq_len: u32,
    sig_reg_slices: u32,
    sig_reg_points: u32,
    sig_reg_t_max: Number,
    #[serde(default = "default_coefficient")]
    sig_reg_coefficient: Number,
    #[serde(default = "default_cap")]
    sig_reg_cap: u32,
}

fn default_coefficient() -> Number {
    decimal(Architecture::v1().sig_reg_coefficient_millionths, MILLIONTHS)
}

fn default_cap() -> u32 {
    Architecture::v1().sig_reg_cap
}

impl From<&Architecture> for Configuration {
    fn from(architecture: &Architecture) -> Self {
        Self {
            embedding_dim: architecture.dim,
            num_heads: architecture.heads,
            num_layers: architecture.layers,
            pwff_hidden_dim: architecture.ffn,
            vocab_size: architecture.vocabulary,
            max_seq_len: architecture.positions,
            sig_reg_slices: architecture.sig_reg_slices,
            sig_reg_points: architecture.sig_reg_points,
            sig_reg_t_max: decimal(architecture.sig_reg_t_max_thousandths, THOUSANDTHS),
            sig_reg_coefficient: decimal(architecture.sig_reg_coefficient_millionths, MILLIONTHS),
            sig_reg_cap: architecture.sig_reg_cap,
        }
    }
}

impl Configuration {
    /// The architecture with these numbers, checked. Its name is that of the preset with the same
    /// numbers, or else `custom`.
    ///
    /// # Errors
    /// [`Error::Inexact`] and [`Error::OutOfBounds`], with the field's name in this form.
    pub fn architecture(&self) -> Result<Architecture, Error> {
        let inexact =
            |field, value: &Number, unit| Error::Inexact { field, value: value.to_string(), unit };
        let t_max = parts(&self.sig_reg_t_max, THOUSANDTHS)
            .ok_or_else(|| inexact("sig_reg_t_max", &self.sig_reg_t_max, "thousandths"))?;
        let coefficient = parts(&self.sig_reg_coefficient, MILLIONTHS).ok_or_else(|| {
            inexact("sig_reg_coefficient", &self.sig_reg_coefficient, "millionths")
        })?;
        let mut architecture = Architecture {
            name: "custom".to_owned(),
            numerics_version: NUMERICS_VERSION,
            layers: self.num_layers,
            dim: self.embedding_dim,
            heads: self.num_heads,
            ffn: self.pwff_hidden_dim,
            vocabulary: self.vocab_size,
            positions: self.max_seq_len,
            sig_reg_slices: self.sig_reg_slices,
            sig_reg_points: self.sig_reg_points,
            sig_reg_t_max_thousandths: t_max,
            sig_reg_cap: self.sig_reg_cap,
            sig_reg_coefficient_millionths: coefficient,
        };
        architecture.check().map_err(|error| match error {
            Error::OutOfBounds { field, value, bounds } => {
                Error::OutOfBounds { field: name_here(field), value, bounds }
            }
            error => error,
        })?;
        for preset in [Architecture::nano(), Architecture::v1()] {
            let name = std::mem::replace(&mut architecture.name, preset.name.clone());
            if architecture == preset {
                return Ok(preset);
            }
            architecture.name = name;
        }
        Ok(architecture)
    }
}

impl Architecture {
    /// Reads and checks the JSON of a [`Configuration`].
    ///
    /// # Errors
    /// [`Error::NotJson`], or the error for an invalid number.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let configuration: Configuration = serde_json::from_str(text)
            .map_err(|error| Error::NotJson { reason: error.to_string() })?;
        configuration.architecture()
    }

    /// The JSON of its [`Configuration`], on one line, keys in alphabetical order.
    pub fn to_json(&self) -> String {
        serde_json::json!(Configuration::from(self)).to_string()
    }
}

/// The name that a field of [`Architecture`] has in this form.
fn name_here(field: &'static str) -> &'static str {
    match field {
        "dim" => "embedding_dim",
        "heads" => "num_heads",
        "layers" => "num_layers",
        "ffn" => "pwff_hidden_dim",
        "vocabulary" => "vocab_size",
        "positions" => "max_seq_len",
        "sig_reg_t_max_thousandths" => "sig_reg_t_max in thousandths",
        "sig_reg_coefficient_millionths" => "sig_reg_coefficient in millionths",
        other => other,
    }
}

/// `count` units of `10^-places`, in the shortest form.
fn decimal(count: u32, places: u32) -> Number {
    let unit = 10_u32.saturating_pow(places);
    let (whole, fraction) = (count.checked_div(unit), count.checked_rem(unit));
    let (whole, fraction) = (whole.unwrap_or(0), fraction.unwrap_or(0));
    let width = usize::try_from(places).unwrap_or(0);
    format!("{whole}.{fraction:0width$}").parse().unwrap_or_else(|_| Number::from(whole))
}

/// A decimal as a number of units of `10^-places`; `None` if it is negative, too large or finer.
fn parts(number: &Number, places: u32) -> Option<u32> {
    let text = number.to_string();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits: u32 = format!("{whole}{fraction}").parse().ok()?;
    let power = i64::from(places)
        .checked_add(exponent.parse().ok()?)?
        .checked_sub(i64::try_from(fraction.len()).ok()?)?;
    if digits == 0 {
        return Some(0);
    }
    digits.checked_mul(10_u32.checked_pow(u32::try_from(power).ok()?)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use soma_codes::{Code, Coded};

    use super::*;

    #[test]
    fn the_presets_survive_their_json() {
        for preset in [Architecture::nano(), Architecture::v1()] {
            assert_eq!(Architecture::from_json(&preset.to_json()), Ok(preset));
        }
        let smaller = Architecture { name: "custom".to_owned(), layers: 3, ..Architecture::nano() };
        assert_eq!(Architecture::from_json(&smaller.to_json()), Ok(smaller));
    }

    #[test]
    fn the_json_has_these_bytes() {
        assert_eq!(
            Architecture::nano().to_json(),
            concat!(
                r#"{"embedding_dim":128,"max_seq_len":256,"num_heads":4,"num_layers":4,"#,
                r#""pwff_hidden_dim":512,"sig_reg_cap":16,"sig_reg_coefficient":0.02,"#,
                r#""sig_reg_points":17,"sig_reg_slices":256,"sig_reg_t_max":3.0,"vocab_size":264}"#
            )
        );
    }

    #[test]
    fn a_decimal_finer_than_the_integers_is_refused_and_not_rounded() {
        let fine = Architecture::nano().to_json().replace("0.02", "0.0200001");
        let error = Architecture::from_json(&fine).unwrap_err();
        assert_eq!(error.code(), Code::InexactArchitecture);
        assert_eq!(
            error.to_string(),
            "sig_reg_coefficient is 0.0200001, but must be a whole number of millionths"
        );
    }

    #[test]
    fn an_architecture_outside_its_bounds_is_refused_and_the_field_named_as_in_the_json() {
        let change = |field: &str, value: Value| {
            let mut json: Value = serde_json::from_str(&Architecture::nano().to_json()).unwrap();
            json[field] = value;
            Architecture::from_json(&json.to_string())
        };
        assert!(change("num_heads", json!(8)).is_ok());
        for (field, value) in [
            ("embedding_dim", json!(0)),
            ("num_heads", json!(3)),
            ("num_heads", json!(128)),
            ("num_layers", json!(4096)),
            ("vocab_size", json!(257)),
            ("max_seq_len", json!(1)),
            ("sig_reg_points", json!(1)),
            ("sig_reg_t_max", json!(0.0)),
            ("sig_reg_t_max", json!(16.001)),
            ("sig_reg_coefficient", json!(-1.0)),
        ] {
            let error = change(field, value).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
        }
        for (field, value) in [("num_layers", json!("two")), ("color", json!("red"))] {
            let error = change(field, value).unwrap_err();
            assert_eq!(error.code(), Code::ArchitectureNotJson);
        }
    }

    proptest! {
        #[test]
        fn every_decimal_survives_its_text(count: u32, places in 0_u32..=6) {
            let number = decimal(count, places);
            prop_assert_eq!(parts(&number, places), Some(count));
            let parsed: Number = number.to_string().parse().unwrap();
            prop_assert_eq!(parts(&parsed, places), Some(count));
        }
    }
}
