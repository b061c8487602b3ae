//! How a node that has no blocks or is far behind obtains the state without executing all blocks.
//!
//! It verifies handovers from genesis, each with the committee that earlier ones name, up to the
//! last block of the last term; downloads the state after this block, each part with a proof
//! against the root in the certified header; and continues as if it had executed the earlier
//! blocks. What peers claim only decides whether to look: a sync starts once verified handovers
//! prove that the chain is as long as a peer says. The checkpoint marks a sync as started until all
//! of it is on disk: a node never continues from an incomplete state.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use commonware_cryptography::Digestible as _;
use commonware_runtime::{Spawner, buffer::paged::CacheRef};
use commonware_storage::{Context as StorageContext, archive::Archive as _};
use rand_core::CryptoRng;

use super::{
    checkpoint::SyncCheckpoint,
    exchange::RequestClient,
    fetch::{Received, StateFetcher, SyncFailure},
    handover::{Handover, HandoverStore, HandoverVerifier},
    messages::{Request, Response},
    peers::{Peers, RESPONSE_LIMIT},
};
use crate::{
    EngineError, Join, JoinProgress, Joined,
    archives::Archives,
    block::{Block, hash},
    consensus::application::Core,
    settings::{Overrides, Services, Settings},
};

/// How long to wait for the first offer.
const FIRST_OFFER: Duration = Duration::from_secs(10);
/// After how many questions without an answer a node says that it is alone: five seconds.
const ALONE_EVERY: u32 = 10;
/// How long other peers have to connect, which takes a second or two, before the offers of those
/// that are connected decide that there is nothing to sync.
const ALL_OFFERS: Duration = Duration::from_secs(3);
/// How long to wait for responses before the peers are asked again for their offers.
const OFFER_INTERVAL: Duration = Duration::from_millis(500);
/// How often a sync is attempted, and the pause between two attempts: a node looks for a minute or
/// longer for a peer that proves what is claimed.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_secs(2);
/// The most events that a chain has; a larger number could overflow when events are counted.
const EVENTS_MAX: u64 = 1 << 52;

/// A node while it opens the data on disk and syncs.
pub(crate) struct Opening<'a, E: StorageContext> {
    pub(crate) context: &'a E,
    pub(crate) settings: &'a Settings,
    pub(crate) services: &'a Services,
    pub(crate) overrides: &'a Overrides,
    pub(crate) page_cache: &'a CacheRef,
    pub(crate) core: &'a Arc<Core>,
    pub(crate) client: &'a RequestClient,
    pub(crate) handovers: &'a HandoverStore<E>,
}

/// How far the handovers have been verified. This is kept across attempts.
struct Verified {
    verifier: HandoverVerifier,
    handovers: u64,
    last: Option<Handover>,
}

impl Verified {
    /// The last block that is proved.
    fn height(&self) -> u64 {
        self.last.as_ref().map_or(0, Handover::height)
    }
}

/// What was received from peers, besides the state.
struct Snapshot {
    handover: Handover,
    block: Block,
    events: u64,
}

/// The data on disk that a sync changes, and how the node has obtained the state.
pub(crate) struct Synced<E: StorageContext> {
    pub(crate) checkpoint: SyncCheckpoint<E>,
    pub(crate) archives: Archives<E>,
    /// The sync, if there was one.
    pub(crate) joined: Option<Joined>,
    /// Why there was none although the node was asked for it, if so.
    pub(crate) fallback: Option<String>,
}

impl<E: StorageContext> Synced<E> {
    /// There was no sync.
    pub(crate) const fn none(
        checkpoint: SyncCheckpoint<E>,
        archives: Archives<E>,
        fallback: Option<String>,
    ) -> Self {
        Self { checkpoint, archives, joined: None, fallback }
    }
}

