// The agent pi as one file: what it reads beside its program is inside, and is put where it looks before it begins.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import dark from "./node_modules/@mariozechner/pi-coding-agent/dist/modes/interactive/theme/dark.json" with { type: "text" };
import light from "./node_modules/@mariozechner/pi-coding-agent/dist/modes/interactive/theme/light.json" with { type: "text" };
import manifest from "./node_modules/@mariozechner/pi-coding-agent/package.json" with { type: "text" };

const place = mkdtempSync(join(tmpdir(), "pi-package-"));
process.on("exit", () => rmSync(place, { recursive: true, force: true }));
mkdirSync(join(place, "theme"));
for (const [name, text] of Object.entries({ "package.json": manifest, "theme/dark.json": dark, "theme/light.json": light })) {
  writeFileSync(join(place, name), text as unknown as string);
}
process.env.PI_PACKAGE_DIR = place;
await import("./node_modules/@mariozechner/pi-coding-agent/dist/bun/cli.js");
