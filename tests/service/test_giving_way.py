"""When a tuning makes room, decided without an engine: what has run is made of the service's own parts."""

from __future__ import annotations

import time

import pytest

from engine.parts import Part
from engine.service.giving_way import GivingWay
from engine.service.pipes import Reported, Work
from engine.service.runs import Run
from engine.service.turns import Asking, Turns
from protocol.settings import EditSettings
from protocol.tuning import Tuning

COST = 100.0


def tuning(owner: str = "ada", job_id: str = "tuning") -> Work:
    settings = EditSettings(source="a ball", target="a ball")
    return Work(
        job_id=job_id, settings=settings, frames=["0" * 64], fps=24.0, owner=owner, task="tune", tuning=Tuning(name="x")
    )


def at_work(work: Work, stage: str = "tune") -> Run:
    run = Run.of(work, [Part(0, 1)])
    (task,) = run.tasks
    run.took(task, "cpu")
    run.report(task, Reported(job_id=work.job_id, stage=stage, step=1, steps=10, fraction=0.1))
    return run


def edit(owner: str = "ada", number: int = 5) -> Asking:
    return Asking(owner, "", f"edit-{number}", number)


@pytest.fixture
def turns() -> Turns:
    return Turns()


def test_it_makes_room_once_its_turn_is_over_and_a_step_is_done(turns):
    run = at_work(tuning())
    assert GivingWay(turns, 60.0).due([run], [edit()], set(), {"ada": 1}) == []
    run.tasks[0].since = time.monotonic() - 61
    giving_way = GivingWay(turns, 60.0)
    assert giving_way.due([run], [edit()], set(), {"ada": 1}) == [run] and giving_way.rests(run.key)
    assert giving_way.due([run], [edit()], set(), {"ada": 1}) == [], "it is told once"
    giving_way.given(run.key)
    assert not giving_way.rests(run.key)
    loads = at_work(tuning(), stage="load")
    loads.tasks[0].since = 0.0
    assert GivingWay(turns, 60.0).due([loads], [edit()], set(), {"ada": 1}) == []


def test_it_makes_room_for_nobody_who_would_not_come_next(turns):
    run = at_work(tuning())
    run.tasks[0].since = 0.0
    assert GivingWay(turns, 0.0).due([run], [], set(), {"ada": 1}) == []
    other = Asking("ada", "", "other", 3)
    assert GivingWay(turns, 0.0).due([run], [other], {("ada", "other")}, {"ada": 1}) == [], (
        "a tuning of the same user's"
    )
    bobs = Asking("bob", "", "other", 3)
    giving_way = GivingWay(turns, 0.0)
    turns.given(edit("bob"), 10 * COST)  # who has had more than the tuning's owner
    assert giving_way.due([run], [bobs], {("bob", "other")}, {"ada": 1}) == []
    giving_way.came_to(run, 0.1, 20 * COST)
    giving_way.came_to(run, 0.9, 20 * COST)  # now he has had less
    assert giving_way.due([run], [bobs], {("bob", "other")}, {"ada": 1}) == [run]
    nobody = Turns(most=lambda owner: 1 if owner == "bob" else 0)
    assert GivingWay(nobody, 0.0).due([run], [bobs], set(), {"ada": 1, "bob": 1}) == [], "bob has as many as he may"
    mine = Turns(most=lambda owner: 1)
    assert GivingWay(mine, 0.0).due([run], [edit()], set(), {"ada": 1}) == [run], "its own worker becomes free"


def test_what_was_done_before_it_went_on_is_not_counted_twice(turns):
    giving_way, run = GivingWay(turns, 0.0), at_work(tuning())
    giving_way.came_to(run, 0.5, COST)
    assert turns.next([edit("bob", 9), edit("ada", 1)], {}) == edit("ada", 1), "it had come so far before"
    giving_way.came_to(run, 0.6, COST)
    assert turns.next([edit("bob", 9), edit("ada", 1)], {}) == edit("bob", 9)
