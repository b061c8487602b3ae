//! The network of a real node: authenticated and encrypted connections to the other nodes.
//!
//! A committee of one runs on it too, without peers: this keeps one code path, at the cost of one
//! listening socket. It decides nothing about blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use commonware_cryptography::{
    ChaCha20Poly1305,
    ed25519::{PrivateKey, PublicKey},
};
use commonware_p2p::{
    Address, AddressableManager as _, AddressableTrackedPeers, CheckedSender as _, Ingress,
    LimitedSender as _, PeerSetSubscription, Provider, Recipients, TrackedPeers,
    authenticated::lookup::{self, Oracle},
};
use commonware_runtime::{Clock as _, Quota, Spawner as _, Supervisor as _, tokio::Context};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{Hostname, NZU32, NZUsize, TryCollect as _, ordered::Map};
use soma_os::net::{names_another_host, names_another_machine};
use soma_protocol::ConsensusKey;
use tokio::sync::watch;

use crate::{
    EngineError,
    consensus::components::message_bytes_max,
    contacts::{Contacts, NotedHandshake},
    keys::{consensus_key, public_key},
    limits::{BLOCK_DURATION, GOSSIP_QUOTA, LEASES_QUOTA, PEERS_MAX, QUOTA, SEATS_MAX},
    links::{Links, Registered, Roster},
};

const PEERS: NonZeroUsize = NZUsize!(PEERS_MAX);
#[expect(clippy::cast_possible_truncation, reason = "a committee is small")]
const SEATS: NonZeroU32 = NZU32!(SEATS_MAX as u32);
const SYNCHRONY_BOUND: Duration = Duration::from_secs(5);
const HANDSHAKE_AGE_MAX: Duration = Duration::from_secs(10);
/// How often the set of connected peers is read.
const CONNECTED_INTERVAL: Duration = Duration::from_secs(1);

/// Another node of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The key that identifies it: connections from unknown keys are refused.
    pub key: ConsensusKey,
    /// Where it listens; `None` if it connects to this node and cannot be reached.
    pub address: Option<PeerAddress>,
}

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

/// The peers of a real network: those of the chain and those of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    oracle: Oracle<PublicKey>,
    directory: Directory,
    contacts: Contacts,
    /// How often the peers were told: the network numbers what it is told.
    told: Arc<AtomicU64>,
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
    fn track(&mut self, voters: BTreeSet<PublicKey>, registered: Vec<Registered>) {
        let peers = self.directory.peers(voters, registered);
        let keys = peers.primary.keys().iter().chain(peers.secondary.keys());
        self.contacts.expect(keys.cloned());
        self.oracle.track(self.told.fetch_add(1, Ordering::Relaxed), peers);
    }
}

/// The configured peers, and which addresses of others are dialed.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    configured: BTreeMap<PublicKey, Address>,
    /// Whether this machine is the whole network, so that others may be on it.
    is_local: bool,
}

impl Directory {
    /// The configured peers of a node that listens on `listen`.
    ///
    /// # Errors
    /// [`EngineError::PeerKey`] and [`EngineError::TooManyPeers`].
    pub(crate) fn new(peers: Vec<Peer>, listen: SocketAddr) -> Result<Self, EngineError> {
        if peers.len() >= PEERS_MAX {
            let peers = peers.len();
            return Err(EngineError::TooManyPeers { peers });
        }
        let address = |peer: Peer| {
            let key = public_key(&peer.key).ok_or(EngineError::PeerKey { key: peer.key })?;
            Ok((key, dialed(peer.address)))
        };
        let configured = peers.into_iter().map(address).collect::<Result<_, EngineError>>()?;
        Ok(Self { configured, is_local: listen.ip().is_loopback() })
    }

    /// The address to dial for what an operator wrote on the chain, which may be anything. Whoever
    /// writes this machine's own address must not make this node talk to itself.
    fn of_chain(&self, p2p: &str) -> Option<Address> {
        let address: PeerAddress = p2p.parse().ok()?;
        let is_elsewhere = match &address.0 {
            Ingress::Socket(socket) => names_another_machine(socket.ip()),
            Ingress::Dns { host, .. } => names_another_host(host.as_str()),
        };
        (is_elsewhere || self.is_local).then(|| dialed(Some(address)))
    }

