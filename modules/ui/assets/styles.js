// The list of styles: sorted anew when it is left; while something is searched, what is not found steps back.
const LEFT_MS = 200;

export function markStyles() {
  const query = document.querySelector("#style_search :is(input, textarea)")?.value ?? "";
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  for (const label of document.querySelectorAll("#style_selections .wrap label")) {
    const name = label.textContent.toLowerCase();
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
