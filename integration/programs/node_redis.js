// node-redis against one proxy: node_redis.js PORT RESP OTHER_PORT. Exit code 0 if all of it
// answered as Redis does. OTHER_PORT: a proxy of the same chain, which writes what this client has cached.
'use strict';
const assert = require('node:assert/strict');
const redisPackage = require('redis');

const [port, resp, otherPort] = process.argv.slice(2).map(Number);
const key = (name) => `node-redis:${port}:${resp}:${name}`;

const increment = redisPackage.defineScript({
  NUMBER_OF_KEYS: 1,
  SCRIPT: `return redis.call('INCRBY', KEYS[1], ARGV[1])`,
  parseCommand(parser, name, amount) {
    parser.pushKey(name);
    parser.push(String(amount));
  },
  transformReply: undefined,
});

function client(options) {
  return redisPackage.createClient({
    url: `redis://127.0.0.1:${port}`, RESP: resp, scripts: { increment }, ...options });
}

async function types(redis) {
  await redis.hSet(key('hash'), { a: '1', b: '2' });
  assert.deepEqual({ ...await redis.hGetAll(key('hash')) }, { a: '1', b: '2' });
  await redis.zAdd(key('sorted'), [{ score: 1.5, value: 'x' }, { score: 2, value: 'y' }]);
  assert.equal(await redis.zScore(key('sorted'), 'x'), 1.5);
  assert.deepEqual(await redis.zRangeWithScores(key('sorted'), 0, -1),
                   [{ value: 'x', score: 1.5 }, { value: 'y', score: 2 }]);
  await redis.sAdd(key('set'), ['m', 'n']);
  assert.deepEqual((await redis.sMembers(key('set'))).sort(), ['m', 'n']);
  assert.equal(await redis.get(key('none')), null);
  await assert.rejects(redis.incr(key('hash')), /WRONGTYPE/);
}

async function pipelines(redis) {
  const numbers = [...Array(1000).keys()];
  assert.deepEqual(await Promise.all(numbers.map(() => redis.incr(key('n')))),
                   numbers.map((n) => n + 1));
  assert.deepEqual(await redis.multi().set(key('p'), 'v').get(key('p')).execAsPipeline(),
                   ['OK', 'v']);
}

async function transactions(redis) {
  assert.deepEqual(await redis.multi().set(key('a'), '1').incr(key('a')).exec(), ['OK', 2]);
  const other = await client().connect();
  await other.watch(key('a'));
  await redis.set(key('a'), 'changed');
  await assert.rejects(other.multi().set(key('a'), 'lost').exec(), redisPackage.WatchError);
  assert.equal(await redis.get(key('a')), 'changed');
  other.destroy();
}

async function scripts(redis) {
  assert.equal(await redis.increment(key('s'), 5), 5);
  await redis.scriptFlush();
  assert.equal(await redis.increment(key('s'), 5), 10);
  assert.deepEqual(await redis.multi().increment(key('s'), 1).get(key('s')).exec(), [11, '11']);
}

async function messages(redis) {
  const subscriber = await client().connect();
  const got = [];
  await new Promise(async (resolve) => {
    const take = (message, channel) => got.push([channel, message]) === 200 && resolve();
    await subscriber.subscribe(key('channel'), take);
    await subscriber.pSubscribe(key('pattern:*'), take);
    for (let i = 0; i < 100; i++) {
      await redis.publish(key('channel'), String(i));
      await redis.publish(key('pattern:x'), String(i));
    }
  });
  assert.deepEqual(got.filter(([channel]) => channel === key('channel')).map((m) => Number(m[1])),
                   [...Array(100).keys()]);
  await subscriber.unsubscribe(key('channel'));
  await subscriber.pUnsubscribe(key('pattern:*'));
  assert.equal(await subscriber.get(key('none')), null);
  subscriber.destroy();
}

async function streams(redis) {
  const reader = await client().connect();
  await redis.xGroupCreate(key('stream'), 'group', '$', { MKSTREAM: true });
  const waiting = reader.xReadGroup('group', 'me', [{ key: key('stream'), id: '>' }],
                                    { BLOCK: 20000 });
  const id = await redis.xAdd(key('stream'), '*', { field: 'value' });
  const [stream] = await waiting;
  assert.equal(stream.name, key('stream'));
  assert.equal(stream.messages[0].id, id);
  assert.deepEqual({ ...stream.messages[0].message }, { field: 'value' });
  assert.equal(await reader.xAck(key('stream'), 'group', id), 1);
  reader.destroy();
}

async function blockingPops(redis) {
  const popper = await client().connect();
  const popped = popper.blPop([key('queue:1'), key('queue:2')], 20);
  await redis.rPush(key('queue:2'), 'job');
  assert.deepEqual({ ...await popped }, { key: key('queue:2'), element: 'job' });
  assert.equal(await popper.bzPopMin(key('no such'), 0.01), null);
  popper.destroy();
}

async function iterators(redis) {
  const count = 500;
  await Promise.all([...Array(count).keys()].map((i) => redis.set(key(`scan:${i}`), 'v')));
  const seen = new Set();
  for await (const keys of redis.scanIterator({ MATCH: key('scan:*'), COUNT: 50 })) {
    keys.forEach((each) => seen.add(each));
  }
  assert.equal(seen.size, count);
}

async function connectionPool() {
  const pool = await redisPackage.createClientPool(
    { url: `redis://127.0.0.1:${port}`, RESP: resp }, { maximum: 4 }).connect();
  const numbers = [...Array(50).keys()];
  await Promise.all(numbers.map(() => pool.incr(key('pool'))));
  assert.equal(await pool.get(key('pool')), '50');
  pool.destroy();
}

// Client-side caching: a write through another proxy takes the value out of this client's cache.
async function caching(redis) {
  const cache = new redisPackage.BasicClientSideCache({ ttl: 0, maxEntries: 0 });
  const caching = await client({ clientSideCache: cache }).connect();
  const writer = await client({ url: `redis://127.0.0.1:${otherPort}` }).connect();
  for (let i = 0; i < 50; i++) {
    const invalidated = new Promise((resolve) => cache.once('invalidate', resolve));
    await writer.set(key('cached'), String(i));
    if (i > 0) await invalidated;
    assert.equal(await caching.get(key('cached')), String(i));
    assert.equal(await caching.get(key('cached')), String(i));
  }
  assert.ok(cache.stats().hitCount >= 50, JSON.stringify(cache.stats()));
  caching.destroy();
  writer.destroy();
}

async function main() {
  const redis = await client().connect();
  // Of streams this version of the client does not shape RESP3's answers; caching needs RESP3.
  for (const part of [types, pipelines, transactions, scripts, messages, blockingPops, iterators,
                      connectionPool, resp === 3 ? caching : streams]) {
    await part(redis);
  }
  await redis.close();
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
