//! The transactions that wait for admission, those of each party in a queue of its own. Parties
//! take turns, so whoever sends much waits for itself: a transaction of one that sends little is
//! decided after at most one turn of each of the others. What waits is bounded; without room, the
//! party with the most bytes loses its last request.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use soma_protocol::{Hash, SignedTransaction};
use tokio::sync::oneshot;

use crate::refusal::Refusal;

/// The most bytes of transactions that may wait, those of other nodes apart.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// What a request counts beyond its transactions.
const REQUEST_BYTES: usize = 1 << 10;
/// The most transactions decided together, and about how many bytes; the state is locked while they
/// are looked at.
const BATCH_MAX: usize = 512;
const BATCH_BYTES_MAX: usize = 1 << 20;
/// The most transactions in one turn of a client, and about how many bytes.
const TURN_MAX: usize = 32;
const TURN_BYTES_MAX: usize = 128 << 10;
/// How many turns of a client the other nodes have at once: each of them sends what its own clients
/// sent, so they have half of each batch.
const TURNS_OF_NODES: usize = BATCH_MAX / 2 / TURN_MAX;

/// What was decided about each transaction, in the order of the request.
pub(crate) type Answers = Vec<Result<Hash, Refusal>>;

/// Who sent transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    /// The other nodes, one batch of which waits at a time.
    Nodes,
    /// A program on this machine, by the port of its connection.
    Here(u16),
    /// A client.
    Client(IpAddr),
}

impl Party {
    const fn turns(self) -> usize {
        match self {
            Self::Nodes => TURNS_OF_NODES,
            Self::Here(_) | Self::Client(_) => 1,
        }
    }
}

/// Why transactions were not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueueError {
    #[error("too many transactions are waiting for verification")]
    Full,
    #[error("the node is stopping")]
    Stopping,
}

/// Gathers the answers to a request, whose parts are decided one after the other.
struct Reply(Mutex<Option<Open>>);

struct Open {
    answers: Answers,
    missing: usize,
    to: oneshot::Sender<Result<Answers, QueueError>>,
}

impl Reply {
    fn add(&self, answers: Answers) {
        let mut open = self.0.lock();
        if let Some(gathered) = open.as_mut() {
            gathered.missing = gathered.missing.saturating_sub(answers.len());
            gathered.answers.extend(answers);
            if gathered.missing > 0 {
                return;
            }
        }
        if let Some(Open { answers, to, .. }) = open.take() {
            // A client may have disconnected; its transactions stay.
            let _gone = to.send(Ok(answers));
        }
    }

    fn refuse(&self) {
        if let Some(open) = self.0.lock().take() {
            let _gone = open.to.send(Err(QueueError::Full));
        }
    }
}

/// The rest of a request.
struct Arrival {
    transactions: VecDeque<SignedTransaction>,
    reply: Arc<Reply>,
}

impl Arrival {
    fn size_bytes(&self) -> usize {
        let bytes: usize = self.transactions.iter().map(|signed| signed.bytes().len()).sum();
        bytes + REQUEST_BYTES
    }
}

/// A part of a request whose turn it is.
pub(super) struct Part {
    pub(super) party: Party,
    pub(super) transactions: Vec<SignedTransaction>,
    reply: Arc<Reply>,
}

impl Part {
    /// Answers it.
    pub(super) fn answer(&self, answers: Answers) {
        self.reply.add(answers);
    }
}

#[derive(Default)]
struct Queue {
    arrivals: VecDeque<Arrival>,
    bytes: usize,
}

/// The queues of all parties.
#[derive(Default)]
pub(super) struct Turns {
    /// No queue is empty.
    queues: BTreeMap<Party, Queue>,
    /// Bytes of all clients.
    bytes: usize,
    /// Whose turn was last.
    last: Option<Party>,
}

impl Turns {
    /// Adds a request. Its answers arrive through the result.
    pub(super) fn push(
        &mut self,
        party: Party,
        transactions: Vec<SignedTransaction>,
    ) -> oneshot::Receiver<Result<Answers, QueueError>> {
        let (to, answers) = oneshot::channel();
        let missing = transactions.len();
        let open = Open { answers: Vec::with_capacity(missing), missing, to };
        let reply = Arc::new(Reply(Mutex::new(Some(open))));
        if missing == 0 {
            reply.add(Vec::new());
            return answers;
        }
        let arrival = Arrival { transactions: transactions.into(), reply };
        let bytes = arrival.size_bytes();
        let queue = self.queues.entry(party).or_default();
        queue.bytes += bytes;
        queue.arrivals.push_back(arrival);
        if party != Party::Nodes {
            self.bytes += bytes;
        }
        while self.bytes > WAITING_BYTES_MAX && self.refuse_one() {}
        answers
    }

    /// Refuses the last request of the client that has the most bytes waiting.
    fn refuse_one(&mut self) -> bool {
        let clients = self.queues.iter().filter(|(party, _)| **party != Party::Nodes);
        let Some((party, _)) = clients.max_by_key(|(_, queue)| queue.bytes) else {
            return false;
        };
        let party = *party;
        let arrival = self.queues.get_mut(&party).and_then(|queue| queue.arrivals.pop_back());
        let Some(arrival) = arrival else {
            return false;
        };
        self.forget(party, arrival.size_bytes());
        arrival.reply.refuse();
        true
    }

    /// Subtracts what no longer waits.
    fn forget(&mut self, party: Party, bytes: usize) {
        if party != Party::Nodes {
            self.bytes -= bytes;
        }
        if let Some(queue) = self.queues.get_mut(&party) {
            queue.bytes -= bytes;
            if queue.arrivals.is_empty() {
                self.queues.remove(&party);
            }
        }
    }

