//! What `admit verify` must say yes to before anything is done with it: what cannot be verified is neither attested nor shared.

use super::{Options, verify};
use crate::check::Check;
use crate::context::Context;
use crate::error::{Error, Kind, Reason, Result};
use crate::lock::Spec;
use crate::record::finding::{self, Finding};

/// Why a provider is not what the records name.
#[derive(Debug)]
pub struct Unverified {
    pub faults: Vec<Finding>,
    /// What was refused because of them.
    pub error: Error,
}

/// Whether every check of verify holds for a provider, so that one may `act` on it. Signatures are checks as every other:
/// only what makes a signature leaves out, by `but`, the check that waits for that very one.
pub fn require_holds(
    context: &Context,
    spec: &Spec,
    but: &[Check],
    act: &str,
) -> Result<std::result::Result<(), Unverified>> {
    let options = Options { provider: Some(spec.clone()), ..Options::default() };
    let verified = verify(context, &options)?;
    let left_out = |finding: &&Finding| but.iter().any(|check| check.id() == finding.id);
    let faults = verified.iter().flat_map(|one| one.faults()).filter(|one| !left_out(one));
    let faults: Vec<Finding> = faults.cloned().collect();
    if faults.is_empty() {
        return Ok(Ok(()));
    }
    let reason = match finding::kind_of(&faults) {
        Some(Kind::Digest) => Reason::DigestMismatch,
        _ => Reason::AttestRefused,
    };
    let ids: Vec<&str> = faults.iter().map(|finding| finding.id.as_str()).collect();
    let error = Error::new(reason, format!("what admit cannot verify it does not {act}"))
        .at(spec.to_string())
        .expected("every check of admit verify")
        .found(format!("not: {}", ids.join(", ")))
        .hint(format!("to see what to do: admit verify {spec}"));
    Ok(Err(Unverified { faults, error }))
}
