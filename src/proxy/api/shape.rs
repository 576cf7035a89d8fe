//! What a request may hold, as a table: the shape of each value, and closed lists of keys. An unknown key could make
//! the server fetch something, keep something or run a tool of its own, and each of these would be a second way out of
//! the sandbox.

use serde_json::Value;

use crate::proxy::http1::Refusal;
use crate::record::wire::RequestRefusal;

pub enum Shape {
    Any,
    Bool,
    Number,
    /// The value with this text alone.
    Just(&'static str),
    Text,
    /// One of these texts.
    Word(&'static [&'static str]),
    List(&'static Shape),
    /// An object with any keys and values of one shape.
    Map(&'static Shape),
    /// An object with these keys and no others.
    Object(&'static [Key]),
    /// One of two shapes of different JSON types.
    Either(&'static [Shape; 2]),
    /// An object whose `type` says which other keys it may have.
    Kinds(&'static [ObjectShape]),
    /// The same, and an object without `type` is of the first kind.
    KindsOr(&'static [ObjectShape]),
}

/// A kind of object, and its keys beside `type`.
pub type ObjectShape = (&'static str, &'static [Key]);

/// A key of an object. One that may be absent may also be null.
pub struct Key {
    pub name: &'static str,
    pub needed: bool,
    pub shape: Shape,
}

pub const fn may(name: &'static str, shape: Shape) -> Key {
    Key { name, needed: false, shape }
}

pub const fn must(name: &'static str, shape: Shape) -> Key {
    Key { name, needed: true, shape }
}

/// A function that the agent, and nobody else, would run.
pub const FUNCTION: &[Key] = &[
    must("name", Shape::Text),
    may("description", Shape::Text),
    may("parameters", Shape::Map(&Shape::Any)),
    may("strict", Shape::Bool),
];

impl Shape {
    fn takes_type_of(&self, value: &Value) -> bool {
        match self {
            Shape::Any | Shape::Just(_) => true,
            Shape::Bool => value.is_boolean(),
            Shape::Number => value.is_number(),
            Shape::Text | Shape::Word(_) => value.is_string(),
            Shape::List(_) => value.is_array(),
            Shape::Map(_) | Shape::Object(_) | Shape::Kinds(_) | Shape::KindsOr(_) => {
                value.is_object()
            }
            Shape::Either(two) => two.iter().any(|shape| shape.takes_type_of(value)),
        }
    }

    /// What a value of this shape is, for messages.
    fn words(&self) -> String {
        match self {
            Shape::Any => "any value".into(),
            Shape::Bool => "true or false".into(),
            Shape::Number => "a number".into(),
            Shape::Just(text) => (*text).into(),
            Shape::Text => "a text".into(),
            Shape::Word(words) => words.join(" or "),
            Shape::List(_) => "a list".into(),
            Shape::Map(_) | Shape::Object(_) | Shape::Kinds(_) | Shape::KindsOr(_) => {
                "an object".into()
            }
            Shape::Either([one, other]) => format!("{} or {}", one.words(), other.words()),
        }
    }

    pub fn check(&self, value: &Value, place: &str) -> Result<(), Refusal> {
        let wrong = || Err((RequestRefusal::BadValue, format!("{place} is not {}", self.words())));
        if !self.takes_type_of(value) {
            return wrong();
        }
        match (self, value) {
            (Shape::Just(text), found) if format!("{found}") != *text => wrong(),
            (Shape::Word(words), Value::String(found)) if !words.contains(&found.as_str()) => {
                wrong()
            }
            (Shape::List(shape), Value::Array(list)) => list
                .iter()
                .enumerate()
                .try_for_each(|(at, value)| shape.check(value, &format!("{place}[{at}]"))),
            (Shape::Map(shape), Value::Object(map)) => {
                map.values().try_for_each(|value| shape.check(value, &format!("{place}.*")))
            }
            (Shape::Object(keys), Value::Object(_)) => check_keys(keys, value, place),
            (Shape::Kinds(kinds), Value::Object(_)) => check_kind(kinds, None, value, place),
            (Shape::KindsOr(kinds), Value::Object(_)) => {
                check_kind(kinds, kinds.first(), value, place)
            }
            (Shape::Either(two), _) => two
                .iter()
                .filter(|shape| shape.takes_type_of(value))
                .try_for_each(|shape| shape.check(value, place)),
            _ => Ok(()),
        }
    }
}

/// Whether the object `value` is of one of these kinds, and has its keys and no others.
fn check_kind(
    kinds: &[ObjectShape],
    without: Option<&ObjectShape>,
    value: &Value,
    place: &str,
) -> Result<(), Refusal> {
    let kind = match value.get("type") {
        None => without,
        Some(name) => kinds.iter().find(|(kind, _)| *name == **kind),
    };
    match kind {
        Some((_, keys)) => check_listed(keys, &["type"], value, place),
        None => {
            let names: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).collect();
            let what = format!("{place}.type is not {}", names.join(" or "));
            Err((RequestRefusal::BadValue, what))
        }
    }
}

/// Whether the object `value`, which stands at `place` (empty for the whole request), has the needed keys and no
/// others than these.
pub fn check_keys(keys: &[Key], value: &Value, place: &str) -> Result<(), Refusal> {
    check_listed(keys, &[], value, place)
}

/// The same; `also` are names that were looked at before.
fn check_listed(keys: &[Key], also: &[&str], value: &Value, place: &str) -> Result<(), Refusal> {
    let below = |name: &str| match place {
        "" => name.to_owned(),
        _ => format!("{place}.{name}"),
    };
    for key in keys {
        match value.get(key.name) {
            None if key.needed => {
                return Err((RequestRefusal::BadValue, format!("{} is missing", below(key.name))));
            }
            None => {}
            Some(Value::Null) if !key.needed => {}
            Some(value) => key.shape.check(value, &below(key.name))?,
        }
    }
    let unknown = |name: &&String| {
        !keys.iter().any(|key| key.name == **name) && !also.contains(&name.as_str())
    };
    match value.as_object().and_then(|object| object.keys().find(unknown)) {
        None => Ok(()),
        Some(name) => {
            let name: String = name.chars().take(60).collect();
            let name = below(&name.escape_debug().to_string());
            Err((RequestRefusal::UnknownKey, format!("the key \"{name}\" is not passed on")))
        }
    }
}
