// Type-checks programs against the installed package as a user's compiler does: with the settings of `tsc --init` and
// without `skipLibCheck`. The programs are one that is written here, and each TypeScript example of the README.

import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Report } from "./lib/report.mjs";

const wasm = fileURLToPath(new URL("..", import.meta.url));
const tsc = join(wasm, "npm/node_modules/typescript/bin/tsc");

const PROGRAM = `
import { type AmqpError, type Message, type Session, connect, json } from "hopmq";
import { init } from "hopmq/slim";

init(new URL("https://example.com/hopmq.wasm"));
export async function run(): Promise<void> {
  await using session: Session = await connect("wss://example.com/ws/amqp", { waitForBroker: 30_000 });
  session.on("closed", (error: AmqpError | undefined) => console.log(error?.code));
  const queue = await session.queue("jobs", { durable: true }, json<{ id: number }>());
  for await (const message of queue.consume()) {
    const checked: Message<{ id: number }> = message;
    console.log(checked.body.id, checked.properties.headers?.["attempt"]);
    // @ts-expect-error: the type of the body is known.
    message.body.missing;
    message.ack();
  }
}
`;

/** Declarations that the README's examples leave to the reader. */
const PRELUDE = `
declare function getToken(): Promise<string>;
declare function work(job: Job): Promise<void>;
interface Job { id: number; text: string }
`;

const COMPILERS = {
  "a bundler's resolution": { module: "esnext", moduleResolution: "bundler", target: "es2022" },
  "Node's resolution": { module: "nodenext", moduleResolution: "nodenext", target: "es2022" },
  "an older target": { module: "esnext", moduleResolution: "bundler", target: "es2017", lib: ["es2018", "dom"] },
};

/** Type-checks in the folder `app`, where the package is installed. */
export function types(app) {
  const report = new Report("TypeScript");
  const readme = readFileSync(join(wasm, "README.md"), "utf8");
  const examples = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code]) => code + PRELUDE);
  report.add("the README has TypeScript examples", examples.length > 0 ? undefined : "there are none");
  for (const [name, compiler] of Object.entries(COMPILERS)) {
    const folder = join(app, "types", compiler.target + compiler.module);
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "program.ts"), PROGRAM);
    // Top-level await needs a newer target than the program does.
    const target = compiler.target === "es2017" ? [] : examples;
    target.forEach((code, i) => writeFileSync(join(folder, `readme${i + 1}.ts`), code));
    const compilerOptions = { ...compiler, strict: true, noEmit: true, types: [] };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions }));
    const start = performance.now();
    const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, "-p", folder], { encoding: "utf8" });
    const failure = status === 0 ? undefined : `${stdout}${stderr}`;
    report.add(`tsc accepts the package with ${name}`, failure, performance.now() - start);
  }
  return report.finish();
}
