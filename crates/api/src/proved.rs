//! Questions to a node whose word does not count: it proves records, and what the API would say is
//! computed here.

use std::future::Future;

use serde::de::DeserializeOwned;
use soma_codes::Code;
use soma_proof::Header;
use soma_protocol::record::EpochRecord;
use soma_protocol::{
    Address, Architecture, Epoch as EpochId, Genesis, Key, ModelId, Params, RulesRange, StateRead,
    TargetId, hex, read,
};

use crate::text::Text;
use crate::unproved::{Unproved, VerifyError};
use crate::verifier::{PartialState, Verifier, every_state};
use crate::{
    Account, Epoch, Governance, Handovers, Migration, Model, Proof, Status, Target, Vector, Winner,
    answers, routes,
};

/// How often an answer is computed before all that it reads is known: records that name others.
const ROUNDS: usize = 8;
/// The most answers with handovers in a row: two years of a committee that changes every day.
const HANDOVER_PAGES_MAX: usize = 32;
/// Models that are looked at in one proof.
const MODELS_AT_ONCE: usize = 40;
/// The most models that are looked for in an account.
const MODELS_MAX: usize = 1_000;

/// A node that can be asked. It may lie.
pub trait Node: Sync {
    /// Why there is no answer.
    type Error: From<VerifyError>;

    /// The node, as errors name it.
    fn url(&self) -> &str;

    /// What the node answers at a path of its API; `None` if it says that there is nothing (404).
    fn ask<T: DeserializeOwned + Send>(
        &self,
        path: &str,
    ) -> impl Future<Output = Result<Option<T>, Self::Error>> + Send;
}

/// The part of a node's API that the node proves.
///
/// # Errors
/// A question fails with [`VerifyError`], among which is [`VerifyError::Missing`] for what is
/// proved not to exist, or as the node is asked.
#[derive(Debug)]
pub struct Proved<'a, N> {
    node: &'a N,
    verifier: &'a Verifier,
}

impl<'a, N: Node> Proved<'a, N> {
    /// What `node` says, checked by `verifier`.
    pub const fn by(node: &'a N, verifier: &'a Verifier) -> Self {
        Self { node, verifier }
    }

    /// The chain as it is proved, and of the node what it says about itself.
    pub async fn status(&self) -> Result<Status, N::Error> {
        let said: Status = self.ask(routes::STATUS).await?;
        let executed = RulesRange { min: said.rules.min, max: said.rules.max };
        let answer =
            |state: &dyn StateRead| (answers::clock(state), answers::rules(state, executed));
        let ((clock, rules), header) = self.compute_at(answer).await?;
        Ok(Status {
            chain_id: Text(self.verifier.chain()),
            height: Text(header.height),
            block: Text(header.digest),
            state_root: Text(header.state_root),
            timestamp_ms: Text(header.timestamp_ms),
            clock,
            rules,
            ..said
        })
    }

    /// The parameters in force.
    pub async fn params(&self) -> Result<Params, N::Error> {
        self.compute(read::params).await
    }

    /// The architecture in force.
    pub async fn architecture(&self) -> Result<Architecture, N::Error> {
        self.compute(|state| read::network(state).architecture).await
    }

    /// An account as it is proved. Of what the node says count the next nonce, if it is not below
    /// the account's, and those models that are the account's: it can leave out some.
    pub async fn account(&self, address: Address) -> Result<Account, N::Error> {
        let said: Account = self.ask(&routes::path(routes::ACCOUNT, address)).await?;
        let next_nonce = said.next_nonce.0;
        let answer = |state: &dyn StateRead| answers::account(state, 0, address, next_nonce);
        let (account, header) = self.compute_at(answer).await?;
        let (mut models, mut said) = (Vec::new(), said.models);
        said.sort_unstable();
        said.dedup();
        if said.len() > MODELS_MAX {
            return Err(self.unproved(Unproved::TooMuch));
        }
        for ids in said.chunks(MODELS_AT_ONCE) {
            let owned = |state: &dyn StateRead| {
                let is_theirs = |id: &u32| {
                    read::model(state, ModelId(*id)).is_some_and(|model| model.owner == address)
                };
                ids.iter().copied().filter(is_theirs).collect::<Vec<_>>()
            };
            models.extend(self.compute(owned).await?);
        }
        Ok(Account { height: Text(header.height), models, ..account })
    }

