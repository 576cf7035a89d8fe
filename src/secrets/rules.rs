//! The reviewed rules: shapes of credentials, found without knowing their values.
//!
//! Each shape is fixed by the issuer of the credential (a prefix and an alphabet), so a hit is no guess. Rules that
//! guess (entropy, "password =") are left out: in a source tree they are wrong far more often than right, and a
//! failed run for nothing teaches people to switch the check off.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// One rule: a name for reports and a regular expression over bytes (no Unicode classes).
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable name, `snake_case`.
    pub id: &'static str,
    /// The expression, syntax of the `regex` crate.
    pub pattern: &'static str,
}

/// Longest stretch of the stream, in bytes, that is looked at again together with what follows it. A credential that
/// is longer than this and lies across two reads is still found by its beginning, since no rule asks for an end.
pub(super) const OVERLAP: usize = 8 * 1024;

macro_rules! rules {
    ($($id:literal, $pattern:literal;)*) => {
        &[$(Rule { id: $id, pattern: $pattern },)*]
    };
}

pub const RULES: &[Rule] = rules! {
    "age_secret_key", r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}";
    "authorization_header", r#"(?i)\bauthorization["']?[ \t]*[:=][ \t]*["']?(?:bearer|basic)[ \t]+[A-Za-z0-9._~+/=-]{16,}"#;
    "aws_access_key_id", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b";
    "aws_secret_access_key", r#"(?i)\baws_?secret_?access_?key["']?[ \t]*[:=][ \t]*["']?[A-Za-z0-9/+]{40}"#;
    "github_fine_grained_token", r"\bgithub_pat_[A-Za-z0-9_]{50,}";
    "github_token", r"\bgh[pousr]_[A-Za-z0-9]{36,}";
    "gitlab_token", r"\bglpat-[A-Za-z0-9_-]{20,}";
    "google_api_key", r"\bAIza[A-Za-z0-9_-]{35}";
    "google_oauth_token", r"\bya29\.[A-Za-z0-9_-]{20,}";
    "huggingface_token", r"\bhf_[A-Za-z0-9]{30,}";
    "jwt", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}";
    "npm_token", r"\bnpm_[A-Za-z0-9]{36}";
    "private_key_pem", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----";
    "pypi_token", r"\bpypi-AgE[A-Za-z0-9_-]{50,}";
    "sendgrid_key", r"\bSG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}";
    "sk_key", r"\bsk-(?:[a-z0-9]{1,12}-){0,3}[A-Za-z0-9_]{20,}";
    "slack_token", r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}";
    "slack_webhook", r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9+/]{30,}";
    "stripe_key", r"\b[rs]k_live_[A-Za-z0-9]{16,}";
};

/// The table, compiled once for the process.
pub(super) struct Compiled {
    /// All rules at once: one pass tells which rules are worth running alone.
    pub(super) any: RegexSet,
    /// The rules one by one, in the order of [`RULES`].
    pub(super) each: Vec<Regex>,
}

/// The compiled table.
///
/// # Panics
/// Never: the table is fixed and a test compiles it.
#[expect(clippy::expect_used, reason = "the table is a constant that the tests compile")]
pub(super) fn compiled() -> &'static Compiled {
    static CELL: OnceLock<Compiled> = OnceLock::new();
    CELL.get_or_init(|| Compiled {
        any: RegexSetBuilder::new(RULES.iter().map(|rule| rule.pattern))
            .unicode(false)
            .build()
            .expect("the rules compile"),
        each: RULES
            .iter()
            .map(|rule| RegexBuilder::new(rule.pattern).unicode(false).build())
            .collect::<Result<_, _>>()
            .expect("the rules compile"),
    })
}
