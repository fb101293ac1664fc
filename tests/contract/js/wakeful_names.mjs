// Prints what our module has: the names that it exports, and the members of its client.
import * as module from "./wakeful_module.mjs";

const { Wakeful, names } = module;
console.log(JSON.stringify(names));
console.log(JSON.stringify(Object.getOwnPropertyNames(Wakeful.prototype)));
