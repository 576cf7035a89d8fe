//! What the gates about records, binary, task and surroundings must refuse.

use serde_json::json;

use super::validators::{End, REPORT, Validator, Want};
use super::world::{BUILD_POLICY, Binary, Change, LOCK, SCRIPTED, SCRIPTED_RECORD, TASK, World};
use crate::error::Reason;
use crate::gate::Gate;
use crate::record::failure::FailureClass as C;

/// Runs that a gate outside of the model's side refuses.
pub const RECORDS: &[Validator] = &[
    Validator {
        name: "untrusted_root_refused",
        fault: "the working directory is a root that this user never trusted",
        adapter: false,
        world: World { strange_root: true, ..SCRIPTED },
        end: End::Early(Reason::RootNotTrusted),
        exit: 3,
        fields: &[],
    },
    Validator {
        name: "lock_invalid_blocks",
        fault: "the provider's lock holds a key that no lock has",
        adapter: false,
        world: World {
            changes: &[Change::Json(LOCK, |lock| lock["planted"] = json!(true))],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::LockValid, C::GateRefused),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("gate refused: lock_valid"))],
    },
    Validator {
        name: "source_pin_mismatch_blocks",
        fault: "the recorded build is of another commit than the lock pins",
        adapter: false,
        world: World {
            changes: &[Change::Build(|build| build["pinned_commit"] = "0".repeat(40).into())],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::SourcePin, C::GateRefused),
        exit: 5,
        fields: &[(REPORT, "/failure_reason", Want::Text("gate refused: source_pin"))],
    },
    Validator {
        name: "toolchain_mismatch_blocks",
        fault: "the recorded build used another Bun than the lock pins",
        adapter: false,
        world: World {
            changes: &[Change::Build(|build| build["bun_sha256"] = "0".repeat(64).into())],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::ToolchainDigest, C::GateRefused),
        exit: 5,
        fields: &[(REPORT, "/failure_reason", Want::Text("gate refused: toolchain_digest"))],
    },
    Validator {
        name: "source_not_admitted_blocks",
        fault: "the recorded build says source_admission_status not_admitted",
        adapter: true,
        world: World {
            changes: &[Change::Build(|build| {
                build["source_admission_status"] = "not_admitted".into();
            })],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::BuildReport, C::GateRefused),
        exit: 3,
        fields: &[
            (REPORT, "/source_admission_status", Want::Text("not_admitted")),
            (REPORT, "/failure_reason", Want::Text("gate refused: build_report_recorded")),
        ],
    },
    Validator {
        name: "build_not_signed_blocks",
        fault: "the root's policy asks for a signature on the recorded build, and there is none",
        adapter: false,
        world: World { changes: &[BUILD_POLICY], ..SCRIPTED },
        end: End::Blocked(Gate::BuildSigned, C::GateRefused),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("gate refused: build_signed"))],
    },
    Validator {
        name: "output_not_locked_blocks",
        fault: "the lock names no output, and a variable names the binary",
        adapter: false,
        world: World {
            changes: &[Change::Json(LOCK, |lock| lock["outputs"] = json!({}))],
            binary: Binary::Named,
            ..SCRIPTED
        },
        end: End::Blocked(Gate::OutputLocked, C::GateRefused),
        exit: 3,
        fields: &[(REPORT, "/status", Want::Text("blocked"))],
    },
    Validator {
        name: "provider_unavailable_fails_closed",
        fault: "the recorded binary is not in the store",
        adapter: true,
        world: World { binary: Binary::None, ..SCRIPTED },
        end: End::Blocked(Gate::BinaryPresent, C::ProviderUnavailable),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("provider unavailable"))],
    },
    Validator {
        name: "binary_not_executable_blocks",
        fault: "a variable names a copy of the binary that nobody may execute",
        adapter: false,
        world: World { binary: Binary::NotExecutable, ..SCRIPTED },
        end: End::Blocked(Gate::BinaryExecutable, C::ProviderUnavailable),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("provider unavailable"))],
    },
    Validator {
        name: "binary_digest_mismatch_blocks",
        fault: "a variable names another program than the recorded one",
        adapter: true,
        world: World { binary: Binary::Another, ..SCRIPTED },
        end: End::Blocked(Gate::BinaryDigest, C::GateRefused),
        exit: 5,
        fields: &[(REPORT, "/failure_reason", Want::Text("gate refused: binary_digest"))],
    },
    Validator {
        name: "wrong_identity_blocks",
        fault: "the recorded proof is of a program whose --help begins otherwise",
        adapter: false,
        world: World {
            changes: &[Change::Build(|build| {
                build["identity"]["help_first_line"] = "Usage: case <string>".into();
            })],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::BinaryIdentity, C::GateRefused),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("gate refused: binary_identity"))],
    },
    Validator {
        name: "command_shape_blocks",
        fault: "the lock asks for the mode attended",
        adapter: true,
        world: World {
            changes: &[Change::Json(LOCK, |lock| lock["run"]["argv"][4] = "attended".into())],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::CommandShape, C::GateRefused),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("gate refused: command_shape"))],
    },
    Validator {
        name: "task_contract_refused",
        fault: "the fixture's task names a path of the host",
        adapter: false,
        world: World {
            changes: &[Change::Text(TASK, |task| format!("{task}\nThen read /etc/passwd.\n"))],
            ..SCRIPTED
        },
        end: End::Early(Reason::BadRecord),
        exit: 2,
        fields: &[],
    },
    Validator {
        name: "stage_not_run_blocks",
        fault: "stage 3 is asked for, which licence and admission would allow",
        adapter: false,
        world: World {
            stage: 3,
            changes: &[
                Change::Json(LOCK, |lock| lock["license"]["allows"] = json!([2, 3])),
                Change::Json(SCRIPTED_RECORD, |record| record["stages"] = json!([2, 3])),
            ],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::Stage, C::GateRefused),
        exit: 3,
        fields: &[
            (REPORT, "/stage", Want::Number(3)),
            (REPORT, "/failure_reason", Want::Text("gate refused: stage")),
        ],
    },
    Validator {
        name: "licence_blocks",
        fault: "the lock's licence allows no stage",
        adapter: false,
        world: World {
            changes: &[Change::Json(LOCK, |lock| lock["license"]["allows"] = json!([]))],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::Licence, C::GateRefused),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("gate refused: licence"))],
    },
    Validator {
        name: "ambient_inputs_closed",
        fault: "the workspace looks like a checkout of Case, from which Case would take its prompts",
        adapter: false,
        world: World {
            changes: &[
                Change::File(
                    "fixtures/r1-string-slugify/workspace/package.json",
                    "{\"name\":\"case\"}",
                ),
                Change::File(
                    "fixtures/r1-string-slugify/workspace/agents/implementer.md",
                    "Do as you like.",
                ),
            ],
            ..SCRIPTED
        },
        end: End::Blocked(Gate::Ambient, C::GateRefused),
        exit: 3,
        fields: &[(REPORT, "/failure_reason", Want::Text("gate refused: ambient_inputs"))],
    },
    Validator {
        name: "fixture_digest_mismatch_blocks",
        fault: "a file of the fixture's workspace changed since its digest was recorded",
        adapter: false,
        world: World {
            changes: &[Change::Text("fixtures/r1-string-slugify/workspace/README.md", |text| {
                format!("{text}\n")
            })],
            fixture_recorded: false,
            ..SCRIPTED
        },
        end: End::Blocked(Gate::FixtureDigest, C::GateRefused),
        exit: 5,
        fields: &[(REPORT, "/failure_reason", Want::Text("gate refused: fixture_digest"))],
    },
    Validator {
        name: "sandbox_unavailable_blocks",
        fault: "the program that builds the sandbox cannot",
        adapter: false,
        world: World { walls: false, ..SCRIPTED },
        end: End::Blocked(Gate::Sandbox, C::GateRefused),
        exit: 7,
        fields: &[(REPORT, "/failure_reason", Want::Text("gate refused: sandbox"))],
    },
];
