//! What counts, and what nobody can choose: every case of the rule, on reports and attempts that were written for it.

use super::*;
use crate::record::campaign::{COUNTING, INTERVAL};
use crate::record::evidence::Baseline;
use crate::record::task::TaskOf;

fn now() -> Timestamp {
    Timestamp::from_unix(1_700_000_000)
}

fn digest(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn plan() -> CampaignPlan {
    CampaignPlan {
        schema: CampaignPlan::SCHEMA.to_string(),
        name: "nightly".parse().unwrap(),
        admit_version: "0".into(),
        cells: vec![Cell {
            provider: "understudy".parse().unwrap(),
            lock: digest("lock"),
            binary_sha256: digest("binary"),
            model: "local/model".parse().unwrap(),
            model_record: digest("record"),
            fixture: "r1-string-slugify".parse().unwrap(),
            fixture_digest: digest("fixture"),
        }],
        repeats: 4,
        attempts: 3,
        timeout_seconds: None,
        success: vec![RunStatus::Pass],
        not_scored: FailureClass::unscored().collect(),
        counting: COUNTING.into(),
        interval: INTERVAL.into(),
        pass_k: vec![1, 2, 4],
    }
}

/// The report of attempt `attempt` at task `index`, as the plan wants it.
fn report(index: u32, attempt: u32, class: Option<FailureClass>) -> RunReport {
    let plan = plan();
    let cell = plan.cells[0].clone();
    let mut report = RunReport::draft(cell.fixture.as_str(), "case", &now());
    report.status = if class.is_some() { RunStatus::Fail } else { RunStatus::Pass };
    report.failure_class = class;
    report.case_process_started = true;
    report.provider = Some(cell.provider.to_string());
    report.case_model_provider = Some("local".into());
    report.case_model = Some("model".into());
    report.fixture_digest = Some(cell.fixture_digest);
    report.model_record_sha256 = Some(cell.model_record);
    report.case_binary_sha256 = Some(cell.binary_sha256);
    report.campaign = Some(TaskOf {
        plan: plan.digest(),
        index,
        attempt,
        scheduler: "slurm".into(),
        job: None,
        node: "n1".into(),
    });
    report
}

fn found(index: u32, attempt: u32, what: What) -> (u32, Attempt) {
    let plan = plan();
    let directory = format!("{index:06}.{attempt}");
    (index, super::attempt(&plan, &plan.digest(), &AttemptDir { directory, index, attempt, what }))
}

fn ended(index: u32, attempt: u32, class: Option<FailureClass>) -> (u32, Attempt) {
    sealed(index, attempt, report(index, attempt, class))
}

fn sealed(index: u32, attempt: u32, report: RunReport) -> (u32, Attempt) {
    found(index, attempt, What::Sealed(digest("run"), Box::new(report)))
}

/// Attempts at a task that was begun and came to nothing that counts.
fn blocked(index: u32, attempt: u32) -> (u32, Attempt) {
    let mut report = report(index, attempt, Some(FailureClass::GateRefused));
    report.status = RunStatus::Blocked;
    report.case_process_started = false;
    sealed(index, attempt, report)
}

fn bounds(record: &CampaignRecord) -> (&str, &str) {
    (record.total.bounds.low.as_str(), record.total.bounds.high.as_str())
}

#[test]
fn who_can_end_an_attempt_takes_no_failure_out_of_the_count() {
    let killed = Some(FailureClass::KilledFromOutside);
    let first = [ended(0, 1, None), ended(1, 1, None), ended(2, 1, None), ended(3, 1, None)];
    let whole = record(&plan(), first.clone(), &now());
    assert_eq!((whole.complete, whole.total.repeated), (true, 0));
    assert_eq!(bounds(&whole), ("1.000000", "1.000000"));

    // The agent of task 1 was killed, whoever did it; the run of task 2 was refused before anything was started.
    let mut some = first.to_vec();
    some[1] = ended(1, 2, None);
    some.push(ended(1, 1, killed));
    some[2] = ended(2, 2, None);
    some.push(blocked(2, 1));
    let ranged = record(&plan(), some.clone(), &now());
    assert_eq!((ranged.complete, ranged.total.success, ranged.total.repeated), (true, 4, 1));
    assert_eq!(bounds(&ranged), ("0.750000", "1.000000"));
    assert!(ranged.tasks[1].repeated && !ranged.tasks[2].repeated);
    assert_eq!(ranged.tasks[1].attempts[0].state, AttemptState::NotScored);

    // What was cancelled, what lost its machine, what was changed and what was taken away say no more.
    let foreign = report(0, 1, None);
    for before in [
        ended(1, 1, Some(FailureClass::Interrupted)),
        found(1, 1, What::Unsealed),
        found(1, 1, What::Changed("patch.diff".into())),
        sealed(1, 1, foreign),
    ] {
        some.pop();
        some.pop();
        some.push(before);
        some.push(blocked(2, 1));
        let again = record(&plan(), some.clone(), &now());
        assert_eq!((bounds(&again), again.total.repeated), (("0.750000", "1.000000"), 1));
    }
    some.retain(|(index, one)| (*index, one.attempt) != (1, 1));
    let gone = record(&plan(), some.clone(), &now());
    assert_eq!((bounds(&gone), gone.total.repeated), (("0.750000", "1.000000"), 1));
    let row = &gone.tasks[1].attempts[0];
    assert_eq!((row.state, row.directory.as_str()), (AttemptState::Absent, "000001.1"));

    // A failure after it is no surer than a success.
    some[3] = ended(3, 2, Some(FailureClass::JudgeRejected));
    some.push(ended(3, 1, killed));
    let failed = record(&plan(), some, &now());
    assert_eq!((failed.total.failure, failed.total.repeated), (1, 2));
    assert_eq!(bounds(&failed), ("0.500000", "1.000000"));
}

#[test]
fn a_plan_may_score_what_is_left_out_and_not_leave_out_what_is_the_agents() {
    assert_eq!(plan().faults(), Vec::<String>::new());
    let mut strict = plan();
    strict.not_scored.retain(|class| *class != FailureClass::KilledFromOutside);
    assert_eq!(strict.faults(), Vec::<String>::new());
    let mut report = report(0, 1, Some(FailureClass::KilledFromOutside));
    report.campaign.as_mut().unwrap().plan = strict.digest();
    let what = What::Sealed(digest("run"), Box::new(report));
    let found = AttemptDir { directory: "000000.1".into(), index: 0, attempt: 1, what };
    let row = attempt(&strict, &strict.digest(), &found);
    assert_eq!(row.state, AttemptState::Scored);

    let mut lax = plan();
    lax.not_scored.push(FailureClass::JudgeRejected);
    assert_eq!(lax.faults(), ["not_scored has a class of the agent's own"]);
}

#[test]
fn the_lowest_scored_attempt_counts_and_the_node_that_came_back_is_listed() {
    let all = [ended(0, 2, None), ended(0, 1, Some(FailureClass::JudgeRejected))];
    let record = record(&plan(), all, &now());
    let task = &record.tasks[0];
    assert_eq!((task.state, task.counted), (TaskState::Failure, Some(1)));
    assert!(task.attempts.iter().all(|one| one.state == AttemptState::Scored));
    assert!(!record.complete);
    assert_eq!(bounds(&record), ("0.000000", "0.750000"));
}

#[test]
fn a_count_says_what_of_each_there_is() {
    let unseen = [blocked(0, 1), found(1, 1, What::Unsealed), ended(3, 1, None)];
    let record = record(&plan(), unseen, &now());
    let states = record.tasks.iter().map(|task| task.state).collect::<Vec<_>>();
    use TaskState as S;
    assert_eq!(states, [S::NotScored, S::Lost, S::Missing, S::Success]);
    let total = &record.total;
    assert_eq!((total.not_scored, total.lost, total.missing, total.success), (1, 1, 1, 1));
    assert_eq!(title(&plan().cells[0]), "understudy · local/model · r1-string-slugify");
}

#[test]
fn failures_are_counted_by_their_class_and_cells_by_themselves() {
    let class = Some(FailureClass::JudgeRejected);
    let all = [ended(0, 1, class), ended(2, 1, class), ended(1, 1, None)];
    let plan = || {
        let mut two = plan();
        let mut other = two.cells[0].clone();
        other.fixture = "r2-duration".parse().unwrap();
        two.cells.push(other);
        two
    };
    let whole = record(&plan(), all, &now());
    assert_eq!(whole.total.classes, BTreeMap::from([("judge_rejected".to_owned(), 2)]));
    let each = whole.cells.iter().map(|cell| (cell.planned, cell.failure, cell.success));
    assert_eq!(each.collect::<Vec<_>>(), [(4, 2, 0), (4, 0, 1)]);
    assert_eq!(whole.total.planned, 8);
    assert_eq!(whole.total.rate.as_deref(), Some("0.333333"));
    assert_eq!(bounds(&whole), ("0.125000", "0.750000"));
    let mut none = plan();
    none.repeats = 0;
    assert_eq!(bounds(&record(&none, [], &now())), ("0.000000", "0.000000"));
}

#[test]
fn a_run_takes_what_lies_between_its_beginning_and_its_end() {
    let mut report = report(0, 3, None);
    report.finished = Timestamp::from_unix(now().unix() + 7);
    let row = sealed(0, 3, report).1;
    assert_eq!((row.state, row.seconds), (AttemptState::Scored, Some(7)));
}

#[test]
fn a_run_that_was_refused_may_not_know_its_digests() {
    let mut report = report(0, 1, Some(FailureClass::GateRefused));
    report.status = RunStatus::Blocked;
    (report.case_process_started, report.case_binary_sha256) = (false, None);
    assert_eq!(sealed(0, 1, report.clone()).1.state, AttemptState::NotScored);
    report.case_binary_sha256 = Some(digest("other"));
    assert_eq!(sealed(0, 1, report.clone()).1.state, AttemptState::Foreign);
    (report.case_process_started, report.case_binary_sha256) = (true, None);
    assert_eq!(sealed(0, 1, report).1.state, AttemptState::Foreign);
}

#[test]
fn an_attempt_beyond_the_plan_does_not_count() {
    let report = report(0, 4, None);
    let beyond = sealed(0, 4, report);
    assert_eq!(beyond.1.state, AttemptState::Foreign);
    assert_eq!(beyond.1.why.as_deref(), Some("attempt: expected at most 3, found 4"));
    let record = record(&plan(), [beyond, found(0, u32::MAX, What::Unsealed)], &now());
    assert_eq!((record.tasks[0].state, record.tasks[0].attempts.len()), (TaskState::Lost, 2));
    assert_eq!(bounds(&record), ("0.000000", "1.000000"));
}

/// What makes a report that of something else; given is a digest of something else.
type Change = fn(&mut RunReport, Option<Digest>);

#[test]
fn the_run_of_anything_else_is_named_by_what_differs() {
    let other = Some(digest("other"));
    let cases: [(&str, Change); 9] = [
        ("the run belongs to no campaign", |report, _| report.campaign = None),
        ("plan: expected", |report, other| {
            report.campaign.as_mut().unwrap().plan = other.unwrap();
        }),
        ("task: expected 0, found 1", |report, _| report.campaign.as_mut().unwrap().index = 1),
        ("attempt: expected 1, found 2", |report, _| {
            report.campaign.as_mut().unwrap().attempt = 2;
        }),
        ("provider: expected understudy, found none", |report, _| report.provider = None),
        ("model: expected local/model, found local/larger", |report, _| {
            report.case_model = Some("larger".into());
        }),
        ("fixture's digest: expected", |report, other| report.fixture_digest = other),
        ("model record: expected", |report, other| report.model_record_sha256 = other),
        ("binary: expected", |report, other| report.case_binary_sha256 = other),
    ];
    for (want, change) in cases {
        let mut report = report(0, 1, None);
        change(&mut report, other.clone());
        let row = sealed(0, 1, report).1;
        assert_eq!((row.state, row.started), (AttemptState::Foreign, None), "{want}");
        assert!(row.why.as_deref().unwrap().starts_with(want), "{:?}", row.why);
    }
    assert_eq!(ended(0, 1, None).1.state, AttemptState::Scored);
}

#[test]
fn baselines_of_another_run_count_where_that_run_made_them_and_is_there() {
    let plan = plan();
    let row = |index: u32, change: &dyn Fn(&mut RunReport)| -> Row {
        let mut report = report(index, 1, None);
        report.baselines = vec![Baseline {
            name: "no_change".into(),
            expected_accept: false,
            accepted: false,
            patch_digest: digest(""),
            note: "rejected".into(),
        }];
        change(&mut report);
        let what = What::Sealed(digest(&format!("run {index}")), Box::new(report));
        let baselines = what.baselines();
        let directory = format!("{index:06}.1");
        let found = AttemptDir { directory, index, attempt: 1, what };
        (index, attempt(&plan, &plan.digest(), &found), baselines)
    };
    let of = |run: u32, index: u32| {
        let (run, directory) = (digest(&format!("run {run}")), format!("{index:06}.1"));
        Some(BaselinesOf { run, directory, seconds: 3 })
    };
    let states = |rows: [Row; 3]| -> Vec<AttemptState> {
        hold_baselines(rows.into()).iter().map(|(_, one)| one.state).collect()
    };
    use AttemptState::{Foreign, NotScored, Scored};
    let own = || row(0, &|_| {});
    let good = row(2, &|report| report.baselines_of = of(0, 0));
    assert_eq!(states([own(), row(1, &|_| {}), good.clone()]), [Scored; 3]);
    let lender = |row: &Row| row.2.as_ref().unwrap().lender().map(str::to_owned);
    assert_eq!((lender(&own()), lender(&good)), (None, Some("000000.1".into())));
    for (bad, why) in [
        (row(1, &|report| report.baselines_of = of(9, 0)), "another run lies there"),
        (row(1, &|report| report.baselines_of = of(0, 9)), "it lies elsewhere"),
        (row(1, &|report| report.baselines_of = of(2, 2)), "that run did not make them"),
        (row(1, &|report| report.baselines_of = of(1, 1)), "they are its own"),
        (
            row(1, &|report| {
                report.baselines_of = of(0, 0);
                report.baselines[0].note = "rejected otherwise".into();
            }),
            "they are others",
        ),
        (
            row(1, &|report| {
                report.baselines_of = of(0, 0);
                report.campaign.as_mut().unwrap().node = "n2".into();
            }),
            "it ran on another node",
        ),
    ] {
        assert_eq!(states([own(), bad, good.clone()]), [Scored, Foreign, Scored], "{why}");
    }
    // What is not scored vouches for nobody.
    let stopped = row(0, &|report| {
        report.status = RunStatus::Fail;
        report.failure_class = Some(FailureClass::Interrupted);
    });
    assert_eq!(states([stopped, row(1, &|_| {}), good]), [NotScored, Scored, Foreign]);
}
