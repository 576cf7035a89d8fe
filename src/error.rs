//! What went wrong, as data: a [`Reason`] that scripts can match, the words for people, and the exit code.
//!
//! An [`Error`] means "could not find out" or "refused at the edge". A "no" that was found out (a gate, a comparison)
//! is a value of its own stage and only becomes an exit code in `main`.

use std::fmt;

/// The kinds of failure a script may branch on. Each has one exit code, a tested contract (see `docs/architecture.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The answer is no: two builds differ, a fixture failed.
    No,
    /// The request itself cannot be served: unknown name, malformed file, bad flag.
    Usage,
    /// A gate said no; nothing was started.
    Refused,
    /// An input could not be fetched.
    Fetch,
    /// A digest did not match. Wins over `No` and `Refused`.
    Digest,
    Build,
    /// The sandbox is not available on this machine.
    Sandbox,
    /// The agent run failed.
    Run,
    /// A limit was hit: time, size, memory, disk.
    Limit,
    /// A fault of admit itself.
    Bug,
    /// Told to stop, or ended by the machine, before it was done: says nothing about what was asked. Try again.
    Stopped,
}

impl Kind {
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::No => 1,
            Kind::Usage => 2,
            Kind::Refused => 3,
            Kind::Fetch => 4,
            Kind::Digest => 5,
            Kind::Build => 6,
            Kind::Sandbox => 7,
            Kind::Run => 8,
            Kind::Limit => 9,
            Kind::Bug => 70,
            // EX_TEMPFAIL of sysexits.h, which schedulers' users take for "try again".
            Kind::Stopped => 75,
        }
    }
}

/// Declares [`Reason`]: one line a reason, so that the list, the text form and the kind cannot drift apart.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal => $kind:ident,)*) => {
        /// Why admit said no or could not go on: a closed list, each with a stable text form that reports and
        /// scripts use, and a kind that fixes the exit code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, for tests and documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable text form (`snake_case`).
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            pub fn kind(self) -> Kind {
                match self { $(Reason::$name => Kind::$kind,)* }
            }
        }
    };
}

