/** The channels that a client follows, each from where it stood on the last connection. Part of `wakeful.js`. */

import { WakefulError, call } from "./wakeful-error.js";

const RESUBSCRIBE = 2500; // from this code on a subscription that the server ended is asked for again

/** All subscriptions of one connection. */
export class Subscriptions {
  #connection = null;
  #channels = new Map();

  /** Say over which connection they come. */
  over(connection) {
    this.#connection = connection;
  }

  /** Let one more follow a channel; see `Wakeful.subscribe`. */
  follow(channel, follower, wish) {
    let subscription = this.#channels.get(channel);
    if (subscription && wish) {
      throw new WakefulError(`${channel} is followed already; its first subscriber chose what it delivers`);
    }
    subscription ??= this.#begin(channel, wish);
    subscription.followers.add(follower);
    return {
      ready: subscription.ready,
      position: () => ({ epoch: subscription.epoch, offset: subscription.offset }),
      unsubscribe: () => this.#leave(subscription, follower),
    };
  }

  #begin(channel, data) {
    const subscription = { channel, epoch: "", offset: 0, followers: new Set(), joined: false, data };
    subscription.ready = new Promise((resolve, reject) => Object.assign(subscription, { resolve, reject }));
    subscription.ready.catch(() => {}); // whoever waits for it hears of it
    this.#channels.set(channel, subscription);
    if (this.#connection.ended) this.#drop(subscription, this.#connection.ended);
    else if (this.#connection.accepted) this.#join(subscription);
    return subscription;
  }

  // --- what the connection tells ----------------------------------------------------------------

  onOpen() {
    for (const subscription of this.#channels.values()) this.#join(subscription);
  }

  onGone() {
    for (const subscription of this.#channels.values()) subscription.joined = false;
  }

  onEnd(error) {
    for (const subscription of [...this.#channels.values()]) this.#drop(subscription, error);
  }

  onPush({ channel, pub, unsubscribe }) {
    const subscription = this.#channels.get(channel);
    if (!subscription?.joined) return;
    if (pub) {
      this.#published(subscription, pub);
    } else if (unsubscribe) {
      subscription.joined = false;
      if (unsubscribe.code >= RESUBSCRIBE) this.#join(subscription);
      else this.#drop(subscription, new WakefulError(unsubscribe.reason, unsubscribe));
    }
  }

  // --- one subscription -------------------------------------------------------------------------

  #join(subscription, tries = 0) {
    const connection = this.#connection;
    const { channel, epoch, offset, data } = subscription;
    const abandon = connection.abandoner();
    if (channel in (connection.accepted.subs ?? {})) {
      connection.exchange({ unsubscribe: { channel } }).catch(() => {}); // it is delivered, but not from there
    }
    const subscribe = { channel, data, ...(epoch ? { recover: true, epoch, offset } : {}) };
    connection.exchange({ subscribe }, (reply) => this.#joined(subscription, reply.subscribe)).catch((error) => {
      if (this.#channels.get(channel) !== subscription) return;
      if (error.lost) return abandon(error); // it did not answer, so what it delivers is not known
      if (!error.temporary) this.#drop(subscription, error);
      else connection.timer(`join ${channel}`, 250 * 2 ** Math.min(tries, 6), () => this.#join(subscription, tries + 1));
    });
  }

  #joined(subscription, { epoch = "", offset = 0, recoverable, recovered, publications = [] }) {
    if (this.#channels.get(subscription.channel) !== subscription) return;
    const gap = subscription.epoch && recoverable && !recovered;
    if (epoch !== subscription.epoch || gap) Object.assign(subscription, { epoch, offset: 0 });
    if (gap) for (const { onGap } of [...subscription.followers]) call(onGap, { epoch, offset });
    for (const pub of publications) this.#published(subscription, pub);
    subscription.offset = Math.max(subscription.offset, offset);
    subscription.joined = true;
    subscription.resolve();
  }

  #published(subscription, { offset = 0, data, tags = {} }) {
    if (offset && offset <= subscription.offset) return; // it came before
    subscription.offset = offset || subscription.offset;
    for (const { onEvent } of [...subscription.followers]) call(onEvent, data, { offset, tags });
  }

  #leave(subscription, follower) {
    const { channel, followers } = subscription;
    followers.delete(follower);
    if (followers.size || this.#channels.get(channel) !== subscription) return;
    this.#channels.delete(channel);
    this.#connection.timer(`join ${channel}`);
    if (this.#connection.accepted) this.#connection.exchange({ unsubscribe: { channel } }).catch(() => {});
  }

  #drop(subscription, error) {
    this.#channels.delete(subscription.channel);
    subscription.reject(error);
    for (const { onError } of [...subscription.followers]) call(onError, error);
  }
}
