//! The only file that prints: data to stdout, words to stderr.
//!
//! With `--json` stdout carries exactly one JSON object, for a yes and for a no alike, so that a script never has to
//! read words. An answer that could not be written is not a yes: the first failed write is remembered
//! ([`Ui::lost`]) and becomes the exit code. A reader that went away (`admit ... | head`) has what it wanted.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::error::{ContextKind, ContextValue};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use crate::error::{Error, Reason, Result};
use crate::evidence::{LineKind, diff_lines, visible};
use crate::host::Progress;
use crate::sandbox::stdout_was_closed;

/// In a pipe, a stage that goes on says so whenever this much time has passed.
const STILL_THERE: Duration = Duration::from_secs(10);
/// Narrower than this nothing is laid out.
const NARROWEST: usize = 40;

/// Where messages, progress and results go.
#[derive(Debug)]
pub struct Ui {
    json: bool,
    colour: bool,
    /// Whether stdout takes colours: it may go to a file while stderr is a terminal.
    colour_out: bool,
    quiet: bool,
    /// Columns of a line; `None` where lines are not broken, as in a pipe.
    width: Option<usize>,
    /// What moves while something is done; a terminal alone has it.
    bar: Option<ProgressBar>,
    stage: Arc<(Mutex<Stage>, Condvar)>,
    /// The first write to stdout that failed.
    failed: Mutex<Option<std::io::Error>>,
    /// Whether the object that `--json` asks for was given.
    answered: AtomicBool,
}

