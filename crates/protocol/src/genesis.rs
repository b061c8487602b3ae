//! The first state of a network, as a document that people can read.
//! The chain id is a hash of its entire content; every transaction and commitment names that id.

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::action::{RegisterModel, reveal_weights};
use crate::epoch::seats;
use crate::money::save_share;
use crate::record::{
    Account, Clock, Committee, Endpoints, EndpointsRecord, FileRoom, KeyHolder, LastCommittee,
    LivingCount, LivingModel, Model, ModelCount, ModelStatus, Network, Params, Pool, Rent,
    RentPrice, RulesInForce, Share, Specialization, Supply, VALIDATORS_MAX, Validator,
    ValidatorStatus, Validators, Weights, WeightsAge,
};
use crate::state::{Changes, Draft, Key, MemoryState};
use crate::value::BPS;
use crate::{
    Address, Amount, Architecture, ConsensusKey, Epoch, Error, Hash, ModelId, Phase, PoolId,
    SUPPLY, TargetId, decimal, hex,
};

/// The rules that a network begins with.
const FIRST_RULES: u16 = 1;

/// An account that has money from the start.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisAccount {
    /// The account.
    pub address: Address,
    /// Its balance.
    pub balance: Amount,
}

/// A validator from the start.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisValidator {
    /// Its account.
    pub address: Address,
    /// Its consensus key.
    pub consensus_key: ConsensusKey,
    /// Its stake.
    pub stake: Amount,
    /// Where its node is reached.
    #[serde(default, skip_serializing_if = "Endpoints::is_empty")]
    pub endpoints: Endpoints,
}

/// A model that is active from the start.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisModel {
    /// Its owner.
    pub owner: Address,
    /// Its name.
    pub name: String,
    /// The owner's share of its stake's earnings, in ten-thousandths.
    pub commission_bps: u16,
    /// Its stake.
    pub stake: Amount,
    /// BLAKE3 of the weights file.
    pub weights_hash: Hash,
    /// BLAKE3 of the encrypted file.
    pub ciphertext_hash: Hash,
    /// Length of the encrypted file.
    #[serde(with = "decimal")]
    pub size_bytes: u64,
    /// Key of the encrypted file.
    #[serde(with = "hex::array")]
    pub key: [u8; 32],
    /// Its specialization.
    pub specialization: Vec<i16>,
}

/// The first state of a network.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// Name of the network.
    pub chain: String,
    /// The time at which it begins, in ms since 1970.
    #[serde(with = "decimal")]
    pub timestamp_ms: u64,
    /// The parameters of its rules.
    pub params: Params,
    /// The architecture of its models.
    pub architecture: Architecture,
    /// Accounts with a balance.
    pub accounts: Vec<GenesisAccount>,
    /// The first validators.
    pub validators: Vec<GenesisValidator>,
    /// The first models; a model's id is its place in this list, counted from 1.
    pub models: Vec<GenesisModel>,
    /// Who may end phases by command; on local networks only.
    pub operator: Option<Address>,
}

impl Genesis {
    /// The id of the chain: a hash of the document's whole content.
    #[expect(clippy::expect_used, reason = "writing to a vector cannot fail")]
    pub fn chain_id(&self) -> Hash {
        let bytes = borsh::to_vec(self).expect("writing to a vector cannot fail");
        Hash::of_parts("soma genesis", &[&bytes])
    }

    /// The first state. Whatever is not allocated becomes the reserve.
    ///
    /// # Errors
    /// If a number is outside its bounds, an address is named twice, or more than the supply is
    /// allocated.
    pub fn state(&self) -> Result<Changes, Error> {
        self.check()?;
        let nothing = MemoryState::default();
        let mut draft = Draft::new(&nothing);
        let network = Network {
            chain: self.chain.clone(),
            chain_id: self.chain_id(),
            architecture: self.architecture.clone(),
            architecture_number: 1,
            operator: self.operator,
        };
        draft.save(Key::network(), &network);
        draft.save(Key::params(), &self.params);
        draft.save(Key::rules(), &RulesInForce { version: FIRST_RULES, next: None });
        draft.save(
            Key::clock(),
            &Clock {
                epoch: Epoch(1),
                phase: Phase::Reveal,
                phase_started_ms: self.timestamp_ms,
                block_ms: self.timestamp_ms,
                next_target: TargetId(1),
            },
        );
        for account in &self.accounts {
            let record = Account { balance: account.balance, nonce: 0 };
            draft.save(Key::account(&account.address), &record);
        }
        self.save_validators(&mut draft);
        let mut count = ModelCount(0);
        for model in &self.models {
            let place = count.0;
            count.0 = count.0.saturating_add(1);
            self.save_model(&mut draft, ModelId(count.0), place, model);
        }
        draft.save(Key::model_count(), &count);
        let sizes = self.models.iter().map(|model| model.size_bytes);
        draft.save(Key::file_room(), &FileRoom(sizes.fold(0, u64::saturating_add)));
        draft.save(Key::living_count(), &LivingCount(count.0));
        let reserve = SUPPLY.less(self.allocated());
        draft.save(Key::supply(), &Supply { reserve, burned: Amount::ZERO });
        Ok(draft.into_changes())
    }

