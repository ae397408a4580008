// Builds the example pages into `dist`, after the package; run by `cargo xtask wasm --examples`.

import { execFileSync } from "node:child_process";
import { copyFileSync, cpSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const npm = join(here, "../npm");
const { build } = createRequire(join(npm, "package.json"))("esbuild");

execFileSync(join(npm, "node_modules/.bin/tsc"), ["-p", here], { stdio: "inherit" });
const dist = join(here, "dist");
rmSync(dist, { recursive: true, force: true });
for (const page of ["chat", "dashboard"]) {
  mkdirSync(join(dist, page), { recursive: true });
  for (const file of ["index.html", `${page}.css`]) copyFileSync(join(here, page, file), join(dist, page, file));
  await build({
    entryPoints: [join(here, page, `${page}.ts`)], outfile: join(dist, page, `${page}.js`), bundle: true, format: "esm",
    target: "es2022", alias: { hopmq: join(npm, "dist/inline.js") }, logLevel: "warning",
  });
}
for (const file of ["index.html", "style.css"]) copyFileSync(join(here, file), join(dist, file));
if (existsSync(join(here, "rust/pkg"))) {
  cpSync(join(here, "rust/pkg"), join(dist, "rust"), { recursive: true });
  for (const page of ["index.html", "handlers.html"]) copyFileSync(join(here, "rust", page), join(dist, "rust", page));
}
console.log(`${dist}: serve it with the gateway, HOPMQ_GATEWAY_STATIC=${dist}`);
