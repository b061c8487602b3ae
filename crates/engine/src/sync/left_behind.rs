//! Notices that a node can no longer catch up: it makes no progress, and its peers have pruned its
//! next block. Peers may lie about what they have, so only what is certified counts: nobody can
//! have pruned a block that was never finalized.

use std::{sync::Arc, time::Duration};

use commonware_runtime::Clock;
use commonware_storage::Context as StorageContext;
use rand_core::CryptoRng;

use super::{
    exchange::RequestClient,
    handover::{HandoverStore, HandoverVerifier},
    messages::{Offer, Request, Response},
    peers::RESPONSE_LIMIT,
};
use crate::{
    EngineError,
    consensus::committees::{Committees, Voter},
};

/// How often a node that makes no progress asks whether its peers still have the next block.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);
/// The most handovers that are followed at a time.
const HANDOVERS_MAX: usize = 1_024;

/// Whom a node asks, and how it verifies what they prove.
pub(crate) struct Progress<E: StorageContext> {
    pub(crate) context: E,
    pub(crate) client: RequestClient,
    pub(crate) committees: Committees,
    /// The voters of genesis.
    pub(crate) genesis: Vec<Voter>,
    pub(crate) handovers: Arc<HandoverStore<E>>,
}

impl<E: StorageContext + Clock + CryptoRng> Progress<E> {
    /// Completes when the node makes no progress and all peers that respond have pruned its next
    /// block.
    pub(crate) async fn left_behind(mut self, height: impl Fn() -> u64) -> EngineError {
        loop {
            let before = height();
            self.context.sleep(PROGRESS_INTERVAL).await;
            let height = height();
            if height == before
                && let Some(first) = self.first_offered(height).await
            {
                return EngineError::TooFarBehind { height, first };
            }
        }
    }

    /// The first block that any peer has, if that is later than the one after `height` and
    /// certified. Whoever says that it has that one is asked for it: nobody keeps this node waiting
    /// by a word.
    async fn first_offered(&mut self, height: u64) -> Option<u64> {
        let next = height + 1;
        let responses = self.ask(Request::Offer).await;
        let offers = responses.into_iter().filter_map(|response| match response {
            Response::Offer(Offer { first, .. }) => Some(first),
            _ => None,
        });
        let (claimed, later): (Vec<u64>, Vec<u64>) = offers.partition(|first| *first <= next);
        if !claimed.is_empty() && self.is_served(next).await {
            return None;
        }
        let first = later.into_iter().min()?;
        (first <= self.certified().await?).then_some(first)
    }

    /// Whether a peer sends the block at this height.
    async fn is_served(&self, height: u64) -> bool {
        let served = self.ask(Request::Block(height)).await;
        served.iter().any(|response| {
            matches!(response, Response::Block(block) if block.header().height.get() == height)
        })
    }

    /// The last block of which a peer has a certificate by a committee that handovers lead to;
    /// `None` if no handover is known.
    async fn certified(&mut self) -> Option<u64> {
        let mut verifier = HandoverVerifier::new(self.committees.clone(), &self.genesis);
        if let Err(error) = verifier.verify_all(&self.handovers).await {
            tracing::warn!(%error, "cannot verify this node's handovers");
            return None;
        }
        for _ in 0..HANDOVERS_MAX {
            let before = verifier.reached();
            for response in self.ask(Request::Handover(before)).await {
                if let Response::Handover(handover) = response {
                    // The peers send the same one, so all but the first are out of place.
                    let _invalid = verifier.verify(&handover);
                }
            }
            if verifier.reached() == before {
                break;
            }
        }
        verifier.reached().map(|term| self.committees.calendar().last_of(term))
    }

