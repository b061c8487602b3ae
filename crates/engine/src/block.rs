//! Our blocks: what the validators vote on, and its bytes.
//!
//! The bytes are ours, not the engine's: a header with the engine's context in front, then the
//! transactions as they were signed. Reading is strict, so a block has exactly one encoding, and
//! it is bounded before anything is allocated. A block's digest is that of its [`Header`], which
//! says only the digest of the transactions: who follows the committees needs no more. Nothing here
//! executes anything.

use commonware_codec::{
    Buf, Encode as _, EncodeSize, Error as CodecError, FixedSize, MaxEncodeSize, RangeCfg, Read,
    ReadExt as _, ReadRangeExt as _, Write,
};
use commonware_consensus::{
    Block as ConsensusBlock, BoundedBlock, CertifiableBlock, Heightable,
    simplex::types::Context as SimplexContext,
    types::{Epoch, Height, Round, View},
};
use commonware_cryptography::{
    Digest as _, Digestible, Hasher as _,
    blake3::{Blake3, Digest},
    ed25519::PublicKey,
};
use commonware_runtime::BufMut;
use commonware_storage::mmr::Location;
use commonware_utils::range::NonEmptyRange;
use soma_protocol::{Address, Hash, SignedTransaction};
use soma_store::database::StateCommitment;

/// The most bytes of transactions a block holds: 1 MiB.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;

/// The most transactions a block holds.
pub const BLOCK_TRANSACTIONS_MAX: usize = 5_000;

/// Where in the consensus a block was proposed, and by whom.
pub(crate) type Context = SimplexContext<Digest, PublicKey>;

/// One block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Round, leader and parent, as the validators agreed on them.
    pub(crate) context: Context,
    /// The digest of the block before it; the chain's identity for genesis.
    pub(crate) parent: Digest,
    /// Its height; genesis is 0.
    pub(crate) height: Height,
    /// Milliseconds since 1970, always later than the parent's.
    pub(crate) timestamp_ms: u64,
    /// The account of the validator that proposed it.
    pub(crate) proposer: Address,
    /// The root and the range of the state after it.
    pub(crate) state: StateCommitment,
    /// The digest of the seats that were decided last, this block's own decision included.
    pub(crate) seats: Digest,
    /// Its transactions, in order.
    pub(crate) transactions: Vec<SignedTransaction>,
}

/// A block without its transactions: what its digest is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Round, leader and parent.
    pub(crate) context: Context,
    /// The digest of the block before it.
    pub(crate) parent: Digest,
    /// Its height.
    pub(crate) height: Height,
    /// Milliseconds since 1970.
    pub(crate) timestamp_ms: u64,
    /// The account of the validator that proposed it.
    pub(crate) proposer: Address,
    /// The root and the range of the state after it.
    pub(crate) state: StateCommitment,
    /// The digest of the seats that were decided last.
    pub(crate) seats: Digest,
    /// The digest of its transactions.
    pub(crate) transactions: Digest,
}

impl Write for Header {
    fn write(&self, buf: &mut impl BufMut) {
        self.context.write(buf);
        self.parent.write(buf);
        self.height.write(buf);
        self.timestamp_ms.write(buf);
        self.proposer.0.write(buf);
        self.state.root.write(buf);
        self.state.range.write(buf);
        self.seats.write(buf);
        self.transactions.write(buf);
    }
}

impl EncodeSize for Header {
    fn encode_size(&self) -> usize {
        self.context.encode_size()
            + self.parent.encode_size()
            + self.height.encode_size()
            + self.timestamp_ms.encode_size()
            + self.proposer.0.encode_size()
            + self.state.root.encode_size()
            + self.state.range.encode_size()
            + self.seats.encode_size()
            + self.transactions.encode_size()
    }
}

