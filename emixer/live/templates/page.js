// The page: reads the form, requests pairs, shows them and offers downloads.
const byId = (id) => document.getElementById(id);
const form = byId("request");
// a mail may put a quote or a full stop after the link
const token = /^[\w-]*/.exec(location.hash.slice(1))[0];
let shown = null; // the request shown on the page; downloads repeat it

async function ask(path, request) {
  const body = request && JSON.stringify(request);
  const headers = { Authorization: `Bearer ${token}`, ...(body && { "Content-Type": "application/json" }) };
  // credentials: for the log-in of a proxy; our server reads no cookies
  const options = { method: body ? "POST" : "GET", body, headers, cache: "no-store", credentials: "same-origin" };
  const answer = await fetch(`api/${path}`, options).catch(() => {
    throw new Error("The server cannot be reached. It may have been ended; start it again and open its new link.");
  });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  if (!said.message && answer.status === 500) throw new Error("The server failed. Its terminal says why: please tell the person who runs it.");
  throw new Error(said.message ?? `The server cannot be reached: a proxy in front of it answered ${answer.status}. It may have been ended, ` +
    "or takes longer than the proxy waits.");
}

async function start() {
  try {
    if (!token) throw new Error("This link is not complete. Please open the whole link that `emixer serve` printed, up to its end.");
    const model = await (await ask("model")).json();
    byId("model").textContent = `${model.name} · ${model.kind} · ${model.side_px} px · ${model.images.toLocaleString("en")} images trained on`;
    for (const name of ["labels", "to_labels"]) byId(name).append(...model.labels.map((label) => choice(name, label)));
    form.elements.swapped.append(...model.labels.map((label) => option(label)));
    for (const [name, values] of Object.entries(model.conditions)) byId("conditions").append(condition(name, values));
    form.hidden = false;
    await draw();
  } catch (error) {
    complain(error.message);
  }
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const words = (name) => name.replaceAll("_", " ");
const option = (value, text = words(value)) => make("option", { value, textContent: text });
const choice = (name, label) =>
  make("label", {}, make("input", { type: "checkbox", name, value: label }), make("span", { textContent: words(label) }));
const condition = (name, values) =>
  make("label", {}, name[0].toUpperCase() + name.slice(1), make("select", { name }, option("", "as in training"), ...values.map((value) => option(value))));

function readForm() {
  const data = new FormData(form);
  const kind = data.get("kind");
  const wanted = { kind, labels: data.getAll("labels"), seed: Number(data.get("seed")), temperature: Number(data.get("temperature")) };
  if (kind === "interpolation") Object.assign(wanted, { to_labels: data.getAll("to_labels"), steps: Number(data.get("steps")) });
  else wanted.num = Number(data.get("num"));
  if (kind === "swap") wanted.swapped = data.get("swapped");
  for (const name of ["sex", "age", "view"]) if (data.get(name)) wanted[name] = data.get(name);
  return wanted;
}

function showKind() {
  const kind = form.elements.kind.value;
  for (const part of form.querySelectorAll("[data-kind]")) {
    part.hidden = !part.dataset.kind.split(" ").includes(kind);
    for (const input of part.querySelectorAll("input, select")) input.disabled = part.hidden;
  }
}

async function draw() {
  if (!form.reportValidity()) return;
  await busy("Drawing …", async () => {
    const wanted = readForm();
    const began = performance.now();
    const { pairs } = await (await ask("draw", wanted)).json();
    shown = wanted;
    show(pairs);
    if (byId("shown").getBoundingClientRect().top > innerHeight - 100) byId("result").scrollIntoView(); // on a phone
    return `${pairs.length} pairs in ${((performance.now() - began) / 1000).toFixed(2)} s`;
  });
}

// one request at a time; errors are shown, and the previous result stays
async function busy(text, work) {
  const buttons = document.querySelectorAll(".moves button");
  if (byId("draw").disabled) return;
  for (const button of buttons) button.disabled = true;
  byId("problem").hidden = true;
  byId("status").textContent = text;
  try {
    byId("status").textContent = await work();
  } catch (error) {
    byId("status").textContent = "";
    complain(error.message);
  } finally {
    for (const button of buttons) button.disabled = false;
    byId("parquet").disabled = shown?.kind === "interpolation";
  }
}

const TOLD = {
  pairs: () => ["Pairs", "Each image and its report were drawn together from these labels and noise of their own."],
  swap: () => [`${words(shown.swapped)}, swapped`, "On the left as chosen, on the right with that one label swapped. The noise is the same, so what changes comes from the label."],
  interpolation: () => ["Between two sets of labels", "From left to right the labels change in even steps, the noise stays. Parts of a label have no place in a dataset, so this is for download as PNG only."],
};

function show(pairs) {
  const [told, explained] = TOLD[shown.kind]();
  byId("told").textContent = told;
  byId("explained").textContent = explained;
  const figures = pairs.map((pair, at) => figure(pair, at));
  const twins = () => figures.flatMap((left, at) => (at % 2 ? [] : [make("div", { className: "twins" }, left, figures[at + 1])]));
  const className = { pairs: "drawn", swap: "swaps", interpolation: "strip" }[shown.kind];
  const box = make("div", { className }, ...(shown.kind === "swap" ? twins() : figures));
  if (shown.kind === "interpolation") box.tabIndex = 0; // scrollable with the arrow keys
  byId("shown").replaceChildren(box);
  byId("result").hidden = false;
}

function figure(pair, at) {
  const image = make("img", { src: pair.image, alt: `Synthetic radiograph ${at + 1}: ${pair.caption.map(words).join(", ")}` });
  const chips = pair.caption.map((label) => make("li", { textContent: words(label), className: label === "no label" ? "none" : "" }));
  const report = pair.report ? make("p", { textContent: pair.report }) : make("p", {}, make("em", { textContent: "This report is empty." }));
  return make("figure", { className: "pair" }, image, make("figcaption", {}, make("ul", { className: "chips" }, ...chips), report));
}

async function save(format) {
  await busy("Making the file …", async () => {
    const url = URL.createObjectURL(await (await ask(`download/${format}`, shown)).blob());
    make("a", { href: url, download: `emixer-${shown.kind}-seed-${shown.seed}.${format}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    return "The file was handed to the browser.";
  });
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = false;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  draw();
});
form.addEventListener("change", showKind);
byId("another").addEventListener("click", () => {
  form.elements.seed.value = Number(form.elements.seed.value) + 1;
  draw();
});
for (const format of ["png", "parquet"]) byId(format).addEventListener("click", () => save(format));
addEventListener("hashchange", () => location.reload());
showKind();
start();
