// The page: the reader, the pair shown, navigation, messages of the server and the outbox.
const AHEAD = 6; // pairs preloaded, so that a reader can continue for a while without a connection
const RETRY_MS = 2000;
const byId = (id) => document.getElementById(id);

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const answer = await fetch(`api/${path}`, {
    ...options,
    headers: { ...options.headers, Authorization: `Bearer ${token}` },
    cache: "no-store",
    credentials: "same-origin", // for the log-in of a proxy; the study's server reads no cookies
    signal: AbortSignal.timeout(20000),
  });
  if (answer.ok) return answer;
  const said = await answer.json().catch(() => ({}));
  if (said.message) throw new Refused(answer.status, said.message);
  // the study's server gives reasons; a proxy in front of it has answered, and refuses nothing on its behalf
  throw new Refused(502, `The server cannot be reached just now (code ${answer.status}). Your scores are kept on this page and will be ` +
    "sent again. If this goes on, please tell the person who runs the study.");
}

// a mail may put a quote or a full stop after the link
const token = /^[\w-]*/.exec(location.hash.slice(1))[0];
const viewer = new Viewer(byId("canvas"), showView);
const form = new Form(byId("answers"), keepDraft);
const loaded = new Map(); // place -> promise of {report, image, version, rating}
let places = [];
let index = 0;
let drafts = null;
let outbox = null;
let shown = null; // the loaded pair that the form is about
let outage = ""; // why scores are waiting or a pair cannot be loaded; ends by itself
const notices = []; // what the reader has to close

async function start() {
  let study;
  try {
    if (!token) throw new Refused(401, "The link is not complete. Please open the whole link that you were sent, up to its end.");
    study = await (await ask("study")).json();
  } catch (error) {
    if (error.status && error.status < 500) return showProblem(error.message);
    showTrying(error);
    return setTimeout(start, RETRY_MS);
  }
  places = study.places;
  const prefix = `emixer-study:${study.study}:${study.reader}:`;
  drafts = new Drawer(`${prefix}draft:`);
  outbox = new Outbox(new Drawer(`${prefix}send:`), { send, onChange: showWaiting, onSaved, onRefused });
  for (const entry of outbox.all()) byPlace(entry.place).waiting = true;
  byId("reading").hidden = false;
  byId("progress-line").hidden = false;
  const open = firstOpen();
  if (open < 0) return showDone();
  if (open === 0) byId("help").showModal();
  await go(open);
}

const byPlace = (place) => places.find((each) => each.place === place) ?? {};
const isScored = (place) => place.version > 0 || place.waiting;
const firstOpen = () => places.findIndex((place) => !isScored(place));

function load(place) {
  if (!loaded.has(place)) {
    const found = Promise.all([ask(`pairs/${place}`), ask(`pairs/${place}/image`)]).then(async ([pair, image]) => ({
      ...(await pair.json()),
      image: await createImageBitmap(await image.blob()),
    }));
    found.catch(() => loaded.delete(place));
    loaded.set(place, found);
  }
  return loaded.get(place);
}

async function go(to) {
  index = to;
  const { place } = places[to];
  byId("done").hidden = true;
  byId("reading").hidden = false;
  showProgress();
  shown = null;
  viewer.show(null);
  byId("report").textContent = "";
  byId("answers").inert = true;
  let pair;
  try {
    pair = await load(place);
  } catch (error) {
    if (index !== to) return;
    if (error.status && error.status < 500) return showProblem(error.message);
    showTrying(error);
    setTimeout(() => index === to && go(to), RETRY_MS);
    return;
  }
  if (index !== to) return;
  shown = pair;
  places[to].version = Math.max(places[to].version, pair.version);
  viewer.show(pair.image);
  byId("report").textContent = pair.report || "This report is empty.";
  byId("report").classList.toggle("empty", !pair.report);
  byId("report").scrollTop = 0;
  form.fill(draftOf(places[to]) ?? outbox.newest(place) ?? pair.rating);
  byId("answers").inert = false;
  showWaiting(outbox.waiting().length, "");
  forget(to);
  for (const { place: next } of places.slice(to + 1, to + 1 + AHEAD)) load(next).catch(() => {});
}

