// Draws every page of a directory and looks for what a reader would stumble over: see .ci/pages.
const fs = require("fs");
const path = require("path");
const puppeteer = require("puppeteer-core");

const [dir, profile] = process.argv.slice(2);
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const widths = [390, 1280];
const schemes = ["light", "dark"];
// A page of 10,000 events is there after this many milliseconds.
const OPENS_WITHIN = 1500;
const faults = [];

// In the page: what sticks out to the side, and words that stand on two lines although they would fit on one.
function look() {
  const wide = document.documentElement.clientWidth;
  const out = [];
  if (document.documentElement.scrollWidth > wide) {
    out.push(`sideways overflow: ${document.documentElement.scrollWidth} of ${wide}`);
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    // A page of hundreds of turns says the same thing many times.
    if (out.length > 5) break;
    const element = node.parentElement;
    if (!element.checkVisibility()) continue;
    for (const match of node.data.matchAll(/[A-Za-z]{2,20}/g)) {
      // Part of a digest or a path: broken where there is no room for it.
      const around = node.data.slice(Math.max(0, match.index - 1), match.index + match[0].length + 1);
      if (/[0-9_\/.@:=-]/.test(around)) continue;
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const lines = new Set([...range.getClientRects()].filter((r) => r.width > 0).map((r) => Math.round(r.top)));
      if (lines.size > 1) out.push(`broken word "${match[0]}" in ${element.tagName}`);
    }
  }
  return out;
}

// In the page: what the keyboard reaches stands in the order of the page, and each of it can be seen.
function reached() {
  const all = [...document.querySelectorAll("a[href], summary, [tabindex]")].filter((e) => e.checkVisibility());
  const places = all.map((e) => e.getBoundingClientRect().top + window.scrollY);
  const jump = places.findIndex((place, i) => i > 0 && place + 1 < places[i - 1]);
  const out = jump < 0 ? [] : [`the keyboard jumps back at "${all[jump].textContent.slice(0, 30)}"`];
  if (all.some((e) => e.tabIndex > 0)) out.push("a tabindex above 0");
  return out;
}

(async () => {
  const browser = await puppeteer.launch({
    executablePath: "/usr/bin/chromium",
    userDataDir: profile,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
  const names = fs.readdirSync(dir).filter((name) => name.endsWith(".html")).sort();
  if (names.length < 6) faults.push(`only ${names.length} pages were made`);
  for (const name of names) {
    const url = `file://${path.join(dir, name)}`;
    const stem = name.replace(".html", "");
    for (const width of widths) {
      for (const scheme of schemes) {
        // The long one is looked at once a width.
        if (stem === "big" && scheme === "dark") continue;
        const page = await browser.newPage();
        // The page's own policy forbids scripts, this one's, too.
        await page.setBypassCSP(true);
        await page.setViewport({ width, height: 844 });
        await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
        const begun = Date.now();
        await page.goto(url, { waitUntil: "load" });
        const took = Date.now() - begun;
        const where = `${stem} at ${width}, ${scheme}`;
        const say = (list) => list.forEach((fault) => faults.push(`${where}: ${fault}`));
        if (took > OPENS_WITHIN) say([`opens after ${took} ms`]);
        await page.screenshot({ path: path.join(dir, `${stem}-${width}-${scheme}-first.png`) });
        // What is off the screen is laid out when it comes in sight; here all of it is looked at.
        await page.addStyleTag({ content: ".exchange { content-visibility: visible !important }" });
        if (stem !== "big") {
          await page.screenshot({ path: path.join(dir, `${stem}-${width}-${scheme}.png`), fullPage: true });
        }
        say(await page.evaluate(look));
        await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
        say((await page.evaluate(look)).map((fault) => `unfolded: ${fault}`));
        if (stem !== "big") {
          say(await page.evaluate(reached));
          await page.evaluate(axe);
          const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
          say(found.violations.map((v) => `axe: ${v.id}: ${v.help} (${v.nodes.length}: ${v.nodes[0].html.slice(0, 120)})`));
        }
        await page.close();
      }
    }
    if (stem === "passed") {
      const page = await browser.newPage();
      await page.goto(url, { waitUntil: "load" });
      await page.pdf({ path: path.join(dir, "passed.pdf"), format: "A4" });
      await page.emulateMediaType("print");
      await page.setBypassCSP(true);
      const folded = await page.evaluate(() => {
        const last = [...document.querySelectorAll("details dl")].pop();
        return last.getBoundingClientRect().height;
      });
      if (!(folded > 0)) faults.push("printed: what is folded is not there");
      await page.close();
    }
  }
  await browser.close();
  faults.forEach((fault) => console.log(`FAIL ${fault}`));
  console.log(`${names.length} pages at ${widths.join(" and ")}, light and dark: ${faults.length} faults`);
  process.exit(faults.length ? 1 : 0);
})();
