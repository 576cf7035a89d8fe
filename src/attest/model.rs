//! A model admission as a statement of admit's own: no standard speaks of who may answer an agent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::admission::{self, ModelAdmission};
use crate::record::ids::Digest;
use crate::record::statement::Statement;
use crate::record::{self, Record, RecordError, Schema};

pub const MODEL_ADMISSION: &str = "urn:admit:predicate:model-admission:1";

/// The predicate of a model admission (`admit.model-attestation/1`): the record as admit reads it. The subject is the
/// record's file, by the SHA-256 of its bytes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelPredicate {
    /// `admit.model-attestation/1`.
    pub schema: String,
    /// The record; one in the older form has `legacy/0` as its schema and the values that admit reads into it.
    pub admission: ModelAdmission,
}

impl Record for ModelPredicate {
    const SCHEMA: Schema = Schema { name: "admit.model-attestation", version: 1 };
}

/// The statement about the record with these bytes.
///
/// # Errors
/// Where they are no admission record.
pub fn model_admission(bytes: &[u8]) -> Result<Statement, RecordError> {
    let admission = admission::parse(bytes)?;
    let name = admission.pair().path();
    let predicate = ModelPredicate { schema: ModelPredicate::SCHEMA.to_string(), admission };
    let predicate = record::to_value(&predicate);
    Ok(Statement::about(&name, &Digest::sha256(bytes), MODEL_ADMISSION, predicate))
}
