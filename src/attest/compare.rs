//! A signed statement beside the one that admit makes of the same thing now.

use std::collections::BTreeSet;

use serde_json::Value;

use super::expected::Expected;
use super::outcome::Refused;
use super::provenance::without_packages;
use crate::error::Reason;
use crate::record;
use crate::record::statement::Statement;

/// Whether a statement is one of the expected; `None` where it is of another kind.
pub(super) fn fits(statement: &Statement, expected: &[Expected]) -> Option<Result<(), Refused>> {
    let mut of_kind =
        expected.iter().filter(|e| e.statement.predicate_type == statement.predicate_type);
    let want = of_kind.next()?;
    let about = |s: &Statement| {
        let digests: Vec<_> =
            s.subject.iter().flat_map(|s| &s.digest).map(|(a, d)| format!("{a}:{d}")).collect();
        digests.join(", ")
    };
    let same = statement
        .subject
        .iter()
        .any(|s| want.statement.subject.iter().any(|ours| s.digest == ours.digest));
    if !same {
        let (want, found) = (about(&want.statement), about(statement));
        return Some(Err(Refused::new(Reason::AttestedOther, want, found)));
    }
    let short = want.listed.as_ref().map(|listed| without_packages(statement, listed));
    let statement = short.as_ref().unwrap_or(statement);
    let (ours, theirs) = (record::to_value(&want.statement), record::to_value(statement));
    let differs = first_difference("", &ours, &theirs, want.free);
    Some(differs.map_or(Ok(()), |(place, ours, theirs)| {
        let (want, found) = (format!("{place}: {ours}"), format!("{place}: {theirs}"));
        Err(Refused::new(Reason::AttestedDiffers, want, found))
    }))
}

/// The first place in which two values differ, with both, each cut to a line.
fn first_difference(
    at: &str,
    ours: &Value,
    theirs: &Value,
    free: &[&str],
) -> Option<(String, String, String)> {
    if ours == theirs || free.contains(&at) {
        return None;
    }
    let below = |key: String, ours: Option<&Value>, theirs: Option<&Value>| {
        let place = format!("{at}/{key}");
        let null = Value::Null;
        match (ours, theirs) {
            (Some(a), Some(b)) => first_difference(&place, a, b, free),
            _ if free.contains(&place.as_str()) => None,
            (a, b) => Some((place, cut(a.unwrap_or(&null)), cut(b.unwrap_or(&null)))),
        }
    };
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| below(key.clone(), a.get(key), b.get(key)))
        }
        (Value::Array(a), Value::Array(b)) => {
            (0..a.len().max(b.len())).find_map(|i| below(i.to_string(), a.get(i), b.get(i)))
        }
        _ => Some((at.to_owned(), cut(ours), cut(theirs))),
    }
}

fn cut(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}
