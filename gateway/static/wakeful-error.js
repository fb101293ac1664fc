/** What fails, and how it is told: shared by the modules of `wakeful.js`. */

/** A request failed. `code`: 100 to 113 are the protocol's, from 400 on HTTP's, 0 means the connection. */
export class WakefulError extends Error {
  constructor(message, { code = 0, temporary = false, lost = false } = {}) {
    super(message);
    this.name = "WakefulError";
    this.code = code;
    this.temporary = temporary;
    this.lost = lost; // the connection broke before the answer: the server may have acted
  }
}

/** Call what was given to us; what it throws is its owner's, and ends nothing here. */
export function call(action, ...args) {
  try {
    action(...args);
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}
