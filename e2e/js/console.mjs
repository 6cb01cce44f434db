// Drives the console of a running gateway in Chromium, as an operator would. Arguments: a JSON
// object with console, access_key, secret_key, bucket (with the object photos/cat.jpg, read
// before), dead (number of the dead letter there is), and shots, a directory for screenshots,
// "" for none. Prints a line for each thing that was seen, and fails at the first that was not.
import { chromium } from "playwright-core";
import axe from "axe-core";
import { existsSync } from "node:fs";

const o = JSON.parse(process.argv[2]);
const browser = await chromium.launch({ executablePath: ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync), args: ["--no-sandbox"] });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, bypassCSP: true }); // for axe
const page = await context.newPage();
const wrong = [];
page.on("console", (m) => m.type() === "error" && !/401|403/.test(m.text()) && wrong.push(m.text()));
page.on("pageerror", (e) => wrong.push(String(e)));
page.on("request", (r) => new URL(r.url()).origin !== new URL(o.console).origin && !r.url().startsWith("blob:") && wrong.push(`asked ${r.url()}`));
page.on("dialog", (d) => d.accept());
const seen = (what) => console.log(what);
let said = "";
const until = async (what, f) => {
  for (let i = 0; i < 150; i++) {
    if (await f()) { seen(what); return; }
    said = (await page.locator("#says").innerText()) || said;
    await page.waitForTimeout(100);
  }
  throw new Error(`not seen: ${what}`);
};
const says = (text) => page.locator("#says").getByText(text).first().waitFor({ timeout: 15000 });
const go = async (name) => {
  await page.getByRole("link", { name, exact: true }).click();
  await page.getByRole("heading", { level: 1, name }).waitFor();
};

// advised is an advice with everything in it, as after an hour under load.
const advised = (bucket) => {
  const MiB = 2 ** 20, curve = (least, ratios) => ratios.map((hit_ratio, i) => ({ bytes: least * MiB * 2 ** i, hit_ratio, saved_per_month: 90 * hit_ratio - 3 }));
  const expect = { hit_ratio: 0.96, hot_ratio: 0.81, latency_ms: 3.2, cost_per_month: 4.1 };
  return {
    measured: { since: new Date().toISOString(), prices: { currency: "USD" }, memory: { quota_bytes: 64 * MiB }, disk: { quota_bytes: 128 * MiB } },
    trace: { seconds: 3600, reads: 253000, objects: 96000, bytes: 812 * MiB, counted_reads: 126000 },
    memory_curve: curve(1, [0.21, 0.28, 0.36, 0.45, 0.53, 0.62, 0.7, 0.76, 0.81, 0.815, 0.815]), disk_curve: curve(32, [0.83, 0.86, 0.9, 0.94, 0.96, 0.962]),
    now: { ...expect, hit_ratio: 0.88, cost_per_month: 11.4 }, notes: ["12 accesses are missing from the trace, because the machine was too busy to record them."],
    sizes: { kind: "sizes", why: "The hit ratio stops growing at 256.0 MiB of memory and 512.0 MiB of disk: from there on, no doubling adds a percentage point.", expect, caution: "The trace covers 60 min. What is read more rarely than that does not show in it.", memory_bytes: 256 * MiB, disk_bytes: 512 * MiB },
    by_bucket: [{ name: bucket, reads: 253000, writes: 8100, objects: 96000, now: expect, notes: ["No cached object was validated, so nothing is known about changes in the upstream."], proposals: [{ kind: "write", why: "8100 writes of 2.0 KiB on average in 60 min.", expect: { latency_ms: 1.4 }, caution: "Until it is uploaded, an acknowledged write is on the gateway's disk alone." }] }],
    toml: `[cache]\nhot_bytes = "256MiB"\nwarm_bytes = "512MiB"\n\n[[rule]]\nbucket = "${bucket}"\nwrite = "back"\n`,
  };
};

