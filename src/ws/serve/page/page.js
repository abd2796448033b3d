/* The playground of `ws serve`: one question, written at several strengths side by side.
 *
 *   GET  v1/models            what can be turned, how far, and what is known of strengths
 *   POST v1/chat/completions  one stream per column, with `steer` and, where asked for, `kl`
 *
 * Text of a model is a stranger's: it becomes text nodes and attributes, and never markup.
 */

const $ = (id) => document.getElementById(id);
const TOP = 5; // tokens that are named for the first place
const HOT = 2; // nats at which a token has the full color
let key = ""; // kept in this page alone
let dials = []; // [{id, alpha: {min, max}, poles, calibrated, questions}]
let columns = [];
let running = new Set();

/** An element: `make("td", {class: "number"}, "text", child)`. Strings become text. */
function make(name, attributes = {}, ...inside) {
  const element = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) {
    if (k.startsWith("on")) element.addEventListener(k.slice(2), v);
    else if (v === true) element.setAttribute(k, "");
    else if (v !== false && v !== null && v !== undefined) element.setAttribute(k, v);
  }
  element.append(...inside.filter((x) => x !== null && x !== undefined));
  return element;
}

const say = (text) => { $("status").textContent = text; };
const signed = (x) => (x > 0 ? "+" : "") + String(Number(x.toPrecision(4)));
const number = (id) => Number($(id).value);
const some = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;
/** A token as one can see it: white space and breaks have signs of their own. */
const visible = (token) => token.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥") || "(nothing)";

// ---------------------------------------------------------------- the server

