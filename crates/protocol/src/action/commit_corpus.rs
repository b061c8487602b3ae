//! Fixing the documents that may be submitted, one epoch ahead: whoever knows a target must not be
//! able to make data for it.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::proof::corpus::LEAVES_MAX;
use crate::record::{Corpus, CorpusRoot};
use crate::state::Key;
use crate::{Event, Hash, Rejection, read};

/// Fixes the documents that the sender may submit from the next epoch on.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CommitCorpus {
    /// Root of the tree over the documents; see [`crate::corpus`].
    pub root: Hash,
    /// Number of its leaves, 1 to [`LEAVES_MAX`].
    pub leaves: u32,
}

impl Apply for CommitCorpus {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let Self { root, leaves } = *self;
        if !(1..=LEAVES_MAX).contains(&leaves) {
            return Err(Rejection::BadCorpusSize { leaves, max: LEAVES_MAX });
        }
        let (account, epoch) = (context.sender, context.clock.epoch);
        let earlier = read::corpus(&context.state, &account);
        let corpus = Corpus::with(earlier, CorpusRoot { epoch, root, leaves });
        context.state.save(Key::corpus(&account), &corpus);
        context.events.push(Event::CorpusCommitted { account, root, leaves, counts: epoch.next() });
        Ok(())
    }
}
