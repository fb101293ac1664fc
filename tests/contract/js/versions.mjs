// Imports every package that the contract tests use and prints the pinned versions: a broken install shows here.
import { readFile } from "node:fs/promises";
import "@ag-ui/client";
import "@letta-ai/letta-client";
import "ai";
import "centrifuge";
import "rxjs";
import "ws";
import "zod";

const { dependencies } = JSON.parse(await readFile(new URL("package.json", import.meta.url)));
const found = {};
for (const name of Object.keys(dependencies)) {
  const manifest = new URL(`node_modules/${name}/package.json`, import.meta.url);
  found[name] = JSON.parse(await readFile(manifest)).version;
}
console.log(JSON.stringify({ dependencies, found }));
