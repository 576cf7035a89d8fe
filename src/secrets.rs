//! What may never be written: known values in all their encodings, and shapes of credentials (pure).
//!
//! Known values come first, because only they are exact: the keys of this run, the endpoint's URL, host, port and
//! addresses. The [`rules`] come second. Everything is looked at as bytes, so binary files and file names are no
//! exception, and a value that is split over two reads is still found.
//!
//! A [`Hit`] names what was found and where, never the value. Values are wiped from memory when dropped.

mod automaton;
mod encodings;
pub mod rules;

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use automaton::Automaton;
pub use encodings::Encoding;

/// A value that must not be shown: wiped on drop, printed as its length only.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over `bytes`. An empty value is `None`: it would match everywhere and protect nothing.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (!bytes.is_empty()).then(|| Self(Zeroizing::new(bytes)))
    }

    /// The value itself. Every use of this method is a place to review.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether `other` is the same value, in time that does not depend on where they differ (both are hashed, and
    /// BLAKE3's comparison is constant-time).
    pub fn matches(&self, other: &[u8]) -> bool {
        blake3::hash(&self.0) == blake3::hash(other)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// Something that must not be there. Holds no part of the value.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Hit {
    /// Name of the known value, or of the rule.
    pub id: String,
    /// The form, for a known value; absent for a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// First byte of the find, counted from the start of the stream. For a value wrapped over lines, at most this.
    pub offset: u64,
}

struct Pattern {
    value: usize,
    encoding: Encoding,
    len: usize,
    /// A value shorter than [`encodings::SHORTEST_DERIVED`] counts only where no letter or digit touches it.
    alone: bool,
}

/// The known values of a run, ready to be looked for. Cheap to clone; clones learn together.
#[derive(Clone)]
pub struct Known(Arc<Mutex<Arc<KnownInner>>>);

struct KnownInner {
    values: Vec<(String, Secret)>,
    patterns: Vec<Pattern>,
    machine: Automaton,
}

impl Known {
    /// Prepares `values`, each with the name under which a hit is reported.
    pub fn new(values: &[(String, Secret)]) -> Self {
        Self(Arc::new(Mutex::new(Arc::new(KnownInner::new(values.to_vec())))))
    }

    /// Looks for these too from now on, in every clone. A stream that is being looked through goes on with what was known
    /// at its beginning.
    pub fn learn(&self, values: &[(String, Secret)]) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let there = |(id, value): &&(String, Secret)| {
            inner.values.iter().any(|(of, known)| of == id && known.matches(value.expose()))
        };
        let new: Vec<_> = values.iter().filter(|one| !there(one)).cloned().collect();
        if !new.is_empty() {
            *inner = Arc::new(KnownInner::new([inner.values.clone(), new].concat()));
        }
    }

    fn now(&self) -> Arc<KnownInner> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// No known value at all: only the rules can hit.
    pub fn none() -> Self {
        Self::new(&[])
    }
}

impl KnownInner {
    fn new(values: Vec<(String, Secret)>) -> Self {
        let mut patterns = Vec::new();
        let mut texts: Vec<Zeroizing<Vec<u8>>> = Vec::new();
        for (index, (_, value)) in values.iter().enumerate() {
            let alone = value.expose().len() < encodings::SHORTEST_DERIVED;
            for (encoding, text) in encodings::forms(value.expose()) {
                if texts.contains(&text) {
                    continue;
                }
                patterns.push(Pattern { value: index, encoding, len: text.len(), alone });
                texts.push(text);
            }
        }
        let machine = Automaton::new(&texts);
        Self { values, patterns, machine }
    }

    /// That this form ends with the byte before `end`.
    fn hit(&self, pattern: &Pattern, end: u64) -> Hit {
        Hit {
            id: self.values[pattern.value].0.clone(),
            encoding: Some(pattern.encoding),
            offset: end - pattern.len as u64,
        }
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.now();
        let ids: Vec<&String> = known.values.iter().map(|(id, _)| id).collect();
        f.debug_tuple("Known").field(&ids).finish()
    }
}

