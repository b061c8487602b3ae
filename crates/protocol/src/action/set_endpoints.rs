//! A validator says where its node is reached, so that nobody has to be told in another way when it
//! moves. It is free, so it cannot be done often.

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
    /// Where other nodes connect from now on, `host:port`.
    pub p2p: Option<String>,
    /// The URL of its API from now on.
    pub url: Option<String>,
}

impl Apply for SetEndpoints {
    const DUTY: bool = true;

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let validator = context.validator()?.address;
        let endpoints = Endpoints { p2p: self.p2p.clone(), url: self.url.clone() };
        if !endpoints.are_well_formed() {
            return Err(Rejection::BadEndpoints);
        }
        let now_ms = context.block.timestamp_ms;
        let former = read::endpoints(&context.state, &validator).unwrap_or_default();
        if self.last_ms != former.since_ms {
            return Err(Rejection::EndpointsChanged { since_ms: former.since_ms });
        }
        let from_ms = former.until_ms(&context.config.params);
        if now_ms < from_ms {
            return Err(Rejection::EndpointsSet { from_ms });
        }
        if former.endpoints == endpoints {
            return Err(Rejection::EndpointsUnchanged);
        }
        let Endpoints { p2p, url } = endpoints.clone();
        let record = EndpointsRecord { endpoints, since_ms: now_ms };
        context.state.save(Key::endpoints(&validator), &record);
        context.events.push(Event::EndpointsSet { validator, p2p, url });
        Ok(())
    }
}
