//! `[cache]` of `admit.toml`: registries that are asked for a build before it is made here, and whose word counts for what
//! comes from them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::reference::{Reference, Which};
use super::signing::{Require, Rule, Signer, check_rule};

/// More are not asked: each that is away costs its time.
const MAX: usize = 8;

/// `[cache]`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Repositories, asked in this order.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub from: Vec<Reference>,
    /// Who must have signed a build that comes from there, beside what `[require] build` asks for.
    #[serde(default)]
    pub require: Option<Rule>,
}

/// What is wrong with it: a reference to one manifest in place of a repository, nobody whose word counts, a rule that
/// cannot be met.
pub fn check(cache: &Cache, signers: &[Signer], require: &Require) -> Result<(), String> {
    for from in &cache.from {
        if from.which != Which::Any {
            return Err(format!(
                "cache.from names \"{from}\": a repository has neither tag nor digest"
            ));
        }
    }
    if cache.from.len() > MAX {
        return Err(format!("cache.from names {} repositories, more than {MAX}", cache.from.len()));
    }
    if !cache.from.is_empty() && cache.require.is_none() && require.build.is_none() {
        return Err("[cache] says from where, and nothing says whose builds count: \
                    require = { signers = [NAMES] } in it, or [require] build"
            .into());
    }
    match &cache.require {
        Some(rule) => check_rule("cache.require", rule, signers),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_whose_builds_nobody_answers_for_is_refused() {
        let from = |text: &str| Cache { from: vec![text.parse().unwrap()], ..Cache::default() };
        let none = Require::default();
        assert_eq!(check(&Cache::default(), &[], &none), Ok(()));
        let err = check(&from("oci://registry.example/a"), &[], &none).unwrap_err();
        assert!(err.contains("whose builds count"), "{err}");
        let rule = Rule { signers: vec!["release".parse().unwrap()], signatures: None };
        let policy = Require { build: Some(rule.clone()), ..none.clone() };
        assert_eq!(check(&from("oci://registry.example/a"), &[], &policy), Ok(()));
        let err = check(&from("oci://registry.example/a:v1"), &[], &policy).unwrap_err();
        assert!(err.contains("neither tag nor digest"), "{err}");
        let unknown = Cache { require: Some(rule), ..from("oci://registry.example/a") };
        let err = check(&unknown, &[], &none).unwrap_err();
        assert!(err.contains("cache.require names \"release\""), "{err}");
        let many = Cache { from: vec!["oci://registry.example/a".parse().unwrap(); 9], ..unknown };
        assert!(check(&many, &[], &policy).is_err());
    }
}
