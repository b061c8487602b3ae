//! The task that carries state sync between nodes: it responds to peers once the node is up, and
//! delivers the responses to this node's own requests. It never judges the content of a response,
//! but blocks a peer that sends what cannot be decoded.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Blocker, Receiver, Recipients, Sender};
use commonware_runtime::{Clock, Spawner};
use commonware_storage::Context as StorageContext;
use rand_core::Rng;
use tokio::sync::{SetOnce, mpsc};

use super::{
    messages::{Message, Request, Response},
    server::Server,
    serving::{Due, Serving},
};
use crate::{limits::RESPONSE_BYTES_MAX, links::block};

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

/// A request on its way to the network.
pub(super) struct Outgoing {
    pub(super) to: Recipients<PublicKey>,
    pub(super) request: Request,
    pub(super) responses: mpsc::Sender<PeerResponse>,
}

/// Sends requests to other nodes. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct RequestClient(pub(super) mpsc::Sender<Outgoing>);

impl RequestClient {
    /// Sends a request. Responses arrive until the receiver is dropped, at most one of each peer.
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

    /// Sends a request to all peers. Returns the responses that arrive within `limit`, and, once
    /// there is one, within `more` of it: no peer can draw this out.
    pub(crate) async fn request_all(
        &self,
        clock: &impl Clock,
        request: Request,
        limit: Duration,
        more: Duration,
    ) -> Vec<PeerResponse> {
        let mut received = Vec::new();
        let mut responses = self.request(Recipients::All, request).await;
        let mut until = clock.current() + limit;
        loop {
            let response = tokio::select! {
                biased;
                response = responses.recv() => response,
                () = clock.sleep_until(until) => None,
            };
            let Some(response) = response else {
                return received;
            };
            if received.is_empty() {
                until = until.min(clock.current() + more);
            }
            received.push(response);
        }
    }
}

/// Starts the exchange; it responds to peers once the server is set.
pub(crate) fn start<E, S, R, B>(
    mut context: E,
    link: (S, R),
    blocker: B,
) -> (RequestClient, Arc<SetOnce<Server<E>>>)
where
    E: Rng + Spawner + StorageContext,
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    let (client, requests) = mpsc::channel(WAITING_MAX);
    let server = Arc::new(SetOnce::new());
    // Random, so that a response to a request made before a restart matches none from this run.
    let next = context.next_u64();
    let (respond_from, (sender, receiver)) = (Arc::clone(&server), link);
    context.spawn(move |clock| {
        let exchange = Exchange {
            serving: Serving::new(clock.current()),
            clock,
            server: respond_from,
            sender,
            blocker,
            next,
            pending: BTreeMap::new(),
        };
        exchange.run(requests, receiver)
    });
    (RequestClient(client), server)
}

/// A request that waits for responses.
struct Pending {
    to: Recipients<PublicKey>,
    /// The peers that have responded.
    responded: BTreeSet<PublicKey>,
    responses: mpsc::Sender<PeerResponse>,
}

impl Pending {
    fn expects(&self, peer: &PublicKey) -> bool {
        let asked = match &self.to {
            Recipients::All => true,
            Recipients::Some(peers) => peers.contains(peer),
            Recipients::One(asked) => asked == peer,
        };
        asked && !self.responded.contains(peer)
    }
}

struct Exchange<E: Spawner + StorageContext, S, B> {
    clock: E,
    server: Arc<SetOnce<Server<E>>>,
    sender: S,
    blocker: B,
    next: u64,
    pending: BTreeMap<u64, Pending>,
    serving: Serving,
}

impl<E, S, B> Exchange<E, S, B>
where
    E: Spawner + StorageContext,
    S: Sender<PublicKey = PublicKey>,
    B: Blocker<PublicKey = PublicKey>,
{
    async fn run<R>(mut self, mut requests: mpsc::Receiver<Outgoing>, mut receiver: R)
    where
        R: Receiver<PublicKey = PublicKey>,
    {
        let mut requests_open = true;
        loop {
            let due_at = self.serving.due_at();
            // Taking a message is quick and the network bounds their number, so those that come in
            // cannot keep this node from responding.
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
                    self.receive(from, message.as_ref());
                }
                () = self.clock.sleep_until(due_at.unwrap_or(std::time::UNIX_EPOCH)),
                    if due_at.is_some() =>
                {
                    if let Some(due) = self.serving.next(self.clock.current()) {
                        self.respond(due).await;
                    }
                }
            }
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        let Outgoing { to, request, responses } = outgoing;
        self.pending.retain(|_, pending| !pending.responses.is_closed());
        self.next = self.next.wrapping_add(1);
        self.sender.send(to.clone(), request.encode(self.next), false);
        self.pending.insert(self.next, Pending { to, responded: BTreeSet::new(), responses });
    }

    fn receive(&mut self, from: PublicKey, message: &[u8]) {
        match Message::split(message) {
            Some(Message::Request(number, content)) => match Request::decode(content) {
                Some(request) if self.server.initialized() => {
                    self.serving.add(self.clock.current(), from, number, request);
                }
                Some(_) => {}
                None => block(&mut self.blocker, from, "its sync request is malformed"),
            },
            Some(Message::Response(number, content)) => self.deliver(from, number, content),
            None => block(&mut self.blocker, from, "its sync message is malformed"),
        }
    }

    fn deliver(&mut self, from: PublicKey, number: u64, content: &[u8]) {
        let Some(pending) = self.pending.get_mut(&number).filter(|it| it.expects(&from)) else {
            // It came too late.
            return;
        };
        let Some(response) = Response::decode(content) else {
            return block(&mut self.blocker, from, "its sync response is malformed");
        };
        pending.responded.insert(from.clone());
        // The requester has dropped its receiver, or its queue is full.
        let _ = pending.responses.try_send((from, response));
    }

    async fn respond(&mut self, Due { from, number, request }: Due) {
        let response = match self.server.get() {
            Some(server) => server.respond(request).await,
            None => None,
        };
        let message = response.map_or_else(Vec::new, |response| response.encode(number));
        self.serving.charge(self.clock.current(), &from, message.len());
        if (1..=RESPONSE_BYTES_MAX).contains(&message.len()) {
            self.sender.send(Recipients::One(from), message, false);
        }
    }
}
