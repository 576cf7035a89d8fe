//! What a difference looks like: a build path, a version, a time, an order.
//!
//! Bun puts the absolute path of a CommonJS module that uses `__dirname` or `__filename` into the bundle as a literal,
//! `NODE_ENV` as a literal, and (without `--minify`) the path of each module as a comment relative to the working
//! directory (measured). Versions, times and order are what else varies between builds in practice.

use std::fmt;
use std::sync::LazyLock;

use regex::bytes::Regex;
use serde::Serialize;

use super::pair::Pair;
use super::text::{Pieces, Place, Span, comment_path};
use crate::bun::inject::first_difference;

/// Bun derives this line from the text and the source map, so it is never a cause.
const DEBUG_ID: &[u8] = b"//# debugId=";
/// Differences of one piece of text that are looked at.
const A_PIECE: usize = 32;
/// Hunks that are looked at for causes.
const HUNKS: usize = 10_000;

static VERSION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^v?[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.+-]+)?$"));
/// ISO 8601, or seconds or milliseconds since 1970 in this century.
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:[0-9]{4}-[0-9][0-9]-[0-9][0-9](?:[T ][0-9][0-9]:[0-9][0-9].*)?|[12][0-9]{9}|[12][0-9]{12})$",
    )
});

/// Digits are spelled out in the patterns: the Unicode tables that `\d` needs are not compiled into the program.
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a fixed pattern")
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    Runtime(Pair<String>),
    Flags(Pair<u32>),
    Arguments(Pair<String>),
    /// Built in another directory: an absolute path is a literal of the text.
    BuildPath {
        a: String,
        b: String,
        /// What of the paths differs, from the root: the build directories.
        directory: Pair<String>,
        /// The package in `node_modules` that the paths end in.
        package: Option<String>,
    },
    /// Another name of the output or of an embedded file.
    EmbeddedName(Pair<String>),
    /// `NODE_ENV` was not the same at build time.
    NodeEnv(Pair<String>),
    /// Another version, of a dependency or of the program.
    Version {
        a: String,
        b: String,
        /// The package that the text comes from, where a comment says so.
        package: Option<String>,
    },
    Time(Pair<String>),
    /// Comments name the modules from another working directory.
    PathComment(Pair<String>),
    Order {
        /// `modules` or `text`.
        of: String,
    },
    ModuleSet(Pair<usize>),
    /// Only bytecode differs; Bun 1.3 does not reproduce it.
    BytecodeOnly,
    SourcemapOnly,
    /// None of these: the text or the bytes differ.
    Content,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Runtime(Pair { a, b }) => write!(f, "another Bun: {a}, and {b}"),
            Cause::Flags(Pair { a, b }) => write!(f, "other flags: {a:#x}, and {b:#x}"),
            Cause::Arguments(Pair { a, b }) => {
                write!(f, "other compiled arguments: {a:?}, and {b:?}")
            }
            Cause::BuildPath { a, b, directory, package } => {
                write!(f, "built in {}, and in {}", directory.a, directory.b)?;
                if let Some(package) = package {
                    write!(f, "; package {package}")?;
                }
                write!(f, " ({a}, and {b})")
            }
            Cause::EmbeddedName(Pair { a, b }) => write!(f, "embedded name {a}, and {b}"),
            Cause::NodeEnv(Pair { a, b }) => write!(f, "NODE_ENV {a}, and {b}"),
            Cause::Version { a, b, package } => {
                write!(f, "version {a}, and {b}")?;
                package.as_ref().map_or(Ok(()), |package| write!(f, "; package {package}"))
            }
            Cause::Time(Pair { a, b }) => write!(f, "time {a}, and {b}"),
            Cause::PathComment(Pair { a, b }) => {
                write!(f, "path comments, so another working directory: {a}, and {b}")
            }
            Cause::Order { of } => write!(f, "the same {of} in another order"),
            Cause::ModuleSet(Pair { a, b }) => {
                write!(f, "{a} modules only in the first, {b} only in the second")
            }
            Cause::BytecodeOnly => f.write_str("bytecode only, which Bun 1.3 does not reproduce"),
            Cause::SourcemapOnly => f.write_str("source maps only"),
            Cause::Content => f.write_str("content"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blame {
    #[serde(flatten)]
    pub cause: Cause,
    pub module: Option<String>,
    /// The file that the bundler took the text from, where a comment says so.
    pub source: Option<String>,
    pub line: Option<Pair<usize>>,
    pub count: usize,
}

impl Blame {
    pub(super) fn of(cause: Cause) -> Self {
        Self { cause, module: None, source: None, line: None, count: 1 }
    }

    pub(super) fn in_module(mut self, module: &str) -> Self {
        self.module = Some(module.to_owned());
        self
    }
}

#[derive(Default)]
pub(super) struct Blames(Vec<Blame>);

impl Blames {
    pub(super) fn add(&mut self, blame: Blame) {
        match self.0.iter_mut().find(|known| alike(&known.cause, &blame.cause)) {
            Some(known) => known.count += 1,
            None => self.0.push(blame),
        }
    }

    /// The most telling first: the order in which [`Cause`] lists them.
    pub(super) fn sorted(mut self) -> Vec<Blame> {
        self.0.sort_by(|x, y| x.cause.cmp(&y.cause));
        self.0
    }
}

/// Two literals below the same pair of directories in one package are one cause.
fn alike(x: &Cause, y: &Cause) -> bool {
    match (x, y) {
        (
            Cause::BuildPath { directory, package, .. },
            Cause::BuildPath { directory: other, package: of, .. },
        ) => directory == other && package == of,
        (Cause::PathComment(_), Cause::PathComment(_)) => true,
        _ => x == y,
    }
}

pub(super) fn of_text(a: &[u8], b: &[u8], spans: &[Span], module: Option<&str>, into: &mut Blames) {
    let module = module.map(str::to_owned);
    if reordered(a, b, spans) {
        into.add(Blame { module, ..Blame::of(Cause::Order { of: "text".to_owned() }) });
        return;
    }
    let (mut place_a, mut place_b) = (Place::new(a), Place::new(b));
    let (mut blamed, mut derived) = (false, false);
    for span in spans.iter().take(HUNKS) {
        place_a.go_to(span.a.start);
        place_b.go_to(span.b.start);
        let line = Pair::new(place_a.line, place_b.line);
        let mut found = Vec::new();
        let (mut left, mut right) = (Pieces(&a[span.a.clone()]), Pieces(&b[span.b.clone()]));
        let mut uneven = false;
        loop {
            match (left.next(), right.next()) {
                (Some(x), Some(y)) if x.starts_with(DEBUG_ID) && y.starts_with(DEBUG_ID) => {
                    derived = true;
                }
                (Some(x), Some(y)) if x != y => of_piece(x, y, &mut found),
                (Some(_), Some(_)) => {}
                (None, None) => break,
                _ => {
                    uneven = true;
                    break;
                }
            }
        }
        if uneven || (found.is_empty() && !derived) {
            found.push(Cause::Content);
        }
        blamed |= !found.is_empty();
        let from = place_a.source();
        for mut cause in found {
            if let Cause::Version { package, .. } = &mut cause {
                *package = from.as_deref().and_then(package_of);
            }
            into.add(Blame {
                cause,
                module: module.clone(),
                source: from.clone(),
                line: Some(line.clone()),
                count: 1,
            });
        }
    }
    if derived && !blamed {
        into.add(Blame { module, ..Blame::of(Cause::SourcemapOnly) });
    }
}

/// Whether all that one side lost is what the other gained, but for white space and the comma that a list's last
/// element has not.
fn reordered(a: &[u8], b: &[u8], spans: &[Span]) -> bool {
    fn sorted<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
        let bare = |piece: &'a [u8]| {
            let piece = piece.trim_ascii();
            piece.strip_suffix(b",").unwrap_or(piece)
        };
        let mut out: Vec<_> = pieces.map(bare).filter(|piece| !piece.is_empty()).collect();
        out.sort_unstable();
        out
    }
    let lost = sorted(spans.iter().flat_map(|s| Pieces(&a[s.a.clone()])));
    !lost.is_empty() && lost == sorted(spans.iter().flat_map(|s| Pieces(&b[s.b.clone()])))
}

