//! Failure classes and stages: the closed lists that a run's end and a refusal are written in.
//!
//! Each class has a stable name, a `failure_reason` with the words that users search their notes for, and a marker
//! file in `backend/`. One primary class a run; a fact that no class covers stays [`FailureClass::Unclassified`].

use super::text::words;
use super::wire::ReplyClass;
use crate::error::Kind;

/// Whose doing an end is.
enum Whose {
    Agent,
    Other,
}

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $reason:literal, $marker:literal, $kind:ident, $whose:ident;)*) => {
        words! {
            /// Why a run did not pass: exactly one a run.
            pub enum FailureClass { $($(#[$doc])* $name = $text,)* }
        }

        impl FailureClass {
            /// The reason with `{}` where a detail belongs.
            fn pattern(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }

            /// The marker's file name inside `backend/`.
            pub fn marker(self) -> &'static str {
                match self { $(Self::$name => $marker,)* }
            }

            /// The kind of failure of a run that was started and ended so, which has the exit code; one that was blocked has
            /// the gate's.
            pub fn kind(self) -> Kind {
                match self { $(Self::$name => Kind::$kind,)* }
            }

            /// Whether it can be another's doing than the agent's: somebody stopped the run, its machine failed, nothing
            /// was started, or the model's server did not serve. A campaign's plan may leave such an end out of the score.
            pub fn may_be_unscored(self) -> bool {
                match self { $(Self::$name => matches!(Whose::$whose, Whose::Other),)* }
            }
        }
    };
}

classes! {
    ProviderUnavailable = "provider_unavailable", "provider unavailable", "provider-unavailable.txt", Run, Other;
    /// The model's admission gate said no.
    ModelNotAdmitted = "model_not_admitted", "model provider not admitted", "provider-model-not-admitted.txt", Run, Other;
    /// No key, no bridge, or the upstream answered 401 or 403.
    AuthUnavailable = "auth_unavailable", "provider auth unavailable", "provider-auth-unavailable.txt", Run, Other;
    LocalConfigUnavailable = "local_config_unavailable", "provider unavailable", "provider-local-config-unavailable.txt", Run, Other;
    /// The model answers with reasoning only.
    ResponseShapeUnavailable = "response_shape_unavailable", "provider response shape unavailable", "provider-reasoning-only.txt", Run, Agent;
    /// The upstream answered with an error.
    UpstreamError = "upstream_error", "provider upstream failed: upstream_error", "provider-upstream.txt", Run, Other;
    /// The upstream's stream ended early.
    StreamTruncated = "stream_truncated", "provider upstream failed: stream_truncated", "provider-upstream.txt", Run, Other;
    /// The upstream answered as another model.
    ModelMismatch = "model_mismatch", "provider upstream failed: model_mismatch", "provider-upstream.txt", Run, Other;
    /// The upstream's tool call cannot be read.
    MalformedToolCall = "malformed_tool_call", "provider upstream failed: malformed_tool_call", "provider-upstream.txt", Run, Agent;
    /// The upstream's reply held nothing.
    EmptyReply = "empty_reply", "provider upstream failed: empty_reply", "provider-upstream.txt", Run, Agent;
    ConnectionRefused = "connection_refused", "provider upstream failed: connection_refused", "provider-upstream.txt", Run, Other;
    /// The wire is complete, and the agent's result envelope is absent or broken.
    AgentProtocol = "agent_protocol", "case agent result protocol failed", "provider-agent-protocol.txt", Run, Agent;
    /// A clock ran out.
    Timeout = "timeout", "case engine failed with exit code 124", "provider-timeout.txt", Limit, Agent;
    /// A clock ran out although the judge holds the patch good.
    LifecycleTimeout = "lifecycle_timeout", "lifecycle timeout after valid patch", "provider-lifecycle-timeout.txt", Limit, Agent;
    /// The agent used up what the proxy allows: requests, bytes or tokens. The detail is the limit.
    LimitHit = "limit_hit", "provider limit hit: {}", "provider-limit-hit.txt", Limit, Agent;
    /// The engine ended with an error, by status or by its own event log.
    EngineFailed = "engine_failed", "case engine failed with exit code {}", "provider-engine-failed.txt", Run, Agent;
    /// Something of the target was visible or asked for.
    TargetInspected = "target_inspected", "evidence rejected: target_inspected", "provider-evidence-rejected.txt", Run, Agent;
    /// A secret stands in an artifact.
    SecretFound = "secret_found", "evidence rejected: secret_found", "provider-evidence-rejected.txt", Run, Agent;
    /// The patch leaves the allowed paths.
    WritesOutside = "writes_outside", "evidence rejected: writes_outside", "provider-evidence-rejected.txt", Run, Agent;
    /// A baseline of the same run ended wrong, so the run says nothing.
    VoidBaseline = "void_baseline", "evidence rejected: void_baseline", "provider-evidence-rejected.txt", Run, Other;
    JudgeRejected = "judge_rejected", "evidence rejected: judge_rejected", "provider-evidence-rejected.txt", Run, Agent;
    /// A gate outside the classes above said no: the detail is the gate's id.
    GateRefused = "gate_refused", "gate refused: {}", "gate-refused.txt", Run, Other;
    /// The run was told to stop: the detail is the signal.
    Interrupted = "interrupted", "run interrupted: {}", "run-interrupted.txt", Stopped, Other;
    /// A signal that admit did not send ended the agent or what admit had started: the detail says what is known of it.
    /// The kernel sends one for want of memory, and keeps to itself who sent another.
    KilledFromOutside = "killed_from_outside", "run killed by a signal that admit did not send: {}", "run-killed-from-outside.txt", Stopped, Other;
    /// An address of the endpoint lies outside of the network that the model's record allows.
    NetworkNotAllowed = "network_not_allowed", "model endpoint outside of its network", "provider-network-not-allowed.txt", Run, Other;
    /// None of the facts fits a class.
    Unclassified = "unclassified", "unclassified failure: {}", "provider-unclassified.txt", Run, Other;
}

impl FailureClass {
    /// The class of a reply, which has the same name; none for a usable one, and for one that our side or the agent cut.
    pub fn of_reply(class: ReplyClass) -> Option<Self> {
        Self::from_text(class.as_str())
    }

    /// Whether a run that ended so says nothing about the agent: it was stopped, and may be tried again.
    pub fn says_nothing(self) -> bool {
        self.kind() == Kind::Stopped
    }

    /// The classes that [`Self::may_be_unscored`], in their order.
    pub fn unscored() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|class| class.may_be_unscored())
    }

    /// The `failure_reason` of a report; `detail` fills the class's open place where it has one.
    pub fn failure_reason(self, detail: &str) -> String {
        self.pattern().replace("{}", detail)
    }
}

