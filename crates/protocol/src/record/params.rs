//! Parameters of the rules, with their bounds. The unit is in the name; money is an [`Amount`].
//! A value outside its bounds never enters a state, neither at genesis nor by vote.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::value::BPS;
use crate::{Amount, Error, decimal};

/// The most seats in the committee: the bound of `seats_max`. The consensus engine sizes its
/// buffers for this many.
pub const SEATS_MAX: u32 = 64;

/// The most models routed to a target: the bound of `models_per_target`.
pub const ROUTED_MAX: u32 = 16;

/// The most candidates kept for a target: the bound of `candidates_per_target`.
pub const CANDIDATES_MAX: u32 = 64;

/// The longest data that can be published: the bound of `data_bytes_max`.
pub const DATA_BYTES_MAX: u32 = 98_304;

/// Name and bounds of a parameter. Amounts are in base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// Its name.
    pub name: &'static str,
    /// Least value.
    pub min: u64,
    /// Greatest value.
    pub max: u64,
}

trait Tunable: Copy {
    fn value(self) -> u64;
    fn of(value: u64) -> Option<Self>;
}

macro_rules! tunable {
    ($($integer:ty),*) => {$(
        impl Tunable for $integer {
            fn value(self) -> u64 {
                self.into()
            }

            fn of(value: u64) -> Option<Self> {
                value.try_into().ok()
            }
        }
    )*};
}

tunable!(u16, u32, u64);

impl Tunable for Amount {
    fn value(self) -> u64 {
        self.0
    }

    fn of(value: u64) -> Option<Self> {
        Some(Self(value))
    }
}

