// Shortens the names of imports and exports between WebAssembly and its glue. bindgen's names contain a hash each,
// which does not compress.

const IMPORTS = 2;
const EXPORTS = 7;
/** Names that bindgen generated; nothing outside the glue refers to them. */
const GENERATED = /^(__wb|wasm_bindgen__|__externref)/;

/** Returns the shortened WebAssembly, and a function that shortens the same names in the glue's source. */
export function shortenNames(wasm) {
  const names = new Map();
  const short = (name) => {
    if (!GENERATED.test(name)) return name;
    if (!names.has(name)) names.set(name, `$${names.size.toString(36)}`);
    return names.get(name);
  };
  const reader = { bytes: wasm, at: 8 };
  const parts = [wasm.subarray(0, 8)];
  while (reader.at < wasm.length) {
    const id = wasm[reader.at++];
    const size = number(reader);
    const section = { bytes: wasm.subarray(reader.at, reader.at + size), at: 0 };
    reader.at += size;
    const bytes = id === IMPORTS ? imports(section, short) : id === EXPORTS ? exports(section, short) : section.bytes;
    parts.push(Buffer.from([id]), encoded(bytes.length), bytes);
  }
  const known = new RegExp(`\\b(${[...names.keys()].join("|")})\\b`, "g");
  return { wasm: Buffer.concat(parts), glue: (text) => text.replace(known, (name) => names.get(name)) };
}

function imports(section, short) {
  const count = number(section);
  const parts = [encoded(count)];
  for (let i = 0; i < count; i++) {
    const [module, name, kind] = [text(section), text(section), section.bytes[section.at++]];
    if (kind !== 0) throw new Error(`unexpected import of kind ${kind}: bindgen imports only functions`);
    parts.push(named(module), named(short(name)), Buffer.from([kind]), encoded(number(section)));
  }
  return Buffer.concat(parts);
}

function exports(section, short) {
  const count = number(section);
  const parts = [encoded(count)];
  for (let i = 0; i < count; i++) {
    const [name, kind] = [text(section), section.bytes[section.at++]];
    parts.push(named(short(name)), Buffer.from([kind]), encoded(number(section)));
  }
  return Buffer.concat(parts);
}

/** Reads an unsigned LEB128 number. */
function number(reader) {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = reader.bytes[reader.at++];
    value += (byte & 127) * 2 ** shift;
    if (byte < 128) return value;
  }
}

function encoded(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value & 127) | 128);
  return Buffer.from([...bytes, value]);
}

function text(reader) {
  const length = number(reader);
  reader.at += length;
  return Buffer.from(reader.bytes.subarray(reader.at - length, reader.at)).toString();
}

function named(name) {
  const bytes = Buffer.from(name);
  return Buffer.concat([encoded(bytes.length), bytes]);
}
