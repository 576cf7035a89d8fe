//! What every parser must hold for any input: no panic, no hang, memory in proportion, and what it took reads back as
//! the same value. Each target says whether the input was taken.

use std::collections::BTreeMap;

use admit::bun::exe::Executable;
use admit::bun::inspect::inspect;
use admit::bun::lockfile::BunLock;
use admit::fetch::archive::{self, ArchiveLimits, Top};
use admit::lock::plan::Plan;
use admit::proxy::api::chat::Chat;
use admit::proxy::api::list::ALL;
use admit::proxy::api::messages::Messages;
use admit::proxy::api::responses::Responses;
use admit::proxy::api::{WireApi, read_request};
use admit::proxy::http1::{self, parse_reply, parse_request};
use admit::proxy::reader::ReplyReader;
use admit::proxy::sse::SseDecoder;
use admit::record::admission::{self, LEGACY_SCHEMA};
use admit::record::agent_result::{self, find_agent_result};
use admit::record::dsse::{self, Envelope};
use admit::record::fixture::{FixtureRecord, Script};
use admit::record::lockfile::{Lockfile, Platform};
use admit::record::piplock::PipLock;
use admit::record::report::BuildReport;
use admit::record::sealed::{Manifest, Seal};
use admit::record::sshkey::PublicKey;
use admit::record::statement::Statement;
use admit::record::{self, Record};
use admit::run::patch::{self, Content, Files};
use admit::store::sink::Listing;
use serde_json::Value;

use crate::files::gzip;

pub type Target = fn(&[u8]) -> bool;

/// Every target, by the name of its directory of seeds.
pub const TARGETS: [(&str, Target); 19] = [
    ("json", json),
    ("lock", lock),
    ("report", report),
    ("admission", model_record),
    ("records", other_records),
    ("dsse", signed),
    ("public-key", public_key),
    ("bun-lock", bun_lock),
    ("bun-executable", bun_executable),
    ("archive", |bytes| unpack(&gzip(bytes))),
    ("archive-packed", unpack),
    ("sse", sse),
    ("http-request", http_request),
    ("http-reply", http_reply),
    ("chat-request", |bytes| request(&Chat, bytes)),
    ("responses-request", |bytes| request(&Responses, bytes)),
    ("messages-request", |bytes| request(&Messages, bytes)),
    ("agent-result", envelope),
    ("patch", diff),
];

/// A record that was taken, written and read again is the same, in both written forms.
fn reads_back<R: Record>(bytes: &[u8]) -> Option<R> {
    let taken = record::parse::<R>(bytes).ok()?;
    let canonical = record::canonical(&taken);
    for written in [&record::pretty(&taken), &canonical] {
        let again = record::parse::<R>(written).expect("what was written is read");
        assert_eq!(record::canonical(&again), canonical);
    }
    Some(taken)
}

fn json(bytes: &[u8]) -> bool {
    /// Floats stand in no record, and their last digit is not kept.
    fn exact(value: &Value) -> bool {
        match value {
            Value::Number(number) => !number.is_f64(),
            Value::Array(list) => list.iter().all(exact),
            Value::Object(map) => map.values().all(exact),
            _ => true,
        }
    }
    let Ok(value) = record::parse_value(bytes) else { return false };
    // A strict reader takes nothing that the ordinary one does not.
    assert!(serde_json::from_slice::<Value>(bytes).is_ok());
    let canonical = record::canonical(&value);
    let again = record::parse_value(&canonical).expect("the canonical form is read");
    if exact(&value) {
        assert_eq!(again, value);
        assert_eq!(record::canonical(&again), canonical);
        assert_eq!(record::parse_value(&record::pretty(&value)).expect("read"), value);
    }
    true
}

fn lock(bytes: &[u8]) -> bool {
    let Some(lock) = reads_back::<Lockfile>(bytes) else { return false };
    let _ = (lock.check(), lock.digest());
    for platform in Platform::ALL {
        if let Ok(plan) = Plan::new(&lock, platform) {
            let _ = (plan.digest(), plan.kind.install_command(plan.linker));
        }
    }
    true
}

fn report(bytes: &[u8]) -> bool {
    let Some(report) = reads_back::<BuildReport>(bytes) else { return false };
    assert!(report.difference(&report).is_none());
    let _ = report.core_digest();
    true
}

fn model_record(bytes: &[u8]) -> bool {
    let Ok(taken) = admission::parse(bytes) else { return false };
    let name = taken.pair().file_name();
    assert!(!name.contains('/') && !name.starts_with('.'), "{name}");
    // The older form is written in the present one only by a command that says so.
    if taken.schema != LEGACY_SCHEMA {
        assert_eq!(admission::parse(&record::pretty(&taken)).expect("read"), taken);
    }
    true
}

fn other_records(bytes: &[u8]) -> bool {
    reads_back::<PipLock>(bytes).is_some()
        | reads_back::<FixtureRecord>(bytes).is_some()
        | reads_back::<Script>(bytes).is_some()
        | reads_back::<Manifest>(bytes).is_some()
        | reads_back::<Seal>(bytes).is_some()
}

fn signed(bytes: &[u8]) -> bool {
    let _ = dsse::parse_bundle(bytes);
    let Ok(envelope) = Envelope::parse(bytes) else { return false };
    let again = Envelope::parse(envelope.line().trim_end().as_bytes()).expect("what was written");
    assert_eq!(again.signed_bytes(), envelope.signed_bytes());
    assert_eq!(again.line(), envelope.line());
    if let Ok(statement) = Statement::parse(&envelope.payload) {
        let _ = statement.sha256();
    }
    true
}

