//! Attacks on records and on the work at the end of a phase.

use soma_protocol::record::{Candidate, Model, ModelStatus, TargetStatus};
use soma_protocol::{
    Amount, Change, Epoch, Hash, HeldFile, Key, PoolId, action, commitment, corpus, read,
};

use super::hand::Hand;
use crate::actors::{
    DATA_BYTES, DOCUMENTS, FILE_BYTES, LONG_DOCUMENT, ciphertext, commit_weights, data, leaf_salt,
    leaves, reveal_weights, salt,
};
use crate::genesis::{ADVERSARY, node_key};

/// Submissions of a step, for one target.
const SUBMISSIONS: u64 = 24;
/// How many models a bomber has, and how many accounts with stake in each.
const MODELS: usize = 4;
const STAKERS: u8 = 10;
/// How many models a hoarder has: their files have more bytes than there is room for.
const HOARD: usize = 48;

/// Writes more into shared records than they hold: submissions for one target, each closer than the
/// last, proposals, and names.
pub(super) fn crowd(hand: &mut Hand<'_>) {
    let epoch = hand.clock.epoch;
    let target = read::targets(hand.state, epoch).into_iter().next();
    let key = hand.key(0);
    if read::corpus(hand.state, &key.address()).is_none() {
        hand.pay(&key, action::CommitCorpus { root: Hash([1; 32]), leaves: 64 });
    }
    if let Some(target) = target.filter(|_| hand.clock.phase.submits()) {
        let nonce = read::account(hand.state, &key.address()).nonce;
        for place in nonce..nonce + SUBMISSIONS {
            hand.pay(
                &key,
                action::Submit {
                    target: target.id,
                    model: target.routed[0].model,
                    loss_q32: 1,
                    gain_q32: 1 << 40,
                    // Farther than those of honest submitters, and still a distance.
                    distance: (1_u64 << 31).saturating_sub(place),
                    size_bytes: DATA_BYTES,
                    commitment: Hash::of_parts("crowd", &[&place.to_le_bytes()]),
                },
            );
        }
    }
    if hand.once_in(30) {
        let (key, stake) = (hand.key(1), Amount::soma(1));
        let name = "n".repeat(100_000);
        hand.pay(&key, action::RegisterModel { name, commission_bps: 0, stake });
        let change = Change::Parameter { name: "byte_fee".into(), value: 11 };
        hand.pay(&node_key(ADVERSARY), action::Propose { change });
    }
}

/// Registers models, and commits a file for each of them in every epoch.
pub(super) fn hoard(hand: &mut Hand<'_>) {
    let key = hand.key(0);
    let own = hand.own_models(&key.address());
    for _ in own.len()..HOARD.min(own.len() + 8) {
        let (name, stake) = ("hoard".into(), Amount::soma(1));
        hand.pay(&key, action::RegisterModel { name, commission_bps: 0, stake });
    }
    let next = Epoch(hand.clock.epoch.0 + 1);
    let is_bare = |model: &&Model| read::commits_of(hand.state, model.id, next).is_empty();
    let bare: Vec<_> = own.iter().filter(is_bare).map(|model| model.id).take(8).collect();
    for model in bare {
        let commit = action::CommitWeights {
            model,
            architecture: 1,
            epoch: next,
            commitment: Hash([1; 32]),
            ciphertext_hash: ciphertext(model, next),
            size_bytes: FILE_BYTES,
        };
        hand.pay(&key, commit);
    }
}

/// Submits its one document for target after target.
pub(super) fn repeat(hand: &mut Hand<'_>) {
    claim(hand, |_| 0);
}

/// Submits its longest document, which hardly anybody audits in time, again and again.
pub(super) fn overload(hand: &mut Hand<'_>) {
    claim(hand, |_| LONG_DOCUMENT);
}

