//! Exactly one primary failure class from typed facts: how the process ended, what went over the wire, what the event
//! log claims, what the judge found. Pure; no text of an agent is ever matched.
//!
//! The cause is the last fault without which the run would have gone on: somebody stopped it, the evidence cannot be
//! used, a clock ran out, the agent's process died, the wire failed in the last exchange that the work needed, the
//! result is not what was asked for, the judge says no. What the agent recovered from is listed and never decides, and
//! neither does any phase after the work.

use crate::record;
use crate::record::evidence::Contributing;
use crate::record::failure::FailureClass;
use crate::record::wire::{CutReason, Limit, ProxyRecord, ReplyClass, RequestRefusal, WireRecord};
use crate::stop;

use super::agent::log::is_completed;
use super::phases::{Phases, chats};
use super::supervise::End;

/// What the judge and the evidence say of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub baselines_held: bool,
    pub writes_allowed: bool,
    /// The judge accepted the patch, both times.
    pub accepted: bool,
    pub target_untouched: bool,
}

/// Everything that decides the class.
pub struct RunEnd<'a> {
    pub end: End,
    pub exit_code: i32,
    /// The raw wait status of the agent's own process.
    pub wait_status: i32,
    /// Who else ended it, in words.
    pub killed: Option<String>,
    /// Who ended the credential helper, asked again, where nothing came after it.
    pub helper_killed: Option<String>,
    /// Whether what the agent itself says of its end, by event and exit status, is good as far as it counts.
    pub ended_well: bool,
    pub wire: &'a ProxyRecord,
    pub phases: &'a Phases,
    pub work: Work,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub class: FailureClass,
    pub detail: String,
    /// Where it was seen on the wire.
    pub exchange: Option<u32>,
}

impl Cause {
    pub fn new(class: FailureClass, detail: impl Into<String>) -> Self {
        Self { class, detail: detail.into(), exchange: None }
    }
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
        End::Fault => (exit_code(End::Exited, wait_status, None).0, "ended_after_fault"),
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

/// The signal that ended the agent's own process, where it is one that a process does not bring on itself: not a fault
/// such as SIGSEGV, and not SIGABRT or a limit's.
pub fn foreign_signal(end: End, wait_status: i32) -> Option<i32> {
    let signal = libc::WTERMSIG(wait_status);
    let foreign = libc::WIFSIGNALED(wait_status) && stop::ends_others(signal);
    (end == End::Exited && foreign).then_some(signal)
}

/// The implementer's result: a complete result that says `completed`, in a whole reply's text.
pub fn result_on_wire(wire: &ProxyRecord, phases: &Phases) -> bool {
    chats(wire).any(|exchange| phases.decides(exchange) && is_completed(exchange))
}

/// What the last result of the work is, in words: what was seen, where none was complete.
pub fn envelope(wire: &ProxyRecord, phases: &Phases) -> String {
    let mut said = chats(wire).filter(|exchange| phases.decides(exchange));
    let last = said.rfind(|exchange| exchange.agent_result.is_some());
    let last = last.and_then(|exchange| exchange.agent_result.as_ref());
    match last.map(|said| (said.complete, &said.status, &said.fault)) {
        None => "no envelope".into(),
        Some((true, Some(status), _)) => format!("the result says {}", record::word(status)),
        Some((_, _, Some(fault))) => format!("a broken envelope: {fault}"),
        Some(_) => "a broken envelope".into(),
    }
}

/// What is wrong with a reply, as a class: `None` for one that an agent can use, and for one that the agent did not wait for.
fn fault(exchange: &WireRecord) -> Option<Cause> {
    let of = |class, detail: String| {
        let detail = format!("{detail} in exchange {}", exchange.exchange);
        Some(Cause { class, detail, exchange: Some(exchange.exchange) })
    };
    if let Some(cut) = &exchange.cut
        && matches!(cut.reason, CutReason::Redirect | CutReason::NotReadable)
    {
        return of(
            FailureClass::UpstreamError,
            format!("{}: {}", record::word(&cut.reason), cut.what),
        );
    }
    let verdict = exchange.verdict.as_ref()?;
    of(FailureClass::of_reply(verdict.class)?, verdict.detail.clone())
}

/// Whether something came of this request that says how the wire is: no refusal for a limit, and the agent did not hang up.
fn says_something(exchange: &WireRecord) -> bool {
    if let Some(refused) = exchange.refused {
        return refused != RequestRefusal::LimitHit;
    }
    fault(exchange).is_some()
        || exchange.verdict.as_ref().is_some_and(|verdict| {
            matches!(verdict.class, ReplyClass::OkText | ReplyClass::OkTools)
        })
}

/// The last exchange that the work needed, where something came of it.
fn last_needed<'a>(ended: &RunEnd<'a>) -> Option<&'a WireRecord> {
    let agents = ended.wire.exchanges.iter().filter(|exchange| exchange.exchange > 0);
    let needed = agents.filter(|exchange| ended.phases.needed(exchange));
    let all: Vec<_> = needed.filter(|exchange| says_something(exchange)).collect();
    // Clients that try a WebSocket first ask in the ordinary way where it is refused: it is the cause of nothing, unless
    // nothing was asked after it.
    let switch = |exchange: &&&WireRecord| exchange.refused == Some(RequestRefusal::ProtocolSwitch);
    all.iter().rev().find(|exchange| !switch(exchange)).or(all.last()).copied()
}