/// The values by which an endpoint can be recognised: its URL with and without the scheme, its host, host and port,
/// and every resolved address, alone and with the port.
///
/// A loopback host or address alone is no secret (every sandbox has one, and every log names it); with the port it is.
pub fn endpoint_values(
    url: &str,
    host: &str,
    port: u16,
    addrs: &[IpAddr],
) -> Vec<(String, Secret)> {
    let mut out: Vec<(String, Secret)> = Vec::new();
    let mut add = |id: &str, text: String| {
        let text = text.into_bytes();
        if out.iter().all(|(_, have)| have.expose() != text.as_slice()) {
            out.extend(Secret::new(text).map(|value| (id.to_owned(), value)));
        }
    };
    let url = url.trim_end_matches('/');
    add("endpoint_url", url.to_owned());
    if let Some((_, rest)) = url.split_once("://") {
        // Without a path this is only the host, which the rules below judge.
        if rest.contains(['/', ':']) {
            add("endpoint_url", rest.to_owned());
        }
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let literal = bare.parse::<IpAddr>().ok();
    let loopback =
        bare.eq_ignore_ascii_case("localhost") || literal.is_some_and(|addr| addr.is_loopback());
    add("endpoint_host_port", format!("{host}:{port}"));
    if !loopback {
        add("endpoint_host", bare.to_owned());
    }
    for addr in addrs {
        add("endpoint_address_port", std::net::SocketAddr::new(*addr, port).to_string());
        if !addr.is_loopback() {
            add("endpoint_address", addr.to_string());
        }
    }
    out
}

/// Which checks a [`Scanner`] makes beside the known values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Known values only: for traffic in which a program may quote test keys.
    Off,
    /// The reviewed rules too: for everything that is written.
    On,
}

/// Looks through one stream of bytes, fed in pieces of any size.
pub struct Scanner {
    known: Arc<KnownInner>,
    rules: Rules,
    /// Bytes fed so far.
    seen: u64,
    state: u32,
    /// The same automaton over the stream without white space, for values wrapped over lines.
    squeezed: u32,
    /// Position in the squeezed stream, and where in it white space was last left out.
    squeezed_at: u64,
    squeezed_gap: Option<u64>,
    /// The last eight bytes, the newest lowest.
    recent: u64,
    /// Short values that end at the last byte fed and count only if no letter or digit follows.
    waiting: Vec<Hit>,
    window: Zeroizing<Vec<u8>>,
    /// Position in the stream of the window's first byte.
    window_at: u64,
    /// Up to where, in the stream, each rule has already reported.
    reported: Vec<u64>,
}

/// The window of the rules is looked through when it holds this many bytes.
const WINDOW: usize = 64 * 1024;

impl Scanner {
    pub fn new(known: Known, rules: Rules) -> Self {
        Self {
            known: known.now(),
            rules,
            seen: 0,
            state: 0,
            squeezed: 0,
            squeezed_at: 0,
            squeezed_gap: None,
            recent: 0,
            waiting: Vec::new(),
            window: Zeroizing::new(Vec::new()),
            window_at: 0,
            reported: vec![0; rules::RULES.len()],
        }
    }

    /// Takes the next bytes and gives the hits that became certain. Known values are reported as soon as their last
    /// byte is in (short ones one byte later); rules at the latest in [`Scanner::finish`].
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Hit> {
        let mut out = Vec::new();
        let known = Arc::clone(&self.known);
        if !known.patterns.is_empty() {
            for &byte in bytes {
                self.byte(&known, byte, &mut out);
            }
        }
        if self.rules == Rules::On {
            for piece in bytes.chunks(WINDOW) {
                self.window.extend_from_slice(piece);
                if self.window.len() >= WINDOW {
                    self.run_rules(&mut out);
                    let cut = self.window.len() - rules::OVERLAP;
                    self.window.drain(..cut);
                    self.window_at += cut as u64;
                }
            }
        }
        out
    }