// collections are vector collections in each state.
const collections = () => {
  const one = { bucket: "shop", dimension: 512, pending_vectors: 0, pending_bytes: 0, segments: 2, last_use: new Date().toISOString() };
  return {
    collections: [
      { ...one, index: "articles", tier: "hot", pinned: "hot", vectors: 120400, pending_vectors: 312, pending_bytes: 812000, stored_bytes: 260e6, recent_searches: 4100 },
      { ...one, index: "customers", tier: "warm", vectors: 9000, stored_bytes: 19e6, recent_searches: 3, degraded: "objects of it are lost in the upstream; what is served is the state of 2026-01-02 03:04:05" },
      { ...one, index: "history", tier: "cold", vectors: -1, stored_bytes: 2.1e9, recent_searches: 0 },
    ],
    totals: { collections: 3, hot: 1, warm: 1, cold: 1, pending: 312, pending_bytes: 812000, oldest: new Date(Date.now() - 41000).toISOString(), stored_bytes: 2.38e9, hot_bytes: 280e6 },
    owner: { gateway: "gw-1", writer: "gw-1", since: new Date(Date.now() - 86400e3).toISOString(), epoch: 3, loaded: true, fenced: false },
    problem: "a vector collection is read-only: customers in vector bucket shop: objects of it are lost in the upstream",
  };
};