/// The causes of one changed piece: literal by literal.
fn of_piece(mut a: &[u8], mut b: &[u8], into: &mut Vec<Cause>) {
    if let (Some(a), Some(b)) = (comment_path(a), comment_path(b)) {
        into.push(Cause::PathComment(Pair::new(a, b)));
        return;
    }
    for _ in 0..A_PIECE {
        let Some(at) = first_difference(a, b) else {
            if a.len() != b.len() {
                into.push(Cause::Content);
            }
            return;
        };
        let (x, y) = match (literal(a, at), literal(b, at)) {
            (Some(x), Some(y)) => (x, y),
            _ => (word(a, at), word(b, at)),
        };
        into.push(of_values(&a[x.clone()], &b[y.clone()]));
        // A word may be empty on one side; never look at the same byte twice.
        a = &a[x.end.max(at)..];
        b = &b[y.end.max(at)..];
        if a == b || x.is_empty() || y.is_empty() {
            return;
        }
    }
}

/// The string literal around byte `at`, without its quotes.
fn literal(text: &[u8], at: usize) -> Option<std::ops::Range<usize>> {
    let open = text[..at].iter().rposition(|b| b"\"'`".contains(b))?;
    let close = text[at..].iter().position(|b| *b == text[open])? + at;
    let inner = &text[open + 1..close];
    // Between two literals there is code; what is looked for has no brackets and no separators.
    (!inner.iter().any(|b| b"(){}=,;<>\"'`".contains(b))).then_some(open + 1..close)
}

