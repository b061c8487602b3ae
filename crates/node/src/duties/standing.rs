//! What a validator owes after a block by the state alone: whether its files are here and
//! what its audits have found shows when something is sent. It takes a look at every living model,
//! so it is computed once a block.

use std::collections::BTreeSet;

use soma_protocol::record::{Model, TargetStatus, Validator, ValidatorStatus};
use soma_protocol::storage::{self, Challenge};
use soma_protocol::{
    Action, Address, Amount, Endpoints, Epoch, ModelId, Phase, StateRead, action, commitment,
    query, read,
};

use super::Duties;
use super::audit::Subject;
use super::beacon;
use crate::weights::Ciphertext;

/// Time that is kept to bring a verdict onto the chain, in milliseconds; less if phases are short.
const SPARE_MS: u64 = 30_000;

/// What a validator owes after a block; nothing for other accounts.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The block's height.
    pub(crate) height: u64,
    /// The epoch that runs.
    pub(super) epoch: Epoch,
    /// Beacons, and the return from jail.
    pub(super) actions: Vec<Action>,
    /// Files of the next epoch's commits, and files in use that earn rent, to which the validator
    /// has not attested.
    pub(super) unattested: BTreeSet<(ModelId, Ciphertext)>,
    /// The epoch's challenge, while it is not answered.
    pub(super) challenge: Option<Challenge>,
    /// Published claims of the last epoch on which the validator has not revealed its verdict.
    pub(super) published: Vec<Subject>,
    /// How many verdicts of this phase are not on the chain.
    pub(super) verdicts: usize,
    /// Block time until which a verdict that is computed now can reach the chain, with some time
    /// to spare; `None` if the operator ends phases.
    pub(super) verdicts_end_ms: Option<u64>,
}

impl Standing {
    /// What the validator owes for which `duties` are done; `living` are all living models.
    pub(crate) fn of(
        state: &dyn StateRead,
        height: u64,
        duties: &Duties,
        living: &[Model],
    ) -> Self {
        let me = &duties.validator(state);
        let epoch = read::clock(state).epoch;
        let has_seat = read::committee(state).seats_validator(me);
        let published = if has_seat { published(state, me) } else { Vec::new() };
        let is_registered =
            read::validator(state, me).is_some_and(|validator| validator.is_registered());
        Self {
            height,
            epoch,
            actions: actions(state, me, duties, has_seat),
            unattested: if has_seat && is_registered {
                unattested(state, me, living)
            } else {
                BTreeSet::new()
            },
            challenge: storage::challenge(state, me)
                .filter(|_| !storage::has_answered(state, epoch, me)),
            verdicts: verdicts(state, me, &published),
            published,
            verdicts_end_ms: verdicts_end_ms(state),
        }
    }
}

fn actions(state: &dyn StateRead, me: &Address, duties: &Duties, has_seat: bool) -> Vec<Action> {
    let secret = &duties.secret;
    let chain = query::chain(state);
    let Some(validator) = read::validator(state, me).filter(Validator::is_registered) else {
        return Vec::new();
    };
    let (id, epoch) = (chain.network.chain_id, chain.clock.epoch);
    let next = Epoch(epoch.0.saturating_add(1));
    let mut due = Vec::new();
    if has_seat && read::beacon_commit(state, next, me).is_none() {
        let commitment = commitment::beacon(&id, me, next, &beacon::value(secret, &id, next));
        due.push(Action::CommitBeacon(action::CommitBeacon { epoch: next, commitment }));
    }
    if chain.clock.phase.reveals() {
        let value = beacon::value(secret, &id, epoch);
        let hidden = read::beacon_commit(state, epoch, me).filter(|beacon| beacon.value.is_none());
        // A commitment made with another secret cannot be revealed with this one.
        let ours =
            hidden.filter(|beacon| beacon.commitment == commitment::beacon(&id, me, epoch, &value));
        due.extend(ours.map(|_| Action::RevealBeacon(action::RevealBeacon { epoch, value })));
    }
    due.extend(moved(state, &validator, duties));
    // A validator that was jailed for absence returns by itself, if its account can pay for that.
    if validator.status == ValidatorStatus::Jailed && epoch >= validator.jailed_until {
        due.push(Action::ReturnValidator(action::ReturnValidator {}));
    }
    due
}

