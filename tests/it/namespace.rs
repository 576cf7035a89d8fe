//! A network namespace of a test's own: nothing in it but a loopback interface, which has the addresses that the test asks
//! for. Any user may make one; nothing of the machine's own network is touched or can be reached from it.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::processes::this_test;
use crate::util::var;

/// How far a test process has come: `made`, in a new namespace as its administrator; `inside`, as the user it was.
const STAGE: &str = "ADMIT_TEST_NAMESPACE";

/// Whether this is the test in its namespace, which goes on. `false` where it was run there, by this call, and passed.
///
/// `test` is its own whole name; `addresses` are `ADDRESS/BITS`.
pub fn entered(test: &str, addresses: &[&str]) -> bool {
    entered_with(test, addresses, &[])
}

/// As [`entered`], with variables for the test that is inside.
pub fn entered_with(test: &str, addresses: &[&str], carried: &[(&str, &str)]) -> bool {
    let user = rustix::process::geteuid();
    let this = |command: &mut Command, stage: &str| {
        let inside = this_test(test);
        command.arg(inside.get_program()).args(inside.get_args()).env(STAGE, stage);
        command.envs(carried.iter().copied());
    };
    let mut command = Command::new("unshare");
    match var(STAGE).as_deref() {
        Some("inside") => return true,
        // Root needs no user namespace, and is in the new one what it was.
        Some("made root") => {
            set_up(addresses);
            return true;
        }
        // The same user inside as outside, once the addresses are there.
        Some(made) => {
            set_up(addresses);
            let ids = made.trim_start_matches("made ").split_once(' ').unwrap();
            command.args(["--user", "--map-user", ids.0, "--map-group", ids.1]);
            this(&mut command, "inside");
            panic!("unshare of util-linux: {}", command.exec());
        }
        None if user.is_root() => {
            command.arg("--net");
            this(&mut command, "made root");
        }
        None => {
            command.args(["--user", "--map-root-user", "--net"]);
            let group = rustix::process::getegid();
            this(&mut command, &format!("made {} {}", user.as_raw(), group.as_raw()));
        }
    }
    let output = command.output().expect("unshare of util-linux");
    let words = String::from_utf8_lossy(&output.stdout);
    let more = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.contains("1 passed"), "{words}\n{more}");
    false
}

/// What takes a netlink request (rtnetlink(7)).
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
/// The loopback interface is the first of every namespace.
const LOOPBACK: u32 = 1;

/// Brings the loopback interface of this namespace up, with these addresses.
fn set_up(addresses: &[&str]) {
    let up = [0u32, LOOPBACK, 1, 1].map(u32::to_ne_bytes).concat();
    ask(NEW_LINK, 0, &up);
    for address in addresses {
        let (address, bits) = address.split_once('/').unwrap();
        let (family, bytes) = match address.parse().unwrap() {
            IpAddr::V4(v4) => (AddressFamily::INET, v4.octets().to_vec()),
            IpAddr::V6(v6) => (AddressFamily::INET6, v6.octets().to_vec()),
        };
        let mut body = vec![u8::try_from(family.as_raw()).unwrap(), bits.parse().unwrap(), 0, 0];
        body.extend(LOOPBACK.to_ne_bytes());
        // The address, and the local one, which on such an interface are the same.
        for kind in [1u16, 2] {
            let length = u16::try_from(4 + bytes.len()).unwrap();
            body.extend([length, kind].map(u16::to_ne_bytes).concat());
            body.extend(&bytes);
        }
        // Made, and not there before.
        ask(NEW_ADDRESS, 0x600, &body);
    }
}

/// One request to the kernel, which says that it was done.
fn ask(kind: u16, flags: u16, body: &[u8]) {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let length = u32::try_from(16 + body.len()).unwrap();
    let mut message = length.to_ne_bytes().to_vec();
    // A request that asks for an answer.
    message.extend([kind, flags | 1 | 4].map(u16::to_ne_bytes).concat());
    message.extend([1u32, 0].map(u32::to_ne_bytes).concat());
    message.extend(body);
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &kernel).unwrap();
    let mut answer = [0; 1024];
    rustix::net::recv(&socket, &mut answer, RecvFlags::empty()).unwrap();
    // An error of this number; 0 is none.
    assert_eq!(answer[4..6], 2u16.to_ne_bytes(), "an answer of another kind");
    let error = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
    assert_eq!(error, 0, "{}", io::Error::from_raw_os_error(-error));
}

/// Leads whoever connects to `at` to the server at `to`. Gives the address, whose port may have been left open.
pub fn lead(at: &str, to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(at).unwrap();
    let bound = listener.local_addr().unwrap();
    let copy = |mut from: TcpStream, mut to: TcpStream| {
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    };
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(to) else { continue };
            copy(client.try_clone().unwrap(), server.try_clone().unwrap());
            copy(server, client);
        }
    });
    bound
}

#[test]
fn an_address_is_there_in_the_namespace_and_nowhere_else() {
    let at = ["100.64.255.1:0", "[fd00:ad:1::1]:0"];
    let test = "namespace::an_address_is_there_in_the_namespace_and_nowhere_else";
    let id = rustix::process::geteuid().as_raw();
    if !entered(test, &["100.64.255.1/10", "fd00:ad:1::1/64"]) {
        assert!(at.iter().all(|at| TcpListener::bind(at).is_err()));
        return;
    }
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = server.local_addr().unwrap();
    lead("100.64.255.1:8000", to);
    let mut client = TcpStream::connect("100.64.255.1:8000").unwrap();
    io::Write::write_all(&mut client, b"hello").unwrap();
    let mut heard = [0; 5];
    io::Read::read_exact(&mut server.accept().unwrap().0, &mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    assert!(at.iter().all(|at| TcpListener::bind(at).is_ok()));
    assert_eq!(rustix::process::geteuid().as_raw(), id);
}
