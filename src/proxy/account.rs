//! An account at the model's server, by way of a program on this machine: the credential helper. It is started outside of
//! any sandbox, before a run and again when what it gave expires or the server answers 401, and prints
//! `{"token": …, "headers": {…}, "expires": …}`. All that it prints is secret: it is sent in the headers of requests to the
//! endpoint, looked for wherever secrets are, and shown nowhere.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::error::{Error, Reason, Result};
use crate::host;
use crate::host::files::{self, Links};
use crate::record;
use crate::record::admission::{KEY_HEADERS, OWN_HEADERS, is_header_name};
use crate::record::credential::Credential;
use crate::record::ids::{Digest, Timestamp};
use crate::sandbox;
use crate::secrets::{Known, Secret};
use crate::stop;

/// Longest program that is hashed, in bytes.
const MAX_PROGRAM: u64 = 256 << 20;
/// Most that is read of each of its streams, in bytes.
const MAX_OUTPUT: u64 = 64 * 1024;
/// Longest token or value of a header: those of identity providers reach a few thousand bytes.
const MAX_VALUE: usize = 16 * 1024;
/// Shorter values are found in everything and protect nothing: they are no secrets, and belong into the record.
const SHORTEST: usize = 8;
const MAX_HEADERS: usize = 16;
/// Seconds that it has where the record does not say.
const TIMEOUT: u16 = 30;
const MOST_RENEWALS: u32 = 64;
/// So long before it expires, what was given is asked for anew, and at most a quarter of its life: a request is under way
/// for a while.
const MARGIN: Duration = Duration::from_secs(20);
/// After a failure it is not asked again for this long: an agent that retries must not start it each time.
const PAUSE: Duration = Duration::from_secs(5);
/// What of this user's environment it gets: where its files and programs are, and how it gets out to refresh a token.
const VARIABLES: [&str; 30] = [
    "ALL_PROXY",
    "DBUS_SESSION_BUS_ADDRESS",
    "GNUPGHOME",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "NO_PROXY",
    "PATH",
    "REQUESTS_CA_BUNDLE",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

#[derive(Clone, Debug)]
pub struct Helper {
    program: PathBuf,
    sha256: Digest,
    arguments: Vec<String>,
    timeout: Duration,
    environment: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    expires: Option<String>,
}

/// What it gave, and holds until it expires.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) token: Option<Secret>,
    pub(super) headers: Vec<(String, Secret)>,
    /// When to ask anew; `None` where it does not expire.
    due: Option<Instant>,
    /// Which of all that was given, counted from one.
    pub(super) number: u32,
}

/// What changes during a run.
struct State {
    given: Given,
    /// When asking again failed last, and how.
    failed: Option<(Instant, Unanswered)>,
    /// What everything that may not be written is looked for with: taught each new secret before it is sent.
    known: Vec<Known>,
}

/// Why the helper, asked again, gave nothing.
#[derive(Clone, Debug)]
pub struct Unanswered {
    /// In words that hold nothing of what it printed.
    pub why: String,
    /// A signal ended it that admit did not send.
    pub killed: bool,
}

pub struct Account {
    helper: Helper,
    state: Mutex<State>,
    /// The moment of the first answer by the wall clock, and on the monotonic one.
    begun: (Timestamp, Instant),
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("helper", &self.helper.program).finish_non_exhaustive()
    }
}

/// SHA-256 of a program that may be a credential helper: one that only this user and root could have written or replaced.
///
/// # Errors
/// [`Reason::HelperMissing`], [`Reason::CredentialUnusable`].
pub fn examine(program: &std::path::Path) -> Result<Digest> {
    let place = program.display().to_string();
    let bytes = files::read_own(program, Links::Follow, MAX_PROGRAM).map_err(|err| {
        let (reason, what) = match err.reason() {
            Reason::NotFound => (Reason::HelperMissing, "the credential helper is not there"),
            _ => (Reason::CredentialUnusable, "the credential helper cannot be used"),
        };
        let otherwise = "put it there; to record another one: admit model add --help";
        let hint = err.hints().first().map_or(otherwise, String::as_str);
        let found = err.found_value().unwrap_or(err.what());
        Error::new(reason, what).at(&place).found(found).hint(hint)
    })?;
    let me = rustix::process::geteuid().as_raw();
    let real = program.canonicalize();
    let real = real.map_err(|err| Error::io("resolve the credential helper", program, err))?;
    for dir in real.ancestors().skip(1) {
        let meta = std::fs::metadata(dir).map_err(|err| Error::io("examine", dir, err))?;
        let sticky = meta.mode() & 0o1000 != 0;
        let mine = meta.uid() == me || meta.uid() == 0;
        if !mine || (meta.mode() & 0o022 != 0 && !sticky) {
            let what = "others can put another program in the credential helper's place";
            return Err(Error::new(Reason::CredentialUnusable, what)
                .at(dir.display().to_string())
                .hint(format!("chmod go-w '{}', or move the helper", dir.display())));
        }
    }
    Ok(Digest::sha256(&bytes))
}

