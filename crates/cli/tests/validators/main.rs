//! Networks of four validators, each a process with its own sockets and disk, driven by commands.

#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod audits;
#[cfg(test)]
mod committee;
#[cfg(test)]
mod guides;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod moves;
#[cfg(test)]
mod network;
#[cfg(test)]
mod start_a_network;
#[cfg(test)]
mod survival;
#[cfg(test)]
mod votes;
