//! The outside as values and traits: the environment (read here and nowhere else), directories, the clock, progress.

pub mod files;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, RenameFlags, renameat, renameat_with, statat};
use rustix::io::Errno;

use crate::error::{Error, MORE_ADDRESS_SPACE, MORE_PROCESSES, Reason, Result};
use crate::record::ids::Timestamp;
use crate::record::lockfile::Platform;

/// How the names of variables begin that are meant for admit. One that is not in [`VARIABLES`] is refused: ignored, it
/// would leave the user to believe that it counts.
const OURS: [&str; 2] = ["CTO_HARNESS_", "ADMIT_"];

/// What only admit's own tests read; the program heeds none of them.
const OF_TESTS: [&str; 3] = ["ADMIT_TEST_", "ADMIT_FUZZ_", "ADMIT_KILL_"];

/// Every variable of admit's own and of the set-up before it that is read.
pub const VARIABLES: [&str; 21] = [
    "ADMIT_COLOR",
    "ADMIT_EXPECT_ROOT",
    "ADMIT_JSON",
    "ADMIT_MIRROR",
    "ADMIT_MODEL_ENDPOINT_FILE",
    "ADMIT_MODEL_KEY",
    "ADMIT_MODEL_KEY_FILE",
    "ADMIT_QUIET",
    "ADMIT_REGISTRY",
    "ADMIT_ROOT",
    "ADMIT_STATE",
    "ADMIT_STORE",
    "CTO_HARNESS_ALLOW_CASE",
    "CTO_HARNESS_CASE_BIN",
    "CTO_HARNESS_CASE_LOCAL_BASE_URL",
    "CTO_HARNESS_CASE_MODEL",
    "CTO_HARNESS_CASE_MODEL_ADMISSION_FILE",
    "CTO_HARNESS_CASE_MODEL_PROVIDER",
    "CTO_HARNESS_CASE_OPENAI_CODEX_AUTH_BRIDGE",
    "CTO_HARNESS_CASE_STAGE",
    "CTO_HARNESS_CASE_TIMEOUT_SECONDS",
];

/// A word as it must be typed in a shell.
pub fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:,@%=".contains(&b);
    match !word.is_empty() && word.bytes().all(plain) && !word.starts_with('-') {
        true => word.to_owned(),
        false => quotes(word),
    }
}

/// A text in quotes, as one word of a shell whatever it holds.
pub fn quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Everything that admit takes from its surroundings, captured once at the start.
#[derive(Clone, Debug)]
pub struct Host {
    env: BTreeMap<OsString, OsString>,
    cwd: PathBuf,
}

