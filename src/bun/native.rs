//! An executable that is no Bun: which machine it is for and what it loads before its own code runs. Only the program
//! headers are read, as the kernel and the loader do; a stripped file has no more.
//!
//! Field positions: System V gABI, "ELF Header", "Program Header", "Dynamic Section".

use super::elf::{HEADER, PROGRAM_HEADER, PT_LOAD, bad, span, u16_at, u32_at, u64_at};
use crate::error::Result;
use crate::record::report::{Linkage, Native};

const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
/// Entries of a dynamic section that are read; a linker writes some thirty.
const ENTRIES: usize = 4096;

/// Reads an executable's headers. Errors (`bad_executable`): not ELF64 little-endian, no executable (an object, a
/// library without a loader and without an entry), headers or names outside the file.
pub fn read(bytes: &[u8]) -> Result<Native> {
    let head = bytes.get(..HEADER).filter(|head| &head[..4] == b"\x7fELF").ok_or_else(|| {
        bad("not an ELF file")
            .expected("7f454c46 at byte 0")
            .found(hex::encode(bytes.get(..4).unwrap_or(bytes)))
    })?;
    if head[4] != 2 || head[5] != 1 {
        return Err(bad("not a 64-bit little-endian ELF file")
            .expected("class 2, data 1")
            .found(format!("class {}, data {}", head[4], head[5])));
    }
    // The header was checked to be there, so these reads cannot fail.
    let half = |at| u16_at(head, at).unwrap_or(0);
    let (kind, machine) = (half(0x10), half(0x12));
    let (size, count) = (usize::from(half(0x36)), usize::from(half(0x38)));
    if !matches!(kind, 2 | 3) || u64_at(head, 0x18) == Some(0) {
        return Err(bad("an ELF file that is no program")
            .expected("type 2 or 3 with an entry")
            .found(format!("type {kind}")));
    }
    let table = u64_at(head, 0x20)
        .filter(|_| size == PROGRAM_HEADER)
        .and_then(|at| span(at, (count * size) as u64, bytes.len()))
        .ok_or_else(|| bad("program headers outside the file"))?;
    let headers: Vec<&[u8]> = bytes[table].chunks_exact(PROGRAM_HEADER).collect();
    let of = |kind: u32| headers.iter().find(move |h| u32_at(h, 0) == Some(kind));
    let content = |header: &&[u8]| {
        let range = span(u64_at(header, 8)?, u64_at(header, 32)?, bytes.len())?;
        Some(&bytes[range])
    };
    let outside = || bad("the loader's name or tables outside the file");
    let interpreter = match of(PT_INTERP) {
        None => None,
        Some(header) => Some(text(content(header).ok_or_else(outside)?).ok_or_else(outside)?),
    };
    let mut needed = Vec::new();
    if let Some(header) = of(PT_DYNAMIC) {
        let entries = dynamic(content(header).ok_or_else(outside)?);
        let strings = entries.iter().find(|(tag, _)| *tag == DT_STRTAB).map(|(_, at)| *at);
        for (_, name) in entries.iter().filter(|(tag, _)| *tag == DT_NEEDED) {
            let found = strings
                .and_then(|table| table.checked_add(*name))
                .and_then(|addr| in_file(&headers, addr))
                .and_then(|at| text(bytes.get(usize::try_from(at).ok()?..)?));
            needed.push(found.ok_or_else(outside)?);
        }
    }
    let dynamic = interpreter.is_some() || !needed.is_empty();
    let linkage = if dynamic { Linkage::Dynamic } else { Linkage::Static };
    let machine = match machine {
        62 => "x86-64".to_owned(),
        183 => "aarch64".to_owned(),
        other => other.to_string(),
    };
    Ok(Native { machine, linkage, interpreter, needed })
}

pub fn words(native: &Native) -> String {
    let mut out = format!("{}, {}", native.machine, native.linkage.as_str());
    if let Some(loader) = &native.interpreter {
        out.push_str(&format!(", loaded by {}", loader.escape_debug()));
    }
    if !native.needed.is_empty() {
        out.push_str(&format!(", needs {}", native.needed.join(" ").escape_debug()));
    }
    out
}

/// The tags and values up to the end mark.
fn dynamic(bytes: &[u8]) -> Vec<(u64, u64)> {
    let entries = bytes.chunks_exact(16).take(ENTRIES);
    let entries = entries.map(|e| (u64_at(e, 0).unwrap_or(0), u64_at(e, 8).unwrap_or(0)));
    entries.take_while(|(tag, _)| *tag != 0).collect()
}

/// Where in the file an address comes from.
fn in_file(headers: &[&[u8]], addr: u64) -> Option<u64> {
    headers.iter().filter(|h| u32_at(h, 0) == Some(PT_LOAD)).find_map(|header| {
        let (offset, start) = (u64_at(header, 8)?, u64_at(header, 16)?);
        let within = addr.checked_sub(start)?;
        (within < u64_at(header, 32)?).then(|| offset.checked_add(within))?
    })
}

/// The text up to its NUL; a path or a library's name is no longer than 4 KiB.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().take(4096).position(|byte| *byte == 0)?;
    std::str::from_utf8(&bytes[..end]).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bun::sample;

    #[test]
    fn a_loader_or_a_library_makes_it_dynamic() {
        let plain = sample::native(None, &[]);
        let found = read(&plain).unwrap();
        assert_eq!((found.linkage, found.machine.as_str()), (Linkage::Static, "x86-64"));
        let found = read(&sample::native(Some("/lib/ld.so"), &["libc.so.6", "libm.so.6"]));
        let found = found.unwrap();
        assert_eq!(found.linkage, Linkage::Dynamic);
        assert_eq!(found.interpreter.as_deref(), Some("/lib/ld.so"));
        assert_eq!(found.needed, ["libc.so.6", "libm.so.6"]);
        // A library without a loader of its own is loaded all the same.
        let found = read(&sample::native(None, &["libevil.so"])).unwrap();
        assert_eq!(found.linkage, Linkage::Dynamic);
    }

    #[test]
    fn what_is_no_program_or_is_cut_off_is_refused() {
        let good = sample::native(Some("/lib/ld.so"), &["libc.so.6"]);
        for cut in 0..good.len() - 1 {
            // Never a panic; what is missing is an error as long as it is needed.
            let _ = read(&good[..cut]);
        }
        assert!(read(&good[..100]).is_err());
        assert!(read(b"#!/bin/sh\n").is_err());
        let mut object = good.clone();
        object[0x10] = 1;
        assert!(read(&object).is_err());
    }
}
