//! The JSON of the API, from a state that the rules produced. Clients parse it, so fields may be
//! added but never changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use soma_codes::Coded as _;
use soma_protocol::record::{self, Corpus, CorpusRoot};
use soma_protocol::state::Record as _;
use soma_protocol::{
    Action, Address, Amount, Architecture, BlockInfo, Change, ConsensusKey, Endpoints, Epoch,
    Event, Genesis, GenesisAccount, GenesisModel, GenesisValidator, Hash, Key, MemoryState,
    ModelId, Params, Phase, PoolId, ProposalId, Receipt, Rejection, SUPPLY, SecretKey, StateRead,
    TargetId, Transaction, action, execute, read,
};
use soma_sdk::answers as api;
use soma_sdk::api::cursor::Cursor;

use super::{history, transactions, validators};
use crate::survey::Survey;

fn key() -> SecretKey {
    SecretKey::from_bytes(&[1; 32])
}

fn genesis() -> Genesis {
    let architecture = Architecture::nano();
    let mut specialization = vec![0; architecture.dim as usize];
    specialization[0] = 32_767;
    Genesis {
        chain: "test".into(),
        timestamp_ms: 1_000,
        params: Params { epoch_ms: 0, ..Params::local() },
        architecture,
        accounts: vec![GenesisAccount { address: key().address(), balance: Amount::soma(5) }],
        validators: vec![GenesisValidator {
            address: Address([2; 32]),
            consensus_key: ConsensusKey([3; 32]),
            stake: Amount::soma(1),
            endpoints: Endpoints::default(),
        }],
        models: vec![GenesisModel {
            owner: key().address(),
            name: "owl".into(),
            commission_bps: 500,
            stake: Amount::soma(10),
            weights_hash: Hash([0xab; 32]),
            ciphertext_hash: Hash([0xcd; 32]),
            size_bytes: 3_456_789,
            key: [0xef; 32],
            specialization,
        }],
        operator: Some(key().address()),
    }
}

/// The state once the operator has ended phases until targets are drawn.
fn competing() -> (MemoryState, Vec<Event>) {
    let genesis = genesis();
    let chain = genesis.chain_id();
    let mut state = MemoryState::default();
    state.apply(&genesis.state().unwrap());
    let mut events = Vec::new();
    for height in 1..20 {
        let clock = read::clock(&state);
        if clock.phase == Phase::Compete {
            return (state, events);
        }
        let action = Action::EndPhase(action::EndPhase { epoch: clock.epoch, phase: clock.phase });
        let transaction = Transaction {
            chain,
            sender: key().address(),
            nonce: 0,
            tip: Amount::ZERO,
            fee_limit: Amount::ZERO,
            valid_until_ms: u64::MAX,
            action,
        };
        let verified = transaction.sign(&key()).verify(&chain).unwrap();
        let proposer = Address([2; 32]);
        let block = BlockInfo { height, timestamp_ms: 1_000 + height, proposer };
        let outcome = execute(&state, &block, &[verified]).unwrap();
        assert_eq!(outcome.receipts[0].result, Ok(()));
        state.apply(&outcome.changes);
        events.extend(outcome.events);
    }
    panic!("the compete phase never came");
}

fn hex(byte: &str) -> String {
    byte.repeat(32)
}

/// `value` as JSON, which must read back as the same value.
fn json_of<T>(value: &T) -> Value
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let json = serde_json::to_value(value).unwrap();
    assert_eq!(&serde_json::from_value::<T>(json.clone()).unwrap(), value);
    json
}

#[test]
fn a_model_says_what_it_is_and_what_it_competes_with() {
    let (state, _) = competing();
    let model = api::model(&state, ModelId(1)).unwrap();
    let expected = json!({
        "id": 1, "name": "owl", "owner": key().address().to_string(), "commission_bps": 500,
        "status": "active", "release_epoch": null, "stake": "10000000000", "leaving": "0",
        "joining": "0", "commits": [], "next": null, "next_commission": null,
        "rent": {
            "prepaid": "0", "epochs_left": 8640, "refresh_cost": "2848306366", "holders": []
        },
        "wins": 0, "earned": "0",
        "weights": {
            "hash": hex("ab"), "size_bytes": "3456789", "ciphertext_hash": hex("cd"),
            "key": hex("ef"), "revealed_epoch": model.weights.as_ref().unwrap().revealed_epoch,
            "first_epoch": model.weights.as_ref().unwrap().first_epoch,
            "refresh_epoch": model.weights.as_ref().unwrap().revealed_epoch
                + Params::local().refresh_epochs,
        },
    });
    assert_eq!(json_of(&model), expected);
    assert_eq!(api::model(&state, ModelId(2)), None);
    let specialization = api::specialization(&state, ModelId(1), None).unwrap();
    assert_eq!(specialization.components.len(), 128);
    let drawn = |epoch| api::specialization(&state, ModelId(1), Some(Epoch(epoch)));
    assert_eq!(drawn(1), Some(specialization), "as it was at the draw");
    assert_eq!(drawn(2), None);
}

