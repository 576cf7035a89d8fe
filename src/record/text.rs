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

/// Serde by way of `FromStr` and `Display`, and a JSON Schema with the given pattern.
macro_rules! text_value {
    ($type:ident, $name:literal, $pattern:literal) => {
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
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

pub(super) use text_value;
