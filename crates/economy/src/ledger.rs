//! Who earned what: the books of all actors, kept from events and states of the chain.

use std::collections::BTreeMap;

use soma_protocol::{Address, Amount, Event, MemoryState, ModelId, PoolId, SOMA, TargetId, read};

use crate::actors::{Actor, Kind};
use crate::submitters::{Submitters, publisher};

/// The share of a model's mean yield that remains after an epoch.
const YIELD_KEPT: f64 = 0.95;

/// An amount in SOMA, for tables and charts.
#[expect(clippy::cast_precision_loss, reason = "the supply is below 2^54 base units")]
pub fn soma(amount: Amount) -> f64 {
    amount.0 as f64 / SOMA as f64
}

/// The books of one actor, in SOMA.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Worth at genesis.
    pub first: f64,
    /// Current worth: balance, stakes, bonds.
    pub worth: f64,
    /// Sum of its worth over all epochs.
    pub worth_epochs: f64,
    /// Bonds and stakes burned.
    pub burned: f64,
    /// Rent paid for files of its models.
    pub rent: f64,
    /// Spending outside the network: training, searching, auditing.
    pub spent: f64,
}

/// The results of one model.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Targets it was routed to.
    pub slots: u64,
    /// Targets won.
    pub wins: u64,
    /// Rewards for them, in SOMA.
    pub earned: f64,
    /// Sum over all epochs of its share of the stake on models.
    pub stake_shares: f64,
    earned_now: f64,
    /// Moving average of the yield per epoch.
    yields: f64,
}

/// The attacks of one actor on targets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attack {
    /// Attacked targets that nobody won.
    pub denied: u64,
    /// Their rewards, in SOMA.
    pub denied_soma: f64,
    /// What the attacker lost, in SOMA.
    pub burned_soma: f64,
}

/// All books. Actors are identified by their index.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By actor.
    pub accounts: Vec<Account>,
    /// By model.
    pub models: BTreeMap<ModelId, Record>,
    /// By attacker.
    pub attacks: BTreeMap<usize, Attack>,
    indices: BTreeMap<Address, usize>,
    owners: BTreeMap<ModelId, usize>,
    publishers: BTreeMap<TargetId, usize>,
    /// Epochs counted.
    pub epochs: u32,
    /// Targets won.
    pub settled: u64,
    /// Targets that nobody won.
    pub returned: u64,
    /// Paid to submitters and models, in SOMA.
    pub paid_targets: f64,
    /// Paid to validators, in SOMA.
    pub paid_validators: f64,
}

impl Ledger {
    /// The books at genesis.
    pub fn new(actors: &[Actor], state: &MemoryState) -> Self {
        let mut ledger =
            Self { accounts: vec![Account::default(); actors.len()], ..Self::default() };
        for (index, actor) in actors.iter().enumerate() {
            ledger.indices.insert(actor.address, index);
            ledger.owners.extend(actor.models.iter().map(|id| (*id, index)));
        }
        ledger.count_worth(actors, state);
        for account in &mut ledger.accounts {
            account.first = account.worth;
        }
        ledger
    }

    /// Records spending outside the network.
    pub fn spend(&mut self, actor: usize, soma: f64) {
        self.accounts[actor].spent += soma;
    }

    /// Records who published for each target, which the state soon forgets.
    pub fn note_publishers(&mut self, state: &MemoryState) {
        self.publishers.clear();
        let epoch = read::clock(state).epoch.previous();
        for target in read::targets(state, epoch) {
            let index = publisher(state, &target).and_then(|address| self.indices.get(&address));
            self.publishers.extend(index.map(|index| (target.id, *index)));
        }
    }

    /// Records the events of a block.
    pub fn note(&mut self, events: &[Event], submitters: &Submitters) {
        for event in events {
            match event {
                Event::TargetDrawn { models, .. } => {
                    for model in models {
                        self.models.entry(*model).or_default().slots += 1;
                    }
                }
                Event::TargetSettled { model, paid_model, paid_submitter, .. } => {
                    let record = self.models.entry(*model).or_default();
                    record.wins += 1;
                    record.earned += soma(*paid_model);
                    record.earned_now += soma(*paid_model);
                    self.settled += 1;
                    self.paid_targets += soma(paid_model.plus(*paid_submitter));
                }
                Event::TargetReturned { target, reward, bond_burned, .. } => {
                    self.note_returned(*target, *reward, *bond_burned, submitters);
                }
                Event::SubmissionForfeited { target, submitter, bond, .. } => {
                    if let Some(&actor) = self.indices.get(submitter) {
                        self.burn(actor, *target, *bond, submitters);
                    }
                }
                Event::ValidatorSlashed { validator, amount } => {
                    if let Some(&actor) = self.indices.get(validator) {
                        self.accounts[actor].burned += soma(*amount);
                    }
                }
                Event::ModelSlashed { model, amount } => {
                    if let Some(&actor) = self.owners.get(model) {
                        self.accounts[actor].burned += soma(*amount);
                    }
                }
                Event::WeightsCommitted { model, paid, premium, .. } => {
                    if let Some(&actor) = self.owners.get(model) {
                        self.accounts[actor].rent += soma(paid.plus(*premium));
                    }
                }
                Event::ValidatorRewarded { amount, .. } => self.paid_validators += soma(*amount),
                _ => {}
            }
        }
    }

