//! Which documents an account may submit: only those in the corpus that it committed before the
//! epoch began, when nobody could know the targets.
//!
//! The list is on this disk, the chain has its root. A root that is not one of this list was
//! committed elsewhere, and is never replaced without being told to.

use soma_codes::{Coded as _, Exit};
use soma_protocol::{Action, Hash, action};
use soma_sdk::api;
use soma_sdk::corpus::{Added, Corpus, Listed, Proof};

use crate::competitor::Competitor;
use crate::documents::Document;
use crate::error::{CompeteError, Result};
use crate::observer::Level;

/// How much of an account's list counts: always its first documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The epoch that this is about.
    pub epoch: u32,
    /// How many documents count in this epoch.
    pub counting: u32,
    /// How many count from the next epoch on.
    pub committed: u32,
    /// What the chain says, for other nodes to confirm.
    pub(crate) told: Told,
}

/// What a node says of an account's corpus: the root that counts, and the one that will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    counting: Option<api::Corpus>,
    next: Option<api::Corpus>,
}

impl From<&api::Account> for Told {
    fn from(account: &api::Account) -> Self {
        Self { counting: account.corpus, next: account.next_corpus }
    }
}

impl Standing {
    /// What the chain says of an account's corpus in an epoch, compared with the list.
    ///
    /// # Errors
    /// [`CompeteError::CorpusElsewhere`], if the root that was committed last is not one of the
    /// list. One that was committed before that, and is not, counts as nothing.
    fn of(told: Told, epoch: u32, corpus: &Corpus) -> Result<Self> {
        let Told { counting, next } = told;
        let ours = |told: &api::Corpus| corpus.root(told.leaves) == Some(told.root.0);
        if let Some(last) = next.or(counting).filter(|last| !ours(last)) {
            let (root, leaves) = (last.root.0, last.leaves);
            return Err(CompeteError::CorpusElsewhere { root, leaves });
        }
        let leaves = |root: Option<api::Corpus>| root.filter(ours).map_or(0, |root| root.leaves);
        let committed = leaves(next.or(counting));
        let counting = leaves(counting.filter(|root| root.from_epoch <= epoch));
        Ok(Self { epoch, counting, committed, told })
    }

    /// Whether a document counts in this epoch.
    pub fn counts(&self, corpus: &Corpus, data_hash: &Hash) -> bool {
        corpus.place(data_hash).is_some_and(|place| place < self.counting)
    }

    /// What shows that a document counts.
    pub(crate) fn proof(&self, corpus: &Corpus, data_hash: &Hash) -> Option<Proof> {
        corpus.proof(self.counting, data_hash)
    }
}

