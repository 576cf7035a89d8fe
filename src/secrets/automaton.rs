//! Looking for many byte patterns at once in a stream (Aho and Corasick, 1975).
//!
//! Our own and not a crate, for two reasons: the depth of the current state is the length of the longest suffix of
//! the stream that could still become a pattern, which is what the proxy must hold back, and the patterns are wiped
//! from memory when the automaton is dropped.

use zeroize::Zeroize;

/// One state: what has been read so far is a prefix of some pattern.
#[derive(Default)]
struct Node {
    /// The last byte of that prefix.
    byte: u8,
    /// The first of the states that are one byte longer; they are linked by `sibling`. 0 for none.
    child: u32,
    sibling: u32,
    /// The state of the longest proper suffix that is also a prefix of a pattern.
    fail: u32,
    /// How many bytes this state stands for.
    depth: u32,
    /// Index of the pattern that ends here.
    pattern: Option<u32>,
    /// The nearest state along `fail` at which a pattern ends; 0 for none.
    next_end: u32,
}

pub(super) struct Automaton {
    nodes: Vec<Node>,
    /// The root's next states as a table, since nearly every byte of an innocent stream is looked up there.
    root: [u32; 256],
}

impl Automaton {
    /// Builds the automaton. Pattern `i` is reported as `i`; of two equal patterns the first is reported. An empty
    /// pattern is never reported.
    pub(super) fn new(patterns: &[impl AsRef<[u8]>]) -> Self {
        // Capacity for all states at once: a vector that grows would leave its old bytes behind, out of reach of the wipe.
        let most = 1 + patterns.iter().map(|pattern| pattern.as_ref().len()).sum::<usize>();
        let mut nodes = Vec::with_capacity(most);
        nodes.push(Node::default());
        let mut out = Self { nodes, root: [0; 256] };
        for (index, pattern) in patterns.iter().enumerate() {
            let mut at = 0;
            for &byte in pattern.as_ref() {
                at = match out.below(at, byte) {
                    0 => out.add(at, byte),
                    next => next,
                };
            }
            let end = &mut out.nodes[at as usize].pattern;
            if at != 0 && end.is_none() {
                *end = Some(index as u32);
            }
        }
        out.link();
        out
    }

    fn add(&mut self, at: u32, byte: u8) -> u32 {
        let next = self.nodes.len() as u32;
        let parent = &mut self.nodes[at as usize];
        let (sibling, depth) = (std::mem::replace(&mut parent.child, next), parent.depth + 1);
        self.nodes.push(Node { byte, sibling, depth, ..Node::default() });
        if at == 0 {
            self.root[usize::from(byte)] = next;
        }
        next
    }

    /// The state one byte longer than `at`; 0 where no pattern goes on with `byte`.
    fn below(&self, at: u32, byte: u8) -> u32 {
        if at == 0 {
            return self.root[usize::from(byte)];
        }
        let mut next = self.nodes[at as usize].child;
        while next != 0 && self.nodes[next as usize].byte != byte {
            next = self.nodes[next as usize].sibling;
        }
        next
    }

    /// Sets `fail` and `next_end`, breadth first.
    fn link(&mut self) {
        let mut queue = std::collections::VecDeque::from([0]);
        while let Some(at) = queue.pop_front() {
            let mut next = self.nodes[at as usize].child;
            while next != 0 {
                let fail = match at {
                    0 => 0,
                    _ => self.step(self.nodes[at as usize].fail, self.nodes[next as usize].byte),
                };
                let end = &self.nodes[fail as usize];
                let next_end = if end.pattern.is_some() { fail } else { end.next_end };
                let node = &mut self.nodes[next as usize];
                (node.fail, node.next_end) = (fail, next_end);
                queue.push_back(next);
                next = node.sibling;
            }
        }
    }

    /// The state after `byte`, coming from `state`; 0 is the start.
    pub(super) fn step(&self, mut state: u32, byte: u8) -> u32 {
        loop {
            let next = self.below(state, byte);
            if next != 0 || state == 0 {
                return next;
            }
            state = self.nodes[state as usize].fail;
        }
    }

    /// Length in bytes of the longest suffix read so far that is a prefix of a pattern.
    pub(super) fn depth(&self, state: u32) -> usize {
        self.nodes[state as usize].depth as usize
    }

    /// The patterns that end in `state`, longest first.
    pub(super) fn ends(&self, state: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = state;
        std::iter::from_fn(move || {
            while at != 0 {
                let node = &self.nodes[at as usize];
                at = node.next_end;
                if let Some(pattern) = node.pattern {
                    return Some(pattern);
                }
            }
            None
        })
    }
}

impl Drop for Automaton {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.byte.zeroize();
        }
        self.root.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hits(patterns: &[&[u8]], text: &[u8]) -> Vec<(usize, u32)> {
        let machine = Automaton::new(patterns);
        let mut state = 0;
        let mut out = Vec::new();
        for (i, &byte) in text.iter().enumerate() {
            state = machine.step(state, byte);
            out.extend(machine.ends(state).map(|p| (i + 1, p)));
        }
        out.sort_unstable();
        out
    }

    #[test]
    fn overlapping_patterns_are_all_found() {
        let found = hits(&[b"he", b"she", b"his", b"hers"], b"ushers");
        assert_eq!(found, [(4, 0), (4, 1), (6, 3)]);
    }

    #[test]
    fn depth_is_what_could_still_become_a_pattern() {
        let machine = Automaton::new(&[b"abcab".as_slice(), b"bd"]);
        let mut state = 0;
        let mut depths = Vec::new();
        for &byte in b"xabcabd" {
            state = machine.step(state, byte);
            depths.push(machine.depth(state));
        }
        assert_eq!(depths, [0, 1, 2, 3, 4, 5, 2]);
    }

    proptest! {
        #[test]
        fn same_as_looking_at_every_place(
            patterns in prop::collection::vec("[ab]{1,4}", 1..6),
            text in "[abc]{0,60}",
        ) {
            let mut distinct = patterns.clone();
            distinct.sort();
            distinct.dedup();
            let bytes: Vec<&[u8]> = distinct.iter().map(|p| p.as_bytes()).collect();
            let mut want = Vec::new();
            for (i, p) in bytes.iter().enumerate() {
                for at in 0..text.len() {
                    if text.as_bytes()[at..].starts_with(p) {
                        want.push((at + p.len(), i as u32));
                    }
                }
            }
            want.sort_unstable();
            prop_assert_eq!(hits(&bytes, text.as_bytes()), want);
        }
    }
}
