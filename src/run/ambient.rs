//! The state of every ambient vector of the gate's table, found from what the provider would really get: its
//! environment, its arguments, the workspace's files. Pure.

use std::collections::BTreeMap;

use crate::gate::{AMBIENT, AmbientFact, AmbientState};
use crate::record;

/// Switches autoloading off in a binary that was built without the hardening flags (bun.md, section F).
pub const BUN_OPTIONS: &str = "--config=/dev/null --env-file=/dev/null";

/// What the provider would get.
pub struct Around<'a> {
    /// The workspace's files, by their paths in it.
    pub workspace: &'a BTreeMap<String, Vec<u8>>,
    pub env: &'a BTreeMap<String, String>,
    /// The arguments, without the program.
    pub args: &'a [String],
    /// Whether the binary was built without autoloading.
    pub hardened: bool,
    /// The directory that only this run has.
    pub private: &'a str,
}

/// One fact for each vector of [`AMBIENT`].
pub fn scan(around: &Around<'_>) -> Vec<AmbientFact> {
    AMBIENT
        .iter()
        .map(|vector| AmbientFact { vector: vector.id.into(), state: state(vector.id, around) })
        .collect()
}

fn state(vector: &str, around: &Around<'_>) -> AmbientState {
    let absent = |name: &str| match around.env.get(name) {
        None => AmbientState::Neutralised(format!("{name} is not in the closed list")),
        Some(_) => AmbientState::Planted(format!("{name} is in the environment")),
    };
    match vector {
        "workspace_bunfig" => autoload(around, "--config=/dev/null", &["bunfig.toml"]),
        "workspace_dotenv" => autoload(around, "--env-file=/dev/null", &[".env"]),
        "env_bun_options" => match around.env.get("BUN_OPTIONS").map(String::as_str) {
            None | Some(BUN_OPTIONS) => AmbientState::Neutralised("set by admit alone".into()),
            Some(_) => AmbientState::Planted("BUN_OPTIONS is not admit's own".into()),
        },
        "env_bun_be_bun" => absent("BUN_BE_BUN"),
        "env_bun_inspect" => match around.env.keys().find(|key| key.starts_with("BUN_INSPECT")) {
            None => absent("BUN_INSPECT"),
            Some(name) => absent(name),
        },
        "env_node_options" => absent("NODE_OPTIONS"),
        "env_ld_preload" => match around.env.keys().find(|key| key.starts_with("LD_")) {
            None => absent("LD_PRELOAD"),
            Some(name) => absent(name),
        },
        "env_case_model_override" => absent("CASE_MODEL_OVERRIDE"),
        "env_case_package_root" => absent("CASE_PACKAGE_ROOT"),
        "env_pi_package_dir" => absent("PI_PACKAGE_DIR"),
        "case_package_upward" => package_upward(around.workspace),
        // The binary is copied out of the directory it lies in; the box is asked before the start what lies beside it.
        "file_beside_binary" => {
            AmbientState::Neutralised("the copy in the box is started, not this file".into())
        }
        "planted_native_addon" => match around.env.get("TMPDIR") {
            Some(dir) if dir.starts_with(around.private) => {
                AmbientState::Neutralised("TMPDIR is private to the run".into())
            }
            _ => AmbientState::Planted("TMPDIR is not private to the run".into()),
        },
        "model_argument" => {
            let given = |arg: &&String| *arg == "--model" || arg.starts_with("--model=");
            match around.args.iter().find(given) {
                None => AmbientState::Clear,
                Some(_) => AmbientState::Planted("--model is in the argument list".into()),
            }
        }
        // A vector that nobody looks for is not closed.
        other => AmbientState::Planted(format!("nobody looks for {other}")),
    }
}

/// Files that Bun would load by itself: harmless once loading is off, and named all the same.
fn autoload(around: &Around<'_>, switch: &str, names: &[&str]) -> AmbientState {
    let options = around.env.get("BUN_OPTIONS").map_or("", String::as_str);
    let off = around.hardened || options.split(' ').any(|option| option == switch);
    let there = around.workspace.keys().find(|path| names.iter().any(|n| path.starts_with(n)));
    match (off, there) {
        (true, None) => AmbientState::Neutralised("loading is off, and there is none".into()),
        (true, Some(path)) => AmbientState::Neutralised(format!("{path}: loading is off")),
        (false, _) => AmbientState::Planted("loading is on".into()),
    }
}

/// Case takes prompts from a checkout of itself that it finds upward of where it works. The directories above the
/// workspace are made by admit and hold nothing.
fn package_upward(workspace: &BTreeMap<String, Vec<u8>>) -> AmbientState {
    for (path, bytes) in workspace {
        if path != "package.json" && !path.ends_with("/package.json") {
            continue;
        }
        match record::parse_value(bytes) {
            Ok(value) if value.get("name").is_some_and(|name| name != "case") => {}
            Ok(value) if value.get("name").is_none() => {}
            Ok(_) => return AmbientState::Planted(format!("{path} is named case")),
            Err(_) => return AmbientState::Planted(format!("{path} cannot be read")),
        }
    }
    AmbientState::Clear
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Outcome;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let base = [("TMPDIR", "/private/tmp"), ("BUN_OPTIONS", BUN_OPTIONS)];
        base.iter().chain(pairs).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn planted(files: &[(&str, &str)], pairs: &[(&str, &str)], args: &[&str]) -> Vec<String> {
        let workspace = files.iter().map(|(p, t)| ((*p).to_owned(), t.as_bytes().to_vec()));
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let facts = scan(&Around {
            workspace: &workspace.collect(),
            env: &env(pairs),
            args: &args,
            hardened: false,
            private: "/private/",
        });
        for vector in AMBIENT {
            let fact = facts.iter().find(|fact| fact.vector == vector.id).unwrap();
            match (&fact.state, vector.outcome) {
                (AmbientState::Planted(_), _)
                | (AmbientState::Neutralised(_), Outcome::Neutralised)
                | (AmbientState::Clear, Outcome::Refused) => {}
                other => panic!("{}: {other:?}", vector.id),
            }
        }
        let planted = |fact: &&AmbientFact| matches!(fact.state, AmbientState::Planted(_));
        facts.iter().filter(planted).map(|fact| fact.vector.clone()).collect()
    }

    #[test]
    fn every_vector_has_its_one_outcome_and_a_plant_is_seen() {
        let none: Vec<String> = Vec::new();
        assert_eq!(planted(&[], &[], &["run"]), none);
        // Neutralised: the plant is there and changes nothing.
        let files = [("bunfig.toml", "preload=['./x.ts']"), (".env", "A=1"), (".env.local", "")];
        assert_eq!(planted(&files, &[], &["run"]), none);
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
            let found = planted(&[], &[(name, "/shared")], &["run"]);
            assert!(found.contains(&vector.to_owned()), "{name}: {found:?}");
        }
        let package = [("package.json", r#"{"name":"case"}"#)];
        assert_eq!(planted(&package, &[], &[]), ["case_package_upward"]);
        assert_eq!(planted(&[("package.json", "{")], &[], &[]), ["case_package_upward"]);
        assert_eq!(planted(&[("package.json", r#"{"name":"x"}"#)], &[], &[]), none);
        assert_eq!(planted(&[], &[], &["--model=x"]), ["model_argument"]);
    }
}
