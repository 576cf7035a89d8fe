//! How every record is read and written.
//!
//! Reading is strict: UTF-8 without a BOM, one JSON value and nothing after it, no duplicate and no unknown key, and a
//! `schema` that this version knows. Writing is deterministic: indented for people with sorted keys, and a compact
//! canonical form (sorted keys, no spaces, integers only) over which digests of records are taken.
//!
//! Our own and no crate: `serde_json` alone takes a key twice where it reads a map, and what the crates of RFC 8785 have
//! beyond this is the form of fractions, which no record holds.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ids::Digest;
use super::json::Reader;

/// The `schema` key of a kind of record: a name and the one major version that this program reads and writes.
///
/// Rules for changing a format: a new optional key keeps the version; anything that an older reader would get wrong
/// raises it. A newer version is refused, never rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Name with its dot, for example `admit.lock`.
    pub name: &'static str,
    /// Version, counted from 1.
    pub version: u32,
}

impl fmt::Display for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

/// A record type: something with a `schema` key.
pub trait Record: DeserializeOwned + Serialize {
    const SCHEMA: Schema;
    const MAX_VALUES: usize = MAX_VALUES;
}

/// Makes a type a record: the name and the version of its schema.
macro_rules! schema {
    ($type:ident, $name:literal, $version:literal) => {
        impl $crate::record::Record for $type {
            const SCHEMA: $crate::record::Schema =
                $crate::record::Schema { name: $name, version: $version };
        }
    };
}
pub(super) use schema;

/// Why a text is not the record asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Line, counted from 1; 0 where the fault has no place.
    pub line: usize,
    /// Column in bytes, counted from 1; 0 where the fault has no place.
    pub column: usize,
    pub what: String,
}

impl RecordError {
    /// A fault without a place.
    pub fn new(what: impl Into<String>) -> Self {
        Self { line: 0, column: 0, what: what.into() }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}, column {}: {}", self.column, self.what),
        }
    }
}

impl std::error::Error for RecordError {}

impl From<serde_json::Error> for RecordError {
    fn from(err: serde_json::Error) -> Self {
        let text = err.to_string();
        let what = match text.rfind(" at line ") {
            Some(end) => text[..end].to_owned(),
            None => text,
        };
        Self { line: err.line(), column: err.column(), what }
    }
}

/// Most values in one text: the manifest of a run that left as many files as it may has 160,000. A value takes 32 bytes, an
/// object about 700, so a text of a few megabytes could take gigabytes.
pub const MAX_VALUES: usize = 250_000;

/// Reads any JSON text strictly: no BOM, no duplicate key, nothing after the value, no more than [`MAX_VALUES`].
pub fn parse_value(bytes: &[u8]) -> Result<Value, RecordError> {
    let mut left = MAX_VALUES;
    parse_within(bytes, &mut left)
}

/// The same of one of several texts that may have `left` values together.
pub fn parse_within(bytes: &[u8], left: &mut usize) -> Result<Value, RecordError> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(RecordError {
            line: 1,
            column: 1,
            what: "starts with a byte-order mark".into(),
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|err| {
        let before = &bytes[..err.valid_up_to()];
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
        RecordError { line, column, what: "is not UTF-8".into() }
    })?;
    let mut de = serde_json::Deserializer::from_str(text);
    let twice = Some((|key| format!("duplicate key \"{}\"", key.escape_debug())) as fn(&str) -> _);
    let mut reader = Reader { left: *left, twice, anew: None };
    let value = reader.value(&mut de);
    *left = reader.left;
    let value = value?;
    de.end().map_err(|err| RecordError {
        what: "something follows the JSON value".into(),
        ..err.into()
    })?;
    Ok(value)
}

/// Reads a record of type `R`: strict JSON, the right schema, no unknown key.
pub fn parse<R: Record>(bytes: &[u8]) -> Result<R, RecordError> {
    let mut left = R::MAX_VALUES;
    let value = parse_within(bytes, &mut left)?;
    check_schema(&value, R::SCHEMA)?;
    drop(value);
    // The second pass goes over the text again, so that an unknown key or a wrong value is named with its place.
    Ok(serde_json::from_slice(bytes)?)
}

/// Checks the `schema` key of `value` against what this program reads.
pub fn check_schema(value: &Value, want: Schema) -> Result<(), RecordError> {
    let fail = |what: String| Err(RecordError::new(what));
    let Some(object) = value.as_object() else {
        return fail(format!("expected an object with schema \"{want}\""));
    };
    let Some(found) = object.get("schema") else {
        return fail(format!("no \"schema\" key: expected \"{want}\""));
    };
    let Some(found) = found.as_str() else {
        return fail(format!("\"schema\" is not a text: expected \"{want}\""));
    };
    if found == want.to_string() {
        return Ok(());
    }
    let newer = found
        .strip_prefix(want.name)
        .and_then(|rest| rest.strip_prefix('/'))
        .and_then(|v| v.parse::<u32>().ok())
        .is_some_and(|v| v > want.version);
    let hint = if newer { ": written by a newer admit; update admit to read it" } else { "" };
    fail(format!("schema is \"{}\", expected \"{want}\"{hint}", found.escape_debug()))
}

