// Draws the lines of a history with uPlot: a place on the axis is a run, a band is a line's 95 % interval, a dashed
// upright is a change of level. Hover or arrow keys read values, the switch of stacks shows and hides lines, dragging
// zooms and a double click zooms out.
document.addEventListener("DOMContentLoaded", () => {
  "use strict";
  const root = document.documentElement;
  const MISSING = "–";
  const FONT = "12px system-ui, sans-serif";

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const isShown = ({ class: name }) => document.getElementById(`show-${name}`)?.checked ?? true;

  /// Four significant digits: neighbouring runs differ by little.
  const number = (value) => {
    if (value === 0) return "0";
    const digits = Math.max(0, 3 - Math.floor(Math.log10(Math.abs(value))));
    return value.toFixed(Math.min(digits, 9));
  };
  const quantity = (value, unit) =>
    value == null ? MISSING : `${number(value)}${unit === "" || unit.startsWith("/") ? unit : ` ${unit}`}`;

  /// Runs whose names have room.
  const splits = (plot, low, high) => {
    const room = Math.max(1, Math.floor(plot.width / 72));
    const step = Math.max(1, Math.ceil((high - low) / room));
    const places = [];
    for (let place = Math.ceil(low); place <= high; place += step) places.push(place);
    return places;
  };

  const extent = (told, from, to) => {
    let [low, high] = [Infinity, -Infinity];
    for (const { values, low: lows, high: highs } of told.series.filter(isShown)) {
      for (let run = Math.max(0, Math.ceil(from)); run <= Math.min(to, values.length - 1); run += 1) {
        if (values[run] == null) continue;
        low = Math.min(low, lows[run] ?? values[run]);
        high = Math.max(high, highs[run] ?? values[run]);
      }
    }
    if (low > high) return [0, 1];
    const margin = high > low ? (high - low) * 0.12 : Math.max(Math.abs(high) * 0.02, 1e-9);
    return [low - margin, high + margin];
  };

  /// Intervals, beneath the lines.
  const bands = (plot, told) => {
    const { ctx } = plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
    ctx.clip();
    ctx.globalAlpha = 0.16;
    for (const { class: name, low, high } of told.series.filter(isShown)) {
      ctx.fillStyle = colour(name);
      for (const [from, to] of stretches(low)) {
        const at = (run, value) => [plot.valToPos(run, "x", true), plot.valToPos(value, "y", true)];
        // One run alone has a bar of its own.
        const wide = from === to ? 0.12 : 0;
        ctx.beginPath();
        for (let run = from; run <= to; run += 1) ctx.lineTo(...at(run - wide, high[run]));
        if (wide) ctx.lineTo(...at(from + wide, high[from]));
        if (wide) ctx.lineTo(...at(from + wide, low[from]));
        for (let run = to; run >= from; run -= 1) ctx.lineTo(...at(run - wide, low[run]));
        ctx.closePath();
        ctx.fill();
      }
    }
    ctx.restore();
  };
  /// First and last of runs in a row that have a value.
  const stretches = (values) => {
    const found = [];
    values.forEach((value, run) => {
      if (value == null) return;
      const last = found.at(-1);
      if (last && last[1] === run - 1) last[1] = run;
      else found.push([run, run]);
    });
    return found;
  };

  /// Changes of level, over the lines: an arrow tells up from down, its colour worse from better.
  const marks = (plot, told) => {
    const { ctx } = plot;
    const ratio = devicePixelRatio;
    ctx.save();
    for (const { run, series, worse, up } of told.changes) {
      if (!isShown(told.series[series])) continue;
      const x = plot.valToPos(run - 0.5, "x", true);
      if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) continue;
      ctx.strokeStyle = ctx.fillStyle = colour(worse ? "fault" : "accent");
      ctx.lineWidth = 1.5 * ratio;
      ctx.setLineDash([4 * ratio, 4 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, plot.bbox.top + 10 * ratio);
      ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
      ctx.stroke();
      ctx.setLineDash([]);
      const [tip, base] = up ? [0, 9] : [9, 0];
      ctx.beginPath();
      ctx.moveTo(x, plot.bbox.top + tip * ratio);
      ctx.lineTo(x - 5 * ratio, plot.bbox.top + base * ratio);
      ctx.lineTo(x + 5 * ratio, plot.bbox.top + base * ratio);
      ctx.closePath();
      ctx.fill();
    }
    ctx.restore();
  };

  const draw = (holder) => {
    const told = JSON.parse(holder.querySelector("script").textContent);
    const place = document.createElement("div");
    place.className = "live";
    holder.append(place);
    const height = () => (place.clientWidth < 520 ? 240 : 300);
    const last = told.runs.length - 1;
    const axis = { font: FONT, stroke: () => colour("muted"), grid: { stroke: () => colour("grid"), width: 1 }, ticks: { show: false }, gap: 6 };
    const plot = new uPlot(
      {
        width: place.clientWidth,
        height: height(),
        scales: {
          x: { time: false, range: (_, low, high) => (low === high ? [-0.5, last + 0.5] : [low, high]) },
          y: { range: (self) => extent(told, self.scales.x.min ?? 0, self.scales.x.max ?? last) },
        },
        axes: [
          { ...axis, size: 30, splits: (self, _, low, high) => splits(self, low, high), values: (_, at) => at.map((run) => told.commits[run] ?? "") },
          { ...axis, size: 64, values: (_, at) => at.map((value) => quantity(Number(value.toPrecision(4)), "")) },
        ],
        series: [
          { label: "run", value: (_, run) => (run == null ? MISSING : told.runs[run]) },
          ...told.series.map((series) => ({
            label: series.name,
            show: isShown(series),
            stroke: () => colour(series.class),
            width: 2,
            dash: series.dashed ? [6, 4] : undefined,
            points: { show: true, size: told.runs.length > 60 ? 4 : 6, fill: () => colour(series.class) },
            value: (_, value) => quantity(value, told.unit),
          })),
        ],
        cursor: { focus: { prox: 24 }, drag: { x: true, y: false, dist: 6 }, points: { size: 9 } },
        focus: { alpha: 0.35 },
        legend: { markers: { width: 0, fill: (_, at) => (at === 0 ? "transparent" : colour(told.series[at - 1].class)) } },
        hooks: { drawAxes: [(self) => bands(self, told)], draw: [(self) => marks(self, told)] },
      },
      [told.runs.map((_, run) => run), ...told.series.map(({ values }) => values)],
      place,
    );
    readable(plot, told);
    const refresh = () => {
      told.series.forEach((series, at) => plot.setSeries(at + 1, { show: isShown(series) }));
      plot.redraw(false, true);
    };
    const observer = new ResizeObserver(() => {
      if (place.clientWidth > 0 && place.clientWidth !== plot.width) plot.setSize({ width: place.clientWidth, height: height() });
    });
    observer.observe(place);
    const remove = () => {
      observer.disconnect();
      plot.destroy();
      place.remove();
    };
    return { refresh, remove };
  };

  /// Arrow keys move the reading; the legend tells it, also to those who do not see it.
  const readable = (plot, told) => {
    const area = plot.root.querySelector(".u-wrap");
    area.tabIndex = 0;
    area.setAttribute("role", "group");
    area.setAttribute("aria-label", `${told.title}: arrow keys read runs`);
    plot.root.querySelector(".u-legend").setAttribute("aria-live", "polite");
    area.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      const next = Math.min(told.runs.length - 1, Math.max(0, (plot.cursor.idx ?? (step > 0 ? -1 : told.runs.length)) + step));
      plot.setCursor({ left: plot.valToPos(next, "x"), top: plot.over.clientHeight / 2 });
    });
  };

  let plots = [];
  const drawAll = () => {
    plots.forEach(({ remove }) => remove());
    plots = [...document.querySelectorAll("[data-history]")].map(draw);
  };
  drawAll();
  // Colours of markers are those of the scheme that they were made in.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

  const machines = document.getElementById("machines");
  const choose = () => {
    for (const section of document.querySelectorAll("[data-machine]")) {
      section.hidden = machines.value !== "" && section.dataset.machine !== machines.value;
    }
  };
  machines?.closest("p").removeAttribute("hidden");
  document.addEventListener("change", ({ target }) => {
    if (target === machines) choose();
    plots.forEach(({ refresh }) => refresh());
  });
  performance.mark("drawn");
});
