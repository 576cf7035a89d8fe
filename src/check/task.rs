//! What an agent may be asked: the one argument list, and the task's contract. Pure.

use serde_json::Value;

use crate::record::run_shape::NAMES;

/// Checks the argument list, without the program, against the one that is admitted:
/// `run --task <slug>.task.json --mode unattended`. Gives the task file.
pub fn command_shape(args: &[String]) -> Result<&str, String> {
    if let Some(model) = args.iter().find(|a| a.as_str() == "--model" || a.starts_with("--model="))
    {
        return Err(format!(
            "\"{model}\": the model comes from the admission, never from an argument"
        ));
    }
    let [run, task_flag, file, mode_flag, mode] = args else {
        return Err(format!("{} arguments instead of 5", args.len()));
    };
    let fixed = [(run, "run"), (task_flag, "--task"), (mode_flag, "--mode"), (mode, "unattended")];
    if let Some((found, want)) = fixed.into_iter().find(|(found, want)| found.as_str() != *want) {
        return Err(format!("\"{}\" instead of \"{want}\"", found.escape_debug()));
    }
    if file.starts_with('-') || !file.ends_with(".task.json") || file.contains('\0') {
        return Err(format!("\"{}\" is no <slug>.task.json", file.escape_debug()));
    }
    Ok(file)
}

/// Checks an argument list, without the program, against the templates of a lock: what a template says in so many words
/// stands there in so many words.
pub fn command_argv(templates: &[String], args: &[String]) -> Result<String, String> {
    if templates.len() != args.len() {
        return Err(format!("{} arguments instead of {}", args.len(), templates.len()));
    }
    for (template, arg) in templates.iter().zip(args) {
        let first = NAMES.iter().filter_map(|name| template.find(&format!("{{{name}}}"))).min();
        let last = NAMES.iter().filter_map(|name| {
            let name = format!("{{{name}}}");
            template.rfind(&name).map(|at| at + name.len())
        });
        let good = match (first, last.max()) {
            (Some(first), Some(last)) => {
                arg.starts_with(&template[..first]) && arg.ends_with(&template[last..])
            }
            _ => arg == template,
        };
        if !good {
            let short: String = arg.chars().take(80).collect();
            return Err(format!("\"{}\" instead of \"{template}\"", short.escape_debug()));
        }
    }
    Ok(templates.join(" "))
}

/// What the task has to say and may not go beyond; comes from the fixture.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskContract {
    /// The repository's name in the agent's configuration.
    pub repo: String,
    /// The workspace's absolute path in the sandbox: the only absolute paths in the task lie there.
    pub workspace: String,
    /// Paths that may change, as the task has to name them.
    pub allowed_paths: Vec<String>,
    /// Actions that the task has to forbid, word for word.
    pub forbidden_actions: Vec<String>,
    pub verification_command: String,
    /// What the task has to say about evidence, word for word.
    pub evidence_expectations: Vec<String>,
}

/// Case's sections that must be there, in this order.
pub const SECTIONS: [&str; 7] = [
    "Objective",
    "Target Repos",
    "Playbook",
    "Acceptance Criteria",
    "Checklist",
    "Evidence Expectations",
    "Progress Log",
];

/// The appendix states the result envelope: a section with this word in its heading, after the evidence expectations
/// (before or after the progress log, to which agents append).
pub const APPENDIX: &str = "AGENT_RESULT";

/// Sections that may stand between them.
const OPTIONAL: [&str; 4] = ["Verification Scenarios", "Non-Goals", "Edge Cases", "Context"];

/// Every key that the task's JSON may have; the first eight are required.
const KEYS: [&str; 14] = [
    "id",
    "status",
    "created",
    "repo",
    "issueType",
    "issue",
    "mode",
    "profile",
    "agents",
    "tested",
    "manualTested",
    "prUrl",
    "prNumber",
    "fastTestCommand",
];

