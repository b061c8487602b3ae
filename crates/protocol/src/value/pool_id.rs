//! Identifiers of staking pools.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};

use super::text::json_is_text;
use super::{Address, ModelId, ParseError};

/// The model or validator whose pool it is. Text and JSON: `model:3`, `validator:soma1...`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub enum PoolId {
    /// A model's pool.
    Model(ModelId),
    /// A validator's pool.
    Validator(Address),
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(id) => f.pad(&format!("model:{id}")),
            Self::Validator(address) => f.pad(&format!("validator:{address}")),
        }
    }
}

impl FromStr for PoolId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.split_once(':') {
            Some(("model", id)) => id.parse().map(Self::Model).map_err(|_| ParseError::Pool),
            Some(("validator", address)) => address.parse().map(Self::Validator),
            _ => Err(ParseError::Pool),
        }
    }
}

json_is_text!(PoolId);