fn public_key(bytes: &[u8]) -> bool {
    let Ok(key) = String::from_utf8_lossy(bytes).parse::<PublicKey>() else { return false };
    let again: PublicKey = key.line("x").parse().expect("what was written");
    assert_eq!(again.as_bytes(), key.as_bytes());
    assert!(!key.verifies(bytes, bytes));
    true
}

fn bun_lock(bytes: &[u8]) -> bool {
    let Ok(lock) = BunLock::parse(bytes, "bun.lock") else { return false };
    lock.locked_packages(&BTreeMap::new()).is_ok()
}

fn bun_executable(bytes: &[u8]) -> bool {
    let Ok(exe) = Executable::read(bytes) else { return false };
    assert!(!exe.runtime(None).proven);
    // Every place that it names lies inside of the file.
    assert!(exe.graph.payload.len() < bytes.len());
    let _ = inspect(bytes, &[]);
    true
}

/// Unpacks, and looks at every name that came out.
fn unpack(packed: &[u8]) -> bool {
    let limits = ArchiveLimits { entries: 1000, unpacked: 1 << 20, ratio: 100 };
    let mut listing = Listing::default();
    let took = archive::unpack(packed, packed.len() as u64, Top::Any, limits, "x", &mut listing);
    for (name, (size, mode)) in &listing.0 {
        assert!(!name.starts_with('/') && name.split('/').all(|part| part != ".."), "{name}");
        assert!(*size <= limits.unpacked && mode & 0o7022 == 0, "{name}: {size} {mode:o}");
    }
    took.is_ok()
}

/// The input as a server could send it: in pieces whose sizes the input itself gives.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let size = usize::from(*rest.first()? % 7) + 1;
        let (piece, left) = rest.split_at(size.min(rest.len()));
        rest = left;
        Some(piece)
    })
}

fn sse(bytes: &[u8]) -> bool {
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut decoder, mut events) = (SseDecoder::new(), Vec::new());
        for piece in pieces {
            decoder.feed(piece, |event| {
                events.push([event.name, b"\0", event.data].concat());
            });
        }
        let state = (decoder.at_boundary(), decoder.overflowed());
        events.extend(decoder.finish());
        (events, state)
    };
    let whole = read(&mut std::iter::once(bytes));
    assert_eq!(whole, read(&mut pieces(bytes)), "the pieces decide");
    !whole.0.is_empty()
}

fn http_request(bytes: &[u8]) -> bool {
    let Some(end) = http1::head_end(bytes) else { return false };
    parse_request(&bytes[..end]).is_ok()
}

fn http_reply(bytes: &[u8]) -> bool {
    let Some(end) = http1::head_end(bytes) else { return false };
    let Ok(head) = parse_reply(&bytes[..end]) else { return false };
    let _ = http1::reply_head_for_client(&bytes[..end], true);
    let read = |api: &'static dyn WireApi, pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut reader = ReplyReader::new(api, &head).ok()?;
        let mut seen = (Vec::new(), Vec::new());
        for piece in pieces {
            let fresh = reader.feed(piece).ok()?;
            seen.0.extend(fresh.decoded);
            seen.1.extend(fresh.text);
        }
        let whole = reader.is_whole();
        let (facts, content, _) = reader.finish(true);
        Some((seen, whole, format!("{facts:?}"), content))
    };
    let mut taken = false;
    for api in ALL {
        let whole = read(api, &mut std::iter::once(&bytes[end..]));
        let cut = read(api, &mut pieces(&bytes[end..]));
        if let (Some(whole), Some(cut)) = (&whole, &cut) {
            assert_eq!(whole.0.0, cut.0.0, "the pieces decide what the body is");
            assert_eq!(whole.3, cut.3, "the pieces decide what the model said");
        }
        taken |= whole.is_some();
    }
    taken
}

/// A request that was taken and written anew is taken again, and comes out as it went in.
fn request(api: &dyn WireApi, bytes: &[u8]) -> bool {
    let Ok(taken) = read_request(api, bytes, "qwen") else { return false };
    let again = read_request(api, &taken.body, "qwen").expect("what was written is read");
    assert_eq!(again, taken);
    true
}

fn envelope(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some(facts) = find_agent_result(&text) else { return false };
    let start = usize::try_from(facts.start).expect("a place in the text");
    assert!(text[start..].starts_with(agent_result::START));
    assert_eq!(facts.complete, facts.fault.is_none());
    assert!(
        !facts.complete || (facts.status.is_some() && text[start..].contains(agent_result::END))
    );
    facts.complete
}

/// The files that patches are applied to.
pub fn files() -> Files {
    let file = |path: &str, text: &str| (path.parse().expect("a path"), Content::plain(text));
    Files::from([file("a.txt", "one\ntwo\nthree\nfour\nfive\n"), file("dir/b.txt", "alpha\nbeta")])
}

fn diff(bytes: &[u8]) -> bool {
    let files = files();
    let Ok(new) = patch::apply(&files, bytes) else { return false };
    let made = patch::make(&files, &new);
    assert_eq!(patch::apply(&files, &made).expect("our own patch"), new);
    true
}
