// Loads a page in headless Chromium, says what happened, and takes a picture of it.
//
// Prints one line of JSON: when the page was interactive, what it complained of, what it asked the network
// for, which rules of accessibility it breaks, and by how much it is wider than the window. Whether that is
// good enough is for who asked to say: scripts/report-shot and harness/tests/report_html.rs.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const USAGE = `usage: node visit.mjs PAGE.html [--shot OUT.png] [--width PIXELS] [--height PIXELS] [--whole]
       [--dark] [--print] [--without-script] [--axe] [--choose SELECTOR]…`;
/// What a page may take to become interactive before it counts as broken; not a measure of speed.
const PATIENCE_MS = 30_000;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    shot: { type: "string" },
    width: { type: "string", default: "1280" },
    height: { type: "string", default: "900" },
    whole: { type: "boolean", default: false },
    dark: { type: "boolean", default: false },
    print: { type: "boolean", default: false },
    "without-script": { type: "boolean", default: false },
    axe: { type: "boolean", default: false },
    choose: { type: "string", multiple: true, default: [] },
  },
});
if (positionals.length !== 1) {
  console.error(USAGE);
  process.exit(2);
}

const profile = mkdtempSync(join(tmpdir(), "hopbench-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.HOPBENCH_CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
  viewport: { width: Number(options.width), height: Number(options.height) },
  colorScheme: options.dark ? "dark" : "light",
  javaScriptEnabled: !options["without-script"],
});
try {
  const page = context.pages()[0] ?? (await context.newPage());
  console.log(JSON.stringify(await visit(page, positionals[0])));
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}

async function visit(page, file) {
  const complaints = [];
  const requests = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => requests.push(request.url()));

  const address = pathToFileURL(resolve(file)).href;
  await page.goto(address, { waitUntil: "load" });
  const interactive_ms = options["without-script"] ? null : await interactive(page);
  if (!options["without-script"] && (options.axe || options.whole)) await scrollThrough(page);
  for (const selector of options.choose) await page.click(selector);
  if (options.print) await page.emulateMedia({ media: "print" });
  const told = {
    interactive_ms,
    complaints,
    requests: requests.filter((request) => request !== address && !request.startsWith("data:")),
    overflow_px: await page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    ),
    violations: options.axe ? await violations(page) : null,
  };
  if (options.shot) await page.screenshot({ path: options.shot, fullPage: options.whole });
  return told;
}

/// When the page said that it reacts to its reader, counted from the start of navigation.
async function interactive(page) {
  const mark = () => performance.getEntriesByName("interactive")[0]?.startTime;
  await page.waitForFunction(mark, null, { timeout: PATIENCE_MS });
  return page.evaluate(mark);
}

/// Sees all of the page, which draws what is about to be seen.
async function scrollThrough(page) {
  await page.evaluate(async () => {
    const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    for (let y = 0; y < document.documentElement.scrollHeight; y += innerHeight) {
      scrollTo(0, y);
      await painted();
    }
    scrollTo(0, 0);
    await painted();
  });
}

/// What axe-core finds, the worst of each rule's places first.
async function violations(page) {
  const source = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  await page.evaluate(source);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  return violations.map(({ id, impact, help, nodes }) => ({
    id,
    impact,
    help,
    count: nodes.length,
    places: nodes.slice(0, 3).map(({ target, failureSummary }) => `${target.join(" ")}: ${failureSummary}`),
  }));
}