function headers() {
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function refusal(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered ${response.status}`;
  }
}

async function begin() {
  let response;
  try {
    response = await fetch("v1/models", { headers: headers() });
  } catch {
    $("about").textContent = "The server does not answer. Start it with: ws serve RUN";
    return;
  }
  $("key").hidden = response.status !== 401;
  if (!response.ok) {
    $("about").textContent = await refusal(response);
    return;
  }
  const { data } = await response.json();
  dials = data.filter((m) => m.kind === "direction");
  const base = data.find((m) => m.kind === "base");
  const most = base?.limits?.max_new_tokens;
  if (most) $("tokens").max = most;
  const turned = dials.length ? dials.map((d) => d.id + (dials.length > 1 && d.adapter ? ` (${d.adapter})` : "")).join(", ") : "nothing: it was started without a direction";
  $("about").textContent = `${base?.root ?? "The model"} on this machine; what can be turned: ${turned}.`;
  showPoles();
  proposeQuestions();
  columns = [];
  $("columns").replaceChildren();
  for (const alphas of usual()) addColumn(alphas);
  say("");
}

/** The strengths to begin with: the base between both ends of the first direction. */
function usual() {
  if (!dials.length) return [{}];
  const { id } = dials[0];
  const [low, high] = ends(dials[0]);
  return [{ [id]: low }, {}, { [id]: high }];
}

/** Calibrated strengths where there are some, else 1 within what is allowed. */
function ends(dial) {
  const known = dial.calibrated.find((c) => c.matched) ?? dial.calibrated[0];
  return known ? [known.neg, known.pos] : [Math.max(-1, dial.alpha.min), Math.min(1, dial.alpha.max)];
}

/** Between which strengths anything was measured; nothing where nothing was. */
function measured(dial) {
  if (!dial.calibrated.length) return null;
  return [Math.min(0, ...dial.calibrated.map((c) => c.neg)), Math.max(0, ...dial.calibrated.map((c) => c.pos))];
}

/** Which way is which, said once for all columns. */
function showPoles() {
  const lines = dials.filter((d) => d.poles?.pos || d.poles?.neg).flatMap((d) => [
    make("dt", {}, `${d.id} above 0`), make("dd", {}, d.poles.pos ?? "not said"),
    make("dt", {}, `${d.id} below 0`), make("dd", {}, d.poles.neg ?? "not said"),
  ]);
  const beyond = dials.some((d) => measured(d)) ? [make("dt", {}, make("span", { class: "swatch" })), make("dd", {}, "this part of a slider lies beyond what was measured")] : [];
  $("poles").replaceChildren(...lines, ...beyond);
}

function proposeQuestions() {
  const texts = [...new Set(dials.flatMap((d) => d.questions ?? []))];
  $("questions").replaceChildren(...texts.map((text) => make("button", { type: "button", onclick: () => { $("prompt").value = text; ask(); } }, text)));
  if (texts.length && !$("prompt").value) $("prompt").value = texts[0];
}

// ---------------------------------------------------------------- columns

/** How finely a slider turns; numbers and ticks keep all of their digits. */
function step(dial) {
  return Math.max(0.01, Number(((dial.alpha.max - dial.alpha.min) / 200).toPrecision(1)));
}

function addColumn(alphas = {}) {
  const column = { alphas: Object.fromEntries(dials.map((d) => [d.id, alphas[d.id] ?? 0])), entries: [], text: "", refresh: [] };
  column.title = make("h2");
  const remove = make("button", { type: "button", class: "small", "aria-label": "Remove this column", onclick: () => removeColumn(column) }, "✕");
  column.answer = make("div", { class: "answer empty", role: "group", tabindex: "0" }, "No answer yet.");
  column.first = make("div");
  column.tokens = make("details", { hidden: true, ontoggle: () => listTokens(column) }, make("summary", {}, "Every token in numbers"), make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Every token in numbers" }));
  const copy = (name, write) => make("button", { type: "button", class: "small", onclick: () => copyText(name, write(column)) }, `Copy as ${name}`);
  const foot = make("div", { class: "foot" }, copy("curl", asCurl), copy("Python", asPython));
  column.element = make("section", { class: "column" },
    make("header", {}, make("div", {}, column.title, remove), ...dials.map((d, n) => dialOf(column, d, n))),
    column.answer, column.first, column.tokens, foot);
  columns.push(column);
  $("columns").append(column.element);
  for (const show of column.refresh) show();
  rename(column);
  return column;
}

function removeColumn(column) {
  column.abort?.abort();
  columns = columns.filter((c) => c !== column);
  column.element.remove();
  (columns[0]?.element.querySelector("input") ?? $("add")).focus();
  say(`${some(columns.length, "column")} left.`);
}

/** One direction in one column: a slider and a number that are the same, ticks, and what is known there. */
function dialOf(column, dial) {
  const { min, max } = dial.alpha;
  const name = dial.id;
  const shared = { min, max, "aria-label": `Strength of ${name}` };
  const slider = make("input", { type: "range", ...shared, step: step(dial) });
  const field = make("input", { type: "number", ...shared, step: "any", "aria-label": `Strength of ${name} as a number` });
  const warn = make("p", { class: "warn", role: "note" });
  const show = (from) => {
    const alpha = column.alphas[name];
    if (from !== slider) slider.value = alpha;
    const short = Number(alpha.toPrecision(4));
    if (from !== field) field.value = short < min || short > max ? alpha : short;
    slider.setAttribute("aria-valuetext", `${signed(alpha)}${known(dial, alpha) ? `, ${known(dial, alpha)}` : ""}`);
    warn.textContent = known(dial, alpha);
    rename(column);
  };
  const turn = (input) => () => {
    const alpha = Number(input.value);
    if (input.value === "" || !Number.isFinite(alpha) || alpha < min || alpha > max) {
      warn.textContent = `${name} can be turned from ${signed(min)} to ${signed(max)} here.`;
      return;
    }
    column.alphas[name] = alpha;
    show(input);
  };
  slider.addEventListener("input", turn(slider));
  field.addEventListener("input", turn(field));
  field.addEventListener("change", () => show(null)); // what could not be taken goes back
  slider.style.setProperty("--track", track(dial));
  column.refresh.push(() => show(null));
  const set = (alpha) => { column.alphas[name] = alpha; show(null); };
  return make("div", { class: "dial" }, make("label", { class: "name" }, name), make("div", { class: "line" }, slider, field), ticksOf(dial, set), warn);
}

/** The marks below a slider, each of them a button: 0, and the strengths of a known KL. */
function ticksOf(dial, set) {
  const marks = [[0, "0", "not turned: the base"]];
  for (const c of dial.calibrated) {
    for (const alpha of [c.neg, c.pos]) {
      marks.push([alpha, `${c.budget} nat`, `${signed(alpha)}, where it moves the model by ${c.budget} nat${c.matched ? "" : " (unmatched)"}`]);
    }
  }
  const place = (alpha) => ((alpha - dial.alpha.min) / (dial.alpha.max - dial.alpha.min)) * 100;
  const row = make("div", { class: "ticks", role: "group", "aria-label": `Known strengths of ${dial.id}` });
  const taken = []; // by line, where its last mark stands
  for (const [alpha, text, about] of marks.filter(([a]) => a >= dial.alpha.min && a <= dial.alpha.max).sort((a, b) => a[0] - b[0])) {
    const free = taken.findIndex((last) => place(alpha) - last >= 22);
    const line = free < 0 ? taken.length : free;
    const tick = make("button", { type: "button", title: about, "aria-label": `${text}: ${dial.id} ${about}`, onclick: () => set(alpha) }, text);
    tick.style.left = `${place(alpha)}%`;
    tick.style.setProperty("--line", line);
    row.append(tick);
    taken[line] = place(alpha);
  }
  row.style.setProperty("--lines", taken.length);
  return row;
}

/** The colors of a slider: where something was measured, and the band beyond it. */
function track(dial) {
  const inside = measured(dial);
  if (!inside) return "var(--measured)";
  const place = (alpha) => `${(((alpha - dial.alpha.min) / (dial.alpha.max - dial.alpha.min)) * 100).toFixed(2)}%`;
  const [low, high] = inside.map(place);
  return `linear-gradient(to right, var(--beyond) ${low}, var(--measured) ${low}, var(--measured) ${high}, var(--beyond) ${high})`;
}

/** What is known of a strength, in words; nothing to say where it lies between measured ones. */
function known(dial, alpha) {
  const inside = measured(dial);
  const same = dial.calibrated.find((c) => c.neg === alpha || c.pos === alpha);
  if (same) return `${same.budget} nat${same.matched ? "" : " (unmatched)"}`;
  if (!inside) return alpha ? "not calibrated: how far this moves the model was not measured" : "";
  return alpha < inside[0] || alpha > inside[1] ? "beyond what was measured" : "";
}

/** The strengths of a column that are not 0. */
function steer(column) {
  return Object.fromEntries(Object.entries(column.alphas).filter(([, alpha]) => alpha));
}

function titleOf(column) {
  const turned = Object.entries(steer(column));
  return turned.length ? turned.map(([name, alpha]) => `${name} ${signed(alpha)}`).join(", ") : "the base";
}

function rename(column) {
  column.title.textContent = titleOf(column);
  column.answer.setAttribute("aria-label", `Answer of ${titleOf(column)}`);
  const first = Object.values(steer(column))[0] ?? 0;
  column.element.className = `column ${first > 0 ? "pos" : first < 0 ? "neg" : "zero"}`;
}

// ---------------------------------------------------------------- asking

function bodyOf(column) {
  const system = $("system").value.trim();
  return {
    model: "base",
    messages: [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: $("prompt").value }],
    ...(Object.keys(steer(column)).length ? { steer: steer(column) } : {}),
    ...($("late").checked ? { steer_from: "answer" } : {}),
    ...($("think").checked ? { chat_template_kwargs: { enable_thinking: true } } : {}),
    max_tokens: number("tokens"), temperature: number("temperature"), seed: number("seed"),
  };
}

async function ask() {
  if (!$("ask").reportValidity()) return;
  stop();
  const began = columns.slice();
  say(`${some(began.length, "answer")} ${began.length === 1 ? "is" : "are"} being written.`);
  const ended = await Promise.all(began.map(write));
  if (ended.every((e) => e === "stopped")) return;
  const failed = ended.filter((e) => e === "failed").length;
  say(failed ? `${failed} of ${some(began.length, "answer")} failed.` : `${some(began.length, "answer")} written.`);
}

function stop() {
  for (const column of running) column.abort.abort();
}

/** One column's answer, as it comes; how it ended. */
async function write(column) {
  const mine = (column.abort = new AbortController());
  const kl = $("kl").checked;
  Object.assign(column, { entries: [], text: "", asked: bodyOf(column), from: titleOf(column), loose: [] });
  column.answer.className = "answer";
  column.answer.replaceChildren();
  column.first.replaceChildren();
  column.tokens.hidden = true;
  column.tokens.open = false;
  busy(column, true);
  try {
    const body = { ...column.asked, stream: true, logprobs: true, top_logprobs: TOP, ...(kl ? { kl: true } : {}) };
    const response = await fetch("v1/chat/completions", { method: "POST", headers: headers(), body: JSON.stringify(body), signal: mine.signal });
    if (!response.ok) throw new Error(await refusal(response));
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      take(column, event.choices?.[0]);
    }
    if (!column.text) note(column, "(an answer without words)");
    return "done";
  } catch (error) {
    if (mine.signal.aborted) return "stopped";
    note(column, error.message || String(error), "error");
    return "failed";
  } finally {
    if (column.abort === mine) busy(column, false);
    column.tokens.hidden = !column.entries.length;
  }
}

function busy(column, is) {
  column.answer.setAttribute("aria-busy", String(is));
  running[is ? "add" : "delete"](column);
  $("stop").disabled = !running.size;
}

function note(column, text, kind = "faint") {
  column.answer.append(make("p", { class: kind }, text));
}

/** The objects of a stream of events. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const data = line.startsWith("data:") ? line.slice(5).trim() : "";
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

/** What one event adds: text, and the numbers of its tokens. Text may come later than its token. */
function take(column, choice) {
  if (!choice) return;
  const entries = choice.logprobs?.content ?? [];
  if (entries.length && !column.entries.length) showFirst(column, entries[0]);
  column.entries.push(...entries);
  column.loose.push(...entries);
  const text = choice.delta?.content;
  if (!text) return;
  column.text += text;
  const token = make("span", { class: "token" }, text);
  describe(token, column.loose);
  column.loose = [];
  column.answer.append(token);
}

/** The numbers of a piece of text, for the pointer and for its color. */
function describe(token, entries) {
  if (!entries.length) return;
  const words = entries.map((e) => `${visible(e.token)}: ${percent(e.logprob)}${e.kl === undefined ? "" : `, ${e.kl.toFixed(3)} nat from the base`}`);
  token.title = words.join("\n");
  const kl = Math.max(...entries.map((e) => e.kl ?? 0));
  if (kl > 0) token.style.setProperty("--kl", Math.min(0.75, (0.75 * kl) / HOT).toFixed(3));
}

const percent = (logprob) => (logprob === undefined ? "" : `${(100 * Math.exp(logprob)).toFixed(1)} %`);

/** The first token's likeliest choices: what the answer could have begun with. */
function showFirst(column, entry) {
  const rows = (entry.top_logprobs ?? []).map((t) => {
    const bar = make("span", { class: "bar" });
    bar.style.width = `${100 * Math.exp(t.logprob)}%`;
    return make("tr", {}, make("th", { scope: "row", class: "token-name" }, visible(t.token)), make("td", { class: "number" }, percent(t.logprob)), make("td", { width: "42%", "aria-hidden": "true" }, bar));
  });
  if (!rows.length) return;
  const head = make("tr", {}, make("th", { scope: "col" }, "token"), make("th", { scope: "col", class: "number" }, "probability"), make("td", {}));
  column.first.replaceChildren(make("table", {}, make("caption", {}, "How the answer could have begun"), make("thead", {}, head), make("tbody", {}, ...rows)));
}

/** Every token as a line of a table, made when somebody opens it. */
function listTokens(column) {
  if (!column.tokens.open) return;
  const kl = column.entries.some((e) => e.kl !== undefined);
  const head = ["token", "probability", ...(kl ? ["KL, nats"] : [])].map((h, n) => make("th", { scope: "col", class: n ? "number" : null }, h));
  const rows = column.entries.map((e) => make("tr", {}, make("th", { scope: "row", class: "token-name" }, visible(e.token)), make("td", { class: "number" }, percent(e.logprob)), kl ? make("td", { class: "number" }, (e.kl ?? NaN).toFixed(3)) : null));
  column.tokens.lastElementChild.replaceChildren(make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)));
}

// ---------------------------------------------------------------- taking it elsewhere

const address = () => new URL("v1", location.href).href;
const quoted = (text) => `'${text.replace(/'/g, "'\\''")}'`;

