// Reads and writes the sections of a WebAssembly file, and the encodings in them.

export const IMPORTS = 2;
export const EXPORTS = 7;
export const CODE = 10;
const CUSTOM = 0;

/** Returns the sections as `[id, reader of their bytes]`. */
export function sections(wasm) {
  const file = { bytes: wasm, at: 8 };
  const found = [];
  while (file.at < wasm.length) {
    const id = wasm[file.at++];
    const size = number(file);
    found.push([id, { bytes: wasm.subarray(file.at, file.at + size), at: 0 }]);
    file.at += size;
  }
  return found;
}

/** Returns the file with the sections that `change` returns, which gets id and reader of each. */
export function withSections(wasm, change) {
  const changed = sections(wasm).map(([id, section]) => {
    const bytes = change(id, section) ?? section.bytes;
    return Buffer.concat([Buffer.from([id]), encoded(bytes.length), bytes]);
  });
  return Buffer.concat([wasm.subarray(0, 8), ...changed]);
}

/** Returns the names of the functions by their numbers, and how many functions are imported. */
export function functions(wasm) {
  const names = new Map();
  let imported = 0;
  for (const [id, section] of sections(wasm)) {
    if (id === IMPORTS) imported = number(section);
    if (id !== CUSTOM || text(section) !== "name") continue;
    while (section.at < section.bytes.length) {
      const kind = section.bytes[section.at++];
      const end = number(section) + section.at;
      for (let left = kind === 1 ? number(section) : 0; left > 0; left--) names.set(number(section), text(section));
      section.at = end;
    }
  }
  return { names, imported };
}

/** Returns the bodies of the functions that are not imported. */
export function bodies(code) {
  return Array.from({ length: number(code) }, () => {
    const size = number(code);
    code.at += size;
    return code.bytes.subarray(code.at - size, code.at);
  });
}

/** Reads an unsigned LEB128 number. */
export function number(reader) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = reader.bytes[reader.at++];
    value += (byte & 127) * 2 ** shift;
    if (byte < 128) return value;
  }
}

export function encoded(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value & 127) | 128);
  return Buffer.from([...bytes, value]);
}

export function text(reader) {
  const length = number(reader);
  reader.at += length;
  return Buffer.from(reader.bytes.subarray(reader.at - length, reader.at)).toString();
}

export function named(name) {
  const bytes = Buffer.from(name);
  return Buffer.concat([encoded(bytes.length), bytes]);
}
