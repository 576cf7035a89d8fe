//! The `run` section of a lock: how an admitted binary is started, what it would load by itself, and how its end is read.
//! `docs/agents.md` is the contract.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::admission::Api;

/// How an admitted binary may be started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunShape {
    /// How it is launched and read; absent for `case`.
    #[serde(default, skip_serializing_if = "AgentKind::is_case")]
    pub agent: AgentKind,
    /// The only argument list: with `{task}` for the task file; for the agent `command` with any of [`NAMES`].
    pub argv: Vec<String>,
    /// What may reach the program besides its arguments.
    pub ambient: Ambient,
    /// For the agent `command` alone: everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandRun>,
}

/// How an agent is launched and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AgentKind {
    /// WorkOS Case and what behaves like it.
    #[default]
    Case,
    /// A program that is told what to do in its arguments and says in JSON lines how it ended.
    Command,
}

impl AgentKind {
    pub fn is_case(&self) -> bool {
        *self == AgentKind::Case
    }
}

/// How files and variables around the binary are kept from changing what it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ambient {
    /// The binary autoloads `bunfig.toml` and `.env`: admit switches that off from outside.
    #[default]
    Neutralise,
    /// The binary was built without autoloading; its flags must say so. A native program loads neither.
    Hardened,
}

/// A program that takes its task as an argument. Templates may hold the names of [`NAMES`] in braces; other braces are the
/// program's own and stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandRun {
    /// Variables on top of admit's closed list, as templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Files written before the start, by a path that begins with `{home}/`, as templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// The wire APIs that this way of starting it speaks, as models' records name them.
    pub wire_apis: Vec<String>,
    pub end: EndRule,
    /// Names in the workspace that it would load and that nothing switches off: one there refuses the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refuse: Vec<String>,
    /// Names that it would read and that its arguments, variables or files here switch off, as was seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<String>,
    #[serde(default, skip_serializing_if = "CommandLimits::is_default")]
    pub limits: CommandLimits,
}

/// How the end is read: of the lines of standard output that are JSON objects whose `type` is one of `types`, the last
/// decides, and the value at `pointer` in it must equal `equals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndRule {
    pub types: Vec<String>,
    /// A JSON pointer (RFC 6901), in which `-` is an array's last element.
    pub pointer: String,
    pub equals: Value,
    /// Whether the exit status has to be 0; one that says nothing is `any`. 0 is never proof of anything.
    pub exit: ExitRule,
}

/// What an exit status other than 0 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExitRule {
    /// That it failed.
    Zero,
    /// Nothing.
    Any,
}

/// What it needs, and where it is ended from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandLimits {
    /// Bytes of address space a process; absent for the sandbox's usual 16 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_space: Option<u64>,
    /// Requests to the model in all, below the run's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
    /// Requests within one second; more end the run. Absent: [`REQUESTS_PER_SECOND`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// After a reply that it cannot use, the seconds in which it may end by itself. Absent: [`FAULT_GRACE`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_grace: Option<u32>,
}

/// Seen of one agent that asks again at once, for ever: 14 a second. A tool call takes longer than a tenth of one.
pub const REQUESTS_PER_SECOND: u32 = 10;
/// Seconds. Agents without retries end within one; those that wait longer and longer are ended.
pub const FAULT_GRACE: u32 = 3;

impl CommandLimits {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

pub const NAMES: [&str; 7] = ["prompt", "task", "work", "home", "model", "door", "key"];

/// Replaces `{name}` of the names in `values`, in one pass: what a value holds is not looked at again.
pub fn fill(template: &str, values: &BTreeMap<&str, &str>) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        let value = tail.find('}').and_then(|end| Some((end, values.get(&tail[..end])?)));
        match value {
            Some((end, value)) => {
                out.push_str(value);
                rest = &tail[end + 1..];
            }
            None => {
                out.push('{');
                rest = tail;
            }
        }
    }
    out.push_str(rest);
    out
}

pub fn holds(template: &str, name: &str) -> bool {
    template.contains(&format!("{{{name}}}"))
}

