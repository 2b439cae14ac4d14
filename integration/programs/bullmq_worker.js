// A BullMQ worker: bullmq_worker.js PORT QUEUE RECORD LOCK_MS. Appends the number of every job that
// it runs to the file RECORD, and prints what else happens. SIGTERM: finishes what it has begun.
'use strict';
const { appendFileSync } = require('node:fs');
const Redis = require('ioredis');
const { Worker } = require('bullmq');

const [port, queue, record, lockMs] = process.argv.slice(2);
const connection = new Redis(port, '127.0.0.1', { maxRetriesPerRequest: null });

const worker = new Worker(queue, async (job) => {
  appendFileSync(record, `${job.data.number}\n`);
  await new Promise((resolve) => setTimeout(resolve, 10));
  return job.data.number;
}, { connection, concurrency: 10, lockDuration: Number(lockMs), stalledInterval: lockMs / 2 });

worker.on('ready', () => console.log('ready'));
worker.on('error', (error) => console.log(`error ${error.message}`));
worker.on('failed', (job, error) => console.log(`failed ${job?.data.number} ${error.message}`));
worker.on('stalled', (id) => console.log(`stalled ${id}`));

process.on('SIGTERM', async () => {
  await worker.close();
  process.exit(0);
});
