//! Proxies that are believed when they name their clients, and what they write into `X-Forwarded-For`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Proxies in front of the gateway.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// Their networks.
    pub networks: Vec<IpNet>,
    /// Whether each of their connections begins with a header of the PROXY protocol.
    pub has_proxy_protocol: bool,
}

impl TrustedProxies {
    /// Whether an address is that of a trusted proxy.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Returns the client of a request that a trusted proxy sent, by its `X-Forwarded-For` headers: the rightmost address
    /// that is not itself a trusted proxy. Each proxy appends the address of its peer, so everything further left may be
    /// made up. If an entry is no address, whoever wrote it did not know its peer; its own address is then the best one
    /// known. Returns `None` if there is none but that of the connection. The port is 0 if it is unknown.
    pub(super) fn client<'a>(&self, headers: impl DoubleEndedIterator<Item = &'a [u8]>) -> Option<SocketAddr> {
        let mut client = None;
        for entry in headers.rev().flat_map(|header| header.rsplit(|byte| *byte == b',')) {
            let entry = entry.trim_ascii();
            // An empty element of a list has no meaning (RFC 9110, section 5.6.1).
            if entry.is_empty() {
                continue;
            }
            let Some(address) = parse_entry(entry) else { break };
            client = Some(address);
            if !self.contains(address.ip()) {
                break;
            }
        }
        client
    }
}

/// Parses an address with or without a port. IPv6 addresses have brackets if there is a port (RFC 7239, section 6), and
/// often without one.
fn parse_entry(entry: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(entry).ok()?;
    let without_port = |ip: IpAddr| SocketAddr::new(ip.to_canonical(), 0);
    let address =
        text.parse::<SocketAddr>().map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    address
        .ok()
        .or_else(|| text.parse().ok().map(without_port))
        .or_else(|| bracketed().map(|ip| without_port(ip.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(headers: &[&str]) -> Option<String> {
        let networks = vec!["10.0.0.0/8".parse().expect("a network"), "2001:db8::/32".parse().expect("a network")];
        let proxies = TrustedProxies { networks, has_proxy_protocol: false };
        proxies.client(headers.iter().map(|header| header.as_bytes())).map(|address| address.to_string())
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_trusted_proxy() {
        for (headers, expected) in [
            (&["192.0.2.1"][..], Some("192.0.2.1:0")),
            (&["1.1.1.1, 192.0.2.1"], Some("192.0.2.1:0")),
            (&["192.0.2.1,10.0.0.1 ,\t10.0.0.2"], Some("192.0.2.1:0")),
            (&["1.1.1.1", "192.0.2.1", "10.0.0.1"], Some("192.0.2.1:0")),
            (&["192.0.2.1", ""], Some("192.0.2.1:0")),
            (&["192.0.2.1, ,"], Some("192.0.2.1:0")),
            (&["192.0.2.1:4711"], Some("192.0.2.1:4711")),
            (&["::ffff:192.0.2.1"], Some("192.0.2.1:0")),
            (&["::ffff:10.0.0.1"], Some("10.0.0.1:0")),
            (&["192.0.2.1, ::ffff:10.0.0.1"], Some("192.0.2.1:0")),
            (&["2a00::1, 2001:db8::1"], Some("[2a00::1]:0")),
            (&["[2a00::1]"], Some("[2a00::1]:0")),
            (&["[2a00::1]:80, [2001:db8::1]:443"], Some("[2a00::1]:80")),
            (&["10.0.0.3, 10.0.0.2"], Some("10.0.0.3:0")),
            (&["192.0.2.1, unknown"], None),
            (&["192.0.2.1, _hidden, 10.0.0.2"], Some("10.0.0.2:0")),
            (&["192.0.2.1, 10.0.0.300"], None),
            (&["192.0.2.1, 1.2.3.4:99999"], None),
            (&["192.0.2.1, fe80::1%eth0"], None),
            (&["192.0.2.1, [1.2.3.4]"], None),
            (&["192.0.2.1, 010.0.0.1"], None),
            (&["192.0.2.1, \"2a00::1\""], None),
            (&["192.0.2.1, 1.2.3.4 5.6.7.8"], None),
            (&["192.0.2.1 10.0.0.1"], None),
            (&["192.0.2.1, \u{e9}"], None),
            (&[""], None),
            (&[], None),
        ] {
            assert_eq!(client(headers).as_deref(), expected, "{headers:?}");
        }
    }
}
