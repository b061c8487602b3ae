//! What a validator does without being asked: it contributes to the beacon, attests the files it
//! holds, answers storage challenges, audits published claims and reports equivocation.
//!
//! Everything follows from the finalized state, so a restart forgets nothing and repeats nothing:
//! an action is due until the state shows it. It must never sign with another's key, nor sign a
//! verdict that it did not compute.

pub(crate) mod audit;
mod equivocation;
mod storage_challenge;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use soma_os::clock::now_ms;
use soma_protocol::action::HELD_FILES_MAX;
use soma_protocol::evidence::Evidence;
use soma_protocol::record::{TargetStatus, Validator, ValidatorStatus};
use soma_protocol::storage::{self, Challenge};
use soma_protocol::{
    Action, Address, Amount, Epoch, Hash, HeldFile, ModelId, Phase, SecretKey, StateRead, action,
    commitment, query, read,
};
use soma_sdk::signing::{Terms, Tip, sign};
use tokio::sync::{Notify, mpsc};

use self::audit::{Audits, Subject};
use self::equivocation::Equivocations;
use crate::chain::Chain;
use crate::mempool::Admission;
use crate::refusal::Refusal;
use crate::weights::{Ciphertext, WeightsStore};

/// The longest time between two checks of the state, in case a file was put in place by hand.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time after which an action is sent again if the state still does not show it.
const RESEND_AFTER: Duration = Duration::from_secs(10);
/// Time that is kept to bring a verdict onto the chain, in milliseconds; less if phases are short.
const SPARE_MS: u64 = 30_000;
/// How long an action may wait for a block, in milliseconds.
const VALID_MS: u64 = 60_000;

/// What the duties of this node's validator need.
pub(crate) struct Duties {
    pub(crate) key: SecretKey,
    pub(crate) chain: Arc<Chain>,
    pub(crate) weights: Arc<WeightsStore>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) admission: Arc<Admission>,
    /// Notified when the state or the files have changed, or an audit is done.
    pub(crate) wake: Arc<Notify>,
}

/// Performs what is due, again and again. `evidence` is what consensus finds against validators.
pub(crate) async fn run(duties: Arc<Duties>, evidence: Option<mpsc::Receiver<Evidence>>) {
    let mut sent = Sent::default();
    let mut swept = Epoch(0);
    let mut challenged = Challenged::default();
    let mut equivocations = Equivocations::new(evidence);
    loop {
        // A replaced or lapsed commit frees its file at once: it costs nothing to make.
        duties.weights.refresh(&duties.chain);
        let epoch = duties.chain.read(|state, _| read::clock(state).epoch);
        if duties.weights.is_unswept() || epoch != swept {
            match duties.weights.sweep() {
                Ok(()) => swept = epoch,
                Err(error) => tracing::warn!(%error, "cannot remove unneeded files yet"),
            }
        }
        let me = duties.address();
        let (published, ends_ms) =
            duties.chain.read(|state, _| (published(state, &me), verdicts_end_ms(state)));
        duties.audits.follow(published, ends_ms.map(instant_of));
        let mut due: Vec<Action> = challenged.answer(&duties).into_iter().collect();
        due.extend(duties.due(&mut equivocations));
        sent.send(&duties, due);
        let _elapsed = tokio::time::timeout(INTERVAL, duties.wake.notified()).await;
    }
}

/// The answer to the epoch's storage challenge, computed once because a whole file must be read.
#[derive(Default)]
struct Challenged(Option<(Epoch, Challenge, Action)>);

impl Challenged {
    /// The answer that is due, if one is. A file that cannot be read is tried again next time.
    fn answer(&mut self, duties: &Duties) -> Option<Action> {
        let (epoch, challenge) = duties.chain.read(|state, _| duties.unanswered(state))?;
        if let Some((_, _, action)) =
            self.0.as_ref().filter(|answered| (answered.0, answered.1) == (epoch, challenge))
        {
            return Some(action.clone());
        }
        match storage_challenge::answer(&duties.weights, epoch, &challenge) {
            Ok(action) => {
                self.0 = Some((epoch, challenge, action.clone()));
                Some(action)
            }
            Err(error) => {
                tracing::warn!(model = challenge.model.0, %error, "storage challenge not answered");
                None
            }
        }
    }
}

