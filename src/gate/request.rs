//! What was asked for: the flags, and the variables of the set-up before admit. Pure over a map.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::check::Engine;
use crate::error::{Error, Reason, Result};
use crate::record::admission::ModelPair;
use crate::record::failure::{FailureClass, Stage};
use crate::record::ids::Name;

/// The old set-up's variables, each with what it stands for.
pub const VARIABLES: [(&str, &str); 9] = [
    ("CTO_HARNESS_ALLOW_CASE", "1 allows the provider engine; anything else is refused"),
    ("CTO_HARNESS_CASE_STAGE", "the stage: 2"),
    ("CTO_HARNESS_CASE_BIN", "a binary that must match a recorded digest (admit adopt)"),
    ("CTO_HARNESS_CASE_MODEL_PROVIDER", "--model, before the slash"),
    ("CTO_HARNESS_CASE_MODEL", "--model, after the slash"),
    ("CTO_HARNESS_CASE_MODEL_ADMISSION_FILE", "--admission-file"),
    ("CTO_HARNESS_CASE_TIMEOUT_SECONDS", "--timeout, the wall clock"),
    ("CTO_HARNESS_CASE_LOCAL_BASE_URL", "the endpoint; there is no flag for it"),
    (
        "CTO_HARNESS_CASE_OPENAI_CODEX_AUTH_BRIDGE",
        "1 claims an auth bridge, which a probe then proves",
    ),
];

/// Longest wall clock that can be asked for: a day.
const MAX_TIMEOUT: u64 = 24 * 60 * 60;

/// The flags of `admit run`, as given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flags {
    /// The stage (`stage2`).
    pub stage: Option<u8>,
    pub provider: Option<Name>,
    pub engine: Option<Engine>,
    pub model: Option<ModelPair>,
    /// The model's admission record, where it is not the root's own.
    pub admission_file: Option<String>,
    /// The binary, where it is not the store's own.
    pub binary: Option<String>,
    pub timeout: Option<Duration>,
}

/// An endpoint's address, which never shows in a message or a dump.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(String);

impl Endpoint {
    /// The address, for the bridge alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoint(withheld)")
    }
}

/// What was asked for; nothing is filled in that nobody asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunRequest {
    /// The flags, with what the variables say in their place.
    pub flags: Flags,
    /// The endpoint, from the environment.
    pub endpoint: Option<Endpoint>,
    pub bridge_claimed: bool,
}

/// The class of a run whose request is malformed, by the variable that [`from_old_variables`] refused.
pub fn malformed_class(err: &Error) -> FailureClass {
    let place = err.place().unwrap_or_default();
    let of = |name: &str| {
        place.split(' ').any(|word| word.strip_prefix("CTO_HARNESS_CASE_") == Some(name))
    };
    if of("MODEL") || of("MODEL_PROVIDER") || of("MODEL_ADMISSION_FILE") {
        FailureClass::ModelNotAdmitted
    } else if of("OPENAI_CODEX_AUTH_BRIDGE") {
        FailureClass::AuthUnavailable
    } else if of("LOCAL_BASE_URL") {
        FailureClass::LocalConfigUnavailable
    } else if of("BIN") {
        FailureClass::ProviderUnavailable
    } else {
        FailureClass::GateRefused
    }
}

fn refuse(what: impl Into<String>) -> Error {
    Error::new(Reason::RequestRefused, what)
}

/// A flag and a variable that mean the same thing: they may agree, and never differ.
fn agree<T: PartialEq + fmt::Display>(
    flag: Option<T>,
    variable: Option<T>,
    names: (&str, &str),
) -> Result<Option<T>> {
    match (flag, variable) {
        (Some(flag), Some(variable)) if flag != variable => {
            Err(refuse("a flag and a variable disagree")
                .at(format!("{} and {}", names.0, names.1))
                .expected(flag.to_string())
                .found(variable.to_string())
                .hint(format!("leave out {}, or unset {}", names.0, names.1)))
        }
        (flag, variable) => Ok(flag.or(variable)),
    }
}

