//! Who earned what, from the events of the rules and the state they leave behind.

use std::collections::BTreeMap;

use soma_protocol::{Address, Amount, Event, MemoryState, ModelId, PoolId, SOMA, TargetId, read};

use crate::actors::{Actor, Kind};
use crate::submitters::{Submitters, publisher};

/// What of a model's mean yield an epoch leaves.
const YIELD_KEPT: f64 = 0.95;

/// An amount in SOMA, for tables and charts.
#[expect(
    clippy::cast_precision_loss,
    reason = "all the money is below 2^54 base units"
)]
pub fn soma(amount: Amount) -> f64 {
    amount.0 as f64 / SOMA as f64
}

/// Somebody's books, in SOMA.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// What it had at genesis.
    pub first: f64,
    /// What it has: balance, stakes, bonds.
    pub worth: f64,
    /// Sum over the epochs of what it had.
    pub worth_epochs: f64,
    /// Bonds and stake that were burned.
    pub burned: f64,
    /// What its models' files cost.
    pub rent: f64,
    /// What it spent outside the network: training, looking, auditing.
    pub spent: f64,
}

/// How a model has done.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Places in targets.
    pub slots: u64,
    /// Targets won.
    pub wins: u64,
    /// What those paid, in SOMA.
    pub earned: f64,
    /// Sum over the epochs of its share of all stake behind models.
    pub stake_shares: f64,
    earned_now: f64,
    /// Mean yield of late, per epoch.
    yields: f64,
}

/// What those did who set out to deny targets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attack {
    /// Targets attacked.
    pub targets: u64,
    /// Those of them that nobody won.
    pub denied: u64,
    /// Their rewards, in SOMA.
    pub denied_soma: f64,
    /// What the attacker lost, in SOMA.
    pub burned_soma: f64,
}

/// All books.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By place in the cast.
    pub accounts: Vec<Account>,
    /// By model.
    pub models: BTreeMap<ModelId, Record>,
    /// By place in the cast.
    pub attacks: BTreeMap<usize, Attack>,
    places: BTreeMap<Address, usize>,
    owners: BTreeMap<ModelId, usize>,
    publishers: BTreeMap<TargetId, usize>,
    /// Epochs counted.
    pub epochs: u32,
    /// Targets settled and targets returned.
    pub targets: (u64, u64),
    /// Paid to submitters and models, and to validators, in SOMA.
    pub paid: (f64, f64),
}

impl Ledger {
    /// Empty books.
    pub fn new(actors: &[Actor], state: &MemoryState) -> Self {
        let mut ledger = Self {
            accounts: vec![Account::default(); actors.len()],
            ..Self::default()
        };
        for (at, actor) in actors.iter().enumerate() {
            ledger.places.insert(actor.address, at);
            ledger
                .owners
                .extend(actor.models.iter().map(|id| (*id, at)));
        }
        ledger.count_worth(actors, state);
        for account in &mut ledger.accounts {
            account.first = account.worth;
        }
        ledger
    }

    /// Notes what was spent outside the network.
    pub fn spend(&mut self, at: usize, soma: f64) {
        self.accounts[at].spent += soma;
    }

    /// Remembers who has published, while the state does.
    pub fn note_publishers(&mut self, state: &MemoryState) {
        self.publishers.clear();
        let epoch = read::clock(state).epoch.previous();
        for target in read::targets(state, epoch) {
            let place = publisher(state, &target).and_then(|one| self.places.get(&one));
            self.publishers.extend(place.map(|at| (target.id, *at)));
        }
    }

