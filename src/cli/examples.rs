//! Examples for the help of every command: lines that a reader can type as they stand, held to parse by a test.

/// A command's words, and its examples.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "admit demo",
            "admit build case@7959ac9 --record",
            "admit run stage2 --model mine/some-model",
        ],
    ),
    ("adopt", &["admit adopt case@7959ac9 --binary ./dist/ca --record"]),
    (
        "attest",
        &["admit attest build case --record", "admit attest run latest --out run.intoto.jsonl"],
    ),
    (
        "build",
        &["admit build case@7959ac9", "admit build case --record", "admit build case --rebuild"],
    ),
    (
        "campaign",
        &[
            "admit campaign plan nightly --provider case --model mine/some-model --out nightly",
            "admit campaign submit nightly --jobs 4",
            "admit verify ./nightly",
        ],
    ),
    (
        "campaign plan",
        &[
            "admit campaign plan nightly --provider case --model mine/some-model --repeats 20 --out nightly",
            "admit campaign plan trial --provider understudy --model scripted/understudy-script --rehearsal --out trial",
        ],
    ),
    (
        "campaign submit",
        &[
            "admit campaign submit nightly --jobs 4",
            "admit campaign submit nightly --engine slurm --jobs 40 --memory 1500 --print",
        ],
    ),
    ("campaign task", &["admit campaign task nightly --index 0"]),
    ("campaign status", &["admit campaign status nightly"]),
    ("campaign seal", &["admit campaign seal nightly"]),
    ("campaign show", &["admit campaign show nightly", "admit campaign show nightly --index 12"]),
    ("config", &["admit config show"]),
    ("config show", &["admit config show", "admit config show --json"]),
    ("completions", &["admit completions bash", "admit completions zsh"]),
    ("demo", &["admit demo"]),
    ("diff", &["admit diff ./dist/ca ./other/ca", "admit diff a.js b.js --hunks 20"]),
    ("doctor", &["admit doctor", "admit doctor --json"]),
    ("explain", &["admit explain rehearsed", "admit explain 5", "admit explain"]),
    ("fixture", &["admit fixture r1-string-slugify", "admit fixture r1-string-slugify --record"]),
    (
        "fixture new",
        &[
            "admit fixture new mine --from work --solution solved --generator generator.py --issue 'Make it follow the README.'",
            "admit fixture new mine --from work --solution fix.patch --call 'module function [\"argument\"]' --issue-file issue.md",
        ],
    ),
    (
        "fixture check",
        &["admit fixture check r2-duration", "admit fixture check r2-duration --all"],
    ),
    (
        "fixture attack",
        &["admit fixture attack r2-duration", "admit fixture attack r2-duration --all"],
    ),
    (
        "fixture show",
        &["admit fixture show r2-duration", "admit fixture show r2-duration --record"],
    ),
    ("gc", &["admit gc --dry-run", "admit gc --keep-builds 5"]),
    (
        "health",
        &[
            "admit health",
            "admit health --all",
            "admit health --provider case",
            "admit health --only binary_digest_mismatch_blocks --all",
            "admit health --junit health.xml",
        ],
    ),
    ("init", &["admit init", "admit init records --lock case --fixture r1-string-slugify"]),
    ("inspect", &["admit inspect ./dist/ca", "admit inspect ./dist/ca --bun ./bun"]),
    ("key", &["admit key new", "admit key show"]),
    ("key new", &["admit key new", "admit key new builder"]),
    ("key import", &["admit key import alice alice.pub"]),
    ("key show", &["admit key show default --pem"]),
    ("pull", &["admit pull case oci://registry.example/team/agents --require-signed-by builder"]),
    (
        "push",
        &[
            "admit push case oci://registry.example/team/agents",
            "admit push case oci://registry.example/team/agents:case",
        ],
    ),
    (
        "lock",
        &[
            "admit lock",
            "admit lock tool --source https://example.com/you/tool.git --rev newest --bun 1.3.14",
            "admit lock tool --update",
            "admit lock tool --rev newest",
            "admit lock diff tool case",
        ],
    ),
    ("man", &["admit man", "admit man --out man"]),
    ("model", &["admit model list"]),
    (
        "model add",
        &[
            "admit model add mine/some-model --approval-source 'who, when, where' --review-trigger 'what makes it void' \
           --credential none --network this-machine",
            "admit model add mine/some-model --probe --network this-machine --credential none",
        ],
    ),
    ("model import", &["admit model import ./approved.json"]),
    ("model list", &["admit model list"]),
    ("model show", &["admit model show mine/some-model"]),
    ("model check", &["admit model check mine/some-model"]),
    ("model revoke", &["admit model revoke mine/some-model"]),
    (
        "model decide",
        &["admit model decide q3 --status not_decided --provider-class local_case_compatible"],
    ),
    ("rebuild", &["admit rebuild case", "admit rebuild case --rounds 4 --vary time,locale"]),
    (
        "run",
        &[
            "admit run stage2 --model mine/some-model --dry-run --probe",
            "admit run stage2 r1-string-slugify --model mine/some-model",
            "admit run stage2 --engine fake",
        ],
    ),
    ("runs", &["admit runs", "admit runs --status fail --class judge_rejected"]),
    ("runs compare", &["admit runs compare latest ./other-run"]),
    ("runs prune", &["admit runs prune --keep 20 --dry-run", "admit runs prune --older-than 90"]),
    ("sbom", &["admit sbom case", "admit sbom case --out case.cdx.json"]),
    ("schemas", &["admit schemas", "admit schemas --write schemas"]),
    ("show", &["admit show", "admit show latest --markdown", "admit show latest --format junit"]),
    ("stages", &["admit stages"]),
    ("trust", &["admit trust ."]),
    ("validate", &["admit validate provider-adapter"]),
    ("verify", &["admit verify", "admit verify case --deep", "admit verify latest"]),
];

