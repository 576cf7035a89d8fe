//! What the gates on the model's side must refuse: request, admission, credentials, endpoint, network, response shape.

use super::validators::{ADMISSION, Field, GATE, Validator, Want, text, validator};
use super::world::{Change, MODEL_POLICY, QWEN, SCRIPTED, SCRIPTED_RECORD, World, loopback};
use crate::check::Check;
use crate::proxy::mock::Behaviour as B;
use crate::record::failure::FailureClass as C;
use crate::record::wire::ReasoningField;

/// An endpoint of the hosted model's network class, for runs that are refused before anything is asked of it.
const ENDPOINT: (&str, &str) = ("CTO_HARNESS_CASE_LOCAL_BASE_URL", "http://100.64.0.1:9/v1");

/// One that a check on the model's side refuses.
const fn model(name: &'static str, fault: &'static str) -> Validator {
    validator(name, fault).adapter()
}

impl Validator {
    /// The model answers the probe with something that no run can begin with.
    const fn answered(self, behaviour: B, class: C) -> Self {
        self.world(loopback(behaviour)).blocked(Check::ResponseShape, class, 3)
    }
}

const fn hosted(vars: &'static [(&'static str, &'static str)]) -> World {
    World { model: Some("openai-codex/gpt-5.5"), vars, ..SCRIPTED }
}

/// Runs that a gate on the model's side refuses.
pub const MODELS: &[Validator] = &[
    model("no_model_requested_blocks", "no model is asked for")
        .blocked(Check::ModelRequested, C::ModelNotAdmitted, 3)
        .world(World { model: None, ..SCRIPTED })
        .says("model provider not admitted"),
    model("model_provider_gate_blocks", "a model is asked for that is not admitted")
        .blocked(Check::ModelAdmitted, C::ModelNotAdmitted, 3)
        .world(World { model: Some("nobody/nothing"), ..SCRIPTED })
        .fields(&[text(ADMISSION, "missing_admission")])
        .says("model provider not admitted"),
    model("revoked_model_blocks", "the model's admission is revoked")
        .blocked(Check::ModelAdmitted, C::ModelNotAdmitted, 3)
        .changes(&[Change::Json(SCRIPTED_RECORD, |r| r["status"] = "revoked".into())])
        .fields(&[text(ADMISSION, "not_admitted")]),
    model("invalid_admission_blocks", "the model's admission has a field that none has")
        .blocked(Check::ModelAdmitted, C::ModelNotAdmitted, 3)
        .changes(&[Change::Json(SCRIPTED_RECORD, |r| r["planted"] = true.into())])
        .fields(&[text(ADMISSION, "invalid_admission")]),
    model("mismatched_admission_blocks", "the record under the model's name admits another one")
        .blocked(Check::ModelAdmitted, C::ModelNotAdmitted, 3)
        .changes(&[Change::Json(SCRIPTED_RECORD, |r| r["model"] = "another".into())])
        .fields(&[text(ADMISSION, "mismatch")]),
    model(
        "model_not_signed_blocks",
        "the root's policy asks for a signature on the model's admission, and there is none",
    )
    .blocked(Check::ModelSigned, C::ModelNotAdmitted, 3)
    .changes(&[MODEL_POLICY])
    .says("model provider not admitted"),
    model(
        "credentials_missing_block",
        "the hosted model is asked for with a claimed bridge, and there is no key",
    )
    .blocked(Check::Credentials, C::AuthUnavailable, 3)
    .world(hosted(&[("CTO_HARNESS_CASE_OPENAI_CODEX_AUTH_BRIDGE", "1"), ENDPOINT]))
    .says("provider auth unavailable"),
    model(
        "auth_gap_blocks",
        "the hosted model is asked for with a key, and no auth bridge is claimed",
    )
    .blocked(Check::AuthBridge, C::AuthUnavailable, 3)
    .world(hosted(&[("ADMIT_MODEL_KEY", "no-real-key"), ENDPOINT]))
    .says("provider auth unavailable"),
    model("endpoint_missing_blocks", "the local model is asked for, and no endpoint is configured")
        .blocked(Check::Endpoint, C::LocalConfigUnavailable, 3)
        .world(World { model: Some(QWEN), ..SCRIPTED })
        .says("provider unavailable"),
    model(
        "endpoint_outside_network_class_blocks",
        "the local model's endpoint is loopback, and its admission is of the tailnet's class",
    )
    .blocked(Check::Network, C::NetworkNotAllowed, 3)
    .world(World { changes: &[], ..loopback(B::Plays) })
    .fields(&[text(ADMISSION, "admitted")])
    .says("model endpoint outside of its network"),
    model("reasoning_only_blocks", "the server answers the probe with reasoning and no content")
        .answered(B::ReasoningOnly(ReasoningField::Reasoning), C::ResponseShapeUnavailable)
        .fields(&[(GATE, "/probe/outcome", Want::Text("reply_unusable"))])
        .says("provider response shape unavailable"),
    model("upstream_unauthorized_blocks", "the server answers the probe with HTTP 401")
        .answered(B::Status(401), C::AuthUnavailable)
        .fields(&[verdict("auth_unavailable")]),
    model("upstream_error_blocks", "the server answers the probe with HTTP 500")
        .answered(B::Status(500), C::UpstreamError)
        .fields(&[verdict("upstream_error")]),
    model("upstream_cut_stream_blocks", "the server ends its reply to the probe half-way")
        .answered(B::Cut, C::StreamTruncated)
        .fields(&[verdict("stream_truncated")]),
    model("upstream_empty_reply_blocks", "the server answers the probe with white space")
        .answered(B::Empty, C::EmptyReply)
        .fields(&[verdict("empty_reply")]),
    model(
        "upstream_bad_tool_call_blocks",
        "the server answers the probe with a tool call whose arguments are no JSON",
    )
    .answered(B::BadTool, C::MalformedToolCall)
    .fields(&[verdict("malformed_tool_call")]),
    model("upstream_other_model_blocks", "the server lists another model than the admitted one")
        .answered(B::ListsAnother, C::ModelMismatch)
        .fields(&[(GATE, "/probe/outcome", Want::Text("model_not_listed"))]),
    model("upstream_gone_blocks", "nothing listens at the endpoint")
        .answered(B::Gone, C::ConnectionRefused)
        .fields(&[verdict("connection_refused")]),
];

/// What the probe's exchange came to.
const fn verdict(class: &'static str) -> Field {
    (GATE, "/probe/verdict/class", Want::Text(class))
}
