//! `admit completions SHELL` and `admit man`: both made from the command line's own definition, so neither can be old.

use std::path::PathBuf;

use clap_complete::Shell;
use serde_json::json;

use super::app::App;
use crate::error::{Error, Result};
use crate::root::write_atomic;
use crate::ui::{self, Mark};

/// Print the completions of a shell
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Print the manual page of admit, or write those of every command
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Write a page for every command into this directory
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn exec(app: &App, args: &Args, whole: clap::Command) -> Result<u8> {
    let mut bytes = Vec::new();
    clap_complete::generate(args.shell, &mut visible(whole), "admit", &mut bytes);
    app.ui.raw(&bytes);
    Ok(0)
}

pub(super) fn man(app: &App, args: &Man, whole: clap::Command) -> Result<u8> {
    let Some(dir) = &args.out else {
        app.ui.raw(&page(visible(whole))?);
        return Ok(0);
    };
    let dir = app.context.host.absolute(dir);
    let mut names = Vec::new();
    let mut all = Vec::new();
    pages(visible(whole), "admit", "admit", &mut all);
    for (name, command) in all {
        let name = format!("{name}.1");
        write_atomic(&dir.join(&name), &page(command)?, 0o644)?;
        names.push(name);
    }
    let pages = ui::count(names.len(), "page", "pages");
    app.ui.verdict(Mark::Good, "written", &format!("{pages} in {}", dir.display()));
    app.ui.json(&json!({ "schema": "admit.man/1", "directory": dir, "pages": names }));
    Ok(0)
}

fn page(command: clap::Command) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let rendered = clap_mangen::Man::new(command).render(&mut bytes);
    rendered.map_err(|err| Error::io("write", "a manual page", err))?;
    Ok(bytes)
}

/// Every command below `command` with the name of its page.
fn pages(command: clap::Command, name: &str, typed: &str, out: &mut Vec<(String, clap::Command)>) {
    for below in command.get_subcommands().cloned().collect::<Vec<_>>() {
        let name = format!("{name}-{}", below.get_name());
        let title: &'static str = String::leak(name.clone());
        let typed = format!("{typed} {}", below.get_name());
        pages(below.display_name(title).bin_name(typed.clone()), &name, &typed, out);
    }
    out.push((name.to_owned(), command));
}

/// `command` without what no help lists.
fn visible(command: clap::Command) -> clap::Command {
    let name: &'static str = String::leak(command.get_name().to_owned());
    let mut out = clap::Command::new(name);
    if command.get_version().is_some() {
        out = out.version(env!("CARGO_PKG_VERSION"));
    }
    if let Some(about) = command.get_about() {
        out = out.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        out = out.long_about(about.clone());
    }
    if let Some(help) = command.get_after_help() {
        out = out.after_help(help.clone());
    }
    out = out.args(command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned());
    let below = command.get_subcommands().filter(|below| !below.is_hide_set());
    out.subcommands(below.cloned().map(visible).collect::<Vec<_>>())
}
