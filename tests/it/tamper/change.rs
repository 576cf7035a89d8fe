//! One change to a good set of files, as `mutation.json` describes it.

use std::path::{Path, PathBuf};

use admit::attest::keys::Keys;
use admit::record;
use admit::record::dsse::{self, Envelope};
use admit::record::ids::Digest;
use admit::record::sealed::{Manifest, Seal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::files::mode;

/// `mutation.json`: what is done to the good set, and what must come of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mutation {
    /// One sentence for people.
    pub what: String,
    /// The changes, in order.
    pub change: Vec<Change>,
    /// The command, without the program and `--json`.
    #[serde(default = "verify")]
    pub command: Vec<String>,
    /// The exit code, where it is not that of the reason in the directory's name.
    pub exit: Option<i32>,
    /// Words that the answer holds, where one refusal has many causes.
    pub says: Option<String>,
}

fn verify() -> Vec<String> {
    vec!["verify".into(), "understudy".into()]
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// A file of the good set, by its name there. `run/*` stands for every file of the run, one after the other, and
    /// `run/**` for a new file in each of its directories.
    pub target: String,
    #[serde(rename = "do")]
    pub op: Op,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Another bit in one byte: its place in thousandths of the file.
    Flip(usize),
    Prepend(String),
    Append(String),
    /// The first occurrence of the first text becomes the second.
    Replace(String, String),
    Write(String),
    /// Only the beginning is left: its length in thousandths of the file.
    Cut(usize),
    Remove,
    /// A JSON value at a pointer.
    Set(String, Value),
    Unset(String),
    /// One line, counted from 0, is left out.
    DropLine(usize),
    /// The bytes of another file of the set.
    Copy(String),
    /// Two files change places.
    Swap(String),
    /// A symbolic link to another file of the set.
    Link(String),
    /// An octal mode.
    Mode(String),
    /// An empty directory in the file's place.
    Directory,
    /// Digests and size of another file, as this platform's output of a lock.
    LockOutput(String),
    /// One bit of one byte of what a field of an envelope holds in base64.
    FlipSigned(String, usize),
    /// The statement of an envelope with a JSON value at a pointer, signed anew by the key that signed it.
    Resign(String, Value),
    /// Manifest and seal of the run are made anew, to hide a change.
    Reseal,
    /// This user trusts the directory as it is now.
    Trust,
}

