// The history over the whole window: pictures by day, found by words, marked, compared, deleted and brought back.
// It asks our own routes and builds its elements itself: nothing that a prompt says is ever read as HTML.
import { dateText } from "./language.js";
import { useSettings } from "./metadata.js";
import { timings } from "./timings.js";

const UNDO_MS = 12_000;
const SEARCH_MS = 180;
const DAY = { weekday: "long", day: "numeric", month: "long", year: "numeric" };
const CLOCK = { hour: "2-digit", minute: "2-digit", hour12: false };

let view = null;

export function openHistory() {
  view ??= new History();
  view.open();
}

async function ask(address, ids) {
  const options = ids && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ ids }) };
  let answer;
  try {
    answer = await (await fetch(address, options || {})).json();
  } catch {
    throw new Error("Pinhole does not answer. Is it still running?");
  }
  if (answer.error) throw new Error(answer.error);
  return answer;
}

const pictureAt = (id) => `/pictures/${encodeURIComponent(id)}`;
const count = (ids, of = "picture") => `${ids.length} ${of}${ids.length === 1 ? "" : "s"}`;

class History {
  constructor() {
    this.chosen = new Set();
    this.pictures = new Map();
    this.build();
    this.near = new IntersectionObserver((seen) => { if (seen.some((each) => each.isIntersecting)) this.more(); },
      { root: this.list, rootMargin: "900px" });
  }

