//! A whole network in one process: the real validators, on a simulated network, with simulated
//! disks and a simulated clock. One seed gives one history, bit for bit.
//!
//! A history is full of faults, drawn from its seed: messages are lost, delayed, duplicated and
//! reordered; the network is partitioned; nodes crash, lose power, and get errors from their disks;
//! one validator may be an adversary; clocks are wrong. The checker executes every block itself.
//! At the end all faults stop and the network must make progress. Nothing here reads the real
//! clock or a real file, and nothing but the checker decides whether a history is correct.
//!
//! Reading order: what a network is made of (`genesis`, `mempool`, `actors`, `adversary`,
//! `network`), what is checked (`checker`, `evidence`), how it runs (`node`, `cluster`), what goes
//! wrong (`faults`), and one history from start to end (`scenario`).

pub mod violation;
pub mod genesis;
pub mod mempool;
pub mod actors;
pub mod adversary;
pub mod network;
pub mod checker;
pub mod evidence;
pub mod node;
pub mod cluster;
pub mod faults;
pub mod scenario;

pub use scenario::{Report, Settings, run};
pub use violation::Violation;
