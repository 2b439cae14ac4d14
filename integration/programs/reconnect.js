// A client and a subscriber of one proxy, which dies and comes back: reconnect.js LIBRARY PORT.
//
// Prints "lost" when a connection ends, and "round" whenever a value that was written was read back
// and a message that was published was received. The library comes back by its own doing.
'use strict';
const [library, port] = process.argv.slice(2);
const ROUND_MS_MAX = 1000;
const key = `reconnect:${library}:${port}`;
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function ioredis(onMessage, onLost) {
  const Redis = require('ioredis');
  const client = new Redis(port);
  const subscriber = client.duplicate();
  for (const each of [client, subscriber]) each.on('close', onLost).on('error', () => {});
  subscriber.on('message', (channel, message) => onMessage(message));
  await subscriber.subscribe(key);
  return client;
}

async function nodeRedis(onMessage, onLost) {
  const options = { url: `redis://127.0.0.1:${port}`, RESP: 3 };
  const client = require('redis').createClient(options);
  const subscriber = client.duplicate();
  for (const each of [client, subscriber]) each.on('error', onLost);
  await client.connect();
  await subscriber.connect();
  await subscriber.subscribe(key, onMessage);
  return client;
}

async function main() {
  let newest = -1;
  const connect = library === 'ioredis' ? ioredis : nodeRedis;
  const client = await connect((message) => { newest = Math.max(newest, Number(message)); },
                               () => console.log('lost'));
  for (let n = 0; ; n++) {
    try {
      await client.set(key, String(n));
      if (await client.get(key) !== String(n)) throw new Error('another value was read');
      await client.publish(key, String(n));
      for (let waited = 0; newest < n && waited < ROUND_MS_MAX; waited += 5) await pause(5);
      if (newest === n) console.log('round');
    } catch (error) {
      console.log(`error ${error.message}`);
    }
    await pause(20);
  }
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