/// The faults on the wire and the limit, but for what decided; the same fault again is counted, not repeated.
pub fn contributing(ended: &RunEnd<'_>, cause: Option<&Cause>) -> Vec<Contributing> {
    let mut out: Vec<(Contributing, u32)> = Vec::new();
    for exchange in chats(ended.wire) {
        if cause.is_some_and(|cause| cause.exchange == Some(exchange.exchange)) {
            continue;
        }
        let Some(fault) = fault(exchange) else { continue };
        let verdict = exchange.verdict.as_ref().map_or(fault.detail.clone(), |v| v.detail.clone());
        match out.iter_mut().find(|(row, _)| row.class == fault.class && row.detail == verdict) {
            Some((_, times)) => *times += 1,
            None => {
                let exchange = Some(exchange.exchange);
                out.push((Contributing { class: fault.class, detail: verdict, exchange }, 1));
            }
        }
    }
    if let Some(limit) = ended.wire.limit_hit {
        let class = if limit.is_time() { FailureClass::Timeout } else { FailureClass::LimitHit };
        let late = class == FailureClass::Timeout;
        let is_cause = cause.is_some_and(|cause| {
            cause.class == class || (late && cause.class == FailureClass::LifecycleTimeout)
        });
        if !is_cause {
            let detail = record::word(&limit);
            out.push((Contributing { class, detail, exchange: None }, 1));
        }
    }
    let row = |(mut row, times): (Contributing, u32)| {
        if times > 1 {
            row.detail = format!("{} ({times} times)", row.detail);
        }
        row
    };
    out.into_iter().map(row).collect()
}

