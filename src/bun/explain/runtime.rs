//! The runtimes of two compiled executables: everything but the graph.

use std::sync::LazyLock;

use regex::bytes::Regex;
use serde::Serialize;

use super::pair::Pair;
use super::sections::{PartDifference, part, sections};
use crate::bun::elf::{E_SHOFF, Elf, HEADER, PROGRAM_HEADER, PT_LOAD, SECTION_HEADER, SHT_NOBITS};
use crate::bun::exe::Executable;
use crate::bun::graph::SECTION;
use crate::bun::inject::prove_runtime;

#[derive(Clone, Copy, Debug)]
pub struct KnownBun<'a> {
    pub label: &'a str,
    pub bytes: &'a [u8],
}

#[derive(Clone, Debug, Serialize)]
pub struct RuntimeDifference {
    /// Whether both are the same, but for where the graph's size shows in the headers.
    pub same: bool,
    /// The known Bun that each was proven to be.
    pub proven: Pair<Option<String>>,
    /// The version that each calls itself; not a proof.
    pub claimed: Pair<Option<String>>,
    pub parts: Vec<PartDifference>,
}

/// The words in which every Bun since 1.0 names itself in its crash reports.
static CLAIM: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"Bun v([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,4})").expect("a fixed pattern")
});

/// The version that an executable calls itself, for people to read. Anybody can write it there.
pub fn claimed_version(bytes: &[u8]) -> Option<String> {
    let found = CLAIM.captures(bytes)?.get(1)?;
    Some(String::from_utf8_lossy(found.as_bytes()).into_owned())
}

pub fn proven(bytes: &[u8], known: &[KnownBun<'_>]) -> Option<String> {
    known.iter().find(|bun| prove_runtime(bun.bytes, bytes).is_ok()).map(|bun| bun.label.to_owned())
}

pub(super) fn compare(
    a: &Executable<'_>,
    b: &Executable<'_>,
    known: &[KnownBun<'_>],
) -> RuntimeDifference {
    let parts = parts(a, b);
    let same = parts.is_empty();
    let claim = |exe: &Executable<'_>| claimed_version(&exe.bytes[..exe.graph_at]);
    let claimed = if same {
        let one = claim(a);
        Pair::new(one.clone(), one)
    } else {
        Pair::new(claim(a), claim(b))
    };
    RuntimeDifference {
        same,
        proven: Pair::new(proven(a.bytes, known), proven(b.bytes, known)),
        claimed,
        parts,
    }
}

/// The parts that differ although the graph does not explain it.
fn parts(a: &Executable<'_>, b: &Executable<'_>) -> Vec<PartDifference> {
    let (Ok(elf_a), Ok(elf_b)) = (Elf::read(a.bytes), Elf::read(b.bytes)) else {
        return Vec::new();
    };
    let head = |elf: &Elf<'_>| HEADER + elf.segments.len() * PROGRAM_HEADER;
    let mut out = Vec::new();
    // Before the graph: nothing there depends on it but the headers. Equal code here is the common case and one memcmp.
    let (code_a, code_b) = (&a.bytes[head(&elf_a)..a.graph_at], &b.bytes[head(&elf_b)..b.graph_at]);
    if code_a != code_b {
        out = sections(&elf_a, &elf_b);
        out.retain(|part| part.name != SECTION);
        if out.is_empty() {
            out.extend(part("code and data outside the sections", code_a, code_b));
        }
    }
    out.extend(part("program headers", &outline(&elf_a, a), &outline(&elf_b, b)));
    out.extend(part("section headers", &table(&elf_a, a), &table(&elf_b, b)));
    if out.is_empty() {
        out.extend(part("sections that are not loaded", behind(&elf_a, a), behind(&elf_b, b)));
        out.extend(part("bytes behind the section headers", rest(&elf_a), rest(&elf_b)));
        out.extend(part("padding behind the graph", padding(&elf_a, a), padding(&elf_b, b)));
    }
    out
}

/// File header and program headers without what the graph's size decides: where the section headers are, and the size
/// of the segment that holds the graph.
fn outline(elf: &Elf<'_>, exe: &Executable<'_>) -> Vec<u8> {
    let len = HEADER + elf.segments.len() * PROGRAM_HEADER;
    let mut out = elf.bytes.get(..len).unwrap_or(&[]).to_vec();
    let mut clear = |at: usize, len: usize| {
        if let Some(bytes) = out.get_mut(at..at + len) {
            bytes.fill(0);
        }
    };
    clear(E_SHOFF, 8);
    for (at, segment) in elf.segments.iter().enumerate() {
        let end = segment.offset.saturating_add(segment.filesz);
        if segment.kind == PT_LOAD && (segment.offset..end).contains(&(exe.graph_at as u64)) {
            clear(HEADER + at * PROGRAM_HEADER + 32, 16);
        }
    }
    out
}

/// The section headers without what the graph's size decides: its own size, and the offsets of what stands behind it.
fn table(elf: &Elf<'_>, exe: &Executable<'_>) -> Vec<u8> {
    let start = usize::try_from(elf.shoff).unwrap_or(usize::MAX);
    let len = elf.sections.len() * SECTION_HEADER;
    let mut out = elf.bytes.get(start..start.saturating_add(len)).unwrap_or(&[]).to_vec();
    for (header, section) in out.chunks_exact_mut(SECTION_HEADER).zip(&elf.sections) {
        if section.offset >= exe.graph_at as u64 {
            header[24..32].fill(0);
        }
        if section.name == SECTION.as_bytes() {
            header[32..40].fill(0);
        }
    }
    out
}

/// Where what follows the graph begins: the first section behind it, else the section headers.
fn behind_at(elf: &Elf<'_>, exe: &Executable<'_>) -> usize {
    let sections = elf.sections.iter().filter(|s| s.kind != SHT_NOBITS);
    let first = sections.map(|s| s.offset).filter(|at| *at > exe.graph_at as u64).min();
    usize::try_from(first.unwrap_or(elf.shoff).min(elf.shoff)).unwrap_or(usize::MAX)
}

/// What stands between the graph and the section headers, without the padding.
fn behind<'a>(elf: &Elf<'_>, exe: &Executable<'a>) -> &'a [u8] {
    let end = usize::try_from(elf.shoff).unwrap_or(0);
    exe.bytes.get(behind_at(elf, exe)..end).unwrap_or(&[])
}

/// The bytes between the graph and what follows it, without zeros at their end: their number depends on the graph.
fn padding<'a>(elf: &Elf<'_>, exe: &Executable<'a>) -> &'a [u8] {
    let start = exe.graph_at + 8 + exe.graph.payload.len();
    let bytes = exe.bytes.get(start..behind_at(elf, exe)).unwrap_or(&[]);
    let len = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    &bytes[..len]
}

fn rest<'a>(elf: &Elf<'a>) -> &'a [u8] {
    let at = usize::try_from(elf.shoff).unwrap_or(usize::MAX);
    elf.bytes.get(at.saturating_add(elf.sections.len() * SECTION_HEADER)..).unwrap_or(&[])
}
