//! Digests: bytes with their algorithm, parsed once; each text form has a named type or method.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::text::{ParseError, text_value, words};

words! {
    /// The hash algorithms that admit reads, as prefixes and SRI call them. SHA-1 is not among them: git object ids are
    /// [`super::ids::CommitId`] and friends, and a package with only SHA-1 is refused.
    pub enum Algorithm {
        /// SHA-256 (FIPS 180-4), 32 bytes.
        Sha256 = "sha256",
        /// SHA-384 (FIPS 180-4), 48 bytes.
        Sha384 = "sha384",
        /// SHA-512 (FIPS 180-4), 64 bytes.
        Sha512 = "sha512",
        /// BLAKE3 with its default output of 32 bytes.
        Blake3 = "blake3",
    }
}

impl Algorithm {
    /// Length of the digest in bytes.
    pub fn size(self) -> usize {
        match self {
            Algorithm::Sha256 | Algorithm::Blake3 => 32,
            Algorithm::Sha384 => 48,
            Algorithm::Sha512 => 64,
        }
    }
}

/// A digest with its algorithm. Its text form on disk is `sha256:<hex>`; SRI is a named method and parser.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

impl Digest {
    /// A digest from raw bytes, or `None` where the length is not the algorithm's.
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == algorithm.size()).then(|| Self { algorithm, bytes: bytes.to_vec() })
    }

    pub fn sha256(data: &[u8]) -> Self {
        use sha2::Digest as _;
        Self { algorithm: Algorithm::Sha256, bytes: sha2::Sha256::digest(data).to_vec() }
    }

    pub fn blake3(data: &[u8]) -> Self {
        Self { algorithm: Algorithm::Blake3, bytes: blake3::hash(data).as_bytes().to_vec() }
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Lower-case hex without the algorithm.
    pub fn to_hex(&self) -> String {
        hex::encode(&self.bytes)
    }

    /// Subresource Integrity form (W3C SRI): `sha512-<standard base64>`.
    pub fn to_sri(&self) -> String {
        format!("{}-{}", self.algorithm, STANDARD.encode(&self.bytes))
    }

    /// Reads one SRI value. Only the canonical form: one hash, standard alphabet, padding, no options.
    pub fn from_sri(text: &str) -> Result<Self, ParseError> {
        let fail = || {
            ParseError::new("an integrity", text, "sha512-, sha384- or sha256- and standard base64")
        };
        let (name, value) = text.split_once('-').ok_or_else(fail)?;
        let algorithm =
            Algorithm::from_text(name).filter(|a| *a != Algorithm::Blake3).ok_or_else(fail)?;
        let bytes = STANDARD.decode(value).map_err(|_| fail())?;
        Self::from_bytes(algorithm, &bytes).ok_or_else(fail)
    }

    /// Reads plain hex for a known algorithm (either case).
    pub fn from_hex(algorithm: Algorithm, text: &str) -> Result<Self, ParseError> {
        hex::decode(text)
            .ok()
            .and_then(|bytes| Self::from_bytes(algorithm, &bytes))
            .ok_or_else(|| ParseError::new("a digest", text, "hex of the algorithm's length"))
    }
}

/// Of nothing.
impl Default for Digest {
    fn default() -> Self {
        Self::sha256(b"")
    }
}

impl FromStr for Digest {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = || {
            ParseError::new(
                "a digest",
                text,
                "sha256:, sha384:, sha512: or blake3: and lower-case hex",
            )
        };
        let (name, value) = text.split_once(':').ok_or_else(fail)?;
        let algorithm = Algorithm::from_text(name).ok_or_else(fail)?;
        if value.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(fail());
        }
        Self::from_hex(algorithm, value).map_err(|_| fail())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

text_value!(Digest, "^(sha256|blake3):[0-9a-f]{64}$|^sha384:[0-9a-f]{96}$|^sha512:[0-9a-f]{128}$");

/// A digest whose text form on disk is SRI (`sha512-<base64>`), as npm and Nix write it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sri(pub Digest);

impl FromStr for Sri {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Digest::from_sri(text).map(Sri)
    }
}

impl fmt::Display for Sri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_sri())
    }
}

text_value!(Sri, "^sha(256|384|512)-[A-Za-z0-9+/]+={0,2}$");

/// A digest of one algorithm whose text form on disk is plain hex.
macro_rules! hex_value {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $type(Digest);

        impl $type {
            pub fn digest(&self) -> &Digest {
                &self.0
            }

            /// Takes a digest of this algorithm; any other is `None`.
            pub fn from_digest(digest: &Digest) -> Option<Self> {
                (digest.algorithm() == Algorithm::$type).then(|| Self(digest.clone()))
            }
        }
        impl FromStr for $type {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                if text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(ParseError::new("a digest", text, "64 lower-case hex digits"));
                }
                Digest::from_hex(Algorithm::$type, text).map(Self)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.to_hex())
            }
        }
        text_value!($type, "^[0-9a-f]{64}$");
    };
}

hex_value! {
    /// A SHA-256 whose text form on disk is plain hex, as `sha256sum` prints it.
    Sha256
}
impl Sha256 {
    pub fn of(data: &[u8]) -> Self {
        Self(Digest::sha256(data))
    }
}

hex_value! {
    /// A BLAKE3 digest whose text form on disk is plain hex, as `b3sum` prints it.
    Blake3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_round_trip_in_both_forms() {
        let d = Digest::sha256(b"abc");
        assert_eq!(d.to_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(d.to_sri(), "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert_eq!(d.to_string().parse::<Digest>().unwrap(), d);
        assert_eq!(Digest::from_sri(&d.to_sri()).unwrap(), d);
    }

    #[test]
    fn weak_or_odd_integrities_are_not_digests() {
        for bad in [
            "",
            "sha512-",
            "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=",
            "md5-1B2M2Y8AsgTpgAmY7PhCfg==",
            "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0",
            "sha256-ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0=",
            "sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=?x",
            "sha512-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=",
        ] {
            assert!(Digest::from_sri(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hex_digests_are_lower_case_and_whole() {
        let hex = Digest::sha256(b"").to_hex();
        assert!(format!("sha256:{}", hex.to_uppercase()).parse::<Digest>().is_err());
        assert!(format!("sha256:{}", &hex[1..]).parse::<Digest>().is_err());
        assert!(hex.parse::<Digest>().is_err());
    }
}
