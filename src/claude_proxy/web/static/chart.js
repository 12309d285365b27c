// Line charts: each [data-lines] is drawn by uPlot, in the page's colours and the viewer's language and time zone.
(() => {
  "use strict";
  const language = document.documentElement.lang;
  const number = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });
  const writers = {
    count: (value) => number.format(value),
    tokens: (value) => number.format(value),
    usd: (value) => `$${value.toFixed(2)}`,
    ms: (value) => (value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`),
  };
  const time = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const date = new Intl.DateTimeFormat(language, { month: "short", day: "numeric" });
  const shown = (seconds, span) => (span > 2 * 86400 ? date : time).format(new Date(seconds * 1000));
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const charts = new Map();
  // A value between two gaps has no line, so it is drawn as a point: on a new proxy it is all there is.
  const lone = (values) => values.flatMap((value, at) => (value !== null && values[at - 1] == null && values[at + 1] == null ? [at] : []));
  const points = { size: 4, filter: (plot, series, all) => (all ? null : lone(plot.data[series])) };

  function options(place, { unit, labels, data }) {
    const write = writers[unit];
    const span = data[0].at(-1) - data[0][0];
    const axis = { stroke: color("--soft"), font: "11px system-ui, sans-serif", grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    return {
      width: place.clientWidth,
      height: place.clientHeight,
      legend: { show: false },
      cursor: { y: false, points: { size: 6 } },
      scales: { y: { range: (_, __, max) => [0, Math.max(1, max * 1.1)] } },
      axes: [
        { ...axis, grid: { show: false }, size: 24, space: 70, values: (_, ticks) => ticks.map((at) => shown(at, span)) },
        { ...axis, size: 48, space: 34, values: (_, ticks) => ticks.map(write) },
      ],
      series: [{}, ...labels.map((label, at) => ({ label, stroke: color(`--s${at}`), width: 2, points, fill: at === 0 ? `${color("--s0")}22` : undefined }))],
      hooks: { setCursor: [(plot) => tip(place, plot, write, span)] },
    };
  }
  // The values under the pointer, below the legend; the table in <details> has them for those who use none.
  function tip(place, plot, write, span) {
    const spot = place.parentElement.querySelector(".tip");
    if (!spot) return;
    const at = plot.cursor.idx;
    const parts = at === null || at === undefined ? [] : plot.series.slice(1).map((one, index) => `${one.label} ${plot.data[index + 1][at] === null ? "–" : write(plot.data[index + 1][at])}`);
    spot.textContent = parts.length ? `${shown(plot.data[0][at], span)} · ${parts.join(" · ")}` : "";
  }
  function draw(place, told = JSON.parse(place.dataset.lines)) {
    charts.get(place)?.plot.destroy();
    const plot = told.data[0].length ? new uPlot(options(place, told), told.data, place) : { destroy() {}, setSize() {} };
    charts.set(place, { plot, told });
  }
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) charts.get(target)?.plot.setSize({ width: target.clientWidth, height: target.clientHeight });
  });
  for (const place of document.querySelectorAll("[data-lines]")) {
    draw(place);
    sizes.observe(place);
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach(({ told }, place) => draw(place, told)));

  // Give a chart new data: {unit, labels, data} as charts.lines writes it.
  globalThis.drawLines = (place, told) => {
    const known = charts.get(place);
    const same = known?.plot.setData && known.told.labels.length === told.labels.length;
    if (!same) return draw(place, told);
    known.told = told;
    known.plot.setData(told.data);
  };
})();