// release images far from the current pair, so that a long list does not fill a tablet's memory
function forget(around) {
  places.forEach(({ place }, at) => {
    if (Math.abs(at - around) > 2 * AHEAD) loaded.delete(place);
  });
}

async function save() {
  if (form.missing().length) {
    form.showMissing();
    say("Please fill in the marked rows.", "waiting");
    return;
  }
  putRating();
  const next = index + 1 < places.length ? index + 1 : firstOpen();
  if (firstOpen() < 0 && (index + 1 === places.length || next < 0)) return showDone();
  await go(next);
}

// back or forward: a score that was saved before is not left changed and unsent
function move(step) {
  if (!places[index + step]) return;
  if (shown && isScored(places[index]) && !form.missing().length) putRating();
  go(index + step);
}

function putRating() {
  const at = places[index];
  const rating = form.value();
  const before = outbox.newest(at.place) ?? shown.rating;
  drafts.remove(at.place);
  if (same(rating, before)) return;
  shown.rating = rating;
  at.waiting = true;
  outbox.put(at.place, rating, at.version);
}

const same = (a, b) => b && Object.keys(a).every((name) => a[name] === b[name]);

async function send(entry) {
  const { rating, known_version, request } = entry;
  const body = JSON.stringify({ rating, known_version, request });
  const headers = { "Content-Type": "application/json" };
  return (await ask(`pairs/${entry.place}/rating`, { method: "POST", body, headers })).json();
}

function onSaved(entry, answer) {
  const at = byPlace(entry.place);
  at.version = Math.max(at.version ?? 0, answer.version);
  at.waiting = outbox.newest(entry.place) !== undefined;
  const draft = drafts.get(entry.place);
  if (draft) drafts.put(entry.place, { ...draft, version: at.version }); // begun after this rating was given
  showProgress();
  if (answer.replaced) {
    const { image, report, agreement, guess } = answer.replaced;
    notify(`Pair ${places.indexOf(at) + 1} had also been scored in another tab or on another device: image ${image}, report ` +
      `${report}, agreement ${agreement}, ${guess}. What was saved last counts (version ${answer.version}): image ` +
      `${entry.rating.image}, report ${entry.rating.report}, agreement ${entry.rating.agreement}, ${entry.rating.guess}.`);
  }
}

function onRefused(entry, message) {
  const at = byPlace(entry.place);
  at.waiting = outbox.newest(entry.place) !== undefined;
  if (!at.waiting) {
    // so that saving again sends it again
    if (!drafts.get(entry.place)) drafts.put(entry.place, { version: at.version, rating: entry.rating });
    loaded.get(entry.place)?.then((pair) => (pair.rating = null), () => {});
  }
  showProgress();
  notify(`The scores of pair ${places.indexOf(at) + 1} were not saved. ${message}`);
}

function keepDraft() {
  const { place, version } = places[index] ?? {};
  if (drafts && !byId("answers").inert) drafts.put(place, { version, rating: form.value() });
}

// none if another tab or device has saved a newer version since
function draftOf({ place, version }) {
  const draft = drafts.get(place);
  if (draft && draft.version >= version) return draft.rating;
  drafts.remove(place);
}

function showWaiting(count, message) {
  byId("all-sent").hidden = Boolean(count);
  byId("not-sent").hidden = !count;
  if (!count) showOutage("");
  else if (!["", "again", "offline"].includes(message)) showOutage(message);
  if (!count) return say(places.some((place) => place.version) ? "All scores saved" : "");
  if (!message) return say("Saving …");
  say(`${count} ${count === 1 ? "score" : "scores"} kept here, to be sent`, "waiting");
}

function showTrying(error) {
  say(error.status ? "Trying again …" : "No connection to the server. Trying again …", "waiting");
  if (error.status) showOutage(error.message);
}

function showProgress() {
  const scored = places.filter(isScored).length;
  byId("position").textContent = `Pair ${index + 1} of ${places.length} · ${scored} scored`;
  Object.assign(byId("progress"), { max: places.length, value: scored });
  byId("back").disabled = index === 0;
  byId("forward").disabled = index + 1 >= places.length;
}

function showDone() {
  showProgress();
  byId("position").textContent = `${places.length} of ${places.length} scored`;
  byId("reading").hidden = true;
  byId("done").hidden = false;
}