#[derive(Debug)]
struct Stage {
    name: String,
    since: Instant,
    done: u64,
    total: Option<u64>,
    /// Whether the thread that reports it runs.
    reported: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub json: bool,
    pub quiet: bool,
    pub colour: Colour,
    /// Whether the `NO_COLOR` convention asks for none.
    pub no_color: bool,
    /// Columns by `COLUMNS`; else a terminal is asked.
    pub columns: Option<usize>,
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
    pub fn new(settings: Settings) -> Self {
        let Settings { json, quiet, colour, no_color, columns } = settings;
        let terminal = std::io::stderr().is_terminal();
        let coloured = |terminal: bool| match colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => terminal && !no_color,
        };
        let colour_out = coloured(std::io::stdout().is_terminal());
        let colour = coloured(terminal);
        let bar = (terminal && !quiet && !json)
            .then(|| ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10)));
        let asked = || {
            let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
            (size.ws_col > 0).then_some(usize::from(size.ws_col))
        };
        let width = columns.or_else(asked).map(|width| width.max(NARROWEST));
        let stage = Stage {
            name: String::new(),
            since: Instant::now(),
            done: 0,
            total: None,
            reported: false,
        };
        let stage = Arc::new((Mutex::new(stage), Condvar::new()));
        let failed = Mutex::default();
        let answered = AtomicBool::new(false);
        Self { json, colour, colour_out, quiet, width, bar, stage, failed, answered }
    }

    /// One that shows no progress and no colour: for what is said before the settings are known.
    pub fn bare(json: bool) -> Self {
        let colour = Colour::Never;
        Self::new(Settings { json, quiet: true, colour, no_color: true, columns: None })
    }

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

    fn paint_out(&self, code: &str, text: &str) -> String {
        painted(self.colour_out && !code.is_empty(), code, text)
    }

    /// One object on stdout, where `--json` asks for it.
    pub fn json(&self, value: &Value) {
        if self.json {
            self.answered.store(true, Ordering::SeqCst);
            self.out(&format!("{value:#}"));
        }
    }

    /// As [`Ui::json`], for a command that is at its end before its answer: nothing where the answer was given.
    pub fn json_at_last(&self, value: &Value) {
        if !self.answered.load(Ordering::SeqCst) {
            self.json(value);
        }
    }

    /// A line of the result, where people read it.
    pub fn line(&self, text: &str) {
        if !self.json {
            self.out(text);
        }
    }

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
            let write = || write_stdout(bytes).err();
            // Both may be one terminal.
            *failed = self.bar.as_ref().map_or_else(write, |bar| bar.suspend(write));
        }
    }

    /// The answer as far as it was given, as an error where its reader waits for the rest of it.
    pub fn lost(&self) -> Result<()> {
        let failed = self.failed.lock().ok().and_then(|mut failed| failed.take());
        failed.map_or(Ok(()), |err| not_written(err).map_or(Ok(()), Err))
    }

    /// The answer in a word and a sentence: the first line of what a command says, and the last.
    pub fn verdict(&self, mark: Mark, word: &str, text: &str) {
        let word = word.to_uppercase();
        let code = mark.colour();
        let first = format!("{}  ", self.paint_out(&format!("1;{code}"), &word));
        self.laid_out(&first, word.len() + 2, 2, text);
    }

    /// A row of a table: mark, name, what was found.
    pub fn row(&self, mark: Mark, name: &str, text: &str) {
        let word = match mark {
            Mark::Good => "ok  ",
            Mark::Note => "note",
            Mark::Bad => "FAIL",
        };
        let name = visible(name);
        let first = format!("{}  {name:<22} ", self.paint_out(mark.colour(), word));
        self.laid_out(&first, 7 + name.chars().count().max(22), 8, text);
    }

    /// A line below a row: expected, found, fix.
    pub fn detail(&self, name: &str, text: &str) {
        self.laid_out(&format!("        {:<9} ", visible(name)), 18, 18, text);
    }

    /// A value below a verdict.
    pub fn value(&self, name: &str, text: &str) {
        let name = visible(name);
        self.laid_out(&format!("  {name:<6} "), 3 + name.chars().count().max(6), 9, text);
    }

    /// `text` behind `first`, which takes `used` columns; lines after the first are indented, and no word is broken.
    fn laid_out(&self, first: &str, used: usize, indent: usize, text: &str) {
        let mut lines = broken(&visible(text), self.width, used, indent).into_iter();
        self.line(&format!("{first}{}", lines.next().unwrap_or_default()));
        for line in lines {
            self.line(&format!("{:indent$}{line}", ""));
        }
    }

    /// Columns of a line, where lines are broken.
    pub fn width(&self) -> Option<usize> {
        self.width
    }

    /// A warning or a remark for people, on stderr.
    pub fn remark(&self, text: &str) {
        if !self.quiet {
            self.err(&visible(text));
        }
    }

    /// Clears what progress has drawn.
    pub fn finish(&self) {
        self.stage.0.lock().unwrap_or_else(PoisonError::into_inner).name.clear();
        if let Some(bar) = &self.bar {
            bar.disable_steady_tick();
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
        let label = painted(self.colour, "1;31", &format!("error[{}]", error.reason()));
        self.err(&format!("{label}: {}", visible(error.what())));
        let field = |name: &str, value: &str| {
            let mut lines = broken(&visible(value), self.width, 12, 12).into_iter();
            self.err(&format!("  {name:<9} {}", lines.next().unwrap_or_default()));
            lines.for_each(|line| self.err(&format!("{:12}{line}", "")));
        };
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
/// `command` is the one that was typed, as far as it is known.
pub fn usage(mut err: clap::Error, command: &str, json: bool) -> u8 {
    if err.use_stderr() {
        harmless(&mut err);
        if json {
            Ui::bare(true).json(&usage_error(&err, command).to_json());
        }
        let text = err.render().to_string();
        match visible(&text) == text {
            true => drop(err.print()),
            false => drop(write!(std::io::stderr().lock(), "{}", visible(&text))),
        }
        return 2;
    }
    let printed =
        stdout_is_there().and_then(|()| err.print()).and_then(|()| std::io::stdout().flush());
    // Help and version are answers, too.
    match printed.err().and_then(not_written) {
        None => 0,
        Some(error) => {
            Ui::bare(false).words(&error);
            error.kind().exit_code()
        }
    }
}

/// What was typed may be anything, and clap repeats it: as one line, without what steers a terminal.
fn harmless(err: &mut clap::Error) {
    let one_line = |text: &String| visible(text).replace('\n', "\\n").replace('\t', "\\t");
    let typed = [
        ContextKind::InvalidArg,
        ContextKind::InvalidValue,
        ContextKind::InvalidSubcommand,
        ContextKind::TrailingArg,
    ];
    for kind in typed {
        let value = match err.get(kind) {
            Some(ContextValue::String(text)) => ContextValue::String(one_line(text)),
            Some(ContextValue::Strings(texts)) => {
                ContextValue::Strings(texts.iter().map(one_line).collect())
            }
            _ => continue,
        };
        err.insert(kind, value);
    }
}

fn painted(coloured: bool, code: &str, text: &str) -> String {
    if coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// What clap says, as an error of admit's.
fn usage_error(err: &clap::Error, command: &str) -> Error {
    let text = err.render().to_string();
    let mut lines = text.lines();
    let mut what: Vec<&str> = Vec::new();
    let mut expected = None;
    for line in lines.by_ref().map(str::trim).take_while(|line| !line.is_empty()) {
        let list = ["[possible values: ", "[subcommands: "];
        match list.iter().find_map(|start| line.strip_prefix(start)) {
            Some(names) => expected = Some(format!("one of: {}", names.trim_end_matches(']'))),
            None => what.push(line.trim_start_matches("error: ")),
        }
    }
    if err.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        what = vec!["more is needed than this"];
    }
    let (tips, rest): (Vec<&str>, Vec<&str>) =
        lines.map(str::trim).partition(|line| line.starts_with("tip: "));
    let usage = rest.iter().find_map(|line| line.strip_prefix("Usage: ")).map(str::to_owned);
    let mut error = Error::new(Reason::BadArgument, what.join(" "));
    if let Some(expected) = expected.or(usage) {
        error = error.expected(expected);
    }
    let found =
        [ContextKind::InvalidValue, ContextKind::InvalidSubcommand, ContextKind::InvalidArg];
    // A list is of what is missing, not of what was found.
    let found = found.into_iter().find_map(|kind| match err.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    });
    if let Some(found) = found {
        error = error.found(found);
    }
    for tip in tips {
        error = error.hint(tip.trim_start_matches("tip: "));
    }
    error.hint(format!("{command} --help"))
}

/// Writes all of it now. Not through the standard library's handle: that takes a descriptor which cannot be written for
/// one that took everything.
fn write_stdout(bytes: &[u8]) -> std::io::Result<()> {
    stdout_is_there()?;
    let stdout = std::io::stdout().lock();
    File::from(stdout.as_fd().try_clone_to_owned()?).write_all(bytes)
}

fn stdout_is_there() -> std::io::Result<()> {
    match stdout_was_closed() {
        true => Err(std::io::Error::from_raw_os_error(libc::EBADF)),
        false => Ok(()),
    }
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

/// `text` in lines of at most `width` columns. The first has `used` columns less, the others `indent`; a word that is
/// longer than a line stands in one of its own. A line end in `text` stays.
fn broken(text: &str, width: Option<usize>, used: usize, indent: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut room = width.map(|width| width.saturating_sub(used));
    for paragraph in text.split('\n') {
        let mut line = String::new();
        let mut taken = 0;
        // What is laid out already keeps its blanks.
        let words = paragraph.split(' ');
        for (number, word) in words.enumerate() {
            let columns = word.chars().count();
            if number > 0 && room.is_some_and(|room| taken + 1 + columns > room) {
                out.push(std::mem::take(&mut line));
                (taken, room) = (0, width.map(|width| width.saturating_sub(indent)));
            } else if number > 0 {
                line.push(' ');
                taken += 1;
            }
            line.push_str(word);
            taken += columns;
        }
        out.push(line);
        room = width.map(|width| width.saturating_sub(indent));
    }
    out
}

/// Bytes as people say them: `12.3 MB`, in powers of 1000.
pub fn bytes(count: u64) -> String {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];
    match units.into_iter().find(|(_, unit)| count >= *unit) {
        Some((name, unit)) => {
            let tenths = u128::from(count) * 10 / unit as u128;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{count} B"),
    }
}

/// Seconds as people say them: `8 s`, `2 min 05 s`.
pub fn seconds(count: u64) -> String {
    match (count / 60, count % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) => format!("{minutes} min {seconds:02} s"),
    }
}

/// `1 module`, `2 modules`.
pub fn count(number: usize, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

impl Mark {
    /// The code of its colour.
    fn colour(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Note => "33",
            Self::Bad => "31",
        }
    }
}

impl Stage {
    /// How far it is: bytes, rate and time left where these are known, and how long it has taken.
    fn said(&self) -> String {
        let passed = self.since.elapsed();
        let mut out = Vec::new();
        if self.done > 0 {
            let rate = u128::from(self.done) * 1000 / passed.as_millis().max(1);
            let rate = u64::try_from(rate).unwrap_or(u64::MAX);
            let of = self.total.map_or(String::new(), |total| format!(" of {}", bytes(total)));
            out.push(format!("{}{of}", bytes(self.done)));
            out.push(format!("{}/s", bytes(rate)));
            let left = self.total.and_then(|total| total.checked_sub(self.done));
            if let Some(left) = left.filter(|left| *left > 0 && rate > 0) {
                out.push(format!("{} left", seconds(left.div_ceil(rate))));
            }
        }
        out.push(seconds(passed.as_secs()));
        out.join(", ")
    }
}

/// Says every ten seconds that the stage goes on. Ends with admit.
fn report_stages(stage: &(Mutex<Stage>, Condvar), name: impl Fn(&str) -> String) {
    let mut now = stage.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let begun = now.since;
        let waited = stage.1.wait_timeout(now, STILL_THERE);
        let (kept, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        now = kept;
        // One that began meanwhile has a line of its own; one without a name is over.
        if timeout.timed_out() && now.since == begun && !now.name.is_empty() {
            let line = format!("{} {}", name(&now.name), now.said());
            drop(writeln!(std::io::stderr().lock(), "{line}"));
        }
    }
}

impl Progress for Ui {
    fn stage(&self, name: &str, what: &str) {
        let colour = self.colour;
        let heading = move |name: &str| painted(colour, "1", &format!("{name:>8}"));
        if !self.quiet && self.bar.is_none() {
            self.err(&format!("{} {what}", heading(name)));
        }
        let (stage, changed) = &*self.stage;
        let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
        let reported = stage.reported || self.bar.is_none() && !self.quiet;
        let start = reported && !stage.reported;
        *stage =
            Stage { name: name.to_owned(), since: Instant::now(), done: 0, total: None, reported };
        drop(stage);
        changed.notify_all();
        if start {
            let stage = Arc::clone(&self.stage);
            std::thread::spawn(move || report_stages(&stage, heading));
        }
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.unset_length();
            bar.set_style(moving(false));
            bar.set_prefix(name.to_owned());
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
        }
    }

    fn bytes(&self, done: u64, total: Option<u64>) {
        let (stage, _) = &*self.stage;
        let mut stage = stage.lock().unwrap_or_else(PoisonError::into_inner);
        let first = stage.done == 0 && done > 0;
        (stage.done, stage.total) = (done, total);
        drop(stage);
        if let Some(bar) = &self.bar {
            if first {
                bar.set_style(moving(true));
            }
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
        }
    }

    fn note(&self, text: &str) {
        self.remark(&format!("{:>8} {text}", "note"));
    }
}

