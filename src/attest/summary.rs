//! A verification that held, as a SLSA verification summary (v1).

use serde_json::json;

use super::expected::Expected;
use super::provenance::source_uri;
use crate::record;
use crate::record::ids::{Digest, Timestamp};
use crate::record::lockfile::Lockfile;
use crate::record::report::{BuildReport, Origin};
use crate::record::statement::{Statement, digest_set};

pub const SUMMARY: &str = "https://slsa.dev/verification_summary/v1";
/// `admit verify`, as a verifier.
pub const VERIFIER: &str = "urn:admit:verifier:verify:1";

/// What a verification in which every row held shows. Not claimed: that two builds gave the same bytes, which no
/// verification sees; and for a binary that was built elsewhere, anything about its build.
fn levels(report: &BuildReport) -> Vec<&'static str> {
    let mut levels = vec!["ADMIT_BINARY_DIGEST_MATCH", "ADMIT_IDENTITY_PROVEN"];
    if report.runtime.proven {
        levels.push("ADMIT_RUNTIME_PROVEN");
    }
    if report.origin == Origin::Built {
        levels.extend(["ADMIT_SOURCE_PIN_MATCH", "SLSA_BUILD_LEVEL_1"]);
    }
    levels
}

/// The summary of a verification of `report`'s output in which every row held. Its time and admit's version may differ
/// in one that was signed.
pub fn summary(report: &BuildReport, lock: &Lockfile, now: &Timestamp) -> Expected {
    let place = report.path();
    let predicate = json!({
        "verifier": { "id": VERIFIER, "version": { "admit": env!("CARGO_PKG_VERSION") } },
        "timeVerified": now,
        "resourceUri": format!("{}@{}#{}", source_uri(lock), report.pinned_commit, report.output),
        "policy": {
            "uri": format!("urn:admit:lock:{}", lock.provider),
            "digest": digest_set(&lock.digest()),
        },
        "inputAttestations": [{
            "uri": format!("urn:admit:record:{place}"),
            "digest": digest_set(&Digest::sha256(&record::pretty(report))),
        }],
        "verificationResult": "PASSED",
        "verifiedLevels": levels(report),
        "slsaVersion": "1.0",
    });
    let (output, sha256) = (report.output.as_str(), report.sha256.digest());
    Expected {
        free: &["/predicate/timeVerified", "/predicate/verifier/version"],
        ..Statement::about(output, sha256, SUMMARY, predicate).into()
    }
}
