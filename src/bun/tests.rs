use proptest::prelude::*;

use super::exe::Executable;
use super::graph::Graph;
use super::inject::{Layout, prove_runtime};
use super::sample::{CODE, WORD, appended, expanded, payload, plain};
use crate::error::Reason;

const APP: &str = "/$bunfs/root/app";

fn graph() -> Vec<u8> {
    payload(&[(APP, b"console.log(1)", b"map"), ("/$bunfs/root/a.txt", b"hi", b"")], "--smol", 0xf)
}

#[test]
fn reads_modules_entry_arguments_and_flags() {
    let (base, graph) = (plain(1), graph());
    for file in [expanded(&base, &graph), appended(&base, &graph)] {
        let exe = Executable::read(&file).expect("readable");
        assert_eq!(exe.graph, Graph::read(&graph).expect("readable"));
        assert_eq!(exe.word_at, WORD);
        let entry = exe.graph.entry_module();
        assert_eq!((entry.name, entry.contents.bytes), (APP, &b"console.log(1)"[..]));
        assert_eq!(entry.sourcemap.bytes, b"map");
        assert_eq!(exe.graph.modules[1].contents.bytes, b"hi");
        assert_eq!((exe.graph.argv, exe.graph.flags, exe.graph.unexplained), ("--smol", 0xf, 0));
        let runtime = exe.runtime(Some(&base));
        assert!(runtime.proven && !runtime.autoload_bunfig && !runtime.autoload_dotenv);
        assert_eq!((runtime.modules, runtime.graph_size), (2, graph.len() as u64));
        assert!(!exe.runtime(None).proven && !exe.runtime(Some(&plain(2))).proven);
    }
}

#[test]
fn default_flags_load_what_lies_in_the_working_directory() {
    let graph = payload(&[(APP, b"1", b"")], "", 0xc);
    let graph = Graph::read(&graph).expect("readable");
    assert!(graph.autoload_bunfig() && graph.autoload_dotenv());
}

#[test]
fn both_layouts_are_proven() {
    let (base, graph) = (plain(1), graph());
    assert_eq!(prove_runtime(&base, &expanded(&base, &graph)), Ok(Layout::Expanded));
    assert_eq!(prove_runtime(&base, &appended(&base, &graph)), Ok(Layout::Appended));
    // AArch64 aligns the graph to 64 KiB.
    let mut arm = base;
    arm[0x12] = 183;
    assert_eq!(prove_runtime(&arm, &expanded(&arm, &graph)), Ok(Layout::Expanded));
}

#[test]
fn another_bun_is_a_mismatch_at_its_first_byte_of_code() {
    let graph = graph();
    let wrong = prove_runtime(&plain(1), &expanded(&plain(7), &graph)).expect_err("another Bun");
    assert_eq!((wrong.offset, wrong.what.as_str()), (CODE as u64, "Bun's code and data"));
    assert_ne!(wrong.expected, wrong.found);
    let err = wrong.into_error();
    assert_eq!(err.reason(), Reason::RuntimeMismatch);
}

/// Nothing but the payload may differ in a single byte, wherever it is.
#[test]
fn every_changed_byte_outside_the_payload_is_found() {
    let (base, graph) = (plain(1), graph());
    for file in [expanded(&base, &graph), appended(&base, &graph)] {
        let at = Executable::read(&file).expect("readable").graph_at + 8;
        for index in (0..file.len()).filter(|i| !(at..at + graph.len()).contains(i)) {
            let mut changed = file.clone();
            changed[index] ^= 0x40;
            assert!(prove_runtime(&base, &changed).is_err(), "byte {index} of {}", file.len());
        }
        for changed in [[&file[..], b"\0"].concat(), file[..file.len() - 1].to_vec()] {
            assert!(prove_runtime(&base, &changed).is_err());
        }
    }
}

#[test]
fn a_decoy_graph_names_both_places() {
    let base = plain(1);
    // The section shows one graph, the word leads to another.
    let mut file = expanded(&base, &payload(&[(APP, b"good", b"")], "", 0xf));
    file[WORD..WORD + 8].copy_from_slice(&0x40_0200u64.to_le_bytes());
    for err in [Executable::read(&file), Executable::read_on(&base, &file)] {
        let err = err.expect_err("decoy");
        assert_eq!(err.reason(), Reason::RuntimeMismatch);
        assert!(err.expected_value().is_some_and(|v| v.contains("section .bun")));
        assert!(err.found_value().is_some_and(|v| v.contains("0x400200")), "{err:?}");
    }
    file[WORD..WORD + 8].fill(0);
    let err = Executable::read(&file).expect_err("plain Bun with a graph beside it");
    assert!(err.found_value().is_some_and(|v| v.contains("plain Bun")));
}

#[test]
fn bytes_that_nothing_points_to_are_counted() {
    let mut graph = payload(&[(APP, b"1", b"")], "", 0xf);
    // Hide five bytes between the last region and the offsets.
    let tail = graph.split_off(graph.len() - 48);
    graph.extend(b"\0\0evil!");
    let count = graph.len() as u64;
    graph.extend(tail);
    let at = graph.len() - 48;
    graph[at..at + 8].copy_from_slice(&count.to_le_bytes());
    let read = Graph::read(&graph).expect("readable");
    assert_eq!(read.unexplained, 5);
    assert_eq!((read.gaps.len(), read.gaps[0].size, read.gaps[0].nonzero), (1, 5, 5));
}

