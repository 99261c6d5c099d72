// What waits beside the run on the canvas: asking how it stands, changing it, editing a task, Generate forever.
import { current, duration, isLive, notify, pictureUrl } from "./stage.js";
import { mountBell, ring } from "./bell.js";
import { formNow } from "./session.js";
import { put } from "./language.js";
import { TaskList } from "./tasks.js";

const OPEN_MS = 1000;
const CLOSED_MS = 2500;
const IDLE_MS = 15000; // another tab may have queued something
const PATIENCE_MS = 5000; // until following the next task is tried again
const PAUSE_MS = 400; // a second press within this is the end of a double click

const root = document.documentElement;
const session = {
  get(key) { try { return JSON.parse(sessionStorage.getItem(`pinhole.${key}`)); } catch { return null; } },
  set(key, value) { try { sessionStorage.setItem(`pinhole.${key}`, JSON.stringify(value)); } catch { /* private window */ } },
};
const press = (id) => document.querySelector(`#${id}`)?.click();

let panel = null;
let tasks = [];
let asked = 0;
let timer = null;
let engaged = false; // this tab shows a run: it goes on to the next task when one ends
let followed = { task: "", at: 0 };
const awaited = new Set(); // tasks of this run that the canvas has not shown yet
let editing = session.get("editing"); // { task, held, values }: what was in the form before
let spare = null; // what was in the form before an edit that came to nothing
let pending = ""; // the task that Edit was pressed for
let forever = Boolean(session.get("forever"));
let lastRun = session.get("lastRun");
let names = null;
let lastPress = 0;
let lastState = "idle";

export const queue = {
  mount(element, props, watch) {
    panel = new TaskList(element.querySelector(".queue-box"), act);
    mountBell(element, (words) => say(words, true));
    watch("value", () => answered(props.value));
    showForever();
    showEditing();
    refresh();
  },
  // The js of the hidden buttons: what the server is told.
  sent(paths, values) {
    ran(paths, values);
    if (editing) editing.sent = true;
    return [editing?.task ?? "", ...values];
  },
  editBegins(values) {
    const task = tasks.find((each) => each.id === pending);
    editing = { task: pending, held: Boolean(task?.held), values: editing?.values ?? values };
    return [pending, ...values];
  },
  formBefore(values) {
    const before = editing?.values ?? spare ?? values;
    spare = null;
    stopEditing();
    return before;
  },
};

// Generate was pressed: true where the task goes into the queue from here, or the press is not meant.
export function takesOver() {
  const now = performance.now();
  const doubled = now - lastPress < PAUSE_MS;
  lastPress = now;
  if (!isLive() && !editing) return false;
  if (!doubled) press("queue_add");
  return true;
}

export const isEditing = () => Boolean(editing);

// Tasks were queued that are to be shown one after the other.
export function joinIn(last) {
  engaged = true;
  awaited.add(last);
  toggleQueue(true);
}

// What is generated with these values; Generate forever compares.
export function ran(paths, values) {
  names = paths;
  lastRun = JSON.stringify(values);
  session.set("lastRun", lastRun);
}

// The canvas shows something new.
export function stageChanged(state) {
  if (state === lastState) return;
  const ended = !isLive() && lastState !== "idle";
  lastState = state;
  if (isLive()) engaged = true;
  else if (state === "failed") stopForever("Generate forever is off: the last run failed.");
  if (ended || state === "waiting" || state === "running") refresh();
}

export function stopForever(words = "") {
  if (!forever) return;
  forever = false;
  showForever();
  if (words) say(words, true);
}

export function toggleForever() {
  forever = !forever;
  lastRun = null;
  say("");
  showForever();
  if (forever) refresh();
}

export function toggleQueue(open = root.dataset.queue !== "open") {
  root.dataset.queue = open ? "open" : "closed";
  document.querySelector("#queue_switch")?.setAttribute("aria-expanded", String(open));
  if (!open) return;
  panel?.root.scrollIntoView({ block: "nearest" });
  refresh();
}

function refresh() {
  return take(() => fetch(`/queue?images=${root.dataset.queue === "open"}`, { cache: "no-store" }));
}

function send(deed, chosen, places = 0) {
  const body = JSON.stringify({ tasks: chosen, places });
  return take(() => fetch(`/queue/${deed}`, { method: "POST", headers: { "content-type": "application/json" }, body }));
}

// What a button of the panel is pressed for.
async function act(deed, chosen, places) {
  const [task] = chosen;
  say("");
  if (deed === "edit") edit(task);
  else if (deed === "cancel") cancel(chosen);
  else if (deed === "up" || deed === "down") send("move", chosen, deed === "up" ? -1 : 1);
  else send(deed, chosen, places);
}

async function edit(task) {
  if (editing && !editing.held) await send("release", [editing.task]);
  if (editing?.task === task) return press("queue_restore");
  pending = task;
  return press("queue_edit");
}

