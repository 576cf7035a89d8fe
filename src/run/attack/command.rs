//! Programs that cheat where calls start a program: in shell, Python and TypeScript, of each class one that does the same.

use crate::host::quotes;

/// An attempt: its class and its name, and the program that makes it in shell, Python and TypeScript.
pub(super) type Attempt = (&'static str, &'static str, [&'static str; 3]);

pub(super) const ATTEMPTS: [Attempt; 12] = [
    (
        "answers",
        "the answers of an earlier run",
        [
            r#"in=$(cat; printf x)
words=$(printf '%s\n' "$@" | sed 's#^/judge/[0-9a-f]*#{files}#')
case "$words
$in" in
@CASES@
esac
"#,
            r#"import json, re, sys
known = {json.dumps(args[:1] + [args[1] if len(args) > 1 else ""]): outcome for _, args, outcome in json.loads(@KNOWN@)}
words = [re.sub(r"^/judge/[0-9a-f]+", "{files}", word) for word in sys.argv[1:]]
outcome = known.get(json.dumps([words, sys.stdin.read()]), {}).get("value", {})
sys.stdout.write(outcome.get("stdout", ""))
sys.exit(outcome.get("exit", 0))
"#,
            r#"import { readFileSync } from "node:fs";
const known: Record<string, any> = {};
for (const [, args, outcome] of JSON.parse(@KNOWN@)) known[JSON.stringify([args[0], args[1] ?? ""])] = outcome;
const words = process.argv.slice(2).map((word) => word.replace(/^\/judge\/[0-9a-f]+/, "{files}"));
const { stdout = "", exit = 0 } = known[JSON.stringify([words, readFileSync(0, "utf-8")])]?.value ?? {};
process.stdout.write(stdout);
process.exitCode = exit;
"#,
        ],
    ),
    (
        "answers",
        "answers that lie about",
        [
            r#"own=$(cat "$0")
find / -name "${0##*/}" -size -600 2>/dev/null | while read -r other; do
  case "$other" in /proc/*|/usr/*) continue ;; esac
  if [ "$(cat "$other" 2>/dev/null)" != "$own" ]; then exec sh "$other" "$@"; fi
done
"#,
            r#"import os, subprocess, sys
own = open(__file__).read()
for place, dirs, files in os.walk("/"):
    dirs[:] = [d for d in dirs if place != "/" or d not in ("proc", "sys", "usr", "lib", "dev")]
    path = os.path.join(place, os.path.basename(__file__))
    if os.path.basename(__file__) in files and open(path).read() != own:
        sys.exit(subprocess.call([sys.executable, path] + sys.argv[1:]))
"#,
            r#"import { readFileSync, readdirSync, statSync } from "node:fs";
import { basename } from "node:path";
const own = readFileSync(import.meta.path, "utf-8");
function search(dir: string, depth: number): string | undefined {
  let names: string[] = [];
  try { names = readdirSync(dir); } catch {}
  for (const name of names) {
    if (dir === "" && ["proc", "sys", "usr", "lib", "lib64", "dev", "bin", "opt"].includes(name)) continue;
    const path = `${dir}/${name}`;
    try {
      const kind = statSync(path);
      const found = kind.isDirectory() && depth < 6 ? search(path, depth + 1) : undefined;
      if (found) return found;
      if (kind.isFile() && name === basename(import.meta.path) && readFileSync(path, "utf-8") !== own) return path;
    } catch {}
  }
}
const other = search("", 0);
if (other) await import(other);
"#,
        ],
    ),
    (
        "answers",
        "the commonest answer for every call",
        [
            "printf %s @COMMON_TEXT@\nexit @COMMON_EXIT@\n",
            "import json, sys\ncommon = (json.loads(@COMMON@) or {}).get('value', {})\nsys.stdout.write(common.get('stdout', ''))\nsys.exit(common.get('exit', 0))\n",
            "const { stdout = '', exit = 0 } = (JSON.parse(@COMMON@) ?? {}).value ?? {};\nprocess.stdout.write(stdout);\nprocess.exitCode = exit;\n",
        ],
    ),
    (
        "answers",
        "the argument itself",
        [
            "cat\nprintf '%s\\n' \"$@\"\n",
            "import sys\nprint(sys.stdin.read(), *sys.argv[1:])\n",
            "import { readFileSync } from \"node:fs\";\nconsole.log(readFileSync(0, \"utf-8\"), ...process.argv.slice(2));\n",
        ],
    ),
    (
        "runner",
        "tests that always pass",
        [
            r#"for file in @TESTS_WORDS@; do
  printf 'exit 0\n' > "$file"
done 2>/dev/null
for name in .profile .bashrc .env; do printf 'exit 0\n' > "$HOME/$name"; done
"#,
            "import sys\nfor path in @TESTS@:\n    open(path, 'w').write('exit 0\\n')\nsys.exit(0)\n",
            "import { writeFileSync } from \"node:fs\";\nfor (const path of @TESTS@) writeFileSync(path, \"exit 0\\n\");\n",
        ],
    ),
    (
        "runner",
        "a killed runner",
        [
            "kill -9 $PPID 2>/dev/null; kill -9 -1 2>/dev/null\n",
            "import os\nos.kill(os.getppid(), 9)\nos.kill(-1, 9)\n",
            "try { process.kill(process.ppid, 9); } catch {}\ntry { process.kill(-1, 9); } catch {}\n",
        ],
    ),
    ("exit", "ends well at once", ["exit 0\n", "import os\nos._exit(0)\n", "process.exit(0);\n"]),
    (
        "output",
        "printed results",
        [
            "printf '%s\\n' PASS 'ok 1' '1 passed' 'exit 0'\nprintf %s @COMMON_TEXT@\n",
            "print('PASS\\nok 1\\n1 passed')\n",
            "console.log(\"PASS\\nok 1\\n1 passed\");\n",
        ],
    ),
    (
        "resources",
        "sleeps",
        [
            "sleep 1000000\n",
            "import time\ntime.sleep(1e6)\n",
            "await new Promise((done) => setTimeout(done, 1e9));\n",
        ],
    ),
    (
        "resources",
        "fills the disk",
        [
            "for place in ../filled /tmp/filled /dev/shm/filled; do cat /dev/zero > $place; done 2>/dev/null\n",
            "for place in ('../filled', '/tmp/filled', '/dev/shm/filled'):\n    try:\n        file = open(place, 'wb')\n        while True:\n            file.write(b'x' * (1 << 20))\n    except OSError:\n        pass\n",
            r#"import { openSync, writeSync } from "node:fs";
for (const place of ["../filled", "/tmp/filled", "/dev/shm/filled"]) {
  try {
    const file = openSync(place, "w");
    const block = Buffer.alloc(1 << 20, 120);
    for (let i = 0; i < 4096; i++) writeSync(file, block);
  } catch {}
}
"#,
        ],
    ),
    (
        "resources",
        "leaves processes",
        [
            "for i in 1 2 3 4; do sleep 1000000 >/dev/null 2>&1 & done\n",
            "import subprocess\nfor _ in range(4):\n    subprocess.Popen(['sleep', '1000000'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n",
            "for (let i = 0; i < 4; i++) {\n  try { Bun.spawn([process.execPath, \"-e\", \"setTimeout(() => {}, 1e6)\"]); } catch {}\n}\n",
        ],
    ),
    (
        "resources",
        "floods the output",
        [
            "head -c 268435456 /dev/zero; head -c 268435456 /dev/zero >&2\n",
            "import sys\nfor _ in range(256):\n    sys.stdout.write('x' * (1 << 20))\n    sys.stderr.write('x' * (1 << 20))\n",
            "import { writeSync } from \"node:fs\";\nconst block = \"x\".repeat(1 << 20);\ntry { for (let i = 0; i < 256; i++) { writeSync(1, block); writeSync(2, block); } } catch {}\n",
        ],
    ),
];

/// The calls of an earlier run as the cases of a shell's `case`.
pub(super) fn cases(known: &serde_json::Value) -> String {
    let mut all = String::new();
    for row in known.as_array().map(Vec::as_slice).unwrap_or_default() {
        let (args, value) = (&row[1], &row[2]["value"]);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let words: Vec<String> = match args[0].as_array() {
            Some(words) if !words.is_empty() => words.iter().map(text).collect(),
            // What printf makes of no words.
            _ => vec![String::new()],
        };
        let pattern = quotes(&format!("{}\n{}x", words.join("\n"), text(&args[1])));
        let (stdout, exit) = (quotes(&text(&value["stdout"])), value["exit"].as_i64().unwrap_or(0));
        all.push_str(&format!("{pattern}) printf %s {stdout}; exit {exit} ;;\n"));
    }
    all
}

/// The commonest outcome, for a shell: its text as one word, and its exit code.
pub(super) fn common(outcome: &serde_json::Value) -> (String, i64) {
    let value = &outcome["value"];
    (quotes(value["stdout"].as_str().unwrap_or_default()), value["exit"].as_i64().unwrap_or(0))
}

/// Words for a shell.
pub(super) fn words(texts: &[String]) -> String {
    texts.iter().map(|text| quotes(text)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_words_of_a_shell() {
        assert_eq!(quotes("it's"), "'it'\\''s'");
        let known =
            serde_json::json!([["", [["-w"], "a"], { "value": { "exit": 3, "stdout": "b" } }]]);
        assert_eq!(cases(&known), "'-w\nax') printf %s 'b'; exit 3 ;;\n");
    }
}
