// The console: one module, no build step. Each page is a function that fills an element and may
// return a function that is called with each new overview. All text is set as text, never as HTML.

const $ = (id) => document.getElementById(id);

// h creates an element. Properties that begin with "on" are listeners; null children are left out.
function h(tag, props, ...children) {
  const e = tag === "svg" || tag === "path" || tag === "line" ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else e.setAttribute(name, value === true ? "" : value);
  }
  e.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined));
  return e;
}

const bytes = (n) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i === 0 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
};
const count = (n) => (n >= 1e6 ? `${(n / 1e6).toFixed(1)} M` : n >= 1e4 ? `${(n / 1e3).toFixed(1)} k` : n >= 100 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1));
const percent = (n) => `${(100 * n).toFixed(1)}%`;
const ms = (n) => (n === undefined || n === null ? "–" : n >= 100 ? `${Math.round(n)} ms` : `${n.toFixed(n < 1 ? 2 : 1)} ms`);
const money = (n, currency) => `${n < 0 ? "−" : ""}${Math.abs(n).toFixed(Math.abs(n) < 1 ? 4 : 2)} ${currency}`;
const when = (t) => (t ? new Date(t).toLocaleString() : "–");
const seconds = (n) => (n < 120 ? `${Math.round(n)} s` : n < 7200 ? `${Math.round(n / 60)} min` : n < 172800 ? `${Math.round(n / 3600)} h` : `${Math.round(n / 86400)} days`);

// say shows a message to the user; screen readers announce it politely.
function say(text, bad) {
  const p = h("p", { class: bad ? "bad" : null }, text);
  $("says").append(p);
  setTimeout(() => p.remove(), bad ? 12000 : 5000);
}

// api sends a request to the admin API. It throws an error with the response's text unless the
// request succeeds.
async function api(method, path, body) {
  const headers = { "X-Akigw-Console": "1" }; // pages of other origins cannot send this header
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(`/api/v1/${path}`, { method, headers, body: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body) });
  if (answer.status === 401) {
    session = null;
    render();
    throw new Error("Log in first.");
  }
  const text = await answer.text();
  if (!answer.ok) throw new Error(text.trim() || `${answer.status}`);
  return text ? JSON.parse(text) : null;
}

// act performs an action of the user and shows the result or the error.
async function act(what, done) {
  try {
    const result = await what();
    if (done) say(typeof done === "function" ? done(result) : done);
    return true;
  } catch (e) {
    say(e.message, true);
    return false;
  }
}

const query = (params) => new URLSearchParams(Object.entries(params).filter(([, v]) => v !== "" && v !== undefined && v !== null)).toString();

// table creates a table. A column is [heading, cell, "n" for numbers or "key"].
function table(caption, columns, rows, empty) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", null, h("caption", null, caption),
      h("thead", null, h("tr", null, columns.map(([name, , kind]) => h("th", { scope: "col", class: kind === "n" ? "n" : null }, name)))),
      h("tbody", null, rows.length === 0
        ? h("tr", null, h("td", { colspan: columns.length, class: "note" }, empty ?? "None."))
        : rows.map((row) => h("tr", null, columns.map(([, cell, kind]) => h("td", { class: kind ?? null }, cell(row) ?? "")))))));
}

const field = (name, input) => h("label", null, name, input);
const button = (text, onclick, kind) => h("button", { type: "button", class: kind ?? null, onclick }, text);
const card = (...children) => h("section", { class: "card" }, children);

// number creates a card with one figure; set changes it.
function number(name) {
  const value = h("dd", null, "–");
  const note = h("div", { class: "note" });
  return { node: card(h("dl", null, h("dt", null, name), value), note), set: (text, more) => { value.textContent = text; note.textContent = more ?? ""; } };
}