#[test]
fn a_target_names_its_seed_its_models_and_their_weights() {
    let (state, _) = competing();
    let target = api::target(&state, TargetId(1)).unwrap();
    let json = json_of(&target);
    let beacon = read::epoch(&state, Epoch(1)).unwrap().beacon;
    assert_eq!(json["id"], 1);
    assert_eq!(json["epoch"], 1);
    assert_eq!(json["status"], "open");
    assert_eq!(json["seed"], beacon.to_string());
    assert_eq!(json["routed"][0]["model"], 1);
    assert_eq!(json["routed"][0]["weights_hash"], hex("ab"));
    assert_eq!(json["routed"][0]["size_bytes"], "3456789");
    let reward: u64 = json["reward"].as_str().unwrap().parse().unwrap();
    assert!(reward > 0 && reward.is_multiple_of(2));
    for field in ["returned", "publication", "payment"] {
        assert_eq!(json[field], Value::Null);
    }
    let direction = api::direction(&state, TargetId(1)).unwrap();
    assert_eq!(direction.components.len(), 128);
}

#[test]
fn the_clock_and_the_epoch_follow_the_phases() {
    let mut before = MemoryState::default();
    before.apply(&genesis().state().unwrap());
    let clock = json!({ "epoch": 1, "phase": "reveal", "ends_ms": null, "beacon": null });
    assert_eq!(json_of(&api::clock(&before)), clock);
    let epoch = json!({
        "epoch": 1, "beacon": null, "loss_margin_q32": null, "gain_min_q32": null, "targets": [],
        "target_reward": "0",
    });
    assert_eq!(json_of(&api::epoch(&before, Epoch(1)).unwrap()), epoch);
    assert_eq!(api::epoch(&before, Epoch(2)), None);

    let (after, _) = competing();
    assert_eq!(api::clock(&after).phase.0, Phase::Compete);
    let epoch = api::epoch(&after, Epoch(1)).unwrap();
    assert_eq!(epoch.targets.len(), Params::local().targets_per_epoch as usize);
    assert_eq!(api::clock(&after).beacon, epoch.beacon);
}

#[test]
fn an_account_names_the_corpus_that_counts_and_the_one_that_will() {
    let (mut state, _) = competing();
    let address = key().address();
    let root = |epoch, byte| CorpusRoot { epoch: Epoch(epoch), root: Hash([byte; 32]), leaves: 5 };
    let corpus = Corpus { latest: root(1, 0xab), before: Some(root(0, 0xcd)) };
    state.0.insert(Key::corpus(&address), corpus.to_bytes().into());
    let account = json_of(&api::account(&state, 7, address, 0));
    let counts = json!({ "root": hex("cd"), "leaves": 5, "from_epoch": 1 });
    let next = json!({ "root": hex("ab"), "leaves": 5, "from_epoch": 2 });
    assert_eq!((&account["corpus"], &account["next_corpus"]), (&counts, &next));
}

#[test]
fn a_stake_names_all_that_waits_even_if_unbonding_has_become_shorter_since() {
    let (mut state, _) = competing();
    let (address, pool) = (key().address(), PoolId::Model(ModelId(1)));
    let epochs = [2, read::params(&state).unbonding_epochs + 20];
    let share = record::Share { leaving_shares: 12, ..read::share(&state, pool, &address) };
    state.0.insert(Key::share(pool, &address), share.to_bytes().into());
    let change = record::StakeChange { leaving_shares: 6, joining_shares: 0 };
    for epoch in epochs {
        let key = Key::stake_change(Epoch(epoch), pool, &address);
        state.0.insert(key, change.to_bytes().into());
    }
    let stakes = validators::stakes(&state, &address, 0, 10);
    let (place, stake) = stakes.first().unwrap();
    assert_eq!((*place, stake.pool.as_str()), (0, pool.to_string().as_str()));
    assert!(stake.changes.iter().map(|change| change.epoch).eq(epochs));
}

#[test]
fn an_account_and_the_supply_are_in_base_units() {
    let (state, _) = competing();
    let address = key().address();
    let nonce = read::account(&state, &address).nonce;
    let mut account = api::account(&state, 7, address, 0);
    let living: Vec<_> = read::living_models(&state).collect();
    account.models = Survey::of(&state, 7, &living).models_of(&address);
    let expected = json!({
        "address": address.to_string(), "balance": "5000000000", "nonce": nonce.to_string(),
        "next_nonce": nonce.to_string(), "models": [1], "corpus": null, "next_corpus": null,
        "height": "7",
    });
    assert_eq!(json_of(&account), expected);

    let reserve = read::supply(&state).reserve;
    let held = SUPPLY.less(reserve).less(read::supply(&state).burned);
    let supply = json_of(&api::supply(&state, held));
    assert_eq!(supply["cap"], "10000000000000000");
    assert_eq!(supply["reserve"], reserve.0.to_string());
    assert_eq!(supply["conserved"], true);
    let slip = api::supply(&state, held.plus(Amount(1)));
    assert!(!slip.conserved);
}

