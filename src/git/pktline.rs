//! Git's pkt-lines: four hex digits of length, then the bytes; and the side bands that carry a pack.

use std::io::Write;

use crate::error::{Error, Reason, Result};

/// One pkt-line with a line break.
pub(crate) fn line(text: &str) -> Vec<u8> {
    format!("{:04x}{text}\n", text.len() + 5).into_bytes()
}

enum Packet {
    /// `0000`, `0001`, `0002`: an end of some kind.
    Mark,
    Data(usize),
}

fn packet(head: &[u8]) -> Option<Packet> {
    let text =
        std::str::from_utf8(head).ok().filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()))?;
    match usize::from_str_radix(text, 16).ok()? {
        0..=2 => Some(Packet::Mark),
        3 => None,
        len => Some(Packet::Data(len - 4)),
    }
}

/// The pkt-lines of a small answer that is wholly here.
pub(crate) struct Lines<'a>(pub(super) &'a [u8]);

impl<'a> Lines<'a> {
    /// The next line without its line break; `None` for a mark or the end.
    pub(crate) fn data(&mut self, place: &str) -> Result<Option<&'a [u8]>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let broken = || {
            Error::new(Reason::Unreachable, "not the answer of a git server").at(place.to_owned())
        };
        let (head, rest) = self.0.split_at_checked(4).ok_or_else(broken)?;
        match packet(head).ok_or_else(broken)? {
            Packet::Mark => {
                self.0 = rest;
                Ok(None)
            }
            Packet::Data(len) => {
                let (data, rest) = rest.split_at_checked(len).ok_or_else(broken)?;
                self.0 = rest;
                if let Some(message) = data.strip_prefix(b"ERR ") {
                    return Err(said_no(message).at(place.to_owned()));
                }
                Ok(Some(data.strip_suffix(b"\n").unwrap_or(data)))
            }
        }
    }
}

fn said_no(message: &[u8]) -> Error {
    let text = String::from_utf8_lossy(message).trim().chars().take(300).collect::<String>();
    let missing =
        text.contains("not our ref") || text.contains("no such") || text.contains("unadvertised");
    let (reason, what) = if missing {
        (Reason::RevNotInRemote, "the commit is not in the remote")
    } else {
        (Reason::Unreachable, "the git server refused")
    };
    Error::new(reason, what).found(text.escape_debug().to_string())
}

/// Takes an answer to `fetch` apart while it streams: protocol lines first, then the pack in side band 1.
pub(crate) struct Demux {
    version2: bool,
    /// Bytes of a packet that is not whole yet; at most 64 KiB, as the length has four hex digits.
    held: Vec<u8>,
    in_pack: bool,
    ended: bool,
}

impl Demux {
    pub(crate) fn new(version2: bool) -> Self {
        Self { version2, held: Vec::new(), in_pack: false, ended: false }
    }

    pub(crate) fn complete(&self) -> bool {
        self.in_pack && self.ended && self.held.is_empty()
    }

    pub(crate) fn push(&mut self, mut bytes: &[u8], pack: &mut dyn Write) -> Result<()> {
        let broken = || Error::new(Reason::Unreachable, "not the answer of a git server");
        loop {
            let need = match self.held.get(..4) {
                None => 4,
                Some(head) => match packet(head).ok_or_else(broken)? {
                    Packet::Mark => {
                        self.held.clear();
                        self.ended = self.in_pack;
                        continue;
                    }
                    Packet::Data(len) if self.held.len() == len + 4 => {
                        let whole = std::mem::take(&mut self.held);
                        self.line(&whole[4..], pack)?;
                        self.held = whole;
                        self.held.clear();
                        continue;
                    }
                    Packet::Data(len) => len + 4,
                },
            };
            if bytes.is_empty() {
                return Ok(());
            }
            if self.ended {
                return Err(broken());
            }
            let take = bytes.len().min(need - self.held.len());
            self.held.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
        }
    }

    fn line(&mut self, data: &[u8], pack: &mut dyn Write) -> Result<()> {
        if let Some(message) = data.strip_prefix(b"ERR ") {
            return Err(said_no(message));
        }
        if self.in_pack {
            return match data.split_first() {
                Some((1, data)) => {
                    pack.write_all(data).map_err(|err| Error::io("write", "the pack", err))
                }
                Some((2, _)) => Ok(()),
                Some((3, message)) => Err(said_no(message)),
                _ => Err(Error::new(Reason::Unreachable, "not the answer of a git server")),
            };
        }
        // Version 2 announces the section; version 0 starts the pack after NAK. What comes before names shallow
        // commits, which the caller knows to be all there is.
        let data = data.strip_suffix(b"\n").unwrap_or(data);
        self.in_pack = if self.version2 { data == b"packfile" } else { data == b"NAK" };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet_of(data: &[u8]) -> Vec<u8> {
        [format!("{:04x}", data.len() + 4).as_bytes(), data].concat()
    }

    fn version2(bands: &[&[u8]]) -> Vec<u8> {
        let mut out = [line("shallow-info"), line("shallow 00"), b"0001".to_vec()].concat();
        out.extend(line("packfile"));
        for band in bands {
            out.extend(packet_of(band));
        }
        out.extend(b"0000");
        out
    }

    #[test]
    fn the_pack_comes_out_whatever_the_pieces() {
        let stream = version2(&[b"\x01PACK", b"\x02counting", b"\x01rest"]);
        for size in 1..stream.len() {
            let (mut demux, mut pack) = (Demux::new(true), Vec::new());
            for piece in stream.chunks(size) {
                demux.push(piece, &mut pack).unwrap();
            }
            assert!(demux.complete(), "pieces of {size}");
            assert_eq!(pack, b"PACKrest");
        }
    }

    #[test]
    fn an_end_before_the_end_is_not_complete() {
        let stream = version2(&[b"\x01PACK"]);
        for len in 0..stream.len() {
            let (mut demux, mut pack) = (Demux::new(true), Vec::new());
            demux.push(&stream[..len], &mut pack).unwrap();
            assert!(!demux.complete(), "cut at {len}");
        }
    }

    #[test]
    fn what_the_server_refuses_has_a_reason() {
        let reason = |stream: &[u8]| {
            let err = Demux::new(true).push(stream, &mut Vec::new()).unwrap_err();
            err.reason()
        };
        assert_eq!(reason(&packet_of(b"ERR upload-pack: not our ref 00")), Reason::RevNotInRemote);
        assert_eq!(reason(&version2(&[b"\x03out of memory"])), Reason::Unreachable);
        assert_eq!(reason(b"<html>"), Reason::Unreachable);
        assert_eq!(reason(b"0003"), Reason::Unreachable);
        let after = [version2(&[]), b"0000".to_vec()].concat();
        assert_eq!(reason(&after), Reason::Unreachable);
    }
}