    /// An epoch that has begun.
    pub async fn epoch(&self, epoch: EpochId) -> Result<Epoch, N::Error> {
        let path = routes::path(routes::EPOCH, epoch);
        self.found(path, Code::EpochNotFound, |state| answers::epoch(state, epoch)).await
    }

    /// A model.
    pub async fn model(&self, id: ModelId) -> Result<Model, N::Error> {
        let path = routes::path(routes::MODEL, id);
        self.found(path, Code::ModelNotFound, |state| answers::model(state, id)).await
    }

    /// A model's specialization, now or as the targets of an epoch were drawn.
    pub async fn specialization(
        &self,
        id: ModelId,
        epoch: Option<EpochId>,
    ) -> Result<Vector, N::Error> {
        let path = routes::specialization(id, epoch);
        let answer = |state: &dyn StateRead| answers::specialization(state, id, epoch);
        self.found(path, Code::SpecializationNotFound, answer).await
    }

    /// The targets of an epoch.
    pub async fn targets(&self, epoch: EpochId) -> Result<Vec<Target>, N::Error> {
        let ids = |state: &dyn StateRead| -> Vec<TargetId> {
            read::epoch(state, epoch).iter().flat_map(EpochRecord::target_ids).collect()
        };
        let mut targets = Vec::new();
        for id in self.compute(ids).await? {
            let answer = |state: &dyn StateRead| answers::target(state, id);
            targets.extend(self.compute(answer).await?);
        }
        Ok(targets)
    }

    /// A target.
    pub async fn target(&self, id: TargetId) -> Result<Target, N::Error> {
        let path = routes::path(routes::TARGET, id);
        self.found(path, Code::TargetNotFound, |state| answers::target(state, id)).await
    }

    /// The direction of a target.
    pub async fn direction(&self, id: TargetId) -> Result<Vector, N::Error> {
        let path = routes::path(routes::TARGET_DIRECTION, id);
        self.found(path, Code::TargetNotFound, |state| answers::direction(state, id)).await
    }

    /// The targets that were first won with data that has these pieces.
    pub async fn winners(&self, pieces: &[u64]) -> Result<Vec<Option<Winner>>, N::Error> {
        self.compute(|state| pieces.iter().map(|piece| answers::winner(state, *piece)).collect())
            .await
    }

    /// The architecture, the migration, the rules and the prices as they are proved; the rest is
    /// what the node has `said`: the proposals, what a seat needs, and which models are ready to
    /// migrate.
    pub async fn governance(&self, said: Governance) -> Result<Governance, N::Error> {
        let answer = |state: &dyn StateRead| {
            let number = read::architecture_number(state);
            let (migration, rent_price) = (read::migration(state), read::rent_price(state));
            let rules = answers::rules_in_force(state);
            let needed = read::params(state).models_per_target;
            (number, migration, needed, rent_price, read::file_room(state), rules)
        };
        let (architecture, migration, needed, rent_price, files_bytes, (rules, next_rules)) =
            self.compute(answer).await?;
        let ready = said.migration.map_or(Vec::new(), |migration| migration.ready);
        let migration = migration.map(|migration| Migration {
            ready,
            needed,
            number: migration.number,
            ends_epoch: migration.ends.0,
            architecture: migration.architecture,
        });
        let (rent_price, files_bytes) = (rent_price.into(), files_bytes.into());
        Ok(Governance {
            architecture,
            migration,
            rules,
            next_rules,
            rent_price,
            files_bytes,
            ..said
        })
    }