impl Host {
    /// Reads the environment and the working directory of this process.
    ///
    /// # Errors
    /// [`Reason::Io`] where the working directory is gone; [`Reason::BadArgument`] where a variable that steers admit is
    /// not UTF-8: left out, what the user asked for would be ignored without a word.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn capture() -> Result<Self> {
        let cwd = std::env::current_dir()
            .map_err(|err| Error::io("find the working directory", ".", err))?;
        let this = Self { env: std::env::vars_os().collect(), cwd };
        this.steered()?;
        Ok(this)
    }

    /// Whether every variable that was meant for admit is one that it reads.
    fn steered(&self) -> Result<()> {
        let ours = |name: &str| OURS.iter().any(|prefix| name.starts_with(prefix));
        let of_tests = |name: &str| OF_TESTS.iter().any(|prefix| name.starts_with(prefix));
        let names = self.env.keys().filter_map(|name| name.to_str());
        for name in names.filter(|name| ours(name) && !of_tests(name)) {
            if !VARIABLES.contains(&name) {
                let near = VARIABLES
                    .iter()
                    .map(|known| (strsim::damerau_levenshtein(known, name), *known))
                    .min()
                    .filter(|(edits, known)| *edits * 3 <= known.len());
                let hint = match near {
                    Some((_, known)) => format!("did you mean {known}? unset {name}"),
                    None => format!("unset {name}"),
                };
                return Err(Error::new(Reason::BadArgument, "a variable that admit does not know")
                    .at(name.escape_debug().to_string())
                    .expected(VARIABLES.join(", "))
                    .found(name.escape_debug().to_string())
                    .hint(hint));
            }
            // A directory may have any name.
            if !["ADMIT_ROOT", "ADMIT_STATE", "ADMIT_STORE"].contains(&name) {
                self.var(name)?;
            }
        }
        Ok(())
    }

    pub fn with(env: impl IntoIterator<Item = (String, String)>, cwd: impl Into<PathBuf>) -> Self {
        Self { env: env.into_iter().map(|(k, v)| (k.into(), v.into())).collect(), cwd: cwd.into() }
    }

    pub fn cwd(&self) -> &Path {
        &self.cwd
    }

    /// A variable; empty counts as not set, as the XDG specification has it.
    ///
    /// # Errors
    /// [`Reason::BadArgument`] where the value is not UTF-8: a guess could do what the user did not ask for.
    pub fn var(&self, name: &str) -> Result<Option<&str>> {
        match self.env.get(std::ffi::OsStr::new(name)).map(|value| value.to_str()) {
            None | Some(Some("")) => Ok(None),
            Some(Some(text)) => Ok(Some(text)),
            Some(None) => {
                let what = format!("the variable {name} is not UTF-8");
                Err(Error::new(Reason::BadArgument, what))
            }
        }
    }

    pub fn path_var(&self, name: &str) -> Option<PathBuf> {
        self.env.get(std::ffi::OsStr::new(name)).filter(|v| !v.is_empty()).map(PathBuf::from)
    }

    /// All variables that are UTF-8, for readers of foreign configuration (npm, proxies).
    pub fn vars(&self) -> BTreeMap<String, String> {
        let text = |v: &OsString| v.to_str().map(str::to_owned);
        self.env.iter().filter_map(|(k, v)| Some((text(k)?, text(v)?))).collect()
    }

    pub fn home(&self) -> Option<PathBuf> {
        self.path_var("HOME").filter(|p| p.is_absolute())
    }

    fn xdg(&self, variable: &str, below_home: &str) -> Result<PathBuf> {
        // The XDG base directory specification: a relative value is to be ignored.
        let dir = match self.path_var(variable).filter(|p| p.is_absolute()) {
            Some(dir) => dir,
            None => self
                .home()
                .ok_or_else(|| {
                    Error::new(
                        Reason::BadArgument,
                        format!("neither {variable} nor HOME names a directory"),
                    )
                    .expected("an absolute path")
                    .hint("set HOME, or both XDG_DATA_HOME and XDG_STATE_HOME")
                })?
                .join(below_home),
        };
        Ok(dir.join("admit"))
    }

    /// Where data that can be made again lives: `$XDG_DATA_HOME/admit`, else `~/.local/share/admit`.
    pub fn data_dir(&self) -> Result<PathBuf> {
        self.xdg("XDG_DATA_HOME", ".local/share")
    }

    /// Where evidence lives: `$XDG_STATE_HOME/admit`, else `~/.local/state/admit`.
    pub fn state_dir(&self) -> Result<PathBuf> {
        self.xdg("XDG_STATE_HOME", ".local/state")
    }

    pub fn program(&self, name: &str) -> Option<PathBuf> {
        which::which_in(name, self.env.get(std::ffi::OsStr::new("PATH")), &self.cwd).ok()
    }

    /// `path`, taken from the working directory where it is relative.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        self.cwd.join(path)
    }
}

/// The platform that this process runs on, as Bun's npm packages name it.
///
/// The choice follows Bun's own installer (bun.md, section H): AVX2 decides between the two x86-64 builds for glibc.
pub fn platform() -> Result<Platform> {
    let musl = Path::new("/etc/alpine-release").exists();
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") if musl => Ok(Platform::LinuxX64Musl),
        ("linux", "x86_64") if has_avx2() => Ok(Platform::LinuxX64),
        ("linux", "x86_64") => Ok(Platform::LinuxX64Baseline),
        ("linux", "aarch64") => Ok(Platform::LinuxAarch64),
        (os, arch) => {
            Err(Error::new(Reason::PlatformNotLocked, format!("admit cannot build on {os} {arch}"))
                .expected("linux on x86_64 or aarch64")
                .found(format!("{os} on {arch}")))
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Where the running program of admit lies.
///
/// # Errors
/// Where the kernel does not say.
pub fn own_program() -> Result<PathBuf> {
    std::fs::read_link("/proc/self/exe").map_err(|err| Error::io("find", "/proc/self/exe", err))
}

/// Tells a process that this one started to stop. One that has ended already is no fault.
pub fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

/// Kernel release and machine, for information in reports.
pub fn kernel() -> String {
    let name = rustix::system::uname();
    format!(
        "{} {} {}",
        name.sysname().to_string_lossy(),
        name.release().to_string_lossy(),
        name.machine().to_string_lossy()
    )
}

/// Bytes of memory that this process may still use: the kernel's estimate, held down by a memory cgroup's limit.
pub fn memory_available() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let available = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    Some(cgroup_headroom().map_or(available, |room| room.min(available)))
}

/// What is left below this process's memory cgroup limit (v2 or v1), where there is a limit.
fn cgroup_headroom() -> Option<u64> {
    let cgroups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?.trim_start_matches('/'));
        let (dir, limit, used) = if controllers.is_empty() {
            (Path::new("/sys/fs/cgroup").join(path), "memory.max", "memory.current")
        } else if controllers.split(',').any(|c| c == "memory") {
            let dir = Path::new("/sys/fs/cgroup/memory").join(path);
            (dir, "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            return None;
        };
        Some(number(dir.join(limit))?.saturating_sub(number(dir.join(used))?))
    })
}

