//! OpenAI's Responses as an account is served and not a key: another path, no list of models, a header that names the
//! account, and a key that clients read the account from.

use serde_json::Value;

use super::responses::Responses;
use super::shape::Key;
use super::{Finish, Header, Said, WireApi};
use crate::proxy::reply::Reply;
use crate::proxy::sse::Event;
use crate::record::admission::Api;

#[derive(Debug)]
pub struct Codex;

/// What clients take for a signed token (three parts, whose second names an account and whose signature they do not look
/// at), and no rule takes for one: ` {"https://api.openai.com/auth":{"chatgpt_account_id":"admit"}}`, whose white space
/// leaves nothing to pad and the beginning of no real token. Who asks in truth is added at the proxy.
const PAYLOAD: &str =
    "IHsiaHR0cHM6Ly9hcGkub3BlbmFpLmNvbS9hdXRoIjp7ImNoYXRncHRfYWNjb3VudF9pZCI6ImFkbWl0In19";
const ACCOUNT: &str = "admit";

impl WireApi for Codex {
    fn api(&self) -> Api {
        Api::OpenaiCodexResponses
    }

    fn path(&self) -> &'static str {
        "/codex/responses"
    }

    fn list(&self) -> Option<&'static str> {
        None
    }

    fn shown_key(&self, sentinel: &str) -> String {
        format!("{sentinel}.{PAYLOAD}.x")
    }

    fn account_header(&self) -> Option<(&'static str, &'static str)> {
        Some(("chatgpt-account-id", ACCOUNT))
    }

    fn headers(&self) -> &'static [Header] {
        &[
            Header {
                name: "openai-beta",
                words: "responses=experimental",
                takes: |value| value == "responses=experimental",
                otherwise: Some("responses=experimental"),
            },
            Header {
                name: "originator",
                words: "a name of at most 64 letters, digits and any of _.-",
                takes: |value| {
                    let letter = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
                    (1..=64).contains(&value.len()) && value.bytes().all(letter)
                },
                otherwise: Some("admit"),
            },
        ]
    }

    fn keys(&self) -> &'static [Key] {
        Responses.keys()
    }

    fn outline(&self, request: &Value) -> (u64, Vec<String>) {
        Responses.outline(request)
    }

    fn event(&self, event: Event<'_>, reply: &mut Reply) {
        Responses.event(event, reply);
    }

    fn body(&self, value: &Value, reply: &mut Reply) {
        Responses.body(value, reply);
    }

    fn finish(&self, reason: &str) -> Finish {
        Responses.finish(reason)
    }

    /// Without a budget: such servers take none.
    fn question(&self, model: &str, words: &str, max_tokens: u32) -> Value {
        let mut request = Responses.question(model, words, max_tokens);
        request.as_object_mut().map(|request| request.remove("max_output_tokens"));
        request["instructions"] = "You do what you are asked, and nothing else.".into();
        request
    }

    fn as_for_one_that_reasons(&self, _: Value) -> Option<Value> {
        None
    }

    fn tool(&self, name: &str, description: &str, parameters: Value) -> Value {
        Responses.tool(name, description, parameters)
    }

    fn error(&self, kind: &str, message: &str) -> Value {
        Responses.error(kind, message)
    }

    fn render(&self, said: &Said<'_>, stream: bool) -> Vec<String> {
        Responses.render(said, stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::api::{list, passed_headers, read_request};
    use crate::secrets::rule_of;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    use serde_json::json;

    #[test]
    fn the_key_that_clients_read_an_account_from_is_no_token() {
        let key = Codex.shown_key("admit-run-0123456789abcdef0123456789abcdef");
        let parts: Vec<&str> = key.split('.').collect();
        let payload = STANDARD_NO_PAD.decode(parts[1]).unwrap();
        let payload: Value = serde_json::from_slice(&payload).unwrap();
        let claim = &payload["https://api.openai.com/auth"]["chatgpt_account_id"];
        assert_eq!((parts.len(), claim.as_str()), (3, Some(ACCOUNT)));
        assert!(parts[1].bytes().all(|b| b.is_ascii_alphanumeric()), "either alphabet reads it");
    }

    #[test]
    fn no_key_that_is_shown_has_the_shape_of_a_real_one() {
        for api in list::ALL {
            let key = api.shown_key("admit-run-0123456789abcdef0123456789abcdef");
            assert_eq!(rule_of(key.as_bytes()), None, "{}", api.name());
            // Clients behave differently with keys of these shapes.
            for shape in ["sk-", "eyJ", "Bearer"] {
                assert!(!key.contains(shape), "{} {shape}", api.name());
            }
            assert!(key.len() > 16 && key.bytes().all(|b| b.is_ascii_graphic()));
        }
    }

    #[test]
    fn a_request_as_clients_send_it_passes() {
        let tool = json!({"type": "function", "name": "bash", "description": "runs", "parameters": {}, "strict": null});
        let body = json!({
            "model": "m", "store": false, "stream": true, "instructions": "x",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}],
            "text": {"verbosity": "low"}, "include": ["reasoning.encrypted_content"],
            "tool_choice": "auto", "parallel_tool_calls": true, "tools": [tool],
        });
        let request = read_request(&Codex, body.to_string().as_bytes(), "m").unwrap();
        assert_eq!(request.tools, ["bash"]);
        let sent = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let passed = passed_headers(&Codex, &sent("originator", "pi")).unwrap();
        assert!(passed.contains(&("originator", "pi".into())) && passed.len() == 2, "{passed:?}");
        for (name, value) in [("originator", "a b"), ("openai-beta", "responses_websockets=1")] {
            assert!(passed_headers(&Codex, &sent(name, value)).is_err(), "{name}");
        }
        // The account that the shown key names, and no other; for the other APIs none.
        for (api, value, good) in [
            (&Codex as &dyn WireApi, ACCOUNT, true),
            (&Codex, "another", false),
            (&Responses, ACCOUNT, false),
        ] {
            let got = passed_headers(api, &sent("chatgpt-account-id", value));
            assert_eq!(got.is_ok(), good, "{}", api.name());
            assert!(!got.unwrap_or_default().iter().any(|(name, _)| name.contains("account")));
        }
    }
}
