// The models that a preset names and that are not here: what they are, how large, and how their download goes. The
// server fetches nothing before one of these buttons is pressed. All text goes in as text, never as HTML.
import { put } from "./language.js";

const AT_WORK = new Set(["asking", "waiting", "running", "copying"]);
const BUSY_MS = 1000;
const IDLE_MS = 15000; // somebody else may have begun a download
const KINDS = { checkpoints: "checkpoint", loras: "LoRA", embeddings: "embedding", vae: "VAE" };

let panel = null;

export const downloads = {
  get preset() { return panel?.preset || "initial"; },
  mount(element) {
    panel = new Panel(element.querySelector(".downloads"));
    panel.look(recalled(), false);
  },
  look(preset) {
    panel?.look(preset, true);
    return [];
  },
  recall(preset) {
    remember(preset);
    panel?.look(preset, false);
  },
};

class Panel {
  constructor(root) {
    this.root = root;
    this.chip = root.querySelector(".get");
    this.card = root.querySelector(".card");
    this.list = root.querySelector(".files");
    this.first = root.querySelector(".is-first");
    this.asked = 0;
    this.preset = "";
    this.state = null;
    this.rows = new Map();
    this.chip.addEventListener("click", () => this.open(this.card.hidden));
    root.querySelector(".shut").addEventListener("click", () => this.open(false, true));
    root.querySelector(".cancel").addEventListener("click", () => this.send("cancel"));
    this.first.addEventListener("click", () => this.deed?.());
    document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !this.card.hidden) this.open(false, true); });
    document.addEventListener("pointerdown", (event) => { if (!this.card.hidden && !root.contains(event.target)) this.open(false); });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.refresh(); });
  }

  open(wanted, focus = false) {
    this.card.hidden = !wanted;
    this.chip.setAttribute("aria-expanded", String(wanted));
    if (focus) this.chip.focus();
  }

  // What this preset needs; the panel opens by itself where somebody has just chosen the preset.
  async look(preset, chosen) {
    this.preset = preset;
    this.state = null;
    remember(preset);
    this.open(false);
    await this.refresh();
    if (chosen && this.missing().length) this.open(true);
  }

  refresh() {
    return this.take(() => fetch(`/downloads?preset=${encodeURIComponent(this.preset)}`, { cache: "no-store" }));
  }

  send(deed, more = {}) {
    const body = JSON.stringify({ preset: this.preset, ...more });
    return this.take(() => fetch(`/downloads/${deed}`, { method: "POST", headers: { "content-type": "application/json" }, body }));
  }

  // The newest question counts; an answer to an older one comes too late.
  async take(question) {
    const asked = ++this.asked;
    clearTimeout(this.timer);
    let answer = null;
    try {
      answer = await (await question()).json();
    } catch { /* the server is away: the page says so elsewhere */ }
    if (asked !== this.asked) return;
    if (answer?.files) this.show(answer);
    this.tell(answer?.error ?? "");
    const busy = this.state?.files.some((file) => AT_WORK.has(file.state));
    if (this.state && (busy || this.missing().length)) this.timer = setTimeout(() => this.refresh(), busy ? BUSY_MS : IDLE_MS);
  }

  missing() {
    return this.state?.files.filter((file) => file.state !== "here") ?? [];
  }

  show(state) {
    const arrived = this.state?.files.some((old) => AT_WORK.has(old.state)
      && state.files.every((file) => file.id !== old.id || file.state === "here"));
    this.state = state;
    const missing = this.missing();
    const work = missing.filter((file) => AT_WORK.has(file.state));
    if (arrived) {
      document.querySelector("#downloads_refresh")?.click();
      this.arrived = true;
    }
    if (missing.length) this.arrived = this.arrived && !missing.every((file) => !AT_WORK.has(file.state));
    this.root.hidden = !missing.length && !this.arrived;
    if (this.root.hidden) this.open(false);
    put(this.card.querySelector("h2"), `Models for the preset ${state.preset}`);
    this.drawFiles(state.files.filter((file) => file.state !== "here" || !file.other));
    this.drawSum(state, missing, work);
    this.drawDeed(state, missing, work);
  }

  drawFiles(files) {
    for (const [id, row] of this.rows) if (!files.some((file) => file.id === id)) { row.item.remove(); this.rows.delete(id); }
    for (const file of files) {
      if (!this.rows.has(file.id)) this.rows.set(file.id, new Row(this, file));
      const row = this.rows.get(file.id);
      if (row.item.parentNode !== this.list) this.list.append(row.item);
      row.show(file, Boolean(this.state.off));
    }
  }

  drawSum(state, missing, work) {
    const left = missing.filter((file) => file.url && file.size !== null);
    const bytes = left.reduce((sum, file) => sum + file.size - file.received, 0);
    const speed = work.reduce((sum, file) => sum + file.speed, 0);
    const whole = left.reduce((sum, file) => sum + file.size, 0);
    this.bytes = bytes;
    this.crowded = state.free !== null && bytes > state.free;
    const rest = work.length && speed ? `about ${duration(bytes / speed)} left` : "";
    const percent = whole ? Math.floor((100 * (whole - bytes)) / whole) : 0;
    const fetching = work.some((file) => file.state === "running" || file.state === "waiting");
    put(this.root.querySelector(".sum"), [
      left.length ? `${inWords(bytes)} to fetch` : "", state.free === null || !missing.length ? "" : `${inWords(state.free)} free on the disk`, rest,
    ].filter(Boolean).join(" · "));
    this.root.querySelector(".sum").classList.toggle("is-alarm", this.crowded);
    this.root.classList.toggle("is-fetching", fetching);
    this.root.style.setProperty("--share", fetching ? (whole - bytes) / (whole || 1) : 0);
    const failed = missing.some((file) => file.state === "failed");
    put(this.root.querySelector(".get-words"), !missing.length ? "The models are here"
      : fetching ? `${percent} %${speed ? ` · ${inWords(speed)}/s · ${duration(bytes / speed)}` : ""}`
        : work.length ? "One moment …" : failed ? "A model could not be fetched"
          : missing.length === 1 ? "Get the model" : `Get ${missing.length} models`);
  }

  drawDeed(state, missing, work) {
    const offered = missing.filter((file) => file.url && !AT_WORK.has(file.state));
    const unknown = offered.filter((file) => file.size === null);
    const begun = offered.some((file) => file.received > 0);
    const hosts = [...new Set(unknown.map((file) => file.host))].join(", ");
    let words = "";
    let hint = "";
    this.deed = null;
    if (!missing.length) {
      words = "Use this preset";
      this.deed = () => { document.querySelector("#downloads_use")?.click(); this.arrived = false; this.open(false); this.root.hidden = true; };
    } else if (!state.off && unknown.length && !work.length) {
      words = unknown.some((file) => file.state === "failed") ? "Ask for the sizes again" : "Show the sizes";
      hint = `Asks ${hosts}; nothing is fetched yet.`;
      this.deed = () => this.send("sizes");
    } else if (!state.off && offered.length && !work.length) {
      words = begun ? `Go on: ${inWords(this.bytes)}` : `Download ${inWords(this.bytes)}`;
      hint = "Goes on when this page is closed. What has arrived is kept.";
      this.deed = () => this.send("start");
    } else if (work.length) {
      hint = "Goes on when this page is closed. What has arrived is kept.";
    }
    this.first.hidden = !words;
    put(this.first, words);
    this.first.disabled = this.crowded && offered.length > 0;
    this.root.querySelector(".cancel").hidden = !work.length;
    put(this.root.querySelector(".hint"), hint);
    const count = missing.length === 1 ? "One file is not here" : `${missing.length} files are not here`;
    put(this.root.querySelector(".lead"), !missing.length ? "Everything is here."
      : state.off ? `${state.off} ${count}: put them where they belong.` : `${count} yet.`);
    put(this.root.querySelector(".complaints"), state.complaints.join(" "));
  }

  tell(error) {
    const words = [error, this.crowded ? "There is not enough room on the disk." : ""].filter(Boolean).join(" ");
    const line = this.root.querySelector(".trouble");
    put(line, words);
    line.hidden = !words;
  }
}

