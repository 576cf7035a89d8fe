//! The hash in names of Bun's cache: wyhash as it was at version 0 (Wang Yi, 2019), seed 0, final.
//!
//! Later versions of wyhash, and the hash that Bun offers to programs, give other values. Not for security.

const SECRET: [u64; 5] = [
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
    0x8ebc_6af0_9c88_c6e3,
    0x5899_65cc_7537_4cc3,
    0x1d8e_4e27_c47d_124f,
];

pub(super) fn wyhash(data: &[u8]) -> u64 {
    let mut seed = 0;
    let blocks = data.chunks_exact(32);
    let rest = blocks.remainder();
    for block in blocks {
        let word = |at: usize| little_endian(&block[at..at + 8]);
        seed = low_pair(word(0), word(8), seed) ^ high_pair(word(16), word(24), seed);
    }
    let word = |at: usize| tail(rest.get(at..).unwrap_or_default());
    seed = match rest.len() {
        0 => seed,
        1..=8 => low_pair(word(0), SECRET[4], seed),
        9..=16 => low_pair(word(0), word(8), seed),
        17..=24 => low_pair(word(0), word(8), seed) ^ high_pair(word(16), SECRET[4], seed),
        _ => low_pair(word(0), word(8), seed) ^ high_pair(word(16), word(24), seed),
    };
    fold(seed ^ data.len() as u64, SECRET[4])
}

/// The first (at most 8) bytes as a number: 4, 2 and 1 bytes, each little-endian, the first part highest.
fn tail(bytes: &[u8]) -> u64 {
    let mut bytes = &bytes[..bytes.len().min(8)];
    let mut out = 0;
    for size in [4, 4, 2, 1] {
        if bytes.len() >= size {
            let (part, rest) = bytes.split_at(size);
            out = out << (8 * size) | little_endian(part);
            bytes = rest;
        }
    }
    out
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// Both halves of the 128-bit product, added without carry.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

fn low_pair(a: u64, b: u64, seed: u64) -> u64 {
    fold(a ^ seed ^ SECRET[0], b ^ seed ^ SECRET[1])
}

fn high_pair(a: u64, b: u64, seed: u64) -> u64 {
    fold(a ^ seed ^ SECRET[2], b ^ seed ^ SECRET[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read off the cache that Bun 1.3.14 made for prereleases that are the alphabet, repeated to this length.
    #[test]
    fn it_gives_what_bun_writes() {
        for (len, want) in [
            (1, 0x69f6_2866_85d0_d6e0),
            (2, 0x8307_4df1_48a8_c19d),
            (3, 0xc5f1_8ba9_1f94_800d),
            (4, 0xbd57_b69d_939e_1f3b),
            (5, 0xd2cd_ff7b_d132_5d90),
            (6, 0x6891_5510_e506_e794),
            (7, 0xe0db_a914_1ef7_6174),
            (8, 0x1e23_1959_0785_45d1),
            (9, 0x1d7e_f2ff_cbb1_6f04),
            (10, 0x4e4f_822d_bea7_b166),
            (11, 0x5b6d_b521_7f9e_6dee),
            (12, 0x11ec_366e_c0a8_eac6),
            (13, 0x1d4a_421f_3bda_3ce6),
            (14, 0xdc20_f887_7a61_159b),
            (15, 0x039e_f7e1_888d_7e17),
            (16, 0x5d9b_bb82_f5d6_c2ce),
            (17, 0x5922_6079_15c5_50e7),
            (19, 0x1f3d_47ac_31bf_0ee5),
            (23, 0x5c02_dd95_78e6_9ffd),
            (24, 0x41af_c827_0c3e_f558),
            (25, 0xf506_690a_d2e7_4922),
            (28, 0x5bd4_9d1d_f407_d9dc),
            (31, 0xc56b_48c7_a977_9690),
            (32, 0x2e7e_d6af_51bc_8f3b),
            (33, 0x57b9_436b_e5fe_cf3e),
            (40, 0x0da2_d8c8_cbfe_31c3),
            (47, 0x46cb_2d9e_6427_0091),
            (48, 0x3c6b_de21_93eb_2711),
            (56, 0x11c8_866d_f98d_434a),
            (57, 0x6186_06c7_6a91_62b9),
            (63, 0xcb7a_ccfa_08b5_24b7),
            (64, 0xdee8_6b3c_7ab3_e671),
            (65, 0xb919_7331_3664_c67d),
            (80, 0xc86d_29dc_6f6a_7677),
            (95, 0x7b3d_23d5_817c_dac6),
            (96, 0x9897_05c5_b3a4_ac2e),
            (97, 0x83c2_80ba_b025_1e14),
            (99, 0x28bf_4118_1261_a640),
        ] {
            let text: Vec<u8> = (b'a'..=b'z').cycle().take(len).collect();
            assert_eq!(wyhash(&text), want, "{len} letters");
        }
    }
}
