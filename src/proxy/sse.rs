//! Server-sent events, decoded incrementally (WHATWG HTML, section "Server-sent events").

/// Longest event in bytes, and longest line. A whole answer in one event stays far below; a server that never ends
/// a line must not fill memory.
pub(super) const MAX_EVENT: usize = 4 << 20;

/// Splits a stream of bytes into the data of its events.
#[derive(Default)]
pub struct SseDecoder {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    started: bool,
    overflow: bool,
}

impl SseDecoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and calls `event` with the data of each event that became complete. Lines may end in LF,
    /// CR or both; the `data` lines of one event are joined by LF; comments and other fields are left out.
    pub fn feed(&mut self, bytes: &[u8], mut event: impl FnMut(&[u8])) {
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => self.end_line(&mut event),
                _ if self.line.len() >= MAX_EVENT => self.overflow = true,
                _ => self.line.push(byte),
            }
        }
    }

    fn end_line(&mut self, event: &mut impl FnMut(&[u8])) {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.started, true) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                event(&std::mem::take(&mut self.data));
            }
        } else if let Some(value) = data_of(&line) {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            if self.data.len() + value.len() > MAX_EVENT {
                self.overflow = true;
            } else {
                self.data.extend_from_slice(value);
            }
        }
        line.clear();
        self.line = line;
    }

    /// Ends the stream and gives the data of an event that was not finished by a blank line or even a line end.
    pub fn finish(mut self) -> Option<Vec<u8>> {
        if !self.line.is_empty() {
            self.end_line(&mut |_: &[u8]| {});
        }
        self.has_data.then_some(self.data)
    }

    /// Whether nothing of an unfinished event or line is kept.
    pub fn at_boundary(&self) -> bool {
        self.line.is_empty() && !self.has_data
    }

    /// A line or event was longer than this decoder takes; what it gave is not the whole stream.
    pub fn overflowed(&self) -> bool {
        self.overflow
    }
}

/// The value of a `data` field; one space after the colon is not part of it.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    if line == b"data" {
        return Some(b"");
    }
    let value = line.strip_prefix(b"data:")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}
