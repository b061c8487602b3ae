//! What a validator does without being asked: it contributes to the beacon, attests the files it
//! holds, answers storage challenges, audits published claims and reports equivocation.
//!
//! Everything follows from the finalized state, so a restart forgets nothing and repeats nothing:
//! an action is due until the state shows it. It must never sign with another's key, nor sign a
//! verdict that it did not compute.

pub(crate) mod audit;
pub(crate) mod beacon;
mod standing;
mod equivocation;
mod storage_challenge;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use soma_os::clock::now_ms;
use soma_protocol::action::HELD_FILES_MAX;
use soma_protocol::evidence::Evidence;
use soma_protocol::storage::Challenge;
use soma_protocol::{
    Action, Address, Amount, ConsensusKey, Endpoints, Epoch, Hash, HeldFile, Phase, SecretKey,
    StateRead, action, commitment, query, read,
};
use soma_sdk::Secret;
use soma_sdk::signing::{Terms, Tip, sign};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use self::audit::{Audits, Subject};
use self::equivocation::Equivocations;
pub(crate) use self::standing::Standing;
use crate::chain::{self, Chain};
use crate::error::NodeError;
use crate::mempool::Admission;
use crate::refusal::Refusal;
use crate::weights::{Ciphertext, WeightsStore};

/// The longest time between two checks of the state, in case a file was put in place by hand.
const INTERVAL: Duration = Duration::from_secs(2);
/// Time after which an action is sent again if the state still does not show it.
const RESEND_AFTER: Duration = Duration::from_secs(10);
/// How long an action may wait for a block, in milliseconds.
const VALID_MS: u64 = 60_000;

/// What the duties of this node's validator need.
pub(crate) struct Duties {
    /// The keys that are here; the first one that may signs.
    pub(crate) keys: DutyKeys,
    /// What its beacons follow from.
    pub(crate) secret: Secret,
    pub(crate) chain: Arc<Chain>,
    pub(crate) weights: Arc<WeightsStore>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) admission: Arc<Admission>,
    /// What is due after the last block that was looked at.
    pub(crate) standing: watch::Sender<Arc<Standing>>,
    /// After which block how many transactions are due.
    pub(crate) outstanding: watch::Sender<(u64, usize)>,
    /// Notified when what is due or the files have changed, or an audit is done.
    pub(crate) wake: Arc<Notify>,
    /// Where its operator says that it is reached; `None` if the chain is left as it is.
    pub(crate) endpoints: Option<Endpoints>,
}

/// Performs what is due, again and again. `evidence` is what consensus finds against validators.
pub(crate) async fn run(duties: Arc<Duties>, evidence: Option<mpsc::Receiver<Evidence>>) {
    let mut sent = Sent::default();
    let mut swept = Epoch(0);
    let mut challenged = Challenged::default();
    let mut equivocations = Equivocations::new(evidence);
    loop {
        let standing = Arc::clone(&*duties.standing.borrow());
        duties.count(&standing);
        // A replaced or lapsed commit frees its file at once: it costs nothing to make.
        if duties.weights.is_unswept() || standing.epoch != swept {
            match duties.weights.sweep() {
                Ok(()) => swept = standing.epoch,
                Err(error) => tracing::warn!(%error, "cannot remove unneeded files yet"),
            }
        }
        duties.audits.follow(standing.published.clone(), standing.verdicts_end_ms.map(instant_of));
        let answer = challenged.answer(&duties, &standing).await;
        let mut due: Vec<Action> = answer.into_iter().collect();
        due.extend(duties.due(&standing, &mut equivocations));
        sent.send(&duties, due);
        let _elapsed = tokio::time::timeout(INTERVAL, duties.wake.notified()).await;
    }
}

/// A thread that reads a file for the answer to a challenge.
type Reading = JoinHandle<Result<Action, NodeError>>;

/// The answer to the epoch's storage challenge, computed once, on a thread of its own: a whole file
/// is read for it, or a slow cold store.
#[derive(Default)]
struct Challenged {
    answer: Option<(Epoch, Challenge, Action)>,
    reading: Option<(Epoch, Challenge, Reading)>,
    failed: Option<Instant>,
}

impl Challenged {
    /// The answer that is due, if one is and is computed. A file that cannot be read is tried again
    /// later.
    async fn answer(&mut self, duties: &Arc<Duties>, standing: &Standing) -> Option<Action> {
        let (epoch, challenge) = (standing.epoch, duties.answerable(standing)?);
        self.take().await;
        let answer = self.answer.as_ref().filter(|known| (known.0, known.1) == (epoch, challenge));
        if let Some((_, _, action)) = answer {
            return Some(action.clone());
        }
        let is_paused = self.failed.is_some_and(|at| at.elapsed() < RESEND_AFTER);
        if self.reading.is_none() && !is_paused {
            let of_thread = Arc::clone(duties);
            let reading = tokio::task::spawn_blocking(move || {
                let answer = storage_challenge::answer(&of_thread.weights, epoch, &challenge);
                of_thread.wake.notify_one();
                answer
            });
            self.reading = Some((epoch, challenge, reading));
        }
        None
    }

