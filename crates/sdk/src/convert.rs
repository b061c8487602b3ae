//! From the protocol's records to the API's JSON: one reading of the state for every node.
//!
//! Nothing here decides anything; a number that is not in the records is not in the answers.

use soma_protocol::record::{self, TargetStatus as Fate};
use soma_protocol::{
    Address, Amount, Epoch as EpochId, ModelId, Read, SUPPLY, SignedTransaction, TargetId, view,
};

use crate::cursor::Cursor;
use crate::text::{Text, U64};
use crate::types::{
    Account, Age, Candidate, Clock, Commit, Epoch, Event, Model, ModelStatus, Payment, Publication,
    Receipt, Rejection, Returned, Routed, Supply, Target, TargetStatus, Transaction,
    TransactionState, Vector, Weights,
};
use crate::validators::Rent;

impl From<Amount> for U64 {
    fn from(amount: Amount) -> Self {
        Text(amount.0)
    }
}

impl From<U64> for Amount {
    fn from(text: U64) -> Self {
        Self(text.0)
    }
}

impl Clock {
    /// Where the competition stands.
    pub fn read(state: &dyn Read) -> Self {
        let chain = view::chain(state);
        let epoch = view::epoch(state, chain.clock.epoch);
        Self {
            epoch: chain.clock.epoch.0,
            phase: Text(chain.clock.phase),
            ends_ms: chain.deadline_ms.map(Text),
            beacon: epoch.map(|epoch| Text(epoch.beacon)),
        }
    }
}

impl Supply {
    /// Where the money is. `held` is the sum over all records that hold money.
    pub fn read(state: &dyn Read, held: Amount) -> Self {
        let record::Supply { reserve, burned } = view::supply(state);
        let sum = [reserve, burned, held]
            .iter()
            .map(|part| u128::from(part.0))
            .sum::<u128>();
        Self {
            cap: SUPPLY.into(),
            reserve: reserve.into(),
            held: held.into(),
            burned: burned.into(),
            conserved: sum == u128::from(SUPPLY.0),
        }
    }
}

impl Account {
    /// An account after the block of this height. Its models and its nonces in the pool are the node's to know.
    pub fn read(
        (state, height): (&dyn Read, u64),
        address: Address,
        next_nonce: u64,
        models: Vec<u32>,
    ) -> Self {
        let record::Account { balance, nonce } = view::account(state, &address);
        Self {
            address: Text(address),
            balance: balance.into(),
            nonce: Text(nonce),
            next_nonce: Text(next_nonce.max(nonce)),
            models,
            height: Text(height),
        }
    }
}

impl Model {
    /// A model, if there is one.
    pub fn read(state: &dyn Read, id: ModelId) -> Option<Self> {
        let model = view::model(state, id)?;
        let refresh_epochs = view::chain(state).params.refresh_epochs;
        let now = view::chain(state).clock.epoch;
        let commits = [now, now.next()].into_iter().flat_map(|epoch| {
            let commits = view::commits_of(state, id, epoch).into_iter();
            commits.map(|commit| Commit::new(state, &commit))
        });
        let (status, release_epoch) = match model.status {
            record::ModelStatus::Registered => (ModelStatus::Registered, None),
            record::ModelStatus::Active => (ModelStatus::Active, None),
            record::ModelStatus::Inactive => (ModelStatus::Inactive, None),
            record::ModelStatus::Retiring { release } => (ModelStatus::Retiring, Some(release.0)),
            record::ModelStatus::Retired => (ModelStatus::Retired, None),
        };
        let weights = model
            .weights
            .and_then(|hash| view::weights(state, id, &hash));
        let next = model.next.and_then(|next| {
            let weights = view::weights(state, id, &next.weights)?;
            Some((weights, next.revealed))
        });
        Some(Self {
            id: id.0,
            owner: Text(model.owner),
            commission_bps: model.commission_bps,
            status,
            release_epoch,
            stake: model.pool.stake.into(),
            rent: weights
                .as_ref()
                .and_then(|weights| Rent::read(state, id, weights.size_bytes)),
            weights: weights.map(|weights| Weights::new(&weights, model.revealed, refresh_epochs)),
            next: next.map(|(weights, revealed)| Weights::new(&weights, revealed, refresh_epochs)),
            leaving: model.pool.leaving.into(),
            next_commission: model.next_commission.map(Into::into),
            commits: commits.collect(),
            wins: model.wins,
            earned: model.earned.into(),
            name: model.name,
        })
    }
}

