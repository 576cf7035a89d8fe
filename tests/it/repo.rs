//! Git repositories of tests, made with git itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use admit::record::ids::CommitId;

use crate::files;
use crate::util::{Run, World};

/// A repository made with git itself.
pub struct Repo(pub PathBuf);

impl Repo {
    pub fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let repo = Self(dir.to_owned());
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command
            .args(args)
            .current_dir(&self.0)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.0)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_DATE", "1700000000 +0100")
            .env("GIT_COMMITTER_DATE", "1700000001 +0100");
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@t");
        }
        command
    }

    pub fn git(&self, args: &[&str]) -> String {
        self.git_with(args, b"")
    }

    pub fn git_with(&self, args: &[&str], input: &[u8]) -> String {
        String::from_utf8(self.bytes(args, input)).unwrap().trim().to_owned()
    }

    pub fn bytes(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    pub fn write(&self, path: &str, data: &str) -> &Self {
        files::write(self.0.join(path), data);
        self
    }

    pub fn commit(&self) -> CommitId {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "m"]);
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    /// A commit of a tree with these raw bytes; git itself would refuse to make most of them.
    pub fn commit_raw_tree(&self, entries: &[(&str, &str, &str)]) -> CommitId {
        let mut data = Vec::new();
        for (mode, name, id) in entries {
            data.extend(format!("{mode} {name}\0").as_bytes());
            data.extend(hex::decode(id).unwrap());
        }
        let args = ["hash-object", "-t", "tree", "--literally", "-w", "--stdin"];
        let tree = self.git_with(&args, &data);
        self.git(&["commit-tree", "-m", "m", &tree]).parse().unwrap()
    }
}

/// Where a world's sources are.
pub fn mirror(world: &World) -> PathBuf {
    world.path().join("mirror")
}

/// That what stands at `https://provider.invalid/NAME.git` is taken from there.
pub fn from_mirror(world: &World) -> String {
    format!("https://provider.invalid/=file://{}/", mirror(world).display())
}

#[track_caller]
pub fn on_mirror(world: &World, args: &[&str]) -> Run {
    world.admit(&[args, &["--mirror", &from_mirror(world)]].concat())
}

/// Commits `files` in the repository at `repo`, which is made where it is not there, and gives the commit.
pub fn commit(repo: &Path, files: &[(&str, &str)]) -> String {
    let repo = Repo::new(repo);
    for (path, text) in files {
        repo.write(path, text);
    }
    // What a file of the commit itself has git ignore, too.
    repo.git(&["add", "--all", "--force"]);
    repo.commit().to_string()
}
