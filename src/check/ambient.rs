//! Ambient inputs: everything around a provider's process that could change what it does although its digest matches
//! (bun.md, section F). Each has one fixed outcome. *Neutralised*: whatever is planted cannot reach the program, because
//! the environment is a closed list, autoloading is off, the binary stands alone, `TMPDIR` is private. *Refused*: the
//! place is looked at, and a find refuses the run.
//!
//! All of it is read from the [`Launch`] that will be executed.

use super::launch::Launch;
use crate::bun::graph::{NO_PACKAGE_JSON, NO_TSCONFIG};
use crate::record;
use crate::record::lockfile::AgentKind;

/// Switches autoloading off in a binary that was built without the hardening flags (bun.md, section F).
pub const BUN_OPTIONS: &str = "--config=/dev/null --env-file=/dev/null";

/// Where a Bun executable looks in the directory that it is started in for a module that is not inside it, and the flag
/// with which it was compiled not to. A module so found runs in its process; nothing at its start switches that off.
/// Tried with Bun 1.3.14, fields of `package.json` one by one: of the others (`main`, `browser`, `dependencies`,
/// `workspaces`, `scripts`, `bun`) none changes what runs.
const MODULE_LOOKUPS: [(Option<u32>, &[&str]); 3] = [
    (None, &["node_modules"]),
    (Some(NO_TSCONFIG), &["tsconfig.json", "jsconfig.json"]),
    (Some(NO_PACKAGE_JSON), &["package.json#imports", "package.json#exports"]),
];

/// What in a workspace would decide which modules a Bun executable with these flags runs.
pub fn module_lookups(flags: u32) -> impl Iterator<Item = &'static str> {
    let looks = move |off: Option<u32>| off.is_none_or(|off| flags & off == 0);
    MODULE_LOOKUPS
        .into_iter()
        .filter(move |(off, _)| looks(*off))
        .flat_map(|(_, names)| names)
        .copied()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Cannot reach the program.
    Neutralised,
    /// Is looked for; there, it refuses the run.
    Refused,
}

/// One way in, and what becomes of it.
pub struct Vector {
    pub id: &'static str,
    pub outcome: Outcome,
    /// What of a launch leaves it open; `None` where it is closed.
    open: fn(&Launch) -> Option<String>,
}

/// A variable that must not be there: the environment is built from a closed list.
const fn variable(id: &'static str, open: fn(&Launch) -> Option<String>) -> Vector {
    Vector { id, outcome: Outcome::Neutralised, open }
}

pub const VECTORS: &[Vector] = &[
    Vector {
        id: "workspace_bunfig",
        outcome: Outcome::Neutralised,
        // BUN_OPTIONS, or a build without autoloading.
        open: |launch| autoload(launch, "--config=/dev/null"),
    },
    Vector {
        id: "workspace_dotenv",
        outcome: Outcome::Neutralised,
        // BUN_OPTIONS=--env-file=/dev/null, or a build without autoloading.
        open: |launch| autoload(launch, "--env-file=/dev/null"),
    },
    variable("env_bun_options", |launch| match launch.env.get("BUN_OPTIONS").map(String::as_str) {
        None | Some(BUN_OPTIONS) => None,
        Some(_) => Some("BUN_OPTIONS is not admit's own".into()),
    }),
    variable("env_bun_be_bun", |launch| set(launch, "BUN_BE_BUN")),
    variable("env_bun_inspect", |launch| set(launch, "BUN_INSPECT")),
    variable("env_node_options", |launch| set(launch, "NODE_OPTIONS")),
    variable("env_ld_preload", |launch| set(launch, "LD_")),
    variable("env_case_model_override", |launch| set(launch, "CASE_MODEL_OVERRIDE")),
    variable("env_case_package_root", |launch| set(launch, "CASE_PACKAGE_ROOT")),
    variable("env_pi_package_dir", |launch| set(launch, "PI_PACKAGE_DIR")),
    Vector {
        id: "case_package_upward",
        outcome: Outcome::Refused,
        // The workspace and its parents are scanned for a package.json named case with agents/.
        open: |launch| match launch.agent {
            AgentKind::Case => package_upward(launch),
            AgentKind::Command => None,
        },
    },
    Vector {
        id: "workspace_inputs",
        outcome: Outcome::Refused,
        // What an agent would load from the workspace whatever is switched off, by its lock and by how it was compiled.
        open: |launch| {
            let found = launch.refuse.iter().filter_map(|name| {
                let mut all = launch.workspace.iter();
                let (path, _) =
                    all.find(|(path, file)| loads(path.as_str(), file.bytes(), name))?;
                Some(format!("{path} is in the workspace, and the agent loads {name}"))
            });
            let found: Vec<String> = found.collect();
            (!found.is_empty()).then(|| found.join("; "))
        },
    },
    Vector {
        id: "file_beside_binary",
        outcome: Outcome::Neutralised,
        // The binary is copied alone to a fixed path inside the sandbox.
        open: |launch| {
            let alone = launch.argv.first().is_some_and(|program| launch.mounts_alone(program));
            (!alone).then(|| "the program is not alone in its directory".into())
        },
    },
    Vector {
        id: "planted_native_addon",
        outcome: Outcome::Neutralised,
        // TMPDIR is private to the run.
        open: |launch| {
            let private = launch.sandbox.handout.as_ref().zip(launch.env.get("TMPDIR"));
            let inside = private.is_some_and(|(handout, dir)| {
                dir.strip_prefix(handout.as_str()).is_some_and(|rest| rest.starts_with('/'))
            });
            (!inside).then(|| "TMPDIR is not private to the run".into())
        },
    },
    Vector {
        id: "model_argument",
        outcome: Outcome::Refused,
        // The argument list is compared with the one that is admitted.
        open: |launch| {
            let model = launch.proxy.model.as_str();
            let mut given =
                launch.argv.iter().enumerate().filter_map(|(at, arg)| match arg.as_str() {
                    "--model" => Some(launch.argv.get(at + 1).map(String::as_str)),
                    arg => arg.strip_prefix("--model=").map(Some),
                });
            let wrong = |given: Option<&str>| match launch.agent {
                // It is told in its configuration.
                AgentKind::Case => true,
                // One that is told its model by an argument is told the admitted one.
                AgentKind::Command => given != Some(model),
            };
            given.find(|given| wrong(*given)).map(|_| "--model is in the argument list".into())
        },
    },
];

