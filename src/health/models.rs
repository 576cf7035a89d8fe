//! What the gates on the model's side must refuse: request, admission, credentials, endpoint, network, response shape.

use super::model::Behaviour as B;
use super::validators::{ADMISSION, End, GATE, REPORT, Validator, Want};
use super::world::{Change, MODEL_POLICY, QWEN, SCRIPTED, SCRIPTED_RECORD, World, loopback};
use crate::gate::Gate;
use crate::record::failure::FailureClass as C;

/// Runs that a gate on the model's side refuses.
pub const MODELS: &[Validator] = &[
    Validator {
        name: "no_model_requested_blocks",
        fault: "no model is asked for",
        adapter: true,
        world: World { model: None, ..SCRIPTED },
        end: End::Blocked(Gate::ModelRequested, C::ModelNotAdmitted),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("model provider not admitted"))],
    },
    Validator {
        name: "model_provider_gate_blocks",
        fault: "a model is asked for that nobody admitted",
        adapter: true,
        world: World { model: Some("nobody/nothing"), ..SCRIPTED },
        end: End::Blocked(Gate::ModelAdmitted, C::ModelNotAdmitted),
        exit: 3,
        fields: &[
            (REPORT, ADMISSION, Want::Text("missing_admission")),
            (REPORT, "/failure_reason", Want::Text("model provider not admitted")),
        ],
    },
    Validator {
        name: "revoked_model_blocks",
        fault: "the model's admission is revoked",
        adapter: true,
        world: World {
            changes: &[Change::Json(SCRIPTED_RECORD, |r| r["status"] = "revoked".into())],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::ModelAdmitted, C::ModelNotAdmitted),
        exit: 3,
        fields: &[(REPORT, ADMISSION, Want::Text("not_admitted"))],
    },
    Validator {
        name: "model_not_signed_blocks",
        fault: "the root's policy asks for a signature on the model's admission, and there is none",
        adapter: true,
        world: World { changes: &[MODEL_POLICY], ..SCRIPTED },
        end: End::Blocked(Gate::ModelSigned, C::ModelNotAdmitted),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("model provider not admitted"))],
    },
    Validator {
        name: "credentials_missing_block",
        fault: "the hosted model is asked for with a claimed bridge, and there is no key",
        adapter: true,
        world: World {
            model: Some("openai-codex/gpt-5.5"),
            vars: &[("CTO_HARNESS_CASE_OPENAI_CODEX_AUTH_BRIDGE", "1")],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::Credentials, C::AuthUnavailable),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("provider auth unavailable"))],
    },
    Validator {
        name: "auth_gap_blocks",
        fault: "the hosted model is asked for with a key, and no auth bridge is claimed",
        adapter: true,
        world: World {
            model: Some("openai-codex/gpt-5.5"),
            vars: &[("ADMIT_MODEL_KEY", "no-real-key-of-anybody")],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::AuthBridge, C::AuthUnavailable),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("provider auth unavailable"))],
    },
    Validator {
        name: "endpoint_missing_blocks",
        fault: "the local model is asked for, and no endpoint is configured",
        adapter: true,
        world: World { model: Some(QWEN), ..SCRIPTED },
        end: End::Blocked(Gate::Endpoint, C::LocalConfigUnavailable),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("provider unavailable"))],
    },
    Validator {
        name: "endpoint_outside_network_class_blocks",
        fault: "the local model's endpoint is this machine's loopback, and its admission is of the tailnet's class",
        adapter: true,
        world: World { changes: &[], ..loopback(B::Plays) },
        end: End::Blocked(Gate::Network, C::ModelNotAdmitted),
        exit: 3,
        fields: &[(REPORT, ADMISSION, Want::Text("admitted"))],
    },
    Validator {
        name: "reasoning_only_blocks",
        fault: "the server answers the probe with reasoning and no content",
        adapter: true,
        world: loopback(B::ReasoningOnly),
        end: End::Blocked(Gate::ResponseShape, C::ResponseShapeUnavailable),
        exit: 3,
        fields: &[
            (REPORT, "/failure_reason", Want::Text("provider response shape unavailable")),
            (GATE, "/probe/outcome", Want::Text("reply_unusable")),
        ],
    },
    Validator {
        name: "upstream_unauthorized_blocks",
        fault: "the server answers the probe with HTTP 401",
        adapter: true,
        world: loopback(B::Unauthorized),
        end: End::Blocked(Gate::ResponseShape, C::AuthUnavailable),
        exit: 3,
        fields: &[(GATE, "/probe/verdict/class", Want::Text("auth_unavailable"))],
    },
    Validator {
        name: "upstream_error_blocks",
        fault: "the server answers the probe with HTTP 500",
        adapter: true,
        world: loopback(B::ServerError),
        end: End::Blocked(Gate::ResponseShape, C::UpstreamError),
        exit: 3,
        fields: &[(GATE, "/probe/verdict/class", Want::Text("upstream_error"))],
    },
    Validator {
        name: "upstream_cut_stream_blocks",
        fault: "the server ends its reply to the probe half-way",
        adapter: true,
        world: loopback(B::Cut),
        end: End::Blocked(Gate::ResponseShape, C::StreamTruncated),
        exit: 3,
        fields: &[(GATE, "/probe/verdict/class", Want::Text("stream_truncated"))],
    },
    Validator {
        name: "upstream_empty_reply_blocks",
        fault: "the server answers the probe with white space",
        adapter: true,
        world: loopback(B::Empty),
        end: End::Blocked(Gate::ResponseShape, C::EmptyReply),
        exit: 3,
        fields: &[(GATE, "/probe/verdict/class", Want::Text("empty_reply"))],
    },
    Validator {
        name: "upstream_bad_tool_call_blocks",
        fault: "the server answers the probe with a tool call whose arguments are no JSON",
        adapter: true,
        world: loopback(B::BadTool),
        end: End::Blocked(Gate::ResponseShape, C::MalformedToolCall),
        exit: 3,
        fields: &[(GATE, "/probe/verdict/class", Want::Text("malformed_tool_call"))],
    },
    Validator {
        name: "upstream_other_model_blocks",
        fault: "the server lists another model than the admitted one",
        adapter: true,
        world: loopback(B::ListsAnother),
        end: End::Blocked(Gate::ResponseShape, C::ModelMismatch),
        exit: 3,
        fields: &[(GATE, "/probe/outcome", Want::Text("model_not_listed"))],
    },
    Validator {
        name: "upstream_gone_blocks",
        fault: "nobody listens at the endpoint",
        adapter: true,
        world: loopback(B::Gone),
        end: End::Blocked(Gate::ResponseShape, C::ConnectionRefused),
        exit: 3,
        fields: &[(GATE, "/probe/verdict/class", Want::Text("connection_refused"))],
    },
];
