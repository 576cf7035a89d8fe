use proptest::prelude::*;

use super::cause::Cause;
use super::{Difference, Explanation, KnownBun, Pair, diff};
use crate::bun::sample::{Source, WORD, appended, expanded, payload, plain};

const APP: &str = "/$bunfs/root/app";

fn file(text: &str) -> Vec<u8> {
    expanded(&plain(1), &payload(&[(APP, text.as_bytes(), b"")], "", 0xf))
}

fn of(a: &str, b: &str) -> Explanation {
    diff(&file(a), &file(b), &[], 3)
}

#[track_caller]
fn cause(a: &str, b: &str) -> Cause {
    let mut found = of(a, b);
    assert_eq!(found.causes.len(), 1, "{:?}", found.causes);
    found.causes.remove(0).cause
}

fn bundle(value: &str) -> String {
    let filler = "// node_modules/other/index.js\nvar x = 1;\n".repeat(40);
    format!(
        "{filler}// node_modules/@s/figlet/lib/i.js\nvar require_i = () => {{\n  {value}\n}};\n{filler}"
    )
}

#[test]
fn a_build_path_names_both_directories_the_package_and_the_line() {
    let at = |dir: &str| bundle(&format!("var __dirname = \"{dir}/node_modules/@s/figlet/lib\";"));
    let found = of(&at("/tmp/one"), &at("/srv/second/place"));
    let [blame] = &found.causes[..] else { panic!("{:?}", found.causes) };
    let Cause::BuildPath { directory, package, .. } = &blame.cause else { panic!("{blame:?}") };
    assert_eq!((directory.a.as_str(), directory.b.as_str()), ("/tmp/one", "/srv/second/place"));
    assert_eq!(package.as_deref(), Some("@s/figlet"));
    assert_eq!(blame.line.as_ref().map(|l| (l.a, l.b)), Some((83, 83)));
    assert_eq!(blame.source.as_deref(), Some("node_modules/@s/figlet/lib/i.js"));
    let Difference::Bun(found) = found.difference else { panic!("not read as Bun") };
    assert!(found.runtime.same);
    let hunk = &found.differing[0].hunks[0];
    assert_eq!(hunk.unified()[0], "@@ -83 +83 @@");
    assert!(hunk.removed[0].contains("/tmp/one/") && hunk.added[0].contains("/srv/second/"));
}

#[test]
fn a_minified_line_with_two_paths_is_one_cause_seen_twice() {
    let at = |dir: &str| {
        let filler = "a(1);".repeat(10_000);
        format!("{filler}var d=\"{dir}/node_modules/f\",n=\"{dir}/node_modules/f/i.js\";{filler}")
    };
    let found = of(&at("/p1"), &at("/other/p2"));
    assert_eq!(found.causes.len(), 1, "{:?}", found.causes);
    assert_eq!(found.causes[0].count, 2);
    let Difference::Bun(found) = found.difference else { panic!("not read as Bun") };
    assert!(found.differing[0].hunks[0].removed[0].len() < 400, "cut around the difference");
}

