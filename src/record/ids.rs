//! The small values that everything else is made of: commits, names, paths inside a tree, times (digests: [`mod@super::digest`]).
//!
//! Each is a newtype whose only constructor parses, so a value that exists is valid.

use std::fmt;
use std::str::FromStr;

pub use super::digest::{Algorithm, Blake3, Digest, Sha256, Sri};
pub use super::text::ParseError;
use super::text::{own_text, text_value};

own_text! {
    /// A full git object id: 40 lower-case hex digits (SHA-1 object format).
    ObjectId, "a git object id", "40 lower-case hex digits",
    |text| text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
text_value!(ObjectId, "^[0-9a-f]{40}$");

own_text! {
    /// A git commit. A separate type from [`ObjectId`], so that a tree id cannot stand where a commit belongs.
    CommitId, "a commit", "40 lower-case hex digits", |text| text.parse::<ObjectId>().is_ok()
}
text_value!(CommitId, "^[0-9a-f]{40}$");

impl CommitId {
    pub fn short(&self) -> &str {
        &self.as_str()[..7]
    }

    /// Whether `prefix` (4 to 40 lower-case hex digits) abbreviates this commit.
    pub fn matches(&self, prefix: &str) -> bool {
        prefix.len() >= 4 && self.as_str().starts_with(prefix)
    }
}

own_text! {
    /// A name of a provider, model provider, fixture or platform: 1 to 64 of `a-z 0-9 . _ -`, starting with a letter or
    /// digit. It can be a file name and cannot be a path.
    Name, "a name", "1 to 64 of a-z 0-9 . _ - starting with a letter or digit",
    |text| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && !text.contains("..")
    }
}
text_value!(Name, "^[a-z0-9][a-z0-9._-]{0,63}$");

own_text! {
    /// A clean relative path with `/` between its parts: no empty part, no `.` or `..`, no NUL, no backslash. It cannot
    /// leave the directory it is joined to, as long as that directory holds no symbolic links.
    RelPath, "a relative path", "parts joined by /, none of them empty, . or .., no backslash",
    |text| {
        let clean =
            |part: &str| !part.is_empty() && part != "." && part != ".." && part.len() <= 255;
        !text.is_empty()
            && text.len() < 4096
            && !text.bytes().any(|b| b == 0 || b == b'\\')
            && text.split('/').all(clean)
    }
}
text_value!(RelPath, r"^[^/\\]+(/[^/\\]+)*$");

impl RelPath {
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }
}

impl AsRef<std::path::Path> for RelPath {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
}

own_text! {
    /// An absolute, normalised path: starts with `/`, no empty part, no `.` or `..`, no trailing slash.
    AbsPath, "an absolute path", "/ and parts joined by /, none of them empty, . or ..",
    |text| text.strip_prefix('/').is_some_and(|rest| rest.parse::<RelPath>().is_ok())
}
text_value!(AbsPath, r"^(/[^/\\]+)+$");

impl AbsPath {
    /// The path below `/` (never empty).
    pub fn relative(&self) -> &str {
        &self.0[1..]
    }

    pub fn join(&self, rel: &RelPath) -> AbsPath {
        AbsPath(format!("{}/{}", self.0, rel))
    }

    /// Whether one of the two paths is the other or lies below it.
    pub fn overlaps(&self, other: &str) -> bool {
        let below = |a: &str, b: &str| {
            a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('/'))
        };
        below(&self.0, other) || below(other, &self.0)
    }
}

impl AsRef<std::path::Path> for AbsPath {
    fn as_ref(&self) -> &std::path::Path {
        std::path::Path::new(&self.0)
    }
}

/// A moment in UTC to the second: `YYYY-MM-DDThh:mm:ssZ` (RFC 3339). A bare day `YYYY-MM-DD` is read too, where a
/// record's author knew no hour, and stays a bare day when written.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Timestamp {
    text: String,
    seconds: i64,
}

