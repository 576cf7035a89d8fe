//! What the gates on the model's side must refuse: request, admission, credentials, endpoint, network, response shape.

use super::validators::{ADMISSION, GATE, Validator, Want, text, validator};
use super::world::{Change, MODEL_POLICY, QWEN, SCRIPTED, SCRIPTED_RECORD, World, loopback};
use crate::check::Check;
use crate::proxy::mock::Behaviour as B;
use crate::record::failure::FailureClass as C;
use crate::record::wire::ReasoningField;

/// An endpoint of the hosted model's network class, for runs that are refused before anything is asked of it.
const ENDPOINT: (&str, &str) = ("CTO_HARNESS_CASE_LOCAL_BASE_URL", "http://100.64.0.1:9/v1");

/// Runs that a gate on the model's side refuses.
pub const MODELS: &[Validator] = &[
    validator("no_model_requested_blocks", "no model is asked for").adapter().world(World { model: None, ..SCRIPTED }).blocked(Check::ModelRequested, C::ModelNotAdmitted, 3).says("model provider not admitted"),
    validator("model_provider_gate_blocks", "a model is asked for that is not admitted").adapter().world(World { model: Some("nobody/nothing"), ..SCRIPTED }).blocked(Check::ModelAdmitted, C::ModelNotAdmitted, 3).fields(&[
            text(ADMISSION, "missing_admission")]).says("model provider not admitted"),
    validator("revoked_model_blocks", "the model's admission is revoked").adapter().changes(&[Change::Json(SCRIPTED_RECORD, |r| r["status"] = "revoked".into())]).blocked(Check::ModelAdmitted, C::ModelNotAdmitted, 3).fields(&[text(ADMISSION, "not_admitted")]),
    validator("invalid_admission_blocks", "the model's admission has a field that none has").adapter().changes(&[Change::Json(SCRIPTED_RECORD, |r| r["planted"] = true.into())]).blocked(Check::ModelAdmitted, C::ModelNotAdmitted, 3).fields(&[text(ADMISSION, "invalid_admission")]),
    validator("mismatched_admission_blocks", "the record under the model's name admits another one").adapter().changes(&[Change::Json(SCRIPTED_RECORD, |r| r["model"] = "another".into())]).blocked(Check::ModelAdmitted, C::ModelNotAdmitted, 3).fields(&[text(ADMISSION, "mismatch")]),
    validator("model_not_signed_blocks", "the root's policy asks for a signature on the model's admission, and there is none").adapter().changes(&[MODEL_POLICY]).blocked(Check::ModelSigned, C::ModelNotAdmitted, 3).says("model provider not admitted"),
    validator("credentials_missing_block", "the hosted model is asked for with a claimed bridge, and there is no key").adapter().world(World {
            model: Some("openai-codex/gpt-5.5"),
            vars: &[("CTO_HARNESS_CASE_OPENAI_CODEX_AUTH_BRIDGE", "1"), ENDPOINT],
            ..SCRIPTED
        }).blocked(Check::Credentials, C::AuthUnavailable, 3).says("provider auth unavailable"),
    validator("auth_gap_blocks", "the hosted model is asked for with a key, and no auth bridge is claimed").adapter().world(World {
            model: Some("openai-codex/gpt-5.5"),
            vars: &[("ADMIT_MODEL_KEY", "no-real-key"), ENDPOINT],
            ..SCRIPTED
        }).blocked(Check::AuthBridge, C::AuthUnavailable, 3).says("provider auth unavailable"),
    validator("endpoint_missing_blocks", "the local model is asked for, and no endpoint is configured").adapter().world(World { model: Some(QWEN), ..SCRIPTED }).blocked(Check::Endpoint, C::LocalConfigUnavailable, 3).says("provider unavailable"),
    validator("endpoint_outside_network_class_blocks", "the local model's endpoint is this machine's loopback, and its admission is of the tailnet's class").adapter().world(World { changes: &[], ..loopback(B::Plays) }).blocked(Check::Network, C::NetworkNotAllowed, 3).fields(&[text(ADMISSION, "admitted")]).says("model endpoint outside of its network"),
    validator("reasoning_only_blocks", "the server answers the probe with reasoning and no content").adapter().world(loopback(B::ReasoningOnly(ReasoningField::Reasoning))).blocked(Check::ResponseShape, C::ResponseShapeUnavailable, 3).fields(&[
            text("/failure_reason", "provider response shape unavailable"),
            (GATE, "/probe/outcome", Want::Text("reply_unusable")),
        ]),
    validator("upstream_unauthorized_blocks", "the server answers the probe with HTTP 401").adapter().world(loopback(B::Status(401))).blocked(Check::ResponseShape, C::AuthUnavailable, 3).fields(&[(GATE, "/probe/verdict/class", Want::Text("auth_unavailable"))]),
    validator("upstream_error_blocks", "the server answers the probe with HTTP 500").adapter().world(loopback(B::Status(500))).blocked(Check::ResponseShape, C::UpstreamError, 3).fields(&[(GATE, "/probe/verdict/class", Want::Text("upstream_error"))]),
    validator("upstream_cut_stream_blocks", "the server ends its reply to the probe half-way").adapter().world(loopback(B::Cut)).blocked(Check::ResponseShape, C::StreamTruncated, 3).fields(&[(GATE, "/probe/verdict/class", Want::Text("stream_truncated"))]),
    validator("upstream_empty_reply_blocks", "the server answers the probe with white space").adapter().world(loopback(B::Empty)).blocked(Check::ResponseShape, C::EmptyReply, 3).fields(&[(GATE, "/probe/verdict/class", Want::Text("empty_reply"))]),
    validator("upstream_bad_tool_call_blocks", "the server answers the probe with a tool call whose arguments are no JSON").adapter().world(loopback(B::BadTool)).blocked(Check::ResponseShape, C::MalformedToolCall, 3).fields(&[(GATE, "/probe/verdict/class", Want::Text("malformed_tool_call"))]),
    validator("upstream_other_model_blocks", "the server lists another model than the admitted one").adapter().world(loopback(B::ListsAnother)).blocked(Check::ResponseShape, C::ModelMismatch, 3).fields(&[(GATE, "/probe/outcome", Want::Text("model_not_listed"))]),
    validator("upstream_gone_blocks", "nothing listens at the endpoint").adapter().world(loopback(B::Gone)).blocked(Check::ResponseShape, C::ConnectionRefused, 3).fields(&[(GATE, "/probe/verdict/class", Want::Text("connection_refused"))]),
];
