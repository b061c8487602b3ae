//! Transactions: their bytes, hashes and signatures. Only a [`VerifiedTransaction`] reaches the
//! rules. The signature rule is ZIP 215, under which single and batch verification agree on every
//! input.

use std::convert::Infallible;
use std::sync::Arc;
use std::{fmt, io};

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_zebra::{Signature, VerificationKey, VerificationKeyBytes, batch};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::action::Action;
use crate::proof::SecretKey;
use crate::record::Params;
use crate::value::parts_hasher;
use crate::{Address, Amount, Error, Hash, decimal, hex};

/// Maximum length of an encoded transaction.
pub const TRANSACTION_BYTES_MAX: usize = 131_072;

const SIGNING_DOMAIN: &[u8] = b"soma transaction 2";

/// What a sender signs.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Transaction {
    /// Id of the chain it is for.
    pub chain: Hash,
    /// The account that signs and pays.
    pub sender: Address,
    /// The number of payments that the sender has made so far; 0 in a duty.
    #[serde(with = "decimal")]
    pub nonce: u64,
    /// What the sender adds to the fee to come earlier; 0 in a duty.
    pub tip: Amount,
    /// The highest fee that the sender accepts, tip included; 0 in a duty.
    pub fee_limit: Amount,
    /// Last block time at which it may be executed, ms since 1970.
    #[serde(with = "decimal")]
    pub valid_until_ms: u64,
    /// What it does.
    #[serde(flatten)]
    pub action: Action,
}

impl Transaction {
    /// Signs it. The signature is the sender's only if `key` is.
    #[must_use]
    pub fn sign(self, key: &SecretKey) -> SignedTransaction {
        let mut message = SIGNING_DOMAIN.to_vec();
        write_to(&self, &mut message);
        SignedTransaction::new(self, key.sign_bytes(&message))
    }
}

/// A transaction and its signature, not yet verified. It is encoded and hashed once, when it is
/// made or decoded; a clone shares everything.
#[derive(Clone)]
pub struct SignedTransaction(Arc<Encoded>);

struct Encoded {
    parts: Parts,
    bytes: Vec<u8>,
    hash: Hash,
}

#[derive(BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
struct Parts {
    #[serde(flatten)]
    transaction: Transaction,
    #[serde(with = "hex::array")]
    signature: [u8; 64],
}

impl SignedTransaction {
    /// A transaction with an ed25519 signature that may be wrong.
    pub fn new(transaction: Transaction, signature: [u8; 64]) -> Self {
        Self::from_parts(Parts { transaction, signature })
    }

    fn from_parts(parts: Parts) -> Self {
        let mut bytes = Vec::new();
        write_to(&parts, &mut bytes);
        Self::encoded(parts, bytes)
    }

    fn encoded(parts: Parts, bytes: Vec<u8>) -> Self {
        let hash = Hash::of_bytes(&bytes);
        Self(Arc::new(Encoded { parts, bytes, hash }))
    }

    /// Reads a transaction from its exact bytes.
    ///
    /// # Errors
    /// [`Error::TransactionTooLarge`], [`Error::TransactionBytes`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        check_length(bytes.len())?;
        let parts = Parts::try_from_slice(bytes).map_err(|_| Error::TransactionBytes)?;
        Ok(Self::encoded(parts, bytes.to_vec()))
    }

    /// What was signed.
    pub fn transaction(&self) -> &Transaction {
        &self.0.parts.transaction
    }

    /// The ed25519 signature.
    pub fn signature(&self) -> &[u8; 64] {
        &self.0.parts.signature
    }

    /// Its encoding.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Its id: BLAKE3 of its bytes, signature included.
    pub fn hash(&self) -> Hash {
        self.0.hash
    }

    /// What it takes of a block's room, in bytes: its length, and the work of its action in units
    /// that cost as much as a byte.
    pub fn weight(&self) -> u64 {
        let bytes = u64::try_from(self.bytes().len()).unwrap_or(u64::MAX);
        bytes.saturating_add(self.transaction().action.work())
    }

    /// What a payment is charged whatever becomes of its action: the base fee, the fee for its
    /// weight, and the tip. Records that the action writes cost extra. A duty is free.
    pub fn admission_fee(&self, params: &Params) -> Amount {
        let transaction = self.transaction();
        if transaction.action.is_duty() {
            return Amount::ZERO;
        }
        params.base_fee.plus(params.byte_fee.times(self.weight())).plus(transaction.tip)
    }

    /// The bytes that are signed: a domain, and the encoding without the signature.
    fn message(&self) -> Vec<u8> {
        let unsigned = self.0.bytes.len().saturating_sub(self.signature().len());
        let unsigned = self.0.bytes.get(..unsigned).unwrap_or_default();
        [SIGNING_DOMAIN, unsigned].concat()
    }

    /// Verifies chain, length and signature.
    ///
    /// # Errors
    /// [`Error::WrongChain`], [`Error::TransactionTooLarge`], [`Error::Signature`].
    pub fn verify(self, chain: &Hash) -> Result<VerifiedTransaction, Error> {
        self.check(chain)?;
        VerificationKey::try_from(self.transaction().sender.0)
            .and_then(|key| key.verify(&Signature::from(*self.signature()), &self.message()))
            .map_err(|_| Error::Signature)?;
        Ok(VerifiedTransaction(self))
    }

    /// Checks everything except the signature.
    fn check(&self, chain: &Hash) -> Result<(), Error> {
        let found = self.transaction().chain;
        if found != *chain {
            return Err(Error::WrongChain { expected: *chain, found });
        }
        check_length(self.bytes().len())
    }
}

