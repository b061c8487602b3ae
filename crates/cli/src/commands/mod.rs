//! One file for each command: its flags, what it does, what it prints. They are listed as `soma
//! --help` lists them; a later one may use an earlier one.

pub(crate) mod demo;
pub(crate) mod localnet;
pub(crate) mod genesis;
pub(crate) mod node;
pub(crate) mod score;
pub(crate) mod verify;
pub(crate) mod bench;
pub(crate) mod train;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod model;
pub(crate) mod target;
pub(crate) mod submit;
pub(crate) mod find;
pub(crate) mod embed;
pub(crate) mod keys;
pub(crate) mod balance;
pub(crate) mod send;
pub(crate) mod faucet;
pub(crate) mod tx;
pub(crate) mod stake;
pub(crate) mod validator;
pub(crate) mod vote;
pub(crate) mod status;
pub(crate) mod why;
pub(crate) mod top;
pub(crate) mod mcp;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod completions;
