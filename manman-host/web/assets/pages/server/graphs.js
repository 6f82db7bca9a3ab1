// What the server uses, over an hour, a day or a week.

import { Choice, Empty, Loaded, Section, Table, api, html, path, useEffect, useLoad, useMemo, useState } from '../../ui/index.js';
import { bytes, cores, rate } from '../../format.js';
import { Chart } from '../../chart.js';
import { tabled } from '../../series.js';

const RANGES = [
  { value: 'hour', label: 'Hour' },
  { value: 'day', label: 'Day' },
  { value: 'week', label: 'Week' },
];
const AGAIN_MS = { hour: 10_000, day: 60_000, week: 300_000 };

// On an idle server thousandths are all there is.
const asCores = (value) => (value < 0.1 ? `${Number(value.toFixed(3))} cores` : cores(Math.round(value * 1000)));
const asNumber = (value) => String(Number(value.toFixed(3)));
const asCount = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(1));

/** The graphs that there is something to draw for. */
export function graphsOf({ series, limits }) {
  const has = (values) => values?.some((value) => value !== null);
  const graphs = [
    { id: 'cpu', label: 'CPU', format: asCores, axis: asNumber, limit: limits?.cpu ?? null, series: [{ label: 'CPU', values: series.cpu ?? [], colour: '--accent' }] },
    { id: 'memory', label: 'Memory', format: bytes, limit: limits?.memory ?? null, series: [{ label: 'Memory', values: series.memory ?? [], colour: '--busy-fill' }] },
    {
      id: 'network', label: 'Network', format: rate, series: [
        { label: 'Received', values: series.rx ?? [], colour: '--good-fill' },
        { label: 'Sent', values: series.tx ?? [], colour: '--warn-fill' },
      ],
    },
    { id: 'players', label: 'Players', format: asCount, integer: true, series: [{ label: 'Players', values: series.players ?? [], colour: '--bad-fill' }] },
  ];
  return graphs.map((graph) => ({ ...graph, known: graph.series.some(({ values }) => has(values)) }));
}

/** `of` is `server` or `worker`: both keep the same history. */
export function Graphs({ server, of = 'server' }) {
  const [range, setRange] = useState('hour');
  const load = useLoad((signal) => api.get(`${path(of, server.id, 'metrics')}?range=${range}`, { signal }), [server.id, range]);
  const { reload } = load;
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && reload(), AGAIN_MS[range]);
    return () => clearInterval(timer);
  }, [range]);
  return html`<${Section} title="Use" actions=${html`<${Choice} label="How far back" hideLabel value=${range} options=${RANGES} onInput=${setRange} />`}>
    <${Loaded} of=${load} lines=${4} what="Loading the graphs">${(history) => html`<${Drawn} history=${history} />`}<//>
  <//>`;
}

function Drawn({ history }) {
  const graphs = useMemo(() => graphsOf(history), [history]);
  const { from, step_seconds: step } = history;
  const shown = graphs.filter((graph) => graph.known);
  if (!shown.length) return html`<${Empty} icon="cpu" title="Nothing has been measured in this time">While it runs, a sample is kept every ten seconds.<//>`;
  return html`<div class="charts">${shown.map(
      (graph) => html`<figure class="card chart-card" key=${graph.id}><figcaption>${graph.label}${graph.id === 'cpu' ? ' (cores)' : ''}${graph.limit ? html`<span class="muted"> of ${graph.format(graph.limit)}</span>` : null}</figcaption>
        <${Chart} label=${graph.label} from=${from} step=${step} series=${graph.series} format=${graph.format} axis=${graph.axis} limit=${graph.limit} integer=${graph.integer} /></figure>`,
    )}</div>
    <details class="chart-table"><summary>The numbers as a table</summary><${Numbers} from=${from} step=${step} graphs=${shown} /></details>`;
}

function Numbers({ from, step, graphs }) {
  const series = graphs.flatMap((graph) => graph.series.map((one) => ({ ...one, format: graph.format })));
  const rows = tabled({ from, step, series });
  const columns = [
    { id: 'at', label: 'From', main: true, cell: (row) => new Date(row.at * 1000).toLocaleString(undefined, { dateStyle: 'short', timeStyle: 'short' }) },
    ...series.map((one, i) => ({ id: one.label, label: one.label, class: 'num', cell: (row) => (row.values[i] === null ? '–' : one.format(one.label === 'Players' ? Math.round(row.values[i] * 10) / 10 : row.values[i])) })),
  ];
  return html`<${Table} label="Use over time" columns=${columns} items=${rows} keyOf=${(row) => row.at} />`;
}
