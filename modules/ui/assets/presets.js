// The form under the preset: opening it, taking answers back, and asking once more before something is deleted.
const root = document.documentElement;
const SURE_MS = 5000;
let asked = null;

export function togglePresets() {
  const open = root.dataset.presets !== "open";
  root.dataset.presets = open ? "open" : "closed";
  document.querySelector("#preset_manage")?.setAttribute("aria-expanded", String(open));
  if (open) document.querySelector("#preset_name :is(input, textarea)")?.focus();
}

function forget() {
  clearTimeout(asked);
  asked = null;
  document.querySelector("#preset_remove")?.removeAttribute("data-asked");
}

// In the capturing phase: the first press does not reach Gradio.
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("#preset_remove");
  if (!button || asked) return forget();
  event.stopImmediatePropagation();
  button.dataset.asked = "";
  asked = setTimeout(forget, SURE_MS);
}, true);

// What was said, and asked, was about another name.
document.addEventListener("input", (event) => {
  if (!event.target.closest?.("#preset_name")) return;
  for (const answer of document.querySelectorAll("#preset_said p")) {
    answer.className = "";
    answer.hidden = true;
  }
});
