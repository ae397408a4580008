// Empties functions that nothing in the package needs, so that the optimizer removes what only they use.
//
// A panic ends the WebAssembly, and its message goes nowhere: so a panic is a trap, and needs no message. `{:?}` is for
// programs in Rust: it prints nothing here, and texts for users must not contain it (`Quoted` and `Elapsed` of the
// crate `hopmq-proto` show names and times; `cargo xtask tidy` looks for it).

import { CODE, bodies, encoded, functions, withSections } from "./wasm-file.mjs";

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
