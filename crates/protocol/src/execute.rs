//! Executes or builds one block: the end of a phase whose time is up, then the transactions in
//! order, then their fees. A payment has all its effects, or none but its sender's nonce and the
//! fee for itself; a duty has all its effects, or no place in a block.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context};
use crate::candidates::Candidates;
use crate::read::ChainConfig;
use crate::record::{Account, Clock};
use crate::room::Room;
use crate::state::{Changes, Draft, Key, StateRead};
use crate::transaction::{Transaction, VerifiedTransaction};
use crate::{
    Amount, BlockInfo, Defense, Event, Hash, Rejection, RulesRange, Ruleset, epoch, money, read,
};

/// The result of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Changes to the state.
    pub changes: Changes,
    /// Receipts of its transactions, in order.
    pub receipts: Vec<Receipt>,
    /// Events, in order.
    pub events: Vec<Event>,
    /// The work that its beginning spent on tasks, in units of about a microsecond.
    pub task_work: u64,
}

/// The result of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Receipt {
    /// Its hash.
    pub hash: Hash,
    /// The fee that was charged.
    pub fee: Amount,
    /// Whether it was executed, or why it was rejected.
    pub result: Result<(), Rejection>,
}

/// Why a block is not executed. It is invalid, and whoever proposed it could have known, or it
/// follows [other rules](Self::OtherRules).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBlock {
    /// A payment that cannot pay, or a duty that the rules reject.
    #[error("transaction {hash} does not belong into the block: {rejection}")]
    Inadmissible {
        /// The transaction.
        hash: Hash,
        /// What is wrong with it.
        #[source]
        rejection: Rejection,
    },
    /// The block holds too much.
    #[error("transaction {hash} exceeds the room of the block")]
    NoRoom {
        /// The first transaction that has no room.
        hash: Hash,
    },
    /// The block follows rules that this software does not execute. It may be valid.
    #[error("the block follows rules {version}, and this software executes {executed}")]
    OtherRules {
        /// The version of the rules.
        version: u16,
        /// What this software executes.
        executed: RulesRange,
    },
}

/// A block that was built from candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// Its transactions, in order.
    pub included: Vec<VerifiedTransaction>,
    /// Candidates that cannot be part of such a block, or that no block will ever include.
    pub refused: Vec<Refused>,
    /// The result of the block.
    pub outcome: Outcome,
}

/// A candidate that cannot be part of the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The candidate.
    pub transaction: VerifiedTransaction,
    /// Why.
    pub rejection: Rejection,
}

/// Executes a block on a state produced by genesis or earlier blocks.
///
/// # Errors
/// [`InvalidBlock`]: no such block may be part of the chain.
///
/// # Panics
/// If `base` is not such a state.
pub fn execute(
    base: &dyn StateRead,
    block: &BlockInfo,
    transactions: &[VerifiedTransaction],
) -> Result<Outcome, InvalidBlock> {
    Ruleset::WHOLE.execute(base, block, transactions)
}

/// Builds a block from candidates, until there are no more. What was included is a valid block, and
/// [`execute`] has the same outcome.
///
/// # Errors
/// [`InvalidBlock::OtherRules`].
///
/// # Panics
/// If `base` is not a state produced by genesis or blocks.
pub fn build(
    base: &dyn StateRead,
    block: &BlockInfo,
    candidates: &mut dyn Candidates,
) -> Result<Built, InvalidBlock> {
    Ruleset::WHOLE.build(base, block, candidates)
}

/// The result that a transaction would have if it came next, in a block at that time; for mempools.
/// The changes are its effects, fees included.
///
/// # Errors
/// Why no block at that time could include it.
///
/// # Panics
/// If `base` is not a state produced by genesis or blocks.
pub fn check(
    base: &dyn StateRead,
    block: &BlockInfo,
    transaction: &VerifiedTransaction,
) -> Result<(Receipt, Changes), Rejection> {
    Ruleset::WHOLE.check(base, block, transaction)
}

