// Loads our own module from the package. Node 20 takes a `.js` for CommonJS unless a package says otherwise.
import { copyFileSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = mkdtempSync(join(tmpdir(), "wakeful-"));
writeFileSync(join(folder, "package.json"), '{"type":"module"}');
for (const name of ["wakeful.js", "wakeful-agui.js"]) {
  copyFileSync(fileURLToPath(new URL(`../../../gateway/static/${name}`, import.meta.url)), join(folder, name));
}
export const { Wakeful, WakefulError, wakefulAgent } = await import(join(folder, "wakeful.js"));