/// What is wrong with a task; empty where it keeps the contract.
pub fn task_faults(json: &Value, markdown: &str, contract: &TaskContract) -> Vec<String> {
    let mut faults = Vec::new();
    json_faults(json, contract, &mut faults);
    section_faults(markdown, contract, &mut faults);
    for text in [markdown, json["issue"].as_str().unwrap_or("")] {
        outside_faults(text, &contract.workspace, &mut faults);
    }
    faults
}

fn json_faults(json: &Value, contract: &TaskContract, faults: &mut Vec<String>) {
    let Some(object) = json.as_object() else {
        return faults.push("the task's JSON is no object".into());
    };
    for key in KEYS.iter().take(8).filter(|key| !object.contains_key(**key)) {
        faults.push(format!("the task's JSON has no \"{key}\""));
    }
    for key in object.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        faults.push(format!("the task's JSON has an unknown \"{}\"", key.escape_debug()));
    }
    let fixed = [
        ("status", "active"),
        ("issueType", "freeform"),
        ("mode", "unattended"),
        ("repo", contract.repo.as_str()),
    ];
    for (key, want) in fixed {
        if object.get(key).is_some_and(|found| found != want) {
            faults.push(format!("\"{key}\" is not \"{want}\""));
        }
    }
    if !matches!(object.get("profile").and_then(Value::as_str), Some("tiny" | "standard")) {
        faults.push("\"profile\" is neither \"tiny\" nor \"standard\"".into());
    }
    // A task that starts with work already claimed, or with a pull request, is not a fresh one.
    for key in ["tested", "manualTested"] {
        if object.get(key).is_some_and(|found| found != false && !found.is_null()) {
            faults.push(format!("\"{key}\" is already set"));
        }
    }
    for key in ["prUrl", "prNumber"] {
        if object.get(key).is_some_and(|found| !found.is_null()) {
            faults.push(format!("\"{key}\" is set"));
        }
    }
    if object.get("agents").is_some_and(|found| found.as_object().is_none_or(|o| !o.is_empty())) {
        faults.push("\"agents\" is not empty".into());
    }
    let fast = object.get("fastTestCommand");
    if fast.is_some_and(|found| *found != *contract.verification_command) {
        faults.push("\"fastTestCommand\" is not the fixture's verification command".into());
    }
}

/// Headings (`## `) with their bodies; the part before the first has the empty heading. Fenced code is body.
fn sections(markdown: &str) -> Vec<(&str, String)> {
    let mut out = vec![("", String::new())];
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        match line.strip_prefix("## ").filter(|_| !fenced) {
            Some(heading) => out.push((heading.trim(), String::new())),
            None => {
                if let Some((_, body)) = out.last_mut() {
                    body.push_str(line);
                    body.push('\n');
                }
            }
        }
    }
    out
}

fn is_appendix(heading: &str) -> bool {
    heading.contains(APPENDIX)
}