// One file: its name and size, a bar while it comes, and what to do with a file that is here already.
class Row {
  constructor(owner, file) {
    this.item = document.createElement("li");
    const add = (parent, tag, name, text = "") => {
      const made = document.createElement(tag);
      made.className = name;
      made.textContent = text;
      parent.append(made);
      return made;
    };
    const head = add(this.item, "div", "file-head");
    this.name = add(head, "span", "file-name", file.name);
    this.size = add(head, "span", "file-size");
    this.about = add(this.item, "p", "file-about");
    this.meter = add(this.item, "i", "file-meter");
    this.words = add(this.item, "p", "file-words");
    this.found = add(this.item, "button", "quiet", "Use the one that is here");
    this.found.type = "button";
    this.found.addEventListener("click", () => owner.send("own", { file: file.id }));
    this.hand = add(this.item, "details", "file-hand");
    add(this.hand, "summary", "", "I have this file");
    this.place = add(this.hand, "p", "file-place");
    const form = add(this.hand, "form", "file-own");
    const path = add(form, "input", "");
    path.placeholder = "Where it lies: the whole path";
    path.setAttribute("aria-label", `Where ${file.name} lies on the machine of Pinhole`);
    add(form, "button", "quiet", "Use it");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (path.value.trim()) owner.send("own", { file: file.id, path: path.value });
    });
  }

  show(file, off) {
    const work = AT_WORK.has(file.state);
    this.item.dataset.state = file.state;
    put(this.size, file.size === null ? "" : inWords(file.size));
    const checked = file.known ? "checked by sha256" : "";
    put(this.about, [file.state === "here" ? "is here" : "", KINDS[file.kind], file.state === "here" ? "" : file.host, checked].filter(Boolean).join(" · "));
    const share = file.size ? file.received / file.size : 0;
    this.item.style.setProperty("--share", share);
    this.meter.hidden = file.state === "here" || (file.state !== "running" && !file.received);
    const progress = file.received && file.size && file.state !== "here" ? `${inWords(file.received)} of ${inWords(file.size)}` : "";
    const speed = file.state === "running" && file.speed ? `${inWords(file.speed)}/s` : "";
    const waits = { asking: "Asking …", waiting: "Waiting for its turn", copying: "Taking it over …" }[file.state] ?? "";
    const nowhere = file.url || file.state === "here" ? "" : "The preset does not say where it can be had.";
    put(this.words, [file.words || waits, progress, file.words ? "" : speed, work ? "" : nowhere].filter(Boolean).join(" · "));
    this.found.hidden = !file.found || work;
    this.found.title = file.found;
    this.hand.hidden = file.state === "here" || work;
    if ((off || file.state === "failed") && this.last !== file.state) this.hand.open = true;
    this.last = file.state;
    if (this.drawn === file.folder + file.url) return;
    this.drawn = file.folder + file.url;
    const folder = document.createElement("code");
    folder.textContent = file.folder;
    this.place.replaceChildren("It belongs into: ", folder);
    if (/^https?:/.test(file.url)) {
      const link = document.createElement("a");
      Object.assign(link, { href: file.url, target: "_blank", rel: "noopener noreferrer", textContent: file.url });
      this.place.append(" It can be had at: ", link);
    }
  }
}

// In units of a thousand, as disks are sold.
function inWords(bytes) {
  let count = Math.max(0, bytes);
  for (const unit of ["bytes", "kB", "MB"]) {
    if (count < 999.5) return `${count.toFixed(0)} ${unit}`;
    count /= 1000;
  }
  return `${count.toFixed(1)} GB`;
}

function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 90) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function remember(preset) {
  try { sessionStorage.setItem("pinhole.preset", preset); } catch { /* private window */ }
}

function recalled() {
  try { return sessionStorage.getItem("pinhole.preset") ?? ""; } catch { return ""; }
}