impl Weights {
    fn new(weights: &record::Weights, revealed: EpochId, refresh_epochs: u32) -> Self {
        Self {
            hash: Text(weights.weights_hash),
            size_bytes: Text(weights.size_bytes),
            ciphertext_hash: Text(weights.ciphertext_hash),
            key: Text(soma_protocol::Hash(weights.key)),
            revealed_epoch: revealed.0,
            first_epoch: weights.age.epoch.0,
            refresh_epoch: revealed.after(refresh_epochs).0,
        }
    }
}

impl Commit {
    fn new(state: &dyn Read, commit: &record::Commit) -> Self {
        let validators = view::seated(state);
        let stake = |holds: &dyn Fn(&Address) -> bool| -> u128 {
            let holders = validators
                .iter()
                .filter(|validator| holds(&validator.address));
            holders
                .map(|validator| u128::from(validator.pool.stake.0))
                .sum()
        };
        let held = stake(&|address| commit.holders.contains(address));
        Self {
            epoch: commit.epoch.0,
            architecture: commit.architecture,
            commitment: Text(commit.commitment),
            ciphertext_hash: Text(commit.ciphertext_hash),
            size_bytes: Text(commit.size_bytes),
            holders: commit.holders.iter().copied().map(Text).collect(),
            held: 3 * held > stake(&|_| true),
            rent: commit.rent.into(),
        }
    }
}

impl Epoch {
    /// An epoch, if it has begun.
    pub fn read(state: &dyn Read, id: EpochId) -> Option<Self> {
        let record = view::epoch(state, id);
        if record.is_none() && view::chain(state).clock.epoch != id {
            return None;
        }
        Some(Self {
            epoch: id.0,
            beacon: record.as_ref().map(|epoch| Text(epoch.beacon)),
            targets: record
                .iter()
                .flat_map(record::EpochRecord::target_ids)
                .map(|id| id.0)
                .collect(),
            target_reward: record
                .map_or(Amount::ZERO, |epoch| epoch.target_reward)
                .into(),
        })
    }
}

impl Target {
    /// A target, if there is one.
    pub fn read(state: &dyn Read, id: TargetId) -> Option<Self> {
        let target = view::target(state, id)?;
        let seed = view::epoch(state, target.epoch)?.beacon;
        let (status, returned, payment) = fate(&target.status);
        let candidates = view::candidates(state, id);
        Some(Self {
            id: id.0,
            epoch: target.epoch.0,
            status,
            returned,
            reward: target.reward.into(),
            seed: Text(seed),
            routed: target
                .routed
                .iter()
                .map(|routed| Routed::new(state, routed))
                .collect(),
            candidates: (0..)
                .zip(&candidates)
                .map(|(rank, one)| Candidate::new(rank, one))
                .collect(),
            publication: view::publication(state, id).map(|publication| Publication {
                rank: publication.rank,
                data_hash: Text(publication.data_hash),
                size_bytes: u32::try_from(publication.data.len()).unwrap_or(u32::MAX),
            }),
            payment,
        })
    }
}

fn fate(fate: &Fate) -> (TargetStatus, Option<Returned>, Option<Payment>) {
    match *fate {
        Fate::Open => (TargetStatus::Open, None, None),
        Fate::Published { .. } => (TargetStatus::Published, None, None),
        Fate::Settled {
            model,
            submitter,
            distance,
            data_hash,
            paid_submitter,
            paid_model,
        } => {
            let payment = Payment {
                submitter: Text(submitter),
                paid_submitter: paid_submitter.into(),
                model: model.0,
                paid_model: paid_model.into(),
                distance: Text(distance),
                data_hash: Text(data_hash),
            };
            (TargetStatus::Settled, None, Some(payment))
        }
        Fate::Returned { reason } => {
            let reason = match reason {
                record::Returned::Unclaimed => Returned::Unclaimed,
                record::Returned::Invalid => Returned::Invalid,
                record::Returned::NoQuorum => Returned::NoQuorum,
            };
            (TargetStatus::Returned, Some(reason), None)
        }
    }
}

