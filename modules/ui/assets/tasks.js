// The rows of the queue's panel: running and waiting tasks, their buttons, and moving them by hand.
// All text goes in as text, never as HTML.
import { put } from "./language.js";
import { duration } from "./stage.js";

const MOST = 1000; // tasks in one order
const DEEDS = [
  ["next", "Run next", "M4 4h12M10 16V8M6.5 11 10 7.5l3.5 3.5"],
  ["up", "Earlier", "M10 16V5M6 9l4-4 4 4"],
  ["down", "Later", "M10 4v11M6 11l4 4 4-4"],
  ["hold", "Hold", "M7.5 5v10M12.5 5v10"],
  ["release", "Release", "M7 4.5v11l8-5.5z"],
  ["edit", "Edit", "M4 16l.8-3.4L13 4.4l2.6 2.6-8.2 8.2z"],
  ["duplicate", "Duplicate", "M7.5 7.5h8v8h-8zM12.5 7.5v-3h-8v8h3"],
  ["cancel", "Cancel", "M5.5 5.5l9 9M14.5 5.5l-9 9"],
];

export class TaskList {
  // act(deed, tasks, places) is told what is wanted of which tasks, by their ids.
  constructor(box, act) {
    this.root = box;
    this.list = box.querySelector(".queue-tasks");
    this.words = box.querySelector(".queue-said");
    this.undo = box.querySelector(".queue-undo");
    this.holdAll = box.querySelector(".queue-hold");
    this.clear = box.querySelector(".queue-clear");
    this.rows = new Map();
    this.tasks = [];
    this.edited = "";
    this.drag = null;
    this.act = act;
    this.list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button && button.getAttribute("aria-disabled") !== "true") act(button.dataset.deed, [button.closest("li").dataset.task]);
    });
    this.list.addEventListener("pointerdown", (event) => {
      const item = event.target.closest(".queue-thumb")?.closest(".queue-task:not([data-state=running])");
      if (item && event.button === 0 && !this.drag && this.waiting().length > 1) this.drag = new Drag(this, item, event);
    });
    this.holdAll.addEventListener("click", () => act(this.holdAll.dataset.deed, this.ids((task) => task.id !== this.edited)));
    this.clear.addEventListener("click", () => act("cancel", this.ids()));
  }

  waiting() { return this.tasks.filter((task) => task.state === "waiting"); }

  ids(wanted = () => true) { return this.waiting().filter(wanted).map((task) => task.id).slice(0, MOST); }

  say(words, alarm, undo) {
    put(this.words, words);
    this.words.parentNode.classList.toggle("is-alarm", alarm);
    this.undo.hidden = !undo;
    if (undo) [this.undo.textContent, this.undo.onclick] = undo;
  }

  // Rows stay the same elements while their task is there: nothing flickers, and what has the focus keeps it.
  draw(tasks, edited) {
    this.tasks = tasks;
    this.edited = edited;
    if (this.drag) return; // until it is let go
    const focus = document.activeElement;
    const waiting = this.waiting();
    for (const [id, row] of this.rows) if (!tasks.some((task) => task.id === id)) { row.item.remove(); this.rows.delete(id); }
    tasks.forEach((task, place) => {
      if (!this.rows.has(task.id)) this.rows.set(task.id, new Row(task));
      const row = this.rows.get(task.id);
      if (this.list.children[place] !== row.item) this.list.insertBefore(row.item, this.list.children[place] ?? null);
      row.show(task, waiting.indexOf(task), waiting.length, task.id === edited);
    });
    if (focus !== document.activeElement && this.list.contains(focus)) focus.focus();
    const held = waiting.length > 0 && waiting.every((task) => task.held);
    this.holdAll.dataset.deed = held ? "release" : "hold";
    put(this.holdAll, held ? "Release all" : "Hold all");
    this.holdAll.hidden = this.clear.hidden = waiting.length < 2;
    this.root.classList.toggle("is-empty", !tasks.length);
  }

  // What is focused when the row at this place has gone: the one that took it, or the way back.
  focusAt(place) {
    const row = this.list.children[Math.min(place, this.list.children.length - 1)];
    (row?.querySelector("[data-deed=cancel]") ?? this.undo).focus();
  }

  endDrag(places) {
    const { item } = this.drag;
    this.drag = null;
    if (places) {
      const items = this.ids().map((id) => this.rows.get(id)?.item).filter(Boolean);
      const place = items.indexOf(item);
      items.splice(place, 1);
      this.list.insertBefore(item, items[place + places] ?? null);
      this.act("move", [item.dataset.task], places);
    } else this.draw(this.tasks, this.edited);
  }
}

// One waiting task between finger and list: it follows the pointer, the others make room, and Escape lets it be.
class Drag {
  constructor(list, item, event) {
    event.preventDefault();
    this.owner = list;
    this.item = item;
    this.items = [...list.list.children].filter((each) => each.dataset.state !== "running");
    this.boxes = this.items.map((each) => ({ top: each.offsetTop, height: each.offsetHeight }));
    this.from = this.items.indexOf(item);
    this.to = this.from;
    this.pointer = event.clientY;
    this.start = this.height();
    item.classList.add("is-dragged");
    item.setPointerCapture(event.pointerId);
    const ended = new AbortController();
    const listen = (target, kind, hear) => target.addEventListener(kind, hear, { signal: ended.signal });
    this.end = (places) => { ended.abort(); this.leave(); list.endDrag(places); };
    listen(item, "pointermove", (each) => { this.pointer = each.clientY; });
    listen(item, "pointerup", () => this.end(this.to - this.from));
    listen(item, "pointercancel", () => this.end(0));
    listen(document, "keydown", (each) => { if (each.key === "Escape") { each.preventDefault(); this.end(0); } });
    this.follow();
  }