    async fn ask(&self, request: Request) -> Vec<Response> {
        let limit = RESPONSE_LIMIT;
        let responses = self.client.request_all(&self.context, request, limit, limit).await;
        responses.into_iter().map(|(_, response)| response).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use commonware_consensus::types::Height;
    use commonware_cryptography::{Signer as _, ed25519::PrivateKey};
    use commonware_runtime::{
        Clock as _, Runner as _, Spawner as _, Supervisor as _, deterministic,
    };
    use tokio::sync::mpsc;

    use super::{HandoverStore, Offer, Progress, Request, RequestClient, Response};
    use crate::{
        EngineError,
        archives::page_cache,
        block::{Block, Header},
        calendar::Calendar,
        sync::{
            exchange::Outgoing,
            handover::samples::{committees, handover, voters},
        },
    };

    const HEIGHT: u64 = 5;

    /// Whether a node at [`HEIGHT`] concludes within ten minutes that it is left behind.
    fn concludes(respond: fn(u64, &Request) -> Option<Response>) -> Option<EngineError> {
        deterministic::Runner::default().start(|context| async move {
            let (client, mut requests) = mpsc::channel::<Outgoing>(8);
            context.child("network").spawn(move |_| async move {
                // A silent peer leaves a request open.
                let mut open = Vec::new();
                while let Some(outgoing) = requests.recv().await {
                    for seed in 0..3 {
                        if let Some(response) = respond(seed, &outgoing.request) {
                            let peer = PrivateKey::from_seed(seed).public_key();
                            let _ = outgoing.responses.try_send((peer, response));
                        }
                    }
                    open.push(outgoing.responses);
                }
            });
            let handovers = HandoverStore::open(&context, "test", &page_cache()).await.unwrap();
            let progress = Progress {
                context: context.child("progress"),
                client: RequestClient(client),
                committees: committees(99),
                genesis: voters(0..4),
                handovers: Arc::new(handovers),
            };
            tokio::select! {
                error = progress.left_behind(|| HEIGHT) => Some(error),
                () = context.sleep(Duration::from_mins(10)) => None,
            }
        })
    }

    fn pruned(first: u64) -> Response {
        Response::Offer(Offer { first, last: u64::MAX })
    }

    /// The handovers of terms 1 and 2 by the committee of genesis.
    fn proof(request: &Request) -> Response {
        match request {
            Request::Handover(None) => Response::Handover(Box::new(handover(1, 0..4, 0..3, 0..4))),
            Request::Handover(Some(1)) => {
                Response::Handover(Box::new(handover(2, 0..4, 1..4, 0..4)))
            }
            _ => Response::Nothing,
        }
    }

    #[test]
    fn a_node_whose_next_block_is_pruned_stops_once_a_certificate_shows_that_it_existed() {
        let error = concludes(|_, request| match request {
            Request::Offer => Some(pruned(Calendar::default().last_of(2))),
            request => Some(proof(request)),
        });
        let first = Calendar::default().last_of(2);
        let is_told = |error: &EngineError| {
            matches!(error, EngineError::TooFarBehind { height: HEIGHT, first: found }
                if *found == first)
        };
        assert!(error.as_ref().is_some_and(is_told), "{error:?}");
    }

    #[test]
    fn a_peer_that_claims_to_have_pruned_what_it_cannot_prove_stops_no_node() {
        let nothing = concludes(|seed, request| match request {
            Request::Offer if seed == 0 => Some(pruned(1_000)),
            _ => Some(Response::Nothing),
        });
        assert!(nothing.is_none(), "{nothing:?}");
        let forged = concludes(|_, request| match request {
            Request::Offer => Some(pruned(200)),
            // Signed by two of four.
            Request::Handover(None) => {
                Some(Response::Handover(Box::new(handover(1, 0..3, 0..3, 0..4))))
            }
            _ => None,
        });
        assert!(forged.is_none(), "{forged:?}");
        let beyond = concludes(|_, request| match request {
            Request::Offer => Some(pruned(u64::MAX)),
            request => Some(proof(request)),
        });
        assert!(beyond.is_none(), "nothing certified is that far: {beyond:?}");
    }

    #[test]
    fn a_node_waits_while_one_peer_has_its_next_block() {
        let error = concludes(|seed, request| match request {
            Request::Offer if seed == 2 => Some(pruned(HEIGHT + 1)),
            Request::Offer => Some(pruned(200)),
            Request::Block(height) if seed == 2 => {
                let header = handover(1, 0..4, 0..3, 0..4).header;
                let header = Header { height: Height::new(*height), ..header };
                Some(Response::Block(Arc::new(Block::new(header, Vec::new()))))
            }
            request => Some(proof(request)),
        });
        assert!(error.is_none(), "{error:?}");
    }

    #[test]
    fn a_peer_that_only_says_that_it_has_the_next_block_keeps_no_node_waiting() {
        let error = concludes(|seed, request| match request {
            Request::Offer if seed == 2 => Some(pruned(1)),
            Request::Offer => Some(pruned(Calendar::default().last_of(2))),
            request => Some(proof(request)),
        });
        assert!(matches!(error, Some(EngineError::TooFarBehind { .. })), "{error:?}");
    }
}