reasons! {
    // --- usage: the request or a file that a person wrote
    /// A flag, argument or variable that cannot be used as given.
    BadArgument = "bad_argument" => Usage,
    /// A record that is not the JSON its schema asks for.
    BadRecord = "bad_record" => Usage,
    ProviderNotLocked = "provider_not_locked" => Usage,
    /// The lock pins another commit.
    RevNotLocked = "rev_not_locked" => Usage,
    /// The lock names a path, step or output that the sandbox would not be safe with.
    HostileLock = "hostile_lock" => Usage,
    /// Somebody else wrote the same record since it was read.
    RecordChanged = "record_changed" => Refused,
    /// A campaign's plan, or what this machine has on record, is not what was planned.
    PlanDiffers = "plan_differs" => Refused,
    /// A platform that the lock does not list.
    PlatformNotLocked = "platform_not_locked" => Usage,
    /// A file that admit was asked to read is not there.
    NotFound = "not_found" => Usage,
    /// A file that is no executable which Bun compiled, or a malformed one.
    BadExecutable = "bad_executable" => Usage,
    // --- refused
    /// The root is not trusted by this user, or changed since.
    RootNotTrusted = "root_not_trusted" => Refused,
    /// What was asked for contradicts itself, or asks for what no run may do.
    RequestRefused = "request_refused" => Refused,
    /// The pinned Bun is not in the store.
    BunMissing = "bun_missing" => Refused,
    /// Recording or running needs a locked output digest.
    OutputNotLocked = "output_not_locked" => Refused,
    /// A locked package has no integrity that admit accepts.
    WeakIntegrity = "weak_integrity" => Refused,
    /// A locked package of a kind that admit does not fetch.
    PackageKind = "package_kind" => Refused,
    /// A source that admit does not build from.
    UnsupportedSource = "unsupported_source" => Refused,
    /// GNU gzip is needed to make a GitHub tarball from a mirror.
    GnuGzipMissing = "gnu_gzip_missing" => Refused,
    /// Somebody else could have written the store.
    StoreUnsafe = "store_unsafe" => Refused,
    /// The model endpoint cannot be used: malformed, or not resolvable.
    EndpointRefused = "endpoint_refused" => Refused,
    /// An address of the model endpoint lies outside of the network that the model's record allows.
    NetworkNotAllowed = "network_not_allowed" => Refused,
    /// A program that the fixture needs is not on this machine.
    PythonMissing = "python_missing" => Refused,
    /// A program that the fixture needs is not on this machine.
    GitMissing = "git_missing" => Refused,
    /// No packages are locked for this minor version of Python.
    PythonNotLocked = "python_not_locked" => Refused,
    /// The key for the model cannot be used: empty, malformed, or readable by others.
    CredentialUnusable = "credential_unusable" => Refused,
    /// The credential helper is not there, or cannot be started.
    HelperMissing = "helper_missing" => Refused,
    /// The credential helper did not answer in time.
    HelperTimedOut = "helper_timed_out" => Refused,
    /// The credential helper ended with another exit status than 0.
    HelperFailed = "helper_failed" => Refused,
    /// The credential helper printed something else than a credential.
    HelperMalformed = "helper_malformed" => Refused,
    /// The credential helper printed a secret where logs take it up.
    HelperLeaked = "helper_leaked" => Refused,
    /// What the credential helper gave has expired.
    CredentialExpired = "credential_expired" => Refused,
    /// A signing key cannot be used: readable by others, encrypted, not Ed25519, or nowhere to be found.
    KeyUnusable = "key_unusable" => Refused,
    /// What was to be attested does not hold.
    AttestRefused = "attest_refused" => Refused,
    /// A signature is required and there is none.
    SignatureMissing = "signature_missing" => Refused,
    /// A registry lists attestations that it does not give.
    AttestationLost = "attestation_lost" => Refused,
    /// It is signed, and by no key that counts.
    SignerUnknown = "signer_unknown" => Refused,
    /// It is signed by fewer different keys than are required.
    SignaturesTooFew = "signatures_too_few" => Refused,
    /// The key that signed it has expired.
    KeyExpired = "key_expired" => Refused,
    /// The key that signed it does not count yet.
    KeyNotYetValid = "key_not_yet_valid" => Refused,
    /// The key that signed it was revoked.
    KeyRevoked = "key_revoked" => Refused,
    /// The build is not on record as admitted.
    NotRecorded = "not_recorded" => Refused,
    /// A check before a run that no other reason names said no.
    GateRefused = "gate_refused" => Refused,
    /// The model is not admitted for this run.
    ModelNotAdmitted = "model_not_admitted" => Refused,
    // --- fetch
    /// The other side could not be reached, or ended the connection.
    Unreachable = "unreachable" => Fetch,
    /// The other side answered with an error status.
    HttpStatus = "http_status" => Fetch,
    /// A redirect to another host.
    RedirectRefused = "redirect_refused" => Fetch,
    /// A registry wants a login, or lets this user do something else.
    RegistryDenied = "registry_denied" => Fetch,
    /// A registry does not have what was asked for.
    NotInRegistry = "not_in_registry" => Fetch,
    /// What a registry has there is no manifest of what was asked for.
    BadManifest = "bad_manifest" => Fetch,
    /// The commit is not in the remote.
    RevNotInRemote = "rev_not_in_remote" => Fetch,
    /// The answer ended early or stalled.
    Truncated = "truncated" => Fetch,
    /// A rebuild had an input with another digest, so nothing was rebuilt.
    InputRefused = "input_refused" => Fetch,
    /// Pip could not install the locked packages.
    PipFailed = "pip_failed" => Fetch,
    /// An archive with entries that no honest package has.
    HostileArchive = "hostile_archive" => Fetch,
    // --- digest
    /// The bytes have another digest than the lock records.
    DigestMismatch = "digest_mismatch" => Digest,
    /// The commit's tree or exported content is not the locked one.
    SourceMismatch = "source_mismatch" => Digest,
    /// An entry of the store is not what its name says.
    StoreCorrupt = "store_corrupt" => Digest,
    /// Payload, payload type or signature are not what was signed.
    SignatureInvalid = "signature_invalid" => Digest,
    /// A bundle holds something that is no envelope, or an envelope that holds no statement.
    BadEnvelope = "bad_envelope" => Digest,
    /// The signed statement is about another thing.
    AttestedOther = "attested_other" => Digest,
    /// The signed statement says something else of the thing than what admit finds.
    AttestedDiffers = "attested_differs" => Digest,
    // --- build
    /// A build step ended with an error.
    StepFailed = "step_failed" => Build,
    /// The installed tree is not the set that the lock expects.
    InstallMismatch = "install_mismatch" => Build,
    /// A patch of a package does not fit the package.
    PatchFailed = "patch_failed" => Build,
    /// A tracked file changed that the lock does not list in `writes`.
    SourceMutated = "source_mutated" => Build,
    /// The build did not leave its output.
    OutputMissing = "output_missing" => Build,
    /// The output is not a regular executable file.
    OutputNotExecutable = "output_not_executable" => Build,
    /// The output does not show the locked identity.
    WrongIdentity = "wrong_provider_identity" => Build,
    /// The runtime inside the output is not the pinned Bun.
    RuntimeMismatch = "runtime_mismatch" => Digest,
    // --- evidence
    /// A run directory without a seal: the run never came to its end.
    RunNotSealed = "run_not_sealed" => No,
    /// A file of a sealed run is not there.
    EvidenceMissing = "evidence_missing" => Digest,
    /// A file of a sealed run has other bytes, or it is another run.
    EvidenceChanged = "evidence_changed" => Digest,
    /// A file that a sealed run does not list.
    EvidenceExtra = "evidence_extra" => Digest,
    /// The files of a run are whole and say different things.
    EvidenceInconsistent = "evidence_inconsistent" => Digest,
    /// A campaign's count is not that of its runs.
    CampaignDiffers = "campaign_differs" => Digest,
    // --- run
    /// A scheduler took no job.
    SubmitFailed = "submit_failed" => No,
    /// A signal ended the work before it was done.
    Interrupted = "interrupted" => Stopped,
    /// Somebody else ended what admit had started.
    KilledFromOutside = "killed_from_outside" => Stopped,
    // --- sandbox
    /// A protection of the sandbox cannot be built on this machine.
    SandboxUnavailable = "sandbox_unavailable" => Sandbox,
    /// A protection was built and a probe got past it.
    SandboxProbeFailed = "sandbox_probe_failed" => Sandbox,
    // --- limits
    /// A clock ran out.
    TimedOut = "timed_out" => Limit,
    /// A size, count or memory limit was hit.
    LimitHit = "limit_hit" => Limit,
    DiskFull = "disk_full" => Limit,
    // --- the machine and admit itself
    /// Reading or writing on this machine failed.
    Io = "io" => Usage,
    /// Something that cannot happen, happened.
    Internal = "internal" => Bug,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What allows more of what a shell, a service manager or a container may limit for a process.
pub const MORE_OPEN_FILES: &str = "allow more open files: ulimit -n 4096";
pub const LARGER_FILES: &str = "allow larger files: ulimit -f unlimited";
pub const MORE_ADDRESS_SPACE: &str = "allow more address space: ulimit -v unlimited";
pub const MORE_PROCESSES: &str = "allow more processes: ulimit -u unlimited; or end other work of this user, or raise the cgroup's pids.max";

/// A failure with everything a person needs to act on it.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    reason: Reason,
    what: String,
    place: Option<String>,
    expected: Option<String>,
    found: Option<String>,
    hints: Vec<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "schema": "admit.error/1",
            "reason": self.reason().as_str(),
            "exit_code": self.kind().exit_code(),
            "what": self.what(),
            "where": self.place(),
            "expected": self.expected_value(),
            "found": self.found_value(),
            "causes": self.causes(),
            "fix": self.hints(),
        })
    }

    /// A failure for `reason`; `what` says in one line what was being done or what is wrong.
    pub fn new(reason: Reason, what: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                reason,
                what: what.into(),
                place: None,
                expected: None,
                found: None,
                hints: Vec::new(),
                source: None,
            }),
        }
    }

    /// A fault of admit's own, for `map_err`: `what` is no value although its text was made here.
    pub fn internal<E>(what: &'static str) -> impl Fn(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |err| Self::new(Reason::Internal, what).caused_by(err)
    }

    /// A failed read or write: says what was done to which path. A full disk gets its own reason.
    pub fn io(
        what: impl fmt::Display,
        path: impl AsRef<std::path::Path>,
        err: std::io::Error,
    ) -> Self {
        use std::io::ErrorKind;
        // Where a library put a path around the kernel's number, the kind alone is left.
        let (reason, fix) = match (err.raw_os_error(), err.kind()) {
            (_, ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => (
                Reason::DiskFull,
                Some(
                    "free some space there, or name another place: --store for what is fetched and built, --state for evidence",
                ),
            ),
            (Some(libc::EMFILE | libc::ENFILE), _) => (Reason::LimitHit, Some(MORE_OPEN_FILES)),
            (_, ErrorKind::FileTooLarge) => (Reason::LimitHit, Some(LARGER_FILES)),
            (_, ErrorKind::ReadOnlyFilesystem) => {
                let fix = "that file system is mounted read-only: mount it writable, or name another place (--store, --state, --root, XDG_DATA_HOME)";
                (Reason::Io, Some(fix))
            }
            _ => (Reason::Io, None),
        };
        let mut error =
            Self::new(reason, format!("cannot {what}")).at(path.as_ref().display().to_string());
        if let Some(fix) = fix {
            error = error.hint(fix);
        }
        error.caused_by(err)
    }

    /// Where: a file, `file:line:column`, a field, a URL.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.inner.place = Some(place.into());
        self
    }

    pub fn expected(mut self, value: impl Into<String>) -> Self {
        self.inner.expected = Some(value.into());
        self
    }

    pub fn found(mut self, value: impl Into<String>) -> Self {
        self.inner.found = Some(value.into());
        self
    }

    /// What it was wanted for, behind what failed: no hint, since nobody can do it.
    pub fn wanted_for(mut self, what: impl fmt::Display) -> Self {
        self.inner.what = format!("{}, wanted for {what}", self.inner.what);
        self
    }

    /// One thing the user can do about it; may be called more than once.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hints.push(hint.into());
        self
    }

    pub fn caused_by(mut self, err: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.inner.source = Some(err.into());
        self
    }

    pub fn reason(&self) -> Reason {
        self.inner.reason
    }

    pub fn kind(&self) -> Kind {
        self.inner.reason.kind()
    }

    /// The one-line statement without place, values and hints.
    pub fn what(&self) -> &str {
        &self.inner.what
    }

    pub fn place(&self) -> Option<&str> {
        self.inner.place.as_deref()
    }

    pub fn expected_value(&self) -> Option<&str> {
        self.inner.expected.as_deref()
    }

    pub fn found_value(&self) -> Option<&str> {
        self.inner.found.as_deref()
    }

    /// What the user can do, in order.
    pub fn hints(&self) -> &[String] {
        &self.inner.hints
    }

    /// The chain of lower-level causes, outermost first.
    pub fn causes(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut next: Option<&dyn std::error::Error> = self.inner.source.as_deref().map(|e| e as _);
        while let Some(err) = next {
            let text = err.to_string();
            // Libraries often repeat the inner text in the outer one; a line said twice helps nobody.
            if out.last() != Some(&text) {
                out.push(text);
            }
            next = err.source();
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.what)?;
        if let Some(place) = &self.inner.place {
            write!(f, ": {place}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_deref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn reasons_have_distinct_snake_case_names() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for name in names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [Kind::No, Kind::Usage, Kind::Refused, Kind::Fetch, Kind::Digest]
            .into_iter()
            .chain([Kind::Build, Kind::Sandbox, Kind::Run, Kind::Limit, Kind::Bug, Kind::Stopped])
            .map(Kind::exit_code)
            .collect::<Vec<_>>();
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 8, 9, 70, 75]);
    }

    #[test]
    fn a_full_disk_and_too_many_files_are_limits() {
        let err = Error::io("write", "/x", std::io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!((err.reason(), err.kind().exit_code()), (Reason::DiskFull, 9));
        for limit in [libc::EMFILE, libc::ENFILE, libc::EFBIG] {
            let err = Error::io("open", "/x", std::io::Error::from_raw_os_error(limit));
            assert_eq!((err.reason(), err.hints().len()), (Reason::LimitHit, 1));
        }
    }
}
