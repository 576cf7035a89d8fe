//! Server-sent events, decoded incrementally (WHATWG HTML, section "Server-sent events").

/// Longest event in bytes, and longest line. A whole answer in one event stays far below; a server that never ends
/// a line must not fill memory.
pub(super) const MAX_EVENT: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The last `event` field, empty where there is none.
    pub name: &'a [u8],
    pub data: &'a [u8],
}

#[derive(Default)]
pub struct SseDecoder {
    line: Vec<u8>,
    name: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    /// The last byte was CR: an LF that follows belongs to it.
    after_cr: bool,
    started: bool,
    overflow: bool,
}

impl SseDecoder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and calls `event` with each event that became complete. Lines may end in LF, CR or both; the
    /// `data` lines of one event are joined by LF; comments and other fields are left out.
    pub fn feed(&mut self, bytes: &[u8], mut event: impl FnMut(Event<'_>)) {
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

    fn end_line(&mut self, event: &mut impl FnMut(Event<'_>)) {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.started, true) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            if std::mem::take(&mut self.has_data) {
                event(Event { name: &name, data: &std::mem::take(&mut self.data) });
            }
        } else if let Some(value) = field(&line, b"event") {
            self.name = value.to_vec();
        } else if let Some(value) = field(&line, b"data") {
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
            self.end_line(&mut |_: Event<'_>| {});
        }
        self.has_data.then_some(self.data)
    }

    /// Whether nothing of an unfinished event or line is kept.
    pub fn at_boundary(&self) -> bool {
        self.line.is_empty() && !self.has_data && self.name.is_empty()
    }

    /// A line or event was longer than this decoder takes; what it gave is not the whole stream.
    pub fn overflowed(&self) -> bool {
        self.overflow
    }

    /// Bytes of what is no whole event yet.
    pub fn kept(&self) -> usize {
        self.line.len() + self.name.len() + self.data.len()
    }
}

/// The value of the field `name`; one space after the colon is not part of it.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    match rest {
        [] => Some(b""),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}