/// Says where the node of a validator is, unless the chain says so. Another node with the key of
/// its account, such as one that waits to take over, must not.
fn moved(state: &dyn StateRead, validator: &Validator, duties: &Duties) -> Option<Action> {
    let wanted = duties.endpoints.as_ref().filter(|_| {
        let me = Some(duties.keys.consensus);
        me == Some(validator.consensus_key) || me == validator.next_key
    })?;
    let known = read::endpoints(state, &validator.address).unwrap_or_default();
    let params = read::params(state);
    // Where the operator ends phases, there is neither a pause nor block time in the state.
    let may = params.epoch_ms == 0 || read::clock(state).block_ms >= known.until_ms(&params);
    let Endpoints { p2p, url } = wanted.clone();
    let last_ms = known.since_ms;
    (may && known.endpoints != *wanted).then_some(Action::SetEndpoints(action::SetEndpoints {
        last_ms,
        p2p,
        url,
    }))
}

fn unattested(
    state: &dyn StateRead,
    me: &Address,
    living: &[Model],
) -> BTreeSet<(ModelId, Ciphertext)> {
    let next = read::clock(state).epoch.next();
    let mut files = BTreeSet::new();
    for model in living {
        let commits = read::commits_of(state, model.id, next);
        let commits = commits.iter().filter(|commit| !commit.holders.contains(me));
        files.extend(commits.map(|commit| (model.id, Ciphertext::from(commit))));
        files.extend(paid_file(state, me, model).map(|file| (model.id, file)));
    }
    files
}

/// The file in use of a model, if it earns this validator rent once it attests to holding it.
fn paid_file(state: &dyn StateRead, me: &Address, model: &Model) -> Option<Ciphertext> {
    let rent = read::rent(state, model.id)?;
    let paid = rent.prepaid > Amount::ZERO && !rent.holders.contains(me);
    let weights = read::weights(state, model.id, &model.weights.filter(|_| paid)?)?;
    Some(Ciphertext::from(&weights.file()))
}

fn published(state: &dyn StateRead, me: &Address) -> Vec<Subject> {
    let epoch = read::clock(state).epoch;
    let targets = read::targets(state, Epoch(epoch.0.saturating_sub(1)));
    let open = targets
        .into_iter()
        .filter(|target| matches!(target.status, TargetStatus::Published { .. }));
    let revealed =
        |target| read::verdict(state, target, me).is_some_and(|commit| commit.verdict.is_some());
    open.filter(|target| !revealed(target.id))
        .filter_map(|target| {
            let publication = read::publication(state, target.id)?;
            let (bytes, models) = (publication.data.len() as u64, target.routed.len() as u64);
            let (data_hash, work) = (publication.data_hash, bytes.saturating_mul(models));
            let TargetStatus::Published { rank } = target.status else {
                return None;
            };
            let candidates = read::candidates(state, target.id);
            let submitter = candidates.get(usize::try_from(rank).ok()?)?.submitter;
            Some(Subject { target: target.id, data_hash, work, submitter })
        })
        .collect()
}

fn verdicts(state: &dyn StateRead, me: &Address, published: &[Subject]) -> usize {
    let attested = |subject: &&Subject| read::verdict(state, subject.target, me).is_some();
    match read::clock(state).phase {
        Phase::Compete => published.iter().filter(|subject| !attested(subject)).count(),
        Phase::Attest => published.iter().filter(attested).count(),
        Phase::Reveal | Phase::Publish(_) => 0,
    }
}

fn verdicts_end_ms(state: &dyn StateRead) -> Option<u64> {
    let (clock, params) = (read::clock(state), read::params(state));
    let ends_ms = query::deadline_ms(state)?;
    let after_ms = match clock.phase {
        Phase::Reveal | Phase::Publish(_) => params.compete_ms(),
        Phase::Compete | Phase::Attest => 0,
    };
    let spare_ms = SPARE_MS.min(params.compete_ms() / 10);
    Some(ends_ms.saturating_add(after_ms).saturating_sub(spare_ms))
}