// chart draws series over the last two minutes. A series is [name, class, value of an overview].
function chart(title, format, series) {
  const svg = h("svg", { class: "chart", viewBox: "0 0 120 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  const top = h("span", { class: "top" });
  const now = series.map(() => h("b", null, "–"));
  const node = card(h("h2", null, title), h("div", { class: "plot" }, top, svg),
    h("ul", { class: "legend" }, series.map(([name, kind], i) => h("li", null, h("i", { class: `b-${kind}` }), `${name} `, now[i]))));
  const draw = () => {
    const most = Math.max(1e-9, ...history.flatMap((o) => series.map(([, , value]) => value(o) ?? 0)));
    svg.replaceChildren(h("line", { x1: 0, x2: 120, y1: 99, y2: 99 }), ...series.map(([, kind, value]) => {
      const start = 120 - history.length;
      let d = "";
      history.forEach((o, i) => { const v = value(o); if (v !== undefined && v !== null) d += `${d ? "L" : "M"}${start + i} ${98 - 94 * v / most}`; });
      return h("path", { d: d || "M0 0", class: `s-${kind}` });
    }));
    top.textContent = `${format(most)} max`;
    series.forEach(([, , value], i) => { const v = value(history.at(-1)); now[i].textContent = v === undefined || v === null ? "–" : format(v); });
  };
  return { node, draw };
}

// share draws the parts of a whole as a bar.
function share(title) {
  const bar = h("div", { class: "bar", "aria-hidden": "true" });
  const legend = h("ul", { class: "legend" });
  return {
    node: card(h("h2", null, title), bar, legend),
    set: (parts) => {
      const sum = parts.reduce((s, [, , n]) => s + n, 0) || 1;
      bar.replaceChildren(...parts.filter(([, , n]) => n > 0).map(([, kind, n]) => { const e = h("span", { class: kind }); e.style.width = `${100 * n / sum}%`; return e; }));
      legend.replaceChildren(...parts.map(([name, kind, n, text]) => h("li", null, h("i", { class: kind }), `${name} `, h("b", null, text ?? percent(n / sum)))));
    },
  };
}

// fill draws the usage of the tiers.
function fill(title) {
  const rows = [["memory", "hot"], ["disk", "warm"]].map(([name, kind]) => {
    const part = h("span", { class: kind });
    return { name, kind, part, text: h("div", { class: "note" }), bar: h("div", { class: "bar", "aria-hidden": "true" }, part) };
  });
  return {
    node: card(h("h2", null, title), rows.map((r) => [r.bar, r.text])),
    set: (s) => {
      for (const r of rows) {
        const used = s[`${r.kind}_bytes`], quota = s[`${r.kind}_quota_bytes`];
        r.part.style.width = quota ? `${Math.min(100, 100 * used / quota)}%` : "0";
        r.text.textContent = quota ? `${r.name}: ${bytes(used)} of ${bytes(quota)}` : `${r.name}: switched off`;
      }
    },
  };
}

const history = []; // overviews of the last two minutes, one per second
let session = null; // the access key that is logged in
let known = null; // properties of the server: faults, version
let page = null; // the current page: { update }
let stream = null;

const recent = (n) => history.slice(-n);
const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : 0);

const pages = {
  "": ["Overview", overview], tiers: ["Tiers", tiers], vectors: ["Vectors", vectors], writes: ["Writes", writes], dead: ["Dead letters", dead], snapshots: ["Snapshots", snapshots],
  rules: ["Rules", rules], compare: ["Compare", compare], cost: ["Cost", cost], shadow: ["Shadow", shadow], advice: ["Advice", advice], faults: ["Faults", faults], access: ["Users and keys", access], log: ["Log", log],
};

function overview(main) {
  const numbers = { requests: number("Requests per second"), hits: number("Cache hits"), saved: number("Saved upstream traffic"), pending: number("Pending writes"), latency: number("Reads, P95"), errors: number("Errors per second") };
  const charts = [
    chart("Requests per second", count, [["reads", "hot", (o) => o.requests.read], ["writes", "cold", (o) => o.requests.write], ["listings", "warm", (o) => o.requests.list], ["other", "dim", (o) => o.requests.other]]),
    chart("Bytes per second", bytes, [["to clients", "good", (o) => o.sent_bytes], ["from the upstream", "cold", (o) => o.upstream_received_bytes], ["to the upstream", "warm", (o) => o.upstream_sent_bytes]]),
    chart("Reads: time to the last byte", ms, [["P50", "good", (o) => o.latency_ms.read?.p50], ["P95", "warm", (o) => o.latency_ms.read?.p95], ["P99", "bad", (o) => o.latency_ms.read?.p99]]),
    chart("Reads per second by tier", count, [["hot", "hot", (o) => o.outcomes.hot], ["warm", "warm", (o) => o.outcomes.warm], ["cold", "cold", (o) => o.outcomes.cold]]),
  ];
  const alarm = h("div");
  const tiersNow = fill("Usage of the tiers");
  const reads = share("Reads of the last minute");
  main.append(h("h1", null, "Overview"), alarm, h("div", { class: "cards" }, Object.values(numbers).map((n) => n.node)), h("div", { class: "wide" }, charts.map((c) => c.node), reads.node, tiersNow.node));
  return (o) => {
    const all = (x) => x.requests.read + x.requests.write + x.requests.list + x.requests.other;
    const minute = recent(60);
    const sum = (key) => minute.reduce((s, x) => s + (x.outcomes[key] ?? 0), 0);
    const local = sum("hot") + sum("warm") + sum("overlay") + sum("stale"), total = local + sum("cold");
    numbers.requests.set(count(mean(recent(5).map(all))), `${count(mean(recent(5).map((x) => x.upstream_requests)))} to the upstream`);
    numbers.hits.set(total ? percent(local / total) : "–", "of the reads in the last minute");
    numbers.saved.set(bytes(Math.max(0, o.saved.bytes)), `${money(o.saved.money, o.saved.currency)} since ${when(o.saved.since)}`);
    numbers.pending.set(count(o.status.pending), o.status.pending ? `${bytes(o.status.pending_bytes)}, oldest for ${seconds(o.status.oldest_seconds)}` : "all acknowledged writes are upstream");
    numbers.latency.set(ms(o.latency_ms.read?.p95), `writes: ${ms(o.latency_ms.write?.p95)}`);
    numbers.errors.set(count(mean(recent(10).map((x) => x.errors))), "5xx responses");
    charts.forEach((c) => c.draw());
    reads.set([["memory", "hot", sum("hot")], ["disk", "warm", sum("warm")], ["upstream", "cold", sum("cold")], ["not upstream yet", "other", sum("overlay")]]);
    const s = o.status;
    tiersNow.set(s);
    alarm.replaceChildren(...problems(s).map(([text, where]) => card(h("strong", null, text), where ? h("div", null, h("a", { href: where }, "Details")) : null)));
    for (const c of alarm.children) c.classList.add("alarm");
  };
}

// problems lists what an operator has to know, each with a link.
function problems(s) {
  const all = [];
  if (s.problem) all.push([`The journal takes no writes: ${s.problem}`, "#/writes"]);
  if (s.dead_letters) all.push([`${s.dead_letters} dead letters: writes that could not be uploaded.`, "#/dead"]);
  for (const name of s.suspects ?? []) all.push([`Upstream ${name} has stopped responding: requests that need it are refused until it responds to a probe.`, "#/writes"]);
  for (const bucket of s.broken ?? []) all.push([`The breaker of bucket ${bucket} is open: too many requests failed.`, "#/writes"]);
  for (const [name, why] of Object.entries(s.paused ?? {})) all.push([`Uploads to ${name} are paused: ${why}`, "#/writes"]);
  for (const n of s.write_back ?? []) {
    if (n.paused) all.push([`Pending writes of bucket ${n.bucket} are not uploaded: ${n.meaning}. ${n.remedy}`, "#/writes"]);
    else if (n.reason) all.push([`Writes to bucket ${n.bucket} are not written back, although its rule says so: ${n.meaning}.`, "#/writes"]);
    if (n.refused_kinds?.length) all.push([`Some writes to bucket ${n.bucket} are not written back, because the upstream has refused their kind: ${n.refused_kinds.join(", ")}.`, "#/writes"]);
  }
  for (const file of s.damage ?? []) all.push([`Damaged: ${file}`, "#/writes"]);
  for (const text of s.warnings ?? []) if (text.startsWith("vector collections: ")) all.push([`V${text.slice(1)}`, "#/vectors"]);
  if (s.warm_problem) all.push([`The disk tier is off: ${s.warm_problem}`, "#/tiers"]);
  return all;
}

function tiers(main) {
  const held = fill("Usage of the tiers");
  const worker = h("div", { class: "note" });
  const prefixes = h("div"), objects = h("div"), pins = h("div");
  const bucket = h("input", { name: "bucket", required: true, spellcheck: "false", autocomplete: "off" });
  const prefix = h("input", { name: "prefix", spellcheck: "false", autocomplete: "off" });
  let after = [""], asked = 0;
  const shown = () => ({ bucket: bucket.value.trim(), prefix: prefix.value });
  const look = async () => {
    const at = shown(), mine = ++asked; // drop a response if a newer request has been sent
    await act(async () => {
      const list = await api("GET", `tier/prefixes?${query(at)}`);
      if (mine !== asked) return;
      prefixes.replaceChildren(table(at.bucket ? `Contents of ${at.bucket}/${at.prefix}, largest first` : "Buckets, largest first", [
        ["Name", (p) => (at.bucket && !p.prefix.endsWith("/") ? p.prefix : h("a", { href: `#/tiers?${query({ bucket: p.bucket, prefix: p.prefix })}` }, at.bucket ? p.prefix : p.bucket)), "key"],
        ["Objects", (p) => count(p.objects), "n"], ["Bytes", (p) => bytes(p.bytes), "n"], ["in memory", (p) => bytes(p.hot_bytes), "n"], ["on disk", (p) => bytes(p.warm_bytes), "n"], ["Reads", (p) => count(p.accesses), "n"],
      ], list, "No known objects. Objects appear here once they are read or written through the gateway."));
      if (!at.bucket) { objects.replaceChildren(); return; }
      const list2 = await api("GET", `tier/objects?${query({ ...at, limit: 50, after: after.at(-1) })}`);
      if (mine !== asked) return;
      objects.replaceChildren(table("Objects", [
        ["Key", (o) => o.key, "key"], ["Tier", (o) => h("span", { class: `tag ${o.tier}` }, o.tier)], ["Size", (o) => bytes(o.size), "n"], ["Reads", (o) => count(o.accesses), "n"], ["Last used", (o) => when(o.last_access)],
        ["Pinned", (o) => (o.pinned ? "yes" : "")],
        ["Actions", (o) => h("span", { class: "actions" }, [["Promote", "promote_to_hot"], ["Demote", "demote_to_cold"], o.pinned ? ["Unpin", "unpin"] : ["Pin", "pin"]].map(([name, action]) =>
          h("button", { type: "button", class: "row", "aria-label": `${name} ${o.key}`, onclick: () => move(action, { bucket: o.bucket, key: o.key }) }, name)))],
      ], list2.objects), h("div", { class: "actions" },
        after.length > 1 ? button("Back", () => { after.pop(); look(); }) : null,
        list2.next ? button("More", () => { after.push(list2.next); look(); }) : null));
    });
  };
  const move = async (action, what) => {
    if (await act(() => api("POST", "tier", { action, ...what }), (r) => `${r.moved} moved (${bytes(r.bytes)}), ${r.already} needed no change.`)) { look(); more(); }
  };
  const whole = (name, action) => button(name, () => (bucket.value ? move(action, { bucket: shown().bucket, prefix: shown().prefix }) : say("Enter a bucket first.", true)));
  const more = () => act(async () => {
    const [list, m] = await Promise.all([api("GET", "tier/pins"), api("GET", "metrics/tiers")]);
    pins.replaceChildren(table("Pins by name", [["Bucket", (p) => p.bucket, "key"], ["Key or prefix", (p) => (p.exactly ? p.prefix : `${p.prefix}*`), "key"], ["Where", (p) => (p.hot ? "memory and disk" : "disk")], ["Since", (p) => when(p.since)]], list, "Nothing is pinned."));
    worker.textContent = m.worker && !m.worker.ended ? "The worker has not completed a cycle yet." : m.worker ? `The worker's last cycle ended ${when(m.worker.ended)}: ${m.worker.promoted} promoted, ${m.worker.demoted} demoted, ${m.worker.failed} failed.` : "The policy worker is off.";
  });
  main.append(h("h1", null, "Tiers"), h("div", { class: "wide" }, held.node),
    card(h("form", { onsubmit: (e) => { e.preventDefault(); location.hash = `#/tiers?${query(shown())}`; } }, field("Bucket", bucket), field("Prefix", prefix), h("button", { class: "main" }, "Show")),
      h("p", { class: "actions" }, h("span", { class: "note" }, "All objects of this prefix:"), whole("Promote to memory", "promote_to_hot"), whole("Promote to disk", "promote_to_warm"), whole("Demote", "demote_to_cold"), whole("Pin", "pin"), whole("Unpin", "unpin"))),
    card(prefixes), card(objects), card(pins, worker));
  const at = params();
  bucket.value = at.get("bucket") ?? "";
  prefix.value = at.get("prefix") ?? "";
  look();
  more();
  return (o) => held.set(o.status);
}

// vectors shows the vector collections, moves and pins them.
function vectors(main) {
  const numbers = { collections: number("Collections"), memory: number("Memory of hot collections"), pending: number("Pending vectors"), oldest: number("Age of the oldest"), stored: number("Stored upstream") };
  const list = h("div"), banner = h("div"), owner = h("p", { class: "note" });
  const load = () => act(async () => {
    const v = await api("GET", "vectors");
    totals(v.totals);
    banner.replaceChildren(...(v.problem ? [card(h("strong", null, v.problem), v.owner.fenced ? h("div", null, "To move the collections to this gateway on purpose: akigw vectors takeover") : null)] : []));
    for (const c of banner.children) c.classList.add("alarm");
    const o = v.owner;
    owner.textContent = !o.writer ? `The upstream has not confirmed who has the collections. This gateway is ${o.gateway}.` : o.writer === o.gateway ? `This gateway (${o.gateway}) has the collections since ${when(o.since)}.` : `Gateway ${o.writer} has the collections since ${when(o.since)}. This gateway is ${o.gateway}.`;
    list.replaceChildren(table("Vector collections", [
      ["Collection", (c) => `${c.bucket}/${c.index}`, "key"], ["Tier", (c) => h("span", { class: `tag ${c.tier}` }, c.tier)], ["Vectors", (c) => (c.vectors < 0 ? "unknown" : count(c.vectors)), "n"], ["Dimension", (c) => c.dimension, "n"],
      ["Pending", (c) => (c.pending_vectors ? `${count(c.pending_vectors)} (${bytes(c.pending_bytes)})` : "0"), "n"], ["Stored", (c) => bytes(c.stored_bytes), "n"], ["Searches", (c) => count(c.recent_searches), "n"], ["Last used", (c) => when(c.last_use)],
      ["Pinned", (c) => c.pinned ?? ""], ["State", (c) => (c.degraded ? `read-only: ${c.degraded}` : "")],
      ["Actions", (c) => h("span", { class: "actions" }, actions(c).map(([name, body]) =>
        h("button", { type: "button", class: "row", "aria-label": `${name} ${c.bucket}/${c.index}`, onclick: () => move({ bucket: c.bucket, index: c.index, ...body }) }, name)))],
    ], v.collections, "No vector collections. They appear here once CreateIndex was called."));
  });
  const actions = (c) => [
    c.tier === "hot" ? null : ["Promote", { action: c.tier === "cold" ? "promote_to_warm" : "promote_to_hot" }],
    c.tier === "cold" ? null : ["Demote", { action: c.tier === "hot" ? "demote_to_warm" : "demote_to_cold" }],
    c.pinned ? ["Unpin", { action: "unpin" }] : ["Pin", { action: "pin", tier: c.tier }],
  ].filter((a) => a);
  const move = async (body) => { if (await act(() => api("POST", "vectors/move", body), (r) => (r.moved ? "Done." : "No change was needed."))) load(); };
  const totals = (t) => {
    numbers.collections.set(count(t.collections), `${t.hot} hot, ${t.warm} warm, ${t.cold} cold`);
    numbers.memory.set(bytes(t.hot_bytes));
    numbers.pending.set(count(t.pending), t.pending ? bytes(t.pending_bytes) : "all acknowledged vectors are upstream");
    numbers.oldest.set(t.oldest ? seconds((Date.now() - new Date(t.oldest)) / 1000) : "–");
    numbers.stored.set(bytes(t.stored_bytes));
  };
  main.append(h("h1", null, "Vectors"), banner, h("div", { class: "cards" }, Object.values(numbers).map((n) => n.node)),
    card(list, h("p", { class: "actions" }, button("Refresh", load),
      button("Upload pending vectors", async () => (await act(() => api("POST", "vectors/flush"), "Everything that was acknowledged is in the upstream.")) && load()),
      button("Remove garbage", () => act(() => api("POST", "vectors/sweep"), "What no collection needs any more is removed from the upstream."))), owner));
  load();
  return (o) => { if (o.status.vectors) totals(o.status.vectors); };
}

function writes(main) {
  const numbers = { pending: number("Pending"), oldest: number("Age of the oldest"), rate: number("Uploads per second"), active: number("Uploads under way"), later: number("Keys waiting to retry"), packs: number("Objects in packs") };
  const charts = [
    chart("Pending writes", count, [["pending", "warm", (o) => o.status.pending], ["dead letters", "bad", (o) => o.status.dead_letters]]),
    chart("Parallel uploads", count, [["under way", "cold", (o) => o.status.uploading], ["limit", "dim", (o) => o.status.uploading_limit]]),
  ];
  const state = h("div");
  main.append(h("h1", null, "Writes"), state, h("div", { class: "cards" }, Object.values(numbers).map((n) => n.node)), h("div", { class: "wide" }, charts.map((c) => c.node)));
  return ({ status: s }) => {
    numbers.pending.set(count(s.pending), bytes(s.pending_bytes));
    numbers.oldest.set(s.pending ? seconds(s.oldest_seconds) : "–");
    numbers.rate.set(count(s.uploads_per_second), `${bytes(s.upload_bytes_per_second)} per second in the last minute`);
    numbers.active.set(count(s.uploading), `up to ${s.uploading_limit} in parallel`);
    numbers.later.set(count(s.waiting), s.failing ? `last failure: ${s.failing}` : "");
    numbers.packs.set(count(s.packed), `in ${s.packs} packs; ${s.uploads} open uploads of clients`);
    charts.forEach((c) => c.draw());
    state.replaceChildren(...problems(s).map(([text, where]) => card(h("strong", null, text), where && where !== "#/writes" ? h("div", null, h("a", { href: where }, "Details")) : null)),
      ...(s.write_back ?? []).filter((n) => n.paused).map((n) => button(`Upload the pending writes of ${n.bucket} anyway`, () => confirm(`${n.meaning}. Upload the pending writes of ${n.bucket} anyway?`) && act(() => api("POST", `journal/resume?${query({ bucket: n.bucket })}`), "The uploads have resumed."), "danger")),
      ...(s.damage?.length ? [button("Accept the damage", () => confirm("Damaged data is lost. Let the journal take writes again?") && act(() => api("POST", "journal/accept"), "The journal takes writes again."), "danger")] : []));
  };
}

function dead(main) {
  const list = h("div");
  const load = () => act(async () => {
    const all = await api("GET", "dead-letters");
    list.replaceChildren(table("Writes that could not be uploaded. They are kept and can be read.", [
      ["Number", (d) => d.id, "n"], ["Object", (d) => `${d.bucket}/${d.key}`, "key"], ["Operation", (d) => (d.deleted ? "deletion" : "write")], ["Size", (d) => bytes(d.size), "n"], ["Acknowledged", (d) => when(d.acknowledged)], ["Reason", (d) => d.reason],
      ["Actions", (d) => h("span", { class: "actions" },
        h("button", { type: "button", class: "row", "aria-label": `Retry ${d.id}`, onclick: async () => (await act(() => api("POST", `dead-letters/retry?id=${d.id}`), "The write is retried.")) && load() }, "Retry"),
        h("button", { type: "button", class: "row", "aria-label": `Export ${d.id}`, onclick: () => save(d) }, "Export"),
        h("button", { type: "button", class: "row danger", "aria-label": `Drop ${d.id}`, onclick: async () => confirm(`Discard the write of ${d.bucket}/${d.key} permanently?`) && (await act(() => api("POST", `dead-letters/drop?id=${d.id}`), "The write is discarded.")) && load() }, "Drop"))],
    ], all, "None: every acknowledged write is upstream or pending."));
  });
  const save = (d) => act(async () => {
    const answer = await fetch(`/api/v1/dead-letters/export?id=${d.id}`, { method: "POST", headers: { "X-Akigw-Console": "1" } });
    if (!answer.ok) throw new Error(await answer.text());
    const url = URL.createObjectURL(await answer.blob());
    h("a", { href: url, download: d.key.split("/").pop() || "object" }).click();
    URL.revokeObjectURL(url);
  });
  main.append(h("h1", null, "Dead letters"), card(list));
  load();
  let last = null;
  return ({ status }) => { if (last !== null && last !== status.dead_letters) load(); last = status.dead_letters; };
}

function snapshots(main) {
  const list = h("div");
  const load = () => act(async () => {
    list.replaceChildren(table("Snapshots of the catalog, in Parquet. A new gateway starts warm from one: akigw serve --restore ID", [
      ["ID", (s) => s.id, "key"], ["Created", (s) => when(s.created)], ["Size", (s) => bytes(s.bytes), "n"],
      ["Actions", (s) => h("span", { class: "actions" },
        h("button", { type: "button", class: "row", "aria-label": `Verify ${s.id}`, onclick: () => act(() => api("GET", `snapshots/${encodeURIComponent(s.id)}`), (d) => `The snapshot is valid: ${count(d.rows)} objects.`) }, "Verify"),
        h("button", { type: "button", class: "row danger", "aria-label": `Delete ${s.id}`, onclick: async () => confirm(`Delete ${s.id}?`) && (await act(() => api("DELETE", `snapshots/${encodeURIComponent(s.id)}`), "The snapshot is deleted.")) && load() }, "Delete"))],
    ], (await api("GET", "snapshots")) ?? [], "None yet."));
  });
  main.append(h("h1", null, "Snapshots"), card(h("div", { class: "actions" }, button("Create snapshot", async () => (await act(() => api("POST", "snapshots"), (s) => `Created ${s.id}.`)) && load(), "main")), list));
  load();
}

function rules(main) {
  const bucket = h("input", { required: true, spellcheck: "false" }), key = h("input", { required: true, spellcheck: "false" });
  const out = h("div");
  main.append(h("h1", null, "Rules"), card(h("p", { class: "note" }, "The settings of an object and the line of the configuration file that each comes from. The gateway reloads changed rules while it runs."),
    h("form", { onsubmit: (e) => { e.preventDefault(); act(async () => {
      const list = await api("GET", `rules/explain?${query({ bucket: bucket.value.trim(), key: key.value })}`);
      out.replaceChildren(table(`${bucket.value}/${key.value}`, [["Setting", (r) => r.field, "key"], ["Value", (r) => r.value, "key"], ["From", (r) => (r.rule ? `${r.rule}, line ${r.line}` : "the default")]], list));
    }); } }, field("Bucket", bucket), field("Key", key), h("button", { class: "main" }, "Explain"))), card(out));
}

function compare(main) {
  const counts = h("div"), found = h("div"), allowed = h("div");
  const answer = (name, a) => `${name}: ${a.status}, ${a.length < 0 ? "length unknown" : `${a.length} bytes`}${a.digest ? `, digest ${a.digest}` : ""}\n${Object.entries(a.header ?? {}).sort().map(([k, v]) => `  ${k}: ${v.join(", ")}`).join("\n")}`;
  const columns = [
    ["Answered", (d) => when(d.at)], ["Object", (d) => `${d.bucket}/${d.key}${d.version ? `?versionId=${d.version}` : ""}`, "key"], ["Request", (d) => `${d.method} ${d.range ?? ""}`], ["Mode", (d) => d.freshness], ["From", (d) => h("span", { class: `tag ${d.tier}` }, d.tier)], ["Age", (d) => seconds(d.age_seconds), "n"],
    ["Differs in", (d) => h("details", null, h("summary", null, d.differs.join(", ")), h("pre", null, `request ${d.request_id}\n${answer("client", d.client)}\n${answer("upstream", d.upstream)}`)), "key"],
  ];
  let last = null;
  const load = () => act(async () => {
    const r = await api("GET", "compare");
    const all = { ...r.compared, ...r.skipped };
    if (last === JSON.stringify(all)) return; // keep open details open
    last = JSON.stringify(all);
    const n = (key) => r.compared?.[key] ?? 0;
    const skipped = Object.entries(r.skipped ?? {}).filter(([, v]) => v > 0).sort();
    counts.replaceChildren(h("p", null, h("strong", null, count(n("different"))), ` different, ${count(n("allowed"))} different but allowed, ${count(n("equal"))} equal since ${when(r.since)}.`),
      h("p", { class: "note" }, skipped.length ? `Not compared: ${skipped.map(([k, v]) => `${count(v)} ${k.replaceAll("_", " ")}`).join(", ")}.` : "Answers are compared where a rule has compare, such as compare = 0.01 for one in a hundred."));
    found.replaceChildren(table("Answers from the cache that differ from the upstream's, newest first", columns, r.differences ?? [], "None."));
    allowed.replaceChildren(table("Different, but not older than the freshness mode allows", columns, r.allowed ?? [], "None."));
  });
  main.append(h("h1", null, "Compare"), card(counts), card(found), card(allowed));
  load();
  let ticks = 0;
  return () => { if (++ticks % 5 === 0) load(); };
}

function cost(main) {
  const out = h("div");
  main.append(h("h1", null, "Cost"), card(out));
  act(async () => {
    const c = await api("GET", "cost");
    const m = (n) => money(n, c.prices.currency);
    out.append(h("p", { class: "note" }, `Counted since ${when(c.since)}. Prices: ${c.prices.per_1000_writes} for 1,000 writes and listings, ${c.prices.per_1000_reads} for 1,000 reads, ${c.prices.per_gib_out} for each GiB read from the upstream (${c.prices.currency}). To change them, set [cost] in the configuration.`),
      h("p", null, "The requests of clients would have cost ", h("strong", null, m(c.total.without)), " without akigw and cost ", h("strong", null, m(c.total.with)), ": ", h("strong", null, m(c.total.saved)), " saved."),
      table("By bucket, largest saving first", [["Bucket", (b) => b.bucket || "(none: the service)", "key"], ["Requests of clients", (b) => count(b.clients.reads + b.clients.writes + b.clients.free), "n"], ["to the upstream", (b) => count(b.upstream.reads + b.upstream.writes + b.upstream.free), "n"],
        ["Bytes to clients", (b) => bytes(b.clients.out_bytes), "n"], ["from the upstream", (b) => bytes(b.upstream.out_bytes), "n"], ["Without akigw", (b) => m(b.without), "n"], ["With akigw", (b) => m(b.with), "n"], ["Saved", (b) => m(b.saved), "n"]], c.buckets));
  });
}

// shadow shows what the cache would save, before it serves anything.
function shadow(main) {
  const out = h("div");
  main.append(h("h1", null, "Shadow"), out);
  const load = () => act(async () => {
    const r = await api("GET", "shadow");
    const m = (n) => money(n, r.currency);
    const signed = (n, f) => `${n < 0 ? "−" : ""}${f(Math.abs(n))}`;
    if (r.buckets.length === 0) {
      out.replaceChildren(card(h("p", null, "No request has passed in shadow mode yet."), h("p", { class: "note" }, "In shadow mode every request goes to the upstream, and the gateway counts what its cache would have saved. To switch it on: akigw serve --shadow, or shadow = \"metadata\" in a rule. Then point the application at the gateway.")));
      return;
    }
    const modes = (l) => table("By freshness mode", [["Freshness", (p) => (p.freshness ? [p.freshness, " ", p.freshness === l.best ? h("span", { class: "tag" }, "most saving, nothing stale") : ""] : h("strong", null, "as configured")), "mode"],
      ["Hits", (p) => percent(p.hit_ratio), "n"], ["from memory", (p) => percent(p.hot_ratio), "n"], ["Validations", (p) => count(p.validations), "n"], ["Stale responses", (p) => count(p.stale), "n"],
      ["Upstream requests", (p) => count(p.requests), "n"], ["Saved requests", (p) => signed(p.saved_requests, count), "n"], ["Saved bytes", (p) => signed(p.saved_bytes, bytes), "n"], ["Saved", (p) => m(p.saved), "n"]], [l.configured, ...l.modes]);
    const figures = (l) => h("p", null, `${count(l.requests)} requests passed, ${count(l.reads)} of them reads: ${bytes(l.bytes)} for `, h("strong", null, m(l.cost)), ". As configured, the cache would have saved ", h("strong", null, m(l.configured.saved)), ".",
      l.replaced ? ` Replaced or deleted by others than this gateway: ${count(l.replaced)}.` : null);
    const best = r.total.modes.find((p) => p.freshness === r.total.best);
    const next = h("p", { class: "note" }, r.total.reads < 1000 ? `These are only ${count(r.total.reads)} reads. Let the application run until its traffic repeats itself, a day for most. ` : null,
      best.saved <= 0 ? "No mode without stale responses would have saved money so far. Larger tiers may." :
        `${best.freshness} saves most without a stale response so far: ${m(best.saved)}. immutable and exclusive are promises about who writes, that only you can make; events needs notifications from the upstream. To serve: set freshness, and restart without --shadow, or remove shadow from the rule.`);
    out.replaceChildren(h("p", { class: "note" }, `Counted since ${when(r.since)}, with ${bytes(r.hot_bytes)} of memory and ${bytes(r.warm_bytes)} of disk.${r.sampled_ratio < 1 ? ` Estimated from one key in ${Math.round(1 / r.sampled_ratio)}.` : ""}`),
      ...[r.total, ...r.buckets].filter((l, i) => i > 0 || r.buckets.length > 1).map((l) => card(h("h2", null, l === r.total ? "All buckets" : l.bucket || "(none: the service)"), figures(l), modes(l))), next);
  });
  load();
  let ticks = 0;
  return () => { if (++ticks % 5 === 0) load(); };
}

// curves draws values over the size of a tier, on a logarithmic scale. A line is [name, class, points]; marks are the
// proposed sizes.
function curves(title, format, value, most, lines, marks) {
  lines = lines.filter(([, , points]) => points?.length);
  const sizes = lines.flatMap(([, , points]) => points.map((p) => p.bytes));
  const least = Math.min(...sizes), steps = Math.max(1, Math.log2(Math.max(...sizes) / least));
  const x = (n) => 120 * Math.min(1, Math.max(0, Math.log2(n / least) / steps)), y = (v) => 98 - 94 * Math.min(1, Math.max(0, v / most));
  const svg = h("svg", { class: "chart", viewBox: "0 0 120 100", preserveAspectRatio: "none", role: "img", "aria-label": `${title}, by the size of a tier` },
    h("line", { x1: 0, x2: 120, y1: 99, y2: 99 }), marks.map((n) => h("line", { x1: x(n), x2: x(n), y1: 4, y2: 99, "stroke-dasharray": "4 3" })),
    lines.map(([, kind, points]) => h("path", { d: points.map((p, i) => `${i ? "L" : "M"}${x(p.bytes)} ${y(value(p))}`).join(""), class: `s-${kind}` })));
  return card(h("h2", null, title), h("div", { class: "plot" }, h("span", { class: "top" }, `${format(most)} max`), svg, h("div", { class: "along" }, h("span", null, bytes(least)), h("span", null, bytes(Math.max(...sizes))))),
    h("ul", { class: "legend" }, lines.map(([name, kind]) => h("li", null, h("i", { class: `b-${kind}` }), name))));
}

function advice(main) {
  const time = h("input", { type: "number", min: "0", max: "86400", value: "60", required: true });
  const out = h("div");
  const expected = (e, currency, latencyOf = "on average", costOf = "for reads and validations at the upstream") => [
    e.hit_ratio === undefined ? null : `${percent(e.hit_ratio)} of reads need nothing from the upstream`, e.hot_ratio === undefined ? null : `${percent(e.hot_ratio)} are served from memory`,
    e.latency_ms === undefined ? null : `${ms(e.latency_ms)} ${latencyOf}`, e.cost_per_month === undefined ? null : `${money(e.cost_per_month, currency)} in 30 days ${costOf}`,
  ].filter(Boolean).join("; ") || "unknown, too little was measured";
  const then = (p, currency) => (p.kind === "write" ? expected(p.expect, currency, "for a write on average", "for uploads") : expected(p.expect, currency));
  const proposal = (p, currency) => [h("h3", null, p.kind), h("p", null, p.why), h("p", null, h("strong", null, "Then: "), then(p, currency)), p.caution ? h("p", { class: "caution" }, p.caution) : null];
  const show = (r) => {
    const currency = r.measured.prices.currency, t = r.trace;
    const memory = r.memory_curve ?? [], disk = r.disk_curve ?? [];
    const marks = r.sizes && memory.length ? [r.sizes.memory_bytes, r.sizes.disk_bytes].filter(Boolean) : [];
    const lines = [["memory alone", "hot", memory], ["disk, below the proposed memory", "cold", disk]];
    const saved = Math.max(1e-6, ...memory.concat(disk).map((p) => p.saved_per_month));
    out.replaceChildren(
      card(h("h2", null, "Sizes"), h("p", { class: "note" }, t ? `A trace of ${seconds(t.seconds)}: ${count(t.reads)} reads of ${count(t.objects)} objects with ${bytes(t.bytes)} of distinct data. ${count(t.counted_reads)} reads count.` : `Counters since ${when(r.measured.since)}, without a trace.`),
        h("p", null, `Now: memory ${bytes(r.measured.memory.quota_bytes)}, disk ${bytes(r.measured.disk.quota_bytes)}. ${expected(r.now, currency)}.`),
        r.sizes ? [h("p", null, h("strong", null, `Proposed: memory ${bytes(r.sizes.memory_bytes ?? 0)}, disk ${bytes(r.sizes.disk_bytes ?? 0)}.`)), proposal(r.sizes, currency).slice(1)] : null,
        (r.notes ?? []).map((n) => h("p", { class: "note" }, n))),
      memory.length ? h("div", { class: "wide" }, curves("Reads that miss", percent, (p) => 1 - p.hit_ratio, 1, lines, marks), curves("Saved in 30 days", (n) => money(n, currency), (p) => p.saved_per_month, saved, lines, marks)) : "",
      ...(r.by_bucket ?? []).map((b) => card(h("h2", null, `Bucket ${b.name}`), h("p", { class: "note" }, `${count(b.reads)} reads and ${count(b.writes)} writes of ${count(b.objects)} objects. ${expected(b.now, currency)}.`),
        (b.proposals ?? []).map((p) => proposal(p, currency)), (b.notes ?? []).map((n) => h("p", { class: "note" }, n)), b.proposals || b.notes ? null : h("p", null, "No change is proposed."))),
      r.toml ? card(h("h2", null, "To paste into the configuration"), h("pre", null, r.toml)) : card(h("p", null, "No change is proposed.")));
  };
  const record = h("button", { class: "main" }, "Advise");
  main.append(h("h1", null, "Advice"), card(h("p", { class: "note" }, "Proposes sizes, freshness, pins and write-back, with reasons. It records the accesses for a time and replays them against tiers of other sizes. With 0 seconds it judges by counters and ghost caches alone. Nothing is changed."),
    h("form", { onsubmit: async (e) => {
      e.preventDefault();
      record.disabled = true;
      record.textContent = time.value > 0 ? `Recording for ${time.value} s…` : "Advise";
      await act(async () => show(await api("GET", `advice?${query({ seconds: time.value })}`)));
      record.disabled = false;
      record.textContent = "Advise";
    } }, field("Seconds to record", time), record)), out);
}

function faults(main) {
  const now = h("div"), plan = h("textarea", { id: "plan", spellcheck: "false" });
  const load = () => act(async () => {
    const [report, presets] = await Promise.all([api("GET", "faults"), api("GET", "faults/presets")]);
    now.replaceChildren(
      card(h("h2", null, "Presets"), h("div", { class: "actions" }, presets.map((p) => button(p, async () => (await act(() => api("POST", `faults?preset=${encodeURIComponent(p)}`), `${p} is set: the gateway now injects faults into the upstream or the disk.`)) && load())),
        button("Clear", async () => (await act(() => api("DELETE", "faults"), "All faults are cleared.")) && load(), "danger"))),
      card(h("h2", null, report ? "In force" : "No faults are set"), report ? table(`Seed ${report.seed}`, [["Effect", (f) => f.effect], ["Matches", (f) => [f.op, f.bucket, f.key, f.tier, f.direction].filter(Boolean).join(" ") || "everything", "key"], ["When", (f) => [f.probability && `probability ${f.probability}`, f.nth && `only request ${f.nth}`, f.first && `the first ${f.first}`].filter(Boolean).join(", ")], ["Matched", (f) => f.met, "n"], ["Injected", (f) => f.hits, "n"]], report.fault.map((f, i) => ({ ...f, met: report.met[i], hits: report.hits[i] }))) : null));
  });
  main.append(h("h1", null, "Faults"), now, card(h("h2", null, "A plan of your own"), field("TOML or JSON, as in docs/faults.md", plan), h("p", null, button("Set plan", async () => (await act(() => api("POST", "faults", plan.value), "The plan is in force.")) && load(), "main"))));
  load();
  let ticks = 0;
  return () => { if (++ticks % 5 === 0) load(); };
}

function access(main) {
  const users = h("div"), keys = h("div"), made = h("div");
  const load = () => act(async () => {
    const [u, k] = await Promise.all([api("GET", "users"), api("GET", "keys")]);
    users.replaceChildren(table("Users", [["Name", (x) => x.name, "key"], ["Admin", (x) => (x.admin ? "yes" : "")], ["Keys", (x) => x.keys, "n"], ["Policy", (x) => (x.policy ? h("details", null, h("summary", null, "Policy"), h("pre", null, JSON.stringify(x.policy, null, 2))) : "")],
      ["Actions", (x) => h("button", { type: "button", class: "row danger", "aria-label": `Delete user ${x.name}`, onclick: async () => confirm(`Delete ${x.name} and all of its keys?`) && (await act(() => api("DELETE", `users/${encodeURIComponent(x.name)}`), `${x.name} is deleted.`)) && load() }, "Delete")]], u));
    keys.replaceChildren(table("Keys, without their secrets", [["Access key", (x) => x.access_key, "key"], ["User", (x) => x.user, "key"], ["Created", (x) => when(x.created)], ["Expires", (x) => (x.expires ? when(x.expires) : "never")],
      ["Actions", (x) => h("button", { type: "button", class: "row danger", "aria-label": `Delete key ${x.access_key}`, onclick: async () => confirm(`Delete the key ${x.access_key}? Requests signed with it will be refused.`) && (await act(() => api("DELETE", `keys/${encodeURIComponent(x.access_key)}`), "The key is deleted.")) && load() }, "Delete")]], k));
  });
  const name = h("input", { required: true, spellcheck: "false" }), admin = h("input", { type: "checkbox" }), policy = h("textarea", { spellcheck: "false" });
  policy.value = JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "s3:*", Resource: ["arn:aws:s3:::my-bucket", "arn:aws:s3:::my-bucket/*"] }] }, null, 2);
  const user = h("input", { required: true, spellcheck: "false" });
  main.append(h("h1", null, "Users and keys"), card(users), card(keys),
    card(h("h2", null, "A key pair for a user"), h("form", { onsubmit: async (e) => { e.preventDefault(); await act(async () => {
      const key = await api("POST", "keys", { user: user.value.trim() });
      made.replaceChildren(h("p", null, "The secret will not be shown again:"), h("pre", null, `AWS_ACCESS_KEY_ID=${key.access_key}\nAWS_SECRET_ACCESS_KEY=${key.secret_key}`));
      load();
    }, "The key pair is created."); } }, field("User", user), h("button", { class: "main" }, "Create")), made),
    card(h("h2", null, "Add a user, or replace its policy"), h("form", { onsubmit: async (e) => { e.preventDefault(); let document = null; if (!admin.checked) { try { document = JSON.parse(policy.value); } catch (x) { say(`The policy is not valid JSON: ${x.message}`, true); return; } }
      if (await act(() => api("POST", "users", { name: name.value.trim(), admin: admin.checked, policy: document }), `${name.value.trim()} is saved.`)) load(); } },
      field("Name", name), field("Administrator: may use this console, but not S3", admin), field("Policy", policy), h("button", { class: "main" }, "Save"))));
  load();
}

