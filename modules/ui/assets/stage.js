// The canvas: draws the state of one task that the server streams; all text goes in as text, never as HTML.
import { put } from "./language.js";
import { openLightbox } from "./lightbox.js";
import { heard, startWatching, stopWatching } from "./connection.js";

const IDLE = { task: "", state: "idle", pictures: [], count: 0, width: 1, height: 1, percent: 0, text: "", eta: null, why: "",
  preview: null, working: null, note: "", message: "", level: "" };
const LIVE = new Set(["sending", "waiting", "running"]);
const ENDED = new Set(["stopped", "failed"]);
const GAP = 12;
const MAX_ENLARGEMENT = 3;
const SKIP_SHOWN_MS = 1500;

const HINT = matchMedia("(pointer: coarse)").matches ? "" : `${/Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl"} + Enter generates`;

let stage = null;
let changed = () => {};

// Whom to tell of every new state of the canvas.
export function onView(hook) {
  changed = hook;
}

export function mount(element, props, watch) {
  stage = new Stage(element.querySelector(".stage"), props.examples ?? []);
  stage.show(props.value);
  watch("value", () => {
    heard();
    stage.show(props.value);
  });
}

// Called the moment Generate is pressed, so that the page answers before the server does.
export function announce(count, width, height) {
  stage?.show({ ...IDLE, state: "sending", text: "Sending …", count, width, height });
}

export function announceStop(kind) {
  if (!stage || !LIVE.has(stage.view.state)) return;
  document.documentElement.dataset.asked = kind;
  stage.askedAt = performance.now();
  stage.say(kind === "skip" ? "Skipping this picture …" : "Stopping …");
  const { task } = stage.view;
  if (kind === "stop") setTimeout(() => {
    if (isLive() && stage.view.task === task) stage.say("Still stopping. Press Stop once more to end it by force.");
  }, 6000);
}

export function notify(text, level) {
  stage?.notify(text, level);
}

// The server did not take the task: everything as it was before, with a sentence.
export function refused(text) {
  stage?.show({ ...(stage.before ?? IDLE), message: text, level: "error" });
}

export const current = () => stage?.view ?? IDLE;
export const isLive = () => LIVE.has(current().state);

class Stage {
  constructor(root, examples) {
    this.root = root;
    this.canvas = root.querySelector(".canvas");
    this.tiles = root.querySelector(".tiles");
    this.meter = root.querySelector(".meter");
    this.percent = root.querySelector(".percent");
    this.sentence = root.querySelector(".sentence");
    this.eta = root.querySelector(".eta");
    this.why = root.querySelector(".why");
    this.notice = root.querySelector(".notice");
    root.querySelector(".rest").addEventListener("click", () => this.makeTheRest());
    this.view = IDLE;
    this.before = null;
    this.title = document.title || "Pinhole";
    this.chips(examples);
    new ResizeObserver(() => this.arrange()).observe(this.canvas);
  }

  chips(examples) {
    const box = this.root.querySelector(".chips");
    for (const text of examples) {
      const chip = document.createElement("button");
      chip.type = "button";
      chip.className = "chip";
      chip.textContent = text;
      chip.addEventListener("click", () => fillPrompt(text));
      box.append(chip);
    }
  }

  show(value) {
    if (value?.state === "refused") { refused(value.message); return; }
    const view = { ...IDLE, ...(value && typeof value === "object" ? value : {}) };
    const live = LIVE.has(view.state);
    if (live && !LIVE.has(this.view.state)) this.before = this.view;
    if (view.task !== this.view.task || !live) delete document.documentElement.dataset.asked;
    this.view = view;
    document.documentElement.dataset.run = live ? "live" : "idle";
    this.root.classList.toggle("is-empty", !live && view.pictures.length === 0);
    this.draw(view, live);
    this.report(view, live);
    rememberTask(view);
    if (live && view.state !== "sending") startWatching();
    else stopWatching();
    changed(view.state);
  }

  // One tile for every picture asked for, from the first moment on: nothing moves while they fill.
  draw(view, live) {
    const count = live ? Math.max(view.count, view.pictures.length, 1) : view.pictures.length;
    const byIndex = new Map(view.pictures.map((picture) => [picture.index, picture]));
    const shown = live ? [...Array(count).keys()] : view.pictures.map((picture) => picture.index);
    if (this.drawnTask !== (view.task || "new") && !(this.drawnTask === "new" && live)) this.tiles.replaceChildren();
    this.drawnTask = view.task || "new";
    const old = new Map([...this.tiles.children].map((tile) => [Number(tile.dataset.index), tile]));
    // The picture that is being made, or, between two, the next one.
    const working = live ? shown.find((index) => index >= (view.working ?? 0) && !byIndex.has(index)) : undefined;
    const tiles = shown.map((index) => old.get(index) ?? newTile(index));
    for (const [index, tile] of old) if (!shown.includes(index)) tile.remove();
    tiles.forEach((tile, place) => {
      if (this.tiles.children[place] !== tile) this.tiles.insertBefore(tile, this.tiles.children[place] ?? null);
      const picture = byIndex.get(shown[place]);
      if (picture) finishTile(tile, picture, view);
      tile.classList.toggle("is-working", shown[place] === working);
    });
    const busy = tiles[shown.indexOf(working)];
    if (busy && view.preview) showPreview(busy, view.preview);
    this.arrange();
  }

