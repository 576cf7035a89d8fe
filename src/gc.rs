//! What of the store nothing needs any more, and its removal.
//!
//! Needed is what a lock, a record or a run names, in this root, in those embedded in admit and in every directory that
//! this user trusts; what the last builds were made of; and what these name in turn. Whatever reads like a digest counts,
//! so that a form that is not known here keeps too much and never too little.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::error::Result;
use crate::evidence;
use crate::lock::{self, Spec};
use crate::root::Root;
use crate::store::{Lying, Sort, Store};
use crate::verify::runs;

/// The area of the store's records of source trees' commits.
const COMMITS: &str = "source";
/// The area of the store's records of builds.
const BUILDS: &str = "builds";
/// A record that is longer than this names nothing that is not named elsewhere.
const MAX_RECORD: u64 = 64 << 20;

/// What to keep beside what is needed.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// The last builds stay, whether they are on record or not
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    pub keep_builds: usize,
    /// Show what would go, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// A number of things and the bytes that they take on disk.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Amount {
    pub count: usize,
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, one: &Lying) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(one.bytes);
    }
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Collected {
    pub dry_run: bool,
    /// Before anything was removed.
    pub before: Amount,
    /// What nothing needs, by what it is.
    pub files: Amount,
    pub trees: Amount,
    pub records: Amount,
    /// What only lies here because somebody kept it or a read found it wrong; a removal is the user's.
    pub leftovers: Vec<(String, usize, u64)>,
}

impl Collected {
    pub fn garbage(&self) -> Amount {
        let all = [self.files, self.trees, self.records];
        Amount {
            count: all.iter().map(|one| one.count).sum(),
            bytes: all.iter().map(|one| one.bytes).sum(),
        }
    }
}

/// Looks through the store, and removes what nothing needs unless it is a dry run.
///
/// # Errors
/// That another admit has the store open; those of the roots, the runs and the store.
pub fn collect(context: &Context, options: Options) -> Result<Collected> {
    // A look makes nothing, and where there is no store there is nothing to remove.
    if Store::open_read(&context.store_dir()?)?.is_none() {
        return Ok(Collected { dry_run: options.dry_run, ..Collected::default() });
    }
    let store = context.store()?;
    // Held while looking, too: what a build adds meanwhile is not yet named by anything.
    let mut wait = || context.progress.note("waiting for another admit that uses the store");
    let alone = match options.dry_run {
        true => None,
        false => Some(store.alone(&mut wait)?),
    };
    let all = store.lying()?;
    let needed = needed(context, &store, &all, options.keep_builds)?;
    let mut out = Collected { dry_run: options.dry_run, ..Collected::default() };
    for one in &all {
        out.before.add(one);
        if needed.has(one) {
            continue;
        }
        match one.sort {
            Sort::File => out.files.add(one),
            Sort::Tree => out.trees.add(one),
            Sort::Record => out.records.add(one),
        }
    }
    if let Some(alone) = &alone {
        // Records first: one that is left without its content would only be found missing.
        for sort in [Sort::Record, Sort::Tree, Sort::File] {
            for one in all.iter().filter(|one| one.sort == sort && !needed.has(one)) {
                store.remove(alone, one)?;
            }
        }
    }
    let left = store.leftovers().into_iter();
    out.leftovers = left.map(|(path, n, bytes)| (path.display().to_string(), n, bytes)).collect();
    Ok(out)
}

#[derive(Default)]
struct Needed {
    /// Digests of content, in hex.
    content: BTreeSet<String>,
    /// Keys of build records, in hex.
    builds: BTreeSet<String>,
}

impl Needed {
    fn has(&self, one: &Lying) -> bool {
        match (one.sort, one.area.as_str()) {
            (Sort::Record, BUILDS) => self.builds.contains(&one.hex),
            // About a tree.
            (Sort::Record, COMMITS) => self.content.contains(&one.hex),
            (Sort::Record, _) => true,
            _ => self.content.contains(&one.hex),
        }
    }
}

/// The store's record of a build: all its text, and what says whether it is needed.
struct BuildRecord<'a> {
    one: &'a Lying,
    text: Vec<u8>,
    is_of: Option<BTreeSet<String>>,
}

