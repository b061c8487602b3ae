//! A validator proves that it holds the chunk that this epoch's storage challenge asks for. Only
//! validators that answer are paid rent.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context, check_epoch};
use crate::proof::storage;
use crate::record::{ChallengeAnswers, VALIDATORS_MAX};
use crate::state::Key;
use crate::{Epoch, Event, Hash, Rejection, hex, read};

/// A validator answers its storage challenge. A duty.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AnswerChallenge {
    /// The running epoch.
    pub epoch: Epoch,
    /// The chunk.
    #[serde(with = "hex")]
    pub chunk: Vec<u8>,
    /// The sibling subtree at every level of the file's tree, from the top down.
    pub path: Vec<Hash>,
}

impl Apply for AnswerChallenge {
    const DUTY: bool = true;

    // Looking for the challenge, and a hash tree.
    fn work(&self) -> u64 {
        1_000
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let epoch = self.epoch;
        let validator = context.validator()?.address;
        check_epoch(epoch, context.clock.epoch)?;
        let mut answers = read::challenge_answers(&context.state, epoch);
        if answers.contains(&validator) {
            return Err(Rejection::AlreadyAnswered { epoch });
        }
        let challenge = storage::challenge(&context.state, &validator);
        let challenge = challenge.ok_or(Rejection::NotChallenged)?;
        let model = challenge.model;
        if !storage::verifies(&challenge, &self.chunk, &self.path) {
            return Err(Rejection::WrongAnswer { model });
        }
        if answers.len() >= VALIDATORS_MAX {
            return Err(Rejection::Full);
        }
        answers.push(validator);
        let answers = ChallengeAnswers(answers);
        context.state.save(Key::answers(epoch), &answers);
        context.events.push(Event::ChallengeAnswered { epoch, validator, model });
        Ok(())
    }
}
