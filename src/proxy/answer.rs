//! The reply on its way to the agent: passed on piece by piece, cut where it must be, and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::api::WireApi;
use super::relay::{Relay, Released, Stop};
use super::reply::classify;
use super::state::{Held, MOST_HELD, Part, Shared, WireEvent};
use super::upstream::{Ask, Io, Opened, open};
use crate::record::agent_result::find_agent_result;
use crate::record::wire::{
    ClosedBy, ConnectFault, Cut, CutReason, ExchangeKind, Limit, ReplyFacts, WireRecord,
};

/// Size of one read from either side. Small, since what one read unpacks to (about a thousand times as much for the
/// worst gzip) is looked through before a clock is looked at again.
pub(super) const READ: usize = 8 * 1024;

/// Sends an error of the proxy's own, in the form that clients of this API know, and ends the connection so that the
/// words arrive. `kind` is a variant of a closed list. `again`: whether it is worth asking once more.
pub(super) async fn tell_client(
    client: &mut TcpStream,
    api: &dyn WireApi,
    status: &str,
    again: bool,
    kind: &impl serde::Serialize,
    what: &str,
) {
    let kind = serde_json::to_value(kind).unwrap_or_default();
    let kind = kind.as_str().unwrap_or("refused");
    let body = api.error(kind, &format!("admit: {what}")).to_string();
    let again = if again { "" } else { "x-should-retry: false\r\n" };
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{again}Connection: close\r\n\r\n{body}",
        body.len()
    );
    let send = async {
        let _ = client.write_all(reply.as_bytes()).await;
        let _ = client.shutdown().await;
        // Unread bytes would turn the close into a reset, and the words would be lost.
        let mut sink = vec![0; READ];
        let mut left = 64 * READ;
        while let Ok(n) = client.read(&mut sink).await {
            if n == 0 || n > left {
                break;
            }
            left -= n;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), send).await;
}

enum End {
    /// By its own framing, or by the end of the connection (`true`: without an error).
    Upstream(bool),
    Client,
    Stopped(Stop),
    /// The server does not take what the account's helper gave, and the helper gave something new.
    Renewed,
}

fn cut(reason: CutReason, what: impl Into<String>) -> End {
    End::Stopped(Stop::Cut(reason, what.into()))
}

pub(super) async fn answer(
    client: &mut TcpStream,
    shared: &Shared,
    record: &mut WireRecord,
    ask: &Ask,
    stop: &mut watch::Receiver<bool>,
) {
    let exchange = record.exchange;
    let mut pass = Pass {
        client,
        shared,
        record,
        begun: Instant::now(),
        last: Instant::now(),
        first_byte: None,
        longest_gap: Duration::ZERO,
        passed: 0,
        held: Held::new(shared),
        given: None,
    };
    let mut asked_again = false;
    loop {
        let mut relay = Relay::new(shared.upstream.api(), &shared.known);
        let opened = open(&shared.upstream, exchange, ask, shared.limits.connect);
        let end = tokio::select! {
            _ = stop.changed() => cut(CutReason::Stopped, "the run ended"),
            opened = opened => match opened {
                Ok(Opened { conn, given }) => {
                    // Once a request: what is refused twice is not a matter of its age.
                    pass.given = given.filter(|_| !asked_again);
                    pass.run(conn, &mut relay, stop).await
                }
                Err(fault) => End::Stopped(Stop::Fault(fault)),
            },
        };
        if matches!(end, End::Renewed) {
            asked_again = true;
            continue;
        }
        return pass.finish(relay, end).await;
    }
}

struct Pass<'a> {
    client: &'a mut TcpStream,
    shared: &'a Shared,
    record: &'a mut WireRecord,
    begun: Instant,
    /// Last bytes of the model's side.
    last: Instant,
    first_byte: Option<Duration>,
    longest_gap: Duration,
    /// Bytes that went to the agent.
    passed: u64,
    /// What is kept of the reply.
    held: Held<'a>,
    /// Which of all that the account's helper gave this request has, where it may be asked again.
    given: Option<u32>,
}

