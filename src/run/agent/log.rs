//! Case's own event log, `<repo>/.case/<task>/events/run-<uuid>.jsonl`. The agent's side writes it, so everything in it
//! is a claim; what it claims has to agree with the wire.

use serde_json::Value;

use crate::record::agent_result::ResultStatus;
use crate::record::evidence::PhaseOutcome;
use crate::record::wire::{ProxyRecord, ReplyClass, WireRecord};
use crate::record::{self, MAX_VALUES};
use crate::run::phases::{ClaimedPhase, chats};

/// More phases than this are not told.
const MAX_PHASES: usize = 200;
/// More events than this are not read.
const MAX_EVENTS: usize = 100_000;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claimed {
    pub events: Vec<Value>,
    /// What is wrong with the log; empty for a whole one.
    pub faults: Vec<String>,
}

/// Reads a log. Nothing in it is repaired: a line that is not as it must be is a fault, and reading ends there. Events
/// are in the order of their numbers, whatever that of their lines.
pub fn read(bytes: &[u8]) -> Claimed {
    let mut out = Claimed::default();
    let mut run = None;
    // All of them stay in memory, and a short text can hold many.
    let mut left = MAX_VALUES;
    // The last line may be cut where the process was ended: then it claims nothing.
    let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
    for (index, line) in bytes[..whole].split(|b| *b == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        if index >= MAX_EVENTS {
            out.faults.push(format!("more than {MAX_EVENTS} events"));
            break;
        }
        let value = match record::parse_within(line, &mut left) {
            Ok(value) => value,
            Err(_) if left == 0 => {
                out.faults.push(format!("more than {MAX_VALUES} values"));
                break;
            }
            Err(_) => {
                out.faults.push(format!("line {} is no JSON object with distinct keys", index + 1));
                break;
            }
        };
        let id = value.get("runId").and_then(Value::as_str).map(str::to_owned);
        let known = run.get_or_insert_with(|| id.clone());
        if id.is_none() || *known != id || value.get("event").is_none() {
            out.faults.push(format!("line {} is of another run, or no event", index + 1));
            break;
        }
        out.events.push(value);
    }
    // Case numbers an event when it happens and does not wait for its line to be written: on a busy machine two change
    // places (seen). None may be missing, and none may be there twice.
    let number = |event: &Value| event.get("sequence").and_then(Value::as_u64).unwrap_or(0);
    out.events.sort_by_key(number);
    let whole = (1..).zip(&out.events).take_while(|(n, event)| *n == number(event)).count();
    if whole < out.events.len() {
        out.faults.push(format!("event {} is missing, or is there twice", whole + 1));
        out.events.truncate(whole);
    }
    out
}

impl Claimed {
    fn find(&self, event: &str, phase: Option<&str>) -> Option<&Value> {
        self.events.iter().find(|value| {
            value["event"] == event && phase.is_none_or(|phase| value["phase"] == phase)
        })
    }

    /// `pipeline_start` stands first.
    pub fn pipeline_started(&self) -> bool {
        self.events.first().is_some_and(|value| value["event"] == "pipeline_start")
    }

    pub fn implement_started(&self) -> bool {
        self.find("phase_start", Some("implement")).is_some()
    }

    /// How the implement phase ended: as completed where it ever did, else as it did last. Further ones that were
    /// planned and not needed count for nothing.
    pub fn implement_outcome(&self) -> Option<&str> {
        let ends = |value: &&Value| value["event"] == "phase_end" && value["phase"] == "implement";
        let outcomes = || self.events.iter().filter(ends).filter_map(|e| e["outcome"].as_str());
        let skipped = |outcome: &&str| *outcome == "skipped";
        outcomes()
            .find(|outcome| *outcome == "completed")
            .or(outcomes().rfind(|outcome| !skipped(outcome)))
    }

    /// Every phase in the order in which it began, or was left out.
    pub fn phases(&self) -> Vec<ClaimedPhase> {
        let mut out: Vec<ClaimedPhase> = Vec::new();
        for event in &self.events {
            let Some(name) = event["phase"].as_str() else { continue };
            let at = event["ts"].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            let at = at.map(jiff::Timestamp::as_nanosecond);
            // A name is a claim too, and long ones are none.
            let name: String = name.chars().take(60).collect();
            let decides = name == "implement";
            if event["event"] == "phase_start" {
                let (outcome, started, ended) = (PhaseOutcome::Unfinished, at, None);
                out.push(ClaimedPhase { name, outcome, started, ended, decides });
            } else if event["event"] == "phase_end" {
                let outcome = match event["outcome"].as_str() {
                    Some("completed") => PhaseOutcome::Completed,
                    Some("skipped") => PhaseOutcome::Skipped,
                    _ => PhaseOutcome::Failed,
                };
                let open = |phase: &&mut ClaimedPhase| {
                    phase.name == name && phase.outcome == PhaseOutcome::Unfinished
                };
                match out.iter_mut().rev().find(open) {
                    Some(phase) => (phase.outcome, phase.ended) = (outcome, at),
                    None => {
                        out.push(ClaimedPhase { name, outcome, started: None, ended: at, decides });
                    }
                }
            }
            if out.len() > MAX_PHASES {
                break;
            }
        }
        out
    }

    pub fn pipeline_outcome(&self) -> Option<&str> {
        self.find("pipeline_end", None)?.get("outcome")?.as_str()
    }