    /// Notes what happened.
    pub fn note(&mut self, events: &[Event], submitters: &Submitters) {
        for event in events {
            match event {
                Event::TargetDrawn { models, .. } => {
                    for model in models {
                        self.models.entry(*model).or_default().slots += 1;
                    }
                }
                Event::TargetSettled {
                    model,
                    paid_model,
                    paid_submitter,
                    ..
                } => {
                    let record = self.models.entry(*model).or_default();
                    record.wins += 1;
                    record.earned += soma(*paid_model);
                    record.earned_now += soma(*paid_model);
                    self.targets.0 += 1;
                    self.paid.0 += soma(paid_model.plus(*paid_submitter));
                }
                Event::TargetReturned {
                    target,
                    reward,
                    bond_burned,
                    ..
                } => self.note_returned(*target, *reward, *bond_burned, submitters),
                Event::SubmissionForfeited {
                    target,
                    submitter,
                    bond,
                    ..
                } => {
                    if let Some(&at) = self.places.get(submitter) {
                        self.burn(at, *target, *bond, submitters);
                    }
                }
                Event::ValidatorSlashed { validator, amount } => {
                    if let Some(&at) = self.places.get(validator) {
                        self.accounts[at].burned += soma(*amount);
                    }
                }
                Event::ModelSlashed { model, amount } => {
                    if let Some(&at) = self.owners.get(model) {
                        self.accounts[at].burned += soma(*amount);
                    }
                }
                Event::WeightsCommitted { model, paid, .. } => {
                    if let Some(&at) = self.owners.get(model) {
                        self.accounts[at].rent += soma(*paid);
                    }
                }
                Event::ValidatorRewarded { amount, .. } => self.paid.1 += soma(*amount),
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
        self.targets.1 += 1;
        if let Some(at) = submitters.attacks.get(&target) {
            let attack = self.attacks.entry(*at).or_default();
            attack.denied += 1;
            attack.denied_soma += soma(reward);
        }
        if let Some(&at) = self.publishers.get(&target) {
            self.burn(at, target, burned, submitters);
        }
    }

    fn burn(&mut self, at: usize, target: TargetId, bond: Amount, submitters: &Submitters) {
        self.accounts[at].burned += soma(bond);
        if submitters.attacks.get(&target) == Some(&at) {
            self.attacks.entry(at).or_default().burned_soma += soma(bond);
        }
    }

    /// Closes the books of an epoch.
    pub fn close_epoch(&mut self, actors: &[Actor], state: &MemoryState) {
        self.epochs += 1;
        self.count_worth(actors, state);
        for account in &mut self.accounts {
            account.worth_epochs += account.worth;
        }
        let stakes: Vec<(ModelId, f64)> = read::models(state, 1..=u32::MAX)
            .map(|model| (model.id, soma(model.pool.stake)))
            .collect();
        let total: f64 = stakes.iter().map(|(_, stake)| stake).sum();
        for (model, stake) in stakes {
            let record = self.models.entry(model).or_default();
            record.stake_shares += stake / total;
            let yields = std::mem::take(&mut record.earned_now) / stake.max(1.0);
            record.yields = record.yields * YIELD_KEPT + yields * (1.0 - YIELD_KEPT);
        }
    }

    /// The models that have earned most per stake of late.
    pub fn best_yields(&self, count: usize) -> Vec<ModelId> {
        let mut models: Vec<(f64, ModelId)> = self
            .models
            .iter()
            .map(|(id, record)| (record.yields, *id))
            .collect();
        models.sort_by(|(one, _), (other, _)| other.total_cmp(one));
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
                    let leaving = model.pool.leaving_value(share.leaving_shares);
                    worth = worth.plus(model.pool.value(share.shares)).plus(leaving);
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

    /// Where somebody stands in the cast, of one kind alone.
    pub fn places_of<'a>(
        &self,
        actors: &'a [Actor],
        kind: Kind,
    ) -> impl Iterator<Item = usize> + use<'a> {
        let actors = actors.iter().enumerate();
        actors
            .filter(move |(_, one)| one.kind == kind)
            .map(|(at, _)| at)
    }
}

/// Bonds of candidates that wait, by who put them up.
fn bonds(state: &MemoryState) -> BTreeMap<Address, Amount> {
    let mut bonds: BTreeMap<Address, Amount> = BTreeMap::new();
    let epoch = read::clock(state).epoch;
    for target in [epoch.previous(), epoch]
        .into_iter()
        .flat_map(|epoch| read::targets(state, epoch))
    {
        for candidate in read::candidates(state, target.id) {
            let sum = bonds.entry(candidate.submitter).or_default();
            *sum = sum.plus(candidate.bond);
        }
    }
    bonds
}
