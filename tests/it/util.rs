//! What tests share: an empty world with a scrubbed environment, and a run of admit whose failure shows everything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use admit::host::Host;

use crate::{files, fixes};

/// Variables that let the ordinary package clients work; everything else is scrubbed.
const PASSED: [&str; 17] = [
    "PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "npm_config_registry",
    "NPM_CONFIG_REGISTRY",
    "PIP_INDEX_URL",
    "PIP_CERT",
    "PIP_CONFIG_FILE",
    "PYENV_ROOT",
    "PYENV_VERSION",
];

/// The environment of this test process.
#[expect(
    clippy::disallowed_methods,
    reason = "tests read their own surroundings here and nowhere else"
)]
pub fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// The project's directory: where it was compiled, or where cargo or the test command says that it is now.
pub fn project() -> PathBuf {
    var("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

/// The program under test: beside the directory of this test binary, so that both can be copied elsewhere together.
pub fn admit() -> PathBuf {
    let here = std::env::current_exe().expect("this test has a path");
    let beside = here.parent().and_then(Path::parent).map(|dir| dir.join("admit"));
    beside.filter(|p| p.is_file()).unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_admit")))
}

/// An empty home and working directory of their own, removed at the end.
pub struct World {
    dir: tempfile::TempDir,
    env: BTreeMap<String, String>,
    /// Refused command lines, each with what it said and a fix that can be typed.
    refused: Mutex<Vec<(Vec<String>, String, String)>>,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("admit-test-")
            .tempdir()
            .expect("a temporary directory");
        for sub in ["home", "cwd"] {
            std::fs::create_dir(dir.path().join(sub)).expect("an empty directory");
        }
        let mut env: BTreeMap<String, String> =
            PASSED.iter().filter_map(|name| Some(((*name).to_owned(), var(name)?))).collect();
        // The user's own npm and pip configuration says where packages come from.
        if let Some(home) = var("HOME") {
            for (name, file) in [
                ("NPM_CONFIG_USERCONFIG", ".npmrc"),
                ("PIP_CONFIG_FILE", ".config/pip/pip.conf"),
                ("PIP_CONFIG_FILE", ".pip/pip.conf"),
            ] {
                let path = Path::new(&home).join(file);
                if path.is_file() {
                    env.entry(name.to_owned()).or_insert(path.display().to_string());
                }
            }
        }
        env.insert("HOME".into(), dir.path().join("home").display().to_string());
        Self { dir, env, refused: Mutex::default() }
    }

    /// A world whose store is the one that all tests of this user share, so that Bun is downloaded once.
    pub fn with_shared_store() -> Self {
        let mut world = Self::new();
        world.env.insert("ADMIT_STORE".into(), shared_store().display().to_string());
        world
    }

    /// A world with a store of its own, beside its home.
    pub fn with_own_store() -> Self {
        let mut world = Self::new();
        world.env.insert("ADMIT_STORE".into(), world.store().display().to_string());
        world
    }

    pub fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn cwd(&self) -> PathBuf {
        self.dir.path().join("cwd")
    }

    /// The same for what runs in this process.
    pub fn host(&self) -> Host {
        Host::with(self.env.clone(), self.cwd())
    }

    /// Where its records are.
    pub fn root(&self) -> PathBuf {
        self.home().join(".local/share/admit/root")
    }

    pub fn runs(&self) -> PathBuf {
        self.home().join(".local/state/admit/runs")
    }

    /// A record of its own.
    pub fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        files::write(self.root().join(path), bytes);
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// A line as a person types it into a shell, in which `admit` is this one.
    pub fn shell(&self, line: &str) -> Run {
        let script = format!("admit() {{ \"$ADMIT\" \"$@\"; }}\n{line}");
        let mut command = self.command_behind(&["sh", "-e", "-c", &script, "sh"], &[]);
        self.run(line, command.env("ADMIT", admit()))
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(admit());
        command.args(args).current_dir(self.cwd()).env_clear().envs(&self.env).stdin(Stdio::null());
        command
    }

    /// admit behind another program, such as a shell that lowers a limit.
    pub fn command_behind(&self, wrapper: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(admit()).args(args);
        command.current_dir(self.cwd()).env_clear().envs(&self.env).stdin(Stdio::null());
        command
    }

    /// Runs admit under a limit or another setting of a shell.
    pub fn under(&self, setting: &str, args: &[&str]) -> Run {
        let script = format!("{setting} && exec \"$@\"");
        let mut command = self.command_behind(&["sh", "-c", &script, "sh"], args);
        self.run(&format!("{setting}; admit {}", args.join(" ")), &mut command)
    }

    pub fn run(&self, line: &str, command: &mut Command) -> Run {
        Run::of(line, self.cwd(), command.output().unwrap())
    }

    pub fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("admit starts")
    }

    /// What a started admit gives at its end.
    pub fn ended(&self, line: &str, child: Child) -> Run {
        Run::of(line, self.cwd(), child.wait_with_output().unwrap())
    }

    /// Runs admit to its end, and looks at the fixes that it prints.
    #[track_caller]
    pub fn admit(&self, args: &[&str]) -> Run {
        let run = self.plain(args);
        for fix in fixes::of(&run.stdout(), &run.stderr()) {
            if let Some(wrong) = fixes::wrong(&fix) {
                panic!("a fix that cannot be typed: {fix}\n{wrong}\n{run}");
            }
            if run.code() != Some(0) && fixes::harmless(&fix, self.path()) {
                let args = args.iter().map(|arg| (*arg).to_owned()).collect();
                self.refused.lock().unwrap().push((args, run.said(), fix));
            }
        }
        run
    }

    /// Runs admit to its end.
    pub fn plain(&self, args: &[&str]) -> Run {
        self.run(&format!("admit {}", args.join(" ")), &mut self.command(args))
    }
}

