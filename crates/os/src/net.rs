//! What network addresses mean.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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

/// The same of a host, which is an address or a name. Resolvers take more forms for addresses than
/// those that are read as one here, all of which end in a number.
pub fn names_another_host(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = host.parse() {
        return names_another_machine(ip);
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.starts_with(|first: char| first.is_ascii_digit());
    !is_number && last != "localhost"
}

/// Whether an address belongs to a private network.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_private(),
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

/// The client that a proxy names in a line of `X-Forwarded-For`, with or without its port. A proxy
/// appends to the header or adds a line, so the last entry of the last line is its own; the client
/// can forge all others.
pub fn last_forwarded(line: &str) -> Option<IpAddr> {
    let entry = line.rsplit(',').next()?.trim();
    let bare = entry.strip_prefix('[').and_then(|entry| entry.strip_suffix(']')).unwrap_or(entry);
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse().ok().or_else(with_port)
}

/// The address with only the first bits (of IPv4) or 16-bit segments (of IPv6) kept.
pub fn masked(address: IpAddr, bits: u32, segments: usize) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(u32::MAX);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mut all = address.segments();
            all[segments..].fill(0);
            IpAddr::V6(Ipv6Addr::from(all))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{last_forwarded, masked, names_another_host, names_another_machine};

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
    #[test]
    fn a_host_is_another_one_unless_it_is_or_hides_an_address_of_this_machine() {
        for own in ["localhost", "LOCALHOST.", "a.localhost", "127.1", "0x7f000001", "[::1]"] {
            assert!(!names_another_host(own), "{own}");
        }
        for other in ["validator.example.org", "[2001:db8::1]", "203.0.113.7", "node"] {
            assert!(names_another_host(other), "{other}");
        }
    }

    #[test]
    fn a_proxy_s_own_entry_is_the_last_one() {
        let named = |line| last_forwarded(line).map(|ip| ip.to_string());
        assert_eq!(named("10.0.0.1, 203.0.113.7").as_deref(), Some("203.0.113.7"));
        assert_eq!(named("203.0.113.7:4000").as_deref(), Some("203.0.113.7"));
        assert_eq!(named("[2001:db8::1]").as_deref(), Some("2001:db8::1"));
        assert_eq!(named("[2001:db8::1]:4000").as_deref(), Some("2001:db8::1"));
        assert_eq!(named("203.0.113.7, nobody"), None);
    }

    #[test]
    fn a_masked_address_keeps_its_beginning() {
        let kept =
            |text: &str, bits, segments| masked(text.parse().unwrap(), bits, segments).to_string();
        assert_eq!(kept("::ffff:203.0.113.7", 24, 3), "203.0.113.0");
        assert_eq!(kept("203.0.113.7", 32, 3), "203.0.113.7");
        assert_eq!(kept("2001:db8:1:2:3::4", 32, 3), "2001:db8:1::");
    }
}
