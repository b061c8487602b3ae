//! People who put their money behind the models of others.

use soma_protocol::record::ModelStatus;
use soma_protocol::{Action, Amount, ModelId, PoolId, action, read};

use crate::actors::{Actor, Kind};
use crate::chain::Chain;
use crate::ledger::Ledger;

/// Epochs after which those who follow yield look again.
const LOOK_EVERY: u32 = 30;
/// Models that they back at one time.
const BACKED: usize = 3;

/// Everybody puts what is free behind models, and takes it from behind others.
pub fn delegate(chain: &mut Chain, actors: &[Actor], ledger: &Ledger) {
    let epoch = read::clock(&chain.state).epoch;
    let trainers: Vec<ModelId> = actors
        .iter()
        .filter(|one| one.kind == Kind::Trainer)
        .flat_map(|one| one.models.iter().copied())
        .collect();
    for actor in actors.iter().filter(|one| one.kind.delegates()) {
        let backed = match actor.kind {
            Kind::EvenDelegator => trainers.clone(),
            _ if epoch.0 % LOOK_EVERY == 1 && epoch.0 > 1 => {
                let best = ledger.best_yields(BACKED);
                leave_others(chain, actor, &best);
                best
            }
            _ => continue,
        };
        back(chain, actor, &backed);
    }
}

fn leave_others(chain: &mut Chain, actor: &Actor, backed: &[ModelId]) {
    let models: Vec<ModelId> = read::models(&chain.state, 1..=u32::MAX)
        .filter(|one| !backed.contains(&one.id))
        .map(|one| one.id)
        .collect();
    for model in models {
        let pool = PoolId::Model(model);
        if read::share(&chain.state, pool, &actor.address).shares > 0 {
            let amount = Amount(u64::MAX);
            chain.act(
                &actor.key,
                Action::WithdrawStake(action::WithdrawStake { pool, amount }),
            );
        }
    }
}

/// Puts all that is worth it behind the models, in equal parts; a little stays for fees.
fn back(chain: &mut Chain, actor: &Actor, models: &[ModelId]) {
    let free = chain.balance(&actor.address).less(Amount::soma(10));
    let amount = free.over(u64::try_from(models.len()).unwrap_or(0));
    if amount < Amount::soma(10) {
        return;
    }
    for &model in models {
        let active =
            read::model(&chain.state, model).is_some_and(|one| one.status == ModelStatus::Active);
        if active {
            let pool = PoolId::Model(model);
            chain.act(
                &actor.key,
                Action::AddStake(action::AddStake { pool, amount }),
            );
        }
    }
}