    /// All peers by role: those that this node dials, and those that it only accepts. Every voter
    /// is included; the remaining places go to configured peers first, then to those that are
    /// `registered` in their order. A configured peer with an address is dialed whatever it is: it
    /// may be the only one that this node can reach. Its address here counts more than that on the
    /// chain.
    fn peers(
        &self,
        voters: BTreeSet<PublicKey>,
        registered: Vec<Registered>,
    ) -> AddressableTrackedPeers<PublicKey> {
        // An address that several claim is dialed for nobody: whoever is there would refuse what
        // is for another one, and take it for a second node with the key of this one.
        let mut claims = BTreeMap::<&str, u32>::new();
        for p2p in registered.iter().filter_map(|node| node.p2p.as_deref()) {
            *claims.entry(p2p).or_default() += 1;
        }
        let of_chain = |node: &Registered| {
            let p2p = node.p2p.as_deref().filter(|p2p| claims.get(p2p) == Some(&1))?;
            Some((node.key.clone(), self.of_chain(p2p)?))
        };
        let mut addresses: BTreeMap<_, _> = registered.iter().filter_map(of_chain).collect();
        let configured = self.configured.iter().filter(|(_, address)| **address != dialed(None));
        addresses.extend(configured.map(|(key, address)| (key.clone(), address.clone())));
        let with_address = |key: PublicKey| {
            let address = addresses.get(&key).cloned();
            (key, address.unwrap_or_else(|| dialed(None)))
        };
        let mut reachable: BTreeMap<_, _> = voters.into_iter().map(with_address).collect();
        let room = PEERS_MAX.saturating_sub(reachable.len() + 1);
        let others = registered.into_iter().map(|node| node.key);
        let others = others.filter(|key| !self.configured.contains_key(key));
        let followers = self.configured.keys().cloned().chain(others).map(with_address);
        let followers = followers.filter(|(key, _)| !reachable.contains_key(key)).take(room);
        let (dialed, accepted): (BTreeMap<_, _>, BTreeMap<_, _>) =
            followers.partition(|(_, address)| *address != dialed(None));
        reachable.extend(dialed);
        AddressableTrackedPeers::new(ordered(reachable), ordered(accepted))
    }
}

/// Checks that a node can be started with these peers.
///
/// # Errors
/// [`EngineError::PeerKey`] and [`EngineError::TooManyPeers`].
pub fn check_peers(peers: Vec<Peer>) -> Result<(), EngineError> {
    Directory::new(peers, (Ipv4Addr::UNSPECIFIED, 0).into()).map(|_| ())
}

fn ordered(peers: BTreeMap<PublicKey, Address>) -> Map<PublicKey, Address> {
    peers.into_iter().try_collect().unwrap_or_default()
}

/// The address to dial. The library requires one for every peer: dialing port 0 fails at once, and
/// a peer without an address is accepted when it connects.
fn dialed(address: Option<PeerAddress>) -> Address {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let ingress = address.map_or(Ingress::Socket(nowhere), |address| address.0);
    let egress = nowhere;
    Address::Asymmetric { ingress, egress }
}

type Sender = lookup::Sender<PublicKey, Context>;
type Receiver = lookup::Receiver<PublicKey>;

/// The links of a node to its peers.
pub(crate) type PeerLinks = Links<Peers, Oracle<PublicKey>, Sender, Receiver>;

/// Listens on `listen`. The [`Roster`] decides whom the node connects to; the second value says who
/// is connected.
pub(crate) fn connect(
    context: &Context,
    namespace: &[u8],
    key: PrivateKey,
    listen: SocketAddr,
    directory: Directory,
    contacts: Contacts,
) -> (PeerLinks, watch::Receiver<Vec<ConsensusKey>>) {
    let sake = Sake {
        signer: key,
        synchrony_bound: SYNCHRONY_BOUND,
        max_handshake_age: HANDSHAKE_AGE_MAX,
        version: sake::Version::V1,
    };
    let noted = NotedHandshake { sake, contacts: contacts.clone() };
    let handshake = Cups::<_, ChaCha20Poly1305>::new(noted, cups::Version::V1);
    let mut config = lookup::Config::local(
        handshake,
        namespace,
        listen,
        PEERS,
        message_bytes_max(SEATS),
        NZUsize!(256),
    );
    config.tracked_peer_sets = NZUsize!(1);
    // Peers are authenticated by key, not by address: nodes sit behind address translation, and
    // host names change address.
    config.bypass_ip_check = true;
    config.block_duration = BLOCK_DURATION;
    let (mut network, oracle) = lookup::Network::new(context.child("network"), config);
    let mut channel = |number| network.register(number, QUOTA);
    let links = Links {
        peers: Peers {
            oracle: oracle.clone(),
            directory,
            contacts: contacts.clone(),
            told: Arc::default(),
        },
        blocker: oracle,
        votes: channel(0),
        certificates: channel(1),
        certificate_requests: channel(2),
        block_requests: channel(3),
        blocks: channel(4),
        gossip: network.register(5, GOSSIP_QUOTA),
        exchange: network.register(6, QUOTA),
        leases: network.register(8, LEASES_QUOTA),
    };
    let channel = network.register(7, Quota::per_second(NZU32!(8)));
    let connected = watch_connected(context, channel, contacts);
    network.start();
    (links, connected)
}