impl Helper {
    /// The helper of a record; `None` where its credential is another.
    pub fn of(credential: &Credential, vars: &BTreeMap<String, String>) -> Option<Self> {
        let Credential::Helper { program, sha256, arguments, timeout_seconds } = credential else {
            return None;
        };
        let environment = VARIABLES.iter().filter_map(|name| {
            let value = vars.get(*name).filter(|value| !value.is_empty())?;
            Some(((*name).to_owned(), value.clone()))
        });
        Some(Self {
            program: program.as_ref().to_path_buf(),
            sha256: sha256.clone(),
            arguments: arguments.clone(),
            timeout: Duration::from_secs(timeout_seconds.unwrap_or(TIMEOUT).into()),
            environment: environment.collect(),
        })
    }

    fn ask(&self, now: &Timestamp) -> Result<Given> {
        let place = self.program.display().to_string();
        let fail = |reason, what: &str| {
            Error::new(reason, format!("the credential helper {what}")).at(place.clone())
        };
        let found = examine(&self.program)?;
        if found != self.sha256 {
            return Err(fail(Reason::DigestMismatch, "is not the program of the record")
                .expected(self.sha256.to_string())
                .found(found.to_string())
                .hint(
                    "find out what changed there; to record the new one: admit model add --help",
                ));
        }
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(&self.environment).process_group(0);
        command.current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        sandbox::end_with_thread(&mut command);
        let until = Instant::now() + self.timeout;
        let child = loop {
            match command.spawn() {
                // The program that wrote it a moment ago has not closed it yet.
                Err(err)
                    if err.kind() == io::ErrorKind::ExecutableFileBusy
                        && Instant::now() < until =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                started => break started,
            }
        };
        let child = child.map_err(|err| {
            fail(Reason::HelperMissing, "cannot be started")
                .found(err.to_string())
                .hint(format!("chmod u+x '{place}', and look at the interpreter in its first line"))
        })?;
        let _told_to_stop = stop::group(child.id());
        let mut running = Running { child };
        let stdout = running.child.stdout.take().map(read);
        let stderr = running.child.stderr.take().map(read);
        let late = || {
            fail(Reason::HelperTimedOut, "does not answer")
                .expected(format!("its end within {} s", self.timeout.as_secs()))
                .found("it was still running, and was ended")
                .hint("start it by hand with an empty standard input: it must ask nobody")
        };
        let out = taken(stdout, until).ok_or_else(late)?;
        let err = taken(stderr, until).ok_or_else(late)?;
        let status = host::wait_until(&mut running.child, until).ok_or_else(late)?;
        // Its words may hold the token, so only how many there are is told.
        let by_hand =
            "start it by hand: what it prints is withheld here, since a token may be in it";
        let malformed = |what: &str| fail(Reason::HelperMalformed, what).hint(by_hand);
        let (Ok(out), Ok(err)) = (out, err) else {
            return Err(malformed("prints without end")
                .expected(format!("at most {MAX_OUTPUT} bytes on each stream")));
        };
        if let Some(signal) = status.signal().filter(|signal| stop::ends_others(*signal)) {
            let what = format!("the credential helper was ended by a signal: {place}");
            return Err(sandbox::killed(&what, signal));
        }
        if !status.success() {
            let silent = format!("{} bytes on its standard error, withheld", err.len());
            return Err(fail(Reason::HelperFailed, "failed")
                .expected("exit status 0")
                .found(format!("{status}; {silent}"))
                .hint(by_hand));
        }
        let expected = "one JSON object {\"token\": TEXT, \"headers\": {NAME: VALUE}, \"expires\": RFC 3339 moment or null}, with a token or a header";
        // The parser's own words could quote a secret.
        let value = record::parse_value(&out).ok();
        let printed = value.and_then(|value| serde_json::from_value::<Printed>(value).ok());
        let Some(printed) = printed else {
            return Err(malformed("prints something else than a credential")
                .expected(expected)
                .found(format!("{} bytes, withheld", out.len())));
        };
        let (mut given, expires) =
            given(printed).map_err(|what| malformed(&what).expected(expected))?;
        for (name, secret) in given.values() {
            let secret = secret.expose();
            if err.windows(secret.len()).any(|window| window == secret) {
                return Err(fail(
                    Reason::HelperLeaked,
                    &format!("prints its {name} to its standard error"),
                )
                .expected("secrets on its standard output alone, since other words end up in logs")
                .hint("mend the helper, and have a new token made: this one is known now"));
            }
        }
        if let Some(expires) = expires {
            let Ok(life @ 1..) = u64::try_from(expires.unix() - now.unix()) else {
                return Err(fail(Reason::CredentialExpired, "gives what has expired already")
                    .expected(format!("an expiry after {now}"))
                    .found(expires.to_string())
                    .hint("log in again where the helper takes its token from"));
            };
            let life = Duration::from_secs(life);
            given.due = Instant::now().checked_add(life - MARGIN.min(life / 4));
        }
        Ok(given)
    }
}

