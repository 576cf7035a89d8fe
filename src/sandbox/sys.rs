//! The only unsafe code of admit: one wrapper a system call, each with the reason why it is sound. Where rustix has a
//! safe wrapper, callers use that one instead; what stands here rustix lacks or marks unsafe.
//!
//! Every failure says which call failed, with its arguments.
#![expect(unsafe_code, reason = "system calls that no safe wrapper offers")]

use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Pid;

/// A failed system call: the call as written in a trace, and the errno.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The call with its arguments, such as `unshare(0x7e020000)`.
    pub call: String,
    pub errno: i32,
}

impl Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.call, io::Error::from_raw_os_error(self.errno))
    }
}

impl std::error::Error for Failed {}

/// Whether standard output was closed as this program was started. The runtime of Rust puts `/dev/null` in its place before
/// `main`, so that later it looks as if the user had asked for that.
static STDOUT_CLOSED: AtomicBool = AtomicBool::new(false);

/// Called by the C library before any code of Rust's.
// SAFETY: the section holds pointers to functions that are called once each, with arguments that this one ignores (C's
// calling convention allows it), and it neither allocates nor uses what the runtime sets up.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: extern "C" fn() = {
    extern "C" fn look() {
        // SAFETY: no memory is passed.
        let flags = unsafe { libc::fcntl(1, libc::F_GETFD) };
        STDOUT_CLOSED.store(flags == -1, Ordering::Relaxed);
    }
    look
};

/// Whether this program was started without a standard output: what is written there then goes nowhere.
pub fn stdout_was_closed() -> bool {
    STDOUT_CLOSED.load(Ordering::Relaxed)
}

pub type Result<T> = std::result::Result<T, Failed>;

/// Names the call that a result came from; for the safe wrappers of rustix and std.
pub trait Named<T> {
    fn named(self, call: impl Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Named<T> for std::result::Result<T, E> {
    fn named(self, call: impl Display) -> Result<T> {
        self.map_err(|err| {
            let err: io::Error = err.into();
            Failed { call: call.to_string(), errno: err.raw_os_error().unwrap_or(libc::EIO) }
        })
    }
}

/// Turns a return value of -1 into the thread's errno.
fn check(value: libc::c_long, call: impl Display) -> Result<()> {
    if value == -1 { Err(last(call.to_string())) } else { Ok(()) }
}

fn last(call: String) -> Failed {
    Failed { call, errno: io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) }
}

/// Has the kernel kill the program that `command` starts when the thread that starts it ends, however it ends. What that
/// program starts itself is not bound to it.
pub fn end_with_thread(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let parent = rustix::process::getpid();
    let bind = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        // It may have ended before the kernel was told.
        match rustix::process::getppid() {
            Some(found) if found == parent => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        }
    };
    // SAFETY: between fork and exec it makes two system calls and takes no memory and no lock.
    unsafe { command.pre_exec(bind) };
}

/// `unshare(2)` for the whole process, which must have one thread.
pub fn unshare(flags: i32) -> Result<()> {
    // SAFETY: no memory is passed. The flags used here (CLONE_NEW*) do not unshare file descriptors, which is what
    // makes rustix's wrapper unsafe.
    check(libc::c_long::from(unsafe { libc::unshare(flags) }), format_args!("unshare({flags:#x})"))
}

/// `close_range(2)` over `first..`: closes, or with `cloexec` marks close-on-exec.
pub fn close_range(first: u32, cloexec: bool) -> Result<()> {
    let flags = if cloexec { libc::CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: no memory is passed. Callers run it where no owned descriptor of that range is used afterwards: first
    // thing in the re-executed child, or right before execve.
    let value = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) };
    check(value, format_args!("close_range({first}, ~0, {flags})"))
}

