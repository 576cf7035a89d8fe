//! What is started and must fail.

use super::model::Behaviour as B;
use super::validators::{End, REPORT, Validator, Want};
use super::world::{Change, SCRIPT, SCRIPTED, World, loopback, with_bash};
use crate::record::failure::FailureClass as C;

/// Runs that are started and fail with a class of their own.
pub const FAILING: &[Validator] = &[
    Validator {
        name: "provider_timeout_fail_closed",
        fault: "the model answers the probe and is silent from then on; the wall clock is two seconds",
        adapter: true,
        world: World { timeout: Some(2), ..loopback(B::Silent) },
        end: End::Fails(C::Timeout),
        exit: 9,
        fields: &[
            (REPORT, "/backend_exit_code", Want::Number(124)),
            (REPORT, "/backend_exit_code_source", Want::Text("clock")),
            (REPORT, "/failure_reason", Want::Text("case engine failed with exit code 124")),
        ],
    },
    Validator {
        name: "agent_result_missing_fails",
        fault: "the model's replies are whole and hold no result, and nothing was done",
        adapter: true,
        world: loopback(B::NoResult),
        end: End::Fails(C::AgentProtocol),
        exit: 8,
        fields: &[
            (REPORT, "/protocol_marker", Want::Text("backend/provider-agent-protocol.txt")),
            (REPORT, "/failure_reason", Want::Text("case agent result protocol failed")),
        ],
    },
    Validator {
        name: "wrong_work_rejected",
        fault: "the agent says that it is done, and its patch is wrong",
        adapter: false,
        world: World {
            changes: &[Change::Json(SCRIPT, |script| {
                script["turns"][1]["tool_calls"][0]["arguments"]["edits"][1]["newText"] =
                    "    return text.lower()\n".into();
            })],
            ..SCRIPTED
        },
        end: End::Fails(C::JudgeRejected),
        exit: 8,
        fields: &[(REPORT, "/tests_passed", Want::Bool(false))],
    },
    Validator {
        name: "writes_outside_rejected",
        fault: "the agent's commit also holds a file outside of the allowed paths",
        adapter: false,
        world: World {
            changes: &[Change::Json(SCRIPT, |script| {
                let commit = "echo x > more.py && git add -A && git commit -q -m more";
                script["turns"][3]["tool_calls"][0]["arguments"]["command"] = commit.into();
            })],
            ..SCRIPTED
        },
        end: End::Fails(C::WritesOutside),
        exit: 8,
        fields: &[(REPORT, "/allowed_writes_passed", Want::Bool(false))],
    },
    Validator {
        name: "secret_in_evidence_rejected",
        fault: "the agent prints what has the form of an access token",
        adapter: false,
        world: World {
            changes: &[Change::Json(SCRIPT, |script| {
                // Put together here, so that looking through this program finds none.
                let token = ["gh", "p_", "0123456789abcdefABCD", "EF0123456789abcd"].concat();
                with_bash(script, 1, &format!("echo {token}"));
            })],
            ..SCRIPTED
        },
        end: End::Fails(C::SecretFound),
        exit: 8,
        fields: &[(REPORT, "/failure_reason", Want::Text("evidence rejected: secret_found"))],
    },
];
