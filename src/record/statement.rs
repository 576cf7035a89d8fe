//! in-toto Statements (v1): which things a claim is about, by digest, and the claim.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical::{self as record, RecordError};
use super::dsse::{Envelope, IN_TOTO};
use super::ids::{Algorithm, Digest};

/// `_type` of every statement that admit reads and writes.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// One thing that a statement is about. Only the digest counts; the name is for people.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subject {
    pub name: String,
    /// Algorithm to lower-case hex.
    pub digest: BTreeMap<String, String>,
    /// Keys that admit does not write: kept, so that a statement with more in it is not taken for the same one.
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// A claim of some type about subjects.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Statement {
    #[serde(rename = "_type")]
    pub kind: String,
    /// What it is about; never empty.
    pub subject: Vec<Subject>,
    /// What kind of claim: a URI.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    pub predicate: Value,
    /// As [`Subject::more`].
    #[serde(flatten)]
    pub more: BTreeMap<String, Value>,
}

/// A digest as in-toto's digest sets have it: algorithm to lower-case hex.
pub fn digest_set(digest: &Digest) -> BTreeMap<String, String> {
    BTreeMap::from([(digest.algorithm().to_string(), digest.to_hex())])
}

impl Statement {
    pub fn about(name: &str, digest: &Digest, predicate_type: &str, predicate: Value) -> Self {
        Self {
            kind: STATEMENT.to_owned(),
            subject: vec![Subject {
                name: name.to_owned(),
                digest: digest_set(digest),
                more: BTreeMap::new(),
            }],
            predicate_type: predicate_type.to_owned(),
            predicate,
            more: BTreeMap::new(),
        }
    }

    /// SHA-256 of the first subject, where the statement names it.
    pub fn sha256(&self) -> Option<Digest> {
        let hex = self.subject.first()?.digest.get(Algorithm::Sha256.as_str())?;
        Digest::from_hex(Algorithm::Sha256, hex).ok()
    }

    /// The statement in an envelope without signatures. The payload is its canonical form, so the same statement
    /// is always the same bytes.
    pub fn envelope(&self) -> Envelope {
        Envelope::new(IN_TOTO, record::canonical(self))
    }

    /// Reads a payload: strict JSON, the right `_type`, a subject with a digest, a predicate type.
    pub fn parse(payload: &[u8]) -> Result<Self, RecordError> {
        let fail = |what: &str| Err(RecordError::new(what));
        let value = record::parse_value(payload)?;
        let statement: Self = serde_json::from_value(value)?;
        if statement.kind != STATEMENT {
            return fail(&format!("\"_type\" is not {STATEMENT}"));
        }
        if statement.subject.is_empty() || statement.subject.iter().any(|s| s.digest.is_empty()) {
            return fail("a statement without a subject, or a subject without a digest");
        }
        if statement.predicate_type.is_empty() {
            return fail("\"predicateType\" is empty");
        }
        Ok(statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_statement_reads_back_and_a_loose_one_does_not() {
        let statement =
            Statement::about("a", &Digest::sha256(b"x"), "urn:admit:test:1", json!({ "b": 1 }));
        let envelope = statement.envelope();
        assert_eq!(envelope.payload_type, IN_TOTO);
        assert_eq!(Statement::parse(&envelope.payload).unwrap(), statement);
        assert_eq!(statement.sha256(), Some(Digest::sha256(b"x")));
        let broken = |change: &dyn Fn(&mut Value)| {
            let mut value = record::to_value(&statement);
            change(&mut value);
            Statement::parse(value.to_string().as_bytes()).is_err()
        };
        assert!(broken(&|v| v["_type"] = "https://in-toto.io/Statement/v0.1".into()));
        assert!(broken(&|v| v["subject"] = json!([])));
        assert!(broken(&|v| v["subject"] = json!([{ "name": "a", "digest": {} }])));
        assert!(broken(&|v| v["predicateType"] = "".into()));
        assert!(broken(&|v| v["predicateType"] = Value::Null));
        assert!(Statement::parse(br#"{"_type":"a","_type":"b"}"#).is_err());
    }
}
