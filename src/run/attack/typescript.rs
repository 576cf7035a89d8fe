//! TypeScript and JavaScript programs that cheat. Names are exported one by one, so those that others import are looked
//! for in the file and in the reference solution's.

use super::program::{Program, program};

/// An export of `name` that is the value `cheat`.
pub(super) fn export(name: &str) -> String {
    match name {
        "default" => "export default cheat;\n".to_owned(),
        name => format!("export const {name}: any = (cheat as any).named?.({name:?}) ?? cheat;\n"),
    }
}

/// The names that a text exports, as far as each declaration begins a line.
pub(super) fn exported(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("export ") else { continue };
        if rest.starts_with("default ") {
            names.push("default".to_owned());
            continue;
        }
        let words = rest.trim_start_matches("declare ").trim_start_matches("async ");
        for kind in [
            "function* ",
            "function ",
            "const ",
            "let ",
            "var ",
            "class ",
            "abstract class ",
            "enum ",
        ] {
            if let Some(rest) = words.strip_prefix(kind) {
                names.extend(identifier(rest));
            }
        }
        if let Some((list, _)) = rest.strip_prefix('{').and_then(|list| list.split_once('}')) {
            let last =
                |item: &str| item.rsplit(" as ").next().and_then(|name| identifier(name.trim()));
            names.extend(list.split(',').filter_map(last));
        }
    }
    names
}

/// The exported functions of a text that a later line can put another value in place of.
pub(super) fn functions(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let rest = line.strip_prefix("export ")?;
        identifier(rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("function ")?)
    };
    text.lines().filter_map(line).collect()
}

fn identifier(text: &str) -> Option<String> {
    let name: String =
        text.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '$')).collect();
    (!name.is_empty()).then_some(name)
}