function showProblem(text) {
  for (const id of ["reading", "done", "progress-line"]) byId(id).hidden = true;
  byId("problem-text").textContent = text;
  byId("problem").hidden = false;
  byId("help").close();
}

function showView(view) {
  byId("window").value = view.window;
  byId("level").value = 255 - view.level; // right is brighter, as expected of a slider
  byId("invert").setAttribute("aria-pressed", view.inverted);
}

function say(text, kind = "") {
  byId("status").textContent = text;
  byId("status").className = `status ${kind}`;
}

function notify(text) {
  notices.push(text);
  showNotices();
}

function showOutage(text) {
  outage = text;
  showNotices();
}

function showNotices() {
  const texts = [...notices, outage].filter(Boolean);
  const shownTexts = [...byId("notice-text").children].map((line) => line.textContent);
  byId("notice").hidden = !texts.length;
  if (texts.join("\n") === shownTexts.join("\n")) return; // screen readers say again what is put in again
  byId("notice-text").replaceChildren(...texts.map((text) => Object.assign(document.createElement("p"), { textContent: text })));
}

function closeNotices() {
  notices.length = 0;
  showOutage("");
}

const brighten = (step) => viewer.setWindow(viewer.window, viewer.level - step);
const sharpen = (factor) => viewer.setWindow(viewer.window * factor, viewer.level);
const KEYS = {
  r: () => form.set("guess", "real"),
  s: () => form.set("guess", "synthetic"),
  c: () => form.comment.focus(),
  b: () => brighten(8),
  d: () => brighten(-8),
  h: () => sharpen(0.9),
  l: () => sharpen(1 / 0.9),
  n: () => viewer.invert(),
  f: () => viewer.resetView(),
  "+": () => viewer.zoom(1.25),
  "=": () => viewer.zoom(1.25),
  "-": () => viewer.zoom(0.8),
  "?": () => byId("help").showModal(),
  arrowleft: () => move(-1),
  arrowright: () => move(1),
  arrowup: () => form.markBeside(-1),
  arrowdown: () => form.markBeside(1),
};
const PANS = { arrowleft: [60, 0], arrowright: [-60, 0], arrowup: [0, 60], arrowdown: [0, -60] };

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open || byId("reading").hidden) return;
  const key = event.key.toLowerCase();
  const typing = event.target === form.comment;
  if (typing && key === "escape") return byId("canvas").focus();
  if (typing || event.target.type === "range" || byId("answers").inert) return;
  const onButton = event.target.tagName === "BUTTON" && event.target.checkVisibility(); // closed dialogs may keep focus
  if (key === "enter" && !onButton) {
    event.preventDefault();
    if (!event.repeat) save();
  } else if (event.shiftKey && PANS[key]) {
    event.preventDefault();
    viewer.pan(...PANS[key]);
  } else if (/^\d$/.test(key)) {
    event.preventDefault();
    form.score(Number(key));
  } else if (KEYS[key]) {
    event.preventDefault();
    KEYS[key]();
  }
}

addEventListener("keydown", press);
addEventListener("hashchange", () => location.reload());
addEventListener("beforeunload", (event) => outbox?.waiting().length && event.preventDefault());
byId("answers").addEventListener("submit", (event) => event.preventDefault());
byId("save").addEventListener("click", (event) => event.detail < 2 && save()); // ignore a double click's second
byId("back").addEventListener("click", () => move(-1));
byId("forward").addEventListener("click", () => move(1));
byId("review").addEventListener("click", () => go(0));
byId("open-help").addEventListener("click", () => byId("help").showModal());
byId("help").addEventListener("close", () => byId("canvas").focus());
byId("close-notice").addEventListener("click", closeNotices);
byId("zoom-in").addEventListener("click", () => viewer.zoom(1.25));
byId("zoom-out").addEventListener("click", () => viewer.zoom(0.8));
byId("invert").addEventListener("click", () => viewer.invert());
byId("reset").addEventListener("click", () => viewer.resetView());
for (const id of ["window", "level"]) {
  byId(id).addEventListener("input", () => viewer.setWindow(Number(byId("window").value), 255 - byId("level").value));
}
start();