    fn byte(&mut self, known: &KnownInner, byte: u8, out: &mut Vec<Hit>) {
        let word = byte.is_ascii_alphanumeric();
        if !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            if !word {
                out.extend(waiting);
            }
        }
        self.seen += 1;
        self.recent = self.recent << 8 | u64::from(byte);
        self.state = known.machine.step(self.state, byte);
        for index in known.machine.ends(self.state) {
            let pattern = &known.patterns[index as usize];
            let hit = known.hit(pattern, self.seen);
            if !pattern.alone {
                out.push(hit);
            } else if !self.word_before(pattern.len) {
                self.waiting.push(hit);
            }
        }
        if byte.is_ascii_whitespace() {
            self.squeezed_gap = Some(self.squeezed_at);
            return;
        }
        self.squeezed_at += 1;
        self.squeezed = known.machine.step(self.squeezed, byte);
        for index in known.machine.ends(self.squeezed) {
            let pattern = &known.patterns[index as usize];
            let start = self.squeezed_at - pattern.len as u64;
            // Without a gap inside, the plain pass has found it already.
            if !pattern.alone && self.squeezed_gap.is_some_and(|gap| gap > start) {
                out.push(known.hit(pattern, self.seen));
            }
        }
    }

    /// Whether a letter or digit stands right before the last `len` bytes; `len` is below eight.
    fn word_before(&self, len: usize) -> bool {
        self.seen > len as u64 && ((self.recent >> (8 * len)) as u8).is_ascii_alphanumeric()
    }

    /// Runs the rules over the window and reports what was not reported before.
    fn run_rules(&mut self, out: &mut Vec<Hit>) {
        let compiled = rules::compiled();
        for index in compiled.any.matches(&self.window).iter() {
            for found in compiled.each[index].find_iter(&self.window) {
                let start = self.window_at + found.start() as u64;
                let end = self.window_at + found.end() as u64;
                // A find that overlaps the last one is the same credential, seen again with more of its text.
                if start >= self.reported[index] {
                    out.push(Hit {
                        id: rules::RULES[index].id.to_owned(),
                        encoding: None,
                        offset: start,
                    });
                }
                self.reported[index] = self.reported[index].max(end);
            }
        }
    }

    /// How many of the last bytes fed could be the beginning of a known value. A caller that passes the stream on holds
    /// these back, so that no whole value gets through.
    pub fn pending(&self) -> usize {
        self.known.machine.depth(self.state)
    }

    pub fn finish(mut self) -> Vec<Hit> {
        let mut out = std::mem::take(&mut self.waiting);
        if self.rules == Rules::On {
            self.run_rules(&mut out);
        }
        out
    }
}

pub fn look(bytes: &[u8], known: &Known, rules: Rules) -> Vec<Hit> {
    let mut scanner = Scanner::new(known.clone(), rules);
    let mut out = scanner.feed(bytes);
    out.extend(scanner.finish());
    out.sort();
    out.dedup();
    out
}