/// When each action was sent, by the hash of its bytes.
#[derive(Default)]
struct Sent(BTreeMap<Hash, Instant>);

impl Sent {
    /// Sends the actions that were not sent recently.
    fn send(&mut self, duties: &Duties, due: Vec<Action>) {
        self.0.retain(|_, at| at.elapsed() < RESEND_AFTER);
        for action in due {
            let id = Hash::of_bytes(&borsh::to_vec(&action).unwrap_or_default());
            if !self.0.contains_key(&id) && duties.send(action) {
                self.0.insert(id, Instant::now());
            }
        }
    }
}

impl Duties {
    fn address(&self) -> Address {
        self.key.address()
    }

    /// What this validator has to send at this state, storage challenges aside.
    fn due(&self, equivocations: &mut Equivocations) -> Vec<Action> {
        self.chain.read(|state, _| {
            let mut due = due(state, &self.key, |file| self.weights.holds(file));
            due.extend(self.verdicts(state));
            let reports = equivocations.due(state);
            if read::validator(state, &self.address()).is_some() {
                due.extend(reports);
            }
            due
        })
    }

    /// Sends an action; false if another one of its kind must be executed first.
    fn send(&self, action: Action) -> bool {
        let (sender, name) = (self.address(), action.name());
        let (nonce, phase_started_ms, params) = self.chain.read(|state, _| {
            let nonce = read::account(state, &sender).nonce;
            (nonce, read::clock(state).phase_started_ms, read::params(state))
        });
        let terms = Terms {
            chain: self.chain.id,
            nonce: self.admission.pool.next_nonce(&sender, nonce),
            tip: Tip::Exactly(Amount::ZERO),
            valid_until_ms: now_ms().max(phase_started_ms).saturating_add(VALID_MS),
        };
        let answers = self.admission.admit(vec![sign(action, &terms, &params, &self.key)]);
        for answer in answers {
            match answer {
                Ok(hash) => tracing::debug!(name, %hash, "sent"),
                Err(Refusal::DutyWaiting) => return false,
                Err(refusal) => tracing::warn!(name, %refusal, "not sent; retrying"),
            }
        }
        true
    }

    /// The current epoch's challenge to this validator, if it is unanswered and can be answered.
    fn unanswered(&self, state: &dyn StateRead) -> Option<(Epoch, Challenge)> {
        let (epoch, me) = (read::clock(state).epoch, self.address());
        let challenge = storage::challenge(state, &me)?;
        let open = !storage::has_answered(state, epoch, &me);
        let held = self.weights.holds(&Ciphertext::from(&challenge));
        (open && held).then_some((epoch, challenge))
    }

    /// How many transactions are due at this state, including those for running audits.
    pub(crate) fn outstanding(&self, state: &dyn StateRead) -> usize {
        let me = &self.address();
        let attested = |subject: &&Subject| read::verdict(state, subject.target, me).is_some();
        let published = published(state, me);
        let audits = match read::clock(state).phase {
            Phase::Compete => published.iter().filter(|subject| !attested(subject)).count(),
            Phase::Attest => published.iter().filter(attested).count(),
            _ => 0,
        };
        let answers = usize::from(self.unanswered(state).is_some());
        answers + audits + due(state, &self.key, |file| self.weights.holds(file)).len()
    }

    /// Verdicts that are computed but not on chain: they are committed before the attest phase and
    /// revealed in it.
    fn verdicts(&self, state: &dyn StateRead) -> Vec<Action> {
        let (chain, me) = (query::chain(state), self.address());
        let attests = match chain.clock.phase {
            Phase::Attest => true,
            Phase::Compete => false,
            // Data may still be published; there is time for audits later.
            Phase::Reveal | Phase::Publish(_) => return Vec::new(),
        };
        let next = |subject: Subject| {
            let target = subject.target;
            let verdict = self.audits.verdict(&subject)?;
            let commitment = commitment::verdict(&chain.network.chain_id, &me, target, &verdict);
            match read::verdict(state, target, &me) {
                None if !attests => {
                    Some(Action::CommitVerdict(action::CommitVerdict { target, commitment }))
                }
                Some(ours) if attests && ours.commitment == commitment => {
                    Some(Action::RevealVerdict(action::RevealVerdict { target, verdict }))
                }
                _ => None,
            }
        };
        published(state, &me).into_iter().filter_map(next).collect()
    }
}

