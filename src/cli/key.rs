//! `admit key …`: the keys that sign what admit attests.

use std::path::PathBuf;

use serde_json::json;

use super::App;
use crate::attest::keys::{Keys, Named};
use crate::error::Result;
use crate::record::ids::Name;

/// Make, show and take over the keys that sign attestations
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make an Ed25519 key
    New(One),
    /// Print public line and fingerprint, of one key or of all
    Show(Show),
    /// Take over a key file of OpenSSH: a private key to sign with, or a public one to trust
    Import(Import),
}

/// One key.
#[derive(Debug, clap::Args)]
struct One {
    /// What to call it
    #[arg(default_value = "default")]
    name: Name,
}

/// What to show.
#[derive(Debug, clap::Args)]
struct Show {
    /// Which key (default: all)
    name: Option<Name>,
    /// Print the public key as PEM, for verifiers that do not read OpenSSH's form
    #[arg(long, requires = "name")]
    pem: bool,
}

/// What to take over.
#[derive(Debug, clap::Args)]
struct Import {
    /// What to call it
    name: Name,
    /// A private key without a passphrase, or a public key
    file: PathBuf,
}

/// This user's keys.
pub(super) fn keys(app: &App) -> Result<Keys> {
    Ok(Keys::new(&app.context.host.data_dir()?))
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let keys = keys(app)?;
    let shown = match &args.command {
        Command::New(one) => {
            keys.make(&one.name)?;
            vec![keys.public(&one.name)?]
        }
        Command::Import(import) => {
            keys.import(&import.name, &app.context.host.absolute(&import.file))?;
            vec![keys.public(&import.name)?]
        }
        Command::Show(Show { name: Some(name), pem }) => {
            let named = keys.public(name)?;
            if *pem {
                app.ui.raw(named.key.pem().as_bytes());
                return Ok(0);
            }
            vec![named]
        }
        Command::Show(Show { name: None, .. }) => keys.all()?,
    };
    let rows: Vec<_> = shown
        .iter()
        .map(|named| {
            json!({
                "name": named.name, "own": named.own, "public": named.key.line(named.name.as_str()),
                "fingerprint": named.key.fingerprint(), "in_toto_keyid": named.key.in_toto_keyid(),
                "file": keys.public_path(&named.name),
            })
        })
        .collect();
    app.ui.json(&json!({ "schema": "admit.keys/1", "keys": rows }));
    for named in &shown {
        show(app, named);
    }
    if shown.is_empty() {
        app.ui.remark("there are no keys yet; admit key new makes one");
    }
    Ok(0)
}

fn show(app: &App, named: &Named) {
    app.ui.line(&named.key.line(named.name.as_str()));
    let whose = if named.own { "signs" } else { "trusted, not your own" };
    app.ui.line(&format!("{} {} ({whose})", named.key.fingerprint(), named.name));
}
