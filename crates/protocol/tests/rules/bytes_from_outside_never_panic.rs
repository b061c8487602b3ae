//! Bytes, text and documents from outside are read or rejected and never cause a panic; what is
//! written reads back as itself, in exactly one way.

use crate::world::{self, World};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use soma_codes::Coded as _;
use soma_protocol::evidence::{Ballot, Evidence, SignedBallot};
use soma_protocol::record::Broken;
use soma_protocol::{
    Action, Address, Amount, Architecture, Change, ConsensusKey, Epoch, Error, Genesis, Hash,
    HeldFile, ModelId, Params, Phase, PoolId, ProposalId, Rejection, SecretKey, SignedTransaction,
    TRANSACTION_BYTES_MAX, TargetId, Transaction, Validity, Verdict, action, corpus, hex, record,
    verify_batch,
};
use std::collections::BTreeSet;

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash)
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        any_action_on_models(),
        any_action_on_targets(),
        any_duty(),
        any_action_with_stake(),
        any_action_of_validators(),
        any_action_on_rules(),
    ]
}

fn any_action_on_models() -> impl Strategy<Value = Action> {
    let components = prop::collection::vec(any::<i16>(), 0..20);
    prop_oneof![
        (any::<[u8; 32]>(), any::<u64>()).prop_map(|(to, amount)| Action::Transfer(
            action::Transfer { to: Address(to), amount: Amount(amount) }
        )),
        (".{0,80}", any::<u16>(), any::<u64>()).prop_map(|(name, commission_bps, stake)| {
            Action::RegisterModel(action::RegisterModel {
                name,
                commission_bps,
                stake: Amount(stake),
            })
        }),
        (any::<u32>(), any::<u32>(), hash(), hash(), any::<u64>()).prop_map(
            |(model, epoch, commitment, ciphertext_hash, size_bytes)| Action::CommitWeights(
                action::CommitWeights {
                    model: ModelId(model),
                    architecture: epoch % 3,
                    epoch: Epoch(epoch),
                    commitment,
                    ciphertext_hash,
                    size_bytes,
                }
            )
        ),
        (any::<u32>(), any::<[u8; 32]>(), hash(), components).prop_map(
            |(model, key, weights_hash, specialization)| {
                Action::RevealWeights(action::RevealWeights {
                    model: ModelId(model),
                    key,
                    weights_hash,
                    specialization,
                })
            }
        ),
        any::<u32>()
            .prop_map(|model| Action::RetireModel(action::RetireModel { model: ModelId(model) })),
    ]
}

fn any_action_on_targets() -> impl Strategy<Value = Action> {
    let data = prop::collection::vec(any::<u8>(), 0..100);
    prop_oneof![
        (any::<[u32; 3]>(), any::<[i64; 2]>(), any::<u64>(), hash()).prop_map(
            |([target, model, size_bytes], [loss_q32, gain_q32], distance, commitment)| {
                Action::Submit(action::Submit {
                    target: TargetId(target),
                    model: ModelId(model),
                    loss_q32,
                    gain_q32,
                    distance,
                    size_bytes,
                    commitment,
                })
            }
        ),
        (any::<[u32; 2]>(), data, any::<[[u8; 32]; 2]>(), prop::collection::vec(hash(), 0..30))
            .prop_map(|([target, index], data, [salt, leaf_salt], path)| {
                Action::PublishData(action::PublishData {
                    target: TargetId(target),
                    data,
                    salt,
                    index,
                    leaf_salt,
                    path,
                })
            }),
        (hash(), any::<u32>()).prop_map(|(root, leaves)| {
            Action::CommitCorpus(action::CommitCorpus { root, leaves })
        }),
    ]
}

