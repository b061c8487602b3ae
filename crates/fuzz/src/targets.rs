//! What is tried, and what must hold of it whatever the bytes are.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use borsh::BorshDeserialize as _;
use soma_node::Node;
use soma_node::localnet::{Localnet, OPERATOR, Plan, account_name};
use soma_protocol::{
    Action, Address, Amount, BlockInfo, Hash, MemoryState, SecretKey, SignedTransaction, TargetId,
    Transaction, action, execute, invariants, read,
};
use soma_sdk::Secret;
use soma_sdk::api::batch;

use crate::random::Random;

/// Something that takes input. `Err` says what did not hold.
pub(crate) trait Target {
    fn try_one(&mut self, random: &mut Random) -> Result<(), String>;
}

fn sign(key: &SecretKey, chain: Hash, nonce: u64, action: Action) -> SignedTransaction {
    Transaction {
        chain,
        sender: key.address(),
        nonce,
        fee_limit: Amount(1_000_000_000),
        valid_until_ms: u64::MAX,
        action,
    }
    .sign(key)
}

/// Encoded transactions of several kinds.
fn samples() -> Vec<Vec<u8>> {
    let key = SecretKey::from_bytes(&[1; 32]);
    let actions = [
        Action::Transfer(action::Transfer {
            to: Address([2; 32]),
            amount: Amount(1),
        }),
        Action::PublishData(action::PublishData {
            target: TargetId(1),
            data: vec![3; 200],
            salt: [4; 32],
        }),
    ];
    let encode = |action| sign(&key, Hash([9; 32]), 0, action).encode();
    actions.into_iter().map(encode).collect()
}

/// The decoder of transactions, and of batches of them.
pub(crate) struct Transactions(Vec<Vec<u8>>);

impl Transactions {
    pub(crate) fn new() -> Self {
        Self(samples())
    }
}

impl Target for Transactions {
    fn try_one(&mut self, random: &mut Random) -> Result<(), String> {
        let bytes = random.input(&self.0);
        if let Ok(transaction) = SignedTransaction::decode(&bytes)
            && transaction.encode() != bytes
        {
            return Err("two encodings of one transaction".to_owned());
        }
        let mut framed = Vec::new();
        batch::push_bytes(&mut framed, &bytes);
        let framed = random.input(&[framed]);
        for part in batch::split(&framed).unwrap_or_default() {
            let _transaction = SignedTransaction::decode(part);
        }
        Ok(())
    }
}

/// The decoder of blocks.
pub(crate) struct Blocks(Vec<Vec<u8>>);

impl Blocks {
    /// A block of two transactions, written field by field: round, leader, parent's view and digest; parent, height, time,
    /// proposer, root and range of the state, seats; transactions.
    pub(crate) fn new() -> Result<Self, String> {
        let key = SecretKey::from_bytes(&[1; 32]).address().0;
        let numbers: [&[u8]; 2] = [&[0, 2], &[1]];
        let mut block = [numbers[0], &key, numbers[1], &[5; 32], &[5; 32], &[2]].concat();
        block.extend(1_767_225_600_000_u64.to_be_bytes());
        block.extend([key, [6; 32]].concat());
        block.extend([0, 9]);
        block.extend([7; 32]);
        block.push(2);
        for transaction in samples() {
            let length = transaction.len();
            let low = u8::try_from(length & 0x7f | 0x80).map_err(|error| error.to_string())?;
            let high = u8::try_from(length >> 7).map_err(|error| error.to_string())?;
            block.extend([low, high]);
            block.extend(transaction);
        }
        if soma_engine::recode_block(&block).as_ref() == Some(&block) {
            Ok(Self(vec![block]))
        } else {
            Err("the sample is no block: has their form changed?".to_owned())
        }
    }
}

