//! A release of admit, told by the program that is in it: which archive, that it holds this very program, the commit that
//! was compiled into it, and that a second build gave the same bytes. What compiled it is the signer's word.

use std::io::Read as _;
use std::path::Path;

use flate2::bufread::GzDecoder;
use serde_json::json;

use super::provenance::PROVENANCE;
use crate::error::{Error, Reason, Result};
use crate::record::ids::Digest;
use crate::record::statement::{Statement, digest_set};

/// The build type of a release: `.ci/release` at the commit.
pub const RELEASE_TYPE: &str = "urn:admit:build-type:release:1";
/// Who builds a release: whoever runs that script.
pub const RELEASE_BUILDER: &str = "urn:admit:builder:release-script:1";

/// The program below the archive's one directory.
const PROGRAM: &str = "bin/admit";
/// Longest program that is read out of an archive, in bytes.
const MAX_PROGRAM: u64 = 256 << 20;

/// The commit that this program was compiled with. Set where a release is built; a build of one's own is of no known commit.
pub fn own_commit() -> Option<&'static str> {
    option_env!("RELEASE_COMMIT").filter(|commit| !commit.is_empty())
}

pub struct Release<'a> {
    pub name: &'a str,
    pub archive: &'a [u8],
    /// The same archive of another build.
    pub again: &'a [u8],
    pub own: &'a [u8],
    pub commit: Option<&'a str>,
}

/// The SLSA provenance of a release.
///
/// # Errors
/// [`Reason::AttestRefused`] where this program is of no known commit or is not the one in the archive;
/// [`Reason::DigestMismatch`] where the two archives differ; [`Reason::HostileArchive`] for what is no such archive.
pub fn release(found: &Release<'_>) -> Result<Statement> {
    let refused = |what: &str| Error::new(Reason::AttestRefused, what).at(found.name);
    let commit = found.commit.ok_or_else(|| {
        refused("this admit was not built as a release, so it does not know its own commit")
            .expected("the program in the archive")
            .hint("make the archive with .ci/release, and attest with the admit in it")
    })?;
    let [archive, again] = [found.archive, found.again].map(Digest::sha256);
    if archive != again {
        return Err(Error::new(Reason::DigestMismatch, "the two archives differ")
            .at(found.name)
            .expected(archive.to_string())
            .found(again.to_string()));
    }
    let inside = Digest::sha256(&program(found.archive).map_err(|err| err.at(found.name))?);
    let own = Digest::sha256(found.own);
    if inside != own {
        return Err(refused("the archive holds another program than this one")
            .expected(own.to_string())
            .found(inside.to_string())
            .hint("attest with the admit in the archive"));
    }
    let version = env!("CARGO_PKG_VERSION");
    let predicate = json!({
        "buildDefinition": {
            "buildType": RELEASE_TYPE,
            "externalParameters": {
                "commit": commit,
                "version": version,
                "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            },
            "internalParameters": { "identicalArchives": 2 },
            "resolvedDependencies": [{ "name": "source", "digest": { "gitCommit": commit } }],
        },
        "runDetails": {
            "builder": { "id": RELEASE_BUILDER, "version": { "admit": version } },
            "byproducts": [{ "name": PROGRAM, "digest": digest_set(&inside) }],
        },
    });
    Ok(Statement::about(found.name, &archive, PROVENANCE, predicate))
}

fn program(archive: &[u8]) -> Result<Vec<u8>> {
    let bad = |what: &str| Error::new(Reason::HostileArchive, what.to_owned());
    let unreadable = |err: std::io::Error| bad("the archive cannot be read").caused_by(err);
    let mut archive = tar::Archive::new(GzDecoder::new(archive));
    for entry in archive.entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.into_owned();
        let mut parts = path.components();
        let is_it = parts.next().is_some() && parts.as_path() == Path::new(PROGRAM);
        if !is_it || !entry.header().entry_type().is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        entry.take(MAX_PROGRAM + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        return match bytes.len() as u64 > MAX_PROGRAM {
            true => Err(bad("the program in the archive is too long")),
            false => Ok(bytes),
        };
    }
    Err(bad("the archive holds no bin/admit below one directory"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::tar_gz;

    const COMMIT: &str = "d26c0c4aefa1d9a6f8c2f6c8f4a2c7e9b1a3d5f7";

    fn packed(name: &str, program: &[u8]) -> Vec<u8> {
        tar_gz(&[("admit-1/README.md", 0o755, b"read me"), (name, 0o755, program)])
    }

    fn ask(archive: &[u8], again: &[u8], own: &[u8], commit: Option<&str>) -> Result<Statement> {
        release(&Release { name: "admit.tar.gz", archive, again, own, commit })
    }

    #[test]
    fn a_release_is_told_by_its_own_program_and_two_builds() {
        let archive = packed("admit-1/bin/admit", b"program");
        let told = ask(&archive, &archive, b"program", Some(COMMIT)).unwrap();
        assert_eq!(told.sha256(), Some(Digest::sha256(&archive)));
        assert_eq!(told.predicate_type, PROVENANCE);
        let source = &told.predicate["buildDefinition"]["resolvedDependencies"][0];
        assert_eq!(source["digest"]["gitCommit"], COMMIT);
        let program = &told.predicate["runDetails"]["byproducts"][0]["digest"]["sha256"];
        assert_eq!(*program, Digest::sha256(b"program").to_hex());
    }

    #[test]
    fn what_was_not_seen_is_not_told() {
        let good = packed("admit-1/bin/admit", b"program");
        let other = packed("admit-1/bin/admit", b"another");
        let elsewhere = packed("bin/admit", b"program");
        let cases = [
            (ask(&good, &good, b"program", None), Reason::AttestRefused),
            (ask(&good, &other, b"program", Some(COMMIT)), Reason::DigestMismatch),
            (ask(&other, &other, b"program", Some(COMMIT)), Reason::AttestRefused),
            (ask(&elsewhere, &elsewhere, b"program", Some(COMMIT)), Reason::HostileArchive),
            (ask(b"text", b"text", b"program", Some(COMMIT)), Reason::HostileArchive),
        ];
        for (number, (said, reason)) in cases.into_iter().enumerate() {
            assert_eq!(said.unwrap_err().reason(), reason, "{number}");
        }
    }
}
