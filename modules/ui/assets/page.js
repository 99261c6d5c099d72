// What the page does by itself, without asking the server: keys, the Advanced column, theme.
import "./language.js";
import { announce, announceStop, current, mount, notify, onView, refused } from "./stage.js";
import { check, onConnection, suspect } from "./connection.js";
import { downloads } from "./downloads.js";
import { enhanceRatios, selectedSize, toggleRatios } from "./ratios.js";
import { markIdle } from "./idle.js";
import { markWords } from "./models.js";
import { markStyles } from "./styles.js";
import { exampleSeed, mountFinalPrompt, toggleFinalPrompt } from "./final.js";
import { changeWeight } from "./weights.js";
import { recall, remember, mayStartAnew } from "./session.js";
import { queue, ran, stageChanged, stopForever, takesOver, toggleForever, toggleQueue } from "./queue.js";
import { lists, takesList } from "./lists.js";
import { togglePresets } from "./presets.js";
import { openHistory } from "./history.js";
import { openOwner } from "./owner.js";
import "./metadata.js";

const root = document.documentElement;
const memory = {
  get(key) { try { return JSON.parse(localStorage.getItem(`pinhole.${key}`)); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(`pinhole.${key}`, JSON.stringify(value)); } catch { /* private window */ } },
};

// ---- theme: the system's, until the user says otherwise -----------------------------------------------------------
const darkSystem = matchMedia("(prefers-color-scheme: dark)");
let choosing = false;

function applyTheme() {
  const wanted = memory.get("theme") || document.querySelector("meta[name=pinhole]")?.dataset.theme;
  const dark = wanted ? wanted === "dark" : darkSystem.matches;
  choosing = true;
  root.dataset.theme = dark ? "dark" : "light";
  document.body?.classList.toggle("dark", dark);
  queueMicrotask(() => { choosing = false; });
}

function toggleTheme() {
  memory.set("theme", root.dataset.theme === "dark" ? "light" : "dark");
  applyTheme();
}

// ---- Advanced -------------------------------------------------------------------------------------------------------
function showAdvanced(open) {
  root.dataset.advanced = open ? "open" : "closed";
  memory.set("advanced", open);
}

function showDeveloper(open) {
  root.dataset.developer = open ? "open" : "closed";
  memory.set("developer", open);
}

// ---- seed -----------------------------------------------------------------------------------------------------------
function seedFor(random, seed) {
  if (random) return "-1";
  if (/^\d+$/.test(seed)) return seed;
  const used = current().pictures[0]?.seed;
  return used ?? String(Math.floor(Math.random() * 2 ** 48));
}

// ---- generating -----------------------------------------------------------------------------------------------------
const SILENCE_MS = 4000;

function generate(names, values) {
  ran(names, values);
  const value = (name) => values[names.indexOf(name)];
  const [wide, high] = selectedSize();
  const width = value("advanced.overwrite_width") > 0 ? value("advanced.overwrite_width") : wide;
  const height = value("advanced.overwrite_height") > 0 ? value("advanced.overwrite_height") : high;
  announce(Math.max(1, Math.min(64, Number(value("image_number")) || 1)), width, height);
  setTimeout(async () => {
    if (current().state === "sending" && !(await check())) refused(GONE);
  }, SILENCE_MS);
  return values;
}

const GONE = "Pinhole is not running any more. Start it again: what you typed here is kept.";

onConnection(
  () => (current().state === "sending" ? refused(GONE)
    : notify("The connection to Pinhole is lost. Trying to get it back … Pictures are finished and kept all the same.", "error")),
  (restarted) => {
    if (restarted) location.reload();
    else document.querySelector("#resume_button")?.click();
  },
);

// Gradio reports what goes wrong in a toast; here it is said where the user looks.
function takeToast(toast) {
  const text = (toast.querySelector(".toast-text") ?? toast).textContent.trim();
  const broken = /connection|network|fetch|errored out|not found|unexpected/i.test(text);
  if (broken) suspect();
  const words = broken ? "The request did not get through. Please try once more."
    : /^error$/i.test(text) || !text ? "Something went wrong in Pinhole that should not have. Its terminal says more." : text;
  if (current().state === "sending") refused(words);
  else if (!broken) notify(words, "error");
}

// ---- wiring ---------------------------------------------------------------------------------------------------------
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
  event.preventDefault();
  if (!event.repeat && !document.querySelector("dialog[open]")) document.querySelector("#generate_button")?.click();
}, true);

document.addEventListener("keydown", changeWeight, true);

document.addEventListener("change", (event) => {
  if (event.target.closest?.("#advanced_checkbox")) showAdvanced(event.target.checked);
  if (event.target.closest?.("#developer_mode")) showDeveloper(event.target.checked);
  enhanceRatios();
});

document.addEventListener("click", (event) => {
  if (event.target.closest?.("#theme_button")) toggleTheme();
  else if (event.target.closest?.("#history_button")) openHistory();
  else if (event.target.closest?.("#owner_button")) openOwner();
  else if (event.target.closest?.("#ratio_button")) toggleRatios();
  else if (event.target.closest?.("#preset_manage")) togglePresets();
  else if (event.target.closest?.("#final_switch")) toggleFinalPrompt();
  else if (event.target.closest?.("#queue_switch")) toggleQueue();
  else if (event.target.closest?.("#forever_switch")) toggleForever();
  else if (event.target.closest?.("#stop_button")) { stopForever(); announceStop("stop"); }
  else if (event.target.closest?.("#skip_button")) announceStop("skip");
});

// Before Gradio hears of it: a list is asked about first, and while something is made or edited, Generate puts a task
// into the queue.
window.addEventListener("click", (event) => {
  if (!event.target.closest?.("#generate_button") || !(takesList() || takesOver())) return;
  event.stopImmediatePropagation();
  event.preventDefault();
}, true);
onView(stageChanged);

darkSystem.addEventListener("change", applyTheme);

function watchPage() {
  applyTheme();
  // Gradio sets its own theme class while it starts.
  new MutationObserver(() => { if (!choosing) applyTheme(); })
    .observe(document.body, { attributes: true, attributeFilter: ["class"] });
  new MutationObserver((changes) => {
    for (const change of changes) for (const node of change.addedNodes) {
      if (!(node instanceof Element)) continue;
      const toasts = node.matches(".toast-body") ? [node] : node.querySelectorAll(".toast-body");
      for (const toast of toasts) takeToast(toast);
    }
    enhanceRatios();
    markStyles();
    markWords();
    markIdle();
  }).observe(document.body, { childList: true, subtree: true });
}

root.dataset.advanced = memory.get("advanced") ? "open" : "closed";
root.dataset.developer = memory.get("developer") ? "open" : "closed";
root.dataset.run = "idle";
root.dataset.queue = "closed";
window.pinhole = {
  mount,
  downloads,
  queue,
  lists,
  generate,
  remember,
  recall,
  mayStartAnew,
  seedFor,
  mountFinalPrompt,
  exampleSeed,
  currentTask: () => current().task,
  advancedWasOpen: () => Boolean(memory.get("advanced")),
  developerWasOpen: () => Boolean(memory.get("developer")),
  rememberedTask: () => { try { return sessionStorage.getItem("pinhole.task") ?? ""; } catch { return ""; } },
};
check();
if (document.body) watchPage();
else document.addEventListener("DOMContentLoaded", watchPage);
