//! The system call filter, as classic BPF: a list of denials, since what a JavaScript runtime, Python and
//! git need is too wide to list.
//!
//! The errno is part of the design. Calls that programs merely try and can do without answer ENOSYS, as on a kernel
//! without them; attempts at a wall answer EPERM. x32 numbers answer EPERM although a kernel without x32 would say
//! ENOSYS: so a probe can tell the filter from the kernel.
//!
//! Made by hand, because `seccompiler` gives every call of a filter that matches one and the same action, and has no answer
//! of its own for x32 numbers.

use libc::{sock_filter, socklen_t};

use super::policy::{Policy, Protection};

#[derive(Debug, Clone, Copy)]
pub struct Denied {
    pub name: &'static str,
    pub number: libc::c_long,
    pub errno: i32,
}

macro_rules! denied {
    ($($errno:ident: $($name:ident = $number:expr,)+;)+) => {
        &[$($(Denied { name: stringify!($name), number: $number, errno: libc::$errno },)+)+]
    };
}

/// Denied whatever their arguments are.
pub const DENIED: &[Denied] = denied! {
    EPERM:
        mount = libc::SYS_mount,
        umount2 = libc::SYS_umount2,
        pivot_root = libc::SYS_pivot_root,
        chroot = libc::SYS_chroot,
        open_tree = libc::SYS_open_tree,
        move_mount = libc::SYS_move_mount,
        fsopen = libc::SYS_fsopen,
        fsconfig = libc::SYS_fsconfig,
        fsmount = libc::SYS_fsmount,
        fspick = libc::SYS_fspick,
        mount_setattr = libc::SYS_mount_setattr,
        unshare = libc::SYS_unshare,
        setns = libc::SYS_setns,
        ptrace = libc::SYS_ptrace,
    ;
    ENOSYS:
        // Its flags are behind a pointer, which BPF cannot follow; libc falls back to clone.
        clone3 = libc::SYS_clone3,
        process_vm_readv = libc::SYS_process_vm_readv,
        process_vm_writev = libc::SYS_process_vm_writev,
        process_madvise = libc::SYS_process_madvise,
        pidfd_getfd = libc::SYS_pidfd_getfd,
        kcmp = libc::SYS_kcmp,
        bpf = libc::SYS_bpf,
        perf_event_open = libc::SYS_perf_event_open,
        userfaultfd = libc::SYS_userfaultfd,
        keyctl = libc::SYS_keyctl,
        add_key = libc::SYS_add_key,
        request_key = libc::SYS_request_key,
        io_uring_setup = libc::SYS_io_uring_setup,
        io_uring_enter = libc::SYS_io_uring_enter,
        io_uring_register = libc::SYS_io_uring_register,
        open_by_handle_at = libc::SYS_open_by_handle_at,
        name_to_handle_at = libc::SYS_name_to_handle_at,
        fanotify_init = libc::SYS_fanotify_init,
        init_module = libc::SYS_init_module,
        finit_module = libc::SYS_finit_module,
        delete_module = libc::SYS_delete_module,
        kexec_load = libc::SYS_kexec_load,
        reboot = libc::SYS_reboot,
        swapon = libc::SYS_swapon,
        swapoff = libc::SYS_swapoff,
        acct = libc::SYS_acct,
        quotactl = libc::SYS_quotactl,
        syslog = libc::SYS_syslog,
        vhangup = libc::SYS_vhangup,
        settimeofday = libc::SYS_settimeofday,
        clock_settime = libc::SYS_clock_settime,
        setdomainname = libc::SYS_setdomainname,
        // Numbers that are the same on every architecture since Linux 5.1; libc does not name them all.
        quotactl_fd = 443,
        memfd_secret = 447,
        statmount = 457,
        listmount = 458,
        open_tree_attr = 467,
    ;
};

/// Namespace flags of `clone`: every `CLONE_NEW*`.
pub const NEW_NAMESPACES: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;

/// Terminal requests that put input into a terminal or take it over.
const DENIED_IOCTLS: [u32; 2] = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];

/// The audit constant of this architecture (`linux/audit.h`: machine number, 64-bit, little-endian).
#[cfg(target_arch = "x86_64")]
pub const ARCH: u32 = 0xc000_003e;
/// The audit constant of this architecture.
#[cfg(target_arch = "aarch64")]
pub const ARCH: u32 = 0xc000_00b7;

/// First x32 call number; only x86-64 has them.
pub const X32: u32 = 0x4000_0000;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Offsets in `struct seccomp_data` (seccomp(2)): number, architecture, and the low half of argument `n`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

