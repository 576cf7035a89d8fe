//! The parts of an ELF64 file that say where things sit: header, program headers, section headers.
//!
//! Only what is needed to find and prove the module graph of a compiled Bun executable. Every offset is checked
//! against the file before it is used; nothing is allocated for a count that the file has no bytes for.
//! Field positions: System V gABI, "ELF Header", "Sections" and "Program Header".

use std::ops::Range;

use crate::error::{Error, Reason, Result};

pub const HEADER: usize = 64;
pub const PROGRAM_HEADER: usize = 56;
pub const SECTION_HEADER: usize = 64;
/// Position of `e_shoff` in the file header.
pub const E_SHOFF: usize = 0x28;
/// `PT_LOAD`: a segment that is mapped into memory.
pub const PT_LOAD: u32 = 1;
/// `PT_GNU_STACK`: says whether the stack is executable; carries no bytes.
pub const PT_GNU_STACK: u32 = 0x6474_e551;
/// `SHT_NOBITS`: a section without bytes in the file.
pub const SHT_NOBITS: u32 = 8;

/// Little-endian `u16` at `at`, if the bytes are there.
pub fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Little-endian `u32` at `at`, if the bytes are there.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Little-endian `u64` at `at`, if the bytes are there.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// `offset..offset + len`, if it lies within a file of `size` bytes.
pub fn span(offset: u64, len: u64, size: usize) -> Option<Range<usize>> {
    let start = usize::try_from(offset).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    (end <= size).then_some(start..end)
}

/// `value` rounded up to a multiple of `align`, which must be a power of two (0 counts as 1).
pub fn align_up(value: u64, align: u64) -> Option<u64> {
    let align = align.max(1);
    if !align.is_power_of_two() {
        return None;
    }
    Some(value.checked_add(align - 1)? & !(align - 1))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `p_type`.
    pub kind: u32,
    /// `p_offset`: where its bytes begin in the file.
    pub offset: u64,
    /// `p_vaddr`: where they are in memory.
    pub vaddr: u64,
    /// `p_filesz`: bytes in the file.
    pub filesz: u64,
    /// `p_memsz`: bytes in memory.
    pub memsz: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// Name from the section name table, as bytes.
    pub name: &'a [u8],
    /// `sh_type`.
    pub kind: u32,
    /// `sh_addr`: where it is in memory; 0 if it is not loaded.
    pub addr: u64,
    /// `sh_offset`: where it is in the file.
    pub offset: u64,
    /// `sh_size` in bytes.
    pub size: u64,
    /// `sh_addralign`.
    pub align: u64,
}

/// An ELF64 little-endian file: its headers, and the bytes they speak of.
#[derive(Clone, Debug)]
pub struct Elf<'a> {
    pub bytes: &'a [u8],
    pub phoff: u64,
    pub shoff: u64,
    pub segments: Vec<Segment>,
    pub sections: Vec<Section<'a>>,
}

