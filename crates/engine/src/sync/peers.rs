//! The peers that a syncing node asks, in the order of what they did, never of what they claim.
//!
//! A peer that sends what cannot be verified is not asked again. A peer that is silent, or lacks
//! what it claims to have, is asked after all others: it costs a sync the time of one response, and
//! no more as long as another one has what is needed. What a peer claims is believed only until
//! verified handovers contradict it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::Recipients;
use commonware_runtime::Clock;

use super::{
    exchange::{PeerResponse, RequestClient},
    messages::{Request, Response},
};
use crate::keys::consensus_key;

/// How long to wait for one response.
pub(crate) const RESPONSE_LIMIT: Duration = Duration::from_secs(2);
/// How long to wait for the others once one of all peers has responded.
const MORE_RESPONSES: Duration = Duration::from_secs(1);
/// How many peers are asked at the same time for something small: if one of them is silent, nothing
/// waits for it.
const ASKED_TOGETHER: usize = 3;
/// How many useless handovers of one peer are tolerated: an honest one sends one, and one for each
/// term that ends meanwhile.
const USELESS_MAX: u32 = 3;
/// No chain is longer. A larger claim could overflow when it is counted on.
const HEIGHT_MAX: u64 = 1 << 52;

/// What a peer did during this sync.
#[derive(Debug, Default)]
struct Standing {
    /// The last block that it claims to have, unless this was contradicted.
    claim: Option<u64>,
    /// How often it was silent or lacked what it claims to have.
    marks: u32,
    /// Requests that it has not responded to yet.
    open: u32,
    /// Useful responses.
    responses: u64,
    /// Handovers that change no committee.
    useless: u32,
    /// Whether it sent what cannot be verified.
    is_refused: bool,
}

type Standings = BTreeMap<PublicKey, Standing>;

/// All peers that were heard of during a sync.
pub(crate) struct Peers<C> {
    clock: C,
    client: RequestClient,
    standings: Mutex<Standings>,
}

