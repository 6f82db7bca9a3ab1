// Records of a log as the worker stores them: `SEQ TIME LETTER TEXT\n`, one line each.

export const STDOUT = 0x6f; // o
export const STDERR = 0x65; // e
export const MANAGER = 0x6d; // m

const LF = 10;
const SPACE = 32;

/**
 * Calls `take(seq, timeMs, letter, textStart, textEnd)` for each record of a chunk. Bytes that are
 * no record are passed over.
 */
export function eachRecord(bytes, take) {
  const length = bytes.length;
  let at = 0;
  while (at < length) {
    let end = bytes.indexOf(LF, at);
    if (end < 0) end = length;
    const start = at;
    at = end + 1;
    let seq = 0;
    let i = start;
    for (; i < end && bytes[i] !== SPACE; i += 1) {
      const digit = bytes[i] - 48;
      if (digit < 0 || digit > 9) break;
      seq = seq * 10 + digit;
    }
    if (i === start || i >= end || bytes[i] !== SPACE) continue;
    const time = i + 1;
    const timeEnd = bytes.indexOf(SPACE, time);
    if (timeEnd < 0 || timeEnd + 2 >= end || bytes[timeEnd + 2] !== SPACE) continue;
    const letter = bytes[timeEnd + 1];
    if (letter !== STDOUT && letter !== STDERR && letter !== MANAGER) continue;
    take(seq, readTime(bytes, time, timeEnd), letter, timeEnd + 3, end);
  }
}

/** Milliseconds since 1970 of `YYYY-MM-DDTHH:MM:SS[.fraction]Z`; NaN where it is something else. */
export function readTime(bytes, start, end) {
  if (end - start < 20) return NaN;
  const two = (at) => (bytes[at] - 48) * 10 + (bytes[at + 1] - 48);
  const year = two(start) * 100 + two(start + 2);
  let milli = 0;
  if (bytes[start + 19] === 0x2e) {
    let scale = 100;
    for (let i = start + 20; i < end && scale >= 1; i += 1) {
      const digit = bytes[i] - 48;
      if (digit < 0 || digit > 9) break;
      milli += digit * scale;
      scale /= 10;
    }
  }
  return Date.UTC(year, two(start + 5) - 1, two(start + 8), two(start + 11), two(start + 14), two(start + 17), milli);
}

/** Number of the last record of a chunk, without reading the others; NaN where there is none. */
export function lastSeq(bytes) {
  let end = bytes.length;
  while (end > 0) {
    let start = end - 1;
    while (start > 0 && bytes[start - 1] !== LF) start -= 1;
    let seq = NaN;
    eachRecord(bytes.subarray(start, end), (found) => {
      seq = found;
    });
    if (!Number.isNaN(seq)) return seq;
    end = start;
  }
  return NaN;
}
