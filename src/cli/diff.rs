//! `admit diff A B`: how two files differ, and why.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::app::App;
use crate::build;
use crate::bun::explain::text::Hunk;
use crate::bun::explain::{BunDifference, Difference, Explanation, PartDifference};
use crate::error::Result;
use crate::record;
use crate::ui::{self, Mark};

/// Explain how two files differ; compiled Bun executables down to the module and the line
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The first file, or a provider whose output is in the store
    a: PathBuf,
    /// The second file, or such a provider
    b: PathBuf,
    /// A plain Bun that a runtime inside may be, to prove it byte for byte; may be repeated (default: those of the
    /// locks that are in the store)
    #[arg(long, value_name = "FILE")]
    bun: Vec<PathBuf>,
    /// How many places of each module are shown; all are counted
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    hunks: usize,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let found = build::explain(&app.context, [&args.a, &args.b], &args.bun, args.hunks)?;
    let mut value = record::to_value(&found);
    value["schema"] = json!("admit.difference/1");
    app.ui.json(&value);
    print(app, &found, &args.a, &args.b);
    Ok(u8::from(!found.same))
}

fn print(app: &App, found: &Explanation, a: &Path, b: &Path) {
    let line = |text: String| app.ui.line(&text);
    if found.same {
        let what = format!("{} ({})", found.sha256.a, ui::bytes(found.size.a));
        return app.ui.verdict(Mark::Good, "same", &what);
    }
    let names = format!("{} and {}", a.display(), b.display());
    let causes = match &found.causes[..] {
        [] => "no known cause; where they differ is above".to_owned(),
        [one] => one.cause.to_string(),
        [one, more @ ..] => format!("{}; and {} more", one.cause, more.len()),
    };
    app.ui.verdict(Mark::Bad, "differ", &names);
    line(format!("a  {}  {} bytes", found.sha256.a, found.size.a));
    line(format!("b  {}  {} bytes", found.sha256.b, found.size.b));
    for note in &found.notes {
        line(format!("note: {note}"));
    }
    for blame in &found.causes {
        let times =
            if blame.count > 1 { format!(" ({} times)", blame.count) } else { String::new() };
        line(format!("cause: {}{times}", blame.cause.to_string().escape_debug()));
        let place = [&blame.module, &blame.source].into_iter().flatten().cloned();
        let lines = blame.line.as_ref().map(|l| format!("line {} and {}", l.a, l.b));
        let place: Vec<_> = place.chain(lines).collect();
        if !place.is_empty() {
            line(format!("       in {}", place.join(", ").escape_debug()));
        }
    }
    match &found.difference {
        Difference::Same => {}
        Difference::Bun(found) => bun(app, found),
        Difference::Elf { sections } => sections.iter().for_each(|s| part(app, s)),
        Difference::Text { hunks, hunks_total } => text(app, hunks, *hunks_total),
        Difference::Bytes { range } => part(app, range),
    }
    app.ui.verdict(Mark::Bad, "differ", &causes);
}

fn bun(app: &App, found: &BunDifference) {
    let line = |text: String| app.ui.line(&text);
    let runtime = &found.runtime;
    line(format!("\nruntime  {}", if runtime.same { "same" } else { "differs" }));
    for (side, proven, claimed) in
        [("a", &runtime.proven.a, &runtime.claimed.a), ("b", &runtime.proven.b, &runtime.claimed.b)]
    {
        line(match proven {
            Some(bun) => format!("  {side} is {bun}, byte for byte"),
            None => format!("  {side} calls itself {}", claimed.as_deref().unwrap_or("nothing")),
        });
    }
    runtime.parts.iter().for_each(|p| part(app, p));
    line(format!("modules  {} and {}", found.modules.a, found.modules.b));
    for (side, names) in [("a", &found.only_a), ("b", &found.only_b)] {
        for name in names {
            line(format!("  only in {side}: {}", name.escape_debug()));
        }
    }
    for module in &found.differing {
        line(format!("\n{}", module.name.a.escape_debug()));
        for field in &module.fields {
            let (name, size, first) = (field.field, &field.size, field.first);
            line(format!("  {name:<12} {} and {} bytes, from byte {first}", size.a, size.b));
        }
        text(app, &module.hunks, module.hunks_total);
    }
}

fn text(app: &App, hunks: &[Hunk], total: usize) {
    for hunk in hunks {
        hunk.unified().iter().for_each(|text| app.ui.line(text));
    }
    if total > hunks.len() {
        app.ui.line(&format!("({} more places; --hunks shows more)", total - hunks.len()));
    }
}

fn part(app: &App, part: &PartDifference) {
    let (name, first, span) = (part.name.escape_debug(), part.first, &part.span);
    let range = format!("bytes {first}..{} and {first}..{}", first + span.a, first + span.b);
    app.ui.line(&format!("  {name}: {range}: {} and {}", part.bytes.a, part.bytes.b));
}
