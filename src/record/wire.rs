//! What went over the wire between the agent and the model: one record an exchange, and facts a reply.
//!
//! Facts are counted and named, never judged by the wording of a text. Times are nanoseconds since the proxy started,
//! from the monotonic clock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agent_result::EnvelopeFacts;
use super::ids::Digest;
use super::text::words;

words! {
    /// The name under which reasoning came. Servers renamed the field more than once.
    pub enum ReasoningField {
        /// `reasoning` (vLLM since 0.12, OpenRouter), an item or a block of that kind in the other APIs.
        Reasoning = "reasoning",
        /// `reasoning_content` (DeepSeek, llama.cpp, SGLang, older vLLM).
        ReasoningContent = "reasoning_content",
        /// `reasoning_details` (OpenRouter).
        ReasoningDetails = "reasoning_details",
        /// `<think>` text inside `content`: no reasoning parser on the server.
        ThinkTag = "think_tag",
    }
}

words! {
    /// Who ended a reply.
    pub enum ClosedBy {
        /// The model's side, whether or not the reply was whole.
        Upstream = "upstream",
        /// The agent's side hung up.
        Client = "client",
        /// The proxy cut it: a secret, a limit, a reply that cannot be looked through.
        Admit = "admit",
    }
}

words! {
    /// Why there was no reply at all.
    pub enum ConnectFault {
        Refused = "refused",
        /// No connection in time.
        TimedOut = "timed_out",
        /// No route, or another failure of the network.
        Unreachable = "unreachable",
        /// TLS could not be agreed, or the certificate is not trusted.
        Tls = "tls",
        /// The connection ended before a whole reply head.
        Closed = "closed",
        /// Connected, and no reply in time.
        NoReply = "no_reply",
        /// The reply head is not HTTP/1.1 that admit accepts.
        BadHead = "bad_head",
    }
}

words! {
    /// What a reply amounts to. The wire's part of the failure classes; see [`ReplyVerdict`] for the detail.
    pub enum ReplyClass {
        /// Text, ended properly.
        OkText = "ok_text",
        /// Tool calls, ended properly.
        OkTools = "ok_tools",
        /// 401 or 403.
        AuthUnavailable = "auth_unavailable",
        /// Nothing answers at the endpoint.
        ConnectionRefused = "connection_refused",
        /// Another error status, an error event after 200, or a reply that is not of the API.
        UpstreamError = "upstream_error",
        /// Ended without `[DONE]` or without a `finish_reason`, or cut off.
        StreamTruncated = "stream_truncated",
        /// The reply names another model than the admitted one, or none.
        ModelMismatch = "model_mismatch",
        /// Tool arguments that are no JSON object, a tool call that the token budget cut, or tool calls written as text.
        MalformedToolCall = "malformed_tool_call",
        /// Only reasoning: nothing that an agent can use.
        ResponseShapeUnavailable = "response_shape_unavailable",
        EmptyReply = "empty_reply",
        /// The agent hung up first.
        ClientClosed = "client_closed",
        CutByAdmit = "cut_by_admit",
    }
}

/// The class of a reply and a word on which of its causes it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplyVerdict {
    pub class: ReplyClass,
    /// The cause within the class, `snake_case`, from a closed list in `proxy/reply.rs`.
    pub detail: String,
}

/// One tool call, joined from its pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolCallFacts {
    pub index: u64,
    /// Its function's name, at most 200 characters.
    pub name: String,
    /// How many pieces it came in.
    pub pieces: u64,
    /// Length of the joined arguments in bytes.
    pub argument_bytes: u64,
    /// The joined arguments are a JSON object.
    pub arguments_ok: bool,
}

/// Token counts as the server gave them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    pub prompt_tokens: u64,
    /// Tokens of the reply, reasoning included.
    pub completion_tokens: u64,
    /// `total_tokens`, or the sum where the server leaves it out.
    pub total_tokens: u64,
    /// Tokens of reasoning, where the server tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
}

