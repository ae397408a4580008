// Builds `dist` from bindgen's output in `pkg`; run by `cargo xtask wasm`. `--quick` skips optimizing the WebAssembly.

import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { shortenNames } from "./shorten-names.mjs";
import { snip } from "./snip.mjs";

// The goal and the limit of the package's size, in bytes after gzip. Most of it is the core, with its recovery,
// timeouts and error texts.
const GOAL = 100 * 1024;
const LIMIT = 165 * 1024;
// The WebAssembly features of every browser of the last three years. The optimizer's own list is ahead of browsers.
const FEATURES = [
  "bulk-memory", "sign-ext", "mutable-globals", "nontrapping-float-to-int", "reference-types", "multivalue",
];

const here = new URL(".", import.meta.url).pathname;
process.chdir(here);
const quick = process.argv.includes("--quick");

if (quick) {
  copyFileSync("pkg/hopmq_bg.wasm", "pkg/hopmq.wasm");
} else {
  const features = FEATURES.map((name) => `--enable-${name}`);
  // Stronger passes shrink the file, but not after gzip. Instances of one generic function are alike, and gzip finds
  // that where they are neighbours, by their names.
  const passes = ["-O1", "--dae-optimizing", "--duplicate-function-elimination", "--reorder-functions-by-name"];
  passes.push("--strip-debug", "--strip-producers", "--strip-target-features");
  writeFileSync("pkg/snipped.wasm", snip(readFileSync("pkg/hopmq_bg.wasm")));
  const files = ["pkg/snipped.wasm", "-o", "pkg/hopmq.wasm"];
  execFileSync("node_modules/.bin/wasm-opt", [...passes, ...features, ...files], { stdio: "inherit" });
}
const short = shortenNames(readFileSync("pkg/hopmq.wasm"));
writeFileSync("pkg/hopmq.wasm", short.wasm);
writeFileSync("pkg/hopmq.wasm.gz", gzipSync(short.wasm, { level: 9 }));
execFileSync("node_modules/.bin/tsc", ["-p", "."], { stdio: "inherit" });

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist");
cpSync("types", "dist", { recursive: true });
copyFileSync("pkg/hopmq.wasm", "dist/hopmq.wasm");
copyFileSync("../README.md", "README.md");
for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) copyFileSync(`../../${name}`, name);

const glue = {
  name: "glue",
  setup({ onLoad }) {
    onLoad({ filter: /pkg\/hopmq\.js$/ }, ({ path }) => ({ contents: short.glue(readFileSync(path, "utf8")) }));
  },
};
const shared = {
  plugins: [glue], absWorkingDir: here, bundle: true, minify: true, format: "esm", target: "es2022", outdir: "dist",
  logLevel: "warning",
};
const external = { ...shared, external: ["node:*", "*.wasm"] };
// Node prints the source line of an uncaught error, so the lines must be short.
const node = { ...external, lineLimit: 120 };
await Promise.all([
  build({ ...shared, entryPoints: { inline: "src/inline.ts", worker: "src/inline.ts" }, loader: { ".gz": "base64" } }),
  build({ ...external, entryPoints: ["src/slim.ts", "src/workerd.ts"] }),
  build({ ...node, entryPoints: ["src/node.ts"] }),
]);

const size = (file) => gzipSync(readFileSync(`dist/${file}`), { level: 9 }).length;
const [wasm, slim, inline] = ["hopmq.wasm", "slim.js", "inline.js"].map(size);
const total = wasm + slim;
const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;
console.log(`gzip: WebAssembly ${kib(wasm)} + JavaScript ${kib(slim)} = ${kib(total)}; all in one file ${kib(inline)}`);
console.log(`goal ${kib(GOAL)}: ${total <= GOAL ? "met" : "missed"}; limit ${kib(LIMIT)}`);
writeFileSync("pkg/size.json", JSON.stringify({ wasm, js: slim, inline }));
if (total > LIMIT && !quick) {
  console.error(`the package is ${kib(total - LIMIT)} above its size limit`);
  process.exitCode = 1;
}
// The size differs slightly between machines.
const documented = Number(/after gzip \| (\d+) KiB/.exec(readFileSync("../README.md", "utf8"))?.[1]);
if (!(Math.abs(documented - total / 1024) <= 3) && !quick) {
  console.error(`wasm/README.md says ${documented} KiB after gzip, but the package has ${kib(total)}: update it`);
  process.exitCode = 1;
}