/// The word around byte `at`: letters, digits and what versions, times and paths have.
fn word(text: &[u8], at: usize) -> std::ops::Range<usize> {
    let part = |b: &u8| b.is_ascii_alphanumeric() || b"_.$@+-:/".contains(b);
    let start = text[..at].iter().rposition(|b| !part(b)).map_or(0, |p| p + 1);
    let end = text[at..].iter().position(|b| !part(b)).map_or(text.len(), |p| at + p);
    start..end
}

fn of_values(a: &[u8], b: &[u8]) -> Cause {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let path = |bytes: &[u8]| {
        let bytes = bytes.strip_prefix(b"file://").unwrap_or(bytes);
        (bytes.starts_with(b"/") && bytes.len() > 1).then(|| text(bytes))
    };
    let both = |test: &dyn Fn(&[u8]) -> bool| test(a) && test(b);
    if let (Some(a), Some(b)) = (path(a), path(b)) {
        if a.starts_with("/$bunfs/") && b.starts_with("/$bunfs/") {
            return Cause::EmbeddedName(Pair::new(a, b));
        }
        let package = package_of(&a).filter(|package| Some(package) == package_of(&b).as_ref());
        let directory = directories(&a, &b);
        return Cause::BuildPath { a, b, directory, package };
    }
    let environment = |v: &[u8]| [&b"development"[..], b"production"].contains(&v);
    if environment(a) || environment(b) {
        return Cause::NodeEnv(Pair::new(text(a), text(b)));
    }
    if both(&|v| TIME.is_match(v)) {
        return Cause::Time(Pair::new(text(a), text(b)));
    }
    if both(&|v| VERSION.is_match(v)) {
        return Cause::Version { a: text(a), b: text(b), package: None };
    }
    Cause::Content
}

/// What is left of two paths without the components that they share at their ends.
fn directories(a: &str, b: &str) -> Pair<String> {
    let shared =
        a.rsplit('/').zip(b.rsplit('/')).take_while(|(x, y)| x == y).map(|(x, _)| x.len() + 1);
    let shared: usize = shared.sum();
    let left = |path: &str| {
        let dir = &path[..path.len().saturating_sub(shared)];
        if dir.is_empty() { "/".to_owned() } else { dir.to_owned() }
    };
    Pair::new(left(a), left(b))
}

/// The package below the last `node_modules` of a path.
fn package_of(path: &str) -> Option<String> {
    let (_, below) = path.rsplit_once("node_modules/")?;
    let mut parts = below.split('/');
    let first = parts.next().filter(|part| !part.is_empty())?;
    match (first.starts_with('@'), parts.next()) {
        (true, Some(second)) => Some(format!("{first}/{second}")),
        _ => Some(first.to_owned()),
    }
}
