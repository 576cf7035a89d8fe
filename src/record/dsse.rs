//! Envelopes (DSSE 1.0.2): a payload, its type, and signatures over both; and bundles, one envelope a line.
//!
//! The parser takes what the standard lets a producer write (either base64 alphabet, further keys, no `keyid`) and
//! nothing looser: one JSON object, no duplicate key, sizes within limits, base64 in its one canonical form.
//!
//! Our own and no crate, because that strictness is the point, and what is signed is one line of code
//! ([`Envelope::signed_bytes`]). Other people's verifiers check it (`.ci/foreign-verifiers`).

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use serde_json::json;

use super::canonical::{self as record, RecordError};

pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// A longer envelope is not read, in bytes: the provenance of 1000 packages takes 300 kB.
pub const MAX_ENVELOPE: usize = 16 << 20;
/// A longer bundle is not read, in bytes.
pub const MAX_BUNDLE: usize = 32 << 20;
/// More signatures than this on one payload are refused.
const MAX_SIGNATURES: usize = 32;
/// More envelopes than this in one bundle are refused.
const MAX_ENVELOPES: usize = 256;

/// A signature and the hint at whose it is. The hint is not signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signature {
    /// The key's name, empty where the producer gave none.
    pub keyid: String,
    pub sig: Vec<u8>,
}

/// A payload, its type, and signatures over both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// What the payload is: a media type or URI.
    pub payload_type: String,
    pub payload: Vec<u8>,
    /// In the order of the file.
    pub signatures: Vec<Signature>,
}

/// The bytes that are signed: the pre-authentication encoding, which no other type and body share.
pub fn pae(payload_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), body.len());
    [head.as_bytes(), body].concat()
}

/// Keys that the standard does not name are left aside, as it asks.
#[derive(Deserialize)]
struct Wire {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Deserialize)]
struct WireSignature {
    #[serde(default)]
    keyid: Option<String>,
    sig: String,
}

/// Standard or URL-safe alphabet, padded or not; never both alphabets in one text, and no stray bits at the end.
fn base64_decode(what: &str, text: &str) -> Result<Vec<u8>, RecordError> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, config)
        .decode(text)
        .map_err(|err| RecordError::new(format!("\"{what}\" is not base64: {err}")))
}

impl Envelope {
    pub fn new(payload_type: &str, payload: Vec<u8>) -> Self {
        Self { payload_type: payload_type.to_owned(), payload, signatures: Vec::new() }
    }

    pub fn signed_bytes(&self) -> Vec<u8> {
        pae(&self.payload_type, &self.payload)
    }

    /// Reads one envelope.
    ///
    /// # Errors
    /// Where it is none, too large, or has no signature.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(RecordError::new(format!("longer than {MAX_ENVELOPE} bytes")));
        }
        // Strict first: serde alone takes the last of two equal keys where they are not fields of its own.
        let value = record::parse_value(bytes)?;
        let wire: Wire = serde_json::from_value(value)?;
        match wire.signatures.len() {
            0 => return Err(RecordError::new("\"signatures\" is empty")),
            1..=MAX_SIGNATURES => {}
            more => {
                return Err(RecordError::new(format!(
                    "{more} signatures, at most {MAX_SIGNATURES}"
                )));
            }
        }
        let mut signatures = Vec::with_capacity(wire.signatures.len());
        for signature in wire.signatures {
            let sig = base64_decode("sig", &signature.sig)?;
            signatures.push(Signature { keyid: signature.keyid.unwrap_or_default(), sig });
        }
        let payload = base64_decode("payload", &wire.payload)?;
        Ok(Self { payload_type: wire.payload_type, payload, signatures })
    }

    /// The envelope in a Sigstore bundle (v0.3) whose key is known by other means: `pem` is the public key, and its SHA-256
    /// the hint by which a verifier looks for it. A bundle holds one signature, so the first.
    pub fn sigstore(&self, pem: &str) -> serde_json::Value {
        let one =
            Self { signatures: self.signatures.iter().take(1).cloned().collect(), ..self.clone() };
        let envelope = one.json();
        let hint = super::ids::Digest::sha256(pem.as_bytes()).to_hex();
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": { "publicKey": { "hint": hint }, "tlogEntries": [] },
            "dsseEnvelope": envelope,
        })
    }

    /// The envelope as one line, without its end: standard base64, sorted keys.
    pub fn line(&self) -> String {
        self.json().to_string()
    }

    pub fn json(&self) -> serde_json::Value {
        let engine = base64::engine::general_purpose::STANDARD;
        let signatures: Vec<_> = self
            .signatures
            .iter()
            .map(|s| json!({ "keyid": s.keyid, "sig": engine.encode(&s.sig) }))
            .collect();
        json!({
            "payload": engine.encode(&self.payload),
            "payloadType": self.payload_type,
            "signatures": signatures,
        })
    }
}

