//! What a chain begins with, and what a block does to its state. Pure: no disk, no network, no
//! clock.

use std::collections::BTreeMap;

use commonware_cryptography::{blake3::Digest, ed25519::PublicKey};
use commonware_runtime::Spawner;
use commonware_storage::Context as StorageContext;
use soma_proof::EMPTY;
use soma_protocol::{
    Address, BlockInfo, Built, Changes, Genesis, Hash, InvalidBlock, MemoryState, Outcome,
    RulesRange, Ruleset, StateRead, VerifiedTransaction, read, verify_batch,
};
use soma_store::{database, history::FinalizedBlock};

use super::committees::{Voter, digest_of, voters};
use crate::{
    EngineError, Pool,
    block::{Block, StateCommitment, hash},
    keys::public_key,
    settings::Deviation,
};

/// The chain: its first block and what every block does.
pub(crate) struct Rules {
    pub(crate) chain: Hash,
    pub(crate) genesis: Block,
    /// The effect of genesis, which block 1 writes.
    genesis_changes: Changes,
    ruleset: Ruleset,
    pub(crate) deviation: Deviation,
}

impl Rules {
    /// The rules of a chain.
    ///
    /// # Errors
    /// [`EngineError::Genesis`], [`EngineError::NoValidators`], [`EngineError::ValidatorKey`].
    pub(crate) fn new<E: Spawner + StorageContext>(
        genesis: &Genesis,
        ruleset: Ruleset,
        deviation: Deviation,
    ) -> Result<Self, EngineError> {
        let chain = genesis.chain_id();
        let (leader, proposer) = first_validator(genesis)?;
        // No state yet: block 1 writes that of genesis.
        let log = database::empty_commitment::<E>();
        let empty = StateCommitment { root: Digest(EMPTY.0), log };
        let genesis_changes = genesis.state()?;
        let memory = memory_of(&genesis_changes);
        let seats = digest_of(&voters(&read::committee(&memory).seats));
        let (timestamp_ms, version) = (genesis.timestamp_ms, read::rules(&memory).version);
        Ok(Self {
            chain,
            genesis: Block::genesis(chain, leader, proposer, timestamp_ms, empty, seats, version),
            genesis_changes,
            ruleset,
            deviation,
        })
    }

    /// The state at genesis.
    pub(crate) fn genesis_state(&self) -> MemoryState {
        memory_of(&self.genesis_changes)
    }

    /// Who votes from the first block on.
    pub(crate) fn genesis_voters(&self) -> Vec<Voter> {
        voters(&read::committee(&self.genesis_state()).seats)
    }

    /// The versions of the rules that this node executes.
    pub(crate) const fn versions(&self) -> RulesRange {
        self.ruleset.versions()
    }

    /// Checks that this node executes the blocks after `height`, which follow rules of `version`.
    ///
    /// # Errors
    /// [`EngineError::OtherRules`].
    pub(crate) fn check_version(&self, height: u64, version: u16) -> Result<(), EngineError> {
        let executed = self.versions();
        if executed.contains(version) {
            return Ok(());
        }
        Err(EngineError::OtherRules { height, version, executed })
    }

    /// Executes the transactions of a block and everything else that happens at its height.
    ///
    /// # Errors
    /// [`InvalidBlock`]: the block must not be part of the chain, or it follows other rules.
    pub(crate) fn execute(
        &self,
        base: &dyn StateRead,
        info: &BlockInfo,
        transactions: &[VerifiedTransaction],
    ) -> Result<Outcome, InvalidBlock> {
        let outcome = self.ruleset.execute(base, info, transactions)?;
        Ok(self.complete(info, outcome))
    }

    /// Builds a block from the pool, with everything else that happens at its height.
    ///
    /// # Errors
    /// [`InvalidBlock::OtherRules`].
    pub(crate) fn build(
        &self,
        base: &dyn StateRead,
        info: &BlockInfo,
        pool: &dyn Pool,
    ) -> Result<Built, InvalidBlock> {
        let mut built = self.ruleset.build(base, info, &mut *pool.candidates())?;
        if !built.refused.is_empty() {
            pool.refused(&built.refused);
        }
        built.outcome = self.complete(info, built.outcome);
        Ok(built)
    }

    /// Adds to the outcome of a block what the rules do not know.
    fn complete(&self, info: &BlockInfo, mut outcome: Outcome) -> Outcome {
        if let Deviation::Bug(distort) = &self.deviation {
            distort(info, &mut outcome);
        }
        if info.height == 1 {
            // Genesis has no commit of its own; block 1 writes its changes, and those of block 1
            // take precedence.
            let mut changes = self.genesis_changes.clone();
            changes.0.extend(std::mem::take(&mut outcome.changes.0));
            outcome.changes = changes;
        }
        outcome
    }

    /// Executes a stored block on the state before it.
    ///
    /// # Errors
    /// [`EngineError::StateMismatch`] if a signature or the block is invalid,
    /// [`EngineError::OtherRules`].
    pub(crate) fn replay(
        &self,
        memory: &mut MemoryState,
        block: &Block,
        digest: Hash,
    ) -> Result<FinalizedBlock, EngineError> {
        let info = info_of(block);
        let transactions: Vec<_> = verify_batch(block.transactions().to_vec(), &self.chain)
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|_| EngineError::StateMismatch { height: info.height })?;
        self.check_version(info.height.saturating_sub(1), read::rules(memory).version)?;
        let outcome = self
            .execute(memory, &info, &transactions)
            .map_err(|_| EngineError::StateMismatch { height: info.height })?;
        memory.apply(&outcome.changes);
        Ok(finalized_block(block, digest, &outcome))
    }
}

fn memory_of(changes: &Changes) -> MemoryState {
    let mut memory = MemoryState::default();
    memory.apply(changes);
    memory
}

/// What the protocol needs to know about a block besides its transactions.
pub(crate) fn info_of(block: &Block) -> BlockInfo {
    let header = block.header();
    BlockInfo {
        height: header.height.get(),
        timestamp_ms: header.timestamp_ms,
        proposer: header.proposer,
    }
}

/// A finalized block as the history records it.
pub(crate) fn finalized_block(block: &Block, digest: Hash, outcome: &Outcome) -> FinalizedBlock {
    let header = block.header();
    FinalizedBlock {
        height: header.height.get(),
        digest,
        parent: hash(header.parent),
        timestamp_ms: header.timestamp_ms,
        proposer: header.proposer,
        state_root: hash(header.state.root),
        transactions: block.transactions().to_vec(),
        receipts: outcome.receipts.clone(),
        events: outcome.events.clone(),
    }
}

/// The validator that the genesis block names: the one with the lowest key. All keys are checked.
fn first_validator(genesis: &Genesis) -> Result<(PublicKey, Address), EngineError> {
    let validators = genesis.validators.iter().map(|validator| {
        let key = public_key(&validator.consensus_key)
            .ok_or(EngineError::ValidatorKey { validator: validator.address })?;
        Ok::<_, EngineError>((key, validator.address))
    });
    let validators: BTreeMap<_, _> = validators.collect::<Result<_, _>>()?;
    validators.into_iter().next().ok_or(EngineError::NoValidators)
}