impl Target for Blocks {
    fn try_one(&mut self, random: &mut Random) -> Result<(), String> {
        let bytes = random.input(&self.0);
        match soma_engine::recode_block(&bytes) {
            Some(again) if again != bytes => Err("two encodings of one block".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Blocks between two looks at the whole state.
const CHECKED_EVERY: u64 = 64;
/// Blocks after which a new chain begins, so that none grows without end.
const CHAIN_BLOCKS: u64 = 4_096;

/// The rules, on transactions that are well signed and mean anything.
pub(crate) struct Rules {
    keys: Vec<SecretKey>,
    chain: Hash,
    genesis: MemoryState,
    state: MemoryState,
    height: u64,
    timestamp_ms: u64,
}

impl Rules {
    pub(crate) fn new() -> Result<Self, String> {
        let plan = Plan::manual([0; 32]);
        let genesis = plan.genesis();
        let mut state = MemoryState::default();
        state.apply(&genesis.state().map_err(|error| error.to_string())?);
        let names = (1..=4)
            .map(account_name)
            .chain([OPERATOR.to_owned(), "validator-1".to_owned()]);
        let secret = |name: String| Secret::derive(&plan.seed, &name);
        let keys = names
            .map(|name| SecretKey::from_bytes(secret(name).bytes()))
            .collect();
        Ok(Self {
            keys,
            chain: genesis.chain_id(),
            genesis: state.clone(),
            state,
            height: 0,
            timestamp_ms: genesis.timestamp_ms,
        })
    }

    fn transaction(&self, random: &mut Random) -> Option<SignedTransaction> {
        // Any bytes: what stands after a whole action is not read.
        let bytes = random.sparse(600);
        let mut tagged = vec![bytes.first()? % 40];
        tagged.extend(bytes);
        let action = Action::deserialize(&mut &tagged[..]).ok()?;
        let key = &self.keys[random.below(self.keys.len())];
        let nonce = read::account(&self.state, &key.address()).nonce;
        Some(sign(key, self.chain, nonce, action))
    }
}

impl Target for Rules {
    fn try_one(&mut self, random: &mut Random) -> Result<(), String> {
        let transactions: Vec<_> = (0..random.below(4))
            .filter_map(|_| self.transaction(random)?.verify(&self.chain).ok())
            .collect();
        self.height += 1;
        self.timestamp_ms += 1 + random.number() % 2_000;
        let validator = &self.keys[self.keys.len() - 1];
        let block = BlockInfo {
            height: self.height,
            timestamp_ms: self.timestamp_ms,
            proposer: validator.address(),
        };
        let outcome = execute(&self.state, &block, &transactions);
        if outcome.receipts.len() != transactions.len() {
            return Err("a transaction without a receipt".to_owned());
        }
        self.state.apply(&outcome.changes);
        if self.height.is_multiple_of(CHECKED_EVERY) {
            invariants::check(&self.state).map_err(|violation| violation.to_string())?;
        }
        if self.height == CHAIN_BLOCKS {
            (self.state, self.height) = (self.genesis.clone(), 0);
        }
        Ok(())
    }
}

/// The API of a running node, from its first byte on.
pub(crate) struct Api {
    node: Node,
    samples: Vec<Vec<u8>>,
    sent: u64,
    _dir: tempfile::TempDir,
}

/// Requests between two questions whether the node is well.
const ASKED_EVERY: u64 = 256;
const PATIENCE: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(30);

impl Api {
    pub(crate) fn new() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let local = Localnet::create(&dir.path().join("network"), &Plan::manual([0; 32]));
        let config = local.and_then(|local| local.node(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))));
        let node = config
            .and_then(soma_node::start)
            .map_err(|error| error.to_string())?;
        let hash = "ab".repeat(32);
        let mut samples: Vec<Vec<u8>> = soma_node::openapi()
            .paths
            .paths
            .keys()
            .map(|path| {
                let path = path.replace("{hash}", &hash).replace("{address}", "soma1x");
                let path = path.replace("{id}", "1").replace("{epoch}", "1").replace("{height}", "1");
                format!("GET {path}?after=1&limit=5 HTTP/1.1\r\nhost: x\r\nrange: bytes=1-2\r\nconnection: close\r\n\r\n").into_bytes()
            })
            .collect();
        for (path, body) in [
            ("", self::samples().swap_remove(0)),
            ("/batch", vec![0; 12]),
        ] {
            let head = format!(
                "POST /v1/transactions{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            samples.push([head.into_bytes(), body].concat());
        }
        samples.push(
            format!("PUT /v1/ciphertexts/{hash}/upload HTTP/1.1\r\nhost: x\r\nauthorization: Soma x 1 {hash}\r\ncontent-range: bytes 0-1/2\r\ncontent-length: 2\r\nconnection: close\r\n\r\nab").into_bytes(),
        );
        Ok(Self {
            node,
            samples,
            sent: 0,
            _dir: dir,
        })
    }

    fn connect(&self) -> Result<TcpStream, String> {
        let stream = TcpStream::connect_timeout(&self.node.api(), PATIENCE);
        let stream = stream.map_err(|error| format!("the node takes no connection: {error}"))?;
        let set = stream.set_read_timeout(Some(PATIENCE));
        set.map_err(|error| error.to_string())?;
        Ok(stream)
    }
}

impl Target for Api {
    fn try_one(&mut self, random: &mut Random) -> Result<(), String> {
        let request = random.input(&self.samples);
        let mut stream = self.connect()?;
        // The node may have answered and closed before the end.
        let _closed = stream.write_all(&request);
        let mut answer = Vec::new();
        // A stream of events has no end, and half a request no answer: a moment is enough.
        let limited = stream.set_read_timeout(Some(MOMENT));
        limited.map_err(|error| error.to_string())?;
        let _cut = stream.take(4_096).read_to_end(&mut answer);
        if answer.starts_with(b"HTTP/1.1 500") {
            return Err(String::from_utf8_lossy(&answer).into_owned());
        }
        self.sent += 1;
        if self.sent.is_multiple_of(ASKED_EVERY) {
            let mut stream = self.connect()?;
            let asked =
                stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            asked.map_err(|error| error.to_string())?;
            let mut answer = String::new();
            stream
                .read_to_string(&mut answer)
                .map_err(|error| error.to_string())?;
            if !answer.starts_with("HTTP/1.1 200") {
                return Err(format!("the node is not well any more: {answer}"));
            }
        }
        Ok(())
    }
}
