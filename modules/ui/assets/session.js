// What was in the form: a tab finds it again after a refresh, and the next visit where it may go on from there.
import { explain } from "./idle.js";
import { formChanged } from "./final.js";
import { downloads } from "./downloads.js";

const KEY = "pinhole.form";
const PAUSE_MS = 150;

let base = null; // the preset with which the page began; null: the next page may begin with any
let known = false; // whether it was looked at what is remembered: only then it may be overwritten
let saving = null;
let latest = {};

// The form as it is, by the paths of its parameters; null while the page is being filled.
export const formNow = () => (known ? latest : null);

// Where nothing is kept, the browser keeps nothing either once its tab is closed.
function places() {
  const kept = document.querySelector("meta[name=pinhole]")?.dataset.kept !== "no";
  return kept ? [() => sessionStorage, () => localStorage] : [() => sessionStorage];
}

function read(place) {
  try { return JSON.parse(place().getItem(KEY)); } catch { return null; }
}

function write(form) {
  for (const place of places()) {
    try { place().setItem(KEY, JSON.stringify(form)); } catch { /* private window */ }
  }
}

export function remember(names, preset, ...values) {
  if (!known) return [];
  latest = Object.fromEntries(names.map((name, place) => [name, values[place]]));
  explain(names, values);
  formChanged();
  clearTimeout(saving);
  saving = setTimeout(() => {
    write({ base, preset, values: latest });
  }, PAUSE_MS);
  return [];
}

// Another start was chosen: whatever it is, the form may be put back whole.
export function mayStartAnew(...values) {
  base = null;
  return values;
}

// A tab gets back what it had, a new one what was last anywhere, unless a preset was chosen to start with. Where the
// page begins with another preset than before, because of a flag or a model that has come, only habits are put back.
export function recall(names, habits, preset, start, ...values) {
  const saved = read(() => sessionStorage) ?? (start ? null : read(() => localStorage));
  const usable = saved && typeof saved.values === "object";
  const whole = usable && (saved.base === null || saved.base === preset || saved.preset === preset);
  const found = names.map((name, place) => {
    const wanted = usable && (whole || habits.includes(name)) && !(name === "prompt" && isTyped(values[place]));
    return wanted && typeof saved.values[name] === typeof values[place] ? saved.values[name] : values[place];
  });
  const chosen = whole && typeof saved.preset === "string" ? saved.preset : preset;
  if (chosen !== preset) downloads.recall(chosen);
  base = preset;
  known = true;
  latest = Object.fromEntries(names.map((name, place) => [name, found[place]]));
  explain(names, found);
  return [chosen, ...found];
}

function isTyped(prompt) {
  return Boolean(prompt) && document.activeElement === document.querySelector("#prompt textarea");
}
