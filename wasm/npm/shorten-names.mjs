// Shortens the names of imports and exports between WebAssembly and its glue. bindgen's names contain a hash each,
// which does not compress.

import { EXPORTS, IMPORTS, encoded, named, number, text, withSections } from "./wasm-file.mjs";

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
  const shortened = withSections(wasm, (id, section) => {
    return id === IMPORTS ? imports(section, short) : id === EXPORTS ? exports(section, short) : undefined;
  });
  const known = new RegExp(`\\b(${[...names.keys()].join("|")})\\b`, "g");
  return { wasm: shortened, glue: (text) => text.replace(known, (name) => names.get(name)) };
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