    /// What a node says where it must say something.
    pub(crate) async fn ask<T: DeserializeOwned + Send>(&self, path: &str) -> Result<T, N::Error> {
        // Nothing that is asked for without proof may be missing, and of what is missing that must
        // be proved.
        self.node.ask(path).await?.ok_or_else(|| self.unproved(Unproved::Withheld))
    }

    /// What `answer` finds in the state.
    async fn found<T>(
        &self,
        path: String,
        code: Code,
        answer: impl Fn(&dyn StateRead) -> Option<T>,
    ) -> Result<T, N::Error> {
        let found = self.compute(answer).await?;
        found.ok_or_else(|| VerifyError::Missing { path, code }.into())
    }

    /// What `answer` says of the state, of records that are all proved by one block.
    async fn compute<T>(&self, answer: impl Fn(&dyn StateRead) -> T) -> Result<T, N::Error> {
        Ok(self.compute_at(answer).await?.0)
    }

    /// The same, with the header of the block.
    async fn compute_at<T>(
        &self,
        answer: impl Fn(&dyn StateRead) -> T,
    ) -> Result<(T, Header), N::Error> {
        let mut keys = every_state().to_vec();
        for _ in 0..ROUNDS {
            // Boxed: every question of a client has it in its future.
            let (state, header) = Box::pin(self.records(&keys)).await?;
            let answered = answer(&state);
            let missed = state.missed();
            if missed.is_empty() {
                return Ok((answered, header));
            }
            keys.extend(missed);
            keys.sort_unstable();
            keys.dedup();
            if keys.len() > routes::PROVED_RECORDS_MAX {
                break;
            }
        }
        Err(self.unproved(Unproved::TooMuch))
    }

    /// What records are, by a block that is certified by the committee that handovers lead to.
    async fn records(&self, keys: &[Key]) -> Result<(PartialState, Header), N::Error> {
        let keys_text: Vec<String> = keys.iter().map(|key| hex::encode(&key.0)).collect();
        let path = format!("{}?keys={}", routes::PROOF, keys_text.join(","));
        let answer: Proof = self.ask(&path).await?;
        let height = Verifier::height_in(&answer).map_err(|reason| self.unproved(reason))?;
        self.follow(height).await?;
        let checked = self.verifier.check(keys, &answer);
        let (state, header) = checked.map_err(|reason| self.unproved(reason))?;
        // Not before: whoever names a false height must not keep handovers from being asked for.
        self.verifier.has_followed(header.height);
        Ok((state, header))
    }

    /// Follows the handovers before a block of this height.
    async fn follow(&self, height: u64) -> Result<(), N::Error> {
        if self.verifier.needs_genesis() {
            let genesis: Genesis = self.ask(routes::GENESIS).await?;
            let (found, expected) = (genesis.chain_id(), self.verifier.chain());
            if found != expected {
                let url = self.node.url().to_owned();
                return Err(VerifyError::OtherChain { url, found, expected }.into());
            }
            self.verifier.begin(&genesis)?;
        }
        if self.verifier.is_followed(height) {
            return Ok(());
        }
        for _ in 0..HANDOVER_PAGES_MAX {
            // Each page begins after the last handover of the one before.
            let after = self.verifier.reached();
            let query = after.map(|term| format!("?after={term}")).unwrap_or_default();
            let answer: Handovers = self.ask(&format!("{}{query}", routes::HANDOVERS)).await?;
            let followed = self.verifier.follow(self.node.url(), &answer)?;
            if followed < routes::HANDOVERS_MAX {
                return Ok(());
            }
        }
        Err(self.unproved(Unproved::TooMuch))
    }

    fn unproved(&self, reason: Unproved) -> N::Error {
        VerifyError::Unproved { url: self.node.url().to_owned(), reason }.into()
    }
}
