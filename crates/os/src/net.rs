//! What network addresses mean.

use std::net::IpAddr;

/// Whether an address that somebody else names can be another machine's: not this machine's own,
/// nor one that means something else to every machine, such as a cloud's service for its machines.
pub fn names_another_machine(ip: IpAddr) -> bool {
    let is_local = match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.octets()[0] == 0 || ip.is_loopback() || ip.is_link_local() || ip.is_broadcast()
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
    };
    !(is_local || ip.to_canonical().is_multicast())
}

/// Whether an address belongs to a private network.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::names_another_machine;

    #[test]
    fn nobody_else_sends_a_program_to_its_own_machine() {
        let elsewhere = |text: &str| names_another_machine(text.parse().unwrap());
        for own in [
            "127.0.0.1",
            "127.8.9.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "169.254.169.254",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(!elsewhere(own), "{own}");
        }
        for other in ["203.0.113.7", "10.0.0.2", "192.168.1.1", "2001:db8::1", "fd00::1"] {
            assert!(elsewhere(other), "{other}");
        }
    }
}
