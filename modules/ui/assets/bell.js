// Says that everything is done, with a sound or the system's notification: each only where somebody asked for it.
import { said } from "./language.js";

const KEY = "pinhole.bell";
const NOTES = [[659.26, 0], [880, 0.14]]; // Hz and seconds after the first: a fourth upwards
const LENGTH = 0.5; // seconds
const LOUDNESS = 0.12;

const memory = {
  get() { try { return JSON.parse(localStorage.getItem(KEY)) ?? {}; } catch { return {}; } },
  set(wishes) { try { localStorage.setItem(KEY, JSON.stringify(wishes)); } catch { /* private window */ } },
};

let audio = null;
let wishes = memory.get();

// The two switches in an element; complain(words) shows why one cannot be.
export function mountBell(element, complain) {
  for (const box of element.querySelectorAll("[data-bell]")) {
    const kind = box.dataset.bell;
    box.checked = Boolean(wishes[kind]) && (kind === "sound" || allowed());
    box.addEventListener("change", async () => {
      const problem = !box.checked ? "" : kind === "sound" ? play() : await permit();
      if (problem) { box.checked = false; complain(problem); }
      wishes = { ...wishes, [kind]: box.checked };
      memory.set(wishes);
    });
  }
}

// Everything that this tab has asked for has ended; ``words`` say how, ``picture`` is the address of the last one.
export function ring(words, picture) {
  if (wishes.sound) play();
  if (!wishes.note || !allowed() || (document.hasFocus() && !document.hidden)) return;
  try {
    const note = new Notification("Pinhole", { body: words, icon: picture, tag: "pinhole" });
    note.addEventListener("click", () => { window.focus(); note.close(); });
  } catch { /* phones have them for installed pages only */ }
}

const allowed = () => "Notification" in window && Notification.permission === "granted";

async function permit() {
  if (!("Notification" in window) || !isSecureContext) return said("This browser notifies only about pages of this machine, or over https.");
  return (await Notification.requestPermission()) === "granted" ? "" : said("The browser does not let this page notify you. Its settings for this page say why.");
}

function play() {
  try {
    audio ??= new AudioContext();
    audio.resume();
    for (const [pitch, after] of NOTES) {
      const tone = audio.createOscillator();
      const level = audio.createGain();
      const begin = audio.currentTime + after;
      tone.frequency.value = pitch;
      level.gain.setValueAtTime(0, begin);
      level.gain.linearRampToValueAtTime(LOUDNESS, begin + 0.02);
      level.gain.exponentialRampToValueAtTime(0.0001, begin + LENGTH);
      tone.connect(level).connect(audio.destination);
      tone.start(begin);
      tone.stop(begin + LENGTH);
    }
    return "";
  } catch {
    return said("This browser plays no sounds.");
  }
}