impl Routed {
    fn new(state: &dyn Read, routed: &record::Routed) -> Self {
        let weights = view::weights(state, routed.model, &routed.weights_hash);
        Self {
            model: routed.model.0,
            weights_hash: Text(routed.weights_hash),
            size_bytes: Text(weights.map_or(0, |weights| weights.size_bytes)),
            age: routed.age.into(),
        }
    }
}

impl From<record::Age> for Age {
    fn from(age: record::Age) -> Self {
        Self {
            epoch: age.epoch.0,
            height: Text(age.height),
            index: age.index,
        }
    }
}

impl From<Age> for record::Age {
    fn from(age: Age) -> Self {
        Self {
            epoch: EpochId(age.epoch),
            height: age.height.0,
            index: age.index,
        }
    }
}

impl Candidate {
    /// A candidate and its place.
    pub fn new(rank: u32, candidate: &record::Candidate) -> Self {
        Self {
            rank,
            submitter: Text(candidate.submitter),
            model: candidate.model.0,
            loss_q32: Text(candidate.loss_q32),
            distance: Text(candidate.distance),
            size_bytes: candidate.size_bytes,
            commitment: Text(candidate.commitment),
            bond: candidate.bond.into(),
        }
    }
}

impl Vector {
    /// The specialization of a model, if it has one.
    pub fn embedding(state: &dyn Read, id: ModelId) -> Option<Self> {
        view::embedding(state, id).map(|components| Self { components })
    }

    /// The direction of a target, if there is one.
    pub fn direction(state: &dyn Read, id: TargetId) -> Option<Self> {
        let target = view::target(state, id)?;
        view::direction(state, &target).map(|components| Self { components })
    }
}

impl From<&soma_protocol::Receipt> for Receipt {
    fn from(receipt: &soma_protocol::Receipt) -> Self {
        let rejection = receipt.result.as_ref().err().map(Rejection::from);
        Self {
            fee: receipt.fee.into(),
            rejection,
        }
    }
}

impl From<&soma_protocol::Rejection> for Rejection {
    fn from(rejection: &soma_protocol::Rejection) -> Self {
        let (code, help) = (rejection.code().to_owned(), rejection.help().to_owned());
        Self {
            code,
            message: rejection.to_string(),
            help,
        }
    }
}

impl Transaction {
    /// A transaction, and the height and receipt that make it final.
    pub fn new(signed: &SignedTransaction, sealed: Option<(u64, &soma_protocol::Receipt)>) -> Self {
        let transaction = &signed.transaction;
        Self {
            hash: Text(signed.hash()),
            state: match sealed {
                Some(_) => TransactionState::Final,
                None => TransactionState::Pending,
            },
            sender: Text(transaction.sender),
            nonce: Text(transaction.nonce),
            action: transaction.action.name().to_owned(),
            valid_until_ms: Text(transaction.valid_until_ms),
            height: sealed.map(|(height, _)| Text(height)),
            receipt: sealed.map(|(_, receipt)| receipt.into()),
        }
    }
}

impl Event {
    /// An event and its place.
    ///
    /// # Errors
    /// If the event cannot be written as JSON, which no event of the protocol is.
    pub fn new(
        cursor: Cursor,
        timestamp_ms: u64,
        event: &soma_protocol::Event,
    ) -> Result<Self, serde_json::Error> {
        #[derive(serde::Deserialize)]
        struct Parts {
            event: String,
            #[serde(flatten)]
            particulars: serde_json::Map<String, serde_json::Value>,
        }
        let Parts { event, particulars } = serde_json::from_value(serde_json::to_value(event)?)?;
        let (cursor, timestamp_ms) = (Text(cursor), Text(timestamp_ms));
        Ok(Self {
            cursor,
            timestamp_ms,
            event,
            particulars,
        })
    }

    /// The event as the protocol knows it; none if this version of the protocol does not.
    pub fn typed(&self) -> Option<soma_protocol::Event> {
        let mut parts = self.particulars.clone();
        parts.insert("event".to_owned(), self.event.clone().into());
        serde_json::from_value(parts.into()).ok()
    }
}