function log(main) {
  const out = h("pre", { id: "log", tabindex: "0", role: "log", "aria-label": "Log of the gateway" });
  const level = h("select", null, ["DEBUG", "INFO", "WARN", "ERROR"].map((l) => h("option", { selected: l === "INFO" }, l)));
  const words = h("input", { spellcheck: "false" });
  const order = ["DEBUG", "INFO", "WARN", "ERROR"];
  const lines = [];
  const shows = (r) => order.indexOf(r.level) >= order.indexOf(level.value) && r.text.toLowerCase().includes(words.value.toLowerCase());
  const line = (r) => h("div", { class: r.level }, r.text);
  const redraw = () => { out.replaceChildren(...lines.filter(shows).map(line)); out.scrollTop = out.scrollHeight; };
  level.addEventListener("change", redraw);
  words.addEventListener("input", redraw);
  main.append(h("h1", null, "Log"), card(h("div", { class: "actions" }, field("Minimum level", level), field("Containing", words)), out));
  const source = new EventSource("/api/v1/logs");
  source.onmessage = (e) => {
    const { time, level: l, msg, ...rest } = JSON.parse(e.data);
    const r = { level: l, text: `${new Date(time).toLocaleTimeString()} ${l} ${msg} ${Object.entries(rest).map(([k, v]) => `${k}=${typeof v === "object" ? JSON.stringify(v) : v}`).join(" ")}` };
    lines.push(r);
    if (lines.length > 2000) lines.shift();
    if (!shows(r)) return;
    const end = out.scrollHeight - out.scrollTop - out.clientHeight < 40;
    out.append(line(r));
    if (end) out.scrollTop = out.scrollHeight;
  };
  const update = () => {};
  update.leave = () => source.close();
  return update;
}

