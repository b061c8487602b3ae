//! What would be lost if this process ended now and nothing ran again in its place: the last word
//! of a command that is stopped, and what `soma status` lists.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use soma_protocol::{Amount, Hash};

use crate::api::text::{PhaseText, U64};

/// Something that is due, or that may still happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Due {
    /// What must be sent: `reveal of model 3 in epoch 7`.
    pub what: String,
    /// What is lost if it is not, in base units.
    pub at_risk: U64,
    /// The last epoch in which it can be sent.
    pub until_epoch: u32,
    /// The last phase of it in which it can be sent.
    pub until_phase: PhaseText,
    /// Block time at which that phase ends; null if the operator of a local network ends phases.
    pub until_ms: Option<U64>,
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, at_risk, until_epoch, until_phase, .. } = self;
        write!(f, "{what}, due by the end of phase {until_phase} of epoch {until_epoch}")?;
        match at_risk.0 {
            0 => Ok(()),
            units => write!(f, "; {} SOMA is lost if it is not sent", Amount(units)),
        }
    }
}

/// What is at stake in this process. Copies share one list.
#[derive(Clone, Debug, Default)]
pub struct AtStake(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    /// By commitment.
    dues: BTreeMap<Hash, Due>,
    /// Transactions whose fate is not known yet.
    transactions: BTreeMap<Hash, &'static str>,
}

impl AtStake {
    /// What is due, in order of time.
    pub fn dues(&self) -> Vec<Due> {
        let mut dues: Vec<Due> = self.with(|list| list.dues.values().cloned().collect());
        dues.sort_by_key(|due| (due.until_epoch, due.until_phase.0));
        dues
    }

    /// The transactions that may be included though nobody waits for them anymore: their hashes and
    /// what they do.
    pub fn transactions(&self) -> Vec<(Hash, &'static str)> {
        self.with(|list| list.transactions.iter().map(|(hash, kind)| (*hash, *kind)).collect())
    }

    /// What the obligation with this commitment is; `None` if nothing is due of it anymore.
    pub(crate) fn set_due(&self, commitment: Hash, due: Option<Due>) {
        self.with(|list| match due {
            Some(due) => drop(list.dues.insert(commitment, due)),
            None => drop(list.dues.remove(&commitment)),
        });
    }

    /// A transaction was handed in.
    pub(crate) fn handed_in(&self, hash: Hash, kind: &'static str) {
        self.with(|list| {
            list.transactions.insert(hash, kind);
        });
    }

    /// The fate of a transaction is known.
    pub(crate) fn decided(&self, hash: &Hash) {
        self.with(|list| {
            list.transactions.remove(hash);
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut List) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
