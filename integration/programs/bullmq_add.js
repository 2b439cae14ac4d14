// Adds jobs to a BullMQ queue: bullmq_add.js PORT QUEUE FIRST COUNT. Each has a number of its own.
//
// Several attempts: a worker that is told UNKNOWNOUTCOME when it reports a job as done has, for
// BullMQ, failed at that attempt.
'use strict';
const { Queue } = require('bullmq');

const [port, name, first, count] = process.argv.slice(2);
const BATCH = 100;

async function main() {
  const queue = new Queue(name, { connection: { port: Number(port) } });
  const numbers = [...Array(Number(count)).keys()].map((i) => Number(first) + i);
  while (numbers.length > 0) {
    await queue.addBulk(numbers.splice(0, BATCH).map(
      (number) => ({ name: 'job', data: { number }, opts: { attempts: 3 } })));
  }
  await queue.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