/// Takes ownership of an inherited descriptor, such as standard input.
pub fn adopt_fd(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: fcntl(F_GETFD) only asks whether the number is an open descriptor.
    let open = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    check(libc::c_long::from(open), format_args!("fcntl({fd}, F_GETFD)"))?;
    // SAFETY: the descriptor is open, and the caller (the start of the child) is the only owner of inherited ones.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `mount_setattr(2)` (Linux 5.12): sets `attributes` (`MOUNT_ATTR_*`) on the mount behind `fd`, with `recursive` on all
/// its submounts too. It is the only call that makes submounts read-only.
pub fn mount_setattr(fd: BorrowedFd<'_>, recursive: bool, attributes: u64) -> Result<()> {
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    let attr = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is a static C string and `attr` is a live struct whose size is passed along.
    let value = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    check(value, format_args!("mount_setattr(fd, \"\", {flags:#x}, {{attr_set={attributes:#x}}})"))
}

/// What a forked child is to run: its result is the child's exit code.
type Child<'a> = Box<dyn FnOnce() -> u8 + 'a>;

/// Runs `child` to its end in the new process and ends it there: the child never returns into the caller's frames.
fn run_child(child: Child<'_>) -> ! {
    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
    // SAFETY: _exit ends the process at once and runs no destructor, which is what a forked copy needs.
    unsafe { libc::_exit(i32::from(code)) }
}

/// `fork(2)` in a process with one thread; `child` runs in the copy.
pub fn fork(child: Child<'_>) -> Result<Pid> {
    // SAFETY: this process has one thread (it was started as the sandbox's child and starts none), so the copy holds
    // no lock that another thread would have to release.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        run_child(child);
    }
    check(libc::c_long::from(pid), "fork()")?;
    Ok(Pid::from_raw(pid).expect("fork returned a positive id"))
}

/// `clone(2)` with `CLONE_PARENT`: the new process is a child of *our parent*, who can so wait for it after we are gone.
pub fn clone_sibling(child: Child<'_>) -> Result<Pid> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: one thread, as in `fork`; no new stack, so the child goes on with a copy of this one. The order of the last
    // arguments differs between architectures, but they are all null.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, 0usize, 0usize, 0usize) };
    if pid == 0 {
        run_child(child);
    }
    check(pid, format_args!("clone({flags:#x})"))?;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    Ok(pid.expect("clone returned a positive id"))
}

/// `execve(2)`: returns only on failure.
pub fn execve(path: &CStr, argv: &[CString], env: &[CString]) -> Failed {
    let pointers = |list: &[CString]| {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (argv_ptr, env_ptr) = (pointers(argv), pointers(env));
    // SAFETY: all three are NUL-terminated strings or null-terminated arrays of such, alive during the call.
    unsafe { libc::execve(path.as_ptr(), argv_ptr.as_ptr(), env_ptr.as_ptr()) };
    last(format!("execve({path:?}, {argv:?})"))
}

#[derive(Debug, Clone, Copy)]
pub struct Reaped {
    pub pid: Pid,
    /// The raw wait status.
    pub status: i32,
    /// Largest resident set of it and its waited descendants, in KiB.
    pub max_rss_kib: u64,
}

/// `wait4(-1, WNOHANG)`: the next ended child, `None` while others still run, `Err(ECHILD)` when there are none.
pub fn reap() -> Result<Option<Reaped>> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value of that plain struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both out-pointers are live.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
    check(libc::c_long::from(pid), "wait4(-1, WNOHANG)")?;
    Ok(Pid::from_raw(pid).map(|pid| Reaped {
        pid,
        status,
        max_rss_kib: usage.ru_maxrss.unsigned_abs(),
    }))
}

/// Waits for one child of our own.
pub fn wait_for(pid: Pid) -> Result<i32> {
    let mut status = 0;
    // SAFETY: the out-pointer is live.
    let got = unsafe { libc::waitpid(pid.as_raw_nonzero().get(), &raw mut status, 0) };
    check(libc::c_long::from(got), format_args!("waitpid({pid:?})"))?;
    Ok(status)
}

