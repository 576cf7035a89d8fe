//! What a line of a unified diff is, for colours.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// `diff --git`, `index`, `---`, `+++` and the like.
    Head,
    /// `@@ … @@`.
    Hunk,
    Added,
    Removed,
    Context,
}

impl LineKind {
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Head => "dh",
            Self::Hunk => "du",
            Self::Added => "da",
            Self::Removed => "dr",
            Self::Context => "dc",
        }
    }
}

/// The lines of a diff with their kinds. Inside a hunk the counts of its head decide, so that a removed line that
/// reads `-- x` is not taken for a file's head.
pub fn lines(text: &str) -> Vec<(LineKind, &str)> {
    let (mut old, mut new) = (0u64, 0u64);
    let mut out = Vec::new();
    for line in text.lines() {
        let kind = if old > 0 || new > 0 {
            match line.as_bytes().first() {
                Some(b'+') => LineKind::Added,
                Some(b'-') => LineKind::Removed,
                _ => LineKind::Context,
            }
        } else if let Some(counts) = hunk(line) {
            (old, new) = counts;
            out.push((LineKind::Hunk, line));
            continue;
        } else {
            LineKind::Head
        };
        // `\ No newline at end of file` counts for neither side.
        if !line.starts_with('\\') {
            if kind != LineKind::Added {
                old = old.saturating_sub(1);
            }
            if kind != LineKind::Removed {
                new = new.saturating_sub(1);
            }
        }
        out.push((kind, line));
    }
    out
}

/// The line counts of `@@ -a,b +c,d @@`.
fn hunk(line: &str) -> Option<(u64, u64)> {
    let mut words = line.strip_prefix("@@ ")?.split(' ');
    let count = |word: &str, sign: char| -> Option<u64> {
        let range = word.strip_prefix(sign)?;
        range.split_once(',').map_or(Some(1), |(_, n)| n.parse().ok())
    };
    Some((count(words.next()?, '-')?, count(words.next()?, '+')?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_the_hunk_says() {
        let text = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@ f\n--- old\n+++ new\n same\n\
                    diff --git a/y b/y\n@@ -1 +0,0 @@\n-gone\n\\ No newline at end of file\n";
        let kinds: String = lines(text).iter().map(|(kind, _)| kind.class()).collect();
        assert_eq!(kinds, "dhdhdhdudrdadcdhdudrdh");
    }
}
