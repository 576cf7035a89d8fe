//! Module by module: which are there, which regions differ, and the text around it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::cause::{self, Blame, Blames, Cause};
use super::pair::Pair;
use super::text::{self, Hunk};
use crate::bun::graph::{Graph, Module};
use crate::bun::inject::first_difference;
use crate::record::ids::Digest;

#[derive(Clone, Debug, Serialize)]
pub struct ModuleDifference {
    pub name: Pair<String>,
    pub fields: Vec<FieldDifference>,
    /// Encoding, loader, format and side, where they differ.
    pub kinds: Option<Pair<[u8; 4]>>,
    /// The first hunks of the contents, where they are text.
    pub hunks: Vec<Hunk>,
    pub hunks_total: usize,
}

#[derive(Clone, Debug, Serialize)]
pub struct FieldDifference {
    /// `contents`, `sourcemap`, `bytecode`, `module_info` or `origin`.
    pub field: &'static str,
    pub size: Pair<usize>,
    pub sha256: Pair<String>,
    /// First byte that differs; where the shorter one ends if that is all.
    pub first: usize,
}

pub(super) struct ModuleDifferences {
    pub(super) only_a: Vec<String>,
    pub(super) only_b: Vec<String>,
    pub(super) reordered: bool,
    pub(super) differing: Vec<ModuleDifference>,
}

pub(super) fn compare(
    a: &Graph<'_>,
    b: &Graph<'_>,
    hunks: usize,
    blames: &mut Blames,
) -> ModuleDifferences {
    let pairs = pairs(a, b);
    let in_a: BTreeSet<usize> = pairs.iter().map(|(x, _)| *x).collect();
    let in_b: BTreeSet<usize> = pairs.iter().map(|(_, y)| *y).collect();
    let rest = |graph: &Graph<'_>, paired: &BTreeSet<usize>| -> Vec<String> {
        let unpaired = graph.modules.iter().enumerate().filter(|(at, _)| !paired.contains(at));
        unpaired.map(|(_, module)| module.name.to_owned()).collect()
    };
    let (only_a, only_b) = (rest(a, &in_a), rest(b, &in_b));
    if !only_a.is_empty() || !only_b.is_empty() {
        blames.add(Blame::of(Cause::ModuleSet(Pair::new(only_a.len(), only_b.len()))));
    }
    let reordered = pairs.windows(2).any(|two| two[0].1 > two[1].1);
    if reordered {
        blames.add(Blame::of(Cause::Order { of: "modules".to_owned() }));
    }
    let differing = pairs
        .iter()
        .filter_map(|(x, y)| module(&a.modules[*x], &b.modules[*y], hunks, blames))
        .collect();
    ModuleDifferences { only_a, only_b, reordered, differing }
}

/// Modules that are each other's counterpart, by index, in the first graph's order: by name; then the entries; then
/// names that are equal but for the hash that Bun puts into the names of embedded files.
fn pairs(a: &Graph<'_>, b: &Graph<'_>) -> Vec<(usize, usize)> {
    let by_name = |graph: &Graph<'_>| -> BTreeMap<String, usize> {
        graph.modules.iter().enumerate().map(|(at, m)| (m.name.to_owned(), at)).collect()
    };
    let (mut left, mut right) = (by_name(a), by_name(b));
    let mut out = Vec::new();
    left.retain(|name, x| match right.remove(name) {
        Some(y) => {
            out.push((*x, y));
            false
        }
        None => true,
    });
    let entries = (a.entry_module().name, b.entry_module().name);
    if left.contains_key(entries.0) && right.contains_key(entries.1) {
        out.extend(left.remove(entries.0).zip(right.remove(entries.1)));
    }
    for (name, x) in left {
        let stem = without_hash(&name);
        let twin =
            right.keys().find(|other| stem.is_some() && without_hash(other) == stem).cloned();
        out.extend(twin.and_then(|twin| right.remove(&twin)).map(|y| (x, y)));
    }
    out.sort_unstable();
    out
}

/// `dir/name-<8 letters or digits>.ext` without the hash; None if there is none.
fn without_hash(name: &str) -> Option<(&str, &str)> {
    let (stem, suffix) = name.rsplit_once('.')?;
    let (stem, hash) = stem.rsplit_once('-')?;
    let hashed = hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_alphanumeric());
    hashed.then_some((stem, suffix))
}

fn module(
    a: &Module<'_>,
    b: &Module<'_>,
    limit: usize,
    blames: &mut Blames,
) -> Option<ModuleDifference> {
    let name = Pair::new(a.name.to_owned(), b.name.to_owned());
    let renamed = !name.same();
    if renamed {
        blames.add(Blame::of(Cause::EmbeddedName(name.clone())).in_module(a.name));
    }
    let fields: Vec<FieldDifference> = a
        .regions()
        .into_iter()
        .zip(b.regions())
        .filter(|((_, x), (_, y))| x.bytes != y.bytes)
        .map(|((field, x), (_, y))| FieldDifference {
            field,
            size: Pair::new(x.bytes.len(), y.bytes.len()),
            sha256: Pair::new(
                Digest::sha256(x.bytes).to_string(),
                Digest::sha256(y.bytes).to_string(),
            ),
            first: first_difference(x.bytes, y.bytes)
                .unwrap_or_else(|| x.bytes.len().min(y.bytes.len())),
        })
        .collect();
    let kinds = Pair::new(kinds(a), kinds(b));
    let kinds = (!kinds.same()).then_some(kinds);
    if !renamed && fields.is_empty() && kinds.is_none() {
        return None;
    }
    let mut out = ModuleDifference { name, fields, kinds, hunks: Vec::new(), hunks_total: 0 };
    let differs = |name: &str| out.fields.iter().any(|field| field.field == name);
    if differs("contents") {
        match (readable(a), readable(b)) {
            (Some(x), Some(y)) => {
                let spans = text::spans(&x, &y);
                cause::of_text(&x, &y, &spans, Some(a.name), blames);
                out.hunks = text::hunks(&x, &y, &spans, limit);
                out.hunks_total = spans.len();
            }
            _ => blames.add(Blame::of(Cause::Content).in_module(a.name)),
        }
    } else if differs("bytecode") || differs("module_info") {
        blames.add(Blame::of(Cause::BytecodeOnly).in_module(a.name));
    } else if differs("sourcemap") {
        blames.add(Blame::of(Cause::SourcemapOnly).in_module(a.name));
    }
    Some(out)
}

fn kinds(module: &Module<'_>) -> [u8; 4] {
    [module.encoding, module.loader, module.format, module.side]
}

/// The contents as text, if they are: as they are, or turned into UTF-8 where Bun stores UTF-16.
fn readable<'a>(module: &Module<'a>) -> Option<Cow<'a, [u8]>> {
    let bytes = module.contents.bytes;
    match module.encoding {
        2 => {
            let units = bytes.chunks_exact(2).map(|two| u16::from_le_bytes([two[0], two[1]]));
            let text: String = char::decode_utf16(units)
                .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect();
            Some(Cow::Owned(text.into_bytes()))
        }
        _ => is_text(bytes).then_some(Cow::Borrowed(bytes)),
    }
}

/// Whether bytes are text that can be shown: no NUL, and UTF-8 or (as Bun's bundles) Latin-1 without control bytes.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(1 << 16)];
    !head.iter().any(|b| *b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0x1b))
}
