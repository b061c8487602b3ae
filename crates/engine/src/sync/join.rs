//! How a node that has no blocks or is far behind obtains the state without executing all blocks.
//!
//! It verifies handovers from genesis, each with the committee that earlier ones name, up to the
//! last block of the last term; downloads the state after this block, each part with a proof
//! against the root in the certified header; and continues as if it had executed the earlier
//! blocks. A peer that forges anything is excluded. The checkpoint marks a sync as started until
//! all of it is on disk: a node never continues from an incomplete state.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use commonware_cryptography::{Digestible as _, ed25519::PublicKey};
use commonware_p2p::Recipients;
use commonware_runtime::{Clock, Spawner, buffer::paged::CacheRef};
use commonware_storage::{Context as StorageContext, archive::Archive as _};
use rand_core::CryptoRng;

use super::{
    checkpoint::SyncCheckpoint,
    exchange::{RequestClient, within},
    fetch::{RESPONSE_LIMIT, RETRY, Received, StateFetcher, SyncFailure},
    handover::{Handover, HandoverStore, HandoverVerifier},
    messages::{Offer, Request, Response},
};
use crate::{
    EngineError, Join, JoinProgress, Joined,
    archives::Archives,
    block::{Block, hash},
    consensus::application::Core,
    keys::consensus_key,
    settings::{Overrides, Services, Settings},
};

/// How long to wait for the first offer, and then for others.
const FIRST_OFFER: Duration = Duration::from_secs(10);
const MORE_RESPONSES: Duration = Duration::from_millis(500);
/// How often a sync is attempted before it fails.
const ATTEMPTS: u32 = 20;

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

type Offers = BTreeMap<PublicKey, Offer>;

/// How far the handovers have been verified. This is kept across attempts.
struct Verified {
    verifier: HandoverVerifier,
    handovers: u64,
    last: Option<Handover>,
}

/// What was received from peers, besides the state.
struct Snapshot {
    handover: Handover,
    block: Block,
    events: u64,
}