/// This validator's contribution to the beacon of an epoch: unpredictable, and the same after a
/// restart.
fn beacon_value(key: &SecretKey, chain: &Hash, epoch: Epoch) -> Hash {
    Hash::of_parts("soma beacon value", &[&key.to_bytes(), &chain.0, &epoch.0.to_le_bytes()])
}

/// What a validator has to send at this state, verdicts aside; nothing for other accounts.
fn due(state: &dyn StateRead, key: &SecretKey, holds: impl Fn(&Ciphertext) -> bool) -> Vec<Action> {
    let (me, chain) = (key.address(), query::chain(state));
    let Some(validator) = read::validator(state, &me).filter(Validator::is_registered) else {
        return Vec::new();
    };
    let (id, epoch) = (chain.network.chain_id, chain.clock.epoch);
    let next = Epoch(epoch.0.saturating_add(1));
    let has_seat = read::committee(state).seats_validator(&me);
    let mut due = Vec::new();
    if has_seat && read::beacon_commit(state, next, &me).is_none() {
        let commitment = commitment::beacon(&id, &me, next, &beacon_value(key, &id, next));
        due.push(Action::CommitBeacon(action::CommitBeacon { epoch: next, commitment }));
    }
    if chain.clock.phase.reveals() {
        let value = beacon_value(key, &id, epoch);
        let hidden = read::beacon_commit(state, epoch, &me).filter(|beacon| beacon.value.is_none());
        // A commitment made with another key cannot be revealed with this one.
        let ours = hidden
            .filter(|beacon| beacon.commitment == commitment::beacon(&id, &me, epoch, &value));
        due.extend(ours.map(|_| Action::RevealBeacon(action::RevealBeacon { epoch, value })));
    }
    // A validator that was jailed for absence returns by itself, if its account can pay for that.
    if validator.status == ValidatorStatus::Jailed && epoch >= validator.jailed_until {
        due.push(Action::ReturnValidator(action::ReturnValidator {}));
    }
    if !has_seat {
        return due;
    }
    let mut held: BTreeSet<(ModelId, Ciphertext)> = read::commits(state, next)
        .iter()
        .filter(|(_, commit)| !commit.holders.contains(&me))
        .map(|(model, commit)| (*model, Ciphertext::from(commit)))
        .collect();
    held.extend(paid_files(state, &me));
    let held = held.into_iter().filter(|(_, file)| holds(file));
    let held: Vec<HeldFile> = held.map(|(model, file)| file.held_for(model)).collect();
    due.extend(
        held.chunks(HELD_FILES_MAX).map(|held| {
            Action::HoldWeights(action::HoldWeights { epoch: next, held: held.to_vec() })
        }),
    );
    due
}

/// Files in use that earn this validator rent once it attests to holding them.
fn paid_files(state: &dyn StateRead, me: &Address) -> Vec<(ModelId, Ciphertext)> {
    let held = read::living_models(state).filter_map(|model| {
        let rent = read::rent(state, model.id)?;
        let paid = rent.prepaid > Amount::ZERO && !rent.holders.contains(me);
        let weights = read::weights(state, model.id, &model.weights.filter(|_| paid)?)?;
        Some((model.id, Ciphertext::from(&weights.file())))
    });
    held.collect()
}

/// Published claims of the last epoch on which this validator has not revealed its verdict.
fn published(state: &dyn StateRead, me: &Address) -> Vec<Subject> {
    if !read::committee(state).seats_validator(me) {
        return Vec::new();
    }
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

/// Block time until which a verdict that is computed now can reach the chain, with some time to
/// spare; `None` if the operator ends phases.
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

/// When this machine's clock shows this time; now if it has passed.
fn instant_of(time_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(time_ms.saturating_sub(now_ms()))
}
