//! The result envelope that an agent must end with: `<<<AGENT_RESULT`, one JSON object, `AGENT_RESULT>>>`.
//!
//! Read from assistant text as it came over the wire. Reasoning is never part of that text, and nothing here repairs
//! or converts: an envelope is complete as it stands, or it is not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical::parse_value;

/// Opens the envelope. The last one in the text counts.
pub const START: &str = "<<<AGENT_RESULT";
/// Closes the envelope. The first one after the start counts.
pub const END: &str = "AGENT_RESULT>>>";

/// Longest envelope that is read, in bytes: what it holds is a handful of fields and a list of files.
const MAX_ENVELOPE: usize = 256 << 10;

/// What the agent says of its own work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResultStatus {
    /// The work is done.
    Completed,
    Failed,
    /// Something outside keeps the agent from going on.
    Blocked,
}

/// An envelope's outline. Everything in it is the agent's own claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvelopeFacts {
    /// Byte at which the start delimiter stands in the text.
    pub start: u64,
    /// Both delimiters, a JSON object between them without a duplicate key, and a known `status`.
    pub complete: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ResultStatus>,
    /// `artifacts.commit`, where it is a text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// `artifacts.testsPassed`, where it is a boolean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests_passed: Option<bool>,
    /// `artifacts.filesChanged`, where it is a list of texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_changed: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Finds the envelope in `text`; `None` where there is no start delimiter at all.
pub fn find_agent_result(text: &str) -> Option<EnvelopeFacts> {
    let start = text.rfind(START)?;
    let mut facts = EnvelopeFacts { start: start as u64, ..EnvelopeFacts::default() };
    facts.fault = read(&text[start + START.len()..], &mut facts).err();
    facts.complete = facts.fault.is_none();
    Some(facts)
}

fn read(after: &str, facts: &mut EnvelopeFacts) -> Result<(), String> {
    let end = after.find(END).ok_or("no end delimiter")?;
    if end > MAX_ENVELOPE {
        return Err("longer than an envelope may be".into());
    }
    let value = parse_value(after[..end].trim().as_bytes()).map_err(|err| err.to_string())?;
    let object = value.as_object().ok_or("not a JSON object")?;
    let status = object.get("status").ok_or("no status")?;
    let status: ResultStatus =
        serde_json::from_value(status.clone()).map_err(|_| "an unknown status")?;
    facts.status = Some(status);
    let artifacts = object.get("artifacts");
    let field = |name: &str| artifacts.and_then(|a| a.get(name));
    facts.commit = field("commit").and_then(Value::as_str).map(short);
    facts.tests_passed = field("testsPassed").and_then(Value::as_bool);
    if let Some(files) = field("filesChanged").and_then(Value::as_array) {
        facts.files_changed =
            files.iter().filter_map(Value::as_str).take(1000).map(short).collect();
    }
    Ok(())
}

/// The agent's text, cut to what a report needs.
fn short(text: &str) -> String {
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(body: &str) -> String {
        format!("Done.\n{START}\n{body}\n{END}\n")
    }

    #[test]
    fn a_complete_envelope_is_read() {
        let text = envelope(
            r#"{"status":"completed","summary":"s","artifacts":{"commit":"abc","filesChanged":["a.py"],"testsPassed":true},"error":null}"#,
        );
        let facts = find_agent_result(&text).unwrap();
        assert!(facts.complete && facts.fault.is_none());
        assert_eq!((facts.start, facts.status), (6, Some(ResultStatus::Completed)));
        assert_eq!(facts.commit.as_deref(), Some("abc"));
        assert_eq!((facts.tests_passed, facts.files_changed.len()), (Some(true), 1));
    }

    #[test]
    fn the_last_start_counts() {
        let good = envelope(r#"{"status":"completed"}"#);
        let facts = find_agent_result(&format!("{good} again {START} {{")).unwrap();
        assert!(!facts.complete);
        assert_eq!(facts.fault.as_deref(), Some("no end delimiter"));
        let facts = find_agent_result(&format!("{START} {{ {good}")).unwrap();
        assert!(facts.complete);
    }

    #[test]
    fn everything_less_is_not_complete() {
        let long = format!(r#"{{"status":"completed","x":[{}0]}}"#, "0,".repeat(1 << 18));
        let facts = find_agent_result(&envelope(&long)).unwrap();
        assert_eq!(facts.fault.as_deref(), Some("longer than an envelope may be"));
        assert_eq!(find_agent_result("AGENT_RESULT>>> <<<AGENT_RESUL"), None);
        for body in [
            "",
            "[]",
            "{}",
            r#"{"status":"done"}"#,
            r#"{"status":"completed","status":"completed"}"#,
            "```json\n{\"status\":\"completed\"}\n```",
            r#"{"status":"completed"} and more"#,
        ] {
            let facts = find_agent_result(&envelope(body)).unwrap();
            assert!(!facts.complete && facts.fault.is_some(), "{body}");
        }
    }
}
