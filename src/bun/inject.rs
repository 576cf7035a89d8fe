//! The proof that a compiled executable is a known Bun with a module graph in it, and nothing else.
//!
//! `bun build --compile` copies its own executable and injects the graph. What it changes is fixed by the base and the
//! graph's length alone, so every byte of the compiled file outside the payload can be predicted. The proof walks the
//! file once and compares: no second copy is made. Layouts (measured by rebuilding the outputs of the versions named):
//!
//! - **expanded** (1.3.14, 1.4.4): the last loaded segment grows over its zero-filled memory and holds the graph at its
//!   end; what followed it in the file moves back.
//! - **appended** (1.3.13): the graph is put behind the end of the file, the `PT_GNU_STACK` entry becomes a read-only
//!   `PT_LOAD` of it, and a copy of the section headers follows.
//!
//! In both, `.bun`'s section header and the word where the plain Bun has its empty `.bun` section point to the graph.

use std::borrow::Cow;
use std::fmt;

use super::elf::{
    E_SHOFF, Elf, HEADER, PROGRAM_HEADER, PT_GNU_STACK, PT_LOAD, SECTION_HEADER, SHT_NOBITS,
    align_up, span, u16_at, u64_at,
};
use super::graph::{SECTION, word_of};
use crate::error::{Error, Reason};

/// The graph starts and ends on pages of this size on x86-64 (1.3.13, 1.3.14, 1.4.4, measured), whatever the segments say.
const PAGE: u64 = 4096;
/// The same on AArch64 (1.3.14, measured).
const PAGE_AARCH64: u64 = 65_536;
/// `e_machine` of AArch64, and where it is in the file header.
const AARCH64: u16 = 183;
const E_MACHINE: usize = 0x12;
/// Bytes of a difference that are shown.
const WINDOW: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Bun 1.3.14 and later.
    Expanded,
    /// Bun 1.3.13.
    Appended,
}

/// The first difference between the compiled file and the known Bun with the graph injected.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Mismatch {
    /// Byte of the compiled file.
    pub offset: u64,
    /// What should be there, as hex or words.
    pub expected: String,
    pub found: String,
    /// The part of the file, or why nothing could be predicted.
    pub what: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at byte {}: expected {}, found {}",
            self.what, self.offset, self.expected, self.found
        )
    }
}

impl Mismatch {
    /// The refusal (`runtime_mismatch`) that this difference means where a proof is required.
    pub fn into_error(self) -> Error {
        let what = "the runtime inside the executable is not the pinned Bun";
        Error::new(Reason::RuntimeMismatch, what)
            .at(format!("{}, byte {}", self.what, self.offset))
            .expected(self.expected)
            .found(self.found)
    }
}

/// Proves that `compiled` is `base` (a plain Bun) with a module graph injected: every byte but the payload is predicted
/// from `base` and equal, and the file ends where it should. What the payload is, [`super::graph::Graph`] says.
///
/// Errors: the first difference, or (at offset 0) why nothing can be predicted: an unreadable file, a layout that is not known.
pub fn prove_runtime(base: &[u8], compiled: &[u8]) -> Result<Layout, Mismatch> {
    prove_runtime_while(base, compiled, &mut || ())
}

/// As [`prove_runtime`], and calls `passed` after every few megabytes compared: a caller that mapped the two files can
/// then let their pages go.
///
/// Errors: as [`prove_runtime`].
pub fn prove_runtime_while(
    base: &[u8],
    compiled: &[u8],
    passed: &mut dyn FnMut(),
) -> Result<Layout, Mismatch> {
    let base = Elf::read(base).map_err(|err| unknown("the given Bun", &err))?;
    let word_at = word_of(&base).map_err(|err| unknown("the given Bun", &err))?;
    let target = Elf::read(compiled).map_err(|err| unknown("the executable", &err))?;
    // The stack entry is data of the compiled file, but it only chooses which prediction is tried.
    let stack = base.segments.iter().position(|s| s.kind == PT_GNU_STACK);
    let appended =
        stack.and_then(|at| target.segments.get(at)).is_some_and(|entry| entry.kind == PT_LOAD);
    let layout = if appended { Layout::Appended } else { Layout::Expanded };
    let predicted = Prediction::new(&base, word_at)
        .and_then(|f| match layout {
            Layout::Expanded => f.expanded(compiled),
            Layout::Appended => f.appended(compiled, stack?),
        })
        .ok_or_else(|| not_predicted(&base, word_at, compiled))?;
    compare(&predicted, compiled, passed)?;
    Ok(layout)
}

