//! Git's smart HTTP protocol, as far as fetching one commit needs it: version 2, and version 0 for servers without it.
//!
//! Why no crate: libgit2's transport cannot be given this program's proxies, CA files and deadlines without `unsafe` code,
//! and flattens every fault to a string. The protocol is small (git's `protocol-v2` and `gitprotocol-pack` documents).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::dir::PACK;
use super::id::Oid;
use super::pktline::{Demux, Lines, line};
use crate::download::client::{Client, HttpRequest};
use crate::error::{Error, Reason, Result};
use crate::host::Progress;
use crate::record::ids::CommitId;

/// Largest pack taken, in bytes.
const PACK_BYTES: u64 = 2 << 30;
/// Largest list of references taken, in bytes and commits; the largest known repositories have some 50 MB.
const REFS_BYTES: u64 = 64 << 20;
const TIPS: usize = 400_000;
const AGENT: &str = concat!("agent=admit/", env!("CARGO_PKG_VERSION"));

#[derive(Clone, Copy, Debug)]
pub enum Want<'a> {
    /// One commit with its tree, alone where the server allows it.
    Commit(&'a CommitId),
    Everything,
}

/// Fetches from the repository at `url` (`http(s)://`) into a pack below `scratch`, and gives its path. Whether it is whole
/// and the commit is in it is for the caller to see.
///
/// # Errors
/// Those of [`Client::fetch`]; [`Reason::RevNotInRemote`] where the server says so; [`Reason::Truncated`] for a pack
/// that is cut off; [`Reason::Unreachable`] where the address is not a git repository.
pub fn fetch(
    client: &Client,
    url: &str,
    want: Want<'_>,
    scratch: &Path,
    progress: &dyn Progress,
) -> Result<PathBuf> {
    let url = url.trim_end_matches('/');
    let service = format!("{url}/git-upload-pack");
    let remote = Remote { client, url, service, pack: scratch.join(PACK), progress };
    let server = remote.discover()?;
    match (want, server.version2) {
        (Want::Commit(rev), true) => {
            let done = remote.fetch2(&server, &[rev.as_str().to_owned()], true);
            match done {
                // Git's own server hands out any object it has in version 2, so its no is final; others may only
                // give what a reference reaches.
                Err(err) if err.reason() == Reason::RevNotInRemote && !server.is_git() => {
                    remote.everything(&server)
                }
                other => other,
            }
        }
        (Want::Commit(rev), false) if server.gives(rev) => {
            remote.fetch0(&server, &[rev.as_str().to_owned()], true)
        }
        _ => remote.everything(&server),
    }
}

/// The commit that the repository at `url` offers first: the tip of its default branch.
///
/// # Errors
/// Those of [`Client::fetch`]; [`Reason::RevNotInRemote`] where it has none.
pub fn head(client: &Client, url: &str, progress: &dyn Progress) -> Result<CommitId> {
    let url = url.trim_end_matches('/');
    let service = format!("{url}/git-upload-pack");
    let remote = Remote { client, url, service, pack: PathBuf::new(), progress };
    let server = remote.discover()?;
    // Both versions name HEAD before every branch.
    let first = match server.version2 {
        true => remote.list(&server, &["HEAD"])?.into_iter().next(),
        false => server.tips.first().cloned(),
    };
    first
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| Error::new(Reason::RevNotInRemote, "the remote has no commits").at(url))
}

#[derive(Debug, Default)]
struct Server {
    version2: bool,
    capabilities: Vec<String>,
    /// Version 0 only: the ids that references point at.
    tips: Vec<String>,
}

impl Server {
    fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|c| c == capability)
    }

    fn is_git(&self) -> bool {
        self.capabilities.iter().any(|c| c.starts_with("agent=git/"))
    }

    /// Version 2: a feature of the `fetch` command.
    fn can_shallow(&self) -> bool {
        let fetch = self.capabilities.iter().find_map(|c| c.strip_prefix("fetch="));
        self.can("shallow") || fetch.is_some_and(|f| f.split(' ').any(|f| f == "shallow"))
    }

    /// Version 0: whether this commit may be asked for by its id.
    fn gives(&self, rev: &CommitId) -> bool {
        self.can("allow-reachable-sha1-in-want") || self.tips.iter().any(|t| t == rev.as_str())
    }
}

