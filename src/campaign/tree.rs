//! The Merkle tree of RFC 9162, section 2.1, over SHA-256: one task can be shown alone, and still be held against the
//! digest that was signed for all.

use crate::record::ids::{Algorithm, Digest};

/// Prefix of a leaf's bytes.
const LEAF: &[u8] = &[0];
/// Prefix of an inner node's.
const NODE: &[u8] = &[1];

fn leaf(data: &[u8]) -> Digest {
    Digest::sha256(&[LEAF, data].concat())
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::sha256(&[NODE, left.as_bytes(), right.as_bytes()].concat())
}

/// The largest power of two smaller than `n`, which is at least 2.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// The tree hash of leaves; that of nothing for none.
pub fn root<T: AsRef<[u8]>>(leaves: &[T]) -> Digest {
    match leaves {
        [] => Digest::sha256(b""),
        [one] => leaf(one.as_ref()),
        more => {
            let (left, right) = more.split_at(split(more.len()));
            node(&root(left), &root(right))
        }
    }
}

/// The inclusion path of leaf `index`, from the leaf upward; `None` where there is no such leaf.
pub fn path<T: AsRef<[u8]>>(leaves: &[T], index: usize) -> Option<Vec<Digest>> {
    if index >= leaves.len() {
        return None;
    }
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, other) = match index.checked_sub(left.len()) {
        None => (path(left, index)?, root(right)),
        Some(index) => (path(right, index)?, root(left)),
    };
    path.push(other);
    Some(path)
}

/// Whether `data` is leaf `index` of the tree with `size` leaves and this hash: the algorithm of section 2.1.3.2.
pub fn included(data: &[u8], index: u64, size: u64, path: &[Digest], root: &Digest) -> bool {
    if index >= size || path.iter().any(|digest| digest.algorithm() != Algorithm::Sha256) {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf(data);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            hash = node(sibling, &hash);
            while at % 2 == 0 && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at /= 2;
        last /= 2;
    }
    last == 0 && hash == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|i| format!("task {i}").into_bytes()).collect()
    }

    #[test]
    fn the_hashes_are_those_of_the_reference_vectors() {
        // The eight leaves that implementations of certificate transparency are tested with.
        let leaves: Vec<Vec<u8>> = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ]
        .iter()
        .map(|text| hex::decode(text).unwrap())
        .collect();
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        for (n, want) in roots.iter().enumerate() {
            assert_eq!(root(&leaves[..=n]).to_string(), format!("sha256:{want}"), "{n}");
        }
    }

    #[test]
    fn each_leaf_is_shown_and_no_other_is() {
        for size in 1..40_usize {
            let leaves = leaves(size);
            let root = root(&leaves);
            for index in 0..size {
                let path = path(&leaves, index).unwrap();
                let shown = |data: &[u8], index: usize, size: usize, path: &[Digest]| {
                    included(data, index as u64, size as u64, path, &root)
                };
                assert!(shown(&leaves[index], index, size, &path));
                assert!(!shown(b"another", index, size, &path));
                assert!(!shown(&leaves[index], (index + 1) % size, size, &path) || size == 1);
                assert!(!shown(&leaves[index], index, size + 1, &path) || !path.is_empty());
                if let Some((_, shorter)) = path.split_last() {
                    assert!(!shown(&leaves[index], index, size, shorter));
                }
                let longer = [path.clone(), vec![Digest::sha256(b"x")]].concat();
                assert!(!shown(&leaves[index], index, size, &longer));
            }
        }
        assert_eq!(path(&leaves(3), 3), None);
        let (one, root) = (leaves(1), root(&leaves(1)));
        assert!(included(&one[0], 0, 1, &[], &root) && !included(&one[0], 1, 1, &[], &root));
        let (two, root) = (leaves(2), self::root(&leaves(2)));
        let mut beside = path(&two, 0).unwrap();
        assert!(included(&two[0], 0, 2, &beside, &root));
        beside[0] = format!("blake3:{}", beside[0].to_hex()).parse().unwrap();
        assert!(!included(&two[0], 0, 2, &beside, &root));
    }
}
