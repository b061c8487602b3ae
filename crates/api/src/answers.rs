//! What the API says about a state: epochs, accounts, models and targets in its JSON.
//!
//! A node computes it of the state that it has, and a client of the records that were proved to it.
//! It must never reimplement a rule: answers contain only what records hold or the protocol
//! computes.

use soma_protocol::record::{self, TargetStatus as Fate};
use soma_protocol::{
    Address, Amount, Epoch, Hash, ModelId, RulesRange, SUPPLY, StateRead, TargetId, query, read,
};

use crate as types;
use crate::text::Text;

/// The current epoch and phase of the competition.
pub fn clock(state: &dyn StateRead) -> types::Clock {
    let chain = query::chain(state);
    let epoch = read::epoch(state, chain.clock.epoch);
    types::Clock {
        epoch: chain.clock.epoch.0,
        phase: Text(chain.clock.phase),
        ends_ms: chain.deadline_ms.map(Text),
        beacon: epoch.map(|epoch| Text(epoch.beacon)),
    }
}

/// The version of the rules in force, and the one that is scheduled.
pub fn rules_in_force(state: &dyn StateRead) -> (u16, Option<types::NextRules>) {
    let record::RulesInForce { version, next } = read::rules(state);
    let next = next.map(|next| types::NextRules { version: next.version, from_epoch: next.from.0 });
    (version, next)
}

/// The rules, and those of `executed`, which a node executes.
pub fn rules(state: &dyn StateRead, executed: RulesRange) -> types::Rules {
    let (version, next) = rules_in_force(state);
    types::Rules { version, next, min: executed.min, max: executed.max }
}

/// Where the money is. `held` is the sum over all records that hold money.
pub fn supply(state: &dyn StateRead, held: Amount) -> types::Supply {
    let record::Supply { reserve, burned } = read::supply(state);
    let parts = [reserve, burned, held].map(|part| u128::from(part.0));
    types::Supply {
        cap: SUPPLY.into(),
        reserve: reserve.into(),
        held: held.into(),
        burned: burned.into(),
        conserved: parts.iter().sum::<u128>() == u128::from(SUPPLY.0),
    }
}

/// An account after the block at `height`, without its models. `next_nonce` comes from the pool:
/// the first nonce that no waiting transaction uses.
pub fn account(
    state: &dyn StateRead,
    height: u64,
    address: Address,
    next_nonce: u64,
) -> types::Account {
    let record::Account { balance, nonce } = read::account(state, &address);
    let (corpus, epoch) = (read::corpus(state, &address), read::clock(state).epoch);
    types::Account {
        address: Text(address),
        balance: balance.into(),
        nonce: Text(nonce),
        next_nonce: Text(next_nonce.max(nonce)),
        models: Vec::new(),
        corpus: corpus.and_then(|corpus| corpus.counting_in(epoch)).map(corpus_root),
        next_corpus: corpus.and_then(|corpus| corpus.counting_after(epoch)).map(corpus_root),
        height: Text(height),
    }
}

fn corpus_root(committed: record::CorpusRoot) -> types::Corpus {
    types::Corpus {
        root: Text(committed.root),
        leaves: committed.leaves,
        from_epoch: committed.epoch.next().0,
    }
}