fn any_duty() -> impl Strategy<Value = Action> {
    let phase = prop_oneof![
        Just(Phase::Reveal),
        any::<u32>().prop_map(Phase::Publish),
        Just(Phase::Compete)
    ];
    let held =
        (any::<u32>(), hash(), any::<u64>()).prop_map(|(model, ciphertext_hash, size_bytes)| {
            HeldFile { model: ModelId(model), ciphertext_hash, size_bytes }
        });
    let validity = prop_oneof![Just(Validity::Valid), Just(Validity::Invalid)];
    prop_oneof![
        (any::<u32>(), prop::collection::vec(held, 0..4)).prop_map(|(epoch, held)| {
            Action::HoldWeights(action::HoldWeights { epoch: Epoch(epoch), held })
        }),
        (
            any::<u32>(),
            prop::collection::vec(any::<u8>(), 0..2_000),
            prop::collection::vec(hash(), 0..70)
        )
            .prop_map(|(epoch, chunk, path)| Action::AnswerChallenge(
                action::AnswerChallenge { epoch: Epoch(epoch), chunk, path }
            )),
        (any::<u32>(), hash()).prop_map(|(epoch, commitment)| Action::CommitBeacon(
            action::CommitBeacon { epoch: Epoch(epoch), commitment }
        )),
        (any::<u32>(), hash()).prop_map(|(epoch, value)| Action::RevealBeacon(
            action::RevealBeacon { epoch: Epoch(epoch), value }
        )),
        (any::<u32>(), hash()).prop_map(|(target, commitment)| Action::CommitVerdict(
            action::CommitVerdict { target: TargetId(target), commitment }
        )),
        (any::<u32>(), validity, hash(), any::<u16>()).prop_map(
            |(target, validity, trace, broken)| Action::RevealVerdict(action::RevealVerdict {
                target: TargetId(target),
                verdict: Verdict { validity, trace, broken: Broken(broken) }
            })
        ),
        (any::<u32>(), phase).prop_map(|(epoch, phase)| Action::EndPhase(action::EndPhase {
            epoch: Epoch(epoch),
            phase
        })),
    ]
}

fn any_action_with_stake() -> impl Strategy<Value = Action> {
    let pool = || {
        prop_oneof![
            any::<u32>().prop_map(|model| PoolId::Model(ModelId(model))),
            any::<[u8; 32]>().prop_map(|address| PoolId::Validator(Address(address))),
            // Some that there are.
            (0..3_u32).prop_map(|model| PoolId::Model(ModelId(model))),
            Just(PoolId::Validator(world::VALIDATOR.address())),
        ]
    };
    let amount = || any::<u64>().prop_map(Amount);
    prop_oneof![
        (pool(), amount())
            .prop_map(|(pool, amount)| Action::AddStake(action::AddStake { pool, amount })),
        (pool(), amount()).prop_map(|(pool, amount)| Action::WithdrawStake(
            action::WithdrawStake { pool, amount }
        )),
        (pool(), any::<u16>()).prop_map(|(pool, commission_bps)| Action::SetCommission(
            action::SetCommission { pool, commission_bps }
        )),
    ]
}

fn consensus_key() -> impl Strategy<Value = ConsensusKey> {
    let known = Just(ConsensusKey([world::VALIDATOR.0; 32]));
    prop_oneof![known, any::<[u8; 32]>().prop_map(ConsensusKey)]
}

fn bytes_64() -> impl Strategy<Value = [u8; 64]> {
    prop::collection::vec(any::<u8>(), 64).prop_map(|bytes| bytes.try_into().unwrap())
}

fn any_action_of_validators() -> impl Strategy<Value = Action> {
    let voted = || {
        let round = || (any::<u64>(), hash());
        let ballot = prop_oneof![
            round().prop_map(|(parent, block)| Ballot::Notarize { parent, block }),
            Just(Ballot::Nullify),
            round().prop_map(|(parent, block)| Ballot::Finalize { parent, block }),
        ];
        (ballot, bytes_64()).prop_map(|(ballot, signature)| SignedBallot { ballot, signature })
    };
    let evidence = (consensus_key(), any::<[u64; 2]>(), voted(), voted());
    prop_oneof![
        (consensus_key(), bytes_64(), any::<u16>(), any::<u64>()).prop_map(
            |(consensus_key, proof, commission_bps, stake)| Action::RegisterValidator(
                action::RegisterValidator {
                    consensus_key,
                    proof,
                    commission_bps,
                    stake: Amount(stake),
                }
            )
        ),
        (consensus_key(), bytes_64()).prop_map(|(consensus_key, proof)| Action::RotateKey(
            action::RotateKey { consensus_key, proof }
        )),
        (any::<[u8; 32]>(), bytes_64()).prop_map(|(duty_key, proof)| {
            Action::SetDutyKey(action::SetDutyKey { duty_key: Address(duty_key), proof })
        }),
        (any::<u64>(), any::<Option<String>>(), any::<Option<String>>()).prop_map(
            |(last_ms, p2p, url)| Action::SetEndpoints(action::SetEndpoints { last_ms, p2p, url })
        ),
        Just(Action::LeaveValidator(action::LeaveValidator {})),
        Just(Action::ReturnValidator(action::ReturnValidator {})),
        evidence.prop_map(|(consensus_key, [term, view], first, second)| {
            Action::ReportEquivocation(action::ReportEquivocation {
                evidence: Evidence { consensus_key, term, view, first, second },
            })
        }),
    ]
}

