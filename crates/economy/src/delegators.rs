//! Delegators, who stake on the models of others.

use soma_protocol::record::ModelStatus;
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
