//! The network classes of model admissions: one table from a class to the addresses it permits.

use std::net::IpAddr;

/// Which addresses an admitted model may be reached at (the table of the proxy).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkClass {
    /// 100.64.0.0/10 and fd7a:115c:a1e0::/48 (Tailscale's ranges: CGNAT of RFC 6598 and its own ULA prefix).
    LocalTailscale,
    /// Public addresses over TLS, plus [`NetworkClass::LocalTailscale`].
    CodexOauthPlusLocal,
    /// 127.0.0.0/8: for tests and rehearsals, never a Stage 2 pass.
    LoopbackTest,
}

impl NetworkClass {
    pub const ALL: [Self; 3] =
        [Self::LocalTailscale, Self::CodexOauthPlusLocal, Self::LoopbackTest];

    /// The text form in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LocalTailscale => "local-tailscale-vllm-spark1",
            Self::CodexOauthPlusLocal => "codex-oauth-hosted-model-plus-local-vllm-fallback",
            Self::LoopbackTest => "loopback-test",
        }
    }

    /// The addresses that it permits, in words.
    pub fn ranges(self) -> &'static str {
        match self {
            Self::LocalTailscale => "100.64.0.0/10 and fd7a:115c:a1e0::/48",
            Self::CodexOauthPlusLocal => {
                "100.64.0.0/10, fd7a:115c:a1e0::/48, and public addresses over TLS"
            }
            Self::LoopbackTest => "127.0.0.0/8",
        }
    }

    /// The class with that text, or `None`: an unknown class permits nothing.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }

    /// Whether a connection to `address` is inside the class; `tls` says that it is TLS with a checked certificate.
    pub fn permits(self, address: IpAddr, tls: bool) -> bool {
        let address = address.to_canonical();
        match self {
            Self::LocalTailscale => is_tailscale(address),
            Self::CodexOauthPlusLocal => is_tailscale(address) || (tls && is_public(address)),
            Self::LoopbackTest => matches!(address, IpAddr::V4(v4) if v4.is_loopback()),
        }
    }
}

fn is_tailscale(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64,
        IpAddr::V6(v6) => v6.segments()[..3] == [0xfd7a, 0x115c, 0xa1e0],
    }
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

/// Whether `text` holds a URL or an IP address.
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

    #[test]
    fn network_classes_hold_their_table() {
        use NetworkClass as N;
        let cases = [
            ("100.64.0.1", [true, true, false]),
            ("100.127.255.255", [true, true, false]),
            ("100.128.0.1", [false, true, false]),
            ("fd7a:115c:a1e0::1", [true, true, false]),
            ("fd7a:115c:a1e1::1", [false, false, false]),
            ("127.0.0.1", [false, false, true]),
            ("::1", [false, false, false]),
            ("::ffff:127.0.0.1", [false, false, true]),
            ("::ffff:10.0.0.1", [false, false, false]),
            ("8.8.8.8", [false, true, false]),
            ("169.254.169.254", [false, false, false]),
            ("192.168.1.1", [false, false, false]),
            ("172.31.0.1", [false, false, false]),
            ("2606:4700::1", [false, true, false]),
            ("2002:7f00:1::", [false, false, false]),
            ("64:ff9b::7f00:1", [false, false, false]),
            ("0.0.0.0", [false, false, false]),
        ];
        for (address, want) in cases {
            let ip: IpAddr = address.parse().unwrap();
            assert_eq!(N::ALL.map(|class| class.permits(ip, true)), want, "{address}");
            let plain = [want[0], want[0], want[2]];
            assert_eq!(N::ALL.map(|class| class.permits(ip, false)), plain, "{address} plain");
        }
        assert_eq!(N::from_text("anything"), None);
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