/// Why nothing could be predicted. Mostly the file was compiled with another Bun: then the code differs, which says more
/// than headers that do not fit.
fn not_predicted(base: &Elf<'_>, word_at: usize, compiled: &[u8]) -> Mismatch {
    let head = HEADER + base.segments.len() * PROGRAM_HEADER;
    let code = base.bytes.get(head..word_at).unwrap_or(&[]);
    let found = compiled.get(head..).unwrap_or(&[]);
    if let Some(first) = first_difference(code, found) {
        let bytes = |from: &[u8]| hex::encode(&from[first..from.len().min(first + WINDOW)]);
        return Mismatch {
            offset: (head + first) as u64,
            expected: bytes(code),
            found: bytes(found),
            what: "Bun's code and data".to_owned(),
        };
    }
    Mismatch {
        offset: 0,
        expected: "a Bun whose way of injecting is known (1.3.13, 1.3.14, 1.4.4)".to_owned(),
        found: "headers that do not fit it".to_owned(),
        what: "layout not known".to_owned(),
    }
}

fn unknown(which: &str, err: &Error) -> Mismatch {
    Mismatch {
        offset: 0,
        expected: err.expected_value().unwrap_or("a readable executable").to_owned(),
        found: err.found_value().unwrap_or("one that is not").to_owned(),
        what: format!("{which}: {err}"),
    }
}

struct Piece<'a> {
    what: &'static str,
    content: Content<'a>,
}

enum Content<'a> {
    Bytes(Cow<'a, [u8]>),
    Zeros(usize),
    /// The payload: any bytes, so many of them.
    Payload(usize),
}

/// What of the base decides the compiled file's bytes.
struct Prediction<'a, 'b> {
    base: &'b Elf<'a>,
    word_at: usize,
    /// End of file header and program headers.
    head: usize,
    /// First address after everything loaded, on a page.
    address: u64,
    table: std::ops::Range<usize>,
    /// Index of `.bun`.
    section: usize,
    /// What the graph is aligned to.
    page: u64,
}

impl<'a, 'b> Prediction<'a, 'b> {
    fn new(base: &'b Elf<'a>, word_at: usize) -> Option<Self> {
        // Bun's own executables have the program headers right behind the file header; nothing else has been seen.
        if base.phoff != HEADER as u64 {
            return None;
        }
        let mut top = 0;
        for segment in base.segments.iter().filter(|s| s.kind == PT_LOAD) {
            top = top.max(segment.vaddr.checked_add(segment.memsz)?);
        }
        let head = HEADER + base.segments.len() * PROGRAM_HEADER;
        let size = (base.sections.len() * SECTION_HEADER) as u64;
        let table = span(base.shoff, size, base.bytes.len())?;
        let section = base.only_section(SECTION).ok()?;
        let machine = u16_at(base.bytes, E_MACHINE)?;
        let page = if machine == AARCH64 { PAGE_AARCH64 } else { PAGE };
        let address = align_up(top, page)?;
        (word_at >= head).then_some(Self { base, word_at, head, address, table, section, page })
    }

