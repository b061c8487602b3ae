//! Blocks, which validators vote on, and their encoding.
//!
//! A block is a [`Header`] and transactions. The encoding is strict, so each block has exactly one,
//! and sizes are checked before anything is allocated. The digest of a block is that of its header,
//! which holds only the digest of the transactions: verifying committees requires nothing else.
//! Nothing here executes anything.

use commonware_codec::{
    Buf, Copying, DecodeExt as _, Encode as _, EncodeSize, Error as CodecError, FixedSize,
    MaxEncodeSize, RangeCfg, Read, ReadExt as _, ReadRangeExt as _, Write,
};
use commonware_consensus::{
    Block as ConsensusBlock, BoundedBlock, CertifiableBlock, Heightable,
    simplex::types::{Context as SimplexContext, Finalization},
    types::{Epoch, Height, Round, View},
};
use commonware_cryptography::{
    Digest as _, Digestible, Hasher as _,
    blake3::{Blake3, Digest},
    ed25519::PublicKey,
};
use commonware_runtime::BufMut;
use commonware_storage::mmr::Location;
use commonware_utils::{non_empty_range, range::NonEmptyRange};
use soma_protocol::{Address, ConsensusKey, Hash, SecretKey, SignedTransaction};
use soma_store::database::LogCommitment;

use crate::{
    keys::public_key,
    limits::{BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX},
    scheme::Scheme,
};

/// The round in which a block was proposed, its proposer's key, and its parent.
pub(crate) type Context = SimplexContext<Digest, PublicKey>;

/// Signatures of more than two thirds of a committee, which finalize a block.
pub(crate) type Certificate = Finalization<Scheme, Digest>;

/// A digest as the protocol's hash type.
pub(crate) fn hash(digest: Digest) -> Hash {
    Hash(digest.0)
}

/// What a header says about the state after its block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateCommitment {
    /// The root of the tree over its records.
    pub(crate) root: Digest,
    /// The log that holds it, and the root of the log.
    pub(crate) log: LogCommitment,
}

/// A block without its transactions: what its digest covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Round, leader and parent, as the validators agreed on them.
    pub(crate) context: Context,
    /// The digest of the block before it; the chain id for genesis.
    pub(crate) parent: Digest,
    /// Its height; genesis is 0.
    pub(crate) height: Height,
    /// Milliseconds since 1970, always later than the parent's.
    pub(crate) timestamp_ms: u64,
    /// The account of the validator that proposed it.
    pub(crate) proposer: Address,
    /// The root of the state after it, and the log that holds that state.
    pub(crate) state: StateCommitment,
    /// The digest of the most recently decided seats, decided by this block or an earlier one.
    pub(crate) seats: Digest,
    /// The version of the rules that the block after it follows.
    pub(crate) rules: u16,
    /// The digest of its transactions.
    pub(crate) transactions: Digest,
}

impl Header {
    /// Writes all fields except the digest of the transactions; a block's encoding begins with
    /// them.
    fn write_start(&self, buf: &mut impl BufMut) {
        self.context.write(buf);
        self.parent.write(buf);
        self.height.write(buf);
        self.timestamp_ms.write(buf);
        self.proposer.0.write(buf);
        self.state.root.write(buf);
        self.state.log.root.write(buf);
        self.state.log.range.write(buf);
        self.seats.write(buf);
        self.rules.write(buf);
    }

    /// Reads what [`Header::write_start`] wrote, leaving the digest of the transactions empty.
    fn read_start(buf: &mut impl Buf) -> Result<Self, CodecError> {
        Ok(Self {
            context: Context::read(buf)?,
            parent: Digest::read(buf)?,
            height: Height::read(buf)?,
            timestamp_ms: u64::read(buf)?,
            proposer: Address(<[u8; 32]>::read(buf)?),
            state: StateCommitment {
                root: Digest::read(buf)?,
                log: LogCommitment::new(Digest::read(buf)?, NonEmptyRange::<Location>::read(buf)?),
            },
            seats: Digest::read(buf)?,
            rules: u16::read(buf)?,
            transactions: Digest::EMPTY,
        })
    }
}

impl Write for Header {
    fn write(&self, buf: &mut impl BufMut) {
        self.write_start(buf);
        self.transactions.write(buf);
    }
}

