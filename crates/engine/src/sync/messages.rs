//! The messages of state sync: requests, and the responses from a peer.
//!
//! Decoding bounds every response. Nothing that arrives is trusted: the node that sent the request
//! verifies the response.

use std::{num::NonZeroU64, sync::Arc};

use commonware_codec::{
    Buf, Copying, Decode as _, Error as CodecError, RangeCfg, Read, ReadExt as _, Write,
};
use commonware_cryptography::blake3::Digest;
use commonware_runtime::BufMut;
use commonware_storage::{
    mmr,
    qmdb::sync::{Request as OperationsRequest, Response as OperationsResponse},
};
use commonware_utils::NZU64;
use soma_store::database::{Operation, VALUE_BYTES_MAX};

use super::handover::Handover;
use crate::block::Block;

/// The most operations of the state in one response.
pub(crate) const OPERATIONS_MAX: NonZeroU64 = NZU64!(256);

/// The first byte of a message.
const REQUEST: u8 = 0;
const RESPONSE: u8 = 1;

/// Asks for operations of the state.
pub(crate) type StateRequest = OperationsRequest<mmr::Family>;
/// Operations of the state with their proof.
pub(crate) type StatePart = OperationsResponse<mmr::Family, Operation, Digest>;

/// What a node asks a peer for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// The range of blocks that it has.
    Offer,
    /// The first handover after this term; the last one is the snapshot.
    Handover(Option<u64>),
    /// Operations of the state.
    State(StateRequest),
    /// The block at this height.
    Block(u64),
    /// The number of events up to the end of this block.
    Events(u64),
}

/// The blocks that a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The first block.
    pub(crate) first: u64,
    /// The last block.
    pub(crate) last: u64,
}

/// What a peer responds.
#[derive(Clone, Debug)]
pub(crate) enum Response {
    /// It does not have what was requested.
    Nothing,
    Offer(Offer),
    Handover(Box<Handover>),
    State(Box<StatePart>),
    Block(Arc<Block>),
    Events(u64),
}

impl Write for Request {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Offer => 0u8.write(buf),
            Self::Handover(after) => (1u8, *after).write(buf),
            Self::State(request) => {
                2u8.write(buf);
                request.write(buf);
            }
            Self::Block(height) => (3u8, *height).write(buf),
            Self::Events(height) => (4u8, *height).write(buf),
        }
    }
}

impl Read for Request {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &Self::Cfg) -> Result<Self, CodecError> {
        Ok(match u8::read(buf)? {
            0 => Self::Offer,
            1 => Self::Handover(Option::<u64>::read(buf)?),
            2 => Self::State(StateRequest::read(buf)?),
            3 => Self::Block(u64::read(buf)?),
            4 => Self::Events(u64::read(buf)?),
            tag => return Err(CodecError::InvalidEnum(tag)),
        })
    }
}

impl Write for Response {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Nothing => 0u8.write(buf),
            Self::Offer(offer) => (1u8, offer.first, offer.last).write(buf),
            Self::Handover(handover) => {
                2u8.write(buf);
                handover.write(buf);
            }
            Self::State(part) => {
                3u8.write(buf);
                part.write(buf);
            }
            Self::Block(block) => {
                4u8.write(buf);
                block.write(buf);
            }
            Self::Events(events) => (5u8, *events).write(buf),
        }
    }
}

impl Read for Response {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &Self::Cfg) -> Result<Self, CodecError> {
        Ok(match u8::read(buf)? {
            0 => Self::Nothing,
            1 => Self::Offer(Offer { first: u64::read(buf)?, last: u64::read(buf)? }),
            2 => Self::Handover(Box::new(Handover::read(buf)?)),
            3 => {
                let operations = usize::try_from(OPERATIONS_MAX.get()).unwrap_or(usize::MAX);
                let value = RangeCfg::from(0..=VALUE_BYTES_MAX);
                let config = (operations, ((), (value, ())));
                Self::State(Box::new(StatePart::read_cfg(buf, &config)?))
            }
            4 => Self::Block(Arc::new(Block::read(buf)?)),
            5 => Self::Events(u64::read(buf)?),
            tag => return Err(CodecError::InvalidEnum(tag)),
        })
    }
}

impl Request {
    /// The message that asks a peer for this.
    pub(crate) fn encode(&self, number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        (REQUEST, number).write(&mut bytes);
        self.write(&mut bytes);
        bytes
    }

    /// The request in the content of a message; `None` if it is malformed.
    pub(crate) fn decode(content: &[u8]) -> Option<Self> {
        Self::decode_cfg(Copying(content), &()).ok()
    }
}

impl Response {
    /// The message that answers the request with this number.
    pub(crate) fn encode(&self, number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        (RESPONSE, number).write(&mut bytes);
        self.write(&mut bytes);
        bytes
    }

    /// The response in the content of a message; `None` if it is malformed.
    pub(crate) fn decode(content: &[u8]) -> Option<Self> {
        Self::decode_cfg(Copying(content), &()).ok()
    }
}

/// A message whose content is not decoded yet, with the number of its request. A response is
/// decoded only if this node waits for it: nobody can make it decode what it did not ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    Request(u64, &'a [u8]),
    Response(u64, &'a [u8]),
}

impl<'a> Message<'a> {
    /// Splits a message; `None` if it is malformed.
    pub(crate) fn split(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (number, content) = rest.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        match *kind {
            REQUEST => Some(Self::Request(number, content)),
            RESPONSE => Some(Self::Response(number, content)),
            _ => None,
        }
    }
}
