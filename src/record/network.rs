//! Networks: which addresses and hosts an admitted model may be reached at. Some are built in; a root has its own, in
//! `[[network]]` of `admit.toml`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::Name;
use super::text::serde_text;

/// The network of tests and rehearsals: a run in it can never be a pass.
pub const LOOPBACK_TEST: &str = "loopback-test";

/// One `[[network]]` of a root.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkRecord {
    /// The name by which model records call it; no built-in one's.
    pub name: Name,
    /// Ranges of addresses, such as `192.168.7.0/24`, or single addresses. Every address of an endpoint must lie in one.
    pub addresses: Vec<Range>,
    /// Where it is not empty: the endpoint's host must be one of these, spelled as in its URL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Whether the endpoint must be spoken to over TLS with a checked certificate.
    #[serde(default)]
    pub tls: bool,
}

/// A range of addresses, `ADDRESS/BITS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, JsonSchema)]
#[schemars(with = "String")]
pub struct Range {
    first: IpAddr,
    bits: u8,
}

impl Range {
    fn contains(self, address: IpAddr) -> bool {
        let shift = |all: u32| all - u32::from(self.bits);
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let (a, b) = (u32::from(first), u32::from(address));
                (a ^ b).checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let (a, b) = (u128::from(first), u128::from(address));
                (a ^ b).checked_shr(shift(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Range {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let shown = text.escape_debug();
        let fail = |what: &str| Err(format!("\"{shown}\" is no range of addresses: {what}"));
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let Ok(first) = address.parse::<IpAddr>() else {
            return fail("expected ADDRESS/BITS, such as 192.168.7.0/24");
        };
        if first.to_canonical() != first {
            return fail("write an IPv4 address as one");
        }
        let all: u8 = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits.map(|bits| (bits, bits.parse::<u8>())) {
            None => all,
            // "+24" and "024" parse as numbers.
            Some((text, Ok(bits))) if bits <= all && bits.to_string() == text => bits,
            Some(_) => return fail(&format!("expected 0 to {all} bits")),
        };
        let range = Self { first, bits };
        let zero = match first {
            IpAddr::V4(v4) => u32::from(v4).checked_shl(bits.into()).unwrap_or(0) == 0,
            IpAddr::V6(v6) => u128::from(v6).checked_shl(bits.into()).unwrap_or(0) == 0,
        };
        match zero {
            true => Ok(range),
            false => fail(&format!("the address has bits behind the first {bits}")),
        }
    }
}

serde_text!(Range);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// Some addresses, and whether they must be reached over TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Allowed {
    Range {
        range: Range,
        tls: bool,
    },
    /// Addresses that all of the Internet can reach, over TLS.
    PublicTls,
}

/// Which addresses and hosts a model may be reached at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    name: String,
    allowed: Vec<Allowed>,
    hosts: Vec<String>,
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Range {
    Range { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
}

const fn v6(a: u16, b: u16, c: u16, last: u16, bits: u8) -> Range {
    Range { first: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last)), bits }
}

/// Tailscale's ranges: CGNAT of RFC 6598 and its own ULA prefix.
const TAILNET: [Range; 2] = [v4(100, 64, 0, 0, 10), v6(0xfd7a, 0x115c, 0xa1e0, 0, 48)];

impl Network {
    pub const BUILT_IN: [&str; 6] = [
        "this-machine",
        "private",
        "public-tls",
        "local-tailscale-vllm-spark1",
        "codex-oauth-hosted-model-plus-local-vllm-fallback",
        LOOPBACK_TEST,
    ];

    pub fn built_in(name: &str) -> Option<Self> {
        let ranges: &[Range] = match name {
            "this-machine" => &[v4(127, 0, 0, 0, 8), v6(0, 0, 0, 1, 128)],
            // RFC 1918 and RFC 4193.
            "private" => &[
                v4(10, 0, 0, 0, 8),
                v4(172, 16, 0, 0, 12),
                v4(192, 168, 0, 0, 16),
                v6(0xfc00, 0, 0, 0, 7),
            ],
            "public-tls" => &[],
            "local-tailscale-vllm-spark1" => &TAILNET,
            "codex-oauth-hosted-model-plus-local-vllm-fallback" => &TAILNET,
            LOOPBACK_TEST => &[v4(127, 0, 0, 0, 8)],
            _ => return None,
        };
        let mut allowed: Vec<_> =
            ranges.iter().map(|range| Allowed::Range { range: *range, tls: false }).collect();
        if name == "public-tls" || name == "codex-oauth-hosted-model-plus-local-vllm-fallback" {
            allowed.push(Allowed::PublicTls);
        }
        Some(Self { name: name.to_owned(), allowed, hosts: Vec::new() })
    }

