//! Watches a provider at work: one clock for each thing that can fail to happen, and the case that the work is done and
//! the provider lingers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use cap_std::fs::Dir;

use crate::check::launch::Clocks;
use crate::error::{Error, Reason, Result};
use crate::proxy::server::WireEvent;
use crate::record::failure::FailureClass;
use crate::record::ids::Digest;
use crate::record::wire::{CutReason, ReplyClass, RequestRefusal};
use crate::record::words;
use crate::sandbox::{Clock, Running};

words! {
    /// The clock that ran out.
    pub enum Expired {
        /// No sign of life.
        Start = "start",
        FirstCall = "first_model_call",
        Idle = "idle",
        Wall = "wall",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exited,
    /// A clock ran out and admit ended it.
    Clock(Expired),
    /// The work was judged good while the provider lingered, and admit ended it.
    HarnessCompleted,
    /// A limit of the proxy was hit, and admit ended it: all that it asks for is refused from then on. Or it asked more
    /// often than its lock allows.
    Limit,
    /// It went on after a reply that it could not use, and admit ended it.
    Fault,
    Interrupted(i32),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Digest of the finished work: a commit whose tree is the work tree, other than the first. `None` as long as there
    /// is none, or the provider has not finished its part.
    pub finished: Option<Digest>,
}

pub trait Watch {
    /// Looks into the work directory while the provider works, without waiting for the answer: `None` as long as it is
    /// not there. Begun a few times a second.
    fn look(&mut self, dir: &Dir) -> Option<Look>;
    /// Judges what stands in the work directory; every process in the sandbox stands still meanwhile.
    fn judge(&mut self, dir: &Dir) -> Result<bool>;
    fn note(&mut self, kind: &str, data: serde_json::Value) -> Result<()>;
}

/// How often the work directory is looked into.
const LOOK: Duration = Duration::from_millis(400);
/// How long one wait for the provider's end is.
const TICK: Duration = Duration::from_millis(40);

/// How long admit's own signal is waited for once something ended that should not have.
pub const SETTLE: Duration = Duration::from_millis(250);
/// How long an agent has to end by itself when admit is told to stop: the seal has to be there within two seconds.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// The signal by which admit was told to stop, if it comes within `patience`.
pub fn told_within(signal: &AtomicUsize, patience: Duration) -> Option<i32> {
    let until = Instant::now() + patience;
    loop {
        let got = signal.load(Ordering::SeqCst);
        if got != 0 {
            return Some(i32::try_from(got).unwrap_or(libc::SIGTERM));
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn supervise(
    running: &mut Running<'_>,
    wire: &Receiver<WireEvent>,
    clocks: &Clocks,
    signal: &AtomicUsize,
    watch: &mut dyn Watch,
) -> Result<End> {
    let begin = Instant::now();
    let mut life = Life {
        begin,
        called: None,
        sign: begin,
        last: begin,
        limited: false,
        faulted: None,
        requests: VecDeque::new(),
        rate: clocks.rate,
    };
    let mut standing: Option<(Digest, Instant)> = None;
    let mut rejected: Option<Digest> = None;
    let (mut looked, mut looking) = (begin, false);
    loop {
        if let Some(status) = running.wait(Some(TICK))? {
            life.hear(wire, watch)?;
            // Who stops a whole group signals the agent and admit one after the other.
            let patience = if status == 0 { Duration::ZERO } else { SETTLE };
            return Ok(told_within(signal, patience).map_or(End::Exited, End::Interrupted));
        }
        life.hear(wire, watch)?;
        let output = running.last_output();
        life.last = life.last.max(output);
        if output > begin + Duration::from_millis(1) || life.called.is_some() {
            life.sign = life.sign.max(output).max(life.last);
        }
        if let Some(got) = told_within(signal, Duration::ZERO) {
            running.terminate_within(Clock::Caller, LAST_WORDS)?;
            return Ok(End::Interrupted(got));
        }
        if life.limited {
            watch.note("limit_hit", serde_json::json!({ "after_ms": millis(begin) }))?;
            running.terminate(Clock::Caller)?;
            return Ok(End::Limit);
        }
        let over = life.faulted.zip(clocks.fault);
        if over.is_some_and(|((_, since), grace)| since.elapsed() >= grace) {
            watch.note("ended_after_fault", serde_json::json!({ "after_ms": millis(begin) }))?;
            running.terminate(Clock::Caller)?;
            return Ok(End::Fault);
        }
        if let Some(expired) = life.expired(clocks, Instant::now()) {
            watch.note("clock_expired", serde_json::json!({ "clock": expired.as_str() }))?;
            running.terminate(Clock::Caller)?;
            return Ok(End::Clock(expired));
        }
        if !looking && looked.elapsed() < LOOK {
            continue;
        }
        let Some(dir) = running.sandbox().directory() else { continue };
        let look = watch.look(dir);
        looking = look.is_none();
        let Some(Look { finished: found }) = look else { continue };
        looked = Instant::now();
        let Some(found) = found.filter(|found| rejected.as_ref() != Some(found)) else {
            standing = None;
            continue;
        };
        match &standing {
            Some((same, since)) if *same == found => {
                if since.elapsed() < clocks.stable {
                    continue;
                }
            }
            _ => {
                standing = Some((found, Instant::now()));
                continue;
            }
        }
        standing = None;
        // Finished for a while, and it goes on: stop everyone, look at it in peace, and decide.
        let Some(count) = running.freeze()? else { return Ok(End::Exited) };
        watch
            .note("frozen", serde_json::json!({ "processes": count, "after_ms": millis(begin) }))?;
        let good = match running.sandbox().directory() {
            Some(dir) => watch.judge(dir)?,
            None => {
                return Err(Error::new(Reason::Internal, "the work directory was not handed out"));
            }
        };
        watch.note("judged_while_frozen", serde_json::json!({ "accepted": good }))?;
        if good {
            running.terminate(Clock::Caller)?;
            return Ok(End::HarnessCompleted);
        }
        rejected = Some(found);
        running.thaw()?;
        watch.note("thawed", serde_json::json!({ "after_ms": millis(begin) }))?;
        // The judge's time is not the provider's.
        life.last = Instant::now();
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

struct Life {
    begin: Instant,
    called: Option<Instant>,
    sign: Instant,
    last: Instant,
    limited: bool,
    /// The first reply that the agent could not use, and when it ended.
    faulted: Option<(u32, Instant)>,
    /// When the last requests came, of one second.
    requests: VecDeque<Instant>,
    rate: Option<u32>,
}

impl Life {
    fn hear(&mut self, wire: &Receiver<WireEvent>, watch: &mut dyn Watch) -> Result<()> {
        loop {
            match wire.try_recv() {
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
                Ok(event) => {
                    self.last = Instant::now();
                    self.limited |= matches!(
                        event,
                        WireEvent::Refused { reason: RequestRefusal::LimitHit, .. }
                            | WireEvent::Cut { reason: CutReason::LimitHit, .. }
                    );
                    if let WireEvent::End { exchange, class: Some(class), .. } = event {
                        self.replied(exchange, class);
                    }
                    if matches!(event, WireEvent::Request { .. }) {
                        self.limited |= self.too_fast();
                    }
                    if let WireEvent::Request { exchange, .. } = event
                        && self.called.is_none()
                    {
                        self.called = Some(self.last);
                        watch.note("model_call", serde_json::json!({ "exchange": exchange }))?;
                    }
                }
            }
        }
    }

    /// A reply that cannot be used begins the grace; a good one to a later request ends it: the agent recovered.
    fn replied(&mut self, exchange: u32, class: ReplyClass) {
        let good = matches!(class, ReplyClass::OkText | ReplyClass::OkTools);
        match self.faulted {
            None if FailureClass::of_reply(class).is_some() => {
                self.faulted = Some((exchange, self.last));
            }
            Some((faulted, _)) if good && exchange > faulted => self.faulted = None,
            _ => {}
        }
    }

    /// Counts a request, and says whether they come faster than allowed.
    fn too_fast(&mut self) -> bool {
        let Some(rate) = self.rate else { return false };
        let second = Duration::from_secs(1);
        self.requests.push_back(self.last);
        while self.requests.front().is_some_and(|then| self.last.duration_since(*then) > second) {
            self.requests.pop_front();
        }
        self.requests.len() > rate as usize
    }

    fn expired(&self, clocks: &Clocks, now: Instant) -> Option<Expired> {
        let since = |then: Instant| now.saturating_duration_since(then);
        if since(self.begin) >= clocks.wall {
            return Some(Expired::Wall);
        }
        if self.sign == self.begin && self.called.is_none() && since(self.begin) >= clocks.start {
            return Some(Expired::Start);
        }
        if self.called.is_none() && since(self.begin) >= clocks.first_call {
            return Some(Expired::FirstCall);
        }
        (since(self.last) >= clocks.idle).then_some(Expired::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_clock_has_its_own_fact() {
        let second = Duration::from_secs(1);
        let clocks = Clocks {
            start: second,
            first_call: second * 2,
            idle: second * 3,
            wall: second * 10,
            stable: second,
            ..Clocks::default()
        };
        let begin = Instant::now();
        let life = |called: Option<u32>, sign: u32, last: u32| Life {
            begin,
            called: called.map(|s| begin + second * s),
            sign: begin + second * sign,
            last: begin + second * last,
            limited: false,
            faulted: None,
            requests: VecDeque::new(),
            rate: None,
        };
        let at = |life: &Life, s: u32| life.expired(&clocks, begin + second * s);
        assert_eq!(at(&life(None, 0, 0), 0), None);
        assert_eq!(at(&life(None, 0, 0), 1), Some(Expired::Start));
        assert_eq!(at(&life(None, 1, 1), 1), None);
        assert_eq!(at(&life(None, 1, 1), 2), Some(Expired::FirstCall));
        assert_eq!(at(&life(Some(1), 1, 4), 6), None);
        assert_eq!(at(&life(Some(1), 1, 4), 7), Some(Expired::Idle));
        assert_eq!(at(&life(Some(1), 1, 9), 10), Some(Expired::Wall));
        let mut life = life(Some(1), 1, 1);
        for (exchange, class, faulted) in [
            (2, ReplyClass::UpstreamError, Some(2)),
            // An earlier request's reply that came late, and a fault again, change nothing.
            (1, ReplyClass::OkText, Some(2)),
            (3, ReplyClass::UpstreamError, Some(2)),
            (4, ReplyClass::CutByAdmit, Some(2)),
            (5, ReplyClass::OkTools, None),
            (6, ReplyClass::StreamTruncated, Some(6)),
        ] {
            life.replied(exchange, class);
            assert_eq!(life.faulted.map(|(exchange, _)| exchange), faulted, "{exchange}");
        }
    }
}
