//! The pool itself: admission in three steps, candidates for a block, removal of what is finalized.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use soma_engine::Pool;
use soma_protocol::action::AnswerChallenge;
use soma_protocol::{
    Action, Address, BlockInfo, Candidates, Error, Hash, Params, Refused, Rejection,
    SignedTransaction, StateRead, Transaction, VerifiedTransaction, check, query, read, storage,
    verify_batch_unless,
};

use super::duties::{Duties, DutyId};
use super::queue::Queue;
use super::selection::Selection;
use super::tips::LastBlocks;
use crate::refusal::Refusal;
use crate::settings::PoolLimits;

/// Hashes of the last [`VERIFIED_MAX`] transactions whose signatures are valid: one that was in the
/// pool is not verified again in a block, nor when another node sends it. First in, first out: an
/// LRU cache would not keep more useful ones, and every look-up would reorder it.
#[derive(Default)]
struct Verified {
    hashes: HashSet<Hash>,
    oldest_first: VecDeque<Hash>,
}

/// Hashes remembered as verified; at 8,000 transactions a second, those of the last 16 seconds.
const VERIFIED_MAX: usize = 1 << 17;

impl Verified {
    fn insert(&mut self, hash: Hash) {
        if !self.hashes.insert(hash) {
            return;
        }
        self.oldest_first.push_back(hash);
        if self.oldest_first.len() > VERIFIED_MAX {
            let oldest = self.oldest_first.pop_front();
            oldest.map(|oldest| self.hashes.remove(&oldest));
        }
    }
}

/// How long a suggested tip is not computed again, unless a block is finalized: it looks at as many
/// payments as a block has, and at those that wait behind smaller tips.
const SUGGESTION_LASTS: Duration = Duration::from_millis(200);

/// What a tip is suggested from, and the last suggestion.
#[derive(Default)]
struct Tips {
    last_blocks: LastBlocks,
    suggested: Option<(Instant, u64)>,
}

/// A transaction on its way into the pool.
#[derive(Debug)]
pub(crate) enum Screened {
    /// The answer is known.
    Answered(Result<Hash, Refusal>),
    /// It may enter if its signature is good.
    Unverified(SignedTransaction),
    /// It may enter if there is room, and if it is a duty, if the rules accept it.
    Verified(VerifiedTransaction),
}

impl Screened {
    /// Whether it is a duty that is executed to see whether the rules accept it.
    pub(super) fn is_judged(&self) -> bool {
        match self {
            Self::Verified(verified) => verified.transaction().action.is_duty(),
            Self::Answered(_) | Self::Unverified(_) => false,
        }
    }
}

/// The pool of one node; clones share it. Where both are locked, duties come first.
#[derive(Clone)]
pub(crate) struct Mempool {
    chain: Hash,
    limits: PoolLimits,
    payments: Arc<Mutex<Queue>>,
    duties: Arc<Mutex<Duties>>,
    verified: Arc<Mutex<Verified>>,
    tips: Arc<Mutex<Tips>>,
    /// The validators that are paid for some file, once they are known.
    holders: Arc<Mutex<Option<BTreeSet<Address>>>>,
}

impl std::fmt::Debug for Mempool {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Mempool").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Mempool {
    /// An empty pool for transactions of `chain`. The limits are for payments; duties have their
    /// own.
    pub(crate) fn new(chain: Hash, limits: PoolLimits) -> Self {
        Self {
            chain,
            limits,
            payments: Arc::default(),
            duties: Arc::default(),
            verified: Arc::default(),
            tips: Arc::default(),
            holders: Arc::default(),
        }
    }

    /// The tip for each KiB of weight with which a payment gets into the next block, in base units;
    /// 0 while there is room for all.
    pub(crate) fn suggested_tip(&self) -> u64 {
        let mut tips = self.tips.lock();
        if let Some((at, tip)) = tips.suggested
            && at.elapsed() < SUGGESTION_LASTS
        {
            return tip;
        }
        let tip = tips.last_blocks.suggest(&self.payments());
        tips.suggested = Some((Instant::now(), tip));
        tip
    }

