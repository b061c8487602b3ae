//! A validator says where its node is reached, so that nobody has to be told in another way when it
//! moves. Free, and at most once in an epoch.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context, check_epoch};
use crate::record::{Endpoints, EndpointsRecord};
use crate::state::Key;
use crate::{Epoch, Event, Rejection, read};

/// A validator says where its node is reached. A duty, if that has changed.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SetEndpoints {
    /// The current epoch.
    pub epoch: Epoch,
    /// Where its node is reached from now on.
    #[serde(flatten)]
    pub endpoints: Endpoints,
}

impl Apply for SetEndpoints {
    const DUTY: bool = true;

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let (epoch, validator) = (context.clock.epoch, context.validator()?.address);
        check_epoch(self.epoch, epoch)?;
        if !self.endpoints.are_well_formed() {
            return Err(Rejection::BadEndpoints);
        }
        let former = read::endpoints(&context.state, &validator);
        if former.as_ref().is_some_and(|former| former.epoch == epoch) {
            return Err(Rejection::EndpointsSet { epoch });
        }
        if former.map(|former| former.endpoints).unwrap_or_default() == self.endpoints {
            return Err(Rejection::EndpointsUnchanged);
        }
        let endpoints = self.endpoints.clone();
        let record = EndpointsRecord { endpoints: endpoints.clone(), epoch };
        context.state.save(Key::endpoints(&validator), &record);
        context.events.push(Event::EndpointsSet { validator, endpoints });
        Ok(())
    }
}
