//! The text around the differences of two texts.
//!
//! Bundles are megabytes, and minified ones have few line breaks. So the texts are cut at line breaks and behind
//! semicolons, what they have in common at both ends is set aside, and the rest is compared in linear space.

use std::ops::Range;

use serde::Serialize;

use super::pair::Pair;
use crate::bun::inject::first_difference;

/// Bytes that are shown before a difference.
const BEFORE: usize = 80;
/// Bytes that are shown from a difference on.
const AFTER: usize = 160;
/// Pieces that are shown of one hunk and side.
const PIECES: usize = 4;
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hunk {
    /// Line in each text, counted from 1.
    pub line: Pair<usize>,
    /// The file that the bundler took the lines from, where a comment above says so.
    pub source: Option<String>,
    /// What only the first text has: lines or parts of long ones, cut around the difference.
    pub removed: Vec<String>,
    pub added: Vec<String>,
}

impl Hunk {
    pub fn unified(&self) -> Vec<String> {
        let mut out = vec![format!("@@ -{} +{} @@", self.line.a, self.line.b)];
        out.extend(self.removed.iter().map(|text| format!("-{text}")));
        out.extend(self.added.iter().map(|text| format!("+{text}")));
        out
    }
}

pub(super) struct Span {
    pub(super) a: Range<usize>,
    pub(super) b: Range<usize>,
}

/// Pieces of a text: up to and with a line break, or a semicolon that no line break follows.
pub(super) struct Pieces<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let ends = |at: usize| match self.0[at] {
            b'\n' => true,
            b';' => !matches!(self.0.get(at + 1), Some(b'\n' | b'\r')),
            _ => false,
        };
        let len = (0..self.0.len()).find(|at| ends(*at)).map_or(self.0.len(), |at| at + 1);
        let (piece, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(piece)
    }
}

impl<'a> imara_diff::TokenSource for Pieces<'a> {
    type Token = &'a [u8];
    type Tokenizer = Self;

    fn tokenize(&self) -> Self {
        Pieces(self.0)
    }

    fn estimate_tokens(&self) -> u32 {
        // About what bundles have a line; only a first capacity.
        u32::try_from(self.0.len() / 40).unwrap_or(u32::MAX)
    }
}

pub(super) fn spans(a: &[u8], b: &[u8]) -> Vec<Span> {
    let short = a.len().min(b.len());
    let prefix = first_difference(a, b).unwrap_or(short);
    if prefix == a.len() && prefix == b.len() {
        return Vec::new();
    }
    let start = piece_start(a, prefix).min(piece_start(b, prefix));
    // The end may not reach into what the beginning has taken, and must be a whole piece in both.
    let suffix = common_suffix(&a[start..], &b[start..]);
    let suffix = whole_pieces(&a[a.len() - suffix..]);
    let (mid_a, mid_b) = (&a[start..a.len() - suffix], &b[start..b.len() - suffix]);
    let input = imara_diff::InternedInput::new(Pieces(mid_a), Pieces(mid_b));
    let diff = imara_diff::Diff::compute(imara_diff::Algorithm::Histogram, &input);
    let (ends_a, ends_b) = (ends(mid_a), ends(mid_b));
    diff.hunks()
        .map(|hunk| Span {
            a: start + ends_a[hunk.before.start as usize]..start + ends_a[hunk.before.end as usize],
            b: start + ends_b[hunk.after.start as usize]..start + ends_b[hunk.after.end as usize],
        })
        .collect()
}

/// Offset of every piece's beginning, and of the end.
fn ends(text: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut out = vec![0];
    out.extend(Pieces(text).map(|piece| {
        at += piece.len();
        at
    }));
    out
}

fn piece_start(text: &[u8], at: usize) -> usize {
    let at = at.min(text.len());
    // A line break is a border in every text; a semicolon's depends on what follows it.
    text[..at].iter().rposition(|b| *b == b'\n').map_or_else(
        || {
            // One long line: a semicolon well before the difference, with its successor in the common part.
            text[..at.saturating_sub(1)].iter().rposition(|b| *b == b';').map_or(0, |semi| {
                if matches!(text[semi + 1], b'\n' | b'\r') { 0 } else { semi + 1 }
            })
        },
        |newline| newline + 1,
    )
}

