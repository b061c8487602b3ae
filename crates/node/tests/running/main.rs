//! Tests against running nodes: real sockets on loopback, real disks, the real engine.

#[cfg(test)]
mod api;
#[cfg(test)]
mod broken_files;
#[cfg(test)]
mod cold;
#[cfg(test)]
mod competition;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod duty_key;
#[cfg(test)]
mod edge;
#[cfg(test)]
mod fetch;
#[cfg(test)]
mod gossip;
#[cfg(test)]
mod history;
#[cfg(test)]
#[path = "../../../sdk/tests/issuer/mod.rs"]
mod issuer;
#[cfg(test)]
mod network;
#[cfg(test)]
mod page;
#[cfg(test)]
mod proofs;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod why;
