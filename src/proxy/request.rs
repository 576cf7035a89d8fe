//! The body of a chat completion request: read strictly, written anew. Pure.
//!
//! Policy for top-level keys: only those in [`KEYS`] pass; any other key is refused by name. A key that nobody here
//! has looked at could make the server fetch something, keep something or run a tool of its own, and each of these
//! would be a second door. Of the known keys these values are refused: another `model`, `store: true`, `n` other than
//! 1, tools that are not functions of the agent, and message parts that are not text (an image's URL is fetched by
//! the server).
//!
//! Written anew means: same values, same order of keys (the order of a tool's parameters is part of the prompt), no
//! white space between tokens, one spelling for every string and number.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::http1::Refusal;
use crate::record::wire::RequestRefusal;

/// Top-level keys that pass. The first line is what Case sends; the rest are parameters of sampling and output that
/// cannot reach outside the model.
pub const KEYS: &[&str] = &[
    "model",
    "messages",
    "stream",
    "stream_options",
    "store",
    "max_completion_tokens",
    "tools",
    "chat_template_kwargs",
    "enable_thinking",
    "frequency_penalty",
    "include_reasoning",
    "logit_bias",
    "logprobs",
    "max_tokens",
    "min_p",
    "n",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "seed",
    "stop",
    "temperature",
    "tool_choice",
    "top_k",
    "top_logprobs",
    "top_p",
];

/// Nesting deeper than this is refused; tool schemas stay far below.
const MAX_DEPTH: usize = 64;

/// A request that may be passed on.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The body as it is passed on.
    pub body: Vec<u8>,
    pub value: Value,
    pub stream: bool,
    pub messages: u64,
    /// Names of the tools, sorted.
    pub tools: Vec<String>,
}

/// Reads and checks a body for the one admitted model.
pub fn check(body: &[u8], admitted_model: &str) -> Result<ChatRequest, Refusal> {
    let bad = |what: String| (RequestRefusal::BadJson, what);
    if body.starts_with(b"\xef\xbb\xbf") {
        return Err((RequestRefusal::BadEncoding, "a byte-order mark".into()));
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| (RequestRefusal::BadEncoding, "the body is not UTF-8".into()))?;
    let mut out = Vec::with_capacity(body.len());
    let mut reader = serde_json::Deserializer::from_str(text);
    // serde_json's words quote the text only where they name a duplicate key, which `Rewrite` words itself.
    Rewrite { out: &mut out, depth: 0 }.deserialize(&mut reader).map_err(|err| {
        bad(format!("line {}, column {}: {}", err.line(), err.column(), fault(&err)))
    })?;
    reader.end().map_err(|_| bad("something follows the JSON value".into()))?;
    let value: Value = serde_json::from_slice(&out).map_err(|_| bad("not JSON".into()))?;
    let object = value.as_object().ok_or_else(|| bad("not a JSON object".into()))?;
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        let key: String = key.chars().take(60).collect();
        return Err((RequestRefusal::UnknownKey, format!("the key \"{}\"", key.escape_debug())));
    }
    let value_fault = |what: &str| (RequestRefusal::BadValue, what.to_owned());
    match object.get("model").and_then(Value::as_str) {
        Some(model) if model == admitted_model => {}
        Some(_) => {
            return Err((RequestRefusal::OtherModel, "another model than the admitted one".into()));
        }
        None => return Err((RequestRefusal::OtherModel, "no model".into())),
    }
    let stream = match object.get("stream") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(stream)) => *stream,
        Some(_) => return Err(value_fault("stream is no boolean")),
    };
    if !matches!(object.get("store"), None | Some(Value::Null | Value::Bool(false))) {
        return Err(value_fault("store asks the server to keep the conversation"));
    }
    if !matches!(object.get("n"), None | Some(Value::Null))
        && object.get("n") != Some(&Value::from(1))
    {
        return Err(value_fault("n is not 1"));
    }
    let messages = object
        .get("messages")
        .and_then(Value::as_array)
        .ok_or_else(|| value_fault("messages is no list"))?;
    for message in messages {
        check_message(message).map_err(value_fault)?;
    }
    let tools = tools(object.get("tools")).map_err(value_fault)?;
    let (stream, messages) = (stream, messages.len() as u64);
    Ok(ChatRequest { body: out, stream, messages, tools, value })
}

/// serde_json's message without its place.
fn fault(err: &serde_json::Error) -> String {
    let text = err.to_string();
    text.rfind(" at line ").map_or(text.clone(), |end| text[..end].to_owned())
}

fn check_message(message: &Value) -> Result<(), &'static str> {
    let message = message.as_object().ok_or("a message is no object")?;
    match message.get("content") {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(Value::Array(parts)) => {
            let text =
                |part: &Value| part.get("type").is_some_and(|t| t == "text" || t == "refusal");
            if parts.iter().all(text) { Ok(()) } else { Err("a message part that is not text") }
        }
        Some(_) => Err("a message's content is neither text nor parts"),
    }
}

fn tools(value: Option<&Value>) -> Result<Vec<String>, &'static str> {
    let mut names = Vec::new();
    let list = match value {
        None | Some(Value::Null) => return Ok(names),
        Some(Value::Array(list)) => list,
        Some(_) => return Err("tools is no list"),
    };
    for tool in list {
        if tool.get("type").and_then(Value::as_str) != Some("function") {
            return Err("a tool that is not a function of the agent");
        }
        let name = tool.get("function").and_then(|f| f.get("name")).and_then(Value::as_str);
        names.push(name.ok_or("a tool without a name")?.chars().take(100).collect());
    }
    names.sort();
    Ok(names)
}

