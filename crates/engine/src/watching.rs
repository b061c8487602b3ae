//! Why a node that has a seat does not vote. Only the words: `consensus` decides it.

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
