//! A validator shows the chunk that this epoch asks of it. Only who answers is paid rent.

use crate::apply::Context;
use crate::record::Answers;
use crate::state::Key;
use crate::storage::{challenge, verifies};
use crate::{Epoch, Event, Hash, Rejection, view};

use super::check_epoch;

pub(crate) fn apply(
    context: &mut Context<'_>,
    epoch: Epoch,
    chunk: &[u8],
    path: &[Hash],
) -> Result<(), Rejection> {
    let validator = context.validator()?.address;
    check_epoch(epoch, context.clock.epoch)?;
    let asked = challenge(&context.state, &validator).ok_or(Rejection::NotChallenged)?;
    let mut answers = view::answers(&context.state, epoch);
    if answers.contains(&validator) {
        return Err(Rejection::AlreadyAnswered { epoch });
    }
    if !verifies(&asked, chunk, path) {
        return Err(Rejection::WrongAnswer { model: asked.model });
    }
    answers.push(validator);
    context.state.save(Key::answers(epoch), &Answers(answers));
    context.events.push(Event::ChallengeAnswered {
        epoch,
        validator,
        model: asked.model,
    });
    Ok(())
}
