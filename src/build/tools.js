// The small tools of a build's steps (see programs.rs). What one does not know is an error, so that no step goes on as if
// it had been done.
const fs = require("node:fs");
const path = require("node:path");

const [name, ...words] = process.argv.slice(2);

function fail(what, code = 1) {
  process.stderr.write(`${name}: ${what}\n`);
  process.exit(code);
}

// Single letters and long names that may be given; what is left are operands. Letters in `valued` take the next word.
function read(letters, long = {}, valued = "") {
  const found = {};
  const rest = [];
  for (let at = 0; at < words.length; at++) {
    const word = words[at];
    if (word === "--") return { found, rest: rest.concat(words.slice(at + 1)) };
    if (word.startsWith("--")) {
      const [key, value] = word.split(/=(.*)/s);
      const letter = long[key] ?? fail(`this one knows no ${key}`, 2);
      found[letter] = valued.includes(letter) ? (value ?? words[++at]) : true;
    } else if (word.length > 1 && word[0] === "-") {
      for (let i = 1; i < word.length; i++) {
        const letter = word[i];
        if (valued.includes(letter)) {
          found[letter] = word.slice(i + 1) || words[++at];
          break;
        }
        if (!letters.includes(letter)) fail(`this one knows no -${letter}`, 2);
        found[letter] = true;
      }
    } else rest.push(word);
  }
  return { found, rest };
}

function some(rest, least = 1) {
  if (rest.length < least) fail("missing operand", 2);
  return rest;
}

// Each source with its place: inside of a directory, or the one name that is given.
function places(rest) {
  const to = some(rest, 2).pop();
  const isDir = fs.existsSync(to) && fs.statSync(to).isDirectory();
  if (!isDir && (rest.length > 1 || to.endsWith("/"))) fail(`${to}: not a directory`);
  // `cp -r dir/. to` copies what is in it.
  const whole = (from) => from === "." || from.endsWith("/.");
  return rest.map((from) => [from, isDir && !whole(from) ? path.join(to, path.basename(path.resolve(from))) : to]);
}

function mode(text, old) {
  if (/^[0-7]{3,4}$/.test(text)) return parseInt(text, 8);
  const [, who, sign, bits] = /^([ugoa]*)([+-])([rwx]+)$/.exec(text) ?? fail(`this one knows no mode ${text}`, 2);
  let mask = 0;
  for (const one of !who || who.includes("a") ? "ugo" : who) {
    for (const bit of bits) mask |= { r: 4, w: 2, x: 1 }[bit] << { u: 6, g: 3, o: 0 }[one];
  }
  return sign === "+" ? old | mask : old & ~mask;
}

// A declared download, to a file or to the output.
function fetched(url, to) {
  const declared = JSON.parse(fs.readFileSync("/usr/share/admit/downloads.json", "utf8"));
  const file = declared[url] ?? fail(`a build has no network, and its lock declares no download of ${url}: --download ${url}`, 6);
  if (to === undefined || to === "-") fs.writeSync(1, fs.readFileSync(file));
  else fs.copyFileSync(file, to);
}

// The bytes of the one file, or of the input, a character each.
function text(rest) {
  if (rest.length > 1) fail("this one reads one file at a time", 2);
  return fs.readFileSync(rest[0] === undefined || rest[0] === "-" ? 0 : rest[0]).toString("latin1");
}

