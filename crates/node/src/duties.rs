//! What a validator does by itself: its part of the randomness, saying which files it holds, its verdicts, and reports of
//! those who sign two histories.
//!
//! Everything follows from the final state, so a restart forgets nothing and repeats nothing: what the state does not show yet
//! is due. It must never sign anything for a key that is not its own, nor a verdict that it did not compute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use soma_os::clock::now_ms;
use soma_protocol::action::HELD_FILES_MAX;
use soma_protocol::record::{TargetStatus, VerdictCommit};
use soma_protocol::record::{Validator, ValidatorStatus};
use soma_protocol::storage::{self, Challenge};
use soma_protocol::{
    Action, Address, Amount, Epoch, Hash, HeldFile, Phase, SecretKey, StateRead, TargetId,
    Transaction, commitment, query, read,
};

use crate::audit::Subject;
use crate::challenge;
use crate::faults::Faults;
use crate::node::Shared;

/// Looks at the state at least this often, in case a file was put in place by hand.
const ROUND: Duration = Duration::from_secs(2);
/// Time after which a duty that the state still does not show is sent again.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a duty may wait for a block, in milliseconds.
const VALID_MS: u64 = 60_000;

/// Follows the state until the node closes.
pub(crate) fn run(node: &Arc<Shared>) {
    let mut sent = BTreeMap::new();
    let mut swept = Epoch(0);
    let mut challenged = Challenged::default();
    let mut faults = Faults::new(node.faults());
    while !node.is_closed() {
        node.follow_files();
        let epoch = node.read(|state, _| read::clock(state).epoch);
        if epoch != swept {
            match node.weights.sweep() {
                Ok(()) => swept = epoch,
                Err(error) => tracing::warn!(%error, "files that nothing needs stay for now"),
            }
        }
        node.audits
            .follow(node.read(|state, _| published(state, &node.address)));
        if let Some(action) = challenged.answer(node) {
            send(node, &mut sent, vec![action]);
        }
        send_due(node, &mut sent, &mut faults);
        node.follow.bell.wait(ROUND);
    }
}

/// The answer to the epoch's challenge, computed once: it takes reading a whole file.
#[derive(Default)]
struct Challenged(Option<(Epoch, Challenge, Action)>);

impl Challenged {
    /// The answer that is due, if one is. A file that cannot be read is tried again the next time.
    fn answer(&mut self, node: &Shared) -> Option<Action> {
        let (epoch, asked) = node.read(|state, _| unanswered(node, state))?;
        let known = self.0.take().filter(|one| (one.0, one.1) == (epoch, asked));
        if known.is_none() {
            match challenge::answer(&node.weights, epoch, &asked) {
                Ok(action) => self.0 = Some((epoch, asked, action)),
                Err(error) => {
                    tracing::warn!(model = asked.model.0, %error, "challenge not answered");
                }
            }
        } else {
            self.0 = known;
        }
        self.0.as_ref().map(|(_, _, action)| action.clone())
    }
}

/// Sends what is due.
fn send_due(node: &Shared, sent: &mut BTreeMap<Hash, Instant>, faults: &mut Faults) {
    let due = node.read(|state, _| {
        let holds = |hash: &Hash| node.weights.holds(hash);
        let mut due = due(state, &node.key, holds);
        due.extend(verdicts(node, state));
        let reports = faults.due(state);
        if read::validator(state, &node.address).is_some() {
            due.extend(reports);
        }
        due
    });
    send(node, sent, due);
}

/// Sends what was not sent lately.
fn send(node: &Shared, sent: &mut BTreeMap<Hash, Instant>, mut due: Vec<Action>) {
    sent.retain(|_, at| at.elapsed() < PATIENCE);
    due.retain(|action| !sent.contains_key(&name(action)));
    let (nonce, timestamp_ms) = node.read(|state, _| {
        (
            read::account(state, &node.address).nonce,
            read::clock(state).phase_started_ms,
        )
    });
    for action in due {
        let key = name(&action);
        let transaction = Transaction {
            chain: node.chain,
            sender: node.address,
            nonce: node.pool.next_nonce(&node.address, nonce),
            fee_limit: Amount::ZERO,
            valid_until_ms: now_ms().max(timestamp_ms).saturating_add(VALID_MS),
            action,
        };
        let duty = transaction.action.name();
        for answer in node.admit(vec![transaction.sign(&node.key)]) {
            match answer {
                Ok(hash) => tracing::debug!(duty, %hash, "duty sent"),
                Err(refusal) => {
                    tracing::warn!(duty, %refusal, "duty not sent; it will be tried again");
                }
            }
        }
        sent.insert(key, Instant::now());
    }
}

/// Tells one action from every other.
fn name(action: &Action) -> Hash {
    Hash::of_bytes(&borsh::to_vec(action).unwrap_or_default())
}

/// This validator's randomness for an epoch: nobody can guess it, and the same node says the same after any restart.
fn beacon_value(key: &SecretKey, chain: &Hash, epoch: Epoch) -> Hash {
    Hash::of_parts(
        "soma beacon value",
        &[&key.to_bytes(), &chain.0, &epoch.0.to_le_bytes()],
    )
}