    fn expanded(&self, compiled: &[u8]) -> Option<Vec<Piece<'a>>> {
        let index = self.base.segments.iter().rposition(|s| s.kind == PT_LOAD)?;
        let last = &self.base.segments[index];
        let end = usize::try_from(last.offset.checked_add(last.filesz)?).ok()?;
        let graph_at = last.offset.checked_add(self.address.checked_sub(last.vaddr)?)?;
        let (count, padding, body) = sizes(compiled, graph_at, self.page)?;
        let moved = graph_at.checked_add(body)?.checked_sub(end as u64)?;
        if self.word_at.checked_add(8)? > end || self.table.start < end {
            return None;
        }
        let bytes = self.base.bytes;
        let mut head = bytes.get(..self.head)?.to_vec();
        put(&mut head, E_SHOFF, self.base.shoff.checked_add(moved)?);
        let entry = HEADER + index * PROGRAM_HEADER;
        let size = self.address.checked_add(body)?.checked_sub(last.vaddr)?;
        put(&mut head, entry + 32, size);
        put(&mut head, entry + 40, size);
        let mut table = bytes[self.table.clone()].to_vec();
        for (at, section) in self.base.sections.iter().enumerate() {
            if section.offset >= end as u64 && section.kind != SHT_NOBITS {
                put(&mut table, at * SECTION_HEADER + 24, section.offset.checked_add(moved)?);
            }
        }
        self.point_section(&mut table, graph_at, count)?;
        Some(vec![
            owned("file and program headers", head),
            part("Bun's code and data", bytes.get(self.head..self.word_at)?),
            owned("the runtime's word", self.address.to_le_bytes().to_vec()),
            part("Bun's data", bytes.get(self.word_at + 8..end)?),
            zeros("zero-filled memory", usize::try_from(graph_at.checked_sub(end as u64)?).ok()?),
            owned("the graph's length", count.to_le_bytes().to_vec()),
            Piece { what: "payload", content: Content::Payload(usize::try_from(count).ok()?) },
            zeros("padding behind the graph", padding),
            part("sections that are not loaded", bytes.get(end..self.table.start)?),
            owned("section headers", table),
            part("bytes behind the section headers", bytes.get(self.table.end..)?),
        ])
    }

    fn appended(&self, compiled: &[u8], stack: usize) -> Option<Vec<Piece<'a>>> {
        let bytes = self.base.bytes;
        let graph_at = align_up(bytes.len() as u64, self.page)?;
        let (count, padding, body) = sizes(compiled, graph_at, self.page)?;
        let mut head = bytes.get(..self.head)?.to_vec();
        put(&mut head, E_SHOFF, graph_at.checked_add(body)?);
        let entry = HEADER + stack * PROGRAM_HEADER;
        // p_type PT_LOAD and p_flags R, then offset, both addresses, both sizes, alignment.
        put(&mut head, entry, u64::from(PT_LOAD) | 4 << 32);
        for (at, value) in
            [graph_at, self.address, self.address, body, body, self.page].into_iter().enumerate()
        {
            put(&mut head, entry + 8 + at * 8, value);
        }
        let mut table = bytes[self.table.clone()].to_vec();
        self.point_section(&mut table, graph_at, count)?;
        Some(vec![
            owned("file and program headers", head),
            part("Bun's code and data", bytes.get(self.head..self.word_at)?),
            owned("the runtime's word", self.address.to_le_bytes().to_vec()),
            part("Bun's data", bytes.get(self.word_at + 8..)?),
            zeros("padding before the graph", usize::try_from(graph_at).ok()? - bytes.len()),
            owned("the graph's length", count.to_le_bytes().to_vec()),
            Piece { what: "payload", content: Content::Payload(usize::try_from(count).ok()?) },
            zeros("padding behind the graph", padding),
            owned("section headers", table),
        ])
    }

    /// `.bun`'s header: address, offset and size of the graph.
    fn point_section(&self, table: &mut [u8], graph_at: u64, count: u64) -> Option<()> {
        let at = self.section * SECTION_HEADER;
        put(table, at + 16, self.address);
        put(table, at + 24, graph_at);
        put(table, at + 32, count.checked_add(8)?);
        Some(())
    }
}