/// The processors that this process may run on, by number.
///
/// # Errors
/// [`Reason::Io`] where the kernel does not say.
pub fn cpus() -> Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)
        .map_err(|err| Error::io("ask for", "the processors", err.into()))?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Keeps this thread, and all that it starts from now on, on one processor.
///
/// # Errors
/// [`Reason::Io`] where it may not run there.
pub fn only_cpu(cpu: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|err| Error::io("run on", format!("processor {cpu}"), err.into()))
}

/// A random name of 32 hex digits.
pub fn nonce() -> Result<String> {
    random::<16>().map(hex::encode)
}

/// Random bytes of the kernel.
///
/// # Errors
/// [`Reason::Io`] where it gives none.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|err| Error::new(Reason::Io, "the kernel gives no random bytes").caused_by(err))?;
    Ok(bytes)
}

/// Opens a regular file below `dir` to read it: never waits for the other end of a pipe, never follows a link at the
/// path's end.
///
/// # Errors
/// As open(2); for anything else than a regular file too.
pub fn open_regular(
    dir: impl AsFd,
    path: impl rustix::path::Arg,
) -> std::io::Result<std::fs::File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = std::fs::File::from(rustix::fs::openat(dir, path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(std::io::Error::other("not a regular file"))
    }
}

/// Whether an error says that there is nothing at a path.
pub fn is_nothing(err: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    matches!(err.kind(), NotFound | NotADirectory)
}

/// Waits for a child until that moment: `None` where it has not ended by then, or cannot be waited for.
pub fn wait_until(child: &mut Child, until: Instant) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
            _ => return None,
        }
    }
}

/// Raises the soft limit of open files, which is 1024 in many shells, as far as the kernel lets this process.
pub fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    // Where it is not allowed, the old limit is a limit like any other: a fault with a name where it is hit.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
}

/// A file that is longer than this process may write (`ulimit -f`) is a fault with a name, and ends nothing at once.
pub fn outlive_file_size() {
    // Where no handler can be set, the signal ends the process as ever.
    let _ = signal_hook::flag::register(libc::SIGXFSZ, Arc::default());
}

/// Threads and processes that a build or a run has at once: with 28 to be had the embedded stand-in was not built and run,
/// with 38 it was.
const TASKS: usize = 36;
/// A higher limit of processes is not looked into, since no machine comes near it.
const MANY_TASKS: u64 = 4096;

/// Address space in bytes with which build and run of the built-in provider were seen to work. Bun's tests were seen to end by
/// a signal with 700 MB, which would speak against the work that they test.
pub const ADDRESS_SPACE: u64 = 2_000_000 << 10;

/// Whether the limits of this machine leave what a build or a run needs: half of the work done is no place to find that out.
/// Threads are tried out where a limit is set that could be too low for them, and not where what is tried would use up what
/// is left.
///
/// # Errors
/// [`Reason::LimitHit`].
pub fn enough_tasks() -> Result<()> {
    use rustix::process::{Resource, getrlimit};
    let few = getrlimit(Resource::Nproc).current.is_some_and(|most| most < MANY_TASKS);
    match getrlimit(Resource::As).current {
        Some(space) if space < ADDRESS_SPACE => {
            let what = "the address space of a process is limited to less than admit needs";
            Err(Error::new(Reason::LimitHit, what)
                .expected(format!("{ADDRESS_SPACE} bytes"))
                .found(format!("RLIMIT_AS is {space}"))
                .hint(MORE_ADDRESS_SPACE))
        }
        None if !few => Ok(()),
        _ => can_start(TASKS),
    }
}