fn any_action_on_rules() -> impl Strategy<Value = Action> {
    let name = prop_oneof![
        (0..Params::BOUNDS.len()).prop_map(|at| Params::BOUNDS[at].name.to_owned()),
        ".{0,80}",
    ];
    let parameter =
        (name, any::<u64>()).prop_map(|(name, value)| Change::Parameter { name, value });
    let architecture = (".{0,80}", any::<[u32; 12]>()).prop_map(|(name, numbers)| {
        let [numerics_version, layers, dim, heads, ffn, vocabulary, positions, rest @ ..] = numbers;
        let [slices, points, t_max, cap, coefficient] = rest;
        Change::Architecture {
            architecture: Architecture {
                name,
                numerics_version,
                layers,
                dim,
                heads,
                ffn,
                vocabulary,
                positions,
                sig_reg_slices: slices,
                sig_reg_points: points,
                sig_reg_t_max_thousandths: t_max,
                sig_reg_cap: cap,
                sig_reg_coefficient_millionths: coefficient,
            },
        }
    });
    prop_oneof![
        prop_oneof![
            parameter,
            architecture,
            any::<u16>().prop_map(|version| Change::Rules { version })
        ]
        .prop_map(|change| Action::Propose(action::Propose { change })),
        (any::<u32>(), any::<bool>()).prop_map(|(proposal, approve)| Action::Vote(action::Vote {
            proposal: ProposalId(proposal),
            approve,
        })),
        any::<u64>().prop_map(|price| Action::VoteRentPrice(action::VoteRentPrice {
            price: Amount(price)
        })),
    ]
}

