//! `admit key …`: the keys that sign what admit attests.

use std::path::PathBuf;

use serde_json::json;

use super::App;
use crate::attest::keys::{Keys, Named};
use crate::error::Result;
use crate::record::ids::Name;
use crate::ui::{self, Mark};

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

fn keys(app: &App) -> Result<Keys> {
    Ok(Keys::new(&app.context.host.data_dir()?))
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let keys = keys(app)?;
    let (mut word, mut next) = ("", "");
    let shown = match &args.command {
        Command::New(one) => {
            keys.make(&one.name)?;
            (word, next) = ("made", "; admit attest signs with it");
            vec![keys.public(&one.name)?]
        }
        Command::Import(import) => {
            keys.import(&import.name, &app.context.host.absolute(&import.file))?;
            word = "imported";
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
    let count = ui::count(shown.len(), "key", "keys");
    let word = if word.is_empty() { &count } else { word };
    let own = shown.iter().filter(|named| named.own).count();
    let first = match &shown[..] {
        [] => "admit key new makes one".to_owned(),
        [one] => said(one),
        all => format!("{own} to sign with, {} trusted alone", all.len() - own),
    };
    app.ui.verdict(Mark::Good, word, &first);
    for named in &shown {
        if shown.len() > 1 {
            app.ui.line(&said(named));
        }
        app.ui.value("public", &named.key.line(named.name.as_str()));
    }
    if !shown.is_empty() {
        let place = match &shown[..] {
            [one] => keys.public_path(&one.name).display().to_string(),
            _ => "admit key show NAME says where each lies".to_owned(),
        };
        app.ui.verdict(Mark::Good, word, &format!("{place}{next}"));
    }
    Ok(0)
}

fn said(named: &Named) -> String {
    let whose = if named.own { "signs" } else { "trusted, not your own" };
    format!("{} {} ({whose})", named.name, named.key.fingerprint())
}
