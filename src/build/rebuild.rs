//! Builds again while everything around them that may not matter is another, and finds out which of it does.
//!
//! A variation is made outside the sandbox: the locked directory inside stays what it is, and what a build sees of the
//! rest is what the sandbox lets through, which must be nothing. [`decide`] says what is built and what is concluded;
//! its caller builds.
//!
//! What cannot be varied is said, never left out in silence. The time of day is one of these: Linux has one clock for
//! all namespaces, and a preloaded library that lies about it would be another build. It is never held still either, so
//! two builds always happen at two times, and [`Blame::Itself`] is what a build that records the time ends as.

mod around;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::record::ids::{Blake3, Sha256};
use crate::record::lockfile::Output;

pub use around::{Around, Machine, NotVaried, OPEN_PATH, Variation, Varied, possible};

/// A build's output, kept in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    pub sha256: Sha256,
    pub blake3: Blake3,
    pub size: u64,
    /// Absent where the output was refused: it is not in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<PathBuf>,
}

impl Product {
    pub fn new(Output { sha256, blake3, size }: Output, output: Option<PathBuf>) -> Self {
        Self { sha256, blake3, size, output }
    }
}

/// A build that came to no output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    pub exit_code: u8,
    /// The error as data, as `admit build` gives it.
    pub error: serde_json::Value,
}

impl Failed {
    pub fn new(err: &Error) -> Self {
        Self { exit_code: err.kind().exit_code(), error: err.to_json() }
    }
}

pub type RoundEnd = Result<Product, Failed>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Expected {
    Lock {
        sha256: Sha256,
    },
    /// A build made first, with nothing varied.
    Build(Product),
}

