//! Values that are written as text: how they are read, written and described, and why a text is not one of them.

use std::fmt;

/// Why a text is not a value of the type asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    what: &'static str,
    found: String,
    want: &'static str,
}

impl ParseError {
    pub(super) fn new(what: &'static str, found: &str, want: &'static str) -> Self {
        // A hostile value may be megabytes long; the message need not be.
        let mut found: String = found.chars().take(120).collect();
        found = found.escape_debug().to_string();
        Self { what, found, want }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not {}: expected {}", self.found, self.what, self.want)
    }
}

impl std::error::Error for ParseError {}

/// Serde by way of `FromStr` and `Display`.
macro_rules! serde_text {
    ($type:ident) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The same, and a JSON Schema with the given pattern.
macro_rules! text_value {
    ($type:ident, $pattern:literal) => {
        $crate::record::text::serde_text!($type);
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

/// A newtype over its own text whose only constructor parses: what such a text is called, what it must be, and whether one
/// is that.
macro_rules! own_text {
    ($(#[$doc:meta])* $type:ident, $what:literal, $want:literal, $ok:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $type(String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl std::str::FromStr for $type {
            type Err = $crate::record::text::ParseError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let ok: fn(&str) -> bool = $ok;
                ok(text).then(|| Self(text.into())).ok_or_else(|| Self::Err::new($what, text, $want))
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// A closed list of words. Each value's text, in records and in messages, stands beside it and nowhere else.
macro_rules! words {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$item:meta])* $value:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        $vis enum $name { $($(#[$item])* #[serde(rename = $text)] $value,)* }

        impl $name {
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$value,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)* }
            }

            pub fn from_text(text: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|value| value.as_str() == text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;
pub(super) use {own_text, serde_text, text_value};
