//! Runs consensus, one instance per term, each with the committee that the state names for it.
//!
//! A term starts when the last block of the previous one, its root, is in the history. A node that
//! is behind receives votes for later terms, which it cannot verify. It takes them as a hint that
//! the sender has the last block of the current term, and requests it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use commonware_consensus::{
    marshal::Identifier,
    simplex::{
        self, Floor,
        config::{ForwardPolicy, SkipPolicy},
        elector::RoundRobin,
    },
    types::{Epoch, Height},
};
use commonware_cryptography::{
    Digestible as _,
    blake3::{Blake3, Digest},
    certificate::Scheme as _,
    ed25519::PublicKey,
};
use commonware_p2p::{
    Blocker, Channel, Message, Receiver, Sender,
    utils::mux::{Builder as _, MuxHandle, Muxer},
};
use commonware_parallel::Sequential;
use commonware_runtime::{Handle as Task, Metrics, Spawner, buffer::paged::CacheRef};
use commonware_utils::{
    N3f1, NZDuration,
    channel::{mpsc, watch},
    ordered::Quorum as _,
    vec::NonEmptyVec,
};

use super::{
    committees::{Committee, Committees},
    components::{Automaton, FETCH_TIMEOUT, MAILBOX, MarshalMailbox, RETRY, VIEWS_KEPT},
    faults::{FaultReporter, Faults},
    pacer::Timing,
    stance::{Journaled, Known, journaled},
    vote_channel::{NotingReceiver, RecordingSender, note},
};
use crate::{
    EngineError,
    archives::BUFFER,
    block::Certificate,
    keys::consensus_key,
    leases::{
        holder::{Leases, Permit, Running, Seat},
        seen::SeenVotes,
    },
    links::{Registered, Roster, Runtime},
    scheme::Scheme,
    votes::{VotePlace, VoteRecord},
    watching::Watching,
};

/// How long building a proposal may take, in addition to the longest wait for transactions.
const PROPOSAL_MARGIN: Duration = Duration::from_secs(1);
const CERTIFICATION_MARGIN: Duration = Duration::from_secs(1);
/// How long to wait for a silent leader before its turns are skipped.
const ABSENT_LEADER: Duration = Duration::from_secs(1);

/// The configuration of one instance of consensus.
type Config<E, B> = simplex::Config<
    Scheme,
    RoundRobin<Blake3>,
    B,
    Digest,
    Automaton<E>,
    Automaton<E>,
    FaultReporter<Automaton<E>>,
    Sequential,
>;

/// The channels that consensus uses, each a sender and a receiver.
pub(crate) struct Channels<S, R> {
    pub(crate) votes: (S, R),
    pub(crate) certificates: (S, R),
    pub(crate) requests: (S, R),
}

/// The same channels, multiplexed by term.
struct Multiplexed<S: Sender> {
    votes: Split<S>,
    certificates: Split<S>,
    requests: MuxHandle<S>,
}

/// A channel split by term, and what arrives for terms that are not running.
struct Split<S: Sender> {
    running: MuxHandle<S>,
    elsewhere: mpsc::Receiver<(Channel, Message<S::PublicKey>)>,
}

fn split<E: Spawner + Metrics, S: Sender, R: Receiver<PublicKey = S::PublicKey>>(
    context: E,
    (sender, receiver): (S, R),
) -> Split<S> {
    let (muxer, running, elsewhere) =
        Muxer::builder(context, sender, receiver).with_backup().build();
    muxer.start();
    Split { running, elsewhere }
}

/// Where the votes of a term are kept.
pub(crate) fn votes_partition(prefix: &str, term: u64) -> String {
    format!("{prefix}-votes-{term}")
}

/// Waits until the history has reached `height`, and returns its current height. If its writer has
/// ended, this waits forever: the writer reports the reason, not consensus.
async fn recorded_up_to(recorded: &mut watch::Receiver<u64>, height: u64) -> u64 {
    let reached = recorded.wait_for(|recorded| *recorded >= height).await;
    match reached.map(|recorded| *recorded) {
        Ok(reached) => reached,
        Err(_) => std::future::pending().await,
    }
}

