//! All that an executable shows of itself, as a value for `admit inspect`.

use std::collections::HashMap;

use serde::Serialize;

use super::elf::Elf;
use super::exe::Executable;
use super::explain::{KnownBun, claimed_version};
use super::graph::{Gap, Region, SECTION};
use super::inject::{Layout, Mismatch, prove_runtime};
use super::native;
use crate::error::Result;
use crate::record::ids::Digest;
use crate::record::report::Native;

#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// SHA-256 of the file (`sha256:` and hex).
    pub sha256: String,
    /// Size of the file in bytes.
    pub size: u64,
    #[serde(flatten)]
    pub content: Content,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "format", rename_all = "lowercase")]
pub enum Content {
    Bun(Box<Compiled>),
    /// No section `.bun`: neither Bun nor compiled by it.
    Native(Native),
}

#[derive(Clone, Debug, Serialize)]
pub struct Compiled {
    pub runtime: RuntimeFacts,
    pub graph: GraphFacts,
    pub modules: Vec<ModuleFacts>,
}

#[derive(Clone, Debug, Serialize)]
pub struct RuntimeFacts {
    /// The version that the file calls itself; not a proof.
    pub claimed: Option<String>,
    /// The known Bun that it was proven to be, byte for byte.
    pub proven: Option<String>,
    /// How the graph was put in, where that is proven.
    pub layout: Option<Layout>,
    /// For each known Bun that it is not: the first difference.
    pub mismatches: Vec<NotThis>,
}

#[derive(Clone, Debug, Serialize)]
pub struct NotThis {
    pub bun: String,
    #[serde(flatten)]
    pub mismatch: Mismatch,
}

#[derive(Clone, Debug, Serialize)]
pub struct GraphFacts {
    /// First byte of the payload in the file.
    pub offset: u64,
    /// Bytes of the payload.
    pub size: u64,
    /// Bytes that nothing accounts for.
    pub unexplained: u64,
    pub gaps: Vec<Gap>,
    pub flags: u32,
    /// `bunfig.toml` in the working directory is loaded, and with it any code that it preloads.
    pub autoload_bunfig: bool,
    /// `.env` files in the working directory are loaded.
    pub autoload_dotenv: bool,
    pub entry: String,
    pub exec_argv: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct ModuleFacts {
    pub name: String,
    /// 0 binary, 1 Latin-1, 2 UTF-16LE.
    pub encoding: u8,
    /// Bun's number.
    pub loader: u8,
    /// 0 none, 1 ES module, 2 CommonJS.
    pub format: u8,
    /// 1 if it is listed in `Bun.embeddedFiles`.
    pub side: u8,
    pub regions: Vec<RegionFacts>,
}

#[derive(Clone, Debug, Serialize)]
pub struct RegionFacts {
    /// `contents`, `sourcemap`, `bytecode`, `module_info` or `origin`.
    pub field: &'static str,
    /// First byte, counted from the payload's.
    pub offset: u32,
    /// Bytes, as the record has it.
    pub size: u32,
    /// Where it is fewer than `size`: the first bytes that no later module's region has too. The digest is of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own: Option<usize>,
    /// SHA-256. Absent where the regions of the graph overlap so much that all of them hold more than twice its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Digests of regions, each place once, and of no more bytes than `left` in all: regions may overlap as their writer
/// likes, and the time that this takes may not.
struct Digests {
    known: HashMap<(u32, usize), String>,
    left: usize,
}

impl Digests {
    fn of(&mut self, region: &Region<'_>) -> Option<String> {
        let place = (region.offset, region.bytes.len());
        if let Some(known) = self.known.get(&place) {
            return Some(known.clone());
        }
        self.left = self.left.checked_sub(region.bytes.len())?;
        let digest = Digest::sha256(region.bytes).to_string();
        self.known.insert(place, digest.clone());
        Some(digest)
    }
}

/// Reads an executable and tries every known Bun. Errors: as [`Executable::read`] for one with a section `.bun`, else as
/// [`native::read`].
pub fn inspect(bytes: &[u8], known: &[KnownBun<'_>]) -> Result<Inspection> {
    let content = if is_bun(bytes) {
        Content::Bun(Box::new(compiled(bytes, known)?))
    } else {
        Content::Native(native::read(bytes)?)
    };
    Ok(Inspection { sha256: Digest::sha256(bytes).to_string(), size: bytes.len() as u64, content })
}

/// Whether a file has the section in which Bun keeps its graph, or more than one of them.
pub fn is_bun(bytes: &[u8]) -> bool {
    Elf::read(bytes).is_ok_and(|elf| elf.sections.iter().any(|s| s.name == SECTION.as_bytes()))
}

fn compiled(bytes: &[u8], known: &[KnownBun<'_>]) -> Result<Compiled> {
    let exe = Executable::read(bytes)?;
    let mut runtime = RuntimeFacts {
        claimed: claimed_version(&bytes[..exe.graph_at]),
        proven: None,
        layout: None,
        mismatches: Vec::new(),
    };
    for bun in known {
        match prove_runtime(bun.bytes, bytes) {
            Ok(layout) => {
                runtime.proven = Some(bun.label.to_owned());
                runtime.layout = Some(layout);
                break;
            }
            Err(mismatch) => {
                runtime.mismatches.push(NotThis { bun: bun.label.to_owned(), mismatch });
            }
        }
    }
    let graph = &exe.graph;
    let mut digests = Digests { known: HashMap::new(), left: graph.payload.len() * 2 };
    let modules = graph
        .modules
        .iter()
        .map(|module| ModuleFacts {
            name: module.name.to_owned(),
            encoding: module.encoding,
            loader: module.loader,
            format: module.format,
            side: module.side,
            regions: module
                .regions()
                .into_iter()
                .filter(|(_, region)| !region.bytes.is_empty())
                .map(|(field, region)| RegionFacts {
                    field,
                    offset: region.offset,
                    size: region.len,
                    own: (region.bytes.len() < region.len as usize).then_some(region.bytes.len()),
                    sha256: digests.of(&region),
                })
                .collect(),
        })
        .collect();
    Ok(Compiled {
        runtime,
        graph: GraphFacts {
            offset: exe.graph_at as u64 + 8,
            size: graph.size(),
            unexplained: graph.unexplained,
            gaps: graph.gaps.clone(),
            flags: graph.flags,
            autoload_bunfig: graph.autoload_bunfig(),
            autoload_dotenv: graph.autoload_dotenv(),
            entry: graph.entry_module().name.to_owned(),
            exec_argv: graph.argv.to_owned(),
        },
        modules,
    })
}
