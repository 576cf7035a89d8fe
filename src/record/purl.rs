//! Package URLs (github.com/package-url/purl-spec).

/// The URL of a package on npm; `name` may have a scope.
pub fn npm(name: &str, version: &str) -> String {
    let name: Vec<_> = name.split('/').map(encode).collect();
    format!("pkg:npm/{}@{}", name.join("/"), encode(version))
}

/// The URL of a repository on GitHub, where case does not count and the specification asks for lower case.
pub fn github(owner: &str, repo: &str, version: &str) -> String {
    let (owner, repo) = (owner.to_lowercase(), repo.to_lowercase());
    format!("pkg:github/{}/{}@{}", encode(&owner), encode(&repo), encode(version))
}

/// Percent-encoding of what is not unreserved.
fn encode(text: &str) -> String {
    percent(text, |b| b.is_ascii_alphanumeric() || b".-_~".contains(&b))
}

/// `%XX` (RFC 3986, section 2.1) in place of every byte but those of ASCII that `keep` keeps.
pub(super) fn percent(text: &str, keep: impl Fn(u8) -> bool) -> String {
    let one = |byte: u8| match keep(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_and_build_metadata_are_encoded_and_owners_lowered() {
        assert_eq!(npm("@babel/core", "7.0.0+x"), "pkg:npm/%40babel/core@7.0.0%2Bx");
        assert_eq!(github("WorkOS", "Thing", "0123abc"), "pkg:github/workos/thing@0123abc");
    }
}
