//! The users of a simulated network: owners of models, submitters, and validators with duties. They
//! act at random on what the state shows, validly or not, and remember nothing: every secret is
//! derived from its purpose.

use commonware_cryptography::{Hasher as _, blake3::Blake3};
use rand::{RngExt as _, SeedableRng as _, rngs::Xoshiro256PlusPlus, seq::IndexedRandom as _};
use soma_protocol::{
    Action, Address, Amount, Epoch, Hash, HeldFile, ModelId, PoolId, SecretKey, SignedTransaction,
    StateRead, TargetId, Transaction, Validity, Verdict, action, commitment, corpus, read,
};

use crate::genesis::{
    BREAKER, NODES, USERS, VALIDATORS, attacker_key, consensus_key, embedding, node_key, user_key,
};

/// How long a transaction is valid, in milliseconds.
pub const VALID_MS: u64 = 20_000;
pub(crate) const DATA_BYTES: u32 = 600;
/// Documents in the corpus of every user; the last one is long.
pub(crate) const DOCUMENTS: u32 = 64;
/// The document that only one validator manages to audit, and its length.
pub(crate) const LONG_DOCUMENT: u32 = DOCUMENTS - 1;
const LONG_BYTES: u32 = 8 * DATA_BYTES;
pub(crate) const FILE_BYTES: u64 = 1 << 20;

/// Everyone who sends transactions.
#[derive(Debug)]
pub struct Actors {
    chain: Hash,
    rng: Xoshiro256PlusPlus,
}

impl Actors {
    /// The actors of one history.
    pub fn new(chain: Hash, rng: Xoshiro256PlusPlus) -> Self {
        Self { chain, rng }
    }

    /// The next transaction, by any sender, allowed by the rules or not.
    pub fn act(&mut self, state: &dyn StateRead, now_ms: u64) -> SignedTransaction {
        let (key, action) = if self.rng.random_ratio(45, 100) {
            let node = self.rng.random_range(0..NODES);
            let key = node_key(node);
            let action = self.validator_action(state, node, &key.address());
            (key, action)
        } else {
            self.user_action(state)
        };
        let nonce = read::account(state, &key.address()).nonce;
        let ahead = u64::from(self.rng.random_ratio(15, 100));
        let is_duty = action.is_duty();
        let transaction = Transaction {
            chain: self.chain,
            sender: key.address(),
            nonce: if is_duty { 0 } else { nonce + ahead },
            tip: Amount::ZERO,
            fee_limit: if is_duty { Amount::ZERO } else { Amount::soma(1) },
            valid_until_ms: now_ms + VALID_MS,
            action,
        };
        transaction.sign(&key)
    }

    /// A model, or an id that is still free.
    fn model(&mut self, state: &dyn StateRead) -> ModelId {
        ModelId(self.rng.random_range(1..read::model_count(state) + 2))
    }

    /// A target of this epoch or the last.
    fn target(&mut self, state: &dyn StateRead) -> TargetId {
        let epoch = read::clock(state).epoch;
        let back = self.rng.random_range(0..2);
        let targets = read::targets(state, Epoch(epoch.0.saturating_sub(back)));
        let target = targets.choose(&mut self.rng);
        target.map_or(TargetId(1), |target| target.id)
    }

    fn validator_action(&mut self, state: &dyn StateRead, node: usize, sender: &Address) -> Action {
        let epoch = read::clock(state).epoch;
        let next = Epoch(epoch.0 + 1);
        let value = |epoch: Epoch| beacon_value(sender, epoch);
        match self.rng.random_range(0..12) {
            0..=2 => Action::CommitBeacon(action::CommitBeacon {
                epoch: next,
                commitment: commitment::beacon(&self.chain, sender, next, &value(next)),
            }),
            3..=5 => Action::RevealBeacon(action::RevealBeacon { epoch, value: value(epoch) }),
            6 | 7 => {
                let models = 1..=read::model_count(state);
                let held = models.map(|id| HeldFile {
                    model: ModelId(id),
                    ciphertext_hash: ciphertext(ModelId(id), next),
                    size_bytes: FILE_BYTES,
                });
                Action::HoldWeights(action::HoldWeights { epoch: next, held: held.collect() })
            }
            8 => {
                let target = self.target(state);
                let verdict = verdict(state, target);
                Action::CommitVerdict(action::CommitVerdict {
                    target,
                    commitment: commitment::verdict(&self.chain, sender, target, &verdict),
                })
            }
            9 => {
                let target = self.target(state);
                let verdict = verdict(state, target);
                Action::RevealVerdict(action::RevealVerdict { target, verdict })
            }
            _ => self.join_or_leave(state, node, sender),
        }
    }

