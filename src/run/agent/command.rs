//! An agent that is data: its arguments, variables and files stand in the lock's `run` as templates, and how it ended is
//! read from the JSON lines that it prints (`docs/agents.md`).

use std::collections::BTreeMap;

use serde_json::json;

use super::log::Claimed;
use super::{Agent, PORT, Parts, Prepared, Required, WORKDIR, environment};
use crate::check::launch::File;
use crate::error::{Error, Reason, Result};
use crate::record;
use crate::record::run_shape::{CommandRun, ExitRule, fill};
use crate::run::fixture::Fixture;

/// More lines than these are not read.
const MAX_LINES: usize = 100_000;

pub struct Command {
    pub run: CommandRun,
}

impl Agent for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn program(&self) -> &'static str {
        "/opt/agent/bin/agent"
    }

    fn prepare(&self, parts: &Parts<'_>) -> Result<Prepared> {
        let api = parts.model.api().as_str();
        if !self.run.wire_apis.iter().any(|known| known == api) {
            return Err(Error::new(
                Reason::RequestRefused,
                "the agent does not speak to this model as its record says",
            )
            .at("run.command.wire_apis")
            .expected(self.run.wire_apis.join(", "))
            .found(api)
            .hint("name a model with a record of that wire API: admit model list"));
        }
        let home = format!("{WORKDIR}/home");
        let work = format!("{WORKDIR}/{}", self.workspace(parts.fixture));
        let door = format!("http://127.0.0.1:{PORT}");
        let task = parts.fixture.task_files(parts.now);
        let task_file = format!("{WORKDIR}/task/{}", task.markdown_name);
        let model = parts.model.model.to_string();
        let outside = BTreeMap::from([
            ("task", task_file.as_str()),
            ("work", work.as_str()),
            ("home", home.as_str()),
            ("model", model.as_str()),
            ("door", door.as_str()),
            ("key", parts.sentinel),
        ]);
        let mut values = outside.clone();
        values.insert("prompt", task.markdown.as_str());
        let mut environment = environment(parts.hardened, &parts.tools);
        environment.extend(self.run.env.iter().map(|(k, v)| (k.clone(), fill(v, &outside))));
        let mut files = BTreeMap::new();
        let mut put = |path: String, role, bytes| drop(files.insert(path, File { role, bytes }));
        put(format!("task/{}", task.markdown_name), "task", task.markdown.clone().into_bytes());
        for (path, template) in &self.run.files {
            let below = fill(path, &BTreeMap::from([("home", "home")]));
            put(below, "config", fill(template, &outside).into_bytes());
        }
        Ok(Prepared {
            arguments: parts.shape.iter().map(|arg| fill(arg, &values)).collect(),
            environment,
            directories: ["home", "tmp", "task"].map(str::to_owned).to_vec(),
            files,
        })
    }

    fn log_directory(&self, _: &Fixture) -> Option<String> {
        None
    }

    /// What its lines claim, in the form that every agent's claims have: one phase, which is the whole.
    fn read(&self, log: &[u8]) -> Claimed {
        // The last line may be cut where the process was ended: then it claims nothing.
        let whole = log.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        // Of each line only what it claims is kept: all of them as values could take a hundred times their bytes.
        let (mut any, mut claim) = (false, None);
        for line in log[..whole].split(|b| *b == b'\n').take(MAX_LINES) {
            let Ok(line) = record::parse_value(line) else { continue };
            any |= line["type"].is_string();
            claim = self.run.end.read(&line).or(claim);
        }
        let mut out = Claimed::default();
        if !any {
            return out;
        }
        let phase = "implement";
        out.events.push(json!({ "event": "pipeline_start" }));
        out.events.push(json!({ "event": "phase_start", "phase": phase }));
        if let Some(good) = claim {
            let outcome = if good { "completed" } else { "failed" };
            out.events.push(json!({ "event": "phase_end", "phase": phase, "outcome": outcome }));
            out.events.push(json!({ "event": "pipeline_end", "outcome": outcome }));
        }
        out
    }

    /// Never: such an agent has no work after the work. It is done when it ends.
    fn work_done(&self, _: &Claimed) -> bool {
        false
    }

    fn required(&self, claimed: &Claimed, status: Option<i32>) -> Vec<Required> {
        let outcome = claimed.pipeline_outcome();
        let mut out = vec![Required {
            kind: "last event",
            made: outcome == Some("completed"),
            found: outcome.map(|_| "it says that it failed".to_owned()),
        }];
        if self.run.end.exit == ExitRule::Zero {
            let found = status.map_or("ended by admit".to_owned(), |status| status.to_string());
            let made = status == Some(0);
            out.push(Required { kind: "exit status 0", made, found: Some(found) });
        }
        out
    }

    fn ends_with_the_work(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Command {
        let run = json!({
            "wire_apis": ["openai-chat"],
            "end": { "types": ["end", "error"], "pointer": "/reason", "equals": "stop", "exit": "zero" },
        });
        Command { run: serde_json::from_value(run).unwrap() }
    }

    #[test]
    fn no_log_of_a_command_takes_more_than_its_longest_line() {
        let good = "{\"type\":\"end\",\"reason\":\"stop\"}\n";
        let objects =
            |count| format!("{{\"type\":\"x\",\"a\":[{}0]}}\n", "{\"a\":0},".repeat(count));
        let text = objects(1000).repeat(200) + good;
        let claimed = agent().read(text.as_bytes());
        assert_eq!(claimed.pipeline_outcome(), Some("completed"));
        // Of what is read nothing is kept but the claim; a line of too many values is no claim.
        assert_eq!(claimed.events.len(), 4);
        let long = objects(200_000).replace("\"x\"", "\"end\"");
        assert_eq!(agent().read(long.as_bytes()), Claimed::default());
    }

    #[test]
    fn the_last_deciding_line_is_the_claim_and_a_cut_one_claims_nothing() {
        let outcome = |text: &str| {
            let claimed = agent().read(text.as_bytes());
            claimed.pipeline_outcome().map(str::to_owned)
        };
        assert_eq!(outcome(""), None);
        assert_eq!(outcome("no json\n{\"type\":\"start\"}\n"), None);
        let good = "{\"type\":\"end\",\"reason\":\"stop\"}\n";
        assert_eq!(outcome(good).as_deref(), Some("completed"));
        assert_eq!(outcome(good.trim_end()), None, "cut");
        let bad = format!("{good}{{\"type\":\"error\"}}\n");
        assert_eq!(outcome(&bad).as_deref(), Some("failed"));
        // The same key twice is no line of this form.
        assert_eq!(outcome("{\"type\":\"end\",\"reason\":\"x\",\"reason\":\"stop\"}\n"), None);
    }
}
