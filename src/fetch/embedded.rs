//! Sources inside admit: a commit made of files, in memory.

use std::collections::{BTreeMap, HashMap};

use git2::{ObjectType, Oid};

use crate::error::{Error, Reason, Result};
use crate::git::object::{Objects, verify};
use crate::record::ids::{CommitId, RelPath};

/// A source inside admit: a commit made of files, in memory. The same files give the same commit everywhere.
#[derive(Clone)]
pub struct Embedded {
    /// The name in `embedded:<name>`.
    pub name: String,
    pub commit: CommitId,
    objects: HashMap<Oid, (ObjectType, Vec<u8>)>,
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
        let name = name.into();
        let mut made = Self { commit: commit_id(Oid::ZERO_SHA1)?, objects: HashMap::new(), name };
        let mut root = Node::default();
        for (path, data, executable) in files {
            let id = made.add(ObjectType::Blob, data)?;
            let twice =
                || Error::new(Reason::Internal, "a path that is there twice").at(path.as_str());
            let mut node = &mut root;
            let parts: Vec<&str> = path.parts().collect();
            let (last, dirs) = parts.split_last().ok_or_else(twice)?;
            for dir in dirs {
                match node.0.entry((*dir).to_owned()).or_insert_with(|| Child::Dir(Node::default()))
                {
                    Child::Dir(below) => node = below,
                    Child::File(..) => return Err(twice()),
                }
            }
            if node.0.insert((*last).to_owned(), Child::File(id, executable)).is_some() {
                return Err(twice());
            }
        }
        let tree = made.add_tree(&root)?;
        let text =
            format!("tree {tree}\nauthor {SIGNATURE}\ncommitter {SIGNATURE}\n\n{}\n", made.name);
        let commit = made.add(ObjectType::Commit, text.into_bytes())?;
        made.commit = commit_id(commit)?;
        Ok(made)
    }

    fn add(&mut self, kind: ObjectType, data: Vec<u8>) -> Result<Oid> {
        let id = Oid::hash_object(kind, &data)
            .map_err(|err| Error::new(Reason::Internal, "cannot hash an object").caused_by(err))?;
        self.objects.insert(id, (kind, data));
        Ok(id)
    }

    fn add_tree(&mut self, node: &Node) -> Result<Oid> {
        // Git sorts a directory as if its name ended in a slash.
        let mut entries = BTreeMap::new();
        for (name, child) in &node.0 {
            let (key, mode, id) = match child {
                Child::Dir(below) => (format!("{name}/"), "40000", self.add_tree(below)?),
                Child::File(id, true) => (name.clone(), "100755", *id),
                Child::File(id, false) => (name.clone(), "100644", *id),
            };
            entries.insert(key, (mode, name, id));
        }
        let mut data = Vec::new();
        for (mode, name, id) in entries.values() {
            data.extend(format!("{mode} {name}\0").as_bytes());
            data.extend(id.as_bytes());
        }
        self.add(ObjectType::Tree, data)
    }
}

#[derive(Default)]
struct Node(BTreeMap<String, Child>);

enum Child {
    Dir(Node),
    File(Oid, bool),
}

fn commit_id(id: Oid) -> Result<CommitId> {
    id.to_string()
        .parse()
        .map_err(|err| Error::new(Reason::Internal, "not a commit id").caused_by(err))
}

impl Objects for Embedded {
    fn read(&self, id: Oid, kind: ObjectType) -> Result<Vec<u8>> {
        let (found, data) = self.objects.get(&id).ok_or_else(|| {
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

    fn files(list: &[(&str, &str, bool)]) -> Vec<(RelPath, Vec<u8>, bool)> {
        list.iter().map(|(p, d, x)| (p.parse().unwrap(), d.as_bytes().to_vec(), *x)).collect()
    }

    #[test]
    fn the_commit_is_what_git_makes_of_the_same_files() {
        // Sorting is where a hand-made tree goes wrong: `a.b` < `a/` < `a0`.
        let list = files(&[("a/x", "1\n", false), ("a.b", "2\n", true), ("a0", "3\n", false)]);
        let made = Embedded::new("demo", list).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let out = std::process::Command::new("git")
                .current_dir(dir.path())
                .args(args)
                .env_clear()
                .env("PATH", "/usr/local/bin:/usr/bin:/bin")
                .env("HOME", dir.path())
                .envs(["AUTHOR", "COMMITTER"].iter().flat_map(|who| {
                    [("NAME", "admit"), ("EMAIL", "admit@localhost"), ("DATE", "1767225600 +0000")]
                        .map(|(k, v)| (format!("GIT_{who}_{k}"), v))
                }))
                .output()
                .unwrap();
            assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap().trim().to_owned()
        };
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