/// What the consensus instances of all terms share.
pub(crate) struct Terms<E, P, B>
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
    pub(crate) marshal: MarshalMailbox,
    pub(crate) automaton: Automaton<E>,
    pub(crate) faults: Faults,
    pub(crate) own_votes: OwnVotes,
    /// What the others were seen to vote.
    pub(crate) seen: Arc<SeenVotes>,
    /// The peers that the network was told last.
    pub(crate) tracked: Option<(BTreeSet<PublicKey>, Vec<Registered>)>,
}

/// What decides whether this node votes, and where it says that it does not.
pub(crate) struct OwnVotes {
    pub(crate) record: Arc<VoteRecord>,
    /// The leases without which it signs nothing.
    pub(crate) leases: Arc<Leases>,
    /// Whether it votes although its record does not show that it may.
    pub(crate) unrecorded: bool,
    /// Why it does not vote in the current term although it has a seat.
    pub(crate) watching: watch::Sender<Option<Watching>>,
}

/// How this node takes part in a term.
struct Stance {
    /// Signs votes, or only verifies them.
    scheme: Scheme,
    /// Whether its journal of the term is not what the key signed: it begins after the last block
    /// that is known to be finalized.
    is_behind: bool,
}

impl<E, P, B> Terms<E, P, B>
where
    E: Runtime,
    P: Roster,
    B: Blocker<PublicKey = PublicKey>,
{
    /// Starts with the term after block `height`; `recorded` is the height of the history as it
    /// grows. The task ends when consensus does.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] if the journal of the term's votes is.
    pub(crate) async fn start<S, R>(
        mut self,
        height: u64,
        recorded: watch::Receiver<u64>,
        channels: Channels<S, R>,
    ) -> Result<Task<()>, EngineError>
    where
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        let term = self.committees.calendar().term_of(height + 1);
        let stance = match self.committees.at(term) {
            Some(committee) => Some(self.stance(term, &committee, height).await?),
            None => None,
        };
        let context = self.context.child("requests");
        let (muxer, requests) = Muxer::new(context, channels.requests.0, channels.requests.1);
        muxer.start();
        let multiplexed = Multiplexed {
            votes: split(self.context.child("votes"), channels.votes),
            certificates: split(self.context.child("certificates"), channels.certificates),
            requests,
        };
        let context = self.context.child("terms");
        Ok(context.spawn(move |_| async move {
            if let Some(stance) = stance {
                self.run(height, stance, recorded, multiplexed).await;
            }
        }))
    }

    async fn run<S: Sender<PublicKey = PublicKey>>(
        &mut self,
        height: u64,
        stance: Stance,
        mut recorded: watch::Receiver<u64>,
        mut channels: Multiplexed<S>,
    ) {
        let calendar = self.committees.calendar();
        let mut term = calendar.term_of(height + 1);
        let mut registrations = self.committees.registrations();
        let Some(mut running) = self.start_term(term, height, stance, &mut channels).await else {
            return;
        };
        loop {
            tokio::select! {
                biased;
                _ = &mut running => return,
                reached = recorded_up_to(&mut recorded, calendar.last_of(term)) => {
                    let ended = std::mem::replace(&mut term, calendar.term_of(reached + 1));
                    let Some(next) = self.next_term(term, reached, &mut channels).await else {
                        return;
                    };
                    std::mem::replace(&mut running, next).abort();
                    self.remove_votes_before(ended).await;
                }
                Ok(()) = registrations.changed() => self.track(term),
                Some((theirs, (from, message))) = channels.votes.elsewhere.recv() => {
                    note(&self.seen, &from, theirs, message.as_ref());
                    self.hint(term, theirs, from);
                }
                Some((theirs, (from, _))) = channels.certificates.elsewhere.recv() => {
                    self.hint(term, theirs, from);
                }
            }
        }
    }

    /// Tells the network who the peers are, if that has changed.
    fn track(&mut self, term: u64) {
        let peers = (self.committees.voters(term), self.committees.registered());
        if self.tracked.as_ref() != Some(&peers) {
            self.roster.track(peers.0.clone(), peers.1.clone());
            self.tracked = Some(peers);
        }
    }

    /// Decides whether this node votes in a term, and records that it begins. (`&mut`, so that the
    /// future can be sent although not all parts can be shared.)
    async fn stance(
        &mut self,
        term: u64,
        committee: &Committee,
        height: u64,
    ) -> Result<Stance, EngineError> {
        let scheme = committee.scheme.clone();
        let record = &self.own_votes.record;
        let (last, mut journal) = (record.last(), Journaled::default());
        let is_seated = scheme.me().is_some_and(|me| me.signer().is_some());
        let is_alone = scheme.participants().len() == 1;
        if record.is_restored() && is_seated && (self.own_votes.unrecorded || is_alone) {
            tracing::warn!(
                "the record of this key's votes is from a backup; it votes all the same"
            );
            record.settle(0).map_err(EngineError::stopped)?;
        }
        if is_seated && last.is_none_or(|last| last.term == term) {
            let partition = self.votes_partition(term);
            journal = journaled(&self.context, partition, &self.page_cache, &scheme).await?;
        }
        let before = record.before(term).voted;
        let known = Known { term, last, before, journal, is_new: height == 0 };
        // With a record from a backup, it signs nothing before it has leases, and knows more then.
        let watching = known.watches().filter(|_| is_seated && !record.is_restored());
        let seat = is_seated.then(|| self.seat(committee));
        // After a loss of power the record may be behind. It is brought up to date before this node
        // says how far it voted, and is told of votes that it lacks.
        let begun = match (last, journal.last_own) {
            (None, _) if watching.is_some() => Some(u64::MAX),
            (None, voted) => Some(voted.unwrap_or(0)),
            (Some(_), voted) => voted.filter(|_| is_seated && watching.is_none()),
        };
        if let Some(view) = begun {
            record.note(VotePlace { term, view }).map_err(EngineError::stopped)?;
        }
        self.own_votes.leases.begin_term(self.running(term), seat.clone());
        let permitted = |scheme: Scheme| match seat {
            Some(seat) => {
                scheme.permitted(Permit::new(Arc::clone(&self.own_votes.leases), term, seat))
            }
            None => scheme,
        };
        let Some(watching) = watching else {
            self.own_votes.watching.send_replace(None);
            return Ok(Stance { scheme: permitted(scheme), is_behind: false });
        };
        if self.own_votes.unrecorded || is_alone {
            tracing::warn!("{}; it votes all the same", watching.reason());
            record.restart(VotePlace { term, view: 0 }).map_err(EngineError::stopped)?;
            self.own_votes.watching.send_replace(None);
            return Ok(Stance { scheme: permitted(scheme), is_behind: true });
        }
        tracing::warn!("{watching}");
        self.own_votes.watching.send_replace(Some(watching));
        Ok(Stance { scheme: self.committees.verifier(committee), is_behind: true })
    }

    /// The keys that have a seat in this term or the next one.
    fn running(&self, term: u64) -> Running {
        let voters = self.committees.voters(term);
        Running { term, voters: voters.iter().map(consensus_key).collect() }
    }

    /// This node's seat in a committee.
    fn seat(&self, committee: &Committee) -> Seat {
        let keys = committee.validators.keys().map(consensus_key);
        let quorum = committee.scheme.participants().quorum::<N3f1>();
        Seat::new(self.own_votes.leases.me(), keys, usize::try_from(quorum).unwrap_or(usize::MAX))
    }

    async fn next_term<S: Sender<PublicKey = PublicKey>>(
        &mut self,
        term: u64,
        height: u64,
        channels: &mut Multiplexed<S>,
    ) -> Option<Task<()>> {
        let committee = self.committees.at(term)?;
        let stance = match self.stance(term, &committee, height).await {
            Ok(stance) => stance,
            Err(error) => {
                tracing::error!(%error, "cannot tell how this key voted in the next term");
                return None;
            }
        };
        self.start_term(term, height, stance, channels).await
    }

    /// A peer that votes in a later term has the last block of this one.
    fn hint(&self, term: u64, theirs: u64, from: PublicKey) {
        if theirs > term {
            let last = Height::new(self.committees.calendar().last_of(term));
            self.marshal.hint_finalized(last, NonEmptyVec::new(from));
        }
    }

    /// Starts the consensus of a term; `None` when the node is stopping.
    async fn start_term<S: Sender<PublicKey = PublicKey>>(
        &mut self,
        term: u64,
        height: u64,
        stance: Stance,
        channels: &mut Multiplexed<S>,
    ) -> Option<Task<()>> {
        let root = Height::new(self.committees.calendar().root_of(term));
        let root = self.marshal.get_block(Identifier::Height(root)).await?;
        let known =
            if stance.is_behind { self.last_finalization(term, height).await } else { None };
        let floor = known.map_or_else(|| Floor::Genesis(root.digest()), Floor::Finalized);
        self.track(term);
        tracing::info!(term, seats = stance.scheme.participants().len(), "term begins");
        let config = self.config(term, stance.scheme, floor);
        let (sender, receiver) = channels.votes.running.register(term).await.ok()?;
        let sender = RecordingSender { sender, term, record: Arc::clone(&self.own_votes.record) };
        let receiver = NotingReceiver { receiver, term, seen: Arc::clone(&self.seen) };
        let certificates = channels.certificates.running.register(term).await.ok()?;
        let requests = channels.requests.register(term).await.ok()?;
        let context = self.context.child("consensus").with_attribute("term", term);
        let engine = simplex::Engine::new(context, config);
        Some(engine.start((sender, receiver), certificates, requests))
    }

    /// The certificate of the last stored block that has one in this term; `height` is stored, and
    /// later blocks may be, which the state has not reached yet.
    async fn last_finalization(&mut self, term: u64, height: u64) -> Option<Certificate> {
        let calendar = self.committees.calendar();
        let mut last = height;
        while last < calendar.last_of(term)
            && self.marshal.get_block(Identifier::Height(Height::new(last + 1))).await.is_some()
        {
            last += 1;
        }
        for height in (calendar.root_of(term) + 1..=last).rev() {
            let certificate = self.marshal.get_finalization(Height::new(height)).await;
            if certificate.is_some() {
                return certificate;
            }
        }
        None
    }

    fn config(&self, term: u64, scheme: Scheme, floor: Floor<Scheme, Digest>) -> Config<E, B> {
        let alone = scheme.participants().len() == 1;
        let timing = self.timing;
        let longest_wait = Duration::from_millis(timing.idle_ms(alone).max(timing.block_ms));
        let leader_timeout = longest_wait + PROPOSAL_MARGIN;
        let certification_timeout = leader_timeout + CERTIFICATION_MARGIN;
        let automaton = &self.automaton;
        simplex::Config {
            reporter: self.faults.observe(scheme.clone(), automaton.clone()),
            scheme,
            elector: RoundRobin::default(),
            blocker: self.blocker.clone(),
            automaton: automaton.clone(),
            relay: automaton.clone(),
            strategy: Sequential,
            partition: self.votes_partition(term),
            mailbox_size: MAILBOX,
            epoch: Epoch::new(term),
            floor,
            replay_buffer: BUFFER,
            write_buffer: BUFFER,
            page_cache: self.page_cache.clone(),
            leader_timeout,
            certification_timeout,
            timeout_retry: RETRY,
            view_retention: VIEWS_KEPT,
            skip: SkipPolicy::Enabled {
                timeout: certification_timeout + ABSENT_LEADER,
                budget: simplex::SkipBudget::Participants,
            },
            fetch_timeout: NZDuration!(FETCH_TIMEOUT),
            fetch_retry_delay: RETRY,
            forward: ForwardPolicy::SilentVoters,
            track_historical_votes: false,
        }
    }

    fn votes_partition(&self, term: u64) -> String {
        votes_partition(&self.prefix, term)
    }

    /// Removes the votes of the term before `ended`: nobody requests them anymore.
    async fn remove_votes_before(&mut self, ended: u64) {
        if let Some(past) = ended.checked_sub(1) {
            // They may not exist: nodes that catch up pass through terms without voting.
            let _ = self.context.remove(&self.votes_partition(past), None).await;
        }
    }
}
