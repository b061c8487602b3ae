//! Questions to a node whose word does not count: it proves records, and what the API would say is
//! computed here.

use soma_codes::Code;
use soma_proof::Header;
use soma_protocol::record::EpochRecord;
use soma_protocol::{
    Address, Epoch as EpochId, ModelId, RulesRange, StateRead, TargetId, hex, read,
};

use super::Client;
use crate::answers;
use crate::api::text::Text;
use crate::api::{
    Account, ApiError, Governance, Handovers, Migration, Proof, Status, Target, routes,
};
use crate::error::SdkError;
use crate::unproved::Unproved;
use crate::verifier::{PartialState, Verifier, first_keys};

/// How often an answer is computed before all that it reads is known: records that name others.
const ROUNDS: usize = 8;
/// The most answers with handovers in a row: two years of a committee that changes every day.
const HANDOVER_PAGES_MAX: usize = 32;
/// Models that are looked at in one proof.
const MODELS_AT_ONCE: usize = 40;
/// The most models that are looked for in an account.
const MODELS_MAX: usize = 1_000;

impl Client {
    /// What `answer` says of the state, of records that are all proved by one block.
    pub(super) async fn proved<T>(
        &self,
        verifier: &Verifier,
        answer: impl Fn(&dyn StateRead) -> T,
    ) -> Result<T, SdkError> {
        Ok(self.proved_at(verifier, answer).await?.0)
    }

    /// The same, with the header of the block.
    async fn proved_at<T>(
        &self,
        verifier: &Verifier,
        answer: impl Fn(&dyn StateRead) -> T,
    ) -> Result<(T, Header), SdkError> {
        let mut keys = first_keys(&[]);
        for _ in 0..ROUNDS {
            // Boxed: every question of a client has it in its future.
            let (state, header) = Box::pin(self.records(verifier, &keys)).await?;
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
    async fn records(
        &self,
        verifier: &Verifier,
        keys: &[soma_protocol::Key],
    ) -> Result<(PartialState, Header), SdkError> {
        let keys_text: Vec<String> = keys.iter().map(|key| hex::encode(&key.0)).collect();
        let path = format!("{}?keys={}", routes::PROOF, keys_text.join(","));
        let answer: Proof = self.get(&path).await?;
        let height = Verifier::height_in(&answer).map_err(|reason| self.unproved(reason))?;
        self.follow(verifier, height).await?;
        let checked = verifier.check(keys, &answer);
        let (state, header) = checked.map_err(|reason| self.unproved(reason))?;
        // Not before: whoever names a false height must not keep handovers from being asked for.
        verifier.has_followed(header.height);
        Ok((state, header))
    }

    /// Follows the handovers before a block of this height.
    async fn follow(&self, verifier: &Verifier, height: u64) -> Result<(), SdkError> {
        let _alone = verifier.following().await;
        if verifier.needs_genesis() {
            verifier.begin(&self.genesis(verifier.chain()).await?)?;
        }
        if verifier.is_followed(height) {
            return Ok(());
        }
        for _ in 0..HANDOVER_PAGES_MAX {
            // Each page begins after the last handover of the one before.
            let query = verifier.reached().map(|term| format!("?after={term}")).unwrap_or_default();
            let answer: Handovers = self.get(&format!("{}{query}", routes::HANDOVERS)).await?;
            let followed = verifier.follow(&self.url, &answer)?;
            if followed < routes::HANDOVERS_MAX {
                return Ok(());
            }
        }
        Err(self.unproved(Unproved::TooMuch))
    }

    fn unproved(&self, reason: Unproved) -> SdkError {
        SdkError::Unproved { url: self.url.clone(), reason }
    }

    /// What a route answers about something that may not be there: computed of proved records if
    /// this client verifies.
    pub(super) async fn found<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        missing: Code,
        answer: impl Fn(&dyn StateRead) -> Option<T>,
    ) -> Result<T, SdkError> {
        let Some(verifier) = &self.verifier else { return self.get(path).await };
        let found = self.proved(verifier, answer).await?;
        found.ok_or_else(|| {
            let message = format!("there is nothing at {path}");
            let error = ApiError { code: Text(missing), message, hint: None };
            SdkError::Api { status: missing.http_status().unwrap_or(404), error }
        })
    }

    /// The chain as it is proved, and of the node what it says about itself.
    pub(super) async fn proved_status(
        &self,
        verifier: &Verifier,
        said: Status,
    ) -> Result<Status, SdkError> {
        let executed = RulesRange { min: said.rules.min, max: said.rules.max };
        let answer =
            |state: &dyn StateRead| (answers::clock(state), answers::rules(state, executed));
        let ((clock, rules), header) = self.proved_at(verifier, answer).await?;
        Ok(Status {
            chain_id: Text(verifier.chain()),
            height: Text(header.height),
            block: Text(header.digest),
            state_root: Text(header.state_root),
            timestamp_ms: Text(header.timestamp_ms),
            clock,
            rules,
            ..said
        })
    }

    /// An account as it is proved. Of what the node says count the next nonce, if it is not below
    /// the account's, and those models that are the account's: it can leave out some.
    pub(super) async fn proved_account(
        &self,
        verifier: &Verifier,
        address: Address,
        said: Account,
    ) -> Result<Account, SdkError> {
        let next_nonce = said.next_nonce.0;
        let answer = |state: &dyn StateRead| answers::account(state, 0, address, next_nonce);
        let (account, header) = self.proved_at(verifier, answer).await?;
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
            models.extend(self.proved(verifier, owned).await?);
        }
        Ok(Account { height: Text(header.height), models, ..account })
    }

    /// The architecture, the migration, the rules and the prices as they are proved; the rest is
    /// what the node says: the proposals, what a seat needs, and which models are ready to migrate.
    pub(super) async fn proved_governance(
        &self,
        verifier: &Verifier,
        said: Governance,
    ) -> Result<Governance, SdkError> {
        let answer = |state: &dyn StateRead| {
            let number = read::architecture_number(state);
            let (migration, rent_price) = (read::migration(state), read::rent_price(state));
            let rules = answers::rules_in_force(state);
            (number, migration, rent_price, read::file_room(state), rules)
        };
        let (architecture, migration, rent_price, files_bytes, (rules, next_rules)) =
            self.proved(verifier, answer).await?;
        let needed = self.params().await?.models_per_target;
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

    /// The targets of an epoch.
    pub(super) async fn proved_targets(
        &self,
        verifier: &Verifier,
        epoch: EpochId,
    ) -> Result<Vec<Target>, SdkError> {
        let ids = |state: &dyn StateRead| -> Vec<TargetId> {
            read::epoch(state, epoch).iter().flat_map(EpochRecord::target_ids).collect()
        };
        let mut targets = Vec::new();
        for id in self.proved(verifier, ids).await? {
            let answer = |state: &dyn StateRead| answers::target(state, id);
            targets.extend(self.proved(verifier, answer).await?);
        }
        Ok(targets)
    }
}