impl Read for Header {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &Self::Cfg) -> Result<Self, CodecError> {
        let context = Context::read(buf)?;
        let parent = Digest::read(buf)?;
        let height = Height::read(buf)?;
        let timestamp_ms = u64::read(buf)?;
        let proposer = Address(<[u8; 32]>::read(buf)?);
        let root = Digest::read(buf)?;
        let range = NonEmptyRange::<Location>::read(buf)?;
        Ok(Self {
            context,
            parent,
            height,
            timestamp_ms,
            proposer,
            state: StateCommitment::new(root, range),
            seats: Digest::read(buf)?,
            transactions: Digest::read(buf)?,
        })
    }
}

impl Digestible for Header {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        Blake3::hash(&[&self.encode()])
    }
}

impl Block {
    /// The block without its transactions.
    pub(crate) fn header(&self) -> Header {
        let mut transactions = Vec::new();
        for transaction in &self.transactions {
            transaction.encode().write(&mut transactions);
        }
        Header {
            context: self.context.clone(),
            parent: self.parent,
            height: self.height,
            timestamp_ms: self.timestamp_ms,
            proposer: self.proposer,
            state: self.state.clone(),
            seats: self.seats,
            transactions: Blake3::hash(&[&transactions]),
        }
    }

    /// The block at height 0. It holds no state yet: its parent is the chain's identity, which
    /// commits to the genesis state, and block 1 writes that state.
    pub(crate) fn genesis(
        chain: Hash,
        leader: PublicKey,
        proposer: Address,
        timestamp_ms: u64,
        state: StateCommitment,
        seats: Digest,
    ) -> Self {
        let context = Context {
            round: Round::new(Epoch::zero(), View::zero()),
            leader,
            parent: (View::zero(), Digest::EMPTY),
        };
        let transactions = Vec::new();
        let parent = Digest(chain.0);
        Self {
            context,
            parent,
            height: Height::zero(),
            timestamp_ms,
            proposer,
            state,
            seats,
            transactions,
        }
    }
}

/// A digest in the protocol's words.
pub(crate) fn hash(digest: Digest) -> Hash {
    Hash(digest.0)
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        self.context.write(buf);
        self.parent.write(buf);
        self.height.write(buf);
        self.timestamp_ms.write(buf);
        self.proposer.0.write(buf);
        self.state.root.write(buf);
        self.state.range.write(buf);
        self.seats.write(buf);
        self.transactions.len().write(buf);
        for transaction in &self.transactions {
            transaction.encode().write(buf);
        }
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        let header = self.context.encode_size()
            + self.parent.encode_size()
            + self.height.encode_size()
            + self.timestamp_ms.encode_size()
            + self.proposer.0.encode_size()
            + self.state.root.encode_size()
            + self.state.range.encode_size()
            + self.seats.encode_size()
            + self.transactions.len().encode_size();
        self.transactions.iter().fold(header, |size, transaction| {
            let bytes = transaction.size_bytes();
            size + bytes.encode_size() + bytes
        })
    }
}

impl Read for Block {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &Self::Cfg) -> Result<Self, CodecError> {
        let context = Context::read(buf)?;
        let parent = Digest::read(buf)?;
        let height = Height::read(buf)?;
        let timestamp_ms = u64::read(buf)?;
        let proposer = Address(<[u8; 32]>::read(buf)?);
        let root = Digest::read(buf)?;
        let range = NonEmptyRange::<Location>::read(buf)?;
        let seats = Digest::read(buf)?;
        let count = usize::read_cfg(buf, &RangeCfg::from(0..=BLOCK_TRANSACTIONS_MAX))?;
        let mut transactions = Vec::with_capacity(count);
        let mut left = BLOCK_BYTES_MAX;
        for _ in 0..count {
            let bytes = Vec::<u8>::read_range(buf, 0..=left)?;
            left -= bytes.len();
            let transaction = SignedTransaction::decode(&bytes)
                .map_err(|_| CodecError::Invalid("block", "transaction does not decode"))?;
            transactions.push(transaction);
        }
        let state = StateCommitment::new(root, range);
        Ok(Self {
            context,
            parent,
            height,
            timestamp_ms,
            proposer,
            state,
            seats,
            transactions,
        })
    }
}