impl EndRule {
    /// Whether a line says that it ended well; `None` where it does not decide. The last one that does counts.
    pub fn read(&self, line: &Value) -> Option<bool> {
        let found = line["type"].as_str()?;
        let decides = self.types.iter().any(|name| name == found);
        decides.then(|| at(line, &self.pointer) == Some(&self.equals))
    }
}

/// The value at a pointer, in which `-` is an array's last element.
fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    let mut here = value;
    for part in pointer.split('/').skip(1) {
        here = match here {
            Value::Array(list) if part == "-" => list.last()?,
            Value::Array(list) => list.get(part.parse::<usize>().ok()?)?,
            Value::Object(map) => map.get(&part.replace("~1", "/").replace("~0", "~"))?,
            _ => return None,
        };
    }
    Some(here)
}

impl RunShape {
    pub fn faults(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault =
            |field: &str, what: &str| faults.push((format!("run.{field}"), what.to_owned()));
        let command = match (self.agent, &self.command) {
            (AgentKind::Case, None) => return faults,
            (AgentKind::Case, Some(_)) => {
                fault("command", "stands beside the agent case, which has its own");
                return faults;
            }
            (AgentKind::Command, None) => {
                fault("command", "absent");
                return faults;
            }
            (AgentKind::Command, Some(command)) => command,
        };
        let told = self.argv.iter().any(|arg| holds(arg, "prompt") || holds(arg, "task"));
        if !told {
            fault(
                "argv",
                "holds neither {prompt} nor {task}: the program would not know what to do",
            );
        }
        if self.argv.iter().any(|arg| holds(arg, "key")) {
            fault("argv", "holds {key}: an argument is seen by every program of the sandbox");
        }
        for (name, template) in &command.env {
            let shape = !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                && !template.contains('\0');
            if !shape {
                fault("command.env", &format!("\"{}\" is not a variable", name.escape_debug()));
            }
            if RESERVED.iter().any(|reserved| name.starts_with(reserved)) {
                fault("command.env", &format!("{name} is admit's to set"));
            }
        }
        for path in command.files.keys() {
            let plain = path.strip_prefix("{home}/").is_some_and(|rest| {
                rest.parse::<super::ids::RelPath>().is_ok() && !rest.contains(['{', '}'])
            });
            if !plain {
                fault(
                    "command.files",
                    &format!("\"{}\" is not {{home}}/PATH", path.escape_debug()),
                );
            }
        }
        if command.files.values().chain(command.env.values()).any(|t| holds(t, "prompt")) {
            fault("command", "{prompt} stands outside of the arguments");
        }
        let apis = Api::ALL.map(Api::as_str);
        let known = |api: &String| apis.contains(&api.as_str());
        if command.wire_apis.is_empty() || !command.wire_apis.iter().all(known) {
            fault("command.wire_apis", &format!("expected some of: {}", apis.join(", ")));
        }
        if command.end.types.is_empty() || !command.end.pointer.starts_with('/') {
            fault("command.end", "no type or no pointer: any line would decide");
        }
        for name in command.refuse.iter().chain(&command.closed) {
            if name.parse::<super::ids::RelPath>().is_err() {
                fault("command.refuse", &format!("\"{}\" is no path", name.escape_debug()));
            }
        }
        let limits = &command.limits;
        if [limits.requests, limits.requests_per_second].contains(&Some(0)) {
            fault("command.limits", "no request at all");
        }
        let space = limits.address_space.unwrap_or(16 << 30);
        if !(1 << 28..=1u64 << 40).contains(&space) {
            fault("command.limits.address_space", "not between 256 MiB and 1 TiB");
        }
        faults
    }
}

