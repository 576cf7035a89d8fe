//! Sources inside admit: a commit made of files, in memory.

use crate::error::{Error, Reason, Result};
use crate::git::id::{ObjectKind, Oid};
use crate::git::object::{Objects, verify};
use crate::git::write::{ObjectSet, Row};
use crate::record::ids::{CommitId, RelPath};

/// A source inside admit: a commit made of files, in memory. The same files give the same commit everywhere.
#[derive(Clone)]
pub struct Embedded {
    /// The name in `embedded:<name>`.
    pub name: String,
    pub commit: CommitId,
    objects: ObjectSet,
}

/// Author and committer of every embedded commit, at the first second of 2026.
const SIGNATURE: &str = "admit <admit@localhost> 1767225600 +0000";

impl Embedded {
    /// Makes the commit of `files` (path, content, executable).
    ///
    /// # Errors
    /// [`Reason::Internal`] where a path is given twice or is also a directory.
    pub fn new(
        name: impl Into<String>,
        files: impl IntoIterator<Item = (RelPath, Vec<u8>, bool)>,
    ) -> Result<Self> {
        let (name, files) = (name.into(), Vec::from_iter(files));
        let mut rows: Vec<Row<'_>> = Vec::new();
        for (path, data, executable) in &files {
            rows.push((path.as_str(), if *executable { "100755" } else { "100644" }, data));
        }
        let mut objects = ObjectSet::default();
        let commit = objects.commit(&rows, None, SIGNATURE, &name)?;
        Ok(Self { name, commit, objects })
    }
}

impl Objects for Embedded {
    fn read(&self, id: Oid, kind: ObjectKind) -> Result<Vec<u8>> {
        let (found, data) = self.objects.0.get(&id).ok_or_else(|| {
            Error::new(Reason::RevNotInRemote, "the commit is not in the embedded source")
                .at(format!("embedded:{}", self.name))
                .expected(id.to_string())
        })?;
        verify(id, kind, *found, data, &self.name)?;
        Ok(data.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::object::{commit, walk};
    use crate::host::tests::git;

    fn files(list: &[(&str, &str, bool)]) -> Vec<(RelPath, Vec<u8>, bool)> {
        list.iter().map(|(p, d, x)| (p.parse().unwrap(), d.as_bytes().to_vec(), *x)).collect()
    }

    #[test]
    fn the_commit_is_what_git_makes_of_the_same_files() {
        // Sorting is where a hand-made tree goes wrong: `a.b` < `a/` < `a0`.
        let list = files(&[("a/x", "1\n", false), ("a.b", "2\n", true), ("a0", "3\n", false)]);
        let made = Embedded::new("demo", list).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| git(dir.path(), args);
        git(&["init", "-q"]);
        std::fs::create_dir(dir.path().join("a")).unwrap();
        for (path, data) in [("a/x", "1\n"), ("a.b", "2\n"), ("a0", "3\n")] {
            std::fs::write(dir.path().join(path), data).unwrap();
        }
        git(&["add", "."]);
        git(&["update-index", "--chmod=+x", "a.b"]);
        git(&["commit", "-q", "-m", "demo"]);
        assert_eq!(made.commit.as_str(), git(&["rev-parse", "HEAD"]));
        let parsed = commit(&made, &made.commit).unwrap();
        assert_eq!(parsed.tree.as_str(), git(&["rev-parse", "HEAD^{tree}"]));
        assert_eq!(parsed.time, 1_767_225_600);
        let mut seen = Vec::new();
        walk(&made, &parsed.tree, &mut |path, _, _| {
            seen.push(path.to_string());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["a.b", "a", "a/x", "a0"]);
    }

    #[test]
    fn a_path_given_twice_is_refused() {
        for twice in
            [[("a", "1", false), ("a", "2", false)], [("a", "1", false), ("a/b", "2", false)]]
        {
            assert!(Embedded::new("demo", files(&twice)).is_err());
        }
        assert!(Embedded::new("d", files(&[("a/b", "2", false), ("a", "1", false)])).is_err());
    }
}