fn section_faults(markdown: &str, contract: &TaskContract, faults: &mut Vec<String>) {
    let found = sections(markdown);
    let body = |name: &str| found.iter().find(|(h, _)| *h == name).map_or("", |(_, b)| b.as_str());
    let head = body("");
    for word in ["Mission", "Repo", "Done when"] {
        if !head.lines().any(|l| l.starts_with('>') && l.contains(word)) {
            faults.push(format!("the quoted summary has no \"{word}\""));
        }
    }
    if !head.lines().any(|l| l.starts_with("# ")) {
        faults.push("the task has no title".into());
    }
    let headings: Vec<&str> = found.iter().skip(1).map(|(h, _)| *h).collect();
    for heading in &headings {
        if !SECTIONS.contains(heading) && !OPTIONAL.contains(heading) && !is_appendix(heading) {
            faults.push(format!("unknown section \"{}\"", heading.escape_debug()));
        }
        if headings.iter().filter(|h| h == &heading).count() > 1 {
            faults.push(format!("section \"{heading}\" stands twice"));
        }
    }
    let required: Vec<&str> = headings.iter().copied().filter(|h| SECTIONS.contains(h)).collect();
    if required != SECTIONS {
        let missing: Vec<&str> =
            SECTIONS.into_iter().filter(|section| !required.contains(section)).collect();
        faults.push(match missing.is_empty() {
            true => "the sections are out of order".into(),
            false => format!("missing sections: {}", missing.join(", ")),
        });
    }
    let at = |name: &str| headings.iter().position(|h| *h == name);
    match headings.iter().position(|h| is_appendix(h)) {
        None => faults.push("there is no appendix about AGENT_RESULT".into()),
        Some(place) if Some(place) < at("Evidence Expectations") => {
            faults.push("the appendix stands before the evidence expectations".into());
        }
        Some(_) => {}
    }
    let appendix = found.iter().find(|(h, _)| is_appendix(h)).map_or("", |(_, b)| b.as_str());
    let mut need = |place: &str, text: &str, wanted: &str| {
        if wanted.trim().is_empty() || !text.contains(wanted) {
            faults.push(format!("{place} does not say \"{wanted}\""));
        }
    };
    need("Target Repos", body("Target Repos"), &contract.repo);
    for path in &contract.allowed_paths {
        need("the task", markdown, path);
    }
    for action in &contract.forbidden_actions {
        need("the task", markdown, action);
    }
    need("the task", markdown, &contract.verification_command);
    for line in &contract.evidence_expectations {
        need("Evidence Expectations", body("Evidence Expectations"), line);
    }
    for delimiter in ["<<<AGENT_RESULT", "AGENT_RESULT>>>"] {
        need("the appendix", appendix, delimiter);
    }
    for (list, name) in [
        (contract.allowed_paths.is_empty(), "allowed paths"),
        (contract.forbidden_actions.is_empty(), "forbidden actions"),
        (contract.evidence_expectations.is_empty(), "evidence expectations"),
    ] {
        if list {
            faults.push(format!("the fixture names no {name}"));
        }
    }
}

