//! A validator shows the chunk that this epoch asks of it. Only who answers is paid rent.

use crate::action::{Context, check_epoch};
use crate::proof::storage;
use crate::record::ChallengeAnswers;
use crate::state::Key;
use crate::{Epoch, Event, Hash, Rejection, read};

pub(crate) fn apply(
    context: &mut Context<'_>,
    epoch: Epoch,
    chunk: &[u8],
    path: &[Hash],
) -> Result<(), Rejection> {
    let validator = context.validator()?.address;
    check_epoch(epoch, context.clock.epoch)?;
    let asked = storage::challenge(&context.state, &validator).ok_or(Rejection::NotChallenged)?;
    let mut answers = read::challenge_answers(&context.state, epoch);
    if answers.contains(&validator) {
        return Err(Rejection::AlreadyAnswered { epoch });
    }
    if !storage::verifies(&asked, chunk, path) {
        return Err(Rejection::WrongAnswer { model: asked.model });
    }
    answers.push(validator);
    context
        .state
        .save(Key::answers(epoch), &ChallengeAnswers(answers));
    context.events.push(Event::ChallengeAnswered {
        epoch,
        validator,
        model: asked.model,
    });
    Ok(())
}
