//! Public keys: Ed25519 in OpenSSH's one-line form, named by the fingerprint that `ssh-keygen -lf` prints.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::{Signature, VerifyingKey};
use ssh_key::HashAlg;
use ssh_key::public::{Ed25519PublicKey, KeyData};

use super::digest::Digest;
use super::text::{ParseError, own_text, text_value};

/// A longer line is no Ed25519 key: the key itself takes 80 characters, the rest is comment.
const MAX_LINE: usize = 1024;

/// `SubjectPublicKeyInfo` of an Ed25519 key up to the key itself (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

own_text! {
    /// `SHA256:` and the unpadded base64 of the SHA-256 of a key in SSH's wire form: what `ssh-keygen -lf` prints.
    Fingerprint, "a fingerprint", "SHA256: and 43 of base64",
    |text| {
        let hash = text.strip_prefix("SHA256:").and_then(|rest| STANDARD_NO_PAD.decode(rest).ok());
        hash.is_some_and(|hash| hash.len() == 32)
    }
}
text_value!(Fingerprint, "^SHA256:[A-Za-z0-9+/]{43}$");

/// An Ed25519 public key (RFC 8032). Its text form is OpenSSH's line without the comment.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key with these 32 bytes, or `None` where they are no point of the curve, or one of those that verify
    /// signatures over anything.
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().filter(|key| !key.is_weak()).map(Self)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    fn data(&self) -> KeyData {
        KeyData::Ed25519(Ed25519PublicKey(*self.as_bytes()))
    }

    /// What `ssh-keygen -lf` prints: the name of the key everywhere in admit, and the `keyid` of its signatures.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint(self.data().fingerprint(HashAlg::Sha256).to_string())
    }

    /// The name that in-toto's Python tools give the key: SHA-256 over its canonical description, in hex
    /// (securesystemslib, `SSlibKey`).
    pub fn in_toto_keyid(&self) -> String {
        let public = hex::encode(self.as_bytes());
        let text = format!(
            r#"{{"keytype":"ed25519","keyval":{{"public":"{public}"}},"scheme":"ed25519"}}"#
        );
        Digest::sha256(text.as_bytes()).to_hex()
    }

    /// `ssh-ed25519 <base64> <comment>`.
    pub fn line(&self, comment: &str) -> String {
        format!("{self} {comment}").trim_end().to_owned()
    }

    /// PEM of the `SubjectPublicKeyInfo` (RFC 8410), as OpenSSL and the verifiers of Sigstore read it.
    pub fn pem(&self) -> String {
        let body = STANDARD.encode([&SPKI[..], self.as_bytes()].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }

    /// Whether `signature` is this key's over `message`. Strict: a signature has one form only (RFC 8032, 5.1.7, with
    /// canonical encodings, and no points of small order).
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

impl FromStr for PublicKey {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = || ParseError::new("a public key", text, "ssh-ed25519, base64 and a comment");
        let line = text.trim();
        if line.len() > MAX_LINE || line.contains(['\n', '\r']) {
            return Err(fail());
        }
        let key = ssh_key::PublicKey::from_openssh(line).map_err(|_| fail())?;
        let KeyData::Ed25519(key) = key.key_data() else { return Err(fail()) };
        Self::from_bytes(&key.0).ok_or_else(fail)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // RFC 8709, section 4: the name and the key, each with its length.
        let name = b"ssh-ed25519";
        let mut wire = Vec::with_capacity(51);
        for part in [&name[..], self.as_bytes()] {
            wire.extend([0, 0, 0, part.len() as u8]);
            wire.extend(part);
        }
        write!(f, "ssh-ed25519 {}", STANDARD.encode(wire))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_value!(PublicKey, "^ssh-ed25519 [A-Za-z0-9+/]+={0,2}( .*)?$");

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    /// Made with `ssh-keygen -t ed25519`; the fingerprint is what `ssh-keygen -lf` printed.
    const LINE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBSwg0cvaLEGlH5soGCk7BUNCbgApa+WJvS+zqmaS20e someone@example";
    const PRINT: &str = "SHA256:oOOj3NQGLSebueAI+Eu4uafLm8ko9wUENCuvQLqKES8";

    #[test]
    fn a_foreign_key_is_read_and_written_and_named_as_ssh_names_it() {
        let key: PublicKey = LINE.parse().unwrap();
        assert_eq!(key.line("someone@example"), LINE);
        assert_eq!(key.fingerprint().as_str(), PRINT);
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        assert_eq!(key.fingerprint().to_string().parse::<Fingerprint>().unwrap().as_str(), PRINT);
        assert_eq!(key.in_toto_keyid().len(), 64);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 x";
        for bad in ["", "ssh-ed25519", "ssh-ed25519 AAAA", rsa, &format!("{LINE}\n{LINE}")] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
        // The identity element: with it as a key, one signature fits every message.
        let mut weak = [0; 32];
        weak[0] = 1;
        assert!(PublicKey::from_bytes(&weak).is_none());
        for bad in ["", "SHA256:", "MD5:abc", &PRINT[..49], &format!("{PRINT}=")] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn signatures_are_checked_strictly() {
        let signing = SigningKey::from_bytes(&[7; 32]);
        let key = PublicKey::from_bytes(signing.verifying_key().as_bytes()).unwrap();
        let signature = signing.sign(b"text").to_bytes();
        assert!(key.verifies(b"text", &signature));
        assert!(!key.verifies(b"test", &signature));
        assert!(!key.verifies(b"text", &signature[..63]));
        // The same signature with the group's order added to its second half: valid by the bare equation.
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut other = signature;
        let mut carry = 0;
        for (byte, order) in other[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert!(!key.verifies(b"text", &other));
    }
}
