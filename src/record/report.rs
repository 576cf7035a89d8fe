//! The provider build report (`admit.build-report/1`): what was built, from what, by what, and what was proven of it.
//!
//! Everything that may differ between two honest builds of the same plan stands in `volatile`; the rest of two such
//! reports is equal byte for byte, and [`BuildReport::core_digest`] is taken over it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::canonical::{self as record, schema};
use super::ids::{
    AbsPath, Blake3, CommitId, Digest, Name, ObjectId, RelPath, Sha256, Sri, Timestamp,
};
use super::lockfile::{Identity, Output, Platform};
use super::sshkey::Fingerprint;
use super::text::words;

/// What was built, from what, and what was proven of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildReport {
    /// Always `admit.build-report/1`.
    pub schema: String,
    pub provider: Name,
    /// The platform that it was built for.
    pub platform: Platform,
    /// Where the binary came from.
    pub origin: Origin,
    /// The source as locked; a mirror does not show here.
    pub source_url: String,
    pub pinned_commit: CommitId,
    /// The commit's tree. Absent in an adopted report where the lock has none.
    pub source_tree: Option<ObjectId>,
    /// NAR hash of the exported source. Absent as above.
    pub nar_hash: Option<Sri>,
    /// SHA-256 of the lock's build-relevant part.
    pub plan_digest: Digest,
    /// SHA-256 over the canonical form of the whole lock.
    pub lock_digest: Digest,
    /// The commands in the order they ran, install included. Empty for an adopted binary.
    pub build_command: Vec<Vec<String>>,
    /// The locked directory inside the sandbox; absent where the lock leaves it open.
    pub build_path: Option<AbsPath>,
    /// The output's path in the source.
    pub output: RelPath,
    /// SHA-256 of the output.
    pub sha256: Sha256,
    /// BLAKE3 of the output.
    pub blake3: Blake3,
    /// Size of the output in bytes.
    pub size: u64,
    pub bun_version: String,
    /// SHA-256 of the pinned Bun's executable; absent where there is none in what was published.
    pub bun_sha256: Option<Sha256>,
    /// The runtime inside the output, compared with the pinned Bun.
    pub runtime: Runtime,
    /// Packages of the source's lock, all platforms.
    pub package_count: Option<usize>,
    /// SHA-256 over the canonical list of those packages.
    pub packages_digest: Option<Digest>,
    /// Tracked files that the build changed; all of them are in the lock's `writes`.
    pub writes: Vec<RelPath>,
    /// The identity that the output showed when it ran.
    pub identity: IdentityProof,
    /// The walls that stood around the build.
    pub sandbox: serde_json::Value,
    /// How the output compares with the lock.
    pub verification: OutputStatus,
    /// Whether this build is on record.
    pub source_admission_status: SourceAdmission,
    /// By whose word it counts here, where it was pulled; then everything else is as its builder recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled: Option<Pulled>,
    /// What differs from build to build.
    pub volatile: Volatile,
}

schema!(BuildReport, "admit.build-report", 1);

/// The first field in which something is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// With a dot before a field of a field.
    pub field: String,
    pub expected: String,
    pub found: String,
}

impl Difference {
    pub fn new(field: &str, expected: impl ToString, found: impl ToString) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self { field: field.to_owned(), expected, found }
    }
}

impl BuildReport {
    pub fn path(&self) -> String {
        Self::path_of(&self.provider, &self.sha256)
    }

    pub fn binary(&self) -> Output {
        let (sha256, blake3) = (self.sha256.clone(), self.blake3.clone());
        Output { sha256, blake3, size: self.size }
    }

    /// The record as whoever made it signed it: of a pulled build, what it was before it was pulled.
    pub fn as_built(&self) -> Self {
        Self { origin: self.first_origin(), pulled: None, ..self.clone() }
    }

    /// Where the binary came from when it was first put on record.
    pub fn first_origin(&self) -> Origin {
        self.pulled.as_ref().map_or(self.origin, |pulled| pulled.origin)
    }

    pub fn path_of(provider: &Name, output: &Sha256) -> String {
        format!("admissions/builds/{provider}--{output}.json")
    }

