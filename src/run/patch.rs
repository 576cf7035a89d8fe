//! Sets of files and the difference between two of them, as text that `git apply` understands. Pure: no repository, no
//! configuration, no attributes.

use std::collections::BTreeSet;
use std::ops::Range;

use imara_diff::{Algorithm, Diff, Hunk, InternedInput, Token};

pub use crate::check::files::{Content, Files};
use crate::record::ids::RelPath;

/// The paths at which two sets differ, in order.
pub fn changed(old: &Files, new: &Files) -> Vec<RelPath> {
    let paths: BTreeSet<&RelPath> = old.keys().chain(new.keys()).collect();
    paths.into_iter().filter(|path| old.get(*path) != new.get(*path)).cloned().collect()
}

/// The difference as text; empty where there is none.
pub fn make(old: &Files, new: &Files) -> Vec<u8> {
    let mut out = Vec::new();
    for path in changed(old, new) {
        let (before, after) = (old.get(&path), new.get(&path));
        let mut head = format!("diff --git a/{path} b/{path}\n");
        match (before, after) {
            (None, Some(after)) => head.push_str(&format!("new file mode {}\n", after.mode())),
            (Some(before), None) => {
                head.push_str(&format!("deleted file mode {}\n", before.mode()));
            }
            (Some(before), Some(after)) if before.mode() != after.mode() => {
                head.push_str(&format!("old mode {}\nnew mode {}\n", before.mode(), after.mode()))
            }
            _ => {}
        }
        out.extend_from_slice(head.as_bytes());
        let bytes = |content: Option<&Content>| content.map_or(Vec::new(), |c| c.bytes().to_vec());
        let (before_bytes, after_bytes) = (bytes(before), bytes(after));
        if before_bytes == after_bytes {
            continue;
        }
        let name = |side: char, content: Option<&Content>| match content {
            Some(_) => format!("{side}/{path}"),
            None => "/dev/null".into(),
        };
        let (from, to) = (name('a', before), name('b', after));
        if before_bytes.contains(&0) || after_bytes.contains(&0) {
            out.extend_from_slice(format!("Binary files {from} and {to} differ\n").as_bytes());
            continue;
        }
        out.extend_from_slice(format!("--- {from}\n+++ {to}\n").as_bytes());
        out.extend_from_slice(&hunks(&before_bytes, &after_bytes));
    }
    out
}

/// Unchanged lines around a change.
const CONTEXT: u32 = 3;

fn hunks(old: &[u8], new: &[u8]) -> Vec<u8> {
    let input = InternedInput::new(old, new);
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let changes: Vec<Hunk> = diff.hunks().collect();
    let mut out = Vec::new();
    // Changes with little between them share a hunk.
    for hunk in changes.chunk_by(|one, next| next.before.start - one.before.end <= 2 * CONTEXT) {
        let [first, ..] = hunk else { continue };
        let lead = first.before.start.min(CONTEXT);
        let mut body = Vec::new();
        let mut put = |sign: u8, side: &[Token], lines: Range<u32>| {
            for token in &side[lines.start as usize..lines.end as usize] {
                let line = input.interner[*token];
                body.push(sign);
                body.extend_from_slice(line);
                if !line.ends_with(b"\n") {
                    body.extend_from_slice(b"\n\\ No newline at end of file\n");
                }
            }
        };
        let (mut at, mut after) = (first.before.start - lead, first.after.start - lead);
        let (old_begin, new_begin) = (at, after);
        for change in hunk {
            put(b' ', &input.before, at..change.before.start);
            put(b'-', &input.before, change.before.clone());
            put(b'+', &input.after, change.after.clone());
            (at, after) = (change.before.end, change.after.end);
        }
        let lines = u32::try_from(input.before.len()).unwrap_or(u32::MAX);
        let trail = (lines - at).min(CONTEXT);
        put(b' ', &input.before, at..at + trail);
        let [old_side, new_side] =
            [(old_begin, at + trail), (new_begin, after + trail)].map(|(begin, end)| {
                // An empty side names the line before it; a single line needs no count.
                match end - begin {
                    0 => format!("{begin},0"),
                    1 => format!("{}", begin + 1),
                    count => format!("{},{count}", begin + 1),
                }
            });
        out.extend(format!("@@ -{old_side} +{new_side} @@\n").into_bytes());
        out.extend(body);
    }
    out
}

