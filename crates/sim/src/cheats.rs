//! Deviations from the rules: a validator that lies, and a bug for the checks to find.

use std::sync::Arc;

use soma_engine::generic::Distortion;
use soma_protocol::{BlockInfo, Outcome, SecretKey, record::Account, state::Record as _};

use crate::{actors::node_secret, dice::Dice};

/// What the one cheat of a history does, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cheat {
    /// There is none.
    None,
    /// It votes for two histories: it is two nodes with one key, each shown to some of the others.
    Equivocates,
    /// It shows its blocks and votes to some of the others only.
    Withholds,
    /// It proposes blocks that no rule leads to.
    Lies,
    /// It forges what it gives to those who join.
    Forges,
}

impl Cheat {
    /// The cheat of a history.
    pub fn drawn(dice: &mut Dice) -> Self {
        [
            Self::None,
            Self::Equivocates,
            Self::Withholds,
            Self::Lies,
            Self::Forges,
        ][dice.index(5)]
    }
}

/// Gives the last validator of genesis money from nowhere, whenever `when` says so.
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

/// The planted bug: an arithmetic slip, one unit in one account, in one block of twenty.
pub fn planted_bug() -> Distortion {
    counterfeit(|block| block.height % 20 == 7)
}

/// A liar's blocks: every one of its own is wrong.
pub fn lies(node: usize) -> Distortion {
    let me = SecretKey::from_bytes(&node_secret(node)).address();
    counterfeit(move |block| block.proposer == me)
}