/// Whether so many threads can be started beside those that run.
///
/// # Errors
/// [`Reason::LimitHit`].
pub fn can_start(threads: usize) -> Result<()> {
    use rustix::process::{Resource, getrlimit};
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = std::sync::Mutex::new(ended);
    std::thread::scope(|scope| {
        for count in 0..threads {
            let wait = || drop(ended.lock().map(|ended| ended.recv()));
            let Err(err) = std::thread::Builder::new().spawn_scoped(scope, wait) else { continue };
            drop(end);
            let mut found = format!("{count}, then: {err}");
            let mut error = Error::new(Reason::LimitHit, "not enough threads can be started")
                .expected(format!("{threads} threads or processes beside those that run"));
            if let Some(space) = getrlimit(Resource::As).current {
                found.push_str(&format!("; RLIMIT_AS is {space}"));
                error = error.hint(MORE_ADDRESS_SPACE);
            }
            let error = error.found(found);
            return Err(error.hint(MORE_PROCESSES));
        }
        drop(end);
        Ok(())
    })
}

/// How many files this process may have open; `None`: no limit.
pub fn open_files() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Makes a directory of this user's own, and those above it that are missing, for this user alone whatever the umask is.
pub fn make_private(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.map_err(|err| Error::io("create the directory", dir, err))
}

/// Renames to a name that must be free. Where the file system cannot promise that (NFS, 9p and FUSE answer EINVAL), the
/// name is looked at before; a directory is never renamed over one that holds something (rename(2)).
///
/// # Errors
/// `EXIST` or `NOTEMPTY` where the name is taken.
pub fn rename_new(from: impl AsFd, name: &str, to: impl AsFd, new: &str) -> rustix::io::Result<()> {
    let exclusive = renameat_with(&from, name, &to, new, RenameFlags::NOREPLACE);
    or_looked_at(exclusive, from, name, to, new)
}

fn or_looked_at(
    exclusive: rustix::io::Result<()>,
    from: impl AsFd,
    name: &str,
    to: impl AsFd,
    new: &str,
) -> rustix::io::Result<()> {
    match exclusive {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match statat(&to, new, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => renameat(from, name, to, new),
                Err(e) => Err(e),
            }
        }
        other => other,
    }
}

pub fn umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
}

/// Has the kernel end this process when the one that started it ends.
///
/// # Errors
/// [`Reason::Io`] where the kernel has no such thing.
pub fn end_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|err| Error::io("end with", "the parent process", err.into()))
}

/// How often the kernel has ended processes for want of memory: in this process's memory cgroup, else on the machine.
#[derive(Clone, Debug)]
pub struct MemoryKills {
    /// Below it `proc` and `sys` are.
    root: PathBuf,
    counts: Vec<(&'static str, u64)>,
}

impl MemoryKills {
    pub fn now() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        let mut counts = Vec::new();
        let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        for line in groups.lines() {
            // Hierarchy, controllers, path (cgroups(7)).
            let parts: Vec<&str> = line.splitn(3, ':').collect();
            let [_, controllers, path] = parts[..] else { continue };
            let (name, places) = match controllers {
                "" => ("memory.events", ["sys/fs/cgroup", "sys/fs/cgroup/unified"].as_slice()),
                all if all.split(',').any(|one| one == "memory") => {
                    ("memory.oom_control", ["sys/fs/cgroup/memory"].as_slice())
                }
                _ => continue,
            };
            // In a container the path is often the host's, and its own group is what is mounted.
            let files = places
                .iter()
                .flat_map(|place| [format!("{place}{path}/{name}"), format!("{place}/{name}")]);
            let count = files.map(|file| root.join(file)).find_map(|file| oom_kills(&file));
            counts.extend(count.map(|count| (name, count)));
        }
        // The machine's counts other people's processes too: only where there is no other.
        if counts.is_empty() {
            let machine = oom_kills(&root.join("proc/vmstat"));
            counts.extend(machine.map(|count| ("/proc/vmstat", count)));
        }
        Self { root: root.to_path_buf(), counts }
    }

    /// What has risen since this was taken, in words: the cgroup's counter where it did, else the machine's.
    pub fn risen(&self) -> Option<String> {
        let now = Self::below(&self.root);
        self.counts.iter().find_map(|(name, before)| {
            let (_, after) = now.counts.iter().find(|(other, _)| other == name)?;
            (after > before).then(|| {
                format!(
                    "the kernel ended it for want of memory: {name} oom_kill {before} to {after}"
                )
            })
        })
    }
}

