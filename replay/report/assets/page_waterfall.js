// Single requests of one window of time: as lanes from due to end, in words, and as a table.
(() => {
  const part = page.charts.waterfall;
  const timeline = document.getElementById("chart-timeline");
  const slider = document.getElementById("waterfall-window");
  if (!part || !slider) return;
  const place = document.getElementById("chart-waterfall");
  const order = document.getElementById("waterfall-order");
  const colours = ["var(--baseline)", "var(--candidate)"];
  const LANE = 13, GAP = 7; // pixels
  const escaped = (text) => text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
  const last = (line) => Math.max(0, ...line.at.filter((at) => at !== null));
  const longest = (request) => Math.max(...request.lines.map(last));

  const inOrder = () => {
    const requests = [...part.windows[slider.value].requests];
    return order.value === "due" ? requests.sort((one, other) => longest(other) - longest(one)) : requests;
  };

  // The stretches of one lane, in µs after due: [kind, from, to].
  const stretches = (line) => {
    const end = last(line);
    const [sent, byte, token] = line.at;
    const stops = [0, sent ?? end, byte ?? end, token ?? byte ?? end, end];
    return ["late", "waiting", "starting", "answering"].map((kind, at) => [kind, stops[at], stops[at + 1]]);
  };
  const strength = { late: 1, waiting: 0.4, starting: 0.7, answering: 1 };

  const told = (request, line, build) => [
    `<b>${escaped(request.title)}</b>`,
    (part.builds.length > 1 ? `${escaped(part.builds[build])}: ` : "")
      + `${part.clock} ${line.cells[part.clock === "due" ? 0 : 1]}`,
    `sent ${line.cells[1]}, first byte ${line.cells[2]}, first token ${line.cells[3]}, end ${line.cells[4]}`,
    `${escaped(line.cells[5])}; shown as: ${request.why}`,
  ].join("<br>");

  let zoomed = null; // the stretch of time that the reader zoomed to, in s
  const begin = (line) => (order.value === "due" ? 0 : line.due);
  const pixelsPerUs = (requests) => {
    const lines = requests.flatMap((request) => request.lines);
    const whole = Math.max(...lines.map((line) => begin(line) + last(line))) - Math.min(...lines.map(begin));
    const seen = zoomed ? (zoomed[1] - zoomed[0]) * 1e6 : whole;
    return (place.clientWidth - part.layout.margin.l - part.layout.margin.r) / Math.max(seen, 1);
  };

  // All lanes as one bar trace per kind and build, all reads as one line of short strokes. Reads that lie
  // closer than 4 pixels get one stroke, or a lane of many would be nothing but strokes.
  const traces = (requests) => {
    const apart = 4 / pixelsPerUs(requests);
    const bars = {}, reads = { x: [], y: [] }, failed = { x: [], y: [] };
    const lane = part.builds.length * LANE + GAP;
    requests.forEach((request, row) => request.lines.forEach((line, build) => {
      const y = row * lane + build * LANE + LANE / 2;
      const start = begin(line);
      for (const [kind, from, to] of stretches(line)) {
        if (to <= from) continue;
        const bar = (bars[kind + build] ??= { type: "bar", orientation: "h", base: [], x: [], y: [], text: [],
          width: LANE - 2, textposition: "none", hovertemplate: "%{text}<extra></extra>",
          marker: { color: kind === "late" ? "var(--quiet)" : colours[build], opacity: strength[kind], line: { width: 0 } } });
        bar.base.push((start + from) / 1e6);
        bar.x.push((to - from) / 1e6);
        bar.y.push(y);
        bar.text.push(told(request, line, build));
      }
      let at = start, stroke = -Infinity;
      for (const gap of line.reads) {
        at += gap;
        if (at - stroke < apart) continue;
        stroke = at;
        reads.x.push(at / 1e6, at / 1e6, null);
        reads.y.push(y - LANE / 2 + 1, y + LANE / 2 - 1, null);
      }
      if (line.failed) {
        failed.x.push((start + last(line)) / 1e6);
        failed.y.push(y);
      }
    }));
    return [...Object.values(bars),
      { type: "scatter", mode: "lines", ...reads, hoverinfo: "skip", line: { color: "var(--read)", width: 1 } },
      { type: "scatter", mode: "markers", ...failed, hoverinfo: "skip", cliponaxis: false,
        marker: { color: "var(--regression)", symbol: "x", size: 9, line: { width: 1, color: "var(--ground)" } } }];
  };

  const layout = (requests) => {
    const lane = part.builds.length * LANE + GAP;
    const { margin, xaxis, yaxis } = part.layout;
    const rows = requests.map((_, row) => row);
    const title = order.value === "due" ? `seconds after ${part.clock}` : "seconds since the start of the replay";
    return { ...part.layout, height: Math.max(requests.length, 2) * lane + margin.t + margin.b,
      xaxis: { ...xaxis, title: { ...xaxis.title, text: title } },
      yaxis: { ...yaxis, range: [Math.max(requests.length, 2) * lane, 0],
        tickvals: rows.map((row) => (row + 0.5) * lane - GAP / 2), ticktext: rows.map((row) => String(row + 1)) } };
  };

  const cell = (row, kind, scope, span = 1) => {
    const made = row.appendChild(document.createElement(kind));
    if (scope) made.scope = scope;
    made.colSpan = span;
    return made;
  };
  const fill = (requests) => {
    const table = document.querySelector("#waterfall-figures table");
    for (const body of [...table.tBodies]) body.remove();
    requests.forEach((request, at) => {
      const body = table.createTBody();
      const head = body.insertRow();
      head.className = "rowgroup";
      const name = document.createElement("span");
      name.textContent = `${at + 1}. ${request.title} (${request.why})`;
      cell(head, "th", "rowgroup", 7).append(name);
      request.lines.forEach((line, build) => {
        const row = body.insertRow();
        cell(row, "th", "row").textContent = part.builds[build];
        for (const text of line.cells) cell(row, "td").textContent = text;
      });
    });
  };

  const marked = page.charts.timeline.layout.shapes.findIndex((shape) => shape.name === "window");
  const mark = () => {
    const edges = { x0: slider.value * part.width_s, x1: (Number(slider.value) + 1) * part.width_s };
    const mine = page.charts.timeline.layout.shapes[marked];
    if (mine.x0 === edges.x0) return;
    Object.assign(mine, edges);
    Plotly.relayout(timeline, { [`shapes[${marked}].x0`]: edges.x0, [`shapes[${marked}].x1`]: edges.x1 });
  };

  const draw = (requests) => {
    const figure = { data: traces(requests), layout: layout(requests) };
    return page.draw("waterfall", figure, `${slider.value} ${order.value}`);
  };
  const show = () => {
    zoomed = null;
    const { words } = part.windows[slider.value];
    document.getElementById("waterfall-words").textContent = words;
    slider.setAttribute("aria-valuetext", words);
    const requests = inOrder();
    draw(requests);
    fill(requests);
    mark();
  };
  let waiting = false; // a slider that is drawn fires faster than lanes can be drawn
  const showSoon = () => {
    if (!waiting) requestAnimationFrame(() => { waiting = false; show(); });
    waiting = true;
  };
  const choose = (window) => {
    slider.value = window;
    showSoon();
  };
  slider.addEventListener("input", showSoon);
  order.addEventListener("change", show);
  page.dark.addEventListener("change", show);
  document.getElementById("waterfall-before").addEventListener("click", () => choose(Number(slider.value) - 1));
  document.getElementById("waterfall-next").addEventListener("click", () => choose(Number(slider.value) + 1));
  timeline.on("plotly_click", ({ points }) => choose(Math.floor(points[0].x / part.width_s)));
  show();
  place.on("plotly_relayout", (change) => {
    if (!Object.keys(change).some((key) => key.startsWith("xaxis"))) return;
    zoomed = change["xaxis.autorange"] ? null : [...place.layout.xaxis.range];
    draw(inOrder());
  });
})();
