//! A peer that sends bytes of its own choosing over the real network: what a program could do that
//! holds the key of a peer.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    thread::{self, JoinHandle},
};

use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::{ChaCha20Poly1305, ed25519::PublicKey};
use commonware_p2p::{
    Address, AddressableManager as _, AddressableTrackedPeers, Receiver as _, Recipients,
    Sender as _, authenticated::lookup,
};
use commonware_runtime::{
    Quota, Runner as _, Supervisor as _,
    tokio::{Config, Context, Runner},
};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{NZU32, NZUsize, TryCollect as _, ordered::Map};
use soma_engine::{
    ConsensusSecret,
    generic::{message_bytes_max, private_key},
};
use soma_protocol::{ConsensusKey, Hash, record::SEATS_MAX};
use tokio::sync::mpsc;

const CHANNELS: u64 = 9;
const GOSSIP: usize = 5;
const EXCHANGE: usize = 6;
/// The hostile peer sends more than the quota of any channel. Mailboxes are allocated for this many
/// messages of every peer, so it has few.
const QUOTA: Quota = Quota::per_second(NZU32!(1_000));
const PEERS: usize = 8;

/// What a hostile peer responds to the bytes of a sync request, if anything.
pub(crate) type Respond = fn(&[u8]) -> Option<Vec<u8>>;

/// Where the hostile peer listens, and whom it talks to.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) chain: Hash,
    pub(crate) secret: [u8; 32],
    pub(crate) listen: SocketAddr,
    pub(crate) peers: Vec<(ConsensusKey, SocketAddr)>,
}

/// A running hostile peer; it stops when dropped.
pub(crate) struct HostilePeer {
    gossip: Option<mpsc::UnboundedSender<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl HostilePeer {
    pub(crate) fn start(place: Place, respond: Respond) -> Self {
        let (gossip, outgoing) = mpsc::unbounded_channel();
        let thread = thread::spawn(move || {
            let dir = tempfile::tempdir().unwrap();
            let config = Config::new().with_worker_threads(1).with_storage_directory(dir.path());
            Runner::new(config).start(|context| run(context, place, respond, outgoing));
        });
        Self { gossip: Some(gossip), thread: Some(thread) }
    }

    /// Sends gossip to all its peers.
    pub(crate) fn send(&self, message: Vec<u8>) {
        self.gossip.as_ref().unwrap().send(message).unwrap();
    }
}

impl Drop for HostilePeer {
    fn drop(&mut self) {
        drop(self.gossip.take());
        let _ = self.thread.take().unwrap().join();
    }
}

async fn run(
    context: Context,
    place: Place,
    respond: Respond,
    mut outgoing: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    let handshake = Cups::<_, ChaCha20Poly1305>::new(
        Sake {
            signer: private_key(&ConsensusSecret(place.secret)),
            synchrony_bound: std::time::Duration::from_secs(5),
            max_handshake_age: std::time::Duration::from_secs(10),
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let mut config = lookup::Config::local(
        handshake,
        &place.chain.0,
        place.listen,
        NZUsize!(PEERS),
        message_bytes_max(NonZeroU32::new(SEATS_MAX).unwrap()),
        NZUsize!(256),
    );
    config.bypass_ip_check = true;
    let (mut network, mut oracle) = lookup::Network::new(context.child("network"), config);
    let mut links: Vec<_> = (0..CHANNELS).map(|number| network.register(number, QUOTA)).collect();
    network.start();
    let address = |(key, address): &(ConsensusKey, SocketAddr)| {
        let key = PublicKey::decode(Copying(&key.0)).unwrap();
        (key, Address::Symmetric(*address))
    };
    let peers: Map<_, _> = place.peers.iter().map(address).try_collect().unwrap();
    oracle.track(0, AddressableTrackedPeers::new(peers, Map::default()));
    let (mut to_exchange, mut exchange) = links.remove(EXCHANGE);
    let (mut gossip, _unread) = links.remove(GOSSIP);
    loop {
        tokio::select! {
            message = outgoing.recv() => match message {
                Some(message) => {
                    gossip.send(Recipients::All, message, false);
                }
                None => return,
            },
            request = exchange.recv() => {
                let (from, request) = request.unwrap();
                if let Some(response) = respond(request.as_ref()) {
                    to_exchange.send(Recipients::One(from), response, false);
                }
            }
        }
    }
}
