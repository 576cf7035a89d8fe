//! No circle of files inside a module: what a file needs of its neighbours can be read before it.

use std::collections::{BTreeMap, BTreeSet};

use crate::layering::{PIECES, code, sources};
use crate::util;

/// Top-level modules that have a circle of files still. Nothing is added here.
const CIRCULAR: &[&str] = &[];

/// A path as it is written: segments, and the name under which a `use` brings it in.
#[derive(Debug)]
struct Import {
    path: Vec<String>,
    name: String,
    public: bool,
}

#[derive(Default, Debug)]
struct File {
    imports: Vec<Import>,
    /// Paths of two segments and more outside of `use`.
    paths: Vec<Vec<String>>,
    /// Every word outside of `use`.
    words: BTreeSet<String>,
}

/// Words and the signs that paths are made of.
fn tokens(text: &str) -> Vec<String> {
    let pieces = PIECES.captures_iter(text);
    pieces.filter_map(|piece| Some(piece.get(1)?.as_str().to_owned())).collect()
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// One tree of a `use`, from `at`; gives where it ends.
fn tree(
    tokens: &[String],
    mut at: usize,
    before: &[String],
    public: bool,
    out: &mut Vec<Import>,
) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens[at].as_str() {
            "{" => {
                at += 1;
                while tokens[at] != "}" {
                    at = tree(tokens, at, &path, public, out);
                    at += usize::from(tokens[at] == ",");
                }
                return at + 1;
            }
            "self" if !path.is_empty() => {}
            "::" => {
                at += 1;
                continue;
            }
            segment => path.push(segment.to_owned()),
        }
        at += 1;
        match tokens[at].as_str() {
            "::" => at += 1,
            "as" => {
                out.push(Import { name: tokens[at + 1].clone(), path, public });
                return at + 2;
            }
            _ => {
                out.push(Import { name: path.last().unwrap().clone(), path, public });
                return at;
            }
        }
    }
}

fn read(text: &str) -> File {
    let tokens = tokens(&code(text).join("\n"));
    let mut file = File::default();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" && tokens.get(at + 1).is_some_and(|t| t != "<") {
            let public = at > 0 && matches!(tokens[at - 1].as_str(), "pub" | ")");
            at = tree(&tokens, at + 1, &[], public, &mut file.imports);
        } else if is_word(&tokens[at]) {
            let mut path = vec![tokens[at].clone()];
            while tokens.get(at + 1).is_some_and(|t| t == "::")
                && tokens.get(at + 2).is_some_and(|t| is_word(t))
            {
                path.push(tokens[at + 2].clone());
                at += 2;
            }
            file.words.extend(path.iter().cloned());
            if path.len() > 1 {
                file.paths.push(path);
            }
            at += 1;
        } else {
            at += 1;
        }
    }
    file
}

type Module = Vec<String>;

struct Files(BTreeMap<Module, File>);

impl Files {
    fn read() -> Self {
        let src = util::project().join("src");
        let mut files = BTreeMap::new();
        for (path, text) in sources() {
            let path = path.strip_prefix(&src).unwrap().with_extension("");
            let mut module: Module =
                path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if module.last().is_some_and(|last| last == "mod") {
                module.pop();
            }
            if !module.iter().any(|part| part == "tests") {
                files.insert(module, read(&text));
            }
        }
        Self(files)
    }