    /// Where `other` is not of the same build with the same proofs. Not compared: what is volatile, whether it is on
    /// record, and the lock's own digest and state, which change when `admit lock --update` fills in what this very
    /// build resolved.
    pub fn difference(&self, other: &BuildReport) -> Option<Difference> {
        let (ours, theirs) = (record::to_value(self), record::to_value(other));
        let skipped = ["volatile", "source_admission_status", "lock_digest", "verification"];
        let mut fields = ours.as_object()?.iter();
        fields
            .find(|(key, value)| !skipped.contains(&key.as_str()) && theirs[*key] != **value)
            .map(|(key, value)| Difference::new(key, value, &theirs[key]))
    }

    /// SHA-256 of the canonical report without `volatile` and without `source_admission_status`, which says what a root
    /// records and not what was built: equal for two honest builds of the same plan.
    pub fn core_digest(&self) -> Digest {
        let mut value = record::to_value(self);
        if let Some(object) = value.as_object_mut() {
            object.remove("volatile");
            object.remove("source_admission_status");
        }
        Digest::sha256(value.to_string().as_bytes())
    }
}

/// Where the binary came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    Built,
    /// It was built elsewhere and adopted by digest, runtime and identity.
    Adopted,
    /// It was published in a package: taken out of it by digest, not built here.
    Published,
    /// It was built elsewhere and taken from a registry, with its record, by the word of a key that this root trusts.
    Pulled,
}

impl Origin {
    pub fn not_built_here(self) -> Option<&'static str> {
        match self {
            Origin::Built => None,
            Origin::Adopted => Some("adopted, not built here"),
            Origin::Published => Some("published, not built here"),
            Origin::Pulled => Some("pulled, not built here"),
        }
    }
}

/// How a native executable is linked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Native {
    /// `x86-64`, `aarch64`, or the number of `e_machine`.
    pub machine: String,
    pub linkage: Linkage,
    /// The loader that the kernel starts in its place; absent where it is static.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// Libraries that the loader loads by these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needed: Vec<String>,
}

words! {
    /// Whether an executable needs anything of the system's libraries.
    pub enum Linkage {
        Static = "static",
        Dynamic = "dynamic",
    }
}

/// By whose word a build that was pulled counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pulled {
    /// `oci://HOST/REPOSITORY@DIGEST` of the manifest.
    pub from: String,
    /// When.
    pub at: Timestamp,
    /// Where the output was put.
    pub store_path: String,
    /// What it was there: never pulled itself, since what is passed on is the first record.
    #[serde(default = "built", skip_serializing_if = "is_built")]
    pub origin: Origin,
    /// SHA-256 of the record as its builder has it, which the signatures name.
    pub record_sha256: Digest,
    /// Those whose signatures were asked for and held.
    pub signed_by: Vec<SignedBy>,
}

fn built() -> Origin {
    Origin::Built
}

fn is_built(origin: &Origin) -> bool {
    *origin == Origin::Built
}

/// A key, and what it was called where its signature was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignedBy {
    pub name: Name,
    pub key: Fingerprint,
}

/// What was found of the runtime and the module graph inside the output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The file is the pinned Bun with the graph injected, byte for byte.
    pub proven: bool,
    pub modules: usize,
    /// Bytes of the graph.
    pub graph_size: u64,
    /// The graph's flag word.
    pub flags: u32,
    /// `bunfig.toml` in the working directory is loaded when the binary starts.
    pub autoload_bunfig: bool,
    /// `.env` files in the working directory are loaded when the binary starts.
    pub autoload_dotenv: bool,
    /// Arguments compiled into the binary.
    pub exec_argv: String,
    /// Bytes of the graph that nothing accounts for; only of a published executable, where they are no fault of a build.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unexplained: u64,
    /// How it is linked, where its runtime is not proven to be a pinned Bun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Native>,
    /// Why the runtime of an executable that Bun compiled is not proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_proven: Option<String>,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What the output said of itself, run without network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityProof {
    /// First line of `--help`.
    pub help_first_line: String,
    /// The locked commands, each seen in the help.
    pub commands: Vec<String>,
    /// What `--version` printed; absent where the lock does not ask.
    pub version: Option<String>,
    /// SHA-256 of the whole help text.
    pub help_sha256: Sha256,
}

