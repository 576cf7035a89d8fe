//! The module graph inside a compiled Bun executable.
//!
//! Layout (the same record in Bun 1.3.13, 1.3.14 and 1.4.4, measured): the payload ends with 16 bytes
//! `\n---- Bun! ----\n`; the 32 bytes before them are `u64 byte_count` (payload without these 48 bytes),
//! `u32 modules_off, modules_len`, `u32 entry`, `u32 argv_off, argv_len`, `u32 flags`. A module record has 52 bytes:
//! six `{u32 off, u32 len}` (name, contents, source map, bytecode, module info, bytecode origin), then one byte each of
//! encoding, loader, format and side. Offsets count from the payload's first byte. Since 1.4 further tables may follow
//! the records, each announced by a flag.

use super::elf::{Elf, bad, span, u32_at, u64_at};
use crate::error::{Error, Result};

pub const SECTION: &str = ".bun";

/// Where a plain Bun has its word: the start of its empty `.bun` section. Errors: the word is not 0, so a graph is
/// in it already, or the section is not in the file.
pub(super) fn word_of(base: &Elf<'_>) -> Result<usize> {
    let section = &base.sections[base.only_section(SECTION)?];
    let range = span(section.offset, section.size, base.bytes.len())
        .filter(|range| range.len() >= 8)
        .ok_or_else(|| bad("section .bun outside the file"))?;
    match u64_at(base.bytes, range.start) {
        Some(0) => Ok(range.start),
        _ => Err(bad("the given Bun is not plain: it has a module graph of its own")),
    }
}

/// The last bytes of every payload. Never searched for: Bun's own data has a copy, and a module's text may have one.
pub const TRAILER: &[u8; 16] = b"\n---- Bun! ----\n";
/// Bytes of offsets and trailer at the payload's end.
const TAIL: usize = 48;
const RECORD: usize = 52;

/// Flag: `.env` files in the working directory are not loaded.
pub const NO_DOTENV: u32 = 1;
/// Flag: `bunfig.toml` in the working directory is not loaded.
pub const NO_BUNFIG: u32 = 1 << 1;
/// Flag: `tsconfig.json` or `jsconfig.json` of the working directory does not say where modules lie. Set unless
/// `--compile-autoload-tsconfig` was asked for.
pub const NO_TSCONFIG: u32 = 1 << 2;
/// Flag: `imports` and `exports` of the working directory's `package.json` do not say where modules lie. Set unless
/// `--compile-autoload-package-json` was asked for.
pub const NO_PACKAGE_JSON: u32 = 1 << 3;
/// Flag (1.4): one `u32` hash of each source follows the records.
const SOURCE_HASHES: u32 = 1 << 5;
/// Flag (1.4): a counted table of built-in bytecode follows.
const BUILTIN_BYTECODE: u32 = 1 << 6;
/// Flag (1.4): the place of the bytecode string table follows.
const BYTECODE_STRINGS: u32 = 1 << 7;
/// Flag (1.4): the number of modules evaluated at start follows.
const STARTUP_COUNT: u32 = 1 << 8;
/// Flag (1.4): the place of the module info strings follows.
const MODULE_INFO_STRINGS: u32 = 1 << 9;

/// Flag (1.4): the place of the module link table follows, then a counted list of module indices.
const MODULE_LINKS: u32 = 1 << 11;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region<'a> {
    /// First byte, counted from the payload's first byte.
    pub offset: u32,
    /// Length as the record has it; more than there are `bytes` where the rest is a later module's as well.
    pub len: u32,
    pub bytes: &'a [u8],
}

/// Bytes of the payload that hold more than zeros and that no record points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Gap {
    /// First byte, counted from the payload's first byte.
    pub offset: u64,
    pub size: u64,
    /// How many of them are not zero.
    pub nonzero: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// Name in Bun's virtual file system, such as `/$bunfs/root/app`.
    pub name: &'a str,
    /// The bundled text, or the bytes of an embedded file.
    pub contents: Region<'a>,
    /// Source map in Bun's internal form; empty without `--sourcemap`.
    pub sourcemap: Region<'a>,
    /// Bytecode; empty without `--bytecode`. Bun 1.4 can write one image for all modules, of which each record has
    /// everything from its own beginning to the image's end (3,513 records of up to 128 MB, seen): `bytes` are those
    /// up to the next record's beginning.
    pub bytecode: Region<'a>,
    /// Module information kept for bytecode; empty without it.
    pub module_info: Region<'a>,
    /// Path that the bytecode was made for; empty without it.
    pub origin: Region<'a>,
    /// 0 binary, 1 Latin-1, 2 UTF-16LE (1.4).
    pub encoding: u8,
    /// Seen: 1 JavaScript, 5 file, 10 native addon, 13 text.
    pub loader: u8,
    /// 0 none, 1 ES module, 2 CommonJS.
    pub format: u8,
    /// 1 if the file is listed in `Bun.embeddedFiles`.
    pub side: u8,
}

