//! `admit inspect FILE`: what is in a compiled Bun executable, read without running it.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::app::App;
use crate::bun::explain::KnownBun;
use crate::bun::inspect::{Inspection, inspect};
use crate::error::{Error, Reason, Result};
use crate::record;
use crate::ui::Mark;

/// Show the runtime, flags and modules of a compiled Bun executable, without running it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The executable
    file: PathBuf,
    /// A plain Bun that the runtime inside may be, to prove it byte for byte; may be repeated
    #[arg(long, value_name = "FILE")]
    bun: Vec<PathBuf>,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let bytes = read(&args.file)?;
    let buns = Buns::read(&args.bun)?;
    let found =
        inspect(&bytes, &buns.known()).map_err(|err| err.at(args.file.display().to_string()))?;
    let mut value = record::to_value(&found);
    value["schema"] = json!("admit.inspection/1");
    app.ui.json(&value);
    print(app, &found);
    // Asked whether it is one of these, the answer may be no.
    Ok(u8::from(!args.bun.is_empty() && found.runtime.proven.is_none()))
}

fn print(app: &App, found: &Inspection) {
    let (runtime, graph) = (&found.runtime, &found.graph);
    app.ui.line(&format!("{}  {} bytes", found.sha256, found.size));
    let claimed = runtime.claimed.as_deref().unwrap_or("an unknown version");
    match &runtime.proven {
        Some(bun) => app.ui.row(Mark::Good, "runtime", &format!("{bun}, byte for byte")),
        None if runtime.mismatches.is_empty() => {
            app.ui.row(Mark::Note, "runtime", &format!("calls itself {claimed}; not proven"));
            app.ui.detail("fix", "give the plain Bun with --bun FILE");
        }
        None => app.ui.row(Mark::Bad, "runtime", &format!("calls itself {claimed}")),
    }
    for not in runtime.mismatches.iter().filter(|_| runtime.proven.is_none()) {
        app.ui.detail(&format!("is not {}", not.bun), &not.mismatch.to_string());
    }
    let mark = if graph.unexplained == 0 { Mark::Good } else { Mark::Bad };
    let text = format!("{} bytes, {} unexplained", graph.size, graph.unexplained);
    app.ui.row(mark, "graph", &text);
    let loads =
        |what: &str, yes: bool| format!("{what} {}", if yes { "loaded" } else { "ignored" });
    let mark = if graph.autoload_bunfig || graph.autoload_dotenv { Mark::Note } else { Mark::Good };
    let (bunfig, dotenv) =
        (loads("bunfig.toml", graph.autoload_bunfig), loads(".env", graph.autoload_dotenv));
    app.ui.row(mark, "working directory", &format!("{bunfig}, {dotenv} ({:#x})", graph.flags));
    let mark = if graph.exec_argv.is_empty() { Mark::Good } else { Mark::Note };
    app.ui.row(mark, "compiled arguments", &format!("{:?}", graph.exec_argv));
    app.ui.row(Mark::Good, "entry", &graph.entry.escape_debug().to_string());
    for module in &found.modules {
        app.ui.line(&format!("\n{}", module.name.escape_debug()));
        for region in &module.regions {
            let (field, size) = (region.field, region.size);
            app.ui.line(&format!("  {field:<12} {size:>10}  {}", region.sha256));
        }
    }
}

/// The given plain Buns, in memory.
pub(super) struct Buns(Vec<(String, Vec<u8>)>);

impl Buns {
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self> {
        let one = |path: &PathBuf| Ok((path.display().to_string(), read(path)?));
        paths.iter().map(one).collect::<Result<_>>().map(Self)
    }

    pub(super) fn known(&self) -> Vec<KnownBun<'_>> {
        self.0.iter().map(|(label, bytes)| KnownBun { label, bytes }).collect()
    }
}

/// A regular file, whole.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let facts = std::fs::metadata(path).map_err(|err| match err.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(Reason::NotFound, "no such file").at(path.display().to_string())
        }
        _ => Error::io("read", path, err),
    })?;
    if !facts.is_file() {
        return Err(
            Error::new(Reason::BadArgument, "not a regular file").at(path.display().to_string())
        );
    }
    std::fs::read(path).map_err(|err| Error::io("read", path, err))
}
