//! The other nodes whose APIs are known: those of the settings, and those of the validators with a
//! seat that say on the chain where they are. What the chain says may be anything, so only the
//! hashes of what such a node sends are trusted, and short answers are read.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use soma_protocol::{ConsensusKey, Hash, SecretKey, StateRead, read};
use soma_sdk::keys::PeerKey;
use soma_sdk::{Client, Trust, client::names_another_machine};

use crate::error::NodeError;
use crate::settings::NodeConfig;

/// Where a node's API is, as the chain says.
pub(crate) type Place = (ConsensusKey, String);

/// The other nodes, with a client for each. Connections belong to the thread that opened them, so
/// each thread has neighbors of its own.
pub(crate) struct Neighbors {
    configured: Vec<(ConsensusKey, Client)>,
    /// Servers that have encrypted weights files.
    mirrors: Vec<Client>,
    /// Those of the chain that are not configured; `None` if a place cannot be used.
    of_chain: Mutex<BTreeMap<Place, Option<Client>>>,
    trust: Trust,
    key: SecretKey,
    chain: Hash,
    /// Whether this machine is the whole network, so that others may be on it.
    is_local: bool,
}

impl Neighbors {
    /// Those of the settings, and later also those of the chain.
    ///
    /// # Errors
    /// If the settings name a URL or certificates that cannot be used.
    pub(crate) fn of(config: &NodeConfig) -> Result<Self, NodeError> {
        let mut neighbors = Self {
            configured: Vec::new(),
            mirrors: Vec::new(),
            of_chain: Mutex::default(),
            trust: config.trust()?,
            key: SecretKey::from_bytes(&config.consensus.0),
            chain: config.genesis.chain_id(),
            is_local: config.settings.listen.ip().is_loopback(),
        };
        for peer in &config.settings.peers {
            if let Some(url) = &peer.url {
                let client = neighbors.client(peer.key, url)?;
                neighbors.configured.push((peer.key, client));
            }
        }
        for url in &config.settings.weights.mirrors {
            neighbors.mirrors.push(Client::trusting(url, &neighbors.trust)?.without_retries());
        }
        Ok(neighbors)
    }

    /// The mirrors of weights files that the settings name.
    pub(crate) fn mirrors(&self) -> Vec<Client> {
        self.mirrors.clone()
    }

    /// A client of a node, which gives a place for files to who shows its key.
    fn client(&self, server: ConsensusKey, url: &str) -> Result<Client, NodeError> {
        let client = Client::trusting(url, &self.trust)?.without_retries();
        Ok(client.as_peer(PeerKey { key: self.key.clone(), chain: self.chain, server }))
    }

    /// Those of the settings.
    pub(crate) fn configured(&self) -> Vec<(ConsensusKey, Client)> {
        self.configured.clone()
    }

    /// Those at these places. One whose place cannot be used is left out.
    pub(crate) fn of_chain(&self, places: Vec<Place>) -> Vec<(ConsensusKey, Client)> {
        let mut of_chain = self.of_chain.lock();
        let mut known = std::mem::take(&mut *of_chain);
        for place in places {
            let client = known
                .remove(&place)
                .unwrap_or_else(|| self.client(place.0, &place.1).ok().map(Client::brief));
            of_chain.insert(place, client);
        }
        let clients = of_chain.iter();
        clients.filter_map(|((key, _), client)| Some((*key, client.clone()?))).collect()
    }

    /// All that are known from the settings or at these places: those of the settings first.
    pub(crate) fn all(&self, places: Vec<Place>) -> Vec<(ConsensusKey, Client)> {
        self.configured.iter().cloned().chain(self.of_chain(places)).collect()
    }

    /// Where the validators with a seat say that they are, but for this node and those of the
    /// settings.
    pub(crate) fn places(&self, state: &dyn StateRead) -> Vec<Place> {
        let me = ConsensusKey(self.key.address().0);
        let is_new = |key: &ConsensusKey| {
            *key != me && !self.configured.iter().any(|(configured, _)| configured == key)
        };
        let seats = read::committee(state).seats;
        let seats = seats.into_iter().filter(|seat| is_new(&seat.consensus_key));
        let place = seats.filter_map(|seat| {
            let url = read::endpoints(state, &seat.validator)?.endpoints.url?;
            let may_ask = self.is_local || names_another_machine(&url);
            may_ask.then_some((seat.consensus_key, url))
        });
        place.collect()
    }
}

#[cfg(test)]
mod tests {
    use soma_protocol::record::Params;
    use soma_protocol::{Amount, Architecture, Endpoints, Genesis, GenesisValidator, MemoryState};

    use super::{ConsensusKey, Mutex, Neighbors, SecretKey, Trust};

    fn key(number: u8) -> SecretKey {
        SecretKey::from_bytes(&[number; 32])
    }

    fn consensus_key(number: u8) -> ConsensusKey {
        ConsensusKey(key(number).address().0)
    }

    /// A chain on which validators say that their APIs are at these URLs.
    fn chain(urls: &[&str]) -> MemoryState {
        let validator = |(number, url): (u8, &&str)| GenesisValidator {
            address: key(100 + number).address(),
            consensus_key: consensus_key(number),
            stake: Amount::soma(10),
            endpoints: Endpoints { p2p: None, url: Some((*url).to_owned()) },
        };
        let genesis = Genesis {
            chain: "chain".to_owned(),
            timestamp_ms: 0,
            params: Params::local(),
            architecture: Architecture::nano(),
            accounts: Vec::new(),
            validators: (1..).zip(urls).map(validator).collect(),
            models: Vec::new(),
            operator: None,
        };
        let mut state = MemoryState::default();
        state.apply(&genesis.state().unwrap());
        state
    }

    #[test]
    fn seats_are_asked_where_the_chain_says_but_never_on_this_machine() {
        let urls = [
            "http://own.example.org",
            "https://second.example.org/soma",
            "http://configured.example.org",
            "http://127.0.0.1:22",
            "http://[::1]:1",
            "http://169.254.169.254",
            "http://localhost:9",
            "nonsense",
        ];
        let mut neighbors = Neighbors {
            configured: Vec::new(),
            mirrors: Vec::new(),
            of_chain: Mutex::default(),
            trust: Trust::system(),
            key: key(1),
            chain: soma_protocol::Hash([0; 32]),
            is_local: false,
        };
        let configured = neighbors.client(consensus_key(3), "http://elsewhere").unwrap();
        neighbors.configured.push((consensus_key(3), configured));
        let state = chain(&urls);
        for _ in 0..2 {
            let all = neighbors.all(neighbors.places(&state));
            let found: Vec<_> = all.iter().map(|(key, client)| (*key, client.url())).collect();
            let second = (consensus_key(2), "https://second.example.org/soma");
            assert_eq!(found, [(consensus_key(3), "http://elsewhere"), second]);
        }
        neighbors.is_local = true;
        let all = |state| neighbors.all(neighbors.places(state)).len();
        assert_eq!(all(&state), 6, "a network on one machine");
        assert_eq!(all(&chain(&urls[..1])), 1, "who has left is forgotten");
    }
}