fn needed(context: &Context, store: &Store, all: &[Lying], builds: usize) -> Result<Needed> {
    let mut out = Needed::default();
    for root in roots(context)? {
        for (_, bytes) in root.below("") {
            digests(bytes, &mut out.content);
            // A build names its lock by this digest.
            if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
                out.content.insert(crate::record::digest(&value).to_hex());
            }
        }
        // A lock that changed in what its plan leaves open finds the build that was there.
        for name in lock::providers(&root) {
            let spec = name.parse().map(|provider| Spec { provider, rev: None });
            let locked = spec.ok().and_then(|spec| lock::resolve(&root, &spec).ok());
            out.content.extend(locked.map(|locked| locked.plan.digest().to_hex()));
        }
    }
    for dir in runs::all(context)? {
        let report = evidence::glance(&dir)?.report;
        let binary = report.and_then(|report| report.case_binary_sha256);
        out.content.extend(binary.map(|digest| digest.to_hex()));
    }
    let mut records: Vec<BuildRecord<'_>> = Vec::new();
    for one in all.iter().filter(|one| one.sort == Sort::Record && one.area != COMMITS) {
        let mut text = Vec::new();
        let mut is_of = None;
        for (_, path) in store.names_of(one)? {
            let length = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            if length <= MAX_RECORD {
                let bytes = std::fs::read(&path).unwrap_or_default();
                is_of = is_of.or_else(|| self::is_of(&bytes));
                text.extend(bytes);
                text.push(b'\n');
            }
        }
        match one.area.as_str() {
            BUILDS => records.push(BuildRecord { one, text, is_of }),
            // What another part of admit keeps, and what it names.
            _ => digests(&text, &mut out.content),
        }
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.one.modified));
    let named = out.content.clone();
    for (number, BuildRecord { one, text, is_of }) in records.iter().enumerate() {
        let needed = is_of.as_ref().is_none_or(|is_of| !is_of.is_disjoint(&named));
        if number < builds || needed {
            out.builds.insert(one.hex.clone());
            digests(text, &mut out.content);
        }
    }
    Ok(out)
}

/// What says whether a build is needed: its output, its lock and its plan. That it was made with the Bun of a lock says
/// nothing. `None` for what is no report of a build in a form that is known here.
fn is_of(record: &[u8]) -> Option<BTreeSet<String>> {
    // The store's own line comes first.
    let begin = record.iter().position(|byte| *byte == b'{')?;
    let report: Value = serde_json::from_slice(&record[begin..]).ok()?;
    let mut out = BTreeSet::new();
    for field in ["sha256", "lock_digest", "plan_digest"] {
        digests(report.get(field)?.as_str()?.as_bytes(), &mut out);
    }
    Some(out)
}

/// This command's root, the embedded records, and every directory that this user trusts, as it is now.
fn roots(context: &Context) -> Result<Vec<std::sync::Arc<Root>>> {
    let mut out = vec![context.root()?];
    out.push(std::sync::Arc::new(Root::own(&context.host)?));
    for dir in Root::trusted_dirs(&context.host)? {
        // One that is gone needs nothing; one that was changed since may still be trusted again.
        if dir.join(crate::root::MARKER).is_file() {
            out.push(std::sync::Arc::new(Root::read_untrusted(&context.host, &dir)?));
        }
    }
    Ok(out)
}

/// Everything in `text` that reads like a digest, in hex: plain or after the algorithm's name, or as SRI has it.
fn digests(text: &[u8], out: &mut BTreeSet<String>) {
    let word =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-');
    for word in text.split(|byte| !word(byte)).filter(|word| word.len() >= 43) {
        let Ok(word) = std::str::from_utf8(word) else { continue };
        let plain = word.rsplit('-').next().unwrap_or(word);
        if matches!(plain.len(), 64 | 96 | 128) && plain.bytes().all(|b| b.is_ascii_hexdigit()) {
            out.insert(plain.to_ascii_lowercase());
        }
        for algorithm in ["sha256-", "sha384-", "sha512-"] {
            let bytes = word.strip_prefix(algorithm).and_then(|text| BASE64.decode(text).ok());
            out.extend(bytes.map(hex::encode));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_found_in_every_form() {
        let hex = "f83300d4c87850ab1cb7542e67ff02923a532b973ae3a2f76e1d00d108d837b7";
        let sri = format!("sha256-{}", BASE64.encode(hex::decode(hex).unwrap()));
        for text in [
            format!("{{\"sha256\": \"{hex}\"}}"),
            format!("\"sha256:{hex}\""),
            format!("[\"{sri}\"]"),
            format!("\"admissions/builds/understudy--{hex}.json\""),
        ] {
            let mut found = BTreeSet::new();
            digests(text.as_bytes(), &mut found);
            assert_eq!(found.into_iter().collect::<Vec<_>>(), [hex], "{text}");
        }
    }
}