/// What was seen of one reply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplyFacts {
    /// HTTP status; absent where no reply head came.
    pub status: Option<u16>,
    pub connect_fault: Option<ConnectFault>,
    /// `content-encoding`, if any.
    pub content_encoding: Option<String>,
    /// Came as server-sent events.
    pub streamed: bool,
    /// The body ended where HTTP said it would.
    pub body_whole: bool,
    /// The stream's own last event was seen (`[DONE]`, `response.completed`, `message_stop`).
    pub saw_done: bool,
    /// An error object was seen, in an event or as the body; its `code` or `type`, else its message, cut short.
    pub error: Option<String>,
    /// Events or bodies that are not the JSON they should be.
    pub malformed: u64,
    /// Events after the last one; their content counts for nothing.
    pub after_done: u64,
    pub events: u64,
    /// `finish_reason` of choice 0, `stop_reason`, or a response's status and why it is incomplete; `refusal` where the
    /// model declined in a field that is made for it.
    pub finish_reason: Option<String>,
    /// Model ids named in the reply, sorted, at most eight.
    pub models: Vec<String>,
    /// Highest number of choices; only choice 0 is counted below.
    pub choices: u64,
    /// Characters of reasoning that are not white space.
    pub reasoning_chars: u64,
    /// Under which names reasoning came, sorted.
    pub reasoning_fields: Vec<ReasoningField>,
    /// Tool markup stands in the reasoning.
    pub reasoning_has_tool_markup: bool,
    /// Characters of content outside `<think>` that are not white space.
    pub content_chars: u64,
    /// Tool markup stands in the content.
    pub content_has_tool_markup: bool,
    pub tool_calls: Vec<ToolCallFacts>,
    pub usage: Option<Usage>,
    /// Bytes of the body as received.
    pub body_bytes: u64,
    /// From the request to the first byte of the reply, in nanoseconds.
    pub first_byte_ns: Option<u64>,
    /// Longest wait between two reads, the first included, in nanoseconds.
    pub longest_gap_ns: u64,
    /// From the request to the end, in nanoseconds.
    pub duration_ns: u64,
    pub closed_by: Option<ClosedBy>,
}

words! {
    /// Why the proxy refused a request. Nothing of a refused request goes to the model.
    pub enum RequestRefusal {
        /// Not HTTP/1.1 as RFC 9112 writes it.
        BadHttp = "bad_http",
        /// Two ways to read where the body ends, or bytes after it: request smuggling.
        AmbiguousFraming = "ambiguous_framing",
        /// The head or body is longer than allowed.
        TooLarge = "too_large",
        /// A method and path that the proxy does not serve.
        NotServed = "not_served",
        /// No sentinel, or a wrong one.
        BadSentinel = "bad_sentinel",
        /// Brings credentials or account names of its own.
        ClientCredentials = "client_credentials",
        /// `Expect`, `Upgrade` or another header that asks for a change of protocol.
        ProtocolSwitch = "protocol_switch",
        /// A content type or encoding other than plain JSON in UTF-8.
        BadEncoding = "bad_encoding",
        /// Not one JSON object with distinct keys.
        BadJson = "bad_json",
        /// A key outside the list, at any level that has one.
        UnknownKey = "unknown_key",
        /// A known key or header with a value that the proxy does not pass on.
        BadValue = "bad_value",
        /// Another model than the admitted one.
        OtherModel = "other_model",
        /// The request holds a secret that the agent's side must not have.
        SecretInRequest = "secret_in_request",
        /// The head or body did not arrive in time.
        Slow = "slow",
        LimitHit = "limit_hit",
        /// The evidence could not be written, so nothing more may happen.
        RecorderFailed = "recorder_failed",
    }
}

words! {
    /// Limits of a run at the proxy.
    pub enum Limit {
        Requests = "requests",
        /// Bytes of all request bodies.
        RequestBytes = "request_bytes",
        ReplyBytes = "reply_bytes",
        /// Tokens, as the server counts them.
        Tokens = "tokens",
        /// Wall time of the proxy.
        Wall = "wall",
        ReplyTime = "reply_time",
    }
}

