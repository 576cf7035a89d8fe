//! What admit's words mean and what to do: states, classes, exit codes, checks, and the terms that no dictionary has.
//! `admit explain`, the report's page and the tables of `docs/operate.md` say the same.

use std::collections::BTreeSet;

use crate::error::{Kind, Reason};
use crate::record::admission::AdmissionStatus;
use crate::record::evidence::{EvidenceClass, RunStatus};
use crate::record::failure::{FailureClass, Stage};
use crate::record::wire::ReplyClass;
use crate::record::{word, words};

words! {
    pub enum Sort {
        Status = "status of a run",
        FailureClass = "failure class",
        Check = "check",
        ExitCode = "exit code",
        Reason = "reason",
        EvidenceClass = "evidence class",
        Stage = "stage",
        /// What a line of output begins or ends with.
        Verdict = "verdict",
        ModelStatus = "status of a model",
        /// What a reply of a model amounts to, in the record of an exchange.
        ReplyClass = "class of a reply",
        Term = "word",
    }
}

/// One word, what it means, and what to do about it (empty where there is nothing to do).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub sort: Sort,
    pub word: String,
    pub meaning: String,
    pub action: String,
}

pub fn all() -> Vec<Topic> {
    let topic = |sort, word: &str, meaning: &str, action: &str| Topic {
        sort,
        word: word.to_owned(),
        meaning: meaning.to_owned(),
        action: action.to_owned(),
    };
    let statuses = [RunStatus::Pass, RunStatus::Rehearsed, RunStatus::Fail, RunStatus::Blocked];
    let mut out: Vec<Topic> = Vec::new();
    out.extend(statuses.map(|one| topic(Sort::Status, one.as_str(), status(one), "")));
    out.extend(FailureClass::ALL.map(|one| {
        let (meaning, action) = class(one);
        topic(Sort::FailureClass, one.as_str(), meaning, action)
    }));
    out.extend(
        checks().map(|(id, holds)| topic(Sort::Check, id, &format!("Holds when {holds}"), "")),
    );
    let kinds = Reason::ALL.iter().map(|reason| reason.kind()).chain([Kind::Run]);
    let codes: BTreeSet<u8> = kinds.map(Kind::exit_code).chain([0]).collect();
    out.extend(codes.into_iter().map(|code| {
        let (meaning, action) = exit_code(code);
        topic(Sort::ExitCode, &code.to_string(), meaning, action)
    }));
    out.extend(Reason::ALL.iter().map(|one| {
        let code = one.kind().exit_code();
        let (meaning, action) = exit_code(code);
        let meaning = format!("{}; exit code {code}", sentence(meaning));
        topic(Sort::Reason, one.as_str(), &meaning, action)
    }));
    out.extend(
        EvidenceClass::ALL
            .map(|one| topic(Sort::EvidenceClass, one.as_str(), evidence_class(one), "")),
    );
    out.extend(Stage::ALL.map(|one| {
        let word = format!("stage{}", one.number);
        let missing = one.missing.join("; ");
        let runs = match one.runs() {
            true => "The only one that runs".to_owned(),
            false => format!("Does not run yet. Missing: {missing}"),
        };
        topic(Sort::Stage, &word, &format!("{}. {runs}", sentence(one.title)), "")
    }));
    out.extend(VERDICTS.map(|(word, meaning)| topic(Sort::Verdict, word, meaning, "")));
    out.extend(AdmissionStatus::ALL.map(|one| {
        let (meaning, action) = model(one);
        topic(Sort::ModelStatus, one.as_str(), meaning, action)
    }));
    out.extend(
        ReplyClass::ALL
            .iter()
            .map(|one| topic(Sort::ReplyClass, &word(one), reply_class(*one), "")),
    );
    out.extend(TERMS.map(|(word, meaning, action)| topic(Sort::Term, word, meaning, action)));
    out
}

