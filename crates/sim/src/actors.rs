//! Who uses the simulated network: owners of models, submitters, validators at their duties, and
//! people who come and go. All of them act at random, on what the state says, and keep nothing in
//! mind: every secret follows from what it is for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use commonware_cryptography::{Hasher as _, blake3::Blake3};
use soma_engine::Pool;
use soma_protocol::{
    Action, Address, Amount, Architecture, ConsensusKey, Epoch, Genesis, GenesisAccount,
    GenesisModel, GenesisValidator, Hash, HeldFile, ModelId, Params, PoolId, SecretKey,
    SignedTransaction, StateRead, TargetId, Transaction, Validity, Verdict, VerifiedTransaction,
    action, commitment, read,
};

use crate::dice::Dice;

/// Validators of genesis. There is one more who may join.
pub const VALIDATORS: usize = 4;
/// All nodes.
pub const NODES: usize = VALIDATORS + 1;
const PEOPLE: u8 = 6;
/// The beginning of every history, in milliseconds since 1970.
pub const BEGINNING_MS: u64 = 1_767_225_600_000;
/// The longest wait for a transaction to be taken, in milliseconds.
pub(crate) const VALID_MS: u64 = 20_000;
const DATA_BYTES: u64 = 600;

/// The secret of a node: its account's, and the one it votes with.
#[expect(clippy::cast_possible_truncation, reason = "few nodes")]
pub const fn node_secret(node: usize) -> [u8; 32] {
    [100 + node as u8; 32]
}

fn person(index: u8) -> SecretKey {
    SecretKey::from_bytes(&[1 + index; 32])
}

pub(crate) fn consensus_key(node: usize) -> ConsensusKey {
    ConsensusKey(SecretKey::from_bytes(&node_secret(node)).address().0)
}

/// A direction of length one.
fn embedding(dim: usize, salt: usize) -> Vec<i16> {
    let mut embedding = vec![0; dim];
    if let Some(one) = embedding.get_mut(salt % dim.max(1)) {
        *one = i16::MAX;
    }
    embedding
}

fn dim() -> usize {
    usize::try_from(Architecture::nano().dim).unwrap_or(1)
}

/// What belongs to a name, and to nothing else.
fn secret(purpose: &str, parts: &[&[u8]]) -> Hash {
    Hash::of_parts(purpose, parts)
}

/// The chain that every history begins with.
pub fn genesis() -> Genesis {
    let money = |address| GenesisAccount {
        address,
        balance: Amount::soma(5_000),
    };
    let nodes = (0..NODES).map(|node| SecretKey::from_bytes(&node_secret(node)).address());
    let model = |index: u8| GenesisModel {
        owner: person(index).address(),
        name: format!("model {index}"),
        commission_bps: 1_000,
        stake: Amount::soma(10),
        weights_hash: Hash([index; 32]),
        ciphertext_hash: Hash([index + 100; 32]),
        size_bytes: 1_000,
        key: [index; 32],
        embedding: embedding(dim(), index.into()),
    };
    Genesis {
        chain: "sim".into(),
        timestamp_ms: BEGINNING_MS,
        params: Params::local(),
        architecture: Architecture::nano(),
        accounts: (0..PEOPLE)
            .map(|index| person(index).address())
            .chain(nodes)
            .map(money)
            .collect(),
        validators: (0..VALIDATORS)
            .map(|node| GenesisValidator {
                address: SecretKey::from_bytes(&node_secret(node)).address(),
                consensus_key: consensus_key(node),
                stake: Amount::soma(200),
            })
            .collect(),
        models: (0..2).map(model).collect(),
        operator: None,
    }
}

/// Everybody who acts.
#[derive(Debug)]
pub struct Cast {
    chain: Hash,
    dice: Dice,
}

impl Cast {
    /// The people of one history.
    pub fn new(chain: Hash, dice: Dice) -> Self {
        Self { chain, dice }
    }

    /// Somebody does something, allowed or not.
    pub fn act(&mut self, state: &dyn StateRead, now_ms: u64) -> SignedTransaction {
        let (key, action) = if self.dice.chance(450) {
            let node = self.dice.index(NODES);
            let key = SecretKey::from_bytes(&node_secret(node));
            let action = self.duty(state, node, &key.address());
            (key, action)
        } else {
            self.deed(state)
        };
        let nonce = read::account(state, &key.address()).nonce;
        let ahead = u64::from(self.dice.chance(150));
        let transaction = Transaction {
            chain: self.chain,
            sender: key.address(),
            nonce: nonce + ahead,
            fee_limit: Amount::soma(1),
            valid_until_ms: now_ms + VALID_MS,
            action,
        };
        transaction.sign(&key)
    }

    fn model(&mut self, state: &dyn StateRead) -> ModelId {
        let count = read::model_count(state);
        let id = self.dice.within(1..u64::from(count) + 2);
        ModelId(u32::try_from(id).unwrap_or(1))
    }

