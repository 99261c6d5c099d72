// Turns the plain radio of aspect ratios into little pictures of their shapes; without it the radio works as text.
const LABEL = /(\d+)\s*×\s*(\d+)/;
const AREA = 26;

export function enhanceRatios() {
  const box = document.querySelector("#aspect_ratios_selection");
  if (!box) return;
  showSize(box);
  for (const label of box.querySelectorAll("label")) {
    const text = label.textContent.trim();
    const size = LABEL.exec(text);
    if (!size || label.dataset.shaped === text) continue;
    label.dataset.shaped = text;
    const side = Math.sqrt(size[1] / size[2]);
    label.style.setProperty("--shape-width", `${(AREA * side).toFixed(1)}px`);
    label.style.setProperty("--shape-height", `${(AREA / side).toFixed(1)}px`);
  }
}

// The drawer that holds the shapes: open it, close it.
export function toggleRatios() {
  const root = document.documentElement;
  const open = root.dataset.ratios !== "open";
  root.dataset.ratios = open ? "open" : "closed";
  document.querySelector("#ratio_button")?.setAttribute("aria-expanded", String(open));
}

// The closed drawer tells the size as well.
function showSize(box) {
  const title = document.querySelector("#ratio_button");
  const text = box.querySelector("input:checked")?.closest("label").textContent.trim() ?? "";
  if (!title) return;
  if (!title.hasAttribute("aria-expanded")) title.setAttribute("aria-expanded", "false");
  if (title.dataset.size !== text) title.dataset.size = text;
}

// Width and height in pixels of the chosen ratio, as its label says.
export function selectedSize() {
  const chosen = document.querySelector("#aspect_ratios_selection input:checked");
  const size = LABEL.exec(chosen?.closest("label")?.textContent ?? "");
  return size ? [Number(size[1]), Number(size[2])] : [9, 7];
}