    /// Registers or leaves, but never in a way that gives one adversary a third of the seats.
    fn join_or_leave(&mut self, state: &dyn StateRead, node: usize, sender: &Address) -> Action {
        let seats = read::committee(state);
        let can_leave = seats.seats.len() > VALIDATORS && seats.seats_validator(sender);
        if can_leave && self.rng.random_ratio(3, 10) {
            return Action::LeaveValidator(action::LeaveValidator {});
        }
        if read::validator(state, sender).is_some_and(|validator| validator.is_registered()) {
            return Action::ReturnValidator(action::ReturnValidator {});
        }
        Action::RegisterValidator(action::RegisterValidator {
            consensus_key: consensus_key(node),
            proof: node_key(node).prove_possession(&self.chain, sender),
            commission_bps: 500,
            stake: Amount::soma(self.rng.random_range(160..300)),
        })
    }

    fn user_action(&mut self, state: &dyn StateRead) -> (SecretKey, Action) {
        let user = self.rng.random_range(0..USERS);
        let key = user_key(user);
        let sender = key.address();
        let action = match self.rng.random_range(0..21) {
            0..=7 => Action::Transfer(action::Transfer {
                to: user_key(self.rng.random_range(0..USERS)).address(),
                amount: Amount(self.rng.random_range(0..1_000_000_000)),
            }),
            8 => Action::RegisterModel(action::RegisterModel {
                name: format!("model of {user}"),
                commission_bps: 2_000,
                stake: Amount::soma(2),
            }),
            9 => Action::AddStake(action::AddStake {
                pool: PoolId::Model(self.model(state)),
                amount: Amount::soma(self.rng.random_range(0..20)),
            }),
            10 => Action::WithdrawStake(action::WithdrawStake {
                pool: PoolId::Model(self.model(state)),
                amount: Amount::soma(self.rng.random_range(0..20)),
            }),
            11 => Action::RetireModel(action::RetireModel { model: self.model(state) }),
            12 => Action::SetCommission(action::SetCommission {
                pool: PoolId::Model(self.model(state)),
                commission_bps: 3_000,
            }),
            13 | 14 => return self.commit_weights(state, key),
            15 => self.reveal_weights(state),
            16 | 17 => self.submit(state, &sender),
            18 => Action::CommitCorpus(action::CommitCorpus {
                root: corpus::root(&leaves(&sender)).unwrap_or_default(),
                leaves: DOCUMENTS,
            }),
            _ => {
                let target = self.target(state);
                Action::PublishData(action::PublishData {
                    target,
                    data: data(document(target), &sender),
                    salt: salt(target, &sender),
                    index: document(target),
                    leaf_salt: leaf_salt(&sender),
                    path: corpus::path(&leaves(&sender), document(target)).unwrap_or_default(),
                })
            }
        };
        (key, action)
    }

    /// Commits weights of a model, signed by its owner if that is a user, else by `key`.
    fn commit_weights(&mut self, state: &dyn StateRead, key: SecretKey) -> (SecretKey, Action) {
        let model = self.model(state);
        let owner = read::model(state, model).map(|model| model.owner);
        let mut users = (0..USERS).map(user_key);
        let key = users.find(|user| Some(user.address()) == owner).unwrap_or(key);
        let epoch = Epoch(read::clock(state).epoch.0 + 1);
        let architecture = read::network(state).architecture_number;
        let action = commit_weights(&self.chain, &key, model, architecture, epoch);
        let action = Action::CommitWeights(action);
        (key, action)
    }

    fn reveal_weights(&mut self, state: &dyn StateRead) -> Action {
        let model = self.model(state);
        Action::RevealWeights(reveal_weights(model))
    }

    fn submit(&mut self, state: &dyn StateRead, sender: &Address) -> Action {
        let target = self.target(state);
        let routed = read::target(state, target).map_or(Vec::new(), |target| target.routed);
        let model = routed.choose(&mut self.rng);
        let data = data(document(target), sender);
        let size_bytes = u32::try_from(data.len()).unwrap_or(0);
        let hash = Hash(Blake3::hash(&[&data]).0);
        let salt = salt(target, sender);
        Action::Submit(action::Submit {
            target,
            model: model.map_or(ModelId(1), |entry| entry.model),
            loss_q32: self.rng.random_range(0..1 << 40),
            gain_q32: self.rng.random_range(0..1 << 34),
            distance: self.rng.random_range(0..1 << 30),
            size_bytes,
            commitment: commitment::data(&self.chain, sender, target, &hash, size_bytes, &salt),
        })
    }
}

