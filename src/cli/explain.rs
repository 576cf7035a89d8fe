//! `admit explain WORD`: what a word of admit's means, and what to do about it.

use serde_json::{Value, json};

use super::app::App;
use crate::error::{Error, Reason, Result};
use crate::explain::{self, Topic};
use crate::ui::Mark;

/// Say what a word, an exit code, a failure class or a check means, and what to do about it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to explain; without it every word is listed
    #[arg(value_name = "WORD|CODE|CLASS|CHECK")]
    word: Option<String>,
}

pub(super) fn exec(app: &App, args: &Args) -> Result<u8> {
    let topics = match &args.word {
        None => explain::all(),
        Some(word) => explain::find(word),
    };
    if topics.is_empty() {
        let word = args.word.clone().unwrap_or_default();
        let near = explain::nearest(&word);
        let fix = match near.is_empty() {
            true => "to list every word: admit explain".to_owned(),
            false => format!("did you mean {}? To list every word: admit explain", near.join(", ")),
        };
        return Err(Error::new(Reason::NotFound, "there is no such word").found(word).hint(fix));
    }
    let data: Vec<Value> = topics
        .iter()
        .map(|topic| {
            json!({
                "sort": topic.sort.as_str(), "word": topic.word, "meaning": topic.meaning,
                "action": topic.action,
            })
        })
        .collect();
    app.ui.json(&json!({ "schema": "admit.explained/1", "topics": data }));
    match args.word {
        Some(_) => topics.iter().for_each(|topic| whole(app, topic)),
        None => listed(app, &topics),
    }
    Ok(0)
}

fn whole(app: &App, topic: &Topic) {
    let text = format!("({}) {}", topic.sort.as_str(), topic.meaning.replace('`', ""));
    app.ui.verdict(Mark::Note, &topic.word, &text);
    if !topic.action.is_empty() {
        app.ui.value("do", &topic.action.replace('`', ""));
    }
}

fn listed(app: &App, topics: &[Topic]) {
    let mut sort = None;
    for topic in topics {
        if sort != Some(topic.sort) {
            sort = Some(topic.sort);
            app.ui.line(&format!("{}:", topic.sort.as_str()));
        }
        app.ui.value(&format!("{:<28}", topic.word), &topic.meaning.replace('`', ""));
    }
}
