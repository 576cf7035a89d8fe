//! What is around a build and no part of it: times, host, root.

use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use super::app::App;
use crate::host::{Stopwatch, kernel};
use crate::record::ids::Timestamp;
use crate::report::Circumstances;
use crate::root::Root;

/// The circumstances of a build that started at `started` and ends now.
pub(super) fn circumstances(
    app: &App,
    root: &Root,
    started: Timestamp,
    laps: Stopwatch,
) -> Circumstances {
    Circumstances {
        started,
        finished: app.context.clock.now(),
        node_version: node_version(app),
        host: kernel(),
        root: root.label(),
        durations_ms: laps.finish(),
    }
}

/// Node's version on the host: information only, and nothing waits for it longer than two seconds.
fn node_version(app: &App) -> Option<String> {
    let node = app.context.host.program("node")?;
    let mut child = std::process::Command::new(node)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    for _ in 0..200 {
        if let Ok(Some(status)) = child.try_wait() {
            let mut text = String::new();
            child.stdout.take()?.take(64).read_to_string(&mut text).ok()?;
            return status.success().then(|| text.trim().to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