impl Limit {
    pub fn is_time(self) -> bool {
        matches!(self, Self::Wall | Self::ReplyTime)
    }
}

words! {
    /// Why the proxy cut a reply off.
    pub enum CutReason {
        /// It holds a known secret.
        Secret = "secret",
        LimitHit = "limit_hit",
        /// It is encoded so that it cannot be looked through.
        NotReadable = "not_readable",
        /// The evidence could not be written.
        RecorderFailed = "recorder_failed",
        /// A redirect, which the proxy never follows or passes on.
        Redirect = "redirect",
        /// A tool call in it is not whole: agents repair such a call and run it. The reply was read to its end; the agent
        /// got nothing from the event on that showed it.
        HalfToolCall = "half_tool_call",
        Stopped = "stopped",
    }
}

/// How a reply was cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    pub reason: CutReason,
    /// The name of the secret, the limit or the fault; never the value.
    pub what: String,
    /// Bytes of the reply that had been passed on before.
    pub passed_bytes: u64,
}

words! {
    #[derive(Default)]
    pub enum ExchangeKind {
        /// The model was asked, in the one wire API that is served.
        Chat = "chat",
        /// `GET /v1/models`.
        Models = "models",
        /// Refused before its kind was known.
        #[default]
        Unknown = "unknown",
    }
}

/// One request of the agent's side and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WireRecord {
    /// Number of the exchange, from 1, in the order in which connections sent their first byte.
    pub exchange: u32,
    pub kind: ExchangeKind,
    /// First byte of the request.
    pub started_ns: u64,
    pub ended_ns: u64,
    /// Why it was refused; absent for one that was passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<RequestRefusal>,
    /// The refusal in words, without values from the request that could be secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_why: Option<String>,
    /// Length of the request's body as received.
    pub request_bytes: u64,
    /// SHA-256 of the body as passed on; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwarded_sha256: Option<Digest>,
    /// The request asked for a stream.
    pub stream: bool,
    /// Number of messages in the request.
    pub messages: u64,
    /// Names of the tools offered, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<ReplyFacts>,
    /// The class of what came back, where the model was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<ReplyVerdict>,
    /// The result envelope in the reply's content, if one starts there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_result: Option<EnvelopeFacts>,
    /// How the proxy cut the reply off, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

words! {
    /// What stands behind the proxy.
    #[derive(Default)]
    pub enum UpstreamKind {
        /// An endpoint over HTTP.
        #[default]
        Http = "http",
        /// A scripted model inside admit.
        Scripted = "scripted",
    }
}

/// Everything that went through a proxy, from its start to its stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProxyRecord {
    /// The only model id that was let through.
    pub model: String,
    pub upstream: UpstreamKind,
    /// The network class that the endpoint was checked against; absent for a scripted model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_class: Option<String>,
    /// The connection to the endpoint was TLS.
    pub tls: bool,
    pub exchanges: Vec<WireRecord>,
    /// Connections that ended without sending a byte.
    pub silent_connections: u64,
    /// Host names that a program in the sandbox asked for, in lower case, each once and the first 32. There is no resolver:
    /// none was given an address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts_asked: Vec<String>,
    /// Bytes of request bodies passed on.
    pub request_bytes: u64,
    /// Bytes of replies passed to the agent.
    pub reply_bytes: u64,
    /// Tokens counted by the server.
    pub tokens: u64,
    /// Whole replies for which the server gave no token count: the token limit did not see them.
    pub replies_without_usage: u64,
    /// The first limit that was hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_hit: Option<Limit>,
    /// Names of the secrets seen in requests or replies: any entry fails the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets_seen: Vec<String>,
    /// The recorder's first failure: any text fails the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorder_failure: Option<String>,
    /// From start to stop.
    pub duration_ns: u64,
}

impl ProxyRecord {
    pub fn new(
        model: String,
        upstream: UpstreamKind,
        network_class: Option<String>,
        tls: bool,
    ) -> Self {
        Self { model, upstream, network_class, tls, ..Self::default() }
    }
}