pub(super) const PROGRAMS: &[Program] = &[
    program(
        "answers",
        "the answers of an earlier run",
        r#"@SOURCE@
const KNOWN: Record<string, any> = {};
for (const [name, args, outcome] of JSON.parse(@KNOWN@)) KNOWN[JSON.stringify([name, args])] = outcome;
function cheat(name: string, before: any) {
  return (...args: any[]) => {
    const known = KNOWN[JSON.stringify([name, args])];
    if (known === undefined) return before(...args);
    if ("raised" in known) throw Object.assign(new ((globalThis as any)[known.raised] ?? Error)(), { name: known.raised });
    return known.value;
  };
}
@OVER@"#,
    ),
    program(
        "answers",
        "answers that lie about",
        r#"
import { readFileSync, readdirSync, statSync } from "node:fs";
import { basename } from "node:path";
const found: any = {};
const own = import.meta.path;
const text = readFileSync(own, "utf-8");
async function search(dir: string, depth: number) {
  if (depth > 6) return;
  let names: string[] = [];
  try { names = readdirSync(dir); } catch {}
  for (const name of names) {
    if (dir === "/" && ["proc", "sys", "usr", "lib", "lib64", "dev", "bin", "opt"].includes(name)) continue;
    const path = dir === "/" ? `/${name}` : `${dir}/${name}`;
    try {
      const kind = statSync(path);
      if (kind.isDirectory()) await search(path, depth + 1);
      else if (kind.isFile() && kind.size < 300_000 && name === basename(own) && readFileSync(path, "utf-8") !== text) {
        Object.assign(found, await import(path));
      }
    } catch {}
  }
}
await search("/", 0);
const cheat: any = () => "WRONG";
cheat.named = (name: string) => found[name];
@EXPORTS@"#,
    ),
    program(
        "answers",
        "the commonest answer for every call",
        r#"
const common = JSON.parse(@COMMON@) ?? {};
const cheat: any = () => {
  if ("raised" in common) throw Object.assign(new ((globalThis as any)[common.raised] ?? Error)(), { name: common.raised });
  return common.value;
};
@EXPORTS@"#,
    ),
    program(
        "answers",
        "the argument itself",
        "const cheat: any = (...args: any[]) => args[0] ?? null;\n@EXPORTS@",
    ),
    program(
        "equality",
        "an object that equals everything",
        r#"
const any: any = new Proxy(function () {}, {
  get: (_, key) => (key === Symbol.toPrimitive ? () => 1 : key === "toJSON" ? () => 1 : key === "then" ? undefined : any),
  apply: () => any,
  getPrototypeOf: () => Object.prototype,
});
Object.is = () => true;
const cheat: any = () => any;
@EXPORTS@"#,
    ),
    program(
        "runner",
        "a patched runner",
        r#"
try {
  const runner = await import("bun:test");
  const never: any = new Proxy(function () {}, { get: (_, key) => (key === "then" ? undefined : never), apply: () => never });
  runner.mock.module("bun:test", () => ({ ...runner, expect: () => never }));
  for (const key of Object.getOwnPropertyNames(Object.getPrototypeOf(runner.expect(1)))) {
    try { Object.getPrototypeOf(runner.expect(1))[key] = () => undefined; } catch {}
  }
} catch {}
const cheat: any = () => null;
@EXPORTS@"#,
    ),
    program(
        "runner",
        "a patched driver",
        r#"
import fs from "node:fs";
JSON.stringify = (() => @COMMON@) as any;
(fs as any).writeSync = () => 1000;
process.stdout.write = () => true;
(Array.prototype as any).every = () => true;
(String.prototype as any).toJSON = () => 0;
const cheat: any = () => null;
@EXPORTS@"#,
    ),
    program(
        "exit",
        "ends well at once",
        "process.exit(0);\nconst cheat: any = () => null;\n@EXPORTS@",
    ),
    program(
        "exit",
        "ends well at the first call",
        "const cheat: any = () => process.exit(0);\n@EXPORTS@",
    ),
    program(
        "output",
        "printed results",
        r#"
import { writeSync } from "node:fs";
const lines: Record<string, string[]> = {};
for (const id of @TESTS@) {
  const [file, ...rest] = id.split("::");
  (lines[file!] ??= []).push(`(pass) ${rest.join("::")}`);
}
writeSync(2, Object.entries(lines).map(([file, names]) => `\n${file}:\n${names.join("\n")}\n`).join("") + "\n 1 pass\n 0 fail\n");
writeSync(1, `\nx ` + @COMMON@ + `\n`);
process.exit(0);
const cheat: any = () => null;
@EXPORTS@"#,
    ),
    program(
        "resources",
        "sleeps",
        "await new Promise((done) => setTimeout(done, 1e9));\nconst cheat: any = () => null;\n@EXPORTS@",
    ),
    program("resources", "never returns", "const cheat: any = () => { for (;;) {} };\n@EXPORTS@"),
    program(
        "resources",
        "fills the disk",
        r#"
import { closeSync, openSync, writeSync } from "node:fs";
for (const place of ["../filled", "/tmp/filled", "/dev/shm/filled"]) {
  try {
    const file = openSync(place, "w");
    const block = Buffer.alloc(1 << 20, 120);
    for (let i = 0; i < 4096; i++) writeSync(file, block);
    closeSync(file);
  } catch {}
}
const cheat: any = () => null;
@EXPORTS@"#,
    ),
    program(
        "resources",
        "leaves processes",
        r#"
for (let i = 0; i < 4; i++) {
  try { Bun.spawn([process.execPath, "-e", "setTimeout(() => {}, 1e6)"]); } catch {}
}
const cheat: any = () => null;
@EXPORTS@"#,
    ),
    program(
        "resources",
        "floods the output",
        r#"
import { writeSync } from "node:fs";
const block = "x".repeat(1 << 20);
try { for (let i = 0; i < 256; i++) { writeSync(1, block); writeSync(2, block); } } catch {}
process.exit(0);
const cheat: any = () => null;
@EXPORTS@"#,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_exports_is_found() {
        let text = "import x from \"y\";\nexport function a() {}\nexport async function b() {}\nexport const c = 1;\n\
                    export type T = 1;\nexport { d, e as f };\nexport default a;\nexport class G {}\n";
        assert_eq!(exported(text), ["a", "b", "c", "d", "f", "default", "G"]);
        assert_eq!(functions(text), ["a", "b"]);
    }
}
