"""The process behind a reward: hangs and crashes cost one answer, whoever asks."""

import json
import os
import pickle
import threading
import time

import pytest

from trainer.rewards.boxed_math import BoxedMath
from trainer.rewards.worker import Worker

ECHO = """
import os, sys, time
print("ready", flush=True)
for line in sys.stdin:
    if line == "hang\\n":
        time.sleep(60)
    if line == "crash\\n":
        os._exit(3)
    print(os.getpid() if line == "who\\n" else line.strip(), flush=True)
"""


@pytest.fixture
def worker(tmp_path):
    script = tmp_path / "echo.py"
    script.write_text(ECHO)
    worker = Worker(script, timeout_s=0.5)
    yield worker
    worker.close()


@pytest.mark.parametrize("trouble", ["hang", "crash"])
def test_a_failure_costs_one_answer_and_the_process_is_replaced(worker, trouble):
    first = worker.ask("who")
    began = time.monotonic()
    assert worker.ask(trouble) is None
    assert 0.4 < time.monotonic() - began < 5 if trouble == "hang" else True
    assert worker.failures == 1
    with pytest.raises(ProcessLookupError):
        os.kill(int(first), 0)
    assert worker.ask("again") == "again"
    assert worker.ask("who") != first
    assert worker.failures == 1


def test_one_process_answers_all_and_ends_when_closed(worker):
    assert worker.process is None
    who = {worker.ask("who") for _ in range(3)}
    assert len(who) == 1
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(int(who.pop()), 0)
    worker.close()
    assert worker.ask("again") == "again"


def test_a_process_that_died_while_idle_costs_one_answer(worker):
    os.kill(int(worker.ask("who")), 9)
    worker.process.wait()
    assert worker.ask("one") is None
    assert worker.ask("two") == "two"


def test_threads_get_their_own_answers(worker):
    found = {}

    def ask(place):
        found[place] = [worker.ask(f"{place} {turn}") for turn in range(20)]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {place: [f"{place} {turn}" for turn in range(20)] for place in range(4)}


def test_a_forked_process_starts_its_own_and_leaves_its_parents_alone(worker):
    mine = worker.ask("who")
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        worker.close()
        theirs = worker.ask("who") or ""
        worker.close()
        os.write(send, theirs.encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(receive, 100).decode()
    os.close(receive)
    os.close(send)
    assert int(theirs) != int(mine)
    assert worker.ask("who") == mine


def test_a_script_that_does_not_start_stops_the_run(tmp_path, capfd):
    (tmp_path / "broken.py").write_text("import no_such_package")
    with pytest.raises(ChildProcessError, match=r"broken\.py.*exit code 1"):
        Worker(tmp_path / "broken.py", 0.5).ask("who")
    assert "no_such_package" in capfd.readouterr().err


@pytest.fixture(scope="module")
def boxed():
    boxed = BoxedMath(timeout_s=10.0)
    yield boxed
    boxed.close()


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        ("\\boxed{0.5}", "\\frac{1}{2}", 1),
        ("no \\boxed{1} but \\boxed{\\dfrac{2}{4}}", "so $\\boxed{\\frac12}$.", 1),
        ("\\boxed{x^2 + 2x + 1}", "$(x+1)^2$", 1),
        ("\\boxed{18}", "9 * 2 = $<<9*2=18>>18\n#### 18", 1),
        ("\\boxed{18.0}", "#### 18", 1),
        ("\\boxed{1,000}", 1000, 1),
        ("\\boxed{\\text{Friday}}", "\\text{Friday}", 1),
        ("\\boxed{(2, 1)}", "(1, 2)", 0),
        ("\\boxed{\\frac{1}{3}}", "\\frac{1}{2}", 0),
        ("\\boxed{1 2}", "12.5", 0),
        ("\\boxed{}", "5", 0),
        ("\\boxed{5", "5", 0),
        ("5", "5", 0),
        ("\\boxed{5}", None, None),
    ],
)
def test_boxed_answers_are_compared_as_mathematics(boxed, completion, answer, expected):
    assert boxed([None], [completion], [[0]], answer=[answer]) == [expected]
    assert boxed.failures == 0


def test_equal_answers_are_compared_once(boxed, monkeypatch):
    asked = []
    monkeypatch.setattr(Worker, "ask", lambda self, question: asked.append(question) or "1")
    texts = ["\\boxed{0.5}", "\\boxed{0.5}", "\\boxed{2}", "\\boxed{1/2}"]
    assert boxed([None] * 4, texts, [[0]] * 4, answer=["1/2"] * 2 + ["4/2", "1/2"]) == [1.0] * 4
    assert asked == [json.dumps(["1/2", "0.5"]), json.dumps(["4/2", "2"])]


def test_an_answer_that_takes_forever_scores_zero_and_is_counted():
    slow = pickle.loads(pickle.dumps(BoxedMath(timeout_s=0.4)))
    texts = ["\\boxed{9^{9^{9^{9^9}}}}", "\\boxed{0.5}"]
    results = []
    thread = threading.Thread(target=lambda: results.append(slow([None] * 2, texts, [[0]] * 2, answer=["1/2"] * 2)))
    thread.start()
    thread.join()
    slow.close()
    assert results == [[0.0, 1.0]]
    assert slow.failures == 1


@pytest.mark.parametrize("timeout_s", [0.0, float("inf")])
def test_the_deadline_must_be_a_time(timeout_s):
    with pytest.raises(ValueError, match=r"boxed_math\(timeout_s=.*reward\.timeout_s"):
        BoxedMath(timeout_s)
