//! Money in base units, and the only arithmetic on it that the rules use.
//! It never rounds up in favor of a recipient and never wraps.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ParseError, decimal};

/// Base units in one SOMA.
pub const SOMA: u64 = 1_000_000_000;

/// The whole supply: 10^7 SOMA.
pub const SUPPLY: Amount = Amount(10_000_000 * SOMA);

/// Basis points in a whole.
pub const BPS: u16 = 10_000;

/// An amount of money in base units. JSON: a decimal string of base units. Text: SOMA, as `12.5`.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
)]
pub struct Amount(pub u64);

impl Amount {
    /// No money.
    pub const ZERO: Self = Self(0);

    /// An amount of whole SOMA.
    pub const fn soma(whole: u64) -> Self {
        Self(whole.saturating_mul(SOMA))
    }

    /// The amount in base units.
    pub const fn base_units(self) -> u64 {
        self.0
    }

    /// The sum. Amounts are parts of one supply of 10^16 base units, so it cannot reach the limit
    /// of `u64`, at which it would saturate.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left after taking `other`, or `None` if there is not that much.
    pub const fn minus(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// What is left after taking as much of `other` as there is.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `bps` ten-thousandths of it, rounded down.
    #[must_use]
    pub fn bps(self, bps: u16) -> Self {
        self.of(u128::from(bps), u128::from(BPS))
    }

    /// `self * part / whole`, rounded down; all of it if `part >= whole`, nothing if `whole` is 0.
    #[must_use]
    pub fn of(self, part: u128, whole: u128) -> Self {
        if part >= whole && whole > 0 {
            return self;
        }
        let product = u128::from(self.0).saturating_mul(part);
        Self(product.checked_div(whole).and_then(|part| u64::try_from(part).ok()).unwrap_or(0))
    }

    /// One of `count` equal parts, rounded down; nothing if `count` is 0.
    #[must_use]
    pub const fn over(self, count: u64) -> Self {
        match self.0.checked_div(count) {
            Some(part) => Self(part),
            None => Self::ZERO,
        }
    }

    /// `self * count`; saturates at the limit of `u64`.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count))
    }

    /// Whether it is more than `numerator / 3` of `whole`, computed exactly.
    pub fn exceeds_thirds(self, numerator: u64, whole: Self) -> bool {
        let part = u128::from(self.0).saturating_mul(3);
        part > u128::from(whole.0).saturating_mul(numerator.into())
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / SOMA, self.0 % SOMA);
        if part == 0 {
            return f.pad(&whole.to_string());
        }
        f.pad(format!("{whole}.{part:09}").trim_end_matches('0'))
    }
}

impl FromStr for Amount {
    type Err = ParseError;

    /// Reads SOMA with up to nine decimals, as `12.5`.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 9 {
            return Err(ParseError::Amount);
        }
        let part = format!("{part:0<9}").parse::<u64>().map_err(|_| ParseError::Amount)?;
        let whole = whole.parse::<u64>().ok().and_then(|whole| whole.checked_mul(SOMA));
        whole.and_then(|whole| whole.checked_add(part)).map(Self).ok_or(ParseError::Amount)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        decimal::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, SUPPLY};

    #[test]
    fn text_is_soma_and_json_is_base_units() {
        for (base_units, text) in [(0, "0"), (1, "0.000000001"), (12_500_000_000, "12.5")] {
            assert_eq!(Amount(base_units).to_string(), text);
            assert_eq!(text.parse::<Amount>().unwrap(), Amount(base_units));
            let json = serde_json::to_string(&Amount(base_units)).unwrap();
            assert_eq!(json, format!("\"{base_units}\""));
        }
        for bad in ["", ".", "1.", ".5", "-1", "1e3", "1.0000000001", "99999999999999999999"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_round_down_and_never_exceed_the_whole() {
        assert_eq!(Amount(9_999).bps(1), Amount(0));
        assert_eq!(SUPPLY.bps(10_000), SUPPLY);
        assert_eq!(Amount(10).of(1, 3), Amount(3));
        assert_eq!(Amount(10).of(4, 3), Amount(10));
        assert_eq!(Amount(10).of(1, 0), Amount(0));
    }
}
