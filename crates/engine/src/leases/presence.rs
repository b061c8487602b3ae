//! What a running process says about itself, signed by its key. It stays true: the key was there at
//! that time, and had voted that far. Whoever repeats it later harms nobody.

use commonware_codec::{
    Buf, Copying, DecodeExt as _, Error as CodecError, FixedSize, Read, ReadExt as _, Write,
};
use commonware_cryptography::{
    Signer as _, Verifier as _,
    ed25519::{PrivateKey, Signature},
};
use commonware_runtime::BufMut;
use soma_protocol::{ConsensusKey, Hash};

use crate::{
    keys::{consensus_key, public_key},
    votes::VotePlace,
};

const NAMESPACE: &[u8] = b"soma presence";
const SIGNATURE_BYTES: usize = 64;

/// What a process says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    /// A random number, drawn when the process starts.
    pub(crate) process: u64,
    /// When it started, by its clock.
    pub(crate) started_ms: u64,
    /// When it says this, by its clock.
    pub(crate) now_ms: u64,
    /// The last vote of its key that it knows.
    pub(crate) last: VotePlace,
}

impl Statement {
    /// Whether this says nothing that `known` does not, which the same process said.
    pub(crate) fn is_covered_by(&self, known: &Self) -> bool {
        // A clock that was set back does not make an earlier vote news.
        let (of_known, of_this) = ((known.last, known.now_ms), (self.last, self.now_ms));
        known.process == self.process && of_known >= of_this
    }

    fn signed_bytes(&self, chain: &Hash) -> Vec<u8> {
        let mut bytes = chain.0.to_vec();
        self.write(&mut bytes);
        bytes
    }
}

impl Write for Statement {
    fn write(&self, buf: &mut impl BufMut) {
        self.process.write(buf);
        self.started_ms.write(buf);
        self.now_ms.write(buf);
        self.last.term.write(buf);
        self.last.view.write(buf);
    }
}

impl Read for Statement {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        Ok(Self {
            process: u64::read(buf)?,
            started_ms: u64::read(buf)?,
            now_ms: u64::read(buf)?,
            last: VotePlace { term: u64::read(buf)?, view: u64::read(buf)? },
        })
    }
}

impl FixedSize for Statement {
    const SIZE: usize = 5 * u64::SIZE;
}

/// A signed [`Statement`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presence {
    pub(crate) key: ConsensusKey,
    pub(crate) statement: Statement,
    signature: [u8; SIGNATURE_BYTES],
}

impl Presence {
    pub(crate) fn sign(key: &PrivateKey, chain: &Hash, statement: Statement) -> Self {
        let mut signature = [0; SIGNATURE_BYTES];
        let signed = key.sign(NAMESPACE, &statement.signed_bytes(chain));
        signature.copy_from_slice(signed.as_ref());
        Self { key: consensus_key(&key.public_key()), statement, signature }
    }

    /// Whether its key signed it, for this chain.
    pub(crate) fn is_signed(&self, chain: &Hash) -> bool {
        let signature = Signature::decode(Copying(&self.signature[..]));
        let (Ok(signature), Some(key)) = (signature, public_key(&self.key)) else {
            return false;
        };
        key.verify(NAMESPACE, &self.statement.signed_bytes(chain), &signature)
    }
}

impl Write for Presence {
    fn write(&self, buf: &mut impl BufMut) {
        self.key.0.write(buf);
        self.statement.write(buf);
        self.signature.write(buf);
    }
}

impl Read for Presence {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        Ok(Self {
            key: ConsensusKey(<[u8; 32]>::read(buf)?),
            statement: Statement::read(buf)?,
            signature: <[u8; SIGNATURE_BYTES]>::read(buf)?,
        })
    }
}

impl FixedSize for Presence {
    const SIZE: usize = 32 + Statement::SIZE + SIGNATURE_BYTES;
}

#[cfg(test)]
mod tests {
    use super::{Hash, Presence, Statement, VotePlace};
    use crate::{ConsensusSecret, keys::private_key};

    #[test]
    fn nobody_can_say_for_a_key_what_it_did_not() {
        let (key, chain) = (private_key(&ConsensusSecret([5; 32])), Hash([7; 32]));
        let last = VotePlace { term: 3, view: 9 };
        let statement = Statement { process: 1, started_ms: 2, now_ms: 3, last };
        let presence = Presence::sign(&key, &chain, statement);
        assert!(presence.is_signed(&chain));
        assert!(!presence.is_signed(&Hash([8; 32])), "another chain");
        let changes: [fn(&mut Presence); 6] = [
            |it| it.statement.process += 1,
            |it| it.statement.started_ms += 1,
            |it| it.statement.now_ms += 1,
            |it| it.statement.last.term += 1,
            |it| it.statement.last.view += 1,
            |it| it.signature[3] ^= 1,
        ];
        for change in changes {
            let mut changed = presence.clone();
            change(&mut changed);
            assert!(!changed.is_signed(&chain), "{changed:?}");
        }
    }
}
