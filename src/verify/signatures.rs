//! Where signatures are, and whose count.

use std::path::{Path, PathBuf};

use crate::attest::keys::Keys;
use crate::attest::{self, Demand};
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host::files::{self, Links};
use crate::record::dsse::{self, Envelope, MAX_BUNDLE};
use crate::record::ids::{Digest, Name, RelPath};
use crate::record::signing::Kind;
use crate::root::Root;

/// What the user says of signatures.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Signatures {
    /// Check the signatures in this bundle, in place of the recorded one
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// Count only this key's; without it and without a policy, all of `admit key show` count
    #[arg(long, value_name = "NAME", requires = "bundle")]
    pub key: Option<Name>,
}

impl Signatures {
    /// The bundle that the user names.
    pub fn given(&self, context: &Context) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.bundle.as_ref().map(|path| context.host.absolute(path)) else {
            return Ok(None);
        };
        bundle(&path)?.map(Some).ok_or_else(|| {
            Error::new(Reason::NotFound, "there is no such bundle").at(path.display().to_string())
        })
    }

    /// Whose signatures count: what the root's policy says, else this user's keys.
    pub fn demand(&self, context: &Context, root: &Root, kind: Kind) -> Result<Demand> {
        let keys = Keys::new(&context.host.data_dir()?);
        match (Demand::of_root(root, kind)?, &self.key) {
            (Some(policy), None) => Ok(policy),
            (Some(policy), Some(_)) => Err(Error::new(
                Reason::BadArgument,
                "--key, and the root has a policy that decides",
            )
            .found(policy.words())
            .hint("leave out --key")),
            (None, Some(name)) => Ok(Demand::of_keys(vec![keys.public(name)?])),
            (None, None) => Ok(Demand::of_keys(keys.all()?)),
        }
    }
}

/// The bundle with what it does not have of these envelopes, one more a line. What is no bundle is not written to.
///
/// # Errors
/// [`Reason::BadEnvelope`] where what lies at `place` is none.
pub fn with(old: &[u8], envelopes: &[Envelope], place: &str) -> Result<Vec<u8>> {
    dsse::parse_bundle(old).map_err(|err| {
        Error::new(Reason::BadEnvelope, "the file is no bundle, so nothing is added to it")
            .at(place)
            .expected("one envelope a line")
            .found(err.to_string())
    })?;
    let mut out = old.to_vec();
    for line in envelopes.iter().map(Envelope::line) {
        if old.split(|b| *b == b'\n').any(|have| have == line.as_bytes()) {
            continue;
        }
        if !out.is_empty() && !out.ends_with(b"\n") {
            out.push(b'\n');
        }
        out.extend(line.as_bytes());
        out.push(b'\n');
    }
    Ok(out)
}

/// Adds envelopes to the bundle in which the root keeps what was signed about `subject`: where that is.
///
/// # Errors
/// Those of [`with`] and of a root's writers.
pub fn keep(context: &Context, subject: &Digest, envelopes: &[Envelope]) -> Result<PathBuf> {
    let path: RelPath = attest::bundle_path(subject)
        .parse()
        .map_err(|err| Error::new(Reason::Internal, "the name of a bundle").caused_by(err))?;
    context.write_root(|root| {
        let place = root.place(path.as_str());
        root.update(&path, |now| {
            let old = now.unwrap_or_default();
            with(old, envelopes, &place).map(|new| (new != old).then_some(new))
        })
    })
}

/// The bytes of a bundle; `None` where there is no such file.
pub fn bundle(path: &Path) -> Result<Option<Vec<u8>>> {
    match files::read(path, Links::Follow, MAX_BUNDLE as u64) {
        Err(err) if err.reason() == Reason::NotFound => Ok(None),
        other => other.map(Some),
    }
}