/// Reads the old set-up's variables from `env` and joins them with `flags`.
///
/// # Errors
/// [`Reason::RequestRefused`] where a variable is set and empty, a flag and a variable disagree, only half of the
/// model is named, `ALLOW_CASE` or the bridge's variable is anything but 1, or the stage is not 2.
pub fn from_old_variables(env: &BTreeMap<String, String>, flags: Flags) -> Result<RunRequest> {
    let get = |name: &'static str| match env.get(name).map(String::as_str) {
        Some("") => Err(refuse("a variable is set and empty")
            .at(name)
            .expected("a value, or the variable not set")
            .found("an empty value")
            .hint(format!("unset {name}"))),
        found => Ok(found),
    };
    let is_one = |name: &'static str| match get(name)? {
        None => Ok(false),
        Some("1") => Ok(true),
        Some(other) => Err(refuse("a variable has another value than the one that counts")
            .at(name)
            .expected("1")
            .found(format!("\"{}\"", other.escape_debug()))
            .hint(format!("{name}=1, or unset {name}"))),
    };
    let allowed = is_one("CTO_HARNESS_ALLOW_CASE")?;
    let engine = match (flags.engine, allowed) {
        (Some(Engine::Fake), true) => {
            return Err(refuse("a flag and a variable disagree")
                .at("--engine and CTO_HARNESS_ALLOW_CASE")
                .expected("fake")
                .found("1, which asks for the provider")
                .hint("leave out --engine fake, or unset CTO_HARNESS_ALLOW_CASE"));
        }
        (None, true) => Some(Engine::Provider),
        (flag, _) => flag,
    };
    let stage_text = get("CTO_HARNESS_CASE_STAGE")?;
    let stage = stage_text
        .map(|text| {
            let digits = text.strip_prefix("stage").unwrap_or(text);
            digits.parse::<u8>().map_err(|_| {
                refuse("a variable names no stage")
                    .at("CTO_HARNESS_CASE_STAGE")
                    .expected("2")
                    .found(format!("\"{}\"", text.escape_debug()))
                    .hint("CTO_HARNESS_CASE_STAGE=2")
            })
        })
        .transpose()?;
    let stage = agree(flags.stage, stage, ("the stage", "CTO_HARNESS_CASE_STAGE"))?;
    if let (Some(number), Some(_)) = (stage, stage_text)
        && !Stage::from_number(number).is_some_and(Stage::runs)
    {
        let mut err = refuse("only stage 2 runs")
            .at("CTO_HARNESS_CASE_STAGE")
            .expected("2")
            .found(number.to_string());
        for line in Stage::from_number(number).map_or(&[][..], |stage| stage.missing) {
            err = err.hint(format!("missing evidence: {line}"));
        }
        return Err(err);
    }
    let provider = get("CTO_HARNESS_CASE_MODEL_PROVIDER")?;
    let model = match (provider, get("CTO_HARNESS_CASE_MODEL")?) {
        (None, None) => None,
        (Some(provider), Some(model)) => {
            let pair = format!("{provider}/{model}");
            let pair = pair.parse().map_err(|why: String| {
                refuse(why)
                    .at("CTO_HARNESS_CASE_MODEL_PROVIDER and CTO_HARNESS_CASE_MODEL")
                    .found(format!("\"{}\"", pair.escape_debug()))
                    .hint("admit model list")
            })?;
            Some(pair)
        }
        _ => {
            let missing = match provider {
                None => "CTO_HARNESS_CASE_MODEL_PROVIDER",
                Some(_) => "CTO_HARNESS_CASE_MODEL",
            };
            return Err(refuse("only half of the model is named")
                .at("CTO_HARNESS_CASE_MODEL_PROVIDER and CTO_HARNESS_CASE_MODEL")
                .expected("both, or neither")
                .found(format!("{missing} is not set"))
                .hint("admit model list"));
        }
    };
    let model = agree(flags.model, model, ("--model", "CTO_HARNESS_CASE_MODEL"))?;
    let timeout = get("CTO_HARNESS_CASE_TIMEOUT_SECONDS")?
        .map(|text| match text.parse::<u64>() {
            Ok(seconds) if (1..=MAX_TIMEOUT).contains(&seconds) => Ok(seconds),
            _ => Err(refuse("a variable is no number of seconds")
                .at("CTO_HARNESS_CASE_TIMEOUT_SECONDS")
                .expected(format!("1 to {MAX_TIMEOUT}"))
                .found(format!("\"{}\"", text.escape_debug()))
                .hint("unset CTO_HARNESS_CASE_TIMEOUT_SECONDS")),
        })
        .transpose()?;
    let flag_timeout = flags.timeout.map(|t| t.as_secs());
    let timeout = agree(flag_timeout, timeout, ("--timeout", "CTO_HARNESS_CASE_TIMEOUT_SECONDS"))?;
    let text = |name| get(name).map(|found| found.map(str::to_owned));
    let file = text("CTO_HARNESS_CASE_MODEL_ADMISSION_FILE")?;
    let binary = text("CTO_HARNESS_CASE_BIN")?;
    let names = ("--admission-file", "CTO_HARNESS_CASE_MODEL_ADMISSION_FILE");
    let flags = Flags {
        stage,
        engine,
        model,
        admission_file: agree(flags.admission_file, file, names)?,
        binary: agree(flags.binary, binary, ("--binary", "CTO_HARNESS_CASE_BIN"))?,
        timeout: timeout.map(Duration::from_secs),
        ..flags
    };
    Ok(RunRequest {
        flags,
        endpoint: text("CTO_HARNESS_CASE_LOCAL_BASE_URL")?.map(Endpoint),
        bridge_claimed: is_one("CTO_HARNESS_CASE_OPENAI_CODEX_AUTH_BRIDGE")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(&str, &str)], flags: Flags) -> Result<RunRequest> {
        let env = pairs
            .iter()
            .map(|(k, v)| (format!("CTO_HARNESS_{k}"), (*v).to_owned()))
            .collect::<BTreeMap<_, _>>();
        assert!(env.keys().all(|key| VARIABLES.iter().any(|(name, _)| name == key)));
        from_old_variables(&env, flags)
    }

    #[test]
    fn all_variables_are_read_and_the_endpoint_is_withheld() {
        let request = ask(
            &[
                ("ALLOW_CASE", "1"),
                ("CASE_STAGE", "2"),
                ("CASE_BIN", "/b"),
                ("CASE_MODEL_PROVIDER", "qwen-local"),
                ("CASE_MODEL", "qwen3.6-35b-a3b"),
                ("CASE_MODEL_ADMISSION_FILE", "/a.json"),
                ("CASE_TIMEOUT_SECONDS", "90"),
                ("CASE_LOCAL_BASE_URL", "http://h.test/v1"),
                ("CASE_OPENAI_CODEX_AUTH_BRIDGE", "1"),
            ],
            Flags { model: "qwen-local/qwen3.6-35b-a3b".parse().ok(), ..Flags::default() },
        )
        .unwrap();
        assert_eq!(request.flags.engine, Some(Engine::Provider));
        let (file, binary) = (&request.flags.admission_file, &request.flags.binary);
        assert_eq!((file.as_deref(), binary.as_deref()), (Some("/a.json"), Some("/b")));
        assert!(format!("{request:?}").contains("withheld"));
        assert_eq!((request.flags.stage, request.bridge_claimed), (Some(2), true));
        assert_eq!(request.flags.timeout, Some(Duration::from_secs(90)));
        assert_eq!(request.endpoint.as_ref().unwrap().reveal(), "http://h.test/v1");
        assert!(!format!("{request:?}").contains("h.test"));
    }

    #[test]
    fn nothing_asked_is_nothing_chosen() {
        assert_eq!(ask(&[], Flags::default()).unwrap(), RunRequest::default());
    }

    #[test]
    fn a_malformed_request_has_the_class_of_its_variable() {
        use FailureClass as C;
        let class =
            |env: &[(&str, &str)]| malformed_class(&ask(env, Flags::default()).unwrap_err());
        assert_eq!(class(&[("CASE_MODEL", "m")]), C::ModelNotAdmitted);
        assert_eq!(class(&[("CASE_MODEL_PROVIDER", "p")]), C::ModelNotAdmitted);
        // As it stands in a refusal that names one variable alone.
        for name in ["MODEL", "MODEL_PROVIDER", "MODEL_ADMISSION_FILE"] {
            let err = Error::new(Reason::RequestRefused, "").at(format!("CTO_HARNESS_CASE_{name}"));
            assert_eq!(malformed_class(&err), C::ModelNotAdmitted, "{name}");
        }
        assert_eq!(class(&[("CASE_MODEL_ADMISSION_FILE", "")]), C::ModelNotAdmitted);
        assert_eq!(class(&[("CASE_OPENAI_CODEX_AUTH_BRIDGE", "true")]), C::AuthUnavailable);
        assert_eq!(class(&[("CASE_LOCAL_BASE_URL", "")]), C::LocalConfigUnavailable);
        assert_eq!(class(&[("CASE_BIN", "")]), C::ProviderUnavailable);
        for name in ["ALLOW_CASE", "CASE_STAGE", "CASE_TIMEOUT_SECONDS"] {
            assert_eq!(class(&[(name, "x")]), C::GateRefused, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let model = Flags { model: "a/b".parse().ok(), ..Flags::default() };
        let none = Flags::default;
        type Case<'a> = (&'a [(&'a str, &'a str)], Flags, &'a str);
        let cases: [Case; 12] = [
            (&[("ALLOW_CASE", "0")], none(), "another value"),
            (&[("ALLOW_CASE", "yes")], none(), "another value"),
            (&[("ALLOW_CASE", "")], none(), "empty"),
            (&[("ALLOW_CASE", "1")], Flags { engine: Some(Engine::Fake), ..none() }, "disagree"),
            (&[("CASE_STAGE", "3")], none(), "only stage 2"),
            (&[("CASE_STAGE", "two")], none(), "no stage"),
            (&[("CASE_STAGE", "2")], Flags { stage: Some(3), ..none() }, "disagree"),
            (&[("CASE_MODEL_PROVIDER", "a"), ("CASE_MODEL", "c")], model, "disagree"),
            (&[("CASE_MODEL", "c")], none(), "half"),
            (&[("CASE_TIMEOUT_SECONDS", "0")], none(), "seconds"),
            (&[("CASE_BIN", "/b")], Flags { binary: Some("/c".into()), ..none() }, "disagree"),
            (&[("CASE_OPENAI_CODEX_AUTH_BRIDGE", "true")], none(), "another value"),
        ];
        for (env, flags, text) in cases {
            let err = ask(env, flags).unwrap_err();
            assert_eq!(err.reason(), Reason::RequestRefused, "{env:?}");
            assert!(err.what().contains(text), "{env:?}: {err}");
            assert!(!err.hints().is_empty() && err.found_value().is_some(), "{env:?}: {err:?}");
        }
    }
}