impl<E: CryptoRng + Spawner + StorageContext> Opening<'_, E> {
    /// Syncs if there is something to sync; afterwards, the data on disk is complete. A node that
    /// is free to execute all blocks does so if no peer proves that the chain is long. A node
    /// without blocks waits until a peer answers: alone it could only begin at genesis.
    ///
    /// # Errors
    /// [`EngineError::NoSnapshot`] when a sync has started or was asked for, and no peer provides
    /// what it needs; [`EngineError::OtherRules`] before anything of a state is fetched that this
    /// software could not continue from.
    pub(crate) async fn sync(
        &self,
        mut checkpoint: SyncCheckpoint<E>,
        archives: Archives<E>,
    ) -> Result<Synced<E>, EngineError> {
        self.services.sink.joining(JoinProgress::Asking);
        let clock = self.context.child("peers");
        let peers = Arc::new(Peers::new(clock, self.client.clone()));
        let genesis = self.core.rules.genesis_voters();
        let mut verified = Verified {
            verifier: HandoverVerifier::new(self.core.committees.clone(), &genesis),
            handovers: 0,
            last: None,
        };
        let mut reason = String::from("no peer responds");
        if !checkpoint.is_started() && archives.is_empty() {
            self.wait_for_a_peer(&peers).await;
        }
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.context.sleep(PAUSE).await;
            }
            self.collect_offers(&peers).await?;
            if !checkpoint.is_started() && !self.is_worthwhile(peers.claimed())? {
                let fallback = self.fallback(peers.claimed());
                return Ok(Synced::none(checkpoint, archives, fallback));
            }
            self.follow_handovers(&mut verified, &peers).await?;
            let proved = verified.height();
            peers.contradict(|claim| self.end_of_terms(claim) > proved);
            if let Some(Handover { header, .. }) = &verified.last {
                match self.core.rules.check_version(proved, header.rules) {
                    // It may be only what peers prove that are behind.
                    Err(error) if header.rules < self.core.rules.versions().min => {
                        reason = error.to_string();
                        continue;
                    }
                    checked => checked?,
                }
            }
            if !checkpoint.is_started() {
                if peers.claimed().is_none() {
                    reason = format!("no peer proves a block after {proved}");
                    continue;
                }
                if !self.is_worthwhile(peers.claimed())? {
                    let fallback = self.fallback(peers.claimed());
                    return Ok(Synced::none(checkpoint, archives, fallback));
                }
                checkpoint = checkpoint.write(None).await?;
            }
            match self.download(&verified, &peers).await {
                Ok((snapshot, joined)) => {
                    return self.complete(checkpoint, archives, snapshot, joined).await;
                }
                Err(SyncFailure::Engine(error)) => return Err(error),
                Err(SyncFailure::Unavailable(why)) => {
                    tracing::info!(why, "retrying the sync");
                    reason = why;
                }
            }
        }
        if !checkpoint.is_started() && self.settings.join != Join::State {
            let fallback = format!("it executes all blocks instead of a state sync: {reason}");
            tracing::warn!("{fallback}");
            return Ok(Synced::none(checkpoint, archives, Some(fallback)));
        }
        Err(EngineError::NoSnapshot { reason })
    }

    /// Asks for offers until a peer makes one.
    async fn wait_for_a_peer(&self, peers: &Peers<E>) {
        let begun = self.context.current();
        let mut asked = 0;
        loop {
            peers.ask_for_offers(OFFER_INTERVAL).await;
            if peers.claimed().is_some() {
                return;
            }
            asked += 1;
            if asked % ALONE_EVERY == 0 {
                let since = self.context.current().duration_since(begun).unwrap_or_default();
                self.services.sink.joining(JoinProgress::Alone { seconds: since.as_secs() });
            }
        }
    }

    /// What the operator must know if state sync was asked for and there is none.
    fn fallback(&self, claimed: Option<u64>) -> Option<String> {
        match (self.settings.join, claimed) {
            (Join::State, None) => {
                let fallback =
                    "it continues from its own blocks instead of a state sync: no peer answers";
                tracing::warn!("{fallback}");
                Some(fallback.to_owned())
            }
            (Join::State, Some(last)) => {
                tracing::info!(last, "no state sync: the peers have too few blocks for one");
                None
            }
            _ => None,
        }
    }

    /// Whether a chain that ends with this block should be synced, not executed.
    fn is_worthwhile(&self, last: Option<u64>) -> Result<bool, EngineError> {
        let calendar = self.core.committees.calendar();
        let least = match self.settings.join {
            Join::State => calendar.last_of(0),
            Join::Auto | Join::Replay => calendar.last_of(1),
        };
        let behind_from = self.services.history.height()? + calendar.last_of(0);
        Ok(last.is_some_and(|last| last >= least && last > behind_from))
    }

    /// The last block of the terms that are complete with this block.
    fn end_of_terms(&self, last: u64) -> u64 {
        let calendar = self.core.committees.calendar();
        calendar.root_of(calendar.term_of(last + 1))
    }

    /// Asks the peers which blocks they have, until one claims enough to sync or all had the time
    /// to connect.
    async fn collect_offers(&self, peers: &Peers<E>) -> Result<(), EngineError> {
        let begun = self.context.current();
        loop {
            peers.ask_for_offers(OFFER_INTERVAL).await;
            let now = self.context.current();
            let claimed = peers.claimed();
            let limit = if claimed.is_some() { ALL_OFFERS } else { FIRST_OFFER };
            if self.is_worthwhile(claimed)? || now >= begun + limit {
                return Ok(());
            }
        }
    }

    /// Verifies handovers until no peer has a later one.
    async fn follow_handovers(
        &self,
        verified: &mut Verified,
        peers: &Peers<E>,
    ) -> Result<(), EngineError> {
        'next: loop {
            let decided = verified.verifier.decided();
            for group in peers.groups() {
                let verifier = &mut verified.verifier;
                let request = Request::Handover(verifier.reached());
                let verify = |response| match response {
                    Response::Handover(next) => match verifier.verify(&next) {
                        Ok(()) => Ok(next),
                        Err(why) => Err(why.to_string()),
                    },
                    _ => Err(String::from("a response to another request")),
                };
                let Some((peer, next)) = peers.ask_group(&group, request, verify).await else {
                    continue;
                };
                let changes_committee = verified.verifier.decided() != decided;
                peers.gave_handover(&peer, changes_committee);
                let term = self.core.committees.calendar().term_of(next.height());
                if changes_committee {
                    self.handovers.insert(term, &next).await?;
                }
                verified.handovers += 1;
                verified.last = Some(*next);
                let handovers = verified.handovers;
                self.services.sink.joining(JoinProgress::Committees { handovers, term });
                continue 'next;
            }
            return Ok(());
        }
    }

    /// Downloads the state after the last handover, and the block.
    async fn download(
        &self,
        verified: &Verified,
        peers: &Arc<Peers<E>>,
    ) -> Result<(Snapshot, Joined), SyncFailure> {
        let Some(handover) = verified.last.clone() else {
            let why = "no peer has a snapshot yet".into();
            return Err(SyncFailure::Unavailable(why));
        };
        let received = self.state(&handover, peers).await?;
        let block = self.block(&handover, peers).await?;
        let height = handover.height();
        let events = self.events(height, peers).await;
        let joined = Joined {
            height,
            digest: hash(handover.header.digest()),
            state_root: hash(handover.header.state.root),
            handovers: verified.handovers,
            operations: received.operations,
            bytes: received.bytes,
            refused: peers.refused(),
        };
        let snapshot = Snapshot { handover, block, events };
        Ok((snapshot, joined))
    }

    /// Downloads the state into the database.
    async fn state(
        &self,
        handover: &Handover,
        peers: &Arc<Peers<E>>,
    ) -> Result<Received, SyncFailure> {
        let fetcher = StateFetcher::new(
            self.context.child("fetch"),
            Arc::clone(peers),
            Arc::clone(&self.services.sink),
            handover.height(),
            handover.header.state.log.clone(),
        );
        let context = self.context.child("state_sync");
        fetcher.run(context, &self.overrides.prefix, self.page_cache.clone()).await
    }

    async fn block(&self, handover: &Handover, peers: &Peers<E>) -> Result<Block, SyncFailure> {
        let (height, digest) = (handover.height(), handover.header.digest());
        let verify = |response| match response {
            Response::Block(block) if block.digest() == digest => Ok(block.as_ref().clone()),
            _ => Err(format!("another block {height}")),
        };
        for group in peers.groups() {
            let found = peers.ask_group(&group, Request::Block(height), verify).await;
            if let Some((_, block)) = found {
                return Ok(block);
            }
        }
        let why = format!("no peer has block {height}");
        Err(SyncFailure::Unavailable(why))
    }

    /// The number of events up to a block, as most peers report it; nothing but the numbering of
    /// events depends on it.
    async fn events(&self, height: u64, peers: &Peers<E>) -> u64 {
        let mut counts = BTreeMap::<u64, u32>::new();
        for (_, response) in peers.ask_all(RESPONSE_LIMIT, Request::Events(height)).await {
            if let Response::Events(events) = response {
                *counts.entry(events).or_default() += 1;
            }
        }
        let most = counts.into_iter().max_by_key(|(_, peers)| *peers);
        most.map_or(0, |(events, _)| events.min(EVENTS_MAX))
    }

    /// Writes the block and starts the history after it, which ends the sync; the state is already
    /// on disk.
    async fn complete(
        &self,
        checkpoint: SyncCheckpoint<E>,
        archives: Archives<E>,
        snapshot: Snapshot,
        joined: Joined,
    ) -> Result<Synced<E>, EngineError> {
        let Archives { certificates, blocks } = archives;
        let (height, digest) = (joined.height, snapshot.handover.header.digest());
        let certificate = snapshot.handover.certificate;
        let certificates = certificates.put_sync(height, digest, &certificate).await;
        let block = Arc::new(snapshot.block);
        let blocks = blocks.put_sync(height, digest, &block).await;
        self.services.history.begin_after(height, snapshot.events)?;
        let archives = Archives {
            certificates: certificates.map_err(EngineError::stopped)?,
            blocks: blocks.map_err(EngineError::stopped)?,
        };
        let checkpoint = checkpoint.write(Some((height, certificate))).await?;
        self.services.sink.joined(&joined);
        Ok(Synced { checkpoint, archives, joined: Some(joined), fallback: None })
    }
}