    /// Forgets the last suggestion, so that a test sees the next one at once.
    #[cfg(test)]
    pub(super) fn tips_changed(&self) {
        self.tips.lock().suggested = None;
    }

    pub(super) fn payments(&self) -> MutexGuard<'_, Queue> {
        self.payments.lock()
    }

    pub(super) fn duties(&self) -> MutexGuard<'_, Duties> {
        self.duties.lock()
    }

    /// Transactions waiting.
    pub(crate) fn len(&self) -> usize {
        self.duties().len() + self.payments().places.len()
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.duties().bytes + self.payments().bytes
    }

    /// A waiting transaction.
    pub(crate) fn get(&self, hash: &Hash) -> Option<SignedTransaction> {
        if let Some(duty) = self.duties().get(hash) {
            return Some(duty.signed().clone());
        }
        let payments = self.payments();
        let place = payments.places.get(hash)?;
        Some(payments.get(*place)?.transaction.signed().clone())
    }

    /// The first nonce of an account that no waiting transaction uses, starting at `next`, its
    /// nonce on chain.
    pub(crate) fn next_nonce(&self, address: &Address, next: u64) -> u64 {
        self.payments().next_nonce(address, next)
    }

    /// The first step of admission: all checks of one transaction that need the state but no
    /// cryptography. It is quick, because no block is finalized while the state is read.
    pub(crate) fn screen(
        &self,
        transactions: Vec<SignedTransaction>,
        state: &dyn StateRead,
        now_ms: u64,
    ) -> Vec<Screened> {
        let params = read::params(state);
        // The next nonces of accounts that have several among these.
        let mut nexts = HashMap::new();
        let screen = |transaction: SignedTransaction| {
            let hash = transaction.hash();
            if self.knows(&hash) {
                return Screened::Answered(Ok(hash));
            }
            match self.precheck(&transaction, state, &params, now_ms, &mut nexts) {
                Ok(()) => Screened::Unverified(transaction),
                Err(refusal) => Screened::Answered(Err(refusal)),
            }
        };
        transactions.into_iter().map(screen).collect()
    }

    /// The second step: signatures, which take most of the time, without the state.
    pub(crate) fn verify_screened(&self, screened: Vec<Screened>) -> Vec<Screened> {
        let unverified = |screened: &Screened| match screened {
            Screened::Unverified(transaction) => Some(transaction.clone()),
            _ => None,
        };
        let unverified = screened.iter().filter_map(unverified).collect();
        let mut verified = self.verify(unverified, &self.chain).into_iter();
        let verify = |screened| match screened {
            Screened::Unverified(_) => match verified.next() {
                Some(Ok(transaction)) => match self.check_evidence(&transaction) {
                    Ok(()) => Screened::Verified(transaction),
                    Err(refusal) => Screened::Answered(Err(refusal)),
                },
                Some(Err(error)) => Screened::Answered(Err(error.into())),
                None => Screened::Answered(Err(Refusal::MempoolFull)),
            },
            answered => answered,
        };
        screened.into_iter().map(verify).collect()
    }

    /// The signatures in evidence are verified here, too: they need no state.
    fn check_evidence(&self, verified: &VerifiedTransaction) -> Result<(), Refusal> {
        match &verified.transaction().action {
            Action::ReportEquivocation(report) if !report.evidence.proves(&self.chain) => {
                Err(Refusal::Rejected(Rejection::BadEvidence))
            }
            _ => Ok(()),
        }
    }

    /// The third step: places in the pool. Answers keep the order. A transaction that is already
    /// waiting is accepted again, as is a duty that was just executed.
    pub(crate) fn enter(
        &self,
        screened: Vec<Screened>,
        state: &dyn StateRead,
        now_ms: u64,
    ) -> Vec<Result<Hash, Refusal>> {
        self.tidy(state, now_ms);
        let params = read::params(state);
        let enter = |screened| match screened {
            Screened::Answered(answer) => answer,
            Screened::Verified(verified) => self.take(verified, state, &params, now_ms),
            Screened::Unverified(_) => Err(Refusal::Invalid(Error::Signature)),
        };
        screened.into_iter().map(enter).collect()
    }

    /// Whether nothing needs to be done about a transaction.
    fn knows(&self, hash: &Hash) -> bool {
        let is_payment = self.payments().places.contains_key(hash);
        is_payment || self.duties().knows(hash)
    }

    /// Everything that is cheaper than a signature check.
    fn precheck(
        &self,
        signed: &SignedTransaction,
        state: &dyn StateRead,
        params: &Params,
        now_ms: u64,
        nexts: &mut HashMap<Address, u64>,
    ) -> Result<(), Refusal> {
        let transaction = signed.transaction();
        let valid_until_ms = transaction.valid_until_ms;
        if valid_until_ms < now_ms {
            return Err(Refusal::Expired { valid_until_ms, now_ms });
        }
        if transaction.action.is_duty() {
            return self.precheck_duty(transaction, state);
        }
        let account = read::account(state, &transaction.sender);
        let (nonce, next) = (transaction.nonce, account.nonce);
        if nonce < next {
            return Err(Refusal::NonceTooLow { nonce, next });
        }
        if nonce - next >= self.limits.per_account as u64 {
            return Err(Refusal::NonceTooHigh { nonce, next });
        }
        let fee = signed.admission_fee(params);
        if transaction.fee_limit < fee {
            let (fee_limit, fee_min) = (transaction.fee_limit.0, fee.0);
            return Err(Refusal::FeeTooLow { fee_limit, fee_min });
        }
        let payments = self.payments();
        let free = || payments.next_nonce(&transaction.sender, next);
        let next = nexts.entry(transaction.sender).or_insert_with(free);
        payments.foresee(signed, fee, *next, &account, &self.limits)?;
        // Whether its signature is valid shows later: what follows it is then refused again.
        *next = (*next).max(nonce.saturating_add(1));
        Ok(())
    }

    /// What shows without a signature, and without executing it, that the rules reject a duty.
    fn precheck_duty(
        &self,
        transaction: &Transaction,
        state: &dyn StateRead,
    ) -> Result<(), Refusal> {
        let sender = &read::acts_for(state, &transaction.sender);
        let is_validator =
            || read::validator(state, sender).is_some_and(|validator| validator.is_registered());
        match &transaction.action {
            Action::EndPhase(_) if read::network(state).operator == Some(*sender) => {}
            Action::EndPhase(_) => return Err(Refusal::NotEntitled),
            Action::ReportEquivocation(report) => {
                let key = &report.evidence.consensus_key;
                if !query::is_reportable(state, key) {
                    let is_known = read::key_holder(state, key).is_some();
                    let why = if is_known { Rejection::Expelled } else { Rejection::NoSuchKey };
                    return Err(Refusal::Rejected(why));
                }
            }
            _ if !is_validator() => return Err(Refusal::NotEntitled),
            Action::AnswerChallenge(answer) => self.precheck_answer(answer, sender, state)?,
            _ => {}
        }
        let duties = self.duties();
        if let Some(why) = duties.is_refused(transaction, *sender) {
            return Err(Refusal::Rejected(why));
        }
        if duties.contains(&DutyId::of(transaction, *sender)) {
            return Err(Refusal::DutyWaiting);
        }
        Ok(())
    }

    /// The challenge is found last: that takes more than all that is looked at here.
    fn precheck_answer(
        &self,
        answer: &AnswerChallenge,
        sender: &Address,
        state: &dyn StateRead,
    ) -> Result<(), Refusal> {
        let (epoch, found) = (read::clock(state).epoch, answer.epoch);
        if found != epoch {
            return Err(Refusal::Rejected(Rejection::WrongEpoch { expected: epoch, found }));
        }
        if storage::has_answered(state, epoch, sender) {
            return Err(Refusal::Rejected(Rejection::AlreadyAnswered { epoch }));
        }
        let holds = self.holders.lock().as_ref().is_none_or(|holders| holders.contains(sender));
        let fits = answer.chunk.len() as u64 <= storage::CHUNK_BYTES
            && answer.path.len() <= storage::PATH_MAX;
        if holds && fits { Ok(()) } else { Err(Refusal::Rejected(Rejection::NotChallenged)) }
    }

    /// From now on, these are the validators that are paid for some file.
    pub(crate) fn set_holders(&self, holders: BTreeSet<Address>) {
        *self.holders.lock() = Some(holders);
    }

    fn take(
        &self,
        verified: VerifiedTransaction,
        state: &dyn StateRead,
        params: &Params,
        now_ms: u64,
    ) -> Result<Hash, Refusal> {
        let hash = verified.hash();
        if self.knows(&hash) {
            return Ok(hash);
        }
        let transaction = verified.transaction();
        if transaction.action.is_duty() {
            let sender = read::acts_for(state, &transaction.sender);
            if let Some(why) = self.duties().is_refused(transaction, sender) {
                return Err(Refusal::Rejected(why));
            }
            if let Err(refusal) = judge(&verified, state, now_ms) {
                if let Refusal::Rejected(why) = &refusal {
                    self.duties().refuse(transaction, sender, why);
                }
                return Err(refusal);
            }
            self.duties().add(verified, sender)?;
            return Ok(hash);
        }
        let fee = verified.signed().admission_fee(params);
        let account = read::account(state, &transaction.sender);
        let (nonce, next) = (transaction.nonce, account.nonce);
        if nonce < next {
            return Err(Refusal::NonceTooLow { nonce, next });
        }
        self.payments().add(verified, fee, &account, &self.limits)?;
        Ok(hash)
    }

    /// Removes payments that their accounts can no longer pay for, and, once in each phase, duties
    /// that the rules no longer accept.
    fn tidy(&self, state: &dyn StateRead, now_ms: u64) {
        let mut payments = self.payments();
        for address in std::mem::take(&mut payments.charged) {
            payments.limit_to(address, &read::account(state, &address));
        }
        drop(payments);
        let clock = read::clock(state);
        let phase = Some((clock.epoch, clock.phase));
        let mut duties = self.duties();
        if duties.judged != phase {
            duties.judged = phase;
            duties.retain(|verified| judge(verified, state, now_ms).is_ok());
        }
    }

    /// Removes what a finalized block settles: its transactions, others with their nonces, and
    /// expired ones.
    pub(crate) fn finalized(&self, transactions: &[SignedTransaction], timestamp_ms: u64) {
        let mut tips = self.tips.lock();
        tips.last_blocks.push(transactions);
        tips.suggested = None;
        drop(tips);
        let (mut duties, mut payments) = (self.duties(), self.payments());
        duties.hear_all();
        for signed in transactions {
            let transaction = signed.transaction();
            if transaction.action.is_duty() {
                duties.execute(signed.hash());
            } else {
                payments.finalized((transaction.sender, transaction.nonce));
            }
        }
        duties.expire(timestamp_ms);
        payments.expire(timestamp_ms);
    }
}

