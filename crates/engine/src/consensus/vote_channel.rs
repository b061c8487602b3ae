//! The channel for votes of one term, and what is written down on the way: own votes before they
//! leave, and the last vote of each peer, for a second process with that peer's key.

use std::{num::NonZeroUsize, sync::Arc, time::SystemTime};

use commonware_actor::{Feedback, Unreliable};
use commonware_codec::ReadExt as _;
use commonware_consensus::{Viewable as _, simplex::types::Vote};
use commonware_cryptography::{blake3::Digest, ed25519::PublicKey};
use commonware_p2p::{CheckedSender, LimitedSender, Message, Receiver, Recipients, Sender};
use commonware_runtime::IoBufs;

use crate::{
    ballots::SignedVote,
    keys::consensus_key,
    leases::seen::SeenVotes,
    scheme::Scheme,
    votes::{VotePlace, VoteRecord},
};

/// Sends votes, each after it is recorded.
#[derive(Clone)]
pub(crate) struct RecordingSender<S> {
    pub(crate) sender: S,
    pub(crate) term: u64,
    pub(crate) record: Arc<VoteRecord>,
}

impl<S: Sender> LimitedSender for RecordingSender<S> {
    type PublicKey = S::PublicKey;
    type Checked<'a> = RecordingChecked<'a, S::Checked<'a>>;

    fn check(
        &mut self,
        recipients: Recipients<S::PublicKey>,
    ) -> Result<Self::Checked<'_>, SystemTime> {
        let checked = self.sender.check(recipients)?;
        Ok(RecordingChecked { checked, term: self.term, record: &self.record })
    }
}

/// A [`RecordingSender`] that may send one message.
pub(crate) struct RecordingChecked<'a, C> {
    checked: C,
    term: u64,
    record: &'a VoteRecord,
}

impl<C: CheckedSender> CheckedSender for RecordingChecked<'_, C> {
    type PublicKey = C::PublicKey;

    fn recipients(&self) -> Vec<C::PublicKey> {
        self.checked.recipients()
    }

    #[expect(clippy::panic, reason = "the engine's contract: a node whose disk fails must stop")]
    fn send(self, message: impl Into<IoBufs> + Send, priority: bool) -> Unreliable<Feedback> {
        let message: IoBufs = message.into();
        let vote = Vote::<Scheme, Digest>::read(&mut message.clone());
        if let Ok(vote) = vote
            && let Err(error) =
                self.record.note(VotePlace { term: self.term, view: vote.view().get() })
        {
            panic!("cannot record a vote: {error}");
        }
        self.checked.send(message, priority)
    }
}

/// Notes the vote of a term, if it is one, that came over the connection of a key.
pub(crate) fn note(seen: &SeenVotes, from: &PublicKey, term: u64, message: &[u8]) {
    let vote = SignedVote::of_bytes(message);
    if let Some(vote) = vote.filter(|vote| vote.place.term == term) {
        seen.note(&consensus_key(from), vote);
    }
}

/// Receives votes, and notes the last one of each key.
#[derive(Debug)]
pub(crate) struct NotingReceiver<R> {
    pub(crate) receiver: R,
    pub(crate) term: u64,
    pub(crate) seen: Arc<SeenVotes>,
}

impl<R: Receiver<PublicKey = PublicKey>> Receiver for NotingReceiver<R> {
    type Error = R::Error;
    type PublicKey = PublicKey;

    async fn recv(&mut self) -> Result<Message<PublicKey>, R::Error> {
        let (from, message) = self.receiver.recv().await?;
        note(&self.seen, &from, self.term, message.as_ref());
        Ok((from, message))
    }

    fn capacity(&self) -> NonZeroUsize {
        self.receiver.capacity()
    }
}
