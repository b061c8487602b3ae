//! The transactions that this node sends to the others. What counts most goes first: duties, then
//! payments by their tip for each unit of weight. Without room the least is left out: the other
//! nodes get it in a block.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use parking_lot::Mutex;
use soma_protocol::SignedTransaction;
use tokio::sync::Notify;

use super::queue::Bid;

/// The most transactions that wait to be sent, and the most bytes.
const WAITING_MAX: usize = 32_768;
const WAITING_BYTES_MAX: usize = 8 << 20;

/// What waits to be sent to the other nodes.
#[derive(Default)]
pub(crate) struct Outbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Default)]
struct Waiting {
    by_bid: BTreeMap<Bid, SignedTransaction>,
    bytes: usize,
    arrivals: u64,
}

impl Outbox {
    /// Adds a transaction; the one that counts least leaves if there are too many.
    pub(crate) fn push(&self, signed: SignedTransaction) {
        let mut waiting = self.waiting.lock();
        waiting.arrivals += 1;
        let arrival = Reverse(waiting.arrivals);
        let is_duty = signed.transaction().action.is_duty();
        let bid = if is_duty {
            Bid { tip: u64::MAX, weight: 1, turn: Reverse(0), arrival }
        } else {
            Bid { arrival, ..Bid::of(&signed) }
        };
        waiting.bytes += signed.bytes().len();
        waiting.by_bid.insert(bid, signed);
        while waiting.by_bid.len() > WAITING_MAX || waiting.bytes > WAITING_BYTES_MAX {
            let Some((_, least)) = waiting.by_bid.pop_first() else {
                break;
            };
            waiting.bytes -= least.bytes().len();
        }
        drop(waiting);
        self.changed.notify_one();
    }

    /// Waits for the next transaction to send.
    pub(crate) async fn next(&self) -> SignedTransaction {
        loop {
            if let Some(signed) = self.next_within(usize::MAX) {
                return signed;
            }
            self.changed.notified().await;
        }
    }

    /// The next transaction to send, if it has at most this many bytes.
    pub(crate) fn next_within(&self, bytes: usize) -> Option<SignedTransaction> {
        let waiting = &mut *self.waiting.lock();
        let most = waiting.by_bid.last_entry()?;
        let size_bytes = most.get().bytes().len();
        if size_bytes > bytes {
            return None;
        }
        waiting.bytes -= size_bytes;
        Some(most.remove())
    }
}

#[cfg(test)]
mod tests {
    use soma_protocol::{Amount, Epoch, Hash, SecretKey, action};

    use super::{Outbox, WAITING_BYTES_MAX};
    use crate::mempool::tests::{publication, unsigned};

    #[test]
    fn a_duty_and_a_payment_with_a_tip_are_sent_before_a_flood_that_is_bounded() {
        let outbox = Outbox::default();
        let large = |nonce| unsigned(nonce, 0, publication(100_000));
        for nonce in 0..200 {
            outbox.push(large(nonce));
        }
        let to = SecretKey::from_bytes(&[2; 32]).address();
        let paid = unsigned(7, 5, action::Transfer { to, amount: Amount(1) }.into());
        let commit = action::CommitBeacon { epoch: Epoch(1), commitment: Hash([1; 32]) };
        let duty = unsigned(0, 0, commit.into());
        outbox.push(paid.clone());
        outbox.push(duty.clone());
        assert!(outbox.waiting.lock().bytes <= WAITING_BYTES_MAX);
        assert_eq!(outbox.next_within(usize::MAX), Some(duty));
        assert_eq!(outbox.next_within(usize::MAX), Some(paid));
        assert_eq!(outbox.next_within(1_000), None, "the rest does not fit");
        assert_eq!(outbox.next_within(usize::MAX), Some(large(0)), "in order of arrival");
    }
}