impl<C: Clock> Peers<C> {
    pub(crate) fn new(clock: C, client: RequestClient) -> Self {
        Self { clock, client, standings: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Standings> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all connected peers which blocks they have.
    pub(crate) async fn ask_for_offers(&self, limit: Duration) {
        let offers = self.ask_all(limit, Request::Offer).await;
        let mut standings = self.lock();
        for standing in standings.values_mut() {
            standing.claim = None;
        }
        for (peer, response) in offers {
            if let Response::Offer(offer) = response {
                standings.entry(peer).or_default().claim = Some(offer.last.min(HEIGHT_MAX));
            }
        }
    }

    /// The responses of all connected peers.
    pub(crate) async fn ask_all(&self, limit: Duration, request: Request) -> Vec<PeerResponse> {
        self.client.request_all(&self.clock, request, limit, MORE_RESPONSES).await
    }

    /// The highest block that a peer claims and nothing contradicts.
    pub(crate) fn claimed(&self) -> Option<u64> {
        let standings = self.lock();
        let believed = standings.values().filter(|standing| !standing.is_refused);
        believed.filter_map(|standing| standing.claim).max()
    }

    /// Drops the claims that `is_false` contradicts, with a mark for each.
    pub(crate) fn contradict(&self, is_false: impl Fn(u64) -> bool) {
        for (peer, standing) in self.lock().iter_mut() {
            if let Some(claim) = standing.claim.filter(|claim| is_false(*claim)) {
                let peer = consensus_key(peer);
                tracing::info!(%peer, claim, "a peer does not prove the blocks that it claims");
                standing.claim = None;
                standing.marks += 1;
            }
        }
    }

    /// The peers that may be asked: fewest marks first, then those that are the least busy.
    pub(crate) fn ranked(&self) -> Vec<PublicKey> {
        let standings = self.lock();
        let asked = standings.iter().filter(|(_, standing)| !standing.is_refused);
        let mut ranked: Vec<_> = asked.collect();
        ranked.sort_by_key(|(_, standing)| (standing.marks, standing.open, standing.responses));
        ranked.into_iter().map(|(peer, _)| peer.clone()).collect()
    }

    /// The peers that may be asked in two groups: a few of the best, and all others.
    pub(crate) fn groups(&self) -> [Vec<PublicKey>; 2] {
        let mut best = self.ranked();
        let standings = self.lock();
        let marks = |peer: &PublicKey| standings.get(peer).map_or(0, |standing| standing.marks);
        let fewest = best.first().map_or(0, marks);
        let equal = best.iter().take_while(|peer| marks(peer) == fewest).count();
        let others = best.split_off(equal.min(ASKED_TOGETHER));
        [best, others]
    }

    /// How many peers sent what cannot be verified.
    pub(crate) fn refused(&self) -> u64 {
        self.lock().values().filter(|standing| standing.is_refused).count() as u64
    }

    /// Never asks a peer again: it sent what cannot be verified.
    pub(crate) fn refuse(&self, peer: &PublicKey, why: &str) {
        tracing::warn!(peer = %consensus_key(peer), why, "excluding a peer from the sync");
        self.lock().entry(peer.clone()).or_default().is_refused = true;
    }

    /// Asks a peer after all those with fewer marks.
    fn mark(&self, peer: &PublicKey) {
        self.lock().entry(peer.clone()).or_default().marks += 1;
    }

    /// Records a verified handover of a peer.
    pub(crate) fn gave_handover(&self, peer: &PublicKey, changes_committee: bool) {
        let mut standings = self.lock();
        let standing = standings.entry(peer.clone()).or_default();
        standing.responses += 1;
        standing.useless += u32::from(!changes_committee);
        if !changes_committee && standing.useless > USELESS_MAX {
            standing.marks += 1;
        }
    }

    /// What one peer responds. `None`, and a mark, if it is silent or has nothing.
    pub(crate) async fn ask(&self, peer: &PublicKey, request: Request) -> Option<Response> {
        let open = OpenRequest::new(self, peer);
        let response = self.client.request_one(&self.clock, RESPONSE_LIMIT, peer, request).await;
        drop(open);
        let response = response.filter(|response| !matches!(response, Response::Nothing));
        if response.is_some() {
            self.lock().entry(peer.clone()).or_default().responses += 1;
        } else {
            self.mark(peer);
        }
        response
    }

    /// The first response of a group that `verify` accepts, and who sent it; `None` once all have
    /// responded, or after [`RESPONSE_LIMIT`], with a mark for those that are silent. A peer whose
    /// response `verify` finds to be forged is refused. A peer without what is requested gets no
    /// mark.
    pub(crate) async fn ask_group<T>(
        &self,
        group: &[PublicKey],
        request: Request,
        mut verify: impl FnMut(Response) -> Result<T, String>,
    ) -> Option<(PublicKey, T)> {
        if group.is_empty() {
            return None;
        }
        let mut silent: BTreeSet<_> = group.iter().cloned().collect();
        let recipients = Recipients::Some(group.to_vec());
        let mut responses = self.client.request(recipients, request).await;
        let until = self.clock.current() + RESPONSE_LIMIT;
        while !silent.is_empty() {
            let response = tokio::select! {
                biased;
                response = responses.recv() => response,
                () = self.clock.sleep_until(until) => None,
            };
            let Some((peer, response)) = response else {
                break;
            };
            silent.remove(&peer);
            if matches!(response, Response::Nothing) {
                continue;
            }
            match verify(response) {
                Ok(verified) => return Some((peer, verified)),
                Err(why) => self.refuse(&peer, &why),
            }
        }
        for peer in &silent {
            self.mark(peer);
        }
        None
    }
}

/// Counts a request as open until it is dropped, also when the one who asks gives up.
struct OpenRequest<'a, C: Clock> {
    peers: &'a Peers<C>,
    peer: &'a PublicKey,
}

impl<'a, C: Clock> OpenRequest<'a, C> {
    fn new(peers: &'a Peers<C>, peer: &'a PublicKey) -> Self {
        peers.lock().entry(peer.clone()).or_default().open += 1;
        Self { peers, peer }
    }
}

impl<C: Clock> Drop for OpenRequest<'_, C> {
    fn drop(&mut self) {
        if let Some(standing) = self.peers.lock().get_mut(self.peer) {
            standing.open = standing.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
    use commonware_runtime::{
        Clock as _, Runner as _, Spawner as _, Supervisor as _, deterministic,
    };
    use tokio::sync::mpsc;

    use super::{
        ASKED_TOGETHER, Peers, PublicKey, RESPONSE_LIMIT, Recipients, Request, RequestClient,
        Response, USELESS_MAX,
    };
    use crate::sync::{exchange::Outgoing, messages::Offer};

    const PEERS: u64 = 6;

    fn peer(seed: u64) -> PublicKey {
        PrivateKey::from_seed(seed).public_key()
    }

    /// Runs `test`, in simulated time, with peers of which each responds at once or never.
    fn with_peers(
        respond: fn(u64, &Request) -> Option<Response>,
        test: impl AsyncFnOnce(Peers<deterministic::Context>),
    ) {
        deterministic::Runner::default().start(|context| async move {
            let (client, mut requests) = mpsc::channel::<Outgoing>(8);
            context.child("network").spawn(move |_| async move {
                // A silent peer leaves a request open.
                let mut open = Vec::new();
                while let Some(outgoing) = requests.recv().await {
                    for seed in 0..PEERS {
                        let asked = match &outgoing.to {
                            Recipients::All => true,
                            Recipients::Some(peers) => peers.contains(&peer(seed)),
                            Recipients::One(asked) => *asked == peer(seed),
                        };
                        let response = respond(seed, &outgoing.request).filter(|_| asked);
                        if let Some(response) = response {
                            let _ = outgoing.responses.try_send((peer(seed), response));
                        }
                    }
                    open.push(outgoing.responses);
                }
            });
            let peers = Peers::new(context.child("peers"), RequestClient(client));
            peers.ask_for_offers(RESPONSE_LIMIT).await;
            test(peers).await;
        });
    }

    fn offer(last: u64) -> Response {
        Response::Offer(Offer { first: 1, last })
    }

    /// Peer 0 claims most and is silent, peer 1 lacks everything, the others have what they claim.
    fn one_silent(seed: u64, request: &Request) -> Option<Response> {
        match (request, seed) {
            (Request::Offer, 0) => Some(offer(u64::MAX)),
            (Request::Offer, _) => Some(offer(300)),
            (_, 0) => None,
            (_, 1) => Some(Response::Nothing),
            _ => Some(Response::Events(seed)),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "as every use of a response has it")]
    fn accept(response: Response) -> Result<u64, String> {
        match response {
            Response::Events(events) => Ok(events),
            _ => Err("it is forged".into()),
        }
    }

    #[test]
    fn a_silent_peer_costs_one_response_and_is_then_asked_last() {
        with_peers(one_silent, async |peers| {
            let clock = peers.clock.child("clock");
            for seed in [0, 1] {
                assert!(peers.ask(&peer(seed), Request::Events(1)).await.is_none());
            }
            let begun = clock.current();
            for _ in 0..20 {
                let best = peers.ranked()[0].clone();
                assert!(peers.ask(&best, Request::Events(1)).await.is_some());
            }
            let [best, others] = peers.groups();
            assert_eq!((best.len(), others.len()), (ASKED_TOGETHER, 3));
            assert!([0, 1].iter().all(|seed| others.contains(&peer(*seed))));
            assert!(clock.current() < begun + Duration::from_secs(1));
        });
    }

    #[test]
    fn a_group_waits_for_no_silent_peer_while_another_has_what_is_needed() {
        with_peers(one_silent, async |peers| {
            let clock = peers.clock.child("clock");
            let begun = clock.current();
            let group = [peer(0), peer(1), peer(4)];
            let found = peers.ask_group(&group, Request::Events(1), accept).await;
            assert_eq!(found, Some((peer(4), 4)));
            assert!(clock.current() < begun + Duration::from_secs(1));
            let found = peers.ask_group(&group[..2], Request::Events(1), accept).await;
            assert_eq!(found, None);
            assert!(clock.current() < begun + RESPONSE_LIMIT + Duration::from_secs(1));
            assert_eq!(peers.ranked().last(), Some(&peer(0)), "it was silent");
        });
    }

    #[test]
    fn a_contradicted_claim_no_longer_counts_and_a_forger_is_never_asked_again() {
        with_peers(one_silent, async |peers| {
            assert!(peers.claimed() > Some(300));
            peers.contradict(|claim| claim > 300);
            assert_eq!(peers.claimed(), Some(300));
            assert_eq!(peers.ranked().last(), Some(&peer(0)));
            let refuse = |_| Err::<(), _>("it is forged".into());
            let found = peers.ask_group(&[peer(2), peer(3)], Request::Events(1), refuse).await;
            assert_eq!((found, peers.refused()), (None, 2));
            assert!(!peers.ranked().contains(&peer(2)) && peers.ranked().len() == 4);
        });
    }

    #[test]
    fn a_peer_that_leads_a_join_through_needless_handovers_is_asked_last() {
        with_peers(one_silent, async |peers| {
            for _ in 0..=USELESS_MAX {
                peers.gave_handover(&peer(5), false);
                peers.gave_handover(&peer(4), true);
            }
            assert_eq!(peers.ranked().last(), Some(&peer(5)));
        });
    }
}