    pub fn named(name: &str, own: &[NetworkRecord]) -> Option<Self> {
        let of_root = || {
            let record = own.iter().find(|record| record.name.as_str() == name)?;
            let allowed = record.addresses.iter();
            let allowed = allowed.map(|range| Allowed::Range { range: *range, tls: record.tls });
            Some(Self {
                name: name.to_owned(),
                allowed: allowed.collect(),
                hosts: record.hosts.clone(),
            })
        };
        Self::built_in(name).or_else(of_root)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a connection to `address` is inside; `tls` says that it is TLS with a checked certificate.
    pub fn permits(&self, address: IpAddr, tls: bool) -> bool {
        let address = address.to_canonical();
        // No server has such an address, whatever range it lies in.
        if address.is_unspecified()
            || address.is_multicast()
            || address == IpAddr::V4(Ipv4Addr::BROADCAST)
        {
            return false;
        }
        self.allowed.iter().any(|allowed| match allowed {
            Allowed::Range { range, tls: wanted } => range.contains(address) && (tls || !wanted),
            Allowed::PublicTls => tls && is_public(address),
        })
    }

    /// Whether `host`, as the endpoint's URL has it, may be asked. A name may be written in either case.
    pub fn permits_host(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        self.hosts.is_empty() || self.hosts.iter().any(|one| one.eq_ignore_ascii_case(host))
    }

    pub fn words(&self) -> String {
        let one = |allowed: &Allowed| match allowed {
            Allowed::Range { range, tls: false } => range.to_string(),
            Allowed::Range { range, tls: true } => format!("{range} over TLS"),
            Allowed::PublicTls => "public addresses over TLS".to_owned(),
        };
        let mut words = self.allowed.iter().map(one).collect::<Vec<_>>().join(", ");
        if !self.hosts.is_empty() {
            words.push_str(&format!("; hosts: {}", self.hosts.join(", ")));
        }
        words
    }
}

/// What is wrong with a root's networks: a name that is taken, one that permits nothing, a host that is none.
pub fn check(networks: &[NetworkRecord]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for network in networks {
        let name = &network.name;
        if Network::built_in(name.as_str()).is_some() {
            return Err(format!("network \"{name}\" is built in: choose another name"));
        }
        if !names.insert(name) {
            return Err(format!("two networks are called \"{name}\""));
        }
        if network.addresses.is_empty() {
            return Err(format!("network \"{name}\" names no addresses, and so permits nothing"));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
        if let Some(host) = network.hosts.iter().find(|h| h.is_empty() || !h.bytes().all(plain)) {
            return Err(format!(
                "network \"{name}\" names \"{}\", which is no host's name or address",
                host.escape_debug()
            ));
        }
    }
    Ok(())
}

/// Globally reachable unicast by the IANA special-purpose registries (RFC 6890 and its updates), read narrowly: what
/// is not surely public is not public.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            !(matches!(a, 0 | 10 | 127 | 224..=255)
                || (a == 100 && b & 0xc0 == 64)
                || (a == 169 && b == 254)
                || (a == 172 && b & 0xf0 == 16)
                || (a == 192
                    && (b == 168 || (b == 0 && matches!(c, 0 | 2)) || (b == 88 && c == 99)))
                || (a == 198 && (b & 0xfe == 18 || (b == 51 && c == 100)))
                || (a == 203 && b == 0 && c == 113))
        }
        // 2000::/3 without 2001::/23 (protocol assignments), documentation and 6to4, which carries any IPv4 address.
        IpAddr::V6(v6) => {
            let s = v6.segments();
            s[0] & 0xe000 == 0x2000
                && !(s[0] == 0x2001 && (s[1] < 0x0200 || s[1] == 0x0db8))
                && s[0] != 0x2002
                && s[0] & 0xfff0 != 0x3ff0
        }
    }
}