/// A token without the scheme before it: servers and logs show it alone.
fn bare(value: &[u8]) -> &[u8] {
    let schemes: [&[u8]; 3] = [b"Bearer ", b"bearer ", b"Basic "];
    schemes.iter().find_map(|scheme| value.strip_prefix(*scheme)).unwrap_or(value)
}

/// What it gives, and when that expires.
fn given(printed: Printed) -> Result<(Given, Option<Timestamp>), String> {
    if printed.token.is_none() && printed.headers.is_empty() {
        return Err("gives neither a token nor a header".into());
    }
    if printed.headers.len() > MAX_HEADERS {
        return Err(format!("gives more than {MAX_HEADERS} headers"));
    }
    let token = match printed.token.map(Zeroizing::new) {
        None => None,
        Some(token) => {
            let visible = token.bytes().all(|b| b.is_ascii_graphic());
            if !visible || !(SHORTEST..=MAX_VALUE).contains(&token.len()) {
                return Err(format!(
                    "gives a token that is not {SHORTEST} to {MAX_VALUE} printable characters without spaces"
                ));
            }
            Secret::new(token.as_bytes().to_vec())
        }
    };
    let mut headers: Vec<(String, Secret)> = Vec::new();
    for (name, value) in printed.headers {
        let value = Zeroizing::new(value);
        let name = name.to_ascii_lowercase();
        let key = KEY_HEADERS.contains(&name.as_str());
        let owns = OWN_HEADERS.contains(&name.as_str()) && !key;
        let twice = headers.iter().any(|(other, _)| *other == name) || (key && token.is_some());
        if !is_header_name(&name) || owns || twice {
            return Err("names a header that it may not give, or gives one twice".into());
        }
        let visible = value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
        let ends = value.starts_with(' ') || value.ends_with(' ');
        if !visible || ends || value.len() > MAX_VALUE || bare(value.as_bytes()).len() < SHORTEST {
            return Err(format!(
                "gives a value of \"{name}\" that is no secret of {SHORTEST} to {MAX_VALUE} printable characters; what is no secret belongs into the record's headers"
            ));
        }
        headers.extend(Secret::new(value.as_bytes().to_vec()).map(|secret| (name, secret)));
    }
    let expires = printed.expires.map(|text| Timestamp::from_rfc3339(&text)).transpose();
    let expires = expires.map_err(|_| "gives a time of expiry that is none".to_owned())?;
    Ok((Given { token, headers, due: None, number: 1 }, expires))
}