impl PartialEq for SignedTransaction {
    fn eq(&self, other: &Self) -> bool {
        self.hash() == other.hash()
    }
}

impl Eq for SignedTransaction {}

impl fmt::Debug for SignedTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedTransaction")
            .field("hash", &self.hash())
            .field("transaction", self.transaction())
            .finish_non_exhaustive()
    }
}

impl Serialize for SignedTransaction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Serialize::serialize(&self.0.parts, serializer)
    }
}

impl<'de> Deserialize<'de> for SignedTransaction {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Parts as Deserialize>::deserialize(deserializer).map(Self::from_parts)
    }
}

impl BorshSerialize for SignedTransaction {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.bytes())
    }
}

impl BorshDeserialize for SignedTransaction {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        Parts::deserialize_reader(reader).map(Self::from_parts)
    }
}

/// Verifies many transactions at once, about twice as fast as one by one; every result is the same
/// as that of [`SignedTransaction::verify`].
pub fn verify_batch(
    transactions: Vec<SignedTransaction>,
    chain: &Hash,
) -> Vec<Result<VerifiedTransaction, Error>> {
    verify_batch_unless(transactions, chain, |_| false)
}

/// Like [`verify_batch`], but skips the signatures of transactions that `is_verified` reports as
/// already verified. A hash covers the signature, so the same hash has the same result.
pub fn verify_batch_unless(
    transactions: Vec<SignedTransaction>,
    chain: &Hash,
    is_verified: impl Fn(&Hash) -> bool,
) -> Vec<Result<VerifiedTransaction, Error>> {
    let mut verifier = batch::Verifier::new();
    let mut coefficients = parts_hasher("soma batch", &[]);
    let items: Vec<_> = transactions
        .into_iter()
        .map(|signed| {
            signed.check(chain)?;
            if is_verified(&signed.hash()) {
                return Ok((signed, None));
            }
            let key = VerificationKeyBytes::from(signed.transaction().sender.0);
            let signature = Signature::from(*signed.signature());
            let item = batch::Item::from((key, signature, &signed.message()[..]));
            coefficients.update(&signed.hash().0);
            verifier.queue(item.clone());
            Ok((signed, Some(item)))
        })
        .collect();
    let all_valid = verifier.verify(Coefficients(coefficients.finalize_xof())).is_ok();
    items
        .into_iter()
        .map(|checked| {
            let (signed, item) = checked?;
            let item = item.filter(|_| !all_valid);
            match item.map(batch::Item::verify_single) {
                Some(Err(_)) => Err(Error::Signature),
                _ => Ok(VerifiedTransaction(signed)),
            }
        })
        .collect()
}

/// The coefficients of a batch: the output of a hash over all its transactions, so nobody can
/// choose signatures to suit them, and no source of randomness is needed.
struct Coefficients(blake3::OutputReader);

impl rand_core::TryRng for Coefficients {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Coefficients {}

/// A transaction whose signature, chain and length have been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedTransaction(SignedTransaction);

impl VerifiedTransaction {
    /// What was signed.
    pub fn transaction(&self) -> &Transaction {
        self.0.transaction()
    }

    /// With its signature.
    pub const fn signed(&self) -> &SignedTransaction {
        &self.0
    }

    /// With its signature.
    pub fn into_signed(self) -> SignedTransaction {
        self.0
    }

    /// Its id.
    pub fn hash(&self) -> Hash {
        self.0.hash()
    }

    /// Length of its encoding.
    pub fn size_bytes(&self) -> usize {
        self.0.bytes().len()
    }

    /// See [`SignedTransaction::weight`].
    pub fn weight(&self) -> u64 {
        self.0.weight()
    }
}

fn check_length(found: usize) -> Result<(), Error> {
    if found > TRANSACTION_BYTES_MAX {
        return Err(Error::TransactionTooLarge { found, limit: TRANSACTION_BYTES_MAX });
    }
    Ok(())
}

#[expect(clippy::expect_used, reason = "writing to a vector cannot fail")]
fn write_to<T: BorshSerialize>(value: &T, bytes: &mut Vec<u8>) {
    value.serialize(bytes).expect("writing to a vector cannot fail");
}