  // ---- what there is to see ---------------------------------------------------------------------------------------
  build() {
    this.dialog = make("dialog", "history", { "aria-label": "History" });
    this.words = make("input", "history-words", { type: "search", placeholder: "Search in prompts", "aria-label": "Search in prompts" });
    this.model = make("select", "history-pick", { "aria-label": "Model" });
    this.style = make("select", "history-pick", { "aria-label": "Style" });
    this.favourites = toggle("Favourites", "♥ Favourites");
    const close = action("Close", () => this.dialog.close());
    const head = make("div", "history-head");
    head.append(make("h2", "", {}, "History"), this.words, this.model, this.style, this.favourites, close);
    this.list = make("div", "history-list", { tabindex: "-1" });
    this.empty = make("p", "history-empty", { role: "status" });
    this.end = make("div", "history-end");
    this.bar = make("div", "history-bar", { role: "toolbar", "aria-label": "Chosen pictures" });
    this.bar.hidden = true;
    this.said = make("span", "history-said");
    this.compareButton = action("Compare", () => this.compare([...this.chosen]));
    this.bar.append(this.said, this.compareButton, action("Download as zip", () => this.zip([...this.chosen])),
      action("Favourite", () => this.favourite([...this.chosen], true)),
      action("Delete", () => this.remove([...this.chosen])), action("Choose none", () => this.choose([])));
    this.toast = make("div", "history-toast", { role: "status" });
    this.toast.hidden = true;
    this.dialog.append(head, this.list, this.bar, this.toast);
    document.body.append(this.dialog);

    let waiting = 0;
    this.words.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(() => this.begin(), SEARCH_MS); });
    for (const pick of [this.model, this.style]) pick.addEventListener("change", () => this.begin());
    this.favourites.addEventListener("click", () => { press(this.favourites, !pressed(this.favourites)); this.begin(); });
    this.dialog.addEventListener("keydown", (event) => this.key(event));
  }

  async open() {
    this.dialog.showModal();
    this.choose([]);
    this.begin();
    this.words.focus();
    try {
      const { models, styles } = await ask("/history/choices");
      fill(this.model, "All models", models);
      fill(this.style, "All styles", styles);
    } catch { /* the list says what is wrong */ }
  }

  // A new list, for what is asked for now. Answers to what was asked before come to nothing.
  begin() {
    this.asked = new URLSearchParams({
      words: this.words.value, model: this.model.value, style: this.style.value, favourites: pressed(this.favourites),
    });
    this.pictures.clear();
    this.day = "";
    this.after = null;
    this.busy = false;
    this.near.disconnect();
    this.fresh = true;
    this.more();
  }

  async more() {
    if (this.busy || this.after === "") return;
    this.busy = true;
    const asked = this.asked;
    try {
      const page = await ask(`/history?${asked}${this.after ? `&after=${encodeURIComponent(this.after)}` : ""}`);
      if (asked !== this.asked) return;
      this.after = page.after;
      this.show(page.pictures);
      if (this.after) { this.near.disconnect(); this.near.observe(this.end); }
    } catch (error) {
      if (asked !== this.asked) return;
      this.list.replaceChildren(this.empty);
      this.empty.textContent = error.message;
    }
    if (asked === this.asked) this.busy = false;
  }

  show(pictures) {
    if (this.fresh) { this.list.replaceChildren(); this.list.scrollTop = 0; this.fresh = false; }
    this.end.remove();
    for (const picture of pictures) {
      if (this.pictures.has(picture.id)) continue;
      this.pictures.set(picture.id, picture);
      const day = dayOf(picture.created);
      if (day !== this.day) this.list.append(this.section(day));
      this.day = day;
      this.list.lastElementChild.lastElementChild.append(this.tile(picture));
    }
    if (this.pictures.size) this.list.append(this.end);
    else {
      const filtered = this.words.value || this.model.value || this.style.value || pressed(this.favourites);
      this.empty.textContent = filtered ? "No picture is like that." : "Here will be every picture that you make.";
      this.list.replaceChildren(this.empty);
    }
  }

  section(day) {
    const made = make("section", "history-day", { "aria-label": day });
    made.append(make("h3", "", {}, day), make("div", "history-tiles"));
    return made;
  }

  tile(picture) {
    const made = make("div", "history-tile", { "data-id": picture.id });
    const opener = make("button", "history-open", { type: "button", "aria-label": picture.prompt || picture.name, title: picture.prompt });
    const image = make("img", "", { src: `/thumbnails/${encodeURIComponent(picture.id)}`, alt: "", loading: "lazy", decoding: "async" });
    opener.append(image);
    const box = make("input", "history-choose", { type: "checkbox", "aria-label": "Choose this picture" });
    const heart = make("button", "history-heart", { type: "button", "aria-label": "Favourite", "aria-pressed": String(picture.favourite) }, "♥");
    opener.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) this.toggle(picture.id, event.shiftKey);
      else this.look(picture.id);
    });
    box.addEventListener("click", (event) => this.toggle(picture.id, event.shiftKey));
    heart.addEventListener("click", () => this.favourite([picture.id], !this.pictures.get(picture.id).favourite));
    image.addEventListener("error", () => made.classList.add("is-gone"));
    made.append(opener, box, heart);
    return made;
  }

  tileOf(id) { return this.list.querySelector(`.history-tile[data-id="${CSS.escape(id)}"]`); }

  // ---- choosing several ---------------------------------------------------------------------------------------------
  toggle(id, range) {
    const chosen = new Set(this.chosen);
    const ids = [...this.pictures.keys()];
    if (range && this.last && this.pictures.has(this.last)) {
      const [first, second] = [ids.indexOf(this.last), ids.indexOf(id)].sort((a, b) => a - b);
      for (const each of ids.slice(first, second + 1)) chosen.add(each);
    } else if (chosen.has(id)) chosen.delete(id);
    else chosen.add(id);
    this.last = id;
    this.choose([...chosen]);
  }

  choose(ids) {
    this.chosen = new Set(ids);
    for (const tile of this.list.querySelectorAll(".history-tile")) {
      const chosen = this.chosen.has(tile.dataset.id);
      tile.classList.toggle("is-chosen", chosen);
      tile.querySelector(".history-choose").checked = chosen;
    }
    this.bar.hidden = !ids.length;
    this.said.textContent = `${count(ids)} chosen`;
    this.compareButton.disabled = ids.length !== 2;
    this.compareButton.title = ids.length === 2 ? "" : "Choose two pictures";
  }

  // ---- what can be done with them ---------------------------------------------------------------------------------
  async does(deed, ids) {
    try {
      return (await ask(`/history/${deed}`, ids)).done;
    } catch (error) {
      this.tell(error.message);
      return 0;
    }
  }

  async favourite(ids, wanted) {
    if (!(await this.does(wanted ? "favourite" : "ordinary", ids))) return;
    for (const id of ids) {
      const picture = this.pictures.get(id);
      if (picture) picture.favourite = wanted;
      this.tileOf(id)?.querySelector(".history-heart").setAttribute("aria-pressed", String(wanted));
    }
    this.looker?.update();
  }

  async remove(ids) {
    if (!(await this.does("delete", ids))) return;
    for (const id of ids) {
      const tile = this.tileOf(id);
      const section = tile?.closest(".history-day");
      tile?.remove();
      if (section && !section.querySelector(".history-tile")) section.remove();
      this.pictures.delete(id);
    }
    this.choose([]);
    if (!this.pictures.size && this.after === "") this.show([]);
    this.tell(`${count(ids)} deleted.`, "Undo", async () => {
      if (await this.does("restore", ids)) this.begin();
      this.tell("");
    });
  }

  async zip(ids) {
    try {
      const link = make("a", "", { href: (await ask("/history/zip", ids)).address, download: "" });
      document.body.append(link);
      link.click();
      link.remove();
    } catch (error) {
      this.tell(error.message);
    }
  }

  tell(words, label, deed) {
    clearTimeout(this.telling);
    this.toast.replaceChildren(make("span", "", {}, words));
    if (label) this.toast.append(action(label, deed));
    this.toast.hidden = !words;
    (this.looker?.dialog.open ? this.looker.dialog : this.dialog).append(this.toast);
    if (words) this.telling = setTimeout(() => { this.toast.hidden = true; }, UNDO_MS);
  }

  look(id) {
    this.looker ??= new Looker(this);
    this.looker.open(id);
  }

  compare([first, second]) {
    if (!second) return;
    const [a, b] = [first, second].map((id) => this.pictures.get(id));
    if (a && b) new Comparison(a, b).open();
  }

  key(event) {
    if (event.target.closest("input[type=search], select") || event.defaultPrevented) return;
    const tile = event.target.closest(".history-tile");
    const tiles = [...this.list.querySelectorAll(".history-open")];
    const place = tiles.indexOf(tile?.querySelector(".history-open"));
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -perRow(tiles), ArrowDown: perRow(tiles) }[event.key];
    if (step && place >= 0) {
      tiles[Math.min(tiles.length - 1, Math.max(0, place + step))].focus();
      event.preventDefault();
    } else if (event.key === "Delete") {
      const ids = this.chosen.size ? [...this.chosen] : tile ? [tile.dataset.id] : [];
      if (ids.length) this.remove(ids);
    } else if (event.key === "f" && tile && !event.ctrlKey && !event.metaKey) {
      this.favourite([tile.dataset.id], !this.pictures.get(tile.dataset.id).favourite);
    }
  }
}