/// The counter in a file of `name value` lines.
fn oom_kills(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Whether the kernel has time namespaces (since 5.6, where they are configured).
pub fn time_namespaces() -> bool {
    Path::new("/proc/self/ns/time_for_children").exists()
}

/// Time, so that gates with dates can be tested.
pub trait Clock: Sync {
    /// The moment now, UTC, to the second.
    fn now(&self) -> Timestamp;

    /// The same in nanoseconds since 1970, as exactly as this clock can tell.
    fn unix_ns(&self) -> i128 {
        i128::from(self.now().unix()) * 1_000_000_000
    }
}

#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let seconds = self.unix_ns() / 1_000_000_000;
        Timestamp::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn unix_ns(&self) -> i128 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |d| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX))
    }
}

#[cfg(test)]
#[derive(Clone, Debug)]
pub struct FixedClock(pub Timestamp);

#[cfg(test)]
impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0.clone()
    }
}

#[derive(Debug)]
pub struct Timings {
    started: Instant,
    last: Instant,
    parts: BTreeMap<String, u64>,
}

impl Timings {
    pub fn start() -> Self {
        let now = Instant::now();
        Self { started: now, last: now, parts: BTreeMap::new() }
    }

    /// Ends the part that began with the last call.
    pub fn part(&mut self, name: &str) {
        let now = Instant::now();
        self.parts.insert(name.to_owned(), millis(now - self.last));
        self.last = now;
    }

