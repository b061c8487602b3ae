//! A small network driven by hand: people, blocks, phases. After every block the invariants are
//! checked, so no test has to ask for them.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use blake3::hazmat::HasherExt as _;
use soma_protocol::commitment::{self, CommittedWeights};
use soma_protocol::invariants::{self, Holdings};
use soma_protocol::record::{Broken, Target};
use soma_protocol::state::Record as _;
use soma_protocol::storage::{self, CHUNK_BYTES, Challenge};
use soma_protocol::tally::Tally;
use soma_protocol::{
    Action, Address, Amount, Architecture, BlockInfo, ConsensusKey, Endpoints, Epoch, Event,
    Genesis, GenesisAccount, GenesisModel, GenesisValidator, Hash, HeldFile, Key, MemoryState,
    ModelId, Params, Phase, Receipt, Rejection, Ruleset, SecretKey, TargetId, Transaction,
    Validity, Verdict, VerifiedTransaction, action, read,
};

use crate::library;

/// The addresses of those who have a corpus.
static PEOPLE: LazyLock<Vec<Address>> =
    LazyLock::new(|| (1..=20).chain([77]).map(|one| Person(one).address()).collect());

/// A person: a key made of one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Person(pub(crate) u8);

pub(crate) const OPERATOR: Person = Person(1);
pub(crate) const VALIDATOR: Person = Person(2);
pub(crate) const OWNER: Person = Person(3);
pub(crate) const RIVAL: Person = Person(4);
pub(crate) const SUBMITTER: Person = Person(5);
pub(crate) const OTHER: Person = Person(6);
pub(crate) const SECOND_VALIDATOR: Person = Person(7);
pub(crate) const THIRD_VALIDATOR: Person = Person(8);

pub(crate) const DIM: u32 = 8;
pub(crate) const CHUNK: usize = 16;
pub(crate) const START_MS: u64 = 1_700_000_000_000;

impl Person {
    pub(crate) fn key(self) -> SecretKey {
        SecretKey::from_bytes(&[self.0; 32])
    }

    pub(crate) fn address(self) -> Address {
        self.key().address()
    }
}

/// A specialization along one axis.
pub(crate) fn axis(at: usize) -> Vec<i16> {
    (0..DIM as usize).map(|one| if one == at { i16::MAX } else { 0 }).collect()
}

/// Weights of a model, with everything that its commit and reveal need.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) name: String,
    pub(crate) weights_hash: Hash,
    pub(crate) key: [u8; 32],
    pub(crate) specialization: Vec<i16>,
    pub(crate) ciphertext_hash: Hash,
    pub(crate) size_bytes: u64,
}

impl Release {
    pub(crate) fn new(name: &str, specialization: Vec<i16>) -> Self {
        Self::sized(name, specialization, 5_000)
    }

    pub(crate) fn sized(name: &str, specialization: Vec<i16>, size_bytes: u64) -> Self {
        let mut release = Self {
            name: name.to_owned(),
            weights_hash: Hash::of_bytes(name.as_bytes()),
            key: [9; 32],
            specialization,
            ciphertext_hash: Hash::default(),
            size_bytes,
        };
        release.ciphertext_hash = Hash::of_bytes(&release.file());
        release
    }

    /// The bytes of the encrypted file, a stand-in for a real one.
    pub(crate) fn file(&self) -> Vec<u8> {
        let size = usize::try_from(self.size_bytes).unwrap();
        self.name.bytes().cycle().take(size).collect()
    }

    /// Its file as a validator that holds it names it: with its true size.
    pub(crate) fn held_by(&self, model: ModelId) -> HeldFile {
        let size_bytes = self.file().len() as u64;
        HeldFile { model, ciphertext_hash: self.ciphertext_hash, size_bytes }
    }

    pub(crate) fn reveal(&self, model: ModelId) -> Action {
        Action::RevealWeights(action::RevealWeights {
            model,
            key: self.key,
            weights_hash: self.weights_hash,
            specialization: self.specialization.clone(),
        })
    }
}

/// Data, its place in everybody's corpus, and the salt of its commitment.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    pub(crate) bytes: Vec<u8>,
    pub(crate) index: u32,
    pub(crate) salt: [u8; 32],
}

impl Data {
    #[track_caller]
    pub(crate) fn new(text: &str) -> Self {
        let bytes = library::bytes(text);
        Self { index: library::index(&bytes), bytes, salt: [4; 32] }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) state: MemoryState,
    pub(crate) chain: Hash,
    pub(crate) height: u64,
    pub(crate) now_ms: u64,
    /// Events of the last block.
    pub(crate) events: Vec<Event>,
    /// Holdings after the last block.
    pub(crate) holdings: Holdings,
    /// What blocks follow.
    pub(crate) ruleset: Ruleset,
}