impl<'a> Module<'a> {
    /// Every region by the name that reports use, in the record's order.
    pub fn regions(&self) -> [(&'static str, Region<'a>); 5] {
        [
            ("contents", self.contents),
            ("sourcemap", self.sourcemap),
            ("bytecode", self.bytecode),
            ("module_info", self.module_info),
            ("origin", self.origin),
        ]
    }
}

/// The module graph: what the runtime will run, and whether all of its bytes are accounted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph<'a> {
    /// The whole payload, offsets and trailer included.
    pub payload: &'a [u8],
    pub modules: Vec<Module<'a>>,
    pub entry: u32,
    /// Arguments compiled in (`compile_exec_argv`), as one string; empty if none.
    pub argv: &'a str,
    pub flags: u32,
    /// Bytes of the payload that no region, terminator or zero padding explains.
    pub unexplained: u64,
    pub gaps: Vec<Gap>,
}

impl<'a> Graph<'a> {
    /// Reads a payload. Errors (`bad_executable`): no trailer at the end, offsets that leave the payload, an entry that
    /// is not a module, names that are not UTF-8 or not distinct.
    pub fn read(payload: &'a [u8]) -> Result<Self> {
        let body = payload.len().checked_sub(TAIL).ok_or_else(|| {
            bad("module graph shorter than its trailer").found(format!("{} bytes", payload.len()))
        })?;
        let (body, tail) = payload.split_at(body);
        if &tail[32..] != TRAILER {
            return Err(bad("module graph without its trailer")
                .expected(hex::encode(TRAILER))
                .found(hex::encode(&tail[32..])));
        }
        // The tail has its 48 bytes, so these reads cannot fail.
        let word = |at| u32_at(tail, at).unwrap_or(0);
        let count = u64_at(tail, 0).unwrap_or(0);
        if count != body.len() as u64 {
            return Err(bad("module graph names another length than it has")
                .expected(body.len().to_string())
                .found(count.to_string()));
        }
        let mut cover = Cover { body, taken: Vec::new() };
        let table = cover.take("module records", word(8), word(12), false)?;
        let argv = text(cover.take("compiled arguments", word(20), word(24), true)?)?;
        if table.bytes.len() % RECORD != 0 {
            return Err(bad("module records of an unknown size")
                .expected(format!("a multiple of {RECORD} bytes"))
                .found(format!("{} bytes", table.bytes.len())));
        }
        let mut modules = table
            .bytes
            .chunks_exact(RECORD)
            .map(|record| cover.module(record))
            .collect::<Result<Vec<_>>>()?;
        part_image(&mut modules);
        let (entry, flags) = (word(16), word(28));
        if entry as usize >= modules.len() {
            return Err(bad("the entry is not a module of the graph")
                .expected(format!("less than {}", modules.len()))
                .found(entry.to_string()));
        }
        let mut names: Vec<_> = modules.iter().map(|m| m.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(bad("two modules of one name").found(pair[0]));
        }
        cover.extensions(table, modules.len(), flags)?;
        let gaps = cover.gaps();
        let unexplained = gaps.iter().map(|gap| gap.nonzero).sum();
        Ok(Self { payload, modules, entry, argv, flags, unexplained, gaps })
    }

    pub fn entry_module(&self) -> &Module<'a> {
        &self.modules[self.entry as usize]
    }

    /// Bytes of the graph, offsets and trailer included.
    pub fn size(&self) -> u64 {
        self.payload.len() as u64
    }

    /// Whether `.env` files in the working directory are loaded when the binary starts.
    pub fn autoload_dotenv(&self) -> bool {
        self.flags & NO_DOTENV == 0
    }

    /// Whether `bunfig.toml` in the working directory is loaded, and with it any code that it preloads.
    pub fn autoload_bunfig(&self) -> bool {
        self.flags & NO_BUNFIG == 0
    }
}

struct Cover<'a> {
    body: &'a [u8],
    taken: Vec<(usize, usize)>,
}