impl EncodeSize for Header {
    fn encode_size(&self) -> usize {
        self.context.encode_size()
            + self.height.encode_size()
            + self.state.log.range.encode_size()
            + u64::SIZE
            + u16::SIZE
            + <[u8; 32]>::SIZE
            + 5 * Digest::SIZE
    }
}

impl Read for Header {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &Self::Cfg) -> Result<Self, CodecError> {
        let mut header = Self::read_start(buf)?;
        header.transactions = Digest::read(buf)?;
        Ok(header)
    }
}

impl Digestible for Header {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        Blake3::hash(&[&self.encode()])
    }
}

/// One block. Its header always holds the digest of its transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    header: Header,
    transactions: Vec<SignedTransaction>,
}

impl Block {
    /// A block of this header and these transactions, whose digest replaces the one in the header.
    pub(crate) fn new(mut header: Header, transactions: Vec<SignedTransaction>) -> Self {
        let mut bytes = Vec::new();
        for transaction in &transactions {
            transaction.bytes().write(&mut bytes);
        }
        header.transactions = Blake3::hash(&[&bytes]);
        Self { header, transactions }
    }

    /// The block at height 0. It holds no state: its parent is the chain id, which commits to the
    /// genesis state, and block 1 writes that state.
    pub(crate) fn genesis(
        chain: Hash,
        leader: PublicKey,
        proposer: Address,
        timestamp_ms: u64,
        state: StateCommitment,
        seats: Digest,
        rules: u16,
    ) -> Self {
        let context = Context {
            round: Round::new(Epoch::zero(), View::zero()),
            leader,
            parent: (View::zero(), Digest::EMPTY),
        };
        let header = Header {
            context,
            parent: Digest(chain.0),
            height: Height::zero(),
            timestamp_ms,
            proposer,
            state,
            seats,
            rules,
            transactions: Digest::EMPTY,
        };
        Self::new(header, Vec::new())
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Its transactions, in order.
    pub(crate) fn transactions(&self) -> &[SignedTransaction] {
        &self.transactions
    }
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write_start(buf);
        self.transactions.len().write(buf);
        for transaction in &self.transactions {
            transaction.bytes().write(buf);
        }
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        let start =
            self.header.encode_size() - Digest::SIZE + self.transactions.len().encode_size();
        self.transactions.iter().fold(start, |size, transaction| {
            let bytes = transaction.bytes().len();
            size + bytes.encode_size() + bytes
        })
    }
}

impl Read for Block {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &Self::Cfg) -> Result<Self, CodecError> {
        let header = Header::read_start(buf)?;
        let count = usize::read_cfg(buf, &RangeCfg::from(0..=BLOCK_TRANSACTIONS_MAX))?;
        let mut transactions = Vec::with_capacity(count);
        let mut room = BLOCK_BYTES_MAX;
        for _ in 0..count {
            let bytes = Vec::<u8>::read_range(buf, 0..=room)?;
            room -= bytes.len();
            let transaction = SignedTransaction::decode(&bytes)
                .map_err(|_| CodecError::Invalid("block", "transaction does not decode"))?;
            transactions.push(transaction);
        }
        Ok(Self::new(header, transactions))
    }
}

impl BoundedBlock for Block {
    fn max_encode_size((): &Self::Cfg) -> usize {
        const LENGTH_BYTES_MAX: usize = 10;
        Context::MAX_ENCODE_SIZE
            + 5 * Digest::SIZE
            + Height::MAX_ENCODE_SIZE
            + u64::SIZE
            + u16::SIZE
            + NonEmptyRange::<Location>::MAX_ENCODE_SIZE
            + LENGTH_BYTES_MAX * (1 + BLOCK_TRANSACTIONS_MAX)
            + BLOCK_BYTES_MAX
    }
}

impl Digestible for Block {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        self.header.digest()
    }
}

impl Heightable for Block {
    fn height(&self) -> Height {
        self.header.height
    }
}

impl ConsensusBlock for Block {
    fn parent(&self) -> Digest {
        self.header.parent
    }
}

impl CertifiableBlock for Block {
    type Context = Context;

    fn context(&self) -> Context {
        self.header.context.clone()
    }
}

/// Decodes a block and encodes it again; `None` if the bytes are not a block. For fuzzing the
/// decoder: a block has exactly one encoding.
pub fn recode_block(bytes: &[u8]) -> Option<Vec<u8>> {
    let block = Block::decode(Copying(bytes)).ok()?;
    Some(block.encode().to_vec())
}