/// What `text` names: every topic of that word, whatever the case and whether written with `-`, `_` or a blank.
pub fn find(text: &str) -> Vec<Topic> {
    let plain = |text: &str| text.trim().to_lowercase().replace([' ', '-'], "_");
    let wanted = plain(text);
    all().into_iter().filter(|topic| plain(&topic.word) == wanted).collect()
}

pub fn nearest(text: &str) -> Vec<String> {
    let wanted = text.to_lowercase();
    let mut near: Vec<(usize, String)> = all()
        .into_iter()
        .map(|topic| (strsim::levenshtein(&wanted, &topic.word.to_lowercase()), topic.word))
        .filter(|(far, word)| *far <= 2.max(word.len() / 3) || word.contains(&wanted))
        .collect();
    near.sort();
    near.dedup();
    near.into_iter().map(|(_, word)| word).take(3).collect()
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

pub fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Pass => {
            "The admitted agent, with the admitted model, did the work, and every check of this run held"
        }
        RunStatus::Rehearsed => {
            "Everything that a pass needs held, but something stood in for the real thing (the model, the agent or \
             the provider). It shows that the set-up works, and says nothing about an agent. It is never a pass"
        }
        RunStatus::Fail => "The run was started and did not pass",
        RunStatus::Blocked => "A check said no before the start, so nothing was started",
    }
}

pub fn evidence_class(class: EvidenceClass) -> &'static str {
    match class {
        EvidenceClass::ServedModel => {
            "The admitted model answered from where its record says. Only this kind can be a pass"
        }
        EvidenceClass::Scripted => "The model's replies were written beforehand. Never a pass",
        EvidenceClass::Understudy => "A stand-in took the place of the provider. Never a pass",
        EvidenceClass::Loopback => {
            "A test server on this machine answered as the model. Never a pass"
        }
        EvidenceClass::Fake => "No agent worked: the reference patch was applied. Never a pass",
        EvidenceClass::None => {
            "Nothing was started, or it did not come so far that it could be evidence"
        }
    }
}

/// The page for operators: its tables are the one place that says what checks, exit codes and failure classes mean.
const OPERATE: &str = include_str!("../docs/operate.md");

/// Meaning and action, which are the last two cells of the row that begins with `first`.
fn row(first: &str) -> Option<(&'static str, &'static str)> {
    let rest = OPERATE.lines().find_map(|line| line.strip_prefix(first));
    rest?.strip_suffix(" |")?.split_once(" | ")
}

/// What an exit code means, and what to do.
fn exit_code(code: u8) -> (&'static str, &'static str) {
    row(&format!("| {code} | ")).unwrap_or_default()
}

/// What a failure class means, and what to do.
pub fn class(class: FailureClass) -> (&'static str, &'static str) {
    row(&format!("| `{}` | `{}` | ", class.as_str(), class.marker())).unwrap_or_default()
}

/// Each check in the order in which they are made, and when it holds.
pub fn checks() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rows = OPERATE.lines().skip_while(|line| !line.starts_with("| check |")).skip(2);
    rows.map_while(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "))
}

fn model(status: AdmissionStatus) -> (&'static str, &'static str) {
    match status {
        AdmissionStatus::MissingAdmission => {
            ("No record of the root is of this model", "`admit model add` or `admit model import`")
        }
        AdmissionStatus::Mismatch => {
            ("The record that was named is of another model", "`admit model show PROVIDER/MODEL`")
        }
        AdmissionStatus::InvalidAdmission => (
            "The record cannot be read, breaks its form, or holds a secret or an address",
            "`admit model show PROVIDER/MODEL`",
        ),
        AdmissionStatus::NotAdmitted => (
            "The record is there and does not admit: revoked, expired, not yet valid, or for another stage",
            "`admit model show PROVIDER/MODEL`",
        ),
        AdmissionStatus::Admitted => ("A record of the root admits the model now", ""),
    }
}

