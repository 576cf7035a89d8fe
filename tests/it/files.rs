//! Files of tests: read, written, changed, copied, listed, packed.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::util::project;

#[track_caller]
pub fn json(path: impl AsRef<Path>) -> Value {
    let path = path.as_ref();
    let bytes = std::fs::read(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

/// A file of the project as JSON.
#[track_caller]
pub fn shipped(path: &str) -> Value {
    json(project().join(path))
}

/// Writes a file, and makes the directories above it.
#[track_caller]
pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[track_caller]
pub fn edit(path: impl AsRef<Path>, change: impl FnOnce(&mut Value)) {
    let mut value = json(&path);
    change(&mut value);
    std::fs::write(path, admit::record::pretty(&value)).unwrap();
}

#[track_caller]
pub fn mode(path: impl AsRef<Path>, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Writes a shell script that can be started.
#[track_caller]
pub fn script(path: impl AsRef<Path>, text: &str) {
    installed("/dev/stdin", path.as_ref(), format!("#!/bin/sh\n{text}\n").as_bytes());
}

/// Copies a file to a program that can be started.
#[track_caller]
pub fn program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    installed(from, to.as_ref(), b"");
}

/// Another process writes it: a process that another test starts meanwhile would hold a descriptor of this one that is
/// open for writing, and nobody may start a program that somebody can still write (`ETXTBSY`).
#[track_caller]
fn installed(from: impl AsRef<Path>, to: &Path, input: &[u8]) {
    let mut install = Command::new("install");
    install.args(["-D", "-m", "755"]).arg(from.as_ref()).arg(to).stdin(Stdio::piped());
    let mut child = install.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    assert!(child.wait().unwrap().success(), "{}", to.display());
}

/// Makes a pipe, which has no end to wait for.
#[track_caller]
pub fn pipe_at(path: impl AsRef<Path>) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path.as_ref(), rustix::fs::Mode::RWXU).unwrap();
}

/// Every file below a directory, in order. Links are files.
pub fn below(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => out.extend(below(&entry.path())),
            false => out.push(entry.path()),
        }
    }
    out.sort();
    out
}

/// The names in a directory, in order.
#[track_caller]
pub fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

pub fn copy(from: &Path, to: &Path) {
    for file in below(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(file, target).unwrap();
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// A packed archive of files, each with its mode.
pub fn tgz<P: AsRef<Path>>(files: &[(P, u32, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        tar.append_data(&mut header, path, *bytes).unwrap();
    }
    gzip(&tar.into_inner().unwrap())
}