/// A manual network with one validator and two active models along the first two axes.
pub(crate) fn genesis() -> Genesis {
    let account = |person: Person| GenesisAccount {
        address: person.address(),
        balance: Amount::soma(10_000),
    };
    let model = |owner: Person, name: &str, at: usize| {
        let release = Release::new(name, axis(at));
        GenesisModel {
            owner: owner.address(),
            name: name.into(),
            commission_bps: 1_000,
            stake: Amount::soma(100),
            weights_hash: release.weights_hash,
            ciphertext_hash: release.ciphertext_hash,
            size_bytes: release.size_bytes,
            key: release.key,
            specialization: release.specialization,
        }
    };
    Genesis {
        chain: "test".into(),
        timestamp_ms: START_MS,
        params: Params { epoch_ms: 0, refresh_epochs: 100, ..Params::local() },
        architecture: Architecture {
            name: "tiny".into(),
            layers: 1,
            dim: DIM,
            heads: 2,
            ffn: 8,
            positions: u32::try_from(CHUNK).unwrap(),
            ..Architecture::nano()
        },
        accounts: [VALIDATOR, OWNER, RIVAL, SUBMITTER, OTHER].map(account).to_vec(),
        validators: vec![validator(VALIDATOR, 1_000)],
        models: vec![model(OWNER, "first", 0), model(RIVAL, "second", 1)],
        operator: Some(OPERATOR.address()),
    }
}

pub(crate) fn validator(person: Person, soma: u64) -> GenesisValidator {
    GenesisValidator {
        address: person.address(),
        consensus_key: ConsensusKey([person.0; 32]),
        stake: Amount::soma(soma),
        endpoints: Endpoints::default(),
    }
}

