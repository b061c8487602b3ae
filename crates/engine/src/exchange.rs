//! What nodes ask each other outside the consensus: what there is, handovers between committees,
//! the state as of a block, one block.
//!
//! One task for both sides: it answers what others ask once the node is up, and brings the answers
//! to what this node asks. Nothing that arrives is believed here; whoever asked checks it.

use std::{collections::BTreeMap, num::NonZeroU64, sync::Arc};

use commonware_codec::{
    Buf, Copying, Decode as _, EncodeSize, Error as CodecError, FixedSize, RangeCfg, Read,
    ReadExt as _, Write,
};
use commonware_cryptography::{blake3::Digest, ed25519::PublicKey};
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::{BufMut, Spawner};
use commonware_storage::{
    mmr,
    qmdb::sync::{Request, Response},
};
use commonware_utils::NZU64;
use rand_core::Rng;
use soma_store::database::{Operation, VALUE_BYTES_MAX};
use tokio::sync::{SetOnce, mpsc};

use crate::{block::Block, handover::Handover, parts::ANSWER_BYTES_MAX};

/// The most operations of the state in one answer.
pub(crate) const OPERATIONS_MAX: NonZeroU64 = NZU64!(256);

/// How many questions of this node wait for the wire.
const WAITING_MAX: usize = 64;

/// A part of the state with its proof.
pub(crate) type StatePart = Response<mmr::Family, Operation, Digest>;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// What there is.
    Offer,
    /// The first handover after this epoch; the last one is the snapshot.
    Handover(Option<u64>),
    /// Operations of the state.
    State(Request<mmr::Family>),
    /// The block at this height.
    Block(u64),
    /// How many events there were up to the end of this block.
    Events(u64),
}

/// What a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The first block that it holds.
    pub(crate) first: u64,
    /// The last block that it holds.
    pub(crate) last: u64,
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// It is not there.
    Nothing,
    Offer(Offer),
    Handover(Box<Handover>),
    State(Box<StatePart>),
    Block(Arc<Block>),
    Events(u64),
}

impl Write for Ask {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Offer => 0u8.write(buf),
            Self::Handover(after) => {
                1u8.write(buf);
                after.write(buf);
            }
            Self::State(request) => {
                2u8.write(buf);
                request.write(buf);
            }
            Self::Block(height) => {
                3u8.write(buf);
                height.write(buf);
            }
            Self::Events(height) => {
                4u8.write(buf);
                height.write(buf);
            }
        }
    }
}

impl EncodeSize for Ask {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Offer => 0,
            Self::Handover(after) => after.encode_size(),
            Self::State(request) => request.encode_size(),
            Self::Block(height) | Self::Events(height) => height.encode_size(),
        }
    }
}

impl Read for Ask {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &Self::Cfg) -> Result<Self, CodecError> {
        Ok(match u8::read(buf)? {
            0 => Self::Offer,
            1 => Self::Handover(Option::<u64>::read(buf)?),
            2 => Self::State(Request::read(buf)?),
            3 => Self::Block(u64::read(buf)?),
            4 => Self::Events(u64::read(buf)?),
            other => return Err(CodecError::InvalidEnum(other)),
        })
    }
}

impl Write for Answer {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Nothing => 0u8.write(buf),
            Self::Offer(offer) => {
                1u8.write(buf);
                offer.first.write(buf);
                offer.last.write(buf);
            }
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
            Self::Events(events) => {
                5u8.write(buf);
                events.write(buf);
            }
        }
    }
}

impl EncodeSize for Answer {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Nothing => 0,
            Self::Offer(_) => 2 * u64::SIZE,
            Self::Handover(handover) => handover.encode_size(),
            Self::State(part) => part.encode_size(),
            Self::Block(block) => block.encode_size(),
            Self::Events(_) => u64::SIZE,
        }
    }
}

impl Read for Answer {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &Self::Cfg) -> Result<Self, CodecError> {
        Ok(match u8::read(buf)? {
            0 => Self::Nothing,
            1 => Self::Offer(Offer {
                first: u64::read(buf)?,
                last: u64::read(buf)?,
            }),
            2 => Self::Handover(Box::new(Handover::read(buf)?)),
            3 => {
                let operations = usize::try_from(OPERATIONS_MAX.get()).unwrap_or(usize::MAX);
                let value = RangeCfg::from(0..=VALUE_BYTES_MAX);
                let config = (operations, ((), (value, ())));
                Self::State(Box::new(StatePart::read_cfg(buf, &config)?))
            }
            4 => Self::Block(Arc::new(Block::read(buf)?)),
            5 => Self::Events(u64::read(buf)?),
            other => return Err(CodecError::InvalidEnum(other)),
        })
    }
}

/// A question or an answer with the number of its question.
enum Message {
    Ask(u64, Ask),
    Answer(u64, Answer),
}