async function cancel(chosen) {
  const place = tasks.findIndex((each) => each.id === chosen[0]);
  const waited = tasks[place]?.state === "waiting";
  if (!waited) stopForever();
  else if (chosen.includes(editing?.task)) press("queue_restore");
  if (!(await send("cancel", chosen)) || !waited) return;
  const [words, back] = chosen.length === 1 ? ["Cancelled.", "Put it back"] : [`${chosen.length} tasks cancelled.`, "Put them back"];
  say(words, false, [back, () => { say(""); send("back", chosen); }]);
  panel.focusAt(place);
}

// Asks, shows how things stand after it, and says whether it was done. An answer to an older question is not shown.
async function take(question) {
  const number = ++asked;
  clearTimeout(timer);
  let answer = null;
  try { answer = await (await question()).json(); } catch { /* the server is away: the page says so elsewhere */ }
  if (answer?.error) say(answer.error, true);
  if (number !== asked) return Boolean(answer?.tasks);
  if (answer?.tasks) show(answer.tasks, answer.newest);
  const pause = !tasks.length && !isLive() ? IDLE_MS : root.dataset.queue === "open" ? OPEN_MS : CLOSED_MS;
  timer = setTimeout(refresh, document.hidden ? Math.max(pause, CLOSED_MS) : pause);
  return Boolean(answer?.tasks);
}

function show(found, newest) {
  tasks = found;
  panel?.draw(tasks, editing?.task);
  const waiting = tasks.filter((task) => task.state === "waiting");
  const last = waiting.findLast((task) => !task.held)?.ready_in;
  put(document.querySelector(".queue-sum"), waiting.length
    ? [`${waiting.length} waiting`, last ? `about ${duration(last)}` : ""].filter(Boolean).join(" · ") : "");
  if (editing && !editing.sent && editing.task !== pending && !waiting.some((task) => task.id === editing.task)) {
    spare = editing.values;
    stopEditing();
    say("The task that was being edited does not wait any more.", true, ["Put back what was in the form", () => { say(""); press("queue_restore"); }]);
  }
  goOn(newest);
}

// The canvas goes on with the next task of this run; where there is none, Generate forever begins one. The last may have
// ended before it was its turn here: it is shown all the same, by its picture, which is the newest.
function goOn(newest) {
  if (engaged) for (const task of tasks) if (!task.held) awaited.add(task.id);
  awaited.delete(current().task);
  if (isLive()) return;
  const next = tasks.find((task) => !task.held)?.id;
  const missed = !next && engaged && awaited.has(newest);
  if (engaged && (next || missed)) {
    if (followed.task === (next ?? newest) && performance.now() - followed.at < PATIENCE_MS) return;
    followed = { task: next ?? newest, at: performance.now() };
    try { sessionStorage.setItem("pinhole.task", followed.task); } catch { /* private window */ }
    press("resume_button");
  } else if (!next) {
    if (engaged && !forever && current().state !== "stopped") ringWith(current());
    engaged = false;
    awaited.clear();
    if (forever && !editing) again();
  }
}

function ringWith(view) {
  const last = view.pictures.at(-1);
  ring(document.querySelector("#canvas .sentence")?.textContent || view.message, last && pictureUrl(last));
}

function again() {
  const form = formNow();
  if (form === null) { setTimeout(refresh, PAUSE_MS); return; } // the page is still being filled
  if (current().state === "refused" || current().level === "error") return stopForever("Generate forever is off: the last run was refused.");
  if (names && lastRun && form.image_seed !== "-1" && JSON.stringify(names.map((name) => form[name])) === lastRun) {
    return stopForever("Generate forever is off: the seed is fixed, so the next picture would be the same. Choose a random seed, or change something.");
  }
  lastPress = 0;
  return press("generate_button");
}

// The server has answered one of the hidden buttons.
function answered(value) {
  if (value?.state === "queued") {
    engaged = true;
    awaited.add(value.task);
    if (value.edited && editing?.task === value.edited) press("queue_restore");
    say("");
  } else if (value?.state === "refused") {
    if (editing) editing.sent = false;
    stopForever();
    say(value.message, true);
    notify(value.message, "error");
  } else if (value?.state === "editing") {
    pending = "";
    session.set("editing", editing);
    showEditing();
    document.querySelector("#prompt textarea")?.focus();
  } else if (value?.state === "lost") {
    pending = "";
    stopEditing();
    say(value.message, true);
  }
  refresh();
}

function stopEditing() {
  editing = null;
  session.set("editing", null);
  showEditing();
}

function showEditing() {
  root.dataset.editing = editing ? "task" : "";
  const button = document.querySelector("#generate_button");
  if (editing) button?.setAttribute("aria-label", "Queue again");
  else button?.removeAttribute("aria-label");
  panel?.draw(tasks, editing?.task);
}

function showForever() {
  session.set("forever", forever);
  document.querySelector("#forever_switch")?.setAttribute("aria-checked", String(forever));
}

function say(words, alarm = false, undo = null) {
  panel?.say(words, alarm, undo);
  if (words && alarm) toggleQueue(true);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && panel) refresh(); });