impl World {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        let mut state = MemoryState::default();
        state.apply(&genesis.state().unwrap());
        for person in PEOPLE.iter() {
            let corpus = library::everybodys().to_bytes();
            state.0.insert(Key::corpus(person), Arc::from(corpus));
        }
        let holdings = invariants::check(&state).unwrap();
        Self {
            state,
            chain: genesis.chain_id(),
            height: 0,
            now_ms: genesis.timestamp_ms,
            events: Vec::new(),
            holdings,
            ruleset: Ruleset::WHOLE,
        }
    }

    pub(crate) fn with(change: impl FnOnce(&mut Genesis)) -> Self {
        let mut genesis = genesis();
        change(&mut genesis);
        Self::new(&genesis)
    }

    pub(crate) fn transaction(&self, person: Person, action: Action) -> Transaction {
        let is_duty = action.is_duty();
        let nonce = read::account(&self.state, &person.address()).nonce;
        Transaction {
            chain: self.chain,
            sender: person.address(),
            nonce: if is_duty { 0 } else { nonce },
            tip: Amount::ZERO,
            fee_limit: if is_duty { Amount::ZERO } else { Amount::soma(1) },
            valid_until_ms: u64::MAX,
            action,
        }
    }

    /// The next block: half a second after the last.
    pub(crate) fn next_block(&self) -> BlockInfo {
        BlockInfo {
            height: self.height + 1,
            timestamp_ms: self.now_ms + 500,
            proposer: VALIDATOR.address(),
        }
    }

    /// Builds a block from verified transactions half a second after the last, and executes it,
    /// with the same outcome. One that the block could not include has a receipt without a fee.
    pub(crate) fn execute(&mut self, transactions: &[VerifiedTransaction]) -> Vec<Receipt> {
        let block = self.next_block();
        let built = self.ruleset.build(&self.state, &block, &mut transactions.iter().cloned());
        let built = built.unwrap();
        let outcome = self.ruleset.execute(&self.state, &block, &built.included);
        assert_eq!(outcome.as_ref(), Ok(&built.outcome));
        self.height = block.height;
        self.now_ms = block.timestamp_ms;
        let mut tally = Tally::of(&self.state);
        tally.apply(&self.state, &built.outcome.changes);
        self.state.apply(&built.outcome.changes);
        self.holdings = invariants::check(&self.state).unwrap();
        // What is kept as blocks change records is what counting them all gives.
        assert_eq!(tally, Tally::of(&self.state));
        let Holdings { reserve, burned, .. } = self.holdings;
        let held = self.holdings.total().less(reserve).less(burned);
        assert_eq!(tally.held(&self.state), held);
        self.events = built.outcome.events;
        let refused = built.refused.into_iter().map(|refused| {
            let result = Err(refused.rejection);
            Receipt { hash: refused.transaction.hash(), fee: Amount::ZERO, result }
        });
        built.outcome.receipts.into_iter().chain(refused).collect()
    }

    pub(crate) fn send(&mut self, person: Person, transaction: Transaction) -> Receipt {
        let verified = transaction.sign(&person.key()).verify(&self.chain).unwrap();
        self.execute(&[verified]).pop().unwrap()
    }

    /// Executes a block with one action.
    pub(crate) fn act(&mut self, person: Person, action: Action) -> Result<(), Rejection> {
        let transaction = self.transaction(person, action);
        self.send(person, transaction).result
    }

    /// Like [`Self::act`], for actions that must succeed.
    #[track_caller]
    pub(crate) fn must(&mut self, person: Person, action: Action) {
        let name = action.name();
        if let Err(rejection) = self.act(person, action) {
            panic!("{name}: {rejection}");
        }
    }

    pub(crate) fn clock(&self) -> (Epoch, Phase) {
        let clock = read::clock(&self.state);
        (clock.epoch, clock.phase)
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.clock().0
    }

    /// Ends the running phase. As the attest phase begins, everybody shows what they found.
    #[track_caller]
    pub(crate) fn end_phase(&mut self) {
        let (epoch, phase) = self.clock();
        self.must(OPERATOR, Action::EndPhase(action::EndPhase { epoch, phase }));
        if self.clock().1 == Phase::Attest {
            let (events, holdings) = (self.events.clone(), self.holdings);
            for (person, action) in self.due_reveals() {
                self.must(person, action);
            }
            (self.events, self.holdings) = (events, holdings);
        }
    }

    /// The verdicts that may be shown now, each with whose it is.
    pub(crate) fn due_reveals(&self) -> Vec<(Person, Action)> {
        let mut due = Vec::new();
        for target in read::targets(&self.state, self.epoch().previous()) {
            for verdict_commit in read::verdicts(&self.state, &target) {
                let person =
                    (1..=64).map(Person).find(|one| one.address() == verdict_commit.validator);
                let verdict = verdicts().into_iter().find(|one| {
                    let (who, chain) = (&verdict_commit.validator, &self.chain);
                    commitment::verdict(chain, who, target.id, one) == verdict_commit.commitment
                });
                if let (Some(person), Some(verdict), None) =
                    (person, verdict, verdict_commit.verdict)
                {
                    let target = target.id;
                    due.push((
                        person,
                        Action::RevealVerdict(action::RevealVerdict { target, verdict }),
                    ));
                }
            }
        }
        due
    }

    /// The commitment of a validator to its verdict.
    pub(crate) fn attest(&self, person: Person, target: u32, validity: Validity) -> Action {
        self.attest_verdict(person, target, &verdict(validity))
    }

    /// Like [`Self::attest`], for any verdict.
    pub(crate) fn attest_verdict(&self, person: Person, target: u32, found: &Verdict) -> Action {
        let target = TargetId(target);
        Action::CommitVerdict(action::CommitVerdict {
            target,
            commitment: commitment::verdict(&self.chain, &person.address(), target, found),
        })
    }

    /// Ends phases until the compete phase of the running epoch, or of the next one if it runs.
    pub(crate) fn go_to_compete(&mut self) {
        self.end_phase();
        while self.clock().1 != Phase::Compete {
            self.end_phase();
        }
    }

    /// Ends phases until the next epoch begins.
    pub(crate) fn go_to_next_epoch(&mut self) {
        let epoch = self.epoch();
        while self.epoch() == epoch {
            self.end_phase();
        }
    }

    pub(crate) fn balance(&self, person: Person) -> Amount {
        read::account(&self.state, &person.address()).balance
    }

    pub(crate) fn model(&self, id: u32) -> soma_protocol::record::Model {
        read::model(&self.state, ModelId(id)).unwrap()
    }

    pub(crate) fn target(&self, id: u32) -> Target {
        read::target(&self.state, TargetId(id)).unwrap()
    }

    pub(crate) fn params(&self) -> Params {
        read::params(&self.state)
    }

    pub(crate) fn register(&mut self, owner: Person, name: &str) -> ModelId {
        let action = Action::RegisterModel(action::RegisterModel {
            name: name.into(),
            commission_bps: 0,
            stake: Amount::soma(50),
        });
        self.must(owner, action);
        ModelId(read::model_count(&self.state))
    }

    /// The commit of a release for the next epoch and the first architecture.
    pub(crate) fn commit(&self, owner: Person, model: ModelId, release: &Release) -> Action {
        self.commit_for(1, owner, model, release)
    }

    /// Like [`Self::commit`], for an architecture by its number.
    pub(crate) fn commit_for(
        &self,
        architecture: u32,
        owner: Person,
        model: ModelId,
        release: &Release,
    ) -> Action {
        let epoch = self.epoch().next();
        let content = CommittedWeights {
            model,
            owner: &owner.address(),
            epoch,
            weights_hash: &release.weights_hash,
            ciphertext_hash: &release.ciphertext_hash,
            size_bytes: release.size_bytes,
            key: &release.key,
            specialization: &release.specialization,
        };
        Action::CommitWeights(action::CommitWeights {
            model,
            architecture,
            epoch,
            commitment: commitment::weights(&self.chain, &content),
            ciphertext_hash: release.ciphertext_hash,
            size_bytes: release.size_bytes,
        })
    }

    /// A validator's word that it holds a release.
    pub(crate) fn hold(&self, model: ModelId, release: &Release) -> Action {
        let held = vec![release.held_by(model)];
        Action::HoldWeights(action::HoldWeights { epoch: self.epoch().next(), held })
    }

    /// Commits and holds a release, continues to the next epoch and reveals it.
    pub(crate) fn publish_weights(&mut self, owner: Person, model: ModelId, release: &Release) {
        self.must(owner, self.commit(owner, model, release));
        self.must(VALIDATOR, self.hold(model, release));
        self.go_to_next_epoch();
        self.must(owner, release.reveal(model));
    }

    /// The answer to a storage challenge, from this file.
    pub(crate) fn answer(&self, asked: &Challenge, release: &Release) -> Action {
        let file = release.file();
        let part = |offset: u64, len: u64| {
            let start = usize::try_from(offset).unwrap();
            &file[start..start + usize::try_from(len).unwrap()]
        };
        let subtree = |offset, len| {
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset(offset);
            hasher.update(part(offset, len));
            Ok::<_, Infallible>(hasher.finalize_non_root())
        };
        let start = asked.chunk * CHUNK_BYTES;
        let length = CHUNK_BYTES.min(asked.size_bytes - start);
        Action::AnswerChallenge(action::AnswerChallenge {
            epoch: self.epoch(),
            chunk: part(start, length).to_vec(),
            path: storage::path(asked.size_bytes, asked.chunk, subtree).unwrap(),
        })
    }

    /// The answer that is due from a validator, if one of these files is asked for.
    pub(crate) fn due_answer(&self, person: Person, releases: &[Release]) -> Option<Action> {
        let asked = storage::challenge(&self.state, &person.address())?;
        let mut releases = releases.iter();
        let file = releases.find(|one| one.ciphertext_hash == asked.ciphertext_hash)?;
        Some(self.answer(&asked, file))
    }

    /// A claim that the first routed model of a target predicts the data best.
    pub(crate) fn submit(&self, person: Person, target: u32, data: &Data, distance: u64) -> Action {
        let target = self.target(target);
        let size_bytes = u32::try_from(data.bytes.len()).unwrap();
        let data_hash = Hash::of_bytes(&data.bytes);
        let person = person.address();
        Action::Submit(action::Submit {
            target: target.id,
            model: target.routed[0].model,
            loss_q32: 3 << 32,
            gain_q32: 1 << 32,
            distance,
            size_bytes,
            commitment: commitment::data(
                &self.chain,
                &person,
                target.id,
                &data_hash,
                size_bytes,
                &data.salt,
            ),
        })
    }

    /// Goes to the compete phase, submits, goes to the next epoch, publishes. Returns the target.
    pub(crate) fn win(&mut self, person: Person, data: &Data) -> u32 {
        if self.clock().1 != Phase::Compete {
            self.go_to_compete();
        }
        let target = read::targets(&self.state, self.epoch())[0].id.0;
        self.must(person, self.submit(person, target, data, 1_000));
        self.go_to_next_epoch();
        self.must(person, publish(target, data));
        target
    }
}

pub(crate) fn publish(target: u32, data: &Data) -> Action {
    Action::PublishData(action::PublishData {
        target: TargetId(target),
        data: data.bytes.clone(),
        salt: data.salt,
        index: data.index,
        leaf_salt: library::LEAF_SALT,
        path: library::path(data.index),
    })
}

/// A verdict with the trace that all honest validators of these tests have.
pub(crate) fn verdict(validity: Validity) -> Verdict {
    Verdict { validity, trace: Hash([1; 32]), broken: Broken::default() }
}

/// Every verdict that these tests give: the claim is true, is false, or is true
/// although the first model's file is broken.
pub(crate) fn verdicts() -> [Verdict; 3] {
    let broken = Verdict { broken: Broken(1), ..verdict(Validity::Valid) };
    [verdict(Validity::Valid), verdict(Validity::Invalid), broken]
}

/// Names of all actions: each has its file among the sources.
pub(crate) fn action_names() -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/action");
    let files = std::fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| name.strip_suffix(".rs").unwrap().to_owned())
        .filter(|name| !matches!(name.as_str(), "mod" | "context"))
        .collect()
}
