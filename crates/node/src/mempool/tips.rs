//! The tip with which a payment gets into the next block, as this node sees it: it outbids what
//! would fill that block, and what filled one of the last blocks. It counts only what is or will
//! be charged, so raising it costs whoever does so a full block of tips.

use std::collections::{HashMap, VecDeque};

use soma_protocol::SignedTransaction;
use soma_protocol::room::{BLOCK_TRANSACTIONS_MAX, KIND_WEIGHT_MAX};

use super::queue::{Entry, Queue};

/// Blocks that are remembered: one of each proposer of a small committee, whose pools differ.
const BLOCKS: usize = 4;
/// A block is full if payments take this much of their room: the next one may have been too large.
const FULL_WEIGHT: u64 = KIND_WEIGHT_MAX / 4 * 3;
/// Units of weight that a suggestion is for.
const KIB: u64 = 1_024;

/// The least tips of the last blocks, for each KiB of weight; `None` for a block with room.
#[derive(Default)]
pub(super) struct LastBlocks(VecDeque<Option<u64>>);

impl LastBlocks {
    /// Adds a block.
    pub(super) fn push(&mut self, transactions: &[SignedTransaction]) {
        let payments = transactions.iter().filter(|signed| !signed.transaction().action.is_duty());
        let (mut weight, mut least) = (0_u64, None);
        for signed in payments {
            weight = weight.saturating_add(signed.weight());
            let tip = per_kib(signed.transaction().tip.0, signed.weight());
            least = Some(least.map_or(tip, |least: u64| least.min(tip)));
        }
        let is_full =
            weight >= FULL_WEIGHT || transactions.len() >= BLOCK_TRANSACTIONS_MAX as usize;
        self.0.push_back(least.filter(|_| is_full));
        if self.0.len() > BLOCKS {
            self.0.pop_front();
        }
    }

    /// The tip for each KiB of weight that a payment needs, in base units; 0 while there is room
    /// for all.
    pub(super) fn suggest(&self, queue: &Queue) -> u64 {
        let last = self.0.iter().copied().max().flatten();
        let needed = last.max(least_of_next_block(queue));
        needed.map_or(0, |tip| tip.saturating_add(tip / 8).saturating_add(1))
    }
}

/// The tip for each KiB of weight, rounded up.
fn per_kib(tip: u64, weight: u64) -> u64 {
    let product = u128::from(tip).saturating_mul(u128::from(KIB));
    u64::try_from(product.div_ceil(u128::from(weight.max(1)))).unwrap_or(u64::MAX)
}

/// The least tip among the payments that fill the next block; `None` if all that wait fit into it.
/// A payment counts once those before it of its account do: what waits behind a small tip raises
/// nothing. It looks at them from the best bid down, until the block is full.
fn least_of_next_block(queue: &Queue) -> Option<u64> {
    let (mut room, mut transactions, mut least) = (KIND_WEIGHT_MAX, BLOCK_TRANSACTIONS_MAX, None);
    // The next nonce of each account that was examined.
    let mut nexts = HashMap::new();
    for (examined, (address, nonce)) in queue.by_bid.iter().rev() {
        let Some(waiting) = queue.accounts.get(address) else {
            continue;
        };
        let first = || waiting.by_nonce.keys().next().copied().unwrap_or_default();
        let next = nexts.entry(*address).or_insert_with(first);
        if *next != *nonce {
            continue;
        }
        // Those that follow with a better bid were examined before their account reached them.
        while let Some(Entry { bid, .. }) = waiting.by_nonce.get(&*next)
            && bid >= examined
        {
            let tip = per_kib(bid.tip, bid.weight);
            least = Some(least.map_or(tip, |least: u64| least.min(tip)));
            transactions = transactions.saturating_sub(1);
            match room.checked_sub(bid.weight) {
                Some(rest) if transactions > 0 => room = rest,
                _ => return least,
            }
            *next = next.saturating_add(1);
        }
    }
    None
}