/// A test that goes on with the next instruction when true, else skips `skip`.
fn unless(code: u16, k: u32, skip: u8) -> sock_filter {
    sock_filter { code, jt: 0, jf: skip, k }
}

fn answer(errno: i32) -> sock_filter {
    op(RETURN, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned())
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

pub fn program(policy: &Policy) -> Vec<sock_filter> {
    let allow = op(RETURN, libc::SECCOMP_RET_ALLOW);
    let mut out = vec![
        op(LOAD, ARCHITECTURE),
        // A call made through another architecture's entry has other numbers; nothing honest does that here.
        sock_filter { code: EQUAL, jt: 1, jf: 0, k: ARCH },
        op(RETURN, libc::SECCOMP_RET_KILL_PROCESS),
        op(LOAD, NUMBER),
    ];
    if cfg!(target_arch = "x86_64") && policy.has(Protection::X32) {
        out.extend([unless(AT_LEAST, X32, 1), answer(libc::EPERM)]);
    }
    if policy.has(Protection::DeniedCalls) {
        for call in DENIED {
            out.extend([unless(EQUAL, number(call.number), 1), answer(call.errno)]);
        }
        out.extend([
            unless(EQUAL, number(libc::SYS_clone), 4),
            op(LOAD, argument(0)),
            unless(ANY_BIT, NEW_NAMESPACES, 1),
            answer(libc::EPERM),
            allow,
        ]);
        // Of another process's limits: an ordinary user's init has the payload's user id, which is all the kernel asks.
        out.extend([
            unless(EQUAL, number(libc::SYS_prlimit64), 4),
            op(LOAD, argument(0)),
            unless(EQUAL, 0, 1),
            allow,
            answer(libc::EPERM),
        ]);
        out.push(unless(EQUAL, number(libc::SYS_ioctl), 6));
        out.push(op(LOAD, argument(1)));
        for request in DENIED_IOCTLS {
            out.extend([unless(EQUAL, request, 1), answer(libc::EPERM)]);
        }
        out.push(allow);
    }
    if policy.has(Protection::DeniedSockets) {
        out.extend(sockets(policy.listener.is_some()));
    }
    out.push(allow);
    out
}

/// `socket`: nothing at all, or IPv4 and IPv6 streams and datagrams. `socketpair`: AF_UNIX streams, which runtimes use for
/// their children's standard streams and which reach the two ends alone. One of datagrams could be connected to a
/// socket below a mounted directory, and SOCK_RAW is another name for them (unix(7)).
fn sockets(inet: bool) -> Vec<sock_filter> {
    let (allow, deny) = (op(RETURN, libc::SECCOMP_RET_ALLOW), answer(libc::EPERM));
    let family = |f: i32| f.cast_unsigned();
    let mut socket = vec![deny];
    if inet {
        // SOCK_NONBLOCK and SOCK_CLOEXEC are flags in the same word; the low four bits are the type.
        socket = vec![
            op(LOAD, argument(0)),
            sock_filter { code: EQUAL, jt: 1, jf: 0, k: family(libc::AF_INET) },
            unless(EQUAL, family(libc::AF_INET6), 4),
            op(LOAD, argument(1)),
            op(AND, 0xf),
            sock_filter { code: EQUAL, jt: 2, jf: 0, k: family(libc::SOCK_STREAM) },
            sock_filter { code: EQUAL, jt: 1, jf: 0, k: family(libc::SOCK_DGRAM) },
            deny,
            allow,
        ];
    }
    let len = |list: &[sock_filter]| socklen_t::try_from(list.len()).unwrap_or(0) as u8;
    let mut out = vec![unless(EQUAL, number(libc::SYS_socket), len(&socket))];
    out.extend(socket);
    out.extend([
        unless(EQUAL, number(libc::SYS_socketpair), 8),
        op(LOAD, argument(0)),
        unless(EQUAL, family(libc::AF_UNIX), 4),
        op(LOAD, argument(1)),
        op(AND, 0xf),
        sock_filter { code: EQUAL, jt: 2, jf: 0, k: family(libc::SOCK_STREAM) },
        sock_filter { code: EQUAL, jt: 1, jf: 0, k: family(libc::SOCK_SEQPACKET) },
        deny,
        allow,
    ]);
    out
}

/// The instructions as the kernel lays them out (`struct sock_filter`; both architectures are little-endian).
pub fn bytes(program: &[sock_filter]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for i in program {
        bytes.extend(i.code.to_le_bytes());
        bytes.extend([i.jt, i.jf]);
        bytes.extend(i.k.to_le_bytes());
    }
    bytes
}

/// SHA-256 of the instructions, for the record.
pub fn digest(program: &[sock_filter]) -> crate::record::ids::Digest {
    crate::record::ids::Digest::sha256(&bytes(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would, for calls that this kernel may not even have.
    fn run(program: &[sock_filter], arch: u32, nr: u32, args: [u32; 2]) -> u32 {
        let (mut pc, mut acc) = (0, 0);
        loop {
            let i = program[pc];
            pc += 1;
            let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                LOAD => {
                    acc = match i.k {
                        NUMBER => nr,
                        ARCHITECTURE => arch,
                        16 => args[0],
                        24 => args[1],
                        other => panic!("load of {other}"),
                    }
                }
                AND => acc &= i.k,
                EQUAL => pc += jump(acc == i.k),
                AT_LEAST => pc += jump(acc >= i.k),
                ANY_BIT => pc += jump(acc & i.k != 0),
                RETURN => return i.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

    #[test]
    fn every_denied_call_gets_its_errno_and_others_pass() {
        let program = program(&Policy::new("t"));
        for call in DENIED {
            let got = run(&program, ARCH, number(call.number), [0, 0]);
            assert_eq!(got, libc::SECCOMP_RET_ERRNO | call.errno as u32, "{}", call.name);
        }
        for call in [libc::SYS_read, libc::SYS_openat, libc::SYS_execve, libc::SYS_futex] {
            assert_eq!(run(&program, ARCH, number(call), [0, 0]), ALLOW);
        }
    }

    #[test]
    fn other_architectures_are_killed_and_x32_is_refused() {
        let program = program(&Policy::new("t"));
        assert_eq!(run(&program, 0x4000_0003, 0, [0, 0]), libc::SECCOMP_RET_KILL_PROCESS);
        if cfg!(target_arch = "x86_64") {
            assert_eq!(run(&program, ARCH, X32 | 1, [0, 0]), EPERM);
        }
    }

    #[test]
    fn sockets_follow_the_policy() {
        let none = program(&Policy::new("t"));
        let inet = program(&Policy { listener: Some(8080), ..Policy::new("t") });
        let socket = number(libc::SYS_socket);
        let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX, libc::AF_NETLINK]
            .into_iter()
            .chain([libc::AF_VSOCK, libc::AF_PACKET, libc::AF_ALG]);
        for family in families {
            for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET]
            {
                let args =
                    [family as u32, (kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u32];
                assert_eq!(run(&none, ARCH, socket, args), EPERM, "{family} {kind}");
                let ok = matches!(family, libc::AF_INET | libc::AF_INET6)
                    && matches!(kind, libc::SOCK_STREAM | libc::SOCK_DGRAM);
                let want = if ok { ALLOW } else { EPERM };
                assert_eq!(run(&inet, ARCH, socket, args), want, "{family} {kind}");
            }
        }
        let pair = number(libc::SYS_socketpair);
        assert_eq!(run(&none, ARCH, pair, [libc::AF_UNIX as u32, 1]), ALLOW);
        assert_eq!(run(&none, ARCH, pair, [libc::AF_TIPC as u32, 1]), EPERM);
        for (kind, want) in
            [(libc::SOCK_SEQPACKET, ALLOW), (libc::SOCK_DGRAM, EPERM), (libc::SOCK_RAW, EPERM)]
        {
            let args = [libc::AF_UNIX as u32, (kind | libc::SOCK_CLOEXEC) as u32];
            assert_eq!(run(&none, ARCH, pair, args), want, "{kind}");
        }
    }

    #[test]
    fn clone_prlimit_and_ioctl_are_looked_into() {
        let program = program(&Policy::new("t"));
        let prlimit = number(libc::SYS_prlimit64);
        assert_eq!(run(&program, ARCH, prlimit, [0, 7]), ALLOW);
        assert_eq!(run(&program, ARCH, prlimit, [1, 7]), EPERM);
        let clone = number(libc::SYS_clone);
        assert_eq!(run(&program, ARCH, clone, [libc::SIGCHLD as u32, 0]), ALLOW);
        for bit in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET, libc::CLONE_NEWPID]
        {
            assert_eq!(run(&program, ARCH, clone, [bit as u32 | 17, 0]), EPERM);
        }
        let ioctl = number(libc::SYS_ioctl);
        assert_eq!(run(&program, ARCH, ioctl, [0, libc::TIOCSTI as u32]), EPERM);
        assert_eq!(run(&program, ARCH, ioctl, [0, libc::TIOCLINUX as u32]), EPERM);
        assert_eq!(run(&program, ARCH, ioctl, [0, libc::TCGETS as u32]), ALLOW);
    }
}