impl BoundedBlock for Block {
    fn max_encode_size((): &Self::Cfg) -> usize {
        const LENGTH_BYTES_MAX: usize = 10;
        Context::MAX_ENCODE_SIZE
            + 4 * Digest::SIZE
            + Height::MAX_ENCODE_SIZE
            + u64::SIZE
            + NonEmptyRange::<Location>::MAX_ENCODE_SIZE
            + LENGTH_BYTES_MAX * (1 + BLOCK_TRANSACTIONS_MAX)
            + BLOCK_BYTES_MAX
    }
}

impl Digestible for Block {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        self.header().digest()
    }
}

impl Heightable for Block {
    fn height(&self) -> Height {
        self.height
    }
}

impl ConsensusBlock for Block {
    fn parent(&self) -> Digest {
        self.parent
    }
}

impl CertifiableBlock for Block {
    type Context = Context;

    fn context(&self) -> Context {
        self.context.clone()
    }
}

#[cfg(test)]
mod tests {
    use commonware_codec::{Copying, Decode as _, DecodeExt as _, Encode as _, EncodeSize as _};
    use commonware_consensus::BoundedBlock as _;
    use commonware_cryptography::{Digestible as _, Signer as _, ed25519::PrivateKey};
    use commonware_utils::non_empty_range;
    use soma_protocol::{Action, Address, Amount, Hash, SecretKey, SignedTransaction, Transaction};
    use soma_store::database::StateCommitment;

    use super::{BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, Block, Digest, Location};

    fn transaction(nonce: u64) -> SignedTransaction {
        let key = SecretKey::from_bytes(&[5; 32]);
        let transaction = Transaction {
            chain: Hash([3; 32]),
            sender: key.address(),
            nonce,
            fee_limit: Amount(1),
            valid_until_ms: 9,
            action: Action::Transfer {
                to: Address([8; 32]),
                amount: Amount(2),
            },
        };
        transaction.sign(&key)
    }

    fn block(transactions: u64) -> Block {
        let state = StateCommitment::new(
            Digest([4; 32]),
            non_empty_range!(Location::new(3), Location::new(70)),
        );
        let leader = PrivateKey::from_seed(1).public_key();
        let mut block = Block::genesis(
            Hash([3; 32]),
            leader,
            Address([7; 32]),
            1_234,
            state,
            Digest([6; 32]),
        );
        block.transactions = (0..transactions).map(transaction).collect();
        block
    }

    #[test]
    fn a_block_has_one_spelling_and_no_other_bytes_are_read_as_it() {
        let block = block(3);
        let bytes = block.encode();
        assert_eq!(bytes.len(), block.encode_size());
        let read = Block::decode(Copying(&bytes)).unwrap();
        assert_eq!((read.digest(), read), (block.digest(), block.clone()));
        for at in 0..bytes.len() {
            assert!(Block::decode(Copying(&bytes[..at])).is_err(), "cut at {at}");
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x81;
            if let Ok(other) = Block::decode(Copying(&changed)) {
                assert_eq!(other.encode(), changed, "changed at {at}");
                assert_ne!(other.digest(), block.digest(), "changed at {at}");
            }
        }
    }

    #[test]
    fn a_block_with_too_many_transactions_or_too_many_bytes_is_not_read() {
        let most = u64::try_from(BLOCK_TRANSACTIONS_MAX).unwrap();
        let full = block(most);
        assert!(full.encode_size() <= Block::max_encode_size(&()));
        assert!(Block::decode(full.encode()).is_ok());
        assert!(Block::decode(block(most + 1).encode()).is_err());

        let mut heavy = block(0);
        let data = Action::PublishData {
            target: soma_protocol::TargetId(1),
            data: vec![0; 60_000],
            salt: [0; 32],
        };
        let mut one = transaction(0);
        one.transaction.action = data;
        let size = one.encode().len();
        heavy.transactions = vec![one; BLOCK_BYTES_MAX / size];
        assert!(Block::decode_cfg(heavy.encode(), &()).is_ok());
        assert!(heavy.encode_size() <= Block::max_encode_size(&()));
        let again = heavy.transactions[0].clone();
        heavy.transactions.push(again);
        assert!(Block::decode(heavy.encode()).is_err());
    }
}
