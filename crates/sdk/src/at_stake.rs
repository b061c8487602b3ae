//! What would be lost if this process ended now and nothing ran again in its place: the last word
//! of a command that is stopped, and what `soma status` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use soma_protocol::{Amount, Hash, SignedTransaction};

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

/// Sorts what is due by when it must be sent.
pub fn sort(dues: &mut [Due]) {
    dues.sort_by_key(|due| (due.until_epoch, due.until_phase.0));
}

/// What is at stake in this process. Copies share one list.
#[derive(Clone, Debug, Default)]
pub struct AtStake(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    /// By commitment.
    dues: BTreeMap<Hash, Due>,
    /// Transactions whose fate is not known yet.
    transactions: BTreeMap<Hash, HandedIn>,
}

/// A transaction that was handed in to a node.
#[derive(Debug)]
struct HandedIn {
    signed: SignedTransaction,
    /// Whether somebody was told that it is waited for.
    told: bool,
}

impl AtStake {
    /// What is due, in order of time.
    pub fn dues(&self) -> Vec<Due> {
        let mut dues: Vec<Due> = self.with(|list| list.dues.values().cloned().collect());
        sort(&mut dues);
        dues
    }

    /// The transactions that may be included though nobody waits for them anymore: their hashes and
    /// what they do.
    pub fn transactions(&self) -> Vec<(Hash, &'static str)> {
        let action = |it: &HandedIn| it.signed.transaction().action.name();
        self.with(|list| list.transactions.iter().map(|(hash, it)| (*hash, action(it))).collect())
    }

    /// What the obligation with this commitment is; `None` if nothing is due of it anymore.
    pub(crate) fn set_due(&self, commitment: Hash, due: Option<Due>) {
        self.with(|list| match due {
            Some(due) => drop(list.dues.insert(commitment, due)),
            None => drop(list.dues.remove(&commitment)),
        });
    }

    /// Nothing is due anymore of obligations with other commitments.
    pub(crate) fn keep_dues(&self, commitments: &BTreeSet<Hash>) {
        self.with(|list| list.dues.retain(|commitment, _| commitments.contains(commitment)));
    }

    /// A transaction is handed in.
    pub(crate) fn hand_in(&self, signed: SignedTransaction) {
        let (hash, handed_in) = (signed.hash(), HandedIn { signed, told: false });
        self.with(|list| drop(list.transactions.insert(hash, handed_in)));
    }

    /// A transaction that was handed in, while its fate is not known.
    pub(crate) fn transaction(&self, hash: &Hash) -> Option<SignedTransaction> {
        self.with(|list| Some(list.transactions.get(hash)?.signed.clone()))
    }

    /// Whether somebody was told that this transaction is waited for, which is so from now on.
    pub(crate) fn is_told(&self, hash: &Hash) -> bool {
        let tell = |it: &mut HandedIn| std::mem::replace(&mut it.told, true);
        self.with(|list| list.transactions.get_mut(hash).is_some_and(tell))
    }

    /// The fate of a transaction is known.
    pub(crate) fn decided(&self, hash: &Hash) {
        self.with(|list| drop(list.transactions.remove(hash)));
    }

    fn with<T>(&self, change: impl FnOnce(&mut List) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
