// Graphs over time, drawn by uPlot on a canvas, in the colours of the theme; the same numbers as a
// table for whoever does not see them.

import uPlot from './vendor/uplot.js';
import { summary } from './series.js';
import { html, useEffect, useLayoutEffect, useRef, useSignal, theme } from './ui/index.js';

let styled = false;
/** uPlot's own sheet is fetched when the first graph is shown. */
function sheet() {
  if (styled) return;
  styled = true;
  const link = document.createElement('link');
  link.rel = 'stylesheet';
  link.href = new URL('./vendor/uplot.css', import.meta.url);
  document.head.append(link);
}

/** The colours that CSS words stand for now: a canvas knows no custom properties. */
function resolve(element, words) {
  const probe = document.createElement('span');
  element.append(probe);
  const found = words.map((word) => {
    probe.style.color = `var(${word})`;
    return getComputedStyle(probe).color;
  });
  probe.remove();
  return found;
}

const faded = (colour) => colour.replace(/^rgb\((.*)\)$/, 'rgb($1 / 14%)').replace(/,/g, ' ');

const darkQuery = matchMedia('(prefers-color-scheme: dark)');

/**
 * `series`: `{label, values, colour}` with `null` where nothing was measured; `from` in seconds since
 * 1970, `step` in seconds, `format(value)` for axis and legend, `limit` a line at the top.
 */
export function Chart({ label, from, step, series, format, axis = format, limit = null, integer = false }) {
  const place = useRef(null);
  const plot = useRef(null);
  const chosen = useSignal(theme);
  const names = series.map((one) => `${one.label} ${one.colour}`).join();

  useLayoutEffect(() => {
    sheet();
    const element = place.current;
    const draw = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(element, { series, format, axis, integer }), data({ from, step, series }), element);
      scale(plot.current, series, limit);
    };
    draw();
    const observer = new ResizeObserver(() => {
      if (element.clientWidth && plot.current.width !== element.clientWidth) plot.current.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    observer.observe(element);
    darkQuery.addEventListener('change', draw);
    return () => {
      observer.disconnect();
      darkQuery.removeEventListener('change', draw);
      plot.current.destroy();
      plot.current = null;
    };
  }, [chosen, names, step]);

  useEffect(() => {
    if (!plot.current) return;
    plot.current.setData(data({ from, step, series }), false);
    scale(plot.current, series, limit);
  }, [from, step, series, limit]);

  return html`<div class="chart" role="img" aria-label=${`${label}: ${summary(series, format)}`} ref=${place}></div>`;
}

const HEIGHT = 150;

function data({ from, step, series }) {
  const length = Math.max(...series.map((one) => one.values.length), 0);
  return [Array.from({ length }, (_, i) => from + i * step), ...series.map((one) => one.values)];
}

function scale(plot, series, limit) {
  const [times] = plot.data;
  if (!times.length) return;
  const top = Math.max(0, ...series.flatMap((one) => one.values.filter((value) => value !== null)));
  // A limit far above would press the line flat.
  const most = limit && top > limit / 4 ? Math.max(limit, top) : top;
  plot.batch(() => {
    plot.setScale('x', { min: times[0], max: times.at(-1) });
    plot.setScale('y', { min: 0, max: most > 0 ? most * 1.1 : 1 });
  });
  // Nobody points at it: the newest is told.
  const last = Math.max(...series.map((one) => one.values.findLastIndex((value) => value !== null)));
  if (plot.cursor.idx === null || plot.cursor.idx === undefined) plot.setLegend({ idx: last < 0 ? null : last });
}

const DAY_SECONDS = 86_400;

/** A moment on the axis: of more than a day, with its day. */
function moment(at, span) {
  const date = new Date(at * 1000);
  return span > DAY_SECONDS * 1.5 ? date.toLocaleDateString(undefined, { weekday: 'short', day: 'numeric' }) : date.toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', hour12: false });
}

function options(element, { series, format, axis, integer }) {
  const [text, line, ...colours] = resolve(element, ['--muted', '--line', ...series.map((one) => one.colour)]);
  const font = '11px system-ui, sans-serif';
  const grid = { stroke: line, width: 1 };
  return {
    width: element.clientWidth || 300,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { live: true },
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: true }, y: { auto: false } },
    axes: [
      { stroke: text, font, grid: { show: false }, ticks: { show: false }, size: 26, space: 70, values: (plot, times) => times.map((at) => moment(at, plot.scales.x.max - plot.scales.x.min)) },
      { stroke: text, font, grid, ticks: { show: false }, size: 64, space: 34, incrs: integer ? [1, 2, 5, 10, 20, 50, 100, 200, 500] : undefined, values: (_, values) => values.map((value) => axis(value)) },
    ],
    series: [
      { label: 'Time', value: (_, at) => (at === null ? '–' : new Date(at * 1000).toLocaleString(undefined, { dateStyle: 'short', timeStyle: 'short' })) },
      ...series.map((one, i) => ({
        label: one.label,
        stroke: colours[i],
        fill: i === 0 ? faded(colours[i]) : undefined,
        width: 1.75,
        spanGaps: false,
        points: { show: false },
        value: (_, value) => (value === null ? '–' : format(value)),
      })),
    ],
  };
}
