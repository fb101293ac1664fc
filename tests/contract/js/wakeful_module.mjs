// Loads our own module from the package. Node 20 takes a `.js` for CommonJS unless a package says otherwise.
import { copyFileSync, mkdtempSync, readdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const source = fileURLToPath(new URL("../../../gateway/static", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "wakeful-"));
writeFileSync(join(folder, "package.json"), '{"type":"module"}');
for (const name of readdirSync(source).filter((name) => name.endsWith(".js"))) {
  copyFileSync(join(source, name), join(folder, name));
}
const module = await import(join(folder, "wakeful.js"));
export const { Wakeful, WakefulError, wakefulAgent } = module;
export const names = Object.keys(module);
