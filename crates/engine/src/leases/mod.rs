//! Permission to vote, which the validators give to one process of a key at a time.
//!
//! Two processes with one key contradict each other sooner or later, and the stake is lost. A node
//! therefore signs only while it holds *leases* of so many other seats that no second process can
//! hold as many, if those seats are honest. What processes say about themselves, signed by their
//! key, is passed on: a process whose record of votes is older than what its key has signed
//! elsewhere learns of it.
//!
//! `pace` has the times, `presence` is what a process says, `seen` what it was seen to vote,
//! `messages` how both travel, `witness` what a node grants to others, `holder` what it holds
//! itself, `carrier` the task between these and the network.

pub(crate) mod pace;
pub(crate) mod presence;
pub(crate) mod seen;
pub(crate) mod messages;
pub(crate) mod witness;
pub(crate) mod holder;
pub(crate) mod carrier;
