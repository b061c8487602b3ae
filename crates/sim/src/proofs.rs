//! What honest nodes find against others: kept until it is judged, and brought before the protocol
//! by the node that found it, as its duties would. An honest node must never be accused, whatever
//! happened to it.

use std::collections::BTreeMap;

use soma_protocol::{
    Action, Amount, ConsensusKey, Hash, SecretKey, SignedTransaction, StateRead, Transaction,
    action, evidence::Evidence, read, record::ValidatorStatus,
};

use crate::{
    Violation,
    actors::{NODES, VALID_MS, consensus_key, node_secret},
};

/// Proofs by the key that they are against, each with the node that found it.
#[derive(Clone, Debug, Default)]
pub struct Proofs(BTreeMap<ConsensusKey, (usize, Evidence)>);

fn key_of(node: usize) -> SecretKey {
    SecretKey::from_bytes(&node_secret(node))
}

/// Whether a node was expelled and has no seat any more.
pub fn is_expelled(state: &dyn StateRead, node: usize) -> bool {
    let address = key_of(node).address();
    let status = read::validator(state, &address).map(|validator| validator.status);
    status == Some(ValidatorStatus::Expelled) && !read::committee(state).seats_validator(&address)
}

impl Proofs {
    /// Takes what a node has found.
    ///
    /// # Errors
    /// [`Violation::Accused`] when it is against somebody who is honest.
    pub fn take(
        &mut self,
        by: usize,
        evidence: Evidence,
        is_honest: impl Fn(usize) -> bool,
    ) -> Result<(), Violation> {
        let mut nodes = 0..NODES;
        let node = nodes.find(|node| consensus_key(*node) == evidence.consensus_key);
        if let Some(node) = node.filter(|node| is_honest(*node)) {
            return Err(Violation::Accused { node, by });
        }
        self.0
            .entry(evidence.consensus_key)
            .or_insert((by, evidence));
        Ok(())
    }

    /// The reports of what was not judged yet.
    pub fn reports(
        &self,
        state: &dyn StateRead,
        chain: Hash,
        now_ms: u64,
    ) -> Vec<SignedTransaction> {
        let is_open = |key: &ConsensusKey| {
            let holder = read::key_holder(state, key);
            let offender = holder.and_then(|holder| read::validator(state, &holder));
            offender.is_some_and(|one| one.status != ValidatorStatus::Expelled)
        };
        let open = self.0.iter().filter(|(key, _)| is_open(key));
        let report = |(_, (by, evidence)): (_, &(usize, Evidence))| {
            let key = key_of(*by);
            let transaction = Transaction {
                chain,
                sender: key.address(),
                nonce: read::account(state, &key.address()).nonce,
                fee_limit: Amount::ZERO,
                valid_until_ms: now_ms + VALID_MS,
                action: Action::ReportEquivocation(action::ReportEquivocation {
                    evidence: *evidence,
                }),
            };
            transaction.sign(&key)
        };
        open.map(report).collect()
    }
}