impl IdentityProof {
    /// Whether everything that `want` asks for was shown.
    ///
    /// # Errors
    /// The first that was not.
    pub fn shows(&self, want: &Identity) -> Result<(), Difference> {
        // What the lock leaves open holds as it was found, but for `--version`, which is asked only where it is locked.
        let line = want.help_first_line.as_deref();
        let version = match (&want.version, &self.version) {
            (None, None) => true,
            (Some(want), Some(shown)) => Identity::shows(want, shown),
            _ => false,
        };
        let fields = [
            (
                "help_first_line",
                line.is_none_or(|want| Identity::shows(want, &self.help_first_line)),
                json!(line),
                json!(self.help_first_line),
            ),
            (
                "commands",
                want.commands == self.commands,
                json!(want.commands),
                json!(self.commands),
            ),
            ("version", version, json!(want.version), json!(self.version)),
        ];
        match fields.into_iter().find(|(_, holds, ..)| !holds) {
            None => Ok(()),
            Some((field, _, want, shown)) => {
                Err(Difference::new(&format!("identity.{field}"), want, shown))
            }
        }
    }
}

/// How an output compares with the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputStatus {
    Locked,
    /// The lock has no output for this platform yet.
    Unlocked,
}

/// Whether a build is on record in `admissions/builds/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceAdmission {
    Admitted,
    NotAdmitted,
}

/// What differs between two honest builds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volatile {
    pub started: Timestamp,
    pub finished: Timestamp,
    /// The same as `finished`; the name that existing tools look for.
    pub build_timestamp: Timestamp,
    pub store_path: String,
    /// Node's version found on the host, for information.
    pub node_version: Option<String>,
    pub host: String,
    pub admit_version: String,
    /// Which root the lock came from.
    pub root: String,
    /// Milliseconds by stage.
    pub durations_ms: BTreeMap<String, u64>,
    /// Walls that depend on the kernel and the user who built.
    pub sandbox: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> BuildReport {
        record::parse(include_bytes!("../../fixtures/fuzz/report/understudy.json")).unwrap()
    }

    #[test]
    fn the_core_is_what_was_built_and_not_when_or_whether_it_is_on_record() {
        let mut other = good();
        other.volatile.store_path = "elsewhere".into();
        other.source_admission_status = match other.source_admission_status {
            SourceAdmission::Admitted => SourceAdmission::NotAdmitted,
            SourceAdmission::NotAdmitted => SourceAdmission::Admitted,
        };
        assert_eq!(other.core_digest(), good().core_digest());
        other.size += 1;
        assert_ne!(other.core_digest(), good().core_digest());
    }

    #[test]
    fn what_is_as_usual_is_left_out_of_the_record_and_what_is_not_stands_in_it() {
        for (unexplained, written) in [(0, None), (7, Some(json!(7)))] {
            let runtime = Runtime { unexplained, ..Runtime::default() };
            assert_eq!(record::to_value(&runtime).get("unexplained").cloned(), written);
        }
        for (origin, written) in [(Origin::Built, None), (Origin::Adopted, Some("adopted"))] {
            let pulled = Pulled {
                from: "oci://r.example/a".into(),
                at: Timestamp::from_unix(0),
                store_path: "/store".into(),
                origin,
                record_sha256: Digest::sha256(b"record"),
                signed_by: Vec::new(),
            };
            let value = record::to_value(&pulled);
            assert_eq!(value.get("origin").and_then(|origin| origin.as_str()), written);
        }
    }

    #[test]
    fn an_identity_shows_a_version_where_one_is_locked_and_only_there() {
        for (locked, found, shows) in [
            (None, None, true),
            (Some("1.2"), Some("1.2"), true),
            (Some("1.2"), Some("1.3"), false),
            (Some("1.2"), None, false),
            (None, Some("1.2"), false),
        ] {
            let proof = IdentityProof { version: found.map(str::to_owned), ..good().identity };
            let want = Identity {
                help_first_line: None,
                commands: proof.commands.clone(),
                version: locked.map(str::to_owned),
            };
            let answer = proof.shows(&want).map_err(|difference| difference.field);
            let no = Err("identity.version".to_owned());
            assert_eq!(answer, if shows { Ok(()) } else { no }, "{locked:?} {found:?}");
        }
    }
}