/// An owner's commit of a model's weights for an epoch.
pub(crate) fn commit_weights(
    chain: &Hash,
    owner: &SecretKey,
    model: ModelId,
    architecture: u32,
    epoch: Epoch,
) -> action::CommitWeights {
    let opening = commitment::CommittedWeights {
        model,
        owner: &owner.address(),
        epoch,
        weights_hash: &weights(model),
        ciphertext_hash: &ciphertext(model, epoch),
        size_bytes: FILE_BYTES,
        key: &weights_key(model),
        specialization: &embedding(model.0 as usize),
    };
    action::CommitWeights {
        model,
        architecture,
        epoch,
        commitment: commitment::weights(chain, &opening),
        ciphertext_hash: ciphertext(model, epoch),
        size_bytes: FILE_BYTES,
    }
}

/// Its reveal.
pub(crate) fn reveal_weights(model: ModelId) -> action::RevealWeights {
    action::RevealWeights {
        model,
        key: weights_key(model),
        weights_hash: weights(model),
        specialization: embedding(model.0 as usize),
    }
}

/// A value that depends only on its purpose.
fn secret(purpose: &str, parts: &[&[u8]]) -> Hash {
    Hash::of_parts(purpose, parts)
}

/// A validator's part of an epoch's beacon.
pub(crate) fn beacon_value(validator: &Address, epoch: Epoch) -> Hash {
    secret("beacon", &[&validator.0, &epoch.0.to_le_bytes()])
}

fn weights(model: ModelId) -> Hash {
    secret("weights", &[&model.0.to_le_bytes()])
}

fn weights_key(model: ModelId) -> [u8; 32] {
    secret("key", &[&model.0.to_le_bytes()]).0
}

pub(crate) fn ciphertext(model: ModelId, epoch: Epoch) -> Hash {
    secret("ciphertext", &[&model.0.to_le_bytes(), &epoch.0.to_le_bytes()])
}

pub(crate) fn salt(target: TargetId, submitter: &Address) -> [u8; 32] {
    secret("salt", &[&target.0.to_le_bytes(), &submitter.0]).0
}

pub(crate) fn leaf_salt(submitter: &Address) -> [u8; 32] {
    secret("leaf salt", &[&submitter.0]).0
}

/// The place in its corpus of the document that a submitter submits for a target.
fn document(target: TargetId) -> u32 {
    target.0 % DOCUMENTS
}

/// The leaves of a submitter's corpus.
pub(crate) fn leaves(submitter: &Address) -> Vec<Hash> {
    let leaf = |document| {
        let data = data(document, submitter);
        let size_bytes = u32::try_from(data.len()).unwrap_or(0);
        corpus::leaf(&Hash(Blake3::hash(&[&data]).0), size_bytes, &leaf_salt(submitter))
    };
    (0..DOCUMENTS).map(leaf).collect()
}

/// A document of a submitter.
pub(crate) fn data(document: u32, submitter: &Address) -> Vec<u8> {
    let seed = secret("document", &[&submitter.0, &document.to_le_bytes()]);
    let bytes = if document == LONG_DOCUMENT { LONG_BYTES } else { DATA_BYTES };
    let mut data = vec![0; bytes as usize];
    Xoshiro256PlusPlus::from_seed(seed.0).fill(&mut data[..]);
    data
}

/// The verdict that every validator reaches: nine out of ten claims are valid, and the files of
/// breakers are broken.
pub(crate) fn verdict(state: &dyn StateRead, target: TargetId) -> Verdict {
    let validity = if target.0.is_multiple_of(10) { Validity::Invalid } else { Validity::Valid };
    let trace = secret("trace", &[&target.0.to_le_bytes()]);
    let routed = read::target(state, target).map_or(Vec::new(), |target| target.routed);
    let breaker = attacker_key(BREAKER, 0).address();
    let is_broken = |model| read::model(state, model).is_some_and(|one| one.owner == breaker);
    let places = routed.iter().enumerate().filter(|(_, routed)| is_broken(routed.model));
    Verdict { validity, trace, broken: places.map(|(place, _)| place).collect() }
}