#[test]
fn what_is_not_a_compiled_executable_is_refused() {
    let (base, graph) = (plain(1), graph());
    let good = expanded(&base, &graph);
    let cases: [(&str, Vec<u8>); 5] = [
        ("empty", Vec::new()),
        ("text", b"#!/bin/sh\necho no\n".repeat(9)),
        ("plain Bun", base.clone()),
        ("cut", good[..good.len() / 2].to_vec()),
        ("32-bit", [&b"\x7fELF\x01"[..], &good[5..]].concat()),
    ];
    for (name, file) in cases {
        let err = Executable::read(&file).expect_err(name);
        assert_eq!(err.reason(), Reason::BadExecutable, "{name}: {err:?}");
        assert!(prove_runtime(&base, &file).is_err(), "{name}");
    }
    assert!(prove_runtime(&good, &good).is_err(), "a base that has a graph is no base");
}

proptest! {
    /// Hostile bytes give an answer: no panic, and never a proof for a file that differs outside the payload.
    #[test]
    fn mutated_files_are_answered(
        edits in prop::collection::vec((0usize..20_000, any::<u8>()), 1..6),
        header in prop::collection::vec((0usize..CODE, any::<u8>()), 0..4),
        cut in prop::option::of(0usize..20_000),
        append in any::<bool>(),
    ) {
        let (base, graph) = (plain(1), graph());
        let good = if append { appended(&base, &graph) } else { expanded(&base, &graph) };
        let mut file = good.clone();
        for (at, value) in edits.into_iter().chain(header) {
            let len = file.len();
            file[at % len] = value;
        }
        if let Some(cut) = cut {
            file.truncate(cut);
        }
        let _ = Executable::read(&file);
        let _ = Executable::read_on(&base, &file);
        let _ = prove_runtime(&file, &good);
        if prove_runtime(&base, &file).is_ok() {
            let at = Executable::read(&good).expect("readable").graph_at + 8;
            prop_assert_eq!(&file[..at], &good[..at]);
            prop_assert_eq!(&file[at + graph.len()..], &good[at + graph.len()..]);
        }
    }

    #[test]
    fn extreme_header_fields_are_answered(
        at in 0usize..(1 << 16),
        width in prop::sample::select(vec![2usize, 4, 8]),
        value in prop::sample::select(vec![0u64, 1, 0x7fff_ffff, 0xffff_ffff, 1 << 63, u64::MAX, u64::MAX - 7]),
        append in any::<bool>(),
    ) {
        let (base, graph) = (plain(1), graph());
        let mut file = if append { appended(&base, &graph) } else { expanded(&base, &graph) };
        let at = at % (file.len() - 8);
        file[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        let _ = Executable::read(&file);
        let _ = prove_runtime(&base, &file);
        let _ = prove_runtime(&file, &file);
    }

    #[test]
    fn mutated_graphs_are_answered(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        tail in any::<[u8; 32]>(),
        with_tail in any::<bool>(),
    ) {
        let mut graph = graph();
        let len = graph.len();
        for (at, value) in edits {
            graph[at.index(len)] = value;
        }
        if with_tail {
            graph[len - 40..len - 16].copy_from_slice(&tail[..24]);
        }
        if let Ok(graph) = Graph::read(&graph) {
            prop_assert!(graph.unexplained <= graph.size());
        }
    }
}

/// One bytecode image for all modules, of which each record has everything to the end (Bun 1.4 with `--bytecode` and
/// many modules): the bytes are counted once, whatever the records add up to.
#[test]
fn an_image_that_every_module_reaches_to_the_end_of_is_counted_once() {
    const MODULES: usize = 2000;
    let names: Vec<String> = (0..MODULES).map(|n| format!("/$bunfs/root/m{n}")).collect();
    let text = [7; 4096];
    let modules: Vec<_> = names.iter().map(|name| (name.as_str(), &text[..], &b""[..])).collect();
    let mut graph = payload(&modules, "", 0xf);
    let word = |graph: &[u8], at: usize| u32::from_le_bytes(graph[at..at + 4].try_into().unwrap());
    let table = word(&graph, graph.len() - 40) as usize;
    let contents = |graph: &[u8], n: usize| word(graph, table + n * 52 + 8);
    let end = contents(&graph, MODULES - 1) + text.len() as u32;
    for n in 0..MODULES {
        let start = contents(&graph, n);
        graph[table + n * 52 + 24..][..4].copy_from_slice(&start.to_le_bytes());
        graph[table + n * 52 + 28..][..4].copy_from_slice(&(end - start).to_le_bytes());
    }
    let read = Graph::read(&graph).expect("readable");
    let first = read.modules[0].bytecode;
    assert_eq!(first.len, end - contents(&graph, 0));
    assert_eq!(first.bytes.len() as u32, contents(&graph, 1) - contents(&graph, 0));
    assert_eq!(read.modules[MODULES - 1].bytecode.bytes, text);
    let all: usize = read.modules.iter().map(|module| module.bytecode.bytes.len()).sum();
    assert_eq!(all as u32, end - contents(&graph, 0), "every byte is one module's");
    assert_eq!(read.unexplained, 0);
    let base = plain(1);
    let shown = super::inspect::inspect(&expanded(&base, &graph), &[]).expect("inspected");
    let super::inspect::Content::Bun(shown) = shown.content else { panic!("compiled") };
    let region = &shown.modules[0].regions[1];
    assert_eq!((region.size, region.own), (first.len, Some(first.bytes.len())));
    assert!(shown.modules.iter().all(|m| m.regions.iter().all(|r| r.sha256.is_some())));
}
