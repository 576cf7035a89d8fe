//! The reviewed rules: shapes of credentials that nobody needs to know beforehand.
//!
//! Each shape is fixed by whoever issues the credential (a prefix and an alphabet), so a hit is no guess. Rules that
//! guess (entropy, "password =") are left out: in a source tree they are wrong far more often than right, and a
//! failed run for nothing teaches people to switch the check off.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use crate::record::ids::Digest;

/// One rule: a name for reports and a regular expression over bytes (no Unicode classes).
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable name, `snake_case`.
    pub id: &'static str,
    pub what: &'static str,
    /// The expression, syntax of the `regex` crate.
    pub pattern: &'static str,
}

/// Longest stretch of the stream, in bytes, that is looked at again together with what follows it. A credential that
/// is longer than this and lies across two reads is still found by its beginning, since no rule asks for an end.
pub(super) const OVERLAP: usize = 8 * 1024;

macro_rules! rules {
    ($($id:literal, $what:literal, $pattern:literal;)*) => {
        &[$(Rule { id: $id, what: $what, pattern: $pattern },)*]
    };
}

/// All rules, in the order of their names.
pub const RULES: &[Rule] = rules! {
    "age_secret_key", "age identity", r"\bAGE-SECRET-KEY-1[0-9A-Z]{50,}";
    "authorization_header", "HTTP Authorization header with a credential",
        r#"(?i)\bauthorization["']?[ \t]*[:=][ \t]*["']?(?:bearer|basic)[ \t]+[A-Za-z0-9._~+/=-]{16,}"#;
    "aws_access_key_id", "AWS access key id", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b";
    "aws_secret_access_key", "AWS secret access key by its variable",
        r#"(?i)\baws_?secret_?access_?key["']?[ \t]*[:=][ \t]*["']?[A-Za-z0-9/+]{40}"#;
    "github_fine_grained_token", "GitHub fine-grained token", r"\bgithub_pat_[A-Za-z0-9_]{50,}";
    "github_token", "GitHub token (personal, OAuth, user, server, refresh)", r"\bgh[pousr]_[A-Za-z0-9]{36,}";
    "gitlab_token", "GitLab personal access token", r"\bglpat-[A-Za-z0-9_-]{20,}";
    "google_api_key", "Google API key", r"\bAIza[A-Za-z0-9_-]{35}";
    "google_oauth_token", "Google OAuth access token", r"\bya29\.[A-Za-z0-9_-]{20,}";
    "huggingface_token", "Hugging Face token", r"\bhf_[A-Za-z0-9]{30,}";
    "jwt", "JSON Web Token (RFC 7519)", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}";
    "npm_token", "npm access token", r"\bnpm_[A-Za-z0-9]{36}";
    "private_key_pem", "private key in PEM or OpenPGP armour", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----";
    "pypi_token", "PyPI upload token", r"\bpypi-AgE[A-Za-z0-9_-]{50,}";
    "sendgrid_key", "SendGrid API key", r"\bSG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}";
    "sk_key", "secret key of an API with the prefix sk-", r"\bsk-(?:[a-z0-9]{1,12}-){0,3}[A-Za-z0-9_]{20,}";
    "slack_token", "Slack token", r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}";
    "slack_webhook", "Slack incoming webhook", r"hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9+/]{30,}";
    "stripe_key", "Stripe live key", r"\b[rs]k_live_[A-Za-z0-9]{16,}";
};

/// SHA-256 over the table (`id`, NUL, `pattern`, newline for each rule): which rules a report was made with.
pub fn digest() -> Digest {
    let mut text = String::new();
    for rule in RULES {
        text.push_str(rule.id);
        text.push('\0');
        text.push_str(rule.pattern);
        text.push('\n');
    }
    Digest::sha256(text.as_bytes())
}

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
