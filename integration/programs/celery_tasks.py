"""Tasks of a Celery worker.

CATENA_BROKER and CATENA_RESULTS are redis:// URLs, CATENA_RECORD a file to which every run of a
task appends its number.
"""

import os
import time

from celery import Celery

_RECORD = os.environ["CATENA_RECORD"]

app = Celery("tasks", broker=os.environ["CATENA_BROKER"], backend=os.environ["CATENA_RESULTS"])
# A task leaves the queue when it has been run, not when a worker takes it.
app.conf.task_acks_late = True


@app.task
def square(number):
    with open(_RECORD, "a", encoding="ascii") as record:
        record.write(f"{number}\n")
    time.sleep(0.01)
    return number * number


@app.task
def total(numbers):
    return sum(numbers)
