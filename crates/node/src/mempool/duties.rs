//! The waiting duties, in the order of their arrival. They are free, so nothing ranks them, and
//! only those enter that the rules accept after the last block: one of each kind from each
//! validator, or for each target or offender. To find that out takes work, so a validator whose
//! duties are refused is not heard again with one of that kind until the next block.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use soma_protocol::{
    Action, Address, Epoch, Hash, Phase, Rejection, Transaction, VerifiedTransaction,
};

use crate::refusal::Refusal;

/// The most bytes of duties of one sender: verdicts on a thousand targets, and the rest.
const BYTES_OF_SENDER_MAX: usize = 512 << 10;
/// How many duties of the last blocks are remembered: those of some whole blocks.
const EXECUTED_MAX: usize = 1 << 14;
/// The most bytes of duties in all: those of a whole committee.
const BYTES_MAX: usize = 64 * BYTES_OF_SENDER_MAX;

/// What a duty is, and from whom; at most one of each waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DutyId {
    /// All zeros if it does not matter who sends it.
    sender: Address,
    kind: &'static str,
    /// The target or the offender, if there can be several.
    about: [u8; 32],
}

impl DutyId {
    /// `sender` is the validator whose duty it is, whichever of its keys has signed.
    pub(super) fn of(transaction: &Transaction, mut sender: Address) -> Self {
        let mut about = [0; 32];
        let target = match &transaction.action {
            Action::CommitVerdict(action) => action.target.0,
            Action::RevealVerdict(action) => action.target.0,
            Action::ReportEquivocation(action) => {
                sender = Address([0; 32]);
                about = action.evidence.consensus_key.0;
                return Self { sender, kind: transaction.action.name(), about };
            }
            _ => 0,
        };
        about[..4].copy_from_slice(&target.to_le_bytes());
        Self { sender, kind: transaction.action.name(), about }
    }
}

/// The most work of refused duties of one kind that a validator causes after a block: one answer to
/// a challenge, or many verdicts.
const REFUSED_WORK_MAX: u64 = 1_000;
/// The work of a duty for which the rules state none: some look-ups.
const WORK_MIN: u64 = 10;

/// Work that counts as much of a sender's rate as a transaction: verifying a signature is 60 times
/// as much.
const WORK_OF_TRANSACTION: u64 = 5;

/// What it takes to judge a duty, in the unit of [`Action::work`].
fn work(action: &Action) -> u64 {
    action.work().max(WORK_MIN)
}

/// What a duty that the rules reject costs whoever sent it to this node, in transactions.
pub(crate) fn refused_cost(action: &Action) -> u64 {
    work(action) / WORK_OF_TRANSACTION
}

/// What a refused duty counts as; `None` if anyone may send it, so that nobody is kept out by what
/// others send.
fn refused_as(transaction: &Transaction, sender: Address) -> Option<(Address, &'static str)> {
    let is_anyones = matches!(transaction.action, Action::ReportEquivocation(_));
    (!is_anyones).then(|| (sender, transaction.action.name()))
}

/// The duties of the last blocks. Other nodes send them a little longer, and nobody is to blame.
#[derive(Default)]
struct Executed {
    hashes: HashSet<Hash>,
    by_age: VecDeque<Hash>,
}

impl Executed {
    fn push(&mut self, hash: Hash) {
        if self.hashes.insert(hash) {
            self.by_age.push_back(hash);
        }
        if self.by_age.len() > EXECUTED_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.hashes.remove(&oldest);
        }
    }
}

#[derive(Default)]
pub(super) struct Duties {
    waiting: BTreeMap<DutyId, (u64, VerifiedTransaction)>,
    by_arrival: BTreeMap<u64, DutyId>,
    ids: HashMap<Hash, DutyId>,
    bytes_of: HashMap<Address, usize>,
    pub(super) bytes: usize,
    arrivals: u64,
    /// The work of refused duties since the last block, by sender and kind, and why the last one
    /// was.
    refused: HashMap<(Address, &'static str), (u64, Rejection)>,
    executed: Executed,
    /// The epoch and phase in which the rules accepted all that wait.
    pub(super) judged: Option<(Epoch, Phase)>,
}

impl Duties {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn contains(&self, id: &DutyId) -> bool {
        self.waiting.contains_key(id)
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<&VerifiedTransaction> {
        self.waiting.get(self.ids.get(hash)?).map(|(_, transaction)| transaction)
    }

