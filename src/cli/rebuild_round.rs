//! One build of `admit rebuild`, in a process of its own: what is around a process is set before anything else starts.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::app::App;
use crate::build::{self, Options};
use crate::error::Result;
use crate::host;
use crate::lock::{self, Spec};
use crate::record::ids::AbsPath;

/// Build once, as `admit rebuild` asks, and record nothing
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    spec: Spec,
    #[arg(long)]
    scratch: Option<PathBuf>,
    #[arg(long)]
    open_path: Option<AbsPath>,
    #[arg(long)]
    clock_ahead: Option<u32>,
    #[arg(long)]
    umask: Option<u32>,
    #[arg(long)]
    cpu: Option<usize>,
    #[arg(long)]
    step_timeout: u64,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    host::end_with_parent()?;
    if let Some(mask) = args.umask {
        host::umask(mask);
    }
    args.cpu.map_or(Ok(()), host::only_cpu)?;
    let locked = lock::resolve(&*app.context.root()?, &args.spec)?;
    let options = Options {
        scratch: args.scratch.clone(),
        step_wall: Some(Duration::from_secs(args.step_timeout)),
        open_path: args.open_path.clone(),
        clock_ahead: args.clock_ahead,
        ..Options::default()
    };
    let product = build::round(&app.context, &locked, &options)?;
    app.ui.json(&json!({ "schema": build::ROUND, "product": product }));
    Ok(0)
}