impl<E: CryptoRng + Spawner + StorageContext> Opening<'_, E> {
    /// Syncs if there is something to sync; afterwards, the data on disk is complete.
    ///
    /// # Errors
    /// [`EngineError::NoSnapshot`] when a sync has started and no peer provides what it needs.
    pub(crate) async fn sync(
        &self,
        checkpoint: SyncCheckpoint<E>,
        archives: Archives<E>,
    ) -> Result<(SyncCheckpoint<E>, Archives<E>, Option<Joined>), EngineError> {
        self.services.sink.joining(JoinProgress::Asking);
        let offers = self.offers().await;
        let last = offers.values().map(|offer| offer.last).max().unwrap_or(0);
        let calendar = self.core.committees.calendar();
        let least = match self.settings.join {
            Join::State => calendar.last_of(0),
            Join::Auto | Join::Replay => calendar.last_of(1),
        };
        let is_behind = self.services.history.height()? + calendar.last_of(0) < last;
        if !checkpoint.is_started() && (last < least || !is_behind) {
            return Ok((checkpoint, archives, None));
        }
        let checkpoint = checkpoint.write(None).await?;
        let (snapshot, joined) = self.retry(offers).await?;
        let archives = self.store(archives, &snapshot, &joined).await?;
        let floor = (joined.height, snapshot.handover.certificate);
        let checkpoint = checkpoint.write(Some(floor)).await?;
        self.services.sink.joined(&joined);
        Ok((checkpoint, archives, Some(joined)))
    }

    /// Attempts the sync with all peers that have not forged anything.
    async fn retry(&self, mut offers: Offers) -> Result<(Snapshot, Joined), EngineError> {
        let genesis = self.core.rules.genesis_voters();
        let mut verified = Verified {
            verifier: HandoverVerifier::new(self.core.committees.clone(), &genesis),
            handovers: 0,
            last: None,
        };
        let mut excluded = BTreeSet::new();
        let mut reason = String::from("no peer responds");
        for _ in 0..ATTEMPTS {
            let mut peers: Vec<_> = offers
                .iter()
                .filter(|(peer, _)| !excluded.contains(*peer))
                .map(|(peer, offer)| (offer.last, peer.clone()))
                .collect();
            peers.sort();
            let peers = peers.into_iter().rev().map(|(_, peer)| peer).collect();
            match self.attempt(&mut verified, peers).await {
                Ok((snapshot, mut joined)) => {
                    joined.refused += excluded.len() as u64;
                    return Ok((snapshot, joined));
                }
                Err(SyncFailure::Engine(error)) => return Err(error),
                Err(SyncFailure::Forged(peer, why)) => {
                    let key = consensus_key(&peer);
                    reason = format!("{key} sent what cannot be verified: {why}");
                    tracing::warn!(peer = %key, why, "excluding a peer from the sync");
                    excluded.insert(peer);
                }
                Err(SyncFailure::Unavailable(why)) => {
                    tracing::info!(why, "retrying the sync");
                    reason = why;
                }
            }
            offers = self.offers().await;
        }
        Err(EngineError::NoSnapshot { reason })
    }

    async fn attempt(
        &self,
        verified: &mut Verified,
        peers: Vec<PublicKey>,
    ) -> Result<(Snapshot, Joined), SyncFailure> {
        let Some(best) = peers.first() else {
            let why = "no peer is left to ask".into();
            return Err(SyncFailure::Unavailable(why));
        };
        self.verify_handovers(verified, best).await?;
        let Some(handover) = verified.last.clone() else {
            let why = "no peer has a snapshot yet".into();
            return Err(SyncFailure::Unavailable(why));
        };
        let received = self.state(&handover, &peers).await?;
        let digest = handover.header.digest();
        let block = self.block(&handover, &peers).await?;
        let height = handover.height();
        let events = self.events(height).await;
        let joined = Joined {
            height,
            digest: hash(digest),
            state_root: hash(handover.header.state.root),
            handovers: verified.handovers,
            operations: received.operations,
            bytes: received.bytes,
            refused: (peers.len() - received.peers.len()) as u64,
        };
        let snapshot = Snapshot { handover, block, events };
        Ok((snapshot, joined))
    }

    /// Verifies all handovers that a peer has.
    async fn verify_handovers(
        &self,
        verified: &mut Verified,
        peer: &PublicKey,
    ) -> Result<(), SyncFailure> {
        let mut random = self.context.child("verifier");
        loop {
            let request = Request::Handover(verified.verifier.reached());
            let next = match self.request(peer, request).await? {
                Response::Handover(next) => *next,
                Response::Nothing => return Ok(()),
                _ => {
                    let why = "a response to another request".into();
                    return Err(SyncFailure::Forged(peer.clone(), why));
                }
            };
            let decided = verified.verifier.decided();
            if let Err(why) = verified.verifier.verify(&mut random, &next) {
                return Err(SyncFailure::Forged(peer.clone(), why.to_string()));
            }
            let term = self.core.committees.calendar().term_of(next.height());
            if verified.verifier.decided() != decided {
                self.handovers.insert(term, &next).await?;
            }
            verified.handovers += 1;
            verified.last = Some(next);
            self.services
                .sink
                .joining(JoinProgress::Committees { handovers: verified.handovers, term });
        }
    }

    /// Downloads the state into the database.
    async fn state(
        &self,
        handover: &Handover,
        peers: &[PublicKey],
    ) -> Result<Received, SyncFailure> {
        let fetcher = StateFetcher::new(
            self.context.child("fetch"),
            self.client.clone(),
            Arc::clone(&self.services.sink),
            handover.height(),
            handover.header.state.clone(),
            peers,
        );
        let context = self.context.child("state_sync");
        fetcher.run(context, &self.overrides.prefix, self.page_cache.clone()).await
    }

    async fn block(&self, handover: &Handover, peers: &[PublicKey]) -> Result<Block, SyncFailure> {
        let height = handover.height();
        for peer in peers {
            match self.request(peer, Request::Block(height)).await {
                Ok(Response::Block(block)) if block.digest() == handover.header.digest() => {
                    return Ok(block.as_ref().clone());
                }
                Ok(Response::Block(_)) => {
                    let why = format!("another block {height}");
                    return Err(SyncFailure::Forged(peer.clone(), why));
                }
                _ => {}
            }
        }
        let why = format!("no peer has block {height}");
        Err(SyncFailure::Unavailable(why))
    }

    /// The number of events up to a block, as most peers report it; nothing but the numbering of
    /// events depends on it.
    async fn events(&self, height: u64) -> u64 {
        let mut counts = BTreeMap::<u64, u32>::new();
        let request = Request::Events(height);
        let mut responses = self.client.request(Recipients::All, request).await;
        let mut limit = RESPONSE_LIMIT;
        while let Some((_, response)) = self.within(limit, responses.recv()).await.flatten() {
            if let Response::Events(events) = response {
                *counts.entry(events).or_default() += 1;
                limit = MORE_RESPONSES;
            }
        }
        let most = counts.into_iter().max_by_key(|(_, peers)| *peers);
        // A larger number could overflow when events are counted from it.
        most.map_or(0, |(events, _)| events.min(1 << 52))
    }

    /// Writes the block and starts the history after it; the state is already on disk.
    async fn store(
        &self,
        archives: Archives<E>,
        snapshot: &Snapshot,
        joined: &Joined,
    ) -> Result<Archives<E>, EngineError> {
        let Archives { certificates, blocks } = archives;
        let (height, digest) = (joined.height, snapshot.handover.header.digest());
        let certificate = &snapshot.handover.certificate;
        let certificates = certificates.put_sync(height, digest, certificate).await;
        let block = Arc::new(snapshot.block.clone());
        let blocks = blocks.put_sync(height, digest, &block).await;
        self.services.history.begin_after(height, snapshot.events)?;
        Ok(Archives {
            certificates: certificates.map_err(EngineError::stopped)?,
            blocks: blocks.map_err(EngineError::stopped)?,
        })
    }

    /// Asks the peers what they have. It waits up to [`FIRST_OFFER`] for the first offer.
    async fn offers(&self) -> Offers {
        let mut offers = Offers::new();
        let deadline = self.context.current() + FIRST_OFFER;
        while offers.is_empty() && self.context.current() < deadline {
            let mut responses = self.client.request(Recipients::All, Request::Offer).await;
            let mut limit = RETRY;
            while let Some((peer, response)) = self.within(limit, responses.recv()).await.flatten()
            {
                if let Response::Offer(offer) = response {
                    offers.insert(peer, offer);
                    limit = MORE_RESPONSES;
                }
            }
        }
        offers
    }

    async fn request(&self, peer: &PublicKey, request: Request) -> Result<Response, SyncFailure> {
        let response = self.client.request_one(self.context, RESPONSE_LIMIT, peer, request).await;
        response.ok_or_else(|| {
            SyncFailure::Unavailable(format!("{} does not respond", consensus_key(peer)))
        })
    }

    async fn within<T>(&self, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
        within(self.context, limit, future).await
    }
}

/// How often a node that makes no progress asks whether its peers still have the next block.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// Completes when the node makes no progress and all peers that respond have pruned its next block.
pub(crate) async fn left_behind(
    clock: &impl Clock,
    client: &RequestClient,
    height: impl Fn() -> u64,
) -> EngineError {
    loop {
        let before = height();
        clock.sleep(PROGRESS_INTERVAL).await;
        let height = height();
        if height != before {
            continue;
        }
        let mut responses = client.request(Recipients::All, Request::Offer).await;
        let mut first: Option<u64> = None;
        while let Some((_, response)) =
            within(clock, RESPONSE_LIMIT, responses.recv()).await.flatten()
        {
            if let Response::Offer(offer) = response {
                first = Some(first.map_or(offer.first, |first| first.min(offer.first)));
            }
        }
        if let Some(first) = first.filter(|first| *first > height + 1) {
            return EngineError::TooFarBehind { height, first };
        }
    }
}