/// The graph's length as the compiled file has it at `graph_at`, the zeros behind it, and the bytes of both with the
/// length word. None if it is not within the file.
fn sizes(compiled: &[u8], graph_at: u64, page: u64) -> Option<(u64, usize, u64)> {
    let count = u64_at(compiled, usize::try_from(graph_at).ok()?)?;
    if count > compiled.len() as u64 {
        return None;
    }
    let body = align_up(count + 8, page)?;
    Some((count, usize::try_from(body - count - 8).ok()?, body))
}

fn owned(what: &'static str, bytes: Vec<u8>) -> Piece<'static> {
    Piece { what, content: Content::Bytes(Cow::Owned(bytes)) }
}

fn part<'a>(what: &'static str, bytes: &'a [u8]) -> Piece<'a> {
    Piece { what, content: Content::Bytes(Cow::Borrowed(bytes)) }
}

fn zeros(what: &'static str, len: usize) -> Piece<'static> {
    Piece { what, content: Content::Zeros(len) }
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Walks the file and the pieces together; the first difference ends it.
fn compare(
    pieces: &[Piece<'_>],
    compiled: &[u8],
    passed: &mut dyn FnMut(),
) -> Result<(), Mismatch> {
    let mut at = 0;
    for piece in pieces {
        let rest = &compiled[at..];
        let len = match &piece.content {
            Content::Bytes(bytes) => bytes.len(),
            Content::Zeros(len) | Content::Payload(len) => *len,
        };
        let Some(found) = rest.get(..len) else {
            return Err(Mismatch {
                offset: compiled.len() as u64,
                expected: format!("{len} bytes from byte {at}"),
                found: format!("the end of the file after {}", rest.len()),
                what: piece.what.to_owned(),
            });
        };
        let first = match &piece.content {
            Content::Bytes(bytes) => difference_in_steps(bytes, found, passed),
            Content::Zeros(_) => found.iter().position(|b| *b != 0),
            Content::Payload(_) => None,
        };
        if let Some(first) = first {
            let window = first..len.min(first + WINDOW);
            let expected = match &piece.content {
                Content::Bytes(bytes) => hex::encode(&bytes[window.clone()]),
                _ => "00".repeat(window.len()),
            };
            return Err(Mismatch {
                offset: (at + first) as u64,
                expected,
                found: hex::encode(&found[window]),
                what: piece.what.to_owned(),
            });
        }
        at += len;
    }
    if at != compiled.len() {
        return Err(Mismatch {
            offset: at as u64,
            expected: "the end of the file".to_owned(),
            found: format!("{} more bytes", compiled.len() - at),
            what: "bytes behind the executable".to_owned(),
        });
    }
    Ok(())
}

/// [`first_difference`] in steps, with a call after each.
fn difference_in_steps(a: &[u8], b: &[u8], passed: &mut dyn FnMut()) -> Option<usize> {
    const STEP: usize = 8 << 20;
    for (step, (x, y)) in a.chunks(STEP).zip(b.chunks(STEP)).enumerate() {
        if let Some(at) = first_difference(x, y) {
            return Some(step * STEP + at);
        }
        passed();
    }
    None
}

/// Index of the first byte in which `a` and `b` differ, up to the shorter one's end.
pub(super) fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    // Equality of slices is one memcmp; the loop over single bytes only runs in the chunk that differs.
    const CHUNK: usize = 1 << 16;
    let chunk = a.chunks(CHUNK).zip(b.chunks(CHUNK)).position(|(x, y)| {
        let len = x.len().min(y.len());
        x[..len] != y[..len]
    })?;
    let start = chunk * CHUNK;
    a[start..].iter().zip(&b[start..]).position(|(x, y)| x != y).map(|at| start + at)
}
