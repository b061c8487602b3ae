//! A network whose committee changes under load: one validator joins with stake, one leaves.
#![expect(clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod machine;
mod queue;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use machine::free_addresses;
use queue::{ALICE, Queue, act, address, genesis, settings, transfer, validator};
use soma_engine::{
    ConsensusSecret, Contacts, FinalizedBlock, Handle, Host, Peer, Pool, Sink, TERM_BLOCKS, start,
};
use soma_proof::{Certificate, Committees, Handover, Header, RecordProof};
use soma_protocol::{
    Action, Address, Amount, Genesis, GenesisAccount, Key, MemoryState, SecretKey,
    SignedTransaction, action, read,
};

const PATIENCE: Duration = Duration::from_mins(4);
const NEWCOMER: u8 = 4;
const NODES: u8 = 5;

/// Four validators; the fifth and the first have balances. Alice ends phases.
fn chain() -> Genesis {
    let mut genesis = genesis(NEWCOMER);
    genesis.operator = Some(address(ALICE));
    for (node, balance) in [(0, 10), (NEWCOMER, 1_000)] {
        genesis.accounts.push(GenesisAccount {
            address: address(validator(node)),
            balance: Amount::soma(balance),
        });
    }
    genesis
}

struct Network {
    genesis: Genesis,
    nodes: Vec<(Option<Handle>, Arc<Queue>)>,
    blocks: mpsc::Receiver<FinalizedBlock>,
    /// The next nonce of Alice.
    nonce: u64,
    began: Instant,
}

fn host(dir: &Path, node: u8, ports: &[SocketAddr]) -> Host {
    let peer = |other: u8| Peer {
        key: ConsensusSecret(validator(other)).public(),
        address: Some(ports[usize::from(other)].into()),
    };
    Host {
        dir: dir.join(node.to_string()),
        listen: ports[usize::from(node)],
        peers: (0..NODES).filter(|other| *other != node).map(peer).collect(),
        votes: dir.join(node.to_string()).join("votes"),
        contacts: Contacts::default(),
    }
}

impl Network {
    fn start(dir: &Path) -> Self {
        let ports = free_addresses(NODES);
        let genesis = chain();
        let (sender, blocks) = mpsc::channel();
        let nodes = (0..NODES).map(|node| {
            // The last genesis validator keeps its seat; its blocks are the ones observed.
            let queue = if node + 1 == NEWCOMER {
                Queue::reporting(sender.clone())
            } else {
                Arc::default()
            };
            let pool = Arc::clone(&queue) as Arc<dyn Pool>;
            let sink = Arc::clone(&queue) as Arc<dyn Sink>;
            let settings = settings(genesis.clone(), node, 5, 1_000);
            let handle = start(host(dir, node, &ports), settings, pool, sink).unwrap();
            (Some(handle), queue)
        });
        Self { nodes: nodes.collect(), genesis, blocks, nonce: 0, began: Instant::now() }
    }

    /// Adds it to all pools, as gossip would.
    fn send(&self, transaction: &SignedTransaction) {
        for (handle, queue) in &self.nodes {
            queue.add(transaction.clone());
            if let Some(handle) = handle {
                handle.wake();
            }
        }
    }

    fn send_as_alice(&mut self, action: Action) {
        let is_payment = !action.is_duty();
        let transaction = act(self.genesis.chain_id(), ALICE, self.nonce, action);
        self.nonce += u64::from(is_payment);
        self.send(&transaction);
    }

    fn witness(&self) -> &Handle {
        self.nodes[usize::from(NEWCOMER) - 1].0.as_ref().unwrap()
    }

    /// The next block, with a transfer for the one after it.
    fn next(&mut self) -> FinalizedBlock {
        let pay = transfer(self.genesis.chain_id(), self.nonce, 1);
        self.nonce += 1;
        self.send(&pay);
        let left = PATIENCE.saturating_sub(self.began.elapsed());
        self.blocks.recv_timeout(left).unwrap()
    }