/// The words by which a command says its answer, in capitals where it is the first or the last line; and the marks of a line.
const VERDICTS: [(&str, &str); 57] = [
    ("ok", "This held, or was done"),
    ("note", "Not a no, but something to know"),
    ("FAIL", "This did not hold: expected, found and fix follow"),
    (
        "skipped",
        "It was not asked, since what it needs is not there; it counts neither as a yes nor as a no",
    ),
    ("next", "What to type next"),
    ("holds", "Every check that was asked for holds"),
    ("fails", "At least one check that was asked for does not hold"),
    ("no", "What was asked is not so"),
    ("same", "Byte for byte the same"),
    ("same status", "Both runs ended alike"),
    ("differ", "Not the same: the lines after it say in what"),
    ("differs", "Not the same: the lines after it say in what"),
    ("built", "The output was built here, or lies in the store as it was built before"),
    (
        "taken",
        "A binary that was built elsewhere was taken, under the same checks as one built here",
    ),
    ("recorded", "It is on record now: the gate holds things against it"),
    ("not recorded", "It is not on record, so the gate does not let it run"),
    ("locked", "The lock names it by digest"),
    ("unlocked", "The lock has no digest of the output yet, so that nothing was compared"),
    ("matched", "The output has the digest that the lock names"),
    ("made", "A new file or directory is there"),
    ("written", "The files are written"),
    ("left alone", "Something of yours stands there, and was not touched"),
    ("trusted", "The directory's records decide, as long as nothing in it changes"),
    ("revoked", "It counts no more, from now on"),
    ("expired", "Its time is over"),
    ("stale", "It was said of an earlier state, and says nothing of the present one"),
    ("refused", "A rule says no, and nothing was done"),
    ("would start", "Every check before a start holds; nothing was started"),
    ("would not start", "A check before a start does not hold"),
    ("signed", "A signature was made, and read back"),
    ("signature", "What is said of who signed"),
    ("pushed", "The registry has it, and gave it back unchanged"),
    ("planned", "The plan of a campaign is fixed: its digest names the campaign"),
    ("submitted", "The scheduler has the tasks"),
    ("complete", "Every task of the plan has an attempt that counts"),
    (
        "incomplete",
        "A task of the plan has no attempt that counts, or one is in doubt: the rate is a range",
    ),
    ("ready", "This machine has what admit needs"),
    ("not ready", "This machine lacks something that admit needs"),
    ("healthy", "Every fault that was made on purpose was named rightly"),
    ("not healthy", "A fault that was made on purpose was not named rightly"),
    ("not all known", "Some of what was looked at is not what admit knows"),
    ("not known", "admit has never seen it, and says nothing of it"),
    ("unknown", "admit has never seen it, and says nothing of it"),
    ("not proven", "It may be so, and nothing shows it"),
    ("proven", "The bytes show it, with nothing taken on trust"),
    ("runtime", "The Bun inside of a binary"),
    ("native", "A program that is no Bun executable"),
    ("entry", "The module that a binary starts with"),
    ("blame", "The variation that alone changes the output"),
    ("answers", "The endpoint answers as its record says"),
    ("does not answer", "Nothing at the endpoint, or not in a form that is known"),
    ("not asked", "Nothing was sent there"),
    ("stages", "The parts of the way to production, of which one runs"),
    (
        "served",
        "Said of a model that a server elsewhere runs; a scripted one replays what was written",
    ),
    ("scripted", "Said of a model that replays what was written: a run with it is a rehearsal"),
    ("build", "To make the output of a lock in a sandbox, from inputs that are known by digest"),
    ("verify", "To hold what is here against its records again"),
];