    fn target(&mut self, state: &dyn StateRead) -> TargetId {
        let epoch = read::clock(state).epoch;
        let back = u32::try_from(self.dice.within(0..2)).unwrap_or(0);
        let targets = read::targets(state, Epoch(epoch.0.saturating_sub(back)));
        match targets.len() {
            0 => TargetId(1),
            length => targets[self.dice.index(length)].id,
        }
    }

    /// What a validator does.
    fn duty(&mut self, state: &dyn StateRead, node: usize, me: &Address) -> Action {
        let epoch = read::clock(state).epoch;
        let next = Epoch(epoch.0 + 1);
        let value = |epoch: Epoch| secret("beacon", &[&me.0, &epoch.0.to_le_bytes()]);
        match self.dice.index(12) {
            0..=2 => Action::CommitBeacon(action::CommitBeacon {
                epoch: next,
                commitment: commitment::beacon(&self.chain, me, next, &value(next)),
            }),
            3..=5 => Action::RevealBeacon(action::RevealBeacon {
                epoch,
                value: value(epoch),
            }),
            6 | 7 => {
                let models = 1..=read::model_count(state);
                let held = models.map(|id| HeldFile {
                    model: ModelId(id),
                    ciphertext_hash: ciphertext(ModelId(id), next),
                });
                Action::HoldWeights(action::HoldWeights {
                    epoch: next,
                    held: held.collect(),
                })
            }
            8 => {
                let target = self.target(state);
                let verdict = verdict(target);
                Action::CommitVerdict(action::CommitVerdict {
                    target,
                    commitment: commitment::verdict(&self.chain, me, target, &verdict),
                })
            }
            9 => {
                let target = self.target(state);
                let verdict = verdict(target);
                Action::RevealVerdict(action::RevealVerdict { target, verdict })
            }
            _ => self.come_or_go(state, node, me),
        }
    }

    /// Seats are taken and given up, but never so many that one cheat is a third of them.
    fn come_or_go(&mut self, state: &dyn StateRead, node: usize, me: &Address) -> Action {
        let seats = read::committee(state);
        if seats.seats.len() > VALIDATORS && seats.seats_validator(me) && self.dice.chance(300) {
            return Action::LeaveValidator(action::LeaveValidator {});
        }
        if read::validator(state, me).is_some_and(|one| one.is_registered()) {
            return Action::ReturnValidator(action::ReturnValidator {});
        }
        let key = SecretKey::from_bytes(&node_secret(node));
        Action::RegisterValidator(action::RegisterValidator {
            consensus_key: consensus_key(node),
            proof: key.prove_possession(&self.chain, me),
            commission_bps: 500,
            stake: Amount::soma(100 + self.dice.within(0..200)),
        })
    }

    /// What people do.
    fn deed(&mut self, state: &dyn StateRead) -> (SecretKey, Action) {
        let one = self.dice.index(usize::from(PEOPLE));
        let key = person(u8::try_from(one).unwrap_or(0));
        let me = key.address();
        let action = match self.dice.index(20) {
            0..=7 => Action::Transfer(action::Transfer {
                to: person(u8::try_from(self.dice.index(usize::from(PEOPLE))).unwrap_or(0))
                    .address(),
                amount: Amount(self.dice.within(0..1_000_000_000)),
            }),
            8 => Action::RegisterModel(action::RegisterModel {
                name: format!("model of {one}"),
                commission_bps: 2_000,
                stake: Amount::soma(2),
            }),
            9 => Action::AddStake(action::AddStake {
                pool: PoolId::Model(self.model(state)),
                amount: Amount::soma(self.dice.within(0..20)),
            }),
            10 => Action::WithdrawStake(action::WithdrawStake {
                pool: PoolId::Model(self.model(state)),
                amount: Amount::soma(self.dice.within(0..20)),
            }),
            11 => Action::RetireModel(action::RetireModel {
                model: self.model(state),
            }),
            12 => Action::SetCommission(action::SetCommission {
                pool: PoolId::Model(self.model(state)),
                commission_bps: 3_000,
            }),
            13 | 14 => return self.commit(state, key),
            15 => self.reveal(state),
            16 | 17 => self.submit(state, &me),
            _ => {
                let target = self.target(state);
                let data = data(target, &me);
                let salt = secret("salt", &[&target.0.to_le_bytes(), &me.0]).0;
                Action::PublishData(action::PublishData { target, data, salt })
            }
        };
        (key, action)
    }

