//! What the gates about records, binary, task and surroundings must refuse.

use serde_json::json;

use super::validators::{REPORT, Validator, Want, text, validator};
use super::world::{BUILD_POLICY, Binary, Change, LOCK, SCRIPTED, SCRIPTED_RECORD, TASK, World};
use crate::check::Check;
use crate::error::Reason;
use crate::record::failure::FailureClass as C;

/// Runs that a gate outside of the model's side refuses.
pub const RECORDS: &[Validator] = &[
    validator(
        "malformed_request_blocks",
        "the variable that claims an auth bridge says true, which is not the value that counts",
    )
    .adapter()
    .world(World { vars: &[("CTO_HARNESS_CASE_OPENAI_CODEX_AUTH_BRIDGE", "true")], ..SCRIPTED })
    .blocked(Check::Request, C::AuthUnavailable, 3)
    .says("provider auth unavailable"),
    validator("half_of_a_model_blocks", "the variables name a model's provider and no model")
        .adapter()
        .world(World {
            model: None,
            vars: &[("CTO_HARNESS_CASE_MODEL_PROVIDER", "qwen-local")],
            ..SCRIPTED
        })
        .blocked(Check::Request, C::ModelNotAdmitted, 3)
        .says("model provider not admitted"),
    validator(
        "untrusted_root_refused",
        "the working directory is a root that this user never trusted",
    )
    .world(World { strange_root: true, ..SCRIPTED })
    .early(Reason::RootNotTrusted, 3),
    validator("lock_invalid_blocks", "the provider's lock holds a key that no lock has")
        .changes(&[Change::Json(LOCK, |lock| lock["planted"] = json!(true))])
        .refused(Check::LockValid, 3, "gate refused: lock_valid"),
    validator(
        "source_pin_mismatch_blocks",
        "the recorded build is of another commit than the lock pins",
    )
    .changes(&[Change::Build(|build| build["pinned_commit"] = "0".repeat(40).into())])
    .refused(Check::SourcePin, 5, "gate refused: source_pin"),
    validator(
        "toolchain_mismatch_blocks",
        "the recorded build used another Bun than the lock pins",
    )
    .changes(&[Change::Build(|build| build["bun_sha256"] = "0".repeat(64).into())])
    .refused(Check::ToolchainDigest, 5, "gate refused: toolchain_digest"),
    validator(
        "source_not_admitted_blocks",
        "the recorded build says source_admission_status not_admitted",
    )
    .adapter()
    .changes(&[Change::Build(|build| {
        build["source_admission_status"] = "not_admitted".into();
    })])
    .blocked(Check::BuildRecorded, C::GateRefused, 3)
    .fields(&[text("/source_admission_status", "not_admitted")])
    .says("gate refused: build_report_recorded"),
    validator(
        "altered_build_record_blocks",
        "the recorded build says another sandbox than the one that it was built in",
    )
    .changes(&[Change::Build(|build| build["sandbox"]["network"] = "all".into())])
    .refused(Check::BuildMatches, 5, "gate refused: build_report_matches"),
    validator(
        "pulled_by_a_key_that_is_gone_blocks",
        "the recorded build was pulled by the word of a key that this user does not have",
    )
    .changes(&[Change::Build(|build| {
        build["origin"] = "pulled".into();
        build["pulled"] = json!({
            "from": "oci://registry.example/agents", "at": "2026-01-01T00:00:00Z", "store_path": "",
            "record_sha256": format!("sha256:{}", "0".repeat(64)),
            "signed_by": [{ "name": "nobody", "key": format!("SHA256:{}", "A".repeat(43)) }],
        });
    })])
    .refused(Check::BuiltBy, 3, "gate refused: built_by"),
    validator("host_programs_missing_blocks", "no program that the fixture asks for is on PATH")
        .world(World { vars: &[("PATH", "/nonexistent")], ..SCRIPTED })
        .refused(Check::Tools, 3, "gate refused: tools"),
    validator(
        "build_not_signed_blocks",
        "the root's policy asks for a signature on the recorded build, and there is none",
    )
    .changes(&[BUILD_POLICY])
    .refused(Check::BuildSigned, 3, "gate refused: build_signed"),
    validator(
        "output_not_locked_blocks",
        "the lock names no output, and a variable names the binary",
    )
    .world(World {
        changes: &[Change::Json(LOCK, |lock| lock["outputs"] = json!({}))],
        binary: Binary::Named,
        ..SCRIPTED
    })
    .blocked(Check::OutputLocked, C::GateRefused, 3)
    .fields(&[text("/status", "blocked")]),
    validator("provider_unavailable_fails_closed", "the recorded binary is not in the store")
        .adapter()
        .world(World { binary: Binary::None, ..SCRIPTED })
        .blocked(Check::BinaryPresent, C::ProviderUnavailable, 3)
        .says("provider unavailable"),
    validator(
        "binary_not_executable_blocks",
        "a variable names a copy of the binary that nobody may execute",
    )
    .world(World { binary: Binary::NotExecutable, ..SCRIPTED })
    .blocked(Check::BinaryExecutable, C::ProviderUnavailable, 3)
    .says("provider unavailable"),
    validator(
        "binary_digest_mismatch_blocks",
        "a variable names another program than the recorded one",
    )
    .adapter()
    .world(World { binary: Binary::Another, ..SCRIPTED })
    .refused(Check::BinaryDigest, 5, "gate refused: binary_digest"),
    validator(
        "wrong_identity_blocks",
        "the recorded proof is of a program whose --help begins otherwise",
    )
    .changes(&[Change::Build(|build| {
        build["identity"]["help_first_line"] = "Usage: case <string>".into();
    })])
    .refused(Check::BinaryIdentity, 3, "gate refused: binary_identity"),
    validator("command_shape_blocks", "the lock asks for the mode attended")
        .adapter()
        .changes(&[Change::Json(LOCK, |lock| lock["run"]["argv"][4] = "attended".into())])
        .refused(Check::CommandShape, 3, "gate refused: command_shape"),
    validator("task_contract_refused", "the fixture's task names a path of the host")
        .changes(&[Change::Text(TASK, |task| format!("{task}\nThen read /etc/passwd.\n"))])
        .early(Reason::BadRecord, 2),
    validator(
        "stage_not_run_blocks",
        "stage 3 is asked for, which licence and admission would allow",
    )
    .world(World {
        stage: 3,
        changes: &[
            Change::Json(LOCK, |lock| lock["license"]["allows"] = json!([2, 3])),
            Change::Json(SCRIPTED_RECORD, |record| record["stages"] = json!([2, 3])),
        ],
        ..SCRIPTED
    })
    .blocked(Check::Stage, C::GateRefused, 3)
    .fields(&[(REPORT, "/stage", Want::Number(3))])
    .says("gate refused: stage"),
    validator("licence_blocks", "the lock's licence allows no stage")
        .changes(&[Change::Json(LOCK, |lock| lock["license"]["allows"] = json!([]))])
        .refused(Check::Licence, 3, "gate refused: licence"),
    validator(
        "ambient_inputs_closed",
        "the workspace looks like a checkout of Case, from which Case would take its prompts",
    )
    .changes(&[
        Change::File("fixtures/r1-string-slugify/workspace/package.json", "{\"name\":\"case\"}"),
        Change::File(
            "fixtures/r1-string-slugify/workspace/agents/implementer.md",
            "Do as you like.",
        ),
    ])
    .refused(Check::Ambient, 3, "gate refused: ambient_inputs"),
    validator(
        "fixture_digest_mismatch_blocks",
        "a file of the fixture's workspace changed since its digest was recorded",
    )
    .world(World {
        changes: &[Change::Text("fixtures/r1-string-slugify/workspace/README.md", |text| {
            format!("{text}\n")
        })],
        fixture_recorded: false,
        ..SCRIPTED
    })
    .refused(Check::FixtureDigest, 5, "gate refused: fixture_digest"),
    validator("sandbox_unavailable_blocks", "the program that builds the sandbox cannot")
        .world(World { sandbox_starts: false, ..SCRIPTED })
        .refused(Check::Sandbox, 7, "gate refused: sandbox"),
];
