// The bytes of a line as text. What is not UTF-8 is written out as \xNN, so that it is seen and the
// lines around it are not harmed.

const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Text of `bytes[start..end)`. */
export function decode(bytes, start = 0, end = bytes.length) {
  const part = bytes.subarray(start, end);
  try {
    return strict.decode(part);
  } catch {
    return decodeBroken(part);
  }
}

function decodeBroken(bytes) {
  let text = '';
  let at = 0;
  while (at < bytes.length) {
    const length = sequenceLength(bytes, at);
    if (length === 0) {
      text += `\\x${bytes[at].toString(16).padStart(2, '0')}`;
      at += 1;
    } else {
      text += length === 1 ? String.fromCharCode(bytes[at]) : strict.decode(bytes.subarray(at, at + length));
      at += length;
    }
  }
  return text;
}

/** Length of the well-formed sequence at `at`; 0 where there is none. */
function sequenceLength(bytes, at) {
  const first = bytes[at];
  if (first < 0x80) return 1;
  let length;
  let low = 0x80;
  let high = 0xbf;
  if (first >= 0xc2 && first <= 0xdf) length = 2;
  else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    if (first === 0xe0) low = 0xa0;
    if (first === 0xed) high = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    if (first === 0xf0) low = 0x90;
    if (first === 0xf4) high = 0x8f;
  } else return 0;
  if (at + length > bytes.length) return 0;
  if (bytes[at + 1] < low || bytes[at + 1] > high) return 0;
  for (let i = 2; i < length; i += 1) {
    if (bytes[at + i] < 0x80 || bytes[at + i] > 0xbf) return 0;
  }
  return length;
}
