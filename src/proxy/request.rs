//! One request as it comes over a connection, up to its head and up to the end of its body.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::http1::{Body, MAX_HEAD, Refusal, head_end};
use crate::record::wire::RequestRefusal;

/// Reads into `buf` until a whole head is there, and gives where it ends.
pub(super) async fn read_head(
    client: &mut (impl AsyncRead + Unpin),
    buf: &mut Vec<u8>,
) -> Result<usize, Refusal> {
    let too_long = || Err((RequestRefusal::TooLarge, "the head is longer than allowed".into()));
    let mut looked_at = 0;
    loop {
        match head_end(&buf[looked_at..]).map(|end| looked_at + end) {
            Some(end) if end > MAX_HEAD => return too_long(),
            Some(end) => return Ok(end),
            None if buf.len() > MAX_HEAD => return too_long(),
            None => {
                // The end may have begun in what is here.
                looked_at = buf.len().saturating_sub(3);
                more(client, buf).await?;
            }
        }
    }
}

/// Reads the body that begins with `raw`, at most `max` bytes of it. `take` is told of all that comes, and may refuse it.
pub(super) async fn read_body(
    client: &mut (impl AsyncRead + Unpin),
    mut raw: Vec<u8>,
    mut framing: Body,
    max: u64,
    mut take: impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Vec<u8>, Refusal> {
    let too_long = || Err((RequestRefusal::TooLarge, "the body is longer than allowed".into()));
    if matches!(framing, Body::Length(n) if n > max) {
        return too_long();
    }
    let mut out = Vec::new();
    loop {
        take(raw.len())?;
        framing.feed(&raw, &mut out).map_err(|what| (RequestRefusal::AmbiguousFraming, what))?;
        if out.len() as u64 > max {
            return too_long();
        }
        if framing.is_whole(false) {
            return Ok(out);
        }
        raw.clear();
        more(client, &mut raw).await?;
    }
}

async fn more(client: &mut (impl AsyncRead + Unpin), buf: &mut Vec<u8>) -> Result<(), Refusal> {
    match client.read_buf(buf).await {
        Ok(n) if n > 0 => Ok(()),
        _ => Err((RequestRefusal::BadHttp, "the request ends before it is whole".into())),
    }
}