/// Replaces a file, which may be a link to one of the good set, and keeps its mode.
pub fn put(path: &Path, bytes: &[u8]) {
    let mode = std::fs::symlink_metadata(path).ok().filter(std::fs::Metadata::is_file);
    clear(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
    if let Some(meta) = mode {
        std::fs::set_permissions(path, meta.permissions()).unwrap();
    }
}

fn clear(path: &Path) {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path).unwrap(),
        Ok(_) => std::fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

impl Op {
    /// Applies the operation; `find` gives the path of a file of the set by its name there. An operation that changes
    /// nothing fails: it would test nothing.
    pub fn apply(&self, path: &Path, find: &dyn Fn(&str) -> PathBuf) {
        let read = || std::fs::read(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
        let text = || String::from_utf8(read()).unwrap();
        let changed = |bytes: Vec<u8>| {
            assert!(bytes != read(), "{} stays as it was", path.display());
            put(path, &bytes);
        };
        match self {
            // The large files are among these: no second read to see that something changed.
            Op::Flip(place) => {
                let mut bytes = read();
                if bytes.is_empty() {
                    bytes.push(b' ');
                } else {
                    let at = (bytes.len() * place / 1000).min(bytes.len() - 1);
                    bytes[at] ^= 1;
                }
                put(path, &bytes);
            }
            Op::Prepend(more) => changed([more.as_bytes(), &read()].concat()),
            Op::Append(more) => changed([&read(), more.as_bytes()].concat()),
            Op::Replace(from, to) => changed(text().replacen(from.as_str(), to, 1).into_bytes()),
            Op::Write(text) => put(path, text.as_bytes()),
            Op::Cut(place) => {
                let mut bytes = read();
                assert!(!bytes.is_empty(), "{} is empty", path.display());
                bytes.truncate(bytes.len() * place / 1000);
                put(path, &bytes);
            }
            Op::Remove => {
                assert!(std::fs::symlink_metadata(path).is_ok(), "no {}", path.display());
                clear(path);
            }
            Op::Set(pointer, to) => changed(edited(path, &read(), pointer, Some(to))),
            Op::Unset(pointer) => changed(edited(path, &read(), pointer, None)),
            Op::DropLine(number) => {
                let text = text();
                let lines = text.split_inclusive('\n').enumerate();
                let kept = lines.filter(|(i, _)| i != number).map(|(_, line)| line);
                changed(kept.collect::<String>().into_bytes());
            }
            Op::Copy(other) => put(path, &std::fs::read(find(other)).unwrap()),
            Op::Swap(other) => {
                let (ours, theirs) = (read(), std::fs::read(find(other)).unwrap());
                changed(theirs);
                put(&find(other), &ours);
            }
            Op::Link(other) => {
                clear(path);
                std::os::unix::fs::symlink(find(other), path).unwrap();
            }
            Op::Mode(octal) => {
                // The mode of a linked file would change in the good set, too.
                if path.is_file() {
                    put(path, &read());
                }
                mode(path, u32::from_str_radix(octal, 8).unwrap());
            }
            Op::Directory => {
                clear(path);
                std::fs::create_dir(path).unwrap();
            }
            Op::LockOutput(other) => {
                let bytes = std::fs::read(find(other)).unwrap();
                let output = serde_json::json!({
                    "sha256": Digest::sha256(&bytes).to_hex(),
                    "blake3": Digest::blake3(&bytes).to_hex(), "size": bytes.len() });
                changed(edited(path, &read(), "/outputs/linux-x64", Some(&output)));
            }
            Op::FlipSigned(pointer, at) => {
                let mut envelope: Value = serde_json::from_slice(&read()).unwrap();
                let field = envelope.pointer_mut(pointer).expect("a field");
                let mut bytes = STANDARD.decode(field.as_str().unwrap()).unwrap();
                bytes[*at] ^= 1;
                *field = STANDARD.encode(bytes).into();
                changed(line(&envelope));
            }
            Op::Resign(pointer, to) => changed(resigned(path, &read(), pointer, to)),
            Op::Reseal => reseal(path),
            Op::Trust => unreachable!("trusting is a command"),
        }
    }
}

/// A bundle has one envelope a line.
fn line(envelope: &Value) -> Vec<u8> {
    format!("{envelope}\n").into_bytes()
}

/// An envelope about something else, with a good signature.
fn resigned(path: &Path, bundle: &[u8], pointer: &str, to: &Value) -> Vec<u8> {
    let good = dsse::parse_bundle(bundle).unwrap().remove(0);
    let statement = edited(path, &good.payload, pointer, Some(to));
    let mut envelope = Envelope::new(&good.payload_type, statement.trim_ascii().to_vec());
    let data = path.ancestors().find(|dir| dir.ends_with(".local/share/admit")).unwrap();
    let key = Keys::new(data).signing(&"release".parse().unwrap()).unwrap();
    key.sign(&mut envelope, false);
    format!("{}\n", envelope.line().trim_end()).into_bytes()
}

/// A JSON text with one value set or left out.
fn edited(path: &Path, bytes: &[u8], pointer: &str, to: Option<&Value>) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match (value.pointer_mut(parent), to) {
        (Some(Value::Object(map)), Some(to)) => drop(map.insert(key.to_owned(), to.clone())),
        (Some(Value::Object(map)), None) => drop(map.remove(key)),
        (Some(Value::Array(list)), Some(to)) => list[key.parse::<usize>().unwrap()] = to.clone(),
        (Some(Value::Array(list)), None) => drop(list.remove(key.parse().unwrap())),
        _ => panic!("{pointer} is in nothing"),
    }
    let bundle = path.extension().is_some_and(|end| end == "jsonl");
    if bundle { line(&value) } else { record::pretty(&value) }
}

/// Makes manifest and seal of the run directory over what is there now.
fn reseal(dir: &Path) {
    let text = std::fs::read(dir.join("manifest.json")).unwrap();
    let mut manifest: Manifest = record::parse(&text).unwrap();
    for entry in &mut manifest.files {
        let bytes = std::fs::read(dir.join(entry.path.as_str())).unwrap();
        entry.size = bytes.len() as u64;
        entry.sha256 = Digest::sha256(&bytes);
    }
    put(&dir.join("manifest.json"), &record::pretty(&manifest));
    put(&dir.join("seal.json"), &record::pretty(&Seal::of(&manifest)));
}