const tools = {
  basename() {
    const [file, end] = some(read("").rest);
    console.log(path.basename(file, end));
  },
  cat() {
    const { rest } = read("u");
    for (const file of rest.length ? rest : ["-"]) {
      const bytes = fs.readFileSync(file === "-" ? 0 : file);
      for (let at = 0; at < bytes.length; ) at += fs.writeSync(1, bytes, at);
    }
  },
  chmod() {
    // A mode such as -x is no option.
    const all = words.filter((word) => !["-R", "-v", "-f", "--recursive"].includes(word));
    const deep = words.some((word) => ["-R", "--recursive"].includes(word));
    const [text, ...files] = some(all, 2);
    const change = (file) => {
      const stat = fs.lstatSync(file);
      if (stat.isSymbolicLink()) return;
      fs.chmodSync(file, mode(text, stat.mode & 0o7777));
      if (deep && stat.isDirectory()) fs.readdirSync(file).forEach((name) => change(path.join(file, name)));
    };
    files.forEach(change);
  },
  cp() {
    const { found, rest } = read("rRapfvLPT", { "--recursive": "r", "--force": "f", "--verbose": "v", "--archive": "a" });
    if (found.T) fail("this one knows no -T", 2);
    const deep = found.r || found.R || found.a;
    for (const [from, to] of places(rest)) {
      if (!deep && fs.statSync(from).isDirectory()) fail(`${from}: a directory, and no -r`);
      const link = (deep && !found.L) || found.P;
      fs.cpSync(from, to, { recursive: true, dereference: !link, verbatimSymlinks: true, preserveTimestamps: Boolean(found.a || found.p) });
    }
  },
  curl() {
    const long = { "--output": "o", "--remote-name": "O", "--location": "L", "--fail": "f", "--silent": "s", "--show-error": "S", "--retry": "r", "--proto": "P", "--tlsv1.2": "t", "--create-dirs": "c", "--progress-bar": "b" };
    const { found, rest } = read("fsSLO", long, "orP");
    const [url] = some(rest);
    const to = found.O ? path.basename(new URL(url).pathname) : found.o;
    if (found.c && to) fs.mkdirSync(path.dirname(to), { recursive: true });
    fetched(url, to);
  },
  wget() {
    const { found, rest } = read("q", { "--quiet": "q", "--output-document": "O" }, "OP");
    const [url] = some(rest);
    const plain = path.join(found.P ?? ".", path.basename(new URL(url).pathname));
    fetched(url, found.O ?? plain);
  },
  dirname() {
    some(read("").rest).forEach((file) => console.log(path.dirname(file)));
  },
  head() {
    if (/^-\d+$/.test(words[0])) words.splice(0, 1, "-n", words[0].slice(1));
    const { found, rest } = read("", {}, "nc");
    if (/^-/.test(found.n ?? found.c ?? "")) fail(`this one knows no ${found.n ?? found.c}`, 2);
    const all = text(rest);
    const lines = all.split(/(?<=\n)/).slice(0, Number(found.n ?? 10)).join("");
    fs.writeSync(1, Buffer.from(found.c ? all.slice(0, Number(found.c)) : lines, "latin1"));
  },
  ln() {
    const { found, rest } = read("sfnv", { "--symbolic": "s", "--force": "f" });
    const [target, place = path.basename(target)] = some(rest);
    if (rest.length > 2) fail("this one makes one link at a time", 2);
    const isDir = !found.n && fs.existsSync(place) && fs.statSync(place).isDirectory();
    const to = isDir ? path.join(place, path.basename(target)) : place;
    if (found.f) fs.rmSync(to, { force: true });
    if (found.s) fs.symlinkSync(target, to);
    else fs.linkSync(target, to);
  },
  ls() {
    const { found, rest } = read("1aAlhd", {});
    for (const place of rest.length ? rest : ["."]) {
      const list = !found.d && fs.statSync(place).isDirectory();
      const names = list ? fs.readdirSync(place).sort() : [place];
      const shown = names.filter((one) => !list || found.a || found.A || !one.startsWith("."));
      // Times and owners say nothing in a build; with -l a size stands before each name.
      const line = (one) => (found.l ? `${fs.lstatSync(list ? path.join(place, one) : one).size} ${one}` : one);
      shown.forEach((one) => console.log(line(one)));
    }
  },
  mkdir() {
    const { found, rest } = read("pv", { "--parents": "p" }, "m");
    for (const dir of some(rest)) {
      fs.mkdirSync(dir, { recursive: Boolean(found.p) });
      if (found.m) fs.chmodSync(dir, mode(found.m, 0o755));
    }
  },
  mv() {
    const { rest } = read("fvn", { "--force": "f", "--verbose": "v" });
    places(rest).forEach(([from, to]) => fs.renameSync(from, to));
  },
  rm() {
    const { found, rest } = read("rRfvd", { "--recursive": "r", "--force": "f", "--verbose": "v" });
    if (!found.f) some(rest);
    for (const file of rest) {
      const recursive = Boolean(found.r || found.R);
      if (!recursive && fs.lstatSync(file, { throwIfNoEntry: false })?.isDirectory()) fail(`${file}: a directory, and no -r`);
      fs.rmSync(file, { recursive, force: Boolean(found.f) });
    }
  },
  rmdir() {
    some(read("").rest).forEach((dir) => fs.rmdirSync(dir));
  },
  sha256sum() {
    const { rest } = read("b");
    for (const file of rest.length ? rest : ["-"]) {
      const hash = new Bun.CryptoHasher("sha256").update(fs.readFileSync(file === "-" ? 0 : file));
      console.log(`${hash.digest("hex")}  ${file}`);
    }
  },
  tail() {
    if (/^-\d+$/.test(words[0])) words.splice(0, 1, "-n", words[0].slice(1));
    const { found, rest } = read("", {}, "n");
    if (/^\+/.test(found.n ?? "")) fail(`this one knows no -n ${found.n}`, 2);
    const lines = text(rest).split(/(?<=\n)/);
    fs.writeSync(1, Buffer.from(lines.slice(Math.max(0, lines.length - Number(found.n ?? 10))).join(""), "latin1"));
  },
  touch() {
    for (const file of some(read("c").rest)) fs.closeSync(fs.openSync(file, "a"));
  },
  uname() {
    const { found } = read("asmrnpo");
    const machine = { x64: "x86_64", arm64: "aarch64" }[process.arch] ?? process.arch;
    const parts = [];
    if (found.s || found.a || !Object.keys(found).length) parts.push("Linux");
    if (found.n || found.a) parts.push("localhost");
    if (found.r || found.a) parts.push("0");
    if (found.m || found.p || found.a) parts.push(machine);
    if (found.o || found.a) parts.push("GNU/Linux");
    console.log(parts.join(" "));
  },
  wc() {
    const { found, rest } = read("lcw");
    const all = text(rest);
    const counts = { l: all.split("\n").length - 1, w: all.split(/\s+/).filter(Boolean).length, c: all.length };
    const shown = Object.keys(counts).filter((one) => found[one] || !Object.keys(found).length);
    console.log([...shown.map((one) => counts[one]), ...rest].join(" "));
  },
  which() {
    const missing = some(read("as").rest).filter((one) => {
      const place = Bun.which(one);
      if (place) console.log(place);
      return !place;
    });
    if (missing.length) process.exit(1);
  },
};

try {
  tools[name]();
} catch (error) {
  fail(error.message);
}