try {
  await page.goto(o.console);
  await page.getByLabel("Admin access key").fill(o.access_key);
  await page.getByLabel("Secret key", { exact: true }).fill("not-the-secret");
  await page.getByRole("button", { name: "Log in" }).click();
  await until("a wrong secret is refused", async () => (await page.getByRole("alert").innerText()).includes("Unknown admin key"));
  await page.getByLabel("Secret key", { exact: true }).fill(o.secret_key);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Overview" }).waitFor();
  seen("logged in");

  const figure = (name) => page.locator(".cards .card", { hasText: name }).locator("dd").innerText();
  await until("live numbers move under load", async () => parseFloat(await figure("Requests per second")) > 1);
  await until("reads are served from here", async () => parseFloat(await figure("Cache hits")) > 1);
  await until("dead letters are told of", async () => page.getByText("dead letters: writes").isVisible());

  await go("Tiers");
  await page.getByLabel("Bucket", { exact: true }).fill(o.bucket);
  await page.getByLabel("Prefix", { exact: true }).fill("photos/");
  await page.getByRole("button", { name: "Show" }).click();
  const row = page.getByRole("region", { name: "Objects" }).getByRole("row", { name: /photos\/cat\.jpg/ });
  await page.getByRole("button", { name: "Demote photos/cat.jpg" }).click();
  await until("an object is demoted", async () => (await row.locator(".tag").innerText()) === "cold");
  await page.getByRole("button", { name: "Promote photos/cat.jpg" }).click();
  await until("an object is promoted", async () => (await row.locator(".tag").innerText()) === "hot");
  await page.getByRole("button", { name: "Pin photos/cat.jpg", exact: true }).click();
  await until("an object is pinned", async () => (await row.innerText()).includes("Unpin"));
  await page.getByRole("button", { name: "Unpin photos/cat.jpg" }).click();
  await until("and unpinned", async () => !(await row.innerText()).includes("Unpin"));

  await go("Vectors");
  await page.getByText("This gateway (").waitFor();
  await page.getByText("No vector collections.").waitFor();
  await page.getByRole("button", { name: "Upload pending vectors" }).click();
  await says("Everything that was acknowledged is in the upstream.");
  await page.route("**/api/v1/vectors", (r) => r.fulfill({ json: collections() }));
  await page.getByRole("button", { name: "Refresh" }).click();
  await until("a damaged collection is told of", async () => page.getByText("customers in vector bucket shop").isVisible());
  let moved = "";
  await page.route("**/api/v1/vectors/move", (r) => { moved = r.request().postData(); return r.fulfill({ json: { moved: 1, already: 0 } }); });
  for (const [name, body] of [["Demote shop/articles", { action: "demote_to_warm" }], ["Promote shop/history", { action: "promote_to_warm" }], ["Pin shop/customers", { action: "pin", tier: "warm" }], ["Unpin shop/articles", { action: "unpin" }]]) {
    await page.getByRole("button", { name, exact: true }).click();
    const [bucket, index] = name.split(" ")[1].split("/");
    await until(`${name} is asked for`, async () => moved === JSON.stringify({ bucket, index, ...body }));
  }

  await go("Dead letters");
  await page.getByRole("button", { name: `Retry ${o.dead}`, exact: true }).click();
  await says("The write is retried.");
  await until("a dead letter is retried", async () => !(await page.getByRole("button", { name: `Retry ${o.dead}`, exact: true }).isVisible()));

  await go("Writes");
  await until("writes are shown", async () => (await figure("Uploads per second")) !== "–");

  await go("Snapshots");
  await page.getByRole("button", { name: "Create snapshot" }).click();
  await page.getByRole("button", { name: /^Verify / }).first().click();
  await says("The snapshot is valid");
  seen("a snapshot is made and verified");

  await go("Rules");
  await page.getByLabel("Bucket", { exact: true }).fill(o.bucket);
  await page.getByLabel("Key", { exact: true }).fill("photos/cat.jpg");
  await page.getByRole("button", { name: "Explain" }).click();
  await page.getByRole("cell", { name: "freshness", exact: true }).waitFor();
  seen("rules are explained");

  await go("Compare");
  await until("a difference is shown", async () => page.getByRole("row", { name: /photos\/dog\.jpg/ }).first().isVisible());
  await page.locator("summary", { hasText: "Content-Type" }).first().click();
  await until("and both answers", async () => (await page.locator("details[open] pre").first().innerText()).includes("upstream: 200"));

  await go("Cost");
  await page.getByText("saved.").waitFor();
  await page.getByRole("cell", { name: o.bucket, exact: true }).waitFor();
  seen("cost by bucket");

  await go("Shadow");
  await page.getByRole("region", { name: "By freshness mode" }).first().waitFor();
  await page.getByRole("heading", { name: "shadowed", exact: true }).waitFor();
  seen("what the cache would save");

  await go("Advice");
  await page.getByLabel("Seconds to record").fill("3");
  await page.getByRole("button", { name: "Advise" }).click();
  await page.getByRole("heading", { name: `Bucket ${o.bucket}` }).waitFor({ timeout: 30000 });
  await page.getByLabel("Seconds to record").fill("0");
  await page.getByRole("button", { name: "Advise" }).click();
  await page.getByText("No trace was recorded").waitFor();
  seen("advice with and without a trace");
  await page.route("**/api/v1/advice**", (r) => r.fulfill({ json: advised(o.bucket) }));
  await page.getByRole("button", { name: "Advise" }).click();
  await page.getByRole("img", { name: "Reads that miss" }).waitFor();
  seen("curves of an advice");

  await go("Faults");
  await page.getByRole("button", { name: "slowdown" }).click();
  await until("a preset is set", async () => page.getByText("In force").isVisible());
  await page.getByRole("button", { name: "Clear" }).click();
  await until("and cleared", async () => page.getByText("No faults are set").isVisible());

  await go("Users and keys");
  await page.getByLabel("Name", { exact: true }).fill("visitor");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  await says("visitor is saved.");
  await page.getByLabel("User", { exact: true }).fill("visitor");
  await page.getByRole("button", { name: "Create", exact: true }).click();
  await page.getByText("AWS_SECRET_ACCESS_KEY=").waitFor();
  await page.getByRole("button", { name: "Delete user visitor" }).click();
  await says("visitor is deleted.");
  seen("a user and a key are made and deleted");

  await go("Log");
  await until("the log is followed", async () => (await page.locator("#log").innerText()).includes("serving"));

  for (const theme of ["light", "dark"]) {
    await page.evaluate((t) => { localStorage.setItem("theme", t); document.documentElement.dataset.theme = t; }, theme);
    for (const name of ["Overview", "Tiers", "Vectors", "Writes", "Dead letters", "Snapshots", "Rules", "Compare", "Cost", "Shadow", "Advice", "Faults", "Users and keys", "Log"]) {
      await go(name);
      if (name === "Tiers") {
        await page.getByLabel("Bucket", { exact: true }).fill(o.bucket);
        await page.getByRole("button", { name: "Show" }).click();
        await page.getByText("Contents of").waitFor();
      }
      if (name === "Advice") {
        await page.getByRole("button", { name: "Advise" }).click();
        await page.getByRole("img", { name: "Reads that miss" }).waitFor();
      }
      await page.waitForTimeout(o.shots ? 2500 : 300);
      if (o.shots) await page.screenshot({ path: `${o.shots}/${name.toLowerCase().replaceAll(" ", "-")}-${theme}.png`, fullPage: true });
      await page.evaluate(axe.source);
      const found = (await page.evaluate(() => window.axe.run())).violations.filter((v) => ["serious", "critical"].includes(v.impact));
      if (found.length) throw new Error(`${name}, ${theme}: ${found.map((v) => `${v.id}: ${v.nodes.map((n) => n.html + " " + n.failureSummary).join("; ")}`).join("\n")}`);
    }
    seen(`no serious accessibility finding on any page, ${theme}`);
  }
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  if (wrong.length) throw new Error(`the browser complains: ${wrong.join("; ")}`);
  seen("logged out");
} catch (e) {
  console.log(`it said: ${said}\n${await page.locator("body").innerText()}`);
  throw e;
} finally {
  await browser.close();
}
