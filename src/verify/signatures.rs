//! Where signatures are, and whose count.

use std::path::{Path, PathBuf};

use crate::attest::Demand;
use crate::attest::keys::Keys;
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host::files::{self, Links};
use crate::record::dsse::MAX_BUNDLE;
use crate::record::ids::Name;
use crate::record::signing::StatementKind;
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
    pub fn given(&self, context: &Context) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.bundle.as_ref().map(|path| context.host.absolute(path)) else {
            return Ok(None);
        };
        bundle(&path)?.map(Some).ok_or_else(|| {
            Error::new(Reason::NotFound, "there is no such bundle").at(path.display().to_string())
        })
    }

    /// Whose signatures count: what the root's policy says, else this user's keys.
    pub fn demand(&self, context: &Context, root: &Root, kind: StatementKind) -> Result<Demand> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    /// A user with two keys, `one` and `two`, and a root whose policy is of `policy`'s key, if there is one.
    fn user(policy: Option<&str>) -> (tempfile::TempDir, Context, Root) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::with([("HOME".into(), dir.path().display().to_string())], dir.path());
        let keys = Keys::new(&host.data_dir().unwrap());
        for name in ["one", "two"] {
            keys.make(&name.parse().unwrap()).unwrap();
        }
        let config = policy.map_or(String::new(), |name| {
            let key = keys.public(&name.parse().unwrap()).unwrap().key.line(name);
            format!(
                "[[signer]]\nname = 'policy'\nkey = '{key}'\n[require]\nbuild = {{ signers = ['policy'] }}"
            )
        });
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("admit.toml"), config).unwrap();
        let root = Root::trust(&host, &root, None).unwrap();
        (dir, Context::plain(host), root)
    }

    #[test]
    fn the_policy_decides_else_the_named_key_else_all_of_this_users() {
        for (policy, kind, key, want) in [
            (None, StatementKind::Build, None, Ok(&["one", "two"][..])),
            (None, StatementKind::Build, Some("two"), Ok(&["two"])),
            (None, StatementKind::Build, Some("three"), Err(Reason::KeyUnusable)),
            (Some("one"), StatementKind::Build, None, Ok(&["policy"])),
            // Who is asked for by the policy, nobody chooses.
            (Some("one"), StatementKind::Build, Some("two"), Err(Reason::BadArgument)),
            // A policy of builds says nothing of models.
            (Some("one"), StatementKind::Model, Some("two"), Ok(&["two"])),
        ] {
            let (_dir, context, root) = user(policy);
            let key = key.map(|name| name.parse().unwrap());
            let asked = Signatures { bundle: None, key }.demand(&context, &root, kind);
            let found = asked.map_err(|err| err.reason()).map(|demand| {
                let names = demand.trusted.iter().map(|one| one.signer.name.to_string());
                names.collect::<Vec<_>>()
            });
            let want = want.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(found, want, "{policy:?} {kind:?}");
        }
    }

    #[test]
    fn a_bundle_that_is_named_is_there() {
        let (dir, context, _) = user(None);
        std::fs::write(dir.path().join("there"), "{}").unwrap();
        for (name, want) in [
            (None, Ok(None)),
            (Some("there"), Ok(Some(b"{}".to_vec()))),
            (Some("gone"), Err(Reason::NotFound)),
        ] {
            let bundle = name.map(PathBuf::from);
            let found = Signatures { bundle, key: None }.given(&context);
            assert_eq!(found.map_err(|err| err.reason()), want, "{name:?}");
        }
        assert_eq!(bundle(&dir.path().join("gone")).unwrap(), None);
        assert!(
            bundle(dir.path()).is_err(),
            "a directory is no bundle, and not one that is absent"
        );
    }
}
