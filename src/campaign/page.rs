//! `campaign.html`: the count for people, made from plan and record alone. One file, no script, no network.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::count::title;
use crate::evidence::frame;
use crate::record;
use crate::record::campaign::{AttemptState, CampaignPlan, CampaignRecord, Count, Task, TaskState};
use crate::record::failure::FailureClass;

const STYLE: &str = include_str!("page.css");
/// Rows that stand open; a longer list is folded.
const OPEN_ROWS: usize = 50;
/// Runs that are shown as the slowest.
const SLOWEST: usize = 5;

/// What is said of tasks that were counted after an attempt that may have been a failure.
const REPEATED: &str = "The agent may have been started in it. Who could end that attempt could take a failure out of the count: the \
                        range of the rate holds it.";
/// What is said of tasks with more than one scored attempt.
const TWICE: &str = "The lowest scored attempt counts, whatever the later ones came to.";

pub fn html(plan: &CampaignPlan, record: &CampaignRecord) -> String {
    let total = &record.total;
    let verdict = match record.complete {
        true => format!("complete: {} of {} tasks succeeded", total.success, total.planned),
        false => {
            let open = total.planned - total.success - total.failure;
            format!("incomplete: {open} of {} tasks have no score", total.planned)
        }
    };
    let body = html! {
        p .kind { "Campaign " strong { (plan.name) } }
        h1 { (verdict) }
        p { (sentence(total)) }
        p .dim {
            "Plan " code { (record.plan) } ". Counted " (record.sealed) " by admit "
            (record.admit_version) ". To check it: " code { "admit verify" } " of this directory."
        }
        h2 { "Cells" }
        (cells(plan, record))
        (causes(record))
        (some(record, "Tasks without a score", None, &|task| {
            !matches!(task.state, TaskState::Success | TaskState::Failure)
        }))
        (slowest(record))
        (some(record, "Tasks that were counted after an attempt that was not scored", Some(REPEATED), &|task| task.repeated))
        (some(record, "Tasks that were scored twice", Some(TWICE), &|task| {
            task.attempts.iter().filter(|one| one.state == AttemptState::Scored).count() > 1
        }))
        (all(record))
        (rule(plan))
    };
    frame(&format!("Campaign {}: {verdict}", plan.name), STYLE, &body).into_string()
}

fn percent(decimal: &str) -> String {
    decimal
        .parse::<f64>()
        .map_or_else(|_| decimal.to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn sentence(count: &Count) -> String {
    let (Some(rate), Some(interval)) = (&count.rate, &count.interval) else {
        return "No task has a score, so nothing is known of the rate.".into();
    };
    let scored = count.success + count.failure;
    let mut text = format!(
        "{} of {scored} scored tasks succeeded: {}, and with 95 % confidence between {} and {}.",
        count.success,
        percent(rate),
        percent(&interval.low),
        percent(&interval.high)
    );
    if count.bounds.low != count.bounds.high {
        text.push_str(&format!(
            " With every attempt that was not scored counted as failed it is {}, as succeeded {}.",
            percent(&count.bounds.low),
            percent(&count.bounds.high)
        ));
    }
    text
}

fn cells(plan: &CampaignPlan, record: &CampaignRecord) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Cells" {
            table {
                thead { tr {
                    th { "Provider · model · fixture" } th { "Succeeded" } th { "Rate" } th { "95 %" }
                    th { "All of k" } th { "No score" }
                } }
                tbody {
                    @for (cell, count) in plan.cells.iter().zip(&record.cells) {
                        tr {
                            th scope="row" { (title(cell)) }
                            td .n { (count.success) " of " (count.success + count.failure) }
                            td .n { (count.rate.as_deref().map_or("-".into(), percent)) }
                            td .n {
                                @match &count.interval {
                                    Some(one) => { (percent(&one.low)) " to " (percent(&one.high)) }
                                    None => "-"
                                }
                            }
                            td .n {
                                @for k in &count.pass_k {
                                    @if let Some(estimate) = &k.estimate {
                                        span .k { (k.k) ": " (percent(estimate)) } " "
                                    }
                                }
                            }
                            td .n { (count.planned - count.success - count.failure) }
                        }
                    }
                }
            }
        }
    }
}