pub fn names_an_address(text: &str) -> bool {
    text.contains("://")
        || text
            .split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':')))
            .map(|word| word.trim_end_matches(['.', ':']))
            .any(|word| {
                let host = word
                    .rsplit_once(':')
                    .filter(|(h, _)| !h.contains(':'))
                    .map_or(word, |(h, _)| h);
                (host.contains('.') || host.matches(':').count() > 1)
                    && host.parse::<IpAddr>().is_ok()
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in(name: &str) -> Network {
        Network::built_in(name).unwrap()
    }

    #[test]
    fn built_in_networks_hold_their_table() {
        // this-machine, private, public-tls, the tailnet, the hosted model's, loopback-test; over TLS.
        let cases = [
            ("100.64.0.1", [false, false, false, true, true, false]),
            ("100.127.255.255", [false, false, false, true, true, false]),
            ("100.128.0.1", [false, false, true, false, true, false]),
            ("fd7a:115c:a1e0::1", [false, true, false, true, true, false]),
            ("fd7a:115c:a1e1::1", [false, true, false, false, false, false]),
            ("127.0.0.1", [true, false, false, false, false, true]),
            ("::1", [true, false, false, false, false, false]),
            ("::ffff:127.0.0.1", [true, false, false, false, false, true]),
            ("::ffff:10.0.0.1", [false, true, false, false, false, false]),
            ("8.8.8.8", [false, false, true, false, true, false]),
            ("169.254.169.254", [false; 6]),
            ("192.168.1.1", [false, true, false, false, false, false]),
            ("172.31.0.1", [false, true, false, false, false, false]),
            ("172.32.0.1", [false, false, true, false, true, false]),
            ("2606:4700::1", [false, false, true, false, true, false]),
            ("2002:7f00:1::", [false; 6]),
            ("64:ff9b::7f00:1", [false; 6]),
            ("0.0.0.0", [false; 6]),
            ("255.255.255.255", [false; 6]),
            ("ff02::1", [false; 6]),
        ];
        for (address, want) in cases {
            let ip: IpAddr = address.parse().unwrap();
            let found = Network::BUILT_IN.map(|name| built_in(name).permits(ip, true));
            assert_eq!(found, want, "{address}");
            let public = want[2];
            let plain = Network::BUILT_IN.map(|name| built_in(name).permits(ip, false));
            assert_eq!(plain, want.map(|inside| inside && !public), "{address} plain");
        }
        assert_eq!(Network::named("anything", &[]), None);
        assert_eq!(built_in("public-tls").words(), "public addresses over TLS");
    }

    #[test]
    fn a_network_of_ones_own_permits_its_ranges_and_hosts_alone() {
        let home = NetworkRecord {
            name: "home".parse().unwrap(),
            addresses: vec!["192.168.7.0/24".parse().unwrap(), "fd00::7".parse().unwrap()],
            hosts: vec!["Llm.home.arpa".into()],
            tls: false,
        };
        let own = [home.clone()];
        check(&own).unwrap();
        let network = Network::named("home", &own).unwrap();
        assert_eq!(network.words(), "192.168.7.0/24, fd00::7/128; hosts: Llm.home.arpa");
        for (address, inside) in [
            ("192.168.7.255", true),
            ("192.168.8.0", false),
            ("::ffff:192.168.7.1", true),
            ("fd00::7", true),
            ("fd00::8", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(network.permits(address.parse().unwrap(), false), inside, "{address}");
        }
        assert!(network.permits_host("llm.HOME.arpa") && !network.permits_host("home.arpa"));
        let tls = NetworkRecord { tls: true, hosts: Vec::new(), ..home.clone() };
        let network = Network::named("home", &[tls]).unwrap();
        let inside = "192.168.7.1".parse().unwrap();
        assert!(network.permits(inside, true) && !network.permits(inside, false));
        let all = NetworkRecord { addresses: vec!["0.0.0.0/0".parse().unwrap()], ..home.clone() };
        let network = Network::named("home", &[all]).unwrap();
        assert!(network.permits(inside, false));
        assert!(!network.permits("0.0.0.0".parse().unwrap(), false));
        for bad in [
            "",
            "192.168.7.1/24",
            "192.168.7.0/33",
            "192.168.7.0/+24",
            "1.2.3",
            "fd00::/129",
            "::ffff:1.2.3.4",
        ] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
        let named = |name: &str| NetworkRecord { name: name.parse().unwrap(), ..home.clone() };
        assert!(check(&[named("private")]).unwrap_err().contains("built in"));
        assert!(check(&[named("a"), named("a")]).unwrap_err().contains("two networks"));
        let empty = NetworkRecord { addresses: Vec::new(), ..home.clone() };
        assert!(check(&[empty]).unwrap_err().contains("no addresses"));
        let url = NetworkRecord { hosts: vec!["http://h".into()], ..home };
        assert!(check(&[url]).unwrap_err().contains("no host"));
    }

    #[test]
    fn versions_and_times_are_no_addresses() {
        for text in
            ["gpt-5.5 of 2026-05-31", "JP chat approval on 2026-05-31", "12:30:00", "v1.2.3"]
        {
            assert!(!names_an_address(text), "{text}");
        }
        for text in ["10.0.0.1", "[fd7a:115c:a1e0::1]:8000", "at 10.0.0.1:80.", "ws://x"] {
            assert!(names_an_address(text), "{text}");
        }
    }
}