/// The vectors that a launch leaves open, each with what does.
pub fn planted(launch: &Launch) -> Vec<String> {
    let open = VECTORS.iter().filter_map(|vector| Some((vector.id, (vector.open)(launch)?)));
    open.map(|(id, what)| format!("{id}: {what}")).collect()
}

/// Whether a path is `name` or lies in a directory of that name, at the top of the workspace or further below: agents look
/// upward from where they work.
fn below(path: &str, name: &str) -> bool {
    let path = format!("/{path}/");
    path.contains(&format!("/{name}/"))
}

/// Whether a file of the workspace is what `name` names: a name, or `FILE#KEY`, a JSON file with that key at its top. One
/// that cannot be read has every key.
fn loads(path: &str, bytes: &[u8], name: &str) -> bool {
    let keyed = name.split_once('#').filter(|(file, _)| below(path, file));
    below(path, name)
        || keyed.is_some_and(|(_, key)| {
            record::parse_value(bytes).map_or(true, |value| value.get(key).is_some())
        })
}

fn set(launch: &Launch, start: &str) -> Option<String> {
    let name = launch.env.keys().find(|name| name.starts_with(start))?;
    Some(format!("{name} is in the environment"))
}

fn autoload(launch: &Launch, switch: &str) -> Option<String> {
    let options = launch.env.get("BUN_OPTIONS").map_or("", String::as_str);
    let off = launch.hardened || options.split(' ').any(|option| option == switch);
    (!off).then(|| "loading is on".into())
}

