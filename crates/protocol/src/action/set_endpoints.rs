//! A validator says where its node is reached, so that nobody has to be told in another way when it
//! moves. Free, and therefore not often.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::record::{Endpoints, EndpointsRecord};
use crate::state::Key;
use crate::{Event, Rejection, decimal, read};

/// A validator says where its node is reached. A duty, if that has changed.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct SetEndpoints {
    /// When it said so last, in ms of block time, or 0: nobody brings back what it said before.
    #[serde(with = "decimal")]
    pub last_ms: u64,
    /// Where its node is reached from now on.
    #[serde(flatten)]
    pub endpoints: Endpoints,
}

impl Apply for SetEndpoints {
    const DUTY: bool = true;

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let validator = context.validator()?.address;
        if !self.endpoints.are_well_formed() {
            return Err(Rejection::BadEndpoints);
        }
        let now_ms = context.block.timestamp_ms;
        let former = read::endpoints(&context.state, &validator).unwrap_or_default();
        let from_ms = former.until_ms(&context.config.params);
        if now_ms < from_ms || self.last_ms != former.since_ms {
            return Err(Rejection::EndpointsSet { from_ms });
        }
        if former.endpoints == self.endpoints {
            return Err(Rejection::EndpointsUnchanged);
        }
        let endpoints = self.endpoints.clone();
        let record = EndpointsRecord { endpoints: endpoints.clone(), since_ms: now_ms };
        context.state.save(Key::endpoints(&validator), &record);
        context.events.push(Event::EndpointsSet { validator, endpoints });
        Ok(())
    }
}
