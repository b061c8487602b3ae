//! Validators and the committee: who may take part in consensus, and who actually does.
//!
//! A seat is one consensus key with a stake. Consensus counts seats; everything else counts the
//! stake that a seat counts, which an election keeps near that of the other seats.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::record::{NextCommission, Params, Pool};
use crate::{Address, Amount, ConsensusKey, Epoch, decimal};

/// Maximum number of registered validators, including in genesis.
pub const VALIDATORS_MAX: usize = 1_024;

/// Whether a validator wants a seat and may have one.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum ValidatorStatus {
    /// It gets a seat as soon as one is free, if it has enough stake.
    Ready,
    /// It was absent; it may return from [`Validator::jailed_until`] on.
    Jailed,
    /// It is leaving; it has left once its seat is gone.
    Leaving,
    /// It has left, or has no seat and too little stake for one; it may register again.
    Left,
    /// It has signed conflicting votes; it never returns.
    Expelled,
}

/// A validator.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Validator {
    /// Its account.
    pub address: Address,
    /// Its consensus key.
    pub consensus_key: ConsensusKey,
    /// The key that replaces it as soon as its seat may change.
    pub next_key: Option<ConsensusKey>,
    /// The key that may send its duties, besides its account's.
    pub duty_key: Option<Address>,
    /// Its stake.
    pub pool: Pool,
    /// The operator's share of what it earns, in ten-thousandths.
    pub commission_bps: u16,
    /// The commission that applies from a later epoch on.
    pub next_commission: Option<NextCommission>,
    /// Its standing vote on the price of keeping files, per MiB and epoch.
    pub rent_price: Option<Amount>,
    /// Whether it wants a seat and may have one.
    pub status: ValidatorStatus,
    /// Epoch since which it has been registered, or has been back after it was jailed or leaving.
    pub since: Epoch,
    /// Consecutive epochs, up to the last, in which it had a seat but did not reveal its beacon.
    pub missed: u32,
    /// The first epoch in which it may ask for a seat after its last jail, whatever it has done
    /// since; 0 if it never was in jail.
    pub jailed_until: Epoch,
}

impl Validator {
    /// Whether it is registered: it has neither left nor been expelled.
    pub const fn is_registered(&self) -> bool {
        !matches!(self.status, ValidatorStatus::Left | ValidatorStatus::Expelled)
    }

    /// Whether it may have a seat, if others do not have much more stake.
    pub fn is_eligible(&self, stake_min: Amount) -> bool {
        self.status == ValidatorStatus::Ready && self.pool.stake >= stake_min
    }
}

/// The longest part of [`Endpoints`], in bytes: a host name with its port has 259.
const ENDPOINT_BYTES_MAX: usize = 260;

/// Where a validator's node is reached, as its operator says. The rules bound only the form: nodes
/// and clients try it.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// Where other nodes connect, `host:port`; `None` if it connects to them.
    #[serde(default)]
    pub p2p: Option<String>,
    /// The URL of its API; `None` if it shows none.
    #[serde(default)]
    pub url: Option<String>,
}

impl Endpoints {
    /// Whether it is reached nowhere.
    pub const fn is_empty(&self) -> bool {
        self.p2p.is_none() && self.url.is_none()
    }

    /// Whether they have a form that the rules accept.
    pub fn are_well_formed(&self) -> bool {
        self.p2p.iter().chain(&self.url).all(|text| {
            let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
            (1..=ENDPOINT_BYTES_MAX).contains(&text.len()) && is_printable
        })
    }
}

/// How often a validator may say in an epoch where its node is reached.
const MOVES_PER_EPOCH: u64 = 48;

/// Where a validator's node is reached. Kept as long as it is registered.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct EndpointsRecord {
    /// Where.
    pub endpoints: Endpoints,
    /// Time of the block in which the validator said so, in ms; 0 for genesis.
    pub since_ms: u64,
}

impl EndpointsRecord {
    /// Block time from which the validator may say something else, in ms.
    pub fn until_ms(&self, params: &Params) -> u64 {
        let pause_ms = params.epoch_ms.checked_div(MOVES_PER_EPOCH).unwrap_or(0);
        self.since_ms.saturating_add(pause_ms)
    }
}

/// The registered validators in their fixed order, without those that have left.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Validators(pub Vec<Address>);

/// The validator that has or had a consensus key. Kept permanently: a key serves one validator, and
/// evidence signed with it counts against that validator even after it has changed its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct KeyHolder(pub Address);

/// The validator that has named this key as its duty key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct DutyKeyHolder(pub Address);

/// A seat of the committee.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Seat {
    /// The key that votes.
    pub consensus_key: ConsensusKey,
    /// Its validator.
    pub validator: Address,
    /// The stake that it counts in this epoch, in all votes and for pay: what its validator had
    /// staked as the epoch began, and no more than [`crate::seat_stake::limit`] allows.
    pub stake: Amount,
    /// The epoch since which its validator has had a seat.
    pub since: Epoch,
}

/// A committee, with the stake that each seat counts, and when it was decided. It takes over
/// consensus at a fixed later height; the stakes count at once.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Committee {
    /// Its number, from 0, which is that of the genesis committee.
    pub number: u32,
    /// Height of the block that decided it.
    #[serde(with = "decimal")]
    pub height: u64,
    /// The epoch that began with it.
    pub epoch: Epoch,
    /// Its seats; a seat's number is its place in this list.
    pub seats: Vec<Seat>,
}

impl Committee {
    /// Whether a validator has a seat.
    pub fn seats_validator(&self, address: &Address) -> bool {
        self.seat_of(address).is_some()
    }

    /// The seat of a validator.
    pub fn seat_of(&self, address: &Address) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.validator == *address)
    }

    /// All seated stake.
    pub fn stake(&self) -> Amount {
        self.seats.iter().map(|seat| seat.stake).sum()
    }

    /// The seated stake of the validators for which `is_counted` holds.
    pub fn stake_where(&self, is_counted: impl Fn(&Address) -> bool) -> Amount {
        let counted = self.seats.iter().filter(|seat| is_counted(&seat.validator));
        counted.map(|seat| seat.stake).sum()
    }
}

/// Number of the most recently decided committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LastCommittee(pub u32);
