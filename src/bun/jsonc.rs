//! JSON with comments and trailing commas, read strictly: quoted names, commas in their places, no key twice. Every
//! fault has its line and column.

use std::collections::HashSet;

use jsonc_parser::ast::{Object, ObjectPropName, Value};
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use crate::error::{Error, Reason, Result};

/// Comments and trailing commas, which Bun writes or accepts; nothing else that is looser than JSON.
const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Longer texts are refused: the largest `bun.lock` seen has 83 kB for 260 packages.
const MAX_BYTES: usize = 16 << 20;
/// And those with more values: one takes 50 bytes, however short its text.
const MAX_VALUES: usize = 1_000_000;

/// `text` without the properties `keys` of its outermost object, or as it is where it has none of them or is not such
/// an object. Values keep their bytes.
pub fn without(text: &str, keys: &[&str]) -> String {
    // What is refused there is not parsed here either.
    if Source::new(text.as_bytes(), "").is_err() {
        return text.to_owned();
    }
    let parsed = parse_to_ast(text, &CollectOptions::default(), &OPTIONS).ok();
    let Some(Value::Object(object)) = parsed.and_then(|parsed| parsed.value) else {
        return text.to_owned();
    };
    let (gone, kept): (Vec<_>, Vec<_>) =
        object.properties.iter().partition(|prop| keys.contains(&prop.name.as_str()));
    if gone.is_empty() {
        return text.to_owned();
    }
    let kept: Vec<&str> =
        kept.iter().filter_map(|prop| text.get(prop.range.start..prop.range.end)).collect();
    format!("{{\n  {}\n}}\n", kept.join(",\n  "))
}

pub(super) struct Source<'a> {
    text: &'a str,
    place: &'a str,
    // Where each line starts: the place of 50,000 rows must not cost 50,000 passes over the text.
    lines: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(bytes: &'a [u8], place: &'a str) -> Result<Self> {
        if bytes.len() > MAX_BYTES {
            return Err(Error::new(Reason::BadRecord, "the file is too large")
                .at(place)
                .expected(format!("at most {MAX_BYTES} bytes"))
                .found(format!("{} bytes", bytes.len())));
        }
        let text = std::str::from_utf8(bytes).map_err(|err| {
            let good = &bytes[..err.valid_up_to()];
            let (line, column) = line_column(&line_starts(good), good.len());
            Error::new(Reason::BadRecord, "the file is not UTF-8")
                .at(format!("{place}:{line}:{column}"))
        })?;
        if text.starts_with('\u{feff}') {
            return Err(Error::new(Reason::BadRecord, "the file starts with a byte-order mark")
                .at(format!("{place}:1:1")));
        }
        // Each value but the first follows one of these; within texts and comments there are some more.
        if text.bytes().filter(|byte| b",:[{".contains(byte)).count() > MAX_VALUES {
            return Err(Error::new(Reason::BadRecord, "the file holds too many values")
                .at(place)
                .expected(format!("at most {MAX_VALUES}")));
        }
        Ok(Self { text, place, lines: line_starts(text.as_bytes()) })
    }

    pub(super) fn parse(&self) -> Result<Value<'a>> {
        let parsed =
            parse_to_ast(self.text, &CollectOptions::default(), &OPTIONS).map_err(|err| {
                self.fault(err.range().start, format!("not JSON with comments: {}", err.kind()))
            })?;
        let value =
            parsed.value.ok_or_else(|| self.fault(self.text.len(), "the file holds no value"))?;
        self.distinct_keys(&value)?;
        Ok(value)
    }

    // The parser stops at 512 levels, so this recursion is bounded too.
    fn distinct_keys(&self, value: &Value<'_>) -> Result<()> {
        match value {
            Value::Array(array) => array.elements.iter().try_for_each(|v| self.distinct_keys(v)),
            Value::Object(object) => {
                let mut seen = HashSet::new();
                for prop in &object.properties {
                    if !seen.insert(prop.name.as_str()) {
                        let key = prop.name.as_str().escape_debug().to_string();
                        return Err(
                            self.fault(prop.range.start, format!("duplicate key \"{key}\""))
                        );
                    }
                    self.distinct_keys(&prop.value)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `file:line:column` of a byte offset.
    pub(super) fn place(&self, offset: usize) -> String {
        let (line, column) = line_column(&self.lines, offset.min(self.text.len()));
        format!("{}:{line}:{column}", self.place)
    }

    pub(super) fn fault(&self, offset: usize, what: impl Into<String>) -> Error {
        Error::new(Reason::BadRecord, what).at(self.place(offset))
    }

    pub(super) fn bad(&self, value: &Value<'_>, what: impl Into<String>) -> Error {
        self.fault(value.start(), what)
    }

    pub(super) fn object<'v>(&self, value: &'v Value<'a>, what: &str) -> Result<&'v Object<'a>> {
        value.as_object().ok_or_else(|| self.bad(value, format!("{what} is not an object")))
    }

    pub(super) fn text<'v>(&self, value: &'v Value<'a>, what: &str) -> Result<&'v str> {
        match value.as_string_lit() {
            Some(lit) => Ok(lit.value.as_ref()),
            None => Err(self.bad(value, format!("{what} is not a text"))),
        }
    }

    pub(super) fn texts(&self, value: &Value<'a>, what: &str) -> Result<Vec<String>> {
        let list =
            value.as_array().ok_or_else(|| self.bad(value, format!("{what} is not a list")))?;
        list.elements.iter().map(|v| self.text(v, what).map(str::to_owned)).collect()
    }

    pub(super) fn number(&self, value: &Value<'a>, what: &str) -> Result<u32> {
        value
            .as_number_lit()
            .and_then(|lit| lit.value.parse().ok())
            .ok_or_else(|| self.bad(value, format!("{what} is not a whole number")))
    }
}

pub(super) fn props<'v, 'a>(
    object: &'v Object<'a>,
) -> impl Iterator<Item = (&'v str, &'v Value<'a>, usize)> {
    object.properties.iter().map(|prop| {
        let name = match &prop.name {
            ObjectPropName::String(lit) => lit.value.as_ref(),
            ObjectPropName::Word(lit) => lit.value,
        };
        (name, &prop.value, prop.range.start)
    })
}

fn line_starts(text: &[u8]) -> Vec<usize> {
    let breaks = text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(breaks).collect()
}

/// Line and column (in bytes) of `offset`, counted from 1.
fn line_column(lines: &[usize], offset: usize) -> (usize, usize) {
    let line = lines.partition_point(|start| *start <= offset);
    let start = lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
    (line, offset - start + 1)
}
