//! What a proposal is made from: the names of all files of a source, and the texts of the few that say how it is built.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use cap_std::fs::Dir;

use crate::build::source::LFS;
use crate::error::{Error, Reason, Result};
use crate::record::ids::RelPath;
use crate::store::StoredTree;

/// Largest script that is read, in bytes; a source's own lock may be larger.
const TEXT: u64 = 1 << 20;
const LOCK: u64 = 16 << 20;
/// Of all of them. Scripts above it are not looked at; a manifest or lock above it is no honest one.
const TEXTS: u64 = 40 << 20;

#[derive(Debug, Default)]
pub struct Seen {
    pub files: BTreeSet<String>,
    /// Manifests, locks and scripts.
    pub texts: BTreeMap<String, Vec<u8>>,
    /// Git-lfs pointers in place of files.
    pub pointers: Vec<RelPath>,
    /// Bytes in `texts`.
    held: u64,
}

impl Seen {
    /// # Errors
    /// [`Reason::Io`]; [`Reason::LimitHit`].
    pub fn of(tree: &StoredTree) -> Result<Seen> {
        let mut seen = Seen::default();
        seen.directory(&tree.dir()?, "")?;
        Ok(seen)
    }

    fn directory(&mut self, dir: &Dir, path: &str) -> Result<()> {
        let io = |err| Error::io("read the source", path, err);
        for entry in dir.entries().map_err(io)? {
            let entry = entry.map_err(io)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let at = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let meta = entry.metadata().map_err(io)?;
            if meta.is_dir() {
                self.directory(&entry.open_dir().map_err(io)?, &at)?;
                continue;
            }
            if meta.is_file() {
                let small = (LFS.len() as u64..1024).contains(&meta.len());
                let most = if name == "bun.lock" { LOCK } else { TEXT };
                let mut wanted = is_wanted(name) && meta.len() <= most;
                if wanted && self.held + meta.len() > TEXTS {
                    if ["package.json", "bun.lock"].contains(&name) {
                        return Err(Error::new(
                            Reason::LimitHit,
                            "the source's manifests and locks are larger than any honest ones",
                        )
                        .at(at)
                        .expected(format!("at most {TEXTS} bytes in all")));
                    }
                    wanted = false;
                }
                if small || wanted {
                    let mut bytes = Vec::new();
                    let file = entry.open().map_err(io)?;
                    file.take(most).read_to_end(&mut bytes).map_err(io)?;
                    if small && bytes.starts_with(LFS) {
                        self.pointers.extend(at.parse::<RelPath>());
                    }
                    if wanted {
                        self.held += bytes.len() as u64;
                        self.texts.insert(at.clone(), bytes);
                    }
                }
            }
            self.files.insert(at);
        }
        self.pointers.sort();
        Ok(())
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        std::str::from_utf8(self.texts.get(path)?).ok()
    }
}

/// Whether a file may say something about the build.
fn is_wanted(name: &str) -> bool {
    let names = ["package.json", "bun.lock", ".bun-version", ".tool-versions"];
    let ends = [".sh", ".ts", ".js", ".mjs", ".cjs", ".yml", ".yaml"];
    // Tests and declarations are many and say nothing.
    let noise = [".d.ts", ".test.ts", ".spec.ts"];
    names.contains(&name)
        || (ends.iter().any(|end| name.ends_with(end))
            && !noise.iter().any(|end| name.ends_with(end)))
}