impl<'a> Cover<'a> {
    /// The region at `offset`; `terminated` ones are followed by a NUL that is not counted in `len`.
    fn take(&mut self, what: &str, offset: u32, len: u32, terminated: bool) -> Result<Region<'a>> {
        // Bun writes absent regions as 0, 0.
        if len == 0 {
            return Ok(Region { offset, len, bytes: &[] });
        }
        let start = offset as usize;
        let bytes = start
            .checked_add(len as usize)
            .and_then(|end| self.body.get(start..end))
            .ok_or_else(|| outside(what, offset, len, self.body.len()))?;
        self.taken.push((start, start + bytes.len() + usize::from(terminated)));
        Ok(Region { offset, len, bytes })
    }

    fn module(&mut self, record: &[u8]) -> Result<Module<'a>> {
        let word = |at| u32_at(record, at).unwrap_or(0);
        let name = text(self.take("a module's name", word(0), word(4), true)?)?;
        let mut next =
            |what: &str, at: usize, nul: bool| self.take(what, word(at), word(at + 4), nul);
        Ok(Module {
            name,
            contents: next("a module's contents", 8, true)?,
            sourcemap: next("a module's source map", 16, false)?,
            bytecode: next("a module's bytecode", 24, false)?,
            module_info: next("a module's module info", 32, false)?,
            origin: next("a module's bytecode origin", 40, true)?,
            encoding: record[48],
            loader: record[49],
            format: record[50],
            side: record[51],
        })
    }

    /// The tables that flags announce behind the module records, in the order of their bits.
    fn extensions(&mut self, table: Region<'a>, modules: usize, flags: u32) -> Result<()> {
        let mut at = table.offset as usize + table.bytes.len();
        let start = at;
        let body = self.body;
        let mut word = |what: &str| {
            let value = u32_at(body, at).ok_or_else(|| bad(format!("{what} outside the graph")))?;
            at += 4;
            Ok::<_, Error>(value)
        };
        if flags & SOURCE_HASHES != 0 {
            for _ in 0..modules {
                word("source hashes")?;
            }
        }
        if flags & BUILTIN_BYTECODE != 0 {
            for _ in 0..word("built-in bytecode")? {
                word("built-in bytecode")?;
                let (offset, len) = (word("built-in bytecode")?, word("built-in bytecode")?);
                self.take("built-in bytecode", offset, len, false)?;
            }
        }
        if flags & BYTECODE_STRINGS != 0 {
            let (offset, len) = (word("bytecode strings")?, word("bytecode strings")?);
            self.take("bytecode strings", offset, len, false)?;
        }
        if flags & STARTUP_COUNT != 0 {
            word("startup count")?;
        }
        if flags & MODULE_INFO_STRINGS != 0 {
            let (offset, len) = (word("module info strings")?, word("module info strings")?);
            self.take("module info strings", offset, len, false)?;
        }
        if flags & MODULE_LINKS != 0 {
            let (offset, len) = (word("module links")?, word("module links")?);
            self.take("module links", offset, len, false)?;
            for _ in 0..word("module links")? {
                let index = word("module links")?;
                if index as usize >= modules {
                    return Err(bad("a module link to no module of the graph")
                        .expected(format!("less than {modules}"))
                        .found(index.to_string()));
                }
            }
        }
        self.taken.push((start, at));
        Ok(())
    }

    /// Bytes that are neither taken nor zero. A zero can hide nothing; anything else that no record points to can.
    fn gaps(mut self) -> Vec<Gap> {
        self.taken.sort_unstable();
        let mut gaps = Vec::new();
        let mut gap = |from: usize, to: usize| {
            let bytes = self.body.get(from..to.min(self.body.len())).unwrap_or(&[]);
            let Some(first) = bytes.iter().position(|byte| *byte != 0) else { return };
            let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(first);
            let bytes = &bytes[first..=last];
            gaps.push(Gap {
                offset: (from + first) as u64,
                size: bytes.len() as u64,
                nonzero: bytes.iter().filter(|byte| **byte != 0).count() as u64,
            });
        };
        let mut reached = 0;
        for (start, end) in self.taken {
            gap(reached, start);
            reached = reached.max(end);
        }
        gap(reached, self.body.len());
        gaps
    }
}

/// Gives each bytecode region the bytes up to where the next begins, if the next reaches as far as it does: every byte
/// stays some module's, and all of them together are no more than the payload.
fn part_image(modules: &mut [Module<'_>]) {
    let mut order: Vec<usize> =
        (0..modules.len()).filter(|at| modules[*at].bytecode.len > 0).collect();
    let end = |region: &Region<'_>| region.offset.saturating_add(region.len);
    order.sort_unstable_by_key(|at| {
        let region = &modules[*at].bytecode;
        (region.offset, end(region))
    });
    for pair in order.windows(2) {
        let (this, next) = (modules[pair[0]].bytecode, modules[pair[1]].bytecode);
        if this.offset < next.offset && next.offset < end(&this) && end(&next) >= end(&this) {
            let own = (next.offset - this.offset) as usize;
            modules[pair[0]].bytecode.bytes = &this.bytes[..own];
        }
    }
}

fn text(region: Region<'_>) -> Result<&str> {
    std::str::from_utf8(region.bytes).map_err(|_| {
        bad("a name in the module graph is not UTF-8")
            .found(String::from_utf8_lossy(region.bytes).into_owned())
    })
}

fn outside(what: &str, offset: u32, len: u32, size: usize) -> Error {
    bad(format!("{what} outside the graph"))
        .expected(format!("within {size} bytes"))
        .found(format!("{len} bytes at {offset}"))
}
