//! A compiled Bun executable on Linux: where its module graph sits, by both readings, and what is in it.
//!
//! The graph is the content of the ELF section `.bun`: `u64 n`, then `n` bytes of payload, then zeros. That is the
//! **section's** reading. The **runtime** never looks at section headers: it reads one word, at the place where the plain
//! Bun has its empty `.bun` section, as the memory address of the graph. A file whose two readings differ shows one
//! program to a reader and runs another, so it is refused.

use super::elf::{Elf, align_up, bad, span, u64_at};
use super::graph::{Graph, SECTION, word_of};
use super::inject;
use crate::error::{Error, Reason, Result};
use crate::record::report::Runtime;

/// The first Bun whose executables have the section. Those before it append the graph to the file (seen with 1.3.4 and
/// 1.3.11), which admit does not read.
pub const FIRST: &str = "1.3.12";

/// Whether executables of this version have the section. One that is no plain version is not known.
pub fn has_section(version: &str) -> bool {
    let core = |text: &str| -> Option<Vec<u32>> {
        text.split('-').next()?.split('.').map(|part| part.parse().ok()).collect()
    };
    core(version).is_some_and(|found| Some(found) >= core(FIRST))
}

/// A compiled executable whose two readings agree.
#[derive(Clone, Debug)]
pub struct Executable<'a> {
    pub bytes: &'a [u8],
    /// Where the graph's length word is in the file; the payload follows it.
    pub graph_at: usize,
    pub word_at: usize,
    pub graph: Graph<'a>,
}

impl<'a> Executable<'a> {
    /// Reads a compiled executable by itself. The runtime's word is looked for where the section before `.bun` ends,
    /// which holds for every Bun seen (1.3.13, 1.3.14, 1.4.4) but is told by the file itself; only
    /// [`Executable::read_on`] takes it from a Bun that is known.
    ///
    /// Errors: `bad_executable` (not ELF, not compiled by Bun, plain Bun, malformed), `runtime_mismatch` (the two
    /// readings differ).
    pub fn read(bytes: &'a [u8]) -> Result<Self> {
        let elf = Elf::read(bytes)?;
        let index = elf.only_section(SECTION)?;
        let (graph_at, payload) = section_reading(&elf, index)?;
        let word_at = index
            .checked_sub(1)
            .and_then(|before| elf.sections.get(before))
            .and_then(|before| before.addr.checked_add(before.size))
            .and_then(|end| align_up(end, elf.sections[index].align))
            .and_then(|addr| elf.file_offset(addr, 8))
            .and_then(|at| usize::try_from(at).ok())
            .ok_or_else(|| bad("no place for the runtime's word before the section .bun"))?;
        Self::agree(&elf, graph_at, payload, word_at)
    }

    /// Reads an executable that was compiled with `base`, the plain Bun: the runtime's word is where `base` has it.
    ///
    /// Errors: as [`Executable::read`], and where `base` is not a plain Bun.
    pub fn read_on(base: &[u8], bytes: &'a [u8]) -> Result<Self> {
        let word_at = word_of(&Elf::read(base)?)?;
        let elf = Elf::read(bytes)?;
        let index = elf.only_section(SECTION)?;
        let (graph_at, payload) = section_reading(&elf, index)?;
        Self::agree(&elf, graph_at, payload, word_at)
    }

    fn agree(elf: &Elf<'a>, graph_at: usize, payload: &'a [u8], word_at: usize) -> Result<Self> {
        let word = u64_at(elf.bytes, word_at)
            .ok_or_else(|| bad("the runtime's word is outside the file"))?;
        let runtime_at = elf.file_offset(word, 8 + payload.len() as u64);
        if runtime_at != Some(graph_at as u64) {
            let found = match (word, runtime_at) {
                (0, _) => "no graph (the word is 0: the file runs as plain Bun)".to_owned(),
                (_, Some(at)) => format!("byte {at} (address {word:#x})"),
                (_, None) => format!("address {word:#x}, which no loaded segment holds"),
            };
            return Err(Error::new(
                Reason::RuntimeMismatch,
                "the graph that the runtime runs is not the one that the section shows",
            )
            .expected(format!("byte {graph_at} (section {SECTION})"))
            .found(format!("{found} (word at byte {word_at})"))
            .hint("do not run this file: what a reader sees of it is not what it does"));
        }
        Ok(Self { bytes: elf.bytes, graph_at, word_at, graph: Graph::read(payload)? })
    }

    /// The build report's record of this file. `proven` is true if `base` is given and [`inject::prove_runtime`] holds.
    pub fn runtime(&self, base: Option<&[u8]>) -> Runtime {
        Runtime {
            proven: base.is_some_and(|base| inject::prove_runtime(base, self.bytes).is_ok()),
            modules: self.graph.modules.len(),
            graph_size: self.graph.size(),
            flags: self.graph.flags,
            autoload_bunfig: self.graph.autoload_bunfig(),
            autoload_dotenv: self.graph.autoload_dotenv(),
            exec_argv: self.graph.argv.to_owned(),
            ..Runtime::default()
        }
    }
}

/// The section's reading: where the length word is, and the payload behind it.
fn section_reading<'a>(elf: &Elf<'a>, index: usize) -> Result<(usize, &'a [u8])> {
    let section = &elf.sections[index];
    let range = span(section.offset, section.size, elf.bytes.len())
        .filter(|range| range.len() >= 8)
        .ok_or_else(|| {
            bad("section .bun outside the file")
                .expected(format!("within {} bytes", elf.bytes.len()))
                .found(format!("{} bytes at {}", section.size, section.offset))
        })?;
    let body = &elf.bytes[range.clone()];
    let count = u64_at(body, 0).unwrap_or(0);
    if count == 0 {
        return Err(bad("this is Bun itself: there is no module graph in it"));
    }
    // sh_size is 8 + n in every layout seen; a longer section would be room for a second graph.
    if Some(section.size) != count.checked_add(8) {
        return Err(bad("section .bun is not as long as the graph in it")
            .expected(format!("8 + {count} bytes"))
            .found(format!("{} bytes", section.size)));
    }
    if elf.file_offset(section.addr, section.size) != Some(section.offset) {
        return Err(bad("section .bun is not loaded from where it stands in the file")
            .expected(format!("byte {}", section.offset))
            .found(format!("address {:#x}", section.addr)));
    }
    Ok((range.start, &body[8..]))
}