    /// Saves the validators and elects the first committee among them. They keep all that they earn
    /// until they set a commission.
    fn save_validators(&self, draft: &mut Draft<'_>) {
        let mut validators = Vec::new();
        for validator in &self.validators {
            let &GenesisValidator { address, consensus_key, stake, .. } = validator;
            let record = Validator {
                address,
                consensus_key,
                next_key: None,
                duty_key: None,
                pool: Pool::begin(stake),
                commission_bps: BPS,
                next_commission: None,
                rent_price: None,
                status: ValidatorStatus::Ready,
                since: Epoch(1),
                missed: 0,
                jailed_until: Epoch(0),
            };
            draft.save(Key::validator(&address), &record);
            draft.save(Key::key_holder(&consensus_key), &KeyHolder(address));
            save_stake(draft, PoolId::Validator(address), &address, stake);
            if !validator.endpoints.is_empty() {
                let endpoints = validator.endpoints.clone();
                let record = EndpointsRecord { endpoints, since_ms: 0 };
                draft.save(Key::endpoints(&address), &record);
            }
            validators.push(record);
        }
        let seats = seats::first(&validators, &self.params);
        let addresses = self.validators.iter().map(|validator| validator.address).collect();
        draft.save(Key::validators(), &Validators(addresses));
        let committee = Committee { number: 0, height: 0, epoch: Epoch(1), seats };
        draft.save(Key::committee(0), &committee);
        draft.save(Key::last_committee(), &LastCommittee(0));
        let price = self.params.rent_price_per_mib_epoch;
        draft.save(Key::rent_price(), &RentPrice(price));
    }

    fn save_model(&self, draft: &mut Draft<'_>, id: ModelId, place: u32, model: &GenesisModel) {
        draft.save(Key::living_model(place), &LivingModel(id));
        let record = Model {
            place,
            status: ModelStatus::Active,
            weights: Some(model.weights_hash),
            revealed: Epoch(1),
            activated: Epoch(1),
            ..Model::new(
                id,
                model.owner,
                model.name.clone(),
                model.commission_bps,
                Pool::begin(model.stake),
                1,
            )
        };
        draft.save(Key::model(id), &record);
        save_stake(draft, PoolId::Model(id), &model.owner, model.stake);
        let specialization = Specialization(model.specialization.clone());
        draft.save(Key::specialization(id, 1), &specialization);
        let weights = Weights {
            weights_hash: model.weights_hash,
            ciphertext_hash: model.ciphertext_hash,
            size_bytes: model.size_bytes,
            key: model.key,
            age: WeightsAge { epoch: Epoch(0), height: 0, index: id.0 },
            replaced: None,
        };
        draft.save(Key::weights(id, &model.weights_hash), &weights);
        let rent = Rent {
            prepaid: Amount::ZERO,
            epochs_left: self.params.refresh_epochs,
            size_bytes: model.size_bytes,
            holders: Vec::new(),
        };
        draft.save(Key::rent(id, 1), &rent);
    }

    /// What it allocates: all balances and stakes. The rest of the supply is the reserve.
    pub fn allocated(&self) -> Amount {
        let balances = self.accounts.iter().map(|account| account.balance);
        let stakes = self.validators.iter().map(|validator| validator.stake);
        balances.chain(stakes).chain(self.models.iter().map(|model| model.stake)).sum()
    }

    fn check(&self) -> Result<(), Error> {
        let printable = self.chain.bytes().all(|byte| byte.is_ascii_graphic());
        if self.chain.is_empty() || self.chain.len() > 64 || !printable {
            return Err(Error::ChainName);
        }
        self.params.check()?;
        self.architecture.check().map_err(Error::Architecture)?;
        if self.architecture.data_bytes_min() > self.params.data_bytes_max {
            let error = soma_architecture::Error::OutOfBounds {
                field: "positions",
                value: self.architecture.positions.into(),
                bounds: format!("at most data_bytes_max, {}", self.params.data_bytes_max),
            };
            return Err(Error::Architecture(error));
        }
        self.check_participants()?;
        for model in &self.models {
            self.check_model(model)
                .map_err(|reason| Error::GenesisModel { name: model.name.clone(), reason })?;
        }
        let found = self.allocated();
        if found > SUPPLY {
            return Err(Error::GenesisSupply { found, limit: SUPPLY });
        }
        Ok(())
    }

    fn check_participants(&self) -> Result<(), Error> {
        let found = self.validators.len();
        if found == 0 || found > VALIDATORS_MAX {
            return Err(Error::GenesisValidators { found, limit: VALIDATORS_MAX });
        }
        let mut accounts = BTreeSet::new();
        let mut validators = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for &GenesisAccount { address, .. } in &self.accounts {
            if !accounts.insert(address) {
                return Err(Error::GenesisDuplicate { address });
            }
        }
        for validator in &self.validators {
            let &GenesisValidator { address, consensus_key, stake, .. } = validator;
            if !validators.insert(address) || !keys.insert(consensus_key) {
                return Err(Error::GenesisDuplicate { address });
            }
            if stake < self.params.validator_stake_min {
                return Err(Error::GenesisStake { address });
            }
            if !validator.endpoints.are_well_formed() {
                return Err(Error::GenesisEndpoints { address });
            }
        }
        Ok(())
    }

    fn check_model(&self, model: &GenesisModel) -> Result<(), crate::Rejection> {
        let action = RegisterModel {
            name: model.name.clone(),
            commission_bps: model.commission_bps,
            stake: model.stake,
        };
        action.check(&self.params)?;
        reveal_weights::check_specialization(&model.specialization, self.architecture.dim)
    }
}

/// Saves the stake of a pool's first staker, who holds all its shares.
fn save_stake(draft: &mut Draft<'_>, pool: PoolId, staker: &Address, stake: Amount) {
    let share = Share { shares: stake.0.into(), ..Share::default() };
    save_share(draft, pool, staker, share);
}
