//! Why a node that has a seat does not vote. Only the words: `consensus` and `leases` decide it.

use std::time::Duration;

use soma_protocol::ConsensusKey;

/// Why a node that has a seat does not vote in a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watching {
    /// The term; the node votes again in the next one.
    pub term: u64,
    /// The last view of the term in which the key is known to have voted; `None` if its votes were
    /// never recorded here.
    pub voted: Option<u64>,
    /// The last view that the journal of votes has.
    pub journal: Option<u64>,
}

impl Watching {
    /// What is missing.
    pub fn reason(&self) -> String {
        let term = self.term;
        match (self.voted, self.journal) {
            (Some(u64::MAX) | None, _) => {
                format!("nothing records how this node's key voted in term {term}")
            }
            (Some(voted), None) => format!(
                "the journal of this node's votes in term {term} is gone, but its key voted up to \
                 view {voted}"
            ),
            (Some(voted), Some(journal)) => format!(
                "the journal of this node's votes in term {term} ends at view {journal}, but its \
                 key voted up to view {voted}"
            ),
        }
    }
}

impl std::fmt::Display for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: it watches until the next term begins", self.reason())
    }
}

/// What a node knows about other processes that run with its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// Another process that was alive a moment ago.
    pub other: Option<OtherProcess>,
    /// That its key has voted where its own record does not reach.
    pub overtaken: Option<Overtaken>,
    /// That too few validators let it vote, if so.
    pub unleased: Option<Unleased>,
}

/// Another process with the key of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherProcess {
    /// The random number that it drew when it started.
    pub process: u64,
    /// When it started, by its clock.
    pub started_ms: u64,
    /// Whose node told of it.
    pub through: ConsensusKey,
}

/// This node's key has voted elsewhere, or may have, and this node does not know all of its votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken {
    /// The term from which on this node may vote again.
    pub free_from: u64,
    /// Whether nothing is known of another process: the record is from a backup.
    pub is_restored: bool,
}

impl std::fmt::Display for Overtaken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = if self.is_restored {
            "this node is restored from a backup, and its key may have voted since"
        } else {
            "this node's key has voted or may have voted elsewhere, and this node does not know \
             all of its votes"
        };
        write!(f, "{why}: it watches until term {} begins", self.free_from)
    }
}

/// Too few validators let this node vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unleased {
    /// The validators that do.
    pub held: usize,
    /// How many it takes.
    pub needed: usize,
    /// For how long that has been so.
    pub lasts: Duration,
}
