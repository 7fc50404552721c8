// Draws the lines of a page with uPlot, and lets a reader ask them: hover or arrow keys read values, the switch
// of stacks shows and hides lines, dragging zooms and a double click zooms out. What is drawn is beside the
// static chart that it replaces. Shared by the report and the history.
(() => {
  "use strict";
  const root = document.documentElement;
  const MISSING = "–";

  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const isShown = (name) => document.getElementById(`show-${name}`)?.checked ?? true;

  /// Three significant digits, as in the tables.
  const number = (value) => {
    if (value === 0) return "0";
    const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
    return value.toFixed(Math.min(digits, 9));
  };
  const quantity = (value, unit) =>
    value == null ? MISSING : unit === "" ? number(value) : `${number(value)}${unit.startsWith("/") ? "" : " "}${unit}`;
  /// 2 is 99 %.
  const percentile = (tail) => `${(100 * (1 - 10 ** -tail)).toFixed(Math.max(0, Math.ceil(tail) - 1))} %`;
  const tick = (value) => (value == null ? "" : String(Number(value.toPrecision(6))));

  const axis = ({ label, unit, kind, ticks }, isWidth) => ({
    label: isWidth ? label : undefined,
    labelSize: 22,
    labelFont: "12px system-ui, sans-serif",
    font: "12px system-ui, sans-serif",
    stroke: () => colour("muted"),
    grid: { stroke: () => colour("grid"), width: 1 },
    ticks: { show: false },
    gap: 6,
    size: isWidth ? 30 : 66,
    ...(ticks.length > 0 && {
      splits: (plot) => fitting(plot, ticks).map(([value]) => value),
      values: (plot) => fitting(plot, ticks).map(([, text]) => text),
      filter: (plot, splits) => splits,
    }),
    ...(ticks.length === 0 && {
      values: (plot, splits) => splits.map((value) => (value == null ? "" : tick(value) + (isWidth ? "" : unitOf(unit)))),
    }),
    ...(kind === "log" && isWidth && { space: 30 }),
  });
  const unitOf = (unit) => (unit === "" || unit.startsWith("/") ? unit : ` ${unit}`);
  /// Ticks that have room for their labels.
  const fitting = (plot, ticks) => {
    const room = Math.max(1, Math.floor(plot.width / 64));
    if (ticks.length <= room) return ticks;
    const step = Math.ceil(ticks.length / room);
    return ticks.filter((_, place) => place % step === 0);
  };

  const scale = ({ kind }, isWidth, at) => ({
    time: false,
    distr: kind === "log" ? 3 : 1,
    ...(kind === "log" && isWidth && { range: [at[0] * 0.8, at[at.length - 1] * 1.25] }),
    ...(kind === "linear" && !isWidth && { range: (plot, low, high) => [Math.min(0, low), high > 0 ? high * 1.08 : 1] }),
  });

  const draw = (holder) => {
    const told = JSON.parse(holder.querySelector("script").textContent);
    const place = document.createElement("div");
    place.className = "live";
    holder.append(place);
    const options = holder.parentElement.querySelector(".options");
    const chosen = () => options?.querySelector(":checked")?.value ?? "all";
    const isSeen = ({ class: name, group = "" }) => isShown(name) && (group === "" || ["all", group].includes(chosen()));
    const height = () => (place.clientWidth < 520 ? 300 : 380);

    const plot = new uPlot(
      {
        width: place.clientWidth,
        height: height(),
        scales: { x: scale(told.x, true, told.at), y: scale(told.y, false) },
        axes: [axis(told.x, true), axis(told.y, false)],
        series: [
          { label: told.x.kind === "tail" ? "percentile" : told.x.label, value: (_, at) => (at == null ? MISSING : told.x.kind === "tail" ? percentile(at) : tick(at)) },
          ...told.series.map((series) => ({
            label: series.name,
            show: isSeen(series),
            stroke: () => colour(series.class),
            width: series.thin ? 1.25 : 2,
            dash: series.thin ? [2, 3] : series.doubtful ? [7, 5] : undefined,
            points: { show: told.at.length < 12 },
            spanGaps: true,
            value: (_, value) => quantity(value, told.y.unit),
          })),
        ],
        cursor: { focus: { prox: 24 }, drag: { x: true, y: false, dist: 6 }, points: { size: 7 } },
        focus: { alpha: 0.3 },
        legend: { markers: { width: 0, fill: (_, place) => (place === 0 ? "transparent" : colour(told.series[place - 1].class)) } },
      },
      [told.at, ...told.series.map(({ values }) => values)],
      place,
    );
    holder.classList.add("plotted");
    readable(plot, told);

    const refresh = () =>
      told.series.forEach((series, place) => plot.setSeries(place + 1, { show: isSeen(series) }));
    const observer = new ResizeObserver(() => {
      if (place.clientWidth > 0 && place.clientWidth !== plot.width) {
        plot.setSize({ width: place.clientWidth, height: height() });
      }
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
    area.setAttribute("aria-label", `${told.title}: arrow keys read values`);
    plot.root.querySelector(".u-legend").setAttribute("aria-live", "polite");
    area.addEventListener("keydown", ({ key }) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
      if (step === undefined) return;
      const next = Math.min(told.at.length - 1, Math.max(0, (plot.cursor.idx ?? -step) + step));
      plot.setCursor({ left: plot.valToPos(told.at[next], "x"), top: plot.over.clientHeight / 2 });
    });
  };

  // A long run has dozens of plots, and a reader sees two: each is drawn when it is about to be seen, the static
  // chart stands in its place until then.
  const plots = new Map();
  const drawNow = (holder) => {
    plots.get(holder)?.remove();
    plots.set(holder, draw(holder));
  };
  root.classList.add("scripted");
  const approaching = new IntersectionObserver(
    (seen) => {
      for (const { target } of seen.filter(({ isIntersecting }) => isIntersecting)) {
        approaching.unobserve(target);
        drawNow(target);
      }
    },
    { rootMargin: "800px 0px" },
  );
  document.querySelectorAll("[data-plot]").forEach((holder) => approaching.observe(holder));
  document.addEventListener("change", () => plots.forEach(({ refresh }) => refresh()));
  // Colours of markers are those of the scheme that they were made in.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => [...plots.keys()].forEach(drawNow));
  performance.mark("interactive");
})();