impl Message {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Ask(number, ask) => {
                0u8.write(&mut bytes);
                number.write(&mut bytes);
                ask.write(&mut bytes);
            }
            Self::Answer(number, answer) => {
                1u8.write(&mut bytes);
                number.write(&mut bytes);
                answer.write(&mut bytes);
            }
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let number = u64::from_be_bytes(*number);
        match kind {
            0 => Ask::decode_cfg(Copying(rest), &())
                .ok()
                .map(|ask| Self::Ask(number, ask)),
            1 => Answer::decode_cfg(Copying(rest), &())
                .ok()
                .map(|answer| Self::Answer(number, answer)),
            _ => None,
        }
    }
}

/// An answer and who gave it.
pub(crate) type Heard = (PublicKey, Answer);

struct Question {
    to: Recipients<PublicKey>,
    ask: Ask,
    answers: mpsc::Sender<Heard>,
}

/// Asks other nodes. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Asking(mpsc::Sender<Question>);

impl Asking {
    /// Asks, and hands out the answers as they come: one of each node at most, as long as the
    /// receiver is held.
    pub(crate) async fn ask(&self, to: Recipients<PublicKey>, ask: Ask) -> mpsc::Receiver<Heard> {
        let (answers, heard) = mpsc::channel(WAITING_MAX);
        // If the exchange has ended, so has the node.
        let _ = self.0.send(Question { to, ask, answers }).await;
        heard
    }
}

/// Answers what is asked.
pub(crate) trait Server: Send + Sync + 'static {
    /// The answer, [`Answer::Nothing`] included; `None` when the node is stopping.
    fn answer(&self, ask: Ask) -> impl Future<Output = Option<Answer>> + Send;
}

/// Starts the exchange; it answers as soon as the server is set.
pub(crate) fn start<S, R, V: Server>(
    mut context: impl Rng + Spawner,
    link: (S, R),
) -> (Asking, Arc<SetOnce<V>>)
where
    S: Sender<PublicKey = PublicKey>,
    R: Receiver<PublicKey = PublicKey>,
{
    let (asking, questions) = mpsc::channel(WAITING_MAX);
    let server = Arc::new(SetOnce::new());
    let exchange = Exchange {
        server: Arc::clone(&server),
        sender: link.0,
        // An answer to a question of an earlier life must not be taken for one of this life.
        next: context.next_u64(),
        open: BTreeMap::new(),
    };
    context.spawn(move |_| exchange.run(questions, link.1));
    (Asking(asking), server)
}

/// A question that waits for answers.
struct Open {
    to: Recipients<PublicKey>,
    answers: mpsc::Sender<Heard>,
}

struct Exchange<S, V> {
    server: Arc<SetOnce<V>>,
    sender: S,
    next: u64,
    open: BTreeMap<u64, Open>,
}

impl<S: Sender<PublicKey = PublicKey>, V: Server> Exchange<S, V> {
    async fn run<R>(mut self, mut questions: mpsc::Receiver<Question>, mut receiver: R)
    where
        R: Receiver<PublicKey = PublicKey>,
    {
        let mut asks = true;
        loop {
            tokio::select! {
                biased;
                question = questions.recv(), if asks => match question {
                    Some(question) => self.put(question),
                    None => asks = false,
                },
                message = receiver.recv() => {
                    let Ok((from, message)) = message else {
                        return;
                    };
                    match Message::decode(message.as_ref()) {
                        Some(Message::Ask(number, ask)) => self.answer(from, number, ask).await,
                        Some(Message::Answer(number, answer)) => self.hear(from, number, answer),
                        None => tracing::debug!(?from, "a message that is none"),
                    }
                }
            }
        }
    }

    fn put(&mut self, Question { to, ask, answers }: Question) {
        self.open.retain(|_, open| !open.answers.is_closed());
        self.next = self.next.wrapping_add(1);
        let message = Message::Ask(self.next, ask).encode();
        self.sender.send(to.clone(), message, false);
        self.open.insert(self.next, Open { to, answers });
    }

    fn hear(&mut self, from: PublicKey, number: u64, answer: Answer) {
        let Some(open) = self.open.get(&number) else {
            return;
        };
        let expected = match &open.to {
            Recipients::All => true,
            Recipients::Some(some) => some.contains(&from),
            Recipients::One(one) => *one == from,
        };
        if expected {
            // Whoever asked has stopped to listen, or has heard enough.
            let _ = open.answers.try_send((from, answer));
        }
    }

    async fn answer(&mut self, from: PublicKey, number: u64, ask: Ask) {
        let Some(server) = self.server.get() else {
            return;
        };
        if let Some(answer) = server.answer(ask).await {
            let message = Message::Answer(number, answer).encode();
            if message.len() <= ANSWER_BYTES_MAX {
                self.sender.send(Recipients::One(from), message, false);
            }
        }
    }
}