fn reply_class(class: ReplyClass) -> &'static str {
    match class {
        ReplyClass::OkText => "Text, and the reply ended as its API says",
        ReplyClass::OkTools => "Tool calls, and the reply ended as its API says",
        ReplyClass::AuthUnavailable => "The server answered 401 or 403",
        ReplyClass::ConnectionRefused => "Nothing answered at the endpoint",
        ReplyClass::UpstreamError => {
            "Another error status, an error in the stream, or a reply that is not of the API"
        }
        ReplyClass::StreamTruncated => "Cut off, or without the end that its API has",
        ReplyClass::ModelMismatch => "The reply names another model than the admitted one, or none",
        ReplyClass::MalformedToolCall => {
            "A tool call whose arguments are no JSON object, that the token budget cut, or that came as text"
        }
        ReplyClass::ResponseShapeUnavailable => "Only reasoning: nothing that an agent can use",
        ReplyClass::EmptyReply => "Neither text nor a tool call",
        ReplyClass::ClientClosed => "The agent hung up first",
        ReplyClass::CutByAdmit => "Stopped at one of admit's own limits",
    }
}

/// Terms that are admit's own, or that mean something narrower here.
const TERMS: [(&str, &str, &str); 43] = [
    ("admit", "To let run. Only what a record of the root names by digest is admitted", ""),
    (
        "adopt",
        "To take a binary that was built elsewhere, under the same checks as one built here",
        "`admit adopt`",
    ),
    (
        "ambient inputs",
        "What a program reads from its surroundings without being told to: files, variables",
        "",
    ),
    (
        "attempt",
        "One try at a task of a campaign. The lowest one that was scored counts, never the best",
        "`admit campaign status DIR`",
    ),
    (
        "auth bridge",
        "A program on this machine that adds an account's credentials to requests; the agent never sees them",
        "",
    ),
    (
        "baseline",
        "Two runs of the judge beside every run: no change must be rejected, the reference patch accepted",
        "",
    ),
    ("blocker", "One thing that stood in the way of a run, in a line of its report", ""),
    (
        "campaign",
        "Many runs that were planned before the first one, and are counted by a rule that was fixed then",
        "`admit campaign plan`",
    ),
    ("cell", "One combination of provider, model and fixture in a campaign", ""),
    ("embedded", "Part of the admit program itself, so that it works without any other file", ""),
    (
        "evidence",
        "Everything that admit saw of a run, sealed under one digest",
        "`admit show`, `admit verify RUN`",
    ),
    (
        "evidence class",
        "What stood in for what in a run: only one with a served model and an agent of one's own can pass",
        "`admit explain fake`",
    ),
    (
        "exchange",
        "One request of the agent to the model, and the reply",
        "`backend/wire/` of the run",
    ),
    (
        "fixture",
        "A small repository with a task, tests that fail, and a known solution that no agent sees",
        "`admit fixture`",
    ),
    (
        "gate",
        "The point before a start where every check must hold",
        "`admit run stage2 --dry-run`",
    ),
    (
        "held-out cases",
        "Inputs that the agent never sees; the patched code must answer them right",
        "",
    ),
    ("identity", "What `--help` and `--version` of a binary must show", ""),
    (
        "judge",
        "The part that decides whether the work is right: locked tests and held-out cases, run twice",
        "",
    ),
    (
        "lock",
        "The file that pins a provider: commit, toolchain, packages, build steps and output, by digest",
        "`admit lock PROVIDER --show`",
    ),
    ("no_change", "The baseline without any work: the judge must reject it", ""),
    ("nonce", "Random bytes drawn for one run: what carries them was made in that run", ""),
    ("not_asked", "The check has no meaning for what was asked, or was left out", ""),
    (
        "not_reached",
        "A check that this one needs is no yes, so it was not made: neither a yes nor a cause",
        "",
    ),
    (
        "on record",
        "A build whose report lies in admissions/builds/ of the root. Only these are run",
        "`admit build PROVIDER --record`",
    ),
    (
        "pass^k",
        "How likely it is that k runs of a cell all pass, estimated from those that were scored",
        "`admit campaign show DIR`",
    ),
    (
        "phase",
        "A part of an agent's work, by its own name, with how it ended. Only the one that does the work decides",
        "",
    ),
    ("policy", "What `[require]` in admit.toml wants signed, and by whom", "`admit config show`"),
    (
        "probe",
        "What admit asks a model before the start, to see how it answers; kept as exchange 0",
        "`admit run stage2 --dry-run --probe`",
    ),
    ("provider", "An agent that admit builds and runs, as one lock describes it", "`admit lock`"),
    (
        "proxy",
        "The agent's only way out: admit itself, which lets nothing but the admitted model's requests through",
        "",
    ),
    (
        "published",
        "Said of a binary that was taken from a package, and not built here",
        "`admit lock NAME --package PKG@VERSION`",
    ),
    (
        "pulled",
        "Said of a build that came from a registry, and counts by the word of a key that you trust",
        "`admit pull`",
    ),
    (
        "rebuild",
        "The same build once more, to see whether it gives the same bytes",
        "`admit rebuild PROVIDER`",
    ),
    (
        "reference_patch",
        "The baseline with the fixture's own solution: the judge must accept it",
        "",
    ),
    (
        "root",
        "The records that hold: a directory with admit.toml, or those embedded in admit with yours before them",
        "`admit trust DIR`",
    ),
    (
        "run id",
        "SHA-256 over the list of every file of a run. Who has it can tell that nothing was changed",
        "`admit verify RUN --id DIGEST`",
    ),
    ("seal", "The last file of a run directory: with it the run is whole and has its id", ""),
    (
        "self-consistent",
        "Every file of a run is as it was sealed. Who can write here could have sealed it anew",
        "`admit verify RUN --id DIGEST`, or a signature: `admit attest run`",
    ),
    ("sentinel", "What the agent gets in place of the model's key. It opens nothing", ""),
    (
        "store",
        "Where verified inputs and outputs lie, each under its digest",
        "`admit gc --dry-run`",
    ),
    (
        "trust",
        "To let the records of a directory decide what is built and run. Any change asks again",
        "`admit trust DIR`",
    ),
    (
        "understudy",
        "The stand-in agent that is embedded for the demo: it can never pass",
        "`admit demo`",
    ),
    (
        "wire",
        "What went between the agent and the model, byte for byte",
        "`backend/wire/` of the run",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_however_it_is_written() {
        for word in ["judge_rejected", "judge-rejected", "Judge Rejected"] {
            let [topic] = &find(word)[..] else { panic!("{word}") };
            assert_eq!(topic.sort, Sort::FailureClass);
        }
        assert_eq!(find("5")[0].sort, Sort::ExitCode);
        assert!(find("no such word").is_empty());
        assert_eq!(nearest("judge_rejekted")[0], "judge_rejected");
        assert!(nearest("zzzzzzzzzz").is_empty());
    }

    #[test]
    fn every_verdict_of_a_command_is_explained() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli");
        let (mut words, mut files) = (BTreeSet::new(), vec![dir]);
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            // `Mark::Good, "word"`, with whatever blanks a formatter puts between.
            let text = std::fs::read_to_string(&path).unwrap();
            for part in text.split("Mark::").skip(1) {
                let rest = part.trim_start_matches(char::is_alphabetic);
                let Some(rest) = rest.strip_prefix(',') else { continue };
                let Some(rest) = rest.trim_start().strip_prefix('"') else { continue };
                let word = rest.split('"').next().unwrap();
                // A name in the place of a verdict is the thing that is spoken of.
                if !word.contains('{') {
                    words.insert(word.to_owned());
                }
            }
        }
        assert!(words.len() > 40, "{words:?}");
        let unknown: Vec<_> = words.iter().filter(|word| find(word).is_empty()).collect();
        assert!(unknown.is_empty(), "without an explanation: {unknown:?}");
    }

    #[test]
    fn every_topic_says_something_once() {
        let mut seen = BTreeSet::new();
        for topic in all() {
            assert!(topic.meaning.len() > 10, "{topic:?}");
            assert!(
                seen.insert((topic.sort.as_str(), topic.word.clone())),
                "{topic:?} is there twice"
            );
        }
    }
}