#[test]
fn what_differs_is_told_apart() {
    let v = |value: &str| bundle(&format!("use({value});"));
    let literals = |a: &str, b: &str| cause(&v(&format!("\"{a}\"")), &v(&format!("\"{b}\"")));
    type Kind = fn(Pair<String>) -> Cause;
    let pairs: [(Kind, &str, &str); 3] = [
        (Cause::NodeEnv, "development", "production"),
        (Cause::Time, "2024-01-02T03:04:05Z", "2026-11-20T03:04:05Z"),
        (Cause::EmbeddedName, "/$bunfs/root/a", "/$bunfs/root/b"),
    ];
    for (kind, a, b) in pairs {
        assert_eq!(literals(a, b), kind(Pair::new(a.to_owned(), b.to_owned())));
    }
    let [a, b] = ["1.2.3", "1.10.0-rc.1"].map(str::to_owned);
    let package = Some("@s/figlet".to_owned());
    assert_eq!(literals(&a, &b), Cause::Version { a, b, package });
    assert!(matches!(cause(&v("1700000000000"), &v("1800000000001")), Cause::Time(_)));
    assert_eq!(cause(&v("one"), &v("two")), Cause::Content);
    let (a, b) =
        ("// src/a.ts\nx();\n// src/b.ts\ny();\n", "// p/src/a.ts\nx();\n// p/src/b.ts\ny();\n");
    assert!(matches!(cause(a, b), Cause::PathComment(_)));
    let (a, b) = ("[\n  a,\n  b,\n  c\n]\n", "[\n  c,\n  a,\n  b\n]\n");
    assert_eq!(cause(a, b), Cause::Order { of: "text".into() });
    assert_eq!(cause("x();\n//# debugId=1\n", "x();\n//# debugId=2\n"), Cause::SourcemapOnly);
}

#[test]
fn flags_arguments_names_sets_and_order_of_modules() {
    let with = |modules: &[(&str, &[u8], &[u8])], argv: &str, flags: u32| {
        expanded(&plain(1), &payload(modules, argv, flags))
    };
    let app: Source<'_> = (APP, b"1", b"");
    let (x, y): (Source<'_>, Source<'_>) = (("/x", b"x", b""), ("/y", b"y", b""));
    let kinds = |a: &[u8], b: &[u8]| {
        diff(a, b, &[], 3).causes.into_iter().map(|b| b.cause).collect::<Vec<_>>()
    };
    let base = with(&[app, x, y], "", 0xf);
    assert_eq!(kinds(&base, &with(&[app, x, y], "", 0xc)), [Cause::Flags(Pair::new(0xf, 0xc))]);
    assert!(matches!(kinds(&base, &with(&[app, x, y], "--smol", 0xf))[..], [Cause::Arguments(_)]));
    assert_eq!(kinds(&base, &with(&[app, x], "", 0xf)), [Cause::ModuleSet(Pair::new(1, 0))]);
    assert_eq!(kinds(&base, &with(&[app, y, x], "", 0xf)), [Cause::Order { of: "modules".into() }]);
    let renamed = with(&[("/$bunfs/root/other", b"1", b""), x, y], "", 0xf);
    assert!(matches!(kinds(&base, &renamed)[..], [Cause::EmbeddedName(_)]));
    let map = with(&[(APP, b"1", b"map"), x, y], "", 0xf);
    assert_eq!(kinds(&base, &map), [Cause::SourcemapOnly]);
    let asset = |name, text: &'static [u8]| with(&[app, (name, text, b"")], "", 0xf);
    let found = diff(&asset("/a-0123abcd.txt", b"one"), &asset("/a-9876zyxw.txt", b"two"), &[], 3);
    let Difference::Bun(found) = found.difference else { panic!("not read as Bun") };
    assert!(found.only_a.is_empty() && found.only_b.is_empty(), "a renamed asset is one asset");
}

#[test]
fn runtimes_are_the_same_whatever_the_graphs_sizes_are() {
    let (one, other) = (plain(1), plain(9));
    let known =
        [KnownBun { label: "one", bytes: &one }, KnownBun { label: "other", bytes: &other }];
    let graph = |text: String| payload(&[(APP, text.as_bytes(), b"")], "", 0xf);
    for make in [expanded, appended] {
        let small = make(&one, &graph("1".into()));
        let large = make(&one, &graph("2".repeat(9000)));
        let Difference::Bun(found) = diff(&small, &large, &known, 3).difference else { panic!() };
        assert!(found.runtime.same, "{:?}", found.runtime.parts);
        assert_eq!(found.runtime.proven.b.as_deref(), Some("one"));
        let second = make(&other, &graph("1".into()));
        let explained = diff(&small, &second, &known, 3);
        assert!(
            matches!(&explained.causes[0].cause, Cause::Runtime(Pair { a, b }) if a == "one" && b == "other")
        );
        let Difference::Bun(found) = explained.difference else { panic!() };
        assert!(!found.runtime.same && found.differing.is_empty());
        // A byte behind the graph that its size does not explain.
        for at in [small.len() - 3, small.len() - 6 * 64 - 4] {
            let mut changed = small.clone();
            changed[at] ^= 1;
            let Difference::Bun(found) = diff(&small, &changed, &known, 3).difference else {
                continue;
            };
            assert!(!found.runtime.same, "byte {at} of {}", small.len());
            assert_eq!(found.runtime.proven.b, None);
        }
    }
}

