//! Delegators, who stake on the models of others.

use std::collections::BTreeMap;

use soma_protocol::record::{ModelStatus, TargetStatus};
use soma_protocol::{Action, Amount, ModelId, PoolId, action, read};

use crate::actors::{Actor, Kind};
use crate::chain::Chain;
use crate::ledger::Ledger;

/// How many epochs pass before yield delegators choose again.
const CHOOSE_EVERY: u32 = 30;
/// How many models they stake on at a time.
const BACKED: usize = 3;

/// Lets all delegators stake their balance, and withdraw from models that they no longer choose.
pub fn delegate(chain: &mut Chain, actors: &[Actor], ledger: &Ledger) {
    let epoch = read::clock(&chain.state).epoch;
    let trainers: Vec<ModelId> = actors
        .iter()
        .filter(|actor| actor.kind == Kind::Trainer)
        .flat_map(|actor| actor.models.iter().copied())
        .collect();
    for actor in actors.iter().filter(|actor| actor.kind.delegates()) {
        let chosen = match actor.kind {
            Kind::EvenDelegator => trainers.clone(),
            Kind::Sniper => {
                withdraw_others(chain, actor, &[]);
                about_to_win(chain).into_iter().collect()
            }
            Kind::Inflater => {
                inflate(chain, actor, &trainers);
                continue;
            }
            _ if epoch.0 % CHOOSE_EVERY == 1 && epoch.0 > 1 => {
                let best = ledger.best_yields(BACKED);
                withdraw_others(chain, actor, &best);
                best
            }
            _ => continue,
        };
        stake(chain, actor, &chosen);
    }
}

/// The model with the most published claims that are not settled, for its stake.
fn about_to_win(chain: &Chain) -> Option<ModelId> {
    let mut claims: BTreeMap<ModelId, u64> = BTreeMap::new();
    let epoch = read::clock(&chain.state).epoch.previous();
    for target in read::targets(&chain.state, epoch) {
        if let TargetStatus::Published { rank } = target.status
            && let Ok(rank) = usize::try_from(rank)
            && let Some(claim) = read::candidates(&chain.state, target.id).get(rank)
        {
            *claims.entry(claim.model).or_default() += 1;
        }
    }
    let for_stake = |(model, claims): (ModelId, u64)| {
        let stake = read::model(&chain.state, model)?.pool.stake;
        Some((Amount::soma(claims * 1_000_000).0 / stake.0.max(1), model))
    };
    claims.into_iter().filter_map(for_stake).max().map(|(_, model)| model)
}

/// Tries to own one share of a model: adds stake, withdraws all of it but one base unit, and adds a
/// base unit to each of the others.
fn inflate(chain: &mut Chain, actor: &Actor, models: &[ModelId]) {
    let Some((&first, others)) = models.split_first() else {
        return;
    };
    let pool = PoolId::Model(first);
    let share = read::share(&chain.state, pool, &actor.address);
    if share.shares > 0 {
        let model = read::model(&chain.state, first);
        let value = model.map_or(Amount::ZERO, |model| model.pool.value(share.shares));
        let amount = value.less(Amount(1));
        chain.act(&actor.key, Action::WithdrawStake(action::WithdrawStake { pool, amount }));
    } else if share.joining_shares == 0 {
        let amount = Amount::soma(1);
        chain.act(&actor.key, Action::AddStake(action::AddStake { pool, amount }));
    }
    for other in others {
        let pool = PoolId::Model(*other);
        let amount = Amount(1);
        chain.act(&actor.key, Action::AddStake(action::AddStake { pool, amount }));
    }
}

fn withdraw_others(chain: &mut Chain, actor: &Actor, chosen: &[ModelId]) {
    let models: Vec<ModelId> = read::models(&chain.state, 1..=u32::MAX)
        .filter(|model| !chosen.contains(&model.id))
        .map(|model| model.id)
        .collect();
    for model in models {
        let pool = PoolId::Model(model);
        if read::share(&chain.state, pool, &actor.address).shares > 0 {
            let amount = Amount(u64::MAX);
            chain.act(&actor.key, Action::WithdrawStake(action::WithdrawStake { pool, amount }));
        }
    }
}

/// Stakes the balance on these models in equal parts, unless it is small; some remains for fees.
fn stake(chain: &mut Chain, actor: &Actor, models: &[ModelId]) {
    let free = chain.balance(&actor.address).less(Amount::soma(10));
    let amount = free.over(u64::try_from(models.len()).unwrap_or(0));
    if amount < Amount::soma(10) {
        return;
    }
    for &model in models {
        let active = read::model(&chain.state, model)
            .is_some_and(|model| model.status == ModelStatus::Active);
        if active {
            let pool = PoolId::Model(model);
            chain.act(&actor.key, Action::AddStake(action::AddStake { pool, amount }));
        }
    }
}