impl Expected {
    pub fn sha256(&self) -> &Sha256 {
        match self {
            Expected::Lock { sha256 } => sha256,
            Expected::Build(product) => &product.sha256,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Round {
    pub varied: BTreeMap<Variation, String>,
    /// What came out; absent where nothing did.
    pub product: Option<Product>,
    /// Why nothing came out, or why what came out was refused.
    pub failed: Option<Failed>,
    pub identical: bool,
}

impl Round {
    fn new(around: &Around, ended: RoundEnd, expected: Option<&Expected>) -> Self {
        let varied = around.words();
        match ended {
            Ok(product) => {
                let identical = expected.is_some_and(|one| *one.sha256() == product.sha256);
                Self { varied, product: Some(product), failed: None, identical }
            }
            Err(failed) => Self { varied, product: None, failed: Some(failed), identical: false },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RebuildAnswer {
    Reproduced,
    Differs,
    /// A round came to no end, and none gave other bytes: nothing is known.
    NotRebuilt,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Blame {
    /// This alone changes the output; two builds with nothing varied were identical.
    Variation {
        variation: Variation,
        value: String,
        /// The output with nothing varied.
        a: Product,
        /// The output with this alone varied.
        b: Product,
    },
    /// Two builds with nothing varied differ: the time of day, chance, or an order that is not fixed.
    Itself { a: Product, b: Product },
    /// All builds here agree, whatever was varied, and differ from the lock.
    Lock {
        /// What all builds here gave.
        b: Product,
    },
    /// No variation alone changes the output; several together do, or it changes by chance.
    Together {
        /// The output with nothing varied.
        a: Product,
        b: Product,
    },
    /// A build that was needed to tell came to no end.
    Unknown { failed: Failed },
}

impl Blame {
    pub fn pair(&self) -> Option<(&Product, &Product)> {
        match self {
            Blame::Variation { a, b, .. } | Blame::Itself { a, b } | Blame::Together { a, b } => {
                Some((a, b))
            }
            Blame::Lock { .. } | Blame::Unknown { .. } => None,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Rebuilt {
    pub answer: RebuildAnswer,
    /// What the rounds were compared with; absent where not even the first build came to an end.
    pub expected: Option<Expected>,
    /// The rounds, in order; after one that came to no end there is none.
    pub rounds: Vec<Round>,
    pub identical: usize,
    /// Where a round differed: what the output follows.
    pub blame: Option<Blame>,
}

pub type Build<'a> = dyn FnMut(&Around) -> Result<RoundEnd> + 'a;

impl Rebuilt {
    /// One build with nothing varied, compared with `expected`.
    pub fn once(
        expected: Option<Expected>,
        product: Option<Product>,
        failed: Option<Failed>,
    ) -> Self {
        let same = |product: &Product| expected.as_ref().map(|one| *one.sha256() == product.sha256);
        let same = product.as_ref().and_then(same);
        let answer = match same {
            Some(true) => RebuildAnswer::Reproduced,
            Some(false) => RebuildAnswer::Differs,
            None => RebuildAnswer::NotRebuilt,
        };
        let identical = same == Some(true);
        let round = Round { varied: BTreeMap::new(), product, failed, identical };
        let (rounds, identical) = (vec![round], usize::from(identical));
        Self { answer, expected, rounds, identical, blame: None }
    }

    /// 0 for the same bytes. For other bytes 1, or what refused them; else that of the build that failed.
    pub fn exit_code(&self) -> u8 {
        let mut rounds = self.rounds.iter();
        match self.answer {
            RebuildAnswer::Reproduced => 0,
            RebuildAnswer::Differs => rounds
                .find_map(|round| round.product.as_ref().and(round.failed.as_ref()))
                .map_or(Kind::No.exit_code(), |failed| failed.exit_code),
            RebuildAnswer::NotRebuilt => rounds
                .find_map(|round| round.failed.as_ref())
                .map_or(Kind::Bug.exit_code(), |failed| failed.exit_code),
        }
    }
}

/// Builds the rounds and, where one differs, as often as it takes to say why.
///
/// # Errors
/// Those of `build`: what it could not even begin. A build that failed is an answer.
pub fn decide(
    locked: Option<&Sha256>,
    arounds: &[Around],
    build: &mut Build<'_>,
) -> Result<Rebuilt> {
    let mut done = Rebuilt {
        answer: RebuildAnswer::NotRebuilt,
        expected: None,
        rounds: Vec::new(),
        identical: 0,
        blame: None,
    };
    let expected = match locked {
        Some(sha256) => Expected::Lock { sha256: sha256.clone() },
        None => match build(&Around::default())? {
            Ok(product) => Expected::Build(product),
            Err(failed) => {
                done.rounds.push(Round::new(&Around::default(), Err(failed), None));
                return Ok(done);
            }
        },
    };
    for around in arounds {
        let round = Round::new(around, build(around)?, Some(&expected));
        let failed = round.failed.is_some();
        done.identical += usize::from(round.identical);
        done.rounds.push(round);
        if failed {
            break;
        }
    }
    let differing: Vec<_> = (arounds.iter().zip(&done.rounds))
        .filter_map(|(around, round)| Some((around, round.product.as_ref()?, round.identical)))
        .filter_map(|(around, product, identical)| (!identical).then_some((around, product)))
        .collect();
    if !differing.is_empty() {
        done.answer = RebuildAnswer::Differs;
        done.blame = Some(blame(&expected, &differing, build)?);
    } else if !arounds.is_empty() && done.identical == arounds.len() {
        done.answer = RebuildAnswer::Reproduced;
    }
    done.expected = Some(expected);
    Ok(done)
}

/// Two builds with nothing varied come first: where these differ, no variation is to blame.
fn blame(
    expected: &Expected,
    differing: &[(&Around, &Product)],
    build: &mut Build<'_>,
) -> Result<Blame> {
    let plain = Around::default();
    let a = match expected {
        Expected::Build(product) => product.clone(),
        Expected::Lock { .. } => match build(&plain)? {
            Ok(product) => product,
            Err(failed) => return Ok(Blame::Unknown { failed }),
        },
    };
    match build(&plain)? {
        Err(failed) => return Ok(Blame::Unknown { failed }),
        Ok(b) if b.sha256 != a.sha256 => return Ok(Blame::Itself { a, b }),
        Ok(_) => {}
    }
    let Some((around, b)) = differing.iter().find(|(_, product)| product.sha256 != a.sha256) else {
        return Ok(Blame::Lock { b: a });
    };
    for (variation, value) in around.words() {
        match build(&around.only(variation))? {
            Err(failed) => return Ok(Blame::Unknown { failed }),
            Ok(b) if b.sha256 != a.sha256 => {
                return Ok(Blame::Variation { variation, value, a, b });
            }
            Ok(_) => {}
        }
    }
    Ok(Blame::Together { a, b: (*b).clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ids::Digest;

    fn product(text: &str) -> Product {
        Product {
            sha256: Sha256::of(text.as_bytes()),
            blake3: Blake3::from_digest(&Digest::blake3(text.as_bytes())).unwrap(),
            size: 1,
            output: Some(text.into()),
        }
    }

    fn machine() -> Machine {
        Machine { cpus: vec![0, 3], time_namespaces: true }
    }

    fn arounds(rounds: usize) -> Vec<Around> {
        (0..rounds).map(|i| Around::of_round(i, &Variation::ALL, &machine(), false)).collect()
    }

    /// Rounds of a build whose output is what `output` makes of its surroundings and of the builds before.
    fn run(
        locked: Option<&str>,
        rounds: usize,
        output: impl Fn(&Around, usize) -> String,
    ) -> (Rebuilt, usize) {
        let mut builds = 0;
        let mut build = |around: &Around| {
            builds += 1;
            Ok(Ok(product(&output(around, builds))))
        };
        let locked = locked.map(|text| product(text).sha256);
        let done = decide(locked.as_ref(), &arounds(rounds), &mut build).unwrap();
        (done, builds)
    }

    #[test]
    fn the_same_bytes_in_every_round_are_reproduced() {
        let (done, builds) = run(Some("x"), 4, |_, _| "x".into());
        assert_eq!((done.answer, done.identical, builds), (RebuildAnswer::Reproduced, 4, 4));
        let (done, builds) = run(None, 2, |_, _| "x".into());
        assert_eq!((done.answer, done.identical, builds), (RebuildAnswer::Reproduced, 2, 3));
        assert_eq!(run(Some("x"), 0, |_, _| "x".into()).0.answer, RebuildAnswer::NotRebuilt);
    }

    #[test]
    fn each_variation_alone_is_found() {
        for guilty in Variation::ALL {
            let follows = |around: &Around, _| format!("{:?}", around.0.get(&guilty));
            for locked in [None, Some("None")] {
                let (done, _) = run(locked, 2, follows);
                assert_eq!((done.answer, done.identical), (RebuildAnswer::Differs, 0), "{guilty}");
                match done.blame {
                    Some(Blame::Variation { variation, .. }) => assert_eq!(variation, guilty),
                    other => panic!("{guilty}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn what_is_set_is_what_is_left_alone() {
        let all = &arounds(3)[2];
        for variation in Variation::ALL {
            let alone = Around::of_round(2, &[variation], &machine(), false);
            assert_eq!(all.only(variation), alone, "{variation}");
            assert_ne!(alone, Around::default(), "{variation}");
        }
    }

    #[test]
    fn what_no_variation_explains_is_not_blamed_on_one() {
        let (done, _) = run(Some("x"), 2, |_, builds| format!("build {builds}"));
        assert!(matches!(done.blame, Some(Blame::Itself { .. })), "{:?}", done.blame);
        let (done, _) = run(Some("x"), 2, |_, _| "y".into());
        assert!(matches!(done.blame, Some(Blame::Lock { .. })), "{:?}", done.blame);
        let (done, _) = run(Some("x"), 2, |around, _| match around.0.len() {
            0 | 1 => "x".into(),
            _ => "y".into(),
        });
        assert!(matches!(done.blame, Some(Blame::Together { .. })), "{:?}", done.blame);
    }

    #[test]
    fn a_build_that_fails_is_neither_yes_nor_no() {
        let failed = || Failed { exit_code: 6, error: serde_json::json!({}) };
        let go = |locked: bool, good: usize, other: bool| {
            let mut builds = 0;
            let mut build = |_: &Around| {
                builds += 1;
                Ok(match builds {
                    n if n > good => Err(failed()),
                    n => Ok(product(if other && n == good { "y" } else { "x" })),
                })
            };
            let locked = locked.then(|| product("x").sha256);
            decide(locked.as_ref(), &arounds(3), &mut build).unwrap()
        };
        let done = go(false, 0, false);
        assert_eq!((done.answer, done.rounds.len()), (RebuildAnswer::NotRebuilt, 1));
        let done = go(true, 2, false);
        assert_eq!((done.answer, done.identical), (RebuildAnswer::NotRebuilt, 2));
        assert_eq!(done.rounds.len(), 3);
        // Other bytes were seen: that stands, though why is not known.
        let done = go(true, 2, true);
        assert_eq!((done.answer, done.identical), (RebuildAnswer::Differs, 1));
        assert!(matches!(done.blame, Some(Blame::Unknown { .. })));
    }

    #[test]
    fn rounds_differ_and_what_cannot_be_varied_is_said() {
        let arounds = arounds(4);
        for (i, one) in arounds.iter().enumerate() {
            assert_eq!(one.0.len(), Variation::ALL.len());
            assert!(arounds.iter().skip(i + 1).all(|other| other != one));
        }
        let bare = Machine { cpus: vec![0], time_namespaces: false };
        let (can, cannot) = possible(&Variation::ALL, &bare);
        assert_eq!(can.len(), 6);
        let names: Vec<_> = cannot.iter().map(|one| one.variation).collect();
        assert_eq!(names, [Variation::Time, Variation::Cpus]);
        assert!("nothing".parse::<Variation>().is_err());
    }

    #[test]
    fn one_build_has_the_exit_code_of_what_it_shows() {
        let lock = || Some(Expected::Lock { sha256: product("x").sha256 });
        let refused = || Some(Failed { exit_code: 5, error: serde_json::json!({}) });
        let code = |expected, text: Option<&str>, failed| {
            let done = Rebuilt::once(expected, text.map(product), failed);
            (done.answer, done.exit_code())
        };
        assert_eq!(code(lock(), Some("x"), None), (RebuildAnswer::Reproduced, 0));
        assert_eq!(code(lock(), Some("y"), refused()), (RebuildAnswer::Differs, 5));
        let before = || Some(Expected::Build(product("x")));
        assert_eq!(code(before(), Some("y"), None), (RebuildAnswer::Differs, 1));
        assert_eq!(code(before(), None, refused()), (RebuildAnswer::NotRebuilt, 5));
    }
}
