//! The network of a running node: authenticated and encrypted connections to the validators.
//!
//! A committee of one runs on it as well, with nobody to talk to: the same code path as a network
//! of many, at the price of one listening socket on loopback. It decides nothing about blocks.

use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use commonware_cryptography::{ChaCha20Poly1305, ed25519::PrivateKey, ed25519::PublicKey};
use commonware_p2p::{
    Address as PeerAddress, AddressableManager as _,
    authenticated::lookup::{self, Oracle},
};
use commonware_runtime::{Supervisor as _, tokio::Context};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{NZU32, NZUsize, ordered::Map};

use crate::{
    node::Links,
    parts::{QUOTA, message_bytes_max},
};

/// How many validators a committee can have; mailboxes are allocated for all of them.
const VALIDATORS_MAX: NonZeroU32 = NZU32!(16);
const SYNCHRONY_BOUND: Duration = Duration::from_secs(5);
const HANDSHAKE_AGE_MAX: Duration = Duration::from_secs(10);

/// The links of a node to its peers.
pub(crate) type PeerLinks = Links<
    Oracle<PublicKey>,
    Oracle<PublicKey>,
    lookup::Sender<PublicKey, Context>,
    lookup::Receiver<PublicKey>,
>;

/// Listens on `listen` and connects to `peers`.
pub(crate) fn connect(
    context: &Context,
    namespace: &[u8],
    key: PrivateKey,
    listen: SocketAddr,
    peers: Map<PublicKey, PeerAddress>,
) -> PeerLinks {
    let handshake = Cups::<_, ChaCha20Poly1305>::new(
        Sake {
            signer: key,
            synchrony_bound: SYNCHRONY_BOUND,
            max_handshake_age: HANDSHAKE_AGE_MAX,
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    let mut config = lookup::Config::local(
        handshake,
        namespace,
        listen,
        NZUsize!(16),
        message_bytes_max(VALIDATORS_MAX),
        NZUsize!(256),
    );
    config.tracked_peer_sets = NZUsize!(1);
    let (mut network, mut oracle) = lookup::Network::new(context.child("network"), config);
    oracle.track(0, peers);
    let mut channel = |number| network.register(number, QUOTA);
    let links = Links {
        peers: oracle.clone(),
        blocker: oracle,
        votes: channel(0),
        certificates: channel(1),
        certificate_requests: channel(2),
        block_requests: channel(3),
        blocks: channel(4),
    };
    network.start();
    links
}
