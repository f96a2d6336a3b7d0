//! Under which names and addresses this machine is reached.
//!
//! Invariants: no network and no DNS is asked (T26); the answer is the same as long as the machine is, in whatever order its
//! interfaces are.

use std::net::{IpAddr, Ipv6Addr};

use creds::ca::{self, ServerNames};
use nix::net::if_::InterfaceFlags;

/// No more addresses of interfaces are in a certificate: a machine with hundreds of containers has as many networks.
const MOST_ADDRESSES: usize = 32;

/// Under which names this machine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// For the URL.
    pub host: String,
    /// For those who look for the core on the network: the configured address, or else all of this machine; none on a machine
    /// without a network.
    pub addresses: Vec<IpAddr>,
    /// For the certificate.
    pub certificate: ServerNames,
}

/// Finds the names of this machine: its host name, the address packets to the world would leave from, and those of its
/// interfaces. The first is the one of the URL; without a route, which this needs, it is the first of an interface, and
/// without any the URL says `localhost` (T26).
#[must_use]
pub fn names(configured: Option<&str>) -> Names {
    let hostname = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default();
    let outbound = ca::outbound_address();
    let given = configured.and_then(|host| host.parse::<IpAddr>().ok());
    let others = of_interfaces();
    let own = outbound.or_else(|| others.first().copied());
    let reached = match given {
        Some(address) => vec![address],
        None => {
            let rest = others.iter().copied().filter(|one| Some(*one) != outbound);
            outbound.into_iter().chain(rest).collect()
        }
    };
    let addresses = outbound.into_iter().chain(given).chain(others);
    let addresses: Vec<IpAddr> = addresses.collect();
    let host = match (configured, own) {
        (Some(host), _) => host.to_owned(),
        (None, Some(address)) => address.to_string(),
        (None, None) => "localhost".to_owned(),
    };
    // A configured name takes the host name's place in the certificate, or nobody could connect by it.
    let name = configured.filter(|_| given.is_none()).unwrap_or(&hostname);
    Names {
        host: if host.contains(':') {
            format!("[{host}]")
        } else {
            host
        },
        addresses: reached,
        certificate: ServerNames::new(name, &addresses),
    }
}

/// Addresses by which others may reach this machine without a route to the world: those of its interfaces that are up, but
/// not those that only count on one link. Sorted.
fn of_interfaces() -> Vec<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let up = all.filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP));
    let four = up.filter_map(|interface| {
        let address = interface.address?.as_sockaddr_in()?.ip();
        let is_for_others =
            !(address.is_loopback() || address.is_link_local() || address.is_unspecified());
        is_for_others.then_some(IpAddr::V4(address))
    });
    let six = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    let mut found: Vec<IpAddr> = four.chain(lasting(&six).map(IpAddr::V6)).collect();
    found.sort();
    found.dedup();
    found.truncate(MOST_ADDRESSES);
    found
}

/// The IPv6 addresses that the kernel lists as global ones and that stay: temporary ones (RFC 8981) change daily, and are not
/// for being called at.
fn lasting(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    /// `IFA_F_TEMPORARY`, `IFA_F_DADFAILED`, `IFA_F_TENTATIVE`.
    const PASSING: u32 = 0x01 | 0x08 | 0x40;
    table.lines().filter_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok()?;
        let mut number = || u32::from_str_radix(fields.next()?, 16).ok();
        let (_interface, _prefix, scope, flags) = (number()?, number()?, number()?, number()?);
        (scope == 0 && flags & PASSING == 0).then(|| Ipv6Addr::from(address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_host_is_the_urls() {
        assert_eq!(names(Some("box.local")).host, "box.local");
        assert_eq!(names(Some("10.0.0.1")).host, "10.0.0.1");
        assert_eq!(names(Some("fe80::1")).host, "[fe80::1]");
        assert!(!names(None).host.is_empty());
        assert_eq!(names(None), names(None));
    }

    #[test]
    fn only_addresses_that_last_are_in_a_certificate() {
        let table = "\
00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000000000000000001 02 40 20 80     eth0
20010db8000000000000000000000001 02 40 00 00     eth0
20010db8000000000000000000000002 02 40 00 01     eth0
20010db8000000000000000000000003 02 40 00 40     eth0
fd000000000000000000000000000004 0a 40 00 80     eth1
nonsense
";
        let found: Vec<String> = lasting(table).map(|address| address.to_string()).collect();
        assert_eq!(found, ["2001:db8::1", "fd00::4"]);
        let all = of_interfaces();
        assert!(all.iter().all(|address| !address.is_loopback()));
        assert!(all.is_sorted() && all.len() <= MOST_ADDRESSES);
    }
}