    /// Whether a duty waits, or was executed in one of the last blocks.
    pub(super) fn knows(&self, hash: &Hash) -> bool {
        self.ids.contains_key(hash) || self.executed.hashes.contains(hash)
    }

    /// The first duty that arrived as number `from` or later and has at most this weight, and its
    /// number.
    pub(super) fn next(&self, from: u64, weight_max: u64) -> Option<(u64, &VerifiedTransaction)> {
        self.by_arrival
            .range(from..)
            .filter_map(|(arrival, id)| Some((*arrival, &self.waiting.get(id)?.1)))
            .find(|(_, transaction)| transaction.weight() <= weight_max)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &VerifiedTransaction> {
        self.waiting.values().map(|(_, transaction)| transaction)
    }

    /// Why another duty of this kind from this sender is refused unread, if it is.
    pub(super) fn is_refused(
        &self,
        transaction: &Transaction,
        sender: Address,
    ) -> Option<Rejection> {
        let (work, why) = self.refused.get(&refused_as(transaction, sender)?)?;
        (*work >= REFUSED_WORK_MAX).then(|| why.clone())
    }

    /// Counts a duty that the rules reject against its sender.
    pub(super) fn refuse(&mut self, transaction: &Transaction, sender: Address, why: &Rejection) {
        if let Some(id) = refused_as(transaction, sender) {
            let (sum, last) = self.refused.entry(id).or_insert((0, why.clone()));
            *sum = sum.saturating_add(work(&transaction.action));
            *last = why.clone();
        }
    }

    /// A block may have changed what the rules accept.
    pub(super) fn hear_all(&mut self) {
        self.refused.clear();
    }

    /// Adds a duty that the rules accept.
    pub(super) fn add(
        &mut self,
        verified: VerifiedTransaction,
        sender: Address,
    ) -> Result<(), Refusal> {
        let id = DutyId::of(verified.transaction(), sender);
        if self.contains(&id) {
            return Err(Refusal::DutyWaiting);
        }
        let bytes = verified.size_bytes();
        let of_sender = self.bytes_of.get(&id.sender).copied().unwrap_or(0);
        if of_sender + bytes > BYTES_OF_SENDER_MAX || self.bytes + bytes > BYTES_MAX {
            return Err(Refusal::MempoolFull);
        }
        self.bytes += bytes;
        self.bytes_of.insert(id.sender, of_sender + bytes);
        self.arrivals += 1;
        self.by_arrival.insert(self.arrivals, id);
        self.ids.insert(verified.hash(), id);
        self.waiting.insert(id, (self.arrivals, verified));
        Ok(())
    }

    pub(super) fn remove(&mut self, hash: &Hash) {
        let Some((arrival, verified, sender)) = self.ids.remove(hash).and_then(|id| {
            let (arrival, verified) = self.waiting.remove(&id)?;
            Some((arrival, verified, id.sender))
        }) else {
            return;
        };
        self.by_arrival.remove(&arrival);
        let bytes = verified.size_bytes();
        self.bytes -= bytes;
        let rest = self.bytes_of.remove(&sender).unwrap_or(bytes) - bytes;
        if rest > 0 {
            self.bytes_of.insert(sender, rest);
        }
    }

    /// A block has executed this duty.
    pub(super) fn execute(&mut self, hash: Hash) {
        self.remove(&hash);
        self.executed.push(hash);
    }

    /// Removes those that `keeps` does not keep.
    pub(super) fn retain(&mut self, keeps: impl Fn(&VerifiedTransaction) -> bool) {
        let gone = self.iter().filter(|verified| !keeps(verified));
        let gone: Vec<Hash> = gone.map(VerifiedTransaction::hash).collect();
        for hash in gone {
            self.remove(&hash);
        }
    }

    pub(super) fn expire(&mut self, now_ms: u64) {
        self.retain(|verified| verified.transaction().valid_until_ms >= now_ms);
    }
}
