//! Proof that validators voted for two histories, kept until the state shows that it has been
//! judged.
//!
//! Every node that saw both votes reports them, and the first report counts; the others find the
//! offender expelled and drop theirs. It must never hold more than one proof for a key.

use std::collections::BTreeMap;

use soma_protocol::evidence::Evidence;
use soma_protocol::{Action, ConsensusKey, StateRead, action, query};
use tokio::sync::mpsc::Receiver;

/// Proofs that have not been judged.
pub(super) struct Equivocations {
    found: Option<Receiver<Evidence>>,
    open: BTreeMap<ConsensusKey, Evidence>,
}

impl Equivocations {
    /// Collects what the engine finds; collects nothing if its receiver was already taken.
    pub(super) const fn new(found: Option<Receiver<Evidence>>) -> Self {
        Self { found, open: BTreeMap::new() }
    }

    /// The reports that are due at this state.
    pub(super) fn due(&mut self, state: &dyn StateRead) -> Vec<Action> {
        while let Some(evidence) = self.found.as_mut().and_then(|found| found.try_recv().ok()) {
            self.open.entry(evidence.consensus_key).or_insert(evidence);
        }
        self.open.retain(|key, _| query::is_reportable(state, key));
        let open = self.open.values();
        open.map(|evidence| {
            Action::ReportEquivocation(action::ReportEquivocation { evidence: *evidence })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, ConsensusKey, Equivocations, Evidence};
    use crate::localnet::{Plan, consensus_name, validator_name};
    use ed25519_zebra::SigningKey;
    use soma_protocol::evidence::{Ballot, SignedBallot, signed_bytes};
    use soma_protocol::record::ValidatorStatus;
    use soma_protocol::{
        Amount, BlockInfo, Genesis, Hash, MemoryState, Transaction, action, execute, read,
    };
    use tokio::sync::mpsc;

    /// A network of four.
    fn plan() -> Plan {
        Plan { validators: 4, ..Plan::manual([3; 32]) }
    }

    /// Proof that the second validator signed two histories.
    fn proof(genesis: &Genesis) -> Evidence {
        let key = SigningKey::from_bytes(&plan().key(&consensus_name(2)).to_bytes());
        let vote = |block| {
            let ballot = Ballot::Notarize { parent: 4, block: Hash([block; 32]) };
            let bytes = signed_bytes(&genesis.chain_id(), 0, 5, &ballot);
            let signature = key.sign(&bytes).to_bytes();
            SignedBallot { ballot, signature }
        };
        Evidence {
            consensus_key: genesis.validators[1].consensus_key,
            term: 0,
            view: 5,
            first: vote(1),
            second: vote(2),
        }
    }

    /// A report by a validator without a balance.
    fn report(genesis: &Genesis, state: &MemoryState, action: Action) -> soma_protocol::Outcome {
        let key = plan().key(&validator_name(3));
        let sender = key.address();
        assert_eq!(read::account(state, &sender).balance, Amount::ZERO);
        let transaction = Transaction {
            chain: genesis.chain_id(),
            sender,
            nonce: 0,
            tip: Amount::ZERO,
            fee_limit: Amount::ZERO,
            valid_until_ms: u64::MAX,
            action,
        };
        let signed = transaction.sign(&key).verify(&genesis.chain_id()).unwrap();
        let block =
            BlockInfo { height: 1, timestamp_ms: genesis.timestamp_ms + 1, proposer: sender };
        execute(state, &block, &[signed]).unwrap()
    }

    #[test]
    fn one_proof_for_each_offender_is_due_until_it_is_judged() {
        let genesis = plan().genesis();
        let mut state = MemoryState::default();
        state.apply(&genesis.state().unwrap());
        let (found, queue) = mpsc::channel(16);
        let mut equivocations = Equivocations::new(Some(queue));
        assert!(equivocations.due(&state).is_empty());
        let evidence = proof(&genesis);
        let again = Evidence { view: 6, ..evidence };
        let outsider = Evidence { consensus_key: ConsensusKey([9; 32]), ..evidence };
        for evidence in [evidence, again, outsider] {
            found.try_send(evidence).unwrap();
        }
        let due = equivocations.due(&state);
        assert_eq!(due, [Action::ReportEquivocation(action::ReportEquivocation { evidence })]);
        assert_eq!(equivocations.due(&state), due, "until it is judged");

        let outcome = report(&genesis, &state, due[0].clone());
        assert_eq!(outcome.receipts[0].result, Ok(()));
        state.apply(&outcome.changes);
        let offender = read::validator(&state, &genesis.validators[1].address).unwrap();
        assert_eq!(offender.status, ValidatorStatus::Expelled);
        assert!(offender.pool.stake < genesis.validators[1].stake);
        found.try_send(again).unwrap();
        assert!(equivocations.due(&state).is_empty());
    }
}
