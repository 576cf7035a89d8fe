//! The forms in which a known value can turn up in a file, a log or a reply.

use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A derived form shorter than this many bytes is not looked for: it would be found by chance in any binary file.
pub(super) const SHORTEST_DERIVED: usize = 6;

/// The form in which a known value was found.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    Plain,
    /// Standard base64, at any of the three offsets in a group.
    Base64,
    /// URL-safe base64, at any of the three offsets in a group.
    Base64Url,
    /// Hexadecimal, either case.
    Hex,
    Url,
    /// Escaped as inside a JSON string.
    Json,
    /// UTF-16, either byte order.
    Utf16,
    /// All lower or all upper case.
    Case,
    Reversed,
}

type Bytes = Zeroizing<Vec<u8>>;

/// Every form of `value` that is looked for, without doubles; the plain form is first.
pub(super) fn forms(value: &[u8]) -> Vec<(Encoding, Bytes)> {
    let mut out = vec![(Encoding::Plain, Zeroizing::new(value.to_vec()))];
    if value.len() < SHORTEST_DERIVED {
        return out;
    }
    let mut add = |encoding, bytes: Vec<u8>| {
        let bytes = Zeroizing::new(bytes);
        if bytes.len() >= SHORTEST_DERIVED && !out.iter().any(|(_, have)| *have == bytes) {
            out.push((encoding, bytes));
        }
    };
    for shift in 0..3 {
        add(Encoding::Base64, base64_at(value, shift, &STANDARD_NO_PAD));
        add(Encoding::Base64Url, base64_at(value, shift, &URL_SAFE_NO_PAD));
    }
    add(Encoding::Hex, hex::encode(value).into_bytes());
    add(Encoding::Hex, hex::encode_upper(value).into_bytes());
    let keep_unreserved =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    for upper in [true, false] {
        add(Encoding::Url, percent(value, upper, keep_unreserved));
        add(Encoding::Url, percent(value, upper, |_| false));
        add(Encoding::Url, percent(value, upper, |b| keep_unreserved(b) || b == b'/' || b == b':'));
    }
    if let Ok(text) = std::str::from_utf8(value) {
        let quoted = Zeroizing::new(serde_json::Value::from(text).to_string());
        let inner = Zeroizing::new(quoted[1..quoted.len() - 1].to_owned());
        add(Encoding::Json, inner.as_bytes().to_vec());
        add(Encoding::Json, inner.replace('/', "\\/").into_bytes());
        for upper in [true, false] {
            let units = text.encode_utf16().map(|u| match upper {
                true => format!("\\u{u:04X}"),
                false => format!("\\u{u:04x}"),
            });
            add(Encoding::Json, units.collect::<String>().into_bytes());
        }
        add(Encoding::Utf16, text.encode_utf16().flat_map(u16::to_le_bytes).collect());
        add(Encoding::Utf16, text.encode_utf16().flat_map(u16::to_be_bytes).collect());
        add(Encoding::Case, text.to_ascii_lowercase().into_bytes());
        add(Encoding::Case, text.to_ascii_uppercase().into_bytes());
    }
    add(Encoding::Reversed, value.iter().rev().copied().collect());
    out
}

/// The characters of base64 that depend on `value` alone when it starts `shift` bytes into a group of three: the
/// neighbours' bits share the first and the last character, so these are left off.
fn base64_at(value: &[u8], shift: usize, engine: &impl base64::Engine) -> Vec<u8> {
    let mut padded = Zeroizing::new(vec![0u8; shift]);
    padded.extend_from_slice(value);
    let text = Zeroizing::new(engine.encode(&*padded));
    let first = (shift * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    text.as_bytes()[first.min(last)..last].to_vec()
}

/// Percent-encoding (RFC 3986 section 2.1) of every byte that `keep` does not keep.
fn percent(value: &[u8], upper: bool, keep: impl Fn(u8) -> bool) -> Vec<u8> {
    let digits: &[u8; 16] = if upper { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let mut out = Vec::with_capacity(value.len() * 3);
    for &b in value {
        if keep(b) {
            out.push(b);
        } else {
            out.extend([b'%', digits[usize::from(b >> 4)], digits[usize::from(b & 15)]]);
        }
    }
    out
}
