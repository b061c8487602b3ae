//! What a validator admits from the nodes that are connected to it, and which of them it blocks.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use soma_engine::{
    ConsensusSecret, Contacts, FinalizedBlock, Handle, Host, Join, Peer, Pool, Settings, Sink,
};
use soma_node::Node;
use soma_node::localnet::{Localnet, Plan, account_name};
use soma_node::settings::PeerSettings;
use soma_protocol::{
    Action, Amount, Candidates, ConsensusKey, Genesis, Hash, Ruleset, SecretKey, SignedTransaction,
    Transaction, action,
};
use soma_sdk::Client;
use soma_sdk::api::batch;
use tempfile::TempDir;

use crate::network::{Network, wait_until};

/// A node that neither proposes nor keeps anything.
struct Idle;

impl Pool for Idle {
    fn candidates(&self) -> Box<dyn Candidates + '_> {
        Box::new(std::iter::empty())
    }

    fn is_empty(&self) -> bool {
        true
    }
}

impl Sink for Idle {
    fn finalized(&self, _: FinalizedBlock) {}
}

/// A validator, and the keys of its network.
struct Validator {
    client: Client,
    local: Localnet,
    listen: SocketAddr,
    _node: Node,
    dir: TempDir,
}

fn secret(number: u8) -> ConsensusSecret {
    ConsensusSecret([number; 32])
}

impl Validator {
    /// It accepts the peers with these numbers.
    fn start(peers: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let local = Localnet::create(&dir.path().join("state"), &Plan::manual([7; 32])).unwrap();
        let listen = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let mut config = Network::config(&local);
        config.settings.listen = listen;
        let peer =
            |number: &u8| PeerSettings { key: secret(*number).public(), address: None, url: None };
        config.settings.peers = peers.iter().map(peer).collect();
        let node = soma_node::start(config).unwrap();
        Self { client: Client::new(node.url()).unwrap(), local, listen, _node: node, dir }
    }

    fn genesis(&self) -> &Genesis {
        self.local.genesis()
    }

    fn key(&self) -> ConsensusKey {
        self.genesis().validators[0].consensus_key
    }

    /// A node with the key of a peer, connected to the validator.
    async fn connect(&self, number: u8) -> Handle {
        let dir = Path::new(self.dir.path()).join(number.to_string());
        let host = Host {
            votes: dir.with_extension("votes"),
            contacts: Contacts::default(),
            dir,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            peers: vec![Peer { key: self.key(), address: Some(self.listen.into()) }],
        };
        let settings = Settings {
            genesis: self.genesis().clone(),
            key: secret(number),
            block_ms: 20,
            idle_block_ms: 500,
            join: Join::Replay,
            vote_unrecorded: false,
            ruleset: Ruleset::WHOLE,
            keep_blocks: None,
        };
        let start = move || soma_engine::start(host, settings, Arc::new(Idle), Arc::new(Idle));
        let node = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
        wait_until("the node connects", async || node.connected() == [self.key()]).await;
        node
    }

    /// A payment of one funded account to another.
    fn payment(&self, chain: Hash, from: u32) -> SignedTransaction {
        let key = |number: u32| -> SecretKey { self.local.key(&account_name(number)).unwrap() };
        let transaction = Transaction {
            chain,
            sender: key(from).address(),
            nonce: 0,
            tip: Amount::ZERO,
            fee_limit: Amount::soma(1),
            valid_until_ms: u64::MAX,
            action: Action::Transfer(action::Transfer {
                to: key(8).address(),
                amount: Amount::soma(1),
            }),
        };
        transaction.sign(&key(from))
    }
}

fn batch_of(transactions: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(transactions.iter().all(|transaction| batch::push_bytes(&mut bytes, transaction)));
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_sends_garbage_is_dropped_and_honest_gossip_arrives() {
    let validator = Validator::start(&[1, 2, 3, 4, 5]);
    let chain = validator.genesis().chain_id();
    let honest = validator.connect(1).await;
    let good = validator.payment(chain, 1);
    let mut forged = validator.payment(chain, 2).bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let foreign = validator.payment(Hash([1; 32]), 3);
    let garbage = [
        vec![1, 2, 3],
        batch_of(&[good.bytes(), &[7; 99]]),
        batch_of(&[foreign.bytes()]),
        batch_of(&[&forged]),
    ];
    for (number, garbage) in (2..).zip(garbage) {
        let hostile = validator.connect(number).await;
        assert!(hostile.gossip().send(garbage));
        wait_until("the hostile node is dropped", async || hostile.connected().is_empty()).await;
        // It is not accepted again, although it dials without a pause.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        assert!(hostile.connected().is_empty());
        assert_eq!(honest.connected(), [validator.key()]);
        tokio::task::spawn_blocking(move || hostile.shutdown()).await.unwrap();
    }
    assert!(honest.gossip().send(batch_of(&[good.bytes()])));
    let finalized = async || validator.client.transaction(good.hash()).await.is_ok();
    wait_until("the payment arrives", finalized).await;
    tokio::task::spawn_blocking(move || honest.shutdown()).await.unwrap();
}