#[test]
fn a_decoy_is_named_and_compared_as_bytes() {
    let good = file("1");
    let mut decoy = good.clone();
    decoy[WORD..WORD + 8].fill(0);
    let found = diff(&good, &decoy, &[], 3);
    let note = &found.notes[0];
    assert!(note.starts_with("b: ") && note.contains("plain Bun"), "{:?}", found.notes);
    assert!(matches!(found.difference, Difference::Elf { .. } | Difference::Bytes { .. }));
}

#[test]
fn other_files_get_hunks_or_a_range() {
    let same = diff(b"x", b"x", &[], 3);
    assert!(same.same && matches!(same.difference, Difference::Same));
    let Difference::Text { hunks, hunks_total } =
        diff(b"a\nb\nc\n", b"a\nB\nc\nd\n", &[], 1).difference
    else {
        panic!("text")
    };
    assert_eq!((hunks.len(), hunks_total, hunks[0].line.a), (1, 2, 2));
    let Difference::Bytes { range } = diff(b"\0abcX\x01", b"\0abYZX\x01", &[], 3).difference else {
        panic!("bytes")
    };
    assert_eq!((range.first, range.span.a, range.span.b), (3, 1, 2));
    let mut changed = plain(1);
    changed[0x1104] = 9;
    let Difference::Elf { sections } = diff(&plain(1), &changed, &[], 3).difference else {
        panic!("sections")
    };
    assert_eq!((sections.len(), sections[0].name.as_str(), sections[0].first), (1, ".data", 4));
}

proptest! {
    /// Hunks account for every difference: putting the second text's parts into the first gives the second.
    #[test]
    fn hunks_turn_one_text_into_the_other(
        a in "[ab;\n\r]{0,60}", b in "[ab;\n\r]{0,60}", head in "[a;\n]{0,20}", tail in "[b;\n\r]{0,20}",
    ) {
        let (a, b) = (format!("{head}{a}{tail}").into_bytes(), format!("{head}{b}{tail}").into_bytes());
        let spans = super::text::spans(&a, &b);
        let mut out = Vec::<u8>::new();
        let mut at = 0;
        for span in &spans {
            out.extend(&a[at..span.a.start]);
            out.extend(&b[span.b.clone()]);
            at = span.a.end;
        }
        out.extend(&a[at..]);
        prop_assert_eq!(out, b);
    }

    /// Two hostile files are explained without a panic, and never called the same.
    #[test]
    fn any_pair_is_explained(
        edits in prop::collection::vec((0usize..20_000, any::<u8>()), 1..5),
        cut in prop::option::of(0usize..20_000),
        text in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let good = file("var a = \"/x/y\";");
        let mut bad = expanded(&plain(1), &payload(&[(APP, &text, b"")], "", 0xf));
        for (at, value) in edits {
            let len = bad.len();
            bad[at % len] = value;
        }
        bad.truncate(cut.unwrap_or(bad.len()));
        let found = diff(&good, &bad, &[], 3);
        prop_assert_eq!(found.same, good == bad);
        prop_assert!(found.same || !found.causes.is_empty() || matches!(found.difference, Difference::Bun(_)));
        let _ = diff(&text, &bad, &[], 3);
    }
}
