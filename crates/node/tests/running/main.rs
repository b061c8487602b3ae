//! Tests against running nodes: real sockets on loopback, real disks, the real engine.

mod api;
mod competition;
mod network;