    pub fn disagreements(&self, wire: &ProxyRecord) -> Vec<String> {
        let mut out = Vec::new();
        let chats: Vec<&WireRecord> = chats(wire).collect();
        if self.implement_outcome().is_some() && chats.is_empty() {
            out.push("a phase ended, and no request was seen".into());
        }
        let completed = self
            .events
            .iter()
            // Of what comes after the work nothing decides, and Case counts a retrospective as completed whatever came
            // of it (seen).
            .filter(|e| e["event"] == "phase_end" && e["phase"] == "implement")
            .filter(|e| e["outcome"] == "completed")
            .count();
        let envelopes = chats.iter().filter(|chat| is_completed(chat)).count();
        if completed > envelopes {
            out.push(format!(
                "implement completed {completed} times, and {envelopes} results were seen on the wire"
            ));
        }
        let mut tools: std::collections::BTreeMap<&str, i64> = std::collections::BTreeMap::new();
        for call in chats.iter().filter_map(|chat| chat.facts.as_ref()).flat_map(|f| &f.tool_calls)
        {
            *tools.entry(call.name.as_str()).or_default() += 1;
        }
        for event in self.events.iter().filter(|e| e["event"] == "tool_start") {
            let name = event["tool"].as_str().unwrap_or_default();
            let left = tools.get_mut(name).map(|left| {
                *left -= 1;
                *left
            });
            if left.is_none_or(|left| left < 0) {
                out.push(format!("a call of \"{}\" that no reply asked for", name.escape_debug()));
            }
        }
        out
    }
}

/// Whether the reply is whole and its text ends in a complete result that says `completed`.
pub fn is_completed(exchange: &WireRecord) -> bool {
    let whole = exchange.verdict.as_ref().is_some_and(|v| v.class == ReplyClass::OkText);
    let said = exchange.agent_result.as_ref();
    whole && said.is_some_and(|r| r.complete && r.status == Some(ResultStatus::Completed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sequence: u32, event: &str, more: &str) -> String {
        format!(
            "{{\"event\":\"{event}\"{more},\"ts\":\"t\",\"sequence\":{sequence},\"runId\":\"r\"}}\n"
        )
    }

    #[test]
    fn a_log_of_more_values_than_anybody_keeps_is_a_fault() {
        let objects = format!(",\"x\":[{}0]", "{\"a\":0},".repeat(20_000));
        let text: String = (1..20).map(|n| line(n, "tool_start", &objects)).collect();
        let log = read(text.as_bytes());
        assert_eq!(log.faults, ["more than 250000 values"]);
        assert!(log.events.len() < 10);
    }

    #[test]
    fn a_whole_log_tells_how_it_went() {
        let text = line(1, "pipeline_start", "")
            + &line(2, "phase_start", ",\"phase\":\"implement\"")
            + &line(3, "phase_end", ",\"phase\":\"implement\",\"outcome\":\"completed\"")
            + &line(4, "pipeline_end", ",\"outcome\":\"completed\"");
        let log = read(text.as_bytes());
        assert!(log.faults.is_empty() && log.pipeline_started() && log.implement_started());
        assert_eq!(log.implement_outcome(), Some("completed"));
        assert_eq!(log.pipeline_outcome(), Some("completed"));
    }

    #[test]
    fn events_count_in_the_order_of_their_numbers_and_none_is_missing() {
        let lines = [
            line(1, "pipeline_start", ""),
            line(2, "phase_start", ",\"phase\":\"implement\""),
            line(3, "phase_end", ",\"phase\":\"implement\",\"outcome\":\"completed\""),
        ];
        let of = |order: &[usize]| {
            read(order.iter().map(|n| lines[*n].as_str()).collect::<String>().as_bytes())
        };
        assert_eq!(of(&[0, 2, 1]), of(&[0, 1, 2]));
        assert_eq!(of(&[0, 2, 1]).faults, [""; 0]);
        for order in [&[0, 2][..], &[0, 1, 1, 2], &[1, 2]] {
            assert_eq!(of(order).faults.len(), 1, "{order:?}");
            assert_eq!(of(order).implement_outcome(), None, "{order:?}");
        }
    }

    #[test]
    fn a_phase_that_was_planned_again_and_not_needed_hides_no_failure() {
        let end = |sequence, outcome: &str| {
            let more = format!(",\"phase\":\"implement\",\"outcome\":\"{outcome}\"");
            line(sequence, "phase_end", &more)
        };
        let start = line(1, "phase_start", ",\"phase\":\"implement\"");
        let log = read((start + &end(2, "failed") + &end(3, "skipped")).as_bytes());
        assert_eq!(log.implement_outcome(), Some("failed"));
        let outcomes: Vec<PhaseOutcome> = log.phases().iter().map(|phase| phase.outcome).collect();
        assert_eq!(outcomes, [PhaseOutcome::Failed, PhaseOutcome::Skipped]);
        // Only one that began can be what the work hangs on.
        assert!(log.phases()[1].started.is_none());
    }

    #[test]
    fn a_log_that_was_tampered_with_has_faults() {
        let good = line(1, "pipeline_start", "");
        for bad in [
            good.clone() + &line(3, "pipeline_end", ""),
            good.clone() + "{\"event\":\"x\",\"sequence\":2,\"sequence\":2,\"runId\":\"r\"}\n",
            good.clone() + "{\"event\":\"x\",\"sequence\":2,\"runId\":\"other\"}\n",
            good.clone() + "not json\n",
        ] {
            assert_eq!(read(bad.as_bytes()).faults.len(), 1, "{bad}");
        }
        let cut = read((good + "{\"cut").as_bytes());
        assert_eq!((cut.events.len(), cut.faults.len()), (1, 0));
    }
}
