//! Names that become paths: packages, versions, install paths.

/// Whether `text` is a package name that can be a directory: `name` or `@scope/name`, each at most 214 bytes (npm's
/// limit for the whole) of printable ASCII without separators, and not starting with a dot.
pub fn is_name(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| {
                b.is_ascii_alphanumeric()
                    || matches!(b, b'.' | b'_' | b'-' | b'~' | b'!' | b'\'' | b'(' | b')' | b'*')
            })
    };
    text.len() <= 214
        && match text.strip_prefix('@') {
            Some(rest) => rest.split_once('/').is_some_and(|(a, b)| part(a) && part(b)),
            None => part(text) && text != "node_modules",
        }
}

/// The names in an install path, outermost first: `a/@s/b` is `a`, `@s/b`. `None` where it is not one.
pub fn split_key(key: &str) -> Option<Vec<&str>> {
    let mut names = Vec::new();
    let mut rest = key;
    loop {
        let slash = match rest.strip_prefix('@') {
            Some(_) => rest.match_indices('/').nth(1).map(|(at, _)| at),
            None => rest.find('/'),
        };
        let (name, more) = match slash {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        // 64 levels: deeper trees have not been seen, and a path has its limit.
        if !is_name(name) || names.len() >= 64 {
            return None;
        }
        names.push(name);
        match more {
            Some(more) => rest = more,
            None => return Some(names),
        }
    }
}

/// The innermost name of an install path.
pub fn alias(key: &str) -> Option<&str> {
    split_key(key)?.pop()
}

/// A version's numbers, its prerelease after `-` and its build tag after `+`.
pub(super) fn version_parts(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, tag)| (rest, Some(tag)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, tag)| (core, Some(tag)));
    (core, pre, build)
}

/// A complete semantic version: three numbers, then a prerelease and a build tag.
pub(super) fn is_version(text: &str) -> bool {
    let (core, pre, build) = version_parts(text);
    let numbers: Vec<&str> = core.split('.').collect();
    let tag = |t: &str| {
        !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'))
    };
    text.len() <= 256
        && numbers.len() == 3
        && numbers.iter().all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        && pre.is_none_or(tag)
        && build.is_none_or(tag)
}

/// Whether `text` can be the name of one directory: 1 to 255 of `A-Z a-z 0-9 . _ -`, not `.` or `..`.
pub(super) fn is_directory_name(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && text != "."
        && text != ".."
}

/// A text from outside, short and printable.
pub(super) fn show(text: &str) -> String {
    text.chars().take(120).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_split_at_names() {
        assert_eq!(split_key("a"), Some(vec!["a"]));
        assert_eq!(split_key("@s/a/b/@t/c"), Some(vec!["@s/a", "b", "@t/c"]));
        for bad in ["", "/a", "a/", "a//b", "@s", "a/@s", "..", "a/.bin", "node_modules", "a\\b"] {
            assert_eq!(split_key(bad), None, "{bad}");
        }
    }
}
