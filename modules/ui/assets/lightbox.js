// One picture over the whole window: arrows walk, Escape or a click beside it closes; knows nothing of tasks.
import { pictureUrl } from "./stage.js";
import { timings } from "./timings.js";

let box = null;

export function openLightbox(pictures, id) {
  box ??= new Lightbox();
  box.open(pictures, Math.max(0, pictures.findIndex((picture) => picture.id === id)));
}

class Lightbox {
  constructor() {
    this.dialog = document.createElement("dialog");
    this.dialog.className = "lightbox";
    this.dialog.setAttribute("aria-label", "Picture");
    this.image = element("img", "lightbox-picture");
    this.caption = element("span", "lightbox-caption");
    this.added = element("span", "lightbox-added");
    this.taken = element("div", "lightbox-taken");
    this.previous = button("lightbox-step is-previous", "Previous picture", "‹");
    this.next = button("lightbox-step is-next", "Next picture", "›");
    this.download = element("a", "lightbox-button", "Download");
    this.tab = element("a", "lightbox-button", "Open in a tab");
    this.tab.target = "_blank";
    this.tab.rel = "noopener";
    const close = button("lightbox-button", "Close", "Close");
    const bar = element("div", "lightbox-bar");
    bar.append(this.caption, this.download, this.tab, close);
    this.dialog.append(this.image, this.previous, this.next, this.added, this.taken, bar);
    document.body.append(this.dialog);
    close.addEventListener("click", () => this.dialog.close());
    this.previous.addEventListener("click", () => this.step(-1));
    this.next.addEventListener("click", () => this.step(1));
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog || event.target === this.image) this.dialog.close();
    });
    this.image.addEventListener("auxclick", (event) => {
      if (event.button === 1) window.open(this.tab.href, "_blank", "noopener");
    });
    this.dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.step(-1);
      else if (event.key === "ArrowRight") this.step(1);
    });
  }

  open(pictures, place) {
    this.pictures = pictures;
    this.show(place);
    this.dialog.showModal();
  }

  step(by) {
    this.show((this.place + by + this.pictures.length) % this.pictures.length);
  }

  show(place) {
    this.place = place;
    const picture = this.pictures[place];
    const address = pictureUrl(picture);
    this.image.src = address;
    this.image.alt = `Picture ${place + 1}`;
    // Small pictures are enlarged, but not beyond what still looks like a picture.
    this.image.style.setProperty("--natural", `${picture.width * 3}px`);
    this.image.style.aspectRatio = `${picture.width} / ${picture.height}`;
    const count = this.pictures.length > 1 ? `${place + 1} of ${this.pictures.length} · ` : "";
    const about = picture.seed ? `seed ${picture.seed}` : "all pictures side by side";
    this.caption.textContent = `${count}${picture.width} × ${picture.height} · ${about}`;
    this.added.textContent = picture.added ? `Fooocus V2 added: ${picture.added}` : "";
    const open = this.taken.querySelector("details")?.open;
    const taken = timings(picture.seconds);
    if (taken) taken.open = Boolean(open);
    this.taken.replaceChildren(...(taken ? [taken] : []));
    this.download.href = `${address}?download=1`;
    this.download.download = picture.name;
    this.tab.href = address;
    this.dialog.classList.toggle("is-single", this.pictures.length < 2);
  }
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function button(className, label, text) {
  const made = element("button", className, text);
  made.type = "button";
  made.setAttribute("aria-label", label);
  return made;
}
