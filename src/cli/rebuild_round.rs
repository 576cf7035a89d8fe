//! One build of `admit rebuild`, in a process of its own: what is around a process is set before anything else starts.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::app::App;
use super::making;
use crate::build::vary::Product;
use crate::error::Result;
use crate::host::{self, Stopwatch, platform};
use crate::lock::plan::Plan;
use crate::lock::{self, Spec};
use crate::record;
use crate::record::ids::{AbsPath, Digest};

/// The schema word of the one object that this prints.
pub(super) const SCHEMA: &str = "admit.round/1";

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
    let root = app.context.root()?;
    let locked = lock::resolve(&root, &args.spec)?;
    let plan = Plan::new(&locked.lock, platform()?)?;
    let how = making::How {
        again: true,
        scratch: args.scratch.clone(),
        step_wall: Duration::from_secs(args.step_timeout),
        open_path: args.open_path.clone(),
        clock_ahead: args.clock_ahead,
        ..making::How::default()
    };
    let _lock = app.context.store()?.lock(&plan.key(), &mut || ())?;
    // What differs is what this is about: it has to be kept, to be looked at.
    let any = |_: &Digest, _: &Digest, _: u64| Ok(());
    let (built, _) = making::once(app, &locked, &plan, &how, &any, &mut Stopwatch::start())?;
    let proven = built.proven;
    let product = Product {
        sha256: proven.sha256,
        blake3: proven.blake3,
        size: proven.size,
        output: proven.path,
    };
    app.ui.json(&json!({ "schema": SCHEMA, "product": record::to_value(&product) }));
    Ok(0)
}