/// Submits one of its documents for the first target of every epoch, closer than anybody, and
/// publishes it as soon as it may.
fn claim(hand: &mut Hand<'_>, document: impl Fn(Epoch) -> u32) {
    let (key, epoch) = (hand.key(1), hand.clock.epoch);
    let sender = key.address();
    let first = |epoch| read::targets(hand.state, epoch).into_iter().next();
    let (running, ended) = (first(epoch), first(Epoch(epoch.0.saturating_sub(1))));
    if read::corpus(hand.state, &sender).is_none() {
        let root = corpus::root(&leaves(&sender)).unwrap_or_default();
        hand.pay(&key, action::CommitCorpus { root, leaves: DOCUMENTS });
    }
    let is_own = |candidate: &Candidate| candidate.submitter == sender;
    if let Some(target) = running.filter(|_| hand.clock.phase.submits())
        && !read::candidates(hand.state, target.id).iter().any(is_own)
    {
        let (data, salt) = (data(document(epoch), &sender), salt(target.id, &sender));
        let (data_hash, id) = (Hash::of_bytes(&data), target.id);
        let size_bytes = u32::try_from(data.len()).unwrap_or(0);
        let commitment = commitment::data(hand.chain, &sender, id, &data_hash, size_bytes, &salt);
        let submit = action::Submit {
            target: id,
            model: target.routed[0].model,
            loss_q32: 1,
            gain_q32: 1 << 40,
            distance: 0,
            size_bytes,
            commitment,
        };
        hand.pay(&key, submit);
    }
    if let Some(target) = ended.filter(|target| target.status == TargetStatus::Open)
        && hand.clock.phase.publishing_rank().is_some()
        && read::candidates(hand.state, target.id).iter().any(is_own)
    {
        let document = document(target.epoch);
        let publish = action::PublishData {
            target: target.id,
            data: data(document, &sender),
            salt: salt(target.id, &sender),
            index: document,
            leaf_salt: leaf_salt(&sender),
            path: corpus::path(&leaves(&sender), document).unwrap_or_default(),
        };
        hand.pay(&key, publish);
    }
}

/// Registers a model, commits a file for it in every epoch and reveals it. It submits documents, so
/// that somebody audits the targets of its model, and has the adversary's validator hold its file.
pub(super) fn break_file(hand: &mut Hand<'_>) {
    let key = hand.key(0);
    let Some(model) = hand.own_models(&key.address()).first().map(|model| model.id) else {
        let (name, stake) = ("broken".into(), Amount::soma(500));
        return hand.pay(&key, action::RegisterModel { name, commission_bps: 0, stake });
    };
    let (epoch, next) = (hand.clock.epoch, Epoch(hand.clock.epoch.0 + 1));
    if read::commits_of(hand.state, model, next).is_empty() {
        hand.pay(&key, commit_weights(hand.chain, &key, model, 1, next));
    } else if hand.once_in(4) {
        let held = vec![HeldFile {
            model,
            ciphertext_hash: ciphertext(model, next),
            size_bytes: FILE_BYTES,
        }];
        hand.perform(&node_key(ADVERSARY), action::HoldWeights { epoch: next, held });
    }
    let due = !read::commits_of(hand.state, model, epoch).is_empty();
    if due && hand.clock.phase.reveals() {
        hand.pay(&key, reveal_weights(model));
    }
    claim(hand, |epoch| epoch.0 % LONG_DOCUMENT);
}

/// Stakes with many accounts in one epoch, withdraws with all of them in another, and retires all
/// models in a third, so that everything falls due at once.
pub(super) fn bomb(hand: &mut Hand<'_>) {
    let owner = hand.key(0);
    let own = hand.own_models(&owner.address());
    let ready: Vec<&Model> =
        own.iter().filter(|model| model.status == ModelStatus::Registered).collect();
    if ready.len() < MODELS {
        if own.len() < 2 * MODELS && hand.once_in(4) {
            let (name, stake) = ("bomb".into(), Amount::soma(1));
            hand.pay(&owner, action::RegisterModel { name, commission_bps: 0, stake });
        }
        return;
    }
    let Epoch(epoch) = hand.clock.epoch;
    if !hand.once_in(5) {
        return;
    }
    for model in ready.iter().take(MODELS) {
        let pool = PoolId::Model(model.id);
        if epoch % 8 == 7 {
            hand.pay(&owner, action::RetireModel { model: model.id });
        }
        for account in 1..=STAKERS {
            let key = hand.key(account);
            let share = Key::share(pool, &key.address());
            if epoch % 4 == 3 {
                hand.pay(&key, action::WithdrawStake { pool, amount: Amount::soma(1_000) });
            } else if epoch % 4 == 0 || hand.state.get(&share).is_none() {
                hand.pay(&key, action::AddStake { pool, amount: Amount::soma(5) });
            }
        }
    }
}