/// `kill(-1)`: sends `signal` to every process of the pid namespace but init, who is the only one to call it.
/// Refused outside of a pid namespace's init, where it would reach every process of the user.
pub fn kill_everyone(signal: i32) -> Result<()> {
    if rustix::process::getpid() != Pid::INIT {
        return Err(Failed {
            call: format!("kill(-1, {signal}) outside of init"),
            errno: libc::EPERM,
        });
    }
    // SAFETY: no memory is passed; as the namespace's init it reaches only the sandbox's own processes.
    check(libc::c_long::from(unsafe { libc::kill(-1, signal) }), format_args!("kill(-1, {signal})"))
}

/// Blocks SIGCHLD and returns a non-blocking signalfd that becomes readable instead.
pub fn child_signals() -> Result<OwnedFd> {
    // SAFETY: an all-zero sigset_t is valid storage, and sigemptyset makes it a set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is live; SIGCHLD is a valid signal.
    unsafe {
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
    }
    // SAFETY: `set` is an initialised set; the old mask is not asked for.
    let blocked =
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    check(libc::c_long::from(blocked), "sigprocmask(SIG_BLOCK, [SIGCHLD])")?;
    // SAFETY: `set` is an initialised set; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(libc::c_long::from(fd), "signalfd(-1, [SIGCHLD])")?;
    // SAFETY: a new descriptor, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts every signal back to its default action and unblocks all: what a fresh program expects (Rust's start-up
/// ignores SIGPIPE, and init blocks SIGCHLD).
pub fn default_signals() -> Result<()> {
    for signal in 1..=64 {
        // SAFETY: installing SIG_DFL touches no memory of ours; KILL, STOP and libc's own two refuse, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero sigset_t is valid storage, and sigemptyset makes it a set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is live and initialised by the first call; the old mask is not asked for.
    let value = unsafe {
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut())
    };
    check(libc::c_long::from(value), "sigprocmask(SIG_SETMASK, [])")
}

/// Installs a seccomp filter on this thread; all its descendants inherit it.
pub fn seccomp(program: &[libc::sock_filter]) -> Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| Failed {
        call: format!("seccomp(filter of {} instructions)", program.len()),
        errno: libc::E2BIG,
    })?;
    let fprog = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `fprog` points to `len` live instructions, which the kernel copies and does not change.
    let value = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const fprog)
    };
    check(value, format_args!("seccomp(SECCOMP_SET_MODE_FILTER, 0, {len} instructions)"))
}

/// Makes a system call for a probe and returns 0 or the errno. The arguments must be numbers, or addresses that are
/// null or invalid: nothing of ours is reachable through them.
pub fn probe(number: libc::c_long, args: [usize; 6]) -> i32 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the probes pass no valid address, so the kernel can neither read nor write our memory; a descriptor
    // that a call may return is left to the end of the probing process.
    let value = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if value == -1 { io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) } else { 0 }
}

/// The errno of `clone(flags)`; should a child come to be, it ends at once and is reaped.
pub fn probe_clone(flags: i32) -> i32 {
    // SAFETY: as in `fork`: one thread, no new stack.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0usize, 0usize, 0usize, 0usize)
    };
    match pid {
        // SAFETY: _exit ends the copy at once.
        0 => unsafe { libc::_exit(0) },
        -1 => io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO),
        _ => {
            // SAFETY: waits for our own child; no status is stored.
            unsafe { libc::syscall(libc::SYS_wait4, pid, 0usize, 0usize, 0usize) };
            0
        }
    }
}

/// Brings an interface of this network namespace up (`SIOCSIFFLAGS`).
pub fn interface_up(name: &str) -> Result<()> {
    interface(name, |socket, request| {
        ioctl(socket, libc::SIOCGIFFLAGS, request, "SIOCGIFFLAGS", name)?;
        // SAFETY: SIOCGIFFLAGS filled this member of the union.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        ioctl(socket, libc::SIOCSIFFLAGS, request, "SIOCSIFFLAGS", name)
    })
}