impl Pass<'_> {
    async fn run(
        &mut self,
        mut conn: Box<dyn Io>,
        relay: &mut Relay,
        stop: &mut watch::Receiver<bool>,
    ) -> End {
        let limits = self.shared.limits;
        let mut buf = vec![0; READ];
        let mut ignored = [0; 1024];
        self.last = Instant::now();
        loop {
            let wall = self.shared.started + limits.wall;
            let (due, limit) = (self.begun + limits.reply, Limit::ReplyTime);
            let (due, limit) = if wall < due { (wall, Limit::Wall) } else { (due, limit) };
            // Asked before each read: a flood is always readable, so the clock below would never get its turn.
            if Instant::now() >= due {
                return self.too_long(limit, format!("{limit:?}"));
            }
            let silent = self.last + limits.silence;
            let wake = tokio::time::Instant::from_std(due.min(silent));
            tokio::select! {
                biased;
                _ = stop.changed() => return cut(CutReason::Stopped, "the run ended"),
                got = conn.read(&mut buf) => match got {
                    Ok(0) => return End::Upstream(true),
                    Err(_) => return End::Upstream(false),
                    Ok(n) => {
                        if let Some(end) = self.pass(relay, &buf[..n]).await {
                            return end;
                        }
                        if relay.is_whole() {
                            return End::Upstream(true);
                        }
                    }
                },
                // What the agent's side sends now belongs to no request; its end means that it hung up.
                got = self.client.read(&mut ignored) => match got {
                    Ok(n) if n > 0 => {}
                    _ => return End::Client,
                },
                _ = tokio::time::sleep_until(wake) => {
                    if silent < due && self.first_byte.is_none() {
                        return End::Stopped(Stop::Fault(ConnectFault::NoReply));
                    }
                    let what = if silent < due { "silence".into() } else { format!("{limit:?}") };
                    return self.too_long(limit, what);
                }
            }
        }
    }

    fn too_long(&self, limit: Limit, what: String) -> End {
        self.shared.state().hit_limit(limit);
        cut(CutReason::LimitHit, what)
    }

    /// Looks through one piece and passes on what may go on.
    async fn pass(&mut self, relay: &mut Relay, bytes: &[u8]) -> Option<End> {
        let now = Instant::now();
        self.first_byte.get_or_insert(now - self.begun);
        self.longest_gap = self.longest_gap.max(now - self.last);
        self.last = now;
        let fed = relay.feed(bytes);
        if !self.held.hold(relay.kept() as u64) {
            let what = format!("more than {MOST_HELD} bytes of requests and replies at a time");
            return Some(self.too_long(Limit::ReplyBytes, what));
        }
        match fed {
            Ok(_) if relay.status == Some(401) && self.renewed().await => Some(End::Renewed),
            Ok(released) => self.send(released).await.err(),
            Err(stop) => Some(End::Stopped(stop)),
        }
    }

    /// Whether the account's helper, asked once more for this request, gave something new.
    async fn renewed(&mut self) -> bool {
        let (Some(given), Some(account)) = (self.given.take(), self.shared.upstream.account())
        else {
            return false;
        };
        let account = Arc::clone(account);
        tokio::task::spawn_blocking(move || account.renew(given)).await.unwrap_or(false)
    }

    /// Records first, then sends.
    async fn send(&mut self, released: Released) -> Result<(), End> {
        if released.to_client.is_empty() {
            return Ok(());
        }
        let len = released.to_client.len() as u64;
        let at_ns = self.shared.now_ns();
        {
            let mut state = self.shared.state();
            if state.record.reply_bytes + len > self.shared.limits.reply_bytes {
                state.hit_limit(Limit::ReplyBytes);
                return Err(cut(CutReason::LimitHit, format!("{:?}", Limit::ReplyBytes)));
            }
            state
                .write(self.record.exchange, Part::Reply, at_ns, &released.raw)
                .map_err(|()| cut(CutReason::RecorderFailed, "evidence"))?;
            state.record.reply_bytes += len;
        }
        let write = self.client.write_all(&released.to_client);
        match tokio::time::timeout(self.shared.limits.silence, write).await {
            Ok(Ok(())) => {}
            _ => return Err(End::Client),
        }
        self.passed += len;
        self.shared.state().tell(WireEvent::Bytes { exchange: self.record.exchange, at_ns, len });
        Ok(())
    }

    /// Passes on the rest, ends the agent's connection in the way the reply ended, and fills the record.
    async fn finish(mut self, relay: Relay, mut end: End) {
        let shared = self.shared;
        let (rest, mut facts, content) = relay.finish(matches!(end, End::Upstream(true)));
        if let End::Upstream(_) = end {
            end = match rest {
                Ok(rest) => self.send(rest).await.err().unwrap_or(end),
                Err(stop) => End::Stopped(stop),
            };
        }
        if facts.status.is_none() && matches!(end, End::Upstream(_)) {
            end = End::Stopped(Stop::Fault(ConnectFault::Closed));
        }
        self.end(&mut facts, end).await;
        let ns = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        facts.first_byte_ns = self.first_byte.map(ns);
        facts.longest_gap_ns = ns(self.longest_gap);
        facts.duration_ns = ns(self.begun.elapsed());
        let record = self.record;
        if record.kind == ExchangeKind::Chat {
            record.verdict = Some(classify(&facts, &shared.model, |reason| {
                shared.upstream.api().finish(reason)
            }));
            record.agent_result = find_agent_result(&content);
            let at_ns = shared.now_ns();
            let mut state = shared.state();
            // A cut reply's content may hold what it was cut for.
            if record.cut.is_none() && !content.is_empty() {
                let _ = state.write(record.exchange, Part::Content, at_ns, content.as_bytes());
            }
            match facts.usage {
                Some(usage) => {
                    let tokens = &mut state.record.tokens;
                    *tokens = tokens.saturating_add(usage.total_tokens);
                }
                None if facts.body_whole && facts.status == Some(200) => {
                    state.record.replies_without_usage += 1;
                }
                None => {}
            }
        }
        record.facts = Some(facts);
    }

    async fn end(&mut self, facts: &mut ReplyFacts, end: End) {
        match end {
            End::Upstream(_) => facts.closed_by = Some(ClosedBy::Upstream),
            // One that was renewed does not come here.
            End::Client | End::Renewed => facts.closed_by = Some(ClosedBy::Client),
            End::Stopped(Stop::Fault(fault)) => {
                facts.connect_fault = Some(fault);
                facts.closed_by = Some(ClosedBy::Upstream);
                let what = "the model's side gave no reply";
                let api = self.shared.upstream.api();
                tell_client(self.client, api, "502 Bad Gateway", true, &fault, what).await;
            }
            End::Stopped(Stop::Cut(reason, what)) => {
                // A half tool call is withheld from the agent, and the reply read to its end.
                facts.closed_by = Some(match reason {
                    CutReason::HalfToolCall => ClosedBy::Upstream,
                    _ => ClosedBy::Admit,
                });
                {
                    let mut state = self.shared.state();
                    if reason == CutReason::Secret {
                        state.saw_secret(&what);
                    }
                    state.tell(WireEvent::Cut { exchange: self.record.exchange, reason });
                }
                if self.passed == 0 {
                    let (api, what) = (self.shared.upstream.api(), "the reply was cut");
                    tell_client(self.client, api, "502 Bad Gateway", false, &reason, what).await;
                }
                self.record.cut = Some(Cut { reason, what, passed_bytes: self.passed });
            }
        }
        // Without its last chunk, or short of its length, a reply that was cut has no clean end.
        let _ = self.client.shutdown().await;
    }
}
