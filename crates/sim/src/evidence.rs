//! Evidence of equivocation: kept until it has been judged, and reported by the node that holds it,
//! as real validators do. There must never be evidence against an honest node, whatever its faults.

use std::collections::BTreeMap;

use soma_protocol::{
    Action, Amount, ConsensusKey, Hash, SignedTransaction, StateRead, Transaction, action,
    evidence::Evidence, query, read, record::ValidatorStatus,
};

use crate::Violation;
use crate::actors::VALID_MS;
use crate::genesis::{NODES, consensus_key, node_key};

/// Evidence, by the key that it is against, each with the node that has it.
#[derive(Clone, Debug, Default)]
pub struct EvidencePool(BTreeMap<ConsensusKey, (usize, Evidence)>);

/// Whether a node was expelled and has lost its seat.
pub fn is_expelled(state: &dyn StateRead, node: usize) -> bool {
    let address = node_key(node).address();
    let status = read::validator(state, &address).map(|validator| validator.status);
    status == Some(ValidatorStatus::Expelled) && !read::committee(state).seats_validator(&address)
}

impl EvidencePool {
    /// Keeps evidence that a node found.
    ///
    /// # Errors
    /// [`Violation::Accused`] if it is against an honest node.
    pub fn add(
        &mut self,
        by: usize,
        evidence: Evidence,
        is_honest: impl Fn(usize) -> bool,
    ) -> Result<(), Violation> {
        let offender = (0..NODES).find(|node| consensus_key(*node) == evidence.consensus_key);
        if let Some(node) = offender.filter(|node| is_honest(*node)) {
            return Err(Violation::Accused { node, by });
        }
        let entry = self.0.entry(evidence.consensus_key);
        entry.or_insert((by, evidence));
        Ok(())
    }

    /// Transactions that report the evidence that has not been judged.
    pub fn reports(
        &self,
        state: &dyn StateRead,
        chain: Hash,
        now_ms: u64,
    ) -> Vec<SignedTransaction> {
        let open = self.0.iter().filter(|(key, _)| query::is_reportable(state, key));
        open.map(|(_, (by, evidence))| {
            let key = node_key(*by);
            let transaction = Transaction {
                chain,
                sender: key.address(),
                nonce: 0,
                tip: Amount::ZERO,
                fee_limit: Amount::ZERO,
                valid_until_ms: now_ms + VALID_MS,
                action: Action::ReportEquivocation(action::ReportEquivocation {
                    evidence: *evidence,
                }),
            };
            transaction.sign(&key)
        })
        .collect()
    }
}