/// A stage of the ladder, of which this version of admit runs the first alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// 2 to 7.
    pub number: u8,
    pub title: &'static str,
    /// The evidence that is missing before the stage could run; empty for the one that runs. Each stage also needs
    /// everything that the stages below it need.
    pub missing: &'static [&'static str],
}

impl Stage {
    pub const ALL: [Self; 6] = [
        Self { number: 2, title: "artificial fixture", missing: &[] },
        Self {
            number: 3,
            title: "copied repository",
            missing: &[
                "verified Stage 2 runs with status pass",
                "a licence of the provider that allows stage 3",
                "a rule for copies of real repositories: what may be copied, and what an agent may read there",
            ],
        },
        Self {
            number: 4,
            title: "sandbox repository",
            missing: &[
                "verified Stage 3 runs with status pass",
                "a remote made for the purpose, and a rule for what may be pushed to it",
            ],
        },
        Self {
            number: 5,
            title: "owned repository",
            missing: &[
                "verified Stage 4 runs with status pass",
                "the owner's written approval for the repository",
                "a way back for every change that is made",
            ],
        },
        Self {
            number: 6,
            title: "default candidate",
            missing: &[
                "verified Stage 5 runs with status pass",
                "a comparison with the present default on the same tasks",
            ],
        },
        Self {
            number: 7,
            title: "core promotion",
            missing: &[
                "verified Stage 6 runs with status pass",
                "the promotion decision of the person responsible for the core set-up",
            ],
        },
    ];

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.number == number)
    }

    pub fn runs(self) -> bool {
        self.number == 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn classes_are_distinct_and_their_serde_form_is_their_text() {
        let texts: BTreeSet<_> = FailureClass::ALL.iter().map(|c| c.as_str()).collect();
        assert_eq!(texts.len(), FailureClass::ALL.len());
        for class in FailureClass::ALL {
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
            assert!(class.marker().ends_with(".txt") && !class.marker().contains('/'));
            assert!(!class.failure_reason("x").contains('{'));
        }
        assert_eq!(
            FailureClass::EngineFailed.failure_reason("3"),
            "case engine failed with exit code 3"
        );
    }

    #[test]
    fn who_stopped_a_run_or_did_not_serve_it_is_not_the_agent() {
        let unscored: Vec<_> = FailureClass::unscored().map(FailureClass::as_str).collect();
        let want = "provider_unavailable model_not_admitted auth_unavailable local_config_unavailable \
                    upstream_error stream_truncated model_mismatch connection_refused void_baseline gate_refused \
                    interrupted killed_from_outside network_not_allowed unclassified";
        assert_eq!(unscored.join(" "), want);
        let stopped: Vec<_> =
            FailureClass::ALL.iter().filter(|class| class.says_nothing()).collect();
        assert_eq!(stopped, [&FailureClass::Interrupted, &FailureClass::KilledFromOutside]);
    }

    #[test]
    fn every_reply_that_cannot_be_used_has_a_class_of_its_name() {
        use ReplyClass::{ClientClosed, CutByAdmit, OkText, OkTools};
        for class in ReplyClass::ALL {
            let usable_or_cut = matches!(class, OkText | OkTools | ClientClosed | CutByAdmit);
            assert_eq!(FailureClass::of_reply(class).is_none(), usable_or_cut, "{class}");
        }
    }

    #[test]
    fn only_stage_two_runs_and_the_others_say_what_is_missing() {
        for stage in Stage::ALL {
            assert_eq!(Stage::from_number(stage.number), Some(stage));
            assert_eq!(stage.runs(), stage.missing.is_empty());
            assert_eq!(stage.runs(), stage.number == 2);
        }
        assert_eq!((Stage::from_number(1), Stage::from_number(8)), (None, None));
    }
}