/// A model, if there is one.
pub fn model(state: &dyn StateRead, id: ModelId) -> Option<types::Model> {
    let model = read::model(state, id)?;
    let refresh_epochs = read::params(state).refresh_epochs;
    let now = read::clock(state).epoch;
    let commits = [now, now.next()]
        .into_iter()
        .flat_map(|epoch| read::commits_of(state, id, epoch))
        .map(|record| commit(&record));
    let (status, release_epoch) = match model.status {
        record::ModelStatus::Registered => (types::ModelStatus::Registered, None),
        record::ModelStatus::Active => (types::ModelStatus::Active, None),
        record::ModelStatus::Inactive => (types::ModelStatus::Inactive, None),
        record::ModelStatus::Retiring { release } => {
            (types::ModelStatus::Retiring, Some(release.0))
        }
        record::ModelStatus::Retired => (types::ModelStatus::Retired, None),
    };
    let current = model.weights.and_then(|hash| read::weights(state, id, &hash));
    let next = model.next.and_then(|next| {
        let record = read::weights(state, id, &next.weights)?;
        Some(weights(&record, next.revealed, refresh_epochs))
    });
    Some(types::Model {
        id: id.0,
        owner: Text(model.owner),
        commission_bps: model.commission_bps,
        status,
        release_epoch,
        stake: model.pool.stake.into(),
        rent: current.as_ref().and_then(|weights| rent(state, id, weights.size_bytes)),
        weights: current.map(|record| weights(&record, model.revealed, refresh_epochs)),
        next,
        leaving: model.pool.leaving.into(),
        joining: model.pool.joining.into(),
        next_commission: model.next_commission.map(next_commission),
        commits: commits.collect(),
        wins: model.wins,
        earned: model.earned.into(),
        name: model.name,
    })
}

/// The rent of a model's file for the architecture in force; `None` without a file.
fn rent(state: &dyn StateRead, id: ModelId, size_bytes: u64) -> Option<types::Rent> {
    let rent = read::rent(state, id)?;
    let number = read::network(state).architecture_number;
    let (_, cost) = query::commit_cost(state, id, number, size_bytes)?;
    Some(types::Rent {
        prepaid: rent.prepaid.into(),
        epochs_left: rent.epochs_left,
        refresh_cost: cost.into(),
        holders: rent.holders.into_iter().map(Text).collect(),
    })
}

/// When a commission changes, and to what.
pub fn next_commission(next: record::NextCommission) -> types::NextCommission {
    types::NextCommission { bps: next.bps, epoch: next.epoch.0 }
}

fn weights(weights: &record::Weights, revealed: Epoch, refresh_epochs: u32) -> types::Weights {
    types::Weights {
        hash: Text(weights.weights_hash),
        size_bytes: Text(weights.size_bytes),
        ciphertext_hash: Text(weights.ciphertext_hash),
        key: Text(Hash(weights.key)),
        revealed_epoch: revealed.0,
        first_epoch: weights.age.epoch.0,
        refresh_epoch: revealed.after(refresh_epochs).0,
    }
}

fn commit(commit: &record::WeightsCommit) -> types::Commit {
    types::Commit {
        epoch: commit.epoch.0,
        architecture: commit.architecture,
        commitment: Text(commit.commitment),
        ciphertext_hash: Text(commit.ciphertext_hash),
        size_bytes: Text(commit.size_bytes),
        holders: commit.holders.iter().copied().map(Text).collect(),
        held: commit.available,
        rent: commit.rent.into(),
    }
}

/// An epoch, if it has begun.
pub fn epoch(state: &dyn StateRead, id: Epoch) -> Option<types::Epoch> {
    let record = read::epoch(state, id);
    if record.is_none() && read::clock(state).epoch != id {
        return None;
    }
    Some(types::Epoch {
        epoch: id.0,
        beacon: record.as_ref().map(|epoch| Text(epoch.beacon)),
        targets: record.iter().flat_map(record::EpochRecord::target_ids).map(|id| id.0).collect(),
        loss_margin_q32: record.as_ref().map(|epoch| Text(epoch.loss_margin_q32)),
        gain_min_q32: record.as_ref().map(|epoch| Text(epoch.gain_min_q32)),
        target_reward: record.map_or(Amount::ZERO, |epoch| epoch.target_reward).into(),
    })
}

/// A target, if there is one.
pub fn target(state: &dyn StateRead, id: TargetId) -> Option<types::Target> {
    let target = read::target(state, id)?;
    let epoch = read::epoch(state, target.epoch)?;
    let Outcome { status, returned, payment } = Outcome::of(&target.status);
    let candidates = read::candidates(state, id);
    Some(types::Target {
        id: id.0,
        epoch: target.epoch.0,
        status,
        returned,
        reward: target.reward.into(),
        seed: Text(epoch.beacon),
        loss_margin_q32: Text(epoch.loss_margin_q32),
        gain_min_q32: Text(epoch.gain_min_q32),
        routed: target.routed.iter().map(|record| routed(state, &target, record)).collect(),
        candidates: (0..).zip(&candidates).map(|(rank, record)| candidate(rank, record)).collect(),
        publication: read::publication(state, id).map(|publication| types::Publication {
            rank: publication.rank,
            data_hash: Text(publication.data_hash),
            size_bytes: u32::try_from(publication.data.len()).unwrap_or(u32::MAX),
        }),
        payment,
    })
}

