//! Where requests come from: a client is an IPv4 address or a /64 of IPv6; its surroundings are an
//! IPv4 /24 or an IPv6 /48.

use std::net::IpAddr;

use soma_os::net::masked;

/// How many clients' allowance their surroundings have together.
const SURROUNDINGS: u32 = 4;

/// A client, or the surroundings of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Origin {
    pub(super) address: IpAddr,
    /// Whether it stands for more than one client.
    is_wide: bool,
}

impl Origin {
    /// The client with this address: all addresses of a /64 belong to one.
    pub(super) fn client(address: IpAddr) -> Self {
        Self { address: masked(address, 32, 4), is_wide: false }
    }

    /// What surrounds a client.
    pub(super) fn surroundings(self) -> Self {
        Self { address: masked(self.address, 24, 3), is_wide: true }
    }

    /// How many times a client's limits it may have.
    pub(super) fn times(self) -> u32 {
        if self.is_wide { SURROUNDINGS } else { 1 }
    }
}