/// What a validator owes at this state, verdicts aside; nothing for anyone else.
fn due(state: &dyn StateRead, key: &SecretKey, holds: impl Fn(&Hash) -> bool) -> Vec<Action> {
    let (me, chain) = (key.address(), query::chain(state));
    let Some(validator) = read::validator(state, &me).filter(Validator::is_registered) else {
        return Vec::new();
    };
    let (id, epoch) = (chain.network.chain_id, chain.clock.epoch);
    let next = Epoch(epoch.0.saturating_add(1));
    let mut due = Vec::new();
    if read::beacon_commit(state, next, &me).is_none() {
        let commitment = commitment::beacon(&id, &me, next, &beacon_value(key, &id, next));
        due.push(Action::CommitBeacon {
            epoch: next,
            commitment,
        });
    }
    if chain.clock.phase.reveals() {
        let value = beacon_value(key, &id, epoch);
        let closed = read::beacon_commit(state, epoch, &me).filter(|beacon| beacon.value.is_none());
        // A commitment made with another key cannot be opened with this one.
        let ours = closed
            .filter(|beacon| beacon.commitment == commitment::beacon(&id, &me, epoch, &value));
        due.extend(ours.map(|_| Action::RevealBeacon { epoch, value }));
    }
    // Whoever was absent and is here again returns by itself.
    if matches!(validator.status, ValidatorStatus::Jailed { until } if epoch >= until) {
        due.push(Action::ReturnValidator {});
    }
    if !read::committee(state).seats_validator(&me) {
        return due;
    }
    let mut held: Vec<HeldFile> = read::commits(state, next)
        .into_iter()
        .filter(|(_, commit)| !commit.holders.contains(&me) && holds(&commit.ciphertext_hash))
        .map(|(model, commit)| HeldFile {
            model,
            ciphertext_hash: commit.ciphertext_hash,
        })
        .collect();
    held.extend(paid_files(state, &me, &holds));
    due.extend(held.chunks(HELD_FILES_MAX).map(|held| Action::HoldWeights {
        epoch: next,
        held: held.to_vec(),
    }));
    due
}

/// Files in use whose rent this validator would be paid for, if it said that it holds them.
fn paid_files(
    state: &dyn StateRead,
    me: &Address,
    holds: &impl Fn(&Hash) -> bool,
) -> Vec<HeldFile> {
    let held = read::models(state, 1..=u32::MAX).filter_map(|model| {
        let rent = read::rent(state, model.id)?;
        let paid = rent.prepaid > Amount::ZERO && !rent.holders.contains(me);
        let weights = read::weights(state, model.id, &model.weights.filter(|_| paid)?)?;
        holds(&weights.ciphertext_hash).then_some(HeldFile {
            model: model.id,
            ciphertext_hash: weights.ciphertext_hash,
        })
    });
    held.collect()
}

/// What the running epoch asks this validator to show, if it has not yet and could.
fn unanswered(node: &Shared, state: &dyn StateRead) -> Option<(Epoch, Challenge)> {
    let epoch = read::clock(state).epoch;
    let asked = storage::challenge(state, &node.address)?;
    let open = !storage::has_answered(state, epoch, &node.address);
    (open && node.weights.holds(&asked.ciphertext_hash)).then_some((epoch, asked))
}

/// How many transactions the node's validator still owes at this state, audits that are running included.
pub(crate) fn owed(node: &Shared, state: &dyn StateRead) -> usize {
    let me = &node.address;
    let audits = match read::clock(state).phase {
        Phase::Compete => published(state, me)
            .iter()
            .filter(|subject| verdict_commit(state, subject.target, me).is_none())
            .count(),
        Phase::Attest => published(state, me)
            .iter()
            .filter(|subject| verdict_commit(state, subject.target, me).is_some())
            .count(),
        _ => 0,
    };
    let answers = usize::from(unanswered(node, state).is_some());
    answers + audits + due(state, &node.key, |hash| node.weights.holds(hash)).len()
}

/// Published wins of the last epoch on which this validator has not shown its verdict.
fn published(state: &dyn StateRead, me: &Address) -> Vec<Subject> {
    if !read::committee(state).seats_validator(me) {
        return Vec::new();
    }
    let epoch = read::clock(state).epoch;
    let wins = read::targets(state, Epoch(epoch.0.saturating_sub(1)));
    let open = wins
        .into_iter()
        .filter(|target| matches!(target.status, TargetStatus::Published { .. }));
    let shown = |target| {
        verdict_commit(state, target, me)
            .is_some_and(|verdict_commit| verdict_commit.verdict.is_some())
    };
    open.filter(|target| !shown(target.id))
        .filter_map(|target| {
            let data_hash = read::publication(state, target.id)?.data_hash;
            Some(Subject {
                target: target.id,
                data_hash,
            })
        })
        .collect()
}

/// What this validator has said on a target.
fn verdict_commit(state: &dyn StateRead, target: TargetId, me: &Address) -> Option<VerdictCommit> {
    let verdicts = read::verdicts(state, target).0;
    verdicts
        .into_iter()
        .find(|verdict_commit| verdict_commit.validator == *me)
}

/// Findings that are computed and not on chain: in the attest phase what was committed to is shown, before it the
/// commitment is made.
fn verdicts(node: &Shared, state: &dyn StateRead) -> Vec<Action> {
    let (chain, me) = (query::chain(state), &node.address);
    let attests = match chain.clock.phase {
        Phase::Attest => true,
        Phase::Compete => false,
        // Data may still be published; one audit after the other comes soon enough.
        Phase::Reveal | Phase::Publish(_) => return Vec::new(),
    };
    let next = |subject: Subject| {
        let target = subject.target;
        let verdict = node.audits.verdict(&subject)?;
        let commitment = commitment::verdict(&chain.network.chain_id, me, target, &verdict);
        match verdict_commit(state, target, me) {
            None if !attests => Some(Action::CommitVerdict { target, commitment }),
            Some(ours) if attests && ours.commitment == commitment => {
                Some(Action::RevealVerdict { target, verdict })
            }
            _ => None,
        }
    };
    published(state, me).into_iter().filter_map(next).collect()
}