/// Gives an interface of this network namespace an IPv4 address (`SIOCSIFADDR`); `name:0` adds one.
pub fn interface_address(name: &str, address: [u8; 4]) -> Result<()> {
    interface(name, |socket, request| {
        let sin = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address) },
            sin_zero: [0; 8],
        };
        // SAFETY: sockaddr and sockaddr_in have the same size, and the family says which one it is.
        let any = unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(sin) };
        request.ifr_ifru.ifru_addr = any;
        ioctl(socket, libc::SIOCSIFADDR, request, "SIOCSIFADDR", name)
    })
}

fn interface(name: &str, act: impl FnOnce(&OwnedFd, &mut libc::ifreq) -> Result<()>) -> Result<()> {
    // SAFETY: an all-zero ifreq is a valid value of that plain struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM);
    let socket = rustix::net::socket_with(family, kind, rustix::net::SocketFlags::CLOEXEC, None);
    let socket = socket.named("socket(AF_INET, SOCK_DGRAM)")?;
    act(&socket, &mut request)
}

fn ioctl(
    socket: &OwnedFd,
    what: libc::c_ulong,
    request: &mut libc::ifreq,
    text: &str,
    name: &str,
) -> Result<()> {
    // SAFETY: `request` is a live ifreq, which all requests made here take.
    let value = unsafe { libc::ioctl(socket.as_raw_fd(), what as _, &raw mut *request) };
    check(libc::c_long::from(value), format_args!("ioctl({text}, {name})"))
}

/// `setfsuid(2)` and `setfsgid(2)` for the calling thread; reads back, since the calls themselves report nothing.
pub fn set_fs_ids(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: no memory is passed. Both act on the calling thread only, and -1 changes nothing but reads.
    let got = unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
        (libc::syscall(libc::SYS_setfsuid, -1), libc::syscall(libc::SYS_setfsgid, -1))
    };
    if got == (libc::c_long::from(uid), libc::c_long::from(gid)) {
        Ok(())
    } else {
        Err(Failed { call: format!("setfsuid({uid}), setfsgid({gid})"), errno: libc::EPERM })
    }
}

/// The kernel's Landlock version (`landlock_create_ruleset(2)` with `LANDLOCK_CREATE_RULESET_VERSION`); 0 for none.
pub fn landlock_version() -> u32 {
    // SAFETY: a null attribute of size 0 with flag 1 only asks for the version.
    let value = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, 1) };
    u32::try_from(value).unwrap_or(0)
}

/// A file mapped read-only: read without holding it in memory. Not by the crate `memmap2`, whose `map` and `DONTNEED`
/// are `unsafe` too: it would be a dependency more and no `unsafe` block less.
pub struct Mapped {
    at: *mut libc::c_void,
    len: usize,
}

impl Mapped {
    pub fn new(file: &std::fs::File) -> io::Result<Self> {
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let (kind, fd) = (libc::MAP_PRIVATE, file.as_raw_fd());
        // SAFETY: a fresh private read-only mapping at an address of the kernel's choice overlaps nothing of ours.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, kind, fd, 0) };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { at, len }) }
    }

    /// The bytes. Files of the store are read-only and never written in place; one that is cut short meanwhile ends
    /// the process (SIGBUS), it does not mislead it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is `len` readable bytes and lives as long as `self`; nobody here has it writable.
        unsafe { std::slice::from_raw_parts(self.at.cast(), self.len) }
    }

    /// Lets the pages in memory go; they are read again when they are needed.
    pub fn release(&self) {
        // SAFETY: for a private mapping that was never written, dropped pages come back from the file unchanged.
        unsafe { libc::madvise(self.at, self.len, libc::MADV_DONTNEED) };
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and the borrow of `bytes` ended before `self`.
        unsafe { libc::munmap(self.at, self.len) };
    }
}
