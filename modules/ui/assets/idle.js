// Controls that do nothing in combination with others step back and say why. They can be set all the same.
const NO_REFINER = (value) => (value("refiner_model") === "None" ? "No effect without a refiner." : "");
const ONE = (value) => (Number(value("image_number")) === 1 ? "No effect on a single picture." : "");
const UNGUIDED = (value) => (Number(value("guidance_scale")) === 1 ? "No effect at a guidance scale of 1." : "");
const OVERWRITTEN = (value, path, name) => (Number(value(path)) > 0 ? `${name} decides instead.` : "");

// [controls, why they do nothing: the first sentence that is not empty]
const ROWS = [
  [["advanced.freeu_b1", "advanced.freeu_b2", "advanced.freeu_s1", "advanced.freeu_s2"],
    (value) => (value("advanced.freeu_enabled") ? "" : "No effect while FreeU is off.")],
  [["refiner_switch"], (value) => NO_REFINER(value)
    || OVERWRITTEN(value, "advanced.overwrite_switch", "Forced Overwrite of Refiner Switch Step")],
  [["advanced.overwrite_switch", "advanced.refiner_swap_method"], NO_REFINER],
  [["advanced.adaptive_cfg"], (value) => UNGUIDED(value)
    || (Number(value("guidance_scale")) <= Number(value("advanced.adaptive_cfg")) ? "No effect while the guidance scale is not above it." : "")],
  [["negative_prompt", "advanced.guidance_rescale", "advanced.guidance_begin", "advanced.guidance_end"], UNGUIDED],
  [["advanced.adm_scaler_positive", "advanced.adm_scaler_negative"],
    (value) => (Number(value("advanced.adm_scaler_end")) === 0 ? "No effect: it ends before the first step." : "")],
  [["advanced.generate_image_grid", "advanced.disable_seed_increment", "advanced.disable_intermediate_results"], ONE],
  ...[1, 2, 3, 4, 5].map((row) => [[`lora_${row}.weight`],
    (value) => (value(`lora_${row}.name`) === "None" || !value(`lora_${row}.enabled`) ? "No LoRA is chosen." : "")]),
];

let reasons = new Map();

export function explain(names, values) {
  const value = (name) => values[names.indexOf(name)];
  reasons = new Map(ROWS.flatMap(([paths, why]) => { const reason = why(value); return paths.map((path) => [path, reason]); }));
  markIdle();
}

// Gradio makes the controls of a tab when it is opened.
export function markIdle() {
  for (const [path, reason] of reasons) {
    const control = document.getElementById(path.replaceAll(".", "-"));
    if (!control || (control.dataset.idle ?? "") === reason) continue;
    if (reason) control.dataset.idle = reason;
    else delete control.dataset.idle;
    for (const input of control.querySelectorAll("input, textarea")) {
      if (reason) input.setAttribute("aria-description", reason);
      else input.removeAttribute("aria-description");
    }
  }
}
