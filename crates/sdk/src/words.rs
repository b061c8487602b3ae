//! A key as 24 words that a person can write down, by standards that other wallets know: BIP-39
//! (English, no passphrase) gives a seed, and SLIP-0010 for ed25519 the key at [`PATH`].
//!
//! The words stand for 32 random bytes, which key files keep in place of the key. Nothing here
//! prints or formats a secret.

use std::fmt;

use bip0039::{English, Mnemonic};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha512;
use soma_protocol::SecretKey;
use zeroize::Zeroizing;

use crate::error::SdkError;
use crate::secret::Secret;

/// Where the key is below the seed: purpose, coin (the letters SOMA, in ASCII) and account, all
/// hardened, as SLIP-0010 demands for ed25519. As text: `m/44'/1397706049'/0'`.
pub const PATH: [u32; 3] = [44, u32::from_be_bytes(*b"SOMA"), 0];

/// Marks the hardened children of a key.
const HARDENED: u32 = 1 << 31;
/// How many words there are.
const WORDS: usize = 24;

/// 24 words, and the key that follows from them.
#[derive(Clone)]
pub struct Words(Mnemonic<English>);

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(24 secret words)")
    }
}

impl Words {
    /// Random words.
    ///
    /// # Errors
    /// [`SdkError::Randomness`].
    pub fn generate() -> Result<Self, SdkError> {
        Ok(Self::of(&Secret::generate()?))
    }

    /// The words for 32 bytes.
    #[expect(clippy::expect_used, reason = "32 bytes are a length that BIP-39 knows")]
    pub fn of(entropy: &Secret) -> Self {
        let words = Mnemonic::from_entropy(entropy.bytes().to_vec());
        Self(words.expect("32 bytes are a length that BIP-39 knows"))
    }

    /// Reads words, however they are spaced and whatever their case.
    ///
    /// # Errors
    /// [`SdkError::Words`], which does not say what was given.
    pub fn parse(text: &str) -> Result<Self, SdkError> {
        let mut phrase = Zeroizing::new(String::with_capacity(text.len()));
        let mut count = 0;
        for word in text.split_whitespace() {
            if count > 0 {
                phrase.push(' ');
            }
            phrase.extend(word.chars().map(|c| c.to_ascii_lowercase()));
            count += 1;
        }
        if count != WORDS {
            return Err(SdkError::Words { reason: format!("there are {count}") });
        }
        // The library's own message quotes a word.
        let words = Mnemonic::from_normalized_phrase(phrase.as_str());
        let bad = || SdkError::Words {
            reason: "one is not in the list, or another one was meant".to_owned(),
        };
        words.map(Self).map_err(|_| bad())
    }

    /// The words, separated by spaces.
    pub fn phrase(&self) -> &str {
        self.0.phrase()
    }

    /// The 32 bytes that they stand for.
    pub(crate) fn entropy(&self) -> Secret {
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(self.0.entropy());
        Secret::from_bytes(*bytes)
    }

    /// The key at [`PATH`].
    pub fn key(&self) -> SecretKey {
        let seed = Zeroizing::new(self.0.to_seed(""));
        SecretKey::from_bytes(&child(seed.as_slice(), &PATH))
    }
}

/// SLIP-0010 for ed25519: the secret at the end of a path of hardened children.
fn child(seed: &[u8], path: &[u32]) -> Zeroizing<[u8; 32]> {
    let mut node = mac(b"ed25519 seed", &[seed]);
    for index in path {
        let (key, chain_code) = node.split_at(32);
        node = mac(chain_code, &[&[0], key, &(HARDENED | index).to_be_bytes()]);
    }
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(&node[..32]);
    secret
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn mac(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 64]> {
    let mut mac = Hmac::<Sha512>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use soma_protocol::hex;

    use super::{Words, child};
    use crate::Secret;

    /// Vectors of SLIP-0010 for ed25519.
    #[test]
    fn keys_are_derived_as_the_standard_says() {
        let first = hex::decode("000102030405060708090a0b0c0d0e0f").unwrap();
        let second = hex::decode(
            "fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a29f9c999693908d8a87848\
             17e7b7875726f6c696663605d5a5754514e4b484542",
        )
        .unwrap();
        for (seed, path, expected) in [
            (&first, &[][..], "2b4be7f19ee27bbf30c667b642d5f4aa69fd169872f8fc3059c08ebae2eb19e7"),
            (&first, &[0], "68e0fe46dfb67e368c75379acec591dad19df3cde26e63b93a8e704f1dade7a3"),
            (
                &first,
                &[0, 1, 2, 2, 1_000_000_000],
                "8f94d394a8e8fd6b1bc2f3f49f5c47e385281d5c17e65324b0f62483e37e8793",
            ),
            (&second, &[], "171cb88b1b3c1db25add599712e36245d75bc65a1a5c9e18d76f9f2b1eab4012"),
            (
                &second,
                &[0, 2_147_483_647, 1, 2_147_483_646, 2],
                "551d333177df541ad876a60ea71f00447931c0a9da16f227c11ea080d7391b8d",
            ),
        ] {
            assert_eq!(hex::encode(child(seed, path).as_slice()), expected);
        }
    }

    /// The vector of BIP-39 with 32 zero bytes.
    #[test]
    fn words_are_those_of_the_standard_and_give_the_same_key_however_they_are_typed() {
        let words = Words::of(&Secret::from_bytes([0; 32]));
        let phrase = format!("{}art", "abandon ".repeat(23));
        assert_eq!(words.phrase(), phrase);
        let typed = phrase.to_uppercase().replace(' ', " \n\t ");
        let read = Words::parse(&typed).unwrap();
        assert_eq!(read.entropy().bytes(), &[0; 32]);
        assert_eq!(read.key().address(), words.key().address());
        let other = Words::of(&Secret::from_bytes([1; 32]));
        assert_ne!(other.key().address(), words.key().address());
    }

    #[test]
    fn words_with_a_mistake_are_refused_and_not_shown() {
        let good = format!("{}art", "abandon ".repeat(23));
        for bad in [
            String::new(),
            "abandon ".repeat(24),
            good.replacen("abandon", "abandom", 1),
            good.replacen("abandon ", "", 1),
            format!("{good} abandon"),
            format!("{}about", "abandon ".repeat(11)),
        ] {
            let error = Words::parse(&bad).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("abando"), "{shown}");
        }
        assert!(!format!("{:?}", Words::parse(&good).unwrap()).contains("abandon"));
    }
}