struct Remote<'a> {
    client: &'a Client,
    url: &'a str,
    service: String,
    pack: PathBuf,
    progress: &'a dyn Progress,
}

impl Remote<'_> {
    fn discover(&self) -> Result<Server> {
        let url = format!("{}/info/refs?service=git-upload-pack", self.url);
        let mut request = HttpRequest::get(&url, REFS_BYTES).told(self.progress);
        request.headers = vec![("git-protocol", "version=2".into())];
        let body = self.client.fetch_bytes(&request)?;
        let mut server = Server::default();
        let mut lines = Lines(&body);
        let mut first = lines.data(self.url)?;
        if first == Some(b"# service=git-upload-pack") {
            // A flush ends the announcement; what follows is the answer proper.
            lines.data(self.url)?;
            first = lines.data(self.url)?;
        }
        let Some(first) = first else { return Ok(server) };
        if first == b"version 2" {
            server.version2 = true;
            while let Some(line) = lines.data(self.url)? {
                server.capabilities.push(String::from_utf8_lossy(line).into_owned());
            }
            let format = server.capabilities.iter().find_map(|c| c.strip_prefix("object-format="));
            if format.is_some_and(|f| f != "sha1") {
                return Err(self.not_git("only repositories with SHA-1 object names are supported"));
            }
            return Ok(server);
        }
        let (mut next, mut seen) = (Some(first), HashSet::new());
        while let Some(line) = next {
            let mut parts = line.splitn(2, |b| *b == 0);
            let id =
                parts.next().and_then(|l| l.get(..40)).and_then(|id| std::str::from_utf8(id).ok());
            let id = id.filter(|id| id.parse::<CommitId>().is_ok());
            let id = id.ok_or_else(|| self.not_git("not the answer of a git server"))?;
            if let Some(capabilities) = parts.next() {
                let text = String::from_utf8_lossy(capabilities).into_owned();
                server.capabilities = text.split_whitespace().map(str::to_owned).collect();
            }
            // An empty repository answers with zeros.
            if id.bytes().any(|b| b != b'0') && seen.insert(Oid::parse(id)?) {
                server.tips.push(id.to_owned());
                self.few(&server.tips)?;
            }
            next = lines.data(self.url)?;
        }
        Ok(server)
    }

    fn everything(&self, server: &Server) -> Result<PathBuf> {
        if server.version2 {
            let tips = self.list_refs(server)?;
            return self.fetch2(server, &tips, false);
        }
        self.fetch0(server, &server.tips, false)
    }

    /// Version 2, command `ls-refs`: the ids that branches and tags point at.
    fn list_refs(&self, server: &Server) -> Result<Vec<String>> {
        self.list(server, &["HEAD", "refs/heads/", "refs/tags/"])
    }

    fn list(&self, server: &Server, prefixes: &[&str]) -> Result<Vec<String>> {
        let mut body = command("ls-refs", server);
        for prefix in prefixes {
            body.extend(line(&format!("ref-prefix {prefix}")));
        }
        body.extend(b"0000");
        let answer = self.client.fetch_bytes(&self.post(body, REFS_BYTES, true))?;
        let (mut tips, mut seen) = (Vec::new(), HashSet::new());
        let mut lines = Lines(&answer);
        while let Some(line) = lines.data(self.url)? {
            let text = String::from_utf8_lossy(line);
            let id = text.split(' ').next().unwrap_or_default();
            if id.parse::<CommitId>().is_ok() && seen.insert(Oid::parse(id)?) {
                tips.push(id.to_owned());
                self.few(&tips)?;
            }
        }
        Ok(tips)
    }

    fn fetch2(&self, server: &Server, wants: &[String], alone: bool) -> Result<PathBuf> {
        let mut body = command("fetch", server);
        body.extend(line("ofs-delta"));
        body.extend(line("no-progress"));
        if alone && server.can_shallow() {
            body.extend(line("deepen 1"));
        }
        for want in wants {
            body.extend(line(&format!("want {want}")));
        }
        body.extend(line("done"));
        body.extend(b"0000");
        self.receive(body, wants, true)
    }

    fn fetch0(&self, server: &Server, wants: &[String], alone: bool) -> Result<PathBuf> {
        if !server.can("side-band-64k") {
            return Err(self.not_git("a git server older than side-band-64k (2006)"));
        }
        let mut options = vec!["side-band-64k", "no-progress"];
        if server.can("ofs-delta") {
            options.push("ofs-delta");
        }
        let mut body = Vec::new();
        for (i, want) in wants.iter().enumerate() {
            let tail =
                if i == 0 { format!(" {} {AGENT}", options.join(" ")) } else { String::new() };
            body.extend(line(&format!("want {want}{tail}")));
        }
        if alone && server.can("shallow") {
            body.extend(line("deepen 1"));
        }
        body.extend(b"0000");
        body.extend(line("done"));
        self.receive(body, wants, false)
    }

    fn receive(&self, body: Vec<u8>, wants: &[String], version2: bool) -> Result<PathBuf> {
        let [first, ..] = wants else {
            return Err(
                Error::new(Reason::RevNotInRemote, "the remote has no commits").at(self.url)
            );
        };
        let open = || {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(true);
            let file = options.open(&self.pack);
            let file = file.map_err(|err| Error::io("create", &self.pack, err))?;
            Ok(PackSink { demux: Demux::new(version2), pack: BufWriter::new(file) })
        };
        let request = self.post(body, PACK_BYTES, version2);
        let on_bytes = |done, total| self.progress.bytes(done, total);
        let sink = self.client.fetch(&request, open, &on_bytes).map_err(|err| {
            if err.reason() == Reason::RevNotInRemote {
                err.at(self.url).expected(first.clone())
            } else {
                err
            }
        })?;
        if !sink.demux.complete() {
            return Err(Error::new(Reason::Truncated, "the pack ended early").at(self.url));
        }
        let file = sink.pack.into_inner();
        file.map_err(|err| Error::io("write", &self.pack, err.into_error()))?;
        Ok(self.pack.clone())
    }

    fn few(&self, tips: &[String]) -> Result<()> {
        if tips.len() <= TIPS {
            return Ok(());
        }
        Err(Error::new(Reason::LimitHit, "the remote has more branches and tags than admit reads")
            .at(self.url)
            .expected(format!("at most {TIPS}")))
    }

    fn post(&self, body: Vec<u8>, max_bytes: u64, version2: bool) -> HttpRequest<'_> {
        let mut headers = vec![
            ("content-type", "application/x-git-upload-pack-request".to_owned()),
            ("accept", "application/x-git-upload-pack-result".to_owned()),
        ];
        if version2 {
            headers.push(("git-protocol", "version=2".to_owned()));
        }
        HttpRequest {
            post: Some(body),
            headers,
            ..HttpRequest::get(&self.service, max_bytes).told(self.progress)
        }
    }

    fn not_git(&self, what: &str) -> Error {
        Error::new(Reason::Unreachable, what).at(self.url)
    }
}

fn command(name: &str, server: &Server) -> Vec<u8> {
    let mut body = line(&format!("command={name}"));
    body.extend(line(AGENT));
    if server.can("object-format=sha1") {
        body.extend(line("object-format=sha1"));
    }
    body.extend(b"0001");
    body
}

struct PackSink {
    demux: Demux,
    pack: BufWriter<File>,
}

impl Write for PackSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.demux.push(bytes, &mut self.pack).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pack.flush()
    }
}
