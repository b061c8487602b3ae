//! Executes one block: the end of a phase whose time is up, then the transactions in order, then
//! their fees. A transaction has all its effects, or none but its sender's nonce and base fee.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::action::{Action, Context};
use crate::read::ChainConfig;
use crate::record::{Account, Clock};
use crate::state::{Changes, Draft, Key, StateRead};
use crate::transaction::{Transaction, VerifiedTransaction};
use crate::{Amount, BlockInfo, Event, Hash, Rejection, epoch, money, read};

/// The result of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Changes to the state.
    pub changes: Changes,
    /// Receipts of its transactions, in order.
    pub receipts: Vec<Receipt>,
    /// Events, in order.
    pub events: Vec<Event>,
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

struct Executor<'a> {
    state: Draft<'a>,
    block: &'a BlockInfo,
    config: ChainConfig,
    clock: Clock,
    fees: Amount,
    events: Vec<Event>,
}

/// Executes a block on a state produced by genesis or earlier blocks.
///
/// # Panics
/// If `base` is not such a state.
pub fn execute(
    base: &dyn StateRead,
    block: &BlockInfo,
    transactions: &[VerifiedTransaction],
) -> Outcome {
    let mut executor = Executor::new(base, block);
    executor.begin();
    let receipts = (0..)
        .zip(transactions)
        .map(|(index, transaction)| executor.run(index, transaction))
        .collect();
    executor.settle_fees();
    let Executor { state, events, .. } = executor;
    Outcome { changes: state.into_changes(), receipts, events }
}

/// The result that a transaction would have if it came next, in a block at that time; for mempools.
/// The changes are its effects, without fees.
///
/// # Panics
/// If `base` is not a state produced by genesis or blocks.
pub fn check(
    base: &dyn StateRead,
    block: &BlockInfo,
    transaction: &VerifiedTransaction,
) -> (Receipt, Changes) {
    let mut executor = Executor::new(base, block);
    let receipt = executor.run(0, transaction);
    (receipt, executor.state.into_changes())
}

impl<'a> Executor<'a> {
    fn new(base: &'a dyn StateRead, block: &'a BlockInfo) -> Self {
        Self {
            state: Draft::new(base),
            block,
            config: ChainConfig::read(base),
            clock: read::clock(base),
            fees: Amount::ZERO,
            events: Vec::new(),
        }
    }

    /// Ends the running phase if its time is up. A halt of the chain ends no phase: a gap between
    /// two blocks counts as at most `halt_ms`, and at most one phase ends in a block.
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
        if deadline.is_some_and(|deadline| self.block.timestamp_ms >= deadline) {
            epoch::end_phase(&mut self.state, &self.config, self.block, &mut self.events);
            self.refresh();
        }
    }

    fn refresh(&mut self) {
        self.clock = read::clock(&self.state);
        self.config.params = read::params(&self.state);
        self.config.network = read::network(&self.state);
    }

    fn run(&mut self, index: u32, verified: &VerifiedTransaction) -> Receipt {
        let hash = verified.hash();
        let transaction = verified.transaction();
        let (fee, result) = match self.admit(transaction) {
            Err(rejection) => (Amount::ZERO, Err(rejection)),
            Ok((sender, base_fee)) => self.act(index, transaction, sender, base_fee),
        };
        self.fees = self.fees.plus(fee);
        if result.is_ok() && matches!(transaction.action, Action::EndPhase(_)) {
            self.refresh();
        }
        Receipt { hash, fee, result }
    }

    /// The sender's account after taking nonce and base fee, and that fee. Nothing is written yet.
    fn admit(&self, transaction: &Transaction) -> Result<(Account, Amount), Rejection> {
        let block_ms = self.block.timestamp_ms;
        let valid_until_ms = transaction.valid_until_ms;
        if transaction.chain != self.config.network.chain_id {
            return Err(Rejection::WrongChain { found: transaction.chain });
        }
        if valid_until_ms < block_ms {
            return Err(Rejection::Expired { valid_until_ms, block_ms });
        }
        let mut account = read::account(&self.state, &transaction.sender);
        if transaction.nonce != account.nonce {
            return Err(Rejection::WrongNonce {
                expected: account.nonce,
                found: transaction.nonce,
            });
        }
        let free = transaction.action.is_free();
        let fee = if free { Amount::ZERO } else { self.config.params.base_fee };
        if fee > transaction.fee_limit {
            return Err(Rejection::FeeLimit { fee, limit: transaction.fee_limit });
        }
        let available = account.balance;
        let rest = available.minus(fee);
        account.balance = rest.ok_or(Rejection::InsufficientBalance { needed: fee, available })?;
        account.nonce = account.nonce.saturating_add(1);
        Ok((account, fee))
    }

    fn act(
        &mut self,
        index: u32,
        transaction: &Transaction,
        sender: Account,
        base_fee: Amount,
    ) -> (Amount, Result<(), Rejection>) {
        let mut context = Context {
            state: Draft::new(&self.state),
            config: &self.config,
            block: self.block,
            index,
            sender: transaction.sender,
            clock: self.clock,
            events: Vec::new(),
        };
        let account = Key::account(&transaction.sender);
        context.state.save(account, &sender);
        let charged = transaction
            .action
            .apply(&mut context)
            .and_then(|()| charge_bytes(&mut context, transaction, base_fee));
        match charged {
            Ok(fee) => {
                let Context { state, events, .. } = context;
                let changes = state.into_changes();
                self.state.extend(changes);
                self.events.extend(events);
                (fee, Ok(()))
            }
            Err(rejection) => {
                self.state.save(account, &sender);
                (base_fee, Err(rejection))
            }
        }
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

/// Takes the fee for what the action has written; returns the total fee.
fn charge_bytes(
    context: &mut Context<'_>,
    transaction: &Transaction,
    base_fee: Amount,
) -> Result<Amount, Rejection> {
    if transaction.action.is_free() {
        return Ok(Amount::ZERO);
    }
    let written = context.state.changes().0.values().flatten().map(|value| value.len());
    let bytes = u64::try_from(written.fold(0, usize::saturating_add)).unwrap_or(u64::MAX);
    let byte_fee = context.config.params.byte_fee.times(bytes);
    let fee = base_fee.plus(byte_fee);
    if fee > transaction.fee_limit {
        return Err(Rejection::FeeLimit { fee, limit: transaction.fee_limit });
    }
    money::debit(&mut context.state, &transaction.sender, byte_fee)?;
    Ok(fee)
}