impl Given {
    /// Every secret, with the name under which a find is reported.
    fn values(&self) -> Vec<(String, Secret)> {
        let token = self.token.iter().map(|token| ("account_token".to_owned(), token.clone()));
        let header = |(name, value): &(String, Secret)| {
            let secret = Secret::new(bare(value.expose()).to_vec())?;
            Some((format!("account_{}", name.replace('-', "_")), secret))
        };
        token.chain(self.headers.iter().filter_map(header)).collect()
    }
}

/// A program that is gone, with all that it started, when this is.
struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            // All gone already is what is wanted.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

type Bytes = Receiver<io::Result<Zeroizing<Vec<u8>>>>;

/// Reads a stream to its end, within bounds, on a thread of its own.
fn read(stream: impl Read + Send + 'static) -> Bytes {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        // The receiver is gone where the helper was given up.
        let _ = tell.send(files::bounded(stream, MAX_OUTPUT).map(Zeroizing::new));
    });
    told
}

fn taken(stream: Option<Bytes>, until: Instant) -> Option<io::Result<Zeroizing<Vec<u8>>>> {
    match stream?.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(bytes) => Some(bytes),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Err(io::Error::other("the reader ended"))),
    }
}

impl Account {
    /// Asks the helper for the first time.
    ///
    /// # Errors
    /// Each way in which it fails with a reason of its own ([`Reason::HelperMissing`], [`Reason::HelperTimedOut`],
    /// [`Reason::HelperFailed`], [`Reason::HelperMalformed`], [`Reason::HelperLeaked`], [`Reason::CredentialExpired`],
    /// [`Reason::KilledFromOutside`], [`Reason::DigestMismatch`], [`Reason::CredentialUnusable`]); never with what it printed.
    pub fn open(helper: Helper, now: &Timestamp) -> Result<Self> {
        let given = helper.ask(now)?;
        let state = State { given, failed: None, known: Vec::new() };
        Ok(Self { helper, state: Mutex::new(state), begun: (now.clone(), Instant::now()) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many times the helper gave something, and how it failed last where that was its last answer.
    pub fn asked(&self) -> (u32, Option<Unanswered>) {
        let state = self.state();
        (state.given.number, state.failed.as_ref().map(|(_, failed)| failed.clone()))
    }

    /// The moment, by the wall clock of the first answer.
    fn now(&self) -> Timestamp {
        let since = i64::try_from(self.begun.1.elapsed().as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_unix(self.begun.0.unix().saturating_add(since))
    }

    /// What holds now; asked for anew where it is about to expire. Where that fails, the server is to say whether what is
    /// there still holds. May take as long as the helper.
    pub(super) fn current(&self) -> Given {
        let held = self.held();
        if held.due.is_some_and(|due| due <= Instant::now()) {
            self.renew(held.number);
        }
        self.held()
    }

    /// What holds now, as it is.
    pub(super) fn held(&self) -> Given {
        self.state().given.clone()
    }

    /// Asks again, unless another request did since `number` was given. `false`: what is there is all there is.
    pub(super) fn renew(&self, number: u32) -> bool {
        // Held while the helper runs: who waits meanwhile gets what it gives.
        let mut state = self.state();
        if state.given.number != number {
            return true;
        }
        let lately = |(at, _): &(Instant, Unanswered)| at.elapsed() < PAUSE;
        if number > MOST_RENEWALS || state.failed.as_ref().is_some_and(lately) {
            return false;
        }
        match self.helper.ask(&self.now()) {
            Ok(given) => {
                let values = given.values();
                state.known.iter().for_each(|known| known.learn(&values));
                state.given = Given { number: number + 1, ..given };
                state.failed = None;
                true
            }
            Err(err) => {
                let found = err.found_value().map_or(String::new(), |found| format!(" ({found})"));
                let killed = err.reason() == Reason::KilledFromOutside;
                let why = format!("{err}{found}");
                state.failed = Some((Instant::now(), Unanswered { why, killed }));
                false
            }
        }
    }

    /// Has `known` look for whatever the helper gives from now on, too.
    pub fn teach(&self, known: &Known) {
        let mut state = self.state();
        known.learn(&state.given.values());
        state.known.push(known.clone());
    }

    /// All that it gave last, with the names under which a find is reported.
    pub fn secret_values(&self) -> Vec<(String, Secret)> {
        self.state().given.values()
    }
}