function login(main) {
  const user = h("input", { name: "username", autocomplete: "username", required: true, spellcheck: "false" });
  const secret = h("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const wrong = h("p", { role: "alert" });
  main.append(h("section", { class: "card login" }, h("h1", null, "Log in"), h("form", { onsubmit: async (e) => {
    e.preventDefault();
    const answer = await fetch("/api/v1/login", { method: "POST", headers: { "X-Akigw-Console": "1", "Content-Type": "application/json" }, body: JSON.stringify({ access_key: user.value.trim(), secret_key: secret.value }) });
    if (answer.ok) start();
    else { wrong.textContent = (await answer.text()).trim(); secret.value = ""; secret.focus(); }
  } }, field("Admin access key", user), field("Secret key", secret), h("button", { class: "main" }, "Log in")), wrong,
  h("p", { class: "note" }, "To create an admin key: akigw users set operator --admin && akigw keys create --user operator")));
  user.focus();
}

const params = () => new URLSearchParams(location.hash.split("?")[1] ?? "");

// render shows the page that the address selects.
function render() {
  page?.leave?.();
  page = null;
  const main = $("main");
  main.replaceChildren();
  const name = location.hash.replace(/^#\/?/, "").split("?")[0];
  $("logout").hidden = !session;
  $("nav").replaceChildren(...(session ? Object.entries(pages).filter(([p]) => (p !== "faults" || known.faults) && (p !== "vectors" || known.vectors)).map(([p, [title]]) => h("a", { href: `#/${p}`, "aria-current": p === name ? "page" : null }, title)) : []));
  if (!session) { document.title = "akigw"; login(main); return; }
  const [title, show] = pages[name] ?? pages[""];
  document.title = `${title} – akigw`;
  page = show(main) ?? null;
  if (history.length) page?.(history.at(-1));
}

// start fetches the session and subscribes to overviews.
async function start() {
  const answer = await fetch("/api/v1/session");
  known = answer.ok ? await answer.json() : {};
  session = known.access_key ?? null;
  stream?.close();
  stream = null;
  render();
  if (!session) return;
  stream = new EventSource("/api/v1/stream");
  stream.onopen = () => { $("live").textContent = "live"; $("live").classList.add("on"); };
  stream.onerror = () => { $("live").textContent = "no connection"; $("live").classList.remove("on"); };
  stream.onmessage = (e) => {
    history.push(JSON.parse(e.data));
    if (history.length > 120) history.shift();
    page?.(history.at(-1));
  };
}

const themes = ["auto", "light", "dark"];
function theme(name) {
  localStorage.setItem("theme", name);
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  $("theme").textContent = `Theme: ${name}`;
}
theme(localStorage.getItem("theme") ?? "auto");
$("theme").onclick = () => theme(themes[(themes.indexOf(localStorage.getItem("theme")) + 1) % 3]);
$("logout").onclick = async () => { await act(() => api("POST", "logout")); location.hash = "#/"; start(); };
addEventListener("hashchange", () => { render(); $("main").focus(); });
start();
