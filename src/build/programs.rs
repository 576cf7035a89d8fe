//! What steps find besides the toolchain and a shell: `env`, by which scripts name their interpreter, and small tools that
//! scripts of a `package.json` use as a matter of course. None is a program of the host: the tools are done by the pinned
//! Bun, and know what builds ask of them; anything else that they are asked is an error, never ignored.

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};

use super::work::WorkDir;
use crate::error::{Error, Reason, Result};
use crate::fetch::inputs::Inputs;
use crate::lock::plan::Plan;
use crate::sandbox::{Contents, Mount, Owner, inside};

/// Every tool that [`TOOLS`] does.
const NAMES: [&str; 20] = [
    "basename",
    "cat",
    "chmod",
    "cp",
    "curl",
    "dirname",
    "head",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "rmdir",
    "sha256sum",
    "tail",
    "touch",
    "uname",
    "wc",
    "wget",
    "which",
];

pub fn found() -> String {
    format!("sh, bun, bunx, env, {}", NAMES.join(", "))
}

/// `env [-S] [NAME=VALUE …] PROGRAM …`. The kernel lets a script be the interpreter of another (execve(2)).
const ENV: &str = r#"#!/bin/sh
case "$1" in
  "-S "*) words=${1#-S }; shift; set -- $words "$@" ;;
  -S) shift ;;
esac
while :; do
  case "$1" in
    -*) echo "env: this one knows no option but -S: $1" >&2; exit 125 ;;
    *=*) export "$1"; shift ;;
    *) break ;;
  esac
done
[ $# -gt 0 ] || { export -p; exit; }
exec "$@"
"#;

/// Starts a tool by the name that it is called by. A project's own `bunfig.toml` has no say in it.
const TOOL: &str = r#"#!/bin/sh
exec /admit/bin/bun --config=/dev/null /usr/share/admit/tools.js "${0##*/}" "$@"
"#;

const TOOLS: &str = include_str!("tools.js");

/// Where the tools find which downloads the lock declares.
const DOWNLOADS: &str = "/usr/share/admit/downloads.json";

pub fn mounts(plan: &Plan, work: &WorkDir) -> Result<Vec<Mount>> {
    let file = |path: &str, text: &str, mode: u32| -> Result<Mount> {
        Ok(Mount::File { inside: inside(path)?, contents: Contents::from(text), mode })
    };
    let declared: serde_json::Map<String, serde_json::Value> = plan
        .downloads
        .iter()
        .enumerate()
        .map(|(at, one)| (one.url.clone(), work.inside(&download(at)).into()))
        .collect();
    let mut mounts = vec![
        file("/usr/bin/env", ENV, 0o555)?,
        file("/usr/bin/admit-tool", TOOL, 0o555)?,
        file("/usr/share/admit/tools.js", TOOLS, 0o444)?,
        file(DOWNLOADS, &serde_json::Value::Object(declared).to_string(), 0o444)?,
    ];
    let tools = NAMES.map(|name| (name, "admit-tool"));
    // Bun takes the name that it is called by for the command.
    for (name, target) in tools.into_iter().chain([("bunx", "/admit/bin/bun")]) {
        let inside = inside(&format!("/usr/bin/{name}"))?;
        mounts.push(Mount::Symlink { inside, target: target.into() });
    }
    Ok(mounts)
}

pub fn download(at: usize) -> String {
    format!(".admit/downloads/{at}")
}

/// Puts the declared downloads where steps find them.
///
/// # Errors
/// [`Reason::UnsupportedSource`] where the source itself has a file at the place of one; [`Reason::Io`].
pub fn place(plan: &Plan, inputs: &Inputs, work: &WorkDir, to: &Dir, owner: Owner) -> Result<()> {
    for (at, (declared, file)) in plan.downloads.iter().zip(&inputs.downloads).enumerate() {
        let inside = declared.path.as_ref().map(|path| format!("{}/{path}", work.source_below));
        for path in [Some(download(at)), inside].into_iter().flatten() {
            let io = |err| Error::io("write the download", &path, err);
            let mut from = std::fs::File::open(file.path()).map_err(io)?;
            let _as_payload = owner.enter()?;
            if let Some((dir, _)) = path.rsplit_once('/') {
                to.create_dir_all(dir).map_err(io)?;
            }
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o644);
            let mut out = match to.open_with(&path, &options) {
                Err(err) if err.kind() == std::io::ErrorKind::AlreadyExists => {
                    let what = "a download has the place of a file of the source";
                    return Err(Error::new(Reason::UnsupportedSource, what)
                        .at(path)
                        .expected("a place where the source has nothing")
                        .found(declared.url.clone()));
                }
                out => out.map_err(io)?,
            };
            std::io::copy(&mut from, &mut out).map_err(io)?;
        }
    }
    Ok(())
}
