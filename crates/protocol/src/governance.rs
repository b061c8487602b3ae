//! Counting votes as an epoch begins, and carrying out what has passed.

use crate::balance::credit;
use crate::epoch::Turn;
use crate::params::Params;
use crate::proposal::{Change, Migration, OpenProposals, Proposal, ProposalStatus};
use crate::record::load;
use crate::settlement::exceeds_thirds;
use crate::state::{Key, Read};
use crate::{Amount, Epoch, Error, Event, Rejection, apply, migration, view};

/// Whether a change could be carried out now.
pub(crate) fn check(state: &dyn Read, change: &Change) -> Result<(), Rejection> {
    match change {
        Change::Parameter { name, value } => changed(state, name, *value).map(drop),
        Change::Architecture { architecture } => {
            if view::migration(state).is_some() {
                return Err(Rejection::MigrationRunning);
            }
            let field = match architecture.check() {
                Err(Error::Architecture { field, .. }) => Some(field),
                Err(_) => Some("name"),
                Ok(()) => None,
            };
            let longest = apply::params(state).data_bytes_max;
            let too_long = architecture.data_bytes_min() > longest;
            match field.or(too_long.then_some("positions")) {
                None => Ok(()),
                Some(field) => Err(Rejection::BadArchitecture {
                    field: field.to_owned(),
                }),
            }
        }
    }
}

/// The parameters with one of them changed, if that is allowed.
fn changed(state: &dyn Read, name: &str, value: u64) -> Result<Params, Rejection> {
    let bounds = Params::bounds(name).ok_or_else(|| Rejection::NoSuchParameter {
        name: name.to_owned(),
    })?;
    let refusal = || Rejection::OutOfBounds {
        name: name.to_owned(),
        value,
        min: bounds.min,
        max: bounds.max,
    };
    let params = apply::params(state).with(name, value);
    let params = params
        .filter(|params| params.check().is_ok())
        .ok_or_else(refusal)?;
    let network = apply::network(state);
    // Without a clock and without an operator no phase would ever end again.
    let stuck = params.epoch_ms == 0 && network.operator.is_none();
    let migrating = view::migration(state).map_or(0, |one| one.architecture.data_bytes_min());
    let needed = network.architecture.data_bytes_min().max(migrating);
    if stuck || params.data_bytes_max < needed {
        return Err(refusal());
    }
    Ok(params)
}

/// Decides the open proposals as `beginning` begins.
pub(crate) fn tally(turn: &mut Turn<'_, '_>, beginning: Epoch) {
    let OpenProposals(open) = load(turn.state, &Key::open_proposals()).unwrap_or_default();
    if open.is_empty() {
        return;
    }
    let mut still_open = Vec::new();
    for &id in &open {
        let Some(mut proposal) = view::proposal(turn.state, id) else {
            continue;
        };
        let approved = approved(turn.state, &proposal);
        let executed = approved && carry_out(turn, &proposal, beginning);
        // A second architecture waits for the first, as long as its vote lasts.
        if executed {
            decide(
                turn,
                &mut proposal,
                ProposalStatus::Passed { epoch: beginning },
            );
        } else if beginning >= proposal.ends {
            decide(
                turn,
                &mut proposal,
                ProposalStatus::Lapsed { epoch: beginning },
            );
        } else {
            still_open.push(id);
        }
    }
    if still_open.len() < open.len() {
        turn.state
            .save(Key::open_proposals(), &OpenProposals(still_open));
    }
}

/// Whether more than two thirds of all seated stake approves.
fn approved(state: &dyn Read, proposal: &Proposal) -> bool {
    let (yes, total) = stakes(state, proposal);
    exceeds_thirds(yes, 2, total)
}

/// The seated stake that approves, and all of it.
pub(crate) fn stakes(state: &dyn Read, proposal: &Proposal) -> (Amount, Amount) {
    let seated = view::seated(state);
    let approves = |address| {
        let mut votes = proposal.votes.iter();
        votes.any(|vote| vote.validator == address && vote.approve)
    };
    let yes = seated.iter().filter(|one| approves(one.address));
    (
        yes.map(|one| one.pool.stake).sum(),
        seated.iter().map(|one| one.pool.stake).sum(),
    )
}

/// Carries a change out; says whether it could.
fn carry_out(turn: &mut Turn<'_, '_>, proposal: &Proposal, beginning: Epoch) -> bool {
    match &proposal.change {
        Change::Parameter { name, value } => {
            let Ok(params) = changed(turn.state, name, *value) else {
                return false;
            };
            turn.state.save(Key::params(), &params);
            turn.events.push(Event::ParameterChanged {
                name: name.clone(),
                value: *value,
            });
        }
        Change::Architecture { architecture } => {
            if check(turn.state, &proposal.change).is_err() {
                return false;
            }
            let number = migration::current(turn.state).saturating_add(1);
            let ends = beginning.after(turn.rules.params.migration_epochs);
            let migration = Migration {
                number,
                architecture: architecture.clone(),
                proposal: proposal.id,
                ends,
            };
            turn.state.save(Key::migration(), &migration);
            turn.events.push(Event::MigrationBegan {
                architecture: number,
                name: architecture.name.clone(),
                ends,
            });
        }
    }
    true
}

/// The deposit returns if it passed; else it is burned, so that nobody keeps everybody voting.
fn decide(turn: &mut Turn<'_, '_>, proposal: &mut Proposal, status: ProposalStatus) {
    proposal.status = status;
    let deposit = std::mem::take(&mut proposal.deposit);
    turn.state.save(Key::proposal(proposal.id), proposal);
    let passed = matches!(status, ProposalStatus::Passed { .. });
    let (id, proposer) = (proposal.id, proposal.proposer);
    turn.events.push(if passed {
        credit(turn.state, &proposer, deposit);
        Event::ProposalPassed {
            proposal: id,
            deposit,
        }
    } else {
        turn.supply.burned = turn.supply.burned.plus(deposit);
        Event::ProposalLapsed {
            proposal: id,
            deposit,
        }
    });
}
