//! What stands behind an endpoint, asked before anybody approves it: credentials, endpoint and network as a run would look
//! at them, then each wire API. Nothing is recorded.

use std::sync::atomic::AtomicUsize;

use super::gather::model::{Sources, reach};
use super::{Facts, Found, model};
use crate::error::{Error, Reason, Result};
use crate::proxy::api::list;
use crate::proxy::probe::ProbeLimits;
use crate::proxy::survey::{self, Offer};
use crate::record::admission::{AdmissionStatus, Api, ModelAdmission, ModelStatus};
use crate::record::finding::{Finding, State};

#[derive(Debug, Default)]
pub struct Survey {
    /// The checks that a request hangs on. Nothing was asked unless all hold.
    pub checks: Vec<Finding>,
    pub offers: Vec<Offer>,
}

impl Survey {
    /// The API that fits best: one over which a tool call comes whole before one that only answers, in the order of
    /// [`Api::ALL`].
    pub fn best(&self) -> Option<&Offer> {
        let good = || self.offers.iter().filter(|offer| offer.answers());
        good().find(|offer| offer.calls()).or_else(|| good().next())
    }
}

/// Asks the endpoint of `sources` over each of `apis` for the model of `record`, which nobody approved yet.
///
/// # Errors
/// Where nothing could be asked, or `stop` was set meanwhile.
pub fn survey(
    sources: &Sources<'_>,
    record: &ModelAdmission,
    apis: &[Api],
    stop: &AtomicUsize,
) -> Result<Survey> {
    let status = ModelStatus {
        status: AdmissionStatus::Admitted,
        reason: "as proposed".into(),
        record: Some(record.clone()),
    };
    // Looked at as if it were approved: whoever asks names network and credentials, and only those decide who is asked.
    let mut facts = Facts { model: Found::Known(status), ..Facts::default() };
    let upstream = reach(sources, record, &mut facts);
    let checks = [model::credentials, model::endpoint, model::network].map(|check| check(&facts));
    let mut out = Survey { checks: checks.into(), offers: Vec::new() };
    let Some(upstream) = upstream else { return Ok(out) };
    if out.checks.iter().any(|check| check.state != State::Ok) {
        return Ok(out);
    }
    for api in apis {
        let spoken = upstream.speaking(list::of(*api)).ok_or_else(|| {
            Error::new(Reason::Internal, "a model inside admit is none to look at from outside")
        })?;
        let limits = ProbeLimits::default();
        out.offers.push(survey::survey(&spoken, record.model.as_str(), limits, stop)?);
    }
    Ok(out)
}