pub(super) fn add(command: clap::Command) -> clap::Command {
    EXAMPLES.iter().fold(command, |command, (words, lines)| {
        let text = lines.iter().fold(String::from("Examples:"), |text, line| text + "\n  " + line);
        let words: Vec<&str> = words.split_whitespace().collect();
        below(command, &words, &text)
    })
}

fn below(command: clap::Command, words: &[&str], text: &str) -> clap::Command {
    match words {
        [] => command.after_help(text.to_owned()),
        [first, rest @ ..] if command.find_subcommand(first).is_some() => {
            command.mut_subcommand(first, |command| below(command, rest, text))
        }
        _ => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::{CommandFactory as _, Parser as _};

    /// The words of every command that help lists, and whether it brings examples of its own.
    fn words(command: &clap::Command, above: &str, out: &mut Vec<(String, bool)>) {
        for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            let path = format!("{above} {}", one.get_name()).trim().to_owned();
            words(one, &path, out);
            out.push((path, one.get_after_help().is_some()));
        }
    }

    #[test]
    fn every_command_has_examples_and_each_is_a_command() {
        let mut all = vec![(String::new(), false)];
        words(&Cli::command(), "", &mut all);
        let known = |words: &String| EXAMPLES.iter().any(|(known, _)| known == words);
        let without = all.iter().filter(|(words, own)| !own && !known(words));
        let without: Vec<_> = without.map(|(words, _)| words).collect();
        assert!(without.is_empty(), "no example for {without:?}");
        for (words, lines) in EXAMPLES {
            assert!(
                all.iter().any(|(known, _)| known == words),
                "examples for no command: {words}"
            );
            for line in *lines {
                // As a shell does it, as far as the examples need one.
                let mut args: Vec<String> = Vec::new();
                for (number, part) in line.split('\'').enumerate() {
                    match number % 2 {
                        0 => args.extend(part.split_whitespace().map(str::to_owned)),
                        _ => args.push(part.to_owned()),
                    }
                }
                assert!(line.starts_with("admit "), "{words}: {line}");
                Cli::try_parse_from(&args).unwrap_or_else(|err| panic!("{line}: {err}"));
            }
        }
    }
}