/// Applies `patch` strictly: every line of context must stand exactly where the patch says. No fuzz, no offsets, no
/// links, no binary files.
pub fn apply(files: &Files, patch: &[u8]) -> Result<Files, String> {
    let mut out = files.clone();
    let mut lines = Lines { all: patch.split_inclusive(|b| *b == b'\n').collect(), at: 0 };
    while let Some(line) = lines.next() {
        let names = text(line)?.strip_prefix("diff --git a/").ok_or("a line outside of a file")?;
        // Both names are the same, so the first is as long as the second: no need to guess at spaces.
        let half = names.len().checked_sub(3).map(|n| n / 2).ok_or("a broken head")?;
        let path = names.get(..half).ok_or("a broken head")?;
        if names != format!("{path} b/{path}") {
            return Err(format!("a rename: {names}"));
        }
        let path: RelPath = path.parse().map_err(|err| format!("{err}"))?;
        one_file(&mut out, &path, &mut lines).map_err(|what| format!("{path}: {what}"))?;
    }
    Ok(out)
}

struct Lines<'a> {
    all: Vec<&'a [u8]>,
    at: usize,
}

impl<'a> Lines<'a> {
    fn peek(&self) -> Option<&'a [u8]> {
        self.all.get(self.at).copied()
    }

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.peek();
        self.at += usize::from(line.is_some());
        line
    }

    /// The rest of the next line, where it begins with `prefix`.
    fn after(&mut self, prefix: &str) -> Option<&'a [u8]> {
        let rest = self.peek()?.strip_prefix(prefix.as_bytes())?;
        self.at += 1;
        Some(rest.strip_suffix(b"\n").unwrap_or(rest))
    }
}

fn text(line: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(line)
        .map(|line| line.trim_end_matches('\n'))
        .map_err(|_| "a head that is not UTF-8".to_owned())
}

fn executable(mode: &[u8]) -> Result<bool, String> {
    match mode {
        b"100644" => Ok(false),
        b"100755" => Ok(true),
        _ => Err(format!("mode {} is no regular file's", String::from_utf8_lossy(mode))),
    }
}

fn one_file(out: &mut Files, path: &RelPath, lines: &mut Lines<'_>) -> Result<(), String> {
    let (mut old, mut mode) = match out.get(path) {
        None => (None, false),
        Some(Content::File { bytes, executable }) => (Some(bytes.clone()), *executable),
        Some(_) => return Err("not a regular file".into()),
    };
    let mut deleted = false;
    if let Some(word) = lines.after("new file mode ") {
        if old.is_some() {
            return Err("exists already".into());
        }
        (old, mode) = (Some(Vec::new()), executable(word)?);
    } else if let Some(word) = lines.after("deleted file mode ") {
        (deleted, _) = (true, executable(word)?);
    } else if let Some(word) = lines.after("old mode ") {
        if executable(word)? != mode {
            return Err("has another mode".into());
        }
        mode = executable(lines.after("new mode ").ok_or("no new mode")?)?;
    }
    let Some(old) = old else { return Err("does not exist".into()) };
    let _ = lines.after("index ");
    let mut new = old.clone();
    if lines.after("--- ").is_some() {
        lines.after("+++ ").ok_or("no +++ line")?;
        new = hunks_applied(&old, lines)?;
    }
    if deleted {
        if !new.is_empty() {
            return Err("is deleted with something left in it".into());
        }
        out.remove(path);
    } else {
        out.insert(path.clone(), Content::File { bytes: new, executable: mode });
    }
    Ok(())
}

