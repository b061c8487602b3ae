//! The messages about leases. Decoding bounds each; what they say is judged elsewhere.

use commonware_codec::{
    Buf, Copying, DecodeExt as _, Error as CodecError, RangeCfg, Read, ReadExt as _,
    ReadRangeExt as _, Write,
};
use soma_protocol::ConsensusKey;

use super::presence::Presence;
use crate::{ballots::SignedVote, limits::SEATS_MAX};

/// How many processes of one key are remembered, and told of.
pub(crate) const PROCESSES_MAX: usize = 3;
/// How many keys a node passes presences on of: the seats of two terms.
const KEYS_MAX: usize = 2 * SEATS_MAX;

/// A message about leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// The sender asks for a lease of its key.
    Claim(Claim),
    /// The answer to a claim.
    Answer(Answer),
    /// The newest presence of each key that the sender heard from the key itself, by key.
    Heard(Vec<Presence>),
}

/// Asks for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Counts the claims of a process.
    pub(crate) number: u64,
    pub(crate) presence: Presence,
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The process that asked, and its claim.
    pub(crate) process: u64,
    pub(crate) number: u64,
    pub(crate) is_granted: bool,
    /// The term that the granting node is in.
    pub(crate) term: u64,
    /// What other processes of the key said last.
    pub(crate) others: Vec<Presence>,
    /// The last vote of the key that the granting node received, if it is later than the claim's.
    pub(crate) vote: Option<SignedVote>,
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Claim(claim) => {
                0u8.write(&mut bytes);
                claim.number.write(&mut bytes);
                claim.presence.write(&mut bytes);
            }
            Self::Answer(answer) => {
                1u8.write(&mut bytes);
                answer.process.write(&mut bytes);
                answer.number.write(&mut bytes);
                answer.is_granted.write(&mut bytes);
                answer.term.write(&mut bytes);
                answer.others.write(&mut bytes);
                answer.vote.write(&mut bytes);
            }
            Self::Heard(presences) => {
                2u8.write(&mut bytes);
                presences.write(&mut bytes);
            }
        }
        bytes
    }

    /// The message in these bytes; `None` if no honest node sends them.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let message = Self::decode(Copying(bytes)).ok()?;
        let is_ordered = |keys: &[Presence]| keys.is_sorted_by(|a, b| key(a) < key(b));
        let is_valid = match &message {
            Self::Heard(presences) => is_ordered(presences),
            Self::Claim(_) | Self::Answer(_) => true,
        };
        is_valid.then_some(message)
    }
}

fn key(presence: &Presence) -> &ConsensusKey {
    &presence.key
}

impl Read for Message {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        match u8::read(buf)? {
            0 => Ok(Self::Claim(Claim { number: u64::read(buf)?, presence: Presence::read(buf)? })),
            1 => Ok(Self::Answer(Answer {
                process: u64::read(buf)?,
                number: u64::read(buf)?,
                is_granted: bool::read(buf)?,
                term: u64::read(buf)?,
                others: Vec::read_range(buf, RangeCfg::new(0..=PROCESSES_MAX))?,
                vote: Option::read(buf)?,
            })),
            2 => Ok(Self::Heard(Vec::read_range(buf, RangeCfg::new(0..=KEYS_MAX))?)),
            _ => Err(CodecError::Invalid("leases", "an unknown message")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Claim, Message, Presence, SignedVote};
    use crate::{
        ConsensusSecret, keys::private_key, leases::presence::Statement, votes::VotePlace,
    };

    const LAST: VotePlace = VotePlace { term: 3, view: 9 };
    const CHAIN: soma_protocol::Hash = soma_protocol::Hash([7; 32]);

    fn presence(key: u8) -> Presence {
        let statement = Statement { process: 1, started_ms: 2, now_ms: 3, last: LAST };
        Presence::sign(&private_key(&ConsensusSecret([key; 32])), &CHAIN, statement)
    }

    #[test]
    fn a_message_has_one_encoding_and_everything_else_is_refused() {
        let mut heard: Vec<_> = (1..5).map(presence).collect();
        heard.sort_by_key(|presence| presence.key);
        let answer = Answer {
            process: 4,
            number: 5,
            is_granted: true,
            term: 6,
            others: vec![presence(1), presence(1)],
            vote: None,
        };
        let vote = SignedVote::nullify(&ConsensusSecret([1; 32]), &CHAIN, LAST);
        let messages = [
            Message::Claim(Claim { number: 5, presence: presence(1) }),
            Message::Answer(Answer { vote: Some(vote), ..answer.clone() }),
            Message::Answer(answer),
            Message::Heard(heard.clone()),
        ];
        for message in messages {
            let bytes = message.encode();
            assert_eq!(Message::of_bytes(&bytes), Some(message));
            assert_eq!(Message::of_bytes(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(Message::of_bytes(&bytes[..bytes.len() - 1]), None);
        }
        heard.push(heard[0].clone());
        assert_eq!(Message::of_bytes(&Message::Heard(heard).encode()), None, "a key twice");
        assert_eq!(Message::of_bytes(&[3]), None);
    }
}
