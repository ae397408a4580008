// Checks that every scenario of `tests/scenarios` runs here too or is listed in `scenarios/absent.js`, and that
// `absent.js` and `wasm/README.md` name only scenarios that exist. Needs no build and no broker:
// `node wasm/tests/scenario-list.mjs`.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Report } from "./lib/report.mjs";
import { absent, otherClientApis } from "./scenarios/absent.js";
import { files } from "./scenarios/all.js";

const rustFolder = fileURLToPath(new URL("../../tests/scenarios", import.meta.url));
const readme = fileURLToPath(new URL("../README.md", import.meta.url));

export function checkScenarioList() {
  const report = new Report("the list of scenarios");
  const here = new Set(Object.values(files).flatMap((file) => Object.keys({ ...file.scenarios, ...file.alone })));
  const rust = new Set();
  const rustFiles = readdirSync(rustFolder).filter((name) => name.endsWith(".rs"));
  for (const file of rustFiles.filter((name) => !(name in otherClientApis))) {
    const text = readFileSync(join(rustFolder, file), "utf8");
    for (const [, name] of text.matchAll(/#\[scenario[^\]]*\]\s+async fn (\w+)/g)) {
      rust.add(name);
      const listed = here.has(name) || name in absent;
      report.add(`${file}: ${name}`, listed ? undefined : "neither in wasm/tests/scenarios nor in absent.js");
    }
  }
  for (const [name, reason] of Object.entries(absent)) {
    const named = (reason.match(/\w+/g) ?? []).filter((word) => word.split("_").length > 3);
    const unknown = named.find((word) => !here.has(word));
    let failure;
    if (!rust.has(name)) failure = "tests/scenarios has no such scenario: rename or remove it";
    else if (here.has(name)) failure = "this scenario runs here: remove it";
    else if (unknown !== undefined) failure = `its reason names ${unknown}, which does not run here`;
    report.add(`absent.js: ${name}`, failure);
  }
  for (const file of Object.keys(otherClientApis)) {
    report.add(`absent.js: ${file}`, rustFiles.includes(file) ? undefined : "tests/scenarios has no such file");
  }
  for (const [, name] of readFileSync(readme, "utf8").matchAll(/`(\w+(?:_\w+){3,})`/g)) {
    report.add(`README.md: ${name}`, here.has(name) ? undefined : "no scenario here has this name");
  }
  return report.finish();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exit(checkScenarioList() ? 0 : 1);
