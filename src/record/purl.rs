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
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
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