/// Writes the JSON value that is read to `out`, and refuses duplicate keys.
struct Rewrite<'a> {
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl Rewrite<'_> {
    fn scalar<T: serde::Serialize, E: serde::de::Error>(self, value: T) -> Result<(), E> {
        serde_json::to_writer(self.out, &value).map_err(E::custom)
    }
}

impl<'de> DeserializeSeed<'de> for Rewrite<'_> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(D::Error::custom("nested too deeply"));
        }
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rewrite<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.scalar(())
    }
    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<(), E> {
        self.scalar(v)
    }
    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<(), E> {
        self.scalar(v)
    }
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<(), E> {
        self.scalar(v)
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<(), E> {
        self.scalar(v)
    }
    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<(), E> {
        self.scalar(v)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Rewrite { out, depth } = self;
        out.push(b'[');
        let mut before = out.len();
        while seq.next_element_seed(Comma { out, depth: depth + 1, before })?.is_some() {
            before = 0;
        }
        out.push(b']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Rewrite { out, depth } = self;
        let mut seen = HashSet::new();
        out.push(b'{');
        while let Some(key) = map.next_key::<String>()? {
            if !seen.is_empty() {
                out.push(b',');
            }
            serde_json::to_writer(&mut *out, &key).map_err(A::Error::custom)?;
            out.push(b':');
            if !seen.insert(key) {
                return Err(A::Error::custom("a duplicate key"));
            }
            map.next_value_seed(Rewrite { out, depth: depth + 1 })?;
        }
        out.push(b'}');
        Ok(())
    }
}

/// An element of a list: a comma before it unless it is the first, which begins where the list's bracket ended.
struct Comma<'a> {
    out: &'a mut Vec<u8>,
    depth: usize,
    before: usize,
}

impl<'de> DeserializeSeed<'de> for Comma<'_> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        if self.out.len() != self.before {
            self.out.push(b',');
        }
        Rewrite { out: self.out, depth: self.depth }.deserialize(d)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> RequestRefusal {
        check(body.as_bytes(), "m").unwrap_err().0
    }

    fn with(extra: &str) -> String {
        format!(r#"{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{extra}}}"#)
    }

    #[test]
    fn a_request_is_written_anew_in_its_own_order() {
        let body = r#" { "model" : "m", "stream":true, "messages":[ {"role":"user","content":"\u0061\/"} , {"content":[{"type":"text","text":""}]} ],
            "tools":[{"type":"function","function":{"name":"read","parameters":{"z":1,"a":[1.50,-2,[],{}]}}}],"temperature":0.10 } "#;
        let got = check(body.as_bytes(), "m").unwrap();
        assert_eq!(
            String::from_utf8(got.body).unwrap(),
            r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"a/"},{"content":[{"type":"text","text":""}]}],"tools":[{"type":"function","function":{"name":"read","parameters":{"z":1,"a":[1.5,-2,[],{}]}}}],"temperature":0.1}"#
        );
        assert_eq!((got.stream, got.messages, got.tools), (true, 2, vec!["read".to_owned()]));
    }

    #[test]
    fn everything_outside_the_policy_is_refused() {
        use RequestRefusal::*;
        assert!(check(with("").as_bytes(), "m").is_ok());
        assert!(check(with(r#","store":false,"n":1,"tools":null"#).as_bytes(), "m").is_ok());
        for (extra, want) in [
            (r#","model":"m""#, BadJson),
            (r#","model":"n""#, BadJson),
            (r#","tools":[{"type":"function","function":{"name":"a","name":"b"}}]"#, BadJson),
            (r#","web_search_options":{}"#, UnknownKey),
            (r#","Model":"m""#, UnknownKey),
            (r#","store":true"#, BadValue),
            (r#","n":2"#, BadValue),
            (r#","stream":"yes""#, BadValue),
            (r#","tools":[{"type":"web_search"}]"#, BadValue),
            (r#","tools":{}"#, BadValue),
        ] {
            assert_eq!(refused(&with(extra)), want, "{extra}");
        }
        assert_eq!(refused(&with("").replace("\"m\"", "\"n\"")), OtherModel);
        assert_eq!(refused(r#"{"messages":[]}"#), OtherModel);
        assert_eq!(refused(r#"{"model":["m"],"messages":[]}"#), OtherModel);
        assert_eq!(refused(r#"{"model":"m"}"#), BadValue);
        let image = r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]}"#;
        assert_eq!(refused(image), BadValue);
        assert_eq!(refused("\u{feff}{}"), BadEncoding);
        assert_eq!(check(b"{\"model\":\"\xff\"}", "m").unwrap_err().0, BadEncoding);
        assert_eq!(
            check(
                "{}".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>().as_slice(),
                "m"
            )
            .unwrap_err()
            .0,
            BadJson
        );
        for junk in
            ["", "[]", "{} {}", "{\"a\":1e999}", "{'a':1}", "{\"a\":NaN}", "{\"a\":\"\\ud800\"}"]
        {
            assert_eq!(refused(junk), BadJson, "{junk}");
        }
        assert_eq!(refused(&("[".repeat(90) + &"]".repeat(90))), BadJson);
    }
}