    /// Commits a model in its owner's name, if the owner is one of us.
    fn commit(&mut self, state: &dyn StateRead, key: SecretKey) -> (SecretKey, Action) {
        let model = self.model(state);
        let owner = read::model(state, model).map(|model| model.owner);
        let key = (0..PEOPLE)
            .map(person)
            .find(|key| Some(key.address()) == owner)
            .unwrap_or(key);
        let epoch = Epoch(read::clock(state).epoch.0 + 1);
        let embedding = embedding(dim(), model.0 as usize);
        let opening = commitment::CommittedWeights {
            model,
            owner: &key.address(),
            epoch,
            weights_hash: &weights(model),
            key: &weights_key(model),
            embedding: &embedding,
        };
        let action = Action::CommitWeights(action::CommitWeights {
            model,
            architecture: read::network(state).architecture_number,
            epoch,
            commitment: commitment::weights(&self.chain, &opening),
            ciphertext_hash: ciphertext(model, epoch),
            size_bytes: 1 << 20,
        });
        (key, action)
    }

    fn reveal(&mut self, state: &dyn StateRead) -> Action {
        let model = self.model(state);
        Action::RevealWeights(action::RevealWeights {
            model,
            key: weights_key(model),
            weights_hash: weights(model),
            embedding: embedding(dim(), model.0 as usize),
        })
    }

    fn submit(&mut self, state: &dyn StateRead, me: &Address) -> Action {
        let target = self.target(state);
        let routed = read::target(state, target).map_or(Vec::new(), |target| target.routed);
        let model = match routed.len() {
            0 => ModelId(1),
            length => routed[self.dice.index(length)].model,
        };
        let data = data(target, me);
        let size_bytes = u32::try_from(data.len()).unwrap_or(0);
        let salt = secret("salt", &[&target.0.to_le_bytes(), &me.0]).0;
        let data_hash = blake3_of(&data);
        Action::Submit(action::Submit {
            target,
            model,
            loss_q32: i64::try_from(self.dice.within(0..1 << 40)).unwrap_or(0),
            distance: self.dice.within(0..1 << 30),
            size_bytes,
            commitment: commitment::data(&self.chain, me, target, &data_hash, size_bytes, &salt),
        })
    }
}

fn blake3_of(bytes: &[u8]) -> Hash {
    Hash(Blake3::hash(&[bytes]).0)
}

fn weights(model: ModelId) -> Hash {
    secret("weights", &[&model.0.to_le_bytes()])
}

fn weights_key(model: ModelId) -> [u8; 32] {
    secret("key", &[&model.0.to_le_bytes()]).0
}

fn ciphertext(model: ModelId, epoch: Epoch) -> Hash {
    secret(
        "ciphertext",
        &[&model.0.to_le_bytes(), &epoch.0.to_le_bytes()],
    )
}

/// What all validators find: mostly that a claim is right.
fn verdict(target: TargetId) -> Verdict {
    let validity = if target.0.is_multiple_of(10) {
        Validity::Invalid
    } else {
        Validity::Valid
    };
    Verdict {
        validity,
        trace: secret("trace", &[&target.0.to_le_bytes()]),
        broken: Vec::new(),
    }
}

fn data(target: TargetId, submitter: &Address) -> Vec<u8> {
    let mut dice = Dice::new(u64::from(target.0), "data");
    let mut data: Vec<u8> = submitter.0.to_vec();
    while (data.len() as u64) < DATA_BYTES {
        data.extend(dice.bytes());
    }
    data
}

/// The transactions that one node knows of.
#[derive(Debug, Default)]
pub struct Queue(Mutex<BTreeMap<(Address, u64), VerifiedTransaction>>);

/// The most that a queue holds.
const QUEUE_MAX: usize = 400;

impl Queue {
    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<(Address, u64), VerifiedTransaction>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a transaction, if there is room.
    pub fn add(&self, transaction: VerifiedTransaction) {
        let mut waiting = self.waiting();
        let place = (
            transaction.transaction().sender,
            transaction.transaction().nonce,
        );
        if waiting.len() < QUEUE_MAX || waiting.contains_key(&place) {
            waiting.insert(place, transaction);
        }
    }

    /// Forgets what is final, and what can no longer become so.
    pub fn forget(&self, transactions: &[SignedTransaction], now_ms: u64) {
        let mut waiting = self.waiting();
        for signed in transactions {
            let transaction = &signed.transaction;
            waiting.remove(&(transaction.sender, transaction.nonce));
        }
        waiting.retain(|_, waiting| waiting.transaction().valid_until_ms >= now_ms);
    }
}

impl Pool for Queue {
    fn select(&self, state: &dyn StateRead, _: u64, max_bytes: usize) -> Vec<VerifiedTransaction> {
        let (mut left, mut next) = (max_bytes, BTreeMap::new());
        let waiting = self.waiting();
        let due = waiting.iter().filter(|((sender, nonce), _)| {
            let known = || read::account(state, sender).nonce;
            let next = next.entry(*sender).or_insert_with(known);
            let due = *next == *nonce;
            *next += u64::from(due);
            due
        });
        due.map_while(|(_, transaction)| {
            left = left.checked_sub(transaction.size_bytes())?;
            Some(transaction.clone())
        })
        .collect()
    }

    fn is_empty(&self) -> bool {
        self.waiting().is_empty()
    }
}
