//! `admit inspect FILE`: what is in an executable, read without running it.

use std::path::PathBuf;

use serde_json::json;

use super::app::App;
use crate::build;
use crate::bun::graph::{Gap, NO_PACKAGE_JSON, NO_TSCONFIG};
use crate::bun::inspect::{Compiled, Content, Inspection};
use crate::bun::native;
use crate::error::Result;
use crate::record;
use crate::ui::{self, Mark};

/// Show the runtime, flags and modules of a compiled Bun executable, or how a native one is linked, without running it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The executable, or a provider whose output is in the store
    file: PathBuf,
    /// A plain Bun that the runtime inside may be, to prove it byte for byte; may be repeated (default: those of the
    /// locks that are in the store)
    #[arg(long, value_name = "FILE")]
    bun: Vec<PathBuf>,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let found = build::inspect(&app.context, &args.file, &args.bun)?;
    let mut value = record::to_value(&found);
    value["schema"] = json!("admit.inspection/2");
    app.ui.json(&value);
    print(app, &found);
    // Asked whether it is one of these, the answer may be no.
    let proven = match &found.content {
        Content::Bun(compiled) => compiled.runtime.proven.is_some(),
        Content::Native(_) => false,
    };
    Ok(u8::from(!args.bun.is_empty() && !proven))
}

fn print(app: &App, found: &Inspection) {
    let (mark, word, first) = match &found.content {
        Content::Native(native) => (Mark::Note, "native", native::words(native)),
        Content::Bun(compiled) => {
            let modules = ui::count(compiled.modules.len(), "module", "modules");
            match (&compiled.runtime.proven, compiled.graph.unexplained) {
                (Some(bun), 0) => {
                    (Mark::Good, "proven", format!("{bun}, byte for byte; {modules}"))
                }
                (Some(bun), bytes) => {
                    let what =
                        format!("{bun} with {bytes} bytes that nothing accounts for; {modules}");
                    (Mark::Bad, "not all known", what)
                }
                (None, _) => (Mark::Note, "not proven", format!("a Bun executable; {modules}")),
            }
        }
    };
    app.ui.verdict(mark, word, &first);
    match &found.content {
        Content::Native(_) => {
            app.ui.value("means", "no module graph of Bun in it: known by its digest alone");
        }
        Content::Bun(found) => compiled(app, found),
    }
    let size = ui::bytes(found.size);
    app.ui.verdict(mark, word, &format!("{} ({size})", found.sha256));
}

fn compiled(app: &App, found: &Compiled) {
    let (runtime, graph) = (&found.runtime, &found.graph);
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
    for gap in &graph.gaps {
        let Gap { offset, size, nonzero } = gap;
        app.ui.detail("unexplained", &format!("{nonzero} of {size} bytes from byte {offset}"));
    }
    let loads =
        |what: &str, yes: bool| format!("{what} is {}", if yes { "read" } else { "not read" });
    let tsconfig = graph.flags & NO_TSCONFIG == 0;
    let package = graph.flags & NO_PACKAGE_JSON == 0;
    let any = graph.autoload_bunfig || graph.autoload_dotenv || tsconfig || package;
    let mark = if any { Mark::Note } else { Mark::Good };
    let read = [
        loads("bunfig.toml", graph.autoload_bunfig),
        loads(".env", graph.autoload_dotenv),
        loads("tsconfig.json", tsconfig),
        loads("package.json", package),
    ];
    app.ui.row(mark, "working directory", &read.join(", "));
    let mark = if graph.exec_argv.is_empty() { Mark::Good } else { Mark::Note };
    app.ui.row(mark, "compiled arguments", &format!("{:?}", graph.exec_argv));
    app.ui.row(Mark::Good, "entry", &graph.entry.escape_debug().to_string());
    for module in &found.modules {
        app.ui.line(&format!("\n{}", module.name.escape_debug()));
        for region in &module.regions {
            let (field, size) = (region.field, region.size);
            let digest = region.sha256.as_deref().unwrap_or("not digested: regions overlap");
            let own = region
                .own
                .map(|own| format!("  (its first {own} bytes; the rest is a later module's too)"));
            app.ui.line(&format!("  {field:<12} {size:>10}  {digest}{}", own.unwrap_or_default()));
        }
    }
}