function asCurl(column) {
  const secret = key ? ` \\\n  -H "Authorization: Bearer $WS_SERVE_KEY"` : "";
  return `curl -s ${address()}/chat/completions \\\n  -H 'Content-Type: application/json'${secret} \\\n  -d ${quoted(JSON.stringify(bodyOf(column)))}`;
}

/** JSON as Python spells it. */
function python(value) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([k, v]) => `${JSON.stringify(k)}: ${python(v)}`).join(", ")}}`;
  return JSON.stringify(value);
}

function asPython(column) {
  const { messages, model, max_tokens, temperature, seed, ...extra } = bodyOf(column);
  const more = Object.keys(extra).length ? `\n    extra_body=${python(extra)},` : "";
  const secret = key ? 'os.environ["WS_SERVE_KEY"]' : '"none"';
  return `${key ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url=${python(address())}, api_key=${secret})
reply = client.chat.completions.create(
    model=${python(model)},
    messages=${python(messages)},
    max_tokens=${max_tokens}, temperature=${temperature}, seed=${seed},${more}
)
print(reply.choices[0].message.content)
`;
}

async function copyText(name, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page without TLS on another machine has no clipboard
    const box = make("textarea", { "aria-label": name }, text);
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
  }
  say(`The request of this column is copied as ${name}.`);
}

/** Everything that is on the screen as one file, which opens without a server and runs nothing. */
async function savePage() {
  const style = await (await fetch("page.css")).text();
  const saved = document.implementation.createHTMLDocument("ws playground: " + $("prompt").value.slice(0, 80));
  saved.documentElement.lang = "en";
  const meta = [{ charset: "utf-8" }, { "http-equiv": "Content-Security-Policy", content: "default-src 'none'; style-src 'unsafe-inline'" }, { name: "viewport", content: "width=device-width, initial-scale=1" }, { name: "color-scheme", content: "light dark" }];
  saved.head.prepend(...meta.map((m) => make("meta", m)));
  saved.head.append(saved.createComment("style")); // this page's own policy takes no style of that kind
  const asked = columns.find((c) => c.asked)?.asked ?? bodyOf(columns[0] ?? { alphas: {} });
  const settings = `temperature ${asked.temperature}, seed ${asked.seed}, at most ${some(asked.max_tokens, "token")}${asked.steer_from ? ", the question read unsteered" : ""}`;
  const system = asked.messages.find((m) => m.role === "system");
  saved.body.className = document.body.className;
  saved.body.append(
    make("header", {}, make("h1", {}, asked.messages.at(-1).content), system ? make("p", {}, `System prompt: ${system.content}`) : null,
      make("p", { class: "faint" }, `${$("about").textContent} ${settings}.`)),
    make("main", { id: "columns" }, ...columns.map(savedColumn)));
  const text = saved.documentElement.outerHTML.replace("<!--style-->", () => `<style>${style}</style>`);
  const url = URL.createObjectURL(new Blob(["<!doctype html>\n" + text], { type: "text/html" }));
  const link = make("a", { href: url, download: "ws-playground.html" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  say("Saved as ws-playground.html.");
}

function savedColumn(column) {
  const answer = column.answer.cloneNode(true);
  for (const name of ["tabindex", "role", "aria-busy"]) answer.removeAttribute(name);
  return make("section", { class: column.element.className }, make("header", {}, make("h2", {}, column.from ?? titleOf(column))), answer, column.first.cloneNode(true));
}

// ---------------------------------------------------------------- what is pressed

$("ask").addEventListener("submit", (event) => { event.preventDefault(); ask(); });
$("key").addEventListener("submit", (event) => { event.preventDefault(); key = event.target.elements.key.value; begin(); });
$("stop").addEventListener("click", () => { stop(); say("Stopped."); });
$("add").addEventListener("click", () => {
  const column = addColumn(columns.at(-1)?.alphas);
  (column.element.querySelector("input") ?? column.answer).focus();
  say(`${some(columns.length, "column")}.`);
});
$("again").addEventListener("click", () => {
  $("seed").value = number("seed") + 1;
  if (!number("temperature")) $("temperature").value = 0.7; // at 0 a seed changes nothing
  ask();
});
$("save").addEventListener("click", savePage);
$("colors").addEventListener("change", () => {
  if ($("colors").checked) $("kl").checked = true;
  document.body.classList.toggle("colored", $("colors").checked);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); ask(); }
  if (event.key === "Escape" && running.size) { stop(); say("Stopped."); }
});

await begin();