/// The one cause; `None` where nothing speaks against the run.
pub fn classify(ended: &RunEnd<'_>) -> Option<Cause> {
    let (work, wire) = (ended.work, ended.wire);
    let because = |class, detail: &str| Some(Cause::new(class, detail));
    if let End::Interrupted(signal) = ended.end {
        return because(FailureClass::Interrupted, &format!("signal {signal}"));
    }
    if let Some(killed) = &ended.killed {
        return because(FailureClass::KilledFromOutside, killed);
    }
    if !wire.secrets_seen.is_empty() {
        return because(FailureClass::SecretFound, &wire.secrets_seen.join(", "));
    }
    if let Some(fault) = &wire.recorder_failure {
        let what = format!("the wire was not recorded: {fault}");
        return because(FailureClass::Unclassified, &what);
    }
    if !work.target_untouched {
        return because(FailureClass::TargetInspected, "");
    }
    if !work.baselines_held {
        return because(FailureClass::VoidBaseline, "");
    }
    let clock = |clock: &str| {
        because(
            match work.accepted && work.writes_allowed {
                true => FailureClass::LifecycleTimeout,
                false => FailureClass::Timeout,
            },
            clock,
        )
    };
    if let End::Clock(expired) = ended.end {
        return clock(expired.as_str());
    }
    // An agent that admit ended after a fault would have gone on without it.
    if !result_on_wire(wire, ended.phases) || !ended.ended_well || ended.end == End::Fault {
        if ended.end == End::Exited && libc::WIFSIGNALED(ended.wait_status) {
            return because(FailureClass::EngineFailed, &ended.exit_code.to_string());
        }
        let last = last_needed(ended);
        // Also where a limit ended it: an agent that is answered like this asks again until there is one.
        if let Some(fault) = last.and_then(fault) {
            // The server would have taken what the helper was about to give.
            return match &ended.helper_killed {
                Some(why) if fault.class == FailureClass::AuthUnavailable => {
                    because(FailureClass::KilledFromOutside, why)
                }
                _ => Some(fault),
            };
        }
        match wire.limit_hit {
            Some(limit) if limit.is_time() => {
                return clock(&format!("{} at the bridge", record::word(&limit)));
            }
            Some(limit) => return because(FailureClass::LimitHit, &record::word(&limit)),
            None if ended.end == End::Limit => {
                return because(FailureClass::LimitHit, "requests_per_second");
            }
            None => {}
        }
        if let Some((exchange, refused)) = last.and_then(|x| Some((x.exchange, x.refused?))) {
            let detail = format!("the bridge refused a request: {refused:?}");
            let class = FailureClass::Unclassified;
            return Some(Cause { class, detail, exchange: Some(exchange) });
        }
        // The wire is whole: what is missing is the agent's own part.
        if chats(wire).next().is_some() && !result_on_wire(wire, ended.phases) {
            return because(FailureClass::AgentProtocol, &envelope(wire, ended.phases));
        }
        return because(FailureClass::EngineFailed, &ended.exit_code.to_string());
    }
    if !work.writes_allowed {
        return because(FailureClass::WritesOutside, "");
    }
    if !work.accepted {
        return because(FailureClass::JudgeRejected, "");
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::super::supervise::Expired;
    use super::*;
    use crate::record::agent_result::find_agent_result;
    use crate::record::wire::{ExchangeKind, ReplyVerdict, UpstreamKind};

    const GOOD: Work =
        Work { baselines_held: true, writes_allowed: true, accepted: true, target_untouched: true };
    const REJECTED: Work = Work { accepted: false, ..GOOD };
    static NO_PHASES: LazyLock<Phases> = LazyLock::new(Phases::default);

    fn chat(number: u32, class: ReplyClass, text: &str) -> WireRecord {
        WireRecord {
            exchange: number,
            kind: ExchangeKind::Chat,
            stream: true,
            messages: 1,
            verdict: Some(ReplyVerdict { class, detail: "x".into() }),
            agent_result: find_agent_result(text),
            ..WireRecord::default()
        }
    }

    fn wire(exchanges: Vec<WireRecord>) -> ProxyRecord {
        let empty = ProxyRecord::new("m".into(), UpstreamKind::Scripted, None, false);
        ProxyRecord { exchanges, ..empty }
    }

    const RESULT: &str = "<<<AGENT_RESULT\n{\"status\":\"completed\"}\nAGENT_RESULT>>>";

    fn ended(end: End, wait_status: i32, wire: &ProxyRecord, work: Work) -> RunEnd<'_> {
        RunEnd {
            end,
            exit_code: exit_code(end, wait_status, wire.limit_hit).0,
            wait_status,
            killed: foreign_signal(end, wait_status).map(|signal| format!("signal {signal}")),
            helper_killed: None,
            ended_well: true,
            wire,
            phases: &NO_PHASES,
            work,
        }
    }

    fn class(end: End, wait_status: i32, wire: &ProxyRecord, work: Work) -> Option<FailureClass> {
        classify(&ended(end, wait_status, wire, work)).map(|cause| cause.class)
    }

    fn found(end: &RunEnd<'_>) -> (FailureClass, Vec<FailureClass>) {
        let cause = classify(end).unwrap();
        let before = contributing(end, Some(&cause)).into_iter().map(|row| row.class).collect();
        (cause.class, before)
    }

    #[test]
    fn a_refused_websocket_is_the_cause_only_where_nothing_else_was_asked() {
        let switch = |number| WireRecord {
            exchange: number,
            refused: Some(RequestRefusal::ProtocolSwitch),
            ..WireRecord::default()
        };
        let refused = chat(2, ReplyClass::AuthUnavailable, "");
        let asked = wire(vec![switch(1), refused, switch(3)]);
        assert_eq!(class(End::Exited, 0, &asked, GOOD), Some(FailureClass::AuthUnavailable));
        let only = wire(vec![switch(1), switch(2)]);
        assert_eq!(class(End::Exited, 0, &only, GOOD), Some(FailureClass::Unclassified));
    }

    #[test]
    fn a_good_run_has_no_class_whatever_came_after_the_work() {
        let good = wire(vec![chat(1, ReplyClass::OkText, RESULT)]);
        for end in [End::Exited, End::HarnessCompleted, End::Limit] {
            // The exit code of Case says nothing: both were seen; and nor does a crash of a later phase.
            for wait_status in [0, 0x0100, libc::SIGSEGV] {
                assert_eq!(class(end, wait_status, &good, GOOD), None);
            }
        }
        let later =
            wire(vec![chat(1, ReplyClass::OkText, RESULT), chat(2, ReplyClass::UpstreamError, "")]);
        let end = ended(End::Exited, 0, &later, GOOD);
        assert_eq!(classify(&end), None);
        assert_eq!(contributing(&end, None)[0].class, FailureClass::UpstreamError);
    }

    #[test]
    fn the_faults_that_look_alike_to_case_have_different_classes() {
        use FailureClass as F;
        use ReplyClass as R;
        for (reply, want) in [
            (R::AuthUnavailable, F::AuthUnavailable),
            (R::UpstreamError, F::UpstreamError),
            (R::StreamTruncated, F::StreamTruncated),
            (R::ResponseShapeUnavailable, F::ResponseShapeUnavailable),
            (R::OkText, F::AgentProtocol),
            (R::ModelMismatch, F::ModelMismatch),
            (R::ConnectionRefused, F::ConnectionRefused),
            (R::MalformedToolCall, F::MalformedToolCall),
        ] {
            let wire = wire(vec![chat(1, reply, "no envelope")]);
            for wait_status in [0, 0x0100] {
                assert_eq!(class(End::Exited, wait_status, &wire, REJECTED), Some(want));
            }
        }
        // Text in reasoning is no result: nothing but the reply's text is looked at.
        let broken = wire(vec![chat(1, R::OkText, "<<<AGENT_RESULT\n{\nAGENT_RESULT>>>")]);
        assert_eq!(class(End::Exited, 0, &broken, REJECTED), Some(F::AgentProtocol));
    }

    #[test]
    fn what_was_recovered_from_is_listed_and_never_decides() {
        use FailureClass as F;
        use ReplyClass as R;
        let two = |first, second, text: &str| wire(vec![chat(1, first, ""), chat(2, second, text)]);
        for (wire, want) in [
            (two(R::UpstreamError, R::OkText, "no envelope"), F::AgentProtocol),
            (two(R::MalformedToolCall, R::OkText, RESULT), F::JudgeRejected),
            (two(R::OkTools, R::StreamTruncated, ""), F::StreamTruncated),
            (two(R::UpstreamError, R::AuthUnavailable, ""), F::AuthUnavailable),
        ] {
            let first = wire.exchanges[0].verdict.as_ref().unwrap().class;
            let before = Vec::from_iter(FailureClass::of_reply(first));
            assert_eq!(found(&ended(End::Exited, 0, &wire, REJECTED)), (want, before));
        }
        // Asked the same until a limit: the wire is the cause, and the limit only ended it.
        let mut forever =
            wire(vec![chat(1, R::MalformedToolCall, ""), chat(2, R::MalformedToolCall, "")]);
        forever.limit_hit = Some(Limit::Requests);
        let end = ended(End::Limit, 9, &forever, REJECTED);
        // Its own death by our signal is none of its doing.
        assert_eq!(end.killed, None);
        let before = vec![F::MalformedToolCall, F::LimitHit];
        assert_eq!(found(&end), (F::MalformedToolCall, before));
    }

    #[test]
    fn a_login_that_ends_while_its_helper_is_killed_says_nothing_of_the_agent() {
        use FailureClass as F;
        use ReplyClass as R;
        for (reply, killed, want) in [
            (R::AuthUnavailable, true, (F::KilledFromOutside, vec![F::AuthUnavailable])),
            (R::AuthUnavailable, false, (F::AuthUnavailable, vec![])),
            (R::UpstreamError, true, (F::UpstreamError, vec![])),
        ] {
            let wire = wire(vec![chat(1, R::OkTools, ""), chat(2, reply, "")]);
            let helper_killed = killed.then(|| "signal 9".to_owned());
            let end = RunEnd { helper_killed, ..ended(End::Exited, 0, &wire, REJECTED) };
            assert_eq!(found(&end), want, "{reply:?} {killed}");
        }
    }

    #[test]
    fn what_was_seen_of_the_result_is_said() {
        let said = |text: &str| {
            let wire = wire(vec![chat(1, ReplyClass::OkText, text)]);
            envelope(&wire, &NO_PHASES)
        };
        assert_eq!(said("done"), "no envelope");
        assert_eq!(said(RESULT), "the result says completed");
        let broken = said("<<<AGENT_RESULT\n{\nAGENT_RESULT>>>");
        assert!(broken.starts_with("a broken envelope: "), "{broken}");
    }

    #[test]
    fn a_request_that_nobody_waited_for_is_the_cause_of_nothing() {
        let gone = WireRecord { exchange: 3, kind: ExchangeKind::Chat, ..WireRecord::default() };
        let limited = WireRecord { refused: Some(RequestRefusal::LimitHit), ..gone.clone() };
        let probe = chat(0, ReplyClass::AuthUnavailable, "");
        for last in [gone, limited] {
            let wire = wire(vec![probe.clone(), chat(1, ReplyClass::AuthUnavailable, ""), last]);
            assert_eq!(class(End::Exited, 0, &wire, GOOD), Some(FailureClass::AuthUnavailable));
        }
        // What was asked before the start is none of the work's.
        let only = wire(vec![probe]);
        assert_ne!(class(End::Exited, 0, &only, GOOD), Some(FailureClass::AuthUnavailable));
    }

    #[test]
    fn what_contributed_says_how_often_and_never_says_the_cause_again() {
        use FailureClass as F;
        use ReplyClass as R;
        let rows = |wire: &ProxyRecord, class| {
            let end = ended(End::Exited, 0, wire, REJECTED);
            let cause = Cause::new(class, "");
            let rows = contributing(&end, Some(&cause)).into_iter();
            rows.map(|row| (row.class, row.detail)).collect::<Vec<_>>()
        };
        let often = |times: u32| wire((1..=times).map(|n| chat(n, R::UpstreamError, "")).collect());
        // The same words of another class are another fault.
        let two = wire(vec![chat(1, R::UpstreamError, ""), chat(2, R::AuthUnavailable, "")]);
        assert_eq!(rows(&two, F::JudgeRejected).len(), 2);
        let once = rows(&often(1), F::JudgeRejected);
        let three = rows(&often(3), F::JudgeRejected);
        assert_eq!((once.len(), three.len()), (1, 1));
        assert!(!once[0].1.contains("times"), "{once:?}");
        assert_eq!(three[0].1, format!("{} (3 times)", once[0].1));
        // The limit that ended the run is listed unless it is the cause, under either name of a clock's end.
        for (limit, causes) in [
            (Limit::Requests, &[F::LimitHit][..]),
            (Limit::Wall, &[F::Timeout, F::LifecycleTimeout]),
        ] {
            for cause in [F::LimitHit, F::Timeout, F::LifecycleTimeout, F::JudgeRejected] {
                let wire = ProxyRecord { limit_hit: Some(limit), ..wire(Vec::new()) };
                let listed = rows(&wire, cause).len();
                assert_eq!(listed, usize::from(!causes.contains(&cause)), "{limit:?} {cause:?}");
            }
        }
    }

    #[test]
    fn each_end_has_its_class() {
        use FailureClass as F;
        let good = wire(vec![chat(1, ReplyClass::OkText, RESULT)]);
        let cases = [
            (End::Clock(Expired::Wall), 0, REJECTED, F::Timeout),
            (End::Clock(Expired::Idle), 0, GOOD, F::LifecycleTimeout),
            (End::Interrupted(15), 15, GOOD, F::Interrupted),
            (End::Exited, libc::SIGKILL, GOOD, F::KilledFromOutside),
            (End::Exited, libc::SIGTERM, REJECTED, F::KilledFromOutside),
            (End::Exited, 0, REJECTED, F::JudgeRejected),
            (End::Exited, 0, Work { writes_allowed: false, ..REJECTED }, F::WritesOutside),
            (End::Exited, 0, Work { baselines_held: false, ..GOOD }, F::VoidBaseline),
            (End::Exited, 0, Work { target_untouched: false, ..GOOD }, F::TargetInspected),
        ];
        for (end, status, work, want) in cases {
            assert_eq!(class(end, status, &good, work), Some(want), "{end:?} {status}");
        }
        let mut leaked = good.clone();
        leaked.secrets_seen.push("model_key".into());
        assert_eq!(class(End::Exited, 0, &leaked, GOOD), Some(F::SecretFound));
        let nothing = wire(vec![]);
        for status in [0x0700, libc::SIGSEGV] {
            assert_eq!(class(End::Exited, status, &nothing, REJECTED), Some(F::EngineFailed));
        }
        let busy = wire(vec![chat(1, ReplyClass::OkTools, "")]);
        for (limit, want, detail) in [
            (Limit::Requests, F::LimitHit, "requests"),
            (Limit::RequestBytes, F::LimitHit, "request_bytes"),
            (Limit::ReplyBytes, F::LimitHit, "reply_bytes"),
            (Limit::Tokens, F::LimitHit, "tokens"),
            (Limit::Wall, F::LifecycleTimeout, "wall at the bridge"),
            (Limit::ReplyTime, F::LifecycleTimeout, "reply_time at the bridge"),
        ] {
            let wire = ProxyRecord { limit_hit: Some(limit), ..busy.clone() };
            for end in [End::Exited, End::Limit] {
                let cause = classify(&ended(end, 0, &wire, GOOD)).unwrap();
                assert_eq!((cause.class, cause.detail.as_str()), (want, detail));
            }
        }
    }

    #[test]
    fn an_agent_whose_end_counts_has_to_end_well_too() {
        use FailureClass as F;
        let good = wire(vec![chat(1, ReplyClass::OkText, RESULT)]);
        let late =
            wire(vec![chat(1, ReplyClass::OkText, RESULT), chat(2, ReplyClass::UpstreamError, "")]);
        for (end, status, wire, well, want, detail) in [
            (End::Exited, 0, &good, true, None, ""),
            (End::Exited, 0x0100, &good, false, Some(F::EngineFailed), "1"),
            (End::Exited, libc::SIGSEGV, &good, false, Some(F::EngineFailed), "139"),
            (End::Exited, 0x0100, &late, false, Some(F::UpstreamError), "x in exchange 2"),
            (End::Fault, 15, &late, true, Some(F::UpstreamError), "x in exchange 2"),
            (End::Limit, 15, &good, false, Some(F::LimitHit), "requests_per_second"),
        ] {
            let ended = RunEnd { ended_well: well, ..ended(end, status, wire, GOOD) };
            let cause = classify(&ended).map(|cause| (cause.class, cause.detail));
            assert_eq!(cause, want.map(|class| (class, detail.to_owned())), "{end:?} {status}");
        }
    }

    #[test]
    fn only_a_whole_run_has_no_class() {
        let ends = [
            End::Exited,
            End::HarnessCompleted,
            End::Clock(Expired::Idle),
            End::Limit,
            End::Fault,
            End::Interrupted(15),
        ];
        let bits = |n: u32, bit: usize| n >> bit & 1 == 1;
        let mut whole = 0;
        // Every combination of everything that the class is made from.
        for (end, n) in ends.into_iter().flat_map(|end| (0..1u32 << 10).map(move |n| (end, n))) {
            let [baselines_held, writes_allowed, accepted, target_untouched, result, killed] =
                std::array::from_fn(|bit| bits(n, bit));
            let work = Work { baselines_held, writes_allowed, accepted, target_untouched };
            let text = if result { RESULT } else { "no envelope" };
            let reply = if bits(n, 6) { ReplyClass::OkText } else { ReplyClass::StreamTruncated };
            let mut wire = wire(vec![chat(1, reply, text)]);
            if bits(n, 7) {
                wire.limit_hit = Some(Limit::Tokens);
            }
            if bits(n, 8) {
                wire.secrets_seen.push("model_key".into());
            }
            if bits(n, 9) {
                wire.recorder_failure = Some("disk full".into());
            }
            let class = class(end, if killed { libc::SIGKILL } else { 0 }, &wire, work);
            let stopped = killed && end == End::Exited;
            let finished = matches!(end, End::Exited | End::HarnessCompleted | End::Limit);
            let good = work == GOOD && result && bits(n, 6) && n >> 8 == 0 && finished && !stopped;
            assert_eq!(class.is_none(), good, "{end:?} {n:010b}: {class:?}");
            whole += u32::from(good);
        }
        // Killed or not, with a limit of a later phase or without: only a process that ended by itself can be killed.
        assert_eq!(whole, 2 + 4 + 4);
    }

    #[test]
    fn exit_codes_follow_their_rules() {
        for (end, status, limit, want) in [
            (End::Exited, 0x0300, None, (3, "wait_status")),
            (End::Exited, 9, None, (137, "signal")),
            (End::Clock(Expired::Wall), 15, None, (124, "clock")),
            (End::HarnessCompleted, 15, None, (0, "harness_completed")),
            (End::Interrupted(2), 0, None, (130, "interrupted")),
            (End::Limit, 9, None, (137, "limit")),
            (End::Limit, 9, Some(Limit::Tokens), (137, "limit")),
            (End::Exited, 0, Some(Limit::ReplyTime), (124, "clock")),
        ] {
            assert_eq!(exit_code(end, status, limit), want, "{end:?} {status} {limit:?}");
        }
        assert_eq!(wait_words(9), "killed by signal 9");
    }
}
