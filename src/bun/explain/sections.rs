//! Differences of parts: the sections of ELF files, or a whole file as one byte range.

use std::collections::BTreeMap;

use serde::Serialize;

use super::pair::Pair;
use crate::bun::elf::{Elf, SHT_NOBITS, span};
use crate::bun::inject::first_difference;

/// Bytes of a difference that are shown.
const WINDOW: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartDifference {
    pub name: String,
    /// Sizes in bytes; 0 where a file has no such part.
    pub size: Pair<usize>,
    /// First byte that differs, counted from the part's beginning; where the shorter one ends if that is all.
    pub first: usize,
    /// Bytes of the part, from `first` on, within which all differences are.
    pub span: Pair<usize>,
    /// The bytes there, in hex, cut to 16.
    pub bytes: Pair<String>,
}

pub(super) fn part(name: &str, a: &[u8], b: &[u8]) -> Option<PartDifference> {
    (a != b).then(|| difference(name, a, b))
}

pub(super) fn difference(name: &str, a: &[u8], b: &[u8]) -> PartDifference {
    let first = first_difference(a, b).unwrap_or_else(|| a.len().min(b.len()));
    let (left, right) = (&a[first..], &b[first..]);
    let tail = left.iter().rev().zip(right.iter().rev()).take_while(|(x, y)| x == y).count();
    let bytes = |side: &[u8]| hex::encode(&side[..side.len().min(WINDOW)]);
    PartDifference {
        name: name.to_owned(),
        size: Pair::new(a.len(), b.len()),
        first,
        span: Pair::new(left.len() - tail, right.len() - tail),
        bytes: Pair::new(bytes(left), bytes(right)),
    }
}

/// Sections that differ in their bytes, and those that only one file has. A further section of one name is numbered.
/// Nothing where sections overlap: their names would then say nothing, and comparing them could take for ever.
pub(super) fn sections(a: &Elf<'_>, b: &Elf<'_>) -> Vec<PartDifference> {
    let (Some(left), Some(right)) = (by_name(a), by_name(b)) else {
        return Vec::new();
    };
    let only_b = right.keys().filter(|name| !left.contains_key(*name));
    left.keys()
        .chain(only_b)
        .filter_map(|key| {
            let (name, copy) = (String::from_utf8_lossy(key.0), key.1);
            let name = if copy == 0 { name.into_owned() } else { format!("{name} ({})", copy + 1) };
            let (x, y) = (left.get(key).copied(), right.get(key).copied());
            part(&name, x.unwrap_or(&[]), y.unwrap_or(&[]))
        })
        .collect()
}

/// Name, and how many sections of that name come before.
type Key<'a> = (&'a [u8], usize);
type Sections<'a> = BTreeMap<Key<'a>, &'a [u8]>;

fn by_name<'a>(elf: &Elf<'a>) -> Option<Sections<'a>> {
    let mut seen: BTreeMap<&[u8], usize> = BTreeMap::new();
    let mut out = BTreeMap::new();
    let mut total = 0usize;
    for section in elf.sections.iter().filter(|s| s.kind != SHT_NOBITS && s.size > 0) {
        let bytes = &elf.bytes[span(section.offset, section.size, elf.bytes.len())?];
        total = total.checked_add(bytes.len()).filter(|total| *total <= elf.bytes.len())?;
        let copy = seen.entry(section.name).or_default();
        out.insert((section.name, *copy), bytes);
        *copy += 1;
    }
    Some(out)
}
