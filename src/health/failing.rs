//! What is started and must fail.

use super::validators::{REPORT, Validator, Want, text, validator};
use super::world::{Change, SCRIPT, World, loopback, with_bash};
use crate::proxy::mock::Behaviour as B;
use crate::record::failure::FailureClass as C;

/// Runs that are started and fail with a class of their own.
pub const FAILING: &[Validator] = &[
    validator(
        "provider_timeout_fail_closed",
        "the model answers the probe and is silent from then on; the wall clock is two seconds",
    )
    .adapter()
    .world(World { timeout: Some(2), ..loopback(B::Silent) })
    .fails(C::Timeout, 9)
    .fields(&[
        (REPORT, "/backend_exit_code", Want::Number(124)),
        text("/backend_exit_code_source", "clock"),
        text("/failure_reason", "case engine failed with exit code 124"),
    ]),
    validator(
        "agent_result_missing_fails",
        "the model's replies are whole and hold no result, and nothing was done",
    )
    .adapter()
    .world(loopback(B::NoResult))
    .fails(C::AgentProtocol, 8)
    .fields(&[
        text("/protocol_marker", "backend/provider-agent-protocol.txt"),
        text("/failure_reason", "case agent result protocol failed"),
    ]),
    validator("wrong_work_rejected", "the agent says that it is done, and its patch is wrong")
        .changes(&[Change::Json(SCRIPT, |script| {
            script["turns"][1]["tool_calls"][0]["arguments"]["edits"][1]["newText"] =
                "    return text.lower()\n".into();
        })])
        .fails(C::JudgeRejected, 8)
        .fields(&[(REPORT, "/tests_passed", Want::Bool(false))]),
    validator(
        "writes_outside_rejected",
        "the agent's commit also holds a file outside of the allowed paths",
    )
    .changes(&[Change::Json(SCRIPT, |script| {
        let commit = "echo x > more.py && git add -A && git commit -q -m more";
        script["turns"][3]["tool_calls"][0]["arguments"]["command"] = commit.into();
    })])
    .fails(C::WritesOutside, 8)
    .fields(&[(REPORT, "/allowed_writes_passed", Want::Bool(false))]),
    validator(
        "secret_in_evidence_rejected",
        "the agent prints what has the form of an access token",
    )
    .changes(&[Change::Json(SCRIPT, |script| {
        // Put together here, so that looking through this program finds none.
        let token = ["gh", "p_", "0123456789abcdefABCD", "EF0123456789abcd"].concat();
        with_bash(script, 1, &format!("echo {token}"));
    })])
    .fails(C::SecretFound, 8)
    .fields(&[text("/failure_reason", "evidence rejected: secret_found")]),
];
