//! Counting votes as an epoch begins, and carrying out proposals that passed.

use super::rules;
use crate::money::credit;
use crate::record::{Change, Migration, OpenProposals, Params, Proposal, ProposalStatus};
use crate::state::{Key, StateRead, load};
use crate::transition::Transition;
use crate::{Address, Amount, Epoch, Event, Rejection, read};

/// Whether a change could be carried out now.
pub(crate) fn check(state: &dyn StateRead, change: &Change) -> Result<(), Rejection> {
    match change {
        Change::Parameter { name, value } => changed(state, name, *value).map(drop),
        Change::Architecture { architecture } => {
            if read::migration(state).is_some() {
                return Err(Rejection::MigrationRunning);
            }
            let field = match architecture.check() {
                Ok(()) => None,
                Err(soma_architecture::Error::OutOfBounds { field, .. }) => Some(field),
                Err(_) => Some("numerics_version"),
            };
            let longest = read::params(state).data_bytes_max;
            let too_long = architecture.data_bytes_min() > longest;
            match field.or(too_long.then_some("positions")) {
                None => Ok(()),
                Some(field) => Err(Rejection::BadArchitecture { field: field.to_owned() }),
            }
        }
        Change::Rules { version } => rules::check(state, *version),
    }
}

/// The parameters with one of them changed, if the change is allowed.
fn changed(state: &dyn StateRead, name: &str, value: u64) -> Result<Params, Rejection> {
    let bounds =
        Params::bounds(name).ok_or_else(|| Rejection::NoSuchParameter { name: name.to_owned() })?;
    let refusal = || Rejection::OutOfBounds {
        name: name.to_owned(),
        value,
        min: bounds.min,
        max: bounds.max,
    };
    let params = read::params(state).with(name, value);
    let params = params.filter(|params| params.check().is_ok()).ok_or_else(refusal)?;
    let network = read::network(state);
    // With neither a clock nor an operator, no phase would ever end.
    let stuck = params.epoch_ms == 0 && network.operator.is_none();
    let migrating = read::migration(state);
    let migrating = migrating.map_or(0, |migration| migration.architecture.data_bytes_min());
    let needed = network.architecture.data_bytes_min().max(migrating);
    if stuck || params.data_bytes_max < needed {
        return Err(refusal());
    }
    Ok(params)
}

/// Decides the open proposals as `beginning` begins.
pub(crate) fn tally(transition: &mut Transition<'_, '_>, beginning: Epoch) {
    let OpenProposals(open) = load(transition.state, &Key::open_proposals()).unwrap_or_default();
    if open.is_empty() {
        return;
    }
    let mut still_open = Vec::new();
    for listed in &open {
        let Some(mut proposal) = read::proposal(transition.state, listed.id) else {
            continue;
        };
        let approved = approved(transition.state, &proposal);
        let executed = approved && carry_out(transition, &proposal, beginning);
        if executed {
            decide(transition, &mut proposal, ProposalStatus::Passed { epoch: beginning });
        } else if beginning >= proposal.ends || !may_wait(transition.state, &proposal.change) {
            decide(transition, &mut proposal, ProposalStatus::Lapsed { epoch: beginning });
        } else {
            still_open.push(*listed);
        }
    }
    if still_open.len() < open.len() {
        transition.state.save(Key::open_proposals(), &OpenProposals(still_open));
    }
}

/// Whether a proposal that was not carried out stays open while its vote lasts. A second
/// architecture waits for the first. A version of the rules does not wait once another one is
/// expected: what a vote for it means has changed.
fn may_wait(state: &dyn StateRead, change: &Change) -> bool {
    match change {
        Change::Rules { version } => rules::check(state, *version).is_ok(),
        Change::Parameter { .. } | Change::Architecture { .. } => true,
    }
}

/// Whether more than two thirds of all seated stake approves.
fn approved(state: &dyn StateRead, proposal: &Proposal) -> bool {
    let (yes, total) = stakes(state, proposal);
    yes.exceeds_thirds(2, total)
}

/// The seated stake that approves, and all of it.
pub(crate) fn stakes(state: &dyn StateRead, proposal: &Proposal) -> (Amount, Amount) {
    let committee = read::committee(state);
    let approves = |address: &Address| {
        let mut votes = proposal.votes.iter();
        votes.any(|vote| vote.validator == *address && vote.approve)
    };
    (committee.stake_where(approves), committee.stake())
}

/// Carries out a change; returns whether that was possible.
fn carry_out(transition: &mut Transition<'_, '_>, proposal: &Proposal, beginning: Epoch) -> bool {
    match &proposal.change {
        Change::Parameter { name, value } => {
            let Ok(params) = changed(transition.state, name, *value) else {
                return false;
            };
            transition.state.save(Key::params(), &params);
            transition.events.push(Event::ParameterChanged { name: name.clone(), value: *value });
        }
        Change::Architecture { architecture } => {
            if check(transition.state, &proposal.change).is_err() {
                return false;
            }
            let number = read::architecture_number(transition.state).saturating_add(1);
            let ends = beginning.after(transition.config.params.migration_epochs);
            let migration = Migration {
                number,
                architecture: architecture.clone(),
                proposal: proposal.id,
                ends,
                ready: 0,
            };
            transition.state.save(Key::migration(), &migration);
            transition.events.push(Event::MigrationBegan {
                architecture: number,
                name: architecture.name.clone(),
                ends,
            });
        }
        Change::Rules { version } => return rules::carry_out(transition, *version, beginning),
    }
    true
}

/// Returns the deposit if the proposal passed, or else burns it, so that spam has a price.
fn decide(transition: &mut Transition<'_, '_>, proposal: &mut Proposal, status: ProposalStatus) {
    proposal.status = status;
    let deposit = std::mem::take(&mut proposal.deposit);
    transition.state.save(Key::proposal(proposal.id), proposal);
    let passed = matches!(status, ProposalStatus::Passed { .. });
    let (id, proposer) = (proposal.id, proposal.proposer);
    let event = if passed {
        credit(transition.state, &proposer, deposit);
        Event::ProposalPassed { proposal: id, deposit }
    } else {
        transition.burn(deposit);
        Event::ProposalLapsed { proposal: id, deposit }
    };
    transition.events.push(event);
}