/// The encoding of a block with these transactions and a header that means nothing. For fuzzing the
/// decoder from what it accepts.
///
/// # Panics
/// Never: the leader's key is valid.
#[expect(clippy::expect_used, reason = "a secret key has a valid public one")]
pub fn sample_block(transactions: Vec<SignedTransaction>) -> Vec<u8> {
    let key = ConsensusKey(SecretKey::from_bytes(&[1; 32]).address().0);
    let leader = public_key(&key).expect("a public key of a secret one is valid");
    let range = non_empty_range!(Location::new(3), Location::new(70));
    let log = LogCommitment::new(Digest([8; 32]), range);
    let state = StateCommitment { root: Digest([4; 32]), log };
    let (chain, proposer, seats) = (Hash([3; 32]), Address([7; 32]), Digest([6; 32]));
    let block = Block::genesis(chain, leader, proposer, 1_234, state, seats, 1);
    Block::new(block.header, transactions).encode().to_vec()
}

#[cfg(test)]
mod tests {
    use commonware_codec::{Copying, DecodeExt as _, Encode as _, EncodeSize as _};
    use commonware_consensus::BoundedBlock as _;
    use commonware_cryptography::{Digestible as _, Signer as _, ed25519::PrivateKey};
    use commonware_utils::non_empty_range;
    use soma_protocol::{
        Action, Address, Amount, Hash, SecretKey, SignedTransaction, Transaction, action,
    };
    use soma_store::database::LogCommitment;

    use super::{
        BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, Block, Digest, Location, StateCommitment, hash,
    };

    fn transaction(nonce: u64) -> SignedTransaction {
        let key = SecretKey::from_bytes(&[5; 32]);
        let transaction = Transaction {
            chain: Hash([3; 32]),
            sender: key.address(),
            nonce,
            tip: Amount::ZERO,
            fee_limit: Amount(1),
            valid_until_ms: 9,
            action: Action::Transfer(action::Transfer { to: Address([8; 32]), amount: Amount(2) }),
        };
        transaction.sign(&key)
    }

    fn block(transactions: u64) -> Block {
        let range = non_empty_range!(Location::new(3), Location::new(70));
        let log = LogCommitment::new(Digest([8; 32]), range);
        let state = StateCommitment { root: Digest([4; 32]), log };
        let leader = PrivateKey::from_seed(1).public_key();
        let (chain, proposer, seats) = (Hash([3; 32]), Address([7; 32]), Digest([6; 32]));
        let block = Block::genesis(chain, leader, proposer, 1_234, state, seats, 1);
        Block::new(block.header, (0..transactions).map(transaction).collect())
    }

    #[test]
    fn a_block_has_exactly_one_encoding() {
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
    fn a_block_has_the_recorded_digest_and_encoding() {
        let block = block(3);
        assert_eq!(
            hash(block.digest()).to_string(),
            "d20e11a658dce15e86607a74b9c772873775b20fa45173aa193d19c0ef122ac5"
        );
        let encoding = Hash::of_bytes(&block.encode());
        assert_eq!(
            encoding.to_string(),
            "a3551e6ad095192a2320ff5f8fcaaf6153a6dbfda54ed84f9b51ee7997c75d75"
        );
    }

    #[test]
    fn a_block_with_too_many_transactions_or_bytes_is_rejected() {
        let most = u64::try_from(BLOCK_TRANSACTIONS_MAX).unwrap();
        let full = block(most);
        assert!(full.encode_size() <= Block::max_encode_size(&()));
        assert!(Block::decode(full.encode()).is_ok());
        assert!(Block::decode(block(most + 1).encode()).is_err());

        let data = Action::PublishData(action::PublishData {
            target: soma_protocol::TargetId(1),
            data: vec![0; 60_000],
            ..action::PublishData::default()
        });
        let signed = transaction(0);
        let mut large = signed.transaction().clone();
        large.action = data;
        let large = SignedTransaction::new(large, *signed.signature());
        let size = large.bytes().len();
        let heavy = |count| Block::new(block(0).header, vec![large.clone(); count]);
        let full = heavy(BLOCK_BYTES_MAX / size);
        assert!(Block::decode(full.encode()).is_ok());
        assert!(full.encode_size() <= Block::max_encode_size(&()));
        assert!(Block::decode(heavy(BLOCK_BYTES_MAX / size + 1).encode()).is_err());
    }
}
