//! Models put on record: what a person approved, in a file of that person's own.

use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::host;
use crate::host::files::{self, Links};
use crate::record::admission::{self, AdmissionStatus, ModelAdmission, RecordFile};
use crate::record::ids::RelPath;
use crate::secrets;

/// Longest admission record that is read.
pub const MAX_RECORD: u64 = 1 << 20;

/// A record that was imported.
#[derive(Debug)]
pub struct Imported {
    /// Where it stands now.
    pub place: PathBuf,
    pub record: ModelAdmission,
    /// Whether it was not there before.
    pub new: bool,
}

/// Puts the admission record in `file` on record in the root that holds, byte for byte as it is. One that is there for the
/// same pair and says something else stays, unless `replace`.
///
/// # Errors
/// Those of [`files::read_own`] and of a root's writers; [`Reason::BadRecord`] for a file that is no record, holds a secret
/// or would admit nothing; [`Reason::BadArgument`] where there is another record.
pub fn import(context: &Context, file: &Path, replace: bool) -> Result<Imported> {
    let place = file.display().to_string();
    let bytes = files::read_own(&context.host.absolute(file), Links::Follow, MAX_RECORD)?;
    // Before parsing: a parser's message may quote what it choked on.
    if let Some(rule) = secrets::rule_of(&bytes) {
        return Err(Error::new(Reason::BadRecord, "the record holds a secret")
            .at(place)
            .found(rule)
            .hint("a record names where a key comes from, never the key: take it out, and change the key"));
    }
    let record = admission::parse(&bytes).map_err(|err| crate::root::bad_record(&place, &err))?;
    let pair = record.pair();
    let (asked, now) = (RecordFile::Bytes(bytes.clone()), context.clock.now());
    let found = admission::status(&asked, Some(&pair), 2, &now, &secrets::rule_of);
    if found.status != AdmissionStatus::Admitted {
        return Err(Error::new(Reason::BadRecord, "the record would not admit the pair")
            .at(place)
            .expected("admitted")
            .found(format!("{}: {}", found.status.as_str(), found.reason)));
    }
    let path: RelPath = pair
        .path()
        .parse()
        .map_err(|err| Error::new(Reason::BadArgument, "the pair's name").caused_by(err))?;
    let mut new = true;
    let stands = context.write_root(|root| {
        let there = root.place(path.as_str());
        root.update(&path, |now| match now {
            Some(now) if admission::same(now, &bytes) => {
                new = false;
                Ok(None)
            }
            Some(now) if !replace => {
                let word = admission::parse(now).map_or("unreadable".to_owned(), |old| old.status);
                Err(Error::new(Reason::BadArgument, "there is another record for this pair")
                    .at(there)
                    .found(format!("its status is \"{}\"", word.escape_debug()))
                    .hint(format!(
                        "to see it: admit model show {pair}; if yours is to hold instead: admit model import {} --replace",
                        host::quoted(&place)
                    )))
            }
            _ => Ok(Some(bytes.clone())),
        })
    })?;
    Ok(Imported { place: stands, record, new })
}
