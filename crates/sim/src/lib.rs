//! A whole network in one process: the real validators, on a simulated network, with simulated
//! disks and a simulated clock. One seed gives one history, bit for bit.
//!
//! A history is full of faults, drawn from its seed: messages are lost, delayed, duplicated and
//! reordered; the network is partitioned; nodes crash, lose power, and get errors from their disks;
//! one validator may be an adversary; people attack with ordinary transactions; clocks are wrong.
//! The checker executes every block itself.
//! At the end all faults stop and the network must make progress. Nothing here reads the real
//! clock or a real file, and nothing but the checker decides whether a history is correct.
//!
//! Reading order: what a network is made of (`genesis`, `plant`, `mempool`, `network`), who acts
//! (`actors`, `adversary`, `attackers`, `honest`), what is checked (`promises`, `offers`,
//! `checker`, `evidence`, `ballots`), how it runs (`node`, `cluster`), what goes wrong (`faults`),
//! and one history from start to end (`scenario`).

pub mod violation;
pub mod genesis;
pub mod plant;
pub mod mempool;
pub mod network;
pub mod actors;
pub mod adversary;
pub mod attackers;
pub mod honest;
pub mod promises;
pub mod offers;
pub mod checker;
pub mod evidence;
pub mod ballots;
pub mod node;
pub mod cluster;
pub mod faults;
pub mod scenario;

pub use plant::Plant;
pub use scenario::{Report, Settings, run};
pub use violation::Violation;