/// The first reviewed rule by which `bytes` hold a secret, if they do.
pub fn rule_of(bytes: &[u8]) -> Option<String> {
    look(bytes, &Known::none(), Rules::On).into_iter().next().map(|hit| hit.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

    // Spelled apart, so that looking through this repository finds nothing.
    fn key() -> String {
        ["q7/Zw+", "9k-Tr\"Vb2Lm8"].concat()
    }

    fn known() -> Known {
        Known::new(&[("key".into(), Secret::new(key().into_bytes()).unwrap())])
    }

    fn ids(bytes: &[u8]) -> Vec<(String, Option<Encoding>)> {
        look(bytes, &known(), Rules::Off).into_iter().map(|h| (h.id, h.encoding)).collect()
    }

    fn seen_as(bytes: &[u8], encoding: Encoding) {
        let found = ids(bytes);
        assert!(found.contains(&("key".into(), Some(encoding))), "{encoding:?}: {found:?}");
    }

    #[test]
    fn what_is_learned_is_looked_for_in_every_clone_from_the_next_stream_on() {
        let known = known();
        let (clone, new) = (known.clone(), ["later", "Zw81Key"].concat());
        let mut before = Scanner::new(known.clone(), Rules::Off);
        let value = || Secret::new(new.clone().into_bytes()).unwrap();
        clone.learn(&[("later".into(), value())]);
        clone.learn(&[("later".into(), value())]);
        assert!(before.feed(new.as_bytes()).is_empty());
        assert_eq!(look(new.as_bytes(), &known, Rules::Off).len(), 1);
        assert_eq!(look(key().as_bytes(), &known, Rules::Off).len(), 1);
        assert!(!format!("{known:?}").contains(&new));
    }

    #[test]
    fn every_encoding_is_found_between_other_bytes() {
        use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
        let key = key();
        let wrap = |inner: &[u8]| [b"\x00\xffab ".as_slice(), inner, b"\xfe.."].concat();
        seen_as(&wrap(key.as_bytes()), Encoding::Plain);
        for shift in 0..3 {
            let text = [&b"xyz"[..shift], key.as_bytes(), b"tail"].concat();
            seen_as(&wrap(STANDARD.encode(&text).as_bytes()), Encoding::Base64);
            assert!(!ids(&wrap(URL_SAFE_NO_PAD.encode(&text).as_bytes())).is_empty());
        }
        seen_as(&wrap(hex::encode(&key).as_bytes()), Encoding::Hex);
        seen_as(&wrap(hex::encode_upper(&key).as_bytes()), Encoding::Hex);
        seen_as(&wrap(b"q7%2FZw%2B9k-Tr%22Vb2Lm8"), Encoding::Url);
        seen_as(&wrap(b"q7%2fZw%2b9k-Tr%22Vb2Lm8"), Encoding::Url);
        seen_as(&wrap(b"q7/Zw+9k-Tr\\\"Vb2Lm8"), Encoding::Json);
        seen_as(&wrap(b"q7\\/Zw+9k-Tr\\\"Vb2Lm8"), Encoding::Json);
        let backwards: Vec<u8> = key.bytes().rev().collect();
        seen_as(&wrap(&backwards), Encoding::Reversed);
        let wide: Vec<u8> = key.encode_utf16().flat_map(u16::to_le_bytes).collect();
        seen_as(&wrap(&wide), Encoding::Utf16);
        seen_as(&wrap(key.to_ascii_uppercase().as_bytes()), Encoding::Case);
        assert_eq!(ids(&wrap(&key.as_bytes()[1..])), []);
    }

    #[test]
    fn a_value_split_anywhere_is_found_once_at_its_place() {
        let text = format!("....{}....", key()).into_bytes();
        for cut in 0..text.len() {
            let mut scanner = Scanner::new(known(), Rules::On);
            let mut hits = scanner.feed(&text[..cut]);
            hits.extend(scanner.feed(&text[cut..]));
            hits.extend(scanner.finish());
            assert_eq!(hits.len(), 1, "{cut}");
            assert_eq!((hits[0].offset, hits[0].id.as_str()), (4, "key"));
        }
    }

    #[test]
    fn a_value_wrapped_over_lines_is_found() {
        let mut text = String::from("x ");
        for c in key().chars() {
            text.push(c);
            text.push_str("\r\n  ");
        }
        seen_as(text.as_bytes(), Encoding::Plain);
    }

    #[test]
    fn pending_counts_what_could_still_become_the_value() {
        let mut scanner = Scanner::new(known(), Rules::Off);
        scanner.feed(b"hello ");
        assert_eq!(scanner.pending(), 0);
        scanner.feed(&key().as_bytes()[..5]);
        assert_eq!(scanner.pending(), 5);
        scanner.feed(b"!");
        assert_eq!(scanner.pending(), 0);
    }

    #[test]
    fn a_short_value_counts_only_where_it_stands_alone() {
        let known = Known::new(&[("pin".into(), Secret::new(b"4711".to_vec()).unwrap())]);
        let count = |text: &[u8]| look(text, &known, Rules::Off).len();
        assert_eq!(count(b"4711"), 1);
        assert_eq!(count(b"pin: 4711, and \"4711\""), 2);
        assert_eq!(count(b"14711 47110 a4711 4711b"), 0);
        assert_eq!(count(hex::encode("4711").as_bytes()), 0);
        assert!(Secret::new(Vec::new()).is_none());
    }

    #[test]
    fn the_endpoint_is_known_by_all_its_names() {
        let known = |url: &str, host: &str, port: u16, address: &str| {
            let values = endpoint_values(url, host, port, &[address.parse().unwrap()]);
            let known = Known::new(&values);
            move |text: &str| !look(text.as_bytes(), &known, Rules::Off).is_empty()
        };
        let name = "gpu.tail.example";
        let hit = known("http://gpu.tail.example:8000/v1/", name, 8000, "100.64.7.9");
        assert!(hit("see http://gpu.tail.example:8000/v1"));
        assert!(hit("host GPU.TAIL.EXAMPLE"));
        assert!(hit("connect to 100.64.7.9 failed"));
        assert!(!hit("port 8000"));
        let hit = known("http://127.0.0.1:8080/v1", "127.0.0.1", 8080, "127.0.0.1");
        assert!(!hit("127.0.0.1 - - log line"));
        assert!(hit("127.0.0.1:8080"));
    }

    /// One credential of each rule's shape, none of them real, each spelled apart.
    fn samples() -> Vec<(&'static str, String)> {
        let a = |n: usize| "aB3dE5gH7jK9".chars().cycle().take(n).collect::<String>();
        vec![
            ("age_secret_key", ["AGE-SECRET-", "KEY-1", &"Q".repeat(58)].concat()),
            ("authorization_header", ["Authorization: ", "Bearer ", &a(30)].concat()),
            ("aws_access_key_id", ["AK", "IA", "ABCDEFGHIJKLMNOP"].concat()),
            ("aws_secret_access_key", ["aws_secret_access", "_key = ", &a(40)].concat()),
            ("github_fine_grained_token", ["github", "_pat_", &a(82)].concat()),
            ("github_token", ["gh", "p_", &a(36)].concat()),
            ("gitlab_token", ["gl", "pat-", &a(20)].concat()),
            ("google_api_key", ["AI", "za", &a(35)].concat()),
            ("google_oauth_token", ["ya", "29.", &a(40)].concat()),
            ("huggingface_token", ["h", "f_", &a(34)].concat()),
            ("jwt", ["ey", "J", &a(20), ".ey", "J", &a(40), ".", &a(40)].concat()),
            ("npm_token", ["np", "m_", &a(36)].concat()),
            ("private_key_pem", ["-----BEGIN ", "OPENSSH PRIVATE", " KEY-----"].concat()),
            ("pypi_token", ["py", "pi-AgE", &a(60)].concat()),
            ("sendgrid_key", ["S", "G.", &a(22), ".", &a(43)].concat()),
            ("sk_key", ["s", "k-proj-", &a(40)].concat()),
            ("slack_token", ["xo", "xb-", "12345678901-abcdef"].concat()),
            ("slack_webhook", ["hooks.slack", ".com/services/", &a(44)].concat()),
            ("stripe_key", ["sk_", "live_", &a(24)].concat()),
        ]
    }

    #[test]
    fn every_rule_finds_its_shape_in_binary_bytes_and_across_windows() {
        let samples = samples();
        assert_eq!(samples.len(), rules::RULES.len());
        assert!(rules::RULES.is_sorted_by_key(|rule| rule.id));
        for (rule, (id, text)) in rules::RULES.iter().zip(&samples) {
            assert_eq!(rule.id, *id);
            for before in [0, 1, WINDOW - 10, 2 * WINDOW - 3] {
                let bytes =
                    [vec![0xffu8; before], text.clone().into_bytes(), vec![0; 100]].concat();
                let hits = look(&bytes, &Known::none(), Rules::On);
                let found: Vec<_> = hits.iter().map(|h| (h.id.as_str(), h.offset)).collect();
                assert_eq!(found, [(*id, before as u64)], "{id} at {before}");
            }
        }
    }

    #[test]
    fn innocent_text_gives_no_hit() {
        let text = "task-slugify-with-a-very-long-name sk-learn eyJ.eyJ. AKIA npm_config_registry \
                    password=hunter2 -----BEGIN CERTIFICATE----- authorization: [withheld]";
        assert_eq!(look(text.as_bytes(), &Known::none(), Rules::On), []);
    }

    #[test]
    fn nothing_prints_a_value() {
        let secret = Secret::new(key().into_bytes()).unwrap();
        let text = format!("{secret:?} {:?}", known());
        assert!(!text.contains("Zw"), "{text}");
        assert!(secret.matches(key().as_bytes()) && !secret.matches(b"other"));
        let hit = look(key().as_bytes(), &known(), Rules::Off).remove(0);
        assert!(!serde_json::to_string(&hit).unwrap().contains("Zw"));
        // What base64 of the key looks like is as bad as the key.
        let text = base64::engine::general_purpose::STANDARD.encode(key());
        assert!(!format!("{:?}", look(text.as_bytes(), &known(), Rules::Off)).contains(&text[..6]));
    }
}
