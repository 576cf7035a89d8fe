//! Patches of packages (`patchedDependencies`): a patch as `bun patch` writes it, and what it makes of a package's files.
//!
//! Bun 1.3 puts a patch's lines where their numbers say and does not look at what stands there (seen with 1.3.14; 1.4
//! does). So each line that a patch keeps or removes must stand where it says, else the patch does not apply; what then
//! comes out is what the installed package is compared with.

use std::collections::BTreeMap;

use super::lockfile::{BunLock, Package};
use super::names::show;
use crate::error::{Error, Reason, Result};
use crate::record::ids::RelPath;

/// The largest patch that is read, in bytes.
pub const LARGEST: u64 = 16 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    place: String,
    changes: Vec<Change>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Change {
    /// The file before; `None`: it is made.
    from: Option<String>,
    /// The file after; `None`: it is removed.
    to: Option<String>,
    executable: Option<bool>,
    hunks: Vec<Hunk>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Hunk {
    /// Line of the file before, from 1; of nothing, the line before.
    start: usize,
    old: Vec<Vec<u8>>,
    new: Vec<Vec<u8>>,
}

/// A file of a package: content, and whether it may be executed.
pub type Files = BTreeMap<String, (Vec<u8>, bool)>;

impl BunLock {
    /// The patch of `package`, from the project's directory.
    pub fn patch_of(&self, package: &Package) -> Option<&str> {
        let key = format!("{}@{}", package.name, package.resolution);
        self.patched.get(&key).map(String::as_str)
    }
}

impl Patch {
    /// `place` names the patch in errors.
    ///
    /// # Errors
    /// [`Reason::BadRecord`] with the line.
    pub fn parse(bytes: &[u8], place: &str) -> Result<Patch> {
        let mut patch = Patch { place: place.to_owned(), changes: Vec::new() };
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate().peekable();
        while let Some((at, line)) = lines.next() {
            let fault = |what: &str| {
                Error::new(Reason::BadRecord, format!("a patch that cannot be read: {what}"))
                    .at(format!("{place}:{}", at + 1))
                    .hint("make it anew in a clone with bun patch and bun patch --commit, and commit both files")
            };
            let text = String::from_utf8_lossy(line);
            let text = text.trim_end_matches(['\n', '\r']);
            if let Some(paths) = text.strip_prefix("diff --git ") {
                // Git writes the path twice; where it is renamed, lines that follow say so.
                let path = paths.rsplit_once(" b/").map(|(_, path)| path.to_owned());
                let path = path.ok_or_else(|| fault("no path"))?;
                let (from, to) = (Some(path.clone()), Some(path));
                patch.changes.push(Change { from, to, ..Change::default() });
                continue;
            }
            let Some(change) = patch.changes.last_mut() else {
                // Words before the first file mean nothing.
                continue;
            };
            let mode = |text: &str| text.trim().ends_with("755");
            if let Some(rest) = text.strip_prefix("new file mode ") {
                (change.from, change.executable) = (None, Some(mode(rest)));
            } else if text.starts_with("deleted file mode ") {
                change.to = None;
            } else if let Some(rest) = text.strip_prefix("new mode ") {
                change.executable = Some(mode(rest));
            } else if let Some(path) = text.strip_prefix("rename from ") {
                change.from = Some(path.to_owned());
            } else if let Some(path) = text.strip_prefix("rename to ") {
                change.to = Some(path.to_owned());
            } else if text == "--- /dev/null" {
                change.from = None;
            } else if text == "+++ /dev/null" {
                change.to = None;
            } else if text.starts_with("GIT binary patch") || text.starts_with("Binary files ") {
                return Err(fault("it changes a file that is no text"));
            } else if let Some(rest) = text.strip_prefix("@@ -") {
                let (start, old, new) = ranges(rest).ok_or_else(|| fault("the place of a part"))?;
                let mut hunk = Hunk { start, ..Hunk::default() };
                while hunk.old.len() < old || hunk.new.len() < new {
                    let (_, line) = lines.next().ok_or_else(|| fault("it ends early"))?;
                    let body = line.get(1..).unwrap_or_default().to_vec();
                    match line.first() {
                        Some(b' ') => {
                            hunk.old.push(body.clone());
                            hunk.new.push(body);
                        }
                        // Editors take the blank off a blank line.
                        Some(b'\n') => {
                            hunk.old.push(line.to_vec());
                            hunk.new.push(line.to_vec());
                        }
                        Some(b'-') => hunk.old.push(body),
                        Some(b'+') => hunk.new.push(body),
                        Some(b'\\') => hunk.end_without_break(b' '),
                        _ => return Err(fault("a line that is neither kept, removed nor added")),
                    }
                    let sign = line.first().copied().unwrap_or_default();
                    // "\ No newline at end of file" speaks of the line before it.
                    if lines.peek().is_some_and(|(_, next)| next.starts_with(b"\\")) {
                        lines.next();
                        hunk.end_without_break(sign);
                    }
                }
                if (hunk.old.len(), hunk.new.len()) != (old, new) {
                    return Err(fault("a part with more lines than it says"));
                }
                change.hunks.push(hunk);
            }
        }
        for change in &patch.changes {
            for path in [&change.from, &change.to].into_iter().flatten() {
                path.parse::<RelPath>().map_err(|err| {
                    Error::new(Reason::BadRecord, "a patch of a file outside of its package")
                        .at(place.to_owned())
                        .found(show(path).to_string())
                        .caused_by(err)
                })?;
            }
        }
        Ok(patch)
    }

    pub fn reads(&self, path: &str) -> bool {
        self.changes.iter().any(|change| change.from.as_deref() == Some(path))
    }

    /// Changes `files`, which hold all that [`Patch::reads`] asks for; gives the paths that are no more.
    ///
    /// # Errors
    /// [`Reason::PatchFailed`] naming the file and line.
    pub fn apply(&self, package: &str, files: &mut Files) -> Result<Vec<String>> {
        let fail = |what: String, expected: String, found: String| {
            Error::new(Reason::PatchFailed, what)
                .at(self.place.clone())
                .expected(expected)
                .found(found)
                .hint(format!("make it anew for {package} in a clone: bun patch {package}, then bun patch --commit {package}"))
        };
        let mut gone = Vec::new();
        for change in &self.changes {
            let (before, mode) = match &change.from {
                None => (Vec::new(), false),
                Some(path) => files.remove(path).ok_or_else(|| {
                    let what = "a patch changes a file that its package does not have".to_owned();
                    fail(what, format!("{path} in {package}"), "no such file".into())
                })?,
            };
            gone.extend(change.from.clone().filter(|_| change.from != change.to));
            let mut lines: Vec<Vec<u8>> =
                before.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            let mut drift = 0_isize;
            for hunk in &change.hunks {
                let first =
                    if hunk.old.is_empty() { hunk.start } else { hunk.start.saturating_sub(1) };
                let at = usize::try_from(first.cast_signed().saturating_add(drift))
                    .unwrap_or(usize::MAX);
                let there = lines.get(at..at.saturating_add(hunk.old.len()));
                if there != Some(&hunk.old[..]) {
                    let odd = (0..hunk.old.len())
                        .find(|n| lines.get(at.saturating_add(*n)) != hunk.old.get(*n))
                        .unwrap_or_default();
                    let word = |line: Option<&Vec<u8>>| match line {
                        Some(line) => show(String::from_utf8_lossy(line).trim_end()).to_string(),
                        None => "the end of the file".into(),
                    };
                    let path = change.from.as_deref().unwrap_or_default();
                    return Err(fail(
                        format!(
                            "a patch does not apply to {package}: {path}, line {}",
                            hunk.start + odd
                        ),
                        word(hunk.old.get(odd)),
                        word(lines.get(at.saturating_add(odd))),
                    ));
                }
                lines.splice(at..at + hunk.old.len(), hunk.new.iter().cloned());
                drift += hunk.new.len().cast_signed() - hunk.old.len().cast_signed();
            }
            if let Some(path) = &change.to {
                gone.retain(|other| other != path);
                files.insert(path.clone(), (lines.concat(), change.executable.unwrap_or(mode)));
            }
        }
        Ok(gone)
    }
}

impl Hunk {
    /// Takes the line break off the line that was read last: of the file before, after, or both.
    fn end_without_break(&mut self, sign: u8) {
        let lists = match sign {
            b'-' => vec![&mut self.old],
            b'+' => vec![&mut self.new],
            _ => vec![&mut self.old, &mut self.new],
        };
        for list in lists {
            if let Some(line) = list.last_mut().filter(|line| line.ends_with(b"\n")) {
                line.pop();
            }
        }
    }
}

/// `1,2 +3,4 @@ …`: the first line before, and how many lines before and after.
fn ranges(text: &str) -> Option<(usize, usize, usize)> {
    let (old, rest) = text.split_once(" +")?;
    let (new, _) = rest.split_once(" @@")?;
    let range = |text: &str| -> Option<(usize, usize)> {
        match text.split_once(',') {
            Some((start, count)) => Some((start.parse().ok()?, count.parse().ok()?)),
            None => Some((text.parse().ok()?, 1)),
        }
    };
    let ((start, old), (_, new)) = (range(old)?, range(new)?);
    Some((start, old, new))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(patch: &str, files: &[(&str, &str, bool)]) -> Result<Vec<(String, String, bool)>> {
        let mut all: Files = files
            .iter()
            .map(|(path, text, mode)| ((*path).to_owned(), (text.as_bytes().to_vec(), *mode)))
            .collect();
        Patch::parse(patch.as_bytes(), "a.patch")?.apply("a", &mut all)?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ok(all.into_iter().map(|(path, (bytes, mode))| (path, text(bytes), mode)).collect())
    }

    #[test]
    fn files_are_changed_made_removed_and_renamed() {
        let patch = "diff --git a/a.js b/a.js\nindex 1..2 100644\n--- a/a.js\n+++ b/a.js\n@@ -1,2 +1,3 @@ x\n one\n-two\n+2\n+3\n\
            @@ -5 +6 @@\n-five\n\\ No newline at end of file\n+5\n\
            diff --git a/new.sh b/new.sh\nnew file mode 100755\n--- /dev/null\n+++ b/new.sh\n@@ -0,0 +1 @@\n+x\n\
            diff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-g\n\
            diff --git a/old b/moved\nsimilarity index 100%\nrename from old\nrename to moved\n";
        let files =
            [("a.js", "one\ntwo\n3\n4\nfive", true), ("gone", "g\n", false), ("old", "o", false)];
        let found = apply(patch, &files).unwrap();
        let want = [
            ("a.js", "one\n2\n3\n3\n4\n5\n", true),
            ("moved", "o", false),
            ("new.sh", "x\n", true),
        ];
        let want = want.map(|(path, text, mode)| (path.to_owned(), text.to_owned(), mode));
        assert_eq!(found, want);
    }

    #[test]
    fn what_does_not_stand_where_it_says_is_refused_with_its_line() {
        let patch = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -2,2 +2,2 @@\n two\n-three\n+3\n";
        assert!(apply(patch, &[("a", "one\ntwo\nthree\n", false)]).is_ok());
        for text in ["one\ntwo\nfour\n", "two\nthree\n", "one\n2\nthree\n", "one\ntwo\n", ""] {
            let err = apply(patch, &[("a", text, false)]).unwrap_err();
            assert_eq!(err.reason(), Reason::PatchFailed, "{text}");
        }
        let err = apply(patch, &[("a", "one\ntwo\nfour\n", false)]).unwrap_err().to_string();
        assert!(err.contains("a, line 3"), "{err}");
        assert_eq!(apply(patch, &[]).unwrap_err().reason(), Reason::PatchFailed);
        for patch in [
            "diff --git a/../x b/../x\n",
            "diff --git a/a b/a\n@@ -1,2 +1 @@\n x\n",
            "diff --git a/a b/a\n@@ -x +1 @@\n x\n",
            "diff --git a/a b/a\nGIT binary patch\n",
            "diff --git nothing\n",
        ] {
            let err = apply(patch, &[("a", "x\n", false)]).unwrap_err();
            assert_eq!(err.reason(), Reason::BadRecord, "{patch}");
        }
    }
}