    fn note_returned(
        &mut self,
        target: TargetId,
        reward: Amount,
        burned: Amount,
        submitters: &Submitters,
    ) {
        self.returned += 1;
        if let Some(attacker) = submitters.attacks.get(&target) {
            let attack = self.attacks.entry(*attacker).or_default();
            attack.denied += 1;
            attack.denied_soma += soma(reward);
        }
        if let Some(&actor) = self.publishers.get(&target) {
            self.burn(actor, target, burned, submitters);
        }
    }

    fn burn(&mut self, actor: usize, target: TargetId, bond: Amount, submitters: &Submitters) {
        self.accounts[actor].burned += soma(bond);
        if submitters.attacks.get(&target) == Some(&actor) {
            self.attacks.entry(actor).or_default().burned_soma += soma(bond);
        }
    }

    /// Closes the books of an epoch.
    pub fn close_epoch(&mut self, actors: &[Actor], state: &MemoryState) {
        self.epochs += 1;
        self.count_worth(actors, state);
        for account in &mut self.accounts {
            account.worth_epochs += account.worth;
        }
        let stakes: Vec<(ModelId, f64)> =
            read::living_models(state).map(|model| (model.id, soma(model.pool.stake))).collect();
        let total: f64 = stakes.iter().map(|(_, stake)| stake).sum();
        for (model, stake) in stakes {
            let record = self.models.entry(model).or_default();
            record.stake_shares += stake / total;
            let yields = std::mem::take(&mut record.earned_now) / stake.max(1.0);
            record.yields = record.yields * YIELD_KEPT + yields * (1.0 - YIELD_KEPT);
        }
    }

    /// The models with the best recent yield.
    pub fn best_yields(&self, count: usize) -> Vec<ModelId> {
        let mut models: Vec<(f64, ModelId)> =
            self.models.iter().map(|(id, record)| (record.yields, *id)).collect();
        models.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        models.into_iter().take(count).map(|(_, id)| id).collect()
    }

    fn count_worth(&mut self, actors: &[Actor], state: &MemoryState) {
        let bonds = bonds(state);
        for (actor, account) in actors.iter().zip(&mut self.accounts) {
            let mut worth = read::account(state, &actor.address).balance;
            worth = worth.plus(bonds.get(&actor.address).copied().unwrap_or_default());
            for model in read::models(state, 1..=u32::MAX) {
                if actor.kind.delegates() || actor.models.contains(&model.id) {
                    let share = read::share(state, PoolId::Model(model.id), &actor.address);
                    worth = worth
                        .plus(model.pool.value(share.shares))
                        .plus(model.pool.joining_value(share.joining_shares))
                        .plus(model.pool.leaving_value(share.leaving_shares));
                }
            }
            if actor.kind.validates()
                && let Some(validator) = read::validator(state, &actor.address)
            {
                let id = PoolId::Validator(actor.address);
                let share = read::share(state, id, &actor.address);
                worth = worth.plus(validator.pool.value(share.shares));
            }
            account.worth = soma(worth);
        }
    }

    /// The books of all actors of a kind.
    pub fn accounts_of(&self, actors: &[Actor], kind: Kind) -> impl Iterator<Item = &Account> {
        let accounts = actors.iter().zip(&self.accounts);
        accounts.filter_map(move |(actor, account)| (actor.kind == kind).then_some(account))
    }
}

/// Bonds of open candidates, by submitter.
fn bonds(state: &MemoryState) -> BTreeMap<Address, Amount> {
    let mut bonds: BTreeMap<Address, Amount> = BTreeMap::new();
    let epoch = read::clock(state).epoch;
    for target in
        [epoch.previous(), epoch].into_iter().flat_map(|epoch| read::targets(state, epoch))
    {
        for candidate in read::candidates(state, target.id) {
            let sum = bonds.entry(candidate.submitter).or_default();
            *sum = sum.plus(candidate.bond);
        }
    }
    bonds
}