macro_rules! params {
    ($(
        $(#[$meta:meta])*
        $name:ident: $type:ty = $network:expr, $local:expr, $min:expr => $max:expr;
    )*) => {
        /// The parameters of a network.
        #[derive(
            Clone, Debug, PartialEq, Eq,
            BorshSerialize, BorshDeserialize, Serialize, Deserialize,
        )]
        #[serde(deny_unknown_fields)]
        pub struct Params {
            $($(#[$meta])* pub $name: $type,)*
        }

        impl Params {
            /// Names and bounds of all parameters.
            pub const BOUNDS: &'static [Bounds] =
                &[$(Bounds { name: stringify!($name), min: $min, max: $max }),*];

            /// Defaults of a real network.
            pub const fn network() -> Self {
                Self { $($name: $network),* }
            }

            /// Defaults of a local network: short epochs, few targets, no penalty for a sleeping
            /// laptop.
            pub const fn local() -> Self {
                Self { $($name: $local),* }
            }

            /// These parameters with one of them changed; `None` if there is no such parameter or
            /// its type has no such value.
            #[must_use]
            pub fn with(mut self, name: &str, value: u64) -> Option<Self> {
                match name {
                    $(stringify!($name) => self.$name = Tunable::of(value)?,)*
                    _ => return None,
                }
                Some(self)
            }

            /// Values in the order of [`Self::BOUNDS`]; amounts in base units.
            pub fn values(&self) -> Vec<u64> {
                vec![$(self.$name.value()),*]
            }
        }
    };
}

params! {
    /// Length of an epoch in block time; 0 if only the operator's `EndPhase` ends phases.
    #[serde(with = "decimal")]
    epoch_ms: u64 = 86_400_000, 10_000, 0 => 31_536_000_000;
    /// A longer gap between two blocks counts as this much of a phase, so that a halt of the chain
    /// ends none.
    #[serde(with = "decimal")]
    halt_ms: u64 = 60_000, 10_000, 1_000 => 86_400_000;
    /// Share of an epoch reserved for reveals.
    reveal_bps: u16 = 1_000, 2_000, 1 => 4_000;
    /// Share of an epoch, after the reveals, for publication; divided equally among the ranks.
    publish_bps: u16 = 2_000, 3_000, 1 => 3_000;
    /// Share of an epoch at its end in which validators reveal their verdicts.
    attest_bps: u16 = 2_500, 2_000, 1 => 2_500;
    /// Targets drawn in an epoch.
    targets_per_epoch: u32 = 100, 4, 1 => 1_024;
    /// Models routed to a target, if there are that many.
    models_per_target: u32 = 4, 2, 1 => ROUTED_MAX as u64;
    /// Candidates kept per target.
    candidates_per_target: u32 = 4, 3, 1 => CANDIDATES_MAX as u64;
    /// Maximum length of submitted data. The minimum is one full chunk of the architecture.
    data_bytes_max: u32 = 65_536, 65_536, 1 => DATA_BYTES_MAX as u64;
    /// A submission's bond, as a share of the target's reward.
    bond_bps: u16 = 10_000, 1_000, 1 => 10_000;
    /// Cross-entropies within this margin of the lowest, l nat, count as equal to it. The margin is
    /// in 2^-32 nat, times `1 + l^2 / 4`.
    #[serde(with = "decimal")]
    loss_margin_q32: u64 = 1 << 22, 1 << 22, 0 => 1 << 32;
    /// Least gain of a submission, in 2^-32 nat: by how much the model predicts the data better
    /// than counting does. 0 if there is no minimum.
    #[serde(with = "decimal")]
    gain_min_q32: u64 = 1 << 29, 0, 0 => 1 << 35;
    /// Least stake of a model.
    model_stake_min: Amount =
        Amount::soma(10), Amount::soma(1), 1_000_000 => 1_000_000_000_000_000;
    /// Least stake behind a validator; what a seat needs depends on what others have, but is never
    /// less.
    validator_stake_min: Amount =
        Amount::soma(1_000), Amount::soma(1), 1_000_000 => 1_000_000_000_000_000;
    /// Maximum number of seats in the committee.
    seats_max: u32 = SEATS_MAX, 16, 1 => SEATS_MAX as u64;
    /// Consecutive epochs without a revealed beacon after which a validator is jailed.
    absence_epochs: u32 = 3, 100, 2 => 1_000_000;
    /// Epochs that a jailed validator waits before it may return.
    jail_epochs: u32 = 1, 1, 1 => 1_000_000;
    /// Share of a validator's stake that is burned for equivocation.
    equivocation_slash_bps: u16 = 1_000, 1_000, 1 => 10_000;
    /// Price of keeping one MiB of weights for one epoch, for validators that have not voted on it.
    rent_price_per_mib_epoch: Amount = Amount(100_000), Amount(100_000), 0 => 1_000_000_000;
    /// Room for the files of all models together, committed and in use. New room costs more the
    /// less is left; a file that takes the place of another of its model needs none.
    #[serde(with = "decimal")]
    files_bytes_max: u64 = 1 << 42, 1 << 40, 1 << 20 => 1 << 60;
    /// Discount on the rent in the first epoch; it shrinks linearly to zero.
    bootstrap_discount_bps: u16 = 9_000, 0, 0 => 10_000;
    /// Epochs over which that discount shrinks.
    bootstrap_epochs: u32 = 365, 0, 0 => 1_000_000;
    /// Epochs for which a reveal keeps a model active, and for which its rent is paid.
    refresh_epochs: u32 = 7, 8_640, 1 => 1_000_000;
    /// Epochs from retiring a model until its stake is returned. Its last win is settled after two.
    unbonding_epochs: u32 = 7, 3, 2 => 1_000_000;
    /// Share of a model's stake that is burned for a missed reveal.
    missed_reveal_slash_bps: u16 = 500, 0, 0 => 10_000;
    /// Share of the rewards of the targets that a model with a broken file was drawn for which its
    /// stake loses, if that is more than it loses for a missed reveal.
    broken_slash_bps: u16 = 10_000, 0, 0 => 10_000;
    /// Share of a validator's stake that is burned for a beacon that it does not reveal.
    beacon_slash_bps: u16 = 100, 10, 0 => 10_000;
    /// Share of a validator's stake that is burned for a verdict that two thirds of the stake
    /// contradict.
    verdict_slash_bps: u16 = 10, 10, 0 => 10_000;
    /// An epoch's emission is the reserve divided by this.
    #[serde(with = "decimal")]
    emission_divisor: u64 = 3_650, 10_000, 10 => 1_000_000_000;
    /// The validators' share of the emission; the rest is for targets.
    validator_reward_bps: u16 = 2_000, 2_000, 0 => 10_000;
    /// Deposit of a proposal, burned if it does not pass.
    proposal_deposit: Amount = Amount::soma(100), Amount::soma(1), 0 => 1_000_000_000_000_000;
    /// Epochs for which validators vote on a proposal.
    voting_epochs: u32 = 7, 30, 1 => 1_000_000;
    /// Epochs that a migration of the architecture takes, extended until enough models are ready.
    migration_epochs: u32 = 14, 3, 2 => 1_000_000;
    /// Epochs from a vote for other rules until blocks follow them: the time in which whoever runs
    /// a node installs software that executes them.
    rules_notice_epochs: u32 = 7, 1, 1 => 1_000_000;
    /// Fee of every payment: of every transaction that is not a duty.
    base_fee: Amount = Amount(1_000), Amount(1_000), 0 => 1_000_000_000;
    /// Fee for every byte of a payment's weight, and of the records that it writes.
    byte_fee: Amount = Amount(100), Amount(10), 0 => 1_000_000;
    /// Fee for every byte of a permanent record that a payment creates; each counts 128 more.
    room_fee: Amount = Amount(100_000), Amount(100), 0 => 1_000_000_000;
    /// Share of the fees that is burned; the rest goes to the reserve.
    burn_bps: u16 = 5_000, 5_000, 0 => 10_000;
}

impl Params {
    /// Name and bounds of a parameter, if there is one with that name.
    pub fn bounds(name: &str) -> Option<&'static Bounds> {
        Self::BOUNDS.iter().find(|bounds| bounds.name == name)
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// [`Error::Parameter`] for the first value outside its bounds.
    pub fn check(&self) -> Result<(), Error> {
        for (bounds, found) in Self::BOUNDS.iter().zip(self.values()) {
            let &Bounds { name, min, max } = bounds;
            if found < min || found > max {
                return Err(Error::Parameter { name, found, min, max });
            }
        }
        Ok(())
    }

    /// Length of the reveal phase, before publication, in ms.
    pub fn reveal_ms(&self) -> u64 {
        self.share_of_epoch_ms(self.reveal_bps)
    }

    /// Length of each rank's part of the publish phase, in ms.
    pub fn publish_part_ms(&self) -> u64 {
        let ranks = u64::from(self.candidates_per_target);
        self.share_of_epoch_ms(self.publish_bps).checked_div(ranks).unwrap_or(0)
    }

    /// Length of the compete phase in ms.
    pub fn compete_ms(&self) -> u64 {
        let others =
            self.reveal_bps.saturating_add(self.publish_bps).saturating_add(self.attest_bps);
        self.share_of_epoch_ms(BPS.saturating_sub(others))
    }

    /// Length of the attest phase in ms.
    pub fn attest_ms(&self) -> u64 {
        self.share_of_epoch_ms(self.attest_bps)
    }

    /// `bps` ten-thousandths of an epoch, in ms; exact below 58,000 years.
    fn share_of_epoch_ms(&self, bps: u16) -> u64 {
        let product = self.epoch_ms.saturating_mul(bps.into());
        product.checked_div(BPS.into()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Params;
    use crate::Error;

    #[test]
    fn defaults_are_within_their_bounds() {
        Params::network().check().unwrap();
        Params::local().check().unwrap();
    }

    #[test]
    fn a_value_outside_its_bounds_is_named() {
        let params = Params { refresh_epochs: 0, ..Params::local() };
        let error = params.check().unwrap_err();
        assert!(matches!(error, Error::Parameter { name: "refresh_epochs", found: 0, .. }));
    }

    #[test]
    fn phases_of_a_local_epoch_fill_it() {
        let params = Params::local();
        assert_eq!(params.reveal_ms(), 2_000);
        assert_eq!(params.publish_part_ms(), 1_000);
        assert_eq!(params.compete_ms(), 3_000);
        assert_eq!(params.attest_ms(), 2_000);
    }
}
