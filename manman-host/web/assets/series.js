// Numbers over time, in words and in rows.

/** The last, the mean and the highest of a series, in words. */
export function summary(series, format) {
  return series
    .map(({ label, values }) => {
      const known = values.filter((value) => value !== null);
      if (!known.length) return `${label} nothing measured`;
      const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
      return `${label} ${format(known.at(-1))} now, ${format(mean)} in the mean, ${format(Math.max(...known))} at most`;
    })
    .join('; ');
}

/** Rows of a table that says the same as the graphs: at most `most`, each the mean of its time. */
export function tabled({ from, step, series }, most = 24) {
  const length = Math.max(0, ...series.map((one) => one.values.length));
  const size = Math.max(1, Math.ceil(length / most));
  const rows = [];
  for (let begin = 0; begin < length; begin += size) {
    rows.push({
      at: from + begin * step,
      values: series.map(({ values }) => {
        const known = values.slice(begin, begin + size).filter((value) => value !== null && value !== undefined);
        return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
      }),
    });
  }
  return rows;
}
