//! The task between leases and the network: it claims, answers and passes on. It judges nothing but
//! signatures, and blocks a peer that sends what no honest node sends.

use std::sync::Arc;

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Blocker, Receiver, Recipients, Sender};
use commonware_runtime::{Clock, Spawner};

use super::{
    holder::Leases,
    messages::{Answer, Claim, Message},
    presence::Presence,
    seen::SeenVotes,
    witness::Witness,
};
use crate::{ballots::SignedVote, keys::consensus_key, links::block};

/// How many pauses pass before what was heard is passed on.
const PAUSES_PER_HEARD: u64 = 2;

/// Starts the task; it ends with the network.
pub(crate) fn start<E, S, R, B>(
    context: E,
    leases: Arc<Leases>,
    seen: Arc<SeenVotes>,
    link: (S, R),
    blocker: B,
) where
    E: Spawner + Clock,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    let (sender, receiver) = link;
    context.spawn(move |clock| {
        let now = leases.now().steady;
        let witness = Witness::new(*leases.chain(), leases.pace(), seen, now);
        let carrier = Carrier { clock, leases, witness, sender, blocker, pauses: 0 };
        carrier.run(receiver)
    });
}

struct Carrier<E, S, B> {
    clock: E,
    leases: Arc<Leases>,
    witness: Witness,
    sender: S,
    blocker: B,
    pauses: u64,
}

impl<E, S, B> Carrier<E, S, B>
where
    E: Spawner + Clock,
    S: Sender<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    async fn run<R: Receiver<PublicKey = PublicKey>>(mut self, mut receiver: R) {
        let mut running = self.leases.running();
        // The first term may have begun before this task did.
        running.mark_changed();
        // By the clock that never goes back: a node whose clock was set claims as before.
        let mut due = self.leases.now().steady;
        let mut lacked = false;
        loop {
            tokio::select! {
                biased;
                Ok(()) = running.changed() => {
                    let voters = running.borrow_and_update().voters.clone();
                    self.witness.expect(voters);
                    due = self.leases.now().steady;
                }
                () = self.clock.sleep(due.saturating_sub(self.leases.now().steady)) => {
                    self.speak();
                    let lacks = self.leases.lacks();
                    if lacks != lacked {
                        tell(lacks);
                        lacked = lacks;
                    }
                    let pace = self.leases.pace();
                    let pause = if lacks { pace.attempt() } else { pace.renewal() };
                    due = self.leases.now().steady + pause;
                }
                message = receiver.recv() => {
                    let Ok((from, message)) = message else {
                        return;
                    };
                    let term = running.borrow().term;
                    if let Err(why) = self.receive(&from, message.as_ref(), term) {
                        block(&mut self.blocker, from, why);
                    }
                }
            }
        }
    }

    /// Claims leases, and now and then passes on what was heard.
    fn speak(&mut self) {
        if let Some(claim) = self.leases.claim() {
            self.sender.send(Recipients::All, Message::Claim(claim).encode(), true);
        }
        self.pauses += 1;
        if self.pauses.is_multiple_of(PAUSES_PER_HEARD) {
            let heard = self.witness.heard(self.leases.now().steady);
            if !heard.is_empty() {
                self.sender.send(Recipients::All, Message::Heard(heard).encode(), false);
            }
        }
    }

    /// Takes a message.
    ///
    /// # Errors
    /// Why no honest node sends this.
    fn receive(&mut self, from: &PublicKey, bytes: &[u8], term: u64) -> Result<(), &'static str> {
        match Message::of_bytes(bytes) {
            Some(Message::Claim(claim)) => self.answer(from, claim, term),
            Some(Message::Answer(answer)) => self.take(from, &answer),
            Some(Message::Heard(presences)) => {
                presences.into_iter().try_for_each(|presence| self.hear(from, presence))
            }
            None => Err("its message about leases is malformed"),
        }
    }

    fn answer(&mut self, from: &PublicKey, claim: Claim, term: u64) -> Result<(), &'static str> {
        let is_own = claim.presence.key == consensus_key(from);
        if !is_own || !claim.presence.is_signed(self.leases.chain()) {
            return Err("it claims a lease that is not its own");
        }
        let answer = self.witness.claim(claim, term, self.leases.now().steady);
        if let Some(answer) = answer {
            let message = Message::Answer(answer).encode();
            self.sender.send(Recipients::One(from.clone()), message, true);
        }
        Ok(())
    }

    fn take(&mut self, from: &PublicKey, answer: &Answer) -> Result<(), &'static str> {
        for presence in &answer.others {
            if presence.key != *self.leases.me() {
                return Err("it answers with what another key said");
            }
            // First what speaks against voting.
            self.hear_own(from, presence)?;
        }
        if let Some(vote) = &answer.vote {
            self.hear_own_vote(vote)?;
        }
        self.leases.answered(consensus_key(from), answer);
        Ok(())
    }

    fn hear(&mut self, from: &PublicKey, presence: Presence) -> Result<(), &'static str> {
        if presence.key == *self.leases.me() {
            return self.hear_own(from, &presence);
        }
        if self.witness.is_news(&presence, self.leases.now().steady) {
            if !presence.is_signed(self.leases.chain()) {
                return Err("it passes on what nobody signed");
            }
            self.witness.hear(presence);
        }
        Ok(())
    }

    fn hear_own(&self, from: &PublicKey, presence: &Presence) -> Result<(), &'static str> {
        if self.leases.is_known(presence) {
            return Ok(());
        }
        if !presence.is_signed(self.leases.chain()) {
            return Err("it passes on what this key did not sign");
        }
        self.leases.hear(consensus_key(from), presence);
        Ok(())
    }

    fn hear_own_vote(&self, vote: &SignedVote) -> Result<(), &'static str> {
        if self.leases.is_no_news(vote.place) {
            return Ok(());
        }
        if !vote.is_signed(self.leases.me(), self.leases.chain()) {
            return Err("it passes on a vote that this key did not sign");
        }
        self.leases.hear_vote(vote.place);
        Ok(())
    }
}

fn tell(lacks: bool) {
    if lacks {
        tracing::info!("this node does not vote: it waits for leases of its key");
    } else {
        tracing::info!("this node may vote: enough validators gave it a lease of its key");
    }
}
