"""The look in Gradio's own terms: warm paper, warm night, one accent of pine; knows no component and no layout."""

from __future__ import annotations

import gradio as gr

PINE = gr.themes.Color(
    name="pine",
    c50="#eef5f2",
    c100="#d8e8e1",
    c200="#b3d1c5",
    c300="#86b5a4",
    c400="#5c9a86",
    c500="#3c7f6b",
    c600="#2f6b5a",
    c700="#27574a",
    c800="#21463c",
    c900="#1c3a32",
    c950="#0e211c",
)

SAND = gr.themes.Color(
    name="sand",
    c50="#fbf9f6",
    c100="#f5f1ea",
    c200="#e9e3d8",
    c300="#d8d0c2",
    c400="#a99f90",
    c500="#7d7466",
    c600="#615a4f",
    c700="#453f38",
    c800="#302c28",
    c900="#242120",
    c950="#1a1817",
)

# 400 and 700 only: the 600 files that come with Gradio 6.31 hold two letters each. No bundled font has Chinese,
# Japanese or Korean, so the systems' own are named.
FONT = (
    gr.themes.LocalFont("Source Sans Pro", weights=(400, 700)),
    "Segoe UI",
    "system-ui",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Noto Sans",
    "sans-serif",
)
FONT_MONO = ("ui-monospace", "SF Mono", "Consolas", "Liberation Mono", "monospace")


def theme() -> gr.themes.Base:
    """The theme, light and dark. Text and controls keep a contrast of 4.5 and more on their ground."""
    made = gr.themes.Base(
        primary_hue=PINE,
        secondary_hue=PINE,
        neutral_hue=SAND,
        text_size=gr.themes.sizes.text_md,
        radius_size=gr.themes.sizes.radius_lg,
        spacing_size=gr.themes.sizes.spacing_md,
        font=FONT,
        font_mono=FONT_MONO,
    )
    made.name = "pinhole"
    made.set(**_GROUND, **_BLOCKS, **_INPUTS, **_BUTTONS)
    return made


_GROUND = {
    "body_background_fill": "*neutral_100",
    "body_background_fill_dark": "*neutral_950",
    "body_text_color": "*neutral_800",
    "body_text_color_dark": "#ece6dc",
    "body_text_color_subdued": "#6d6558",
    "body_text_color_subdued_dark": "#a89f92",
    "background_fill_primary": "*neutral_50",
    "background_fill_primary_dark": "*neutral_900",
    "background_fill_secondary": "*neutral_100",
    "background_fill_secondary_dark": "*neutral_950",
    "border_color_primary": "*neutral_200",
    "border_color_primary_dark": "#3b3631",
    "color_accent": "*primary_600",
    "color_accent_soft": "*primary_100",
    "color_accent_soft_dark": "*primary_900",
    "link_text_color": "*primary_700",
    "link_text_color_dark": "*primary_300",
    "loader_color": "*primary_500",
    "slider_color": "*primary_600",
    "slider_color_dark": "*primary_400",
    "shadow_drop": "none",
    "shadow_drop_lg": "none",
}

_BLOCKS = {
    "block_background_fill": "transparent",
    "block_background_fill_dark": "transparent",
    "block_border_width": "0px",
    "block_border_width_dark": "0px",
    "block_shadow": "none",
    "block_padding": "0px",
    "block_label_background_fill": "transparent",
    "block_label_background_fill_dark": "transparent",
    "block_label_border_width": "0px",
    "block_label_border_width_dark": "0px",
    "block_title_text_color": "*neutral_700",
    "block_title_text_color_dark": "*neutral_300",
    "block_title_text_weight": "400",
    "block_title_text_size": "*text_md",
    "block_info_text_color": "*body_text_color_subdued",
    "block_info_text_color_dark": "*body_text_color_subdued",
    "block_info_text_size": "*text_sm",
    "panel_background_fill": "transparent",
    "panel_background_fill_dark": "transparent",
    "panel_border_width": "0px",
    "layout_gap": "16px",
    "form_gap_width": "0px",
}

_INPUTS = {
    "input_background_fill": "*neutral_50",
    "input_background_fill_dark": "#211e1c",
    "input_border_color": "*neutral_300",
    "input_border_color_dark": "#4a443d",
    "input_border_color_focus": "*primary_500",
    "input_border_color_focus_dark": "*primary_400",
    "input_border_width": "1px",
    "input_shadow": "none",
    "input_shadow_focus": "0 0 0 3px rgba(60, 127, 107, .18)",
    "input_shadow_focus_dark": "0 0 0 3px rgba(92, 154, 134, .25)",
    "input_placeholder_color": "#8a8072",
    "input_placeholder_color_dark": "#8d8477",
    "input_radius": "10px",
    "checkbox_background_color": "*neutral_50",
    "checkbox_background_color_dark": "#211e1c",
    "checkbox_background_color_selected": "*primary_600",
    "checkbox_background_color_selected_dark": "*primary_500",
    "checkbox_border_color": "*neutral_400",
    "checkbox_border_color_dark": "#6b6358",
    "checkbox_border_color_focus": "*primary_500",
    "checkbox_border_color_selected": "*primary_600",
    "checkbox_border_color_selected_dark": "*primary_400",
    "checkbox_label_background_fill": "*neutral_50",
    "checkbox_label_background_fill_dark": "#211e1c",
    "checkbox_label_background_fill_hover": "*primary_50",
    "checkbox_label_background_fill_hover_dark": "#2a2725",
    "checkbox_label_background_fill_selected": "*primary_100",
    "checkbox_label_background_fill_selected_dark": "*primary_900",
    "checkbox_label_border_color": "*neutral_200",
    "checkbox_label_border_color_dark": "#3b3631",
    "checkbox_label_border_color_selected": "*primary_500",
    "checkbox_label_border_color_selected_dark": "*primary_500",
    "checkbox_label_border_width": "1px",
    "checkbox_label_text_color_selected": "*primary_800",
    "checkbox_label_text_color_selected_dark": "*primary_100",
    "checkbox_label_text_weight": "400",
    "checkbox_label_padding": "7px 12px",
}

_BUTTONS = {
    "button_border_width": "1px",
    "button_transition": "background-color .15s, border-color .15s, box-shadow .15s",
    "button_large_radius": "12px",
    "button_large_text_weight": "700",
    "button_medium_text_weight": "700",
    "button_small_text_weight": "700",
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_dark": "*primary_400",
    "button_primary_background_fill_hover": "*primary_700",
    "button_primary_background_fill_hover_dark": "*primary_300",
    "button_primary_border_color": "transparent",
    "button_primary_border_color_dark": "transparent",
    "button_primary_text_color": "#ffffff",
    "button_primary_text_color_dark": "#0c1a16",
    "button_secondary_background_fill": "*neutral_50",
    "button_secondary_background_fill_dark": "#2a2725",
    "button_secondary_background_fill_hover": "*neutral_200",
    "button_secondary_background_fill_hover_dark": "#37322d",
    "button_secondary_border_color": "*neutral_300",
    "button_secondary_border_color_dark": "#4a443d",
    "button_secondary_text_color": "*neutral_800",
    "button_secondary_text_color_dark": "#ece6dc",
}