    /// The parts that are decided next, together; none if nothing waits.
    pub(super) fn next_batch(&mut self) -> Vec<Part> {
        let mut batch = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        while count < BATCH_MAX && bytes < BATCH_BYTES_MAX {
            let Some(party) = self.next_party() else {
                break;
            };
            for _ in 0..party.turns() {
                let Some(part) = self.take_part(party, BATCH_MAX - count) else {
                    break;
                };
                count += part.transactions.len();
                bytes += part.transactions.iter().map(|signed| signed.bytes().len()).sum::<usize>();
                batch.push(part);
            }
        }
        batch
    }

    fn next_party(&mut self) -> Option<Party> {
        let later = self
            .last
            .and_then(|last| self.queues.range((Bound::Excluded(last), Bound::Unbounded)).next());
        let (party, _) = later.or_else(|| self.queues.first_key_value())?;
        self.last = Some(*party);
        self.last
    }

    /// Takes the transactions of one turn, all of one request.
    fn take_part(&mut self, party: Party, most: usize) -> Option<Part> {
        let arrival = self.queues.get_mut(&party)?.arrivals.front_mut()?;
        let (mut transactions, mut bytes) = (Vec::new(), 0);
        while transactions.len() < most.min(TURN_MAX)
            && bytes < TURN_BYTES_MAX
            && let Some(signed) = arrival.transactions.pop_front()
        {
            bytes += signed.bytes().len();
            transactions.push(signed);
        }
        if transactions.is_empty() {
            return None;
        }
        let reply = Arc::clone(&arrival.reply);
        if arrival.transactions.is_empty() {
            bytes += REQUEST_BYTES;
            self.queues.get_mut(&party)?.arrivals.pop_front();
        }
        self.forget(party, bytes);
        Some(Part { party, transactions, reply })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use soma_protocol::SignedTransaction;
    use tokio::sync::oneshot::error::TryRecvError;

    use super::{BATCH_MAX, Part, Party, QueueError, TURN_MAX, Turns, WAITING_BYTES_MAX};
    use crate::mempool::tests::{publication, unsigned};

    fn client(number: u32) -> Party {
        Party::Client(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    fn with_data(nonce: u64, bytes: usize) -> SignedTransaction {
        unsigned(nonce, 0, publication(bytes))
    }

    fn many(count: u64) -> Vec<SignedTransaction> {
        (0..count).map(|nonce| with_data(nonce, 0)).collect()
    }

    fn decide(batch: &[Part]) {
        for part in batch {
            part.answer(part.transactions.iter().map(|signed| Ok(signed.hash())).collect());
        }
    }

    #[test]
    fn a_client_with_one_transaction_waits_for_one_turn_of_each_other_client() {
        let mut turns = Turns::default();
        let greedy: Vec<_> = (0..100).map(|number| turns.push(client(number), many(400))).collect();
        let mut modest = turns.push(client(1_000), many(1));
        let mut decided = 0;
        while modest.try_recv().is_err() {
            let batch = turns.next_batch();
            decided += batch.iter().map(|part| part.transactions.len()).sum::<usize>();
            decide(&batch);
        }
        assert!(decided <= 100 * TURN_MAX + BATCH_MAX, "{decided}");
        drop(greedy);
    }

    #[test]
    fn every_request_gets_its_answers_in_order_however_it_is_divided() {
        let mut turns = Turns::default();
        let sent: Vec<_> = (0..5).map(|number| many(number * 300)).collect();
        let waiting: Vec<_> = (0..)
            .zip(&sent)
            .map(|(number, sent)| turns.push(client(number % 2), sent.clone()))
            .collect();
        loop {
            let batch = turns.next_batch();
            assert!(batch.iter().map(|part| part.transactions.len()).sum::<usize>() <= BATCH_MAX);
            if batch.is_empty() {
                break;
            }
            decide(&batch);
        }
        for (sent, mut answers) in sent.iter().zip(waiting) {
            let answers = answers.try_recv().unwrap().unwrap();
            let expected: Vec<_> = sent.iter().map(|signed| Ok(signed.hash())).collect();
            assert_eq!(answers, expected);
        }
        assert!(turns.queues.is_empty() && turns.bytes == 0);
    }

    #[test]
    fn without_room_the_client_with_the_most_bytes_loses_its_last_request() {
        let mut turns = Turns::default();
        let mut modest = turns.push(client(1), vec![with_data(0, 1_000)]);
        let mut greedy: Vec<_> =
            (0..200).map(|nonce| turns.push(client(2), vec![with_data(nonce, 120_000)])).collect();
        assert!(turns.bytes <= WAITING_BYTES_MAX);
        assert_eq!(modest.try_recv(), Err(TryRecvError::Empty), "it waits");
        assert_eq!(greedy[0].try_recv(), Err(TryRecvError::Empty), "its first one waits");
        assert_eq!(greedy[199].try_recv(), Ok(Err(QueueError::Full)));
    }

    #[test]
    fn other_nodes_have_half_of_each_batch_while_clients_flood() {
        let mut turns = Turns::default();
        let _clients: Vec<_> =
            (0..50).map(|number| turns.push(client(number), many(400))).collect();
        let _nodes = turns.push(Party::Nodes, many(1_000));
        let batches: Vec<_> = (0..8).map(|_| turns.next_batch()).collect();
        let of_nodes = batches.iter().flatten().filter(|part| part.party == Party::Nodes);
        let count: usize = of_nodes.map(|part| part.transactions.len()).sum();
        assert!(count >= BATCH_MAX / 2, "{count}");
    }
}
