//! An answer that cannot be written is not a yes; a reader that went away is nobody's fault.

use std::fs::{File, OpenOptions};
use std::process::Stdio;

use crate::util::{Run, World};

/// Runs admit with this as its standard output.
fn onto(world: &World, args: &[&str], stdout: impl Into<Stdio>) -> Run {
    let mut command = world.command(args);
    let output = command.stdout(stdout).stderr(Stdio::piped()).output().unwrap();
    Run::of(&format!("admit {}", args.join(" ")), world.cwd(), output)
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// One question of every kind of answer: words, data, raw bytes, help.
const QUESTIONS: [&[&str]; 6] = [
    &["stages"],
    &["stages", "--json"],
    &["lock", "case", "--show"],
    &["model", "list"],
    &["--help"],
    &["--version"],
];

#[test]
fn a_full_disk_takes_no_answer() {
    let world = World::new();
    for args in QUESTIONS {
        onto(&world, args, full()).refuse(9, "disk_full");
    }
    // A descriptor that cannot be written takes everything, if one asks the standard library.
    for args in &QUESTIONS[..4] {
        onto(&world, args, File::open("/dev/null").unwrap()).refuse(2, "io");
    }
}

#[test]
fn a_no_stays_the_no_that_it_is() {
    let world = World::new();
    let run = onto(&world, &["model", "check", "nobody/nothing"], full()).expect(3);
    assert!(run.stderr().contains("error[disk_full]"), "{run}");
    onto(&world, &["lock", "nobody", "--show", "--json"], full()).refuse(2, "provider_not_locked");
}

#[test]
fn a_reader_that_went_away_has_what_it_wanted() {
    let world = World::new();
    for args in QUESTIONS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let run = onto(&world, args, writer).expect(0);
        assert_eq!(run.stderr(), "", "{run}");
    }
}