/// How the moving line looks: with bytes where there are some.
fn moving(with_bytes: bool) -> ProgressStyle {
    let template = match with_bytes {
        true => "{prefix:>8.bold} {wide_msg} {said}",
        false => "{prefix:>8.bold} {wide_msg} {elapsed}",
    };
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_spinner()).with_key(
        "said",
        |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            let stage = Stage {
                name: String::new(),
                since: Instant::now().checked_sub(state.elapsed()).unwrap_or_else(Instant::now),
                done: state.pos(),
                total: state.len(),
                reported: false,
            };
            // Writing to the line's buffer cannot fail.
            let _ = out.write_str(&stage.said());
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_keep_their_indent() {
        let lines = broken("one two three four", Some(12), 4, 2);
        assert_eq!(lines, ["one two", "three four"]);
        assert_eq!(broken("one two", None, 70, 2), ["one two"]);
        assert_eq!(
            broken("a very-long-word-indeed b", Some(10), 4, 2),
            ["a", "very-long-word-indeed", "b"]
        );
        assert_eq!(broken("a\nb", Some(80), 0, 0), ["a", "b"]);
    }

    #[test]
    fn numbers_are_said_as_people_say_them() {
        assert_eq!([0, 999, 1000, 105_432_100].map(bytes), ["0 B", "999 B", "1.0 kB", "105.4 MB"]);
        assert_eq!([8, 125].map(seconds), ["8 s", "2 min 05 s"]);
        assert_eq!(
            [count(1, "module", "modules"), count(2, "module", "modules")],
            ["1 module", "2 modules"]
        );
    }

    #[test]
    fn a_stage_says_what_is_known_and_never_a_time_left_of_nothing() {
        let since = Instant::now().checked_sub(Duration::from_secs(20)).unwrap();
        let stage =
            |done, total| Stage { name: "fetch".into(), since, done, total, reported: false };
        assert_eq!(stage(0, None).said(), "20 s");
        assert_eq!(stage(0, Some(0)).said(), "20 s");
        assert!(stage(20_000_000, None).said().starts_with("20.0 MB, "));
        let half = stage(20_000_000, Some(40_000_000)).said();
        assert!(half.starts_with("20.0 MB of 40.0 MB, ") && half.contains(" left, 20 s"), "{half}");
        assert!(!stage(40_000_000, Some(40_000_000)).said().contains("left"));
    }
}
