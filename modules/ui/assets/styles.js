// The list of styles: sorted anew when it is left; while something is searched, what is not found steps back.
import { englishOf } from "./language.js";

const LEFT_MS = 200;

export function markStyles() {
  const query = document.querySelector("#style_search :is(input, textarea)")?.value ?? "";
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  for (const label of document.querySelectorAll("#style_selections .wrap label")) {
    const name = `${englishOf(label)} ${label.textContent}`.toLowerCase();
    label.classList.toggle("is-aside", !words.every((word) => name.includes(word)));
  }
}

document.addEventListener("input", (event) => {
  if (event.target.closest?.("#style_search")) markStyles();
});

document.addEventListener("focusout", (event) => {
  const tab = event.target.closest?.("#styles_tab");
  if (tab) setTimeout(() => { if (!tab.contains(document.activeElement)) document.querySelector("#sort_styles")?.click(); }, LEFT_MS);
});

// ---- the picture of a style: beside the pointer or the focus, on a touch screen after a long press ------------------
const PRESS_MS = 450;
let card = null;
let pressing = null;

function showCard(label) {
  const name = englishOf(label).trim();
  if (!card) {
    card = document.createElement("div");
    card.className = "style-card";
    card.setAttribute("aria-hidden", "true");
    card.append(document.createElement("img"));
    document.body.append(card);
  }
  const picture = card.firstChild;
  const address = `/style-picture?name=${encodeURIComponent(name)}`;
  if (picture.getAttribute("src") !== address) picture.src = address;
  const box = label.getBoundingClientRect();
  const below = box.bottom + 8 + 136 < innerHeight;
  card.style.left = `${Math.max(8, Math.min(innerWidth - 144, box.left))}px`;
  card.style.top = `${below ? box.bottom + 8 : box.top - 144}px`;
  card.classList.add("is-shown");
}

const hideCard = () => { clearTimeout(pressing); card?.classList.remove("is-shown"); };
const styleOf = (event) => event.target.closest?.("#style_selections .wrap label");

document.addEventListener("pointerover", (event) => {
  if (event.pointerType === "touch") return;
  const label = styleOf(event);
  if (label) showCard(label); else hideCard();
});
document.addEventListener("focusin", (event) => {
  const label = styleOf(event);
  if (label && event.target.matches(":focus-visible")) showCard(label); else hideCard();
});
document.addEventListener("pointerdown", (event) => {
  hideCard();
  const label = event.pointerType === "touch" && styleOf(event);
  if (label) pressing = setTimeout(() => showCard(label), PRESS_MS);
});
for (const kind of ["pointerup", "pointercancel"]) document.addEventListener(kind, (event) => { if (event.pointerType === "touch") hideCard(); });
document.addEventListener("scroll", hideCard, true);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideCard(); });
// The browser's menu of a long press would lie over the picture.
document.addEventListener("contextmenu", (event) => { if (card?.classList.contains("is-shown") && styleOf(event)) event.preventDefault(); });
