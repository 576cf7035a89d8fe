//! The only file that prints: data to stdout, words to stderr.
//!
//! With `--json` stdout carries exactly one JSON object, for a yes and for a no alike, so that a script never has to
//! read words. An answer that could not be written is not a yes: the first failed write is remembered
//! ([`Ui::lost`]) and becomes the exit code. A reader that went away (`admit ... | head`) has what it wanted.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::error::{Error, Reason, Result};
use crate::evidence::{LineKind, diff_lines, visible};
use crate::host::Progress;

/// Where messages, progress and results go.
#[derive(Debug)]
pub struct Ui {
    json: bool,
    colour: bool,
    /// Whether stdout takes colours: it may go to a file while stderr is a terminal.
    colour_out: bool,
    quiet: bool,
    /// Says nothing at all.
    bar: Option<ProgressBar>,
    stage: Mutex<Stage>,
    /// The first write to stdout that failed.
    failed: Mutex<Option<std::io::Error>>,
}

#[derive(Debug)]
struct Stage {
    name: String,
    since: Instant,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Colour {
    Auto,
    Always,
    Never,
}

/// How a line of a table turned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Good,
    /// Not a no, but something to know.
    Note,
    Bad,
}

impl Ui {
    /// A user interface; `no_color` is whether the `NO_COLOR` convention asks for none.
    pub fn new(json: bool, quiet: bool, colour: Colour, no_color: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let coloured = |terminal: bool| match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && !no_color,
        };
        let colour_out = coloured(std::io::stdout().is_terminal());
        let colour = coloured(terminal);
        let bar = (terminal && !quiet && !json).then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
            let style = ProgressStyle::with_template(
                "  {prefix:<8} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let stage = Mutex::new(Stage { name: String::new(), since: Instant::now(), bytes: 0 });
        Self { json, colour, colour_out, quiet, bar, stage, failed: Mutex::new(None) }
    }

    /// Whether stdout carries JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    fn out(&self, text: &str) {
        self.raw(format!("{text}\n").as_bytes());
    }

    fn err(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| drop(writeln!(std::io::stderr().lock(), "{text}"))),
            None => drop(writeln!(std::io::stderr().lock(), "{text}")),
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn paint_out(&self, code: &str, text: &str) -> String {
        match self.colour_out && !code.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// One object on stdout, where `--json` asks for it.
    pub fn json(&self, value: &Value) {
        if self.json {
            self.out(&format!("{value:#}"));
        }
    }

    /// A line of the result, where people read it.
    pub fn line(&self, text: &str) {
        if !self.json {
            self.out(text);
        }
    }

    /// The lines of a unified diff.
    pub fn diff(&self, text: &str) {
        for (kind, line) in diff_lines(text) {
            let code = match kind {
                LineKind::Head => "1",
                LineKind::Hunk => "36",
                LineKind::Added => "32",
                LineKind::Removed => "31",
                LineKind::Context => "",
            };
            // First what came from outside loses what steers a terminal, then ours is added.
            self.line(&self.paint_out(code, &visible(line)));
        }
    }

    /// Raw bytes of the result (`admit show` of an artifact).
    pub fn raw(&self, bytes: &[u8]) {
        let Ok(mut failed) = self.failed.lock() else { return };
        // After a gap, more would read as if nothing were missing.
        if failed.is_none() {
            *failed = write_stdout(bytes).err();
        }
    }

    /// The answer as far as it was given, as an error where somebody waits for the rest of it.
    ///
    /// # Errors
    /// [`Reason::DiskFull`] or [`Reason::Io`] where stdout took less than all of it.
    pub fn lost(&self) -> Result<()> {
        let failed = self.failed.lock().ok().and_then(|mut failed| failed.take());
        failed.map_or(Ok(()), |err| not_written(err).map_or(Ok(()), Err))
    }

    /// A row of a table: mark, name, what was found.
    pub fn row(&self, mark: Mark, name: &str, text: &str) {
        let mark = match mark {
            Mark::Good => self.paint_out("32", "ok  "),
            Mark::Note => self.paint_out("33", "note"),
            Mark::Bad => self.paint_out("31", "FAIL"),
        };
        self.line(&format!("{mark}  {:<22} {}", plain(name), plain(text)));
    }

    /// A line below a row: expected, found, fix.
    pub fn detail(&self, name: &str, text: &str) {
        self.line(&format!("        {name}: {}", plain(text)));
    }

    /// A warning or a remark for people, on stderr.
    pub fn remark(&self, text: &str) {
        if !self.quiet {
            self.err(&plain(text));
        }
    }

    /// Clears what progress has drawn.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// The error: words on stderr, and with `--json` the same as data on stdout.
    pub fn error(&self, error: &Error) {
        self.json(&error.to_json());
        self.words(error);
    }

    /// The error in words alone, where an answer carries it as data.
    pub fn words(&self, error: &Error) {
        self.finish();
        let label = self.paint("1;31", &format!("error[{}]", error.reason()));
        self.err(&format!("{label}: {}: {}", error.kind().label(), plain(error.what())));
        let field = |name: &str, value: &str| self.err(&format!("  {name:<9} {}", plain(value)));
        if let Some(place) = error.place() {
            field("where:", place);
        }
        if let Some(expected) = error.expected_value() {
            field("expected:", expected);
        }
        if let Some(found) = error.found_value() {
            field("found:", found);
        }
        for cause in error.causes() {
            field("cause:", cause.trim_end());
        }
        for hint in error.hints() {
            field("fix:", hint);
        }
    }
}