impl Ruleset {
    /// These rules, of the version that the block after `base` follows.
    ///
    /// # Errors
    /// [`InvalidBlock::OtherRules`].
    ///
    /// # Panics
    /// If `base` is not a state produced by genesis or blocks.
    pub fn after(&self, base: &dyn StateRead) -> Result<Self, InvalidBlock> {
        let version = read::rules(base).version;
        let executed = self.versions();
        self.of(version).ok_or(InvalidBlock::OtherRules { version, executed })
    }

    /// [`execute`], under these rules.
    ///
    /// # Errors
    /// [`InvalidBlock`]: no such block may be part of the chain, or it follows other rules.
    ///
    /// # Panics
    /// If `base` is not a state produced by genesis or blocks.
    pub fn execute(
        &self,
        base: &dyn StateRead,
        block: &BlockInfo,
        transactions: &[VerifiedTransaction],
    ) -> Result<Outcome, InvalidBlock> {
        let mut executor = Executor::new(base, block, self.after(base)?);
        executor.begin();
        for transaction in transactions {
            let hash = transaction.hash();
            if !executor.has_room(transaction) {
                return Err(InvalidBlock::NoRoom { hash });
            }
            executor
                .include(transaction)
                .map_err(|rejection| InvalidBlock::Inadmissible { hash, rejection })?;
        }
        Ok(executor.finish())
    }

    /// [`build`], under these rules.
    ///
    /// # Errors
    /// [`InvalidBlock::OtherRules`].
    ///
    /// # Panics
    /// If `base` is not a state produced by genesis or blocks.
    pub fn build(
        &self,
        base: &dyn StateRead,
        block: &BlockInfo,
        candidates: &mut dyn Candidates,
    ) -> Result<Built, InvalidBlock> {
        let mut executor = Executor::new(base, block, self.after(base)?);
        executor.begin();
        let (mut included, mut refused) = (Vec::new(), Vec::new());
        while let Some(candidate) = candidates.offer(&executor.state, &executor.room) {
            if !executor.has_room(&candidate) {
                continue;
            }
            match executor.include(&candidate) {
                Ok(()) => included.push(candidate),
                Err(rejection) => refused.push(Refused { transaction: candidate, rejection }),
            }
        }
        Ok(Built { included, refused, outcome: executor.finish() })
    }

    /// [`check`], under these rules.
    ///
    /// # Errors
    /// Why no block at that time could include the transaction.
    ///
    /// # Panics
    /// If `base` is not a state produced by genesis or blocks.
    pub fn check(
        &self,
        base: &dyn StateRead,
        block: &BlockInfo,
        transaction: &VerifiedTransaction,
    ) -> Result<(Receipt, Changes), Rejection> {
        // A node that does not execute what comes next is about to stop: its pool may say anything.
        let rules = self.after(base).unwrap_or(*self);
        let mut executor = Executor::new(base, block, rules);
        executor.include(transaction)?;
        let Executor { state, mut receipts, .. } = executor;
        let hash = transaction.hash();
        let receipt = receipts.pop().unwrap_or(Receipt { hash, fee: Amount::ZERO, result: Ok(()) });
        Ok((receipt, state.into_changes()))
    }
}

/// What an action does.
struct Effects {
    changes: Changes,
    events: Vec<Event>,
    fee: Amount,
}

struct Executor<'a> {
    state: Draft<'a>,
    block: &'a BlockInfo,
    config: ChainConfig,
    clock: Clock,
    room: Room,
    fees: Amount,
    receipts: Vec<Receipt>,
    events: Vec<Event>,
    task_work: u64,
}

impl<'a> Executor<'a> {
    fn new(base: &'a dyn StateRead, block: &'a BlockInfo, rules: Ruleset) -> Self {
        Self {
            state: Draft::new(base),
            block,
            config: ChainConfig::read(base, rules),
            clock: read::clock(base),
            room: Room::under(&rules),
            fees: Amount::ZERO,
            receipts: Vec::new(),
            events: Vec::new(),
            task_work: 0,
        }
    }

