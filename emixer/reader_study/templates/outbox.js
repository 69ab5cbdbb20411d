// Ratings on their way to the server. They are kept on this device until the server confirms that they are on its disk,
// are resent until then, and are sent by the next page if this one is closed. A tab does not send what another open tab
// is about to send: the answer belongs to the reader of that tab.

// localStorage, or memory if the browser forbids it
class Drawer {
  constructor(prefix) {
    this.prefix = prefix;
    this.memory = new Map();
    try {
      localStorage.setItem(`${prefix}probe`, "1");
      localStorage.removeItem(`${prefix}probe`);
      this.lasts = true;
    } catch {
      this.lasts = false;
    }
  }

  put(name, value) {
    try {
      if (this.lasts) return localStorage.setItem(this.prefix + name, JSON.stringify(value));
    } catch {
      // storage is full: keep it in memory
    }
    this.memory.set(name, value);
  }

  get(name) {
    const kept = this.lasts && localStorage.getItem(this.prefix + name);
    return kept ? JSON.parse(kept) : this.memory.get(name);
  }

  remove(name) {
    this.memory.delete(name);
    if (this.lasts) localStorage.removeItem(this.prefix + name);
  }

  all() {
    const names = this.lasts ? Object.keys(localStorage).filter((name) => name.startsWith(this.prefix)) : [];
    return [...names.map((name) => JSON.parse(localStorage.getItem(name))), ...this.memory.values()];
  }
}

class Outbox {
  static RETRY_MS = [500, 1000, 2000, 4000, 8000];
  static ABANDONED_MS = 60000; // after which a closed tab's ratings are taken over
  static FINAL = [413, 422]; // answers by which the server refuses a rating for good: too long, not complete

  // send(entry): promise of the server's answer; onChange(waiting, message); onSaved(entry, answer); onRefused(entry, text)
  constructor(drawer, { send, onChange, onSaved, onRefused }) {
    Object.assign(this, { drawer, send, onChange, onSaved, onRefused });
    this.tab = randomName();
    this.failures = 0;
    this.busy = false;
    addEventListener("online", () => this.flush());
    addEventListener("pagehide", () => {
      for (const entry of this.waiting()) this.drawer.put(entry.request, { ...entry, tab: null });
    });
    this.flush();
  }

  put(place, rating, knownVersion) {
    const entry = { place, rating, known_version: knownVersion, request: randomName(), tab: this.tab, at: Date.now() };
    this.drawer.put(entry.request, entry);
    this.flush();
  }

  // entries that this tab has to send
  waiting() {
    const isOurs = ({ tab, at }) => !tab || tab === this.tab || Date.now() - at > Outbox.ABANDONED_MS;
    return this.all().filter(isOurs);
  }

  all() {
    return this.drawer.all().sort((a, b) => a.at - b.at);
  }

  newest(place) {
    return this.all().filter((entry) => entry.place === place).pop()?.rating;
  }

  async flush() {
    if (this.busy) return;
    this.busy = true;
    clearTimeout(this.timer);
    let message = "";
    try {
      for (let [entry] = this.waiting(); entry; [entry] = this.waiting()) {
        this.onChange(this.waiting().length, this.failures ? "again" : "");
        message = await this.deliver(entry);
        if (message !== "") break;
        this.failures = 0;
      }
    } finally {
      this.busy = false;
    }
    const left = this.waiting().length;
    this.onChange(left, message);
    if (left) {
      const wait = Outbox.RETRY_MS[Math.min(this.failures++, Outbox.RETRY_MS.length - 1)];
      this.timer = setTimeout(() => this.flush(), wait);
    }
  }

  // empty if the entry is settled, else why it has to wait
  async deliver(entry) {
    let answer;
    try {
      answer = await this.send(entry);
    } catch (error) {
      // only what is wrong with the rating itself is final; a link, a study or a proxy may be right again later
      if (!Outbox.FINAL.includes(error.status)) return error.status ? error.message : "offline";
      this.drawer.remove(entry.request);
      this.onRefused(entry, error.message);
      return "";
    }
    this.drawer.remove(entry.request);
    for (const later of this.waiting()) {
      // later ratings of this tab were made with knowledge of it
      if (later.place === entry.place) {
        this.drawer.put(later.request, { ...later, known_version: Math.max(later.known_version, answer.version) });
      }
    }
    this.onSaved(entry, answer);
    return "";
  }
}

// crypto.randomUUID is available only on HTTPS
function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
