//! Runs the consensus proper, once per epoch of the engine, each time with the committee that the
//! state names for it.
//!
//! An epoch begins when the last block of the one before is in the history; its root is that block.
//! A node that is behind hears votes of later epochs, which it cannot check: it takes them as a
//! hint that the sender has the last block of its own epoch, and asks for it.

use commonware_consensus::{
    marshal::Identifier,
    simplex::{self, Floor},
    types::{Epoch, Height},
};
use commonware_cryptography::{Digestible as _, ed25519::PublicKey};
use commonware_p2p::{
    Blocker, Channel, Message, Receiver, Sender,
    utils::mux::{Builder as _, MuxHandle, Muxer},
};
use commonware_runtime::{
    Clock, Handle as Task, Metrics, Network, Spawner, Storage, buffer::paged::CacheRef,
};
use commonware_utils::{
    channel::{mpsc, watch},
    vec::NonEmptyVec,
};
use rand_core::{CryptoRng, Rng};

use crate::{
    committees::Committees,
    faults::Faults,
    network::Roster,
    parts::{self, Automaton, Mailbox, Timing},
};

/// What one epoch's run needs besides its committee.
pub(crate) struct Epochs<E, P, B>
where
    E: Spawner + commonware_storage::Context,
{
    pub(crate) context: E,
    pub(crate) prefix: String,
    pub(crate) page_cache: CacheRef,
    pub(crate) timing: Timing,
    pub(crate) committees: Committees,
    pub(crate) roster: P,
    pub(crate) blocker: B,
    pub(crate) ordered: Mailbox,
    pub(crate) automaton: Automaton<E>,
    pub(crate) faults: Faults,
}

/// A channel split by epoch, and what arrives for epochs that are not running.
struct Split<S: Sender> {
    running: MuxHandle<S>,
    elsewhere: mpsc::Receiver<(Channel, Message<S::PublicKey>)>,
}

fn split<E: Spawner + Metrics, S: Sender, R: Receiver<PublicKey = S::PublicKey>>(
    context: E,
    (sender, receiver): (S, R),
) -> Split<S> {
    let (muxer, running, elsewhere) = Muxer::builder(context, sender, receiver)
        .with_backup()
        .build();
    muxer.start();
    Split { running, elsewhere }
}

/// Waits until the history has reached `height`, and says how far it is. If its writer ends, then
/// the writer says why, and not the consensus.
async fn beyond(recorded: &mut watch::Receiver<u64>, height: u64) -> u64 {
    let reached = recorded.wait_for(|recorded| *recorded >= height).await;
    match reached.map(|recorded| *recorded) {
        Ok(reached) => reached,
        Err(_) => std::future::pending().await,
    }
}

impl<E, P, B> Epochs<E, P, B>
where
    E: Rng + CryptoRng + Spawner + Storage + Clock + Metrics + Network,
    P: Roster,
    B: Blocker<PublicKey = PublicKey>,
{
    /// Starts with the epoch after block `height`; `recorded` is the height of the history as it
    /// grows. The task ends when the consensus does.
    pub(crate) fn start<S, R>(
        mut self,
        height: u64,
        recorded: watch::Receiver<u64>,
        (votes, certificates, requests): ((S, R), (S, R), (S, R)),
    ) -> Task<()>
    where
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        let votes = split(self.context.child("votes"), votes);
        let certificates = split(self.context.child("certificates"), certificates);
        let (muxer, requests) = Muxer::new(self.context.child("requests"), requests.0, requests.1);
        muxer.start();
        let context = self.context.child("epochs");
        context.spawn(move |_| async move {
            self.run(height, recorded, votes, certificates, requests)
                .await;
        })
    }

    async fn run<S: Sender<PublicKey = PublicKey>>(
        &mut self,
        height: u64,
        mut recorded: watch::Receiver<u64>,
        mut votes: Split<S>,
        mut certificates: Split<S>,
        mut requests: MuxHandle<S>,
    ) {
        let calendar = self.committees.calendar();
        let mut epoch = calendar.epoch_of(height + 1);
        let mut channels = (&mut votes.running, &mut certificates.running, &mut requests);
        let Some(mut running) = self.enter(epoch, &mut channels).await else {
            return;
        };
        loop {
            tokio::select! {
                biased;
                _ = &mut running => return,
                reached = beyond(&mut recorded, calendar.last_of(epoch)) => {
                    let before = std::mem::replace(&mut epoch, calendar.epoch_of(reached + 1));
                    let Some(next) = self.enter(epoch, &mut channels).await else {
                        return;
                    };
                    std::mem::replace(&mut running, next).abort();
                    self.forget(before).await;
                }
                Some((theirs, (from, _))) = votes.elsewhere.recv() => self.hint(epoch, theirs, from),
                Some((theirs, (from, _))) = certificates.elsewhere.recv() => {
                    self.hint(epoch, theirs, from);
                }
            }
        }
    }

    /// Somebody votes in a later epoch: it has the last block of ours.
    fn hint(&self, ours: u64, theirs: u64, from: PublicKey) {
        if theirs > ours {
            let last = Height::new(self.committees.calendar().last_of(ours));
            self.ordered.hint_finalized(last, NonEmptyVec::new(from));
        }
    }

    /// Starts an epoch's run; `None` when the node is stopping.
    async fn enter<S: Sender<PublicKey = PublicKey>>(
        &mut self,
        epoch: u64,
        (votes, certificates, requests): &mut (
            &mut MuxHandle<S>,
            &mut MuxHandle<S>,
            &mut MuxHandle<S>,
        ),
    ) -> Option<Task<()>> {
        let root = Height::new(self.committees.calendar().root_of(epoch));
        let root = self.ordered.get_block(Identifier::Height(root)).await?;
        let seats = self.committees.of(epoch)?;
        let voters = self.committees.voters(epoch);
        self.roster
            .track(epoch, voters, self.committees.registered());
        tracing::info!(epoch, seats = seats.validators.len(), "epoch begins");
        let config = parts::consensus(
            self.partition(epoch),
            self.page_cache.clone(),
            self.timing,
            seats.scheme.clone(),
            self.blocker.clone(),
            (&self.automaton, self.faults.clone()),
            (Epoch::new(epoch), Floor::Genesis(root.digest())),
        );
        let votes = votes.register(epoch).await.ok()?;
        let certificates = certificates.register(epoch).await.ok()?;
        let requests = requests.register(epoch).await.ok()?;
        let context = self
            .context
            .child("consensus")
            .with_attribute("epoch", epoch);
        let engine = simplex::Engine::new(context, config);
        Some(engine.start(votes, certificates, requests))
    }

    fn partition(&self, epoch: u64) -> String {
        format!("{}-votes-{epoch}", self.prefix)
    }

    /// Removes the votes of the epoch before the one that has ended: nobody asks for them again.
    async fn forget(&mut self, ended: u64) {
        if let Some(past) = ended.checked_sub(1) {
            // It may not be there: nodes that catch up pass through epochs without a vote.
            let _ = self.context.remove(&self.partition(past), None).await;
        }
    }
}
