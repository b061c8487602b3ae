//! What a validator sent that runs twice by mistake. It judges by the rule of the protocol, and
//! sees every vote, whoever receives it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use soma_engine::generic::signed_vote;
use soma_protocol::{
    ConsensusKey, Hash,
    evidence::{Evidence, SignedBallot},
};

use crate::Violation;
use crate::checker::Checker;
use crate::genesis::consensus_key;

/// By term and view.
type Sent = BTreeMap<(u64, u64), Vec<SignedBallot>>;

/// The votes of one key. Clones share them.
#[derive(Clone, Debug)]
pub struct Ballots {
    node: usize,
    key: ConsensusKey,
    chain: Hash,
    checker: Checker,
    sent: Arc<Mutex<Sent>>,
}

impl Ballots {
    /// Those of a node.
    pub fn new(node: usize, chain: Hash, checker: Checker) -> Self {
        Self { node, key: consensus_key(node), chain, checker, sent: Arc::default() }
    }

    /// Sees a message on the channel for votes.
    pub fn note(&self, message: &[u8]) {
        let Some((term, view, ballot)) = signed_vote(message) else {
            return;
        };
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let ballots = sent.entry((term, view)).or_default();
        if ballots.contains(&ballot) {
            return;
        }
        let contradicts = ballots.iter().any(|first| {
            let (consensus_key, first, second) = (self.key, *first, ballot);
            Evidence { consensus_key, term, view, first, second }.proves(&self.chain)
        });
        ballots.push(ballot);
        if contradicts {
            let node = self.node;
            self.checker.report(Violation::Contradicted { node, term, view });
        }
    }

    /// How many votes both signed.
    pub fn count(&self) -> usize {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.values().map(Vec::len).sum()
    }
}