/// Only copied inputs: no URL, no path out of the workspace.
fn outside_faults(text: &str, workspace: &str, faults: &mut Vec<String>) {
    let is_edge = |c: char| c.is_whitespace() || "`'\"()[]{}<>,;=|".contains(c);
    for word in text.split(is_edge).filter(|w| !w.is_empty()) {
        let word = word.trim_end_matches(['.', ':', '!', '?']);
        let below =
            word == workspace || word.strip_prefix(workspace).is_some_and(|r| r.starts_with('/'));
        let climbs = word.split('/').any(|part| part == "..");
        let absolute = word.len() > 1 && word.starts_with('/') && !word.starts_with("//");
        let home = word == "~" || word.starts_with("~/") || word.contains("$HOME");
        if word.contains("://") || climbs || home || (absolute && !below) {
            faults.push(format!("it points outside the workspace: \"{}\"", word.escape_debug()));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    fn args(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    #[test]
    fn one_argument_list_is_admitted() {
        let good = ["run", "--task", "/w/x.task.json", "--mode", "unattended"];
        assert_eq!(command_shape(&args(&good)), Ok("/w/x.task.json"));
        let bad: [&[&str]; 10] = [
            &["run", "--model", "x.task.json", "--mode", "unattended"],
            &[],
            &["run", "--task", "x.task.json"],
            &["run", "--task", "x.json", "--mode", "unattended"],
            &["run", "--task", "--x.task.json", "--mode", "unattended"],
            &["watch", "--task", "x.task.json", "--mode", "unattended"],
            &["run", "--mode", "unattended", "--task", "x.task.json"],
            &["run", "--task", "x.task.json", "--mode", "attended"],
            &["run", "--task", "x.task.json", "--mode", "unattended", "--model", "a"],
            &["run", "--model=x", "x.task.json", "--mode", "unattended"],
        ];
        for case in bad {
            assert!(command_shape(&args(case)).is_err(), "{case:?}");
        }
        for named in ["--model", "--model=other"] {
            let why = command_shape(&args(&["run", named])).unwrap_err();
            assert!(why.contains("never from an argument"), "{why}");
        }
    }

    pub(crate) fn contract() -> TaskContract {
        TaskContract {
            repo: "toy".into(),
            workspace: "/work/toy".into(),
            allowed_paths: vec!["strings.py".into()],
            forbidden_actions: vec!["Do not edit the tests".into()],
            verification_command: "python3 -m pytest -q".into(),
            evidence_expectations: vec!["The tests pass".into()],
        }
    }

    pub(crate) fn json() -> Value {
        json!({
            "id": "t", "status": "active", "created": "2026-01-01T00:00:00Z", "repo": "toy",
            "issueType": "freeform", "issue": "Make it right", "mode": "unattended",
            "profile": "tiny", "agents": {}, "tested": false, "manualTested": false,
            "prUrl": null, "prNumber": null
        })
    }

    pub(crate) const MARKDOWN: &str = "\
> **Mission:** make it right\n> **Repo:** toy\n> **Done when:** tests pass\n\n# Title\n\n\
## Objective\nRight.\n## Target Repos\n- toy\n## Playbook\nRead /work/toy/strings.py.\n\
## Acceptance Criteria\nOnly `strings.py` changes. Do not edit the tests.\n## Checklist\n- [ ] x\n\
## Non-Goals\nnone\n## Evidence Expectations\nThe tests pass (`python3 -m pytest -q`).\n\
## Progress Log\n\n## Appendix: AGENT_RESULT\n```\n<<<AGENT_RESULT\n{}\nAGENT_RESULT>>>\n## x\n```\n";

    #[test]
    fn a_task_that_keeps_the_contract_has_no_faults() {
        assert_eq!(task_faults(&json(), MARKDOWN, &contract()), Vec::<String>::new());
        let slash = MARKDOWN.replace("Right.", "Right / wrong, and /work/toy itself.");
        assert_eq!(task_faults(&json(), &slash, &contract()), Vec::<String>::new());
    }

    #[test]
    fn each_departure_is_named() {
        let md = |from: &str, to: &str| {
            let out = MARKDOWN.replace(from, to);
            assert_ne!(out, MARKDOWN, "{from}");
            out
        };
        let cases = [
            (md("> **Repo:** toy\n", ""), "no \"Repo\""),
            (md("# Title\n\n## O", "## O"), "no title"),
            (md("## Checklist\n", ""), "missing sections: Checklist"),
            (md("## Checklist\n", "## Check\n"), "unknown section"),
            (md("## Playbook\n", "## Checklist\n"), "twice"),
            (md("strings.py", "other.py"), "does not say \"strings.py\""),
            (md("Do not edit the tests", "x"), "Do not edit"),
            (md("The tests pass", "x"), "The tests pass"),
            (md("python3 -m pytest -q", "make"), "pytest"),
            (md("AGENT_RESULT>>>", ""), "AGENT_RESULT>>>"),
            (md("## Objective\n", "## Appendix: AGENT_RESULT\n## Objective\n"), "stands before"),
            (md("## Appendix: AGENT_RESULT\n", "## x\n"), "no appendix"),
            (md("Right.", "See https://a.test"), "outside the workspace"),
            (md("Right.", "See /etc/passwd."), "outside the workspace"),
            (md("Right.", "See /work/toyx/a"), "outside the workspace"),
            (md("Right.", "See a/../../b"), "outside the workspace"),
            (md("Right.", "See ~/b"), "outside the workspace"),
        ];
        for (text, want) in cases {
            let faults = task_faults(&json(), &text, &contract());
            assert!(faults.iter().any(|f| f.contains(want)), "{want}: {faults:?}");
        }
        for (key, value) in [
            ("status", json!("done")),
            ("repo", json!("other")),
            ("mode", json!("attended")),
            ("profile", json!("large")),
            ("tested", json!(true)),
            ("prUrl", json!("u")),
            ("agents", json!({"a": 1})),
            ("issue", json!("see https://a.test")),
            ("fastTestCommand", json!("true")),
            ("extra", json!(1)),
        ] {
            let mut task = json();
            task[key] = value;
            assert_eq!(task_faults(&task, MARKDOWN, &contract()).len(), 1, "{key}");
        }
        let empty = TaskContract { forbidden_actions: vec![], ..contract() };
        assert_eq!(task_faults(&json(), MARKDOWN, &empty).len(), 1);
    }
}
