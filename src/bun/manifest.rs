//! Whether a tarball is the package that its row names: what its own `package.json` says.
//!
//! An integrity binds a row to bytes and not to a name. A lock whose row says one package and whose integrity is that of
//! another installs the other, and every list made from the lock names the wrong one (bun.md, section B: Bun does not
//! look). The row's own name counts, not the alias that it is installed under (`npm:other@1`).

use super::jsonc;
use super::lockfile::{Package, SourceKind};
use crate::error::{Error, Reason, Result};

/// The lifecycle scripts that Bun runs for a source's own package, in its order (bun.md, section C).
pub const LIFECYCLE: [&str; 6] =
    ["preinstall", "install", "postinstall", "preprepare", "prepare", "postprepare"];

/// The lifecycle scripts that a `package.json` of the source has, in the order in which they run. Like Bun, this reads
/// JSON with comments; what is neither has none, and Bun will say so.
pub fn lifecycle(bytes: &[u8]) -> Vec<&'static str> {
    let manifest = read(bytes);
    LIFECYCLE.into_iter().filter(|name| manifest["scripts"][name].is_string()).collect()
}

/// A `package.json` of the source, comments and trailing commas allowed; `null` where it is none.
pub fn read(bytes: &[u8]) -> serde_json::Value {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    jsonc_parser::parse_to_serde_value(text, &jsonc_parser::ParseOptions::default())
        .unwrap_or_default()
}

/// A `package.json` without what decides nothing of an installed tree: the lifecycle scripts, which do not run then, and
/// the trust in those of others. Bun 1.3 takes a workspace that has either for a changed one and asks the registry for
/// the manifests of all that it needs (seen with 1.3.14; 1.4 does not).
pub fn for_install(text: &str) -> String {
    jsonc::without(text, &["scripts", "trustedDependencies"])
}

pub fn lock_for_install(text: &str) -> String {
    jsonc::without(text, &["trustedDependencies"])
}

/// The largest `package.json` that is read; the largest seen has 200 KB.
pub const LARGEST: usize = 4 << 20;

/// Compares a package's row with the `package.json` at the top of its tarball. `None`: there is none.
///
/// Every registry asks for name and version, so there both must be the row's. What comes from elsewhere may have no
/// `package.json` and no name; the version of its row is where it comes from.
///
/// # Errors
/// [`Reason::InstallMismatch`].
pub fn require_same(package: &Package, manifest: Option<&[u8]>) -> Result<()> {
    let registry = package.kind == SourceKind::Npm;
    let refuse = |what: &str, expected: &str, found: &str| {
        Err(Error::new(Reason::InstallMismatch, format!("a package's tarball {what}"))
            .at(package.place.as_str())
            .expected(expected)
            .found(found.chars().take(200).collect::<String>())
            .hint("the source's lock gives one package's name and another's integrity: make that lock anew"))
    };
    let row = format!("{} {}", package.name, package.resolution);
    let Some(bytes) = manifest else {
        return if registry { refuse("has no package.json", &row, "absent") } else { Ok(()) };
    };
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else {
        return if registry {
            refuse("has no readable package.json", &row, "no JSON")
        } else {
            Ok(())
        };
    };
    let field = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
    match field("name") {
        Some(found) if found != package.name => {
            return refuse("is of another package", &package.name, found);
        }
        None if registry => return refuse("names no package", &package.name, "absent"),
        _ => {}
    }
    if registry {
        let found = field("version").unwrap_or("absent");
        if plain(found) != plain(&package.resolution) {
            return refuse("is of another version", &row, &format!("{} {found}", package.name));
        }
    }
    Ok(())
}

/// A version as registries list it: without a leading `v` or `=`, which npm drops, and without the build tag, which does
/// not tell versions apart (semver.org, 10).
fn plain(version: &str) -> &str {
    let version = version.trim().trim_start_matches(['v', '=', ' ']);
    version.split_once('+').map_or(version, |(version, _)| version)
}

#[cfg(test)]
mod tests {
    use super::super::lab;
    use super::*;

    fn row(text: &str) -> Package {
        lab::lock("{}", text).packages.into_values().next().unwrap()
    }

    fn sri() -> String {
        crate::record::ids::Digest::sha256(b"x").to_sri()
    }

    #[test]
    fn a_tarball_must_be_the_package_of_its_row() {
        // Installed under another name, as `npm:@scope/real@1.2.3` does.
        let package = row(&format!(r#""alias": ["@scope/real@1.2.3", "", {{}}, "{}"]"#, sri()));
        let ask = |text: &str| require_same(&package, Some(text.as_bytes()));
        for good in [
            r#"{"name": "@scope/real", "version": "1.2.3"}"#,
            r#"{"name": "@scope/real", "version": "v1.2.3"}"#,
            r#"{"name": "@scope/real", "version": " =1.2.3+build.7"}"#,
            "\u{feff}{\"name\": \"@scope/real\", \"version\": \"1.2.3\"}",
        ] {
            ask(good).unwrap();
        }
        for bad in [
            r#"{"name": "alias", "version": "1.2.3"}"#,
            r#"{"name": "@scope/real", "version": "1.2.4"}"#,
            r#"{"name": "@scope/real", "version": "1.2.3-rc"}"#,
            r#"{"name": "@scope/real"}"#,
            r#"{"version": "1.2.3"}"#,
            r#"{"name": 1, "version": "1.2.3"}"#,
            "[]",
            "{",
        ] {
            assert_eq!(ask(bad).unwrap_err().reason(), Reason::InstallMismatch, "{bad}");
        }
        assert!(require_same(&package, None).is_err());
    }

    #[test]
    fn what_does_not_decide_a_tree_is_taken_out_and_nothing_else() {
        let text = "{\n // why\n \"name\": \"a\", \"scripts\": {\"prepare\": \"x\", \"postinstall\": \"y\"},\n \
                    \"bin\": { \"a\" : \"b\" },\n \"trustedDependencies\": [\"x\"],\n}";
        assert_eq!(lifecycle(text.as_bytes()), ["postinstall", "prepare"]);
        let short = for_install(text);
        assert_eq!(
            read(short.as_bytes()),
            serde_json::json!({ "name": "a", "bin": { "a": "b" } }),
            "{short}"
        );
        assert!(short.contains("{ \"a\" : \"b\" }"), "{short}");
        for same in ["{\"name\": \"a\"}", "[]", "{", ""] {
            assert_eq!(for_install(same), same);
        }
        assert_eq!(lock_for_install("{\"trustedDependencies\": []}"), "{\n  \n}\n");
        assert_eq!(lifecycle(b"{"), [""; 0]);
    }

    #[test]
    fn what_comes_from_elsewhere_may_be_nameless() {
        let package =
            row(&format!(r#""g": ["g@github:o/r#abc1234", {{}}, "o-r-abc1234", "{}"]"#, sri()));
        for good in [None, Some("{}"), Some("{"), Some(r#"{"name": "g", "version": "9"}"#)] {
            require_same(&package, good.map(str::as_bytes)).unwrap();
        }
        assert!(require_same(&package, Some(br#"{"name": "h"}"#)).is_err());
    }
}
