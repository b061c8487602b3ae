//! One file for each command: its flags, what it does, what it prints.

pub(crate) mod account;
pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod keys;
pub(crate) mod localnet;
pub(crate) mod model;
pub(crate) mod node;
pub(crate) mod run;
pub(crate) mod score;
pub(crate) mod stake;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod target;
pub(crate) mod top;
pub(crate) mod train;
pub(crate) mod validator;
pub(crate) mod vote;
