//! Where signatures are, and whose count.

use std::path::{Path, PathBuf};

use crate::attest::Demand;
use crate::attest::keys::Keys;
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host::files::{self, Links};
use crate::record::dsse::MAX_BUNDLE;
use crate::record::ids::Name;
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

/// The bytes of a bundle; `None` where there is no such file.
pub fn bundle(path: &Path) -> Result<Option<Vec<u8>>> {
    match files::read(path, Links::Follow, MAX_BUNDLE as u64) {
        Err(err) if err.reason() == Reason::NotFound => Ok(None),
        other => other.map(Some),
    }
}