/// Whether the rules accept a duty after the last block.
fn judge(
    verified: &VerifiedTransaction,
    state: &dyn StateRead,
    now_ms: u64,
) -> Result<(), Refusal> {
    let next = BlockInfo { height: 0, timestamp_ms: now_ms, proposer: Address([0; 32]) };
    match check(state, &next, verified) {
        Ok(_) => Ok(()),
        Err(Rejection::Expired { valid_until_ms, .. }) => {
            Err(Refusal::Expired { valid_until_ms, now_ms })
        }
        Err(rejection) => Err(Refusal::Rejected(rejection)),
    }
}

impl Pool for Mempool {
    fn verify(
        &self,
        transactions: Vec<SignedTransaction>,
        chain: &Hash,
    ) -> Vec<Result<VerifiedTransaction, Error>> {
        let known = |hash: &Hash| self.verified.lock().hashes.contains(hash);
        let answers = verify_batch_unless(transactions, chain, known);
        let mut verified = self.verified.lock();
        for transaction in answers.iter().flatten() {
            verified.insert(transaction.hash());
        }
        drop(verified);
        answers
    }

    fn candidates(&self) -> Box<dyn Candidates + '_> {
        Box::new(Selection::new(self.clone()))
    }

    fn refused(&self, refused: &[Refused]) {
        let (mut duties, mut payments) = (self.duties(), self.payments());
        for Refused { transaction, .. } in refused {
            let hash = transaction.hash();
            duties.remove(&hash);
            if let Some(place) = payments.places.get(&hash).copied() {
                payments.remove_from(place);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
