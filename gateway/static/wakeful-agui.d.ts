/** The types of `wakeful-agui.js`. They take those of `@ag-ui/client` and `rxjs` from what they are given. */

import type { Wakeful } from "./wakeful.js";

export interface WakefulAgentConfig {
  client: Wakeful;
  /** Its id. */
  agent: string;
  /** One of its conversations; left out: its own. */
  conversation?: string;
  threadId?: string;
  description?: string;
  initialMessages?: any[];
  initialState?: any;
  debug?: any;
}

/** What an agent over the websocket has besides what every AG-UI agent has. */
export interface WakefulAgent {
  readonly client: Wakeful;
  readonly agent: string;
  readonly conversation?: string;
  /** The server's id of the run that is under way. */
  readonly activeRun: string | null;
  /** End the run that is under way; one that has no id yet ends as soon as it has one. */
  abortRun(): void;
}

/** Return the class of agents whose runs come over the websocket of a `Wakeful` client. */
export function wakefulAgent<Agent extends abstract new (...config: any[]) => object>(
  AbstractAgent: Agent,
  Observable: new (subscribe: (observer: any) => any) => object,
): new (config: WakefulAgentConfig) => InstanceType<Agent> & WakefulAgent;