fn any_transaction() -> impl Strategy<Value = SignedTransaction> {
    (hash(), any::<[u8; 32]>(), any::<[u64; 4]>(), any_action()).prop_map(
        |(chain, secret, [nonce, tip, fee_limit, valid_until_ms], action)| {
            let key = SecretKey::from_bytes(&secret);
            let (tip, fee_limit) = (Amount(tip), Amount(fee_limit));
            let sender = key.address();
            Transaction { chain, sender, nonce, tip, fee_limit, valid_until_ms, action }.sign(&key)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_are_rejected_or_read_back_as_themselves(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        if let Ok(signed) = SignedTransaction::decode(&bytes) {
            let encoded = SignedTransaction::new(signed.transaction().clone(), *signed.signature());
            prop_assert_eq!(encoded.bytes(), bytes);
        }
    }

    #[test]
    fn a_damaged_transaction_is_rejected_or_is_another_one(
        signed in any_transaction(), at in any::<prop::sample::Index>(),
        flip in 1..=255_u8, cut in any::<bool>(),
    ) {
        let good = signed.bytes().to_vec();
        prop_assert_eq!(SignedTransaction::decode(&good), Ok(signed.clone()));
        let mut bad = good.clone();
        let at = at.index(bad.len());
        if cut { bad.truncate(at) } else { bad[at] ^= flip }
        if let Ok(other) = SignedTransaction::decode(&bad) {
            prop_assert_ne!(other.hash(), signed.hash());
            let chain = other.transaction().chain;
            prop_assert!(other.verify(&chain).is_err(), "the signature covers everything");
        }
        let mut long = good;
        long.push(0);
        prop_assert_eq!(SignedTransaction::decode(&long), Err(Error::TransactionBytes));
    }

    #[test]
    fn json_of_a_transaction_reads_back_as_itself(signed in any_transaction()) {
        let json = serde_json::to_string(&signed).unwrap();
        prop_assert_eq!(serde_json::from_str::<SignedTransaction>(&json).unwrap(), signed);
    }

    #[test]
    fn an_invalid_action_gives_a_receipt(
        actions in prop::collection::vec(any_action(), 1..6),
    ) {
        let mut world = World::with(|_| ());
        world.go_to_compete();
        for action in actions {
            for person in [world::VALIDATOR, world::OWNER, world::OPERATOR] {
                let _ = world.act(person, action.clone());
            }
        }
    }

    #[test]
    fn single_and_batch_verification_agree(
        transactions in prop::collection::vec((any_transaction(), 0..4_u8), 1..8),
    ) {
        let chain = transactions[0].0.transaction().chain;
        let transactions: Vec<SignedTransaction> = transactions
            .into_iter()
            .map(|(signed, damage)| {
                let mut transaction = signed.transaction().clone();
                let mut signature = *signed.signature();
                if damage > 0 { transaction.chain = chain; }
                if damage == 2 { signature[40] ^= 1; }
                if damage == 3 { signature = [0; 64]; transaction.sender = Address([0; 32]); }
                SignedTransaction::new(transaction, signature)
            })
            .collect();
        let singly: Vec<_> = transactions.iter().map(|one| one.clone().verify(&chain)).collect();
        prop_assert_eq!(verify_batch(transactions, &chain), singly);
    }

    #[test]
    fn any_text_is_read_or_rejected(text in ".{0,70}") {
        let _ = text.parse::<Amount>();
        let _ = text.parse::<Address>();
        let _ = text.parse::<Hash>();
        let _ = text.parse::<Phase>();
    }
}

#[test]
fn every_action_is_among_those_from_outside() {
    let mut runner = TestRunner::deterministic();
    let any = (0..2_000).map(|_| any_action().new_tree(&mut runner).unwrap().current());
    let names: BTreeSet<String> = any.map(|action| action.name().to_owned()).collect();
    assert_eq!(names, world::action_names());
}

#[test]
fn an_overlong_transaction_is_rejected_before_it_is_decoded() {
    let found = TRANSACTION_BYTES_MAX + 1;
    let error = Error::TransactionTooLarge { found, limit: TRANSACTION_BYTES_MAX };
    assert_eq!(SignedTransaction::decode(&vec![0; found]), Err(error));
}

#[test]
fn the_longest_data_fits_into_a_transaction() {
    let longest = Params::BOUNDS.iter().find(|bounds| bounds.name == "data_bytes_max").unwrap().max;
    let data = vec![7; usize::try_from(longest).unwrap()];
    let world = World::with(|_| ());
    let action = Action::PublishData(action::PublishData {
        target: TargetId(1),
        data,
        salt: [0; 32],
        index: 0,
        leaf_salt: [0; 32],
        path: vec![Hash([1; 32]); corpus::PATH_MAX],
    });
    let signed = world.transaction(world::OWNER, action).sign(&world::OWNER.key());
    assert!(SignedTransaction::decode(signed.bytes()).is_ok());
}

#[test]
fn a_genesis_document_reads_back_as_itself_and_unknown_fields_are_rejected() {
    let genesis = world::genesis();
    let json = serde_json::to_value(&genesis).unwrap();
    let read: Genesis = serde_json::from_value(json.clone()).unwrap();
    assert_eq!((read.chain_id(), &read), (genesis.chain_id(), &genesis));
    let mut unknown = json;
    unknown["params"]["epoch_msx"] = "1".into();
    assert!(serde_json::from_value::<Genesis>(unknown).is_err());
}

#[test]
fn a_rejections_json_has_its_code() {
    let json = serde_json::to_value(Rejection::ZeroAmount).unwrap();
    assert_eq!(json["code"], Rejection::ZeroAmount.code().as_str());
}

#[test]
fn every_action_has_the_recorded_bytes_and_json() {
    let mut names = BTreeSet::new();
    for line in include_str!("actions.jsonl").lines() {
        let recorded: serde_json::Value = serde_json::from_str(line).unwrap();
        let action: Action = serde_json::from_value(recorded["json"].clone()).unwrap();
        let bytes = hex::encode(&borsh::to_vec(&action).unwrap());
        assert_eq!(recorded["bytes"].as_str(), Some(&*bytes), "{line}");
        assert_eq!(serde_json::to_value(&action).unwrap(), recorded["json"]);
        names.insert(action.name().to_owned());
    }
    assert_eq!(names, world::action_names());
}

#[test]
fn a_value_that_these_rules_did_not_write_is_known_for_one() {
    let state = world::genesis().state().unwrap();
    for value in state.0.values().flatten() {
        assert!(record::is_readable(value));
        assert!(!record::is_readable(&value[..value.len() - 1]), "cut");
        assert!(!record::is_readable(&[&value[..], &[0]].concat()), "longer");
        let mut other = value.to_vec();
        other[0] = 255;
        assert!(!record::is_readable(&other), "a type of later rules");
    }
    assert!(!record::is_readable(&[]));
}
