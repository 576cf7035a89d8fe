//! JSON read into memory that is bounded by construction: nesting and number of values are capped, and a small text that
//! unpacks to a large tree is refused while it is read. Records are read so ([`super::parse`]), and what the other side
//! of the proxy writes.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::de::Read;
use serde_json::{Map, Value};

/// Deepest nesting: no record of ours is deeper than ten, tool schemas and replies stay far below, and a parser that
/// recurses must stop.
const MAX_DEPTH: usize = 64;
/// Most values in one text of the other side: a conversation of ten thousand messages has fewer. A value takes 32 bytes,
/// its key and its place in a map about a hundred more.
const MAX_VALUES: usize = 200_000;

/// Reads one JSON value. Of a key that stands twice the last one counts, as in the readers of most clients.
pub fn read(text: &[u8]) -> Result<Value, String> {
    Reader { left: MAX_VALUES, twice: None, anew: None }.whole(text)
}

/// Reads one JSON value and writes it anew: same values, same order of keys (the order of a tool's parameters is part
/// of the prompt), no white space between tokens, one spelling for every string and number. A key that stands twice
/// is refused, since two readers may take different ones; it is not quoted, since it may be a secret.
pub fn read_anew(text: &[u8]) -> Result<(Value, Vec<u8>), String> {
    let mut out = Vec::with_capacity(text.len());
    let twice: Twice = |_| "a duplicate key".into();
    let value =
        Reader { left: MAX_VALUES, twice: Some(twice), anew: Some(&mut out) }.whole(text)?;
    Ok((value, out))
}

/// What is said of a key that stands twice in an object.
type Twice = fn(&str) -> String;

pub(super) struct Reader<'a> {
    /// Values that may still come.
    pub left: usize,
    /// Without it the last one counts.
    pub twice: Option<Twice>,
    /// What is read is written here.
    pub anew: Option<&'a mut Vec<u8>>,
}

impl Reader<'_> {
    fn whole(mut self, text: &[u8]) -> Result<Value, String> {
        let mut json = serde_json::Deserializer::from_slice(text);
        let value = self.value(&mut json);
        // serde_json's words quote the text only where they name a duplicate key, which `visit_map` words
        // itself, and neither caller of this quotes.
        let value = value.map_err(|err| {
            let words = err.to_string();
            let what = words.rfind(" at line ").map_or(&*words, |end| &words[..end]);
            format!("line {}, column {}: {what}", err.line(), err.column())
        })?;
        json.end().map_err(|_| "something follows the JSON value")?;
        Ok(value)
    }

    /// Reads one value; something may follow it.
    pub fn value<'de>(
        &mut self,
        json: &mut serde_json::Deserializer<impl Read<'de>>,
    ) -> serde_json::Result<Value> {
        Seed { reader: self, depth: 0 }.deserialize(json)
    }

    fn punctuation(&mut self, byte: u8) {
        if let Some(out) = &mut self.anew {
            out.push(byte);
        }
    }

    /// Ends a list or an object; its bracket takes the place of the last comma.
    fn close(&mut self, empty: bool, bracket: u8) {
        if let Some(out) = &mut self.anew {
            if !empty {
                out.pop();
            }
            out.push(bracket);
        }
    }

    fn scalar<E: Error>(&mut self, value: Value) -> Result<Value, E> {
        if let Some(out) = &mut self.anew {
            serde_json::to_writer(&mut **out, &value).map_err(E::custom)?;
        }
        Ok(value)
    }
}

struct Seed<'r, 'a> {
    reader: &'r mut Reader<'a>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom(format!("nested deeper than {MAX_DEPTH}")));
        }
        self.reader.left = self
            .reader
            .left
            .checked_sub(1)
            .ok_or_else(|| D::Error::custom("has too many values"))?;
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.reader.scalar(Value::Null)
    }
    fn visit_bool<E: Error>(self, v: bool) -> Result<Value, E> {
        self.reader.scalar(v.into())
    }
    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        self.reader.scalar(v.into())
    }
    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        self.reader.scalar(v.into())
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        self.reader.scalar(v.into())
    }
    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        self.reader.scalar(v.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let Seed { reader, depth } = self;
        let mut list = Vec::new();
        reader.punctuation(b'[');
        while let Some(value) = seq.next_element_seed(Seed { reader, depth: depth + 1 })? {
            list.push(value);
            reader.punctuation(b',');
        }
        reader.close(list.is_empty(), b']');
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Seed { reader, depth } = self;
        let mut object = Map::new();
        reader.punctuation(b'{');
        while let Some(key) = map.next_key::<String>()? {
            let Value::String(key) = reader.scalar(key.into())? else { continue };
            reader.punctuation(b':');
            if let Some(words) = reader.twice.filter(|_| object.contains_key(&key)) {
                return Err(A::Error::custom(words(&key)));
            }
            let value = map.next_value_seed(Seed { reader, depth: depth + 1 })?;
            object.insert(key, value);
            reader.punctuation(b',');
        }
        reader.close(object.is_empty(), b'}');
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_text_cannot_become_a_large_tree() {
        for (text, fault) in [
            ("[".repeat(4 << 20), "nested deeper than 64"),
            (format!("[{}0]", "0,".repeat(2 << 20)), "too many values"),
            (format!("{{{}\"a\":0}}", "\"b\":{},".repeat(1 << 19)), "too many values"),
        ] {
            let err = read(text.as_bytes()).unwrap_err();
            assert!(err.contains(fault), "{err}");
            assert!(read_anew(text.as_bytes()).is_err());
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_refused_where_another_reads_it_too() {
        assert_eq!(read(br#"{"a":1,"a":2}"#).unwrap()["a"], 2);
        assert!(read_anew(br#"{"a":1,"a":2}"#).unwrap_err().ends_with("a duplicate key"));
        let (value, anew) = read_anew(br#" {"b" :[ ],"a":[1.50, {"\u0061":-2}, {}] } "#).unwrap();
        assert_eq!(anew, br#"{"b":[],"a":[1.5,{"a":-2},{}]}"#);
        assert_eq!(read(&anew).unwrap(), value);
    }
}