/// The connected peers, as the network's router reports them to a sender. The channel is used for
/// nothing else, so its quota is never exhausted and no peer is left out.
fn watch_connected(
    context: &Context,
    (mut sender, receiver): (Sender, Receiver),
    contacts: Contacts,
) -> watch::Receiver<Vec<ConsensusKey>> {
    let (update, connected) = watch::channel(Vec::new());
    context.child("connected").spawn(move |clock| async move {
        // Without its receiver the channel would be closed.
        let _receiver = receiver;
        while !update.is_closed() {
            if let Ok(checked) = sender.check(Recipients::All) {
                let connected: Vec<_> = checked.recipients().iter().map(consensus_key).collect();
                contacts.connected(&connected, clock.current());
                update.send_replace(connected);
            }
            clock.sleep(CONNECTED_INTERVAL).await;
        }
    });
    connected
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        net::Ipv4Addr,
    };

    use commonware_cryptography::{
        Signer as _,
        ed25519::{PrivateKey, PublicKey},
    };

    use super::{Directory, Peer, dialed};
    use crate::{keys::consensus_key, limits::PEERS_MAX, links::Registered};

    fn key(number: u64) -> PublicKey {
        PrivateKey::from_seed(number).public_key()
    }

    #[test]
    fn places_go_to_configured_peers_and_then_to_whoever_has_more_stake_whatever_its_key_is() {
        let configured = key(500);
        let peer = Peer { key: consensus_key(&configured), address: None };
        let directory = Directory::new(vec![peer], (Ipv4Addr::LOCALHOST, 1).into()).unwrap();
        // The last one by key has the most stake.
        let mut others: Vec<_> = (0..300).map(key).collect();
        others.sort();
        others.reverse();
        let voters: BTreeSet<_> = (400..404).map(key).collect();
        let node = |key: &PublicKey| Registered { key: key.clone(), p2p: None };
        let peers = directory.peers(voters, others.iter().map(node).collect());
        let accepted: BTreeSet<_> = peers.secondary.keys().iter().cloned().collect();
        assert_eq!(peers.primary.keys().len(), 4);
        assert!(accepted.contains(&configured));
        let room = PEERS_MAX - 1 - 4 - 1;
        let expected: BTreeSet<_> = others[..room].iter().cloned().chain([configured]).collect();
        assert_eq!(accepted, expected);
    }
    #[test]
    fn a_node_dials_where_the_chain_says_unless_its_own_settings_say_otherwise() {
        let node =
            |number: u64, p2p: &str| Registered { key: key(number), p2p: Some(p2p.to_owned()) };
        let registered = vec![
            node(1, "validator.example.org:8646"),
            node(2, "203.0.113.7:8646"),
            node(3, "127.0.0.1:22"),
            node(4, "localhost:22"),
            node(5, "nowhere"),
            node(6, "127.1:22"),
            node(7, "0x7f000001:22"),
            node(8, "LOCALHOST:22"),
            node(9, "claimed.example.org:8646"),
            node(10, "claimed.example.org:8646"),
        ];
        let peer = Peer {
            key: consensus_key(&key(2)),
            address: Some("203.0.113.8:8646".parse().unwrap()),
        };
        let found = |listen: &str| -> BTreeMap<PublicKey, String> {
            let directory = Directory::new(vec![peer.clone()], listen.parse().unwrap()).unwrap();
            let voters = registered.iter().map(|node| node.key.clone()).collect();
            let peers = directory.peers(voters, registered.clone()).primary;
            let dialed = peers.into_iter().filter(|(_, address)| *address != dialed(None));
            dialed.map(|(key, address)| (key, format!("{:?}", address.ingress()))).collect()
        };
        let far = found("0.0.0.0:8646");
        assert!(far[&key(1)].contains("validator.example.org"));
        assert!(far[&key(2)].contains("203.0.113.8"), "the settings count more");
        assert_eq!(far.len(), 2, "nobody makes a node talk to its own machine: {far:?}");
        assert_eq!(found("127.0.0.1:8646").len(), 7, "a network on one machine");
    }
}