/// Reads a bundle: one envelope a line, in any order; empty lines are left aside. The bundle as a whole is not
/// signed, so what is not in it shows nothing.
///
/// # Errors
/// With the line, where one of them is no envelope.
pub fn parse_bundle(bytes: &[u8]) -> Result<Vec<Envelope>, RecordError> {
    if bytes.len() > MAX_BUNDLE {
        return Err(RecordError::new(format!("longer than {MAX_BUNDLE} bytes")));
    }
    let mut out = Vec::new();
    for (number, line) in bytes.split(|b| *b == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if out.len() == MAX_ENVELOPES {
            return Err(RecordError::new(format!("more than {MAX_ENVELOPES} envelopes")));
        }
        let envelope = Envelope::parse(line).map_err(|err| RecordError {
            line: number + 1,
            column: err.column.max(1),
            ..err
        })?;
        out.push(envelope);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vector_of_the_standard() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
        assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
        // Lengths are of bytes, not characters.
        assert_eq!(pae("ü", "ß".as_bytes()), "DSSEv1 2 ü 2 ß".as_bytes());
    }

    #[test]
    fn both_alphabets_are_read_and_only_canonical_text() {
        let read = |text: &str| Envelope::parse(text.as_bytes());
        let line = |payload: &str| {
            format!(
                r#"{{"payload":"{payload}","payloadType":"t","signatures":[{{"sig":"+/8="}}]}}"#
            )
        };
        for good in ["+/8=", "-_8=", "+/8", "-_8"] {
            let envelope = read(&line(good)).unwrap();
            assert_eq!(envelope.payload, [0xfb, 0xff]);
            assert_eq!(envelope.signatures[0].keyid, "");
        }
        for bad in ["+_8=", "+/9=", "+/8 ", "+/8=\\n", "+/8==", "ä"] {
            assert!(read(&line(bad)).is_err(), "{bad}");
        }
        // Keys that the standard does not name are left aside, twice the same key is not.
        let more =
            r#"{"payload":"","payloadType":"t","signatures":[{"sig":"","cert":"x"}],"more":1}"#;
        assert!(read(more).is_ok());
        for bad in [
            r#"{"payload":"","payload":"","payloadType":"t","signatures":[{"sig":""}]}"#,
            r#"{"payload":"","payloadType":"t","signatures":[{"sig":"","sig":""}]}"#,
            r#"{"payload":"","payloadType":"t","signatures":[]}"#,
            r#"{"payload":"","signatures":[{"sig":""}]}"#,
            r#"{"payload":"","payloadType":"t","signatures":[{"keyid":"a"}]}"#,
            r#"{"payload":"","payloadType":"t","signatures":[{"sig":""}]} x"#,
            "\u{feff}{}",
            "[]",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let many = vec![r#"{"sig":""}"#; 33].join(",");
        let many = format!(r#"{{"payload":"","payloadType":"t","signatures":[{many}]}}"#);
        assert!(read(&many).unwrap_err().what.contains("at most 32"));
    }

    #[test]
    fn a_bundle_names_the_line_that_is_no_envelope() {
        let good = Envelope {
            signatures: vec![Signature { keyid: "k".into(), sig: vec![1] }],
            ..Envelope::new("t", b"x".to_vec())
        }
        .line();
        assert_eq!(parse_bundle(format!("{good}\n\n{good}\r\n").as_bytes()).unwrap().len(), 2);
        assert_eq!(parse_bundle(b"").unwrap().len(), 0);
        let err = parse_bundle(format!("{good}\n{{}}\n").as_bytes()).unwrap_err();
        assert_eq!(err.line, 2, "{err}");
        assert!(parse_bundle(format!("{good}\n").repeat(257).as_bytes()).is_err());
        assert!(parse_bundle(&vec![b' '; MAX_BUNDLE + 1]).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            payload_type in ".{0,40}",
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            signatures in proptest::collection::vec(
                (".{0,20}", proptest::collection::vec(any::<u8>(), 0..80)), 1..4),
        ) {
            let signatures =
                signatures.into_iter().map(|(keyid, sig)| Signature { keyid, sig }).collect();
            let envelope = Envelope { payload_type, payload, signatures };
            let line = envelope.line();
            let again = Envelope::parse(line.as_bytes()).unwrap();
            prop_assert_eq!(&again, &envelope);
            prop_assert_eq!(again.line(), line);
        }

        #[test]
        fn no_two_envelopes_have_the_same_signed_bytes(
            a in ("[a-z 0-9]{0,12}", "[a-z 0-9]{0,12}"), b in ("[a-z 0-9]{0,12}", "[a-z 0-9]{0,12}"),
        ) {
            let bytes = |(t, body): &(String, String)| pae(t, body.as_bytes());
            prop_assert_eq!(bytes(&a) == bytes(&b), a == b);
        }
    }
}