// One picture, large, with what is known of it and what can be done with it.
class Looker {
  constructor(history) {
    this.history = history;
    this.dialog = make("dialog", "history-look", { "aria-label": "Picture" });
    this.image = make("img", "history-large", { alt: "" });
    this.facts = make("dl", "history-facts");
    this.taken = make("div", "history-taken");
    this.prompt = make("p", "history-prompt");
    this.heart = action("Favourite", () => history.favourite([this.id], !this.picture.favourite));
    this.download = make("a", "history-action", {}, "Download");
    this.tab = make("a", "history-action", { target: "_blank", rel: "noopener" }, "Open in a tab");
    const side = make("aside", "history-side");
    const deeds = make("div", "history-deeds");
    const use = action("Use these settings", () => this.use(false));
    use.classList.add("is-first");
    deeds.append(use, action("Same with a new seed", () => this.use(true)), this.heart, this.download, this.tab,
      action("Delete", () => this.remove()));
    const close = action("Close", () => this.dialog.close());
    close.classList.add("history-close");
    side.append(close, this.prompt, this.facts, this.taken, deeds);
    const previous = make("button", "history-step is-previous", { type: "button", "aria-label": "Newer picture" }, "‹");
    const next = make("button", "history-step is-next", { type: "button", "aria-label": "Older picture" }, "›");
    const stage = make("div", "history-stage");
    stage.append(previous, this.image, next);
    this.dialog.append(stage, side);
    document.body.append(this.dialog);
    previous.addEventListener("click", () => this.step(-1));
    next.addEventListener("click", () => this.step(1));
    this.dialog.addEventListener("close", () => {
      history.dialog.append(history.toast); // it may hold an Undo
      history.tileOf(this.id)?.querySelector(".history-open").focus();
    });
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.step(-1);
      else if (event.key === "ArrowRight") this.step(1);
      else if (event.key === "Delete") this.remove();
      else if (event.key === "f" && !event.ctrlKey && !event.metaKey) this.heart.click();
    });
  }

  get picture() { return this.history.pictures.get(this.id); }

  open(id) {
    this.id = id;
    this.update();
    if (!this.dialog.open) this.dialog.showModal();
  }

  update() {
    const picture = this.picture;
    if (!picture) return;
    this.image.src = pictureAt(picture.id);
    this.image.style.aspectRatio = `${picture.width} / ${picture.height}`;
    this.image.style.setProperty("--natural", `${picture.width * 3}px`);
    this.prompt.textContent = picture.prompt;
    const when = new Date(picture.created * 1000);
    const facts = [["Made", `${dayOf(picture.created)}, ${dateText(when, CLOCK)}`], ["Model", picture.model],
      ["Styles", picture.styles.join(", ")], ["Size", `${picture.width} × ${picture.height}`],
      ["Seed", picture.model ? picture.seed : ""], ["File", picture.name]];
    this.facts.replaceChildren(...facts.filter(([, said]) => said)
      .flatMap(([name, said]) => [make("dt", "", {}, name), make("dd", "", {}, said)]));
    const taken = timings(picture.seconds);
    if (taken) taken.open = Boolean(this.taken.querySelector("details")?.open);
    this.taken.replaceChildren(...(taken ? [taken] : []));
    this.heart.textContent = picture.favourite ? "♥ Favourite" : "♡ Favourite";
    this.heart.setAttribute("aria-pressed", String(picture.favourite));
    this.download.href = `${pictureAt(picture.id)}?download=1`;
    this.download.download = picture.name;
    this.tab.href = pictureAt(picture.id);
  }

  async step(by) {
    const ids = [...this.history.pictures.keys()];
    const place = ids.indexOf(this.id) + by;
    if (place >= ids.length - 3) this.history.more();
    if (place >= 0 && place < ids.length) this.open(ids[place]);
  }

  async remove() {
    const ids = [...this.history.pictures.keys()];
    const place = ids.indexOf(this.id);
    const next = ids[place + 1] ?? ids[place - 1];
    await this.history.remove([this.id]);
    if (next) this.open(next);
    else this.dialog.close();
  }

  use(newSeed) {
    this.dialog.close();
    this.history.dialog.close();
    useSettings(pictureAt(this.id), this.picture.name, newSeed);
  }
}

