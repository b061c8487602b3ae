//! What a transaction can do: one file for each action, with its fields, what it checks and what it
//! changes. This file holds only the table of actions.

mod context;
mod transfer;
pub(crate) mod register_model;
mod rotate_key;
mod set_duty_key;
mod set_endpoints;
mod return_validator;
mod register_validator;
mod leave_validator;
mod report_equivocation;
mod add_stake;
mod withdraw_stake;
mod set_commission;
mod commit_weights;
mod hold_weights;
mod answer_challenge;
mod propose;
mod vote;
mod vote_rent_price;
pub(crate) mod reveal_weights;
mod retire_model;
mod commit_beacon;
mod reveal_beacon;
mod commit_corpus;
mod submit;
mod publish_data;
mod commit_verdict;
mod reveal_verdict;
mod end_phase;

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use context::Apply;
pub(crate) use context::Context;
pub use hold_weights::{HELD_FILES_MAX, HeldFile};

use crate::Rejection;

/// The actions with their JSON names, in the order of their encoding: new ones come last.
macro_rules! actions {
    ($($module:ident: $name:ident,)*) => {
        $(pub use $module::$name;)*

        /// What a transaction does. `epoch` is always the epoch that the action is *for*.
        #[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
        #[serde(tag = "action", rename_all = "snake_case")]
        pub enum Action {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)*
        }

        impl Action {
            /// The action's name in JSON.
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($module),)* }
            }

            /// Whether the action is a duty: what validators owe the network, evidence against
            /// them, and the operator's command. Every other action is a payment.
            pub const fn is_duty(&self) -> bool {
                match self { $(Self::$name(_) => $name::DUTY,)* }
            }

            /// What the action costs every node beyond reading its bytes, in bytes that cost as
            /// much.
            pub fn work(&self) -> u64 {
                match self { $(Self::$name(action) => action.work(),)* }
            }

            /// Room that its consequences take permanently, in bytes, beyond the records that it
            /// writes itself: whoever sends it pays for that, too.
            pub fn room_bytes(&self) -> u64 {
                match self { $(Self::$name(action) => action.room_bytes(),)* }
            }

            /// Whether a validator's duty key may send it in its validator's name.
            pub const fn is_by_duty_key(&self) -> bool {
                match self { $(Self::$name(_) => $name::BY_DUTY_KEY,)* }
            }

            /// Applies the action or rejects it. Anything written before a rejection is discarded.
            pub(crate) fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
                match self { $(Self::$name(action) => action.apply(context),)* }
            }
        }

        $(impl From<$name> for Action {
            fn from(action: $name) -> Self {
                Self::$name(action)
            }
        }

        impl fmt::Debug for $name {
            /// Prints only the name: some actions hold kilobytes, and some hold keys.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($module))
            }
        })*
    };
}

actions! {
    transfer: Transfer,
    register_model: RegisterModel,
    register_validator: RegisterValidator,
    rotate_key: RotateKey,
    leave_validator: LeaveValidator,
    return_validator: ReturnValidator,
    report_equivocation: ReportEquivocation,
    add_stake: AddStake,
    withdraw_stake: WithdrawStake,
    set_commission: SetCommission,
    commit_weights: CommitWeights,
    hold_weights: HoldWeights,
    answer_challenge: AnswerChallenge,
    propose: Propose,
    vote: Vote,
    vote_rent_price: VoteRentPrice,
    reveal_weights: RevealWeights,
    retire_model: RetireModel,
    commit_beacon: CommitBeacon,
    reveal_beacon: RevealBeacon,
    submit: Submit,
    publish_data: PublishData,
    commit_verdict: CommitVerdict,
    reveal_verdict: RevealVerdict,
    end_phase: EndPhase,
    commit_corpus: CommitCorpus,
    set_duty_key: SetDutyKey,
    set_endpoints: SetEndpoints,
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