/// The longest end of `common`, the common end of two texts, that starts on a piece in both.
fn whole_pieces(common: &[u8]) -> usize {
    let border = |at: usize| match common[at] {
        b'\n' => true,
        b';' => common.get(at + 1).is_some_and(|next| !matches!(next, b'\n' | b'\r')),
        _ => false,
    };
    (0..common.len()).find(|at| border(*at)).map_or(0, |at| common.len() - at - 1)
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    const CHUNK: usize = 1 << 16;
    let mut same = 0;
    let whole = a.rchunks(CHUNK).zip(b.rchunks(CHUNK)).take_while(|(x, y)| x == y);
    for (chunk, _) in whole {
        same += chunk.len();
    }
    let (a, b) = (&a[..a.len() - same], &b[..b.len() - same]);
    same + a.iter().rev().zip(b.iter().rev()).take_while(|(x, y)| x == y).count()
}

pub(super) fn hunks(a: &[u8], b: &[u8], spans: &[Span], limit: usize) -> Vec<Hunk> {
    let (mut place_a, mut place_b) = (Place::new(a), Place::new(b));
    spans
        .iter()
        .take(limit)
        .map(|span| {
            place_a.go_to(span.a.start);
            place_b.go_to(span.b.start);
            let (removed, added) = (&a[span.a.clone()], &b[span.b.clone()]);
            Hunk {
                line: Pair::new(place_a.line, place_b.line),
                source: place_a.source().or_else(|| place_b.source()),
                removed: shown(removed, added),
                added: shown(added, removed),
            }
        })
        .collect()
}

/// A place in a text that only moves forward, so that all places of a text cost one pass.
pub(super) struct Place<'a> {
    text: &'a [u8],
    at: usize,
    line_start: usize,
    pub(super) line: usize,
    comment: Option<&'a [u8]>,
}

impl<'a> Place<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0, line_start: 0, line: 1, comment: None }
    }

    pub(super) fn go_to(&mut self, at: usize) {
        let from = self.at.min(at);
        for (index, byte) in self.text[from..at].iter().enumerate() {
            if *byte == b'\n' {
                let line = &self.text[self.line_start..from + index];
                if line.starts_with(b"// ") && comment_path(line).is_some() {
                    self.comment = Some(line);
                }
                self.line_start = from + index + 1;
                self.line += 1;
            }
        }
        self.at = at.max(self.at);
    }

    /// The source file that a bundler's comment above names: a line `// some/path.ext` and nothing else.
    pub(super) fn source(&self) -> Option<String> {
        self.comment.and_then(comment_path)
    }
}

/// The pieces of one side, each cut around where it begins to differ from its counterpart.
fn shown(side: &[u8], other: &[u8]) -> Vec<String> {
    let mut others = Pieces(other);
    Pieces(side)
        .take(PIECES)
        .map(|piece| {
            let other = others.next().unwrap_or(&[]);
            let differs = first_difference(piece, other).unwrap_or(0);
            cut(piece, differs)
        })
        .collect()
}

/// `piece` around byte `at`, with an ellipsis where something was left out.
fn cut(piece: &[u8], at: usize) -> String {
    let piece = piece.trim_ascii_end();
    let start = at.saturating_sub(BEFORE).min(piece.len());
    let end = piece.len().min(at.saturating_add(AFTER)).max(start);
    let text = String::from_utf8_lossy(&piece[start..end]);
    // A terminal must not be steered by what a bundle holds.
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let (head, tail) = (if start > 0 { "…" } else { "" }, if end < piece.len() { "…" } else { "" });
    format!("{head}{text}{tail}")
}

pub(super) fn comment_path(line: &[u8]) -> Option<String> {
    let path = line.trim_ascii().strip_prefix(b"// ")?;
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"/._-@+~$()[]".contains(b);
    let (dir, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (true, &path[at + 1..]),
        None => (false, path),
    };
    let suffix = name.iter().rposition(|b| *b == b'.').map(|at| &name[at + 1..]);
    let known: &[&[u8]] = &[b"js", b"cjs", b"mjs", b"ts", b"tsx", b"jsx", b"mts", b"cts", b"json"];
    let file = suffix.is_some_and(|suffix| known.contains(&suffix)) || (dir && suffix.is_some());
    (file && path.iter().all(plain)).then(|| String::from_utf8_lossy(path).into_owned())
}
