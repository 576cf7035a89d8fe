//! The languages that attempts are written in, and how a program of an attempt is made for a file of the fixture.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::program::{Program, program};
use super::{command, python, typescript};
use crate::record::fixture::JudgeName;
use crate::record::ids::RelPath;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Language {
    Python,
    TypeScript,
    /// As a program that calls start.
    Shell,
}

pub(super) struct Given<'a> {
    pub path: &'a RelPath,
    pub original: &'a str,
    pub solved: &'a str,
    /// Calls of an earlier run with their outcomes: `[module, function, arguments, outcome]` each.
    pub known: &'a Value,
    pub tests: &'a [String],
}

impl Language {
    pub(super) fn of(path: &RelPath) -> Option<Self> {
        let (_, suffix) = path.file_name().rsplit_once('.')?;
        match suffix {
            "py" => Some(Self::Python),
            "sh" | "bash" => Some(Self::Shell),
            "ts" | "tsx" | "mts" | "js" | "jsx" | "mjs" => Some(Self::TypeScript),
            _ => None,
        }
    }

    /// How a line of a comment begins.
    pub(super) fn comment(self) -> &'static str {
        match self {
            Self::Python | Self::Shell => "#",
            Self::TypeScript => "//",
        }
    }

    /// What is tried in place of a file, where this judge starts it.
    pub(super) fn programs(self, judge: JudgeName) -> Vec<Program> {
        let started = |(class, name, [shell, python, typescript]): command::Attempt| {
            let body = match self {
                Self::Python => python,
                Self::TypeScript => typescript,
                Self::Shell => shell,
            };
            program(class, name, body)
        };
        match judge {
            JudgeName::Command => command::ATTEMPTS.map(started).to_vec(),
            JudgeName::Python | JudgeName::Bun => match self {
                Self::Python => python::PROGRAMS.to_vec(),
                Self::TypeScript => typescript::PROGRAMS.to_vec(),
                Self::Shell => Vec::new(),
            },
        }
    }

    /// Whether calls of `module` go to the file at `path`.
    fn is_module(self, module: &str, path: &RelPath) -> bool {
        match self {
            // Calls of a program have no module.
            _ if module.is_empty() => true,
            Self::TypeScript | Self::Shell => module == path.as_str(),
            Self::Python => {
                let file = module.replace('.', "/");
                path.as_str() == format!("{file}.py")
                    || path.as_str() == format!("{file}/__init__.py")
            }
        }
    }
}

impl Program {
    /// Its text for a file: `@ORIGINAL@` is the file as the agent finds it, as a literal; `@SOURCE@` the same as it is;
    /// `@CASES@` the calls of an earlier run, `@COMMON_TEXT@`, `@COMMON_EXIT@` and `@TESTS_WORDS@`, for a shell; `@KNOWN@` the calls of an earlier run; `@COMMON@` the outcome that most of them had; `@TESTS@` the names of the
    /// locked tests; `@NAMES@` the names that others import; `@EXPORTS@` them, each as the same value `cheat`; `@EVERY_NAME@`
    /// is [`python::EVERY_NAME`].
    pub(super) fn text(&self, language: Language, given: &Given<'_>) -> String {
        let known = table(given.known, |module| language.is_module(module, given.path));
        let called = known.as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let mut names: BTreeSet<String> =
            called.filter_map(|call| Some(call[0].as_str()?.to_owned())).collect();
        if language == Language::TypeScript {
            names.extend(typescript::exported(given.original));
            names.extend(typescript::exported(given.solved));
        }
        let literal = |value: Value| value.to_string();
        let exports: String = names.iter().map(|name| typescript::export(name)).collect();
        let over: String = typescript::functions(given.original)
            .into_iter()
            .map(|name| format!("({name} as any) = cheat({:?}, {name});\n", name))
            .collect();
        let (tests, common) = (Value::from(given.tests.to_vec()), common(given.known));
        let (text, exit) = command::common(&common);
        self.body
            .replace("@CASES@", &command::cases(&known))
            .replace("@COMMON_TEXT@", &text)
            .replace("@COMMON_EXIT@", &exit.to_string())
            .replace("@TESTS_WORDS@", &command::words(given.tests))
            .replace("@ORIGINAL@", &literal(given.original.into()))
            .replace("@NAMES@", &literal(names.into_iter().collect::<Vec<_>>().into()))
            .replace("@TESTS@", &literal(tests))
            .replace("@COMMON@", &literal(literal(common).into()))
            .replace("@EVERY_NAME@", python::EVERY_NAME)
            .replace("@EXPORTS@", &exports)
            .replace("@OVER@", &over)
            .replace("@KNOWN@", &literal(literal(known).into()))
            .replace("@SOURCE@", given.original)
    }
}

/// The outcome that most calls had: the best answer for one who gives the same to all.
fn common(known: &Value) -> Value {
    let calls = known.as_array().map(Vec::as_slice).unwrap_or_default();
    let times = |outcome: &Value| calls.iter().filter(|call| call[3] == *outcome).count();
    let outcomes = calls.iter().map(|call| &call[3]);
    outcomes.max_by_key(|outcome| times(outcome)).cloned().unwrap_or_default()
}

/// The calls and answers as a program of the attempt gets them: a list of `[function, arguments, outcome]`.
fn table(known: &Value, module: impl Fn(&str) -> bool) -> Value {
    let calls = known.as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let own = calls.filter(|call| call[0].as_str().is_some_and(&module));
    own.map(|call| json!([call[1], call[2], call[3]])).collect::<Vec<_>>().into()
}
