//! Validators, stakes, rent and votes in the JSON of the API, read from a finalized state.

use soma_protocol::record::{self, ProposalStatus as Fate, ValidatorStatus as Standing};
use soma_protocol::{
    Address, ConsensusKey, Endpoints, Epoch, Hash, PoolId, ProposalId, Seat, StateRead, query, read,
};
use soma_sdk::answers::{next_commission, rules_in_force};
use soma_sdk::api::text::Text;
use soma_sdk::api::{
    Governance, Migration, Proposal, ProposalStatus, Stake, StakeChange, Validator, ValidatorStatus,
};

/// The most epochs ahead for which changes of a stake are looked up.
const CHANGES_MAX: u32 = 64;

/// All registered validators, in the order in which the state lists them.
pub(crate) fn validators(state: &dyn StateRead) -> Vec<Validator> {
    let seats = read::committee(state).seats;
    let registered = read::validators(state).into_iter();
    registered.map(|record| with_seat(state, &record, &seats)).collect()
}

/// A validator, if there is or was one with this address.
pub(crate) fn validator(state: &dyn StateRead, address: &Address) -> Option<Validator> {
    let record = read::validator(state, address)?;
    Some(with_seat(state, &record, &read::committee(state).seats))
}

fn with_seat(state: &dyn StateRead, record: &record::Validator, seats: &[Seat]) -> Validator {
    let endpoints = read::endpoints(state, &record.address);
    let Endpoints { p2p, url } = endpoints.map(|record| record.endpoints).unwrap_or_default();
    let seat = (0..).zip(seats).find(|(_, seat)| seat.validator == record.address);
    let (status, jailed_until) = match record.status {
        Standing::Ready => (ValidatorStatus::Ready, None),
        Standing::Jailed => (ValidatorStatus::Jailed, Some(record.jailed_until.0)),
        Standing::Leaving => (ValidatorStatus::Leaving, None),
        Standing::Left => (ValidatorStatus::Left, None),
        Standing::Expelled => (ValidatorStatus::Expelled, None),
    };
    let key = |key: ConsensusKey| Text(Hash(key.0));
    Validator {
        address: Text(record.address),
        consensus_key: key(record.consensus_key),
        next_key: record.next_key.map(key),
        duty_key: record.duty_key.map(Text),
        p2p,
        url,
        seat: seat.map(|(number, _)| number),
        seat_stake: seat.map(|(_, seat)| seat.stake.into()),
        status,
        jailed_until,
        stake: record.pool.stake.into(),
        leaving: record.pool.leaving.into(),
        joining: record.pool.joining.into(),
        commission_bps: record.commission_bps,
        next_commission: record.next_commission.map(next_commission),
        missed: record.missed,
        rent_price: record.rent_price.map(Into::into),
    }
}

/// The stakes of an account at the first `limit` places from `place` on, in the order of its list.
pub(crate) fn stakes(
    state: &dyn StateRead,
    staker: &Address,
    place: u32,
    limit: usize,
) -> Vec<(u32, Stake)> {
    let places = (place..read::stake_count(state, staker)).take(limit);
    places
        .filter_map(|place| {
            let id = read::staked_pool(state, staker, place)?;
            Some((place, stake(state, staker, id)?))
        })
        .collect()
}

fn stake(state: &dyn StateRead, staker: &Address, id: PoolId) -> Option<Stake> {
    let (pool, commission_bps) = match id {
        PoolId::Model(id) => read::model(state, id).map(|model| (model.pool, model.commission_bps)),
        PoolId::Validator(address) => {
            read::validator(state, &address).map(|record| (record.pool, record.commission_bps))
        }
    }?;
    let share = read::share(state, id, staker);
    Some(Stake {
        pool: id.to_string(),
        stake: pool.value(share.shares).into(),
        leaving: pool.leaving_value(share.leaving_shares).into(),
        joining: pool.joining_value(share.joining_shares).into(),
        changes: changes(state, staker, id, &pool, share),
        pool_stake: pool.stake.into(),
        commission_bps,
    })
}

/// What becomes active and what is paid out, by the epoch whose beginning does it. The search ends
/// once all that waits is found: most stakes wait for nothing.
fn changes(
    state: &dyn StateRead,
    staker: &Address,
    id: PoolId,
    pool: &record::Pool,
    share: record::Share,
) -> Vec<StakeChange> {
    let record::Share { mut joining_shares, mut leaving_shares, .. } = share;
    let mut changes = Vec::new();
    // What is due as this epoch began may still be on its way.
    let now = read::clock(state).epoch.0;
    for epoch in now..=now.saturating_add(CHANGES_MAX) {
        if (joining_shares, leaving_shares) == (0, 0) {
            break;
        }
        if let Some(change) = read::stake_change(state, Epoch(epoch), id, staker) {
            joining_shares = joining_shares.saturating_sub(change.joining_shares);
            leaving_shares = leaving_shares.saturating_sub(change.leaving_shares);
            changes.push(StakeChange {
                epoch,
                joining: pool.joining_value(change.joining_shares).into(),
                leaving: pool.leaving_value(change.leaving_shares).into(),
            });
        }
    }
    changes
}

/// What validators decide together: architecture, rent price, and the last `limit` proposals, by
/// id, or those before the one with the id `before`. `ready` are the models that are ready for the
/// running migration.
pub(crate) fn governance(
    state: &dyn StateRead,
    ready: &[u32],
    before: Option<u32>,
    limit: usize,
) -> Governance {
    let chain = query::chain(state);
    let needed = query::seat_needs(state);
    let migration = read::migration(state).map(|migration| Migration {
        ready: ready.to_vec(),
        needed: chain.params.models_per_target,
        number: migration.number,
        ends_epoch: migration.ends.0,
        architecture: migration.architecture,
    });
    let count = read::proposal_count(state);
    let last = before.map_or(count, |before| before.saturating_sub(1).min(count));
    let first = last.saturating_sub(u32::try_from(limit).unwrap_or(u32::MAX));
    let proposals = (first.saturating_add(1)..=last).map(ProposalId);
    let (rules, next_rules) = rules_in_force(state);
    Governance {
        architecture: chain.network.architecture_number,
        migration,
        rules,
        next_rules,
        rent_price: read::rent_price(state).into(),
        files_bytes: read::file_room(state).into(),
        seat_to_take: needed.to_take.into(),
        seat_to_keep: needed.to_keep.into(),
        proposals: proposals
            .filter_map(|id| read::proposal(state, id))
            .map(|record| proposal(state, record))
            .collect(),
        next: (first > 0).then(|| first.saturating_add(1).to_string()),
    }
}

fn proposal(state: &dyn StateRead, record: record::Proposal) -> Proposal {
    let (approved, total) = query::approval(state, &record);
    let (status, decided_epoch) = match record.status {
        Fate::Open => (ProposalStatus::Open, None),
        Fate::Passed { epoch } => (ProposalStatus::Passed, Some(epoch.0)),
        Fate::Lapsed { epoch } => (ProposalStatus::Lapsed, Some(epoch.0)),
    };
    Proposal {
        id: record.id.0,
        proposer: Text(record.proposer),
        change: record.change,
        status,
        decided_epoch,
        ends_epoch: record.ends.0,
        approved: approved.into(),
        total: total.into(),
        deposit: record.deposit.into(),
    }
}