    /// The file that defines what `path`, as `from` writes it, means. None where it is not ours, and where it ends at
    /// a module: that is a use only where a path goes on from it.
    fn resolve(&self, from: &Module, path: &[String], depth: usize) -> Option<(Module, String)> {
        let mut at = from.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => at.clear(),
            "super" | "self" => {}
            first if self.is_module(&at, first) => {}
            first => {
                let import = self.0[from].imports.iter().find(|import| import.name == *first)?;
                if depth > 8 || import.path.first() == path.first() {
                    return None;
                }
                let whole: Vec<String> = import.path.iter().chain(&path[1..]).cloned().collect();
                return self.resolve(from, &whole, depth + 1);
            }
        }
        while let Some(segment) = rest.first() {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => {
                    at.pop()?;
                }
                name if self.is_module(&at, name) => at.push(name.to_owned()),
                name => {
                    let file = self.0.get(&at)?;
                    let import = file.imports.iter().find(|i| i.name == name && i.path != rest);
                    if let Some(import) = import.filter(|_| depth < 8) {
                        let whole: Vec<String> =
                            import.path.iter().chain(&rest[1..]).cloned().collect();
                        return self.resolve(&at, &whole, depth + 1);
                    }
                    return Some((at, name.to_owned()));
                }
            }
            rest = &rest[1..];
        }
        None
    }

    fn is_module(&self, parent: &Module, name: &str) -> bool {
        let mut child = parent.clone();
        child.push(name.to_owned());
        self.0.contains_key(&child)
    }

    /// The files of the same top-level module that `from` uses, with what it uses of each.
    fn uses(&self, from: &Module) -> BTreeMap<Module, BTreeSet<String>> {
        let file = &self.0[from];
        let imports = file.imports.iter().filter(|i| !i.public || file.words.contains(&i.name));
        let mut out: BTreeMap<Module, BTreeSet<String>> = BTreeMap::new();
        for path in imports.map(|import| &import.path).chain(&file.paths) {
            if let Some((to, name)) = self.resolve(from, path, 0)
                && to != *from
                && to.first() == from.first()
            {
                out.entry(to).or_default().insert(name);
            }
        }
        out
    }
}

/// The circles of one top-level module's files, each as the lines that make it up.
fn circles(files: &Files, top: &str) -> Vec<String> {
    let uses: BTreeMap<&Module, _> = files
        .0
        .keys()
        .filter(|module| module.first().is_some_and(|first| first == top))
        .map(|module| (module, files.uses(module)))
        .collect();
    let reach = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(module) = next.pop() {
            next.extend(uses[&module].keys().filter(|to| seen.insert((*to).clone())).cloned());
        }
        seen
    };
    let reach: BTreeMap<&Module, BTreeSet<Module>> =
        uses.keys().map(|module| (*module, reach(module))).collect();
    let mut lines = Vec::new();
    for (from, targets) in &uses {
        for (to, names) in targets.iter().filter(|(to, _)| reach[to].contains(*from)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            lines.push(format!(
                "  {} -> {} ({})",
                from.join("::"),
                to.join("::"),
                names.join(", ")
            ));
        }
    }
    lines
}

#[test]
fn no_files_of_a_module_use_each_other_in_a_circle() {
    let files = Files::read();
    let tops: BTreeSet<&String> = files.0.keys().filter_map(|module| module.first()).collect();
    let mut faults = Vec::new();
    for top in tops {
        let circles = circles(&files, top);
        match (circles.is_empty(), CIRCULAR.contains(&top.as_str())) {
            (false, false) => faults.push(format!("{top}:\n{}", circles.join("\n"))),
            (true, true) => faults.push(format!("{top} has no circle: take it from CIRCULAR")),
            _ => {}
        }
    }
    assert!(faults.is_empty(), "circles of files:\n{}", faults.join("\n"));
}

#[test]
fn a_circle_is_seen_through_re_exports_and_module_names() {
    let module = |name: &str| name.split("::").map(str::to_owned).collect::<Module>();
    let find = |texts: &[(&str, &str)]| {
        let files = texts.iter().map(|(name, text)| (module(name), read(text))).collect();
        circles(&Files(files), "a")
    };
    let leaf =
        ("a::leaf", "pub struct Leaf; // super::Own in a comment\nconst T: &str = \"super::Own\";");
    // The child reads what its parent only re-exports.
    assert!(
        find(&[
            ("a", "mod leaf; mod user; pub use leaf::Leaf;"),
            leaf,
            ("a::user", "use super::Leaf;")
        ])
        .is_empty()
    );
    // The child uses what its parent defines while the parent uses the child.
    let own =
        ("a", "mod leaf; mod user; pub use leaf::Leaf; pub struct Own; fn f() { user::go() }");
    assert_eq!(
        find(&[own, leaf, ("a::user", "use super::{Leaf, Own};")]),
        ["  a -> a::user (go)", "  a::user -> a (Own)"]
    );
    // Two children, one of which names the other by its module, the other by the path from the crate.
    let two = [
        ("a", "mod x; mod y;"),
        ("a::x", "use super::y;\nfn f<'a>(_: &'a str) -> char { y::deep::<u8>(); '\"' }"),
        ("a::y", "fn g() { crate::a::x::f(\"\") }"),
    ];
    assert_eq!(find(&two), ["  a::x -> a::y (deep)", "  a::y -> a::x (f)"]);
}
