//! Why two files differ: for compiled Bun executables down to the line of the module, else by section or byte range.
//!
//! In the order in which a person would look: is it the runtime, the flags, the set of modules, the text of one, and
//! what does the difference look like ([`cause`])? Everything is told from the two files alone; a known Bun can be given
//! to have the runtimes proven.

pub mod cause;
mod modules;
mod pair;
mod runtime;
mod sections;
pub mod text;

use serde::Serialize;

use self::cause::{Blame, Blames, Cause};
use self::modules::is_text;
pub use self::modules::{FieldDifference, ModuleDifference};
pub use self::pair::Pair;
pub use self::runtime::{KnownBun, RuntimeDifference, claimed_version};
pub use self::sections::PartDifference;
use self::text::Hunk;
use super::elf::Elf;
use super::exe::Executable;
use crate::record::ids::Digest;

#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub same: bool,
    /// SHA-256 (`sha256:` and hex).
    pub sha256: Pair<String>,
    pub size: Pair<u64>,
    /// Likely causes, the most telling first. Each was seen in the files; that it is the only one is not claimed.
    pub causes: Vec<Blame>,
    /// Why a file was not read as a compiled Bun executable.
    pub notes: Vec<String>,
    #[serde(flatten)]
    pub difference: Difference,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum Difference {
    Same,
    Bun(Box<BunDifference>),
    Elf {
        sections: Vec<PartDifference>,
    },
    Text {
        hunks: Vec<Hunk>,
        hunks_total: usize,
    },
    Bytes {
        /// The one range outside which both are equal.
        range: PartDifference,
    },
}

#[derive(Clone, Debug, Serialize)]
pub struct BunDifference {
    pub runtime: RuntimeDifference,
    pub flags: Pair<u32>,
    pub entry: Pair<String>,
    pub argv: Pair<String>,
    pub modules: Pair<usize>,
    /// Bytes of the payloads that nothing accounts for.
    pub unexplained: Pair<u64>,
    pub only_a: Vec<String>,
    pub only_b: Vec<String>,
    pub reordered: bool,
    pub differing: Vec<ModuleDifference>,
}

/// Compares two files. At most `hunks` hunks a module are kept; all are counted, and looked at for causes.
pub fn diff(a: &[u8], b: &[u8], known: &[KnownBun<'_>], hunks: usize) -> Explanation {
    let same = a == b;
    let sha256 = Digest::sha256(a).to_string();
    let other = if same { sha256.clone() } else { Digest::sha256(b).to_string() };
    let mut notes = Vec::new();
    let mut blames = Blames::default();
    let difference = if same {
        Difference::Same
    } else {
        match (Executable::read(a), Executable::read(b)) {
            (Ok(a), Ok(b)) => {
                Difference::Bun(Box::new(compiled(&a, &b, known, hunks, &mut blames)))
            }
            (read_a, read_b) => {
                for (side, err) in [("a", read_a.err()), ("b", read_b.err())] {
                    if let Some(err) = err {
                        notes.push(note(side, &err));
                    }
                }
                plain(a, b, hunks, &mut blames)
            }
        }
    };
    Explanation {
        same,
        sha256: Pair::new(sha256, other),
        size: Pair::new(a.len() as u64, b.len() as u64),
        causes: blames.sorted(),
        notes,
        difference,
    }
}

/// Of files that are not compiled by Bun: by section where they are ELF, as text, or as one byte range.
fn plain(a: &[u8], b: &[u8], hunks: usize, blames: &mut Blames) -> Difference {
    if is_text(a) && is_text(b) {
        let spans = text::spans(a, b);
        cause::of_text(a, b, &spans, None, blames);
        let shown = text::hunks(a, b, &spans, hunks);
        return Difference::Text { hunks: shown, hunks_total: spans.len() };
    }
    blames.add(Blame::of(Cause::Content));
    if let (Ok(x), Ok(y)) = (Elf::read(a), Elf::read(b)) {
        let found = sections::sections(&x, &y);
        if !found.is_empty() {
            return Difference::Elf { sections: found };
        }
    }
    Difference::Bytes { range: sections::difference("file", a, b) }
}

fn note(side: &str, err: &crate::error::Error) -> String {
    let mut out = format!("{side}: not read as a compiled Bun executable: {err}");
    if let (Some(expected), Some(found)) = (err.expected_value(), err.found_value()) {
        out.push_str(&format!(" (expected {expected}, found {found})"));
    }
    out
}

fn compiled(
    a: &Executable<'_>,
    b: &Executable<'_>,
    known: &[KnownBun<'_>],
    hunks: usize,
    blames: &mut Blames,
) -> BunDifference {
    let runtime = runtime::compare(a, b, known);
    if !runtime.same {
        let name = |proven: &Option<String>, claimed: &Option<String>| match (proven, claimed) {
            (Some(label), _) => label.clone(),
            (None, Some(version)) => format!("one that calls itself {version}"),
            (None, None) => "an unknown one".to_owned(),
        };
        let a = name(&runtime.proven.a, &runtime.claimed.a);
        let b = name(&runtime.proven.b, &runtime.claimed.b);
        blames.add(Blame::of(Cause::Runtime(Pair::new(a, b))));
    }
    let (ga, gb) = (&a.graph, &b.graph);
    let flags = Pair::new(ga.flags, gb.flags);
    let argv = Pair::new(ga.argv.to_owned(), gb.argv.to_owned());
    if !flags.same() {
        blames.add(Blame::of(Cause::Flags(flags.clone())));
    }
    if !argv.same() {
        blames.add(Blame::of(Cause::Arguments(argv.clone())));
    }
    let found = modules::compare(ga, gb, hunks, blames);
    BunDifference {
        runtime,
        flags,
        entry: Pair::new(ga.entry_module().name.to_owned(), gb.entry_module().name.to_owned()),
        argv,
        modules: Pair::new(ga.modules.len(), gb.modules.len()),
        unexplained: Pair::new(ga.unexplained, gb.unexplained),
        only_a: found.only_a,
        only_b: found.only_b,
        reordered: found.reordered,
        differing: found.differing,
    }
}

#[cfg(test)]
mod tests;