fn hunks_applied(old: &[u8], lines: &mut Lines<'_>) -> Result<Vec<u8>, String> {
    let source: Vec<&[u8]> = old.split_inclusive(|b| *b == b'\n').collect();
    let (mut new, mut at) = (Vec::new(), 0);
    while let Some(head) = lines.after("@@ ") {
        let head = text(head)?;
        let (mut first, mut removed, mut added) = range(head).ok_or("a broken hunk head")?;
        // A hunk that takes no line names the line before it.
        first = if removed == 0 { first } else { first.checked_sub(1).ok_or("line 0")? };
        let skipped = source.get(at..first).ok_or("a hunk out of order or past the end")?;
        new.extend(skipped.iter().flat_map(|line| line.iter().copied()));
        at = first;
        while removed > 0 || added > 0 {
            let line = lines.next().ok_or("ends within a hunk")?;
            let (sign, rest) = line.split_first().ok_or("an empty line")?;
            let mut rest = rest.to_vec();
            if lines.after("\\ No newline").is_some() {
                rest.pop();
            }
            let (takes, gives) = match sign {
                b' ' => (true, true),
                b'-' => (true, false),
                b'+' => (false, true),
                _ => return Err("a line that belongs to no hunk".into()),
            };
            if takes {
                removed = removed.checked_sub(1).ok_or("a hunk longer than its head says")?;
                if source.get(at) != Some(&rest.as_slice()) {
                    return Err(format!("line {} is not what the patch says", at + 1));
                }
                at += 1;
            }
            if gives {
                added = added.checked_sub(1).ok_or("a hunk longer than its head says")?;
                new.extend_from_slice(&rest);
            }
        }
    }
    new.extend(source[at..].iter().flat_map(|line| line.iter().copied()));
    Ok(new)
}

/// `-first,count +first,count @@`: first line of the old side, and both counts.
fn range(head: &str) -> Option<(usize, usize, usize)> {
    let mut words = head.split(' ');
    let side = |word: &str, sign: char| -> Option<(usize, usize)> {
        let word = word.strip_prefix(sign)?;
        match word.split_once(',') {
            Some((first, count)) => Some((first.parse().ok()?, count.parse().ok()?)),
            None => Some((word.parse().ok()?, 1)),
        }
    };
    let (first, removed) = side(words.next()?, '-')?;
    let (_, added) = side(words.next()?, '+')?;
    (words.next()? == "@@").then_some((first, removed, added))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        list.iter().map(|(path, text)| (path.parse().unwrap(), Content::plain(*text))).collect()
    }

    #[test]
    fn what_is_made_applies() {
        let old = files(&[("a", "1\n2\n3\n4\n5\n6\n7\n8\n9\n"), ("b c", "x"), ("gone", "y\n")]);
        let new = files(&[
            ("a", "1\n2\n3\nfour\n5\n6\n7\n8\n9\n10"),
            ("b c", "x\n"),
            ("d/e", "z\n"),
            ("empty", ""),
        ]);
        let patch = make(&old, &new);
        assert_eq!(apply(&old, &patch).unwrap(), new, "{}", String::from_utf8_lossy(&patch));
        assert_eq!(make(&old, &old), b"");
        let back = make(&new, &old);
        assert_eq!(apply(&new, &back).unwrap(), old, "{}", String::from_utf8_lossy(&back));
    }

    #[test]
    fn a_patch_for_another_text_does_not_apply() {
        let (old, new) = (files(&[("a", "1\n2\n3\n")]), files(&[("a", "1\ntwo\n3\n")]));
        let patch = make(&old, &new);
        for other in ["0\n1\n2\n3\n", "1\n2\n4\n", "1\n2\n", ""] {
            assert!(apply(&files(&[("a", other)]), &patch).is_err(), "{other}");
        }
        assert!(apply(&files(&[]), &patch).is_err());
    }

    #[test]
    fn links_and_binary_files_do_not_apply() {
        let old = files(&[("a", "1\n")]);
        for content in [Content::Link(b"/etc/passwd".to_vec()), Content::plain(b"\0".to_vec())] {
            let new = Files::from([("a".parse().unwrap(), content)]);
            let patch = make(&old, &new);
            assert!(!patch.is_empty() && apply(&old, &patch).is_err());
        }
        let mut new = old.clone();
        new.insert(
            "a".parse().unwrap(),
            Content::File { bytes: b"1\n".to_vec(), executable: true },
        );
        assert_eq!(apply(&old, &make(&old, &new)).unwrap(), new);
    }
}