    /// Takes over what was computed meanwhile.
    async fn take(&mut self) {
        let done = self.reading.take_if(|(_, _, reading)| reading.is_finished());
        let Some((epoch, challenge, reading)) = done else { return };
        match reading.await {
            Ok(Ok(action)) => (self.answer, self.failed) = (Some((epoch, challenge, action)), None),
            Ok(Err(error)) => {
                tracing::warn!(model = challenge.model.0, %error, "storage challenge not answered");
                self.failed = Some(Instant::now());
            }
            Err(_) => self.failed = Some(Instant::now()),
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

/// The keys of a node: one that it votes with, and those that can sign its duties.
pub(crate) struct DutyKeys {
    /// The key that it votes with.
    pub(crate) consensus: ConsensusKey,
    /// The duty key, or that of the account if there is none.
    pub(crate) first: SecretKey,
    /// The account's, if both are here.
    pub(crate) account: Option<SecretKey>,
}

impl DutyKeys {
    /// The key that signs: one that acts for the validator that this node votes for, if it votes
    /// for one.
    fn signer(&self, state: &dyn StateRead) -> &SecretKey {
        let holder = read::key_holder(state, &self.consensus);
        let may = |key: &&SecretKey| Some(read::acts_for(state, &key.address())) == holder;
        [Some(&self.first), self.account.as_ref()]
            .into_iter()
            .flatten()
            .find(may)
            .unwrap_or(&self.first)
    }

    /// The validator that this node votes for but whose duties it may not send, if there is one,
    /// and the address of the key that it has.
    pub(crate) fn barred(&self, state: &dyn StateRead) -> Option<(Address, Address)> {
        let holder = read::key_holder(state, &self.consensus)?;
        let validator = read::validator(state, &holder)?;
        let votes = validator.is_registered() && validator.consensus_key == self.consensus;
        let signer = self.signer(state).address();
        (votes && read::acts_for(state, &signer) != holder).then_some((holder, signer))
    }
}

impl Duties {
    /// The validator whose duties this node sends.
    pub(crate) fn validator(&self, state: &dyn StateRead) -> Address {
        read::acts_for(state, &self.keys.signer(state).address())
    }

    /// Takes over what is due after a block.
    pub(crate) fn stand(&self, standing: Standing) {
        let standing = Arc::new(standing);
        self.count(&standing);
        self.standing.send_replace(standing);
        self.wake.notify_one();
    }

    /// Attestations of files that are here.
    fn attestations(&self, standing: &Standing) -> Vec<Action> {
        let held = standing.unattested.iter().filter(|(_, file)| self.weights.can_show(file));
        let held: Vec<HeldFile> = held.map(|(model, file)| file.held_for(*model)).collect();
        let epoch = standing.epoch.next();
        held.chunks(HELD_FILES_MAX)
            .map(|held| Action::HoldWeights(action::HoldWeights { epoch, held: held.to_vec() }))
            .collect()
    }

    /// What this validator has to send, storage challenges aside.
    fn due(&self, standing: &Standing, equivocations: &mut Equivocations) -> Vec<Action> {
        let mut due = standing.actions.clone();
        due.extend(self.attestations(standing));
        self.chain.read(|state, _| {
            due.extend(self.verdicts(state, standing));
            let reports = equivocations.due(state);
            if read::validator(state, &self.validator(state)).is_some() {
                due.extend(reports);
            }
        });
        due
    }

    /// Sends an action; false if another one of its kind must be executed first.
    fn send(&self, action: Action) -> bool {
        let name = action.name();
        let (key, nonce, phase_started_ms, params) = self.chain.read(|state, _| {
            let key = self.keys.signer(state).clone();
            let nonce = read::account(state, &key.address()).nonce;
            (key, nonce, read::clock(state).phase_started_ms, read::params(state))
        });
        let terms = Terms {
            chain: self.chain.id,
            nonce: self.admission.pool.next_nonce(&key.address(), nonce),
            tip: Tip::Exactly(Amount::ZERO),
            valid_until_ms: now_ms().max(phase_started_ms).saturating_add(VALID_MS),
        };
        let answers = self.admission.admit(vec![sign(action, &terms, &params, &key)]);
        for answer in answers {
            match answer {
                Ok(hash) => tracing::debug!(name, %hash, "sent"),
                Err(Refusal::DutyWaiting) => return false,
                Err(refusal) => tracing::warn!(name, %refusal, "not sent; retrying"),
            }
        }
        true
    }

    /// The epoch's challenge to this validator, if it is unanswered and can be answered.
    fn answerable(&self, standing: &Standing) -> Option<Challenge> {
        let holds = |challenge: &Challenge| self.weights.holds(&Ciphertext::from(challenge));
        standing.challenge.filter(holds)
    }

    /// Counts the transactions that are due, including those for running audits.
    fn count(&self, standing: &Standing) {
        let answers = usize::from(self.answerable(standing).is_some());
        let count = answers
            + standing.verdicts
            + standing.actions.len()
            + self.attestations(standing).len();
        // Somebody else may have counted after a later block meanwhile.
        self.outstanding.send_if_modified(|counted| {
            let later = counted.0 <= standing.height;
            if later {
                *counted = (standing.height, count);
            }
            later
        });
    }

    /// How many transactions are due after the block at this height or a later one.
    pub(crate) async fn outstanding_at(&self, height: u64) -> usize {
        chain::first(&mut self.outstanding.subscribe(), |(counted, _)| *counted >= height).await.1
    }

    /// Verdicts that are computed but not on chain: they are committed before the attest phase and
    /// revealed in it.
    fn verdicts(&self, state: &dyn StateRead, standing: &Standing) -> Vec<Action> {
        let (chain, me) = (query::chain(state), self.validator(state));
        let attests = match chain.clock.phase {
            Phase::Attest => true,
            Phase::Compete => false,
            // Data may still be published; there is time for audits later.
            Phase::Reveal | Phase::Publish(_) => return Vec::new(),
        };
        let next = |subject: &Subject| {
            let target = subject.target;
            let verdict = self.audits.verdict(subject)?;
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
        standing.published.iter().filter_map(next).collect()
    }
}

/// When this machine's clock shows this time; now if it has passed.
fn instant_of(time_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(time_ms.saturating_sub(now_ms()))
}
