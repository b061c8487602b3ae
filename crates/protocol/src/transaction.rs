//! Transactions: their bytes, hashes and signatures. Only a [`VerifiedTransaction`] reaches the
//! rules. The signature rule is ZIP 215, under which one by one and in a batch agree on every input.

use std::convert::Infallible;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_zebra::{Signature, VerificationKey, VerificationKeyBytes, batch};
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::proof::SecretKey;
use crate::value::parts_hasher;
use crate::{Address, Amount, Error, Hash, decimal, hex};

/// Greatest length of an encoded transaction.
pub const TRANSACTION_BYTES_MAX: usize = 131_072;

const SIGNING_DOMAIN: &[u8] = b"soma transaction 1";

/// What a sender signs.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Transaction {
    /// Id of the chain it is for.
    pub chain: Hash,
    /// Who signs and pays.
    pub sender: Address,
    /// The sender's count of transactions so far.
    #[serde(with = "decimal")]
    pub nonce: u64,
    /// The most that the fee may be.
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
        let signature = key.sign_bytes(&self.signing_bytes());
        SignedTransaction {
            transaction: self,
            signature,
        }
    }

    fn signing_bytes(&self) -> Vec<u8> {
        let mut bytes = SIGNING_DOMAIN.to_vec();
        write_to(self, &mut bytes);
        bytes
    }
}

/// A transaction and its signature, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SignedTransaction {
    /// What was signed.
    #[serde(flatten)]
    pub transaction: Transaction,
    /// The ed25519 signature.
    #[serde(with = "hex::array")]
    pub signature: [u8; 64],
}

impl SignedTransaction {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_to(self, &mut bytes);
        bytes
    }

    /// Reads a transaction from exactly its bytes.
    ///
    /// # Errors
    /// [`Error::TransactionTooLarge`], [`Error::TransactionBytes`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        check_length(bytes.len())?;
        Self::try_from_slice(bytes).map_err(|_| Error::TransactionBytes)
    }

    /// Length of its encoding.
    #[expect(clippy::expect_used, reason = "counting bytes cannot fail")]
    pub fn size_bytes(&self) -> usize {
        borsh::object_length(self).expect("counting bytes cannot fail")
    }

    /// Its name: BLAKE3 of its bytes, signature included.
    pub fn hash(&self) -> Hash {
        Hash::of_bytes(&self.encode())
    }

    /// Verifies chain, length and signature.
    ///
    /// # Errors
    /// [`Error::WrongChain`], [`Error::TransactionTooLarge`], [`Error::Signature`].
    pub fn verify(self, chain: &Hash) -> Result<VerifiedTransaction, Error> {
        let verified = VerifiedTransaction::unchecked(self, chain)?;
        let transaction = verified.transaction();
        VerificationKey::try_from(transaction.sender.0)
            .and_then(|key| {
                key.verify(
                    &Signature::from(verified.signed.signature),
                    &transaction.signing_bytes(),
                )
            })
            .map_err(|_| Error::Signature)?;
        Ok(verified)
    }
}

/// Verifies many transactions at once, about twice as fast as one by one; every answer is the one
/// that [`SignedTransaction::verify`] gives.
pub fn verify_batch(
    transactions: Vec<SignedTransaction>,
    chain: &Hash,
) -> Vec<Result<VerifiedTransaction, Error>> {
    verify_batch_unless(transactions, chain, |_| false)
}

/// As [`verify_batch`], without a look at the signatures of transactions that `known` says were
/// verified before. A hash covers the signature, so the same hash is the same verdict.
pub fn verify_batch_unless(
    transactions: Vec<SignedTransaction>,
    chain: &Hash,
    known: impl Fn(&Hash) -> bool,
) -> Vec<Result<VerifiedTransaction, Error>> {
    let mut verifier = batch::Verifier::new();
    let mut coefficients = parts_hasher("soma batch", &[]);
    let unverified: Vec<_> = transactions
        .into_iter()
        .map(|signed| {
            let unverified = VerifiedTransaction::unchecked(signed, chain)?;
            if known(&unverified.hash) {
                return Ok((unverified, None));
            }
            let SignedTransaction {
                transaction,
                signature,
            } = &unverified.signed;
            let key = VerificationKeyBytes::from(transaction.sender.0);
            let item = batch::Item::from((
                key,
                Signature::from(*signature),
                &transaction.signing_bytes()[..],
            ));
            coefficients.update(&unverified.hash.0);
            verifier.queue(item.clone());
            Ok((unverified, Some(item)))
        })
        .collect();
    let all_valid = verifier
        .verify(Coefficients(coefficients.finalize_xof()))
        .is_ok();
    unverified
        .into_iter()
        .map(|one| {
            let (unverified, item) = one?;
            let item = item.filter(|_| !all_valid);
            match item.map(batch::Item::verify_single) {
                Some(Err(_)) => Err(Error::Signature),
                _ => Ok(unverified),
            }
        })
        .collect()
}

/// The coefficients of a batch: output of a hash over all its transactions, so nobody can choose
/// signatures for them, and no source of randomness is needed.
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
pub struct VerifiedTransaction {
    signed: SignedTransaction,
    hash: Hash,
    size_bytes: usize,
}

impl VerifiedTransaction {
    fn unchecked(signed: SignedTransaction, chain: &Hash) -> Result<Self, Error> {
        let found = signed.transaction.chain;
        if found != *chain {
            return Err(Error::WrongChain {
                expected: *chain,
                found,
            });
        }
        let bytes = signed.encode();
        check_length(bytes.len())?;
        Ok(Self {
            hash: Hash::of_bytes(&bytes),
            size_bytes: bytes.len(),
            signed,
        })
    }

    /// What was signed.
    pub const fn transaction(&self) -> &Transaction {
        &self.signed.transaction
    }

    /// With its signature.
    pub const fn signed(&self) -> &SignedTransaction {
        &self.signed
    }

    /// With its signature.
    pub fn into_signed(self) -> SignedTransaction {
        self.signed
    }

    /// Its name.
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// Length of its encoding.
    pub const fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

fn check_length(found: usize) -> Result<(), Error> {
    if found > TRANSACTION_BYTES_MAX {
        return Err(Error::TransactionTooLarge {
            found,
            limit: TRANSACTION_BYTES_MAX,
        });
    }
    Ok(())
}

#[expect(clippy::expect_used, reason = "writing to a vector cannot fail")]
fn write_to<T: BorshSerialize>(value: &T, bytes: &mut Vec<u8>) {
    value
        .serialize(bytes)
        .expect("writing to a vector cannot fail");
}