/// Prints what clap has to say and gives the exit code: 0 for help and version (stdout), 2 for usage (stderr).
pub fn usage(err: &clap::Error, json: bool) -> u8 {
    if json && err.use_stderr() {
        let text = err.render().to_string();
        let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let error = Error::new(Reason::BadArgument, what);
        Ui::new(true, false, Colour::Never, true).json(&error.to_json());
    }
    let printed = err.print().and_then(|()| std::io::stdout().flush());
    if err.use_stderr() {
        return 2;
    }
    // Help and version are answers, too.
    match printed.err().and_then(not_written) {
        None => 0,
        Some(error) => {
            Ui::new(false, false, Colour::Never, true).words(&error);
            error.kind().exit_code()
        }
    }
}

/// Writes all of it now. Not through the standard library's handle: that takes a descriptor which cannot be written for
/// one that took everything.
fn write_stdout(bytes: &[u8]) -> std::io::Result<()> {
    let stdout = std::io::stdout().lock();
    File::from(stdout.as_fd().try_clone_to_owned()?).write_all(bytes)
}

/// A failed write of the answer. `None`: the reader went away, by its own will.
fn not_written(err: std::io::Error) -> Option<Error> {
    let reason = match err.kind() {
        ErrorKind::BrokenPipe => return None,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Reason::DiskFull,
        _ => Reason::Io,
    };
    Some(
        Error::new(reason, "the answer could not be written, so it was not given")
            .at("standard output")
            .hint("what was done is done: ask again, with another place for the output")
            .caused_by(err),
    )
}

/// A text from outside without its control characters: what a build prints must not steer the terminal.
fn plain(text: &str) -> String {
    visible(text)
}

impl Progress for Ui {
    fn stage(&self, name: &str, what: &str) {
        if let Ok(mut stage) = self.stage.lock() {
            *stage = Stage { name: name.to_owned(), since: Instant::now(), bytes: 0 };
        }
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_length(0);
            bar.set_prefix(name.to_owned());
        }
        if !self.quiet {
            self.err(&format!("{} {what}", self.paint("1", &format!("{name:>8}"))));
        }
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        if let Some(bar) = &self.bar {
            bar.set_length(total.unwrap_or(done));
            bar.set_position(done);
            return;
        }
        // Without a terminal: a plain line whenever ten more seconds have passed.
        let Ok(mut stage) = self.stage.lock() else { return };
        if stage.since.elapsed() >= Duration::from_secs(10) && done > stage.bytes && !self.quiet {
            stage.since = Instant::now();
            stage.bytes = done;
            let of = total.map_or(String::new(), |t| format!(" of {t}"));
            let line = format!("{:>8} {done}{of} bytes", stage.name);
            drop(stage);
            self.err(&line);
        }
    }

    fn note(&self, text: &str) {
        self.remark(&format!("{:>8} {text}", "note"));
    }
}