/// Case takes prompts from a checkout of itself that it finds upward of where it works. The directories above the
/// workspace are made by admit and hold nothing.
fn package_upward(launch: &Launch) -> Option<String> {
    for (path, file) in &launch.workspace {
        let (path, bytes) = (path.as_str(), file.bytes());
        if path != "package.json" && !path.ends_with("/package.json") {
            continue;
        }
        match record::parse_value(bytes) {
            Ok(value) if value.get("name").is_none_or(|name| name != "case") => {}
            Ok(_) => return Some(format!("{path} is named case")),
            Err(_) => return Some(format!("{path} cannot be read")),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::files::Content;
    use super::super::tests::launch;
    use super::*;

    fn open(change: impl FnOnce(&mut Launch)) -> Vec<String> {
        let mut launch = launch();
        change(&mut launch);
        let names = planted(&launch);
        names.iter().map(|text| text.split(':').next().unwrap_or_default().to_owned()).collect()
    }

    fn file(path: &str, text: &str) -> impl FnOnce(&mut Launch) {
        move |launch| drop(launch.workspace.insert(path.parse().unwrap(), Content::plain(text)))
    }

    #[test]
    fn every_way_in_is_closed_and_a_plant_is_seen() {
        let none: Vec<String> = Vec::new();
        assert_eq!(open(|_| {}), none);
        for (name, vector) in [
            ("BUN_OPTIONS", "env_bun_options"),
            ("BUN_BE_BUN", "env_bun_be_bun"),
            ("BUN_INSPECT", "env_bun_inspect"),
            ("BUN_INSPECT_PRELOAD", "env_bun_inspect"),
            ("NODE_OPTIONS", "env_node_options"),
            ("LD_PRELOAD", "env_ld_preload"),
            ("LD_AUDIT", "env_ld_preload"),
            ("CASE_MODEL_OVERRIDE", "env_case_model_override"),
            ("CASE_PACKAGE_ROOT", "env_case_package_root"),
            ("PI_PACKAGE_DIR", "env_pi_package_dir"),
            ("TMPDIR", "planted_native_addon"),
        ] {
            let found = open(|launch| drop(launch.env.insert(name.into(), "/shared".into())));
            assert!(found.contains(&vector.to_owned()), "{name}: {found:?}");
        }
        let unset = open(|launch| drop(launch.env.remove("BUN_OPTIONS")));
        assert_eq!(unset, ["workspace_bunfig", "workspace_dotenv"]);
        for (path, text, want) in [
            // Neutralised: the plant is there and changes nothing.
            ("bunfig.toml", "preload=['./x.ts']", &[][..]),
            (".env", "A=1", &[]),
            ("package.json", r#"{"name":"case"}"#, &["case_package_upward"]),
            ("package.json", "{", &["case_package_upward"]),
            ("package.json", r#"{"name":"x"}"#, &[]),
        ] {
            assert_eq!(open(file(path, text)), want, "{path} {text}");
        }
        for (path, refused) in [
            (".tool/plugin/x.js", true),
            ("deep/.tool/plugin/x.js", true),
            (".tool", true),
            ("a.tool/x.js", false),
            (".toolbox/x.js", false),
        ] {
            let found = open(|launch| {
                launch.refuse = vec![".tool".into()];
                file(path, "")(launch);
            });
            assert_eq!(found == ["workspace_inputs"], refused, "{path}: {found:?}");
        }
        for (path, text, refused) in [
            ("package.json", r#"{"imports":{}}"#, true),
            ("package.json", r#"{"\u0069mports":null}"#, true),
            ("package.json", "{ // a comment\n}", true),
            ("package.json", r#"{"name":"x","name":"y"}"#, true),
            ("deep/package.json", r#"{"imports":{}}"#, true),
            ("package.json", r#"{"main":"imports","x":{"imports":{}}}"#, false),
            ("package.json5", r#"{"imports":{}}"#, false),
            ("package.json#imports", "", true),
        ] {
            let found = open(|launch| {
                launch.agent = AgentKind::Command;
                launch.refuse = vec!["package.json#imports".into()];
                file(path, text)(launch);
            });
            let named = found.iter().any(|name| name == "workspace_inputs");
            assert_eq!(named, refused, "{path} {text}: {found:?}");
        }
        // All that is there is named at once.
        let mut launch = launch();
        launch.refuse = [".tool", "node_modules", "absent"].map(String::from).to_vec();
        for path in ["a/.tool/x", ".tool/y", "node_modules/x/index.js"] {
            file(path, "")(&mut launch);
        }
        assert_eq!(
            planted(&launch),
            ["workspace_inputs: .tool/y is in the workspace, and the agent loads .tool; \
              node_modules/x/index.js is in the workspace, and the agent loads node_modules"]
        );
        let bare = open(|launch| launch.sandbox.mounts.clear());
        assert_eq!(bare, ["file_beside_binary"], "the verified mount is gone");
    }

    #[test]
    fn no_argument_names_another_model() {
        use AgentKind::{Case, Command};
        for (agent, args, refused) in [
            (Command, &["--model", "m"][..], false),
            (Command, &["run", "--model=m"], false),
            (Command, &["run"], false),
            (Command, &["--model", "another"], true),
            (Command, &["--model"], true),
            (Command, &["--model=another"], true),
            (Command, &["--model", "m", "--model=another"], true),
            // Case is told in its configuration alone.
            (Case, &["--model", "m"], true),
            (Case, &["--model=m"], true),
            (Case, &["--model=x"], true),
            (Case, &["run"], false),
        ] {
            let found = open(|launch| {
                (launch.agent, launch.proxy.model) = (agent, "m".into());
                launch.argv.truncate(1);
                launch.argv.extend(args.iter().map(|arg| (*arg).to_owned()));
            });
            let want = refused.then_some("model_argument");
            assert_eq!(found, Vec::from_iter(want), "{agent:?} {args:?}");
        }
    }

    #[test]
    fn how_a_bun_executable_was_compiled_decides_where_it_looks_for_modules() {
        let all = [
            "node_modules",
            "tsconfig.json",
            "jsconfig.json",
            "package.json#imports",
            "package.json#exports",
        ];
        for (flags, names) in [
            // As Bun compiles where nothing was asked for, with every switch, with one of the two asked for, and with both.
            (0xc, &all[..1]),
            (0xf, &all[..1]),
            (0xb, &all[..3]),
            (0x7, &[all[0], all[3], all[4]]),
            (0x3, &all[..]),
        ] {
            assert_eq!(module_lookups(flags).collect::<Vec<_>>(), names, "{flags:#x}");
        }
    }
}
