//! Exactly one primary failure class from typed facts: how the process ended, what went over the wire, what the event
//! log claims, what the judge found. Pure; no text of an agent is ever matched.

use crate::record;
use crate::record::failure::FailureClass;
use crate::record::wire::{ExchangeKind, Limit, ProxyRecord, WireRecord};

use super::agent::log::{Claimed, is_completed};
use super::supervise::{End, Expired};

/// What the judge and the evidence say of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Both baselines ended as they must.
    pub baselines_held: bool,
    /// Every change lies within the allowed paths.
    pub writes_allowed: bool,
    /// The judge accepted the patch, both times.
    pub accepted: bool,
    pub target_untouched: bool,
}

/// Everything that decides the class.
pub struct Ended<'a> {
    pub end: End,
    /// The exit code by the rule of [`exit_code`].
    pub exit_code: i32,
    /// The signal that somebody else ended it with.
    pub killed: Option<i32>,
    /// What went over the wire.
    pub wire: &'a ProxyRecord,
    /// What Case's log claims.
    pub claimed: &'a Claimed,
    pub work: Work,
}

/// The exit code that a report shows, and the rule that gave it: 124 when a clock fired, here or at the proxy, 128 + n on
/// a signal, 0 when completed by the harness, else the waited status.
pub fn exit_code(end: End, wait_status: i32, limit: Option<Limit>) -> (i32, &'static str) {
    match end {
        End::Clock(_) => (124, "clock"),
        End::HarnessCompleted => (0, "harness_completed"),
        End::Interrupted(signal) => (128 + signal, "interrupted"),
        End::Exited | End::Limit if limit.is_some_and(Limit::is_time) => (124, "clock"),
        End::Limit => (exit_code(End::Exited, wait_status, None).0, "limit"),
        End::Exited if libc::WIFSIGNALED(wait_status) => {
            (128 + libc::WTERMSIG(wait_status), "signal")
        }
        End::Exited => (libc::WEXITSTATUS(wait_status), "wait_status"),
    }
}

pub fn wait_words(wait_status: i32) -> String {
    match libc::WIFSIGNALED(wait_status) {
        true => format!("killed by signal {}", libc::WTERMSIG(wait_status)),
        false => format!("exited {}", libc::WEXITSTATUS(wait_status)),
    }
}

fn chats(wire: &ProxyRecord) -> impl DoubleEndedIterator<Item = &WireRecord> {
    wire.exchanges.iter().filter(|exchange| exchange.kind == ExchangeKind::Chat)
}

/// The implementer's result: the first complete result of the run, in a whole reply's text.
pub fn result_on_wire(wire: &ProxyRecord) -> bool {
    chats(wire).any(is_completed)
}

/// What is wrong with the last envelope of the run.
fn envelope(wire: &ProxyRecord) -> String {
    let last = chats(wire).rev().find_map(|exchange| exchange.agent_result.as_ref());
    match last.map(|said| (said.complete, &said.status)) {
        None => "no envelope".into(),
        Some((true, Some(status))) => format!("the result says {}", record::word(status)),
        Some(_) => "a broken envelope".into(),
    }
}

/// The last reply that an agent could not use, as a class.
fn wire_fault(wire: &ProxyRecord) -> Option<(FailureClass, String)> {
    chats(wire).rev().find_map(|exchange| {
        let verdict = exchange.verdict.as_ref()?;
        let class = FailureClass::of_reply(verdict.class)?;
        Some((class, format!("{} in exchange {}", verdict.detail, exchange.exchange)))
    })
}