/// Where the last answers still hold, their fixes are typed, and must change them.
impl Drop for World {
    fn drop(&mut self) {
        let refused = std::mem::take(self.refused.get_mut().unwrap());
        for (args, said, fix) in refused.into_iter().rev() {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let about = format!("{} {fix}", args.first().unwrap_or(&""));
            if std::thread::panicking() || !fixes::first(&about, self.path()) {
                continue;
            }
            if self.plain(&args).said() != said {
                continue;
            }
            let typed = self.shell(&fix);
            let now = self.plain(&args);
            let changed = now.said() != said;
            assert!(changed, "typed as printed, it changes nothing: {fix}\n{typed}\n{now}");
        }
    }
}

/// The store that all tests of this user share. Every read of it is verified, so sharing loses nothing.
pub fn shared_store() -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    let base = var("ADMIT_TEST_STORE").map_or_else(
        || {
            #[expect(clippy::disallowed_methods, reason = "a scratch place of the test process")]
            std::env::temp_dir().join(format!("admit-test-store-{uid}"))
        },
        PathBuf::from,
    );
    std::fs::create_dir_all(&base).expect("the shared store's directory");
    base
}

pub struct Run {
    line: String,
    cwd: PathBuf,
    output: Output,
}

impl Run {
    /// A run that the test started itself.
    pub fn of(line: &str, cwd: PathBuf, output: Output) -> Self {
        Self { line: line.to_owned(), cwd, output }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// How it ended, and with which fixes: what a fix that was carried out must change.
    fn said(&self) -> String {
        format!("{:?} {:?}", self.code(), fixes::of(&self.stdout(), &self.stderr()))
    }

    /// The one JSON object on stdout.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout())
            .unwrap_or_else(|err| panic!("stdout is not JSON: {err}\n{self}"))
    }

    /// Fails with everything there is to see unless admit ended with `code`.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self}");
        self
    }

    /// As [`Run::expect`], and the error names `reason`.
    #[track_caller]
    pub fn refuse(self, code: i32, reason: &str) -> Self {
        self.expect(code).told(&format!("error[{reason}]"))
    }

    /// Fails unless this stands on standard error.
    #[track_caller]
    pub fn told(self, words: &str) -> Self {
        assert!(self.stderr().contains(words), "not on standard error: {words}\n{self}");
        self
    }

    /// Fails unless this stands on standard output.
    #[track_caller]
    pub fn shows(self, words: &str) -> Self {
        assert!(self.stdout().contains(words), "not on standard output: {words}\n{self}");
        self
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let files = std::fs::read_dir(&self.cwd).map_or_else(
            |err| err.to_string(),
            |dir| {
                dir.flatten()
                    .map(|e| e.file_name().to_string_lossy().into_owned())
                    .collect::<Vec<_>>()
                    .join(" ")
            },
        );
        write!(
            f,
            "command: {}\nin:      {} [{files}]\nended:   {}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.cwd.display(),
            self.output.status,
            self.stdout(),
            self.stderr()
        )
    }
}

/// Does `work` with every item, a few at a time, and gives what was wrong.
pub fn faults<T: Sync>(items: &[T], work: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let (next, faults) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let fault = work(item);
                    faults.lock().unwrap().extend(fault);
                }
            });
        }
    });
    faults.into_inner().unwrap()
}

/// Says a figure, or another thing that must be seen of a test that passes.
#[expect(clippy::print_stderr, reason = "it must be seen")]
pub fn tell(what: &str) {
    eprintln!("{what}");
}

/// Says that something was not run, in a line that the whole check collects.
pub fn not_run(what: &str) {
    tell(&format!("NOT RUN: {what}"));
}