    /// Ends the current epoch, phase by phase.
    fn end_epoch(&mut self) {
        let clock = |network: &Self| network.witness().read(|state, _| read::clock(state));
        let epoch = clock(self).epoch;
        let mut ended = None;
        loop {
            let now = clock(self);
            if now.epoch > epoch {
                return;
            }
            if ended != Some(now.phase) {
                let phase = now.phase;
                self.send_as_alice(Action::EndPhase(action::EndPhase { epoch, phase }));
                ended = Some(phase);
            }
            self.next();
        }
    }
}

#[test]
fn a_fifth_validator_takes_a_seat_and_the_first_one_leaves_under_load() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = Network::start(dir.path());
    let chain = network.genesis.chain_id();
    let (first, newcomer) = (address(validator(0)), address(validator(NEWCOMER)));
    let secret = SecretKey::from_bytes(&validator(NEWCOMER));
    let join = Action::RegisterValidator(action::RegisterValidator {
        consensus_key: ConsensusSecret(validator(NEWCOMER)).public(),
        proof: secret.prove_possession(&chain, &newcomer),
        commission_bps: 0,
        stake: Amount::soma(500),
    });
    network.send(&act(chain, validator(NEWCOMER), 0, join));
    network.send(&act(chain, validator(0), 0, Action::LeaveValidator(action::LeaveValidator {})));
    let decided = loop {
        network.end_epoch();
        let now = network.witness().read(|state, _| read::committee(state));
        if now.seats_validator(&newcomer) && !now.seats_validator(&first) {
            break now.height;
        }
    };
    let office = (decided / TERM_BLOCKS + 2) * TERM_BLOCKS;
    let mut proposers = Vec::new();
    while proposers.len() < 40 {
        let block = network.next();
        if block.height >= office {
            proposers.push(block.proposer);
        }
    }
    assert!(proposers.contains(&newcomer) && !proposers.contains(&first));
    // Stop one that has left and one with a seat: three of four seats remain, including the
    // newcomer's.
    network.nodes[0].0 = None;
    network.nodes[1].0 = None;
    let height = network.next().height;
    while network.next().height < height + 20 {}
    whoever_has_the_genesis_reads_what_is_proved(&network.genesis, network.witness());
}

/// Follows the committees from genesis to the one that has changed, as a client does.
fn whoever_has_the_genesis_reads_what_is_proved(genesis: &Genesis, node: &Handle) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut state = MemoryState::default();
    state.apply(&genesis.state().unwrap());
    let first = soma_proof::voters(&read::committee(&state).seats);
    let mut committees = Committees::new(genesis.chain_id(), TERM_BLOCKS, &first);
    let keys = [Key::account(&address(ALICE)), Key::account(&Address([9; 32]))];
    let proved = runtime.block_on(node.prover().records(keys.to_vec())).unwrap();
    let header = Header::decode(&proved.header).unwrap();
    let certificate = Certificate::decode(&proved.certificate).unwrap();
    assert!(!committees.certify(&header, &certificate), "another committee decides now");
    let handovers = runtime.block_on(node.prover().handovers(None)).unwrap();
    assert!(!handovers.is_empty());
    for handover in handovers {
        committees.follow(&Handover::decode(&handover).unwrap()).unwrap();
    }
    assert!(committees.believe(&header, &certificate));
    assert!(runtime.block_on(node.prover().handovers(committees.reached())).unwrap().is_empty());
    // What is kept for the next time is enough.
    committees.forget_past();
    assert!(committees.certify(&header, &certificate));
    let shown: Vec<bool> = keys
        .iter()
        .zip(&proved.records)
        .map(|(key, record)| {
            let record = RecordProof::decode(record).unwrap();
            record.shows(key, &header.state_root).unwrap().is_some()
        })
        .collect();
    assert_eq!(shown, [true, false]);
}
