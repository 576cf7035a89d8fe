//! Small executables for tests, in the layouts that Bun writes. Written from the format's description and apart from
//! the reader and the prediction, so that neither is tested against itself.

/// The last bytes of every payload.
const TRAILER: &[u8; 16] = b"\n---- Bun! ----\n";

/// One module: name, contents, source map.
pub type Source<'a> = (&'a str, &'a [u8], &'a [u8]);

/// A module graph as Bun 1.3 writes it: texts with their terminators, records, arguments, offsets, trailer.
pub fn payload(modules: &[Source<'_>], argv: &str, flags: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut records = Vec::new();
    let add = |out: &mut Vec<u8>, bytes: &[u8], nul: bool| {
        let place = [out.len() as u32, bytes.len() as u32];
        out.extend(bytes);
        out.extend(nul.then_some(0));
        place
    };
    for (name, contents, sourcemap) in modules {
        for place in [
            add(&mut out, name.as_bytes(), true),
            add(&mut out, contents, true),
            if sourcemap.is_empty() { [0, 0] } else { add(&mut out, sourcemap, false) },
            [0, 0],
            [0, 0],
            [0, 0],
        ] {
            records.extend(place.iter().flat_map(|word| word.to_le_bytes()));
        }
        records.extend([1, 1, 1, 0]);
    }
    let table = add(&mut out, &records, false);
    let argv = add(&mut out, argv.as_bytes(), true);
    let count = out.len() as u64;
    out.extend(count.to_le_bytes());
    for word in [table[0], table[1], 0, argv[0], argv[1], flags] {
        out.extend(word.to_le_bytes());
    }
    out.extend(TRAILER);
    out
}

const PHDRS: usize = 3;
const SHDRS: usize = 6;
/// Where things are in [`plain`].
pub const CODE: usize = 64 + PHDRS * 56;
const DATA: usize = 0x1100;
/// Where the plain executable has the runtime's word.
pub const WORD: usize = 0x1140;
const DATA_END: usize = 0x1180;
const DATA_ADDR: u64 = 0x40_0000 + DATA as u64 + 0x1000;
const MEMORY: u64 = 0x2345;

fn set(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A plain "Bun" of a few kilobytes: code, data with an empty `.bun`, zero-filled memory, a comment. `seed` changes its code.
pub fn plain(seed: u8) -> Vec<u8> {
    let names = b"\0.data\0.bun\0.bss\0.comment\0.shstrtab\0";
    let comment = b"comment\0";
    let names_at = DATA_END + comment.len();
    let shoff = (names_at + names.len()).next_multiple_of(8);
    let mut out = vec![0; shoff + SHDRS * 64];
    set(&mut out, 0, b"\x7fELF\x02\x01\x01");
    set(&mut out, 0x10, &[2, 0, 62, 0, 1]);
    set(&mut out, 0x20, &words(&[64, shoff as u64]));
    for (at, half) in [(0x34, 64), (0x36, 56), (0x38, PHDRS), (0x3a, 64), (0x3c, SHDRS), (0x3e, 5)]
    {
        set(&mut out, at, &(half as u16).to_le_bytes());
    }
    let load = 1;
    for (at, (kind, flags, offset, addr, filesz, memsz)) in [
        (load, 5u64, 0, 0x40_0000, DATA as u64, DATA as u64),
        (load, 6, DATA as u64, DATA_ADDR, (DATA_END - DATA) as u64, MEMORY),
        (0x6474_e551, 6, 0, 0, 0, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let header = words(&[kind | flags << 32, offset, addr, addr, filesz, memsz, 0x1000]);
        set(&mut out, 64 + at * 56, &header);
    }
    for (at, byte) in out[CODE..WORD - 0x20].iter_mut().enumerate() {
        *byte = seed.wrapping_add(at as u8) | 1;
    }
    set(&mut out, DATA_END, comment);
    set(&mut out, names_at, names);
    let word_addr = DATA_ADDR + (WORD - DATA) as u64;
    for (at, [name, kind, addr, offset, size, align]) in [
        [0, 0, 0, 0, 0, 0],
        [1, 1, DATA_ADDR, DATA as u64, (WORD - DATA - 0x10) as u64, 8],
        [7, 1, word_addr, WORD as u64, 8, 0x20],
        [12, 8, word_addr + 0x40, DATA_END as u64, 0x100, 8],
        [17, 1, 0, DATA_END as u64, comment.len() as u64, 1],
        [26, 3, 0, names_at as u64, names.len() as u64, 1],
    ]
    .into_iter()
    .enumerate()
    {
        let header = words(&[name | kind << 32, 3, addr, offset, size, 0, align, 0]);
        set(&mut out, shoff + at * 64, &header);
    }
    out
}

/// What the graph is aligned to: 64 KiB where the base says that it is for AArch64.
fn page(base: &[u8]) -> usize {
    if base[0x12] == 183 { 65_536 } else { 4096 }
}

/// Adds the graph, in whole pages.
fn add_graph(out: &mut Vec<u8>, payload: &[u8], page: usize) {
    let end = out.len() + (8 + payload.len()).next_multiple_of(page);
    out.extend((payload.len() as u64).to_le_bytes());
    out.extend(payload);
    out.resize(end, 0);
}

/// Has the header point to the section headers, and `.bun`'s to the graph.
fn point(out: &mut [u8], shoff: usize, graph: [u64; 3]) {
    set(out, 0x28, &words(&[shoff as u64]));
    set(out, shoff + 2 * 64 + 16, &words(&graph));
}

/// `base` with `payload` in it, as 1.3.14 and 1.4.4 inject it.
pub fn expanded(base: &[u8], payload: &[u8]) -> Vec<u8> {
    let address = (DATA_ADDR + MEMORY).next_multiple_of(page(base) as u64);
    let graph_at = DATA + (address - DATA_ADDR) as usize;
    let mut out = base[..DATA_END].to_vec();
    out.resize(graph_at, 0);
    add_graph(&mut out, payload, page(base));
    let size = (out.len() - DATA) as u64;
    let moved = out.len() - DATA_END;
    out.extend(&base[DATA_END..]);
    set(&mut out, WORD, &words(&[address]));
    set(&mut out, 64 + 56 + 32, &words(&[size, size]));
    let shoff = base.len() - SHDRS * 64 + moved;
    point(&mut out, shoff, [address, graph_at as u64, payload.len() as u64 + 8]);
    for at in [4, 5] {
        let field = shoff + at * 64 + 24;
        let old = u64::from_le_bytes(out[field..field + 8].try_into().expect("8 bytes"));
        set(&mut out, field, &words(&[old + moved as u64]));
    }
    out
}

/// `base` with `payload` behind it, as 1.3.13 appends it.
pub fn appended(base: &[u8], payload: &[u8]) -> Vec<u8> {
    let address = (DATA_ADDR + MEMORY).next_multiple_of(page(base) as u64);
    let mut out = base.to_vec();
    out.resize(out.len().next_multiple_of(page(base)), 0);
    let graph_at = out.len();
    add_graph(&mut out, payload, page(base));
    let (shoff, size) = (out.len(), (out.len() - graph_at) as u64);
    out.extend(&base[base.len() - SHDRS * 64..]);
    set(&mut out, WORD, &words(&[address]));
    let load = [1 | 4 << 32, graph_at as u64, address, address, size, size, page(base) as u64];
    set(&mut out, 64 + 2 * 56, &words(&load));
    point(&mut out, shoff, [address, graph_at as u64, payload.len() as u64 + 8]);
    out
}

/// A native program: headers, and where it is dynamic its loader's name and a dynamic section. No section headers.
pub fn native(interpreter: Option<&str>, needed: &[&str]) -> Vec<u8> {
    let count = 3usize;
    let (base, start) = (0x40_0000u64, 64 + count * 56);
    let mut names = vec![0u8];
    let mut dynamic = Vec::new();
    for name in needed {
        dynamic.extend(words(&[1, names.len() as u64]));
        names.extend(name.as_bytes());
        names.push(0);
    }
    let loader: Vec<u8> =
        interpreter.map(|name| [name.as_bytes(), b"\0"].concat()).unwrap_or_default();
    let names_at = start + loader.len();
    dynamic.extend(words(&[5, base + names_at as u64, 0, 0]));
    let dynamic_at = names_at + names.len();
    let size = dynamic_at + dynamic.len() + 16;
    let mut out = vec![0; size];
    set(&mut out, 0, b"\x7fELF\x02\x01\x01");
    set(&mut out, 0x10, &[2, 0, 62, 0, 1]);
    set(&mut out, 0x18, &words(&[base, 64]));
    for (at, half) in [(0x34, 64), (0x36, 56), (0x38, count)] {
        set(&mut out, at, &(half as u16).to_le_bytes());
    }
    let none = (0u64, 0, 0);
    for (at, (kind, offset, len)) in [
        (1u64, 0, size),
        if interpreter.is_some() { (3, start, loader.len()) } else { none },
        if needed.is_empty() { none } else { (2, dynamic_at, dynamic.len()) },
    ]
    .into_iter()
    .enumerate()
    {
        let addr = base + offset as u64;
        let entry = words(&[kind | 5 << 32, offset as u64, addr, addr, len as u64, len as u64, 8]);
        set(&mut out, 64 + at * 56, &entry);
    }
    set(&mut out, start, &loader);
    set(&mut out, names_at, &names);
    set(&mut out, dynamic_at, &dynamic);
    out
}
