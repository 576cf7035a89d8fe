//! Mirrors: addresses are rewritten by prefix before anything is fetched.

use std::path::PathBuf;

use url::Url;

use crate::error::{Error, Reason, Result};

/// Rewriting rules. The longest matching prefix wins; without one an address stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors(Vec<(String, String)>);

impl Mirrors {
    /// Rules from pairs of (from, to): both start with a scheme, and `to` is `https://`, `http://` or `file:///`.
    ///
    /// # Errors
    /// [`Reason::BadArgument`] for anything else.
    pub fn new(rules: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut rules: Vec<_> = rules.into_iter().collect();
        for (from, to) in &rules {
            let ok = from.contains("://")
                && ["https://", "http://", "file:///"].iter().any(|s| to.starts_with(s))
                && Url::parse(to).is_ok();
            if !ok {
                return Err(Error::new(Reason::BadArgument, "a mirror rule that cannot be used")
                    .expected("from = \"https://host/\", to = \"file:///dir/\" or another address")
                    .found(format!("from = \"{from}\", to = \"{to}\"")));
            }
        }
        // Stable, so that of two equal rules the first wins.
        rules.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Ok(Self(rules))
    }

    /// The mirror's address for `url`, or `None` where no rule matches.
    ///
    /// A rule matches whole path components: `https://a.example/x` covers `https://a.example/x/y` and not
    /// `https://a.example/xy`. A rule for exactly one repository matches with and without `.git`.
    pub fn rewrite(&self, url: &str) -> Option<String> {
        self.0.iter().find_map(|(from, to)| {
            let bare = |text: &str| text.trim_end_matches('/').trim_end_matches(".git").to_owned();
            if bare(url) == bare(from) {
                return Some(to.clone());
            }
            let whole = from.strip_suffix('/').unwrap_or(from);
            let rest = url.strip_prefix(whole)?.strip_prefix('/')?;
            Some(format!("{}/{rest}", to.trim_end_matches('/')))
        })
    }

    pub fn apply(&self, url: &str) -> String {
        self.rewrite(url).unwrap_or_else(|| url.to_owned())
    }
}

/// The local path of a `file://` address.
///
/// # Errors
/// [`Reason::BadArgument`] where the address names no absolute path on this machine.
pub fn local_path(url: &str) -> Result<Option<PathBuf>> {
    if !url.starts_with("file:") {
        return Ok(None);
    }
    let path = Url::parse(url).ok().and_then(|u| u.to_file_path().ok());
    path.map(Some).ok_or_else(|| {
        Error::new(Reason::BadArgument, "not the address of a local path")
            .expected("file:///absolute/path")
            .found(url.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirrors(rules: &[(&str, &str)]) -> Mirrors {
        Mirrors::new(rules.iter().map(|(f, t)| (f.to_string(), t.to_string()))).unwrap()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let m = mirrors(&[
            ("https://github.com/", "file:///srv/git/"),
            ("https://github.com/o/", "https://m.example/o"),
            ("https://github.com/o/r.git", "file:///one/repo"),
        ]);
        let of = |u| m.apply(u);
        assert_eq!(of("https://github.com/a/b.git"), "file:///srv/git/a/b.git");
        assert_eq!(of("https://github.com/o/x.git"), "https://m.example/o/x.git");
        assert_eq!(of("https://github.com/o/r.git"), "file:///one/repo");
        assert_eq!(of("https://github.com/o/r"), "file:///one/repo");
        assert_eq!(of("https://github.com.evil/a"), "https://github.com.evil/a");
    }

    #[test]
    fn a_rule_covers_whole_components() {
        let m = mirrors(&[("https://a.example/x", "https://b.example")]);
        assert_eq!(m.rewrite("https://a.example/xy"), None);
        assert_eq!(m.rewrite("https://a.example/x/y").as_deref(), Some("https://b.example/y"));
        let host = mirrors(&[("https://a.example", "file:///m")]);
        assert_eq!(host.rewrite("https://a.example.evil/y"), None);
        assert_eq!(host.rewrite("https://a.example/y").as_deref(), Some("file:///m/y"));
    }

    #[test]
    fn useless_rules_are_refused() {
        for (from, to) in [("x", "file:///a"), ("https://a/", "ssh://b/"), ("https://a/", "/srv")] {
            let err = Mirrors::new([(from.to_owned(), to.to_owned())]).unwrap_err();
            assert_eq!(err.reason(), Reason::BadArgument, "{from} {to}");
        }
    }

    #[test]
    fn local_paths_are_decoded() {
        assert_eq!(local_path("file:///a%20b").unwrap(), Some("/a b".into()));
        assert_eq!(local_path("https://a").unwrap(), None);
        assert!(local_path("file://host/a").is_err());
    }
}