impl Timestamp {
    /// The moment `seconds` after 1970-01-01T00:00:00Z; out-of-range values are held at the ends of the range.
    pub fn from_unix(seconds: i64) -> Self {
        let at = jiff::Timestamp::from_second(seconds).unwrap_or(if seconds < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        Self { text: at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(), seconds: at.as_second() }
    }

    /// The moment of an RFC 3339 text with any offset and fraction, or the start of a day, in the form of this type.
    ///
    /// # Errors
    /// For every other text; one without an offset names no moment.
    pub fn from_rfc3339(text: &str) -> Result<Self, ParseError> {
        text.parse().or_else(|_| {
            let fail = || {
                ParseError::new(
                    "a time",
                    text,
                    "RFC 3339 with an offset, such as 2026-05-31T21:50:00-04:00",
                )
            };
            // RFC 9557's `[Zone]` may contradict the offset.
            let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-:+. ".contains(&b));
            let at: jiff::Timestamp = text.parse().map_err(|_| fail())?;
            plain.then(|| Self::from_unix(at.as_second())).ok_or_else(fail)
        })
    }

    /// Seconds since 1970-01-01T00:00:00Z; a bare day counts from its start.
    pub fn unix(&self) -> i64 {
        self.seconds
    }
}

impl Default for Timestamp {
    fn default() -> Self {
        Self::from_unix(0)
    }
}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.seconds, &self.text).cmp(&(other.seconds, &other.text))
    }
}

impl FromStr for Timestamp {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = || ParseError::new("a time", text, "YYYY-MM-DDThh:mm:ssZ, or YYYY-MM-DD");
        let full = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
        if full.len() != 20 || !full.ends_with('Z') {
            return Err(fail());
        }
        let at: jiff::Timestamp = full.parse().map_err(|_| fail())?;
        // Round trip, so that odd spellings (a leap second, lower-case t) are not taken.
        if at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string() != full {
            return Err(fail());
        }
        Ok(Self { text: text.to_owned(), seconds: at.as_second() })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

text_value!(Timestamp, r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}Z)?$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_be_paths() {
        for good in ["case", "case-30b1fa1", "qwen3.6-35b-a3b", "a"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-x", "A", "a..b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn relative_paths_stay_inside() {
        for good in ["a", "dist/ca", ".case/x", "a b/ü"] {
            assert!(good.parse::<RelPath>().is_ok(), "{good}");
        }
        for bad in ["", "/", "/a", "a/", "a//b", "../a", "a/..", "./a", "a\0b", "a\\b"] {
            assert!(bad.parse::<RelPath>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn absolute_paths_are_normal_and_know_overlaps() {
        let p = |t: &str| t.parse::<AbsPath>().unwrap();
        for bad in ["", "/", "a", "/a/", "/a/../b", "//a"] {
            assert!(bad.parse::<AbsPath>().is_err(), "{bad}");
        }
        assert!(p("/tmp/x").overlaps("/tmp") && p("/tmp").overlaps("/tmp/x"));
        assert!(!p("/tmp/x").overlaps("/tmp/xy"));
    }

    #[test]
    fn times_are_read_strictly() {
        let t: Timestamp = "2026-05-31T10:00:00Z".parse().unwrap();
        assert_eq!(t.unix(), 1_780_221_600);
        assert_eq!(Timestamp::from_unix(t.unix()), t);
        let day: Timestamp = "2026-05-31".parse().unwrap();
        assert!(day < t && day.to_string() == "2026-05-31");
        for bad in [
            "",
            "2026-05-31 10:00:00Z",
            "2026-05-31T10:00:00+00:00",
            "2026-02-30",
            "2026-05-31T10:00:60Z",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }

    #[test]
    fn other_spellings_of_a_moment_are_read_where_they_are_asked_for() {
        for (text, want) in [
            ("2026-05-31T21:50:00-04:00", "2026-06-01T01:50:00Z"),
            ("2026-05-31T21:50:00.123456+02:00", "2026-05-31T19:50:00Z"),
            ("2026-05-31T21:50:00.5Z", "2026-05-31T21:50:00Z"),
            ("2026-05-31", "2026-05-31"),
        ] {
            assert_eq!(Timestamp::from_rfc3339(text).unwrap().to_string(), want);
        }
        for bad in [
            "",
            "today",
            "2026-05-31T21:50:00",
            "2026-05-31T21:50:00+02:00[Asia/Tokyo]",
            "1780221600",
        ] {
            assert!(Timestamp::from_rfc3339(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn abbreviations_need_four_digits() {
        let c: CommitId = "7959ac917cdeb0983b4aaa20bb9f42021747fed8".parse().unwrap();
        assert!(
            c.matches("7959") && c.matches(c.as_str()) && !c.matches("795") && !c.matches("7959ad")
        );
        assert_eq!(c.short(), "7959ac9");
    }
}
