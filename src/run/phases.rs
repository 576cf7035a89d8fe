//! The agent's phases: name, end and times as its log claims them, with what admit saw on the wire meanwhile; and which
//! exchanges the work hung on.

use std::collections::BTreeMap;

use crate::record::evidence::{Phase, PhaseOutcome};
use crate::record::wire::{ExchangeKind, ProxyRecord, WireRecord};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedPhase {
    pub name: String,
    pub outcome: PhaseOutcome,
    /// Nanoseconds since 1970; absent for one that never began, or where the log has no time.
    pub started: Option<i128>,
    pub ended: Option<i128>,
    /// Whether the work hangs on it: a phase that comes after it is recorded and never decides.
    pub decides: bool,
}

/// When the proxy began, on both clocks: nanoseconds since 1970, and since the run directory was made.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    pub unix_ns: i128,
    pub run_ns: u64,
}

/// The phases of a run, and whose each exchange is.
#[derive(Debug, Default)]
pub struct Phases {
    pub rows: Vec<Phase>,
    /// By the number of the exchange: the phase's place in `rows`.
    of: BTreeMap<u32, usize>,
    /// Places of the phases on which the work hangs, as far as they began.
    deciding: Vec<usize>,
}

/// The requests to the model that the agent made; the probe's is no such.
pub fn chats(wire: &ProxyRecord) -> impl DoubleEndedIterator<Item = &WireRecord> {
    let chat = |x: &&WireRecord| x.kind == ExchangeKind::Chat && x.exchange > 0;
    wire.exchanges.iter().filter(chat)
}

impl Phases {
    /// An exchange belongs to the phase that began last before it.
    pub fn of(claimed: &[ClaimedPhase], wire: &ProxyRecord, began: Began) -> Self {
        let on_run = |unix: i128| {
            u64::try_from(unix - began.unix_ns + i128::from(began.run_ns)).unwrap_or_default()
        };
        let row = |phase: &ClaimedPhase| Phase {
            name: phase.name.clone(),
            outcome: phase.outcome,
            started: phase.started.map(on_run),
            ended: phase.ended.map(on_run),
            requests: 0,
            input_tokens: 0,
            output_tokens: 0,
        };
        let mut out = Self { rows: claimed.iter().map(row).collect(), ..Self::default() };
        let begun = |(_, phase): &(usize, &ClaimedPhase)| phase.decides && phase.started.is_some();
        out.deciding = claimed.iter().enumerate().filter(begun).map(|(at, _)| at).collect();
        // An agent that claims one phase without times claims that it did nothing else.
        let one = matches!(claimed, [phase] if phase.decides && phase.started.is_none());
        for exchange in chats(wire) {
            let at = began.unix_ns + i128::from(exchange.started_ns);
            let before = |phase: &ClaimedPhase| phase.started.is_some_and(|start| start <= at);
            let place = claimed.iter().rposition(before).or(one.then_some(0));
            let Some(place) = place else { continue };
            out.of.insert(exchange.exchange, place);
            let row = &mut out.rows[place];
            row.requests += 1;
            if let Some(usage) = exchange.facts.as_ref().and_then(|facts| facts.usage) {
                row.input_tokens = row.input_tokens.saturating_add(usage.prompt_tokens);
                row.output_tokens = row.output_tokens.saturating_add(usage.completion_tokens);
            }
        }
        // A log whose times fit no exchange of the work says nothing about which were the work's.
        if !out.of.values().any(|place| out.deciding.contains(place)) {
            out.deciding.clear();
        }
        out
    }

    /// Whether the work itself is done in this exchange: it is one of a phase that decides, or nothing says whose it is.
    pub fn decides(&self, exchange: &WireRecord) -> bool {
        match self.of.get(&exchange.exchange) {
            _ if self.deciding.is_empty() => true,
            Some(place) => self.deciding.contains(place),
            None => false,
        }
    }

    /// Whether the work could not have been done without this exchange: it comes before the end of the last phase that
    /// decides.
    pub fn needed(&self, exchange: &WireRecord) -> bool {
        let Some(last) = self.deciding.last() else { return true };
        self.of.get(&exchange.exchange).is_none_or(|place| place <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::wire::{ReplyFacts, UpstreamKind, Usage};

    #[test]
    fn an_exchange_belongs_to_the_phase_that_began_last_before_it() {
        let phase = |name: &str, started: Option<i128>, decides| ClaimedPhase {
            name: name.into(),
            outcome: PhaseOutcome::Completed,
            started,
            ended: started.map(|at| at + 90),
            decides,
        };
        let claimed = [
            phase("scout", Some(1000), false),
            phase("implement", Some(1100), true),
            phase("review", Some(1200), false),
            phase("close", None, false),
        ];
        let usage = Usage { prompt_tokens: 7, completion_tokens: 2, ..Usage::default() };
        let exchange = |number, started_ns| WireRecord {
            exchange: number,
            kind: ExchangeKind::Chat,
            started_ns,
            facts: Some(ReplyFacts { usage: Some(usage), ..ReplyFacts::default() }),
            ..WireRecord::default()
        };
        let mut wire = ProxyRecord::new("m".into(), UpstreamKind::Scripted, None, false);
        wire.exchanges = vec![exchange(0, 0), exchange(1, 20), exchange(2, 120), exchange(3, 250)];
        let began = Began { unix_ns: 990, run_ns: 500 };
        let phases = Phases::of(&claimed, &wire, began);
        let requests: Vec<u32> = phases.rows.iter().map(|row| row.requests).collect();
        assert_eq!(requests, [1, 1, 1, 0]);
        assert_eq!((phases.rows[1].started, phases.rows[1].ended), (Some(610), Some(700)));
        assert_eq!((phases.rows[1].input_tokens, phases.rows[1].output_tokens), (7, 2));
        let is = |what: &dyn Fn(&WireRecord) -> bool| -> Vec<bool> {
            wire.exchanges[1..].iter().map(what).collect()
        };
        assert_eq!(is(&|x| phases.decides(x)), [false, true, false]);
        assert_eq!(is(&|x| phases.needed(x)), [true, true, false]);
        // One phase without times is the whole.
        let whole = [ClaimedPhase { started: None, ..claimed[1].clone() }];
        let phases = Phases::of(&whole, &wire, began);
        assert_eq!((phases.rows[0].requests, phases.rows[0].started), (3, None));
        assert_eq!(is(&|x| phases.decides(x)), [true, true, true]);
        // Times that fit nothing leave everything to be the work's.
        let phases = Phases::of(&claimed, &wire, Began { unix_ns: 1_000_000, run_ns: 0 });
        assert_eq!(is(&|x| phases.decides(x)), [true, true, true]);
        assert_eq!(is(&|x| phases.needed(x)), [true, true, true]);
    }
}
