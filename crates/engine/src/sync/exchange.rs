//! The task that carries state sync between nodes: it responds to peers once the node is up, and
//! delivers the responses to this node's own requests. It never judges a response.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::{Clock, Spawner};
use commonware_storage::Context as StorageContext;
use rand_core::Rng;
use tokio::sync::{SetOnce, mpsc};

use super::{
    messages::{Message, Request, Response},
    server::Server,
};
use crate::limits::RESPONSE_BYTES_MAX;

/// How many of this node's requests, and responses to one request, may wait in a queue.
const WAITING_MAX: usize = 64;

/// The value of a future, or `None` if it takes longer than `limit`.
pub(crate) async fn within<T>(
    clock: &impl Clock,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = clock.sleep(limit) => None,
    }
}

/// A peer and its response.
pub(crate) type PeerResponse = (PublicKey, Response);

struct Outgoing {
    to: Recipients<PublicKey>,
    request: Request,
    responses: mpsc::Sender<PeerResponse>,
}

/// Sends requests to other nodes. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct RequestClient(mpsc::Sender<Outgoing>);

impl RequestClient {
    /// Sends a request. Responses arrive until the receiver is dropped.
    pub(crate) async fn request(
        &self,
        to: Recipients<PublicKey>,
        request: Request,
    ) -> mpsc::Receiver<PeerResponse> {
        let (responses, received) = mpsc::channel(WAITING_MAX);
        let outgoing = Outgoing { to, request, responses };
        // If the exchange has ended, so has the node.
        let _ = self.0.send(outgoing).await;
        received
    }

    /// Sends a request to one peer, and returns its response if it arrives within `limit`.
    pub(crate) async fn request_one(
        &self,
        clock: &impl Clock,
        limit: Duration,
        peer: &PublicKey,
        request: Request,
    ) -> Option<Response> {
        let mut responses = self.request(Recipients::One(peer.clone()), request).await;
        let (_, response) = within(clock, limit, responses.recv()).await.flatten()?;
        Some(response)
    }
}

/// Starts the exchange; it responds to peers once the server is set.
pub(crate) fn start<E, S, R>(
    mut context: E,
    link: (S, R),
) -> (RequestClient, Arc<SetOnce<Server<E>>>)
where
    E: Rng + Spawner + StorageContext,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let (client, requests) = mpsc::channel(WAITING_MAX);
    let server = Arc::new(SetOnce::new());
    let exchange = Exchange {
        server: Arc::clone(&server),
        sender: link.0,
        // Random, so that a response to a request made before a restart matches none from this run.
        next: context.next_u64(),
        pending: BTreeMap::new(),
    };
    context.spawn(move |_| exchange.run(requests, link.1));
    (RequestClient(client), server)
}

/// A request that waits for responses.
struct Pending {
    to: Recipients<PublicKey>,
    responses: mpsc::Sender<PeerResponse>,
}

struct Exchange<E: Spawner + StorageContext, S> {
    server: Arc<SetOnce<Server<E>>>,
    sender: S,
    next: u64,
    pending: BTreeMap<u64, Pending>,
}

impl<E, S> Exchange<E, S>
where
    E: Spawner + StorageContext,
    S: Sender<PublicKey = PublicKey>,
{
    async fn run<R>(mut self, mut requests: mpsc::Receiver<Outgoing>, mut receiver: R)
    where
        R: Receiver<PublicKey = PublicKey>,
    {
        let mut requests_open = true;
        loop {
            tokio::select! {
                biased;
                outgoing = requests.recv(), if requests_open => match outgoing {
                    Some(outgoing) => self.send(outgoing),
                    None => requests_open = false,
                },
                message = receiver.recv() => {
                    let Ok((from, message)) = message else {
                        return;
                    };
                    match Message::decode(message.as_ref()) {
                        Some(Message::Request(number, request)) => {
                            self.respond(from, number, request).await;
                        }
                        Some(Message::Response(number, response)) => {
                            self.deliver(from, number, response);
                        }
                        None => tracing::debug!(?from, "ignoring a malformed sync message"),
                    }
                }
            }
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        let Outgoing { to, request, responses } = outgoing;
        self.pending.retain(|_, pending| !pending.responses.is_closed());
        self.next = self.next.wrapping_add(1);
        let message = Message::Request(self.next, request).encode();
        self.sender.send(to.clone(), message, false);
        self.pending.insert(self.next, Pending { to, responses });
    }

    fn deliver(&mut self, from: PublicKey, number: u64, response: Response) {
        let Some(pending) = self.pending.get(&number) else {
            return;
        };
        let expected = match &pending.to {
            Recipients::All => true,
            Recipients::Some(peers) => peers.contains(&from),
            Recipients::One(peer) => *peer == from,
        };
        if expected {
            // The requester has dropped its receiver, or its queue is full.
            let _ = pending.responses.try_send((from, response));
        }
    }

    async fn respond(&mut self, from: PublicKey, number: u64, request: Request) {
        let Some(server) = self.server.get() else {
            return;
        };
        let message = Message::Response(number, server.respond(request).await).encode();
        if message.len() <= RESPONSE_BYTES_MAX {
            self.sender.send(Recipients::One(from), message, false);
        }
    }
}
