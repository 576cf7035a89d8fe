//! What the sandbox's programs ask a resolver for. There is none: every name is answered as one that does not exist, and
//! stands in the record, since it says whom a program would have called.

use std::net::UdpSocket;

use super::state::Shared;

/// Most names that are kept. An agent that asks for more is known well enough.
const MOST_NAMES: usize = 32;

/// Answers what comes on this socket, for ever.
pub(super) async fn serve(socket: Option<UdpSocket>, shared: &Shared) {
    let socket = socket.and_then(|socket| {
        socket.set_nonblocking(true).ok()?;
        tokio::net::UdpSocket::from_std(socket).ok()
    });
    let Some(socket) = socket else { return std::future::pending().await };
    // A question is never longer (RFC 1035, section 4.2.1); the rest of one that is, is cut off.
    let mut message = [0; 512];
    loop {
        // An error here is that of an earlier reply, whose receiver is gone.
        let Ok((length, from)) = socket.recv_from(&mut message).await else { continue };
        let Some((name, reply)) = no_such_name(&message[..length]) else { continue };
        let kept = &mut shared.state().record.hosts_asked;
        if !kept.contains(&name) && kept.len() < MOST_NAMES {
            kept.push(name);
        }
        let _ = socket.try_send_to(&reply, from);
    }
}

/// The name that a question of RFC 1035 is about, in lower case, and the answer that there is none of that name.
fn no_such_name(question: &[u8]) -> Option<(String, Vec<u8>)> {
    let [_, _, flags, _, 0, 1, ..] = question else { return None };
    if flags & 0x80 != 0 {
        return None;
    }
    let (mut name, mut at) = (String::new(), 12);
    loop {
        let length = usize::from(*question.get(at)?);
        // A longer one would be a pointer, which no question needs.
        if length > 63 {
            return None;
        }
        at += 1;
        if length == 0 {
            break;
        }
        let label = question.get(at..at + length)?.to_ascii_lowercase();
        at += length;
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&label.escape_ascii().to_string());
    }
    // Its type and its class follow.
    let mut reply = question.get(..at + 4)?.to_vec();
    reply[2] = 0x80 | (flags & 0x79);
    // Recursion is there, and the name is not.
    reply[3] = 0x83;
    reply[6..12].fill(0);
    Some((name, reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &[&[u8]]) -> Vec<u8> {
        let mut out = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01".to_vec();
        for label in name {
            out.push(u8::try_from(label.len()).unwrap());
            out.extend_from_slice(label);
        }
        out.extend_from_slice(b"\0\0\x1c\0\x01more");
        out
    }

    #[test]
    fn a_name_is_read_and_answered_as_one_that_does_not_exist() {
        let asked = question(&[b"Home", b"example"]);
        let (name, reply) = no_such_name(&asked).unwrap();
        assert_eq!(name, "home.example");
        let head = b"\x12\x34\x81\x83\0\x01\0\0\0\0\0\0";
        assert_eq!(reply, [&head[..], &asked[12..asked.len() - 4]].concat());
        // What is no letter is shown as what it is.
        assert_eq!(no_such_name(&question(&[b"a\n.b", b"c"])).unwrap().0, "a\\n.b.c");
        assert_eq!(no_such_name(&question(&[])).unwrap().0, "");
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        let good = question(&[b"home", b"example"]);
        for end in 0..good.len() - 4 {
            assert!(no_such_name(&good[..end]).is_none(), "{end}");
        }
        for (at, byte) in [(2, 0x81), (5, 2), (5, 0), (4, 1), (12, 0xc0), (12, 64)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(no_such_name(&bad).is_none(), "{at}");
        }
    }
}
