//! The network of a running node: authenticated and encrypted connections to the other nodes.
//!
//! A committee of one runs on it as well, with nobody to talk to: the same code path as a network
//! of many, at the price of one listening socket on loopback. It decides nothing about blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    str::FromStr,
    time::Duration,
};

use commonware_codec::{Copying, DecodeExt as _};
use commonware_cryptography::{
    ChaCha20Poly1305,
    ed25519::{PrivateKey, PublicKey},
};
use commonware_p2p::{
    Address, AddressableManager as _, AddressableTrackedPeers, Ingress, PeerSetSubscription,
    Provider, TrackedPeers,
    authenticated::lookup::{self, Oracle},
};
use commonware_runtime::{Supervisor as _, tokio::Context};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{Hostname, NZU32, NZUsize, TryCollect as _, ordered::Map};
use soma_protocol::ConsensusKey;

use crate::{
    ConsensusSecret, EngineError, Peer,
    node::Links,
    parts::{GOSSIP_QUOTA, QUOTA, message_bytes_max},
};

/// How many nodes one node talks to, itself included. Mailboxes are allocated for all of them.
pub const PEERS_MAX: usize = 128;
const PEERS: NonZeroUsize = NZUsize!(PEERS_MAX);
/// The largest committee, as in [`SEATS_MAX`](crate::parts::SEATS_MAX).
const SEATS: NonZeroU32 = NZU32!(64);
const SYNCHRONY_BOUND: Duration = Duration::from_secs(5);
const HANDSHAKE_AGE_MAX: Duration = Duration::from_secs(10);

/// Where a node listens, as in `203.0.113.7:8646` or `validator.example.org:8646`.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerAddress(Ingress);

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self(Ingress::Socket(address))
    }
}

impl FromStr for PeerAddress {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let name = text.rsplit_once(':').and_then(|(host, port)| {
            let host = Hostname::new(host).ok()?;
            let port = port.parse().ok()?;
            Some(Self(Ingress::Dns { host, port }))
        });
        name.ok_or_else(|| EngineError::PeerAddress { text: text.into() })
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ingress::Socket(address) => address.fmt(f),
            Ingress::Dns { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key of a validator or follower.
#[expect(clippy::expect_used, reason = "every 32 bytes are an ed25519 seed")]
pub fn private_key(secret: &ConsensusSecret) -> PrivateKey {
    PrivateKey::decode(Copying(&secret.0)).expect("a seed decodes")
}

/// A key in the protocol's words.
pub(crate) fn bytes_of(key: &PublicKey) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key.as_ref());
    bytes
}

/// A key in the engine's words; `None` when the bytes are not a key.
pub(crate) fn public_key(key: &ConsensusKey) -> Option<PublicKey> {
    PublicKey::decode(Copying(&key.0)).ok()
}

/// Knows the peers, and is told who they are as epochs pass.
pub trait Roster: Provider<PublicKey = PublicKey> + Sync {
    /// From now on we talk to `voters`, and also to `others` as far as there is room.
    fn track(&mut self, epoch: u64, voters: BTreeSet<PublicKey>, others: BTreeSet<PublicKey>);
}

/// The peers of a real network: their keys from the chain, their addresses from the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    oracle: Oracle<PublicKey>,
    directory: Directory,
}

impl Provider for Peers {
    type PublicKey = PublicKey;

    async fn peer_set(&mut self, id: u64) -> Option<TrackedPeers<PublicKey>> {
        self.oracle.peer_set(id).await
    }

    async fn subscribe(&mut self) -> PeerSetSubscription<PublicKey> {
        self.oracle.subscribe().await
    }
}

impl Roster for Peers {
    fn track(&mut self, epoch: u64, voters: BTreeSet<PublicKey>, others: BTreeSet<PublicKey>) {
        let peers = self.directory.peers(voters, others);
        self.oracle.track(epoch, peers);
    }
}

/// Where all nodes are.
#[derive(Clone, Debug)]
pub(crate) struct Directory(BTreeMap<PublicKey, Address>);

impl Directory {
    /// The configured peers.
    ///
    /// # Errors
    /// [`EngineError::PeerKey`] and [`EngineError::TooManyPeers`].
    pub(crate) fn new(peers: &[Peer]) -> Result<Self, EngineError> {
        if peers.len() >= PEERS_MAX {
            let peers = peers.len();
            return Err(EngineError::TooManyPeers { peers });
        }
        let address = |peer: &Peer| {
            let key = public_key(&peer.key).ok_or(EngineError::PeerKey { key: peer.key })?;
            Ok((key, dialed(peer.address.as_ref())))
        };
        peers
            .iter()
            .map(address)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Peers by their part in the network: those who vote, and those who only follow. Nobody with
    /// a vote is left out for want of room; of the others, those that were configured come first.
    fn peers(
        &self,
        voters: BTreeSet<PublicKey>,
        others: BTreeSet<PublicKey>,
    ) -> AddressableTrackedPeers<PublicKey> {
        let mut configured = self.0.clone();
        let mut with_address = |key: PublicKey| {
            let address = configured.remove(&key);
            (key, address.unwrap_or_else(|| dialed(None)))
        };
        let voters: BTreeMap<_, _> = voters.into_iter().map(&mut with_address).collect();
        let others: Vec<_> = others.into_iter().map(&mut with_address).collect();
        let room = PEERS_MAX.saturating_sub(voters.len() + 1);
        let followers = configured.into_iter().chain(others);
        let followers = followers.filter(|(key, _)| !voters.contains_key(key));
        let followers = followers.take(room).collect();
        AddressableTrackedPeers::new(ordered(voters), ordered(followers))
    }
}

fn ordered(peers: BTreeMap<PublicKey, Address>) -> Map<PublicKey, Address> {
    peers.into_iter().try_collect().unwrap_or_default()
}

/// The engine wants an address of everybody. Port 0 is nobody's: dialing it fails at once, and the
/// peer is let in when it comes by itself.
fn dialed(address: Option<&PeerAddress>) -> Address {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let ingress = address.map_or(Ingress::Socket(nowhere), |address| address.0.clone());
    let egress = nowhere;
    Address::Asymmetric { ingress, egress }
}

/// The links of a node to its peers.
pub(crate) type PeerLinks = Links<
    Peers,
    Oracle<PublicKey>,
    lookup::Sender<PublicKey, Context>,
    lookup::Receiver<PublicKey>,
>;

/// Listens on `listen`; whom it talks to is for the [`Roster`] to be told.
pub(crate) fn connect(
    context: &Context,
    namespace: &[u8],
    key: PrivateKey,
    listen: SocketAddr,
    directory: Directory,
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
        PEERS,
        message_bytes_max(SEATS),
        NZUsize!(256),
    );
    config.tracked_peer_sets = NZUsize!(1);
    // Who may connect is decided by key, which is proved, and not by address: nodes sit behind
    // translators, and names move.
    config.bypass_ip_check = true;
    let (mut network, oracle) = lookup::Network::new(context.child("network"), config);
    let mut channel = |number| network.register(number, QUOTA);
    let links = Links {
        peers: Peers {
            oracle: oracle.clone(),
            directory,
        },
        blocker: oracle,
        votes: channel(0),
        certificates: channel(1),
        certificate_requests: channel(2),
        block_requests: channel(3),
        blocks: channel(4),
        gossip: network.register(5, GOSSIP_QUOTA),
        exchange: network.register(6, QUOTA),
    };
    network.start();
    links
}
