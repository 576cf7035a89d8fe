//! What only a run needs: stage, fixture, task, host programs, the launch and the sandbox.

use super::{Check, CheckPolicy, Facts, ambient, hold, no_faults, ok_if, task};
use crate::error::Reason;
use crate::record::failure::Stage;
use crate::record::finding::Finding;
use crate::record::lockfile::AgentKind;

pub(super) fn request(facts: &Facts) -> Finding {
    let expected = "flags and variables that can be read and agree";
    let fix = "admit run stage2 --help";
    hold(Check::Request, &facts.request, expected, fix, |()| {
        Ok("whole, without contradiction".into())
    })
}

pub(super) fn stage(facts: &Facts) -> Finding {
    let fix = match facts.stage.known().map(|number| Stage::from_number(*number)) {
        Some(Some(stage)) if !stage.runs() => {
            let number = stage.number;
            format!("admit run stage2; what is missing for another: admit explain stage{number}")
        }
        _ => "admit run stage2".into(),
    };
    hold(Check::Stage, &facts.stage, "stage 2", &fix, |number| {
        let stage = Stage::from_number(*number);
        let title = stage.map_or("no stage of the ladder", |stage| stage.title);
        let good = stage.is_some_and(Stage::runs);
        ok_if(good, Reason::GateRefused, format!("stage {number}: {title}"))
    })
}

pub(super) fn fixture_digest(facts: &Facts) -> Finding {
    let fixture = facts.fixture.known();
    let expected = fixture.map_or("a recorded fixture".into(), |f| f.expected.to_string());
    let fix = "restore the fixture, or record it as it is: admit fixture --help";
    hold(Check::FixtureDigest, &facts.fixture, &expected, fix, |fixture| {
        let same = fixture.expected == fixture.found;
        ok_if(same, Reason::DigestMismatch, fixture.found.to_string())
    })
}

pub(super) fn task_contract(facts: &Facts, policy: &CheckPolicy) -> Finding {
    let expected = "a task that says everything that the fixture asks for";
    hold(Check::TaskContract, &facts.task, expected, "restore the fixture's task", |found| {
        let Some(contract) = &policy.contract else {
            return Err((Reason::Internal, "no contract to hold it to".into()));
        };
        let faults = task::task_faults(&found.json, &found.markdown, contract);
        no_faults(Reason::GateRefused, &faults, || "names every path, action and command".into())
    })
}

pub(super) fn tools(facts: &Facts) -> Finding {
    let expected = "the programs that the fixture asks for";
    hold(Check::Tools, &facts.tools, expected, "admit doctor", |found| Ok(found.clone()))
}

pub(super) fn command_shape(facts: &Facts) -> Finding {
    let run = facts.lock.known().map(|locked| &locked.lock.run);
    let agent = facts.launch.known().map(|launch| launch.agent).or(run.map(|run| run.agent));
    let expected = match (agent, run) {
        (Some(AgentKind::Command), Some(run)) => run.argv.join(" "),
        (None | Some(AgentKind::Case), _) | (Some(AgentKind::Command), None) => {
            "run --task <slug>.task.json --mode unattended".to_owned()
        }
    };
    let fix = "restore run.argv in the lock";
    hold(Check::CommandShape, &facts.launch, &expected, fix, |launch| {
        let args = launch.argv.get(1..).unwrap_or_default();
        let shape = match launch.agent {
            AgentKind::Case => task::command_shape(args).map(|_| args.join(" ")),
            AgentKind::Command => match facts.lock.known() {
                Some(locked) => task::command_argv(&locked.lock.run.argv, args),
                None => return Err((Reason::NotFound, "no lock says which".into())),
            },
        };
        shape.map_err(|what| (Reason::GateRefused, what))
    })
}

pub(super) fn ambient_inputs(facts: &Facts) -> Finding {
    let expected = "nothing that the provider would load by itself";
    let fix = "remove what is named, or run from a clean directory";
    hold(Check::Ambient, &facts.launch, expected, fix, |launch| {
        no_faults(Reason::GateRefused, &ambient::planted(launch), || closed(facts))
    })
}

/// How many ways in are closed, and which of them by the agent's own switches.
fn closed(facts: &Facts) -> String {
    let all = format!(
        "nothing: each of {} ways (variables, configuration files) is closed",
        ambient::VECTORS.len()
    );
    let command = facts.lock.known().and_then(|locked| locked.lock.run.command.as_ref());
    match command.filter(|command| !command.closed.is_empty()) {
        None => all,
        Some(command) => {
            format!("{all}; by the agent's own switches: {}", command.closed.join(", "))
        }
    }
}

pub(super) fn sandbox(facts: &Facts) -> Finding {
    let expected = "a sandbox of which every probe holds";
    hold(Check::Sandbox, &facts.sandbox, expected, "admit doctor", |sandbox| {
        match (&sandbox.failed[..], sandbox.held.len()) {
            ([], 0) => Err((Reason::SandboxProbeFailed, "no probe ran".into())),
            ([], held) => {
                Ok(format!("made and tried: each of {held} attempts to leave it was refused"))
            }
            (failed, _) => Err((Reason::SandboxProbeFailed, failed.join("; "))),
        }
    })
}
