// The page in the reader's language: every English text in it is replaced as it appears, whoever put it there. What
// people wrote stays as they wrote it. Knows no sentence: they are in the files of language/.
import { Sentences } from "./sentences.js";

const ENGLISH = "en";
const ATTRIBUTES = ["title", "placeholder", "aria-label", "aria-description", "aria-valuetext", "alt", "data-idle"];
// Where people's own words stand, and what is no text.
const LEFT = "[translate=no], script, style, code, .toast-body, .queue-prompt, .queue-thumb img, .final-text, .history-prompt,"
  + " .history-open, .history-compare img, .model-title, .model-words button, #canvas .chips, #canvas img";
const DRAWN = { "--said-really": "Really?", "--said-again": "Queue again", "--said-not": "not: " }; // by style sheets

const root = document.documentElement;
const formatters = new Map();
const known = new WeakMap(); // text node -> { english, shown }; element -> the same for each attribute
let sentences = null;
let spoken = ENGLISH;
let offer = { first: "", names: [ENGLISH], notes: [] };

// A text in the language of the page, for what is said outside of it.
export const said = (english) => (sentences ? sentences.said(english) : english);

// What an element says, in English.
export function englishOf(element) {
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  let text = "";
  while (walker.nextNode()) text += english(known.get(walker.currentNode), walker.currentNode.nodeValue);
  return text;
}

// Says something in an element, unless it says so already.
export function put(element, text) {
  if (element && englishOf(element) !== text) element.textContent = text;
}

// A date in the language of the page; a formatter is costly to make, and is made once.
export function dateText(date, options) {
  const key = root.lang + JSON.stringify(options);
  if (!formatters.has(key)) formatters.set(key, new Intl.DateTimeFormat(root.lang || ENGLISH, options));
  return formatters.get(key).format(date);
}

const english = (last, now) => (last && last.shown === now ? last.english : now);

// ---- the page ---------------------------------------------------------------------------------------------------------
function sayText(node) {
  if (node.parentElement?.closest(`${LEFT}, textarea`)) return;
  const now = node.nodeValue;
  const meant = english(known.get(node), now);
  const shown = said(meant);
  if (shown !== meant || known.has(node)) known.set(node, { english: meant, shown });
  if (shown !== now) node.nodeValue = shown;
}

function sayAttribute(element, name) {
  const now = element.getAttribute(name);
  if (!now || element.closest(LEFT)) return;
  const all = known.get(element) ?? {};
  const meant = english(all[name], now);
  const shown = said(meant);
  if (shown !== meant || all[name]) known.set(element, { ...all, [name]: { english: meant, shown } });
  if (shown !== now) element.setAttribute(name, shown);
}

function sayAll(top) {
  if (top instanceof Element) {
    for (const element of [top, ...top.querySelectorAll(ATTRIBUTES.map((name) => `[${name}]`).join())]) {
      for (const name of ATTRIBUTES) if (element.hasAttribute(name)) sayAttribute(element, name);
    }
    for (const input of top.querySelectorAll("input[role=combobox]")) sayChoice(input);
    if (top.querySelector("#language_select") || top.id === "language_select") drawSelect();
  }
  const walker = document.createTreeWalker(top, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  nodes.forEach(sayText);
}

// Gradio's dropdown shows its choice as the value of an input, and reads it there: what is seen and what is read differ.
function sayChoice(input) {
  const { get, set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
  if (!Object.hasOwn(input, "value")) {
    let last = null;
    Object.defineProperty(input, "value", {
      configurable: true,
      get: () => english(last, get.call(input)),
      set: (value) => { last = { english: value, shown: said(String(value)) }; set.call(input, last.shown); },
    });
  }
  input.value = input.value;
}

const watcher = new MutationObserver((changes) => {
  if (root.lang !== htmlName()) showName(); // Gradio writes its own there
  for (const change of changes) {
    if (change.type === "characterData") sayText(change.target);
    else if (change.attributeName === "lang") continue;
    else if (change.type === "attributes") sayAttribute(change.target, change.attributeName);
    else for (const node of change.addedNodes) { if (node.nodeType === Node.TEXT_NODE) sayText(node); else if (node instanceof Element) sayAll(node); }
  }
});

// ---- the choice -------------------------------------------------------------------------------------------------------
const memory = {
  get() { try { return JSON.parse(localStorage.getItem("pinhole.language")); } catch { return null; } },
  set(name) {
    document.cookie = `pinhole_language=${encodeURIComponent(name)}; path=/; max-age=31536000; samesite=strict`; // for the sign-in page
    try { localStorage.setItem("pinhole.language", JSON.stringify(name)); } catch { /* private window */ }
  },
};

const plain = (name) => name.replaceAll("_", "-").toLowerCase();

// The name among these that is nearest to what is wanted: the same, or the same language of another country.
function nearest(wanted, names) {
  const base = (name) => plain(name).split("-")[0];
  return names.find((name) => plain(name) === plain(wanted)) ?? names.find((name) => plain(name) === base(wanted))
    ?? names.find((name) => base(name) === base(wanted));
}

function firstChoice() {
  const remembered = memory.get();
  if (offer.names.includes(remembered)) return remembered;
  for (const wanted of [offer.first, ...navigator.languages].filter(Boolean)) {
    const found = nearest(wanted, offer.names);
    if (found) return found;
  }
  return ENGLISH;
}

function htmlName() {
  try { return Intl.getCanonicalLocales(spoken.replaceAll("_", "-"))[0]; } catch { return ENGLISH; }
}

function ownName(name) {
  try {
    const code = name.replaceAll("_", "-");
    const words = new Intl.DisplayNames([code], { type: "language" }).of(code);
    return words === code ? name : words[0].toLocaleUpperCase(code) + words.slice(1);
  } catch { return name; }
}

function showName() {
  root.lang = htmlName();
  const select = document.querySelector("#language_select");
  if (select) select.value = spoken;
}

function drawSelect() {
  const select = document.querySelector("#language_select");
  if (!select) return;
  select.replaceChildren(...offer.names.map((name) => {
    const option = new Option(ownName(name), name);
    option.lang = name;
    option.translate = false;
    return option;
  }));
  select.value = spoken;
  select.parentNode.title = offer.notes.join("\n");
}

async function ask(address) {
  const answer = await fetch(address);
  return answer.ok ? answer.json() : null;
}

async function speak(name) {
  const found = await ask(`/languages/${encodeURIComponent(name)}`);
  if (!found) return;
  spoken = name;
  sentences = Object.keys(found.texts).length ? new Sentences(found.texts) : null;
  root.dir = found.rtl ? "rtl" : "ltr";
  showName();
  for (const [property, text] of Object.entries(DRAWN)) root.style.setProperty(property, JSON.stringify(said(text)));
  sayAll(root);
}

document.addEventListener("change", (event) => {
  if (event.target.id !== "language_select") return;
  memory.set(event.target.value);
  speak(event.target.value).catch(() => { event.target.value = spoken; });
});

async function begin() {
  watcher.observe(root, { childList: true, characterData: true, subtree: true, attributes: true, attributeFilter: [...ATTRIBUTES, "lang"] });
  try {
    offer = await ask("/languages") ?? offer;
    await speak(firstChoice());
  } catch { /* the server is away: the page says so elsewhere, in English */ }
  drawSelect();
}

// Gradio's own few texts are English, too, and said by our files: so they follow when the language is changed.
Object.defineProperty(navigator, "language", { configurable: true, value: ENGLISH });
begin();