/// Why counted tasks failed, and why attempts were not scored.
fn causes(record: &CampaignRecord) -> Markup {
    let mut not_scored: BTreeMap<&str, u32> = BTreeMap::new();
    for attempt in record.tasks.iter().flat_map(|task| &task.attempts) {
        let why = match attempt.state {
            AttemptState::Scored => continue,
            AttemptState::NotScored => attempt.class.map_or("unknown", FailureClass::as_str),
            AttemptState::Unsealed => "no seal: lost, or still going on",
            AttemptState::Changed => "changed since it was sealed",
            AttemptState::Foreign => "the run of something else",
            AttemptState::Absent => "taken away",
        };
        *not_scored.entry(why).or_default() += 1;
    }
    html! {
        @if !record.total.classes.is_empty() {
            h2 { "Why tasks failed" }
            ul { @for (class, count) in &record.total.classes { li { (count) " × " code { (class) } } } }
        }
        @if !not_scored.is_empty() {
            h2 { "Attempts that say nothing about the agent" }
            ul { @for (why, count) in &not_scored { li { (count) " × " (why) } } }
        }
    }
}

fn slowest(record: &CampaignRecord) -> Markup {
    let mut runs: Vec<(u64, &Task)> = record
        .tasks
        .iter()
        .filter_map(|task| {
            let counted = task.attempts.iter().find(|one| Some(one.attempt) == task.counted)?;
            Some((counted.seconds?, task))
        })
        .collect();
    let mut times: Vec<u64> = runs.iter().map(|(seconds, _)| *seconds).collect();
    times.sort_unstable();
    runs.sort_by_key(|(seconds, task)| (std::cmp::Reverse(*seconds), task.index));
    runs.truncate(SLOWEST);
    html! {
        @if let (Some(median), Some(last)) = (times.get(times.len() / 2), times.last()) {
            h2 { "Time" }
            p { "Median of a counted run " (median) " s, longest " (last) " s." }
            @if times.len() > SLOWEST {
                p { "The longest: "
                    @for (seconds, task) in &runs { "task " (task.index) " (" (seconds) " s) " }
                }
            }
        }
    }
}

/// Those tasks of which `which` holds, where there are any.
fn some(
    record: &CampaignRecord,
    heading: &str,
    note: Option<&str>,
    which: &dyn Fn(&Task) -> bool,
) -> Markup {
    let tasks: Vec<&Task> = record.tasks.iter().filter(|task| which(task)).collect();
    html! {
        @if !tasks.is_empty() {
            h2 { (heading) }
            @if let Some(note) = note { p { (note) } }
            (rows(&tasks))
        }
    }
}

fn all(record: &CampaignRecord) -> Markup {
    let tasks: Vec<&Task> = record.tasks.iter().collect();
    html! {
        h2 { "Every task" }
        @if tasks.len() > OPEN_ROWS {
            details { summary { (tasks.len()) " tasks" } (rows(&tasks)) }
        } @else { (rows(&tasks)) }
    }
}

fn rows(tasks: &[&Task]) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label="Tasks" {
            table {
                thead { tr { th { "Task" } th { "Outcome" } th { "Attempts" } } }
                tbody { @for task in tasks { (row(task)) } }
            }
        }
    }
}

fn row(task: &Task) -> Markup {
    let class = match task.state {
        TaskState::Success => "good",
        TaskState::Failure => "bad",
        _ => "even",
    };
    html! {
        tr {
            th scope="row" .n { (task.index) }
            td { span class={ "badge " (class) } { (task.state.as_str().replace('_', " ")) } }
            td {
                @for one in &task.attempts {
                    div {
                        @if one.state == AttemptState::Absent { (one.directory) } @else {
                            a href={ "runs/" (one.directory) "/report.html" } { (one.directory) }
                        } " "
                        (one.status.map_or_else(|| record::word(&one.state), |status| status.as_str().into()))
                        @if Some(one.attempt) == task.counted { " · counts" }
                        @if let Some(why) = &one.why { " · " (why) }
                        @if let Some(node) = &one.node { span .dim { " · " (node) } }
                    }
                }
            }
        }
    }
}

fn rule(plan: &CampaignPlan) -> Markup {
    let success: Vec<&str> = plan.success.iter().map(|status| status.as_str()).collect();
    html! {
        h2 { "How it was counted" }
        ul {
            li { "Fixed in the plan before the first run: " (plan.cells.len()) " cells, each " (plan.repeats)
                " times, at most " (plan.attempts) " attempts at a task." }
            li { "A success is: " (success.join(" or ")) "." }
            li { "The lowest attempt that was scored counts, never the best. Where one before it was not scored, although the agent "
                "may have been started, the range of the rate holds it as failed and as succeeded." }
            li { "Not scored, since they say nothing about the agent: "
                @for (n, class) in plan.not_scored.iter().enumerate() {
                    @if n > 0 { ", " } code { (class.as_str()) }
                } ", and whatever was refused before it started." }
            li { "The interval is Wilson's; “all of k” estimates the chance that k runs of the cell all succeed." }
        }
    }
}
