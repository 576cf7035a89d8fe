//! Walking the chain of events: each line names the digest of the line before.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};

use super::files::RunDir;
use super::names;
use crate::record;
use crate::record::evidence::ChainEnd;
use crate::record::ids::Digest;
use crate::record::sealed::{Author, Event};

/// An event's line longer than this is not read.
const MAX_LINE: u64 = 1 << 20;

/// Walks the chain to its end. Gives that, and the kinds of events that admit itself put there.
pub(super) fn chain(dir: &RunDir) -> Result<(ChainEnd, BTreeSet<String>), String> {
    use std::io::Read as _;
    let file = dir.open_file(names::EVENTS).map_err(|err| err.to_string())?;
    let mut lines = BufReader::new(file);
    let mut end = ChainEnd::default();
    let (mut last_ns, mut kinds) = (0, BTreeSet::new());
    let mut line = Vec::new();
    loop {
        line.clear();
        let n = lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if n.map_err(|err| err.to_string())? == 0 {
            return Ok((end, kinds));
        }
        let number = end.count + 1;
        if line.pop() != Some(b'\n') {
            return Err(format!("line {number} is cut off or too long"));
        }
        let value = record::parse_value(&line).map_err(|err| format!("line {number}: {err}"))?;
        let event: Event =
            serde_json::from_value(value).map_err(|err| format!("line {number}: {err}"))?;
        if record::canonical(&event) != line {
            return Err(format!("line {number} is not in its written form"));
        }
        if event.seq != end.count || event.prev != end.head || event.monotonic_ns < last_ns {
            return Err(format!("line {number} does not follow the line before"));
        }
        last_ns = event.monotonic_ns;
        if event.by == Author::Admit {
            kinds.insert(event.kind);
        }
        end = ChainEnd { count: end.count + 1, head: Digest::sha256(&line) };
    }
}
