// ioredis against one proxy: ioredis.js PORT. Exit code 0 if all of it answered as Redis does.
'use strict';
const assert = require('node:assert/strict');
const Redis = require('ioredis');

const port = Number(process.argv[2]);
const key = (name) => `ioredis:${port}:${name}`;

async function pipelines(redis) {
  const pipeline = redis.pipeline();
  for (let i = 0; i < 1000; i++) pipeline.rpush(key('list'), i);
  pipeline.lrange(key('list'), 0, -1);
  pipeline.hget(key('list'), 'field');
  const answers = await pipeline.exec();
  assert.deepEqual(answers[999], [null, 1000]);
  assert.deepEqual(answers[1000][1].map(Number), [...Array(1000).keys()]);
  assert.match(answers[1001][0].message, /^WRONGTYPE/);
  // Commands of one turn of the loop travel together without being asked to.
  const automatic = redis.duplicate({ enableAutoPipelining: true });
  await Promise.all([...Array(100).keys()].map((i) => automatic.set(key(`auto:${i}`), i)));
  assert.equal(await automatic.get(key('auto:99')), '99');
  automatic.disconnect();
}

async function transactions(redis) {
  assert.deepEqual(await redis.multi().set(key('a'), 1).incr(key('a')).get(key('a')).exec(),
                   [[null, 'OK'], [null, 2], [null, '2']]);
  await redis.multi({ pipeline: false });
  assert.equal(await redis.incr(key('a')), 'QUEUED');
  assert.deepEqual(await redis.exec(), [[null, 3]]);
  const other = redis.duplicate();
  await redis.watch(key('a'));
  await other.set(key('a'), 'changed');
  assert.equal(await redis.multi().set(key('a'), 'lost').exec(), null);
  assert.equal(await redis.get(key('a')), 'changed');
  await assert.rejects(redis.multi().set(key('a')).exec(), /EXECABORT/);
  other.disconnect();
}

async function scripts(redis) {
  redis.defineCommand('addTo', {
    numberOfKeys: 1, lua: `return redis.call('INCRBY', KEYS[1], ARGV[1])` });
  redis.defineCommand('peek', {
    numberOfKeys: 1, readOnly: true, lua: `return redis.call('GET', KEYS[1])` });
  assert.equal(await redis.addTo(key('n'), 5), 5);
  assert.equal(await redis.addTo(key('n'), 5), 10);
  await redis.script('FLUSH');
  assert.equal(await redis.addTo(key('n'), 5), 15);  // NOSCRIPT, then EVAL
  const answers = await redis.pipeline().addTo(key('n'), 1).peek(key('n')).exec();
  assert.deepEqual(answers, [[null, 16], [null, '16']]);
}

async function messages(redis) {
  const subscriber = redis.duplicate();
  const got = [];
  await subscriber.subscribe(key('channel'));
  await subscriber.psubscribe(key('pattern:*'));
  const all = new Promise((resolve) => {
    const take = (...message) => got.push(message) === 200 && resolve();
    subscriber.on('message', take);
    subscriber.on('pmessage', take);
  });
  for (let i = 0; i < 100; i++) {
    await redis.publish(key('channel'), i);
    await redis.publish(key('pattern:x'), i);
  }
  await all;
  assert.deepEqual(got.filter((m) => m.length === 2).map((m) => Number(m[1])),
                   [...Array(100).keys()]);
  assert.deepEqual(got.at(-1), [key('pattern:*'), key('pattern:x'), '99']);
  await subscriber.unsubscribe(key('channel'));
  await subscriber.punsubscribe(key('pattern:*'));
  assert.equal(await subscriber.get(key('none')), null);
  subscriber.disconnect();
}

async function streams(redis) {
  const reader = redis.duplicate();
  await redis.xgroup('CREATE', key('stream'), 'group', '$', 'MKSTREAM');
  const waiting = reader.xreadgroup('GROUP', 'group', 'me', 'COUNT', 10, 'BLOCK', 20000,
                                    'STREAMS', key('stream'), '>');
  const id = await redis.xadd(key('stream'), '*', 'field', 'value');
  assert.deepEqual(await waiting, [[key('stream'), [[id, ['field', 'value']]]]]);
  assert.equal((await redis.xpending(key('stream'), 'group'))[0], 1);
  assert.equal(await reader.xack(key('stream'), 'group', id), 1);
  assert.equal(await redis.xlen(key('stream')), 1);
  reader.disconnect();
}

async function blockingPops(redis) {
  const popper = redis.duplicate();
  const popped = popper.blpop(key('queue:1'), key('queue:2'), 20);
  await redis.rpush(key('queue:2'), 'job');
  assert.deepEqual(await popped, [key('queue:2'), 'job']);
  const lowest = popper.bzpopmin(key('sorted'), 20);
  await redis.zadd(key('sorted'), 7, 'member');
  assert.deepEqual(await lowest, [key('sorted'), 'member', '7']);
  assert.equal(await popper.brpop(key('queue:1'), 0.01), null);
  popper.disconnect();
}

async function iterators(redis) {
  const count = 500;
  const pipeline = redis.pipeline();
  for (let i = 0; i < count; i++) pipeline.set(key(`scan:${i}`), i).hset(key('hash'), `f${i}`, i);
  await pipeline.exec();
  const seen = new Set();
  for await (const keys of redis.scanStream({ match: key('scan:*'), count: 50 })) {
    keys.forEach((each) => seen.add(each));
  }
  assert.equal(seen.size, count);
  let fields = 0;
  for await (const pairs of redis.hscanStream(key('hash'))) fields += pairs.length / 2;
  assert.equal(fields, count);
}

async function connection() {
  const other = new Redis(port, '127.0.0.1',
                          { db: 4, keyPrefix: 'prefix:', connectionName: 'mine' });
  await other.set(key('x'), 'in four');
  assert.equal(await other.client('GETNAME'), 'mine');
  await other.select(0);
  assert.equal(await other.get(key('x')), null);
  assert.deepEqual(await other.getBuffer(key('x')), null);
  assert.equal(await other.quit(), 'OK');
}

async function main() {
  const redis = new Redis(port, '127.0.0.1', { maxRetriesPerRequest: 0 });
  for (const part of [pipelines, transactions, scripts, messages, streams, blockingPops, iterators,
                      connection]) {
    await part(redis);
  }
  await redis.quit();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