    /// Works on waiting tasks, and ends the running phase if its time is up and none is left. A
    /// halt of the chain ends no phase: a gap between two blocks counts as at most `halt_ms`, and
    /// at most one phase ends in a block.
    fn begin(&mut self) {
        if self.config.params.epoch_ms > 0 {
            let now_ms = self.block.timestamp_ms;
            let gap_ms = now_ms.saturating_sub(self.clock.block_ms);
            let halted_ms = gap_ms.saturating_sub(self.config.params.halt_ms);
            self.clock.phase_started_ms = self.clock.phase_started_ms.saturating_add(halted_ms);
            self.clock.block_ms = now_ms;
            self.state.save(Key::clock(), &self.clock);
        }
        let deadline = epoch::deadline_ms(&self.clock, &self.config.params);
        let due = deadline.is_some_and(|deadline| self.block.timestamp_ms >= deadline);
        let (state, rules) = (&mut self.state, &self.config.rules);
        if let Some(work) = epoch::begin_block(state, rules, self.block, due, &mut self.events) {
            self.task_work = work;
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        self.clock = read::clock(&self.state);
        self.config.params = read::params(&self.state);
        self.config.network = read::network(&self.state);
    }

    fn has_room(&self, verified: &VerifiedTransaction) -> bool {
        self.room.without(verified.signed()).is_some()
    }

    /// Executes a transaction that has room.
    ///
    /// # Errors
    /// Why no block may include it. Nothing has changed then.
    fn include(&mut self, verified: &VerifiedTransaction) -> Result<(), Rejection> {
        let transaction = verified.transaction();
        self.check_validity(transaction)?;
        let (fee, result) = if transaction.action.is_duty() {
            (Amount::ZERO, self.perform(transaction)?)
        } else {
            self.pay(verified)?
        };
        self.room = self.room.without(verified.signed()).unwrap_or(self.room);
        self.fees = self.fees.plus(fee);
        self.receipts.push(Receipt { hash: verified.hash(), fee, result });
        if matches!(transaction.action, Action::EndPhase(_)) {
            self.refresh();
        }
        Ok(())
    }

    fn check_validity(&self, transaction: &Transaction) -> Result<(), Rejection> {
        let block_ms = self.block.timestamp_ms;
        let valid_until_ms = transaction.valid_until_ms;
        if transaction.chain != self.config.network.chain_id {
            return Err(Rejection::WrongChain { found: transaction.chain });
        }
        if valid_until_ms < block_ms {
            return Err(Rejection::Expired { valid_until_ms, block_ms });
        }
        Ok(())
    }

    /// Performs a duty, which must succeed.
    fn perform(&mut self, transaction: &Transaction) -> Result<Result<(), Rejection>, Rejection> {
        let effects = check_duty(transaction);
        match effects.and_then(|()| self.act(transaction, Amount::ZERO)) {
            Ok(effects) => {
                self.keep(effects);
                Ok(Ok(()))
            }
            Err(rejection) if self.config.defends(Defense::DutyValidity) => Err(rejection),
            Err(rejection) => Ok(Err(rejection)),
        }
    }

    /// Charges a payment for itself, then lets it act. It pays whatever comes of that, so that
    /// nobody can use the room of a block for nothing. Returns fee and result.
    fn pay(
        &mut self,
        verified: &VerifiedTransaction,
    ) -> Result<(Amount, Result<(), Rejection>), Rejection> {
        let transaction = verified.transaction();
        let fee = verified.signed().admission_fee(&self.config.params);
        let account = self.charged(transaction, fee)?;
        self.state.save(Key::account(&transaction.sender), &account);
        Ok(match self.act(transaction, fee) {
            Ok(effects) => {
                let total = fee.plus(effects.fee);
                self.keep(effects);
                (total, Ok(()))
            }
            Err(rejection) if self.config.defends(Defense::AdmissionFee) => (fee, Err(rejection)),
            Err(rejection) => {
                money::credit(&mut self.state, &transaction.sender, fee);
                (Amount::ZERO, Err(rejection))
            }
        })
    }

    /// The sender's account after taking nonce and fee.
    fn charged(&self, transaction: &Transaction, fee: Amount) -> Result<Account, Rejection> {
        let mut account = read::account(&self.state, &transaction.sender);
        if transaction.nonce != account.nonce {
            return Err(Rejection::WrongNonce {
                expected: account.nonce,
                found: transaction.nonce,
            });
        }
        if fee > transaction.fee_limit {
            return Err(Rejection::FeeLimit { fee, limit: transaction.fee_limit });
        }
        let available = account.balance;
        let rest = available.minus(fee);
        account.balance = rest.ok_or(Rejection::InsufficientBalance { needed: fee, available })?;
        account.nonce = account.nonce.saturating_add(1);
        Ok(account)
    }

    /// The effects of an action whose sender has been charged `paid`, and has paid for them.
    fn act(&self, transaction: &Transaction, paid: Amount) -> Result<Effects, Rejection> {
        let sender = &transaction.sender;
        let by_duty_key = transaction.action.is_by_duty_key();
        let mut context = Context {
            state: Draft::new(&self.state),
            config: &self.config,
            block: self.block,
            index: u32::try_from(self.receipts.len()).unwrap_or(u32::MAX),
            signer: *sender,
            sender: if by_duty_key { read::acts_for(&self.state, sender) } else { *sender },
            clock: self.clock,
            events: Vec::new(),
        };
        transaction.action.apply(&mut context)?;
        check_lengths(&context)?;
        let mut fee = Amount::ZERO;
        if !transaction.action.is_duty() {
            let changes = context.state.changes();
            let room_bytes = transaction.action.room_bytes();
            fee = money::fee::for_records(&self.state, changes, room_bytes, &self.config);
            let total = paid.plus(fee);
            if total > transaction.fee_limit {
                return Err(Rejection::FeeLimit { fee: total, limit: transaction.fee_limit });
            }
            money::debit(&mut context.state, sender, fee)?;
        }
        let Context { state, events, .. } = context;
        Ok(Effects { changes: state.into_changes(), events, fee })
    }

    fn keep(&mut self, effects: Effects) {
        self.state.extend(effects.changes);
        self.events.extend(effects.events);
    }

    fn finish(mut self) -> Outcome {
        self.settle_fees();
        let Executor { state, receipts, events, task_work, .. } = self;
        Outcome { changes: state.into_changes(), receipts, events, task_work }
    }

    /// Adds the fees of the whole block to the supply at once, so that no two transactions write
    /// the same record.
    fn settle_fees(&mut self) {
        if self.fees == Amount::ZERO {
            return;
        }
        let mut supply = read::supply(&self.state);
        let burned = self.fees.bps(self.config.params.burn_bps);
        supply.burned = supply.burned.plus(burned);
        supply.reserve = supply.reserve.plus(self.fees.less(burned));
        self.state.save(Key::supply(), &supply);
    }
}

/// A duty has no fee, and no nonce: it can succeed only once, because the state shows that it was
/// done. The account of its sender is neither read nor written.
fn check_duty(transaction: &Transaction) -> Result<(), Rejection> {
    let Transaction { nonce, tip, fee_limit, .. } = *transaction;
    if (nonce, tip, fee_limit) == (0, Amount::ZERO, Amount::ZERO) {
        Ok(())
    } else {
        Err(Rejection::DutyNotFree)
    }
}

/// Rejects what no store could read again. The bounds of records exclude it; see
/// [`Record::BYTES_MAX`](crate::state::Record::BYTES_MAX).
fn check_lengths(context: &Context<'_>) -> Result<(), Rejection> {
    if context.state.is_too_long() { Err(Rejection::Full) } else { Ok(()) }
}
