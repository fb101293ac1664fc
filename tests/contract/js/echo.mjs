// Prints its argument, then every line it is told, until it is told to end.
import { createInterface } from "node:readline";

console.log(process.argv[2]);
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "end") process.exit(0);
  console.log(line);
}