/// The record as `serde_json` sees it; keys are sorted, since its map is a B-tree.
///
/// # Panics
/// Never for the types of this crate: their keys are strings and they hold no maps with other keys.
#[expect(clippy::expect_used, reason = "the types of this crate always serialise")]
pub fn to_value<T: Serialize>(record: &T) -> Value {
    serde_json::to_value(record).expect("records serialise")
}

/// The compact canonical bytes: sorted keys, no spaces, as RFC 8785 for the values that records hold (texts, integers,
/// booleans, null; a float is written as `serde_json` does and no record has one).
pub fn canonical<T: Serialize>(record: &T) -> Vec<u8> {
    to_value(record).to_string().into_bytes()
}

/// SHA-256 of the canonical bytes: the digest by which other records name this one.
pub fn digest<T: Serialize>(record: &T) -> Digest {
    Digest::sha256(&canonical(record))
}

/// The form for people: two spaces of indent, sorted keys, a newline at the end.
pub fn pretty<T: Serialize>(record: &T) -> Vec<u8> {
    let mut out = format!("{:#}", to_value(record)).into_bytes();
    out.push(b'\n');
    out
}

/// The text form of a word from a closed list.
pub fn word<T: Serialize>(value: &T) -> String {
    to_value(value).as_str().unwrap_or_default().to_owned()
}

/// The word from a closed list that has this text form.
///
/// # Errors
/// Where none has.
pub fn of_word<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_value(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        schema: String,
        b: u32,
        a: Vec<u32>,
    }

    impl Record for Sample {
        const SCHEMA: Schema = Schema { name: "admit.sample", version: 2 };
    }

    fn fault(text: &str) -> String {
        parse::<Sample>(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_good_record_round_trips() {
        let r: Sample = parse(br#"{"schema":"admit.sample/2","b":1,"a":[2]}"#).unwrap();
        assert_eq!(canonical(&r), br#"{"a":[2],"b":1,"schema":"admit.sample/2"}"#);
        assert_eq!(parse::<Sample>(&pretty(&r)).unwrap(), r);
    }

    #[test]
    fn every_loose_form_is_refused_with_its_place() {
        assert_eq!(fault("\u{feff}{}"), "line 1, column 1: starts with a byte-order mark");
        assert_eq!(
            fault("{\"schema\":\"admit.sample/2\",\n \"b\":1,\"b\":2,\"a\":[]}"),
            "line 2, column 10: duplicate key \"b\""
        );
        assert_eq!(
            fault("{\"schema\":\"admit.sample/2\",\"b\":1,\"a\":[]}\n x"),
            "line 2, column 2: something follows the JSON value"
        );
        assert!(
            fault("{\"schema\":\"admit.sample/2\",\"b\":1,\"a\":[],\n\"c\":0}")
                .contains("unknown field `c`")
        );
        assert!(fault("{\"b\":1}").contains("no \"schema\" key"));
        assert!(fault("{\"schema\":\"admit.sample/3\"}").contains("newer admit"));
        assert!(fault("{\"schema\":\"admit.sample/1\"}").contains("expected \"admit.sample/2\""));
        assert!(fault("{\"schema\":2}").contains("not a text"));
        assert!(fault("[]").contains("expected an object"));
        assert!(fault("").contains("EOF"));
        let err = parse::<Sample>(b"{\n\"\xff\"").unwrap_err();
        assert_eq!((err.line, err.column), (2, 2));
    }

    #[test]
    fn a_number_is_read_to_its_last_digit() {
        for text in ["31.245270191439438", "-0.1", "5e-324", "1.7976931348623157e308"] {
            let read = parse_value(text.as_bytes()).unwrap().as_f64();
            assert_eq!(read.map(f64::to_bits), text.parse().ok().map(f64::to_bits), "{text}");
        }
        assert_eq!(parse_value(b"18446744073709551615").unwrap(), u64::MAX);
    }

    #[test]
    fn no_text_becomes_more_values_than_a_record_has() {
        let list = |count: usize| format!("[{}0]", "0,".repeat(count - 2));
        assert!(parse_value(list(MAX_VALUES).as_bytes()).is_ok());
        let err = parse_value(list(MAX_VALUES + 1).as_bytes()).unwrap_err();
        assert_eq!(err.what, "has too many values");
        let objects = format!("[{}0]", "{\"a\":0},".repeat(4 << 20));
        assert_eq!(parse_value(objects.as_bytes()).unwrap_err().what, "has too many values");
        let mut left = 5;
        assert!(parse_within(b"[0, 0]", &mut left).is_ok());
        assert!(parse_within(b"[0, 0]", &mut left).is_err());
    }

    #[test]
    fn nested_duplicates_and_depth_are_seen() {
        assert!(parse_value(br#"{"x":[{"y":1,"y":1}]}"#).is_err());
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(parse_value(deep.as_bytes()).unwrap_err().what.contains("nested deeper"));
    }
}