    /// The parts and the `total`, in milliseconds.
    pub fn finish(mut self) -> BTreeMap<String, u64> {
        self.parts.insert("total".to_owned(), millis(self.started.elapsed()));
        self.parts
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Who is told what is going on. The stages speak of facts; `ui` decides how they look.
pub trait Progress: Sync {
    /// A stage begins: its name (`fetch`, `build`, …) and what it works on.
    fn stage(&self, name: &str, what: &str);
    /// So many bytes of the stage's work are done, of a total where it is known.
    fn bytes(&self, done: u64, total: Option<u64>);
    /// Something worth a line of its own: waiting for another build, a retry.
    fn note(&self, text: &str);
}

#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &str, _: &str) {}
    fn bytes(&self, _: u64, _: Option<u64>) {}
    fn note(&self, _: &str) {}
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Writes a program that a test starts. Another process writes it: a process that another test starts meanwhile would
    /// hold a descriptor of this one that is open for writing, and the kernel starts no such program (`ETXTBSY`).
    pub fn program(path: impl AsRef<Path>, text: &str) {
        use std::io::Write as _;
        use std::process::{Command, Stdio};
        let mut install = Command::new("install");
        install.args(["-D", "-m", "755", "/dev/stdin"]).arg(path.as_ref()).stdin(Stdio::piped());
        let mut child = install.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{}", path.as_ref().display());
    }

    /// What git prints in `dir`, as one author at one moment and with no configuration but the repository's own.
    pub fn git(dir: &Path, args: &[&str]) -> String {
        let who = ["AUTHOR", "COMMITTER"].into_iter().flat_map(|who| {
            [("NAME", "admit"), ("EMAIL", "admit@localhost"), ("DATE", "1767225600 +0000")]
                .map(|(key, value)| (format!("GIT_{who}_{key}"), value))
        });
        let mut command = std::process::Command::new("git");
        command.current_dir(dir).args(args).env_clear().env("HOME", dir).envs(who);
        let out = command.env("PATH", "/usr/local/bin:/usr/bin:/bin").output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// A `.tar.gz` of files: name, mode, content.
    pub fn tar_gz(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gz);
        for (name, mode, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(*mode);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn a_variable_that_is_meant_for_admit_and_unknown_is_refused_with_the_nearest_name() {
        let near = |name: &str| {
            let err = host(&[(name, "1")]).steered().unwrap_err();
            assert_eq!((err.reason(), err.place()), (Reason::BadArgument, Some(name)));
            err.hints()[0].clone()
        };
        let nearest = |name| format!("did you mean {name}?");
        assert!(near("CTO_HARNESS_CASE_MODLE").starts_with(&nearest("CTO_HARNESS_CASE_MODEL")));
        assert!(near("CTO_HARNESS_ALLOWCASE").starts_with(&nearest("CTO_HARNESS_ALLOW_CASE")));
        assert!(near("ADMIT_MODEL_KEYFILE").starts_with(&nearest("ADMIT_MODEL_KEY_FILE")));
        assert!(near("ADMIT_STOR").starts_with(&nearest("ADMIT_STORE")));
        assert_eq!(near("ADMIT_QUITE_ANOTHER_THING"), "unset ADMIT_QUITE_ANOTHER_THING");
        for name in VARIABLES {
            host(&[(name, "1")]).steered().unwrap();
        }
        // Names that belong to others, and those of admit's own tests.
        host(&[("ADMITTED", "1"), ("CTO", "1"), ("ADMIT_TEST_STORE", "/x")]).steered().unwrap();
    }

    #[test]
    fn the_counter_of_the_memory_killer_is_found_wherever_it_stands() {
        // Version 2, version 1, version 1 in a container that has its own group mounted, and the machine's alone.
        let cases: [(&str, Option<&str>, &str); 4] = [
            ("0::/user/x\n", Some("sys/fs/cgroup/user/x/memory.events"), "memory.events"),
            (
                "4:memory:/x\n0::/\n",
                Some("sys/fs/cgroup/memory/x/memory.oom_control"),
                "memory.oom_control",
            ),
            (
                "4:cpu,memory:/of/host\n",
                Some("sys/fs/cgroup/memory/memory.oom_control"),
                "memory.oom_control",
            ),
            ("0::/\n", None, "/proc/vmstat"),
        ];
        for (groups, file, name) in cases {
            let dir = tempfile::tempdir().unwrap();
            let write = |path: &str, text: &str| {
                let path = dir.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            };
            write("proc/self/cgroup", groups);
            write("proc/vmstat", "oom_kill 7\n");
            file.into_iter().for_each(|file| write(file, "oom 1\noom_kill 2\noom_group_kill 0\n"));
            let before = MemoryKills::below(dir.path());
            assert_eq!(before.risen(), None);
            if file.is_some() {
                // Somebody else's process.
                write("proc/vmstat", "oom_kill 9\n");
                assert_eq!(before.risen(), None);
            }
            let (path, want) = match file {
                Some(file) => (file, format!("{name} oom_kill 2 to 8")),
                None => ("proc/vmstat", format!("{name} oom_kill 7 to 8")),
            };
            write(path, "oom 1\noom_kill 8\n");
            let said = before.risen().unwrap();
            assert!(said.ends_with(&want), "{said}");
        }
    }

    fn host(pairs: &[(&str, &str)]) -> Host {
        Host::with(pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())), "/w")
    }

    #[test]
    fn without_an_exclusive_rename_a_taken_name_is_kept_all_the_same() {
        let temp = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(temp.path()).unwrap();
        let write = |name: &str| std::fs::write(temp.path().join(name), name).unwrap();
        for errno in [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP] {
            write("new");
            let renamed = or_looked_at(Err(errno), &dir, "new", &dir, "free");
            assert_eq!(renamed, Ok(()));
            write("new");
            let renamed = or_looked_at(Err(errno), &dir, "new", &dir, "free");
            assert_eq!(renamed, Err(Errno::EXIST));
            assert!(temp.path().join("new").exists());
            std::fs::remove_file(temp.path().join("free")).unwrap();
        }
        assert_eq!(or_looked_at(Err(Errno::IO), &dir, "new", &dir, "free"), Err(Errno::IO));
        write("free");
        assert_eq!(rename_new(&dir, "new", &dir, "free"), Err(Errno::EXIST));
    }

    #[test]
    fn directories_follow_xdg() {
        assert_eq!(host(&[("HOME", "/h")]).data_dir().unwrap(), Path::new("/h/.local/share/admit"));
        let with = host(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("XDG_DATA_HOME", "relative")]);
        assert_eq!(with.state_dir().unwrap(), Path::new("/s/admit"));
        assert_eq!(with.data_dir().unwrap(), Path::new("/h/.local/share/admit"));
        assert_eq!(host(&[]).data_dir().unwrap_err().reason(), Reason::BadArgument);
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        assert_eq!(host(&[("X", "")]).var("X").unwrap(), None);
        assert_eq!(host(&[("X", "1")]).var("X").unwrap(), Some("1"));
    }

    #[test]
    fn the_limit_of_open_files_is_raised_to_the_hard_one() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        // One less does not disturb the tests beside this one.
        let current = limit.maximum.map_or(Some(100_000), |most| Some(most - 1));
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
        raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
    }

    #[test]
    fn this_machine_has_memory_and_a_platform() {
        assert!(memory_available().is_some_and(|m| m > 0));
        assert!(Platform::ALL.contains(&platform().unwrap()));
    }
}
