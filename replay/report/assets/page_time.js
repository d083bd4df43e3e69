// The timeline: zooms it by buttons and by name, and shows the names of phases where they have room.
(() => {
  const figure = page.charts.timeline;
  const chart = document.getElementById("chart-timeline");
  if (!figure || !chart) return;
  const whole = [...figure.layout.xaxis.range];
  const byId = (id) => document.getElementById(id);

  // A phase's name stands in the middle of what is seen of it, or nowhere if it is wider than that.
  const names = figure.layout.annotations.map((one, at) => [one, at]).filter(([one]) => one.name === "phase");
  const fitted = (from, to) => {
    const pixels = (chart.clientWidth - figure.layout.margin.l - figure.layout.margin.r) / (to - from);
    const change = {};
    names.forEach(([name, at], phase) => {
      const area = figure.layout.shapes[phase];
      const [start, end] = [Math.max(area.x0, from), Math.min(area.x1, to)];
      const place = { visible: (end - start) * pixels > 7 * name.text.length, x: (start + end) / 2 };
      for (const [key, value] of Object.entries(place)) {
        if (chart.layout.annotations[at][key] !== value) change[`annotations[${at}].${key}`] = value;
        name[key] = value;
      }
    });
    return change;
  };
  const fit = () => {
    const change = fitted(...chart.layout.xaxis.range);
    if (Object.keys(change).length) Plotly.relayout(chart, change);
  };

  const zoom = (from, to) => {
    const width = Math.min(Math.max(to - from, (whole[1] - whole[0]) / 1000), whole[1] - whole[0]);
    const start = Math.min(Math.max(from, whole[0]), whole[1] - width);
    return Plotly.relayout(chart, { "xaxis.range": [start, start + width], ...fitted(start, start + width) });
  };
  const shift = (left, right) => {
    const [from, to] = chart.layout.xaxis.range;
    zoom(from + left * (to - from), to + right * (to - from));
  };
  byId("time-in").addEventListener("click", () => shift(0.25, -0.25));
  byId("time-out").addEventListener("click", () => shift(-0.5, 0.5));
  byId("time-left").addEventListener("click", () => shift(-0.5, -0.5));
  byId("time-right").addEventListener("click", () => shift(0.5, 0.5));
  byId("time-span").addEventListener("change", (event) => {
    if (!event.target.value) return zoom(...whole);
    const [from, to] = event.target.value.split(",").map(Number);
    return zoom(from - 0.05 * (to - from), to + 0.05 * (to - from));
  });

  chart.on("plotly_relayout", (change) => {
    if (!Object.keys(change).some((key) => /^(xaxis|autosize|width)/.test(key))) return;
    figure.layout.xaxis.range = [...chart.layout.xaxis.range]; // kept when the page is drawn anew
    fit();
  });
  window.addEventListener("resize", () => requestAnimationFrame(fit));
  fit();
})();