impl Competitor<'_> {
    /// What counts of this account's corpus now.
    ///
    /// # Errors
    /// [`CompeteError::CorpusElsewhere`]; network errors.
    pub async fn standing(&self, corpus: &Corpus) -> Result<Standing> {
        // In this order: what the account has committed is at least as new as the epoch.
        let epoch = self.client().status().await?.clock.epoch;
        let account = self.client().account(self.sender.address()).await?;
        corpus.refresh()?;
        Standing::of(Told::from(&account), epoch, corpus)
    }

    /// Lists the documents that are not in the corpus yet, and commits its root, unless it is the
    /// one that was committed last: then they count from the next epoch on. With `replace`, it
    /// takes the place of a root that was committed elsewhere.
    ///
    /// # Errors
    /// [`CompeteError::CorpusElsewhere`]; [`CompeteError::CorpusFull`] if there are documents and
    /// the list has room for none of them; [`CompeteError::Sdk`].
    pub async fn commit_corpus(
        &self,
        corpus: &Corpus,
        documents: &[Document],
        replace: bool,
    ) -> Result<Standing> {
        let (before, counting) = match self.standing(corpus).await {
            Err(CompeteError::CorpusElsewhere { .. }) if replace => (0, 0),
            standing => standing.map(|standing| (standing.committed, standing.counting))?,
        };
        self.list(corpus, documents)?;
        let leaves = corpus.len();
        if let Some(root) = corpus.root(leaves).filter(|_| leaves != before) {
            let action = Action::CommitCorpus(action::CommitCorpus { root, leaves });
            match self.sender.run(action).await {
                // What counts already can still be submitted.
                Err(error) if error.exit() == Exit::Rejected && counting > 0 => {
                    let text = format!("new documents were not committed: {error}");
                    self.observer.notice(Level::Warning, &text);
                }
                sent => drop(sent?),
            }
        }
        let standing = self.standing(corpus).await?;
        let new = standing.committed.saturating_sub(before);
        if new > 0 {
            let from = standing.epoch.saturating_add(1);
            let documents = if new == 1 { "document counts" } else { "documents count" };
            let text = format!("{new} new {documents} from epoch {from} on");
            self.observer.notice(Level::Info, &text);
        }
        Ok(standing)
    }

    /// Appends to the list what is not in it, while it has room.
    fn list(&self, corpus: &Corpus, documents: &[Document]) -> Result {
        let listed = |document: &Document| {
            let size_bytes = u32::try_from(document.size_bytes()).ok()?;
            Some(Listed { data_hash: document.hash(), size_bytes })
        };
        let Added { beyond, .. } = corpus.add(documents.iter().filter_map(listed))?;
        if beyond == 0 {
            return Ok(());
        }
        if documents.iter().all(|document| corpus.place(&document.hash()).is_none()) {
            return Err(CompeteError::CorpusFull { documents: corpus.len() });
        }
        let text = format!("left out: {beyond} documents, because the account's corpus is full");
        self.observer.notice(Level::Warning, &text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use soma_codes::Coded as _;
    use soma_protocol::Hash;
    use soma_sdk::Text;
    use soma_sdk::api;
    use soma_sdk::corpus::{Corpus, Listed};

    use super::{Standing, Told};

    fn corpus(documents: u8) -> (tempfile::TempDir, Corpus) {
        let home = tempfile::tempdir().unwrap();
        let corpus = Corpus::open(home.path().join("corpus/account")).unwrap();
        let document = |byte| Listed { data_hash: Hash([byte; 32]), size_bytes: 9 };
        corpus.add((0..documents).map(document)).unwrap();
        (home, corpus)
    }

    fn root(corpus: &Corpus, leaves: u32, from_epoch: u32) -> api::Corpus {
        api::Corpus { root: Text(corpus.root(leaves).unwrap()), leaves, from_epoch }
    }

    fn foreign(from_epoch: u32) -> api::Corpus {
        api::Corpus { root: Text(Hash([9; 32])), leaves: 2, from_epoch }
    }

    #[test]
    fn the_first_part_of_the_list_counts_until_the_next_root_does() {
        let (_home, corpus) = corpus(5);
        let judge = |counting, next| Standing::of(Told { counting, next }, 7, &corpus).unwrap();
        let standing = judge(Some(root(&corpus, 2, 4)), Some(root(&corpus, 5, 8)));
        assert_eq!((standing.counting, standing.committed), (2, 5));
        let counts = |byte| standing.counts(&corpus, &Hash([byte; 32]));
        assert!(counts(0) && counts(1) && !counts(2) && !counts(99));
        let shown = |byte| standing.proof(&corpus, &Hash([byte; 32])).is_some();
        assert!(shown(1) && !shown(2));
        let none = judge(None, None);
        assert_eq!((none.counting, none.committed), (0, 0));
        // The node has reached the next epoch since it was asked for the epoch.
        let ahead = judge(Some(root(&corpus, 5, 8)), None);
        assert_eq!((ahead.counting, ahead.committed), (0, 5));
    }

    #[test]
    fn a_root_that_is_not_of_this_list_stops_and_an_older_one_counts_as_nothing() {
        let (_home, corpus) = corpus(5);
        let judge = |counting, next| Standing::of(Told { counting, next }, 7, &corpus);
        for (counting, next) in [(foreign(7), None), (root(&corpus, 5, 7), Some(foreign(8)))] {
            let error = judge(Some(counting), next).unwrap_err();
            assert_eq!(error.code().as_str(), "corpus_elsewhere");
        }
        let longer = api::Corpus { leaves: 6, ..root(&corpus, 5, 7) };
        judge(Some(longer), None).unwrap_err();
        let replaced = judge(Some(foreign(7)), Some(root(&corpus, 5, 8))).unwrap();
        assert_eq!((replaced.counting, replaced.committed), (0, 5));
    }
}
