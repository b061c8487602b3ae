//! What consensus has found against validators: votes for two histories, kept until the state shows that they were judged.
//!
//! Every node that saw both votes brings them, and the first to come counts; the others find the offender expelled and
//! drop theirs. It must never hold more than one proof for a key, however many its owner gives.

use std::collections::BTreeMap;

use soma_protocol::evidence::Evidence;
use soma_protocol::record::ValidatorStatus;
use soma_protocol::{Action, ConsensusKey, StateRead, read};
use tokio::sync::mpsc::Receiver;

/// Proofs that were not judged yet.
pub(crate) struct Faults {
    found: Option<Receiver<Evidence>>,
    open: BTreeMap<ConsensusKey, Evidence>,
}

impl Faults {
    /// Follows what the engine finds; nothing, if somebody else does.
    pub(crate) const fn new(found: Option<Receiver<Evidence>>) -> Self {
        Self {
            found,
            open: BTreeMap::new(),
        }
    }

    /// The reports that are due at this state.
    pub(crate) fn due(&mut self, state: &dyn StateRead) -> Vec<Action> {
        while let Some(evidence) = self.found.as_mut().and_then(|found| found.try_recv().ok()) {
            self.open.entry(evidence.consensus_key).or_insert(evidence);
        }
        self.open.retain(|key, _| is_open(state, key));
        let open = self.open.values();
        open.map(|evidence| Action::ReportEquivocation {
            evidence: *evidence,
        })
        .collect()
    }
}

/// Whether a key is a validator's that was not judged.
fn is_open(state: &dyn StateRead, key: &ConsensusKey) -> bool {
    read::key_holder(state, key)
        .and_then(|holder| read::validator(state, &holder))
        .is_some_and(|validator| validator.status != ValidatorStatus::Expelled)
}

#[cfg(test)]
mod tests {
    use super::{Action, ConsensusKey, Evidence, Faults, ValidatorStatus, read};
    use crate::localnet::{Plan, consensus_name, validator_name};
    use ed25519_zebra::SigningKey;
    use soma_protocol::evidence::{Ballot, SignedBallot, signed_bytes};
    use soma_protocol::{Amount, BlockInfo, Genesis, Hash, MemoryState, Transaction, execute};
    use tokio::sync::mpsc;

    /// A network of four.
    fn plan() -> Plan {
        Plan {
            validators: 4,
            ..Plan::manual([3; 32])
        }
    }

    /// Proof that the second validator signed two histories.
    fn proof(genesis: &Genesis) -> Evidence {
        let key = SigningKey::from_bytes(&plan().key(&consensus_name(2)).to_bytes());
        let vote = |block| {
            let ballot = Ballot::Notarize {
                parent: 4,
                block: Hash([block; 32]),
            };
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

    /// What a validator without a coin does about it.
    fn report(genesis: &Genesis, state: &MemoryState, action: Action) -> soma_protocol::Outcome {
        let key = plan().key(&validator_name(3));
        let sender = key.address();
        assert_eq!(read::account(state, &sender).balance, Amount::ZERO);
        let transaction = Transaction {
            chain: genesis.chain_id(),
            sender,
            nonce: 0,
            fee_limit: Amount::ZERO,
            valid_until_ms: u64::MAX,
            action,
        };
        let signed = transaction.sign(&key).verify(&genesis.chain_id()).unwrap();
        let block = BlockInfo {
            height: 1,
            timestamp_ms: genesis.timestamp_ms + 1,
            proposer: sender,
        };
        execute(state, &block, &[signed])
    }

    #[test]
    fn one_proof_for_each_offender_is_due_until_it_is_judged() {
        let genesis = plan().genesis();
        let mut state = MemoryState::default();
        state.apply(&genesis.state().unwrap());
        let (found, queue) = mpsc::channel(16);
        let mut faults = Faults::new(Some(queue));
        assert!(faults.due(&state).is_empty());
        let evidence = proof(&genesis);
        let again = Evidence {
            view: 6,
            ..evidence
        };
        let stranger = Evidence {
            consensus_key: ConsensusKey([9; 32]),
            ..evidence
        };
        for one in [evidence, again, stranger] {
            found.try_send(one).unwrap();
        }
        let due = faults.due(&state);
        assert_eq!(due, [Action::ReportEquivocation { evidence }]);
        assert_eq!(faults.due(&state), due, "until it is judged");

        let outcome = report(&genesis, &state, due[0].clone());
        assert_eq!(outcome.receipts[0].result, Ok(()));
        state.apply(&outcome.changes);
        let offender = read::validator(&state, &genesis.validators[1].address).unwrap();
        assert_eq!(offender.status, ValidatorStatus::Expelled);
        assert!(offender.pool.stake < genesis.validators[1].stake);
        found.try_send(again).unwrap();
        assert!(faults.due(&state).is_empty());
    }
}
