//! Every wire API, by what a model's record calls it.

use super::WireApi;
use super::chat::Chat;
use super::codex::Codex;
use super::messages::Messages;
use super::responses::Responses;
use crate::record::admission::Api;

pub const ALL: [&dyn WireApi; 4] = [&Chat, &Responses, &Messages, &Codex];

pub fn of(api: Api) -> &'static dyn WireApi {
    match api {
        Api::OpenaiChat => &Chat,
        Api::OpenaiResponses => &Responses,
        Api::AnthropicMessages => &Messages,
        Api::OpenaiCodexResponses => &Codex,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;

    use super::*;
    use crate::proxy::api::{ForwardedRequest, read_request};
    use crate::proxy::http1::{Refusal, ReplyHead, parse_reply};
    use crate::proxy::mock::{Behaviour, Mock};
    use crate::proxy::reader::ReplyReader;
    use crate::proxy::reply::classify;
    use crate::record::wire::{ReplyClass, ReplyFacts, RequestRefusal};

    #[derive(Debug, PartialEq)]
    pub struct Read {
        pub facts: ReplyFacts,
        pub content: String,
        /// As it is looked through for secrets.
        pub text: String,
        pub class: ReplyClass,
        pub detail: String,
    }

    pub fn read(api: &'static dyn WireApi, head: &ReplyHead, body: &[u8], step: usize) -> Read {
        let mut reader = ReplyReader::new(api, head).unwrap();
        let mut text = Vec::new();
        for piece in body.chunks(step) {
            text.extend(reader.feed(piece).unwrap().text);
        }
        let (facts, content, last) = reader.finish(true);
        text.extend(last);
        let text = String::from_utf8(text).unwrap();
        let verdict = classify(&facts, "m", |reason| api.finish(reason));
        Read { facts, content, text, class: verdict.class, detail: verdict.detail }
    }

    /// Whether this is two lines of text behind a thought and a whole call of `read` as number `index`, with so many tokens
    /// in and out.
    pub fn is_all_of_it(got: &Read, index: u64, tokens: (u64, u64)) {
        let (facts, usage) = (&got.facts, got.facts.usage.unwrap());
        assert_eq!((got.class, &*got.detail), (ReplyClass::OkTools, "tools"), "{got:?}");
        assert_eq!((&*got.content, facts.malformed), ("two\nlines", 0), "{got:?}");
        assert_eq!((facts.content_chars, facts.reasoning_chars), (8, 3));
        let sum = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens);
        assert_eq!(sum, (tokens.0, tokens.1, tokens.0 + tokens.1));
        let [call] = &facts.tool_calls[..] else { panic!("{got:?}") };
        assert_eq!((call.index, &*call.name, call.arguments_ok), (index, "read", true));
    }

    /// The head of a stream, with these lines besides.
    pub fn head(more: &str) -> ReplyHead {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{more}\r\n");
        parse_reply(text.as_bytes()).unwrap()
    }

    /// Reads a stream, in several ways that must not differ.
    pub fn read_stream(api: &'static dyn WireApi, body: &str) -> Read {
        let head = head("");
        let whole = read(api, &head, body.as_bytes(), body.len().max(1));
        for step in [1, 2, 3, 5, 64] {
            assert_eq!(read(api, &head, body.as_bytes(), step), whole, "step {step}");
            let crlf = body.replace('\n', "\r\n");
            let mut got = read(api, &head, crlf.as_bytes(), step);
            got.facts.body_bytes = whole.facts.body_bytes;
            assert_eq!(got, whole, "crlf, step {step}");
        }
        whole
    }

    fn read_whole(api: &'static dyn WireApi, status: u16, body: &str) -> Read {
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        read(api, &parse_reply(head.as_bytes()).unwrap(), body.as_bytes(), 10)
    }

    /// Events as a stream, each with its type as its name.
    pub fn stream(events: &[Value]) -> String {
        let name = |event: &Value| event["type"].as_str().unwrap_or_default().to_owned();
        events.iter().map(|one| format!("event: {}\ndata: {one}\n\n", name(one))).collect()
    }

    /// Whether each of these streams is of this class, with this detail.
    pub fn streams<T: AsRef<str>>(
        api: &'static dyn WireApi,
        class: ReplyClass,
        detail: &str,
        bodies: impl IntoIterator<Item = T>,
    ) {
        for body in bodies {
            let (body, got) = (body.as_ref(), read_stream(api, body.as_ref()));
            assert_eq!((got.class, &*got.detail), (class, detail), "{body}\n{got:?}");
        }
    }

    /// Whether bodies that are no streams, each with its status, are of these classes, with these details.
    pub fn wholes<T: ToString>(
        api: &'static dyn WireApi,
        cases: impl IntoIterator<Item = (u16, T, ReplyClass, &'static str)>,
    ) {
        for (status, body, class, detail) in cases {
            let body = body.to_string();
            let got = read_whole(api, status, &body);
            assert_eq!((got.class, &*got.detail), (class, detail), "{status} {body}");
        }
    }

    pub fn check(api: &dyn WireApi, request: &Value) -> Result<ForwardedRequest, Refusal> {
        read_request(api, request.to_string().as_bytes(), "m")
    }

    /// Whether this request is refused with each of these values at its place, for which reason and in which words.
    pub fn refused<'a>(
        api: &dyn WireApi,
        request: &Value,
        changes: impl IntoIterator<Item = (&'a str, Value, RequestRefusal, &'a str)>,
    ) {
        for (at, value, reason, words) in changes {
            let mut request = request.clone();
            let (place, key) = at.rsplit_once('/').unwrap();
            request.pointer_mut(place).unwrap()[key] = value;
            let (found, what) = check(api, &request).unwrap_err();
            assert!(found == reason && what.contains(words), "{at}: {found:?} {what}");
        }
    }

    #[test]
    fn each_name_leads_to_its_own() {
        // Tests go over those with a list.
        assert_eq!(ALL.map(|api| api.list().is_some()), [true, true, true, false]);
        for name in Api::ALL {
            assert_eq!(of(name).api(), name);
        }
        assert_eq!(ALL.map(WireApi::api), Api::ALL);
    }

    #[test]
    fn what_a_mock_renders_is_read_back_in_every_api() {
        for api in ALL {
            for behaviour in [Behaviour::Plays, Behaviour::Delayed, Behaviour::ToolsInPieces] {
                for stream in [true, false] {
                    let mut mock =
                        Mock::saying("two\nlines", "m").speaking(api).misbehaving(behaviour);
                    let body = String::from_utf8(mock.reply(1, stream).body()).unwrap();
                    let got = match stream {
                        true => read_stream(api, &body),
                        // Arguments in pieces are no JSON object where they stand whole.
                        false if behaviour == Behaviour::ToolsInPieces => continue,
                        false => read_whole(api, 200, &body),
                    };
                    let class = match behaviour {
                        Behaviour::ToolsInPieces => ReplyClass::OkTools,
                        _ => ReplyClass::OkText,
                    };
                    assert_eq!((got.class, got.facts.malformed), (class, 0), "{body}\n{got:?}");
                    let thinks = behaviour == Behaviour::Delayed;
                    assert_eq!(got.facts.reasoning_chars > 0, thinks, "{body}");
                    assert_eq!(got.facts.usage.unwrap().total_tokens, 2, "{body}");
                    if class == ReplyClass::OkText {
                        assert_eq!(got.content, "two\nlines");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_said_twice_is_looked_through_twice() {
        // Escaped in a whole that differs from its pieces: no other reader of the bytes would find it.
        let body = concat!(
            "data: {\"type\":\"response.output_item.added\",\"item\":{\"type\":\"message\"}}\n\n",
            "data: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n",
            "data: {\"type\":\"response.output_item.done\",\"item\":{\"type\":\"message\",\"content\":[{\"type\":\"output_text\",\"text\":\"\\u0073ecret\"}]}}\n\n",
        );
        let got = read_stream(&Responses, body);
        assert!(got.text.contains("secret") && got.facts.malformed == 1, "{got:?}");
    }

    #[test]
    fn a_probe_passes_its_own_list() {
        for api in ALL {
            let body = api.probe("m", 1024).to_string();
            let request = read_request(api, body.as_bytes(), "m").unwrap();
            assert!(request.stream && request.messages == 1, "{}", api.name());
        }
    }
}
