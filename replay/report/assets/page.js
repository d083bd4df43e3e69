// Draws the charts that the page carries as data, in the reader's theme, and again when that changes;
// marks the tables that are wider than the window.
"use strict";
const page = (() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displaylogo: false, doubleClick: "reset",
    modeBarButtons: [["toImage", "resetScale2d"]] };
  // On a touch screen a swipe over a chart scrolls the page.
  const touch = window.matchMedia("(pointer: coarse)").matches;

  // A copy of `value` in which every "var(--name)" is the colour it stands for now.
  const resolved = (value, style) => {
    if (typeof value === "string") {
      const name = /^var\((--[a-z-]+)\)$/.exec(value);
      return name ? style.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolved(item, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolved(item, style)]));
  };

  // What the reader zoomed stays as long as `shown` is the same.
  const draw = (name, figure, shown = "kept") => {
    const place = document.getElementById("chart-" + name);
    if (!place || !figure) return;
    const style = getComputedStyle(document.documentElement);
    const { data, layout } = resolved(figure, style);
    const colour = (variable) => style.getPropertyValue(variable).trim();
    Object.assign(layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: touch ? false : "zoom", uirevision: shown,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--muted") },
      hoverlabel: { namelength: 40, bgcolor: colour("--raised"), bordercolor: colour("--rule"), font: { color: colour("--text") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--quiet"), activecolor: colour("--text") },
    });
    for (const [key, axis] of Object.entries(layout)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      Object.assign(axis, { gridcolor: colour("--grid"), linecolor: colour("--rule") });
    }
    Plotly.react(place, data, layout, config);
  };

  // The key of the chosen variant, the choices' values with "|" between; what the choices before one leave
  // without a chart can't be chosen in it.
  const combined = (choices, keys) => {
    let begun = "";
    for (const [at, choice] of choices.entries()) {
      const ends = at + 1 < choices.length ? "|" : "";
      const has = (option) => keys.some((key) => (ends ? key.startsWith(begun + option.value + ends) : key === begun + option.value));
      for (const option of choice.options) option.disabled = !has(option);
      if (choice.selectedOptions[0]?.disabled) choice.value = [...choice.options].find((option) => !option.disabled)?.value;
      begun += choice.value + ends;
    }
    return begun;
  };

  const chosen = (id) => document.getElementById(id)?.value;
  const drawAll = () => {
    for (const [name, figure] of Object.entries(charts)) {
      const choices = [...document.querySelectorAll(`select[data-chart="${name}"]`)];
      if (figure?.data) draw(name, figure);
      else if (choices.length) draw(name, figure[combined(choices, Object.keys(figure))]);
    }
    if (charts.effects) draw("effects", charts.effects[chosen("effects-group")]);
  };
  for (const choice of document.querySelectorAll("select[data-chart]")) {
    choice.addEventListener("change", drawAll);
  }
  document.getElementById("effects-group")?.addEventListener("change", drawAll);
  dark.addEventListener("change", drawAll);
  drawAll();

  // A table that goes on beyond its frame's edge is marked, whenever the window or a fold changes.
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const frame = target.closest(".frame");
      frame.classList.toggle("wide", frame.scrollWidth > frame.clientWidth + 1);
    }
  });
  for (const frame of document.querySelectorAll(".frame")) {
    watch.observe(frame);
    watch.observe(frame.firstElementChild);
  }
  return { charts, draw, dark };
})();