/// Variables by which code is loaded, a debugger is opened or a place is moved.
const RESERVED: [&str; 13] = [
    "BUN_",
    "NODE_",
    "LD_",
    "DYLD_",
    "HOME",
    "PATH",
    "TMPDIR",
    "PYTHON",
    "PERL5",
    "GIT_",
    "BASH_ENV",
    "ENV",
    "PROMPT_COMMAND",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn shape() -> RunShape {
        serde_json::from_value(json!({
            "agent": "command", "argv": ["run", "{prompt}"], "ambient": "hardened",
            "command": {
                "env": { "DOOR_KEY": "{key}" }, "files": { "{home}/.tool/config": "url={door}/v1 {env:X}" },
                "wire_apis": ["openai-chat"],
                "end": { "types": ["end", "error"], "pointer": "/messages/-/stop", "equals": "stop", "exit": "zero" },
                "refuse": [".tool"],
            }
        }))
        .unwrap()
    }

    #[test]
    fn only_known_names_are_replaced_and_a_value_is_not_read_again() {
        let values =
            BTreeMap::from([("door", "http://d"), ("prompt", "say {door} {key}"), ("key", "K")]);
        let filled = |text: &str| fill(text, &values);
        assert_eq!(filled("{door}/v1"), "http://d/v1");
        assert_eq!(
            filled("{env:DOOR_KEY} {\"a\":{\"b\":\"{key}\"}} {"),
            "{env:DOOR_KEY} {\"a\":{\"b\":\"K\"}} {"
        );
        assert_eq!(filled("{prompt}"), "say {door} {key}");
        assert_eq!(filled("{other} }{ {}"), "{other} }{ {}");
    }

    #[test]
    fn a_line_of_a_type_that_decides_says_how_it_ended() {
        let rule = shape().command.unwrap().end;
        let good = json!({ "type": "end", "messages": [{ "stop": "x" }, { "stop": "stop" }] });
        let bad = json!({ "type": "end", "messages": [{ "stop": "stop" }, { "stop": "error" }] });
        assert_eq!(rule.read(&json!({ "type": "other", "messages": [] })), None);
        assert_eq!(rule.read(&json!({ "messages": [{ "stop": "stop" }] })), None);
        assert_eq!(rule.read(&good), Some(true));
        assert_eq!(rule.read(&bad), Some(false));
        assert_eq!(rule.read(&json!({ "type": "error" })), Some(false));
    }

    #[test]
    fn what_would_not_be_safe_is_named() {
        assert_eq!(shape().faults(), []);
        let fields = |change: &dyn Fn(&mut RunShape)| {
            let mut shape = shape();
            change(&mut shape);
            shape.faults().into_iter().map(|(field, _)| field).collect::<Vec<_>>().join(" ")
        };
        let command = |change: fn(&mut CommandRun)| {
            fields(&|shape: &mut RunShape| change(shape.command.as_mut().unwrap()))
        };
        assert_eq!(fields(&|s| s.argv = vec!["run".into()]), "run.argv");
        assert_eq!(fields(&|s| s.argv.push("{key}".into())), "run.argv");
        assert_eq!(fields(&|s| s.command = None), "run.command");
        assert_eq!(fields(&|s| s.agent = AgentKind::Case), "run.command");
        for name in
            ["LD_PRELOAD", "NODE_OPTIONS", "BUN_BE_BUN", "HOME", "PATH", "GIT_DIR", "A=B", ""]
        {
            let found = fields(&|s| {
                drop(s.command.as_mut().unwrap().env.insert(name.into(), "x".into()));
            });
            assert_eq!(found, "run.command.env", "{name}");
        }
        assert_eq!(
            command(|c| drop(c.files.insert("/etc/x".into(), "".into()))),
            "run.command.files"
        );
        assert_eq!(
            command(|c| drop(c.files.insert("{home}/../x".into(), "".into()))),
            "run.command.files"
        );
        assert_eq!(command(|c| c.wire_apis = vec!["grpc".into()]), "run.command.wire_apis");
        let every = |c: &mut CommandRun| {
            c.wire_apis = Api::ALL.map(|api| api.as_str().to_owned()).to_vec();
        };
        assert_eq!(command(every), "");
        assert_eq!(command(|c| c.end.types.clear()), "run.command.end");
        assert_eq!(command(|c| c.refuse.push("../x".into())), "run.command.refuse");
        assert_eq!(command(|c| c.limits.requests = Some(0)), "run.command.limits");
    }
}