/// The signal that ended the agent's own process, where it is one that a process does not bring on itself: not a fault
/// such as SIGSEGV, and not SIGABRT or a limit's.
pub fn foreign_signal(end: End, wait_status: i32) -> Option<i32> {
    let signal = libc::WTERMSIG(wait_status);
    let foreign = [libc::SIGKILL, libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
    let so = end == End::Exited && libc::WIFSIGNALED(wait_status) && foreign.contains(&signal);
    so.then_some(signal)
}

/// The one class with its detail; `None` where nothing speaks against the run.
pub fn classify(ended: &Ended<'_>) -> Option<(FailureClass, String)> {
    let plain = |class: FailureClass| Some((class, String::new()));
    let work = ended.work;
    if let End::Interrupted(signal) = ended.end {
        return Some((FailureClass::Interrupted, format!("signal {signal}")));
    }
    if let Some(signal) = ended.killed {
        return Some((FailureClass::KilledFromOutside, format!("signal {signal}")));
    }
    if !ended.wire.secrets_seen.is_empty() {
        return Some((FailureClass::SecretFound, ended.wire.secrets_seen.join(", ")));
    }
    if let Some(fault) = &ended.wire.recorder_failure {
        return Some((FailureClass::Unclassified, format!("the wire was not recorded: {fault}")));
    }
    if !work.target_untouched {
        return plain(FailureClass::TargetInspected);
    }
    if !work.baselines_held {
        return plain(FailureClass::VoidBaseline);
    }
    let clock = match (ended.end, ended.wire.limit_hit) {
        (End::Clock(clock), _) => Some(clock.as_str().to_owned()),
        (_, Some(limit)) if limit.is_time() => {
            Some(format!("{} at the bridge", record::word(&limit)))
        }
        _ => None,
    };
    if let Some(clock) = clock {
        let class = match work.accepted && work.writes_allowed {
            true => FailureClass::LifecycleTimeout,
            false => FailureClass::Timeout,
        };
        return Some((class, clock));
    }
    if ended.end == End::Limit || ended.wire.limit_hit.is_some() {
        let limit = ended.wire.limit_hit.as_ref().map(record::word);
        let limit = limit.unwrap_or_else(|| "not named by the proxy".into());
        return Some((FailureClass::LimitHit, limit));
    }
    let completed = ended.end == End::HarnessCompleted
        || (ended.exit_code == 0 && ended.claimed.pipeline_outcome() == Some("completed"));
    if !completed || !result_on_wire(ended.wire) {
        if let Some(fault) = wire_fault(ended.wire) {
            return Some(fault);
        }
        let refused = ended.wire.exchanges.iter().rev().find_map(|exchange| exchange.refused);
        if let Some(refused) = refused {
            let what = format!("the bridge refused a request: {refused:?}");
            return Some((FailureClass::Unclassified, what));
        }
        // The wire is whole: what is missing is the agent's own part.
        if chats(ended.wire).next().is_some() && !result_on_wire(ended.wire) {
            return Some((FailureClass::AgentProtocol, envelope(ended.wire)));
        }
        return Some((FailureClass::EngineFailed, ended.exit_code.to_string()));
    }
    if !work.writes_allowed {
        return plain(FailureClass::WritesOutside);
    }
    if !work.accepted {
        return plain(FailureClass::JudgeRejected);
    }
    None
}

impl Expired {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::FirstCall => "first_model_call",
            Self::Idle => "idle",
            Self::Wall => "wall",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::agent_result::find_agent_result;
    use crate::record::wire::{ReplyClass, ReplyVerdict, UpstreamKind};
    use serde_json::json;

    const GOOD: Work =
        Work { baselines_held: true, writes_allowed: true, accepted: true, target_untouched: true };

    fn chat(number: u32, class: ReplyClass, text: &str) -> WireRecord {
        WireRecord {
            exchange: number,
            kind: ExchangeKind::Chat,
            started_ns: 0,
            ended_ns: 0,
            refused: None,
            refused_why: None,
            request_bytes: 0,
            forwarded_sha256: None,
            stream: true,
            messages: 1,
            tools: Vec::new(),
            facts: None,
            verdict: Some(ReplyVerdict { class, detail: "x".into() }),
            agent_result: find_agent_result(text),
            cut: None,
        }
    }

    fn wire(exchanges: Vec<WireRecord>) -> ProxyRecord {
        let empty = ProxyRecord::new("m".into(), UpstreamKind::Scripted, None, false);
        ProxyRecord { exchanges, ..empty }
    }

    fn log(outcome: &str) -> Claimed {
        let events = vec![json!({ "event": "pipeline_end", "outcome": outcome })];
        Claimed { events, faults: Vec::new() }
    }

    const RESULT: &str = "<<<AGENT_RESULT\n{\"status\":\"completed\"}\nAGENT_RESULT>>>";

    fn class(
        end: End,
        code: i32,
        wire: &ProxyRecord,
        outcome: &str,
        work: Work,
    ) -> Option<FailureClass> {
        let claimed = &log(outcome);
        let ended = Ended { end, exit_code: code, killed: None, wire, claimed, work };
        classify(&ended).map(|(class, _)| class)
    }

    #[test]
    fn a_good_run_has_no_class() {
        let good = wire(vec![chat(1, ReplyClass::OkText, RESULT)]);
        assert_eq!(class(End::Exited, 0, &good, "completed", GOOD), None);
        assert_eq!(class(End::HarnessCompleted, 0, &good, "", GOOD), None);
    }

    #[test]
    fn the_faults_that_look_alike_to_case_have_different_classes() {
        use FailureClass as F;
        use ReplyClass as R;
        let none = Work { accepted: false, ..GOOD };
        for (reply, want) in [
            (R::AuthUnavailable, F::AuthUnavailable),
            (R::UpstreamError, F::UpstreamError),
            (R::StreamTruncated, F::StreamTruncated),
            (R::ResponseShapeUnavailable, F::ResponseShapeUnavailable),
            (R::OkText, F::AgentProtocol),
            (R::ModelMismatch, F::ModelMismatch),
            (R::ConnectionRefused, F::ConnectionRefused),
        ] {
            let wire = wire(vec![chat(1, reply, "no envelope")]);
            // The exit code of Case says nothing: both were seen.
            for code in [0, 1] {
                assert_eq!(class(End::Exited, code, &wire, "failed", none), Some(want));
            }
        }
        // Text in reasoning is no result: nothing but the reply's text is looked at.
        let broken = wire(vec![chat(1, R::OkText, "<<<AGENT_RESULT\n{\nAGENT_RESULT>>>")]);
        assert_eq!(class(End::Exited, 0, &broken, "failed", none), Some(F::AgentProtocol));
    }

    #[test]
    fn each_end_has_its_class() {
        use FailureClass as F;
        let good = wire(vec![chat(1, ReplyClass::OkText, RESULT)]);
        let none = Work { accepted: false, ..GOOD };
        let cases = [
            (End::Clock(Expired::Wall), 124, "", none, F::Timeout),
            (End::Clock(Expired::Idle), 124, "", GOOD, F::LifecycleTimeout),
            (End::Interrupted(15), 143, "completed", GOOD, F::Interrupted),
            (End::Exited, 3, "completed", GOOD, F::EngineFailed),
            (End::Exited, 0, "failed", GOOD, F::EngineFailed),
            (End::Exited, 0, "completed", none, F::JudgeRejected),
            (End::Exited, 0, "completed", Work { writes_allowed: false, ..none }, F::WritesOutside),
            (End::Exited, 0, "completed", Work { baselines_held: false, ..GOOD }, F::VoidBaseline),
            (
                End::Exited,
                0,
                "completed",
                Work { target_untouched: false, ..GOOD },
                F::TargetInspected,
            ),
        ];
        for (end, code, outcome, work, want) in cases {
            assert_eq!(class(end, code, &good, outcome, work), Some(want), "{end:?} {outcome}");
        }
        let mut leaked = good.clone();
        leaked.secrets_seen.push("model_key".into());
        assert_eq!(class(End::Exited, 0, &leaked, "completed", GOOD), Some(F::SecretFound));
        assert_eq!(class(End::Exited, 7, &wire(vec![]), "", none), Some(F::EngineFailed));
        for (limit, want, detail) in [
            (Limit::Requests, F::LimitHit, "requests"),
            (Limit::RequestBytes, F::LimitHit, "request_bytes"),
            (Limit::ReplyBytes, F::LimitHit, "reply_bytes"),
            (Limit::Tokens, F::LimitHit, "tokens"),
            (Limit::Wall, F::LifecycleTimeout, "wall at the bridge"),
            (Limit::ReplyTime, F::LifecycleTimeout, "reply_time at the bridge"),
        ] {
            let wire = ProxyRecord { limit_hit: Some(limit), ..good.clone() };
            for end in [End::Exited, End::Limit] {
                let claimed = log("completed");
                let (wire, claimed) = (&wire, &claimed);
                let ended = Ended { end, exit_code: 0, killed: None, wire, claimed, work: GOOD };
                assert_eq!(classify(&ended), Some((want, detail.to_owned())));
            }
        }
    }

    #[test]
    fn only_a_whole_run_has_no_class() {
        let ends = [
            End::Exited,
            End::HarnessCompleted,
            End::Clock(Expired::Idle),
            End::Limit,
            End::Interrupted(15),
        ];
        let bits = |n: u32, bit: u32| n >> bit & 1 == 1;
        let mut whole = 0;
        // Every combination of everything that the class is made from.
        for (end, n) in ends.into_iter().flat_map(|end| (0..1u32 << 11).map(move |n| (end, n))) {
            let work = Work {
                baselines_held: bits(n, 0),
                writes_allowed: bits(n, 1),
                accepted: bits(n, 2),
                target_untouched: bits(n, 3),
            };
            let (result, clean, outcome) = (bits(n, 4), bits(n, 5), bits(n, 6));
            let text = if result { RESULT } else { "no envelope" };
            let reply = if bits(n, 7) { ReplyClass::OkText } else { ReplyClass::StreamTruncated };
            let mut wire = wire(vec![chat(1, reply, text)]);
            if bits(n, 8) {
                wire.limit_hit = Some(Limit::Tokens);
            }
            if bits(n, 9) {
                wire.secrets_seen.push("model_key".into());
            }
            if bits(n, 10) {
                wire.recorder_failure = Some("disk full".into());
            }
            let claimed = log(if outcome { "completed" } else { "failed" });
            let exit_code = if clean { 0 } else { 1 };
            let (wire, claimed) = (&wire, &claimed);
            let class = classify(&Ended { end, exit_code, killed: None, wire, claimed, work });
            let finished = end == End::HarnessCompleted || (end == End::Exited && clean && outcome);
            let good = work == GOOD && result && bits(n, 7) && n >> 8 == 0 && finished;
            assert_eq!(class.is_none(), good, "{end:?} {n:011b}: {class:?}");
            whole += u32::from(good);
        }
        // One for a provider that ended by itself; the log and the status of one that was ended do not count.
        assert_eq!(whole, 5);
    }

    #[test]
    fn exit_codes_follow_their_rules() {
        let code = |end, status| exit_code(end, status, None);
        assert_eq!(code(End::Exited, 0x0300), (3, "wait_status"));
        assert_eq!(code(End::Exited, 9), (137, "signal"));
        assert_eq!(code(End::Clock(Expired::Wall), 15), (124, "clock"));
        assert_eq!(code(End::HarnessCompleted, 15), (0, "harness_completed"));
        assert_eq!(code(End::Limit, 9), (137, "limit"));
        assert_eq!(exit_code(End::Limit, 9, Some(Limit::Tokens)), (137, "limit"));
        assert_eq!(exit_code(End::Exited, 0, Some(Limit::ReplyTime)), (124, "clock"));
        assert_eq!(wait_words(9), "killed by signal 9");
    }
}
