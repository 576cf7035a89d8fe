//! What is started and must fail.

use super::validators::{REPORT, Validator, Want, text, validator};
use super::world::{
    Change, FIXTURE_RECORD, Outsider, REFERENCE, SCRIPT, SCRIPTED, SLEEPS, World, loopback,
    with_bash,
};
use crate::proxy::mock::Behaviour as B;
use crate::record::failure::FailureClass as C;

/// A patch that applies and changes nothing of what the tests see.
const USELESS: &str = "diff --git a/strings.py b/strings.py
--- a/strings.py
+++ b/strings.py
@@ -1,3 +1,4 @@
 \"\"\"Small functions on text.\"\"\"
 
+# As it was.
 
";

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
    ])
    .says("case engine failed with exit code 124"),
    validator(
        "agent_result_missing_fails",
        "the model's replies are whole and hold no result, and nothing was done",
    )
    .adapter()
    .world(loopback(B::NoResult))
    .fails(C::AgentProtocol, 8)
    .fields(&[text("/protocol_marker", "backend/provider-agent-protocol.txt")])
    .says("case agent result protocol failed"),
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
    .says("evidence rejected: secret_found"),
    validator(
        "lifecycle_timeout_after_valid_patch",
        "the agent commits good work and gives no result; the wall clock is twelve seconds",
    )
    .adapter()
    .world(World {
        timeout: Some(12),
        changes: &[Change::Json(SCRIPT, |script| with_bash(script, 4, "sleep 300"))],
        ..SCRIPTED
    })
    .fails(C::LifecycleTimeout, 9)
    .fields(&[(REPORT, "/backend_exit_code", Want::Number(124))])
    .says("lifecycle timeout after valid patch"),
    validator("proxy_limit_ends_the_run", "the agent asks more often than the proxy lets through")
        .adapter()
        .world(World { requests: Some(2), ..SCRIPTED })
        .fails(C::LimitHit, 9)
        .says("provider limit hit: requests"),
    validator(
        "engine_failure_fails",
        "the agent's process ends by a fault of its own, which its runtime reports or not",
    )
    .adapter()
    .changes(&[Change::Json(SCRIPT, |script| with_bash(script, 1, "kill -SEGV $PPID"))])
    .fails(C::EngineFailed, 8)
    .fields(&[text("/backend_exit_code_source", "signal")]),
    validator(
        "void_baseline_rejected",
        "the fixture's reference patch changes nothing, so its judge can tell no good work",
    )
    .changes(&[
        Change::File(REFERENCE, USELESS),
        // Drawn calls get their results from the reference, which would then be wrong as well.
        Change::Json(FIXTURE_RECORD, |fixture| {
            fixture.as_object_mut().map(|fixture| fixture.remove("generator"));
        }),
    ])
    .fails(C::VoidBaseline, 8)
    .says("evidence rejected: void_baseline"),
    validator("interrupted_says_nothing", "admit is told to stop while the agent works")
        .world(World { outside: Outsider::Tells, ..SCRIPTED })
        .fails(C::Interrupted, 75)
        .says("run interrupted: signal 15"),
    validator("killed_from_outside_says_nothing", "somebody else kills the agent")
        .world(World {
            outside: Outsider::Kills,
            changes: &[Change::Json(SCRIPT, |script| with_bash(script, 1, SLEEPS))],
            ..SCRIPTED
        })
        .fails(C::KilledFromOutside, 75)
        .says(
            "run killed by a signal that admit did not send: signal 9, sent by the kernel, from \
             outside or by another process of its own sandbox",
        ),
];