  // As many columns as make the tiles largest inside the box.
  arrange() {
    const count = this.tiles.children.length;
    if (!count) return;
    const style = getComputedStyle(this.canvas);
    const wide = this.canvas.clientWidth - 2 * parseFloat(style.paddingLeft);
    const high = this.canvas.clientHeight - 2 * parseFloat(style.paddingTop);
    const width = this.view.width || 1;
    const height = this.view.height || 1;
    let best = { columns: 1, scale: 0 };
    for (let columns = 1; columns <= count; columns += 1) {
      const rows = Math.ceil(count / columns);
      const across = (wide - GAP * (columns - 1)) / columns / width;
      const down = (high - GAP * (rows - 1)) / rows / height;
      const scale = Math.min(across, down, MAX_ENLARGEMENT);
      if (scale > best.scale + 1e-6) best = { columns, scale };
    }
    const least = Math.min(120, wide / 2 - GAP) / width;
    if (best.scale < least) best = { columns: Math.max(1, Math.floor((wide + GAP) / (least * width + GAP))), scale: least };
    this.tiles.style.setProperty("--columns", best.columns);
    this.tiles.style.setProperty("--tile-width", `${Math.floor(best.scale * width)}px`);
    this.tiles.style.setProperty("--ratio", `${width} / ${height}`);
  }

  report(view, live) {
    const percent = Math.round(Math.min(100, Math.max(0, view.percent)));
    this.root.classList.toggle("is-live", live);
    this.root.classList.toggle("is-waiting", live && percent === 0);
    this.meter.setAttribute("aria-valuenow", percent);
    this.meter.firstElementChild.style.transform = `scaleX(${live ? percent / 100 : 0})`;
    this.percent.textContent = live && percent > 0 ? `${percent} %` : "";
    const root = document.documentElement;
    // A skip leads on to the next picture; a stop is the last word.
    if (root.dataset.asked === "skip" && performance.now() - this.askedAt > SKIP_SHOWN_MS) delete root.dataset.asked;
    const { asked } = root.dataset;
    if (!(live && asked)) put(this.sentence, view.text || (live || view.message ? "" : HINT));
    this.root.classList.toggle("has-rest", ENDED.has(view.state)
      && view.pictures.filter((picture) => picture.index < view.count).length < view.count);
    put(this.eta, live && view.eta !== null && !asked ? `about ${duration(view.eta)} left` : "");
    const why = live && !asked ? view.why : "";
    put(this.why, why);
    this.notify(view.message || view.note, view.message ? view.level : "info");
    document.title = live && percent > 0 ? `${percent} % · ${this.title}` : this.title;
  }

  // A task that was stopped or failed goes on with the pictures that are missing.
  makeTheRest() {
    this.show({ ...this.view, state: "waiting", percent: 0, text: "Waiting …", message: "" });
    document.querySelector("#retry_button")?.click();
  }

  say(text) {
    this.sentence.textContent = text;
    this.eta.textContent = "";
  }

  notify(text, level) {
    put(this.notice, text);
    this.notice.dataset.level = level || "info";
    this.root.classList.toggle("has-notice", Boolean(text));
  }
}

function newTile(index) {
  const tile = document.createElement("a");
  tile.className = "tile";
  tile.dataset.index = index;
  return tile;
}

// The address of a picture from its id: whatever the id holds, it stays one segment of this path.
export const pictureUrl = (picture) => `/pictures/${encodeURIComponent(picture.id)}`;

function finishTile(tile, picture, view) {
  if (tile.dataset.picture === picture.id) return;
  tile.dataset.picture = picture.id;
  tile.href = pictureUrl(picture);
  tile.target = "_blank";
  tile.rel = "noopener";
  tile.setAttribute("aria-label", picture.seed ? `Picture ${picture.index + 1}, seed ${picture.seed}` : "All pictures side by side");
  tile.addEventListener("click", (event) => {
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    openLightbox(stage.view.pictures, picture.id);
  });
  const image = document.createElement("img");
  image.className = "final";
  image.alt = view.prompt || "";
  image.width = picture.width;
  image.height = picture.height;
  image.src = pictureUrl(picture);
  const ready = () => {
    image.classList.add("is-ready");
    setTimeout(() => tile.querySelector(".preview")?.remove(), 400);
  };
  image.decode().then(ready, ready);
  tile.append(image);
}

// The new frame is decoded before it is shown: no flicker. A frame that comes too late is dropped.
function showPreview(tile, address) {
  if (tile.dataset.frame === address) return;
  tile.dataset.frame = address;
  const frame = new Image();
  frame.src = address;
  frame.decode().then(() => {
    if (tile.dataset.frame !== address || tile.dataset.picture) return;
    let image = tile.querySelector(".preview");
    if (!image) {
      image = document.createElement("img");
      image.className = "preview";
      image.alt = "";
      tile.prepend(image);
    }
    image.src = address;
  }, () => {});
}

function rememberTask(view) {
  if (view.state === "sending" || !view.task) return;
  try { sessionStorage.setItem("pinhole.task", view.task); } catch { /* private window */ }
}

export function fillPrompt(text) {
  const box = document.querySelector("#prompt textarea");
  if (!box) return;
  box.value = text;
  box.dispatchEvent(new Event("input", { bubbles: true }));
  box.focus();
}

export function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 90) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