// Two pictures in one place; what is left of the line is of the first.
class Comparison {
  constructor(first, second) {
    this.dialog = make("dialog", "history-compare", { "aria-label": "Compare two pictures" });
    const stage = make("div", "compare-stage");
    stage.style.aspectRatio = `${first.width} / ${first.height}`;
    stage.style.setProperty("--ratio", first.width / first.height);
    const [under, over] = [second, first].map((picture) => make("img", "", { src: pictureAt(picture.id), alt: picture.prompt }));
    over.className = "compare-over";
    const slider = make("input", "compare-slider", { type: "range", min: "0", max: "100", value: "50", step: "0.5", "aria-label": "How much of the first picture is seen" });
    const wipe = () => stage.style.setProperty("--wipe", `${slider.value}%`);
    slider.addEventListener("input", wipe);
    wipe();
    stage.append(under, over, slider);
    const foot = make("div", "compare-foot");
    foot.append(make("span", "", {}, `Seed ${first.seed}`), action("Close", () => this.dialog.close()), make("span", "", {}, `Seed ${second.seed}`));
    this.dialog.append(stage, foot);
    this.dialog.addEventListener("close", () => this.dialog.remove());
  }

  open() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.dialog.querySelector("input").focus();
  }
}

// ---- small things -----------------------------------------------------------------------------------------------------
function dayOf(seconds) {
  const day = new Date(seconds * 1000);
  const ago = Math.round((new Date().setHours(0, 0, 0, 0) - new Date(day).setHours(0, 0, 0, 0)) / 86_400_000);
  return ago === 0 ? "Today" : ago === 1 ? "Yesterday" : dateText(day, DAY);
}

function perRow(tiles) {
  const top = tiles[0]?.getBoundingClientRect().top;
  const row = tiles.findIndex((tile) => tile.getBoundingClientRect().top > top + 4);
  return row < 0 ? tiles.length : row;
}

function make(tag, className, attributes = {}, text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

function action(words, deed) {
  const made = make("button", "history-action", { type: "button" }, words);
  made.addEventListener("click", deed);
  return made;
}

function toggle(label, words) {
  return make("button", "history-action", { type: "button", "aria-label": label, "aria-pressed": "false" }, words);
}

const pressed = (button) => button.getAttribute("aria-pressed") === "true";
const press = (button, on) => button.setAttribute("aria-pressed", String(on));

function fill(select, all, names) {
  const kept = select.value;
  const option = (value, words) => { const made = make("option", "", {}, words); made.value = value; return made; };
  select.replaceChildren(option("", all), ...names.map((name) => option(name, name)));
  select.value = names.includes(kept) ? kept : "";
  select.hidden = !names.length;
}