/// What became of a target, in the fields of the API.
struct Outcome {
    status: types::TargetStatus,
    returned: Option<types::Returned>,
    payment: Option<types::Payment>,
}

impl Outcome {
    fn of(fate: &Fate) -> Self {
        let undecided = |status| Self { status, returned: None, payment: None };
        match *fate {
            Fate::Open => undecided(types::TargetStatus::Open),
            Fate::Published { .. } => undecided(types::TargetStatus::Published),
            Fate::Settled { model, submitter, distance, data_hash, paid_submitter, paid_model } => {
                let payment = types::Payment {
                    submitter: Text(submitter),
                    paid_submitter: paid_submitter.into(),
                    model: model.0,
                    paid_model: paid_model.into(),
                    distance: Text(distance),
                    data_hash: Text(data_hash),
                };
                let status = types::TargetStatus::Settled;
                Self { status, returned: None, payment: Some(payment) }
            }
            Fate::Returned { reason } => {
                let reason = match reason {
                    record::ReturnReason::Unclaimed => types::Returned::Unclaimed,
                    record::ReturnReason::Invalid => types::Returned::Invalid,
                    record::ReturnReason::NoQuorum => types::Returned::NoQuorum,
                };
                let status = types::TargetStatus::Returned;
                Self { status, returned: Some(reason), payment: None }
            }
        }
    }
}

/// A routed model. Every model has revealed the weights that it is routed with.
fn routed(
    state: &dyn StateRead,
    target: &record::Target,
    routed: &record::Routed,
) -> types::Routed {
    let file = read::routed_file(state, target, routed);
    types::Routed {
        model: routed.model.0,
        weights_hash: Text(routed.weights_hash),
        size_bytes: Text(file.map_or(0, |file| file.size_bytes)),
        ciphertext_hash: Text(file.map_or(Hash::default(), |file| file.ciphertext_hash)),
        key: Text(Hash(file.map_or([0; 32], |file| file.key))),
        age: types::Age {
            epoch: routed.age.epoch.0,
            height: Text(routed.age.height),
            index: routed.age.index,
        },
    }
}

fn candidate(rank: u32, candidate: &record::Candidate) -> types::Candidate {
    types::Candidate {
        rank,
        submitter: Text(candidate.submitter),
        model: candidate.model.0,
        loss_q32: Text(candidate.loss_q32),
        gain_q32: Text(candidate.gain_q32),
        distance: Text(candidate.distance),
        size_bytes: candidate.size_bytes,
        commitment: Text(candidate.commitment),
        corpus_root: Text(candidate.corpus_root),
        corpus_leaves: candidate.corpus_leaves,
        bond: candidate.bond.into(),
    }
}

/// A model's specialization, now or as the targets of an epoch were drawn, if it has one.
pub fn specialization(
    state: &dyn StateRead,
    id: ModelId,
    epoch: Option<Epoch>,
) -> Option<types::Vector> {
    let components = match epoch {
        None => read::specialization(state, id),
        Some(epoch) => read::drawn_specialization(state, epoch, id),
    };
    components.map(|components| types::Vector { components })
}

/// The first target that was won with data that has this piece, if there is one.
pub fn winner(state: &dyn StateRead, piece: u64) -> Option<types::Winner> {
    let record::Piece { winner, epoch } = read::piece(state, piece)?;
    Some(types::Winner { target: winner.0, epoch: epoch.0 })
}

/// The direction of a target, if there is one.
pub fn direction(state: &dyn StateRead, id: TargetId) -> Option<types::Vector> {
    let target = read::target(state, id)?;
    query::direction(state, &target).map(|components| types::Vector { components })
}
