"""Requests are joined and cut as TF Serving does it. A session of arrays stands in for the graph."""

import concurrent.futures
import threading
import time

import numpy as np
import pytest

from kbert.export.server.batch_queues import BatchThreads
from kbert.export.server.errors import ServingError
from kbert.export.server.joined_requests import JoiningSession
from kbert.export.server.settings import BatchingParameters


class Doubling:
    """A session that doubles `x`, and counts the rows of its runs."""

    definitions = {}

    def __init__(self, wait=0.0, outputs=None):
        self.rows, self.wait, self.outputs = [], wait, outputs

    def run(self, signature, inputs, outputs=None):
        self.rows.append(len(inputs["x"]))
        time.sleep(self.wait)
        return self.outputs(inputs["x"]) if self.outputs else {"y": 2 * inputs["x"]}


@pytest.fixture
def joined():
    threads = []

    def make(session, **parameters):
        threads.append(BatchThreads(parameters.pop("num_batch_threads", 2)))
        return JoiningSession(session, BatchingParameters(**parameters), threads[-1])

    yield make
    for one in threads:
        one.stop()


def ask(session, requests, signature="s"):
    """Returns the answers or errors of requests at one time."""

    def one(x):
        try:
            return session.run(signature, {"x": np.asarray(x)})["y"]
        except ServingError as error:
            return error

    with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(one, requests))


def test_requests_that_come_together_are_run_together_and_get_their_own_rows(joined):
    session = Doubling()
    requests = [np.arange(size) + 100 * size for size in (1, 3, 0, 2, 5)]
    answers = ask(joined(session, batch_timeout_micros=200_000), requests)
    assert session.rows == [11]
    assert [answer.tolist() for answer in answers] == [(2 * request).tolist() for request in requests]


def test_a_batch_has_no_more_rows_than_its_most(joined):
    session = Doubling()
    answers = ask(joined(session, max_batch_size=4, batch_timeout_micros=50_000, max_enqueued_batches=100), [[1, 2, 3]] * 6)
    assert max(session.rows) <= 4 and [answer.tolist() for answer in answers] == [[2, 4, 6]] * 6
    (error,) = ask(joined(session, max_batch_size=4), [[1] * 5])
    assert error.status == "INVALID_ARGUMENT" and "maximum input batch size 4" in str(error)


def test_a_full_queue_is_unavailable(joined):
    session = joined(Doubling(0.3), max_batch_size=1, max_enqueued_batches=1, num_batch_threads=1)
    answers = ask(session, [[1]] * 6)
    assert {answer.status for answer in answers if isinstance(answer, ServingError)} == {"UNAVAILABLE"}
    assert any(not isinstance(answer, ServingError) for answer in answers)


@pytest.mark.parametrize(
    ("requests", "status"),
    [
        ([[[1, 2]], [[1, 2, 3]]], "FAILED_PRECONDITION"),
        ([[1], [[1]]], "FAILED_PRECONDITION"),
        ([[1], [1.5]], "INTERNAL"),
    ],
)
def test_requests_of_other_shapes_or_types_fail_together(joined, requests, status):
    answers = ask(joined(Doubling(), batch_timeout_micros=200_000), requests)
    assert [answer.status for answer in answers] == [status] * 2


def test_inputs_need_one_number_of_rows(joined):
    session = joined(Doubling())
    for inputs in ({"x": np.array(1)}, {"x": np.ones(2), "z": np.ones(3)}, {}):
        with pytest.raises(ServingError) as error:
            session.run("s", inputs)
        assert error.value.status == "INVALID_ARGUMENT"


def test_an_output_without_the_rows_fails_a_single_request_too(joined):
    for outputs in (lambda x: {"y": x[:-1]}, lambda x: {"y": x.sum()}):
        (error,) = ask(joined(Doubling(outputs=outputs)), [[1, 2]])
        assert error.status == "FAILED_PRECONDITION"


def test_batches_are_padded_to_an_allowed_size(joined):
    session = Doubling()
    sizes = joined(session, max_batch_size=8, allowed_batch_sizes=(2, 8))
    assert [answer.tolist() for size in (1, 2, 3) for answer in ask(sizes, [[1] * size])] == [[2], [2, 2], [2, 2, 2]]
    assert session.rows == [2, 2, 8]
    (error,) = ask(sizes, [[]])
    assert "no rows cannot be padded" in str(error)


def test_large_requests_are_cut_and_put_together(joined):
    session = Doubling()
    options = dict(max_batch_size=10, enable_large_batch_splitting=True, max_execution_batch_size=4)
    (answer,) = ask(joined(session, **options), [list(range(10))])
    assert answer.tolist() == list(range(0, 20, 2)) and sorted(session.rows) == [2, 4, 4]
    wide = Doubling(outputs=lambda x: {"y": np.ones((len(x), len(x)))})
    (error,) = ask(joined(wide, **options), [list(range(10))])
    assert "set enable_large_batch_splitting to false" in str(error)


def test_signatures_and_outputs_have_queues_of_their_own(joined):
    session = Doubling()
    joining = joined(session, batch_timeout_micros=100_000)
    threads = [
        threading.Thread(target=joining.run, args=(signature, {"x": np.ones(2)}, outputs))
        for signature, outputs in (("s", None), ("s", None), ("t", None), ("s", ["y"]))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(session.rows) == [2, 2, 4]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_batch_size": 0}, "max_batch_size"), ({"batch_timeout_micros": -1}, "batch_timeout_micros"),
        ({"max_enqueued_batches": 0}, "max_enqueued_batches"), ({"num_batch_threads": 0}, "num_batch_threads"),
        ({"allowed_batch_sizes": (4, 2, 1000)}, "ascend"), ({"allowed_batch_sizes": (4,)}, "ascend"),
        ({"pad_variable_length_inputs": True}, "leave out"),
        ({"enable_large_batch_splitting": True, "max_execution_batch_size": 2000}, "max_execution_batch_size"),
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        BatchingParameters(**parameters)
