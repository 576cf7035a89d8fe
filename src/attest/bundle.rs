//! What is signed is added to a bundle: the one that the root keeps, or one beside what was signed.

use std::path::PathBuf;

use super::check::bundle_path;
use crate::context::Context;
use crate::error::{Error, Reason, Result};
use crate::record::dsse::{self, Envelope};
use crate::record::ids::{Digest, RelPath};

/// The bundle with what it does not have of these envelopes, one more a line. What is no bundle is not written to.
///
/// # Errors
/// [`Reason::BadEnvelope`] where what lies at `place` is none.
pub fn with(old: &[u8], envelopes: &[Envelope], place: &str) -> Result<Vec<u8>> {
    dsse::parse_bundle(old).map_err(|err| {
        Error::new(Reason::BadEnvelope, "what lies there is no bundle, so nothing is added to it")
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
pub fn keep(context: &Context, subject: &Digest, envelopes: &[Envelope]) -> Result<PathBuf> {
    let path: RelPath =
        bundle_path(subject).parse().map_err(Error::internal("the name of a bundle"))?;
    context.write_root(|root| {
        let place = root.place(path.as_str());
        root.update(&path, |now| {
            let old = now.unwrap_or_default();
            with(old, envelopes, &place).map(|new| (new != old).then_some(new))
        })
    })
}
