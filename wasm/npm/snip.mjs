// Empties functions that nothing in the package needs, so that the optimizer removes what only they use.
//
// A panic ends the WebAssembly, and its message goes nowhere: so a panic is a trap, and needs no message. `{:?}` is for
// programs in Rust: it prints nothing here, and texts for users must not contain it (`Quoted` and `Elapsed` of the
// crate `hopmq-proto` show names and times).

import { CODE, DATA, bodies, encoded, functions, number, withSections } from "./wasm-file.mjs";

const CORE = "(core|alloc|std|hashbrown)(\\[\\w+\\])?::";
const PANICS = new RegExp([
  `^<?${CORE}panicking::(?!catch_unwind|try)`, `^${CORE}(result|option)::(unwrap|expect)_failed`,
  `^${CORE}str::slice_error_fail`,
  `^${CORE}slice::index::slice_\\w*fail`, `^${CORE}cell::(lazy::)?panic_`,
  `^${CORE}raw_vec::(handle_error|capacity_overflow)`,
  `^${CORE}alloc::(handle_alloc_error|rust_oom|default_alloc_error_hook)`, `^${CORE}thread::local::panic_access_error`,
  `^<${CORE}raw::Fallibility>::capacity_overflow`,
  "::(len_mismatch_fail|assert_failed|panic_on_ord_violation)(::h\\w{16})?$",
  "^__rustc(\\[\\w+\\])?::(rust_panic|__rust_start_panic|rust_begin_unwind)$", "^bytes::panic_",
].join("|"));
const DEBUG = new RegExp(`^<.* as ${CORE}fmt::Debug>::fmt(::h\\w{16})?$`);
// No locals; `unreachable`, or the constant 0, which is `Ok(())`.
const TRAP = Buffer.from([0, 0x00, 0x0b]);
const OK = Buffer.from([0, 0x41, 0, 0x0b]);

/** Returns the WebAssembly with those functions emptied. It must have the names of its functions. */
export function snip(wasm) {
  const { names, imported } = functions(wasm);
  let count = 0;
  const snipped = withSections(wasm, (id, section) => {
    if (id === DATA) return withoutLocations(section);
    if (id !== CODE) return undefined;
    const changed = bodies(section).map((body, index) => {
      const name = names.get(index + imported) ?? "";
      const empty = PANICS.test(name) ? TRAP : DEBUG.test(name) ? OK : undefined;
      if (empty !== undefined) count++;
      return empty ?? body;
    });
    return Buffer.concat([encoded(changed.length), ...changed.flatMap((body) => [encoded(body.length), body])]);
  });
  // The names depend on the compiler; without them, the package would only be larger.
  if (count < 50) throw new Error(`found only ${count} functions of panics and debugging: see snip.mjs`);
  return snipped;
}

/** Returns the data with zeros for the places in the source that panics name: path, length, line and column. */
function withoutLocations(section) {
  const bytes = Buffer.from(section.bytes);
  const paths = new Set();
  const segments = [];
  section.at = 0;
  for (let left = number(section); left > 0; left--) {
    // Memory 0, at a constant of one number: `i32.const` and `end`.
    if (section.bytes[section.at++] !== 0 || section.bytes[section.at++] !== 0x41) throw new Error("unknown segment");
    const address = number(section);
    section.at++;
    const size = number(section);
    segments.push({ address, data: bytes.subarray(section.at, section.at + size) });
    section.at += size;
  }
  for (const { address, data } of segments) {
    for (const { 0: path, index } of data.toString("latin1").matchAll(/[\w./-]+\.rs(?=\0)/g)) {
      // Another text may end where the path begins.
      for (let skipped = 0; skipped < path.length; skipped++) {
        paths.add(`${address + index + skipped} ${path.length - skipped}`);
      }
    }
  }
  for (const { data } of segments) {
    for (let at = 0; at + 16 <= data.length; at += 4) {
      const [start, length] = [data.readUInt32LE(at), data.readUInt32LE(at + 4)];
      if (!paths.has(`${start} ${length}`)) continue;
      data.fill(0, at, at + 16);
      const holder = segments.find(({ address, data: { length: size } }) => start >= address && start < address + size);
      holder.data.fill(0, start - holder.address, start - holder.address + length);
    }
  }
  return bytes;
}
