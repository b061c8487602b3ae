//! Deviations from the rules: what the adversary of a history does, and a bug that the checker must
//! find.

use std::sync::Arc;

use rand::{RngExt as _, rngs::Xoshiro256PlusPlus};
use soma_engine::generic::Distortion;
use soma_protocol::{BlockInfo, Outcome, record::Account, state::Record as _};

use crate::genesis::node_key;

/// What the adversary of a history does, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adversary {
    /// There is none.
    None,
    /// It votes for two chains: two nodes run with its key, each connected to some of the others.
    Equivocates,
    /// It sends its blocks and votes only to some of the others.
    Withholds,
    /// It proposes blocks that violate the rules.
    Lies,
    /// It proposes blocks with payments that cannot pay and duties that the rules reject.
    Stuffs,
    /// It forges the state that it serves to joining nodes.
    Forges,
    /// It claims more blocks than there are and gives none to joining nodes.
    Boasts,
    /// Its operator runs a copy of it by mistake. Both follow the rules, each connected to some of
    /// the others, to different ones from time to time.
    RunsTwice,
}

impl Adversary {
    /// Draws the adversary of a history.
    pub fn draw(rng: &mut Xoshiro256PlusPlus) -> Self {
        match rng.random_range(0..8) {
            0 => Self::None,
            1 => Self::Equivocates,
            2 => Self::Withholds,
            3 => Self::Lies,
            4 => Self::Stuffs,
            5 => Self::Forges,
            6 => Self::RunsTwice,
            _ => Self::Boasts,
        }
    }
}

/// Adds one unit to the first account that a block changes, in blocks for which `when` holds.
fn counterfeit(when: impl Fn(&BlockInfo) -> bool + Send + Sync + 'static) -> Distortion {
    Arc::new(move |block: &BlockInfo, outcome: &mut Outcome| {
        if !when(block) {
            return;
        }
        for value in outcome.changes.0.values_mut().flatten() {
            if let Some(mut account) = Account::from_bytes(value) {
                account.balance.0 += 1;
                *value = account.to_bytes().into();
                return;
            }
        }
    })
}

/// The planted bug: one unit too many in one account, in one block out of twenty.
pub fn planted_bug() -> Distortion {
    counterfeit(|block| block.height % 20 == 7)
}

/// Every block that this node proposes violates the rules.
pub fn invalid_proposals(node: usize) -> Distortion {
    let address = node_key(node).address();
    counterfeit(move |block| block.proposer == address)
}
