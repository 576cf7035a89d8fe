//! A set of files, as a workspace has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::ids::RelPath;

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        STANDARD.decode(text.as_bytes()).map_err(de::Error::custom)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    File {
        #[serde(with = "base64_bytes")]
        bytes: Vec<u8>,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link with its target.
    Link(#[serde(with = "base64_bytes")] Vec<u8>),
    /// Something else, such as a pipe or a socket, in words.
    Other(String),
}

impl Content {
    pub fn plain(bytes: impl Into<Vec<u8>>) -> Self {
        Self::File { bytes: bytes.into(), executable: false }
    }

    /// Git's mode of it.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::File { executable: false, .. } => "100644",
            Self::File { executable: true, .. } => "100755",
            Self::Link(_) => "120000",
            // Not one of git's; no patch with it applies.
            Self::Other(_) => "000000",
        }
    }

    /// The bytes that git would store.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::File { bytes, .. } | Self::Link(bytes) => bytes,
            Self::Other(what) => what.as_bytes(),
        }
    }
}

/// Files by path. Directories are implied.
pub type Files = BTreeMap<RelPath, Content>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_come_back_as_they_were() {
        for content in [
            Content::File { bytes: vec![0xff, 0, b'a'], executable: true },
            Content::Link(vec![0xfe, b'/']),
            Content::Other("a pipe".into()),
        ] {
            let text = serde_json::to_string(&content).unwrap();
            assert_eq!(serde_json::from_str::<Content>(&text).unwrap(), content, "{text}");
        }
    }
}
