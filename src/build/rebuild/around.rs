//! What is around a build, as a value: which of it may vary, and to what.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;

use crate::error::Result;
use crate::record::words;

words! {
    /// Something around a build that its output must not depend on, in the order in which it is suspected.
    pub enum Variation {
        /// Where the build's files are on this machine, and the directory inside where the lock leaves it open.
        Path = "path",
        /// The clocks that count from the boot.
        Time = "time",
        /// Variables that change what Bun or Node do.
        Env = "env",
        Locale = "locale",
        Timezone = "timezone",
        Umask = "umask",
        Cpus = "cpus",
        Home = "home",
    }
}

impl FromStr for Variation {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_text(text).ok_or_else(|| {
            format!("\"{text}\" is none of: all, {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}

#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub cpus: Vec<usize>,
    pub time_namespaces: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotVaried {
    pub variation: Variation,
    pub why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Varied {
    /// The directory on disk to build in, below the scratch directory of all rounds, and the one inside where the lock
    /// leaves it open.
    Path {
        scratch: String,
        inside: &'static str,
    },
    /// Seconds by which the clocks from the boot are ahead.
    Clock(u32),
    /// Variables of admit's own process.
    Env(Vec<(&'static str, &'static str)>),
    Umask(u32),
    Cpu(usize),
    /// An empty home, below the scratch directory of all rounds.
    Home(String),
}

/// What is around one build: what was varied, and to what, also in words. The default is how `admit build` finds it, in
/// [`OPEN_PATH`] where the lock names none, in memory if it fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Around(pub BTreeMap<Variation, (Varied, String)>);

/// The directory inside of every build whose path is neither locked nor varied.
pub const OPEN_PATH: &str = "/tmp/admit-rebuild";

/// Directories inside, of other lengths and depths.
const PATHS: [&str; 4] = [
    "/tmp/elsewhere",
    "/tmp/a/deeper/directory/of-another-length",
    "/build/x",
    "/tmp/x/admit-rebuild-of-a-name-that-is-much-longer-than-all-the-others-here",
];
/// Seconds ahead: a day, a month, a year, 24 days (where a 32-bit count of milliseconds wraps).
const AHEAD: [u32; 4] = [86_400, 2_592_000, 31_536_000, 2_147_484];
/// Each is one that Bun, Node or a build script is known to follow (bun.md, section F).
const VARIABLES: [(&str, [&str; 2]); 8] = [
    ("NODE_ENV", ["planted", "development"]),
    ("BUN_OPTIONS", ["--minify", "--smol"]),
    ("BUN_CONFIG_NO_VERIFY", ["1", "0"]),
    ("NODE_OPTIONS", ["--no-warnings", "--max-old-space-size=256"]),
    ("SOURCE_DATE_EPOCH", ["1", "2000000000"]),
    ("CI", ["true", "1"]),
    ("USER", ["somebody", "nobody"]),
    ("HOSTNAME", ["elsewhere", "another"]),
];
/// Locales whose number formats, letter cases and orders differ.
const LOCALES: [&str; 4] = ["tr_TR.UTF-8", "de_DE.ISO-8859-1", "ja_JP.eucJP", "C"];
const LOCALE_NAMES: [&str; 3] = ["LANG", "LC_ALL", "LANGUAGE"];
/// The zones farthest apart, and one with an odd offset.
const ZONES: [&str; 4] = ["Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu", "America/St_Johns"];
/// Masks; 022 is the usual one.
const MASKS: [u32; 3] = [0o077, 0o002, 0o027];

impl Around {
    /// What is around round number `round`, counted from 0: `wanted` has its values of that round.
    pub fn of_round(
        round: usize,
        wanted: &[Variation],
        machine: &Machine,
        locked_path: bool,
    ) -> Self {
        let set = |one: &Variation| Some((*one, varied(*one, round, machine, locked_path)?));
        Self(wanted.iter().filter_map(set).collect())
    }

    /// This with one variation left, as it is here.
    pub(super) fn only(&self, variation: Variation) -> Self {
        Self(self.0.get(&variation).map(|one| (variation, one.clone())).into_iter().collect())
    }

    pub(super) fn words(&self) -> BTreeMap<Variation, String> {
        self.0.iter().map(|(variation, (_, words))| (*variation, words.clone())).collect()
    }
}

fn varied(
    variation: Variation,
    round: usize,
    machine: &Machine,
    locked_path: bool,
) -> Option<(Varied, String)> {
    Some(match variation {
        Variation::Path => {
            let inside = PATHS[round % PATHS.len()];
            let scratch = format!("round {}{}", round + 1, "/deeper".repeat(round % 3));
            let words = match locked_path {
                true => format!("on disk below \"{scratch}\"; inside as locked"),
                false => format!("{inside} inside; on disk below \"{scratch}\""),
            };
            (Varied::Path { scratch, inside }, words)
        }
        Variation::Time => {
            let ahead = AHEAD[round % AHEAD.len()];
            let words =
                format!("clocks from the boot {ahead} s ahead; the time of day goes on by itself");
            (Varied::Clock(ahead), words)
        }
        Variation::Env => {
            let values = VARIABLES.map(|(name, values)| (name, values[round % 2]));
            let words = values.map(|(name, value)| format!("{name}={value}"));
            (Varied::Env(values.into()), words.join(" "))
        }
        Variation::Locale => {
            let locale = LOCALES[round % LOCALES.len()];
            (Varied::Env(LOCALE_NAMES.map(|name| (name, locale)).into()), locale.to_owned())
        }
        Variation::Timezone => {
            let zone = ZONES[round % ZONES.len()];
            (Varied::Env(vec![("TZ", zone)]), zone.to_owned())
        }
        Variation::Umask => {
            let mask = MASKS[round % MASKS.len()];
            (Varied::Umask(mask), format!("{mask:03o}"))
        }
        Variation::Cpus => {
            let cpu = *machine.cpus.get(round % machine.cpus.len().max(1))?;
            (Varied::Cpu(cpu), format!("only number {cpu} of {}", machine.cpus.len()))
        }
        Variation::Home => {
            let home = format!("home of round {}", round + 1);
            let words = format!("\"{home}\", empty");
            (Varied::Home(home), words)
        }
    })
}

pub fn possible(asked: &[Variation], machine: &Machine) -> (Vec<Variation>, Vec<NotVaried>) {
    let why = |variation: Variation| match variation {
        Variation::Time if !machine.time_namespaces => {
            Some("the kernel has no time namespaces; only the time of day goes on by itself")
        }
        Variation::Cpus if machine.cpus.len() < 2 => Some("there is one processor to run on"),
        _ => None,
    };
    let (mut can, mut cannot) = (Vec::new(), Vec::new());
    for variation in asked.iter().copied() {
        match why(variation) {
            None => can.push(variation),
            Some(why) => cannot.push(NotVaried { variation, why }),
        }
    }
    (can, cannot)
}