#[test]
fn every_event_has_its_fields_beside_its_cursor_and_name() {
    let (_, events) = competing();
    assert!(events.len() > 5);
    for (index, event) in (0..).zip(events) {
        let shown = history::event(Cursor { height: 4, index }, 1_004, &event).unwrap();
        let json = json_of(&shown);
        assert_eq!(json["cursor"], format!("4-{index}"));
        assert_eq!(json["timestamp_ms"], "1004");
        assert_eq!(shown.typed(), Some(event.clone()));
        let Value::Object(fields) = serde_json::to_value(&event).unwrap() else { panic!() };
        for (name, value) in fields {
            assert_eq!(json[&name], value);
        }
    }
}

#[test]
fn a_rejected_transaction_says_code_message_and_help() {
    let rejection = Rejection::WrongNonce { expected: 4, found: u64::MAX };
    let receipt = Receipt { hash: Hash::default(), fee: Amount(7), result: Err(rejection.clone()) };
    let json = json_of(&transactions::receipt(&receipt));
    assert_eq!(json["fee"], "7");
    assert_eq!(json["rejection"]["code"], "wrong_nonce");
    assert_eq!(json["rejection"]["message"], rejection.to_string());
    assert_eq!(json["rejection"]["help"], rejection.hint());
}

/// Counts how often a state is read.
struct Counting<'a>(&'a MemoryState, AtomicUsize);

impl StateRead for Counting<'_> {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(key)
    }
}

/// A state with this many models, proposals that are decided, and accounts.
fn crowded(count: u32) -> MemoryState {
    let (mut state, _) = competing();
    let model = read::model(&state, ModelId(1)).unwrap();
    let mut put = |key: Key, value: Vec<u8>| drop(state.0.insert(key, value.into()));
    for id in 2..=count {
        let (id, place) = (ModelId(id), id - 1);
        put(Key::model(id), record::Model { id, place, ..model.clone() }.to_bytes());
        put(Key::living_model(place), record::LivingModel(id).to_bytes());
    }
    for id in 1..=count {
        let proposal = record::Proposal {
            id: ProposalId(id),
            proposer: Address([2; 32]),
            change: Change::Parameter { name: "refresh_epochs".into(), value: 9 },
            deposit: Amount::ZERO,
            made: Epoch(1),
            ends: Epoch(2),
            votes: Vec::new(),
            status: record::ProposalStatus::Lapsed { epoch: Epoch(2) },
        };
        put(Key::proposal(ProposalId(id)), proposal.to_bytes());
        let mut address = [9; 32];
        address[..4].copy_from_slice(&id.to_le_bytes());
        put(Key::account(&Address(address)), record::Account::default().to_bytes());
    }
    put(Key::model_count(), record::ModelCount(count).to_bytes());
    put(Key::living_count(), record::LivingCount(count).to_bytes());
    put(Key::proposal_count(), record::ProposalCount(count).to_bytes());
    state
}

/// Takes the answer to a question, whatever it is.
fn asked<T>(answer: &T) {
    std::hint::black_box(answer);
}

#[test]
fn no_question_reads_more_of_a_state_with_more_models_proposals_and_accounts() {
    type Question = (&'static str, fn(&dyn StateRead));
    let questions: [Question; 15] = [
        ("clock", |state| asked(&api::clock(state))),
        ("supply", |state| asked(&api::supply(state, Amount::ZERO))),
        ("epoch", |state| asked(&api::epoch(state, Epoch(1)))),
        ("account", |state| asked(&api::account(state, 7, key().address(), 0))),
        ("stakes", |state| asked(&validators::stakes(state, &key().address(), 0, 50))),
        ("validators", |state| asked(&validators::validators(state))),
        ("validator", |state| asked(&validators::validator(state, &Address([2; 32])))),
        ("governance", |state| asked(&validators::governance(state, &[], None, 50))),
        ("older proposals", |state| asked(&validators::governance(state, &[], Some(60), 50))),
        ("model", |state| asked(&api::model(state, ModelId(1)))),
        ("specialization", |state| asked(&api::specialization(state, ModelId(1), Some(Epoch(1))))),
        ("target", |state| asked(&api::target(state, TargetId(1)))),
        ("direction", |state| asked(&api::direction(state, TargetId(1)))),
        ("pieces", |state| asked(&api::winner(state, 7))),
        ("parameters", |state| asked(&read::params(state))),
    ];
    let (few, many) = (crowded(100), crowded(2_000));
    for (name, question) in questions {
        let reads = |state| {
            let counting = Counting(state, AtomicUsize::new(0));
            question(&counting);
            counting.1.into_inner()
        };
        assert!(reads(&few) > 0, "{name}");
        assert_eq!(reads(&few), reads(&many), "{name}");
    }
}

#[test]
fn proposals_come_in_pages_by_id_the_last_ones_first() {
    let state = crowded(120);
    let (mut before, mut found) = (None, Vec::new());
    loop {
        let page = validators::governance(&state, &[], before, 50);
        found.splice(..0, page.proposals.iter().map(|proposal| proposal.id));
        before = page.next.map(|next| next.parse().unwrap());
        if before.is_none() {
            break;
        }
    }
    assert_eq!(found, (1..=120).collect::<Vec<_>>());
}