impl<'a> Elf<'a> {
    /// Reads the headers. Errors ([`Reason::BadExecutable`]): not ELF64 little-endian, header sizes other than the
    /// gABI's, tables or names outside the file, no section headers.
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        let start = bytes.get(..HEADER).ok_or_else(|| {
            bad("not an ELF file: shorter than its header")
                .expected(format!("{HEADER} bytes"))
                .found(format!("{} bytes", bytes.len()))
        })?;
        if &start[..4] != b"\x7fELF" {
            return Err(bad("not an ELF file")
                .expected("7f454c46 at byte 0")
                .found(hex::encode(&start[..4])));
        }
        if start[4] != 2 || start[5] != 1 {
            return Err(bad("not a 64-bit little-endian ELF file")
                .expected("class 2, data 1")
                .found(format!("class {}, data {}", start[4], start[5])));
        }
        // The header was checked to be there, so these reads cannot fail.
        let half = |at| usize::from(u16_at(start, at).unwrap_or(0));
        let word = |at| u64_at(start, at).unwrap_or(0);
        let (phoff, shoff) = (word(0x20), word(E_SHOFF));
        let (phentsize, phnum) = (half(0x36), half(0x38));
        let (shentsize, shnum, shstrndx) = (half(0x3a), half(0x3c), half(0x3e));
        if shoff == 0 || shnum == 0 {
            return Err(bad("no section headers, so the file does not say where its graph is")
                .expected("section headers")
                .found("none"));
        }
        if phentsize != PROGRAM_HEADER || shentsize != SECTION_HEADER {
            return Err(bad("header entries of an unknown size")
                .expected(format!("{PROGRAM_HEADER} and {SECTION_HEADER} bytes"))
                .found(format!("{phentsize} and {shentsize} bytes")));
        }
        let table = |what: &str, offset: u64, entry: usize, count: usize| {
            span(offset, (entry * count) as u64, bytes.len()).ok_or_else(|| {
                bad(format!("{what} outside the file"))
                    .expected(format!("at most byte {}", bytes.len()))
                    .found(format!("{count} entries at byte {offset}"))
            })
        };
        let programs = table("program headers", phoff, PROGRAM_HEADER, phnum)?;
        let headers = table("section headers", shoff, SECTION_HEADER, shnum)?;
        let segments =
            bytes[programs].chunks_exact(PROGRAM_HEADER).filter_map(segment).collect::<Vec<_>>();
        let raw = &bytes[headers];
        let names = raw
            .chunks_exact(SECTION_HEADER)
            .nth(shstrndx)
            .and_then(|h| span(u64_at(h, 24)?, u64_at(h, 32)?, bytes.len()))
            .map(|range| &bytes[range])
            .ok_or_else(|| bad("section name table outside the file"))?;
        let sections = raw
            .chunks_exact(SECTION_HEADER)
            .map(|header| section(header, names))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| bad("a section's name is outside the section name table"))?;
        Ok(Self { bytes, phoff, shoff, segments, sections })
    }

    /// Index of the only section called `name`. Errors: none, or more than one, since a second one could be a decoy.
    pub fn only_section(&self, name: &str) -> Result<usize> {
        let mut found = self.sections.iter().enumerate().filter(|(_, s)| s.name == name.as_bytes());
        let index = found.next().map(|(index, _)| index).ok_or_else(|| {
            bad(format!("no section {name}")).hint("is this an executable that Bun compiled?")
        })?;
        match found.count() {
            0 => Ok(index),
            more => Err(bad(format!("more than one section {name}"))
                .expected("1")
                .found((more + 1).to_string())),
        }
    }

    /// Where in the file the `len` bytes at memory address `addr` come from: through the one `PT_LOAD` segment that
    /// holds all of them. None if no segment does, or if more than one claims the address.
    pub fn file_offset(&self, addr: u64, len: u64) -> Option<u64> {
        let end = addr.checked_add(len)?;
        let mut holders = self.segments.iter().filter(|s| {
            s.kind == PT_LOAD
                && s.vaddr <= addr
                && s.vaddr.checked_add(s.memsz.max(s.filesz)).is_some_and(|top| addr < top)
        });
        let segment = holders.next()?;
        if holders.next().is_some() || end > segment.vaddr.checked_add(segment.filesz)? {
            return None;
        }
        segment.offset.checked_add(addr - segment.vaddr)
    }
}

fn segment(header: &[u8]) -> Option<Segment> {
    Some(Segment {
        kind: u32_at(header, 0)?,
        offset: u64_at(header, 8)?,
        vaddr: u64_at(header, 16)?,
        filesz: u64_at(header, 32)?,
        memsz: u64_at(header, 40)?,
    })
}

fn section<'a>(header: &[u8], names: &'a [u8]) -> Option<Section<'a>> {
    let tail = names.get(u32_at(header, 0)? as usize..)?;
    let len = tail.iter().position(|b| *b == 0)?;
    Some(Section {
        name: &tail[..len],
        kind: u32_at(header, 4)?,
        addr: u64_at(header, 16)?,
        offset: u64_at(header, 24)?,
        size: u64_at(header, 32)?,
        align: u64_at(header, 48)?,
    })
}

/// An executable that cannot be read.
pub(super) fn bad(what: impl Into<String>) -> Error {
    Error::new(Reason::BadExecutable, what)
}