  // Where the pointer is in the list's own height, however far the list and the page are scrolled.
  height() {
    const { list } = this.owner;
    return this.pointer - list.getBoundingClientRect().top + list.scrollTop;
  }

  follow() {
    if (this.owner.drag !== null && this.owner.drag !== this) return;
    const own = this.boxes[this.from];
    const last = this.boxes.at(-1);
    const top = Math.min(Math.max(own.top + this.height() - this.start, this.boxes[0].top), last.top + last.height - own.height);
    this.item.style.transform = `translateY(${top - own.top}px)`;
    this.item.scrollIntoView({ block: "nearest" });
    const middle = (box) => box.top + box.height / 2;
    const up = this.boxes.findIndex((box, place) => place < this.from && top < middle(box));
    const down = this.boxes.findLastIndex((box, place) => place > this.from && top + own.height > middle(box));
    this.to = up >= 0 ? up : down >= 0 ? down : this.from;
    this.items.forEach((each, place) => {
      if (each === this.item) return;
      const aside = place >= this.to && place < this.from ? own.height : place <= this.to && place > this.from ? -own.height : 0;
      each.style.transform = aside ? `translateY(${aside}px)` : "";
    });
    this.frame = requestAnimationFrame(() => this.follow());
  }

  leave() {
    cancelAnimationFrame(this.frame);
    this.item.classList.remove("is-dragged");
    for (const each of this.items) each.style.transform = "";
  }
}

class Row {
  constructor(task) {
    this.item = element("li", "queue-task");
    this.item.dataset.task = task.id;
    this.thumb = element("span", "queue-thumb");
    this.number = element("span", "queue-number");
    this.thumb.append(this.number);
    const prompt = element("p", "queue-prompt", task.prompt || "No prompt");
    prompt.title = task.prompt;
    this.facts = element("p", "queue-facts");
    const words = element("div", "queue-words");
    words.append(prompt, this.facts, element("i", "queue-meter"));
    const deeds = element("div", "queue-deeds");
    this.buttons = Object.fromEntries(DEEDS.map(([deed, , path]) => {
      const button = element("button");
      button.type = "button";
      button.dataset.deed = deed;
      button.append(icon(path));
      deeds.append(button);
      return [deed, button];
    }));
    for (const [deed, label] of DEEDS) this.name(deed, label, task);
    this.item.append(this.thumb, words, deeds);
  }

  name(deed, label, task) {
    const button = this.buttons[deed];
    if (button.dataset.said === label) return;
    button.dataset.said = label;
    button.title = label;
    button.setAttribute("aria-label", `${label}: ${task.prompt.slice(0, 80)}`);
  }

  show(task, place, count, edited) {
    const running = task.state === "running";
    this.item.dataset.state = edited ? "edited" : task.held ? "held" : task.state;
    this.item.style.setProperty("--share", task.percent / 100);
    const number = task.count === 1 ? "1 picture" : `${task.count} pictures`;
    const left = task.lasting ? `about ${duration(task.lasting)}` : "";
    const later = task.ready_in && !task.held && task.ready_in > task.lasting + 1;
    put(this.facts, (running
      ? [task.percent ? `${task.percent} %` : task.text, left && `${left} left`, number]
      : [edited ? "Being edited" : task.held ? "Held" : "", number, left, later ? `ready in about ${duration(task.ready_in)}` : ""]
    ).filter(Boolean).join(" · "));
    put(this.number, running ? "" : String(place + 1));
    this.thumb.title = running || count < 2 ? "" : "Drag it to its place";
    this.picture(task.preview ?? (task.picture ? `/thumbnails/${encodeURIComponent(task.picture)}` : ""));
    const shown = {
      next: !running, up: !running, down: !running, hold: !running && (edited || !task.held), release: !running && task.held && !edited,
      edit: !running, duplicate: true, cancel: true,
    };
    for (const [deed, button] of Object.entries(this.buttons)) button.hidden = !shown[deed];
    able(this.buttons.next, !edited && (place > 0 || task.held));
    able(this.buttons.hold, !edited);
    able(this.buttons.up, place > 0);
    able(this.buttons.down, place < count - 1);
    this.buttons.edit.setAttribute("aria-pressed", String(edited));
    this.name("edit", edited ? "Leave it as it was" : "Edit", task);
    this.name("cancel", running ? "Stop" : "Cancel", task);
  }

  picture(address) {
    if (!address || this.address === address) return;
    this.address = address;
    const image = this.thumb.querySelector("img") ?? new Image();
    image.alt = "";
    image.draggable = false;
    image.src = address;
    if (!image.parentNode) this.thumb.append(image);
  }
}

// A button that does nothing just now keeps the focus that it may have.
function able(button, can) {
  button.setAttribute("aria-disabled", String(!can));
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function icon(path) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}
